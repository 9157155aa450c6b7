//! `runner sweep FILE --on BACKEND`: submits what is missing of a sweep to a cluster, and returns.

use clap::ValueEnum;
use serde_json::{Map, json};

use super::super::{Error, Exit, Global, shown};
use super::RunArguments;
use crate::diagnostic::counted;
use crate::sweep::{
    ChosenBackend, Handed, Job, JobId, Order, Part, Submission, Submitted, Sweep, submit as hand_in,
};
use crate::ui::{Paint, out, outln, print_json};

/// Submits what is missing and says what was submitted.
pub(super) fn submit(
    global: &Global,
    sweep: &mut Sweep,
    arguments: &RunArguments,
    backend: &ChosenBackend,
) -> Result<Exit, Error> {
    let order = order(global, sweep, arguments.dry_run)?;
    submit_as(global, sweep, &order, backend, &[])
}

/// How tasks of this program are started.
pub(super) fn order(global: &Global, sweep: &Sweep, rehearse: bool) -> Result<Order, Error> {
    let program = std::env::current_exe()
        .map_err(|error| Error::failed(format!("cannot find the path of this program: {error}")))?;
    let store = sweep.store.layout().root().parent();
    let store = store.map_or_else(String::new, |store| store.display().to_string());
    let mut command = vec![program.display().to_string(), "--store".to_owned(), store];
    if let Some(url) = &global.remote {
        command.extend(["--remote".to_owned(), url.clone()]);
    }
    if let Some(mode) = global.remote_mode.and_then(|mode| mode.to_possible_value()) {
        command.extend(["--remote-mode".to_owned(), mode.get_name().to_owned()]);
    }
    command.extend(["sweep", "work"].map(str::to_owned));
    Ok(Order {
        choice: sweep.choice.clone(),
        rehearse,
        command,
    })
}

/// The same; `before` are the submissions that led here, all of whose tasks are over.
pub(super) fn submit_as(
    global: &Global,
    sweep: &mut Sweep,
    order: &Order,
    backend: &ChosenBackend,
    before: &[Submission],
) -> Result<Exit, Error> {
    match hand_in(sweep, order, backend, before)? {
        Submitted::Complete(_) if global.json => print_nothing(0),
        Submitted::Complete(complete) => {
            let (board, view) = &*complete;
            let summary = super::leaderboard::summary(sweep, board, view);
            outln!("nothing to submit: {summary}");
        }
        Submitted::UnderWay(count) if global.json => print_nothing(count),
        Submitted::UnderWay(count) => {
            outln!("nothing to submit: all {count} open runs are queued or running");
        }
        Submitted::Rehearsed(jobs) => print_scripts(backend, jobs),
        Submitted::Handed(handed) => print_jobs(global, sweep, &handed, backend),
    }
    Ok(Exit::Done)
}

/// That nothing was submitted, as JSON.
fn print_nothing(under_way: usize) {
    print_json(&json!({"submission": null, "jobs": {}, "members": [], "under_way": under_way}));
}

/// The scripts that would be submitted.
fn print_scripts(backend: &ChosenBackend, jobs: Vec<(Part, Job)>) {
    let mut earlier = Vec::new();
    for (part, mut job) in jobs {
        job.after.clone_from(&earlier);
        outln!("# {}: {}", part.name(), shown(&job.script));
        out!("{}\n", backend.script(&job));
        let name = part.name().to_uppercase().replace('-', "_");
        earlier.push(JobId(format!("JOB_OF_{name}")));
    }
}

/// What was submitted, and what to do with it.
fn print_jobs(global: &Global, sweep: &Sweep, handed: &Handed, backend: &ChosenBackend) {
    let Handed {
        submission,
        jobs,
        labels,
    } = handed;
    if global.json {
        let mut names = Map::new();
        for (part, JobId(id)) in jobs {
            names.insert(part.name(), json!(id));
        }
        print_json(&json!({
            "submission": submission.id, "backend": backend.name(), "jobs": names, "members": labels
        }));
        return;
    }
    let mut names = Vec::new();
    for (part, JobId(id)) in jobs {
        let (name, tasks) = (part.name(), submission.units(*part).len());
        names.push(match part {
            Part::Next => format!("{id} ({name})"),
            _ => format!("{id} ({name}, {})", counted(tasks, "task")),
        });
    }
    outln!(
        "{} {} runs to {} as jobs {}",
        Paint::Good.on("submitted"),
        labels.len(),
        backend.name(),
        names.join(", ")
    );
    let file = shown(&sweep.file.path);
    outln!(
        "see how far it is: `runner sweep status {file}`; cancel it: `runner sweep cancel {file}`"
    );
}
