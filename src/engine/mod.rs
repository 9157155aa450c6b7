//! Plan, schedule, execute. The engine says which stages are done already and why the others must run, runs them on
//! worker threads within the machine's limits, and reports every step as an event. It draws nothing on a screen.

mod cancel;
mod differences;
pub mod environment;
mod event;
mod execute;
mod failure;
mod files;
mod host;
mod journal;
mod logs;
mod plan;
mod raw_files;
mod replay;
mod schedule;
mod work;

pub use cancel::CancelToken;
pub use event::{Event, Reporter, Reporters};
pub use execute::{Outcome, RunOptions, execute};
pub use failure::Failure;
pub use files::{FileFinder, FoundFile, NoFiles};
pub use journal::Journal;
pub use logs::{Logs, log_path};
pub use plan::{Plan, Planner, Reason, StagePlan, Verdict};
pub use replay::{PastStage, Replay};
