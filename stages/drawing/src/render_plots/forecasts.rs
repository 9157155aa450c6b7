//! Plots of forecast or filled-in windows beside what was measured, with the rows before a forecast if they are there.

use super::selection::column;
use super::{Channels, Params, Plot};
use contract::Trouble;
use contract::artifact::{Forecasts, Series};
use judging::metrics::events_of;
use plot::{Chart, Line, Panel, Region, TimeAxis, palette};

/// A plot for each of a few windows of the drawn split, evenly spread. From `series`, the scaled one, come the rows
/// before each forecast.
///
/// # Errors
/// If the split has no windows, a channel does not exist, or `series` is not what was forecast.
pub fn plan(
    params: &Params,
    forecasts: &Forecasts,
    series: Option<&Series>,
) -> Result<Vec<Plot>, Trouble> {
    forecasts.validate().map_err(Trouble::new)?;
    // Of a window that was filled in, all rows are drawn already.
    let series = series.filter(|_| forecasts.judged.is_empty());
    if let Some(series) = series {
        check_series(forecasts, series)?;
    }
    let windows: Vec<usize> = forecasts.of_split(params.split).collect();
    if windows.is_empty() {
        return Err(Trouble::new(format!(
            "there are no forecasts of split `{}` to draw",
            params.split
        )));
    }
    let channels = channels(&params.channels, forecasts)?;
    let count = params.windows.min(windows.len());
    let mut plots = Vec::with_capacity(count);
    for index in 0..count {
        // The first window, the last, and between them evenly.
        let window = windows[index * (windows.len() - 1) / count.saturating_sub(1).max(1)];
        let before = match series {
            Some(series) => rows_before(params, forecasts, series, window),
            None => &[],
        };
        let chart = chart(params, forecasts, &channels, window, before);
        // The first panel has the height of the plot, the others add to it.
        let more = channels.len().saturating_sub(1);
        plots.push(Plot::of_chart(
            params,
            format!("forecast-{:03}", index + 1),
            chart,
            more,
        ));
    }
    Ok(plots)
}

/// Whether a series has the channels, and at the first step of each forecast the entity, that the forecasts have.
fn check_series(forecasts: &Forecasts, series: &Series) -> Result<(), Trouble> {
    let mut origins = forecasts.origins.iter();
    if series.channels == forecasts.channels
        && origins.all(|origin| is_of(series, origin.row, &origin.entity))
    {
        return Ok(());
    }
    Err(
        Trouble::new("`series` and `forecasts` do not belong together")
            .hint("connect the series that the windows were cut from, after scaling"),
    )
}

fn is_of(series: &Series, row: usize, entity: &str) -> bool {
    let segment = series.segment_at(row);
    segment.is_some_and(|segment| segment.entity == entity)
}

/// Up to `history` rows of the same entity before a forecast, `[rows, channels]`.
fn rows_before<'a>(
    params: &Params,
    forecasts: &Forecasts,
    series: &'a Series,
    window: usize,
) -> &'a [f32] {
    let origin = &forecasts.origins[window];
    let mut first = origin.row;
    let earliest = origin.row.saturating_sub(params.history);
    while first > earliest && is_of(series, first - 1, &origin.entity) {
        first -= 1;
    }
    &series.values[first * series.width()..origin.row * series.width()]
}

fn channels(wanted: &Channels, forecasts: &Forecasts) -> Result<Vec<usize>, Trouble> {
    match wanted {
        Channels::Count(count) => Ok((0..forecasts.width().min(*count)).collect()),
        Channels::Names(names) => {
            let find = |name: &String| column(&forecasts.channels, name, "forecasts");
            names.iter().map(find).collect()
        }
    }
}

fn chart(
    params: &Params,
    forecasts: &Forecasts,
    channels: &[usize],
    window: usize,
    before: &[f32],
) -> Chart {
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
    Chart {
        title,
        subtitle: String::new(),
        time,
        panels,
    }
}

/// The values of one channel. Where a value was seen by the model and is not judged, the line is that of the true ones.
fn panel(forecasts: &Forecasts, window: usize, channel: usize, before: &[f32]) -> Panel {
    let (horizon, width) = (forecasts.horizon, forecasts.width());
    let mut actual = Vec::new();
    for value in before.iter().skip(channel).step_by(width) {
        actual.push(f64::from(*value));
    }
    let history = actual.len();
    let mut predicted = vec![f64::NAN; history];
    let mut judged = Vec::with_capacity(horizon);
    for step in 0..horizon {
        let at = (window * horizon + step) * width + channel;
        let is_judged = forecasts.judged.is_empty() || forecasts.judged[at] != 0;
        let line = if is_judged {
            &forecasts.predicted
        } else {
            &forecasts.actual
        };
        actual.push(f64::from(forecasts.actual[at]));
        predicted.push(f64::from(line[at]));
        judged.push(is_judged);
    }
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
    } else if history > 0 {
        let rows = history..history + horizon;
        panel.regions.push(Region {
            name: "forecast".into(),
            rows: [rows].into(),
            color: palette::FRAME,
            opacity: 0.12,
        });
    }
    panel
}
