//! What models fitted in closed form have in common: training rows and windows as they want them, batches on the host,
//! and a window's score as errors of its points.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Tensor, Var, bail};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DataShape, Result};
use contract::Trouble;
use contract::artifact::{Split, Windows};
use numerics::statistics::Matrix;
use numerics::statistics::autoregression::{standard_units, whitening};
use numerics::statistics::gram::Slices;

/// The windows of the split `train`, each as one row of `length * channels` values.
///
/// # Errors
/// If there are none.
pub fn training_windows(windows: &Windows) -> Result<Slices<'_>, Trouble> {
    let channels = windows.series.width();
    let mut starts = windows.starts(Split::Train);
    if starts.is_empty() {
        return Err(no_rows());
    }
    for start in &mut starts {
        *start *= channels;
    }
    let width = windows.spec.length * channels;
    Ok(Slices::new(&windows.series.values, starts, width))
}

/// The rows that the windows of the split `train` were cut from, a matrix per stretch.
///
/// # Errors
/// If there are none.
pub fn training_sections(windows: &Windows) -> Result<Vec<Matrix>, Trouble> {
    let channels = windows.series.width();
    let mut sections = Vec::new();
    for run in windows.of_split(Split::Train) {
        let (first, end) = run.rows;
        let values = &windows.series.values[first * channels..end * channels];
        if run.count > 0 {
            sections.push(Matrix::new(end - first, channels, to_f64(values)));
        }
    }
    if sections.is_empty() {
        return Err(no_rows());
    }
    Ok(sections)
}

fn to_f64(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

fn no_rows() -> Trouble {
    Trouble::new("there are no windows in the split `train`")
        .hint("does the series have training rows, and at least as many as a window is long?")
}

/// Mean and deviation of every channel over sections, 1 where it does not vary; and the sections in those units.
pub fn standardised(sections: &[Matrix]) -> (Vec<f64>, Vec<f64>, Vec<Matrix>) {
    let (mean, deviation) = standard_units(sections);
    let mut scaled = Vec::with_capacity(sections.len());
    for section in sections {
        scaled.push(Matrix::from_fn(
            section.rows(),
            section.columns(),
            |row, column| (section[(row, column)] - mean[column]) / deviation[column],
        ));
    }
    (mean, deviation, scaled)
}

/// All values of a tensor, in order.
///
/// # Errors
/// If a tensor operation fails.
pub fn host_values(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

/// All values of a buffer of 64-bit floats.
///
/// # Errors
/// If a tensor operation fails.
pub fn reals(buffer: &Var) -> Result<Vec<f64>> {
    buffer.flatten_all()?.to_vec1()
}

/// A buffer of 64-bit floats as a matrix.
///
/// # Errors
/// If it does not have two axes.
pub fn matrix(buffer: &Var) -> Result<Matrix> {
    let (rows, columns) = buffer.dims2()?;
    Ok(Matrix::new(rows, columns, reals(buffer)?))
}

/// The value of a counter.
///
/// # Errors
/// If it is negative.
pub fn count(buffer: &Var) -> Result<usize> {
    let value = buffer.to_scalar::<i64>()?;
    match usize::try_from(value) {
        Ok(count) => Ok(count),
        Err(_) => bail!("a count of {value} in the model's state"),
    }
}

/// Sets a buffer to values of its type, in order.
///
/// # Errors
/// If there are more or fewer values than it holds, or they are of another type.
pub fn set<T: candle_core::WithDType>(buffer: &Var, values: Vec<T>) -> Result<()> {
    buffer.set(&Tensor::from_vec(values, buffer.shape(), buffer.device())?)
}

/// Sets a counter.
///
/// # Errors
/// If a tensor operation fails.
pub fn set_count(buffer: &Var, value: usize) -> Result<()> {
    set(buffer, vec![value as i64])
}

/// A window's score and how much of it each channel is to blame for; only the proportions matter.
pub struct Verdict {
    pub score: f64,
    pub blame: Vec<f64>,
}

/// Judges each window of a batch, `[batch, length, channels]`, as one row of values. Every point of a window gets the
/// window's score, so that the mean over channels is that score; each channel has its share of the blame.
///
/// # Errors
/// If a tensor operation fails.
pub fn judge_windows(
    shape: DataShape,
    inputs: &Tensor,
    judge: impl Fn(&[f32]) -> Verdict + Sync,
) -> Result<Tensor> {
    shape.check_windows(inputs)?;
    let (values, width) = (host_values(inputs)?, shape.length * shape.channels);
    let mut errors = vec![0.0_f32; values.len()];
    let targets = errors.par_chunks_exact_mut(width);
    let pairs = targets.zip(values.par_chunks_exact(width));
    pairs.for_each(|(errors, window)| spread(&judge(window), shape.channels, errors));
    numerics::upload(errors, inputs.shape(), inputs.device())
}

/// Gives every row of a window the window's score, split over channels.
fn spread(verdict: &Verdict, channels: usize, errors: &mut [f32]) {
    let total: f64 = verdict.blame.iter().sum();
    for row in errors.chunks_exact_mut(channels) {
        for (error, blame) in row.iter_mut().zip(&verdict.blame) {
            let even = 1.0 / channels as f64;
            let share = if total > 0.0 { blame / total } else { even };
            *error = (verdict.score * share * channels as f64) as f32;
        }
    }
}

/// Σ over rows, per channel, of what a window's values add; `term` is asked for each place of the flat window.
pub fn by_channel(places: usize, channels: usize, term: impl Fn(usize) -> f64) -> Vec<f64> {
    let mut sums = vec![0.0; channels];
    for place in 0..places {
        sums[place % channels] += term(place);
    }
    sums
}

/// How far a forecast is from what came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Distance {
    /// The squared Mahalanobis distance under the covariance that the model expects of its errors, split over channels.
    #[default]
    Mahalanobis,
    /// The squared error of every channel.
    Squares,
}

impl Distance {
    /// What each channel of `[batch, steps, channels]` adds to the score of the first step: `[batch, 1, channels]`.
    /// Distances are measured with a matrix of [`whiten`].
    ///
    /// # Errors
    /// If a tensor operation fails or nothing varies.
    pub fn judge(
        self,
        forecast: &Tensor,
        actual: &Tensor,
        whitening: impl FnOnce() -> Result<Arc<Matrix>>,
    ) -> Result<Tensor> {
        let errors = (actual.narrow(1, 0, 1)? - forecast.narrow(1, 0, 1)?)?;
        if self == Self::Squares {
            return errors.sqr();
        }
        let whitening = whitening()?;
        let mut values = host_values(&errors)?;
        values
            .par_chunks_exact_mut(whitening.rows())
            .for_each(|row| {
                let white = whitening.times(&to_f64(row));
                for (value, white) in row.iter_mut().zip(white) {
                    *value = (white * white) as f32;
                }
            });
        numerics::upload(values, errors.shape(), errors.device())
    }
}

/// The matrix that turns errors with this covariance into independent ones of variance 1.
///
/// Variances below `least` of their mean count as that much: a channel that never moved in training does not drown all
/// others when it does.
///
/// # Errors
/// If nothing varies.
pub fn whiten(covariance: &Matrix, least: f64) -> Result<Matrix> {
    let found = whitening(covariance, least);
    found.ok_or_else(|| candle_core::Error::Msg("the model expects no errors at all".to_owned()))
}

/// What was made last, and from what: for what takes long to make, and is asked for with every batch.
pub struct Remembered<K, V>(Mutex<Option<(K, Arc<V>)>>);

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<K: PartialEq, V> Remembered<K, V> {
    /// What `make` gives, which must follow from the source alone.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn get(&self, source: K, make: impl FnOnce(&K) -> Result<V>) -> Result<Arc<V>> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, made)) = &*last
            && *known == source
        {
            return Ok(Arc::clone(made));
        }
        let made = Arc::new(make(&source)?);
        *last = Some((source, Arc::clone(&made)));
        Ok(made)
    }
}

/// Forecasts of a batch, `[batch, past, channels]`, one window after another: `steps` gives its forecast,
/// `[steps, channels]`.
///
/// # Errors
/// If a tensor operation fails.
pub fn forecast_windows(
    past: &Tensor,
    steps: usize,
    forecast: impl Fn(&[f64]) -> Vec<f64> + Sync,
) -> Result<Tensor> {
    let (batch, rows, channels) = past.dims3()?;
    let values = host_values(past)?;
    // A few windows per task are worth waking a thread for.
    let windows = values.par_chunks_exact(rows * channels).with_min_len(4);
    let forecasts: Vec<Vec<f64>> = windows.map(|window| forecast(&to_f64(window))).collect();
    let flat = forecasts
        .into_iter()
        .flatten()
        .map(|value| value as f32)
        .collect();
    numerics::upload(flat, (batch, steps, channels), past.device())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use contract::testing;

    #[test]
    fn scores_are_the_mean_over_channels() {
        let shape = DataShape::detect(2, 3);
        let inputs = Tensor::zeros((1, 2, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        let judge = |blame: [f64; 3]| {
            let errors = judge_windows(shape, &inputs, |_| Verdict {
                score: 6.0,
                blame: blame.to_vec(),
            });
            errors.unwrap().to_vec3::<f32>().unwrap()[0].clone()
        };
        assert_eq!(judge([1.0, 2.0, 0.0]), [[6.0, 12.0, 0.0]; 2]);
        assert_eq!(judge([0.0; 3]), [[6.0; 3]; 2]);
        assert_eq!(by_channel(6, 3, |place| place as f64), [3.0, 5.0, 7.0]);
    }

    #[test]
    fn distances_weigh_errors_by_what_is_expected() {
        let tensor =
            |values: [f32; 2]| Tensor::from_vec(values.to_vec(), (1, 1, 2), &Device::Cpu).unwrap();
        let (forecast, actual) = (tensor([1.0, 1.0]), tensor([3.0, 2.0]));
        let judge = |distance: Distance| {
            let whitening = || whiten(&Matrix::diagonal(&[4.0, 0.25]), 1e-3).map(Arc::new);
            let judged = distance.judge(&forecast, &actual, whitening).unwrap();
            judged.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        assert_eq!(judge(Distance::Squares), [4.0, 1.0]);
        let found = judge(Distance::Mahalanobis);
        assert!(
            (found[0] - 1.0).abs() < 1e-6 && (found[1] - 4.0).abs() < 1e-5,
            "{found:?}"
        );
    }

    #[test]
    fn what_is_remembered_is_made_again_from_another_source() {
        let remembered = Remembered::default();
        let get = |source: u32, made: &str| {
            let found = remembered.get(source, |_| Ok(made.to_owned())).unwrap();
            (*found).clone()
        };
        assert_eq!([get(1, "a"), get(1, "b"), get(2, "c")], ["a", "a", "c"]);
        let failed = remembered.get(3, |_| bail!("no"));
        assert!(failed.is_err() && get(2, "d") == "c");
    }

    #[test]
    fn sections_follow_the_runs() {
        let windows = testing::training_windows((0..10).map(|value| value as f32).collect(), 2, 2);
        let sections = training_sections(&windows).unwrap();
        assert_eq!(
            (sections.len(), sections[0].rows(), sections[0][(4, 1)]),
            (1, 5, 9.0)
        );
        let (mean, deviation, scaled) = standardised(&sections);
        assert_eq!(mean, [4.0, 5.0]);
        assert!((scaled[0][(0, 0)] * deviation[0] + 4.0).abs() < 1e-12);
        let other = Windows {
            runs: Vec::new(),
            ..windows
        };
        assert!(training_sections(&other).is_err() && training_windows(&other).is_err());
    }
}
