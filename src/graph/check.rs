//! Pass: each instance by itself: parameters against the kind's schema, defaults, ranges.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use contract::{Configured, StageKind};
use serde_json::Value;

use super::expand::part_of;
use super::{Needs, StageNode};
use crate::diagnostic::{Diagnostic, Diagnostics, suggestion};
use crate::pipeline::limits::MOST_PARAMETERS;
use crate::pipeline::{
    Node, Point, Scope, Spec, StageSpec, beside_with, substitute_where_possible, validate,
    validate_rest,
};

/// What parameters may still take: each of many instances has its own copy of what the file holds once.
#[derive(Default)]
pub(super) struct Budget(AtomicU64);

impl Budget {
    /// Whether so many bytes more are still within it.
    fn spend(&self, bytes: u64) -> bool {
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        before.saturating_add(bytes) <= MOST_PARAMETERS
    }
}

/// What all instances of a pipeline share while they are prepared.
pub(super) struct Common<'a> {
    /// Axes that names leave out.
    pub implied: &'a BTreeSet<String>,
    pub budget: Budget,
}

impl Common<'_> {
    /// The name of an instance of a stage.
    pub fn instance_name(&self, stage: &StageSpec, point: &Point) -> String {
        let stage = &stage.name.value;
        let told = part_of(point, |axis| !self.implied.contains(axis));
        match told.is_empty() {
            true => stage.clone(),
            false => format!("{stage}[{}]", told.label()),
        }
    }
}

/// Substitutes, validates and completes the parameters of one instance. If something is wrong with them, the instance
/// comes with the ports of its kind nevertheless, so that its connections can be checked in the same report; there is
/// none if the ports depend on the parameters.
pub(super) fn prepare(
    spec: &StageSpec,
    kind: &StageKind,
    schema: &Value,
    point: &Point,
    scope: &Scope<'_>,
    common: &Common<'_>,
) -> (Option<StageNode>, Diagnostics) {
    let name = common.instance_name(spec, point);
    match complete(spec, kind, schema, scope, &common.budget) {
        Ok(configured) => {
            let node = instance(spec, kind, point, name, configured);
            let problems = tolerated_ports(spec, &node);
            (Some(node), problems)
        }
        Err(problems) => {
            if kind.ports_vary {
                return (None, problems);
            }
            let stand_in = kind.example().map(|example| StageNode {
                stands_in: true,
                files: Vec::new(),
                environment: Vec::new(),
                learns: Vec::new(),
                faulty: true,
                ..instance(spec, kind, point, name, example)
            });
            (stand_in, problems)
        }
    }
}

/// The parameters of an instance with values for references and defaults.
fn complete(
    spec: &StageSpec,
    kind: &StageKind,
    schema: &Value,
    scope: &Scope<'_>,
    budget: &Budget,
) -> Result<Configured, Diagnostics> {
    // Instances of a stage have most problems alike: which of them has one is added where it matters.
    let subject = format!("stage `{}`", spec.name.value);
    let (with, substituted) = match &spec.with {
        Some(with) => substitute_where_possible(with, scope),
        None => (Node::empty(spec.uses.span), Ok(())),
    };
    if let Err(mut problems) = substituted {
        problems.extend(beside_with(&with, validate_rest(&with, schema, &subject)));
        return Err(problems);
    }
    if !budget.spend(with.weight()) {
        let most = MOST_PARAMETERS >> 20;
        let message = format!(
            "with `{}` the parameters of all stages have more than {most} MiB",
            spec.name.value
        );
        return Err(Diagnostic::error("too-large", message)
            .at(spec.name.span)
            .into());
    }
    beside_with(&with, validate(&with, schema, &subject)).unless_any(())?;
    let bad = |reason: String, parameter: &str| {
        Diagnostic::error("bad-value", format!("{subject}: {reason}")).at(with.locate(parameter))
    };
    let configured = kind
        .parse(with.to_json_of(schema))
        .map_err(|reason| bad(reason, ""))?;
    match configured.check() {
        Ok(()) => Ok(configured),
        Err(fault) => Err(bad(fault.reason, &fault.parameter).into()),
    }
}

fn instance(
    spec: &StageSpec,
    kind: &StageKind,
    point: &Point,
    name: String,
    configured: Configured,
) -> StageNode {
    StageNode {
        name,
        stage: spec.name.value.clone(),
        kind: *kind,
        point: point
            .iter()
            .map(|(axis, value)| (axis.to_owned(), value.to_json()))
            .collect(),
        members: Vec::new(),
        inputs: configured.inputs(),
        outputs: configured.outputs(),
        files: configured.files(),
        environment: configured.environment(),
        learns: configured.learns(),
        needs: Needs {
            threads: spec.resources.cpus.unwrap_or(0) as usize,
            memory: spec.resources.memory.unwrap_or(0),
            gpus: spec.resources.gpus.unwrap_or(0) as usize,
        },
        seed: 0,
        strict: false,
        retries: spec.retries,
        timeout: spec.timeout,
        tolerance: spec
            .tolerance
            .iter()
            .map(|(port, tolerance)| (port.value.clone(), *tolerance))
            .collect(),
        span: spec.name.span,
        faulty: false,
        configured,
        stands_in: false,
    }
}

/// A tolerance is about an output that there is.
fn tolerated_ports(spec: &StageSpec, node: &StageNode) -> Diagnostics {
    let mut problems = Diagnostics::default();
    let ports: Vec<&str> = node.outputs.iter().map(|port| port.name.as_str()).collect();
    for (port, _) in &spec.tolerance {
        let (stage, name) = (&node.stage, port.value.as_str());
        if ports.contains(&name) {
            continue;
        }
        let message = format!("stage `{stage}` has no output `{name}` that could be tolerated");
        let hint = suggestion(name, &ports);
        problems.push(
            Diagnostic::error("unknown-port", message)
                .at(port.span)
                .maybe_hint(hint),
        );
    }
    problems
}

/// The axes whose values others decide wherever they stand: names of instances do without them.
pub(super) fn implied_axes(spec: &Spec, scope: &Scope<'_>) -> BTreeSet<String> {
    let (mut everywhere, mut free) = (BTreeSet::new(), BTreeSet::new());
    for stage in &spec.stages {
        for (name, implied) in stage.axes.implied(scope) {
            match implied {
                true => everywhere.insert(name),
                false => free.insert(name),
            };
        }
    }
    &everywhere - &free
}
