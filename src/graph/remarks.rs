//! Pass: what the kinds of stages have to say about parameters that are possible, in the light of what is connected and of the
//! files beside the pipeline. The same remark about many instances of a stage is made once.

use std::collections::BTreeSet;
use std::path::Path;

use contract::{Remark, Surroundings};
use rayon::prelude::*;

use super::build::Context;
use super::{Graph, Handoff, StageId};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::pipeline::StageSpec;

/// All remarks. `folder` is the pipeline file's; `unsure` are the stages whose inputs are not known, since something is wrong
/// with them.
pub(super) fn remarks(
    context: &Context<'_>,
    graph: &Graph,
    unsure: &BTreeSet<StageId>,
    folder: &Path,
) -> Diagnostics {
    let look_up = |path: &Path| {
        [folder.join(path), path.to_owned()]
            .into_iter()
            .find(|place| place.exists())
    };
    let ids: Vec<StageId> = graph
        .dag
        .node_indices()
        .map(StageId)
        .filter(|id| has_remarks(graph, *id))
        .collect();
    let found = ids.par_iter().with_min_len(64).map(|id| {
        let node = graph.stage(*id);
        let inputs = graph.inputs(*id);
        let connected = connected(inputs.iter().map(|(_, handoff)| *handoff));
        let names: Vec<&str> = connected.iter().map(String::as_str).collect();
        let connected = (!unsure.contains(id)).then_some(&names[..]);
        (
            *id,
            node.configured.remarks(Surroundings {
                connected,
                look_up: &look_up,
            }),
        )
    });
    let mut problems = Diagnostics::default();
    for (id, remarks) in found.collect::<Vec<_>>() {
        let Some(stage) = context.stage(&graph.stage(id).stage) else {
            continue;
        };
        problems.extend(
            remarks
                .into_iter()
                .map(|remark| diagnostic(&context.spec.stages[stage], remark)),
        );
    }
    problems
}

/// The names of the ports that are connected, and of each input on a port that takes many.
pub(super) fn connected<'a>(handoffs: impl Iterator<Item = &'a Handoff>) -> BTreeSet<String> {
    let names = |handoff: &Handoff| {
        let item = handoff
            .item
            .as_ref()
            .map(|item| format!("{}.{item}", handoff.input));
        std::iter::once(handoff.input.clone()).chain(item)
    };
    handoffs.flat_map(names).collect()
}

fn has_remarks(graph: &Graph, id: StageId) -> bool {
    let node = graph.stage(id);
    node.kind.has_remarks && !node.stands_in
}

fn diagnostic(stage: &StageSpec, remark: Remark) -> Diagnostic {
    let message = format!("stage `{}`: {}", stage.name.value, remark.message);
    let diagnostic = match remark.fatal {
        true => Diagnostic::error(remark.code, message),
        false => Diagnostic::warning(remark.code, message),
    };
    diagnostic
        .at(stage.locate(&remark.parameter))
        .maybe_hint(remark.hint)
}
