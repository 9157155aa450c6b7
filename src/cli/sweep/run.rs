//! `runner sweep FILE`: runs what is missing of a sweep, batch by batch, in this process.

use std::collections::BTreeSet;
use std::io::{BufRead, IsTerminal};
use std::mem::ManuallyDrop;

use super::super::{Error, Exit, Global, remote, signals};
use super::RunArguments;
use super::leaderboard::{print_board, summary};
use super::submit::submit;
use crate::cache::RunStatus;
use crate::diagnostic::counted;
use crate::project::{Carried, Limits, carry_out_counting};
use crate::sweep::{LiveProgress, Member, MemberState, Queue, Sweep, View, find_backend, label};
use crate::ui::{Paint, err, errln, outln, print_json};

/// Trials that are listed by name before a run; more are counted.
const TRIALS_LISTED: usize = 20;

pub(super) fn run(global: &Global, arguments: &RunArguments) -> Result<Exit, Error> {
    let Some(path) = &arguments.file else {
        return Err(Error::wrong("no sweep file is named"));
    };
    let mut sweep = Sweep::open(
        &global.project,
        path,
        &arguments.choice.choice(),
        arguments.dry_run,
    )?;
    confirm_size(&sweep, arguments.yes)?;
    if let Some(name) = &arguments.on {
        let backend = find_backend(name)?;
        if !arguments.choice.force.is_empty() {
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
    sweep.store.prepare()?;
    signals::install(&sweep.cancel);
    let mut failed: BTreeSet<Member> = BTreeSet::new();
    let mut status = RunStatus::Done;
    let mut before: Vec<Member> = Vec::new();
    loop {
        let view = sweep.view(&global.project, &failed)?;
        if view.progress.open.is_empty() {
            return conclude(global, &sweep, &view, status);
        }
        if view.progress.open == before {
            let hint = "look at them with `runner cache verify`";
            return Err(
                Error::failed("results of the sweep are gone right after they were made")
                    .hint(hint),
            );
        }
        before.clone_from(&view.progress.open);
        announce(global, &sweep, &view);
        // What failed before is not tried again in every round.
        let view = if failed.is_empty() {
            view
        } else {
            sweep.without(&global.project, view, &failed)?
        };
        let (ended, losses) = round(global, &sweep, view, arguments)?;
        if ended == RunStatus::Interrupted {
            let view = ManuallyDrop::new(sweep.view(&global.project, &failed)?);
            conclude(global, &sweep, &view, ended)?;
            return Ok(Exit::Interrupted);
        }
        if ended != RunStatus::Done {
            status = ended;
        }
        failed.extend(losses);
        sweep.stop_forcing();
    }
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
    let told = format!("the sweep has up to {count} members (trials times seeds)");
    if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
        err!("{told}; continue? [y/N] ");
        let mut answer = String::new();
        let _ = std::io::stdin().lock().read_line(&mut answer);
        if matches!(answer.trim(), "y" | "Y" | "yes") {
            return Ok(());
        }
    }
    Err(Error::wrong(told).hint(
        "if you mean it, say `--yes`; to try part of it, use `sampler: {kind: random, trials: N}`",
    ))
}

/// Runs what is open. Gives how it ended, and the members that did not come to an end.
fn round(
    global: &Global,
    sweep: &Sweep,
    view: View,
    arguments: &RunArguments,
) -> Result<(RunStatus, Vec<Member>), Error> {
    let mut progress_so_far = LiveProgress::new(sweep, &view);
    let View {
        progress,
        mut session,
        roster,
        plan,
        ..
    } = view;
    // One trial that fails is no reason to leave the others.
    let limits = Limits {
        keep_going: true,
        ..arguments.execution.limits()
    };
    let carried = ManuallyDrop::new(carry_out_counting(
        &mut session,
        plan,
        limits,
        &|| arguments.execution.reporter(global),
        &mut progress_so_far,
    )?);
    let Carried {
        record, outcome, ..
    } = &*carried;
    session.store.save_run(record)?;
    let settled = |member: usize| {
        roster
            .stages(member)
            .iter()
            .all(|id| outcome.actions.contains_key(id))
    };
    let is_open = |member: &Member| progress.open.contains(member);
    let numbered = roster
        .members
        .iter()
        .enumerate()
        .filter(|(_, member)| is_open(member));
    let losses = numbered
        .filter(|(number, _)| !settled(*number))
        .map(|(_, member)| *member)
        .collect();
    Ok((outcome.status, losses))
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
    let members = view.roster.members.len();
    let done = view
        .states
        .iter()
        .filter(|state| !matches!(state, MemberState::Missing { .. }))
        .count();
    let graph = &view.session.graph;
    let open = graph
        .order()
        .iter()
        .filter(|id| view.plan.stage(**id).hit().is_none())
        .count();
    let shared = view
        .roster
        .shared(graph)
        .into_iter()
        .filter(|id| view.plan.stage(*id).hit().is_none())
        .count();
    let unit = if sweep.file.seeds.is_empty() && sweep.file.stopping.is_none() {
        "trial"
    } else {
        "member"
    };
    let later = view.progress.total - view.progress.points.len();
    let later = if later > 0 {
        format!(", {} to be chosen later", counted(later, "trial"))
    } else {
        String::new()
    };
    format!(
        "{}, {done} done{later}; {open} of {} to run, {shared} of them for more than one",
        counted(members, unit),
        counted(graph.len(), "stage")
    )
}

fn point(view: &View, member: &Member) -> String {
    let values = view.progress.points[member.trial].iter();
    values
        .map(|(name, value)| format!("{name}={}", crate::sweep::shown(value)))
        .collect::<Vec<_>>()
        .join(", ")
}

fn dry_run(global: &Global, sweep: &mut Sweep) -> Result<Exit, Error> {
    let view = ManuallyDrop::new(sweep.view(&global.project, &BTreeSet::new())?);
    if global.json {
        let open = view.progress.open.iter().map(|member| {
            serde_json::json!({
                "trial": member.trial + 1,
                "seed": member.seed,
                "level": member.level,
                "values": view.progress.points[member.trial],
            })
        });
        let stages = view.session.graph.order().iter();
        let open_stages = stages
            .filter(|id| view.plan.stage(**id).hit().is_none())
            .count();
        print_json(&serde_json::json!({
            "sweep": sweep.file.name,
            "members": view.roster.members.len(),
            "trials": view.progress.total,
            "stages": view.session.graph.len(),
            "stages_to_run": open_stages,
            "open": open.collect::<Vec<_>>(),
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

fn conclude(global: &Global, sweep: &Sweep, view: &View, status: RunStatus) -> Result<Exit, Error> {
    let board = sweep.board(view, &Queue::of(sweep))?;
    let interrupted = remote::settle(&sweep.store, global, &sweep.cancel);
    print_board(global, sweep, &board, Some(TRIALS_LISTED))?;
    if !global.json && !global.quiet {
        errln!("{}", summary(sweep, &board, view));
    }
    // A trial without a figure is a failure, whatever its stages say.
    let failed = status == RunStatus::Done && board.count("failed") > 0;
    Ok(match status {
        RunStatus::Done if interrupted => Exit::Interrupted,
        _ if failed => Exit::Failed,
        _ => Exit::from(status),
    })
}
