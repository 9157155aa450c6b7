//! What is judged: forecast values beside measured ones, all or those of one step or channel. Nothing is copied.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use contract::artifact::{Forecasts, Split};

/// Forecasts of some windows, or of some steps and channels of these.
#[derive(Clone, Debug)]
pub struct ForecastCase {
    forecasts: Arc<Forecasts>,
    /// Numbers of the judged windows.
    windows: Arc<[usize]>,
    steps: Range<usize>,
    channels: Range<usize>,
}

/// One judged value.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    pub channel: usize,
    pub actual: f64,
    pub predicted: f64,
}

/// A sum over the judged values, and how many these are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Total {
    pub sum: f64,
    pub count: usize,
}

impl Total {
    /// `None` without values.
    pub fn mean(self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

/// Windows that one task sums up. The sums are added in the order of the windows.
const CHUNK: usize = 64;

impl ForecastCase {
    /// The windows of one split.
    ///
    /// # Errors
    /// If parts of the forecasts do not fit each other, or a value is not finite.
    pub fn new(forecasts: Arc<Forecasts>, split: Split) -> Result<Self, String> {
        forecasts.validate()?;
        let windows: Arc<[usize]> = forecasts.of_split(split).collect();
        let size = forecasts.horizon * forecasts.width();
        for window in windows.iter() {
            let values = window * size..(window + 1) * size;
            for (what, all) in [
                ("forecast", &forecasts.predicted),
                ("measured", &forecasts.actual),
            ] {
                let of_window = &all[values.clone()];
                if let Some(at) = of_window.iter().position(|value| !value.is_finite()) {
                    let step = at / forecasts.width();
                    let channel = &forecasts.channels[at % forecasts.width()];
                    let origin = &forecasts.origins[*window];
                    return Err(format!(
                        "the {what} value of channel `{channel}` at step {step} of the window at row {} ({}, split `{split}`) is {}, not a finite number",
                        origin.row, origin.entity, of_window[at]
                    ));
                }
            }
        }
        Ok(Self {
            steps: 0..forecasts.horizon,
            channels: 0..forecasts.width(),
            forecasts,
            windows,
        })
    }

    pub fn windows(&self) -> usize {
        self.windows.len()
    }

    pub fn steps(&self) -> Range<usize> {
        self.steps.clone()
    }

    pub fn channels(&self) -> Range<usize> {
        self.channels.clone()
    }

    pub fn channel_name(&self, channel: usize) -> &str {
        &self.forecasts.channels[channel]
    }

    /// The mean absolute error of the naive forecast over the training rows, if it is known and not 0.
    pub fn naive_error(&self, channel: usize) -> Option<f64> {
        let error = *self.forecasts.naive_error.get(channel)?;
        (error > 0.0).then_some(error)
    }

    /// Only this step of each window.
    #[must_use]
    pub fn at_step(&self, step: usize) -> Self {
        Self {
            steps: step..step + 1,
            ..self.clone()
        }
    }

    /// Only this channel.
    #[must_use]
    pub fn of_channel(&self, channel: usize) -> Self {
        Self {
            channels: channel..channel + 1,
            ..self.clone()
        }
    }

    /// Calls `visit` with the judged values of one step of one window.
    pub fn visit(&self, window: usize, step: usize, mut visit: impl FnMut(Point)) {
        let width = self.forecasts.width();
        let start = (self.windows[window] * self.forecasts.horizon + step) * width;
        let values = start + self.channels.start..start + self.channels.end;
        let actual = &self.forecasts.actual[values.clone()];
        let predicted = &self.forecasts.predicted[values.clone()];
        // Without marks, all values are judged.
        let marks = self.forecasts.judged.get(values).unwrap_or_default();
        for (index, (actual, predicted)) in actual.iter().zip(predicted).enumerate() {
            if marks.get(index) == Some(&0) {
                continue;
            }
            visit(Point {
                channel: self.channels.start + index,
                actual: f64::from(*actual),
                predicted: f64::from(*predicted),
            });
        }
    }

    /// Sums a term over the judged values, to the same bits for any number of threads.
    pub fn total(&self, term: impl Fn(Point) -> f64 + Sync) -> Total {
        let chunks = self.windows().div_ceil(CHUNK);
        let of_chunks = (0..chunks).into_par_iter().map(|chunk| {
            let mut total = Total::default();
            for window in chunk * CHUNK..self.windows().min((chunk + 1) * CHUNK) {
                for step in self.steps() {
                    self.visit(window, step, |point| {
                        total.sum += term(point);
                        total.count += 1;
                    });
                }
            }
            total
        });
        let totals: Vec<Total> = of_chunks.collect();
        let mut all = Total::default();
        for total in totals {
            all.sum += total.sum;
            all.count += total.count;
        }
        all
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use contract::artifact::Origin;

    /// Forecasts of one entity, all in the split `test`.
    pub fn forecasts(
        horizon: usize,
        channels: usize,
        actual: &[f32],
        predicted: &[f32],
    ) -> Forecasts {
        let windows = actual.len() / horizon / channels;
        Forecasts {
            channels: (0..channels).map(|channel| format!("c{channel}")).collect(),
            horizon,
            origins: (0..windows)
                .map(|row| Origin {
                    split: Split::Test,
                    entity: "m".into(),
                    row,
                })
                .collect(),
            predicted: predicted.to_vec(),
            actual: actual.to_vec(),
            ..Forecasts::default()
        }
    }

    pub fn case(forecasts: Forecasts) -> ForecastCase {
        ForecastCase::new(Arc::new(forecasts), Split::Test).unwrap()
    }

    #[test]
    fn counts_the_judged_values_of_the_split() {
        let values: Vec<f32> = (0..12).map(|value| value as f32).collect();
        let mut mixed = forecasts(2, 2, &values, &[0.0; 12]);
        mixed.origins[1].split = Split::Train;
        let sum = |case: &ForecastCase| case.total(|point| point.actual);
        assert_eq!(
            sum(&case(mixed.clone())),
            Total {
                sum: 44.0,
                count: 8
            }
        );
        assert_eq!(
            sum(&case(mixed.clone()).at_step(1)),
            Total {
                sum: 26.0,
                count: 4
            }
        );
        assert_eq!(
            sum(&case(mixed.clone()).of_channel(1).at_step(0)),
            Total {
                sum: 10.0,
                count: 2
            }
        );
        mixed.judged = vec![1, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 1];
        assert_eq!(
            sum(&case(mixed.clone())),
            Total {
                sum: 11.0,
                count: 2
            }
        );
        mixed.judged.fill(0);
        assert_eq!(sum(&case(mixed)).mean(), None);
    }

    #[test]
    fn names_what_is_not_finite() {
        let mut diverged = forecasts(2, 2, &[0.0; 8], &[0.0; 8]);
        diverged.predicted[7] = f32::NAN;
        let error = ForecastCase::new(Arc::new(diverged), Split::Test).unwrap_err();
        assert!(
            error.contains("forecast value of channel `c1` at step 1 of the window at row 1"),
            "{error}"
        );
    }

    #[test]
    fn same_bits_for_any_number_of_threads() {
        let values: Vec<f32> = (0..3000).map(|value| (value as f32 * 0.37).sin()).collect();
        let case = case(forecasts(5, 3, &values, &[0.1; 3000]));
        let total = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| {
                case.total(|point| point.actual * point.predicted)
                    .sum
                    .to_bits()
            })
        };
        assert_eq!(total(1), total(3));
    }
}
