//! Every stage: what it is, why it ran, what determined it, what it took and made, and what it said.

use maud::{Markup, html};

use super::graph::picture;
use crate::diagnostic::{bytes, duration};
use crate::engine::log_path;
use crate::page::run::RunView;
use crate::report::StageHistory;

/// Stages that are described one by one.
pub const DESCRIBED: usize = 400;

/// Raw files of a stage that are listed.
const FILES: usize = 20;

/// Lines of a log that are shown, the last.
const LOG_LINES: usize = 200;

/// The graph, and below it each stage.
pub fn section(view: &RunView<'_>) -> Markup {
    let stages = &view.history.stages;
    html! {
        (picture(&view.drawing))
        @if stages.len() > DESCRIBED { p.notice { "Only the first " (DESCRIBED) " of " (stages.len()) " stages are described." } }
        @for (index, stage) in stages.iter().take(DESCRIBED).enumerate() { (described(view, index, stage)) }
    }
}

fn described(view: &RunView<'_>, index: usize, stage: &StageHistory) -> Markup {
    let record = &stage.record;
    html! {
        details.stage id=(format!("stage-{index}")) {
            summary {
                span class=(format!("state {}", record.state.name())) { (record.state.name()) }
                " " strong { bdi { (record.name) } } " " span.quiet { (record.kind) }
                @if record.seconds > 0.0 { " " span.quiet { (duration(record.seconds)) } }
                " " span.quiet { bdi { (record.reason) } }
            }
            dl.facts {
                @if let Some(key) = &record.key { dt { "Key" } dd { code { (key) } } }
                @if let Some(action) = &stage.action {
                    dt { "Computed" } dd { (crate::cache::utc(action.finished)) " by runner " (action.runner) ", in " (duration(action.seconds)) }
                }
                @if !stage.inputs.is_empty() {
                    dt { "Takes" }
                    dd { ul { @for input in &stage.inputs { li {
                        (input.port) @if let Some(item) = &input.item { " " bdi { (item) } } ": "
                        @match &input.maker {
                            Some((maker, port)) => { a href=(format!("#stage-{maker}")) { bdi { (view.history.stages[*maker].record.name) } } "." (port) }
                            None => { code { (input.digest.short()) } }
                        }
                    } } } }
                }
                @if !stage.files.is_empty() {
                    dt { "Reads" }
                    dd { ul {
                        @for file in stage.files.iter().take(FILES) { li { bdi { (file.shown_name()) } " " code { (file.blake3.short()) } } }
                        @if stage.files.len() > FILES { li { "and " (stage.files.len() - FILES) " more" } }
                    } }
                }
                @if !stage.outputs().is_empty() {
                    dt { "Makes" }
                    dd { ul { @for output in stage.outputs() { li {
                        (output.port) @if let Some(kind) = output.record.kind { ": " (kind.name()) } ", " (bytes(output.record.bytes)) " " code { (output.record.digest.short()) }
                    } } } }
                }
                @if !record.findings.is_empty() { dt { "Found in its data" } dd { ul { @for finding in &record.findings { li { bdi { (finding) } } } } } }
            }
            @if let Some(action) = stage.action.as_ref().filter(|action| !action.manifest.is_empty()) {
                details { summary { "What determines it" } pre { (action.manifest) } }
            }
            @if let Some((text, left_out)) = log(view, &record.name) {
                details { summary { "Log" @if left_out > 0 { ", the last " (LOG_LINES) " lines" } } pre { (text) } }
            }
        }
    }
}

/// The end of what the stage's program said, and the number of lines before it.
fn log(view: &RunView<'_>, stage: &str) -> Option<(String, usize)> {
    let history = view.history;
    let path = log_path(&history.store.run_folder(&history.record.run), stage);
    let text = history.store.layout().read(&path).ok()?;
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let left_out = lines.len().saturating_sub(LOG_LINES);
    Some((lines[left_out..].join("\n"), left_out))
}
