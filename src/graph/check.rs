//! Pass: each instance by itself (parameters against the kind's schema, defaults, ranges) and its connections
//! (ports exist, types fit, nothing is missing or taken twice).

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};

use contract::{Configured, Port, StageKind};
use serde_json::{Map, Value};

use super::build::Context;
use super::expand::Expansion;
use super::remarks::connected;
use super::{Graph, Handoff, Needs, StageId, StageNode};
use crate::diagnostic::{Diagnostic, Diagnostics, Span, Spanned, suggestion};
use crate::pipeline::limits::MOST_PARAMETERS;
use crate::pipeline::{
    Node, Point, PortSources, Reference, Scope, Sources, Spec, StageSpec, beside_with,
    substitute_where_possible, validate, validate_rest,
};

/// What parameters may still take: each of many instances has its own copy of what the file holds once.
#[derive(Default)]
pub(super) struct Budget(AtomicU64);

impl Budget {
    /// Whether so many bytes more are still within it.
    fn spend(&self, bytes: u64) -> bool {
        self.0
            .fetch_add(bytes, Ordering::Relaxed)
            .saturating_add(bytes)
            <= MOST_PARAMETERS
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
        instance_name(&stage.name.value, point, self.implied)
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
            let stand_in = if kind.ports_vary {
                None
            } else {
                kind.example()
            };
            let node = stand_in.map(|configured| StageNode {
                stands_in: true,
                files: Vec::new(),
                environment: Vec::new(),
                learns: Vec::new(),
                faulty: true,
                ..instance(spec, kind, point, name, configured)
            });
            (node, problems)
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
    let with = spec
        .with
        .as_ref()
        .map(|with| substitute_where_possible(with, scope));
    let with = match with {
        None => None,
        Some((with, Ok(()))) => Some(with),
        Some((rest, Err(mut problems))) => {
            problems.extend(beside_with(&rest, validate_rest(&rest, schema, &subject)));
            return Err(problems);
        }
    };
    if !budget.spend(with.as_ref().map_or(0, Node::weight)) {
        let most = MOST_PARAMETERS >> 20;
        let message = format!(
            "with `{}` the parameters of all stages have more than {most} MiB",
            spec.name.value
        );
        return Err(Diagnostic::error("too-large", message)
            .at(spec.name.span)
            .into());
    }
    let empty = Node::empty(spec.uses.span);
    let written = with.as_ref().unwrap_or(&empty);
    beside_with(written, validate(written, schema, &subject)).unless_any(())?;
    let given = with
        .as_ref()
        .map_or_else(|| Value::Object(Map::new()), |with| with.to_json_of(schema));
    let blame = |path: &str| {
        with.as_ref()
            .map_or(spec.uses.span, |with| with.locate(path))
    };
    let configured = kind.parse(given).map_err(|reason| {
        Diagnostic::error("bad-value", format!("{subject}: {reason}")).at(blame(""))
    })?;
    configured.check().map_err(|fault| {
        let message = format!("{subject}: {}", fault.reason);
        Diagnostic::error("bad-value", message).at(blame(&fault.parameter))
    })?;
    Ok(configured)
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
    for (port, _) in spec
        .tolerance
        .iter()
        .filter(|(port, _)| !ports.contains(&port.value.as_str()))
    {
        let message = format!(
            "stage `{}` has no output `{}` that could be tolerated",
            node.stage, port.value
        );
        let hint = suggestion(&port.value, &ports);
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
    let axes: Vec<(String, bool)> = spec
        .stages
        .iter()
        .flat_map(|stage| stage.axes.implied(scope))
        .collect();
    let (implied, free): (Vec<_>, Vec<_>) = axes.into_iter().partition(|(_, implied)| *implied);
    implied
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| free.iter().all(|(other, _)| other != name))
        .collect()
}

fn instance_name(stage: &str, point: &Point, implied: &BTreeSet<String>) -> String {
    let told: Point = point
        .iter()
        .filter(|(axis, _)| !implied.contains(*axis))
        .map(|(axis, node)| (axis.into(), node.clone()))
        .collect();
    if told.is_empty() {
        stage.to_owned()
    } else {
        format!("{stage}[{}]", told.label())
    }
}

/// Connects one instance to those that it takes from. Returns whether it is known what it takes.
#[expect(clippy::too_many_arguments, reason = "the state of the pass")]
pub(super) fn wire(
    context: &Context<'_>,
    expansion: &Expansion,
    scope: &Scope<'_>,
    (stage, instance): (usize, usize),
    id: StageId,
    placed: &HashMap<(usize, usize), StageId>,
    graph: &mut Graph,
    diagnostics: &mut Diagnostics,
) -> bool {
    let spec = &context.spec.stages[stage];
    let point = &expansion.points(stage)[instance];
    let Ok(sources) = spec.from.sources(&scope.with(point)) else {
        return false;
    };
    let mut wiring = Wiring {
        context,
        expansion,
        placed,
        graph,
        spec,
        point,
        id,
        edges: Vec::new(),
        broken: false,
    };
    let mut found = Diagnostics::default();
    match &*sources {
        Sources::None => {}
        Sources::One(reference) => wiring.one(reference, &mut found),
        Sources::Many(references, span) => wiring.many(references, *span, &mut found),
        Sources::Ports(ports, _) => ports.iter().for_each(|port| wiring.port(port, &mut found)),
    }
    wiring.check_complete(&mut found);
    let (edges, broken) = (wiring.edges, wiring.broken);
    if !broken {
        // Outputs that come with an input that is not there do not exist.
        let connected = |input: &str| edges.iter().any(|(_, handoff)| handoff.input == input);
        graph.dag[id.0]
            .outputs
            .retain(|output| output.only_with.is_none_or(connected));
    }
    for (order, (source, handoff)) in edges.into_iter().enumerate() {
        graph
            .dag
            .add_edge(source.0, id.0, Handoff { order, ..handoff });
    }
    graph.dag[id.0].faulty |= !found.is_empty();
    diagnostics.extend(found);
    !broken
}

struct Wiring<'a> {
    context: &'a Context<'a>,
    expansion: &'a Expansion,
    placed: &'a HashMap<(usize, usize), StageId>,
    graph: &'a Graph,
    spec: &'a StageSpec,
    point: &'a Point,
    id: StageId,
    edges: Vec<(StageId, Handoff)>,
    /// Something was wrong with a source already: what is missing because of it is not told again.
    broken: bool,
}

impl Wiring<'_> {
    fn node(&self) -> &StageNode {
        self.graph.stage(self.id)
    }

    fn fail(&mut self, diagnostic: Diagnostic, diagnostics: &mut Diagnostics) {
        self.broken = true;
        diagnostics.push(diagnostic);
    }

    /// The instances that a reference stands for here, each with the label of the axes that are gathered.
    fn instances(&mut self, reference: &Reference) -> Vec<(StageId, String)> {
        let Some(source) = self.context.stage(&reference.stage.value) else {
            self.broken = true;
            return Vec::new();
        };
        let mut found = Vec::new();
        for index in self.expansion.matching(source, self.point) {
            match self.placed.get(&(source, index)) {
                None => self.broken = true,
                Some(id) => {
                    let point = &self.expansion.points(source)[index];
                    let gathered = point
                        .iter()
                        .filter(|(axis, _)| self.point.get(axis).is_none());
                    let gathered = gathered.fold(Point::default(), |point, (axis, value)| {
                        point.and(axis.into(), value.clone())
                    });
                    found.push((*id, gathered.label()));
                }
            }
        }
        self.broken |= found.is_empty();
        found
    }

    /// `from: raw`: the one output that fits one port. Where several fit, a port that is called like an output wins.
    fn one(&mut self, reference: &Reference, diagnostics: &mut Diagnostics) {
        let instances = self.instances(reference);
        let Some((source, _)) = instances.first() else {
            return;
        };
        let Some(outputs) = self.outputs(*source, reference, diagnostics) else {
            return;
        };
        let fits = |port: &&Port| outputs.iter().any(|output| accepts(port, output));
        let ports: Vec<Port> = self.node().inputs.iter().filter(fits).cloned().collect();
        let required: Vec<Port> = ports
            .iter()
            .filter(|port| !port.optional)
            .cloned()
            .collect();
        let namesake = |port: &&Port| {
            outputs
                .iter()
                .any(|output| output.name == port.name && accepts(port, output))
        };
        let namesakes: Vec<Port> = ports.iter().filter(namesake).cloned().collect();
        let chosen = match (&required[..], &ports[..], &namesakes[..]) {
            ([only], _, _) | ([], [only], _) | ([], _, [only]) => only.clone(),
            ([], [], _) => return self.nothing_fits(reference, &outputs, diagnostics),
            (several, ..) => {
                let several = if several.is_empty() {
                    &ports[..]
                } else {
                    several
                };
                let names: Vec<String> = several
                    .iter()
                    .map(|port| format!("`{}`", port.name))
                    .collect();
                let message = format!(
                    "`{}` fits several inputs: {}",
                    reference.stage.value,
                    names.join(", ")
                );
                let hint = format!(
                    "say which: `from: {{{}: {}}}`",
                    several[0].name, reference.stage.value
                );
                return self.fail(
                    Diagnostic::error("ambiguous-port", message)
                        .at(reference.span())
                        .hint(hint),
                    diagnostics,
                );
            }
        };
        self.connect(&chosen, reference, None, instances, diagnostics);
    }

    fn nothing_fits(
        &mut self,
        reference: &Reference,
        outputs: &[Port],
        diagnostics: &mut Diagnostics,
    ) {
        let given: Vec<String> = outputs
            .iter()
            .map(|port| format!("`{}` ({})", port.name, port.accepts.name()))
            .collect();
        let node = self.node();
        let message = format!(
            "`{}` takes nothing that `{}` gives",
            node.stage, reference.stage.value
        );
        let hint = if node.inputs.is_empty() {
            format!(
                "a stage of kind `{}` has no inputs: remove `from`",
                node.kind.name
            )
        } else {
            format!(
                "it gives {}; `{}` takes {}",
                given.join(", "),
                node.stage,
                inputs_in_words(&node.inputs)
            )
        };
        self.fail(
            Diagnostic::error("wrong-type", message)
                .at(reference.span())
                .hint(hint),
            diagnostics,
        );
    }

    /// `from: [a, b]`: all to the port that takes many.
    fn many(&mut self, references: &[Reference], span: Span, diagnostics: &mut Diagnostics) {
        let Some(port) = self.node().inputs.iter().find(|port| port.many).cloned() else {
            let node = self.node();
            let message = format!("`{}` takes no list of inputs", node.stage);
            let hint = match node.inputs.first() {
                Some(port) => format!("name a port for each: `from: {{{}: …}}`", port.name),
                None => "it has no inputs".to_owned(),
            };
            return self.fail(
                Diagnostic::error("wrong-port", message).at(span).hint(hint),
                diagnostics,
            );
        };
        let label = references.len() > 1;
        for reference in references {
            let instances = self.instances(reference);
            let item = label.then(|| format!("stage={}", reference.stage.value));
            self.connect(&port, reference, item.as_deref(), instances, diagnostics);
        }
    }

    /// One entry of `from: {port: source}`.
    fn port(&mut self, sources: &PortSources, diagnostics: &mut Diagnostics) {
        let node = self.node();
        let named = node
            .inputs
            .iter()
            .find(|port| port.name == sources.port.value && !port.many)
            .cloned();
        let many = node.inputs.iter().find(|port| port.many).cloned();
        match (named, many) {
            (Some(port), _) => match &sources.references[..] {
                [reference] => {
                    let instances = self.instances(reference);
                    self.connect(&port, reference, None, instances, diagnostics);
                }
                references => {
                    let message = format!(
                        "input `{}` takes one source, found {}",
                        port.name,
                        references.len()
                    );
                    self.fail(
                        Diagnostic::error("wrong-port", message).at(sources.port.span),
                        diagnostics,
                    );
                }
            },
            (None, Some(port)) => {
                let by_port = port.name == sources.port.value;
                for reference in &sources.references {
                    let instances = self.instances(reference);
                    let item = match (by_port, sources.references.len()) {
                        (true, 1) => None,
                        (true, _) => Some(format!("stage={}", reference.stage.value)),
                        (false, 1) => Some(sources.port.value.clone()),
                        (false, _) => {
                            Some(format!("{}={}", sources.port.value, reference.stage.value))
                        }
                    };
                    self.connect(&port, reference, item.as_deref(), instances, diagnostics);
                }
            }
            (None, None) => {
                let names: Vec<&str> = node.inputs.iter().map(|port| port.name.as_str()).collect();
                let message = format!("`{}` has no input `{}`", node.stage, sources.port.value);
                let hint = if names.is_empty() {
                    Some(format!(
                        "a stage of kind `{}` has no inputs",
                        node.kind.name
                    ))
                } else {
                    suggestion(&sources.port.value, &names)
                };
                self.fail(
                    Diagnostic::error("unknown-port", message)
                        .at(sources.port.span)
                        .maybe_hint(hint),
                    diagnostics,
                );
            }
        }
    }

    /// The outputs that a reference may mean; reports one that does not exist.
    fn outputs(
        &mut self,
        source: StageId,
        reference: &Reference,
        diagnostics: &mut Diagnostics,
    ) -> Option<Vec<Port>> {
        let outputs = self.graph.stage(source).outputs.clone();
        let Some(Spanned { value, span }) = &reference.output else {
            return Some(outputs);
        };
        if let Some(output) = outputs.iter().find(|output| output.name == *value) {
            return Some(vec![output.clone()]);
        }
        let message = format!("`{}` has no output `{value}`", reference.stage.value);
        let names: Vec<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
        let hint = suggestion(value, &names);
        self.fail(
            Diagnostic::error("unknown-port", message)
                .at(*span)
                .maybe_hint(hint),
            diagnostics,
        );
        None
    }

    fn connect(
        &mut self,
        port: &Port,
        reference: &Reference,
        item: Option<&str>,
        instances: Vec<(StageId, String)>,
        diagnostics: &mut Diagnostics,
    ) {
        if instances.len() > 1 && !port.many {
            let message = format!(
                "input `{}` would take {} instances of `{}`",
                port.name,
                instances.len(),
                reference.stage.value
            );
            let hint = "gather them first with a `collect` stage";
            return self.fail(
                Diagnostic::error("wrong-port", message)
                    .at(reference.span())
                    .hint(hint),
                diagnostics,
            );
        }
        for (source, gathered) in instances {
            let Some(outputs) = self.outputs(source, reference, diagnostics) else {
                return;
            };
            let fitting: Vec<&Port> = outputs
                .iter()
                .filter(|output| accepts(port, output))
                .collect();
            let output = match fitting[..] {
                [only] => only,
                // A port that takes anything takes the main output, which is declared first.
                [main, ..] if matches!(port.accepts, contract::PortType::Any) => main,
                [] => return self.wrong_type(port, reference, &outputs, diagnostics),
                [..] => {
                    let names: Vec<String> = fitting
                        .iter()
                        .map(|output| format!("`{}`", output.name))
                        .collect();
                    let message = format!(
                        "several outputs of `{}` fit input `{}`: {}",
                        reference.stage.value,
                        port.name,
                        names.join(", ")
                    );
                    let hint =
                        format!("say which: `{}.{}`", reference.stage.value, fitting[0].name);
                    return self.fail(
                        Diagnostic::error("ambiguous-port", message)
                            .at(reference.span())
                            .hint(hint),
                        diagnostics,
                    );
                }
            };
            let parts = [item.unwrap_or(""), gathered.as_str()];
            let label = parts
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>()
                .join(",");
            let handoff = Handoff {
                output: output.name.clone(),
                input: port.name.clone(),
                item: port.many.then_some(if label.is_empty() {
                    reference.stage.value.clone()
                } else {
                    label
                }),
                carries: output.accepts,
                order: 0,
            };
            let taken = |(_, other): &(StageId, Handoff)| {
                other.input == handoff.input && other.item == handoff.item
            };
            if self.edges.iter().any(taken) {
                let message = format!(
                    "input `{}` of `{}` is connected twice",
                    port.name,
                    self.node().stage
                );
                let diagnostic = Diagnostic::error("wrong-port", message).at(reference.span());
                return self.fail(diagnostic.hint("keep one of them"), diagnostics);
            }
            self.edges.push((source, handoff));
        }
    }

    fn wrong_type(
        &mut self,
        port: &Port,
        reference: &Reference,
        outputs: &[Port],
        diagnostics: &mut Diagnostics,
    ) {
        let given: Vec<&str> = outputs.iter().map(|output| output.accepts.name()).collect();
        let message = format!(
            "input `{}` of `{}` takes {}, but `{}` gives {}",
            port.name,
            self.node().stage,
            port.accepts.name(),
            reference.stage.value,
            given.join(" and ")
        );
        let hint = self.givers_in_words(port);
        self.fail(
            Diagnostic::error("wrong-type", message)
                .at(reference.span())
                .hint(hint),
            diagnostics,
        );
    }

    /// The stages that a port could take from.
    fn givers_in_words(&self, port: &Port) -> String {
        let gives = |id: &&StageId| {
            self.graph
                .stage(**id)
                .outputs
                .iter()
                .any(|output| accepts(port, output))
        };
        let mut names: Vec<&str> = self
            .graph
            .order()
            .iter()
            .filter(gives)
            .map(|id| self.graph.stage(*id).stage.as_str())
            .collect();
        names.dedup();
        match names[..] {
            [] => format!("no stage above it gives {}", port.accepts.name()),
            [..] => format!("{} comes from {}", port.accepts.name(), names.join(", ")),
        }
    }

    /// Every required input is connected, and something is where nothing in particular is required.
    fn check_complete(&mut self, diagnostics: &mut Diagnostics) {
        if self.broken {
            return;
        }
        let node = self.node();
        let connected = |port: &Port| {
            self.edges
                .iter()
                .any(|(_, handoff)| handoff.input == port.name)
        };
        let missing: Vec<&Port> = node
            .inputs
            .iter()
            .filter(|port| !port.optional && !connected(port))
            .collect();
        let complete = missing.is_empty();
        for port in missing {
            let message = format!(
                "`{}` needs its input `{}` ({})",
                node.stage,
                port.name,
                port.accepts.name()
            );
            let span = self.spec.from.span().unwrap_or(self.spec.name.span);
            let hint = match self.spec.from.span() {
                None => format!(
                    "add `from: STAGE` with a stage that gives {}",
                    port.accepts.name()
                ),
                Some(_) => format!("name it: `from: {{{}: STAGE}}`", port.name),
            };
            diagnostics.push(
                Diagnostic::error("missing-port", message)
                    .at(span)
                    .hint(hint),
            );
        }
        if complete && !self.node().stands_in {
            self.check_inputs(diagnostics);
        }
    }

    /// What the kind itself says about its connections.
    fn check_inputs(&mut self, diagnostics: &mut Diagnostics) {
        let node = self.node();
        let connected = connected(self.edges.iter().map(|(_, handoff)| handoff));
        let names: Vec<&str> = connected.iter().map(String::as_str).collect();
        let Err(fault) = node.configured.check_inputs(&names) else {
            return;
        };
        let contract::Fault {
            parameter: path,
            reason,
        } = fault;
        let (code, span) = if path.is_empty() {
            (
                "wrong-port",
                self.spec.from.span().unwrap_or(self.spec.name.span),
            )
        } else {
            ("bad-value", self.spec.locate(&path))
        };
        let message = format!("stage `{}`: {reason}", node.stage);
        self.fail(Diagnostic::error(code, message).at(span), diagnostics);
    }
}

fn accepts(port: &Port, output: &Port) -> bool {
    match output.accepts {
        contract::PortType::Only(kind) => port.accepts.accepts(kind),
        contract::PortType::Any => matches!(port.accepts, contract::PortType::Any),
    }
}

fn inputs_in_words(ports: &[Port]) -> String {
    ports
        .iter()
        .map(|port| format!("`{}` ({})", port.name, port.accepts.name()))
        .collect::<Vec<_>>()
        .join(", ")
}
