//! Anomaly scores that a program gives: one for each row that it was asked about.

use super::frame::{Content, Frame};
use super::numbers::matrix;
use super::rows::{Expected, refuse_truth};
use contract::Trouble;
use contract::artifact::{Scores, Segment};

const SCORE: &str = "score";

/// Columns that say where a row lies.
const PLACES: [&str; 8] = [
    "entity",
    "split",
    "time",
    "row",
    "runner.entity",
    "runner.split",
    "runner.time",
    "runner.row",
];

/// The scores of a file, with the labels of the series beside them. `sign` is -1 where lower is more anomalous.
///
/// # Errors
/// If there is not one finite score for each row.
pub(crate) fn scores(frame: &Frame, expected: &Expected<'_>, sign: f32) -> Result<Scores, Trouble> {
    scores_of_parts(&[(frame.clone(), expected.clone())], None, sign)
}

/// The scores of several files, each of which has some of the segments, in the order of their series. `column` is the name
/// of the column if it is not `score`.
///
/// # Errors
/// If a file does not have one finite score for each of its rows.
pub(crate) fn scores_of_parts(
    parts: &[(Frame, Expected<'_>)],
    column: Option<&str>,
    sign: f32,
) -> Result<Scores, Trouble> {
    let mut found = Scores {
        scores: Vec::new(),
        labels: Vec::new(),
        times: Vec::new(),
        segments: Vec::new(),
        channels: Vec::new(),
        contributions: Vec::new(),
    };
    for (number, (frame, expected)) in parts.iter().enumerate() {
        refuse_truth(frame, &[])?;
        expected.check_count(frame, frame.rows())?;
        let describe = |row: usize| expected.describe(row);
        let name = match column {
            Some(name) => name.to_owned(),
            None => name_of_score(frame),
        };
        let values = matrix(frame, &[name], "", &describe)?;
        expected.check_places(frame)?;
        let channels = channels_of_contributions(frame, expected);
        if number == 0 {
            found.channels = channels;
        } else if found.channels != channels {
            let message = "some files have contributions of channels and others have none";
            return Err(frame.wrong(message));
        }
        if !found.channels.is_empty() {
            let parts = matrix(frame, &found.channels, CONTRIBUTION, &describe)?;
            found.contributions.extend(parts.values);
        }
        found
            .scores
            .extend(values.values.iter().map(|value| sign * value));
        attach(&mut found, expected);
    }
    found.validate().map_err(Trouble::new)?;
    Ok(found)
}

const CONTRIBUTION: &str = "contribution.";

/// The channels of the series if the file says what each adds to a score.
fn channels_of_contributions(frame: &Frame, expected: &Expected<'_>) -> Vec<String> {
    let mut columns = frame.columns().iter();
    match columns.any(|(name, _)| name.starts_with(CONTRIBUTION)) {
        true => expected.series.channels.clone(),
        false => Vec::new(),
    }
}

/// The only column that can be the score, whatever it is called.
fn name_of_score(frame: &Frame) -> String {
    if let Content::Columns(columns) = &frame.content
        && frame.column(SCORE).is_none()
    {
        let mut others = columns.iter().filter(|(name, _)| {
            !PLACES.contains(&name.as_str()) && !name.starts_with(CONTRIBUTION)
        });
        if let (Some((name, _)), None) = (others.next(), others.next()) {
            return name.clone();
        }
    }
    SCORE.to_owned()
}

/// Segments and labels, as the series has them.
fn attach(found: &mut Scores, expected: &Expected<'_>) {
    let series = expected.series;
    for segment in &expected.segments {
        let first = found.segments.last().map_or(0, |last| last.rows.end);
        if !series.labels.is_empty() {
            let labels = &series.labels[segment.rows.clone()];
            found.labels.extend_from_slice(labels);
        }
        let times = series.times.get(segment.rows.clone());
        found.times.extend_from_slice(times.unwrap_or_default());
        let mut own = Segment::clone(segment);
        own.rows = first..first + segment.rows.len();
        found.segments.push(own);
    }
}
