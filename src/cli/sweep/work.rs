//! `runner sweep work`: does a task of a submission. Backends call it; people do not need to.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use clap::Args;

use super::super::arguments::ChoiceArguments;
use super::super::execution::Execution;
use super::super::{Error, Exit, Global, remote, signals};
use super::submit::{order, submit_as};
use crate::cache::Layout;
use crate::sweep::{Ended, Part, Submission, Work, find_backend, open_next};
use crate::ui::errln;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The submission's folder
    #[arg(long, value_name = "DIR")]
    folder: PathBuf,
    /// The part of it: shared, shared-2 and so on, trials or next
    #[arg(long, value_name = "PART", value_parser = part)]
    part: Part,
    /// The number of the task
    #[arg(value_name = "TASK")]
    task: usize,
    #[command(flatten)]
    choice: ChoiceArguments,
}

fn part(name: &str) -> Result<Part, String> {
    Part::parse(name)
        .ok_or_else(|| format!("`{name}` is not a part: choose from shared, trials and next"))
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    let submission = Submission::load(&Layout::new(&global.store), &arguments.folder)?;
    if arguments.part == Part::Next {
        return next(global, arguments, &submission);
    }
    let folder = submission.pipeline.parent().unwrap_or(Path::new("."));
    let store = Arc::new(global.project.open_store(folder)?);
    store.prepare()?;
    signals::install(&global.project.cancel);
    let warnings = signals::install_warnings(&global.project.cancel);
    let task = Work {
        project: &global.project,
        submission: &submission,
        folder: arguments.folder.clone(),
        part: arguments.part,
        choice: arguments.choice.choice(),
        store,
    };
    let execution = Execution::default();
    let Ended { status, in_vain } = task.run(arguments.task, &|| execution.reporter(global))?;
    let exit = Exit::from(status);
    let interrupted = remote::settle(&task.store, global);
    let backend = || find_backend(&submission.backend);
    if warnings.time_is_up.load(Ordering::Relaxed) {
        if let Some(stage) = in_vain {
            let message = format!(
                "the time of the task is up, and `{stage}` has kept nothing from which it can continue"
            );
            let hint = "give it more `time` below `slurm`; again with as much, it would end at the same place";
            return Err(Error::failed(message).hint(hint));
        }
        errln!("the time of the task is up; what it did is kept, and it goes back into the queue");
        backend()?.requeue_own_task()?;
    } else if exit == Exit::Interrupted
        && warnings.terminated.load(Ordering::Relaxed)
        && backend()?.wants_own_task()
    {
        errln!("the task must make room; what it did is kept, and it goes back into the queue");
        backend()?.requeue_own_task()?;
    }
    Ok(if interrupted && exit == Exit::Done {
        Exit::Interrupted
    } else {
        exit
    })
}

/// Submits what comes after a submission whose tasks are over.
fn next(global: &Global, arguments: &Arguments, submission: &Submission) -> Result<Exit, Error> {
    let choice = arguments.choice.choice();
    let (mut sweep, before) = open_next(&global.project, submission, &arguments.folder, choice)?;
    let backend = find_backend(&submission.backend)?;
    let order = order(global, &sweep, false)?;
    submit_as(global, &mut sweep, &order, &backend, &before)
}
