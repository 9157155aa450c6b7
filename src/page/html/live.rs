//! A run under way: bars, curves and the last words of each stage.

use maud::{Markup, html};
use serde_json::json;

use super::{Frame, Tiles, page};
use crate::cache::{RunRecord, utc};
use crate::diagnostic::{duration, number};
use crate::project::{Followed, FollowedStage};

/// Names of what is drawn of the reports of a stage.
const CURVES: usize = 4;

/// The page of a run that has not ended. Its script fetches [`live_part`] again until it has.
pub fn live_page(record: &RunRecord, followed: &Followed, links: Vec<(String, String)>) -> String {
    let frame = Frame {
        title: &format!("{} · running", record.pipeline),
        tiles: Tiles::Below("tiles/"),
        data: json!({}),
        links,
    };
    let body = html! {
        h1 { bdi { (record.pipeline) } }
        (live(record, followed))
    };
    page(&frame, &body)
}

/// What of the page changes while the run is under way.
pub fn live_part(record: &RunRecord, followed: &Followed) -> String {
    live(record, followed).into_string()
}

fn live(record: &RunRecord, followed: &Followed) -> Markup {
    let all = followed.stages.max(followed.begun.len());
    html! {
        div #live data-live="" aria-live="off" {
            p.meta {
                span.state.running { "running" }
                span { "run " code { (record.run) } }
                span { "since " (utc(record.started)) }
            }
            p { (bar(followed.done as u64, all as u64)) " " (followed.done) " of " (all) " stages" @if followed.hits > 0 { ", " (followed.hits) " were cached" } }
            @for (name, stage) in &followed.begun { (stage_block(name, stage)) }
        }
    }
}

fn stage_block(name: &str, stage: &FollowedStage) -> Markup {
    let state = stage.ended.map_or("running", |state| state.name());
    html! {
        details data-name=(name) open[stage.ended.is_none()] {
            summary {
                span class=(format!("state {state}")) { (state) } " " strong { bdi { (name) } } " " span.quiet { (stage.kind) }
                @if stage.ended.is_some() { " " span.quiet { (duration(stage.seconds)) } }
                @else if let Some(last) = stage.reports.last() { " " (bar(last.done, last.total)) " " (last.unit) " " (last.done) " of " (last.total) }
            }
            (curves(stage))
            @if !stage.lines.is_empty() { pre { (stage.lines.join("\n")) } }
        }
    }
}

/// How far something is.
fn bar(done: u64, total: u64) -> Markup {
    let share = if total == 0 {
        0.0
    } else {
        done as f64 / total as f64 * 100.0
    };
    html! {
        svg.progress viewBox="0 0 100 6" preserveAspectRatio="none" role="progressbar" aria-valuenow=(done) aria-valuemin="0" aria-valuemax=(total) aria-label="Progress" {
            rect x="0" y="0" width=(share.min(100.0)) height="6" {}
        }
    }
}

/// The reports of a stage as lines, each in its own scale.
fn curves(stage: &FollowedStage) -> Markup {
    let mut lines: Vec<(&str, Vec<(f64, f64)>)> = Vec::new();
    for report in &stage.reports {
        for (name, value) in &report.values {
            let point = (report.done as f64, *value);
            match lines.iter_mut().find(|(known, _)| known == name) {
                Some((_, points)) => points.push(point),
                None => lines.push((name, vec![point])),
            }
        }
    }
    lines.truncate(CURVES);
    html! {
        @if !lines.is_empty() {
            div.columns { @for (name, points) in &lines {
                figure {
                    (curve(points))
                    figcaption { bdi { (name) } @if let Some((_, value)) = points.last() { " " (number(*value)) } }
                }
            } }
        }
    }
}

fn curve(points: &[(f64, f64)]) -> Markup {
    let ends = |of: fn(&(f64, f64)) -> f64| {
        let values = || points.iter().map(of).filter(|value| value.is_finite());
        (
            values().fold(f64::NAN, f64::min),
            values().fold(f64::NAN, f64::max),
        )
    };
    let ((left, right), (low, high)) = (ends(|point| point.0), ends(|point| point.1));
    let span = |from: f64, to: f64| if to > from { to - from } else { 1.0 };
    let place = |(x, y): &(f64, f64)| {
        let (x, y) = ((x - left) / span(left, right), (y - low) / span(low, high));
        format!("{:.1},{:.1}", x * 396.0 + 2.0, 118.0 - y * 116.0)
    };
    let text: Vec<String> = points
        .iter()
        .filter(|point| point.1.is_finite())
        .map(place)
        .collect();
    html! {
        svg.sketch.wide viewBox="0 0 400 120" preserveAspectRatio="none" role="img" aria-label="Values so far" { polyline.line-0 points=(text.join(" ")) {} }
    }
}
