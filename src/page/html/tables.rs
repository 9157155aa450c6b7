//! Tables that stages made, classes and who was taken for whom, and plots.

use contract::artifact::{ArtifactKind, Content, Table};
use maud::{Markup, html};

use super::base64;
use crate::diagnostic::{counted, number};
use crate::page::confusion::{Confusion, Example, Look};
use crate::page::run::RunView;

/// Rows that are shown of a table.
const ROWS: usize = 500;

/// Classes up to which there is a matrix.
const CLASSES: usize = 80;

/// Bytes of plots that a page carries.
const PLOT_BYTES: usize = 1_500_000;

/// Every table of the run but the logs of trainings.
pub fn section(view: &RunView<'_>) -> Markup {
    html! {
        @if view.tables_left_out > 0 { p.notice { (counted(view.tables_left_out, "more table")) " not shown" } }
        @for (name, table) in &view.tables {
            details { summary { bdi { (name) } span.quiet { " · " (counted(table.rows(), "row")) } } (shown(name, table)) }
        }
    }
}

/// A table as it is.
pub fn shown(name: &str, table: &Table) -> Markup {
    let names = table.column_names();
    let columns: Vec<Vec<(String, bool)>> = names.iter().map(|name| cells(table, name)).collect();
    html! {
        div.scroll tabindex="0" role="region" aria-label=(name) {
            table.sortable {
                caption { bdi { (name) } @if table.rows() > ROWS { ", the first " (ROWS) " of " (table.rows()) " rows" } }
                thead { tr { @for (name, column) in names.iter().zip(&columns) {
                    th scope="col" class=[column.iter().any(|(_, number)| *number).then_some("number")] { bdi { (name) } }
                } } }
                tbody { @for row in 0..table.rows().min(ROWS) {
                    tr { @for column in &columns { @let (text, is_number) = &column[row]; td class=[is_number.then_some("number")] { bdi { (text) } } } }
                } }
            }
        }
    }
}

/// The cells of a column as text, and whether each is a number.
fn cells(table: &Table, name: &str) -> Vec<(String, bool)> {
    if let Some(values) = table.reals(name) {
        let text = |value: Option<f64>| (value.map_or_else(String::new, number), true);
        return values.into_iter().take(ROWS).map(text).collect();
    }
    if let Some(values) = table.integers(name) {
        let text = |value: Option<i64>| {
            (
                value.map_or_else(String::new, |value| value.to_string()),
                true,
            )
        };
        return values.into_iter().take(ROWS).map(text).collect();
    }
    if let Some(values) = table.texts(name) {
        return values
            .into_iter()
            .map(|text| (text.unwrap_or_default(), false))
            .collect();
    }
    vec![(String::new(), false); table.rows().min(ROWS)]
}

/// Confusion matrices.
pub fn confusions(view: &RunView<'_>) -> Markup {
    html! { @for confusion in &view.confusions { (matrix(confusion)) } }
}

fn matrix(confusion: &Confusion) -> Markup {
    let total: usize = confusion.counts.iter().flatten().sum();
    let right: usize = (0..confusion.classes.len())
        .map(|class| confusion.counts[class][class])
        .sum();
    html! {
        h3 { bdi { (confusion.stage) } span.quiet { " · " (right) " of " (total) " samples of split " (confusion.split) " right" } }
        @if confusion.classes.len() > CLASSES { p.notice { "A matrix of " (confusion.classes.len()) " classes is not shown." } }
        @else { div.scroll tabindex="0" role="region" aria-label="Confusion matrix" {
            table.matrix {
                caption { "Rows: the true class. Columns: the predicted one." }
                thead { tr { th scope="col" { "" } @for class in &confusion.classes { th scope="col" { bdi { (class) } } } } }
                tbody { @for (truth, counts) in confusion.counts.iter().enumerate() {
                    @let of_class: usize = counts.iter().sum();
                    tr {
                        th scope="row" { bdi { (confusion.classes[truth]) } }
                        @for (predicted, count) in counts.iter().enumerate() {
                            td class=(format!("number heat-{}", heat(*count, of_class, truth == predicted))) { @if *count > 0 { (count) } }
                        }
                    }
                } }
            }
        } }
        details {
            summary { "Examples of each cell" }
            div.examples { @for example in &confusion.examples { (example_block(confusion, example)) } }
        }
    }
}

/// A step of colour: the share of the class, from 0 to 4, for what is right and what is wrong.
fn heat(count: usize, of: usize, is_right: bool) -> String {
    let step = (count * 4).div_ceil(of.max(1)).min(4);
    format!("{}{step}", if is_right { "right" } else { "wrong" })
}

fn example_block(confusion: &Confusion, example: &Example) -> Markup {
    let (truth, predicted) = (
        &confusion.classes[example.truth],
        &confusion.classes[example.predicted],
    );
    html! {
        figure.example {
            @match &example.look {
                Look::Picture(file) => img alt=(format!("Sample {}", example.name)) src=(format!("data:image/png;base64,{}", base64(file)));,
                Look::Lines(lines) => (sketch(lines)),
                Look::Unknown => {},
            }
            figcaption {
                bdi { (example.name) } br;
                @if truth == predicted { span.good { bdi { (truth) } } }
                @else { span.bad { bdi { (truth) } " taken for " bdi { (predicted) } } }
                " " (number(f64::from(example.probability)))
            }
        }
    }
}

fn sketch(lines: &[Vec<f32>]) -> Markup {
    let all = || {
        lines
            .iter()
            .flatten()
            .copied()
            .filter(|value| value.is_finite())
    };
    let (low, high) = (
        all().fold(f32::NAN, f32::min),
        all().fold(f32::NAN, f32::max),
    );
    let span = if high > low { high - low } else { 1.0 };
    html! {
        svg.sketch viewBox="0 0 120 60" role="img" aria-label="The sample's first channels" preserveAspectRatio="none" {
            @for (number, line) in lines.iter().enumerate() {
                @let last = (line.len() as f32 - 1.0).max(1.0);
                @let points: Vec<String> = line.iter().enumerate().map(|(place, value)| {
                    format!("{:.1},{:.1}", place as f32 / last * 120.0, 58.0 - (value - low) / span * 56.0)
                }).collect();
                polyline class=(format!("line-{number}")) points=(points.join(" ")) {}
            }
        }
    }
}

/// Plots that stages drew, as far as a page carries them.
pub fn plots(view: &RunView<'_>) -> Markup {
    let mut shown = Vec::new();
    let (mut room, mut left_out, mut lost) = (PLOT_BYTES, 0, 0);
    for (stage, path, content) in plot_files(view) {
        let Ok(bytes) = content.read() else {
            lost += 1;
            continue;
        };
        match room.checked_sub(bytes.len()) {
            Some(rest) => {
                room = rest;
                let kind = if path.ends_with(".svg") {
                    "svg+xml"
                } else {
                    "png"
                };
                shown.push((
                    format!("{stage}/{path}"),
                    format!("data:image/{kind};base64,{}", base64(&bytes)),
                ));
            }
            None => left_out += 1,
        }
    }
    if shown.is_empty() && left_out + lost == 0 {
        return Markup::default();
    }
    html! {
        details {
            summary { (counted(shown.len(), "plot")) @if left_out > 0 { ", and " (left_out) " that have no room here" } @if lost > 0 { ", and " (lost) " that are gone from the store" } }
            div.plots { @for (name, source) in &shown { figure { img alt=(name) loading="lazy" src=(source); figcaption { bdi { (name) } } } } }
        }
    }
}

fn plot_files(view: &RunView<'_>) -> Vec<(String, String, Content)> {
    let mut found = Vec::new();
    for stage in &view.history.stages {
        for output in stage.outputs() {
            if output.record.kind != Some(ArtifactKind::Files) {
                continue;
            }
            let Ok(contract::artifact::Artifact::Files(files)) =
                view.history.store.load(&output.record)
            else {
                continue;
            };
            for entry in files.entries() {
                let path = entry.path.as_str().to_owned();
                if path.ends_with(".png") || path.ends_with(".svg") {
                    found.push((stage.record.name.clone(), path, entry.content.clone()));
                }
            }
        }
    }
    found
}
