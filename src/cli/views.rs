//! Tables of metrics on standard output.

use contract::artifact::{Direction, Metric};
use indexmap::IndexMap;

use crate::ui::{Align, Paint, Table, number};

/// Above this many stages with metrics, one line each.
const WIDE_ABOVE: usize = 4;

/// The metrics as a table: a block per stage, or a line per stage if there are many.
pub(super) fn metrics_table(metrics: &IndexMap<String, Vec<Metric>>) -> String {
    if metrics.len() <= WIDE_ABOVE {
        return metrics
            .iter()
            .map(|(stage, entries)| block(stage, entries))
            .collect::<Vec<_>>()
            .join("\n");
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
            let flags = |flag: fn(&Metric) -> bool| {
                metrics
                    .values()
                    .flatten()
                    .any(|one| one.name == *name && flag(one))
            };
            let oracle = if flags(|metric| metric.oracle) {
                " (oracle)"
            } else {
                ""
            };
            let inflating = if flags(|metric| metric.inflating) {
                " (inflating)"
            } else {
                ""
            };
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
    let mut table = Table::new(&[
        ("metric", Align::Left),
        ("value", Align::Right),
        ("", Align::Left),
    ]);
    let mut caveats: Vec<&str> = Vec::new();
    for metric in metrics {
        let direction = match metric.direction {
            Direction::Higher => "higher is better",
            Direction::Lower => "lower is better",
            Direction::Neither => "",
        };
        let mut marks = Vec::new();
        marks.extend(
            metric
                .oracle
                .then(|| Paint::Warn.on("oracle: knows the test labels")),
        );
        marks.extend(metric.inflating.then(|| Paint::Warn.on("inflating")));
        let marks = if marks.is_empty() {
            Paint::Quiet.on(direction)
        } else {
            marks.join(", ")
        };
        table.row([
            metric.name.clone(),
            value(metric.value),
            format!("{marks}{}", footnote(&metric.caveat, &mut caveats)),
        ]);
    }
    let notes: String = caveats
        .iter()
        .enumerate()
        .map(|(index, caveat)| Paint::Quiet.on(format!("  [{}] {caveat}", index + 1)) + "\n")
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
