//! Forecasts that a program gives: for each window, a value for each step and channel.

use super::frame::{Content, Frame};
use super::numbers::matrix;
use super::rows::refuse_truth;
use contract::Trouble;
use contract::artifact::{Forecasts, Origin, Series, Shown, Split, Windows};

/// The forecasts of the windows of these splits, with what was measured beside them.
///
/// # Errors
/// If there is not one finite value for each window, step and channel.
pub(crate) fn forecasts(
    frame: &Frame,
    name: &str,
    windows: &Windows,
    splits: &[Split],
) -> Result<Forecasts, Trouble> {
    let series = &windows.series;
    let horizon = windows.spec.horizon;
    if horizon == 0 {
        let message = format!("the windows `{}` have no rows to be forecast", Shown(name));
        return Err(Trouble::new(message).hint("give the stage that cuts them a `horizon`"));
    }
    refuse_truth(frame, &["actual.*", "judged.*"])?;
    let mut found = Forecasts {
        channels: series.channels.clone(),
        horizon,
        naive_error: naive_error(series),
        ..Forecasts::default()
    };
    for run in &windows.runs {
        if !splits.contains(&run.split) {
            continue;
        }
        for start in (0..run.count).map(|index| run.start(index)) {
            let row = start + windows.spec.length;
            let entity = series.segment_at(row).map(|segment| &segment.entity);
            found.origins.push(Origin {
                split: run.split,
                entity: entity.cloned().unwrap_or_default(),
                row,
            });
            found.actual.extend_from_slice(windows.target(start));
            let times = series.times.get(row..row + horizon);
            found.times.extend_from_slice(times.unwrap_or_default());
        }
    }
    let describe = |row: usize| match found.origins.get(row / horizon) {
        Some(origin) => format!(
            "step {} of the window before row {} of `{}` in {}",
            row % horizon,
            origin.row,
            Shown(&origin.entity),
            origin.split
        ),
        None => "beyond the last window".to_owned(),
    };
    check_shape(frame, &found, &describe)?;
    let values = matrix(frame, &found.channels, "predicted.", &describe)?;
    found.predicted = values.values;
    found.validate().map_err(Trouble::new)?;
    Ok(found)
}

fn check_shape(
    frame: &Frame,
    found: &Forecasts,
    describe: &dyn Fn(usize) -> String,
) -> Result<(), Trouble> {
    let (windows, horizon) = (found.windows(), found.horizon);
    let rows = match &frame.content {
        Content::Columns(_) => frame.rows(),
        Content::Array { shape, .. } => shape[..shape.len().saturating_sub(1)].iter().product(),
    };
    if rows == windows * horizon {
        return Ok(());
    }
    let message = format!(
        "`{}` has {rows} rows where {} are expected: {windows} windows of {horizon} steps",
        frame.path.display(),
        windows * horizon
    );
    let hint = match rows < windows * horizon {
        true => format!("the first that is missing is {}", describe(rows)),
        false => "an array has the shape [windows, steps, channels]".to_owned(),
    };
    Err(frame.wrong(message).hint(hint))
}

/// Per channel, `mean |x_t - x_{t-1}|` over the rows of the training segments, as `forecast` has it.
fn naive_error(series: &Series) -> Vec<f64> {
    let mut sums = vec![0.0; series.width()];
    let mut count = 0_usize;
    for segment in series.of_split(Split::Train) {
        for row in segment.rows.clone().skip(1) {
            let (now, before) = (series.row(row), series.row(row - 1));
            for (channel, sum) in sums.iter_mut().enumerate() {
                *sum += f64::from((now[channel] - before[channel]).abs());
            }
            count += 1;
        }
    }
    if count == 0 {
        return Vec::new();
    }
    for sum in &mut sums {
        *sum /= count as f64;
    }
    sums
}
