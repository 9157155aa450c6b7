//! The course of an audit: do the stages again, compare what came out with what is recorded, and gather the facts for a
//! verdict on each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use contract::artifact::{Artifact, Digest};

use super::LockedStage;
use super::compare::{Closeness, compare};
use super::figures::{metrics_of, misquoted, outputs_of};
use super::reexecute::{Actual, Actuals, Obstacle, Reexecution, Scope, original_action};
use super::tolerances::Tolerances;
use super::verdict::{AuditReport, Facts, PortAudit, StageAudit, Verdict, judge};
use crate::cache::{Action, Difference, Store};
use crate::engine::{Failure, Reporter};
use crate::graph::{StageId, StageNode};

/// What is to be audited, and how.
pub struct Audit<'a> {
    pub reexecution: Reexecution<'a>,
    pub scope: Scope,
    pub tolerances: &'a Tolerances,
    /// Do everything twice: whoever disagrees with itself is not deterministic.
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
            // A store of its own: checkpoints of the first execution would spare the second one its work.
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
        let known: BTreeSet<&str> = graph
            .order()
            .iter()
            .map(|id| graph.stage(*id).name.as_str())
            .collect();
        let asked = |name: &String| match &self.scope {
            Scope::Everything => true,
            Scope::Part(names) | Scope::Single(names) => names.contains(name),
        };
        let gone = locked
            .iter()
            .filter(|(name, _)| asked(name) && !known.contains(name.as_str()));
        stages.extend(gone.map(|(name, locked)| no_more(name, locked)));
        let left_out = locked.len().saturating_sub(stages.len());
        Ok(AuditReport::new(
            stages,
            left_out,
            started.elapsed().as_secs_f64(),
        ))
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
        if let Some(action) = &actual.action {
            facts.unstable = second
                .get(&node.name)
                .map(|second| unstable(action, second))
                .unwrap_or_default();
        }
        if let (Some(locked), Some(action)) = (locked, &actual.action) {
            if locked.manifest.is_empty() {
                facts.unknown_change = locked.key != action.key;
            } else {
                facts.differences = Difference::between(&locked.manifest, &action.manifest);
            }
            facts.ports = self.compare(node, locked, action, shadow)?;
            if locked.outputs == outputs_of(action) {
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

    /// Whether the stage comes to the recorded outputs on the original inputs; `None` if these are not at hand.
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
        let action = again
            .get(&node.name)
            .and_then(|actual| actual.action.as_ref());
        let Some((locked, action)) = locked.zip(action) else {
            return Ok(Some(false));
        };
        let ports = self.compare(node, locked, action, shadow)?;
        Ok(Some(ports.iter().all(|port| {
            port.closeness
                .is_some_and(|closeness| closeness < Closeness::Beyond)
        })))
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
        let digests: BTreeMap<&String, Digest> = now
            .outputs
            .iter()
            .map(|output| (&output.port, output.record.digest))
            .collect();
        let ports: BTreeSet<&String> = locked
            .outputs
            .keys()
            .chain(digests.keys().copied())
            .collect();
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
                let stored = |store: &Store, action: Option<&Action>| -> Option<Artifact> {
                    store.load(action?.output(port)?).ok()
                };
                match (stored(original, then.as_ref()), stored(shadow, Some(now))) {
                    (Some(then), Some(now)) => measure(&mut audit, &then, &now)?,
                    // One of the two made no such output: that is no question of how close they are.
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
        let mut failure = Failure::new(format!("the output `{}` cannot be compared", audit.port));
        failure.causes.push(error.to_string());
        Obstacle::Failure(failure)
    })?;
    audit.compared = leaves.len();
    leaves.retain(|leaf| leaf.closeness != Closeness::Bitwise);
    // The digests differ: were no array to differ, something would have been overlooked.
    let worst = leaves
        .iter()
        .map(|leaf| leaf.closeness)
        .max()
        .unwrap_or(Closeness::Beyond);
    audit.closeness = Some(worst);
    audit.leaves = leaves;
    Ok(())
}

/// What two executions on the same inputs disagree about: outputs, most of the time.
fn unstable(first: &Action, second: &Actual) -> Vec<String> {
    let Some(second) = &second.action else {
        // What failed before it is that stage's affair.
        return second
            .failure
            .iter()
            .map(|_| "whether it succeeds".to_owned())
            .collect();
    };
    if second.key != first.key {
        let differences = Difference::between(&first.manifest, &second.manifest);
        let own = differences
            .iter()
            .any(|difference| !difference.path.starts_with("inputs."));
        return own
            .then(|| "what determines it".to_owned())
            .into_iter()
            .collect();
    }
    let digest = |action: &Action, port: &str| action.output(port).map(|record| record.digest);
    let differs = |port: &&String| digest(first, port) != digest(second, port);
    let ports: BTreeSet<&String> = first
        .outputs
        .iter()
        .chain(&second.outputs)
        .map(|output| &output.port)
        .collect();
    ports.into_iter().filter(differs).cloned().collect()
}

/// A stage of the record that the pipeline does not have.
fn no_more(name: &str, locked: &LockedStage) -> StageAudit {
    StageAudit {
        stage: name.to_owned(),
        kind: locked.kind(),
        verdict: Verdict::InputChanged,
        reason: "the pipeline has it no more".to_owned(),
        differences: Vec::new(),
        established: false,
        ports: Vec::new(),
        seconds: 0.0,
    }
}
