//! Mean absolute scaled error: errors in units of what a naive forecast gets wrong on the training rows.

use super::{ForecastCase, MetricKind, NoParams};
use contract::artifact::{Direction, Series, Split};

pub struct Mase;

impl MetricKind for Mase {
    type Judged = ForecastCase;
    type Params = NoParams;

    const NAME: &'static str = "mase";
    const DOC: &'static str = "Mean of the absolute errors over the mean absolute error of the seasonal naive forecast on the training rows of their channel (Hyndman and Koehler, Int. J. Forecasting 2006); undefined if that is not known.";
    const DIRECTION: Direction = Direction::Lower;
    const CAVEAT: &'static str = "below 1 is better than the naive forecast one season ahead was in training; channels that are constant in training do not count";

    fn value(_: &NoParams, case: &ForecastCase) -> Option<f64> {
        let (mut sum, mut count) = (0.0, 0);
        for channel in case.channels() {
            let Some(naive) = case.naive_error(channel) else {
                continue;
            };
            let channel = case.of_channel(channel);
            let errors = channel.total(|point| (point.actual - point.predicted).abs());
            sum += errors.sum / naive;
            count += errors.count;
        }
        (count > 0).then(|| sum / count as f64)
    }
}

/// Per channel, the mean of `|x_t - x_{t - season}|` over the training rows of a series, within segments. It is 0 where no
/// training segment is longer than a season.
pub fn seasonal_naive_error(series: &Series, season: usize) -> Vec<f64> {
    let (width, season) = (series.width(), season.max(1));
    let mut sums = vec![0.0; width];
    let mut count = 0_usize;
    for segment in series.of_split(Split::Train) {
        for row in segment.rows.clone().skip(season) {
            let pairs = series.row(row).iter().zip(series.row(row - season));
            for (sum, (now, before)) in sums.iter_mut().zip(pairs) {
                *sum += (f64::from(*now) - f64::from(*before)).abs();
            }
            count += 1;
        }
    }
    if count > 0 {
        for sum in &mut sums {
            *sum /= count as f64;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::super::case::tests::{case, forecasts};
    use super::*;
    use contract::artifact::Segment;

    #[test]
    fn scales_each_channel_by_its_own_naive_error() {
        let mut scaled = forecasts(2, 2, &[1.0, 10.0, 2.0, 20.0], &[2.0, 10.0, 4.0, 15.0]);
        assert_eq!(Mase::value(&NoParams {}, &case(scaled.clone())), None);
        scaled.naive_error = vec![0.5, 5.0];
        // (1 + 2) / 0.5 and (0 + 5) / 5 over four values.
        assert_eq!(Mase::value(&NoParams {}, &case(scaled.clone())), Some(1.75));
        assert_eq!(
            Mase::value(&NoParams {}, &case(scaled.clone()).of_channel(1)),
            Some(0.5)
        );
        scaled.naive_error[0] = 0.0;
        assert_eq!(Mase::value(&NoParams {}, &case(scaled)), Some(0.5));
    }

    #[test]
    fn the_naive_error_stays_within_training_segments() {
        let series = Series {
            channels: vec!["a".into(), "b".into()],
            values: vec![
                1.0, 0.0, 3.0, 0.0, 2.0, 0.0, 50.0, 1.0, 51.0, 3.0, 0.0, 0.0, 9.0, 9.0,
            ],
            labels: vec![],
            times: vec![],
            segments: vec![
                Segment::new(Split::Train, "m", 0..3),
                Segment::new(Split::Train, "n", 3..5),
                Segment::new(Split::Test, "n", 5..7),
            ],
            ..Series::default()
        };
        assert_eq!(seasonal_naive_error(&series, 1), [4.0 / 3.0, 2.0 / 3.0]);
        assert_eq!(seasonal_naive_error(&series, 2), [1.0, 0.0]);
        assert_eq!(seasonal_naive_error(&series, 9), [0.0, 0.0]);
    }
}
