//! Ctrl-C and SIGTERM: the first asks the run to stop cleanly, the second ends the process at once.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};

use super::Exit;
use crate::engine::CancelToken;

/// Connects the signals to a token.
pub(super) fn install(cancel: &CancelToken) {
    for signal in [SIGINT, SIGTERM] {
        // The order matters: the second signal finds the flag set and ends the process.
        let armed = signal_hook::flag::register_conditional_shutdown(signal, Exit::Interrupted as i32, cancel.flag());
        let set = armed.and_then(|_| signal_hook::flag::register(signal, Arc::clone(&cancel.flag())));
        if let Err(error) = set {
            tracing::warn!("signal {signal} cannot be handled: {error}");
        }
    }
}

/// Connects SIGUSR1, by which a queue tells that the time of a task is nearly up, to a token. The flag says afterwards
/// whether it came.
pub(super) fn install_warning(cancel: &CancelToken) -> Arc<AtomicBool> {
    let told = Arc::new(AtomicBool::new(false));
    for flag in [Arc::clone(&told), cancel.flag()] {
        if let Err(error) = signal_hook::flag::register(SIGUSR1, flag) {
            tracing::warn!("SIGUSR1 cannot be handled: {error}");
        }
    }
    told
}
