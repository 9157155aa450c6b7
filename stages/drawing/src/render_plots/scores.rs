//! What is on each plot of scores and series: an overview of the score, one with channels, and one of each labelled event.

use std::ops::Range;

use super::selection::{self, Scene};
use super::{Params, Plot, ScoreScale};
use contract::Trouble;
use contract::artifact::{Metric, Metrics, Scores, Series};
use judging::metrics::events_of;
use plot::{Chart, Line, Panel, Region, Rule, Strip, TimeAxis, ValueScale, palette, rounded};

/// All plots, entity by entity.
///
/// # Errors
/// If the inputs do not belong together, there is nothing to draw, or a channel does not exist.
pub fn plan(
    params: &Params,
    series: Option<&Series>,
    scores: Option<&Scores>,
    metrics: Option<&Metrics>,
) -> Result<Vec<Plot>, Trouble> {
    let scored;
    let series = match (series, scores) {
        // Rows that have no score are not drawn beside those that have one.
        (Some(series), Some(scores)) if series.segments != scores.segments => {
            scored = series
                .only(&scores.segments)
                .ok_or_else(|| strangers(series, scores))?;
            Some(&scored)
        }
        (series, _) => series,
    };
    let segments = match (series, scores) {
        (Some(series), _) => &series.segments[..],
        (None, Some(scores)) => &scores.segments,
        (None, None) => &[],
    };
    let scenes = selection::scenes(segments, params.split)?;
    let many = scenes.len() > 1;
    let mut plots = Vec::new();
    for (index, scene) in scenes.iter().enumerate() {
        let folder = if many {
            format!("{:03}-{}/", index + 1, file_name(&scene.entity))
        } else {
            String::new()
        };
        let painter = Painter::new(params, series, scores, metrics, scene, many);
        plots.extend(painter.plots(&folder)?);
    }
    Ok(plots)
}

/// Says that the scores are not of the series.
fn strangers(series: &Series, scores: &Scores) -> Trouble {
    let message = format!(
        "`series` ({} rows, {} segments) and `scores` ({} rows, {} segments) do not belong together",
        series.rows(),
        series.segments.len(),
        scores.rows(),
        scores.segments.len()
    );
    Trouble::new(message).hint("connect the series that was scored")
}

/// A name without characters that have a meaning in paths.
fn file_name(entity: &str) -> String {
    let is_unsafe =
        |character: char| !character.is_ascii_alphanumeric() && !"-_.".contains(character);
    entity.replace(is_unsafe, "_")
}

struct Painter<'a> {
    params: &'a Params,
    series: Option<&'a Series>,
    scores: Option<&'a Scores>,
    scene: &'a Scene,
    subtitle: String,
    /// Scores of the scene's rows; empty without scores.
    score: Vec<f32>,
    threshold: Option<Rule>,
    /// Labelled events and runs of alarms, in rows of the scene.
    events: Vec<Range<usize>>,
    alarms: Vec<Range<usize>>,
    labelled: bool,
}

impl<'a> Painter<'a> {
    fn new(
        params: &'a Params,
        series: Option<&'a Series>,
        scores: Option<&'a Scores>,
        metrics: Option<&'a Metrics>,
        scene: &'a Scene,
        many: bool,
    ) -> Self {
        let stretches = scene.stretches();
        let labels: &[u8] = match (scores, series) {
            (Some(scores), _) => &scores.labels,
            (None, Some(series)) => &series.labels,
            (None, None) => &[],
        };
        let mut painter = Self {
            params,
            series,
            scores,
            scene,
            subtitle: String::new(),
            score: Vec::new(),
            threshold: None,
            events: events_of(&scene.labels(labels), &stretches),
            alarms: Vec::new(),
            labelled: !labels.is_empty() && scene.segments.iter().any(|segment| segment.labelled),
        };
        if let Some(scores) = scores {
            painter.score = scene.gather(|row| scores.scores[row]);
        }
        if let Some(metrics) = metrics {
            painter.subtitle = subtitle(metrics, many);
            if !painter.score.is_empty() {
                painter.threshold = threshold_rule(metrics);
            }
        }
        if let Some(rule) = &painter.threshold {
            let above = |score: &f32| f64::from(*score) > rule.value;
            let above: Vec<bool> = painter.score.iter().map(above).collect();
            painter.alarms = events_of(&above, &stretches);
        }
        painter
    }

    fn plots(&self, folder: &str) -> Result<Vec<Plot>, Trouble> {
        let all = 0..self.scene.rows();
        let mut plots = Vec::new();
        if self.scores.is_some() {
            let panels = vec![self.score_panel(&all)];
            let chart = self.chart("anomaly score", &all, panels, &self.subtitle);
            plots.push(Plot::of_chart(
                self.params,
                format!("{folder}score"),
                chart,
                0,
            ));
        }
        if self.series.is_some() {
            let name = format!("{folder}series");
            plots.push(self.with_channels(name, "score and channels", &all, &self.events)?);
        }
        if self.scene.samples {
            // An event is a stretch of time, which samples do not make.
            return Ok(plots);
        }
        let mut longest: Vec<(usize, &Range<usize>)> = self.events.iter().enumerate().collect();
        longest.sort_by_key(|(index, event)| (usize::MAX - event.len(), *index));
        longest.truncate(self.params.events);
        longest.sort_unstable_by_key(|(index, _)| *index);
        for (index, event) in longest {
            let name = format!("{folder}event-{:03}", index + 1);
            let title = format!("event {} of {}", index + 1, self.events.len());
            let focus = std::slice::from_ref(event);
            plots.push(self.with_channels(name, &title, &self.surroundings(event), focus)?);
        }
        Ok(plots)
    }

    /// An event with as many rows again on both sides, inside its segment.
    fn surroundings(&self, event: &Range<usize>) -> Range<usize> {
        let margin = event.len().clamp(50, 2000);
        let mut stretches = self.scene.stretches().into_iter();
        let around = stretches.find(|stretch| stretch.contains(&event.start));
        let around = around.unwrap_or(event.clone());
        event.start.saturating_sub(margin).max(around.start)..(event.end + margin).min(around.end)
    }

    /// The score, if there is one, above the channels that have most to do with the rows in focus.
    fn with_channels(
        &self,
        name: String,
        title: &str,
        rows: &Range<usize>,
        focus: &[Range<usize>],
    ) -> Result<Plot, Trouble> {
        let mut title = title;
        let mut panels = Vec::new();
        if self.scores.is_some() {
            let mut panel = self.score_panel(rows);
            panel.weight = 1.6;
            panels.push(panel);
        } else {
            title = title.trim_start_matches("score and ");
        }
        let mut channels = Vec::new();
        if let Some(series) = self.series {
            let wanted = &self.params.channels;
            channels = selection::channels(wanted, series, self.scores, self.scene, focus)?;
            for column in &channels {
                panels.push(self.channel_panel(series, *column, rows));
            }
        }
        let chart = self.chart(title, rows, panels, "");
        Ok(Plot::of_chart(self.params, name, chart, channels.len()))
    }

    fn chart(&self, title: &str, rows: &Range<usize>, panels: Vec<Panel>, subtitle: &str) -> Chart {
        let mut times = Vec::new();
        // Across several segments, time may jump.
        let known = match (self.series, self.scores) {
            (Some(series), _) => &series.times[..],
            (None, Some(scores)) => &scores.times,
            (None, None) => &[],
        };
        if !known.is_empty() && self.scene.segments.len() == 1 {
            times = self.scene.gather(|row| known[row])[rows.clone()].to_vec();
        }
        let what = if self.scene.samples { "sample" } else { "row" };
        let label = if times.is_empty() {
            format!("{what} of split {}", self.params.split)
        } else {
            "time (UTC)".to_owned()
        };
        let mut breaks = self.scene.breaks();
        breaks.retain(|row| *row > rows.start && *row < rows.end);
        for row in &mut breaks {
            *row -= rows.start;
        }
        let title = format!("{} · {title}", self.scene.entity);
        let time = TimeAxis {
            rows: rows.len(),
            first: rows.start,
            label,
            times,
            breaks,
        };
        Chart {
            title,
            subtitle: subtitle.to_owned(),
            time,
            panels,
        }
    }

    fn score_panel(&self, rows: &Range<usize>) -> Panel {
        let line = Line {
            name: "anomaly score".into(),
            values: widened(&self.score[rows.clone()]),
            color: palette::BLUE,
        };
        let mut panel = Panel::of_lines("", vec![line]);
        panel.scale = score_scale(self.params.score_scale, &self.score);
        if panel.scale == ValueScale::Log {
            panel.label = "anomaly score, logarithmic scale".to_owned();
        }
        panel.regions = self.regions(rows);
        panel.rule = self.threshold.clone();
        if self.labelled {
            let rows = within(&self.events, rows);
            panel.strips.push(Strip {
                name: String::new(),
                rows,
                color: palette::ORANGE,
            });
        }
        if self.threshold.is_some() {
            let rows = within(&self.alarms, rows);
            panel.strips.push(Strip {
                name: "alarm".to_owned(),
                rows,
                color: palette::VERMILION,
            });
        }
        panel
    }

    fn channel_panel(&self, series: &Series, column: usize, rows: &Range<usize>) -> Panel {
        let at = |row| series.value(row, column);
        let line = Line {
            name: String::new(),
            values: self.scene.gather(at)[rows.clone()].to_vec(),
            color: palette::GREEN,
        };
        let mut panel = Panel::of_lines(&series.channels[column], vec![line]);
        panel.regions = self.regions(rows);
        panel
    }

    fn regions(&self, rows: &Range<usize>) -> Vec<Region> {
        if !self.labelled {
            return Vec::new();
        }
        let rows = within(&self.events, rows);
        vec![Region {
            name: "labelled anomaly".to_owned(),
            rows,
            color: palette::ORANGE,
            opacity: 0.35,
        }]
    }
}

fn widened(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

/// The parts of ranges inside some rows, counted from the first of these.
fn within(ranges: &[Range<usize>], rows: &Range<usize>) -> Vec<Range<usize>> {
    let mut inside = Vec::new();
    for range in ranges {
        let (start, end) = (range.start.max(rows.start), range.end.min(rows.end));
        if start < end {
            inside.push(start - rows.start..end - rows.start);
        }
    }
    inside
}

fn threshold_rule(metrics: &Metrics) -> Option<Rule> {
    let metric = find(metrics, "threshold")?;
    let name = if metric.oracle {
        "threshold (oracle)"
    } else {
        "threshold"
    };
    Some(Rule {
        name: name.to_owned(),
        value: metric.value?,
        color: palette::VERMILION,
    })
}

/// A few scores far above the rest ask for a logarithmic axis, which takes positive scores.
fn score_scale(wanted: ScoreScale, scores: &[f32]) -> ValueScale {
    match wanted {
        ScoreScale::Linear => ValueScale::Linear,
        ScoreScale::Log => ValueScale::Log,
        ScoreScale::Auto => {
            let mut rising = scores.to_vec();
            rising.sort_unstable_by(f32::total_cmp);
            let (Some(lowest), Some(highest)) = (rising.first(), rising.last()) else {
                return ValueScale::Linear;
            };
            let high = rising[(rising.len() - 1) * 95 / 100];
            if *lowest > 0.0 && *highest > 30.0 * high {
                ValueScale::Log
            } else {
                ValueScale::Linear
            }
        }
    }
}

fn find<'a>(metrics: &'a Metrics, name: &str) -> Option<&'a Metric> {
    metrics.entries.iter().find(|metric| metric.name == name)
}

/// The metrics that belong in a title, with what one must know to read them.
fn subtitle(metrics: &Metrics, many: bool) -> String {
    const SHOWN: [(&str, &str); 8] = [
        ("threshold", "threshold"),
        // Alarms under a threshold that adapts are not drawn: the metrics do not hold its course.
        ("threshold_at_start", "threshold that adapts, at the start"),
        ("f1", "F1"),
        ("f1_point_adjusted", "point-adjusted F1"),
        ("best_f1", "best F1"),
        ("roc_auc", "ROC-AUC"),
        ("average_precision", "average precision"),
        ("vus_pr", "VUS-PR"),
    ];
    let mut list = Vec::new();
    for (name, title) in SHOWN {
        let Some(metric) = find(metrics, name) else {
            continue;
        };
        let remarks = match (metric.oracle, metric.inflating) {
            (false, false) => "",
            (true, false) => " (oracle)",
            (false, true) => " (inflating)",
            (true, true) => " (oracle, inflating)",
        };
        if let Some(value) = metric.value {
            // Lines break between metrics only.
            let text = format!("{title} {}{remarks} ·", rounded(value));
            list.push(text.replace(' ', "\u{a0}"));
        }
    }
    let list = list.join("  ");
    let list = list.trim_end_matches("\u{a0}·");
    if many && !list.is_empty() {
        format!("over all entities: {list}")
    } else {
        list.to_owned()
    }
}
