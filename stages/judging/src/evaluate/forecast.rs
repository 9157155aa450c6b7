//! Judging forecasts: the metrics of all windows of a split, of each step and of each channel.

use std::sync::Arc;

use rayon::prelude::*;

use super::{Params, none_of_split};
use crate::metrics::{self, ForecastCase, MetricChoice, Subject};
use contract::artifact::{Column, Forecasts, Metric, Metrics, Table};
use contract::{Outputs, StageContext, Trouble};

/// The outputs `metrics`, `by_step` and `by_channel`.
pub fn judge(
    params: &Params,
    forecasts: Arc<Forecasts>,
    context: &StageContext<'_>,
) -> Result<Outputs, Trouble> {
    let has_windows = |split| forecasts.of_split(split).next().is_some();
    if !has_windows(params.on) {
        return Err(none_of_split(
            "forecasts",
            &[params.on],
            "judged",
            has_windows,
        ));
    }
    let case = ForecastCase::new(forecasts, params.on).map_err(|reason| {
        let hint =
            "the model has probably diverged: look at its training log, or lower its learning rate";
        Trouble::new(reason).hint(hint)
    })?;
    let choices = params.choices(Subject::Forecast);
    let entries = metrics::evaluate_all(&choices, &case, false)?;
    context.check_cancelled()?;
    let by_step = by_part(
        &choices,
        case.steps().map(|step| case.at_step(step)).collect(),
    )?;
    context.check_cancelled()?;
    let channels = case.channels();
    let by_channel = by_part(
        &choices,
        channels
            .clone()
            .map(|channel| case.of_channel(channel))
            .collect(),
    )?;
    let steps: Vec<i64> = case.steps().map(|step| step as i64).collect();
    let channels: Vec<String> = channels
        .map(|channel| case.channel_name(channel).to_owned())
        .collect();
    Ok(Outputs::one("metrics", Metrics { entries })
        .with("by_step", table("step", steps.into(), &choices, &by_step)?)
        .with(
            "by_channel",
            table("channel", channels.into(), &choices, &by_channel)?,
        ))
}

/// The metrics of each part of a case, in the order of the choices.
fn by_part(
    choices: &[MetricChoice],
    parts: Vec<ForecastCase>,
) -> Result<Vec<Vec<Metric>>, Trouble> {
    let parts = parts.par_iter();
    parts
        .map(|part| metrics::evaluate_all(choices, part, false))
        .collect()
}

/// A row per part, a column per metric.
fn table(
    first: &str,
    parts: Column,
    choices: &[MetricChoice],
    rows: &[Vec<Metric>],
) -> Result<Table, Trouble> {
    let labels: Vec<String> = choices.iter().map(metrics::label).collect();
    let mut columns = vec![(first, parts)];
    for (index, label) in labels.iter().enumerate() {
        let values = rows.iter().map(|row| row[index].value).collect();
        columns.push((label, Column::Reals(values)));
    }
    Ok(Table::new(columns)?)
}
