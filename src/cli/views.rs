//! Tables of metrics on standard output.

use contract::artifact::{Direction, Metric};
use indexmap::IndexMap;

use crate::ui::{Align, Paint, Table, number};

/// Above this many stages with metrics, one line each.
const WIDE_ABOVE: usize = 4;

/// The metrics as a table: a block per stage, or a line per stage if there are many. Caveats stand below in either form.
pub(super) fn metrics_table(metrics: &IndexMap<String, Vec<Metric>>) -> String {
    if metrics.len() > WIDE_ABOVE {
        return wide_table(metrics);
    }
    let mut blocks = Vec::new();
    for (stage, entries) in metrics {
        blocks.push(block(stage, entries));
    }
    blocks.join("\n")
}

/// A line per stage, and a column per metric.
fn wide_table(metrics: &IndexMap<String, Vec<Metric>>) -> String {
    let mut columns: IndexMap<&str, Vec<&Metric>> = IndexMap::new();
    for metric in metrics.values().flatten() {
        columns.entry(&metric.name).or_default().push(metric);
    }
    let mut footnotes = Footnotes::default();
    let mut titles = Vec::with_capacity(columns.len());
    for (name, column) in &columns {
        let mut title = (*name).to_owned();
        if column.iter().any(|metric| metric.oracle) {
            title.push_str(" (oracle)");
        }
        if column.iter().any(|metric| metric.inflating) {
            title.push_str(" (inflating)");
        }
        if let Some(caveat) = common_caveat(column) {
            title.push_str(&footnotes.reference(caveat));
        }
        titles.push(title);
    }
    let mut header = vec![("stage", Align::Left)];
    header.extend(titles.iter().map(|title| (title.as_str(), Align::Right)));
    let mut table = Table::new(&header);
    for (stage, entries) in metrics {
        let mut cells = vec![stage.clone()];
        for (name, column) in &columns {
            cells.push(match entries.iter().find(|metric| metric.name == *name) {
                None => String::new(),
                Some(metric) if common_caveat(column).is_some() => value(metric.value),
                Some(metric) => value(metric.value) + &footnotes.reference(&metric.caveat),
            });
        }
        table.row(cells);
    }
    table.render() + &footnotes.list()
}

/// The caveat that all values of a metric have.
fn common_caveat<'a>(column: &[&'a Metric]) -> Option<&'a str> {
    let first = column.first()?.caveat.as_str();
    column
        .iter()
        .all(|metric| metric.caveat == first)
        .then_some(first)
}

fn block(stage: &str, metrics: &[Metric]) -> String {
    let mut table = Table::new(&[
        ("metric", Align::Left),
        ("value", Align::Right),
        ("", Align::Left),
    ]);
    let mut footnotes = Footnotes::default();
    for metric in metrics {
        let mut marks = Vec::new();
        if metric.oracle {
            marks.push(Paint::Warn.on("oracle: knows the test labels"));
        }
        if metric.inflating {
            marks.push(Paint::Warn.on("inflating"));
        }
        if marks.is_empty() {
            marks.push(Paint::Quiet.on(match metric.direction {
                Direction::Higher => "higher is better",
                Direction::Lower => "lower is better",
                Direction::Neither => "",
            }));
        }
        let marks = marks.join(", ") + &footnotes.reference(&metric.caveat);
        table.row([metric.name.clone(), value(metric.value), marks]);
    }
    let title = Paint::Strong.on(stage);
    format!("{title}\n{}{}", table.render(), footnotes.list())
}

/// Caveats of a table: each is listed once below it, and referred to by its number.
#[derive(Default)]
struct Footnotes<'a>(Vec<&'a str>);

impl<'a> Footnotes<'a> {
    /// A reference such as ` [1]`.
    fn reference(&mut self, caveat: &'a str) -> String {
        if caveat.is_empty() {
            return String::new();
        }
        let known = self.0.iter().position(|other| *other == caveat);
        let index = known.unwrap_or_else(|| {
            self.0.push(caveat);
            self.0.len() - 1
        });
        Paint::Quiet.on(format!(" [{}]", index + 1))
    }

    fn list(&self) -> String {
        let mut lines = String::new();
        for (index, caveat) in self.0.iter().enumerate() {
            lines += &Paint::Quiet.on(format!("  [{}] {caveat}", index + 1));
            lines.push('\n');
        }
        lines
    }
}

fn value(value: Option<f64>) -> String {
    value.map_or_else(|| "undefined".to_owned(), number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(value: f64, caveat: &str) -> Metric {
        Metric {
            name: "f1".into(),
            value: Some(value),
            direction: Direction::Higher,
            oracle: false,
            inflating: false,
            caveat: caveat.into(),
        }
    }

    /// A value without its caveat would claim more than was computed, whatever the layout.
    #[test]
    fn every_layout_lists_every_caveat_once() {
        for stages in [2, 8] {
            let mut metrics = IndexMap::new();
            for stage in 1..stages {
                metrics.insert(format!("it{stage}"), vec![metric(0.5, "")]);
            }
            metrics.insert("mean".into(), vec![metric(0.25, "mean of 3 of 4")]);
            let text = metrics_table(&metrics);
            assert_eq!(text.matches("mean of 3 of 4").count(), 1, "{text}");
            assert_eq!(text.matches("[1]").count(), 2, "{text}");
            let own = text.lines().find(|line| line.contains("0.25")).unwrap();
            assert!(own.contains("[1]"), "{text}");
        }
        let all = (0..8).map(|stage| (stage.to_string(), vec![metric(0.5, "flatters")]));
        let text = metrics_table(&all.collect());
        assert_eq!(
            text.matches("[1]").count(),
            2,
            "in the header and below: {text}"
        );
    }
}
