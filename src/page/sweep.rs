//! What the page of a sweep shows.

use std::path::Path;

use super::html::SweepView;
use crate::project::{Choice, Error, Project};
use crate::sweep::{Queue, Sweep, TaskState};

/// Opens a sweep and says how far it is. `runs` are those that carried out parts of it.
///
/// # Errors
/// If the file or the store cannot be read.
pub fn view(project: &Project, file: &Path, runs: Vec<String>) -> Result<SweepView, Error> {
    let mut sweep = Sweep::open(project, file, &Choice::default(), true)?;
    let queue = Queue::of(&sweep);
    let view = sweep.state(&queue)?;
    let board = sweep.board(&view, &queue)?;
    let mut tasks = Vec::new();
    for task in &queue.tasks {
        let state = match task.state {
            TaskState::Waiting => "waiting",
            TaskState::Running => "running",
            TaskState::Done => "done",
            TaskState::Failed => "failed",
            TaskState::Cancelled => "cancelled",
        };
        let state = match task.detail.as_str() {
            "" => state.to_owned(),
            detail => format!("{state} ({detail})"),
        };
        tasks.push((format!("{} task {}", task.job.0, task.number), state));
    }
    Ok(SweepView {
        name: sweep.file.name.clone(),
        file: file.display().to_string(),
        total: view.progress.total,
        queue: tasks,
        board,
        runs,
    })
}
