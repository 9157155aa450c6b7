//! The course of an audit: execute the stages again, compare their outputs with what is recorded, and gather the facts for
//! a verdict on each.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use contract::Trouble;
use contract::artifact::Artifact;

use super::LockedStage;
use super::compare::{Closeness, compare};
use super::metric_values::{metrics_of, misquoted};
use super::reexecute::{Actual, Actuals, Obstacle, Reexecution, Scope, original_action};
use super::tolerances::Tolerances;
use super::verdict::{AuditReport, Facts, PortAudit, StageAudit, Verdict, judge};
use crate::cache::{Action, Difference, Store};
use crate::engine::Reporter;
use crate::graph::{StageId, StageNode};

/// What is to be audited, and how.
pub struct Audit<'a> {
    pub reexecution: Reexecution<'a>,
    pub scope: Scope,
    pub tolerances: &'a Tolerances,
    /// Execute everything twice: a stage that disagrees with itself is not deterministic.
    pub twice: bool,
    /// Do what seems to inherit a difference once more, on the original inputs.
    pub confirm: bool,
}

impl Audit<'_> {
    /// Does the stages again below `folder`, which must be empty, and compares.
    ///
    /// # Errors
    /// If it is interrupted, or something that it needs is not there.
    pub fn run(&self, folder: &Path, reporter: &mut dyn Reporter) -> Result<AuditReport, Obstacle> {
        let started = Instant::now();
        let shadow = Arc::new(Store::open(folder).with_salt_of(self.reexecution.original));
        shadow.prepare()?;
        let first = self.reexecution.run(&self.scope, &shadow, reporter)?;
        let mut second = Actuals::new();
        if self.twice {
            // A separate store: checkpoints of the first execution would spare the second one its work.
            let other = Arc::new(
                Store::open(&folder.join("second")).with_salt_of(self.reexecution.original),
            );
            other.prepare()?;
            second = self.reexecution.run(&self.scope, &other, reporter)?;
        }
        let mut stages = Vec::with_capacity(first.len());
        for &id in self.reexecution.graph.order() {
            if let Some(actual) = first.get(&self.reexecution.graph.stage(id).name) {
                stages.push(self.examine(id, actual, &second, &shadow, reporter)?);
            }
        }
        let locked = &self.reexecution.lock.stages;
        let graph = self.reexecution.graph;
        let known: BTreeSet<&String> = graph
            .order()
            .iter()
            .map(|id| &graph.stage(*id).name)
            .collect();
        for (name, locked) in locked {
            let is_asked_for = match &self.scope {
                Scope::Everything => true,
                Scope::Part(names) | Scope::Single(names) => names.contains(name),
            };
            if is_asked_for && !known.contains(name) {
                stages.push(no_more(name, locked));
            }
        }
        let left_out = locked.len().saturating_sub(stages.len());
        let seconds = started.elapsed().as_secs_f64();
        Ok(AuditReport::new(stages, left_out, seconds))
    }

    fn examine(
        &self,
        id: StageId,
        actual: &Actual,
        second: &Actuals,
        shadow: &Arc<Store>,
        reporter: &mut dyn Reporter,
    ) -> Result<StageAudit, Obstacle> {
        let node = self.reexecution.graph.stage(id);
        let locked = self.reexecution.lock.stages.get(&node.name);
        let mut facts = Facts {
            recorded: locked.is_some(),
            executed: actual.action.is_some(),
            failure: actual.failure.clone(),
            ..Facts::default()
        };
        if let (Some(action), Some(second)) = (&actual.action, second.get(&node.name)) {
            facts.unstable = unstable(action, second);
        }
        if let (Some(locked), Some(action)) = (locked, &actual.action) {
            if locked.manifest.is_empty() {
                facts.unknown_change = locked.key != action.key;
            } else {
                facts.differences = Difference::between(&locked.manifest, &action.manifest);
            }
            facts.ports = self.compare(node, locked, action, shadow)?;
            if locked.outputs == action.digests() {
                facts.misquoted = misquoted(&locked.metrics, &metrics_of(action, shadow)?);
            }
        }
        let (mut verdict, mut reason) = judge(&facts);
        if self.confirm && verdict == Verdict::Inherited {
            facts.on_original_inputs = self.on_original_inputs(node, locked, shadow, reporter)?;
            (verdict, reason) = judge(&facts);
        }
        Ok(StageAudit {
            stage: node.name.clone(),
            kind: actual.kind.clone(),
            verdict,
            reason,
            differences: facts.differences,
            established: facts.on_original_inputs == Some(true),
            ports: facts.ports,
            seconds: actual.seconds,
        })
    }

    /// Whether the stage makes the recorded outputs from the original inputs; `None` if these are not available.
    fn on_original_inputs(
        &self,
        node: &StageNode,
        locked: Option<&LockedStage>,
        shadow: &Arc<Store>,
        reporter: &mut dyn Reporter,
    ) -> Result<Option<bool>, Obstacle> {
        let again = match self.reexecution.single(&node.name, shadow, reporter) {
            Err(Obstacle::NoOriginal(_)) => return Ok(None),
            other => other?,
        };
        let actual = again.get(&node.name);
        let action = actual.and_then(|actual| actual.action.as_ref());
        let (Some(locked), Some(action)) = (locked, action) else {
            return Ok(Some(false));
        };
        for port in self.compare(node, locked, action, shadow)? {
            if port
                .closeness
                .is_none_or(|closeness| closeness == Closeness::Beyond)
            {
                return Ok(Some(false));
            }
        }
        Ok(Some(true))
    }

    fn compare(
        &self,
        node: &StageNode,
        locked: &LockedStage,
        now: &Action,
        shadow: &Store,
    ) -> Result<Vec<PortAudit>, Obstacle> {
        let original = self.reexecution.original;
        let then = original_action(original, locked)?;
        let digests = now.digests();
        let ports: BTreeSet<&String> = locked.outputs.keys().chain(digests.keys()).collect();
        let mut audits = Vec::with_capacity(ports.len());
        for port in ports {
            let mut audit = PortAudit {
                port: port.clone(),
                then: locked.outputs.get(port).copied(),
                now: digests.get(port).copied(),
                closeness: Some(Closeness::Bitwise),
                tolerance: self.tolerances.of(node, port),
                leaves: Vec::new(),
                compared: 0,
            };
            if audit.then != audit.now {
                let old = then.as_ref().and_then(|then| stored(original, then, port));
                match (old, stored(shadow, now, port)) {
                    (Some(then), Some(now)) => measure(&mut audit, &then, &now)?,
                    // One of the two made no such output: how close they are is not the question.
                    _ if audit.then.is_none() || audit.now.is_none() => {
                        audit.closeness = Some(Closeness::Beyond)
                    }
                    _ => audit.closeness = None,
                }
            }
            audits.push(audit);
        }
        Ok(audits)
    }
}

fn measure(audit: &mut PortAudit, then: &Artifact, now: &Artifact) -> Result<(), Obstacle> {
    if then.kind() != now.kind() {
        audit.closeness = Some(Closeness::Beyond);
        return Ok(());
    }
    let mut leaves = compare(then, now, &audit.tolerance).map_err(|error| {
        let message = format!("the output `{}` cannot be compared", audit.port);
        Obstacle::Trouble(Trouble::new(message).with_causes(vec![error.to_string()]))
    })?;
    audit.compared = leaves.len();
    leaves.retain(|leaf| leaf.closeness != Closeness::Bitwise);
    // The digests differ: were no array to differ, something would have been overlooked.
    let worst = leaves.iter().map(|leaf| leaf.closeness).max();
    audit.closeness = worst.or(Some(Closeness::Beyond));
    audit.leaves = leaves;
    Ok(())
}

fn stored(store: &Store, action: &Action, port: &str) -> Option<Artifact> {
    store.load(action.output(port)?).ok()
}

/// What two executions on the same inputs disagree about: outputs, most of the time.
fn unstable(first: &Action, second: &Actual) -> Vec<String> {
    let mut found = Vec::new();
    let Some(action) = &second.action else {
        // If a stage before it failed, that stage's audit says so.
        if second.failure.is_some() {
            found.push("whether it succeeds".to_owned());
        }
        return found;
    };
    if action.key != first.key {
        // Of other inputs, too, an earlier stage's audit says so.
        let differences = Difference::between(&first.manifest, &action.manifest);
        if !differences
            .iter()
            .all(|difference| difference.path.starts_with("inputs."))
        {
            found.push("what determines it".to_owned());
        }
        return found;
    }
    let (first, second) = (first.digests(), action.digests());
    let ports: BTreeSet<&String> = first.keys().chain(second.keys()).collect();
    for port in ports {
        if first.get(port) != second.get(port) {
            found.push(port.clone());
        }
    }
    found
}

/// A stage of the record that the pipeline does not have.
fn no_more(name: &str, locked: &LockedStage) -> StageAudit {
    StageAudit {
        stage: name.to_owned(),
        kind: locked.kind(),
        verdict: Verdict::InputChanged,
        reason: "the pipeline no longer has it".to_owned(),
        differences: Vec::new(),
        established: false,
        ports: Vec::new(),
        seconds: 0.0,
    }
}
