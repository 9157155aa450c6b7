//! From a located description to a checked graph: the passes in their order. Every problem is collected; what could
//! be built is returned even then, so that a failing graph can be drawn.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use contract::StageKind;

use super::check::{Budget, Common, implied_axes, prepare};
use super::cycle::{cycles, topological};
use super::expand::{Expansion, expand};
use super::leakage::leaks;
use super::once::Once;
use super::remarks::remarks;
use super::wiring::{Slot, wire};
use super::{Graph, StageId, StageNode};
use crate::diagnostic::{Diagnostic, Diagnostics, suggestion};
use crate::pipeline::{Reference, Scope, Sources, Spec, StageSpec};
use rayon::prelude::*;

/// Everything the passes share.
pub(super) struct Context<'a> {
    pub spec: &'a Spec,
    /// What `${name}` stands for outside of all axes.
    pub scope: Scope<'a>,
    /// Stage name to its position in the file.
    pub names: HashMap<&'a str, usize>,
    /// The kind of each stage, if there is one of that name.
    pub kinds: Vec<Option<&'a StageKind>>,
}

impl Context<'_> {
    pub fn stage(&self, name: &str) -> Option<usize> {
        self.names.get(name).copied()
    }
}

/// Builds the graph of a pipeline.
pub fn build(spec: &Spec, kinds: &[StageKind]) -> (Graph, Diagnostics) {
    let mut diagnostics = Diagnostics::default();
    let mut context = Context {
        spec,
        scope: spec.scope(),
        names: HashMap::new(),
        kinds: Vec::new(),
    };
    for (index, stage) in spec.stages.iter().enumerate() {
        context.names.insert(&stage.name.value, index);
        context
            .kinds
            .push(find_kind(stage, kinds, &mut diagnostics));
    }
    let needs = stage_needs(&context, &mut diagnostics);
    for cycle in cycles(&needs) {
        diagnostics.push(cycle_found(&context, &cycle));
    }
    let order = topological(&needs);
    let expansion = expand(&context, &order, &mut diagnostics);
    let (graph, unsure) = assemble(&context, &order, &expansion, &mut diagnostics);
    let file = spec.files.first().map(|(path, _)| Path::new(path));
    let folder = file.and_then(Path::parent).unwrap_or(Path::new(""));
    diagnostics.extend(remarks(&context, &graph, &unsure, folder));
    diagnostics.extend(leaks(&graph, spec));
    (graph, diagnostics)
}

fn find_kind<'k>(
    stage: &StageSpec,
    kinds: &'k [StageKind],
    diagnostics: &mut Diagnostics,
) -> Option<&'k StageKind> {
    let found = kinds.iter().find(|kind| kind.name == stage.uses.value);
    if found.is_none() {
        let names: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
        let message = format!("unknown stage kind `{}`", stage.uses.value);
        let hint = suggestion(&stage.uses.value, &names);
        diagnostics.push(
            Diagnostic::error("unknown-kind", message)
                .at(stage.uses.span)
                .maybe_hint(hint),
        );
    }
    if !stage.strays.is_empty() {
        let schema = found.map(|kind| (kind.name, kind.schema().to_value()));
        let kind = schema.as_ref().map(|(name, schema)| (*name, schema));
        diagnostics.extend(stage.strays.iter().map(|stray| stray.told(kind)));
    }
    found
}

/// For each stage the stages that it names in `from`.
fn stage_needs(context: &Context<'_>, diagnostics: &mut Diagnostics) -> Vec<Vec<usize>> {
    let scope = &context.scope;
    let mut needs = Vec::with_capacity(context.spec.stages.len());
    for stage in &context.spec.stages {
        let mut sources = Vec::new();
        if stage.from.is_templated() {
            // The names may depend on the stage's own axes.
            match stage.axes.points(scope) {
                Err(problems) => diagnostics.extend(problems),
                Ok(points) => {
                    for point in points {
                        let scope = scope.with(&point);
                        collect_needs(context, stage, &scope, &mut sources, diagnostics);
                    }
                }
            }
        } else {
            collect_needs(context, stage, scope, &mut sources, diagnostics);
        }
        needs.push(sources);
    }
    needs
}

fn collect_needs(
    context: &Context<'_>,
    stage: &StageSpec,
    scope: &Scope<'_>,
    needs: &mut Vec<usize>,
    diagnostics: &mut Diagnostics,
) {
    let sources = match stage.from.sources(scope) {
        Ok(sources) => sources,
        Err(problems) => return diagnostics.extend(problems),
    };
    for reference in references(&sources) {
        let name = &reference.stage.value;
        if let Some(source) = context.stage(name) {
            needs.push(source);
            continue;
        }
        // What is wrong with that stage was told when it was read.
        if context
            .spec
            .broken
            .iter()
            .any(|broken| broken.value == *name)
        {
            continue;
        }
        let message = format!("there is no stage `{name}`");
        let stages = context.spec.stages.iter();
        let mut others: Vec<&str> = stages.map(|other| other.name.value.as_str()).collect();
        others.retain(|other| *other != stage.name.value);
        diagnostics.push(
            Diagnostic::error("unknown-stage", message)
                .at(reference.stage.span)
                .maybe_hint(suggestion(name, &others)),
        );
    }
}

/// All that a stage names in `from`.
pub(super) fn references(sources: &Sources) -> Vec<&Reference> {
    match sources {
        Sources::None => Vec::new(),
        Sources::One(reference) => vec![reference],
        Sources::Many(references, _) => references.iter().collect(),
        Sources::Ports(ports, _) => ports.iter().flat_map(|port| &port.references).collect(),
    }
}

fn cycle_found(context: &Context<'_>, cycle: &[usize]) -> Diagnostic {
    let stages = cycle.iter().map(|stage| &context.spec.stages[*stage].name);
    let mut path: Vec<&str> = stages.clone().map(|name| name.value.as_str()).collect();
    path.push(path[0]);
    let message = format!("the stages form a cycle: {}", path.join(" -> "));
    let mut diagnostic = Diagnostic::error("cycle", message);
    for (position, name) in stages.enumerate() {
        diagnostic = match position {
            0 => diagnostic.at(name.span),
            _ => diagnostic.also(name.span, "also in the cycle"),
        };
    }
    diagnostic.hint("a stage may only take what earlier stages made; cut one of these `from`")
}

/// Prepares every instance (in parallel) and connects them (in order). Returns besides which of them have inputs that are not
/// known.
fn assemble(
    context: &Context<'_>,
    order: &[usize],
    expansion: &Expansion,
    diagnostics: &mut Diagnostics,
) -> (Graph, BTreeSet<StageId>) {
    let (scope, stages) = (&context.scope, &context.spec.stages);
    let mut schemas: HashMap<&str, serde_json::Value> = HashMap::new();
    for kind in context.kinds.iter().flatten() {
        let schema = schemas.entry(kind.name);
        schema.or_insert_with(|| kind.schema().to_value());
    }
    let mut work: Vec<Slot> = Vec::new();
    for &stage in order {
        let instances = 0..expansion.points(stage).len();
        work.extend(instances.map(|instance| (stage, instance)));
    }
    let implied = implied_axes(context.spec, scope);
    let common = Common {
        implied: &implied,
        budget: Budget::default(),
    };
    let prepare_one = |&(stage, instance): &Slot| {
        let Some(kind) = context.kinds[stage] else {
            return (None, Diagnostics::default());
        };
        let (point, schema) = (&expansion.points(stage)[instance], &schemas[kind.name]);
        let scope = scope.with(point);
        prepare(&stages[stage], kind, schema, point, &scope, &common)
    };
    let prepared = work.par_iter().with_min_len(64).map(prepare_one);
    let prepared: Vec<(Option<StageNode>, Diagnostics)> = prepared.collect();
    let (mut graph, mut unsure) = (Graph::default(), BTreeSet::new());
    let mut placed: HashMap<Slot, StageId> = HashMap::with_capacity(work.len());
    let mut told: Vec<Once> = Vec::new();
    told.resize_with(stages.len(), Once::default);
    for (slot, (node, mut problems)) in work.into_iter().zip(prepared) {
        if let Some(mut node) = node {
            node.seed = context.spec.seed;
            node.strict = context.spec.strict;
            let id = graph.add(node);
            placed.insert(slot, id);
            if !wire(context, expansion, slot, &placed, &mut graph, &mut problems) {
                unsure.insert(id);
            }
        }
        if !problems.is_empty() {
            let (stage, instance) = slot;
            let point = &expansion.points(stage)[instance];
            told[stage].add(&common.instance_name(&stages[stage], point), problems);
        }
    }
    for (stage, once) in told.into_iter().enumerate() {
        diagnostics.extend(once.told(expansion.points(stage).len()));
    }
    (graph, unsure)
}
