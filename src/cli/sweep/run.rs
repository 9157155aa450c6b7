//! `runner sweep FILE`: runs what is missing of a sweep, in this process or on a backend.

use std::collections::BTreeSet;
use std::io::{BufRead, IsTerminal};
use std::mem::ManuallyDrop;

use serde_json::json;

use super::super::{Error, Exit, Global, remote, signals};
use super::RunArguments;
use super::leaderboard::{print_board, summary};
use super::submit::submit;
use crate::cache::RunStatus;
use crate::diagnostic::counted;
use crate::sweep::{Finished, Member, Sweep, View, find_backend, label, shown};
use crate::ui::{Paint, err, errln, outln, print_json};

/// Trials that are listed by name before a run; more are counted.
const TRIALS_LISTED: usize = 20;

pub(super) fn run(global: &Global, arguments: &RunArguments) -> Result<Exit, Error> {
    let Some(path) = &arguments.file else {
        return Err(Error::wrong("no sweep file is named"));
    };
    let choice = arguments.choice.choice();
    let mut sweep = Sweep::open(&global.project, path, &choice, arguments.dry_run)?;
    confirm_size(&sweep, arguments.yes)?;
    if let Some(name) = &arguments.on {
        let backend = find_backend(name)?;
        if !choice.force.is_empty() {
            let message = "--force does not go with --on: jobs run what is missing";
            return Err(Error::wrong(message).hint("force it here, without --on"));
        }
        if !arguments.dry_run {
            sweep.store.prepare()?;
        }
        return submit(global, &mut sweep, arguments, &backend);
    }
    if arguments.dry_run {
        return dry_run(global, &mut sweep);
    }
    signals::install(&global.project.cancel);
    // The process ends right after; taking a wide graph apart piece by piece would take as long as planning it.
    let finished = ManuallyDrop::new(sweep.run(
        arguments.execution.limits(),
        &|| arguments.execution.reporter(global),
        &|sweep, view| announce(global, sweep, view),
    )?);
    let Finished {
        view,
        board,
        status,
    } = &*finished;
    let interrupted = remote::settle(&sweep.store, global);
    print_board(global, &sweep, board, Some(TRIALS_LISTED))?;
    if !global.json && !global.quiet {
        errln!("{}", summary(&sweep, board, view));
    }
    Ok(match status {
        RunStatus::Done if interrupted => Exit::Interrupted,
        status => Exit::from(*status),
    })
}

/// A sweep of more members than this asks first.
const ASK_ABOVE: f64 = 10_000.0;

/// Refuses a sweep without trials, and asks before one of very many.
fn confirm_size(sweep: &Sweep, yes: bool) -> Result<(), Error> {
    sweep.check_size()?;
    let count = sweep.size();
    if count <= ASK_ABOVE || yes {
        return Ok(());
    }
    let size = format!("the sweep has up to {count} runs (trials times seeds)");
    if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
        err!("{size}; continue? [y/N] ");
        let mut answer = String::new();
        let _ = std::io::stdin().lock().read_line(&mut answer);
        if matches!(answer.trim(), "y" | "Y" | "yes") {
            return Ok(());
        }
    }
    Err(Error::wrong(size).hint(
        "if you mean it, say `--yes`; to try part of it, use `sampler: {kind: random, trials: N}`",
    ))
}

fn announce(global: &Global, sweep: &Sweep, view: &View) {
    if global.quiet || global.json {
        return;
    }
    errln!("{} {}", Paint::Busy.on("sweep:"), headline(sweep, view));
    let open = &view.progress.open;
    if global.verbose && open.len() <= TRIALS_LISTED {
        for member in open {
            errln!("  {}: {}", label(&sweep.file, member), point(view, member));
        }
    }
}

/// `24 trials, 12 done; 60 of 91 stages to run, 4 of them for more than one trial`.
fn headline(sweep: &Sweep, view: &View) -> String {
    let graph = &view.session.graph;
    let later = match view.count_later() {
        0 => String::new(),
        later => format!(", {} to be chosen later", counted(later, "trial")),
    };
    format!(
        "{}, {} done{later}; {} of {} to run, {} of them for more than one",
        counted(view.trials.members.len(), sweep.unit()),
        view.count_ended(),
        view.count_open(graph.order()),
        counted(graph.len(), "stage"),
        view.count_open(&view.trials.shared(graph)),
    )
}

/// What a member sets: `lr=0.1, size=4`.
fn point(view: &View, member: &Member) -> String {
    let mut values = Vec::new();
    for (name, value) in &view.progress.points[member.trial] {
        values.push(format!("{name}={}", shown(value)));
    }
    values.join(", ")
}

fn dry_run(global: &Global, sweep: &mut Sweep) -> Result<Exit, Error> {
    let view = ManuallyDrop::new(sweep.view(&BTreeSet::new())?);
    if global.json {
        let mut open = Vec::new();
        for member in &view.progress.open {
            open.push(json!({
                "trial": member.trial + 1,
                "seed": member.seed,
                "level": member.level,
                "values": view.progress.points[member.trial],
            }));
        }
        let graph = &view.session.graph;
        print_json(&json!({
            "sweep": sweep.file.name,
            "members": view.trials.members.len(),
            "trials": view.progress.total,
            "stages": graph.len(),
            "stages_to_run": view.count_open(graph.order()),
            "open": open,
        }));
        return Ok(Exit::Done);
    }
    outln!("{}", headline(sweep, &view));
    for member in view.progress.open.iter().take(TRIALS_LISTED) {
        outln!("  {}: {}", label(&sweep.file, member), point(&view, member));
    }
    let more = view.progress.open.len().saturating_sub(TRIALS_LISTED);
    if more > 0 {
        outln!("  … and {more} more");
    }
    Ok(Exit::Done)
}
