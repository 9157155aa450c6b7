//! Pictures of forecast or filled-in windows beside what was measured, with the rows before a forecast if they are there.

use super::pictures::{Drawing, Picture};
use super::{Channels, Params};
use contract::Trouble;
use contract::artifact::{Forecasts, Series};
use judging::metrics::events_of;
use plot::{Chart, Line, Panel, Region, TimeAxis, palette};

/// A picture for each of a few windows of the drawn split, evenly spread. From `series`, the scaled one, come the rows
/// before each forecast.
///
/// # Errors
/// If the split has no windows, a channel does not exist, or `series` is not what was forecast.
pub fn plan(
    params: &Params,
    forecasts: &Forecasts,
    series: Option<&Series>,
) -> Result<Vec<Picture>, Trouble> {
    forecasts.validate().map_err(Trouble::new)?;
    // Of a window that was filled in, all rows are drawn already.
    let series = series.filter(|_| forecasts.judged.is_empty());
    series.map_or(Ok(()), |series| check_series(forecasts, series))?;
    let windows: Vec<usize> = forecasts.of_split(params.split).collect();
    if windows.is_empty() {
        return Err(Trouble::new(format!(
            "there are no forecasts of split `{}` to draw",
            params.split
        )));
    }
    let channels = channels(&params.channels, forecasts)?;
    let count = params.windows.min(windows.len());
    let spread =
        |index: usize| windows[index * (windows.len() - 1) / count.saturating_sub(1).max(1)];
    let before = |window: usize| {
        series.map_or(&[][..], |series| {
            rows_before(params, forecasts, series, window)
        })
    };
    let draw = |index| {
        picture(
            params,
            forecasts,
            &channels,
            index,
            (spread(index), before(spread(index))),
        )
    };
    Ok((0..count).map(draw).collect())
}

/// Whether a series has the channels, and at the first step of each forecast the entity, that the forecasts have.
fn check_series(forecasts: &Forecasts, series: &Series) -> Result<(), Trouble> {
    let known = |origin: &contract::artifact::Origin| {
        series
            .segment_at(origin.row)
            .is_some_and(|segment| segment.entity == origin.entity)
    };
    if series.channels == forecasts.channels && forecasts.origins.iter().all(known) {
        return Ok(());
    }
    Err(
        Trouble::new("`series` and `forecasts` do not belong together")
            .hint("connect the series that the windows were cut from, after scaling"),
    )
}

/// Up to `history` rows of the same entity before a forecast, `[rows, channels]`.
fn rows_before<'a>(
    params: &Params,
    forecasts: &Forecasts,
    series: &'a Series,
    window: usize,
) -> &'a [f32] {
    let origin = &forecasts.origins[window];
    let same = |row: &usize| {
        series
            .segment_at(*row)
            .is_some_and(|segment| segment.entity == origin.entity)
    };
    let rows = (0..origin.row)
        .rev()
        .take(params.history)
        .take_while(same)
        .count();
    &series.values[(origin.row - rows) * series.width()..origin.row * series.width()]
}

fn channels(wanted: &Channels, forecasts: &Forecasts) -> Result<Vec<usize>, Trouble> {
    let find = |name: &String| {
        forecasts
            .channels
            .iter()
            .position(|channel| channel == name)
            .ok_or_else(|| {
                let known = forecasts
                    .channels
                    .iter()
                    .take(40)
                    .cloned()
                    .collect::<Vec<_>>()
                    .join(", ");
                Trouble::new(format!("the forecasts have no channel `{name}`"))
                    .hint(format!("their channels are {known}"))
            })
    };
    match wanted {
        Channels::Count(count) => Ok((0..forecasts.width().min(*count)).collect()),
        Channels::Names(names) => names.iter().map(find).collect(),
    }
}

fn picture(
    params: &Params,
    forecasts: &Forecasts,
    channels: &[usize],
    index: usize,
    (window, before): (usize, &[f32]),
) -> Picture {
    let origin = &forecasts.origins[window];
    let history = before.len() / forecasts.width();
    let panels: Vec<Panel> = channels
        .iter()
        .map(|channel| panel(forecasts, window, *channel, before))
        .collect();
    let time = TimeAxis {
        rows: history + forecasts.horizon,
        first: origin.row - history,
        label: format!("row, split {}", params.split),
        times: Vec::new(),
        breaks: Vec::new(),
    };
    let what = if forecasts.judged.is_empty() {
        "forecast"
    } else {
        "filled in"
    };
    let title = format!("{} · {what} from row {}", origin.entity, origin.row);
    let chart = Chart {
        title,
        subtitle: String::new(),
        time,
        panels,
    };
    // The first panel has the height of the picture, the others add to it.
    let more = channels.len().saturating_sub(1);
    Picture {
        name: format!("forecast-{:03}", index + 1),
        drawing: Drawing::Chart(chart),
        channels: more,
    }
}

/// The values of one channel. Where a value was seen by the model and is not judged, the line is that of the true ones.
fn panel(forecasts: &Forecasts, window: usize, channel: usize, before: &[f32]) -> Panel {
    let (horizon, width) = (forecasts.horizon, forecasts.width());
    let at = |step: usize| (window * horizon + step) * width + channel;
    let judged: Vec<bool> = (0..horizon)
        .map(|step| forecasts.judged.is_empty() || forecasts.judged[at(step)] != 0)
        .collect();
    let history: Vec<f32> = before
        .iter()
        .skip(channel)
        .step_by(width)
        .copied()
        .collect();
    let steps = |step: usize| {
        if judged[step] {
            forecasts.predicted[at(step)]
        } else {
            forecasts.actual[at(step)]
        }
    };
    let predicted = history
        .iter()
        .map(|_| f32::NAN)
        .chain((0..horizon).map(steps))
        .collect();
    let actual = history
        .iter()
        .copied()
        .chain((0..horizon).map(|step| forecasts.actual[at(step)]))
        .collect();
    let mut panel = Panel::of_lines(
        forecasts.channels[channel].clone(),
        vec![
            Line {
                name: "measured".into(),
                values: actual,
                color: palette::BLUE,
            },
            Line {
                name: "model".into(),
                values: predicted,
                color: palette::VERMILION,
            },
        ],
    );
    if !forecasts.judged.is_empty() {
        let rows = events_of(&judged, std::slice::from_ref(&(0..horizon)));
        panel.regions.push(Region {
            name: "hidden".into(),
            rows,
            color: palette::ORANGE,
            opacity: 0.2,
        });
    } else if !history.is_empty() {
        let rows = history.len()..history.len() + horizon;
        panel.regions.push(Region {
            name: "forecast".into(),
            rows: [rows].into(),
            color: palette::FRAME,
            opacity: 0.12,
        });
    }
    panel
}
