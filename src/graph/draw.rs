//! Drawings of a graph: Mermaid for documents, DOT for Graphviz, JSON for programs; coloured by cache state.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{Graph, Handoff, StageId};
use crate::diagnostic::visible;

/// The language of a drawing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Mermaid,
    Dot,
    Json,
}

/// What a stage's colour says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Its outputs are there.
    Hit,
    /// It must run.
    Miss,
    /// Depends on what comes out above.
    Pending,
    /// It cannot run.
    Broken,
}

impl Colour {
    const ALL: [Self; 4] = [Self::Hit, Self::Miss, Self::Pending, Self::Broken];

    pub fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Pending => "pending",
            Self::Broken => "broken",
        }
    }

    /// Fill and stroke.
    fn hex(self) -> (&'static str, &'static str) {
        match self {
            Self::Hit => ("#d7f0dd", "#2f7d46"),
            Self::Miss => ("#fde7c3", "#9a6a00"),
            Self::Pending => ("#e6e8ee", "#5b6270"),
            Self::Broken => ("#fbd5d5", "#a32020"),
        }
    }
}

/// Draws a graph; `colour` says what to make of each stage.
pub fn draw(graph: &Graph, format: Format, colour: impl Fn(StageId) -> Colour) -> String {
    match format {
        Format::Mermaid => mermaid(graph, colour),
        Format::Dot => dot(graph, colour),
        Format::Json => {
            let text = serde_json::to_string_pretty(&describe(graph, colour));
            text.unwrap_or_default() + "\n"
        }
    }
}

fn mermaid(graph: &Graph, colour: impl Fn(StageId) -> Colour) -> String {
    let mut text = String::from("flowchart TD\n");
    for &id in graph.order() {
        let stage = graph.stage(id);
        let name = visible(&stage.name).replace('"', "#quot;");
        let class = colour(id).name();
        writeln!(
            text,
            "    s{}[\"{name}<br/><i>{}</i>\"]:::{class}",
            id.index(),
            stage.kind.name
        )
        .expect("a string");
    }
    for &id in graph.order() {
        for (source, handoff) in graph.inputs(id) {
            let label = edge_label(handoff);
            writeln!(text, "    s{} -->|{label}| s{}", source.index(), id.index())
                .expect("a string");
        }
    }
    for class in Colour::ALL {
        let (fill, stroke) = class.hex();
        writeln!(
            text,
            "    classDef {} fill:{fill},stroke:{stroke},color:#1d2129",
            class.name()
        )
        .expect("a string");
    }
    text
}

fn dot(graph: &Graph, colour: impl Fn(StageId) -> Colour) -> String {
    let mut text = String::from(
        "digraph pipeline {\n    rankdir=TB;\n    node [shape=box, style=\"rounded,filled\", fontname=\"Helvetica\"];\n",
    );
    for &id in graph.order() {
        let stage = graph.stage(id);
        let (fill, stroke) = colour(id).hex();
        let name = visible(&stage.name)
            .replace('\\', "\\\\")
            .replace('"', "\\\"");
        let kind = stage.kind.name;
        writeln!(
            text,
            "    s{} [label=\"{name}\\n{kind}\", fillcolor=\"{fill}\", color=\"{stroke}\"];",
            id.index()
        )
        .expect("a string");
    }
    for &id in graph.order() {
        for (source, handoff) in graph.inputs(id) {
            let label = edge_label(handoff);
            writeln!(
                text,
                "    s{} -> s{} [label=\"{label}\"];",
                source.index(),
                id.index()
            )
            .expect("a string");
        }
    }
    text + "}\n"
}

fn edge_label(Handoff { output, input, .. }: &Handoff) -> String {
    match output == input {
        true => output.clone(),
        false => format!("{output} to {input}"),
    }
}

fn describe(graph: &Graph, colour: impl Fn(StageId) -> Colour) -> Value {
    let mut wave_of = vec![0; graph.len()];
    for (number, wave) in graph.waves().iter().enumerate() {
        for id in wave {
            wave_of[id.index()] = number;
        }
    }
    let mut stages = Vec::new();
    for &id in graph.order() {
        let stage = graph.stage(id);
        let mut inputs = Vec::new();
        for (source, handoff) in graph.inputs(id) {
            inputs.push(json!({
                "from": graph.stage(source).name,
                "output": handoff.output,
                "input": handoff.input,
                "item": handoff.item,
                "type": handoff.carries.name(),
            }));
        }
        stages.push(json!({
            "name": stage.name,
            "stage": stage.stage,
            "kind": stage.kind.name,
            "axes": stage.point.iter().cloned().collect::<serde_json::Map<_, _>>(),
            "parameters": stage.parameters(),
            "inputs": inputs,
            "wave": wave_of[id.index()],
            "state": colour(id).name(),
        }));
    }
    json!({"stages": stages})
}
