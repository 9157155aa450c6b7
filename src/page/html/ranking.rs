//! Detectors over series: a sortable table, and the critical-difference diagram.

use contract::artifact::Direction;
use maud::{Markup, html};

use super::results::value;
use crate::diagnostic::number;
use crate::page::ranking::{CriticalDifference, Mean, Ranking};
use crate::page::run::RunView;

/// Series that get a column of their own.
const COLUMNS: usize = 40;

/// Every ranking of the run.
pub fn section(view: &RunView<'_>) -> Markup {
    html! { @for ranking in &view.rankings { (block(ranking)) } }
}

fn block(ranking: &Ranking) -> Markup {
    let better = match ranking.direction {
        Direction::Lower => "lowest",
        Direction::Higher | Direction::Neither => "highest",
    };
    let count = ranking.series.len();
    html! {
        h3 { bdi { (ranking.stage) } " by " bdi { (ranking.axis) } span.quiet { " · " bdi { (ranking.metric) } ", the " (better) " first" } }
        @if count > 1 { p.quiet { "Mean ± sample deviation over " (count) " series; a number in brackets says on how many of them a mean stands if not on all." } }
        div.scroll tabindex="0" role="region" aria-label="Ranking" {
            table.sortable {
                caption { @if count > 1 { "Means over " (count) " series" } @else { "Results on one series" } }
                thead { tr {
                    th.number scope="col" { "Rank" }
                    th scope="col" { bdi { (ranking.axis) } }
                    @for name in &ranking.metrics { th.number scope="col" { bdi { (name) } } }
                } }
                tbody { @for (place, row) in ranking.rows.iter().enumerate() {
                    tr {
                        td.number { (place + 1) }
                        th scope="row" { bdi { (row.name) } }
                        @for name in &ranking.metrics { (mean_cell(row.means.get(name))) }
                    }
                } }
            }
        }
        @if count > 1 {
            div.scroll tabindex="0" role="region" aria-label="Each series" {
                table.sortable {
                    caption { bdi { (ranking.metric) } " on each series" @if count > COLUMNS { ", the first " (COLUMNS) " of " (count) } }
                    thead { tr { th scope="col" { bdi { (ranking.axis) } } @for series in ranking.series.iter().take(COLUMNS) { th.number scope="col" { bdi { (series) } } } } }
                    tbody { @for row in &ranking.rows {
                        tr { th scope="row" { bdi { (row.name) } } @for cell in row.values.iter().take(COLUMNS) { td.number { @if cell.is_some() { (value(*cell)) } } } }
                    } }
                }
            }
        }
        @if let Some(difference) = &ranking.difference { (diagram(difference, &ranking.metric)) }
    }
}

fn mean_cell(mean: Option<&Mean>) -> Markup {
    let Some(mean) = mean else {
        return html! { td.number data-value="" {} };
    };
    html! {
        td.number data-value=(mean.mean) {
            (number(mean.mean))
            @if let Some(deviation) = mean.deviation { span.quiet { " ± " (number(deviation)) } }
            @if mean.count < mean.of { span.mark { " (" (mean.count) ")" } }
        }
    }
}

/// Mean ranks on a line; a bar joins those that do not differ.
fn diagram(found: &CriticalDifference, metric: &str) -> Markup {
    const WIDTH: f64 = 760.0;
    const MARGIN: f64 = 190.0;
    const AXIS: f64 = 60.0;
    let count = found.ranks.len();
    let half = count.div_ceil(2);
    let x =
        |rank: f64| MARGIN + (rank - 1.0) / (count as f64 - 1.0).max(1.0) * (WIDTH - 2.0 * MARGIN);
    let groups = groups(found);
    let below = AXIS + 14.0 + 8.0 * groups.len() as f64;
    let height = below + 22.0 * half as f64 + 16.0;
    html! {
        figure {
            figcaption { "Critical-difference diagram: mean ranks by " bdi { (metric) } " over " (found.series) " series. Those that a bar joins do not differ at the level of 5 % (Nemenyi; difference " (number(found.difference)) ")." }
            svg.diagram viewBox=(format!("0 0 {WIDTH} {height}")) role="img" aria-label=(found.ranks.iter().map(|(rank, name)| format!("{name} {}", number(*rank))).collect::<Vec<_>>().join(", ")) {
                line x1=(x(1.0)) x2=(x(1.0 + found.difference.min(count as f64 - 1.0))) y1="18" y2="18" class="thick" {}
                text x=(x(1.0)) y="12" { "critical difference " (number(found.difference)) }
                line x1=(x(1.0)) x2=(x(count as f64)) y1=(AXIS) y2=(AXIS) class="line" {}
                @for rank in 1..=count {
                    line x1=(x(rank as f64)) x2=(x(rank as f64)) y1=(AXIS - 6.0) y2=(AXIS) class="line" {}
                    text x=(x(rank as f64)) y=(AXIS - 10.0) text-anchor="middle" { (rank) }
                }
                @for (level, (first, last)) in groups.iter().enumerate() {
                    line x1=(x(*first) - 4.0) x2=(x(*last) + 4.0) y1=(AXIS + 10.0 + 8.0 * level as f64) y2=(AXIS + 10.0 + 8.0 * level as f64) class="thick" {}
                }
                @for (place, (rank, name)) in found.ranks.iter().enumerate() {
                    @let is_left = place < half;
                    @let row = if is_left { place } else { count - 1 - place };
                    @let y = below + 22.0 * row as f64 + 10.0;
                    @let end = if is_left { MARGIN - 8.0 } else { WIDTH - MARGIN + 8.0 };
                    polyline points=(format!("{0},{AXIS} {0},{y} {end},{y}", x(*rank))) class="line" {}
                    text x=(if is_left { end - 4.0 } else { end + 4.0 }) y=(y + 4.0) text-anchor=(if is_left { "end" } else { "start" }) { (name) " (" (number(*rank)) ")" }
                }
            }
        }
    }
}

/// The longest stretches of ranks that lie within the difference.
fn groups(found: &CriticalDifference) -> Vec<(f64, f64)> {
    let ranks: Vec<f64> = found.ranks.iter().map(|(rank, _)| *rank).collect();
    let mut groups = Vec::new();
    let mut reached = 0;
    for first in 0..ranks.len() {
        let last = ranks.partition_point(|rank| rank - ranks[first] < found.difference) - 1;
        if last > first && last > reached {
            groups.push((ranks[first], ranks[last]));
            reached = last;
        }
    }
    groups
}
