//! How far a long call is, in a line on a terminal that goes when the call ends.

use std::cell::Cell;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Global;
use crate::ui::{bytes, clear_line, err, redraw};

/// How often the line changes.
const TICK: Duration = Duration::from_millis(100);

fn is_shown(global: &Global) -> bool {
    std::io::stderr().is_terminal() && !global.quiet && !global.json
}

/// How many objects were read, on a terminal.
pub(super) struct ObjectProgress {
    show: bool,
    drawn: AtomicBool,
}

impl ObjectProgress {
    pub fn new(global: &Global) -> Self {
        Self {
            show: is_shown(global),
            drawn: AtomicBool::new(false),
        }
    }

    pub fn at(&self, done: usize, total: usize) {
        if self.show && (done.is_multiple_of(100) || done == total) {
            redraw(&format!("{done}/{total} objects"));
            self.drawn.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for ObjectProgress {
    fn drop(&mut self) {
        if self.drawn.load(Ordering::Relaxed) {
            err!("\n");
        }
    }
}

/// How far a long copy is, on a terminal.
pub(super) struct ByteProgress {
    show: bool,
    what: &'static str,
    last: Cell<Instant>,
    drawn: Cell<bool>,
}

impl ByteProgress {
    pub fn new(global: &Global, what: &'static str) -> Self {
        Self {
            show: is_shown(global),
            what,
            last: Instant::now().into(),
            drawn: false.into(),
        }
    }

    pub fn at(&self, done: u64, total: u64) {
        if self.show && self.last.get().elapsed() > TICK {
            self.last.set(Instant::now());
            self.drawn.set(true);
            redraw(&format!(
                "{} of {} {}",
                bytes(done),
                bytes(total),
                self.what
            ));
        }
    }
}

impl Drop for ByteProgress {
    fn drop(&mut self) {
        if self.drawn.get() {
            clear_line();
        }
    }
}
