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
        let mut places = [folder.join(path), path.to_owned()].into_iter();
        places.find(|place| place.exists())
    };
    let mut ids: Vec<StageId> = graph.order().to_vec();
    ids.retain(|id| {
        let node = graph.stage(*id);
        node.kind.has_remarks && !node.stands_in
    });
    let remarks_on = |id: &StageId| {
        let inputs = graph.inputs(*id);
        let connected = connected(inputs.iter().map(|(_, handoff)| *handoff));
        let names: Vec<&str> = connected.iter().map(String::as_str).collect();
        graph.stage(*id).configured.remarks(Surroundings {
            connected: (!unsure.contains(id)).then_some(&names[..]),
            look_up: &look_up,
        })
    };
    let found: Vec<Vec<Remark>> = ids.par_iter().with_min_len(64).map(remarks_on).collect();
    let mut problems = Diagnostics::default();
    for (id, remarks) in ids.into_iter().zip(found) {
        if let Some(stage) = context.stage(&graph.stage(id).stage) {
            let stage = &context.spec.stages[stage];
            problems.extend(remarks.into_iter().map(|remark| diagnostic(stage, remark)));
        }
    }
    problems
}

/// The names of the ports that are connected, and of each input on a port that takes many.
pub(super) fn connected<'a>(handoffs: impl Iterator<Item = &'a Handoff>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for handoff in handoffs {
        names.insert(handoff.input.clone());
        if let Some(item) = &handoff.item {
            names.insert(format!("{}.{item}", handoff.input));
        }
    }
    names
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
