//! What `run` and `sweep` share: carrying out a plan, keeping the record of it, and computing again what turns out to be
//! damaged.

use std::path::PathBuf;

use clap::Args;

use super::session::Session;
use super::views::Results;
use super::{CliError, Global, record, views};
use crate::cache::{RunId, RunRecord, RunStatus, StageRecord, StageState};
use crate::engine::{Journal, Outcome, Plan, Reporter, Reporters, environment, execute};
use crate::graph::StageId;
use crate::ui::{self, Mode, Trace};

/// How a plan is carried out; none of it changes a result.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Execution {
    /// Stages that may run at the same time; by default as many as there are threads
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// After a failure, go on with what does not depend on it
    #[arg(long, short)]
    pub keep_going: bool,
    /// Write a trace of the run that Chrome (about:tracing) and Perfetto show
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
}

/// A plan that was carried out.
pub(super) struct Carried {
    /// Complete, but not saved yet.
    pub record: RunRecord,
    pub outcome: Outcome,
    pub results: Results,
}

/// Carries out a plan. Its record is saved at the start, so that nothing it builds on is collected; the caller saves it
/// again at the end.
pub(super) fn carry_out(
    session: &mut Session,
    plan: Plan,
    global: &Global,
    execution: &Execution,
) -> Result<Carried, CliError> {
    let run = RunId::now();
    let mut record = record::start(session, &run);
    let setting = record::setting(session);
    let performed = if plan.hits() < plan.len() {
        record.environment = environment::capture(&setting);
        record.stages = record::hits(&session.graph, &plan);
        session.store.save_run(&record)?;
        perform(session, plan, &run, global, execution)
    } else {
        // Nothing is left to do, and git and the driver are asked meanwhile.
        std::thread::scope(|scope| {
            let captured = scope.spawn(|| environment::capture(&setting));
            let performed = perform(session, plan, &run, global, execution);
            record.environment = captured.join().unwrap_or_default();
            performed
        })
    };
    let mut outcome = performed?;
    remember(session, &outcome);
    let mut results = views::results_of(&session.graph, &session.store, &outcome.actions)?;
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
    Ok(Carried { record, outcome, results })
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
        session.ledger.stages.remove(name);
    }
    session.stop_forcing();
    let plan = session.planner().plan();
    let outcome = perform(session, plan, run, global, execution)?;
    remember(session, &outcome);
    Ok(outcome)
}

/// A stage that ran before the repair is no hit for the record.
fn keep_what_ran(outcome: &mut Outcome, first: &[StageRecord]) {
    for record in &mut outcome.stages {
        let before = first.iter().find(|before| before.name == record.name && before.state == StageState::Ran);
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
        let trace = trace.map_err(|error| CliError::wrong(format!("cannot write {}: {error}", path.display())))?;
        reporters.push(Box::new(trace));
    }
    let options = session.run_options(execution.jobs, execution.keep_going);
    let mut reporter = Reporters(reporters);
    Ok(execute(&session.planner(), plan, &session.store, &options, run, &session.cancel, &mut reporter))
}

/// Brings the ledger up to date; losing it costs nothing but time.
fn remember(session: &mut Session, outcome: &Outcome) {
    let mut news = false;
    for (stage, action) in &outcome.actions {
        news |= session.ledger.note(&session.graph.stage(*stage).name, action);
    }
    if news && let Err(error) = session.ledger.save(&session.store, &session.file) {
        tracing::warn!("{error}");
    }
}
