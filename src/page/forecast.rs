//! Forecast or filled-in windows beside what was measured, with the rows before them.

use contract::artifact::{Artifact, ArtifactKind, Forecasts, Series, Split};
use serde::Serialize;

use super::gathering::{Gathering, name_of};
use super::tiles::{ArrayNote, Numbers};
use crate::report::ReportError;

/// Windows that are shown: as many of the best, the middling and the worst.
const OF_EACH: usize = 4;

/// Channels that are shown at most.
const CHANNELS: usize = 16;

/// Numbers that are shown at most: with a long horizon, of fewer channels.
const NUMBERS: usize = 1 << 18;

/// The forecasts of one stage.
#[derive(Clone, Debug, Serialize)]
pub struct ForecastView {
    pub stage: String,
    pub split: &'static str,
    pub channels: Vec<String>,
    /// Channels there are, of which the first are shown.
    pub channel_count: usize,
    pub horizon: usize,
    /// Rows before a window.
    pub context: usize,
    /// Windows there are, of which some are shown.
    pub window_count: usize,
    pub windows: Vec<WindowNote>,
    /// `[windows, channels, context + 2 * horizon]`: the rows before, what was measured, what was predicted. What does not count
    /// is not a number.
    pub values: ArrayNote,
}

#[derive(Clone, Debug, Serialize)]
pub struct WindowNote {
    pub entity: String,
    /// The row of the series that its first step stands for.
    pub row: usize,
    /// Mean squared error over the judged values of all channels.
    pub mse: f64,
    /// Of its first step, in milliseconds since 1970.
    pub time: Option<i64>,
}

/// The forecasts of a run.
///
/// # Errors
/// If a tile cannot be written.
pub fn forecasts(gathering: &Gathering<'_>) -> Result<Vec<ForecastView>, ReportError> {
    let mut views = Vec::new();
    for (index, stage, output) in gathering.outputs(ArtifactKind::Forecasts) {
        let Some(Artifact::Forecasts(forecasts)) = gathering.load(stage, output) else {
            continue;
        };
        let Some(split) = last_split(&forecasts) else {
            continue;
        };
        // The window's rows are those of the series that its windows were cut from; a model may stand on another.
        let inputs = gathering.history.stages[index].inputs.iter();
        let mut windows = inputs.filter(|input| input.port == "windows");
        let maker = windows.next().and_then(|input| input.maker.as_ref());
        let mut series = None;
        if let Some((maker, _)) = maker
            && let Some((maker, made)) = gathering.above(*maker, ArtifactKind::Series).pop()
            && let Some(Artifact::Series(found)) = gathering.load(maker, made)
            && found.channels == forecasts.channels
        {
            series = Some(found);
        }
        let name = format!("f{}", views.len());
        let channels = shown_channels(&forecasts);
        let (notes, values, context) = picked(&forecasts, split, series.as_deref(), channels);
        views.push(ForecastView {
            stage: name_of(stage, output),
            split: split.name(),
            channels: forecasts.channels.iter().take(channels).cloned().collect(),
            channel_count: forecasts.width(),
            horizon: forecasts.horizon,
            context,
            window_count: forecasts.of_split(split).count(),
            windows: notes,
            values: Numbers::Single(values).keep_whole(gathering.sink, &name)?,
        });
    }
    Ok(views)
}

fn shown_channels(forecasts: &Forecasts) -> usize {
    // The rows before a window are twice its horizon.
    let of_channel = 3 * OF_EACH * 4 * forecasts.horizon.max(1);
    let room = (NUMBERS / of_channel).clamp(1, CHANNELS);
    room.min(forecasts.width())
}

fn last_split(forecasts: &Forecasts) -> Option<Split> {
    let has_windows = |split: &Split| forecasts.of_split(*split).next().is_some();
    Split::ALL.into_iter().rev().find(has_windows)
}

/// The windows that are shown, the best first, with their values and the number of rows before each.
fn picked(
    forecasts: &Forecasts,
    split: Split,
    series: Option<&Series>,
    channels: usize,
) -> (Vec<WindowNote>, Vec<f32>, usize) {
    let mut errors: Vec<(usize, f64)> = forecasts
        .of_split(split)
        .map(|window| (window, squared_error(forecasts, window)))
        .collect();
    // A window without a value that counts is neither good nor bad.
    errors.retain(|(_, error)| error.is_finite());
    errors.sort_by(|left, right| left.1.total_cmp(&right.1).then(left.0.cmp(&right.0)));
    let count = errors.len();
    if count > 3 * OF_EACH {
        let middle = count / 2 - OF_EACH / 2;
        let ends = [0..OF_EACH, middle..middle + OF_EACH, count - OF_EACH..count];
        errors = ends
            .into_iter()
            .flatten()
            .map(|place| errors[place])
            .collect();
    }
    // Filled-in values have their surroundings in the window itself.
    let has_context = series.is_some() && forecasts.judged.is_empty();
    let context = if has_context {
        2 * forecasts.horizon
    } else {
        0
    };
    let (mut notes, mut values) = (Vec::new(), Vec::new());
    for (window, mse) in errors {
        let origin = &forecasts.origins[window];
        notes.push(WindowNote {
            entity: origin.entity.clone(),
            row: origin.row,
            mse,
            time: forecasts.times.get(window * forecasts.horizon).copied(),
        });
        for channel in 0..channels {
            values.extend(before(series, origin.row, channel, context));
            for measured in [true, false] {
                for step in 0..forecasts.horizon {
                    values.push(value(forecasts, window, step, channel, measured));
                }
            }
        }
    }
    (notes, values, context)
}

fn place(forecasts: &Forecasts, window: usize, step: usize, channel: usize) -> usize {
    (window * forecasts.horizon + step) * forecasts.width() + channel
}

fn value(forecasts: &Forecasts, window: usize, step: usize, channel: usize, measured: bool) -> f32 {
    let place = place(forecasts, window, step, channel);
    let counts = forecasts
        .judged
        .get(place)
        .is_none_or(|judged| *judged != 0);
    match (measured, counts) {
        (true, _) => forecasts.actual[place],
        (false, true) => forecasts.predicted[place],
        (false, false) => f32::NAN,
    }
}

/// The rows of a channel before a row; those of another segment are not a number.
fn before(series: Option<&Series>, row: usize, channel: usize, count: usize) -> Vec<f32> {
    let segment = series.and_then(|series| series.segment_at(row));
    let mut values = Vec::with_capacity(count);
    for back in (1..=count).rev() {
        let earlier = row.checked_sub(back);
        values.push(match (series, segment, earlier) {
            (Some(series), Some(segment), Some(row)) if row >= segment.rows.start => {
                series.value(row, channel) as f32
            }
            _ => f32::NAN,
        });
    }
    values
}

fn squared_error(forecasts: &Forecasts, window: usize) -> f64 {
    let size = forecasts.horizon * forecasts.width();
    let (mut sum, mut count) = (0.0, 0_usize);
    for place in window * size..(window + 1) * size {
        if forecasts
            .judged
            .get(place)
            .is_none_or(|judged| *judged != 0)
        {
            let error = f64::from(forecasts.predicted[place]) - f64::from(forecasts.actual[place]);
            sum += error * error;
            count += 1;
        }
    }
    sum / count as f64
}
