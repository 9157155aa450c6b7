//! Pictures of forecast or filled-in windows beside what was measured.

use super::pictures::{Drawing, Picture};
use super::{Channels, Params};
use crate::artifact::Forecasts;
use crate::contract::StageError;
use crate::metrics::events_of;
use crate::plot::{Chart, Line, Panel, Region, TimeAxis, palette};

/// A picture for each of a few windows of the drawn split, evenly spread.
///
/// # Errors
/// If the split has no windows or a channel does not exist.
pub fn plan(params: &Params, forecasts: &Forecasts) -> Result<Vec<Picture>, StageError> {
    forecasts.validate().map_err(StageError::new)?;
    let windows: Vec<usize> = forecasts.of_split(params.split).collect();
    if windows.is_empty() {
        return Err(StageError::new(format!("there are no forecasts of split `{}` to draw", params.split)));
    }
    let channels = channels(&params.channels, forecasts)?;
    let count = params.windows.min(windows.len());
    let spread = |index: usize| windows[index * (windows.len() - 1) / count.saturating_sub(1).max(1)];
    Ok((0..count).map(|index| picture(params, forecasts, &channels, index, spread(index))).collect())
}

fn channels(wanted: &Channels, forecasts: &Forecasts) -> Result<Vec<usize>, StageError> {
    let find = |name: &String| {
        forecasts.channels.iter().position(|channel| channel == name).ok_or_else(|| {
            let known = forecasts.channels.iter().take(40).cloned().collect::<Vec<_>>().join(", ");
            StageError::new(format!("the forecasts have no channel `{name}`"))
                .hint(format!("their channels are {known}"))
        })
    };
    match wanted {
        Channels::Count(count) => Ok((0..forecasts.width().min(*count)).collect()),
        Channels::Names(names) => names.iter().map(find).collect(),
    }
}

fn picture(params: &Params, forecasts: &Forecasts, channels: &[usize], index: usize, window: usize) -> Picture {
    let origin = &forecasts.origins[window];
    let panels: Vec<Panel> = channels.iter().map(|channel| panel(forecasts, window, *channel)).collect();
    let time = TimeAxis {
        rows: forecasts.horizon,
        first: origin.row,
        label: format!("row, split {}", params.split),
        times: Vec::new(),
        breaks: Vec::new(),
    };
    let what = if forecasts.judged.is_empty() { "forecast" } else { "filled in" };
    let title = format!("{} · {what} from row {}", origin.entity, origin.row);
    let chart = Chart { title, subtitle: String::new(), time, panels };
    // The first panel has the height of the picture, the others add to it.
    let more = channels.len().saturating_sub(1);
    Picture { name: format!("forecast-{:03}", index + 1), drawing: Drawing::Chart(chart), channels: more }
}

/// The values of one channel. Where a value was seen by the model and is not judged, the line is that of the true ones.
fn panel(forecasts: &Forecasts, window: usize, channel: usize) -> Panel {
    let (horizon, width) = (forecasts.horizon, forecasts.width());
    let at = |step: usize| (window * horizon + step) * width + channel;
    let judged: Vec<bool> =
        (0..horizon).map(|step| forecasts.judged.is_empty() || forecasts.judged[at(step)] != 0).collect();
    let actual: Vec<f32> = (0..horizon).map(|step| forecasts.actual[at(step)]).collect();
    let predicted = (0..horizon).map(|step| if judged[step] { forecasts.predicted[at(step)] } else { actual[step] });
    let predicted = Line { name: "model".into(), values: predicted.collect(), color: palette::VERMILION };
    let mut panel = Panel::of_lines(
        forecasts.channels[channel].clone(),
        vec![Line { name: "measured".into(), values: actual, color: palette::BLUE }, predicted],
    );
    if !forecasts.judged.is_empty() {
        let rows = events_of(&judged, std::slice::from_ref(&(0..horizon)));
        panel.regions.push(Region { name: "hidden".into(), rows, color: palette::ORANGE, opacity: 0.2 });
    }
    panel
}
