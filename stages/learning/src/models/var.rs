//! Vector autoregression: every channel is a linear function of the last rows of all channels, by least squares, the
//! number of rows given or chosen by an information criterion (Sims, "Macroeconomics and Reality", 1980; Lütkepohl, "New
//! Introduction to Multiple Time Series Analysis", 2005). Forecasts of several rows are iterated.

use candle_core::{Tensor, Var, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::closed_form::{
    Distance, Remembered, count, forecast_windows, matrix, reals, set, set_count, whiten,
};
use super::forecaster::{Forecaster, Forecasting, Span};
use super::{Architecture, Built, DataShape, Result, Task, closed_form};
use contract::artifact::Windows;
use contract::{Named, Random, StageContext, Trouble};
use numerics::statistics::Matrix;
use numerics::statistics::autoregression::{self, Autoregression, Trend};
use numerics::{Mode, State, StateBuilder};

/// How many rows a forecast takes into account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Order {
    Fixed(#[schemars(range(min = 1, max = 1000))] usize),
    By(Criterion),
}

/// An information criterion; fewer rows are chosen from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Criterion {
    Aic,
    Hqic,
    Bic,
}

impl Criterion {
    fn statistic(self) -> autoregression::Criterion {
        match self {
            Self::Aic => autoregression::Criterion::Akaike,
            Self::Hqic => autoregression::Criterion::HannanQuinn,
            Self::Bic => autoregression::Criterion::Bayes,
        }
    }
}

contract::parameters! {
    /// A vector autoregression.
    pub struct VectorAutoregression {
        /// A number, or the criterion that chooses it: `aic`, `bic` or `hqic`.
        pub order: Order = Order::By(Criterion::Bic),
        /// The largest order that a criterion may choose; never more than the rows that are seen.
        #[schemars(range(min = 1, max = 1000))]
        pub most: usize = 10,
        /// How far a row is from its forecast, to detect.
        pub score: Distance = Distance::default(),
        /// The least variance of an error, in units of their mean, where the score depends on it.
        #[schemars(extend("exclusiveMinimum" = 0.0))]
        pub least_variance: f64 = 1e-3,
    }
}

impl Named for VectorAutoregression {
    const NAME: &'static str = "var";
    const DOC: &'static str =
        "Vector autoregression by least squares, its order fixed or by AIC or BIC";
}

impl Architecture for VectorAutoregression {
    fn tasks(&self) -> &'static [Task] {
        &[Task::Forecast, Task::Detect]
    }

    fn closed_form(&self) -> bool {
        true
    }

    fn citation(&self) -> &'static str {
        "Sims: Macroeconomics and Reality. Econometrica 1980. doi:10.2307/1912017"
    }

    fn build(&self, shape: DataShape, builder: &mut StateBuilder<'_>) -> Built {
        let least = match self.order {
            Order::Fixed(order) => order,
            Order::By(_) => 1,
        };
        let span = Span::of(shape, &format!("var of order {least}"), least)?;
        let most = match self.order {
            Order::Fixed(order) => order,
            Order::By(_) => self.most.min(span.past),
        };
        let channels = span.channels;
        let forecaster = Lags {
            intercept: builder.reals("intercept", &[channels])?,
            coefficients: builder.reals("coefficients", &[most * channels, channels])?,
            covariance: builder.reals("covariance", &[channels, channels])?,
            order: builder.counter("order")?,
            rows: builder.counter("rows")?,
            whitening: Remembered::default(),
            state: builder.finish(),
            span,
            most,
            config: self.clone(),
        };
        Ok(Box::new(Forecasting { shape, forecaster }))
    }
}

/// The fitted autoregression, its lags below each other; only the first `order` count.
struct Lags {
    state: State,
    span: Span,
    most: usize,
    config: VectorAutoregression,
    intercept: Var,
    coefficients: Var,
    covariance: Var,
    order: Var,
    /// Rows that it was fitted to; 0 before that.
    rows: Var,
    whitening: Remembered<Matrix, Matrix>,
}

impl Lags {
    fn autoregression(&self) -> Result<Autoregression> {
        let (order, rows) = (count(&self.order)?, count(&self.rows)?);
        if rows == 0 || order > self.most {
            bail!("the autoregression has not been fitted")
        }
        let (channels, stacked) = (self.span.channels, matrix(&self.coefficients)?);
        let mut coefficients = Vec::with_capacity(order);
        for lag in 0..order {
            let rows: Vec<usize> = (lag * channels..(lag + 1) * channels).collect();
            coefficients.push(stacked.select_rows(&rows));
        }
        Ok(Autoregression {
            trend: Trend::Constant,
            intercept: reals(&self.intercept)?,
            coefficients,
            covariance: matrix(&self.covariance)?,
            rows,
            standard_errors: Matrix::zeros(0, 0),
        })
    }
}

impl Forecaster for Lags {
    fn state(&self) -> &State {
        &self.state
    }

    fn forecast(&self, past: &Tensor, _: Mode, _: &mut Random) -> Result<Tensor> {
        let (model, steps) = (self.autoregression()?, self.span.steps);
        forecast_windows(past, steps, |window| {
            model.forecast(window, steps).into_values()
        })
    }

    fn judge(&self, forecast: &Tensor, actual: &Tensor) -> Result<Tensor> {
        let least = self.config.least_variance;
        self.config.score.judge(forecast, actual, || {
            let covariance = matrix(&self.covariance)?;
            self.whitening
                .get(covariance, |covariance| whiten(covariance, least))
        })
    }

    fn fit(&self, windows: &Windows, context: &StageContext<'_>) -> Result<(), Trouble> {
        let sections = closed_form::training_sections(windows)?;
        let order = match self.config.order {
            Order::Fixed(order) => order,
            Order::By(criterion) => {
                let criterion = criterion.statistic();
                Autoregression::choose_order(&sections, self.most, Trend::Constant, criterion)
                    .map_err(impossible)?
            }
        };
        context.check_cancelled()?;
        let model = Autoregression::fit(&sections, order, Trend::Constant).map_err(impossible)?;
        let mut coefficients = Vec::new();
        for lag in &model.coefficients {
            coefficients.extend_from_slice(lag.values());
        }
        // The buffer has room for the largest order.
        coefficients.resize(self.most * self.span.channels * self.span.channels, 0.0);
        set(&self.coefficients, coefficients)?;
        set(&self.covariance, model.covariance.values().to_vec())?;
        set_count(&self.order, order)?;
        set_count(&self.rows, model.rows)?;
        let note = format!("var of order {order}, fitted to {} rows", model.rows);
        context.host.note(&note);
        Ok(set(&self.intercept, model.intercept)?)
    }
}

fn impossible(reason: String) -> Trouble {
    Trouble::new(format!(
        "the training rows do not determine a var: {reason}"
    ))
    .hint("lower `order` or `most`, or train on more rows")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Batch;
    use crate::models::{fault_of, on_cpu};
    use candle_core::Device;
    use contract::NullHost;
    use contract::testing::training_windows;

    /// Waves of two frequencies, which a var of order four continues exactly.
    fn waves(rows: usize) -> Vec<f32> {
        let value = |row: usize, channel: usize| {
            let time = row as f64;
            ((0.3 * time).sin()
                + (channel as f64 + 0.5) * (0.8 * time + channel as f64).cos()
                + 2.0) as f32
        };
        (0..rows * 2)
            .map(|index| value(index / 2, index % 2))
            .collect()
    }

    #[test]
    fn waves_go_on_as_waves() {
        for order in [Order::Fixed(4), Order::By(Criterion::Aic)] {
            let config = VectorAutoregression {
                order,
                ..VectorAutoregression::default()
            };
            let shape = DataShape::forecast(12, 2, 5);
            let network = on_cpu(1, |builder| config.build(shape, builder)).unwrap();
            network
                .fit(
                    &training_windows(waves(300), 2, 12),
                    &NullHost::default().context(1),
                )
                .unwrap();
            let all = waves(317);
            let inputs =
                Tensor::from_vec(all[600..624].to_vec(), (1, 12, 2), &Device::Cpu).unwrap();
            let found: Vec<f32> = network
                .predict(&Batch::of(inputs))
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1()
                .unwrap();
            let apart = found
                .iter()
                .zip(&all[624..])
                .map(|(one, other)| (one - other).abs())
                .fold(0.0, f32::max);
            assert!(apart < 1e-2, "{order:?}: {apart}");
        }
    }

    #[test]
    fn orders_are_numbers_or_criteria() {
        let order = |text: &str| {
            serde_json::from_str::<VectorAutoregression>(text).map(|config| config.order)
        };
        assert_eq!(order(r#"{"order": 3}"#).unwrap(), Order::Fixed(3));
        assert_eq!(
            order(r#"{"order": "aic"}"#).unwrap(),
            Order::By(Criterion::Aic)
        );
        assert!(order(r#"{"order": "best"}"#).is_err());
        let none = VectorAutoregression {
            order: Order::Fixed(0),
            ..Default::default()
        };
        assert_eq!(fault_of(&none).parameter, "order");
        let short = VectorAutoregression {
            order: Order::Fixed(9),
            ..Default::default()
        };
        let shape = DataShape::detect(9, 2);
        let error = on_cpu(1, |builder| short.build(shape, builder))
            .err()
            .unwrap();
        assert!(error.hint_text().unwrap().contains("10 rows"), "{error:?}");
    }
}
