//! `runner plan`: what would run, and why. Writes nothing.

use std::mem::ManuallyDrop;

use clap::Args;
use serde_json::{Value, json};

use super::arguments::PipelineArguments;
use super::{Error, Exit, Global};
use crate::diagnostic::counted;
use crate::engine::{Plan, Reason, StagePlan, Verdict};
use crate::graph::{Graph, StageId};
use crate::project::{Fetch, Session};
use crate::ui::{Align, Paint, Table, duration, out, print_json};

/// More stages than this are summed up rather than listed.
const STAGES_LISTED: usize = 40;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    pipeline: PipelineArguments,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    // The process ends right after; taking a wide graph apart piece by piece would take as long as planning it.
    let session = ManuallyDrop::new(Session::open(
        &global.project,
        &arguments.pipeline.request(),
        Fetch::Never,
    )?);
    let plan = ManuallyDrop::new(session.planner().plan());
    if global.json {
        print_json(&describe(&session.graph, &plan));
    } else {
        out!("{}", plan_table(&session.graph, &plan, true));
    }
    let is_broken = |id: &StageId| matches!(plan.stage(*id).verdict, Verdict::Broken(_));
    let broken = session.graph.order().iter().any(is_broken);
    Ok(if broken { Exit::Failed } else { Exit::Done })
}

/// The plan for people: a line per stage, or only what runs if there are many.
pub(super) fn plan_table(graph: &Graph, plan: &Plan, with_hits: bool) -> String {
    let mut table = Table::new(&[
        ("", Align::Left),
        ("stage", Align::Left),
        ("kind", Align::Left),
        ("why", Align::Left),
    ]);
    let (mut listed, mut left_out) = (0, 0);
    for &id in graph.order() {
        let stage = plan.stage(id);
        if stage.hit().is_some() && !with_hits {
            continue;
        }
        if listed == STAGES_LISTED {
            left_out += 1;
            continue;
        }
        listed += 1;
        let node = graph.stage(id);
        let why = match &stage.verdict {
            Verdict::Hit(action) => Paint::Quiet.on(format!("took {}", duration(action.seconds))),
            _ => stage.reason(graph),
        };
        table.row([
            mark(stage),
            node.name.clone(),
            Paint::Quiet.on(node.kind.name),
            why,
        ]);
    }
    let (total, hits) = (plan.len(), plan.hits());
    let mut text = match total - hits {
        0 if total == 1 => format!("{} the stage is up to date\n", Paint::Good.on("plan:")),
        0 => {
            let title = Paint::Good.on("plan:");
            format!("{title} all {total} stages are up to date\n")
        }
        rest => {
            let (title, stages) = (Paint::Busy.on("plan:"), counted(total, "stage"));
            format!("{title} {stages}, {hits} up to date, {rest} to run or to decide\n")
        }
    };
    if !table.is_empty() {
        text += &table.render();
    }
    if left_out > 0 {
        text += &format!("  … and {left_out} more\n");
    }
    text
}

fn mark(stage: &StagePlan) -> String {
    match stage.verdict {
        Verdict::Hit(_) => Paint::Good.on("hit"),
        Verdict::Miss(_) => Paint::Busy.on("run"),
        Verdict::Pending(_) => Paint::Warn.on("wait"),
        Verdict::Broken(_) => Paint::Bad.on("broken"),
    }
}

/// The name of a verdict for programs.
pub(super) fn verdict_name(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Hit(_) => "hit",
        Verdict::Miss(_) => "miss",
        Verdict::Pending(_) => "pending",
        Verdict::Broken(_) => "broken",
    }
}

fn describe(graph: &Graph, plan: &Plan) -> Value {
    let mut stages = Vec::with_capacity(graph.len());
    for &id in graph.order() {
        let (node, stage) = (graph.stage(id), plan.stage(id));
        let differences = match &stage.verdict {
            Verdict::Miss(Reason::Changed(changed)) => json!(changed),
            _ => json!([]),
        };
        stages.push(json!({
            "name": node.name,
            "kind": node.kind.name,
            "verdict": verdict_name(&stage.verdict),
            "key": stage.key,
            "reason": stage.reason(graph),
            "differences": differences,
            "failure": stage.failure(),
        }));
    }
    json!({"stages": stages, "hits": plan.hits()})
}
