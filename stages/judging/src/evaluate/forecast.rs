//! Judging forecasts: the figures of all windows of a split, of each step and of each channel.

use std::sync::Arc;

use rayon::prelude::*;

use super::Params;
use crate::metrics::{self, ForecastCase, MetricChoice, Subject};
use contract::artifact::{Column, Forecasts, Metrics, Split, Table};
use contract::{Outputs, StageContext, Trouble};

/// The outputs `metrics`, `by_step` and `by_channel`.
pub fn judge(
    params: &Params,
    forecasts: Arc<Forecasts>,
    context: &StageContext<'_>,
) -> Result<Outputs, Trouble> {
    if forecasts.of_split(params.on).next().is_none() {
        return Err(no_windows(&forecasts, params.on));
    }
    let case = ForecastCase::new(forecasts, params.on).map_err(|reason| {
        let hint =
            "the model has probably diverged: look at its training log, or lower its learning rate";
        Trouble::new(reason).hint(hint)
    })?;
    let choices = params.choices(Subject::Forecast);
    let entries = choices
        .iter()
        .map(|choice| metrics::evaluate(choice, &case, false));
    let entries = entries
        .collect::<Result<Vec<_>, _>>()
        .map_err(Trouble::new)?;
    context.check_cancelled()?;
    let steps: Vec<usize> = case.steps().collect();
    let by_step = figures(&choices, steps.par_iter().map(|step| case.at_step(*step)))?;
    context.check_cancelled()?;
    let by_channel = figures(
        &choices,
        case.channels()
            .into_par_iter()
            .map(|channel| case.of_channel(channel)),
    )?;
    let numbers: Vec<i64> = steps.iter().map(|step| *step as i64).collect();
    let names: Vec<String> = case
        .channels()
        .map(|channel| case.channel_name(channel).to_owned())
        .collect();
    Ok(Outputs::one("metrics", Metrics { entries })
        .with(
            "by_step",
            table(&choices, ("step", numbers.into()), &by_step)?,
        )
        .with(
            "by_channel",
            table(&choices, ("channel", names.into()), &by_channel)?,
        ))
}

/// The figures of each case, in the order of the choices.
fn figures(
    choices: &[MetricChoice],
    cases: impl IndexedParallelIterator<Item = ForecastCase>,
) -> Result<Vec<Vec<Option<f64>>>, Trouble> {
    let of_case = |case: ForecastCase| {
        let value = |choice| metrics::evaluate(choice, &case, false).map(|metric| metric.value);
        choices
            .iter()
            .map(value)
            .collect::<Result<Vec<_>, String>>()
    };
    cases
        .map(of_case)
        .collect::<Result<_, _>>()
        .map_err(Trouble::new)
}

/// A row per case, a column per figure.
fn table(
    choices: &[MetricChoice],
    first: (&str, Column),
    rows: &[Vec<Option<f64>>],
) -> Result<Table, Trouble> {
    let labels: Vec<String> = choices.iter().map(metrics::label).collect();
    let column = |(index, label): (usize, &'_ String)| {
        (
            label.clone(),
            Column::Reals(rows.iter().map(|row| row[index]).collect()),
        )
    };
    let columns: Vec<(String, Column)> = labels.iter().enumerate().map(column).collect();
    let columns = columns
        .iter()
        .map(|(label, column)| (label.as_str(), column.clone()));
    Table::new(std::iter::once(first).chain(columns).collect())
        .map_err(|error| Trouble::new(format!("the table of figures could not be made: {error}")))
}

fn no_windows(forecasts: &Forecasts, split: Split) -> Trouble {
    let present = Split::ALL
        .into_iter()
        .filter(|split| forecasts.of_split(*split).next().is_some());
    let present: Vec<String> = present.map(|split| format!("`{split}`")).collect();
    let hint = if present.is_empty() {
        "there are no windows at all".to_owned()
    } else {
        format!("there are windows of {}", present.join(", "))
    };
    Trouble::new(format!(
        "there are no forecasts of split `{split}` to be judged"
    ))
    .hint(hint)
}
