//! Executing a plan: one coordinator that owns all state, worker threads that run stages, a publisher that makes
//! their outputs durable. Everything that happens reaches the coordinator as a message, in one place, in order.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use contract::artifact::Artifact;
use contract::{Device, Doubt, Trouble};
use indexmap::IndexMap;

use super::plan::{Planner, StagePlan, Verdict, has_all};
use super::schedule::{Schedule, Status};
use super::work::{Job, JobInput, Shared, WorkResult, refused};
use super::{CancelToken, Event, Failure, Plan, Reason, Reporter};
use crate::cache::{Action, Publisher, RunId, RunStatus, StageRecord, StageState, Store};
use crate::diagnostic::AsTrouble;
use crate::graph::{Graph, Needs, StageId};

/// How often a key that another process works on is looked at again.
const POLL: Duration = Duration::from_millis(20);

/// How a run is to be executed; none of it changes any output.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Stages that may run at the same time.
    pub jobs: usize,
    pub threads: usize,
    pub device: Device,
    /// Bytes of memory that stages may declare at the same time.
    pub memory: u64,
    pub gpus: usize,
    /// Continue with what does not depend on a failed stage.
    pub keep_going: bool,
}

/// What workers, stages and the publisher tell the coordinator.
pub(super) enum Message {
    Event(Event),
    Started(StageId),
    Finished(StageId, WorkResult),
    Published(StageId, Result<(), Trouble>),
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    pub status: RunStatus,
    pub seconds: f64,
    /// In the order of the graph.
    pub stages: Vec<StageRecord>,
    /// The actions on which the stages stand, by the stage's number.
    pub actions: BTreeMap<StageId, Arc<Action>>,
    pub failures: Vec<(String, Failure)>,
    /// Stages that were interrupted at work.
    pub interrupted: Vec<Interrupted>,
}

/// A stage that was interrupted at work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interrupted {
    pub stage: String,
    /// Whether its work is lost: it left no checkpoint from which it can continue.
    pub is_lost: bool,
}

/// Runs what the plan says must run.
pub fn execute(
    planner: &Planner<'_>,
    plan: Plan,
    store: &Arc<Store>,
    options: &RunOptions,
    run: &RunId,
    cancel: &CancelToken,
    reporter: &mut dyn Reporter,
) -> Outcome {
    silence_panics_of_stages();
    let (messages, inbox) = channel();
    let publisher = Publisher::new(Arc::clone(store));
    let shared = Shared {
        store,
        publisher: &publisher,
        cancel,
        device: options.device,
        files: planner.files,
        messages: messages.clone(),
    };
    let (jobs, queue) = channel::<Box<Job>>();
    let queue = Mutex::new(queue);
    let graph = planner.graph;
    let total = Needs {
        threads: options.threads.max(1),
        memory: options.memory,
        gpus: options.gpus,
    };
    // A stage probably takes as long as the last time; of one that never ran nothing is known.
    let guess = |id: StageId| {
        let last = planner.ledger.stages.get(&graph.stage(id).name);
        last.map_or(1.0, |action| action.seconds)
    };
    let mut coordinator = Coordinator {
        planner,
        graph,
        options,
        cancel,
        reporter,
        schedule: Schedule::new(graph, total, guess),
        plans: plan.into_stages(),
        actions: BTreeMap::new(),
        artifacts: BTreeMap::new(),
        held: BTreeMap::new(),
        rerun: BTreeSet::new(),
        unpublished: BTreeSet::new(),
        published_early: BTreeMap::new(),
        records: BTreeMap::new(),
        failures: Vec::new(),
        interrupted: Vec::new(),
        running: 0,
    };
    let started = Instant::now();
    coordinator.announce(run);
    let is_done = |plan: &StagePlan| plan.hit().is_some() && plan.unwritten().is_none();
    let everything_done = coordinator.plans.iter().all(is_done);
    std::thread::scope(|scope| {
        // No threads for a run in which nothing is left to do.
        if !everything_done {
            for worker in 0..options.jobs.max(1) {
                let (shared, queue) = (&shared, &queue);
                let _ = std::thread::Builder::new()
                    .name(format!("{WORKER}{worker}"))
                    .spawn_scoped(scope, move || work(shared, queue));
            }
        }
        coordinator.run(&jobs, &inbox);
        // The workers end when there are no more jobs to come.
        drop(jobs);
    });
    let outcome = coordinator.conclude(run, started.elapsed());
    publisher.finish();
    outcome
}

/// What a worker does: job after job, until there are no more.
fn work(shared: &Shared<'_>, queue: &Mutex<Receiver<Box<Job>>>) {
    loop {
        let job = queue.lock().map(|queue| queue.recv());
        let Ok(Ok(job)) = job else { return };
        let result = shared.perform(&job);
        let finished = Message::Finished(job.id, result);
        if shared.messages.send(finished).is_err() {
            return;
        }
    }
}

/// Prefix of the names of worker threads.
const WORKER: &str = "stage-";

/// A stage that panics is reported as a failure; the default message on standard error would tear the display.
fn silence_panics_of_stages() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let default = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let thread = std::thread::current();
            let inside_stage = thread.name().is_none_or(|name| name.starts_with(WORKER));
            if inside_stage {
                tracing::debug!("panic in a stage: {info}");
            } else {
                default(info);
            }
        }));
    });
}

struct Coordinator<'a> {
    planner: &'a Planner<'a>,
    graph: &'a Graph,
    options: &'a RunOptions,
    cancel: &'a CancelToken,
    reporter: &'a mut dyn Reporter,
    schedule: Schedule<'a>,
    plans: Vec<StagePlan>,
    /// Settled stages.
    actions: BTreeMap<StageId, Arc<Action>>,
    /// Outputs held in memory for stages that have not run yet, with the number of those.
    artifacts: BTreeMap<(StageId, String), (Artifact, usize)>,
    /// Stages whose key another process works on, with the time of the next look.
    held: BTreeMap<StageId, Instant>,
    /// Stages that must run although their action is known.
    rerun: BTreeSet<StageId>,
    /// Computed, but not yet on disk.
    unpublished: BTreeSet<StageId>,
    /// On disk, though the worker has not reported yet: the publisher may be faster.
    published_early: BTreeMap<StageId, Result<(), Trouble>>,
    records: BTreeMap<StageId, StageRecord>,
    failures: Vec<(String, Failure)>,
    interrupted: Vec<Interrupted>,
    running: usize,
}

impl Coordinator<'_> {
    fn announce(&mut self, run: &RunId) {
        let hits = self.plans.iter().filter(|plan| plan.hit().is_some());
        self.reporter.on(&Event::RunStarted {
            run: run.clone(),
            stages: self.graph.len(),
            hits: hits.count(),
        });
    }

    fn run(&mut self, jobs: &Sender<Box<Job>>, inbox: &Receiver<Message>) {
        // What cannot run on this machine is said before anything is done for it.
        for &stage in self.graph.order() {
            if let Verdict::Broken(trouble) = self.plans[stage.index()].verdict.clone()
                && self.schedule.status(stage) == Status::Waiting
            {
                self.fail(stage, trouble);
            }
        }
        for &stage in self.graph.order() {
            if self.schedule.is_unblocked(stage) && self.schedule.status(stage) == Status::Waiting {
                self.decide(stage, false);
            }
        }
        loop {
            self.look_at_held();
            if self.cancel.is_cancelled() {
                self.stop("interrupted");
            }
            while self.running < self.options.jobs.max(1)
                && let Some(stage) = self.schedule.take()
            {
                self.start(stage, jobs);
            }
            if self.schedule.is_finished() && self.unpublished.is_empty() {
                return;
            }
            if self.running == 0 && self.held.is_empty() && self.unpublished.is_empty() {
                // Nothing can move any more: what waits, waits for something that failed.
                self.stop("something that it needs did not finish");
                return;
            }
            let patience = if self.held.is_empty() {
                Duration::from_millis(100)
            } else {
                POLL
            };
            match inbox.recv_timeout(patience) {
                Ok(message) => {
                    self.on(message);
                    for message in inbox.try_iter() {
                        self.on(message);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Everything that the stage needs is settled: is it a hit, or must it run?
    fn decide(&mut self, stage: StageId, again: bool) {
        let gathers_some = self.schedule.without(stage).next().is_some();
        if again || gathers_some || matches!(self.plans[stage.index()].verdict, Verdict::Pending(_))
        {
            let actions = &self.actions;
            let digest =
                |source: StageId, port: &str| Some(actions.get(&source)?.output(port)?.digest);
            let without: Vec<StageId> = self.schedule.without(stage).collect();
            self.plans[stage.index()] = self.planner.assess(stage, &digest, &without);
            if self.rerun.contains(&stage) && self.plans[stage.index()].hit().is_some() {
                self.plans[stage.index()].verdict = Verdict::Miss(Reason::OutputsLost);
            }
        }
        let verdict = self.plans[stage.index()].verdict.clone();
        let refusal = match &verdict {
            Verdict::Hit(action) if self.graph.stage(stage).strict => refused(&action.doubts),
            _ => None,
        };
        if let Some(trouble) = refusal {
            return self.fail(stage, trouble);
        }
        match verdict {
            Verdict::Hit(action) if !self.rerun.contains(&stage) => match self.write_again(stage) {
                Ok(true) => {
                    self.finish(stage, StageState::Hit, &action, 0.0);
                    self.settle(stage, action);
                }
                Ok(false) => {
                    self.plans[stage.index()].verdict = Verdict::Miss(Reason::OutputsLost);
                    self.schedule.queue(stage);
                }
                Err(trouble) => self.fail(stage, trouble),
            },
            Verdict::Broken(trouble) => self.fail(stage, trouble),
            _ => self.schedule.queue(stage),
        }
    }

    /// A hit has its action in the store: one that only the ledger knew of is written again. `false` if its objects went just
    /// now, so that it is no hit any more.
    fn write_again(&self, stage: StageId) -> Result<bool, Trouble> {
        let Some(action) = self.plans[stage.index()].unwritten() else {
            return Ok(true);
        };
        match self.planner.store.write_actions(&[&action]) {
            Ok(written) => Ok(written > 0),
            Err(error) => Err(error.to_trouble()),
        }
    }

    fn settle(&mut self, stage: StageId, action: Arc<Action>) {
        self.actions.insert(stage, action);
        for next in self.schedule.settle(stage) {
            // One before it may have failed, and then the rest was skipped.
            if self.schedule.status(next) == Status::Waiting {
                self.decide(next, false);
            }
        }
    }

    fn start(&mut self, stage: StageId, jobs: &Sender<Box<Job>>) {
        if !self.schedule.is_unblocked(stage) {
            // While it was queued, an input turned out to be damaged; its stage runs again first.
            return self.schedule.release(stage);
        }
        let node = self.graph.stage(stage);
        let plan = &self.plans[stage.index()];
        let (Some(manifest), Some(key)) = (plan.manifest.clone(), plan.key) else {
            self.schedule.release(stage);
            return self.fail(stage, Trouble::new("it has no manifest"));
        };
        let mut inputs = Vec::new();
        for (source, handoff) in self.graph.inputs(stage) {
            if self.schedule.goes_without(stage, source) {
                continue;
            }
            let action = self.actions.get(&source);
            let record = action.and_then(|action| action.output(&handoff.output));
            let Some(record) = record.cloned() else {
                self.schedule.release(stage);
                let source = &self.graph.stage(source).name;
                let message = format!("{source} gave no output `{}`", handoff.output);
                return self.fail(stage, Trouble::new(message));
            };
            let held = self.artifacts.get(&(source, handoff.output.clone()));
            inputs.push(JobInput {
                port: handoff.input.clone(),
                item: handoff.item.clone(),
                source,
                record,
                artifact: held.map(|(artifact, _)| artifact.clone()),
            });
        }
        let forced = matches!(plan.verdict, Verdict::Miss(Reason::Forced));
        let job = Job {
            id: stage,
            stage: node.clone(),
            manifest,
            key,
            inputs,
            files: plan.files.clone(),
            variable: self.planner.environment,
            rerun: self.rerun.contains(&stage) || forced,
            forced,
            doubts: self.missing_instances(stage).into_iter().collect(),
        };
        self.running += 1;
        let _ = jobs.send(Box::new(job));
    }

    /// What to say of a stage that gathers fewer instances than there are.
    fn missing_instances(&self, stage: StageId) -> Option<Doubt> {
        const LISTED: usize = 5;
        let missing: Vec<StageId> = self.schedule.without(stage).collect();
        let mut names = Vec::with_capacity(missing.len());
        for source in &missing {
            names.push(self.graph.stage(*source).name.as_str());
        }
        let more = match names.len().saturating_sub(LISTED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        names.truncate(LISTED);
        let (count, all) = (missing.len(), self.graph.needs(stage).len());
        let message = format!(
            "{count} of {all} instances are missing: {}{more}",
            names.join(", ")
        );
        let doubt = Doubt::new("missing-instances", message);
        (count > 0).then(|| doubt.hint("what is gathered here is of the others alone"))
    }

    fn on(&mut self, message: Message) {
        match message {
            Message::Event(event) => self.reporter.on(&event),
            Message::Started(stage) => {
                let node = self.graph.stage(stage);
                let event = Event::StageStarted {
                    stage: node.name.clone(),
                    kind: node.kind.name,
                    reason: self.reason(stage),
                };
                self.reporter.on(&event);
            }
            Message::Finished(stage, result) => {
                self.running -= 1;
                self.schedule.release(stage);
                self.on_finished(stage, result);
            }
            Message::Published(stage, result) => {
                if self.unpublished.remove(&stage) {
                    self.on_published(stage, result);
                } else {
                    self.published_early.insert(stage, result);
                }
            }
        }
    }

    /// The outputs are safe, or could not be written: then the stage has failed after all.
    fn on_published(&mut self, stage: StageId, result: Result<(), Trouble>) {
        if let Err(trouble) = result {
            self.actions.remove(&stage);
            self.fail(stage, trouble);
        }
    }

    fn on_finished(&mut self, stage: StageId, result: WorkResult) {
        match result {
            WorkResult::Hit(action) => {
                self.finish(stage, StageState::Hit, &action, 0.0);
                self.settle(stage, Arc::new(action));
            }
            WorkResult::Held => {
                if self.held.insert(stage, Instant::now() + POLL).is_none() {
                    let name = self.graph.stage(stage).name.clone();
                    self.reporter.on(&Event::StageWaiting { stage: name });
                }
            }
            WorkResult::Computed(action, artifacts) => {
                self.rerun.remove(&stage);
                self.release_inputs(stage);
                for (port, artifact) in artifacts {
                    let consumers = self.graph.consumers(stage, &port);
                    if consumers > 0 {
                        self.artifacts.insert((stage, port), (artifact, consumers));
                    }
                }
                self.finish(stage, StageState::Ran, &action, action.seconds);
                self.settle(stage, Arc::new(action));
                match self.published_early.remove(&stage) {
                    Some(result) => self.on_published(stage, result),
                    None => drop(self.unpublished.insert(stage)),
                }
            }
            WorkResult::InputLost(source) => self.recompute(source, stage),
            WorkResult::Failed(trouble) => {
                self.release_inputs(stage);
                self.fail(stage, trouble);
            }
            WorkResult::Cancelled { is_lost } => {
                // It waits again, and is skipped with whatever else is open.
                self.interrupted.push(Interrupted {
                    stage: self.graph.stage(stage).name.clone(),
                    is_lost,
                });
            }
        }
    }

    /// The outputs of `source` are damaged: it runs again, and `consumer` waits for it.
    fn recompute(&mut self, source: StageId, consumer: StageId) {
        if let Some(action) = self.actions.remove(&source) {
            self.planner.store.forget(&action);
        }
        let note = "its stored outputs are damaged or missing; it runs again".to_owned();
        self.reporter.on(&Event::StageNote {
            stage: self.graph.stage(source).name.clone(),
            text: note,
        });
        self.plans[consumer.index()].verdict = Verdict::Pending(vec![source]);
        if self.schedule.status(source) == Status::Settled {
            self.schedule.unsettle(source);
            self.rerun.insert(source);
            self.plans[source.index()].verdict = Verdict::Miss(Reason::OutputsLost);
            self.decide(source, false);
        }
    }

    /// A stage has its inputs behind it: outputs that nobody waits for any more leave memory.
    fn release_inputs(&mut self, stage: StageId) {
        for (source, handoff) in self.graph.inputs(stage) {
            let slot = (source, handoff.output.clone());
            if let Some((_, waiting)) = self.artifacts.get_mut(&slot) {
                *waiting -= 1;
                if *waiting == 0 {
                    self.artifacts.remove(&slot);
                }
            }
        }
    }

    fn look_at_held(&mut self) {
        let now = Instant::now();
        for (stage, at) in self.held.clone() {
            if at > now {
                continue;
            }
            let Some(key) = self.plans[stage.index()].key else {
                continue;
            };
            if self.schedule.status(stage) != Status::Waiting {
                // It is queued or looked at by a worker, who will tell; to settle it here would free it twice.
                self.held.insert(stage, now + POLL);
                continue;
            }
            match self.planner.store.usable_action(&key) {
                Ok(Some(action))
                    if !self.rerun.contains(&stage)
                        && has_all(&self.graph.stage(stage).outputs, &action) =>
                {
                    self.held.remove(&stage);
                    self.finish(stage, StageState::Hit, &action, 0.0);
                    self.settle(stage, Arc::new(action));
                }
                _ => {
                    self.held.insert(stage, now + POLL);
                    self.schedule.queue(stage);
                }
            }
        }
    }

    fn reason(&self, stage: StageId) -> String {
        self.plans[stage.index()].reason(self.graph)
    }

    fn finish(&mut self, stage: StageId, state: StageState, action: &Action, seconds: f64) {
        self.held.remove(&stage);
        let mut digests = IndexMap::with_capacity(action.outputs.len());
        for output in &action.outputs {
            digests.insert(output.port.clone(), output.record.digest);
        }
        let node = self.graph.stage(stage);
        let reason = if state == StageState::Hit {
            String::new()
        } else {
            self.reason(stage)
        };
        let record = StageRecord {
            name: node.name.clone(),
            kind: node.kind.name.to_owned(),
            state,
            key: Some(action.key),
            digests: digests.clone(),
            seconds,
            reason: reason.clone(),
            causes: Vec::new(),
            doubts: action.doubts.clone(),
            findings: action.findings.clone(),
        };
        self.records.insert(stage, record);
        for doubt in &action.doubts {
            self.reporter.on(&Event::StageDoubt {
                stage: node.name.clone(),
                doubt: doubt.clone(),
            });
        }
        self.reporter.on(&Event::StageFinished {
            stage: node.name.clone(),
            kind: node.kind.name,
            state,
            key: Some(action.key),
            digests,
            seconds,
            bytes: action.bytes(),
            reason,
        });
    }

    fn fail(&mut self, stage: StageId, mut trouble: Trouble) {
        let node = self.graph.stage(stage);
        if trouble.hint_text().is_none() {
            let look_up = |path: &Path| self.planner.files.look_up(path);
            let said = trouble.causes().join("\n");
            trouble = trouble.maybe_hint(node.configured.advice(&said, &look_up));
        }
        let mut inputs = Vec::new();
        if let Some(manifest) = &self.plans[stage.index()].manifest {
            for (port, item, digest) in &manifest.inputs {
                inputs.push(match item {
                    Some(item) => format!("{port}[{item}] {}", digest.short()),
                    None => format!("{port} {}", digest.short()),
                });
            }
        }
        let failure = Failure::of(&trouble, inputs);
        let causes = failure.causes.clone();
        self.record_without_outputs(stage, StageState::Failed, &failure.message, causes);
        self.reporter.on(&Event::StageFailed {
            stage: node.name.clone(),
            kind: node.kind.name,
            failure: failure.clone(),
        });
        self.failures.push((node.name.clone(), failure));
        let consequences = self.schedule.fail(stage, self.options.keep_going);
        for skipped in consequences.skipped {
            self.skip(skipped, &format!("it needs {}", node.name));
        }
        for next in consequences.unblocked {
            self.decide(next, true);
        }
        if !self.options.keep_going {
            self.stop("another stage failed");
        }
    }

    fn stop(&mut self, why: &str) {
        self.held.clear();
        for stage in self.schedule.skip_rest() {
            self.skip(stage, why);
        }
    }

    fn skip(&mut self, stage: StageId, why: &str) {
        self.record_without_outputs(stage, StageState::Skipped, why, Vec::new());
        self.held.remove(&stage);
        let node = self.graph.stage(stage);
        self.reporter.on(&Event::StageFinished {
            stage: node.name.clone(),
            kind: node.kind.name,
            state: StageState::Skipped,
            key: None,
            digests: IndexMap::new(),
            seconds: 0.0,
            bytes: 0,
            reason: why.to_owned(),
        });
    }

    fn record_without_outputs(
        &mut self,
        stage: StageId,
        state: StageState,
        reason: &str,
        causes: Vec<String>,
    ) {
        let node = self.graph.stage(stage);
        let record = StageRecord {
            name: node.name.clone(),
            kind: node.kind.name.to_owned(),
            state,
            key: self.plans[stage.index()].key,
            digests: IndexMap::new(),
            seconds: 0.0,
            reason: reason.to_owned(),
            causes,
            doubts: Vec::new(),
            findings: Vec::new(),
        };
        self.records.insert(stage, record);
    }

    fn conclude(self, run: &RunId, elapsed: Duration) -> Outcome {
        let count = |state: StageState| {
            let records = self.records.values();
            records.filter(|record| record.state == state).count()
        };
        let status = match () {
            () if !self.failures.is_empty() => RunStatus::Failed,
            () if self.cancel.is_cancelled() && count(StageState::Skipped) > 0 => {
                RunStatus::Interrupted
            }
            // No matter what kept them from running, the run did not do what it was asked for.
            () if count(StageState::Skipped) > 0 => RunStatus::Failed,
            () => RunStatus::Done,
        };
        let seconds = elapsed.as_secs_f64();
        self.reporter.on(&Event::RunFinished {
            run: run.clone(),
            status,
            seconds,
            ran: count(StageState::Ran),
            hits: count(StageState::Hit),
            failed: count(StageState::Failed),
            skipped: count(StageState::Skipped),
        });
        let mut records = self.records;
        let order = self.graph.order().iter();
        Outcome {
            status,
            seconds,
            stages: order.filter_map(|stage| records.remove(stage)).collect(),
            actions: self.actions,
            failures: self.failures,
            interrupted: self.interrupted,
        }
    }
}
