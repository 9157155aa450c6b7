//! Executing stages again in a separate store, beside the original: all of them, a part on the original inputs, or single
//! ones. The engine executes; this file decides what it gets to see. The original store is read and never written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use contract::Trouble;
use contract::artifact::Digest;

use super::{Lock, LockedStage};
use crate::cache::{Action, CacheError, Ledger, ObjectRecord, RunId, RunStatus, Store};
use crate::diagnostic::AsTrouble;
use crate::engine::{CancelToken, FileFinder, Planner, Reporter, RunOptions, Verdict, execute};
use crate::graph::{Graph, StageId};

/// What an execution needs besides a store.
pub struct Reexecution<'a> {
    pub graph: &'a Graph,
    /// What is recorded.
    pub lock: &'a Lock,
    /// Where the recorded outputs may be.
    pub original: &'a Store,
    pub files: &'a dyn FileFinder,
    pub numeric_class: &'a str,
    pub environment: fn(&str) -> Option<String>,
    pub options: &'a RunOptions,
    pub cancel: &'a CancelToken,
}

/// What is to be done again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    Everything,
    /// These, which hang together, on the original outputs of all others.
    Part(BTreeSet<String>),
    /// Each of these alone, on original inputs.
    Single(BTreeSet<String>),
}

/// What became of a stage that was done again.
#[derive(Clone, Debug)]
pub struct Actual {
    pub kind: String,
    pub seconds: f64,
    pub failure: Option<String>,
    /// With its manifest; `None` if the stage has no outputs.
    pub action: Option<Arc<Action>>,
}

/// Why a re-execution cannot be carried through.
#[derive(Debug)]
pub enum Obstacle {
    Interrupted,
    /// The recorded outputs of this stage are needed as inputs, and are not there.
    NoOriginal(String),
    Trouble(Trouble),
}

impl From<CacheError> for Obstacle {
    fn from(error: CacheError) -> Self {
        Self::Trouble(error.to_trouble())
    }
}

/// The stages that were done again, by name.
pub type Actuals = BTreeMap<String, Actual>;

impl Reexecution<'_> {
    /// Does the stages of `scope` again in `shadow`.
    ///
    /// # Errors
    /// If it is interrupted, or original outputs that it needs are not there.
    pub fn run(
        &self,
        scope: &Scope,
        shadow: &Arc<Store>,
        reporter: &mut dyn Reporter,
    ) -> Result<Actuals, Obstacle> {
        match scope {
            Scope::Everything => self.execute(
                self.graph,
                &Ledger::default(),
                BTreeSet::new(),
                shadow,
                reporter,
                &|_| true,
            ),
            Scope::Part(names) => {
                let is_part = |name: &str| names.contains(name);
                let graph = self.graph.prune(&in_order(self.graph, &is_part));
                let ledger = self.originals(&graph, shadow, &|name| !is_part(name))?;
                self.execute(&graph, &ledger, BTreeSet::new(), shadow, reporter, &is_part)
            }
            Scope::Single(names) => {
                let mut actuals = Actuals::new();
                for id in in_order(self.graph, &|name| names.contains(name)) {
                    let name = &self.graph.stage(id).name;
                    actuals.extend(self.single(name, shadow, reporter)?);
                }
                Ok(actuals)
            }
        }
    }

    /// Does one stage again on the original outputs of those that it takes from.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn single(
        &self,
        name: &str,
        shadow: &Arc<Store>,
        reporter: &mut dyn Reporter,
    ) -> Result<Actuals, Obstacle> {
        let is_it = |other: &str| other == name;
        let graph = self.graph.prune(&in_order(self.graph, &is_it));
        let ledger = self.originals(&graph, shadow, &|other| other != name)?;
        // It must run, also where the first execution left its outputs in the shadow store.
        let forced = in_order(&graph, &is_it).into_iter().collect();
        self.execute(&graph, &ledger, forced, shadow, reporter, &is_it)
    }

    fn planner<'p>(
        &'p self,
        graph: &'p Graph,
        store: &'p Store,
        ledger: &'p Ledger,
        forced: BTreeSet<StageId>,
    ) -> Planner<'p> {
        Planner {
            graph,
            store,
            ledger,
            files: self.files,
            numeric_class: self.numeric_class,
            forced,
            environment: self.environment,
        }
    }

    fn execute(
        &self,
        graph: &Graph,
        ledger: &Ledger,
        forced: BTreeSet<StageId>,
        shadow: &Arc<Store>,
        reporter: &mut dyn Reporter,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<Actuals, Obstacle> {
        let planner = self.planner(graph, shadow, ledger, forced);
        let outcome = execute(
            &planner,
            planner.plan(),
            shadow,
            self.options,
            &RunId::now(),
            self.cancel,
            reporter,
        );
        if outcome.status == RunStatus::Interrupted {
            return Err(Obstacle::Interrupted);
        }
        let mut actuals = Actuals::new();
        for &id in graph.order() {
            let stage = graph.stage(id);
            if !wanted(&stage.name) {
                continue;
            }
            let mut failures = outcome.failures.iter();
            let failure = failures.find(|(name, _)| *name == stage.name);
            let mut records = outcome.stages.iter();
            let record = records.find(|record| record.name == stage.name);
            let action = match outcome.actions.get(&id) {
                Some(action) => Some(with_manifest(action, shadow)?),
                None => None,
            };
            let actual = Actual {
                kind: stage.kind.name.to_owned(),
                seconds: record.map_or(0.0, |record| record.seconds),
                failure: failure.map(|(_, failure)| failure.message.clone()),
                action,
            };
            actuals.insert(stage.name.clone(), actual);
        }
        Ok(actuals)
    }

    /// Makes the original outputs of some stages known to the shadow store: under the keys that the stages have now, so that
    /// they are taken as they are even where the machine or a file has changed since.
    fn originals(
        &self,
        graph: &Graph,
        shadow: &Store,
        which: &dyn Fn(&str) -> bool,
    ) -> Result<Ledger, Obstacle> {
        let mut ledger = Ledger::default();
        let nothing = Ledger::default();
        let planner = self.planner(graph, shadow, &nothing, BTreeSet::new());
        let digest = |source: StageId, port: &str| -> Option<Digest> {
            self.lock.output(&graph.stage(source).name, port)
        };
        for &id in graph.order() {
            let name = &graph.stage(id).name;
            if !which(name) {
                continue;
            }
            let missing = || Obstacle::NoOriginal(name.clone());
            let locked = self.lock.stages.get(name).ok_or_else(missing)?;
            let action = original_action(self.original, locked)?.ok_or_else(missing)?;
            let plan = planner.assess(id, &digest, &[]);
            if let Verdict::Broken(trouble) = plan.verdict {
                return Err(Obstacle::Trouble(trouble));
            }
            let key = plan.key.ok_or_else(missing)?;
            for record in action.objects() {
                borrow(self.original, shadow, record)?;
            }
            ledger.give(
                name,
                Arc::new(Action {
                    key,
                    manifest: String::new(),
                    ..action
                }),
            );
        }
        Ok(ledger)
    }
}

/// The stages of a graph with these names, in its order.
fn in_order(graph: &Graph, wanted: &dyn Fn(&str) -> bool) -> Vec<StageId> {
    let mut ids = graph.order().to_vec();
    ids.retain(|id| wanted(&graph.stage(*id).name));
    ids
}

/// The action behind a recorded stage, if the store has it and it says what the record says.
pub fn original_action(store: &Store, locked: &LockedStage) -> Result<Option<Action>, CacheError> {
    let action = store.usable_action(&locked.key)?;
    Ok(action.filter(|action| action.digests() == locked.outputs))
}

fn with_manifest(action: &Arc<Action>, store: &Store) -> Result<Arc<Action>, CacheError> {
    if !action.manifest.is_empty() {
        return Ok(Arc::clone(action));
    }
    Ok(store
        .action(&action.key)?
        .map_or_else(|| Arc::clone(action), Arc::new))
}

/// Makes an object of one store readable through another, without copying it where that can be avoided.
fn borrow(from: &Store, to: &Store, record: &ObjectRecord) -> Result<(), CacheError> {
    let (source, target) = (from.layout().object(record), to.layout().object(record));
    if to.is_present(record) {
        return Ok(());
    }
    let parent = target.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(CacheError::io("create", parent))?;
    // Not a symbolic link: nothing in a store is followed.
    let linked = fs::hard_link(&source, &target).or_else(|_| fs::copy(&source, &target).map(drop));
    linked.map_err(CacheError::io("write", &target))
}
