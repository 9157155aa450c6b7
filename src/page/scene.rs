//! Scores over a series: for each entity the rows that are judged, the score of every detector over them, the threshold,
//! what it found and missed, and the channels beneath.

mod channels;
mod samples;

use std::ops::Range;
use std::sync::Arc;

use contract::artifact::{Artifact, ArtifactKind, Digest, Metric, Scores, Segment, Split};
use indexmap::IndexMap;
use serde::Serialize;

use super::gathering::{Gathering, name_of};
use super::tiles::{ArrayNote, Numbers, TileSink};
use crate::report::{History, ReportError, StageHistory};
use channels::{SeriesCache, add_channels, contributed, series_of};
use samples::are_samples;

pub use samples::{SampleScores, sample_scores};

/// Alarms that are listed for a detector, those with the highest peaks.
const ALARMS_LISTED: usize = 200;

/// The judged rows of one entity, side by side.
#[derive(Clone, Debug, Serialize)]
pub struct Scene {
    /// Names its tiles: `s0`, `s1` and so on.
    pub id: String,
    pub entity: String,
    pub split: &'static str,
    pub rows: usize,
    /// The first row of every unbroken stretch but the first.
    pub breaks: Vec<usize>,
    pub times: Times,
    /// Whether somebody labelled the rows.
    pub labelled: bool,
    /// The labelled events, in rows; half-open.
    pub events: Vec<(usize, usize)>,
    pub tracks: Vec<Track>,
    /// Those that have most to do with the events first.
    pub channels: Vec<Channel>,
}

/// The times of the rows, in milliseconds since 1970.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Times {
    None,
    /// At equal distances.
    Regular {
        first: i64,
        step: i64,
    },
    Listed(ArrayNote),
}

/// One detector's score.
#[derive(Clone, Debug, Serialize)]
pub struct Track {
    /// The stage that scored.
    pub stage: String,
    pub score: ArrayNote,
    /// Whether a few scores lie so far above the rest that only a logarithmic axis shows both.
    pub is_logarithmic: bool,
    pub threshold: Option<Threshold>,
    /// In the order of the scene's events.
    #[serde(skip)]
    pub found: Vec<Found>,
    /// Alarms that touch no event, or all of them where the rows have no labels: those with the highest peaks, in the order of their
    /// rows.
    #[serde(skip)]
    pub alarms: Vec<Alarm>,
    /// All of them.
    #[serde(skip)]
    pub alarm_count: usize,
}

#[derive(Clone, Debug, Serialize)]
pub struct Threshold {
    pub value: f64,
    /// Chosen with the judged labels.
    pub oracle: bool,
    /// The stage that chose it.
    pub stage: String,
    pub how: String,
    /// If it moves from row to row; `value` is where it starts.
    pub moving: Option<Moving>,
}

/// A threshold that moves from row to row.
#[derive(Clone, Debug, Serialize)]
pub struct Moving {
    /// What each row is held against.
    pub line: ArrayNote,
    /// How far each score lies above it.
    pub excess: ArrayNote,
}

/// What a detector made of a labelled event.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Rows from the event's first to its first alarm; none if it was missed, or there is no threshold.
    pub delay: Option<usize>,
    /// The highest score in it, and its row.
    pub peak: f32,
    pub peak_row: usize,
    /// Channels that have most to do with it, by their places in the scene.
    pub channels: Vec<usize>,
}

/// A stretch of rows above the threshold.
#[derive(Clone, Debug, PartialEq)]
pub struct Alarm {
    pub start: usize,
    pub end: usize,
    pub peak: f32,
    pub peak_row: usize,
}

#[derive(Clone, Debug, Serialize)]
pub struct Channel {
    pub name: String,
    pub values: ArrayNote,
}

/// The score of one entity, as far as a scene needs it.
struct Part<'a> {
    stage: usize,
    name: String,
    threshold: Option<(&'a Metric, String)>,
    place: Place,
    /// Where its rows are in the scores, and all segments of these.
    segments: Vec<Segment>,
    all: Arc<[Segment]>,
    values: Vec<f32>,
    times: Vec<i64>,
    /// What each row is held against, if that differs from row to row; infinite where a row is not judged.
    moving: Option<Vec<f64>>,
    /// Per channel and event its part of the score, and the names of the channels, if the score says so.
    shares: Option<(Vec<String>, Vec<Vec<f64>>)>,
}

/// What two detectors have in common if they scored the same rows.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Place {
    entity: String,
    split: Split,
    rows: usize,
    labels: Vec<u8>,
    /// The series nearest to the data, and the stage that made it.
    source: Option<(Digest, String)>,
}

impl Place {
    fn events(&self) -> Vec<Range<usize>> {
        runs(self.labels.iter().map(|label| *label != 0))
    }
}

/// Every scene of a run, in the order in which its stages scored them. The tiles go to the sink: scores first.
///
/// # Errors
/// If a tile cannot be written.
pub fn scenes(gathering: &Gathering<'_>) -> Result<Vec<Scene>, ReportError> {
    let mut parts_of: IndexMap<Place, Vec<Part<'_>>> = IndexMap::new();
    for part in parts(gathering) {
        parts_of.entry(part.place.clone()).or_default().push(part);
    }
    let (mut places, mut parts_of): (Vec<Place>, Vec<Vec<Part<'_>>>) = parts_of.into_iter().unzip();
    name_apart(&mut places);
    let mut scenes = Vec::with_capacity(places.len());
    for (number, (place, parts)) in places.iter().zip(&mut parts_of).enumerate() {
        scenes.push(scene(number, place, parts, gathering.sink)?);
    }
    let mut cache = SeriesCache::default();
    for (scene, parts) in scenes.iter_mut().zip(&parts_of) {
        if let Some(part) = parts.first()
            && let Some(series) = series_of(gathering, part, &mut cache)
        {
            add_channels(scene, &series, parts, gathering.sink)?;
        }
    }
    Ok(scenes)
}

/// Entities of one name in several series are called after the stages that these come from.
fn name_apart(places: &mut [Place]) {
    let mut counts: IndexMap<String, usize> = IndexMap::new();
    for place in places.iter() {
        *counts.entry(place.entity.clone()).or_default() += 1;
    }
    for place in places {
        if counts[&place.entity] > 1
            && let Some((_, stage)) = &place.source
        {
            place.entity = format!("{} of {stage}", place.entity);
        }
    }
}

/// Everything that scored, entity by entity. Scores are loaded one after the other, since those with the parts of many channels
/// are large.
fn parts<'a>(gathering: &Gathering<'a>) -> Vec<Part<'a>> {
    let history = gathering.history;
    let mut parts = Vec::new();
    for (index, stage, output) in gathering.outputs(ArtifactKind::Scores) {
        let Some(Artifact::Scores(scores)) = gathering.load(stage, output) else {
            continue;
        };
        let judge = judge_of(history, index, &output.port);
        let on = judge.and_then(|judge| judge.recorded.parameters.get("on")?.as_str());
        let split = on.and_then(|name| name.parse().ok());
        let Some(split) = split.or_else(|| last_split(&scores)) else {
            continue;
        };
        let nearest = gathering.above(index, ArtifactKind::Series);
        let source = nearest
            .first()
            .map(|(stage, output)| (output.record.digest, stage.record.name.clone()));
        if are_samples(&scores, split) {
            continue;
        }
        let all: Arc<[Segment]> = scores.segments.clone().into();
        let moving = judge.and_then(|judge| moving_threshold(history, judge, &scores));
        for (entity, segments) in by_entity(&scores, split) {
            let place = Place {
                labels: gathered(&scores.labels, &segments),
                rows: segments.iter().map(|segment| segment.rows.len()).sum(),
                split,
                source: source.clone(),
                entity,
            };
            let has_shares = !scores.channels.is_empty();
            parts.push(Part {
                stage: index,
                name: name_of(stage, output),
                threshold: judge.and_then(|judge| threshold_of(history, judge)),
                values: gathered(&scores.scores, &segments),
                times: gathered(&scores.times, &segments),
                moving: moving.as_ref().map(|column| gathered(column, &segments)),
                shares: has_shares.then(|| {
                    let shares = contributed(&scores, &segments, &place.events());
                    (scores.channels.clone(), shares)
                }),
                all: Arc::clone(&all),
                place,
                segments,
            });
        }
    }
    parts
}

/// The test rows if there are any, and otherwise the last of the splits.
fn last_split(scores: &Scores) -> Option<Split> {
    let has_rows = |split: &Split| {
        scores
            .of_split(*split)
            .any(|segment| !segment.rows.is_empty())
    };
    Split::ALL.into_iter().rev().find(has_rows)
}

/// The first stage that judges these scores.
fn judge_of<'a>(history: &'a History<'_>, stage: usize, port: &str) -> Option<&'a StageHistory> {
    let made_it = |(maker, of): &(usize, String)| *maker == stage && of == port;
    let takes_it = |judge: &&StageHistory| {
        let mut inputs = judge.inputs.iter();
        inputs.any(|input| input.maker.as_ref().is_some_and(made_it))
    };
    let mut judges = history.stages.iter().filter(takes_it);
    judges.find(|judge| history.record.metrics.contains_key(&judge.record.name))
}

/// What each row of the scores is held against by a judge whose threshold moves.
fn moving_threshold(
    history: &History<'_>,
    judge: &StageHistory,
    scores: &Scores,
) -> Option<Vec<f64>> {
    let kind = history.kind(&judge.recorded.kind)?;
    let configured = kind.parse(judge.recorded.parameters.clone()).ok()?;
    let mut column = vec![f64::INFINITY; scores.scores.len()];
    for (row, threshold) in configured.moving_threshold(scores)? {
        column[row] = threshold;
    }
    Some(column)
}

/// The threshold of a judge; where it moves from row to row, where it starts.
fn threshold_of<'a>(
    history: &'a History<'_>,
    judge: &StageHistory,
) -> Option<(&'a Metric, String)> {
    let metrics = history.record.metrics.get(&judge.record.name)?;
    let names = ["threshold", "threshold_at_start"];
    let is_it = |metric: &&Metric| names.contains(&metric.name.as_str());
    let metric = metrics.iter().find(is_it)?;
    Some((metric, judge.record.name.clone()))
}

/// The segments of a split that have rows, entity by entity.
fn by_entity(scores: &Scores, split: Split) -> Vec<(String, Vec<Segment>)> {
    let mut entities: Vec<(String, Vec<Segment>)> = Vec::new();
    for segment in scores.of_split(split) {
        if segment.rows.is_empty() {
            continue;
        }
        match entities
            .iter_mut()
            .find(|(name, _)| *name == segment.entity)
        {
            Some((_, segments)) => segments.push(segment.clone()),
            None => entities.push((segment.entity.clone(), vec![segment.clone()])),
        }
    }
    entities
}

/// The values at the rows of segments; none where the column is empty.
fn gathered<T: Copy>(column: &[T], segments: &[Segment]) -> Vec<T> {
    let mut values = Vec::new();
    for segment in segments {
        values.extend_from_slice(column.get(segment.rows.clone()).unwrap_or_default());
    }
    values
}

/// A scene without its channels. The scores go to the sink.
fn scene(
    number: usize,
    place: &Place,
    parts: &mut [Part<'_>],
    sink: &dyn TileSink,
) -> Result<Scene, ReportError> {
    let id = format!("s{number}");
    let (mut breaks, mut rows, mut labelled) = (Vec::new(), 0, false);
    let (mut times, mut tracks) = (Vec::new(), Vec::with_capacity(parts.len()));
    if let Some(first) = parts.first_mut() {
        times = std::mem::take(&mut first.times);
        for segment in &first.segments {
            if rows > 0 {
                breaks.push(rows);
            }
            rows += segment.rows.len();
            labelled |= segment.labelled;
        }
    }
    let events = place.events();
    for (index, part) in parts.iter_mut().enumerate() {
        tracks.push(track(&format!("{id}-t{index}"), part, &events, sink)?);
    }
    Ok(Scene {
        entity: place.entity.clone(),
        split: place.split.name(),
        rows: place.rows,
        breaks,
        times: times_of(&times, &format!("{id}-time"), sink)?,
        labelled: labelled && !place.labels.is_empty(),
        events: events
            .iter()
            .map(|event| (event.start, event.end))
            .collect(),
        tracks,
        channels: Vec::new(),
        id,
    })
}

/// Unbroken runs of what holds.
fn runs(flags: impl Iterator<Item = bool>) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (row, holds) in flags.enumerate() {
        if !holds {
            continue;
        }
        match runs.last_mut() {
            Some(run) if run.end == row => run.end = row + 1,
            _ => runs.push(row..row + 1),
        }
    }
    runs
}

fn times_of(times: &[i64], name: &str, sink: &dyn TileSink) -> Result<Times, ReportError> {
    let (Some(first), Some(second)) = (times.first(), times.get(1)) else {
        return Ok(match times.first() {
            Some(first) => Times::Regular {
                first: *first,
                step: 0,
            },
            None => Times::None,
        });
    };
    let step = second.saturating_sub(*first);
    let is_regular = times
        .windows(2)
        .all(|pair| pair[1].saturating_sub(pair[0]) == step);
    if is_regular {
        return Ok(Times::Regular {
            first: *first,
            step,
        });
    }
    let listed = times.iter().map(|time| *time as f64).collect();
    Ok(Times::Listed(Numbers::Double(listed).keep(sink, name)?))
}

fn track(
    name: &str,
    part: &mut Part<'_>,
    events: &[Range<usize>],
    sink: &dyn TileSink,
) -> Result<Track, ReportError> {
    let values = std::mem::take(&mut part.values);
    // Where some rows are labelled, an alarm in others is neither right nor wrong.
    let unlabelled = unlabelled(&part.segments);
    let mut threshold = part.threshold.as_ref().and_then(|(metric, stage)| {
        Some(Threshold {
            value: metric.value?,
            oracle: metric.oracle,
            stage: stage.clone(),
            how: metric.caveat.clone(),
            moving: None,
        })
    });
    let by_row = part.moving.take();
    // A threshold that is said to move, and of which nothing is known, raises no alarms.
    let is_unknown = by_row.is_none()
        && part
            .threshold
            .as_ref()
            .is_some_and(|(metric, _)| metric.name != "threshold");
    if is_unknown {
        threshold = None;
    }
    let line = threshold.as_ref().map(|threshold| threshold.value);
    let above = |row: usize| match (&by_row, line) {
        (Some(thresholds), _) => f64::from(values[row]) > thresholds[row],
        (None, Some(line)) => f64::from(values[row]) > line,
        (None, None) => false,
    };
    let mut found = Vec::with_capacity(events.len());
    for event in events {
        let (peak_row, peak) = peak(&values, event);
        let first = event.clone().find(|row| above(*row));
        found.push(Found {
            delay: first.map(|row| row - event.start),
            peak,
            peak_row,
            channels: Vec::new(),
        });
    }
    let mut alarms = Vec::new();
    for alarm in runs((0..values.len()).map(above)) {
        if !touches(events, &alarm) && !touches(&unlabelled, &alarm) {
            let (peak_row, peak) = peak(&values, &alarm);
            alarms.push(Alarm {
                start: alarm.start,
                end: alarm.end,
                peak,
                peak_row,
            });
        }
    }
    if let (Some(threshold), Some(line)) = (&mut threshold, by_row) {
        // A row that is not judged is held against the largest number.
        let drawn = |value: f64| value.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32;
        let over = |(score, line): (&f32, &f64)| drawn(f64::from(*score) - line);
        let excess = values.iter().zip(&line).map(over).collect();
        let line = line.into_iter().map(drawn).collect();
        threshold.moving = Some(Moving {
            line: Numbers::Single(line).keep(sink, &format!("{name}-line"))?,
            excess: Numbers::Single(excess).keep(sink, &format!("{name}-excess"))?,
        });
    }
    let alarm_count = alarms.len();
    alarms.sort_by(|left, right| right.peak.total_cmp(&left.peak));
    alarms.truncate(ALARMS_LISTED);
    alarms.sort_by_key(|alarm| alarm.start);
    Ok(Track {
        stage: part.name.clone(),
        is_logarithmic: is_logarithmic(&values),
        score: Numbers::Single(values).keep(sink, name)?,
        threshold,
        found,
        alarms,
        alarm_count,
    })
}

/// The rows of segments without labels, side by side with the others; none if no segment has labels.
fn unlabelled(segments: &[Segment]) -> Vec<Range<usize>> {
    let (mut found, mut start) = (Vec::new(), 0);
    for segment in segments {
        let end = start + segment.rows.len();
        if !segment.labelled {
            found.push(start..end);
        }
        start = end;
    }
    match segments.iter().any(|segment| segment.labelled) {
        true => found,
        false => Vec::new(),
    }
}

/// Whether a few scores lie far above the rest; a logarithmic axis takes positive ones only.
fn is_logarithmic(scores: &[f32]) -> bool {
    let mut rising = scores.to_vec();
    rising.sort_unstable_by(f32::total_cmp);
    let (Some(lowest), Some(highest)) = (rising.first(), rising.last()) else {
        return false;
    };
    let high = rising[(rising.len() - 1) * 95 / 100];
    *lowest > 0.0 && *highest > 30.0 * high
}

/// The highest value of a range that is not empty, and its first row.
fn peak(values: &[f32], rows: &Range<usize>) -> (usize, f32) {
    let mut best = (rows.start, values[rows.start]);
    for row in rows.clone() {
        if values[row] > best.1 {
            best = (row, values[row]);
        }
    }
    best
}

/// Whether a range has a row in common with one of these, which are in order.
fn touches(events: &[Range<usize>], alarm: &Range<usize>) -> bool {
    let next = events.partition_point(|event| event.end <= alarm.start);
    events
        .get(next)
        .is_some_and(|event| event.start < alarm.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_unbroken() {
        let flags = [true, true, false, true, false, false, true];
        assert_eq!(runs(flags.into_iter()), [0..2, 3..4, 6..7]);
        assert!(runs(std::iter::empty()).is_empty());
    }

    #[test]
    fn an_alarm_touches_an_event_that_shares_a_row() {
        let events = [5..8, 20..21];
        assert!(touches(&events, &(0..6)));
        assert!(touches(&events, &(7..30)));
        assert!(touches(&events, &(20..21)));
        assert!(!touches(&events, &(0..5)));
        assert!(!touches(&events, &(8..20)));
        assert!(!touches(&events, &(21..99)));
    }
}
