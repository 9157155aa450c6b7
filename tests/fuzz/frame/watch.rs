//! Ends a process whose input does not end: a hang cannot be caught, but it can be named.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// How often is looked.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Watches one input at a time.
pub struct Watch {
    state: Arc<State>,
    start: Instant,
}

struct State {
    /// Milliseconds from the start of the watch to that of the input, plus one; 0 between inputs.
    begun: AtomicU64,
    over: AtomicBool,
}

impl Watch {
    /// Aborts the process with the message once an input takes longer than the limit.
    pub fn start(message: String, limit: Duration) -> Self {
        let state = Arc::new(State {
            begun: AtomicU64::new(0),
            over: AtomicBool::new(false),
        });
        let (watched, start) = (Arc::clone(&state), Instant::now());
        thread::spawn(move || {
            while !watched.over.load(Relaxed) {
                thread::sleep(POLL_INTERVAL);
                let begun = watched.begun.load(Relaxed);
                if begun > 0 && start.elapsed() > Duration::from_millis(begun) + limit {
                    eprintln!("{message}");
                    std::process::abort();
                }
            }
        });
        Self { state, start }
    }

    pub fn begin(&self) {
        self.state
            .begun
            .store(self.start.elapsed().as_millis() as u64 + 1, Relaxed);
    }

    pub fn end(&self) {
        self.state.begun.store(0, Relaxed);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.state.over.store(true, Relaxed);
    }
}
