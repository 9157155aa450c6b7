//! Pass: the connections of each instance: ports exist, types fit, nothing is missing or taken twice.

use std::collections::HashMap;

use contract::{Port, PortType};

use super::build::Context;
use super::expand::{Expansion, part_of};
use super::remarks::connected;
use super::{Graph, Handoff, StageId, StageNode};
use crate::diagnostic::{Diagnostic, Diagnostics, Span, Spanned, list, suggestion};
use crate::pipeline::{Point, PortSources, Reference, Sources, StageSpec};

/// A stage's position in the file, and an instance's among those of its stage.
pub(super) type Slot = (usize, usize);

/// Connects one instance to those that it takes from. Returns whether it is known what it takes.
pub(super) fn wire(
    context: &Context<'_>,
    expansion: &Expansion,
    slot: Slot,
    placed: &HashMap<Slot, StageId>,
    graph: &mut Graph,
    diagnostics: &mut Diagnostics,
) -> bool {
    let (id, (stage, instance)) = (placed[&slot], slot);
    let spec = &context.spec.stages[stage];
    let point = &expansion.points(stage)[instance];
    let Ok(sources) = spec.from.sources(&context.scope.with(point)) else {
        return false;
    };
    let mut wiring = Wiring {
        context,
        expansion,
        placed,
        graph,
        spec,
        point,
        node: graph.stage(id),
        edges: Vec::new(),
        found: Diagnostics::default(),
        broken: false,
    };
    match &*sources {
        Sources::None => {}
        Sources::One(reference) => wiring.one(reference),
        Sources::Many(references, span) => wiring.many(references, *span),
        Sources::Ports(ports, _) => {
            for port in ports {
                wiring.port(port);
            }
        }
    }
    wiring.check_complete();
    let Wiring {
        edges,
        found,
        broken,
        ..
    } = wiring;
    let node = &mut graph.dag[id.0];
    if !broken {
        // Outputs that come with an input that is not there do not exist.
        node.outputs.retain(|output| match output.only_with {
            Some(input) => is_connected(&edges, input),
            None => true,
        });
    }
    node.faulty |= !found.is_empty();
    for (source, handoff) in edges {
        graph.dag.add_edge(source.0, id.0, handoff);
    }
    diagnostics.extend(found);
    !broken
}

/// The connections of one instance while they are made.
struct Wiring<'a> {
    context: &'a Context<'a>,
    expansion: &'a Expansion,
    placed: &'a HashMap<Slot, StageId>,
    graph: &'a Graph,
    spec: &'a StageSpec,
    point: &'a Point,
    /// The instance.
    node: &'a StageNode,
    edges: Vec<(StageId, Handoff)>,
    found: Diagnostics,
    /// Something was wrong with a source already: what is missing because of it is not told again.
    broken: bool,
}

impl<'a> Wiring<'a> {
    fn fail(&mut self, diagnostic: Diagnostic) {
        self.broken = true;
        self.found.push(diagnostic);
    }

    /// The instances that a reference stands for here, each with the label of the axes that are gathered.
    fn instances(&mut self, reference: &Reference) -> Vec<(StageId, String)> {
        let Some(source) = self.context.stage(&reference.stage.value) else {
            self.broken = true;
            return Vec::new();
        };
        let points = self.expansion.points(source);
        let mut found = Vec::new();
        for index in self.expansion.matching(source, self.point) {
            match self.placed.get(&(source, index)) {
                None => self.broken = true,
                Some(id) => {
                    let gathered = part_of(&points[index], |axis| self.point.get(axis).is_none());
                    found.push((*id, gathered.label()));
                }
            }
        }
        self.broken |= found.is_empty();
        found
    }

    /// `from: raw`: the one output that fits one port. Where several fit, a port that is called like an output wins.
    fn one(&mut self, reference: &Reference) {
        let instances = self.instances(reference);
        let Some((source, _)) = instances.first() else {
            return;
        };
        let Some(outputs) = self.outputs(*source, reference) else {
            return;
        };
        let (mut ports, mut required, mut namesakes) = (Vec::new(), Vec::new(), Vec::new());
        for port in &self.node.inputs {
            let fitting = fitting(port, outputs);
            if fitting.is_empty() {
                continue;
            }
            ports.push(port);
            if !port.optional {
                required.push(port);
            }
            if fitting.iter().any(|output| output.name == port.name) {
                namesakes.push(port);
            }
        }
        match (&required[..], &ports[..], &namesakes[..]) {
            ([only], _, _) | ([], [only], _) | ([], _, [only]) => {
                self.connect(only, reference, "", instances);
            }
            ([], [], _) => self.nothing_fits(reference, outputs),
            ([], several, _) | (several, ..) => {
                let stage = &reference.stage.value;
                let names = list(&names(several.iter().copied()));
                let message = format!("`{stage}` fits several inputs: {names}");
                let hint = format!("say which: `from: {{{}: {stage}}}`", several[0].name);
                self.fail(
                    Diagnostic::error("ambiguous-port", message)
                        .at(reference.span())
                        .hint(hint),
                );
            }
        }
    }

    fn nothing_fits(&mut self, reference: &Reference, outputs: &[Port]) {
        let (node, source) = (self.node, &reference.stage.value);
        let message = format!("`{}` takes nothing that `{source}` gives", node.stage);
        let hint = if node.inputs.is_empty() {
            let kind = node.kind.name;
            format!("a stage of kind `{kind}` has no inputs: remove `from`")
        } else {
            let (given, taken) = (with_types(outputs), with_types(&node.inputs));
            format!("it gives {given}; `{}` takes {taken}", node.stage)
        };
        self.fail(
            Diagnostic::error("wrong-type", message)
                .at(reference.span())
                .hint(hint),
        );
    }

    /// `from: [a, b]`: all to the port that takes many.
    fn many(&mut self, references: &[Reference], span: Span) {
        let inputs = &self.node.inputs;
        let Some(port) = inputs.iter().find(|port| port.many) else {
            let message = format!("`{}` takes no list of inputs", self.node.stage);
            let hint = match inputs.first() {
                Some(port) => format!("name a port for each: `from: {{{}: …}}`", port.name),
                None => "it has no inputs".to_owned(),
            };
            return self.fail(Diagnostic::error("wrong-port", message).at(span).hint(hint));
        };
        for reference in references {
            let instances = self.instances(reference);
            let item = match references.len() {
                1 => String::new(),
                _ => format!("stage={}", reference.stage.value),
            };
            self.connect(port, reference, &item, instances);
        }
    }

    /// One entry of `from: {port: source}`.
    fn port(&mut self, sources: &PortSources) {
        let (name, span) = (&sources.port.value, sources.port.span);
        let inputs = &self.node.inputs;
        let namesake = inputs.iter().find(|port| port.name == *name);
        if let Some(port) = namesake
            && !port.many
        {
            let [reference] = &sources.references[..] else {
                let count = sources.references.len();
                let message = format!("input `{name}` takes one source, found {count}");
                return self.fail(Diagnostic::error("wrong-port", message).at(span));
            };
            let instances = self.instances(reference);
            self.connect(port, reference, "", instances);
        } else if let Some(port) = inputs.iter().find(|port| port.many) {
            for reference in &sources.references {
                let instances = self.instances(reference);
                let stage = &reference.stage.value;
                let item = match (port.name == *name, sources.references.len()) {
                    (true, 1) => String::new(),
                    (true, _) => format!("stage={stage}"),
                    (false, 1) => name.clone(),
                    (false, _) => format!("{name}={stage}"),
                };
                self.connect(port, reference, &item, instances);
            }
        } else {
            let message = format!("`{}` has no input `{name}`", self.node.stage);
            let kind = self.node.kind.name;
            let hint = match inputs.is_empty() {
                true => Some(format!("a stage of kind `{kind}` has no inputs")),
                false => suggestion(name, &names(inputs)),
            };
            self.fail(
                Diagnostic::error("unknown-port", message)
                    .at(span)
                    .maybe_hint(hint),
            );
        }
    }

    /// The outputs that a reference may mean; reports one that does not exist.
    fn outputs(&mut self, source: StageId, reference: &Reference) -> Option<&'a [Port]> {
        let outputs = &self.graph.stage(source).outputs[..];
        let Some(Spanned { value, span }) = &reference.output else {
            return Some(outputs);
        };
        if let Some(output) = outputs.iter().find(|output| output.name == *value) {
            return Some(std::slice::from_ref(output));
        }
        let message = format!("`{}` has no output `{value}`", reference.stage.value);
        let hint = suggestion(value, &names(outputs));
        self.fail(
            Diagnostic::error("unknown-port", message)
                .at(*span)
                .maybe_hint(hint),
        );
        None
    }

    /// Connects these instances to a port. Where it takes many, `item` is what their label begins with.
    fn connect(
        &mut self,
        port: &Port,
        reference: &Reference,
        item: &str,
        instances: Vec<(StageId, String)>,
    ) {
        let (input, stage) = (&port.name, &reference.stage.value);
        if instances.len() > 1 && !port.many {
            let count = instances.len();
            let message = format!("input `{input}` would take {count} instances of `{stage}`");
            return self.fail(
                Diagnostic::error("wrong-port", message)
                    .at(reference.span())
                    .hint("gather them first with a `collect` stage"),
            );
        }
        for (source, gathered) in instances {
            let Some(outputs) = self.outputs(source, reference) else {
                return;
            };
            let fitting = fitting(port, outputs);
            let output = match fitting[..] {
                [] => return self.wrong_type(port, reference, outputs),
                [only] => only,
                // A port that takes anything takes the main output, which is declared first.
                [main, ..] if matches!(port.accepts, PortType::Any) => main,
                [first, ..] => {
                    let names = list(&names(fitting));
                    let message =
                        format!("several outputs of `{stage}` fit input `{input}`: {names}");
                    return self.fail(
                        Diagnostic::error("ambiguous-port", message)
                            .at(reference.span())
                            .hint(format!("say which: `{stage}.{}`", first.name)),
                    );
                }
            };
            let label = match (item, gathered.as_str()) {
                ("", "") => stage.clone(),
                (only, "") | ("", only) => only.to_owned(),
                (item, gathered) => format!("{item},{gathered}"),
            };
            let handoff = Handoff {
                output: output.name.clone(),
                input: input.clone(),
                item: port.many.then_some(label),
                carries: output.accepts,
                order: self.edges.len(),
            };
            if self.is_taken(&handoff) {
                let stage = &self.node.stage;
                let message = format!("input `{input}` of `{stage}` is connected twice");
                return self.fail(
                    Diagnostic::error("wrong-port", message)
                        .at(reference.span())
                        .hint("keep one of them"),
                );
            }
            self.edges.push((source, handoff));
        }
    }

    fn is_taken(&self, wanted: &Handoff) -> bool {
        let mut edges = self.edges.iter();
        edges.any(|(_, edge)| edge.input == wanted.input && edge.item == wanted.item)
    }

    fn wrong_type(&mut self, port: &Port, reference: &Reference, outputs: &[Port]) {
        let given: Vec<&str> = outputs.iter().map(|output| output.accepts.name()).collect();
        let message = format!(
            "input `{}` of `{}` takes {}, but `{}` gives {}",
            port.name,
            self.node.stage,
            port.accepts.name(),
            reference.stage.value,
            given.join(" and ")
        );
        self.fail(
            Diagnostic::error("wrong-type", message)
                .at(reference.span())
                .hint(self.givers_in_words(port)),
        );
    }

    /// The stages that a port could take from.
    fn givers_in_words(&self, port: &Port) -> String {
        let mut givers: Vec<&str> = Vec::new();
        for id in self.graph.order() {
            let stage = self.graph.stage(*id);
            if !fitting(port, &stage.outputs).is_empty() {
                givers.push(&stage.stage);
            }
        }
        givers.dedup();
        let wanted = port.accepts.name();
        match givers.is_empty() {
            true => format!("no stage above it gives {wanted}"),
            false => format!("{wanted} comes from {}", givers.join(", ")),
        }
    }

    /// Every required input is connected, and something is where nothing in particular is required.
    fn check_complete(&mut self) {
        if self.broken {
            return;
        }
        let written = self.spec.from.span();
        let span = written.unwrap_or(self.spec.name.span);
        for port in &self.node.inputs {
            if port.optional || is_connected(&self.edges, &port.name) {
                continue;
            }
            let (stage, name, wanted) = (&self.node.stage, &port.name, port.accepts.name());
            let message = format!("`{stage}` needs its input `{name}` ({wanted})");
            let hint = match written {
                None => format!("add `from: STAGE` with a stage that gives {wanted}"),
                Some(_) => format!("name it: `from: {{{name}: STAGE}}`"),
            };
            self.found.push(
                Diagnostic::error("missing-port", message)
                    .at(span)
                    .hint(hint),
            );
        }
        if !self.node.stands_in && self.found.is_empty() {
            self.check_inputs(span);
        }
    }

    /// What the kind itself says about its connections.
    fn check_inputs(&mut self, from: Span) {
        let connected = connected(self.edges.iter().map(|(_, handoff)| handoff));
        let names: Vec<&str> = connected.iter().map(String::as_str).collect();
        let Err(fault) = self.node.configured.check_inputs(&names) else {
            return;
        };
        let message = format!("stage `{}`: {}", self.node.stage, fault.reason);
        self.fail(match fault.parameter.as_str() {
            "" => Diagnostic::error("wrong-port", message).at(from),
            path => Diagnostic::error("bad-value", message).at(self.spec.locate(path)),
        });
    }
}

/// Those of a stage's outputs that a port takes.
fn fitting<'p>(port: &Port, outputs: &'p [Port]) -> Vec<&'p Port> {
    let mut fitting = Vec::new();
    for output in outputs {
        let fits = match output.accepts {
            PortType::Only(kind) => port.accepts.accepts(kind),
            PortType::Any => matches!(port.accepts, PortType::Any),
        };
        if fits {
            fitting.push(output);
        }
    }
    fitting
}

fn is_connected(edges: &[(StageId, Handoff)], input: &str) -> bool {
    edges.iter().any(|(_, handoff)| handoff.input == input)
}

fn names<'p>(ports: impl IntoIterator<Item = &'p Port>) -> Vec<&'p str> {
    ports.into_iter().map(|port| port.name.as_str()).collect()
}

fn with_types(ports: &[Port]) -> String {
    let mut shown = Vec::new();
    for port in ports {
        shown.push(format!("`{}` ({})", port.name, port.accepts.name()));
    }
    shown.join(", ")
}
