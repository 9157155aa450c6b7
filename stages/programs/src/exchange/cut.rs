//! What a program is given of an artifact: the splits that it asks for, with labels only where it says so. The class of a
//! sample is a label, too.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use contract::Trouble;
use contract::artifact::{
    Artifact, Predictions, Scores, Segment, Series, Shown, Split, WindowRun, Windows,
};

/// The part of an artifact that lies in these splits (all if nothing is said), with labels in those of `labels` only.
///
/// # Errors
/// If splits are asked for of something that has none.
pub(crate) fn without_labels(
    name: &str,
    artifact: &Artifact,
    splits: Option<&[Split]>,
    labels: &[Split],
) -> Result<Artifact, Trouble> {
    let is_wanted = |split: Split| splits.is_none_or(|splits| splits.contains(&split));
    let segments = match artifact {
        Artifact::Series(series) => Some(&series.segments),
        Artifact::Windows(windows) => Some(&windows.series.segments),
        Artifact::Scores(scores) => Some(&scores.segments),
        _ => None,
    };
    // Most have nothing to leave out, and are large.
    let is_as_it_is =
        |segment: &Segment| is_wanted(segment.split) && strip_labels(segment, labels) == *segment;
    if segments.is_some_and(|segments| segments.iter().all(is_as_it_is)) {
        return Ok(artifact.clone());
    }
    Ok(match artifact {
        Artifact::Series(series) => of_series(series, &is_wanted, labels).into(),
        Artifact::Windows(windows) => of_windows(windows, &is_wanted, labels)?.into(),
        Artifact::Scores(scores) => of_scores(scores, &is_wanted, labels).into(),
        Artifact::Predictions(found) => of_predictions(found, &is_wanted, labels).into(),
        other if splits.is_some() => {
            let message = format!(
                "`{}` is of kind {}, which has no splits",
                Shown(name),
                other.kind()
            );
            return Err(Trouble::new(message).hint("leave out `splits` for this input"));
        }
        other => other.clone(),
    })
}

/// A segment that says nothing of labels, unless those of its split are asked for.
pub(crate) fn strip_labels(segment: &Segment, labels: &[Split]) -> Segment {
    let mut own = segment.clone();
    if !labels.contains(&own.split) {
        own.labelled = false;
        own.class = None;
    }
    own
}

/// The labels of some rows, or zeros where they are not asked for.
fn labels_of(all: &[u8], segment: &Segment, labels: &[Split]) -> Vec<u8> {
    match all.get(segment.rows.clone()) {
        Some(own) if labels.contains(&segment.split) => own.to_vec(),
        _ => vec![0; segment.rows.len()],
    }
}

fn of_series(series: &Series, is_wanted: &dyn Fn(Split) -> bool, labels: &[Split]) -> Series {
    let wanted = series.segments.iter();
    let wanted: Vec<&Segment> = wanted.filter(|segment| is_wanted(segment.split)).collect();
    rows_of(series, &wanted, labels)
}

/// The rows of these segments, which stand in rows of their own.
fn rows_of(series: &Series, wanted: &[&Segment], labels: &[Split]) -> Series {
    let mut found = Series {
        channels: series.channels.clone(),
        ..Series::default()
    };
    let mut wide: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for channel in series.wide.keys() {
        wide.insert(*channel, Vec::new());
    }
    let width = series.width();
    let mut first = 0;
    for segment in wanted {
        let rows = segment.rows.clone();
        let values = &series.values[rows.start * width..rows.end * width];
        found.values.extend_from_slice(values);
        for (channel, values) in &mut wide {
            values.extend_from_slice(&series.wide[channel][rows.clone()]);
        }
        let times = series.times.get(rows.clone());
        found.times.extend_from_slice(times.unwrap_or_default());
        if !series.labels.is_empty() {
            found
                .labels
                .extend(labels_of(&series.labels, segment, labels));
        }
        let mut own = strip_labels(segment, labels);
        own.rows = first..first + rows.len();
        first = own.rows.end;
        found.segments.push(own);
    }
    // A column of zeros would be taken for labels.
    if !found.segments.iter().any(|segment| segment.labelled) {
        found.labels.clear();
    }
    found.wide = wide;
    found
}

fn of_windows(
    windows: &Windows,
    is_wanted: &dyn Fn(Split) -> bool,
    labels: &[Split],
) -> Result<Windows, Trouble> {
    let series = &windows.series;
    let runs: Vec<&WindowRun> = windows
        .runs
        .iter()
        .filter(|run| is_wanted(run.split))
        .collect();
    // A run may reach back into the segment before it.
    let is_needed = |segment: &&Segment| {
        let overlaps =
            |run: &&WindowRun| run.rows.0 < segment.rows.end && segment.rows.start < run.rows.1;
        is_wanted(segment.split) || runs.iter().any(overlaps)
    };
    let needed: Vec<&Segment> = series.segments.iter().filter(is_needed).collect();
    let cut = rows_of(series, &needed, labels);
    let moved = |row: usize| {
        let mut pairs = needed.iter().zip(&cut.segments);
        let found = pairs.find(|(old, _)| old.rows.contains(&row) || old.rows.end == row);
        found.map(|(old, new)| new.rows.start + row - old.rows.start)
    };
    let mut own = Vec::with_capacity(runs.len());
    for run in runs {
        // By the first row, since the end of one segment is the start of the next.
        let start = needed
            .iter()
            .zip(&cut.segments)
            .find(|(old, _)| old.rows.contains(&run.rows.0))
            .map(|(old, new)| new.rows.start + run.rows.0 - old.rows.start)
            .or_else(|| moved(run.rows.0));
        let Some(start) = start else {
            return Err(Trouble::new("windows lie outside of their series"));
        };
        own.push(WindowRun {
            first: start + run.first - run.rows.0,
            rows: (start, start + run.rows.1 - run.rows.0),
            ..*run
        });
    }
    let found = Windows {
        series: Arc::new(cut),
        spec: windows.spec,
        runs: own,
    };
    found.validate().map_err(Trouble::new)?;
    Ok(found)
}

fn of_scores(scores: &Scores, is_wanted: &dyn Fn(Split) -> bool, labels: &[Split]) -> Scores {
    let mut found = Scores {
        scores: Vec::new(),
        labels: Vec::new(),
        times: Vec::new(),
        segments: Vec::new(),
        contributions: Vec::new(),
        ..Scores::clone(scores)
    };
    let width = scores.channels.len();
    for segment in &scores.segments {
        if !is_wanted(segment.split) {
            continue;
        }
        let rows = segment.rows.clone();
        let first = found.scores.len();
        let times = scores.times.get(rows.clone());
        found.times.extend_from_slice(times.unwrap_or_default());
        found.scores.extend_from_slice(&scores.scores[rows.clone()]);
        let parts = &scores.contributions[rows.start * width..rows.end * width];
        found.contributions.extend_from_slice(parts);
        if !scores.labels.is_empty() {
            found
                .labels
                .extend(labels_of(&scores.labels, segment, labels));
        }
        let mut own = strip_labels(segment, labels);
        own.rows = first..found.scores.len();
        found.segments.push(own);
    }
    if !found.segments.iter().any(|segment| segment.labelled) {
        found.labels.clear();
    }
    found
}

fn of_predictions(
    given: &Predictions,
    is_wanted: &dyn Fn(Split) -> bool,
    labels: &[Split],
) -> Predictions {
    let mut found = Predictions {
        classes: given.classes.clone(),
        ..Predictions::default()
    };
    for (sample, split) in given.splits.iter().enumerate() {
        if is_wanted(*split) {
            found.samples.push(given.samples[sample].clone());
            found.splits.push(*split);
            found.entities.extend(given.entities.get(sample).cloned());
            found.times.extend(given.times.get(sample));
            found.probabilities.extend_from_slice(given.row(sample));
            found.truth.extend(given.truth.get(sample));
        }
    }
    // All samples have a true class, or none.
    if !found.splits.iter().all(|split| labels.contains(split)) {
        found.truth.clear();
    }
    found
}

/// Bytes of numbers, a piece at a time, so that an array is never in memory a second time.
pub(super) fn pieces<'a, T: Copy, const N: usize>(
    values: &'a [T],
    bytes: impl Fn(T) -> [u8; N] + 'a,
) -> impl Iterator<Item = Vec<u8>> + 'a {
    const AT_ONCE: usize = 1 << 14;
    values
        .chunks(AT_ONCE)
        .map(move |chunk| chunk.iter().flat_map(|value| bytes(*value)).collect())
}

/// All values of a series in rows: of 32 bits, or of 64 where a channel needs them.
pub(super) fn wide_rows(series: &Series) -> Option<Cow<'_, [f64]>> {
    if series.wide.is_empty() {
        return None;
    }
    let mut values = Vec::with_capacity(series.values.len());
    for row in 0..series.rows() {
        for channel in 0..series.width() {
            values.push(series.value(row, channel));
        }
    }
    Some(Cow::Owned(values))
}
