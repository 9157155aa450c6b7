//! The plan: for each stage, whether its outputs are there already, and if not, why. A stage below one that must run
//! is pending: if its outputs have the same content as before, everything below it is a hit after all.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use contract::artifact::Digest;
use contract::{FileRequest, Numerics, Port, Trouble};
use rayon::prelude::*;

use super::differences::in_words;
use super::environment::recordable;
use super::{Failure, FileFinder, FoundFile};
use crate::cache::{
    Action, CacheError, Difference, Key, LastFailure, Ledger, Manifest, Output, Store,
};
use crate::diagnostic::AsTrouble;
use crate::graph::{Graph, StageId};

/// Fewer stages than this are assessed on one thread.
const PARALLEL_ABOVE: usize = 256;

/// Why a stage must run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No action with its key, and none of this stage to compare with.
    New,
    /// The lines of the manifest that differ from the stage's last action.
    Changed(Vec<Difference>),
    Forced,
    /// It was tried with this very key, and failed.
    Failed(LastFailure),
    /// It never succeeded, and failed with another key.
    FailedOtherwise(LastFailure),
    /// The action is there but not all of its objects.
    OutputsLost,
    /// The action is gone, though the manifest is that of the last run.
    ActionLost,
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New => formatter.write_str("never ran"),
            Self::Forced => formatter.write_str("forced"),
            Self::Failed(LastFailure { run, reason, .. }) => {
                write!(formatter, "it failed in run {run} ({reason})")
            }
            Self::FailedOtherwise(LastFailure { run, reason, .. }) => {
                let since = "it changed since it failed in run";
                write!(formatter, "{since} {run} ({reason})")
            }
            Self::OutputsLost => {
                formatter.write_str("its outputs are gone from the store or damaged")
            }
            Self::ActionLost => formatter.write_str("its action is gone from the store"),
            Self::Changed(differences) => {
                let all = in_words(differences);
                let shown = &all[..all.len().min(3)];
                formatter.write_str(&shown.join("; "))?;
                match all.len() - shown.len() {
                    0 => Ok(()),
                    more => write!(formatter, "; and {more} more"),
                }
            }
        }
    }
}

/// What is known about a stage.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Its outputs are there.
    Hit(Arc<Action>),
    Miss(Reason),
    /// Depends on the content of the outputs of these stages.
    Pending(Vec<StageId>),
    /// It cannot run.
    Broken(Trouble),
}

/// blake3 of raw files by name; `None` for an optional one that is nowhere.
type FileDigests = BTreeMap<String, Option<Digest>>;

/// The plan for one stage.
#[derive(Clone, Debug)]
pub struct StagePlan {
    pub verdict: Verdict,
    /// Known once all inputs are.
    pub manifest: Option<Manifest>,
    pub key: Option<Key>,
    /// Local paths of the raw files, by the name under which the stage asks for them.
    pub files: BTreeMap<String, FoundFile>,
    /// It is a hit of which only the ledger knows: its action is gone or damaged, and a run writes it again.
    pub is_unwritten: bool,
}

impl StagePlan {
    fn of(verdict: Verdict) -> Self {
        Self {
            verdict,
            manifest: None,
            key: None,
            files: BTreeMap::new(),
            is_unwritten: false,
        }
    }

    /// The action to be written before the stage may count as a hit, whole.
    pub(super) fn unwritten(&self) -> Option<Action> {
        if !self.is_unwritten {
            return None;
        }
        Some(Action {
            manifest: self.manifest.as_ref()?.to_text(),
            ..Action::clone(self.hit()?)
        })
    }

    pub fn hit(&self) -> Option<&Arc<Action>> {
        match &self.verdict {
            Verdict::Hit(action) => Some(action),
            _ => None,
        }
    }

    /// Why it cannot run, as events tell it.
    pub fn failure(&self) -> Option<Failure> {
        match &self.verdict {
            Verdict::Broken(trouble) => Some(Failure::of(trouble, Vec::new())),
            _ => None,
        }
    }

    /// Why the stage runs, in words; empty for a hit.
    pub fn reason(&self, graph: &Graph) -> String {
        match &self.verdict {
            Verdict::Hit(_) => String::new(),
            Verdict::Miss(reason) => reason.to_string(),
            Verdict::Broken(trouble) => trouble.message().to_owned(),
            Verdict::Pending(on) => {
                let shown = on.iter().take(3);
                let names: Vec<&str> = shown.map(|id| &*graph.stage(*id).name).collect();
                let more = if on.len() > names.len() { ", …" } else { "" };
                format!("waits for the content of {}{more}", names.join(", "))
            }
        }
    }
}

/// The plan for all stages of a graph.
#[derive(Clone, Debug)]
pub struct Plan {
    stages: Vec<StagePlan>,
}

impl Plan {
    pub fn stage(&self, id: StageId) -> &StagePlan {
        &self.stages[id.index()]
    }

    pub fn hits(&self) -> usize {
        let hits = self.stages.iter().filter(|stage| stage.hit().is_some());
        hits.count()
    }

    pub fn len(&self) -> usize {
        self.stages.len()
    }

    /// The keys of all results that are there.
    pub fn keys_of_hits(&self) -> BTreeSet<Key> {
        let hits = self.stages.iter().filter_map(StagePlan::hit);
        hits.map(|action| action.key).collect()
    }

    /// Whether what the hits stand on is still there.
    pub fn still_holds(&self, store: &Store) -> bool {
        // What is not here comes from the remote.
        if store.remote().is_some() {
            return true;
        }
        for plan in &self.stages {
            if let Some(action) = plan.hit() {
                let is_written = plan.is_unwritten || store.action_file(&action.key).is_some();
                if !is_written || !store.has_outputs(action) {
                    return false;
                }
            }
        }
        true
    }

    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// Takes over what is a hit in another plan of the same graph and a miss in this one.
    pub fn or_hits_of(&mut self, other: Self) {
        for (own, other) in self.stages.iter_mut().zip(other.stages) {
            if own.hit().is_none() && other.hit().is_some() {
                *own = other;
            }
        }
    }

    pub(super) fn into_stages(self) -> Vec<StagePlan> {
        self.stages
    }
}

/// Whether an action has something for each of these ports, and nothing else: one that was forged may not.
pub(super) fn has_all(ports: &[Port], action: &Action) -> bool {
    for port in ports {
        let is_right = match action.output(&port.name) {
            Some(output) => output.kind.is_some_and(|kind| port.accepts.accepts(kind)),
            None => port.optional,
        };
        if !is_right {
            return false;
        }
    }
    let is_known = |output: &Output| ports.iter().any(|port| port.name == output.port);
    action.outputs.iter().all(is_known)
}

/// Everything that a verdict depends on besides the graph.
pub struct Planner<'a> {
    pub graph: &'a Graph,
    pub store: &'a Store,
    pub ledger: &'a Ledger,
    pub files: &'a dyn FileFinder,
    /// Of the device that model stages run on.
    pub numeric_class: &'a str,
    pub forced: BTreeSet<StageId>,
    /// Looks up environment variables that stages ask for.
    pub environment: fn(&str) -> Option<String>,
}

impl Planner<'_> {
    /// Assesses every stage.
    pub fn plan(&self) -> Plan {
        let graph = self.graph;
        let mut stages: Vec<Option<StagePlan>> = vec![None; graph.len()];
        if graph.len() < PARALLEL_ABOVE && self.store.remote().is_none() {
            for id in graph.order() {
                stages[id.index()] = Some(self.assess_below(*id, &stages));
            }
        } else {
            for wave in graph.waves() {
                let plans: Vec<StagePlan> = wave
                    .par_iter()
                    .map(|id| self.assess_below(*id, &stages))
                    .collect();
                // The remote was asked about all misses of the wave by now; its answers are waited for together.
                for (id, plan) in wave.iter().zip(plans) {
                    stages[id.index()] = Some(self.or_from_remote(plan));
                }
            }
        }
        Plan {
            stages: stages.into_iter().flatten().collect(),
        }
    }

    /// Assesses one stage, given the plans of those above it.
    fn assess_below(&self, id: StageId, known: &[Option<StagePlan>]) -> StagePlan {
        let digest_of = |source: StageId, port: &str| {
            let action = known[source.index()].as_ref()?.hit()?;
            Some(action.output(port)?.digest)
        };
        self.assess(id, &digest_of, &[])
    }

    /// A stage that is a miss here may be a hit there.
    fn or_from_remote(&self, plan: StagePlan) -> StagePlan {
        match (&plan.verdict, plan.key) {
            (Verdict::Miss(reason), Some(key)) if *reason != Reason::Forced => {
                match self.store.remote_action(&key) {
                    Some(action) => StagePlan {
                        verdict: Verdict::Hit(action),
                        ..plan
                    },
                    None => plan,
                }
            }
            _ => plan,
        }
    }

    /// Assesses one stage, given the digests of the inputs that are known. Of what it gathers, these are left out.
    pub fn assess(
        &self,
        id: StageId,
        digest_of: &dyn Fn(StageId, &str) -> Option<Digest>,
        without: &[StageId],
    ) -> StagePlan {
        let stage = self.graph.stage(id);
        // What is missing on this machine is known before anything runs, whatever the inputs are.
        let look_up = |path: &Path| self.files.look_up(path);
        let packages = match stage.configured.packages(&look_up) {
            Ok(packages) => packages,
            Err(trouble) => return StagePlan::of(Verdict::Broken(trouble)),
        };
        let (mut inputs, mut unknown) = (Vec::new(), Vec::new());
        for (source, handoff) in self.graph.inputs(id) {
            if without.contains(&source) {
                continue;
            }
            match digest_of(source, &handoff.output) {
                Some(digest) => inputs.push((handoff.input.clone(), handoff.item.clone(), digest)),
                None => unknown.push(source),
            }
        }
        if !unknown.is_empty() {
            unknown.sort();
            unknown.dedup();
            return StagePlan::of(Verdict::Pending(unknown));
        }
        let (digests, files) = match self.raw_files(&stage.files) {
            Ok(found) => found,
            Err(trouble) => return StagePlan::of(Verdict::Broken(trouble)),
        };
        let mut environment = BTreeMap::new();
        for name in &stage.environment {
            let digest = |value: &str| self.store.digest_of_secret(name, value);
            let value = (self.environment)(name);
            let kept = value.map(|value| recordable(name, value, digest));
            environment.insert(name.clone(), kept);
        }
        let manifest = Manifest {
            kind: stage.kind.name.to_owned(),
            version: stage.kind.version,
            numeric_class: (stage.configured.numerics() == Numerics::Device)
                .then(|| self.numeric_class.to_owned()),
            seed: stage.configured.seeded().then_some(stage.seed),
            parameters: stage.parameters().clone(),
            inputs,
            files: digests,
            environment,
            packages,
        };
        let key = manifest.key();
        let (verdict, is_unwritten) = self.verdict(id, &manifest, &key);
        StagePlan {
            verdict,
            manifest: Some(manifest),
            key: Some(key),
            files,
            is_unwritten,
        }
    }

    /// The raw files of these requests by name: what enters the key, and where they are.
    fn raw_files(
        &self,
        requests: &[FileRequest],
    ) -> Result<(FileDigests, BTreeMap<String, FoundFile>), Trouble> {
        let (mut digests, mut files) = (BTreeMap::new(), BTreeMap::new());
        for request in requests {
            let name = &request.name;
            if request.is_folder() || self.files.means_many(request) {
                for (below, file) in self.files.list(request)? {
                    let name = format!("{name}/{below}");
                    digests.insert(name.clone(), Some(file.digest));
                    files.insert(name, file);
                }
            } else if let Some(file) = self.files.find(request)? {
                digests.insert(name.clone(), Some(file.digest));
                files.insert(name.clone(), file);
            } else {
                digests.insert(name.clone(), None);
            }
        }
        Ok((digests, files))
    }

    /// The verdict, and whether it is a hit whose action must be written again.
    fn verdict(&self, id: StageId, manifest: &Manifest, key: &Key) -> (Verdict, bool) {
        if self.forced.contains(&id) {
            return (Verdict::Miss(Reason::Forced), false);
        }
        let name = &self.graph.stage(id).name;
        let known = match self.known(name, key) {
            Ok(known) => known,
            Err(error) => return (Verdict::Broken(error.to_trouble()), false),
        };
        match known {
            Some((action, is_written)) if self.is_whole(id, &action) => {
                (Verdict::Hit(action), !is_written)
            }
            lost => {
                self.store.prefetch(key);
                let reason = match lost {
                    Some(_) => Reason::OutputsLost,
                    None => self.difference(name, manifest),
                };
                (Verdict::Miss(reason), false)
            }
        }
    }

    /// Whether an action has all that its stage gives, and whether that is there.
    fn is_whole(&self, id: StageId, action: &Action) -> bool {
        has_all(&self.graph.stage(id).outputs, action) && self.store.has_outputs(action)
    }

    /// The action of a key, and whether it is in the store. What the ledger says is believed as long as the action's file
    /// looks as it did then; after that, what the file says, if it can be read.
    fn known(&self, name: &str, key: &Key) -> Result<Option<(Arc<Action>, bool)>, CacheError> {
        let noted = self.ledger.find(name, key).map(Arc::clone);
        if let Some(action) = &noted
            && self.ledger.is_as_it_was(self.store, name, key)
        {
            return Ok(Some((Arc::clone(action), true)));
        }
        match self.store.action(key)? {
            Some(action) => Ok(Some((Arc::new(action), true))),
            None => Ok(noted.map(|action| (action, false))),
        }
    }

    /// What changed since the stage's last action.
    fn difference(&self, name: &str, manifest: &Manifest) -> Reason {
        if let Some(failure) = self.ledger.failure(name, &manifest.key()) {
            return Reason::Failed(failure.clone());
        }
        let last = self.ledger.stages.get(name);
        let before = last.and_then(|last| self.store.action(&last.key).ok().flatten());
        let Some(before) = before else {
            return match self.ledger.failed.get(name) {
                Some(failure) => Reason::FailedOtherwise(failure.clone()),
                None => Reason::New,
            };
        };
        let differences = Difference::between(&before.manifest, &manifest.to_text());
        if differences.is_empty() {
            Reason::ActionLost
        } else {
            Reason::Changed(differences)
        }
    }
}
