//! `runner sweep work`: does a task of a submission. Backends call it; people need not.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use clap::Args;

use super::super::arguments::ChoiceArguments;
use super::super::execution::Execution;
use super::super::{Error, Exit, Global, remote, signals};
use super::submit::{order, submit_as};
use crate::cache::Layout;
use crate::engine::CancelToken;
use crate::project::Choice;
use crate::sweep::{Ended, Part, Submission, Sweep, Work, find_backend};
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
    let cancel = CancelToken::default();
    signals::install(&cancel);
    let warnings = signals::install_warnings(&cancel);
    let task = Work {
        project: &global.project,
        submission: &submission,
        folder: arguments.folder.clone(),
        part: arguments.part,
        choice: arguments.choice.choice(),
        store,
        cancel,
    };
    let execution = Execution::default();
    let Ended { status, in_vain } = task.run(arguments.task, &|| execution.reporter(global))?;
    let exit = Exit::from(status);
    let interrupted = remote::settle(&task.store, global, &task.cancel);
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
    let choice = Choice {
        profile: submission.profile.clone(),
        overrides: submission
            .overrides
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect(),
        targets: submission.targets.clone(),
        ..arguments.choice.choice()
    };
    let store = global
        .project
        .open_store(submission.file.parent().unwrap_or(Path::new(".")))?;
    let mut opened = Sweep::open_with(
        store,
        &global.project,
        &submission.file,
        &choice,
        false,
        submission.sources(),
    )?;
    let sweep = arguments.folder.parent().unwrap_or(Path::new("."));
    let mut before: Vec<Submission> = submission
        .before
        .iter()
        .filter_map(|id| Submission::load(opened.store.layout(), &sweep.join(id)).ok())
        .collect();
    before.push(submission.clone());
    let backend = find_backend(&submission.backend)?;
    let order = order(global, &opened, &choice, false)?;
    submit_as(global, &mut opened, &order, &backend, &before)
}
