//! What `run` and `sweep` share: carrying out a plan, keeping the record of it, and computing again what turns out to be
//! damaged.

use std::path::PathBuf;

use clap::Args;

use super::arguments::size;
use super::session::Session;
use super::views::Results;
use super::{CliError, Global, record, views};
use crate::cache::{LastFailure, RunId, RunLease, RunRecord, RunStatus, StageRecord, StageState};
use crate::engine::{Event, Journal, Outcome, Plan, Reporter, Reporters, environment, execute};
use crate::graph::StageId;
use crate::ui::{self, Mode, Trace};

/// How a plan is carried out; none of it changes a result.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Execution {
    /// Stages that may run at the same time; by default as many as there are threads
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// Memory that stages running at the same time may ask for, such as `8 GiB`; by default all of the machine's
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory: Option<u64>,
    /// After a failure, continue with what does not depend on it
    #[arg(long, short)]
    pub keep_going: bool,
    /// Write a trace of the run for Chrome (about:tracing) and Perfetto
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
}

/// A plan that was carried out.
pub(super) struct Carried {
    /// Complete, but not saved yet.
    pub record: RunRecord,
    pub outcome: Outcome,
    pub results: Results,
    /// Until the record is saved with its end, others see that the run is under way.
    _lease: Option<RunLease>,
}

/// Counts what a run gets done.
pub(super) trait Count {
    /// What the run has come to with this event, if that is worth telling.
    fn note(&mut self, event: &Event) -> Option<Event>;
}

/// Passes events on, and what is counted along with them.
struct Counted<'a> {
    reporters: Reporters<'a>,
    count: &'a mut dyn Count,
}

impl Reporter for Counted<'_> {
    fn on(&mut self, event: &Event) {
        let more = self.count.note(event);
        let is_last = matches!(event, Event::RunFinished { .. });
        // Nothing comes after the end.
        let (first, then) = if is_last {
            (more.as_ref(), Some(event))
        } else {
            (Some(event), more.as_ref())
        };
        first
            .into_iter()
            .chain(then)
            .for_each(|event| self.reporters.on(event));
    }
}

/// Nothing is counted.
struct Nothing;

impl Count for Nothing {
    fn note(&mut self, _: &Event) -> Option<Event> {
        None
    }
}

/// Carries out a plan. Its record is saved at the start, so that nothing it builds on is collected; the caller saves it
/// again at the end.
pub(super) fn carry_out(
    session: &mut Session,
    plan: Plan,
    global: &Global,
    execution: &Execution,
) -> Result<Carried, CliError> {
    carry_out_counting(session, plan, global, execution, &mut Nothing)
}

/// [`carry_out`] that tells what is counted, too.
pub(super) fn carry_out_counting(
    session: &mut Session,
    plan: Plan,
    global: &Global,
    execution: &Execution,
    count: &mut dyn Count,
) -> Result<Carried, CliError> {
    let run = RunId::now();
    let mut record = record::start(session, &run);
    let mut plan = plan;
    // Where nothing is left to do, git and the GPU's driver would take longer than the run.
    let mut lease = None;
    if plan.hits() < plan.len() {
        lease = Some(session.store.hold_run(&run)?);
        record.environment = environment::capture(&record::setting(session));
        record.stages = record::hits(&session.graph, &plan);
        session.store.save_run(&record)?;
        // From here on a collection of garbage leaves alone what the run builds upon. It may have begun before.
        if !plan.still_holds(&session.store) {
            plan = session.planner().plan();
            record.stages = record::hits(&session.graph, &plan);
            session.store.save_run(&record)?;
        }
    }
    let mut outcome = perform(session, plan, &run, global, execution, count)?;
    remember(session, &run, &outcome);
    let mut results = views::results_of(&session.graph, &session.store, &outcome.actions)?;
    if !results.lost.is_empty() && session.cancel.is_cancelled() {
        // What was on its way from the remote did not come any more.
        outcome.status = RunStatus::Interrupted;
    }
    if !results.lost.is_empty() && outcome.status == RunStatus::Done {
        // Nothing downstream had read them, so the damage shows only now; what was lost is computed again.
        let first = std::mem::take(&mut outcome.stages);
        outcome = repair(session, &results.lost, &outcome, &run, global, execution)?;
        keep_what_ran(&mut outcome, &first);
        results = views::results_of(&session.graph, &session.store, &outcome.actions)?;
    }
    record.status = outcome.status;
    record.seconds = outcome.seconds;
    record.metrics.clone_from(&results.metrics);
    record.stages.clone_from(&outcome.stages);
    Ok(Carried {
        record,
        outcome,
        results,
        _lease: lease,
    })
}

/// Forgets the actions whose results are damaged, and runs again.
fn repair(
    session: &mut Session,
    lost: &[StageId],
    outcome: &Outcome,
    run: &RunId,
    global: &Global,
    execution: &Execution,
) -> Result<Outcome, CliError> {
    for action in lost.iter().filter_map(|stage| outcome.actions.get(stage)) {
        session.store.forget(action);
    }
    for stage in lost {
        let name = &session.graph.stage(*stage).name;
        tracing::warn!("the stored results of {name} are damaged or missing; it runs again");
        session.ledger.forget(name);
    }
    session.stop_forcing();
    let plan = session.planner().plan();
    let outcome = perform(session, plan, run, global, execution, &mut Nothing)?;
    remember(session, run, &outcome);
    Ok(outcome)
}

/// A stage that ran before the repair is no hit for the record.
fn keep_what_ran(outcome: &mut Outcome, first: &[StageRecord]) {
    for record in &mut outcome.stages {
        let before = first
            .iter()
            .find(|before| before.name == record.name && before.state == StageState::Ran);
        if let (StageState::Hit, Some(before)) = (record.state, before) {
            record.clone_from(before);
        }
    }
}

fn perform(
    session: &Session,
    plan: Plan,
    run: &RunId,
    global: &Global,
    execution: &Execution,
    count: &mut dyn Count,
) -> Result<Outcome, CliError> {
    let mode = match (global.json, global.quiet) {
        (true, _) => Mode::Json,
        (_, true) => Mode::Quiet,
        _ => Mode::Auto,
    };
    let mut reporters: Vec<Box<dyn Reporter>> = vec![ui::reporter(mode, global.verbose)];
    if plan.hits() < plan.len() {
        reporters.push(Box::new(Journal::create(&session.store.run_folder(run))?));
    }
    if let Some(path) = &execution.trace {
        let trace = Trace::create(path);
        let trace = trace.map_err(|error| {
            CliError::wrong(format!("cannot write {}: {error}", path.display()))
        })?;
        reporters.push(Box::new(trace));
    }
    let options = session.run_options(execution.jobs, execution.memory, execution.keep_going);
    let mut reporter = Counted {
        reporters: Reporters(reporters),
        count,
    };
    Ok(execute(
        &session.planner(),
        plan,
        &session.store,
        &options,
        run,
        &session.cancel,
        &mut reporter,
    ))
}

/// Brings the ledger up to date; losing it costs nothing but time.
fn remember(session: &mut Session, run: &RunId, outcome: &Outcome) {
    let mut news = false;
    for stage in outcome
        .stages
        .iter()
        .filter(|stage| stage.state == StageState::Failed)
    {
        if let Some(key) = stage.key {
            let failure = LastFailure {
                key,
                run: run.clone(),
                reason: stage.reason.clone(),
            };
            news |= session.ledger.note_failure(&stage.name, failure);
        }
    }
    for (stage, action) in &outcome.actions {
        news |= session
            .ledger
            .note(&session.store, &session.graph.stage(*stage).name, action);
    }
    if news && let Err(error) = session.ledger.save(&session.store, &session.file) {
        tracing::warn!("{error}");
    }
}
