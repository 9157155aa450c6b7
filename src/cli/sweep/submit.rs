//! `runner sweep FILE --on BACKEND`: hands what is missing of a sweep to a cluster, and leaves.

use clap::ValueEnum;

use super::super::{Error, Exit, Global, shown};
use super::RunArguments;
use crate::diagnostic::counted;
use crate::project::Choice;
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
    let order = order(global, sweep, &arguments.choice.choice(), arguments.dry_run)?;
    submit_as(global, sweep, &order, backend, &[])
}

/// How tasks of this program are started.
pub(super) fn order(
    global: &Global,
    sweep: &Sweep,
    choice: &Choice,
    rehearse: bool,
) -> Result<Order, Error> {
    let program =
        std::env::current_exe().map_err(|error| Error::failed(format!("where am I? {error}")))?;
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
        choice: choice.clone(),
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
    let nothing = |under_way: usize| {
        print_json(&serde_json::json!({
            "submission": null, "jobs": {}, "members": [], "under_way": under_way
        }));
    };
    match hand_in(&global.project, sweep, order, backend, before)? {
        Submitted::Complete(_) if global.json => nothing(0),
        Submitted::Complete(complete) => {
            let (board, view) = &*complete;
            let summary = super::leaderboard::summary(sweep, board, view);
            outln!("nothing to submit: {summary}");
        }
        Submitted::UnderWay(count) if global.json => nothing(count),
        Submitted::UnderWay(count) => {
            outln!("nothing to submit: all {count} open members are queued or running");
        }
        Submitted::Rehearsed(jobs) => print_scripts(backend, jobs),
        Submitted::Handed(handed) => tell(global, sweep, &handed, backend),
    }
    Ok(Exit::Done)
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

fn tell(global: &Global, sweep: &Sweep, handed: &Handed, backend: &ChosenBackend) {
    let Handed {
        submission,
        jobs,
        labels,
    } = handed;
    if global.json {
        let jobs: serde_json::Map<String, serde_json::Value> = jobs
            .iter()
            .map(|(part, JobId(id))| (part.name(), id.clone().into()))
            .collect();
        print_json(&serde_json::json!({
            "submission": submission.id, "backend": backend.name(), "jobs": jobs, "members": labels
        }));
        return;
    }
    let mut names = Vec::new();
    for (part, JobId(id)) in jobs {
        let name = part.name();
        names.push(match part {
            Part::Next => format!("{id} ({name})"),
            _ => format!(
                "{id} ({name}, {})",
                counted(submission.units(*part).len(), "task")
            ),
        });
    }
    outln!(
        "{} {} members to {} as jobs {}",
        Paint::Good.on("submitted"),
        labels.len(),
        backend.name(),
        names.join(", ")
    );
    let file = shown(&sweep.file.path);
    outln!("see how it goes: `runner sweep status {file}`; end it: `runner sweep cancel {file}`");
}
