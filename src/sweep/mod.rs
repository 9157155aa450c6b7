//! Sweeps: one pipeline at many points. A sweep file names a pipeline, the axes along which it varies, and the figure
//! that is sought. From it follow trials; all of them form one graph in which what they share stands once.
//!
//! There is no record of a sweep but the store: which trials are done follows from their keys, and which come next from
//! the results of those that are done. So a sweep that is issued again runs exactly what is missing.

mod backend;
mod course;
mod file;
mod influence;
mod leaderboard;
mod live_progress;
mod opened;
mod options;
mod plots;
mod queue;
mod sampler;
mod space;
mod submission;
mod submit;
mod trials;
mod work;

pub use backend::{
    BACKENDS, Backend, ChosenBackend, Job, JobId, JobNeeds, TASK, Task, TaskState, shell_line,
};
pub use course::{Course, Member, Outcome, Progress};
pub use file::{Objective, Rule, Sampler, Stopping, SweepFile, sweep_schema};
pub use influence::{Influence, influence};
pub use leaderboard::{Leaderboard, Note, Row, Standing, shown};
pub use live_progress::LiveProgress;
pub use opened::{Failures, Lacking, Sweep, View};
pub use options::JobOptions;
pub use plots::{objective_in_order, parallel_coordinates, parallel_width};
pub use queue::{Log, Queue, find_backend, job_name};
pub use space::{Dimension, Domain, Point, Space};
pub use submission::{
    Part, Stand, Submission, Unit, UnitMember, Wave, plain_name, read_comment, shared_waves,
    submissions, sweep_folder, sweep_id, task_count,
};
pub use submit::{Handed, Order, Submitted, submit};
pub use trials::{
    Assembly, MemberState, Trials, assemble, direction, figure, label, outcomes, overrides,
};
pub use work::{Ended, Work};
