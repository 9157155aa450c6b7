//! The picture of the graph: a box for each stage, which leads to what is said of the stage.

use maud::{Markup, html};

use super::stages::DESCRIBED;
use crate::diagnostic::duration;
use crate::page::drawing::{Drawing, Node};

const BOX: (f64, f64) = (150.0, 40.0);
const STEP: (f64, f64) = (180.0, 56.0);

/// Letters of a name that a box has room for.
const LETTERS: usize = 20;

/// The graph as SVG. Every box is a link to `stage-N`, the first of its stages.
pub fn picture(drawing: &Drawing) -> Markup {
    let width = drawing.layers as f64 * STEP.0;
    let height = drawing.height as f64 * STEP.1 + 8.0;
    html! {
        div.scroll tabindex="0" role="region" aria-label="Graph of the stages" {
            svg.graph viewBox=(format!("0 0 {width} {height}")) width=(width) height=(height) role="group" aria-label="Graph of the stages; each box leads to its stage in the list below" {
                @for (from, to) in &drawing.edges { (edge(&drawing.nodes[*from], &drawing.nodes[*to])) }
                @for node in &drawing.nodes { (node_box(node)) }
            }
        }
    }
}

fn corner(node: &Node) -> (f64, f64) {
    (
        4.0 + node.layer as f64 * STEP.0,
        6.0 + node.place as f64 * STEP.1,
    )
}

fn edge(from: &Node, to: &Node) -> Markup {
    let (start, end) = (corner(from), corner(to));
    let (x1, y1) = (start.0 + BOX.0, start.1 + BOX.1 / 2.0);
    let (x2, y2) = (end.0, end.1 + BOX.1 / 2.0);
    let bend = (x2 - x1) / 2.0;
    html! { path class="edge" d=(format!("M{x1},{y1} C{},{y1} {},{y2} {x2},{y2}", x1 + bend, x2 - bend)) {} }
}

fn node_box(node: &Node) -> Markup {
    let (x, y) = corner(node);
    let mut name: String = node.name.chars().take(LETTERS).collect();
    if name.len() < node.name.len() {
        name.push('…');
    }
    let count = node.stages.len();
    let first = node.stages.first().copied().unwrap_or_default();
    let address = match first < DESCRIBED {
        true => format!("#stage-{first}"),
        false => "#stages".to_owned(),
    };
    html! {
        a href=(address) {
            g class=(format!("node {}", node.state.name())) {
                title { (node.name) " (" (node.kind) "): " (node.state.name()) }
                rect x=(x) y=(y) width=(BOX.0) height=(BOX.1) rx="4" {}
                text x=(x + 8.0) y=(y + 17.0) { (name) }
                text x=(x + 8.0) y=(y + 32.0) class="quiet" {
                    (node.kind)
                    @if count > 1 { " × " (count) }
                    @if node.seconds > 0.0 { " · " (duration(node.seconds)) }
                }
            }
        }
    }
}
