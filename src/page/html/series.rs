//! Charts over rows, and the tables that say the same in words.

use maud::{Markup, html};

use crate::diagnostic::{counted, number};
use crate::page::run::RunView;
use crate::page::scene::{SampleScores, Scene, Threshold, Track};

/// Events that are listed for a detector.
const LISTED: usize = 500;

/// A chart and its lists for each entity.
pub fn section(view: &RunView<'_>) -> Markup {
    if view.scenes.is_empty() && view.samples.is_empty() {
        return Markup::default();
    }
    html! {
        @for samples in &view.samples { (sample_block(samples)) }
        @if view.scenes.len() > 1 {
            p { label { "Entity " select data-choose="scene" {
                @for scene in &view.scenes { option value=(scene.id) { (scene.entity) } }
            } } }
        }
        @if !view.scenes.is_empty() { p.quiet { "Drag to zoom, drag with Shift to pan, double-click for all rows. After a click on the chart: the wheel zooms, arrow keys pan, + and − zoom, 0 shows all rows." } }
        @let listed = LISTED / view.scenes.len().clamp(1, 10);
        @for (index, scene) in view.scenes.iter().enumerate() { (scene_block(scene, index, listed)) }
    }
}

fn scene_block(scene: &Scene, index: usize, listed: usize) -> Markup {
    let cut = scene
        .channels
        .iter()
        .filter(|channel| !channel.values.whole)
        .count();
    html! {
        div.scene id=(scene.id) hidden[index > 0] {
            h3 { bdi { (scene.entity) } span.quiet { " · " (counted(scene.rows, "row")) " of split " (scene.split) ", " (counted(scene.channels.len(), "channel")) } }
            @if !scene.labelled { p.notice { "These rows have no labels, so hits and misses are unknown." } }
            @if cut > 0 {
                p.notice { (cut) " of " (scene.channels.len() + scene.tracks.len()) " scores and channels do not fit in this file row by row. Each of their points stands for up to 64 rows and shows the smallest and the largest value. `runner report --dir` and `runner ui` have every row." }
            }
            div.chart data-scene=(scene.id) tabindex="0" role="img" aria-label=(format!("Scores over {} rows of {}; the events are listed below", scene.rows, scene.entity)) {}
            @for track in &scene.tracks { (events(scene, track, listed)) }
        }
    }
}

/// Scores of samples, such as images.
fn sample_block(samples: &SampleScores) -> Markup {
    html! {
        h3 { bdi { (samples.stage) } span.quiet { " · " (counted(samples.count, "sample")) " of split " (samples.split) @if let Some(threshold) = samples.threshold { ", threshold " (number(threshold)) } } }
        div.scroll tabindex="0" role="region" aria-label=(format!("Scores of {}", samples.stage)) { table.sortable {
            caption { "Highest scores" @if samples.highest.len() < samples.count { ", the first " (samples.highest.len()) " of " (samples.count) } }
            thead { tr { th scope="col" { "Sample" } th.number scope="col" { "Score" } th scope="col" { "Label" } } }
            tbody { @for (name, score, label) in &samples.highest { tr {
                th scope="row" { bdi { (name) } }
                td.number { (number(f64::from(*score))) }
                td { @match label { Some(true) => "anomalous", Some(false) => "normal", None => "" } }
            } } }
        } }
    }
}

/// At which threshold, in words.
fn at_threshold(threshold: &Threshold) -> String {
    let value = number(threshold.value);
    match threshold.moving {
        None => format!(" at threshold {value}"),
        Some(_) => format!(" at a threshold that moves from row to row, {value} at first"),
    }
}

/// What a detector found and missed, and where it raised a false alarm.
fn events(scene: &Scene, track: &Track, listed: usize) -> Markup {
    let found = track
        .found
        .iter()
        .filter(|found| found.delay.is_some())
        .count();
    let threshold = track.threshold.as_ref();
    html! {
        details open[scene.tracks.len() == 1] {
            summary {
                strong { bdi { (track.stage) } }
                @match threshold {
                    Some(line) if !scene.labelled => { ": " (counted(track.alarm_count, "alarm")) (at_threshold(line)) }
                    Some(line) => { ": " (found) " of " (counted(scene.events.len(), "event")) " found, " (counted(track.alarm_count, "false alarm")) (at_threshold(line)) @if line.oracle { " " span.mark { "oracle" } } }
                    None => ": there is no threshold, so alarms are not shown",
                }
            }
            @if let Some(line) = threshold { p.quiet { "Threshold " bdi { (line.how) } " (stage " bdi { (line.stage) } ")." } }
            div.columns {
                @if !scene.events.is_empty() {
                    div.scroll.broad tabindex="0" role="region" aria-label="Labelled events" {
                        table.sortable {
                            caption { "Labelled events" @if scene.events.len() > listed { ", the first " (listed) " of " (scene.events.len()) } }
                            thead { tr {
                                th.number scope="col" { "First row" } th.number scope="col" { "Rows" }
                                @if threshold.is_some() { th scope="col" { "Found" } th.number scope="col" { "Delay in rows" } }
                                th.number scope="col" { "Peak score" }
                                @if !scene.channels.is_empty() { th scope="col" { "Channels that differ most" } }
                            } }
                            tbody { @for ((start, end), found) in scene.events.iter().zip(&track.found).take(listed) {
                                tr {
                                    td.number { (jump(scene, *start, *end, &found.channels)) }
                                    td.number { (end - start) }
                                    @if threshold.is_some() {
                                        td { @if found.delay.is_some() { span.good { "found" } } @else { span.bad { "missed" } } }
                                        td.number { @if let Some(delay) = found.delay { (delay) } }
                                    }
                                    td.number { (number(f64::from(found.peak))) }
                                    @if !scene.channels.is_empty() {
                                        td.names { @for (place, channel) in found.channels.iter().enumerate() { @if place > 0 { ", " } bdi { (scene.channels[*channel].name) } } }
                                    }
                                }
                            } }
                        }
                    }
                }
                @if !track.alarms.is_empty() {
                    div.scroll tabindex="0" role="region" aria-label="Alarms" {
                        table.sortable {
                            caption { @if scene.labelled { "False alarms" } @else { "Alarms" } @if track.alarms.len() < track.alarm_count { ", the " (track.alarms.len()) " with the highest peaks of " (track.alarm_count) } }
                            thead { tr { th.number scope="col" { "First row" } th.number scope="col" { "Rows" } th.number scope="col" { "Peak score" } } }
                            tbody { @for alarm in &track.alarms {
                                tr { td.number { (jump(scene, alarm.start, alarm.end, &[])) } td.number { (alarm.end - alarm.start) } td.number { (number(f64::from(alarm.peak))) } }
                            } }
                        }
                    }
                }
            }
        }
    }
}

/// A button that shows these rows in the chart, and these channels below the score.
fn jump(scene: &Scene, start: usize, end: usize, channels: &[usize]) -> Markup {
    let channels: Vec<String> = channels.iter().map(usize::to_string).collect();
    let channels = channels.join(" ");
    html! { button type="button" data-jump=(scene.id) data-from=(start) data-to=(end) data-channels=(channels) { (start) } }
}

/// Forecast windows.
pub fn forecasts(view: &RunView<'_>) -> Markup {
    if view.forecasts.is_empty() {
        return Markup::default();
    }
    html! {
        @for (index, forecast) in view.forecasts.iter().enumerate() {
            div.forecast {
                h3 { bdi { (forecast.stage) } span.quiet { " · " (forecast.windows.len()) " of " (forecast.window_count) " windows of split " (forecast.split) ": the best, the median and the worst by squared error" } }
                p {
                    label { "Window " select data-forecast=(index) data-part="window" {
                        @for (number, window) in forecast.windows.iter().enumerate() {
                            option value=(number) { "MSE " (crate::diagnostic::number(window.mse)) " · " (window.entity) " row " (window.row) }
                        }
                    } }
                    " "
                    label { "Channel " select data-forecast=(index) data-part="channel" {
                        @for (number, channel) in forecast.channels.iter().enumerate() { option value=(number) { (channel) } }
                    } }
                    @if forecast.channel_count > forecast.channels.len() { span.quiet { " the first " (forecast.channels.len()) " of " (forecast.channel_count) } }
                }
                div.chart.small data-forecast-chart=(index) role="img" aria-label=(format!("Forecasts of {}: measured and predicted values", forecast.stage)) {}
            }
        }
    }
}

/// Training logs.
pub fn training(view: &RunView<'_>) -> Markup {
    if view.curves.is_empty() {
        return Markup::default();
    }
    html! {
        div.columns {
            @for (index, curve) in view.curves.iter().enumerate() {
                figure {
                    figcaption { bdi { (curve.stage) } }
                    div.chart.small data-curve=(index) role="img" aria-label=(format!("Training of {}", curve.stage)) {}
                    details {
                        summary { "As a table" }
                        div.scroll tabindex="0" role="region" aria-label=(format!("Training of {}", curve.stage)) { table {
                            thead { tr { th.number scope="col" { (curve.axis) } @for (name, _) in &curve.lines { th.number scope="col" { bdi { (name) } } } } }
                            tbody { @for (row, step) in curve.steps.iter().enumerate() {
                                tr {
                                    td.number { @if let Some(step) = step { (step) } }
                                    @for (_, values) in &curve.lines { td.number { @if let Some(value) = values[row] { (number(value)) } } }
                                }
                            } }
                        } }
                    }
                }
            }
        }
    }
}
