//! Ctrl-C and SIGTERM: the first asks the run to stop cleanly, the second ends the process at once. SIGHUP, which says
//! that the terminal is gone, asks as well; it may come twice and never ends the process.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};

use super::Exit;
use crate::engine::CancelToken;

/// Connects the signals to a token.
pub(super) fn install(cancel: &CancelToken) {
    for signal in [SIGINT, SIGTERM] {
        // The order matters: the second signal finds the flag set and ends the process.
        let armed = signal_hook::flag::register_conditional_shutdown(
            signal,
            Exit::Interrupted as i32,
            cancel.flag(),
        );
        let set =
            armed.and_then(|_| signal_hook::flag::register(signal, Arc::clone(&cancel.flag())));
        if let Err(error) = set {
            tracing::warn!("signal {signal} cannot be handled: {error}");
        }
    }
    // What `nohup` started goes on without a terminal.
    if !is_ignored(SIGHUP)
        && let Err(error) = signal_hook::flag::register(SIGHUP, cancel.flag())
    {
        tracing::warn!("signal {SIGHUP} cannot be handled: {error}");
    }
}

/// Whether this process was started with the signal ignored: bit `signal - 1` of `SigIgn` in `/proc/self/status`.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// What a queue sends to a task. The flags say afterwards what came.
pub(super) struct Warnings {
    /// SIGUSR1: its time is nearly up.
    pub time_is_up: Arc<AtomicBool>,
    /// SIGTERM: it must make room, or was cancelled.
    pub terminated: Arc<AtomicBool>,
}

/// Connects what a queue sends to a token, besides [`install`].
pub(super) fn install_warnings(cancel: &CancelToken) -> Warnings {
    let warnings = Warnings {
        time_is_up: Arc::default(),
        terminated: Arc::default(),
    };
    let flags = [
        (SIGUSR1, Arc::clone(&warnings.time_is_up)),
        (SIGUSR1, cancel.flag()),
        (SIGTERM, Arc::clone(&warnings.terminated)),
    ];
    for (signal, flag) in flags {
        if let Err(error) = signal_hook::flag::register(signal, flag) {
            tracing::warn!("signal {signal} cannot be handled: {error}");
        }
    }
    warnings
}
