//! Results that can be vouched for: locks that pin what a pipeline came to, re-execution beside the original, the
//! comparison of both down to single numbers, and signatures. It runs stages through the engine and prints nothing.

mod lock;
mod lock_text;
mod locked;

pub use lock::{FORMAT, Lock, LockError, LockedStage};
pub use locked::{Deviation, deviations, output_deviations};
