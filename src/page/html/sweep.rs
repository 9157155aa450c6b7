//! A sweep: the leaderboard, parallel coordinates that can be brushed, the objective over time, what matters.

use base64::Engine as _;
use contract::artifact::Direction;
use maud::{Markup, html};
use serde_json::{Value, json};

use super::{Frame, STANDARD, Tiles, page, tables};
use crate::diagnostic::{duration, number};
use crate::sweep::{Influence, Leaderboard, PlotFormat, Row, influence, plots, shown};

/// What is known of a sweep.
pub struct SweepView {
    pub name: String,
    pub file: String,
    pub board: Leaderboard,
    /// Trials in all, of which the board knows those that have been chosen.
    pub total: usize,
    /// Jobs in the queues of clusters, as text: name, state.
    pub queue: Vec<(String, String)>,
    /// Runs that carried out parts of it, the newest first.
    pub runs: Vec<String>,
}

/// The page of a sweep.
pub fn sweep_page(view: &SweepView, links: Vec<(String, String)>, is_served: bool) -> String {
    let frame = Frame {
        title: &format!("{} · sweep", view.name),
        tiles: Tiles::Below("tiles/"),
        data: json!({"sweep": coordinates(&view.board)}),
        links,
    };
    page(&frame, &body(view, is_served))
}

fn body(view: &SweepView, is_served: bool) -> Markup {
    let board = &view.board;
    let influences = influence(&board.axes, &board.rows);
    let way = match board.direction {
        Some(Direction::Lower) => "the lowest is best",
        Some(Direction::Higher) => "the highest is best",
        Some(Direction::Neither) | None => "nothing says which way is better",
    };
    html! {
        header.top {
            h1 { bdi { (view.name) } }
            p.meta {
                span { "sweep " code { bdi { (view.file) } } }
                span { (view.total) " trials: " (states(board)) }
                span { "objective " bdi { (board.metric) } ", " (way) }
            }
            @if board.oracle { p.notice { "The objective is judged on the test rows: the best value is an upper bound, and not a result." } }
            @if let Some(best) = board.best() { p { strong { "Best: trial " (best.trial + 1) } ", " bdi { (board.metric) } " " (objective(best)) } }
        }
        section aria-labelledby="leaderboard" { h2 #leaderboard { "Leaderboard" }
            @match board.table() { Ok(table) => (tables::shown("Leaderboard", &table)), Err(error) => p.notice { (error) } }
        }
        section aria-labelledby="parallel" { h2 #parallel { "Parallel coordinates" }
            p.quiet { "A line is a trial. Drag along an axis to keep the trials that pass there; click the axis to let go. By the keyboard: arrows move the upper end of an axis's range, with shift the lower end; Escape lets go." }
            div.chart #coordinates role="img" aria-label="Parallel coordinates of the trials; the leaderboard has the same values" {}
            p #chosen.quiet aria-live="polite" {}
        }
        section aria-labelledby="over-time" { h2 #over-time { "Over time and by axis" }
            (pictures(board, &influences))
            (influence_table(&influences))
        }
        @if !view.queue.is_empty() {
            section aria-labelledby="queue" { h2 #queue { "Queue" }
                table { thead { tr { th scope="col" { "Task" } th scope="col" { "State" } } } tbody { @for (name, state) in &view.queue { tr { td { bdi { (name) } } td { (state) } } } } }
            }
        }
        @if !view.runs.is_empty() {
            section aria-labelledby="runs-of" { h2 #runs-of { "Runs" }
                ul { @for run in &view.runs { li { @if is_served { a href=(format!("/run/{run}/")) { code { (run) } } } @else { code { (run) } } } } }
            }
        }
    }
}

fn states(board: &Leaderboard) -> String {
    let mut parts = Vec::new();
    for name in [
        "done",
        "running",
        "queued",
        "undecided",
        "stopped",
        "failed",
        "missing",
    ] {
        match board.count(name) {
            0 => {}
            count => parts.push(format!("{count} {name}")),
        }
    }
    parts.join(", ")
}

fn objective(row: &Row) -> String {
    let value = row.mean.map_or_else(String::new, number);
    match row.deviation {
        Some(deviation) => format!("{value} ± {} ({})", number(deviation), row.values.len()),
        None => value,
    }
}

fn pictures(board: &Leaderboard, influences: &[Influence]) -> Markup {
    let drawn = match plots(board, influences, PlotFormat::Svg) {
        Ok(drawn) => drawn,
        Err(reason) => return html! { p.notice { "The plots cannot be drawn: " (reason) } },
    };
    html! {
        div.plots {
            // Its lines stand above, where they can be brushed.
            @for (name, bytes) in drawn.iter().filter(|(name, _)| !name.starts_with("parallel")) {
                figure { img alt=(name) src=(format!("data:image/svg+xml;base64,{}", STANDARD.encode(bytes))); }
            }
        }
    }
}

fn influence_table(influences: &[Influence]) -> Markup {
    html! {
        @if !influences.is_empty() {
            table.sortable {
                caption { "Share of the objective's variance that one axis explains alone" }
                thead { tr { th scope="col" { "Axis" } th.number scope="col" { "Share" } th.number scope="col" { "Trials" } th.number scope="col" { "Groups" } } }
                tbody { @for one in influences { tr { th scope="row" { bdi { (one.axis) } } td.number { (number(one.share)) } td.number { (one.trials) } td.number { (one.groups) } } } }
            }
        }
    }
}

/// The lines of the parallel coordinates. Values of different levels of a stopping rule are never compared: those of the
/// highest level count.
fn coordinates(board: &Leaderboard) -> Value {
    let highest = board.rows.iter().filter_map(|row| row.level).max();
    let mut lines = Vec::new();
    for row in board.rows.iter().filter(|row| row.level == highest) {
        let Some(mean) = row.mean else { continue };
        let values: Vec<Value> = board
            .axes
            .iter()
            .map(|axis| match row.point.get(axis) {
                Some(Value::Number(own)) => json!(own),
                Some(other) => json!(shown(other)),
                None => Value::Null,
            })
            .collect();
        lines.push(json!({"trial": row.trial + 1, "values": values, "objective": mean, "seconds": duration(row.seconds)}));
    }
    json!({"axes": board.axes, "metric": board.metric, "lower": board.direction == Some(Direction::Lower), "ranked": matches!(board.direction, Some(Direction::Lower | Direction::Higher)), "lines": lines})
}

/// The list of sweeps: their files, and how many runs are of each.
pub fn sweeps_page(files: &[(String, usize)], links: Vec<(String, String)>) -> String {
    let frame = Frame {
        title: "Sweeps",
        tiles: Tiles::Below("tiles/"),
        data: json!({}),
        links,
    };
    let address = |file: &str| {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("file", file);
        format!("/sweep?{}", query.finish())
    };
    let body = html! {
        h1 { "Sweeps" }
        table.sortable {
            thead { tr { th scope="col" { "File" } th.number scope="col" { "Runs" } } }
            tbody { @for (file, runs) in files { tr { td { a href=(address(file)) { bdi { (file) } } } td.number { (runs) } } } }
        }
    };
    page(&frame, &body)
}
