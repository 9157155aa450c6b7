//! Pass: leakage, judged statically on the dataflow. Stage kinds declare what they learn from which rows; whatever is
//! learned from rows that are not meant for it taints every stage downstream. A use of test labels that a stage kind
//! declares as an oracle and marks in its outputs is allowed.

use contract::artifact::Split;
use contract::{Learning, Purpose};

use super::{Graph, StageId};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::pipeline::Spec;

/// A warning per leak, or an error if the pipeline is strict.
pub(super) fn leaks(graph: &Graph, spec: &Spec) -> Diagnostics {
    let mut diagnostics = Diagnostics::default();
    let mut told: Vec<(&str, &Learning)> = Vec::new();
    for &id in graph.order() {
        let stage = graph.stage(id);
        for learning in &stage.learns {
            // Instances of one stage leak alike.
            if !is_leak(learning) || told.contains(&(stage.stage.as_str(), learning)) {
                continue;
            }
            told.push((stage.stage.as_str(), learning));
            diagnostics.push(describe(graph, spec, id, learning));
        }
    }
    if spec.strict {
        diagnostics.deny_warnings();
    }
    diagnostics
}

fn is_leak(learning: &Learning) -> bool {
    !learning.oracle && !misused(learning).is_empty()
}

/// The splits that it learns from although they are not meant for it.
fn misused(learning: &Learning) -> Vec<&'static str> {
    let mut splits = learning.from.clone();
    splits.retain(|split| !learning.purpose.allows(*split));
    splits.into_iter().map(Split::name).collect()
}

fn describe(graph: &Graph, spec: &Spec, id: StageId, learning: &Learning) -> Diagnostic {
    let stage = graph.stage(id);
    let source = if learning.labels { "labels" } else { "rows" };
    let message = match learning.purpose {
        Purpose::Mix => format!("leakage: `{}` makes {}", stage.stage, learning.what),
        _ => {
            let (what, wrong) = (learning.what, misused(learning).join(" and "));
            format!(
                "leakage: `{}` learns its {what} from {wrong} {source}{}",
                stage.stage,
                self_judged(learning)
            )
        }
    };
    let mut stages = spec.stages.iter();
    let span = match stages.find(|written| written.name.value == stage.stage) {
        Some(written) => written.locate(learning.parameter),
        None => stage.span,
    };
    let mut diagnostic = Diagnostic::warning("leakage", message).at(span);
    if let Some(tainted) = tainted(graph, id) {
        let affected = format!("what comes out of `{tainted}` is affected");
        diagnostic = diagnostic.also(stage.span, affected);
    }
    if matches!(learning.purpose, Purpose::Mix) {
        return diagnostic.hint("keep each sample within one split");
    }
    let mut allowed = Split::ALL.to_vec();
    allowed.retain(|split| learning.purpose.allows(*split));
    let allowed: Vec<&str> = allowed.into_iter().map(Split::name).collect();
    diagnostic.hint(format!("these are allowed: {}", allowed.join(", ")))
}

/// The end of a sentence about a threshold that is learned from the rows it is judged by.
fn self_judged(learning: &Learning) -> &'static str {
    match learning.purpose {
        Purpose::Threshold { judged } if learning.from.contains(&judged) => {
            ", which are judged by it"
        }
        _ => "",
    }
}

/// The last stage downstream: where the leak shows in a result.
fn tainted(graph: &Graph, id: StageId) -> Option<&str> {
    let mut reached = vec![false; graph.len()];
    reached[id.index()] = true;
    for &next in graph.order() {
        reached[next.index()] |= graph.needs(next).iter().any(|need| reached[need.index()]);
    }
    let mut latest_first = graph.order().iter().rev();
    let last = latest_first.find(|next| reached[next.index()] && **next != id)?;
    Some(&graph.stage(*last).stage)
}
