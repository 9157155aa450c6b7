//! What the command line shows of what the library reports: warnings and downloads.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::error::print_diagnostics;
use crate::data::Transfer;
use crate::diagnostic::{Diagnostics, SourceMap};
use crate::project::Listener;
use crate::ui::{bytes, err, errln, redraw};

/// How often the line of a download changes.
const TICK: Duration = Duration::from_millis(100);

/// Prints warnings, and downloads where there is a terminal.
pub(super) struct Screen {
    json: bool,
    drawn: Mutex<Instant>,
}

impl Screen {
    pub fn new(json: bool) -> Self {
        Self {
            json,
            drawn: Mutex::new(Instant::now()),
        }
    }
}

impl Listener for Screen {
    fn diagnostics(&self, diagnostics: &Diagnostics, sources: &SourceMap) {
        print_diagnostics(diagnostics, sources, self.json);
    }

    fn download(&self, transfer: &Transfer<'_>) {
        if !std::io::stderr().is_terminal() {
            return;
        }
        let is_last = transfer.total == Some(transfer.done);
        let Ok(mut drawn) = self.drawn.lock() else {
            return;
        };
        if transfer.done == 0 {
            // What takes no time is not worth a line.
            *drawn = Instant::now();
        }
        if !is_last && drawn.elapsed() <= TICK {
            return;
        }
        *drawn = Instant::now();
        let total = transfer
            .total
            .map_or_else(String::new, |total| format!(" of {}", bytes(total)));
        let name = transfer.target.file_name().unwrap_or_default();
        let name = name.to_string_lossy();
        redraw(&format!(
            "downloading {name}: {}{total}",
            bytes(transfer.done)
        ));
        if is_last {
            err!("\n");
        }
    }

    fn warning(&self, text: &str) {
        tracing::warn!("{text}");
    }

    fn note(&self, text: &str) {
        errln!("{text}");
    }
}
