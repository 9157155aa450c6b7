//! Results on standard output: tables of metrics, and the files that a run made, linked where people find them.

use std::fs;
use std::path::PathBuf;

use indexmap::IndexMap;
use stages::artifact::{Artifact, ArtifactKind, Direction, Metric};

use crate::cache::{Action, RunId, Store};
use crate::graph::{Graph, StageId};
use crate::ui::{Align, Paint, Table, number};

/// Above this many stages with metrics, one line each.
const WIDE_ABOVE: usize = 4;

/// The metrics that stages made, by stage.
pub(super) fn metrics_of<'a>(
    graph: &Graph,
    store: &Store,
    action_of: impl Fn(StageId) -> Option<&'a Action>,
) -> IndexMap<String, Vec<Metric>> {
    let mut all = IndexMap::new();
    for &id in graph.order() {
        let Some(action) = action_of(id) else { continue };
        let records = action.outputs.iter().filter(|output| output.record.kind == Some(ArtifactKind::Metrics));
        for output in records {
            match store.load(&output.record) {
                Ok(Artifact::Metrics(metrics)) => {
                    let entry: &mut Vec<Metric> = all.entry(graph.stage(id).name.clone()).or_default();
                    entry.extend(metrics.entries.iter().cloned());
                }
                Ok(_) => {}
                Err(error) => tracing::warn!("metrics of {}: {error}", graph.stage(id).name),
            }
        }
    }
    all
}

/// The metrics as a table: a block per stage, or a line per stage if there are many.
pub(super) fn metrics_table(metrics: &IndexMap<String, Vec<Metric>>) -> String {
    if metrics.len() <= WIDE_ABOVE {
        return metrics.iter().map(|(stage, entries)| block(stage, entries)).collect::<Vec<_>>().join("\n");
    }
    let mut names: Vec<&str> = Vec::new();
    for metric in metrics.values().flatten() {
        if !names.contains(&metric.name.as_str()) {
            names.push(&metric.name);
        }
    }
    let header: Vec<(&str, Align)> =
        std::iter::once(("stage", Align::Left)).chain(names.iter().map(|name| (*name, Align::Right))).collect();
    let mut table = Table::new(&header);
    for (stage, entries) in metrics {
        let cell = |name: &&str| {
            let found = entries.iter().find(|metric| metric.name == **name);
            found.map_or_else(String::new, |metric| value(metric.value))
        };
        table.row(std::iter::once(stage.clone()).chain(names.iter().map(cell)));
    }
    table.render()
}

fn block(stage: &str, metrics: &[Metric]) -> String {
    let mut table =
        Table::new(&[("metric", Align::Left), ("value", Align::Right), ("", Align::Left), ("", Align::Left)]);
    for metric in metrics {
        let direction = match metric.direction {
            Direction::Higher => "higher is better",
            Direction::Lower => "lower is better",
            Direction::Neither => "",
        };
        let mut marks = Vec::new();
        marks.extend(metric.oracle.then(|| Paint::Warn.on("oracle: knows the test labels")));
        marks.extend(metric.inflating.then(|| Paint::Warn.on("inflating")));
        let marks = if marks.is_empty() { Paint::Quiet.on(direction) } else { marks.join(", ") };
        table.row([metric.name.clone(), value(metric.value), marks, Paint::Quiet.on(&metric.caveat)]);
    }
    format!("{}\n{}", Paint::Strong.on(stage), table.render())
}

fn value(value: Option<f64>) -> String {
    value.map_or_else(|| "undefined".to_owned(), number)
}

/// Links the files that stages made below the run's folder, so that they can be opened by name. Returns their paths.
pub(super) fn link_files<'a>(
    graph: &Graph,
    store: &Store,
    run: &RunId,
    action_of: impl Fn(StageId) -> Option<&'a Action>,
) -> Vec<PathBuf> {
    let mut linked = Vec::new();
    for &id in graph.order() {
        let Some(action) = action_of(id) else { continue };
        for output in action.outputs.iter().filter(|output| output.record.kind == Some(ArtifactKind::Files)) {
            let Ok(Artifact::Files(files)) = store.load(&output.record) else { continue };
            let folder = store.run_folder(run).join("files").join(file_name(&graph.stage(id).name));
            for entry in &files.entries {
                let target = folder.join(&entry.path);
                let source = store.layout().object_named(&entry.digest, "");
                let made = target.parent().map(fs::create_dir_all);
                let linked_it = made.is_some_and(|made| made.is_ok())
                    && (fs::hard_link(&source, &target).is_ok() || fs::copy(&source, &target).is_ok());
                if linked_it {
                    linked.push(target);
                }
            }
        }
    }
    linked
}

/// A stage's name as a folder's.
fn file_name(stage: &str) -> String {
    stage.replace(['/', '\\'], "_")
}
