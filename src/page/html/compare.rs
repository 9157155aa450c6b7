//! Runs side by side, and two runs line by line.

use std::collections::BTreeSet;

use maud::{Markup, html};
use serde_json::{Value, json};

use super::{Frame, Tiles, page};
use crate::cache::RunRecord;
use crate::diagnostic::number;
use crate::report::{Pair, RunDiff};

/// A row of a comparison: a name, and what each run has. Values are compared as they are, and not as they are shown.
type Line = (String, Vec<Option<Value>>);

/// Runs side by side; `all` shows what is the same in them too. Only a page that is served leads to others.
pub fn compare_page(
    records: &[RunRecord],
    all: bool,
    links: Vec<(String, String)>,
    is_served: bool,
) -> String {
    let frame = Frame {
        title: "Comparison",
        tiles: Tiles::Below("tiles/"),
        data: json!({}),
        links,
    };
    let parts = [
        ("Parameters", parameters(records)),
        ("Metrics", metrics(records)),
        ("Environment", environment(records)),
    ];
    let mut query = form_urlencoded::Serializer::new(String::new());
    for record in records {
        query.append_pair("run", &record.run.0);
    }
    if !all {
        query.append_pair("all", "1");
    }
    let body = html! {
        h1 { "Comparison of " (records.len()) " runs" }
        @if is_served { p {
            a href=(format!("/compare?{}", query.finish())) { @if all { "Show only what differs" } @else { "Show everything" } }
            @if let [a, b] = records { " · " a href=(format!("/diff?a={}&b={}", a.run, b.run)) { "Line by line" } }
        } }
        @for (title, lines) in &parts { (block(title, records, lines, all, is_served)) }
    };
    page(&frame, &body)
}

fn block(title: &str, records: &[RunRecord], lines: &[Line], all: bool, is_served: bool) -> Markup {
    let (mut shown, mut same) = (Vec::new(), 0);
    for (name, values) in lines {
        let is_same = values.iter().all(|value| *value == values[0]);
        same += usize::from(is_same);
        if all || !is_same {
            shown.push((name, values, is_same));
        }
    }
    html! {
        h2 { (title) span.quiet { " · " (same) " of " (lines.len()) " the same" } }
        @if !shown.is_empty() {
            div.scroll tabindex="0" role="region" aria-label=(title) { table {
                thead { tr { th scope="col" { "Name" } @for record in records { th.number scope="col" { @if is_served { a href=(format!("/run/{}/", record.run)) { (record.run) } } @else { (record.run) } } } } }
                tbody { @for (name, values, is_same) in shown {
                    tr { th scope="row" { bdi { (name) } } @for value in values { td.number { @match value { Some(value) => bdi class=[is_same.then_some("quiet")] { (text(value)) }, None => span.quiet { "—" } } } } }
                } }
            } }
        }
    }
}

fn lines_of(
    names: BTreeSet<String>,
    records: &[RunRecord],
    value: impl Fn(&RunRecord, &str) -> Option<Value>,
) -> Vec<Line> {
    let mut lines = Vec::with_capacity(names.len());
    for name in names {
        let values = records.iter().map(|record| value(record, &name)).collect();
        lines.push((name, values));
    }
    lines
}

fn parameters(records: &[RunRecord]) -> Vec<Line> {
    let own = ["profile", "seed"].map(str::to_owned);
    let names = records
        .iter()
        .flat_map(|record| record.params.keys().cloned());
    lines_of(
        names.chain(own).collect(),
        records,
        |record, name| match name {
            "seed" if !record.params.contains_key(name) => Some(json!(record.seed)),
            "profile" if !record.params.contains_key(name) => {
                record.profile.as_ref().map(|profile| json!(profile))
            }
            _ => record.params.get(name).cloned(),
        },
    )
}

fn metrics(records: &[RunRecord]) -> Vec<Line> {
    let mut names = BTreeSet::new();
    for (stage, metrics) in records.iter().flat_map(|record| &record.metrics) {
        names.extend(metrics.iter().map(|metric| (stage, &metric.name)));
    }
    let mut lines = Vec::with_capacity(names.len());
    for (stage, name) in names {
        let value = |record: &RunRecord| {
            let metrics = record.metrics.get(stage)?;
            let metric = metrics.iter().find(|known| known.name == *name)?;
            Some(
                metric
                    .value
                    .map_or_else(|| json!("undefined"), |value| json!(value)),
            )
        };
        let values = records.iter().map(value).collect();
        lines.push((format!("{stage}.{name}"), values));
    }
    lines
}

fn environment(records: &[RunRecord]) -> Vec<Line> {
    let names = records
        .iter()
        .flat_map(|record| record.environment.keys().cloned());
    lines_of(names.collect(), records, |record, name| {
        record.environment.get(name).cloned()
    })
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(own) if own.is_f64() => own.as_f64().map_or_else(|| own.to_string(), number),
        other => other.to_string(),
    }
}

/// By how much a value has changed.
fn change(before: f64, after: f64) -> String {
    let change = number((after - before).abs());
    let sign = if after < before { "−" } else { "+" };
    format!("{sign}{change}")
}

/// Two runs line by line.
pub fn diff_page(
    a: &RunRecord,
    b: &RunRecord,
    diff: &RunDiff,
    links: Vec<(String, String)>,
) -> String {
    let frame = Frame {
        title: "Difference",
        tiles: Tiles::Below("tiles/"),
        data: json!({}),
        links,
    };
    let body = html! {
        h1 { "What differs" }
        p { a href=(format!("/run/{}/", a.run)) { (a.run) } " and " a href=(format!("/run/{}/", b.run)) { (b.run) } }
        @if diff.is_empty() { p.good { "Parameters, stages and metrics are the same." } }
        (pairs("Parameters", &diff.params))
        @if !diff.stages.is_empty() {
            h2 { "Stages" }
            @for stage in &diff.stages {
                h3 { bdi { (stage.name) } @if stage.same_content { span.good { " · same content" } } }
                p.quiet { @for (place, key) in stage.keys.iter().enumerate() { @if place > 0 { " → " } code { (key.as_deref().unwrap_or("absent")) } } }
                @if !stage.manifest.is_empty() { ul { @for line in &stage.manifest { li { code { (line) } } } } }
            }
        }
        (pairs("Metrics", &diff.metrics))
        (pairs("Environment", &diff.environment))
    };
    page(&frame, &body)
}

fn pairs(title: &str, pairs: &[Pair]) -> Markup {
    html! {
        @if !pairs.is_empty() {
            h2 { (title) }
            div.scroll tabindex="0" role="region" aria-label=(title) { table {
                thead { tr { th scope="col" { "Name" } th.number scope="col" { "Before" } th.number scope="col" { "After" } th.number scope="col" { "Change" } } }
                tbody { @for (name, values) in pairs {
                    tr {
                        th scope="row" { bdi { (name) } }
                        @for value in values { td.number { @match value { Some(value) => bdi { (text(value)) }, None => span.quiet { "absent" } } } }
                        td.number { @if let [Some(before), Some(after)] = values && let (Some(before), Some(after)) = (before.as_f64(), after.as_f64()) { (change(before, after)) } }
                    }
                } }
            } }
        }
    }
}
