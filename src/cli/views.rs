//! Results on standard output: tables of metrics, and the files that a run made, linked where people find them.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use indexmap::IndexMap;
use rayon::prelude::*;
use stages::artifact::{Artifact, ArtifactKind, Direction, Files, Folder, Metric};

use crate::cache::{Action, CacheError, Output, RunId, RunRecord, Store};
use crate::graph::{Graph, StageId};
use crate::ui::{Align, Paint, Table, number};

/// Results that a thread reads or links at a time; fewer are not worth another thread.
const SPAN_OF_WORK: usize = 16;

/// Above this many stages with metrics, one line each.
const WIDE_ABOVE: usize = 4;

/// What people see of a run besides its course.
#[derive(Default)]
pub(super) struct Results {
    /// Stage name to its metrics.
    pub metrics: IndexMap<String, Vec<Metric>>,
    /// Stage name to the files that it made.
    files: Vec<(String, Arc<Files>)>,
    /// Stages whose results turned out to be damaged or missing.
    pub lost: Vec<StageId>,
}

/// Loads the metrics and lists the files of these actions.
pub(super) fn results_of(
    graph: &Graph,
    store: &Store,
    actions: &BTreeMap<StageId, Arc<Action>>,
) -> Result<Results, CacheError> {
    let shown = |output: &&Output| matches!(output.record.kind, Some(ArtifactKind::Metrics | ArtifactKind::Files));
    let of_stage = |id: &StageId| {
        let outputs = actions.get(id).into_iter().flat_map(|action| action.outputs.iter().filter(shown));
        outputs.map(|output| (*id, output)).collect::<Vec<_>>()
    };
    let outputs: Vec<(StageId, &Output)> = graph.order().iter().flat_map(of_stage).collect();
    let load = |(_, output): &(StageId, &Output)| store.load(&output.record);
    let loaded: Vec<_> = outputs.par_iter().with_min_len(SPAN_OF_WORK).map(load).collect();
    let mut results = Results::default();
    for ((id, _), artifact) in outputs.into_iter().zip(loaded) {
        let name = graph.stage(id).name.clone();
        match artifact {
            Ok(Artifact::Metrics(metrics)) => {
                results.metrics.entry(name).or_default().extend(metrics.entries.iter().cloned());
            }
            Ok(Artifact::Files(files)) => results.files.push((name, files)),
            Ok(_) => {}
            Err(error) if error.is_loss() => results.lost.push(id),
            Err(error) => return Err(error),
        }
    }
    results.lost.dedup();
    Ok(results)
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
    // What flatters is said in the header, since there is no room in the cells.
    let titles: Vec<String> = names
        .iter()
        .map(|name| {
            let flags =
                |flag: fn(&Metric) -> bool| metrics.values().flatten().any(|one| one.name == *name && flag(one));
            let oracle = if flags(|metric| metric.oracle) { " (oracle)" } else { "" };
            let inflating = if flags(|metric| metric.inflating) { " (inflating)" } else { "" };
            format!("{name}{oracle}{inflating}")
        })
        .collect();
    let header: Vec<(&str, Align)> = std::iter::once(("stage", Align::Left))
        .chain(titles.iter().map(|title| (title.as_str(), Align::Right)))
        .collect();
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
    let mut table = Table::new(&[("metric", Align::Left), ("value", Align::Right), ("", Align::Left)]);
    let mut caveats: Vec<&str> = Vec::new();
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
        table.row([
            metric.name.clone(),
            value(metric.value),
            format!("{marks}{}", footnote(&metric.caveat, &mut caveats)),
        ]);
    }
    let notes: String = caveats
        .iter()
        .enumerate()
        .map(|(index, caveat)| Paint::Quiet.on(format!("  [{}] {caveat}\n", index + 1)))
        .collect();
    format!("{}\n{}{notes}", Paint::Strong.on(stage), table.render())
}

/// A reference such as ` [1]` to a caveat, which is listed once below the table.
fn footnote<'a>(caveat: &'a str, caveats: &mut Vec<&'a str>) -> String {
    if caveat.is_empty() {
        return String::new();
    }
    let known = caveats.iter().position(|other| *other == caveat);
    let index = known.unwrap_or_else(|| {
        caveats.push(caveat);
        caveats.len() - 1
    });
    Paint::Quiet.on(format!(" [{}]", index + 1))
}

fn value(value: Option<f64>) -> String {
    value.map_or_else(|| "undefined".to_owned(), number)
}

/// Links the files of the results below the run's folder, so that they can be opened by name. Returns their paths.
pub(super) fn link_files(results: &Results, store: &Store, run: &RunId) -> Vec<PathBuf> {
    let link_one = |(stage, files): &(String, Arc<Files>)| {
        let Ok(mut folder) = Folder::open(&store.run_folder(run).join("files").join(file_name(stage))) else {
            return Vec::new();
        };
        let mut linked = Vec::with_capacity(files.entries().len());
        for entry in files.entries() {
            let source = store.layout().object_named(&entry.digest, "");
            let is_there = match folder.link(&entry.path, &source) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => true,
                // Elsewhere, or on a file system without links.
                Err(_) => folder.write(entry).is_ok(),
                Ok(()) => true,
            };
            linked.extend(is_there.then(|| folder.path_of(&entry.path)));
        }
        linked
    };
    let linked: Vec<Vec<PathBuf>> = results.files.par_iter().with_min_len(SPAN_OF_WORK).map(link_one).collect();
    linked.concat()
}

/// [`link_files`] for a run whose record came from elsewhere, as far as its files are in the store.
pub(super) fn link_files_of(store: &Store, record: &RunRecord) -> Vec<PathBuf> {
    let mut results = Results::default();
    for stage in &record.stages {
        let action = stage.key.and_then(|key| store.action(&key).ok().flatten());
        for output in action.iter().flat_map(|action| &action.outputs) {
            if output.record.kind == Some(ArtifactKind::Files)
                && let Ok(Artifact::Files(files)) = store.load(&output.record)
            {
                results.files.push((stage.name.clone(), files));
            }
        }
    }
    link_files(&results, store, &record.run)
}

/// A stage's name as a folder's.
fn file_name(stage: &str) -> String {
    let name = stage.replace(['/', '\\'], "_");
    if name.starts_with('.') { format!("_{name}") } else { name }
}
