//! The stage kind `forecast`: what a trained model expects after every window, beside what followed.
//! The stage kind `evaluate` judges how good that is.

use crate::models::Task;
use crate::training::{Inference, check_splits, push_origin};
use contract::artifact::{ArtifactKind, Forecasts, Model, Series, Split, Windows};
use contract::{Fault, Inputs, Numerics, Outputs, Port, Stage, StageContext, Threads, Trouble};

/// See the module.
#[derive(Debug)]
pub struct Forecast;

contract::parameters! {
    /// Parameters of `forecast`.
    pub struct Params {
        /// The splits whose windows are continued.
        #[schemars(length(min = 1))]
        pub splits: Vec<Split> = vec![Split::Test],
        /// Windows that are worked on together.
        #[schemars(range(min = 1))]
        pub batch: usize = 128,
        /// Rows of a season. MASE compares with the forecast that repeats the last one; its error over the training rows is
        /// kept with the forecasts.
        #[schemars(range(min = 1))]
        pub season: usize = 1,
    }
}

impl Stage for Forecast {
    type Params = Params;

    const NAME: &'static str = "forecast";
    // 2: the times of the rows.
    const VERSION: u32 = 2;
    const DOC: &'static str = "Forecasts the rows after every window by a trained model";
    const NUMERICS: Numerics = Numerics::Device;
    const THREADS: Threads = Threads::All;
    const SEEDED: bool = false;

    fn inputs(_: &Params) -> Vec<Port> {
        let model = "a model that was trained to forecast";
        let windows = "windows of the length and horizon of the training";
        vec![
            Port::new("model", ArtifactKind::Model, model),
            Port::new("windows", ArtifactKind::Windows, windows),
        ]
    }

    fn outputs(_: &Params) -> Vec<Port> {
        let forecasts = "forecast rows beside the true ones";
        vec![Port::new("forecasts", ArtifactKind::Forecasts, forecasts)]
    }

    fn check(params: &Params) -> Result<(), Fault> {
        check_splits(&params.splits)
    }

    fn run(
        params: &Params,
        inputs: &Inputs,
        context: &StageContext<'_>,
    ) -> Result<Outputs, Trouble> {
        let windows = inputs.get::<Windows>("windows")?;
        let model = inputs.get::<Model>("model")?;
        let inference = Inference::new(&model, Task::Forecast, &*windows, context)?;
        let mut forecasts = Forecasts {
            channels: windows.series.channels.clone(),
            horizon: windows.spec.horizon,
            naive_error: naive_error(&windows.series, params.season),
            ..Forecasts::default()
        };
        let selection = (params.splits.as_slice(), params.batch);
        inference.run(selection, Task::Forecast, Ok, |answer| {
            for start in answer.samples {
                let row = start + windows.spec.length;
                push_origin(&mut forecasts, &windows, answer.split, row);
                forecasts.actual.extend_from_slice(windows.target(*start));
            }
            forecasts.predicted.extend_from_slice(&answer.output);
            Ok(())
        })?;
        forecasts.validate().map_err(Trouble::new)?;
        Ok(Outputs::one("forecasts", forecasts))
    }
}

/// Per channel, `mean |x_t - x_{t-season}|` over the rows of the training segments; empty if none is longer than a season.
fn naive_error(series: &Series, season: usize) -> Vec<f64> {
    let mut sums = vec![0.0; series.width()];
    let mut count = 0_usize;
    for segment in series.of_split(Split::Train) {
        // No difference reaches over the end of a segment.
        for row in segment.rows.clone().skip(season) {
            let (now, before) = (series.row(row), series.row(row - season));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::tests::{recipe, waves};
    use crate::training::train;
    use contract::NullHost;
    use contract::artifact::Artifact;
    use contract::testing::fault_of;
    use serde_json::json;
    use std::sync::Arc;

    fn forecasts(
        params: &Params,
        model: &Model,
        windows: &Windows,
    ) -> Result<Arc<Forecasts>, Trouble> {
        let mut inputs = Inputs::default();
        inputs.add("model", "model", model.clone().into());
        inputs.add("windows", "windows", windows.clone().into());
        let outputs = Forecast::run(params, &inputs, &NullHost::default().context(1))?.into_map();
        let Artifact::Forecasts(forecasts) = &outputs["forecasts"] else {
            panic!("not forecasts")
        };
        Ok(Arc::clone(forecasts))
    }

    /// Windows of 12 rows with 4 to forecast.
    fn windows() -> Windows {
        let mut windows = waves(16, 1, [90, 40, 30]);
        windows.spec.length = 12;
        windows.spec.horizon = 4;
        windows
    }

    fn model(windows: &Windows) -> Model {
        let changes =
            json!({"model": {"kind": "tvnet", "patch": 4, "blocks": 1, "cm": 8}, "epochs": 2});
        train(&recipe(changes), windows, &NullHost::default().context(3))
            .unwrap()
            .model
    }

    #[test]
    fn every_window_is_continued_whatever_the_batch() {
        let windows = windows();
        let model = model(&windows);
        let found = forecasts(&Params::default(), &model, &windows).unwrap();
        let starts = windows.starts(Split::Test);
        assert_eq!(found.windows(), starts.len());
        assert_eq!(found.origins[3].row, starts[3] + 12);
        assert_eq!(found.origins[0].entity, "waves");
        assert!(found.times.is_empty());
        let mut timed = windows.clone();
        let mut series = Series::clone(&windows.series);
        series.times = (0..160).map(|row| row * 60_000).collect();
        timed.series = Arc::new(series);
        let timed = forecasts(&Params::default(), &model, &timed).unwrap();
        let expected: Vec<i64> = (0..4)
            .map(|step| (starts[3] as i64 + 12 + step) * 60_000)
            .collect();
        assert_eq!(timed.times[3 * 4..4 * 4], expected);
        assert_eq!(found.actual[..12], *windows.target(starts[0]));
        assert_eq!(found.naive_error.len(), 3);
        let small = forecasts(
            &Params {
                batch: 3,
                ..Params::default()
            },
            &model,
            &windows,
        )
        .unwrap();
        assert_eq!(found.digest(), small.digest());
        let splits = vec![Split::Validation, Split::Test];
        let more = forecasts(
            &Params {
                splits,
                ..Params::default()
            },
            &model,
            &windows,
        )
        .unwrap();
        assert_eq!(
            more.windows(),
            starts.len() + windows.count(Split::Validation)
        );
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let windows = windows();
        let model = model(&windows);
        let mut other = windows.clone();
        other.spec.length = 11;
        let error = forecasts(&Params::default(), &model, &other).unwrap_err();
        assert!(
            error.message().contains("12 rows") && error.message().contains("11 rows"),
            "{error}"
        );
        let detector = train(
            &recipe(json!({"epochs": 1})),
            &waves(12, 1, [60, 30, 0]),
            &NullHost::default().context(3),
        );
        let error = forecasts(&Params::default(), &detector.unwrap().model, &windows).unwrap_err();
        assert!(error.message().contains("to detect"), "{error}");
        let nothing = Windows {
            runs: Vec::new(),
            ..windows
        };
        assert!(
            forecasts(&Params::default(), &model, &nothing)
                .unwrap_err()
                .message()
                .contains("test")
        );
        let fault = fault_of::<Forecast>(json!({"season": 0})).unwrap();
        assert_eq!(fault.parameter, "season");
    }

    #[test]
    fn the_naive_error_stays_within_training_segments() {
        let mut series = Series::clone(&waves(4, 1, [6, 4, 0]).series);
        series
            .values
            .iter_mut()
            .enumerate()
            .for_each(|(index, value)| {
                *value = [0.0, 1.0, 4.0, 9.0, 16.0, 25.0, 900.0, 0.0, 0.0, 0.0][index / 3]
                    * (1 + index % 3) as f32;
            });
        let error = naive_error(&series, 2);
        let expected = (4.0 + 8.0 + 12.0 + 16.0) / 4.0;
        assert_eq!(error, [expected, 2.0 * expected, 3.0 * expected]);
        assert!(naive_error(&series, 6).is_empty());
    }
}
