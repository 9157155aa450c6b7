//! `runner sweep FILE`: runs what is missing of a sweep, batch by batch, in this process.

use std::collections::BTreeSet;
use std::mem::ManuallyDrop;

use super::super::carry_out::{Carried, carry_out_counting};
use super::super::{CliError, Exit, Global, remote, signals};
use super::RunArguments;
use super::board::{print_board, summary};
use super::campaign::{Campaign, View, exit_of};
use super::submit::{Queue, find_backend, submit};
use super::tally::Tally;
use crate::cache::RunStatus;
use crate::diagnostic::counted;
use crate::sweep::{Member, MemberState, label};
use crate::ui::{Paint, errln, outln, print_json};

/// Trials that are listed by name before a run; more are counted.
const TRIALS_LISTED: usize = 20;

pub(super) fn run(global: &Global, arguments: &RunArguments) -> Result<Exit, CliError> {
    let Some(path) = &arguments.file else {
        return Err(CliError::wrong("no sweep file is named"));
    };
    let mut campaign = Campaign::open(global, path, &arguments.choice, arguments.dry_run)?;
    campaign.confirm_size(arguments.yes)?;
    if let Some(name) = &arguments.on {
        let backend = find_backend(name)?;
        if !arguments.choice.force.is_empty() {
            let message = "--force does not go with --on: jobs run what is missing";
            return Err(CliError::wrong(message).hint("force it here, without --on"));
        }
        if !arguments.dry_run {
            campaign.store.prepare()?;
        }
        return submit(global, &mut campaign, arguments, backend.as_ref(), &[]);
    }
    if arguments.dry_run {
        return dry_run(global, &mut campaign);
    }
    campaign.store.prepare()?;
    signals::install(&campaign.cancel);
    let mut failed: BTreeSet<Member> = BTreeSet::new();
    let mut status = RunStatus::Done;
    let mut before: Vec<Member> = Vec::new();
    loop {
        let view = campaign.view(global, &failed)?;
        if view.progress.open.is_empty() {
            return conclude(global, &campaign, &view, status);
        }
        if view.progress.open == before {
            let hint = "look at them with `runner cache verify`";
            return Err(CliError::failed(
                "results of the sweep are gone right after they were made",
            )
            .hint(hint));
        }
        before.clone_from(&view.progress.open);
        announce(global, &campaign, &view);
        // What failed before is not tried again in every round.
        let view = if failed.is_empty() {
            view
        } else {
            campaign.without(global, view, &failed)?
        };
        let (ended, losses) = round(global, &campaign, view, arguments)?;
        if ended == RunStatus::Interrupted {
            let view = ManuallyDrop::new(campaign.view(global, &failed)?);
            conclude(global, &campaign, &view, ended)?;
            return Ok(Exit::Interrupted);
        }
        if ended != RunStatus::Done {
            status = ended;
        }
        failed.extend(losses);
        campaign.stop_forcing();
    }
}

/// Runs what is open. Gives how it ended, and the members that did not come to an end.
fn round(
    global: &Global,
    campaign: &Campaign,
    view: View,
    arguments: &RunArguments,
) -> Result<(RunStatus, Vec<Member>), CliError> {
    let mut tally = Tally::new(campaign, &view);
    let View {
        progress,
        mut session,
        roster,
        plan,
        ..
    } = view;
    // One trial that fails is no reason to leave the others.
    let execution = super::Execution {
        keep_going: true,
        ..arguments.execution.clone()
    };
    let carried = ManuallyDrop::new(carry_out_counting(
        &mut session,
        plan,
        global,
        &execution,
        &mut tally,
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

fn announce(global: &Global, campaign: &Campaign, view: &View) {
    if global.quiet || global.json {
        return;
    }
    errln!("{} {}", Paint::Busy.on("sweep:"), headline(campaign, view));
    let open = &view.progress.open;
    if global.verbose && open.len() <= TRIALS_LISTED {
        for member in open {
            errln!(
                "  {}: {}",
                label(&campaign.file, member),
                point(view, member)
            );
        }
    }
}

/// `24 trials, 12 done; 60 of 91 stages to run, 4 of them for more than one trial`.
fn headline(campaign: &Campaign, view: &View) -> String {
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
    let unit = if campaign.file.seeds.is_empty() && campaign.file.stopping.is_none() {
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

fn dry_run(global: &Global, campaign: &mut Campaign) -> Result<Exit, CliError> {
    let view = ManuallyDrop::new(campaign.view(global, &BTreeSet::new())?);
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
            "sweep": campaign.file.name,
            "members": view.roster.members.len(),
            "trials": view.progress.total,
            "stages": view.session.graph.len(),
            "stages_to_run": open_stages,
            "open": open.collect::<Vec<_>>(),
        }));
        return Ok(Exit::Done);
    }
    outln!("{}", headline(campaign, &view));
    for member in view.progress.open.iter().take(TRIALS_LISTED) {
        outln!(
            "  {}: {}",
            label(&campaign.file, member),
            point(&view, member)
        );
    }
    let more = view.progress.open.len().saturating_sub(TRIALS_LISTED);
    if more > 0 {
        outln!("  … and {more} more");
    }
    Ok(Exit::Done)
}

fn conclude(
    global: &Global,
    campaign: &Campaign,
    view: &View,
    status: RunStatus,
) -> Result<Exit, CliError> {
    let board = campaign.board(view, &Queue::of(campaign))?;
    let interrupted = remote::settle(&campaign.store, global, &campaign.cancel);
    print_board(global, campaign, &board, Some(TRIALS_LISTED))?;
    if !global.json && !global.quiet {
        errln!("{}", summary(campaign, &board, view));
    }
    // A trial without a figure is a failure, whatever its stages say.
    let failed = status == RunStatus::Done && board.count("failed") > 0;
    Ok(match status {
        RunStatus::Done if interrupted => Exit::Interrupted,
        _ if failed => Exit::Failed,
        _ => exit_of(status),
    })
}
