//! Vector autoregression: y_t = ν + A_1 y_{t-1} + … + A_p y_{t-p} + u_t, by least squares for each equation, with the
//! order given or chosen by an information criterion (Lütkepohl, "New Introduction to Multiple Time Series Analysis",
//! chapters 3 and 4).

use super::cholesky::Semidefinite;
use super::gram::gram;
use super::matrix::{Matrix, dot};
use super::{Cholesky, Eigen};

/// Regressors that depend on those before them to this degree are left out.
const DEPENDENT: f64 = 1e-10;
/// Residual variances below this share of their channel's variance count as this share.
const LEAST_VARIANCE: f64 = 1e-10;

/// What a series is around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trend {
    /// An intercept for every channel.
    Constant,
    /// Zero.
    None,
}

/// Weighs fit against the number of coefficients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Criterion {
    /// Akaike: 2 for each coefficient.
    Akaike,
    /// Schwarz: ln n for each coefficient.
    Bayes,
    /// Hannan and Quinn: 2 ln ln n for each coefficient.
    HannanQuinn,
}

impl Criterion {
    fn penalty(self, rows: f64) -> f64 {
        match self {
            Self::Akaike => 2.0,
            Self::Bayes => libm::log(rows),
            Self::HannanQuinn => 2.0 * libm::log(libm::log(rows)),
        }
    }

    /// ln det Σ + penalty / n · number of coefficients, Σ being the covariance of the residuals divided by n.
    pub fn value(self, log_determinant: f64, rows: usize, coefficients: usize) -> f64 {
        log_determinant + self.penalty(rows as f64) / rows as f64 * coefficients as f64
    }
}

/// A fitted vector autoregression of K channels.
#[derive(Clone, Debug)]
pub struct Autoregression {
    pub trend: Trend,
    /// ν, `[K]`; zeros without a trend.
    pub intercept: Vec<f64>,
    /// A_1 … A_p, each `[K, K]`: row for the equation, column for the channel of the past.
    pub coefficients: Vec<Matrix>,
    /// Σ of the residuals divided by the number of rows, `[K, K]`.
    pub covariance: Matrix,
    /// Rows that the equations were fitted to.
    pub rows: usize,
    /// Standard errors: the intercept if there is one, then lag 1, lag 2, …; a column per equation.
    pub standard_errors: Matrix,
}

impl Autoregression {
    /// Fits an order to sections of consecutive rows, each `[rows, K]`; lags do not reach across sections.
    ///
    /// # Errors
    /// A sentence, if there are fewer rows than coefficients of an equation.
    pub fn fit(sections: &[Matrix], order: usize, trend: Trend) -> Result<Self, String> {
        Ok(Design::new(sections, order, trend)?.fit(order))
    }

    /// The order from 0 to `most` that a criterion prefers, all fitted to the same rows.
    ///
    /// # Errors
    /// As [`Self::fit`].
    pub fn choose_order(
        sections: &[Matrix],
        most: usize,
        trend: Trend,
        criterion: Criterion,
    ) -> Result<usize, String> {
        let design = Design::new(sections, most, trend)?;
        let (mut best, mut least) = (0, f64::INFINITY);
        for order in 0..=most {
            let (_, covariance) = design.solve(order);
            let fit = design.log_determinant(&covariance);
            let coefficients = design.channels * regressors(design.channels, order, trend);
            let value = criterion.value(fit, design.rows(), coefficients);
            // The total order: a value that is not a number never wins.
            if value.total_cmp(&least).is_lt() {
                (best, least) = (order, value);
            }
        }
        Ok(best)
    }

    pub(crate) fn order(&self) -> usize {
        self.coefficients.len()
    }

    pub fn channels(&self) -> usize {
        self.intercept.len()
    }

    /// Σ of the residuals divided by the rows less the regressors of an equation.
    pub fn unbiased_covariance(&self) -> Matrix {
        self.covariance
            .scaled(self.rows as f64 / (self.rows as f64 - self.regressors() as f64))
    }

    /// Coefficients of an equation.
    pub fn regressors(&self) -> usize {
        regressors(self.channels(), self.order(), self.trend)
    }

    /// The expected next row after a past whose last row is the newest; it needs as many rows as the order.
    pub fn next(&self, past: &[f64]) -> Vec<f64> {
        let channels = self.channels();
        let mut next = self.intercept.clone();
        for (index, coefficients) in self.coefficients.iter().enumerate() {
            let end = past.len() - index * channels;
            let lag = &past[end - channels..end];
            for (equation, value) in next.iter_mut().enumerate() {
                *value += dot(coefficients.row(equation), lag);
            }
        }
        next
    }

    /// The expected next `steps` rows, `[steps, K]`.
    pub fn forecast(&self, past: &[f64], steps: usize) -> Matrix {
        let channels = self.channels();
        let mut rows = past[past.len() - self.order() * channels..].to_vec();
        for _ in 0..steps {
            let next = self.next(&rows);
            rows.extend(next);
        }
        Matrix::new(steps, channels, rows.split_off(self.order() * channels))
    }

    /// The covariances of the errors of forecasts of 1 … `steps` rows ahead, given that of the residuals.
    pub fn forecast_covariances(&self, residuals: &Matrix, steps: usize) -> Vec<Matrix> {
        let mut responses = vec![Matrix::identity(self.channels())];
        let mut total = Matrix::zeros(self.channels(), self.channels());
        let mut covariances = Vec::with_capacity(steps);
        for step in 0..steps {
            total.add_scaled(1.0, &responses[step].sandwich(residuals));
            covariances.push(total.clone());
            let mut next = Matrix::zeros(self.channels(), self.channels());
            for (lag, coefficients) in self.coefficients.iter().enumerate().take(step + 1) {
                next.add_scaled(1.0, &coefficients.product(&responses[step - lag]));
            }
            responses.push(next);
        }
        covariances
    }
}

fn regressors(channels: usize, order: usize, trend: Trend) -> usize {
    channels * order + usize::from(trend == Trend::Constant)
}

/// Regressors and targets in standard units: `[1, y_{t-1}, …, y_{t-p}]` and `y_t`, by their products. Without a trend, the
/// means are taken to be zero, and a zero stands for the 1.
struct Design<'a> {
    trend: Trend,
    sections: &'a [Matrix],
    channels: usize,
    /// Section and row of every target.
    targets: Vec<(usize, usize)>,
    mean: Vec<f64>,
    deviation: Vec<f64>,
    /// Products of the regressors, followed by the targets.
    products: Matrix,
    lags: usize,
}

impl<'a> Design<'a> {
    fn new(sections: &'a [Matrix], lags: usize, trend: Trend) -> Result<Self, String> {
        let channels = sections.first().map_or(0, Matrix::columns);
        let targets = places(sections, lags);
        let regressors = 1 + channels * lags;
        if targets.len() <= regressors {
            return Err(format!(
                "{} rows with {lags} rows before them cannot determine {regressors} coefficients per channel",
                targets.len()
            ));
        }
        let (mut mean, deviation) = standard_units(sections);
        if trend == Trend::None {
            mean.fill(0.0);
        }
        let mut design = Self {
            trend,
            sections,
            channels,
            targets,
            mean,
            deviation,
            products: Matrix::zeros(0, 0),
            lags,
        };
        let width = regressors + channels;
        design.products = gram(design.rows(), width, |index, row| {
            let (regressors, target) = row.split_at_mut(regressors);
            design.regressors(index, lags, regressors);
            design.target(index, target);
        });
        Ok(design)
    }

    fn rows(&self) -> usize {
        self.targets.len()
    }

    fn standardise(&self, row: &[f64], target: &mut [f64]) {
        let units = self.mean.iter().zip(&self.deviation);
        for ((target, value), (mean, deviation)) in target.iter_mut().zip(row).zip(units) {
            *target = (value - mean) / deviation;
        }
    }

    fn regressors(&self, index: usize, lags: usize, target: &mut [f64]) {
        let (section, row) = self.targets[index];
        target[0] = f64::from(u8::from(self.trend == Trend::Constant));
        let lagged = target[1..].chunks_exact_mut(self.channels).take(lags);
        for (lag, target) in lagged.enumerate() {
            self.standardise(self.sections[section].row(row - 1 - lag), target);
        }
    }

    fn target(&self, index: usize, target: &mut [f64]) {
        let (section, row) = self.targets[index];
        self.standardise(self.sections[section].row(row), target);
    }

    /// The products of the first `1 + K order` regressors with each other, with the targets, and of the targets.
    fn parts(&self, order: usize) -> (Matrix, Matrix, Matrix) {
        let (own, first) = (1 + self.channels * order, 1 + self.channels * self.lags);
        let inner = self.products.corner(own, own);
        let cross = Matrix::from_fn(own, self.channels, |row, column| {
            self.products[(row, first + column)]
        });
        let outer = Matrix::from_fn(self.channels, self.channels, |row, column| {
            self.products[(first + row, first + column)]
        });
        (inner, cross, outer)
    }

    /// Coefficients, `[1 + K order, K]`, and the covariance of the residuals, in standard units.
    fn solve(&self, order: usize) -> (Matrix, Matrix) {
        let (inner, cross, outer) = self.parts(order);
        let coefficients = Semidefinite::new(&inner, DEPENDENT).solve(&cross);
        let covariance = outer
            .minus(&coefficients.transposed_product(&cross))
            .scaled(1.0 / self.rows() as f64);
        (coefficients, covariance.symmetric())
    }

    /// ln det of a covariance given in standard units.
    fn log_determinant(&self, covariance: &Matrix) -> f64 {
        let Some(eigen) = Eigen::new(covariance) else {
            return f64::INFINITY;
        };
        let (mut logarithm, mut units) = (0.0, 0.0);
        for value in eigen.values {
            logarithm += libm::log(value.max(LEAST_VARIANCE));
        }
        for deviation in &self.deviation {
            units += 2.0 * libm::log(*deviation);
        }
        logarithm + units
    }

    fn fit(&self, order: usize) -> Autoregression {
        let (inner, _, _) = self.parts(order);
        let solver = Semidefinite::new(&inner, DEPENDENT);
        let (mut coefficients, _) = self.solve(order);
        // Normal equations lose half of the digits; residuals of the data itself give them back.
        let residuals = self.residuals(order, &coefficients);
        let correction = solver.solve(&self.cross(order, &residuals));
        coefficients.add_scaled(1.0, &correction);
        let residuals = self.residuals(order, &coefficients);
        let products = gram(self.rows(), self.channels, |index, row| {
            row.copy_from_slice(residuals.row(index))
        });
        let covariance = products.scaled(1.0 / self.rows() as f64);
        self.in_own_units(order, &coefficients, &covariance, &solver.inverse())
    }

    fn residuals(&self, order: usize, coefficients: &Matrix) -> Matrix {
        let mut residuals = Matrix::zeros(self.rows(), self.channels);
        let mut regressors = vec![0.0; 1 + self.channels * order];
        let columns = coefficients.transposed();
        for index in 0..self.rows() {
            self.regressors(index, order, &mut regressors);
            let row = residuals.row_mut(index);
            self.target(index, row);
            for (channel, value) in row.iter_mut().enumerate() {
                *value -= dot(columns.row(channel), &regressors);
            }
        }
        residuals
    }

    fn cross(&self, order: usize, residuals: &Matrix) -> Matrix {
        let mut cross = Matrix::zeros(1 + self.channels * order, self.channels);
        let mut regressors = vec![0.0; cross.rows()];
        for index in 0..self.rows() {
            self.regressors(index, order, &mut regressors);
            cross.add_outer(&regressors, residuals.row(index));
        }
        cross
    }

    fn in_own_units(
        &self,
        order: usize,
        standard: &Matrix,
        covariance: &Matrix,
        inverse: &Matrix,
    ) -> Autoregression {
        let (channels, units) = (self.channels, &self.deviation);
        let mut coefficients = Vec::with_capacity(order);
        for lag in 0..order {
            coefficients.push(Matrix::from_fn(channels, channels, |equation, past| {
                standard[(1 + lag * channels + past, equation)] * units[equation] / units[past]
            }));
        }
        let mut intercept = Vec::with_capacity(channels);
        for equation in 0..channels {
            let mut past = 0.0;
            for lag in &coefficients {
                past += dot(lag.row(equation), &self.mean);
            }
            intercept.push(self.mean[equation] + units[equation] * standard[(0, equation)] - past);
        }
        let covariance = Matrix::from_fn(channels, channels, |row, column| {
            covariance[(row, column)] * units[row] * units[column]
        });
        let free = (self.rows() - regressors(channels, order, self.trend)) as f64;
        let inverse = self.inverse_in_own_units(order, inverse);
        // Without a trend there is no intercept that could have an error.
        let first = usize::from(self.trend == Trend::None);
        let count = 1 - first + channels * order;
        let standard_errors = Matrix::from_fn(count, channels, |regressor, equation| {
            let unbiased = covariance[(equation, equation)] * self.rows() as f64 / free;
            (unbiased * inverse[first + regressor]).max(0.0).sqrt()
        });
        Autoregression {
            trend: self.trend,
            intercept,
            coefficients,
            covariance,
            rows: self.rows(),
            standard_errors,
        }
    }

    /// The diagonal of (XᵀX)⁻¹ for regressors that are not standardised.
    fn inverse_in_own_units(&self, order: usize, inverse: &Matrix) -> Vec<f64> {
        // The intercept in own units is the standard one less what the means contribute.
        let mut shift = vec![1.0];
        let mut diagonal = vec![0.0];
        for regressor in 1..=self.channels * order {
            let channel = (regressor - 1) % self.channels;
            let unit = self.deviation[channel];
            shift.push(-self.mean[channel] / unit);
            diagonal.push(inverse[(regressor, regressor)] / unit.powi(2));
        }
        diagonal[0] = dot(&shift, &inverse.times(&shift));
        diagonal
    }
}

/// Mean and deviation of every channel; 1 where a channel does not vary.
pub fn standard_units(sections: &[Matrix]) -> (Vec<f64>, Vec<f64>) {
    let channels = sections.first().map_or(0, Matrix::columns);
    let places = places(sections, 0);
    let count = places.len().max(1) as f64;
    let mut mean = vec![0.0; channels];
    for (section, row) in &places {
        for (sum, value) in mean.iter_mut().zip(sections[*section].row(*row)) {
            *sum += value / count;
        }
    }
    let mut deviation = vec![0.0; channels];
    for (section, row) in &places {
        let values = sections[*section].row(*row).iter().zip(&mean);
        for (sum, (value, mean)) in deviation.iter_mut().zip(values) {
            *sum += (value - mean).powi(2) / count;
        }
    }
    for (deviation, mean) in deviation.iter_mut().zip(&mean) {
        *deviation = deviation.sqrt();
        // Below this, what varies is the rounding of 32-bit values.
        if *deviation <= 1e-7 * mean.abs().max(1e-30) {
            *deviation = 1.0;
        }
    }
    (mean, deviation)
}

/// Section and row of every row that has `before` rows in front of it in its section.
pub(super) fn places(sections: &[Matrix], before: usize) -> Vec<(usize, usize)> {
    let mut places = Vec::new();
    for (index, section) in sections.iter().enumerate() {
        for row in before..section.rows() {
            places.push((index, row));
        }
    }
    places
}

/// The symmetric root of the inverse of a covariance whose eigenvalues are raised to `least` of their mean.
///
/// The squares of what it makes of an error add up to the squared Mahalanobis distance, and each is closest to its own
/// channel (Kessy, Lewin and Strimmer, "Optimal Whitening and Decorrelation", 2018). `None` if nothing varies.
pub fn whitening(covariance: &Matrix, least: f64) -> Option<Matrix> {
    let floor = least * covariance.trace() / covariance.rows().max(1) as f64;
    if floor.is_nan() || floor <= 0.0 {
        return None;
    }
    Some(Eigen::new(covariance)?.map(|value| 1.0 / value.max(floor).sqrt()))
}

/// Squared Mahalanobis distance of an error. `None` if the covariance is not positive definite.
pub fn mahalanobis(error: &[f64], covariance: &Matrix) -> Option<f64> {
    let whitened = Cholesky::new(covariance)?.whiten(error);
    Some(dot(&whitened, &whitened))
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::Random;

    /// A stable process of two channels and order 2, with its coefficients.
    fn process(rows: usize, seed: u64) -> (Matrix, [Matrix; 2], Vec<f64>) {
        let first = Matrix::new(2, 2, vec![0.5, 0.1, -0.2, 0.3]);
        let second = Matrix::new(2, 2, vec![0.2, 0.0, 0.1, -0.3]);
        let intercept = vec![1.0, -2.0];
        let mut random = Random::new(seed, "process");
        let mut series = Matrix::zeros(rows, 2);
        for row in 2..rows {
            let past = [
                first.times(series.row(row - 1)),
                second.times(series.row(row - 2)),
            ];
            for channel in 0..2 {
                let noise = 0.1 * random.normal();
                series[(row, channel)] =
                    intercept[channel] + past[0][channel] + past[1][channel] + noise;
            }
        }
        (series, [first, second], intercept)
    }

    #[test]
    fn finds_the_process_and_its_order() {
        let (series, lags, intercept) = process(4000, 1);
        let sections = [
            series.corner(2000, 2),
            Matrix::from_fn(2000, 2, |row, column| series[(2000 + row, column)]),
        ];
        assert_eq!(
            Autoregression::choose_order(&sections, 6, Trend::Constant, Criterion::Bayes).unwrap(),
            2
        );
        let fit = Autoregression::fit(&sections, 2, Trend::Constant).unwrap();
        assert_eq!(fit.rows, 3996);
        for (found, expected) in fit.coefficients.iter().zip(&lags) {
            assert!(found.minus(expected).largest() < 0.06, "{found:?}");
        }
        assert!(
            fit.intercept
                .iter()
                .zip(&intercept)
                .all(|(found, expected)| (found - expected).abs() < 0.15)
        );
        assert!((fit.covariance[(0, 0)] / 0.01 - 1.0).abs() < 0.1);
    }

    #[test]
    fn constant_and_repeated_channels_do_no_harm() {
        let (series, _, _) = process(300, 2);
        let wide = Matrix::from_fn(300, 4, |row, column| match column {
            0 | 1 => series[(row, column)],
            2 => series[(row, 0)],
            _ => 7.0,
        });
        let fit = Autoregression::fit(std::slice::from_ref(&wide), 2, Trend::Constant).unwrap();
        let narrow =
            Autoregression::fit(std::slice::from_ref(&series), 2, Trend::Constant).unwrap();
        let (found, expected) = (
            fit.forecast(wide.values(), 3),
            narrow.forecast(series.values(), 3),
        );
        for step in 0..3 {
            assert!((found[(step, 1)] - expected[(step, 1)]).abs() < 1e-7);
            assert!((found[(step, 3)] - 7.0).abs() < 1e-9);
        }
        assert!(whitening(&fit.covariance, 1e-3).unwrap().is_finite());
        assert!(whitening(&Matrix::zeros(2, 2), 1e-3).is_none());
    }

    #[test]
    fn whitening_measures_the_mahalanobis_distance() {
        let (series, _, _) = process(500, 3);
        let covariance = Autoregression::fit(&[series], 1, Trend::Constant)
            .unwrap()
            .covariance;
        let error = [0.1, -0.3];
        let whitened = whitening(&covariance, 1e-9).unwrap().times(&error);
        let expected = mahalanobis(&error, &covariance).unwrap();
        assert!((dot(&whitened, &whitened) / expected - 1.0).abs() < 1e-10);
    }

    /// A channel around zero, without an intercept: the coefficient is a ratio of sums.
    #[test]
    fn without_a_trend_nothing_is_subtracted() {
        let values = [1.0, 2.0, 1.5, 3.0, 2.0, 2.5, 1.0];
        let fit =
            Autoregression::fit(&[Matrix::new(7, 1, values.to_vec())], 1, Trend::None).unwrap();
        let (cross, square) = (
            dot(&values[1..], &values[..6]),
            dot(&values[..6], &values[..6]),
        );
        assert!((fit.coefficients[0][(0, 0)] - cross / square).abs() < 1e-14);
        assert_eq!(
            (
                fit.intercept[0],
                fit.regressors(),
                fit.standard_errors.rows()
            ),
            (0.0, 1, 1)
        );
        let rest = dot(&values[1..], &values[1..]) - cross * cross / square;
        assert!((fit.standard_errors[(0, 0)] - (rest / 5.0 / square).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn too_few_rows_are_an_error() {
        let (series, _, _) = process(7, 4);
        assert!(
            Autoregression::fit(&[series], 3, Trend::Constant)
                .unwrap_err()
                .contains("7 coefficients")
        );
    }
}
