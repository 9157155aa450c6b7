//! What a worker does for one stage: take the lease, load the inputs, run the stage, write the outputs as objects.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use contract::artifact::Artifact;
use contract::{Device, Doubt, Host, Inputs, StageContext, Threads, Trouble};
use indexmap::IndexMap;

use super::execute::Message;
use super::host::{Scratch, StageHost};
use super::plan::has_all;
use super::raw_files::RawFiles;
use super::{CancelToken, Event, Failure, FileFinder, FoundFile};
use crate::cache::{
    Action, CacheError, HeldFiles, Key, Lease, LeaseAttempt, Manifest, ObjectRecord, Output,
    Publisher, Staged, Store,
};
use crate::diagnostic::AsTrouble;
use crate::graph::{StageId, StageNode};

/// One input of a job.
pub(super) struct JobInput {
    pub port: String,
    pub item: Option<String>,
    pub source: StageId,
    pub record: ObjectRecord,
    /// The artifact itself, if its stage ran in this process and it is still held.
    pub artifact: Option<Artifact>,
}

/// One execution of one stage.
pub(super) struct Job {
    pub id: StageId,
    pub stage: StageNode,
    pub manifest: Manifest,
    pub key: Key,
    pub inputs: Vec<JobInput>,
    pub files: BTreeMap<String, FoundFile>,
    /// Looks up environment variables; the manifest does not hold those that are secret.
    pub variable: fn(&str) -> Option<String>,
    /// An action of this key that is in the store is no reason not to run.
    pub rerun: bool,
    /// The user wants it to be done from the start.
    pub forced: bool,
    /// What is doubtful before it has begun.
    pub doubts: Vec<Doubt>,
}

/// How a job ended.
pub(super) enum WorkResult {
    /// Another process had finished the key meanwhile.
    Hit(Action),
    /// Another process works on the key.
    Held,
    Computed(Action, IndexMap<String, Artifact>),
    /// An object made by this stage is missing or damaged.
    InputLost(StageId),
    Failed(Trouble),
    /// Whether work is lost: the stage left no checkpoint from which it can continue.
    Cancelled {
        is_lost: bool,
    },
}

/// What all workers share.
pub(super) struct Shared<'a> {
    pub store: &'a Arc<Store>,
    pub publisher: &'a Publisher,
    pub cancel: &'a CancelToken,
    pub device: Device,
    /// Finds what users name.
    pub files: &'a dyn FileFinder,
    pub messages: Sender<Message>,
}

impl Shared<'_> {
    /// Does the job, as often as its stage allows.
    pub fn perform(&self, job: &Job) -> WorkResult {
        let lease = match self.store.lease(&job.key) {
            Ok(LeaseAttempt::Taken(lease)) => lease,
            Ok(LeaseAttempt::Held) => return WorkResult::Held,
            Err(error) => return WorkResult::Failed(error.to_trouble()),
        };
        if !job.rerun
            && let Ok(Some(action)) = self.store.find_action(&job.key)
            && has_all(&job.stage.outputs, &action)
        {
            return WorkResult::Hit(action);
        }
        let mut lease = Some(lease);
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.attempt(job, &mut lease) {
                WorkResult::Failed(trouble)
                    if attempt <= job.stage.retries && !self.cancel.is_cancelled() =>
                {
                    let _ = self.messages.send(Message::Event(Event::StageRetried {
                        stage: job.stage.name.clone(),
                        attempt,
                        failure: Failure::of(&trouble, Vec::new()),
                    }));
                    self.pause(Duration::from_millis(100) * 2_u32.pow(attempt.min(6)));
                }
                other => return other,
            }
        }
    }

    /// Waits, unless the user wants an end.
    fn pause(&self, time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < time && !self.cancel.is_cancelled() {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn attempt(&self, job: &Job, lease: &mut Option<Lease>) -> WorkResult {
        let mut stored = Vec::new();
        for input in &job.inputs {
            if input.artifact.is_none() {
                stored.push(&input.record);
            }
        }
        if let Err(error) = self.store.fetch(&stored) {
            return WorkResult::Failed(error.to_trouble());
        }
        // What did not come because the user wants an end is not lost.
        if self.cancel.is_cancelled() {
            return WorkResult::Cancelled { is_lost: false };
        }
        let mut inputs = Inputs::default();
        // Until the stage has ended, no collection of garbage takes its files away.
        let mut held = Vec::with_capacity(job.inputs.len());
        for input in &job.inputs {
            match self.load(input) {
                Ok((artifact, files)) => {
                    inputs.add(&input.port, input.item.as_deref().unwrap_or(""), artifact);
                    held.push(files);
                }
                Err(error) if error.is_loss() => return WorkResult::InputLost(input.source),
                Err(error) => return WorkResult::Failed(error.to_trouble()),
            }
        }
        let _ = self.messages.send(Message::Started(job.id));
        let host = self.host(job);
        for doubt in &job.doubts {
            host.doubt(doubt.clone());
        }
        let started = Instant::now();
        let result = self.run(job, &inputs, &host);
        let seconds = started.elapsed().as_secs_f64();
        let unchanged = host.files.check();
        let outputs = match result {
            Ok(outputs) => outputs,
            Err(_) if self.cancel.is_cancelled() => {
                return WorkResult::Cancelled {
                    is_lost: !host.has_advanced.load(Ordering::Relaxed),
                };
            }
            Err(stopped) if host.was_late.load(Ordering::Relaxed) => {
                let limit = job.stage.timeout.unwrap_or_default();
                let late = Trouble::new(format!("it ran longer than {limit:?}"))
                    .with_causes(stopped.causes().to_vec())
                    .hint("raise `timeout`, or give the stage less to do");
                return WorkResult::Failed(late);
            }
            // A file that changed under the stage may be why it failed.
            Err(trouble) => return WorkResult::Failed(unchanged.err().unwrap_or(trouble)),
        };
        if let Err(changed) = unchanged {
            return WorkResult::Failed(changed);
        }
        let doubts = host
            .doubts
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        if job.stage.strict
            && let Some(trouble) = refused(&doubts)
        {
            return WorkResult::Failed(trouble);
        }
        let findings = host
            .findings
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let said = (doubts, findings);
        match self.publish(job, outputs, seconds, said, lease) {
            Ok((action, artifacts)) => WorkResult::Computed(action, artifacts),
            Err(trouble) => WorkResult::Failed(trouble),
        }
    }

    fn load(&self, input: &JobInput) -> Result<(Artifact, HeldFiles), CacheError> {
        match &input.artifact {
            Some(artifact) => self.store.hold_files(artifact),
            None => self.store.hold_files(&self.store.load(&input.record)?),
        }
    }

    fn host(&self, job: &Job) -> StageHost<'_> {
        let mut environment = BTreeMap::new();
        for name in &job.stage.environment {
            if let Some(value) = (job.variable)(name) {
                environment.insert(name.clone(), value);
            }
        }
        StageHost {
            stage: job.stage.name.clone(),
            key: job.key,
            from_the_start: job.forced,
            store: Arc::clone(self.store),
            cancel: self.cancel.clone(),
            deadline: job.stage.timeout.map(|limit| Instant::now() + limit),
            finder: self.files,
            files: RawFiles::new(job.files.clone()),
            environment,
            scratch: Scratch::new(self.store),
            messages: self.messages.clone(),
            doubts: Mutex::default(),
            findings: Mutex::default(),
            last_progress: Mutex::new(None),
            began_at: AtomicU64::new(0),
            has_advanced: AtomicBool::new(false),
            was_late: AtomicBool::new(false),
        }
    }

    fn run(
        &self,
        job: &Job,
        inputs: &Inputs,
        host: &StageHost<'_>,
    ) -> Result<IndexMap<String, Artifact>, Trouble> {
        let stage = &job.stage;
        let context = StageContext {
            device: self.device,
            threads: stage.needs.threads,
            memory: (stage.needs.memory > 0).then_some(stage.needs.memory),
            seed: stage.seed,
            lineage: job.manifest.lineage(),
            host,
        };
        let run = || stage.configured.run(inputs, &context);
        // The process's pool is the program's own matter; a stage gets as many threads as it was promised.
        let needs_pool = stage.configured.threads() == Threads::All
            && stage.needs.threads != rayon::current_num_threads();
        let result = catch_unwind(AssertUnwindSafe(|| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(stage.needs.threads);
            if needs_pool && let Ok(pool) = pool.build() {
                pool.install(run)
            } else {
                run()
            }
        }));
        let outputs = match result {
            Ok(Ok(outputs)) => outputs.into_map(),
            Ok(Err(trouble)) => return Err(trouble),
            Err(panic) => return Err(panicked(panic.as_ref())),
        };
        for port in &stage.outputs {
            match outputs.get(&port.name) {
                Some(artifact) if port.accepts.accepts(artifact.kind()) => {}
                Some(artifact) => {
                    let (kind, expected) = (artifact.kind(), port.accepts.name());
                    return Err(bug(format!(
                        "output `{}` is {kind}, not {expected}",
                        port.name
                    )));
                }
                None if port.optional => {}
                None => return Err(bug(format!("it made no output `{}`", port.name))),
            }
        }
        Ok(outputs)
    }

    /// Writes the outputs as objects and hands the action to the publisher.
    fn publish(
        &self,
        job: &Job,
        outputs: IndexMap<String, Artifact>,
        seconds: f64,
        (doubts, findings): (Vec<Doubt>, Vec<String>),
        lease: &mut Option<Lease>,
    ) -> Result<(Action, IndexMap<String, Artifact>), Trouble> {
        let inputs = job.inputs.iter();
        let known: Vec<ObjectRecord> = inputs.map(|input| input.record.clone()).collect();
        let mut staged = Staged::default();
        let mut records = Vec::with_capacity(outputs.len());
        let mut stored = IndexMap::with_capacity(outputs.len());
        for (port, artifact) in outputs {
            let record = self.publisher.stage(&artifact, &known, &mut staged);
            let record = record.map_err(|error| error.to_trouble())?;
            // Files that lie in the scratch folder go with it; from now on they are read from the store.
            let layout = self.store.layout();
            let artifact = artifact.with_blobs_at(|digest| layout.object_named(digest, ""));
            stored.insert(port.clone(), artifact);
            records.push(Output { port, record });
        }
        let finished = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let action = Action {
            key: job.key,
            kind: job.stage.kind.name.to_owned(),
            outputs: records,
            seconds,
            finished: u64::try_from(finished.as_millis()).unwrap_or(u64::MAX),
            runner: env!("CARGO_PKG_VERSION").to_owned(),
            doubts,
            findings,
            manifest: job.manifest.to_text(),
        };
        let (messages, id) = (self.messages.clone(), job.id);
        self.publisher
            .publish(action.clone(), staged, lease.take(), move |result| {
                let result = result.map_err(|error| error.to_trouble());
                let _ = messages.send(Message::Published(id, result));
            });
        Ok((action, stored))
    }
}

/// Why a strict pipeline does not take an output that stands on something doubtful.
pub(super) fn refused(doubts: &[Doubt]) -> Option<Trouble> {
    let (first, others) = doubts.split_first()?;
    let mut causes = Vec::with_capacity(others.len());
    for doubt in others {
        causes.push(doubt.message.clone());
    }
    let trouble = Trouble::new(format!("the pipeline is strict, and {}", first.message));
    Some(trouble.with_causes(causes).maybe_hint(first.hint.clone()))
}

fn bug(message: String) -> Trouble {
    Trouble::new(message).hint("this is a fault of the stage kind, not of the pipeline")
}

/// A panic as a failure: the stage is lost, the run is not.
fn panicked(payload: &(dyn Any + Send)) -> Trouble {
    let text = if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else if let Some(text) = payload.downcast_ref::<&str>() {
        text
    } else {
        "no message"
    };
    bug(format!("it panicked: {text}"))
}
