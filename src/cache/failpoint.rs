//! Places at which a test can kill the process, to see that a crash leaves nothing half done.
//! `RUNNER_CRASH_AT=N` kills it with SIGKILL at the N-th place that it passes; without it, nothing happens.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// One of the steps between which a crash must be harmless.
pub(super) fn pass() {
    static TARGET: OnceLock<Option<u64>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let target = TARGET.get_or_init(|| std::env::var("RUNNER_CRASH_AT").ok()?.parse().ok());
    if let Some(target) = target
        && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *target
    {
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        loop {
            std::thread::park();
        }
    }
}
