//! The verdict: metrics with their caveats, what determined them, and how to repeat them.

use contract::artifact::{Direction, Metric};
use indexmap::IndexSet;
use maud::{Markup, html};

use crate::diagnostic::{counted, number};
use crate::page::run::RunView;

/// Above this many stages with metrics, a line each.
const WIDE_ABOVE: usize = 4;

/// Stages with metrics that have a line.
const LINES: usize = 1000;

/// The metrics, what was doubtful, and the command.
pub fn section(view: &RunView<'_>) -> Markup {
    let record = view.history.record;
    let failed = record
        .stages
        .iter()
        .filter(|stage| !stage.causes.is_empty());
    html! {
        @for stage in failed {
            div.notice.bad {
                p { strong { bdi { (stage.name) } } " failed: " bdi { (stage.reason) } }
                @for cause in &stage.causes { pre { (cause) } }
            }
        }
        @for stage in &record.stages {
            @for doubt in &stage.doubts {
                p.notice { strong { bdi { (stage.name) } } ": " (doubt.message)
                    @if let Some(hint) = &doubt.hint { " " em { (hint) } } }
            }
        }
        @if record.metrics.is_empty() { p { "This run computed no metrics." } }
        @else if record.metrics.len() > WIDE_ABOVE { (wide(view)) }
        @else {
            div.columns {
                @for (stage, metrics) in &record.metrics { (block(stage, metrics)) }
            }
        }
        (repeat(view))
    }
}

/// The metrics of a stage.
fn block(stage: &str, metrics: &[Metric]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(format!("Metrics of {stage}")) { table.metrics {
            caption { bdi { (stage) } }
            thead { tr { th scope="col" { "Metric" } th.number scope="col" { "Value" } th scope="col" { "How to read it" } } }
            tbody {
                @for metric in metrics {
                    tr {
                        th scope="row" { bdi { (metric.name) } }
                        td.number data-metric=(metric.name) { (value(metric.value)) }
                        td { (marks(metric)) bdi { (metric.caveat) } }
                    }
                }
            }
        } }
    }
}

fn marks(metric: &Metric) -> Markup {
    html! {
        @if metric.oracle { span.mark { "oracle: knows the test labels" } " " }
        @if metric.inflating { span.mark { "inflating" } " " }
        @match metric.direction {
            Direction::Higher => span.quiet { "higher is better " },
            Direction::Lower => span.quiet { "lower is better " },
            Direction::Neither => {},
        }
    }
}

/// A line per stage and a column per metric.
fn wide(view: &RunView<'_>) -> Markup {
    let metrics = &view.history.record.metrics;
    let mut names: Vec<&str> = Vec::new();
    for metric in metrics.values().flatten() {
        if !names.contains(&metric.name.as_str()) {
            names.push(&metric.name);
        }
    }
    let mut caveats: IndexSet<(&str, &str)> = IndexSet::new();
    for metric in metrics.values().flatten() {
        if !metric.caveat.is_empty() {
            caveats.insert((&metric.name, &metric.caveat));
        }
    }
    let is_marked = |name: &str, mark: fn(&Metric) -> bool| {
        let mut all = metrics.values().flatten();
        all.any(|metric| metric.name == name && mark(metric))
    };
    html! {
        div.scroll tabindex="0" role="region" aria-label="Metrics of all stages" {
            table.sortable {
                caption { "Metrics of all stages" }
                thead { tr {
                    th scope="col" { "Stage" }
                    @for name in &names {
                        th.number scope="col" {
                            bdi { (name) }
                            @if is_marked(name, |metric| metric.oracle) { " " span.mark { "oracle" } }
                            @if is_marked(name, |metric| metric.inflating) { " " span.mark { "inflating" } }
                        }
                    }
                } }
                tbody {
                    @for (stage, own) in metrics.iter().take(LINES) {
                        tr {
                            th scope="row" { bdi { (stage) } }
                            @for name in &names {
                                td.number {
                                    @if let Some(metric) = own.iter().find(|metric| metric.name == *name) { (value(metric.value)) }
                                }
                            }
                        }
                    }
                }
            }
        }
        @if metrics.len() > LINES { p.notice { "The first " (LINES) " of " (metrics.len()) " stages; `runner export --format csv` has all." } }
        @if !caveats.is_empty() {
            details {
                summary { "How to read these metrics (" (counted(caveats.len(), "remark")) ")" }
                ul { @for (name, caveat) in &caveats { li { strong { bdi { (name) } } ": " bdi { (caveat) } } } }
            }
        }
    }
}

/// A value as the terminal shows it.
pub fn value(value: Option<f64>) -> String {
    value.map_or_else(|| "undefined".to_owned(), number)
}

/// What to type to get the same, and what vouches for it.
fn repeat(view: &RunView<'_>) -> Markup {
    let record = view.history.record;
    let git = record.environment.get("git");
    let commit = git.and_then(|git| git.get("commit")?.as_str());
    let is_dirty = git
        .and_then(|git| git.get("dirty")?.as_bool())
        .unwrap_or(false);
    html! {
        details open {
            summary { "How to repeat this" }
            dl.facts {
                dt { "Command" } dd { code { bdi { (record.command.join(" ")) } } }
                @if !record.params.is_empty() {
                    dt { "Parameters" }
                    dd { @for (name, value) in &record.params { code { bdi { (name) "=" (value) } } " " } }
                }
                dt { "Seed" } dd { (record.seed) }
                @if let Some(commit) = commit {
                    dt { "Commit" } dd { code { (commit) } @if is_dirty { " with changes that are not committed" } }
                }
                @if let Some(seal) = &record.seal { dt { "Seal of the record" } dd { code { (seal) } } }
                dt { "Check it" } dd { code { "runner audit " (record.run) } " computes it again and compares every number." }
            }
        }
    }
}
