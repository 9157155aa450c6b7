//! From a located description to a checked graph: the passes in their order. Every problem is collected; what could
//! be built is returned even then, so that a failing graph can be drawn.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use contract::StageKind;

use super::check::{Budget, Common, implied_axes, prepare, wire};
use super::cycle::{cycles, topological};
use super::expand::{Expansion, expand};
use super::leakage::leaks;
use super::once::Once;
use super::remarks::remarks;
use super::{Graph, StageId, StageNode};
use crate::diagnostic::{Diagnostic, Diagnostics, suggestion};
use crate::pipeline::{Scope, Sources, Spec, StageSpec};
use rayon::prelude::*;

/// Everything the passes share.
pub(super) struct Context<'a> {
    pub spec: &'a Spec,
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
    let context = Context {
        spec,
        names: spec
            .stages
            .iter()
            .enumerate()
            .map(|(index, stage)| (stage.name.value.as_str(), index))
            .collect(),
        kinds: spec
            .stages
            .iter()
            .map(|stage| find_kind(stage, kinds, &mut diagnostics))
            .collect(),
    };
    let scope = spec.scope();
    let needs = stage_needs(&context, &scope, &mut diagnostics);
    for cycle in cycles(&needs) {
        diagnostics.push(cycle_found(&context, &cycle));
    }
    let order = topological(&needs);
    let expansion = expand(&context, &scope, &order, &mut diagnostics);
    let (graph, unsure) = assemble(&context, &scope, &order, &expansion, &mut diagnostics);
    let file = spec.files.first().map(|(path, _)| Path::new(path));
    let folder = file.and_then(Path::parent).unwrap_or(Path::new(""));
    diagnostics.extend(remarks(&context, &graph, &unsure, folder));
    let findings = leaks(&graph, spec);
    diagnostics.extend(findings);
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
fn stage_needs(
    context: &Context<'_>,
    scope: &Scope<'_>,
    diagnostics: &mut Diagnostics,
) -> Vec<Vec<usize>> {
    let mut needs = Vec::with_capacity(context.spec.stages.len());
    for stage in &context.spec.stages {
        let mut sources = Vec::new();
        if stage.from.is_templated() {
            // The names may depend on the stage's own axes.
            match stage.axes.points(scope) {
                Err(problems) => diagnostics.extend(problems),
                Ok(points) => {
                    for point in points {
                        collect_needs(
                            context,
                            stage,
                            &scope.with(&point),
                            &mut sources,
                            diagnostics,
                        );
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
    let references: Vec<_> = match &*sources {
        Sources::None => Vec::new(),
        Sources::One(reference) => vec![reference],
        Sources::Many(references, _) => references.iter().collect(),
        Sources::Ports(ports, _) => ports.iter().flat_map(|port| &port.references).collect(),
    };
    for reference in references {
        match context.stage(&reference.stage.value) {
            Some(source) => needs.push(source),
            // What is wrong with that stage was told when it was read.
            None if context
                .spec
                .broken
                .iter()
                .any(|name| name.value == reference.stage.value) => {}
            None => {
                let message = format!("there is no stage `{}`", reference.stage.value);
                let others = context
                    .spec
                    .stages
                    .iter()
                    .map(|other| other.name.value.as_str());
                let others: Vec<&str> = others.filter(|name| *name != stage.name.value).collect();
                let hint = suggestion(&reference.stage.value, &others);
                diagnostics.push(
                    Diagnostic::error("unknown-stage", message)
                        .at(reference.stage.span)
                        .maybe_hint(hint),
                );
            }
        }
    }
}

fn cycle_found(context: &Context<'_>, cycle: &[usize]) -> Diagnostic {
    let name = |stage: &usize| context.spec.stages[*stage].name.value.as_str();
    let mut path: Vec<&str> = cycle.iter().map(name).collect();
    path.push(path[0]);
    let message = format!("the stages form a cycle: {}", path.join(" -> "));
    let first = &context.spec.stages[cycle[0]].name;
    let mut diagnostic = Diagnostic::error("cycle", message).at(first.span);
    for stage in &cycle[1..] {
        diagnostic = diagnostic.also(context.spec.stages[*stage].name.span, "also in the cycle");
    }
    diagnostic.hint("a stage may only take what earlier stages made; cut one of these `from`")
}

/// Prepares every instance (in parallel) and connects them (in order). Returns besides which of them have inputs that are not
/// known.
fn assemble(
    context: &Context<'_>,
    scope: &Scope<'_>,
    order: &[usize],
    expansion: &Expansion,
    diagnostics: &mut Diagnostics,
) -> (Graph, BTreeSet<StageId>) {
    let kinds: HashMap<&str, &StageKind> = context
        .kinds
        .iter()
        .flatten()
        .map(|kind| (kind.name, *kind))
        .collect();
    let schemas: HashMap<&str, serde_json::Value> = kinds
        .into_iter()
        .map(|(name, kind)| (name, kind.schema().to_value()))
        .collect();
    let work: Vec<(usize, usize)> = order
        .iter()
        .flat_map(|stage| (0..expansion.points(*stage).len()).map(|instance| (*stage, instance)))
        .collect();
    let implied = implied_axes(context.spec, scope);
    let common = Common {
        implied: &implied,
        budget: Budget::default(),
    };
    let prepared: Vec<(Option<StageNode>, Diagnostics)> = work
        .par_iter()
        .with_min_len(64)
        .map(|(stage, instance)| {
            let Some(kind) = context.kinds[*stage] else {
                return (None, Diagnostics::default());
            };
            let point = &expansion.points(*stage)[*instance];
            let (stage, schema) = (&context.spec.stages[*stage], &schemas[kind.name]);
            prepare(stage, kind, schema, point, &scope.with(point), &common)
        })
        .collect();
    let (mut graph, mut unsure) = (Graph::default(), BTreeSet::new());
    let mut placed: HashMap<(usize, usize), StageId> = HashMap::with_capacity(work.len());
    let mut told: Vec<Once> = context
        .spec
        .stages
        .iter()
        .map(|_| Once::default())
        .collect();
    for (slot, (node, mut problems)) in work.into_iter().zip(prepared) {
        if let Some(node) = node {
            let id = graph.add(StageNode {
                seed: context.spec.seed,
                strict: context.spec.strict,
                ..node
            });
            placed.insert(slot, id);
            if !wire(
                context,
                expansion,
                scope,
                slot,
                id,
                &placed,
                &mut graph,
                &mut problems,
            ) {
                unsure.insert(id);
            }
        }
        if !problems.is_empty() {
            let (stage, instance) = slot;
            let name = common.instance_name(
                &context.spec.stages[stage],
                &expansion.points(stage)[instance],
            );
            told[stage].add(&name, problems);
        }
    }
    for (stage, once) in told.into_iter().enumerate() {
        diagnostics.extend(once.told(expansion.points(stage).len()));
    }
    (graph, unsure)
}
