//! What is on each picture: an overview of the score, one with channels, and one of each labelled event.

use std::ops::Range;

use super::selection::{self, Scene};
use super::{Params, ScoreScale};
use contract::Trouble;
use contract::artifact::{Metrics, Scores, Segment, Series};
use judging::metrics::events_of;
use plot::figure;
use plot::{
    Chart, Line, Matrix, Network, Panel, Ranking, Region, Rule, Strip, TimeAxis, ValueScale,
    palette,
};

/// A picture that is yet to be drawn.
pub struct Picture {
    /// The file's path without its extension.
    pub name: String,
    pub drawing: Drawing,
    /// Panels of channels, which make the picture higher.
    pub channels: usize,
}

/// What is on a picture.
pub enum Drawing {
    Chart(Chart),
    Matrix(Matrix),
    Ranking(Ranking),
    Network(Network),
}

/// All pictures, entity by entity.
///
/// # Errors
/// If nothing is connected, the inputs do not belong together, or a channel does not exist.
pub fn plan(
    params: &Params,
    series: Option<&Series>,
    scores: Option<&Scores>,
    metrics: Option<&Metrics>,
) -> Result<Vec<Picture>, Trouble> {
    let segments = drawn_segments(series, scores)?;
    let scenes = selection::scenes(segments, params.split)?;
    let many = scenes.len() > 1;
    let mut pictures = Vec::new();
    for (index, scene) in scenes.iter().enumerate() {
        let folder = if many {
            format!("{:03}-{}/", index + 1, file_name(&scene.entity))
        } else {
            String::new()
        };
        let painter = Painter::new(params, series, scores, metrics, scene, many);
        pictures.extend(painter.pictures(&folder)?);
    }
    Ok(pictures)
}

fn drawn_segments<'a>(
    series: Option<&'a Series>,
    scores: Option<&'a Scores>,
) -> Result<&'a [Segment], Trouble> {
    match (series, scores) {
        (None, None) => Err(Trouble::new(
            "there is nothing to draw: none of `series`, `scores`, `table` and `graph` is connected",
        )
        .hint("connect at least one of them: `from: {scores: …, series: …}`")),
        (Some(series), Some(scores)) if series.segments != scores.segments => {
            let message = format!(
                "`series` ({} rows, {} segments) and `scores` ({} rows, {} segments) do not belong together",
                series.rows(),
                series.segments.len(),
                scores.rows(),
                scores.segments.len()
            );
            Err(Trouble::new(message).hint("connect the series that was scored"))
        }
        (Some(series), _) => Ok(&series.segments),
        (None, Some(scores)) => Ok(&scores.segments),
    }
}

/// A name without characters that have a meaning in paths.
fn file_name(entity: &str) -> String {
    let safe = |character: char| {
        if character.is_ascii_alphanumeric() || "-_.".contains(character) {
            character
        } else {
            '_'
        }
    };
    entity.chars().map(safe).collect()
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
        let score = scores.map_or_else(Vec::new, |scores| scene.gather(|row| scores.scores[row]));
        let labels = scores
            .map(|scores| &scores.labels)
            .or(series.map(|series| &series.labels));
        let stretches = scene.stretches();
        let events = events_of(&scene.labels(labels.map_or(&[], Vec::as_slice)), &stretches);
        let threshold = metrics
            .filter(|_| !score.is_empty())
            .and_then(threshold_rule);
        let above = |limit: &Rule| {
            score
                .iter()
                .map(|score| f64::from(*score) > limit.value)
                .collect::<Vec<_>>()
        };
        let alarms = threshold
            .as_ref()
            .map_or_else(Vec::new, |rule| events_of(&above(rule), &stretches));
        let labelled = scene.segments.iter().any(|segment| segment.labelled)
            && labels.is_some_and(|labels| !labels.is_empty());
        let subtitle = metrics.map_or_else(String::new, |metrics| figures(metrics, many));
        Self {
            params,
            series,
            scores,
            scene,
            subtitle,
            score,
            threshold,
            events,
            alarms,
            labelled,
        }
    }

    fn pictures(&self, folder: &str) -> Result<Vec<Picture>, Trouble> {
        let all = 0..self.scene.rows();
        let mut pictures = Vec::new();
        if self.scores.is_some() {
            let chart = self.chart(
                "anomaly score".to_owned(),
                &all,
                vec![self.score_panel(&all)],
                &self.subtitle,
            );
            pictures.push(Picture {
                name: format!("{folder}score"),
                drawing: Drawing::Chart(chart),
                channels: 0,
            });
        }
        if self.series.is_some() {
            pictures.push(self.with_channels(
                format!("{folder}series"),
                "score and channels",
                &all,
                &self.events,
            )?);
        }
        if self.scene.samples {
            // An event is a stretch of time, which samples do not make.
            return Ok(pictures);
        }
        let mut longest: Vec<(usize, &Range<usize>)> = self.events.iter().enumerate().collect();
        longest.sort_by_key(|(index, event)| (usize::MAX - event.len(), *index));
        longest.truncate(self.params.events);
        longest.sort_unstable_by_key(|(index, _)| *index);
        for (index, event) in longest {
            let name = format!("{folder}event-{:03}", index + 1);
            let title = format!("event {} of {}", index + 1, self.events.len());
            pictures.push(self.with_channels(
                name,
                &title,
                &self.surroundings(event),
                std::slice::from_ref(event),
            )?);
        }
        Ok(pictures)
    }

    /// An event with as many rows again on both sides, inside its segment.
    fn surroundings(&self, event: &Range<usize>) -> Range<usize> {
        let margin = event.len().clamp(50, 2000);
        let stretches = self.scene.stretches();
        let stretch = stretches
            .iter()
            .find(|stretch| stretch.contains(&event.start))
            .cloned()
            .unwrap_or(event.clone());
        event.start.saturating_sub(margin).max(stretch.start)..(event.end + margin).min(stretch.end)
    }

    /// The score, if there is one, above the channels that have most to do with the rows in focus.
    fn with_channels(
        &self,
        name: String,
        title: &str,
        rows: &Range<usize>,
        focus: &[Range<usize>],
    ) -> Result<Picture, Trouble> {
        let mut panels = Vec::new();
        if self.scores.is_some() {
            panels.push(Panel {
                weight: 1.6,
                ..self.score_panel(rows)
            });
        }
        let mut channels = 0;
        if let Some(series) = self.series {
            for column in selection::channels(
                &self.params.channels,
                series,
                self.scores,
                self.scene,
                focus,
            )? {
                panels.push(self.channel_panel(series, column, rows));
                channels += 1;
            }
        }
        let title = if self.scores.is_some() {
            title
        } else {
            title.trim_start_matches("score and ")
        };
        let chart = self.chart(title.to_owned(), rows, panels, "");
        Ok(Picture {
            name,
            drawing: Drawing::Chart(chart),
            channels,
        })
    }

    fn chart(
        &self,
        title: String,
        rows: &Range<usize>,
        panels: Vec<Panel>,
        subtitle: &str,
    ) -> Chart {
        let times = match self
            .series
            .filter(|series| !series.times.is_empty() && self.scene.segments.len() == 1)
        {
            Some(series) => self.scene.gather(|row| series.times[row])[rows.clone()].to_vec(),
            None => Vec::new(),
        };
        let what = if self.scene.samples { "sample" } else { "row" };
        let label = if times.is_empty() {
            format!("{what} of split {}", self.params.split)
        } else {
            "time (UTC)".to_owned()
        };
        let inside = |row: usize| row > rows.start && row < rows.end;
        let breaks = self
            .scene
            .breaks()
            .into_iter()
            .filter(|row| inside(*row))
            .map(|row| row - rows.start)
            .collect();
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
            values: self.score[rows.clone()].to_vec(),
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
        let values = self
            .scene
            .gather(|row| series.values[row * series.width() + column]);
        let line = Line {
            name: String::new(),
            values: values[rows.clone()].to_vec(),
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

/// The parts of ranges inside some rows, counted from the first of these.
fn within(ranges: &[Range<usize>], rows: &Range<usize>) -> Vec<Range<usize>> {
    let cut = |range: &Range<usize>| range.start.max(rows.start)..range.end.min(rows.end);
    let shift = |range: Range<usize>| range.start - rows.start..range.end - rows.start;
    ranges
        .iter()
        .map(cut)
        .filter(|range| range.start < range.end)
        .map(shift)
        .collect()
}

fn threshold_rule(metrics: &Metrics) -> Option<Rule> {
    let metric = metrics
        .entries
        .iter()
        .find(|metric| metric.name == "threshold")?;
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

/// The figures that belong in a title, with what one must know to read them.
fn figures(metrics: &Metrics, many: bool) -> String {
    const SHOWN: [(&str, &str); 8] = [
        ("threshold", "threshold"),
        // Alarms under a threshold that adapts are not drawn: the figures do not hold its course.
        ("threshold_at_start", "threshold that adapts, at the start"),
        ("f1", "F1"),
        ("f1_point_adjusted", "point-adjusted F1"),
        ("best_f1", "best F1"),
        ("roc_auc", "ROC-AUC"),
        ("average_precision", "average precision"),
        ("vus_pr", "VUS-PR"),
    ];
    let text = |(name, title): (&str, &str)| {
        let metric = metrics.entries.iter().find(|metric| metric.name == name)?;
        let mut remarks = Vec::new();
        if metric.oracle {
            remarks.push("oracle");
        }
        if metric.inflating {
            remarks.push("inflating");
        }
        let remarks = if remarks.is_empty() {
            String::new()
        } else {
            format!(" ({})", remarks.join(", "))
        };
        // Lines break between figures only.
        Some(format!("{title} {}{remarks} ·", figure(metric.value?)).replace(' ', "\u{a0}"))
    };
    let list = SHOWN
        .into_iter()
        .filter_map(text)
        .collect::<Vec<_>>()
        .join("  ");
    let list = list.trim_end_matches("\u{a0}·");
    if many && !list.is_empty() {
        format!("over all entities: {list}")
    } else {
        list.to_owned()
    }
}
