//! Results that can be vouched for: locks that pin the results of a pipeline, re-execution beside the original, the
//! comparison of both down to single numbers, and signatures. It runs stages through the engine and prints nothing.

mod chain;
mod compare;
mod examine;
mod header;
mod lock;
mod lock_text;
mod locked;
mod metric_values;
mod reexecute;
mod sign;
mod tolerances;
mod verdict;

pub use chain::{Problem, Verification, verify_lock, verify_run};
pub use compare::{Closeness, FirstDifference, LeafComparison, compare};
pub use examine::Audit;
pub use header::{Pipeline, verify_header};
pub use lock::{FORMAT, Lock, LockError, LockedStage};
pub use locked::{
    Deviation, common_differences, deviations, header_differences, output_deviations,
};
pub use metric_values::{MetricValues, misquoted};
pub use reexecute::{Actual, Obstacle, Reexecution, Scope};
pub use sign::{
    PrivateKey, SignError, Signed, check_signature, holds_by_itself, signature_beside,
    signature_path,
};
pub use tolerances::Tolerances;
pub use verdict::{AuditReport, PortAudit, StageAudit, Verdict};
