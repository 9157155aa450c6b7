//! Sweeps: one pipeline at many points. A sweep file names a pipeline, the axes along which it varies, and the
//! objective. Trials follow from it; all of them form one graph, in which what they share appears once.
//!
//! There is no record of a sweep but the store: which trials are done follows from their keys, and which come next from
//! the results of those that are done. So a sweep that runs again runs exactly what is missing.

mod backend;
mod course;
mod file;
mod garbage;
mod influence;
mod leaderboard;
mod live_progress;
mod opened;
mod options;
mod plots;
mod queue;
mod rounds;
mod sampler;
mod space;
mod submission;
mod submit;
mod transfer;
mod trials;
mod waves;
mod work;

pub use backend::{
    BACKENDS, Backend, ChosenBackend, Job, JobId, JobNeeds, TASK, Task, TaskState, shell_line,
};
pub use course::{Course, Member, Outcome, Progress};
pub use file::{Objective, Rule, Sampler, Stopping, SweepFile, sweep_schema};
pub use influence::{Influence, influence};
pub use leaderboard::{Leaderboard, Note, Row, Standing, shown};
pub use opened::{Failures, Lacking, Sweep, View};
pub use options::JobOptions;
pub use plots::{PlotFormat, plots};
pub use queue::{Log, Queue, find_backend};
pub use rounds::Finished;
pub use space::{Dimension, Domain, Point, Space};
pub use submission::{Part, Submission, Unit, UnitMember, submissions};
pub use submit::{Handed, Order, Submitted, open_next, submit};
pub use transfer::{TransferOrder, TransferWhat, Transferred, Way};
pub use trials::{Assembly, MemberState, Trials, assemble, label, overrides};
pub use work::{Ended, Work};

use live_progress::LiveProgress;
use submission::{read_comment, sweep_folder, sweep_id};
use trials::{direction, objective, outcomes};
