//! What `run` and `sweep` share: carrying out a plan, keeping its record, and computing again what turns out to be damaged.

use std::path::PathBuf;
use std::time::Duration;

use super::{Error, Results, Session, link_files, record, results_of};
use crate::cache::{LastFailure, RunId, RunLease, RunRecord, RunStatus, StageRecord, StageState};
use crate::engine::{
    Event, Journal, Logs, Outcome, Plan, Reporter, Reporters, environment, execute,
};
use crate::graph::StageId;

/// How a plan is carried out; none of it changes a result.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Stages that may run at the same time; by default as many as there are threads.
    pub jobs: Option<u16>,
    /// Bytes that stages running at the same time may ask for; by default all of the machine's memory.
    pub memory: Option<u64>,
    /// Whether, after a failure, what does not depend on it continues.
    pub keep_going: bool,
}

/// Makes a reporter for the events of one execution. A run has a second one where results turn out to be damaged.
pub type Reporting<'a> = dyn Fn() -> Result<Box<dyn Reporter + 'a>, Error> + 'a;

/// How often cancellation is noticed while results are sent.
const TICK: Duration = Duration::from_millis(100);

/// A plan that was carried out.
pub struct Carried {
    /// Complete, but not saved yet.
    pub record: RunRecord,
    pub outcome: Outcome,
    pub results: Results,
    /// Held until the record is saved with its end, so that others see that the run is under way.
    _lease: Option<RunLease>,
}

impl Carried {
    /// Links the files that the run made into its folder and saves its record. Gives the paths of the files.
    ///
    /// # Errors
    /// If the record cannot be written.
    pub fn finish(&self, session: &Session) -> Result<Vec<PathBuf>, Error> {
        let listener = session.project.listener.as_ref();
        let files = link_files(&self.results, &session.store, &self.record.run, listener);
        session.store.save_run(&self.record)?;
        Ok(files)
    }
}

impl Session {
    /// Keeps what came from the remote, and waits until the remote has what was made here, or the run is cancelled. Does
    /// nothing without a remote.
    fn send_results(&self) -> Result<(), Error> {
        let Some(remote) = self.store.remote() else {
            return Ok(());
        };
        self.store.keep_fetched()?;
        while !remote.wait(TICK) {
            if self.project.cancel.is_cancelled() {
                remote.abandon();
                break;
            }
        }
        Ok(())
    }

    /// Runs the pipeline: uses the results that are there, computes the rest, and keeps a record. `reporting` makes the
    /// reporter of everything that happens.
    ///
    /// # Errors
    /// If the store cannot be used. A stage that fails is not an error of this call: the record says so.
    pub fn run(&mut self, limits: Limits, reporting: &Reporting<'_>) -> Result<RunRecord, Error> {
        self.store.prepare()?;
        let plan = self.planner().plan();
        let carried = carry_out(self, plan, limits, reporting, &mut ())?;
        carried.finish(self)?;
        self.stop_forcing();
        self.send_results()?;
        Ok(carried.record)
    }
}

/// Counts what a run gets done.
pub trait Count {
    /// How far the run is after this event, if that is worth reporting.
    fn note(&mut self, event: &Event) -> Option<Event>;
}

/// Counts nothing.
impl Count for () {
    fn note(&mut self, _: &Event) -> Option<Event> {
        None
    }
}

/// Passes events on, and what is counted along with them.
struct Counted<'a> {
    reporters: Reporters<'a>,
    count: &'a mut dyn Count,
}

impl Reporter for Counted<'_> {
    fn on(&mut self, event: &Event) {
        let progress = self.count.note(event);
        // Reporters expect nothing after the end.
        let is_last = matches!(event, Event::RunFinished { .. });
        if !is_last {
            self.reporters.on(event);
        }
        if let Some(progress) = progress {
            self.reporters.on(&progress);
        }
        if is_last {
            self.reporters.on(event);
        }
    }
}

/// Carries out a plan, and reports what `count` makes of its events, too. The record is saved at the start, so that nothing
/// it builds on is collected; the caller saves it again at the end.
pub fn carry_out(
    session: &mut Session,
    plan: Plan,
    limits: Limits,
    reporting: &Reporting<'_>,
    count: &mut dyn Count,
) -> Result<Carried, Error> {
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
        // From here on a collection of garbage leaves alone what the run builds on. It may have begun before.
        if !plan.still_holds(&session.store) {
            plan = session.planner().plan();
            record.stages = record::hits(&session.graph, &plan);
            session.store.save_run(&record)?;
        }
    }
    let mut outcome = perform(session, plan, &run, limits, reporting, count)?;
    remember(session, &run, &outcome);
    let mut results = results_of(&session.graph, &session.store, &outcome.actions)?;
    if !results.lost.is_empty() && session.project.cancel.is_cancelled() {
        // What was on its way from the remote did not arrive.
        outcome.status = RunStatus::Interrupted;
    }
    if !results.lost.is_empty() && outcome.status == RunStatus::Done {
        // No stage had read them, so the damage shows only now; what was lost is computed again.
        let first = std::mem::take(&mut outcome.stages);
        outcome = repair(session, &results.lost, &outcome, &run, limits, reporting)?;
        keep_what_ran(&mut outcome, &first);
        results = results_of(&session.graph, &session.store, &outcome.actions)?;
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
    limits: Limits,
    reporting: &Reporting<'_>,
) -> Result<Outcome, Error> {
    for stage in lost {
        if let Some(action) = outcome.actions.get(stage) {
            session.store.forget(action);
        }
        let name = &session.graph.stage(*stage).name;
        let warning = format!("the stored results of {name} are damaged or missing; it runs again");
        session.project.listener.warning(&warning);
        session.ledger.forget(name);
    }
    session.stop_forcing();
    let plan = session.planner().plan();
    let outcome = perform(session, plan, run, limits, reporting, &mut ())?;
    remember(session, run, &outcome);
    Ok(outcome)
}

/// A stage that ran before the repair is not a hit for the record.
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
    limits: Limits,
    reporting: &Reporting<'_>,
    count: &mut dyn Count,
) -> Result<Outcome, Error> {
    let mut reporters = vec![reporting()?];
    if plan.hits() < plan.len() {
        let folder = session.store.run_folder(run);
        reporters.push(Box::new(Journal::create(&folder)?));
        reporters.push(Box::new(Logs::new(&folder)));
    }
    let options = session.run_options(limits.jobs, limits.memory, limits.keep_going);
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
        &session.project.cancel,
        &mut reporter,
    ))
}

/// Brings the ledger up to date; losing it costs nothing but time.
fn remember(session: &mut Session, run: &RunId, outcome: &Outcome) {
    let mut news = false;
    for stage in &outcome.stages {
        if let (StageState::Failed, Some(key)) = (stage.state, stage.key) {
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
        session.project.listener.warning(&error.to_string());
    }
}
