//! DLinear: trend and remainder of a window, each continued by one linear layer over time (Zeng, Chen, Zhang and Xu, "Are
//! Transformers Effective for Time Series Forecasting?", AAAI 2023).

use candle_core::{Device, Result, Tensor, Var};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::forecaster::{Forecaster, Forecasting, Span};
use super::{Architecture, DataShape, Network, Task};
use contract::{Fault, Named, Random, Trouble};
use numerics::initialise::Initial;
use numerics::linear::Linear;
use numerics::{Mode, State, StateBuilder};

/// Linear layers over time, for trend and remainder.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Dlinear {
    /// Rows of the moving average that is the trend; odd. The first and last rows are repeated beyond the ends.
    #[schemars(range(min = 1, max = 4095))]
    pub kernel: usize,
    /// Whether every channel has its own layers.
    pub individual: bool,
}

impl Default for Dlinear {
    fn default() -> Self {
        Self {
            kernel: 25,
            individual: false,
        }
    }
}

impl Named for Dlinear {
    const NAME: &'static str = "dlinear";
    const DOC: &'static str = "Continues trend and remainder by a linear layer each";
    const EXAMPLE: &'static str = r#"{"kernel": 5, "individual": true}"#;
}

// Reference: Zeng, Chen, Zhang and Xu, "Are Transformers Effective for Time Series Forecasting?", AAAI 2023
impl Architecture for Dlinear {
    fn tasks(&self) -> &'static [Task] {
        &[Task::Forecast, Task::Detect]
    }

    fn check(&self) -> std::result::Result<(), Fault> {
        super::checks::odd("kernel", self.kernel)
    }

    fn build(
        &self,
        shape: DataShape,
        device: &Device,
        random: &mut Random,
    ) -> std::result::Result<Box<dyn Network>, Trouble> {
        let span = Span::of(shape, Self::NAME, 1)?;
        let mut builder = StateBuilder::new(device, random);
        let channels = if self.individual { span.channels } else { 0 };
        let seasonal = Continuation::new(&mut builder, "Linear_Seasonal", span, channels)?;
        let trend = Continuation::new(&mut builder, "Linear_Trend", span, channels)?;
        let average = averages(span.past, self.kernel, device)?;
        let forecaster = Decomposed {
            state: builder.finish(),
            average,
            seasonal,
            trend,
        };
        Ok(Box::new(Forecasting { shape, forecaster }))
    }
}

/// The moving average as a matrix: `[past, past]`, a column per row of the result.
fn averages(past: usize, kernel: usize, device: &Device) -> Result<Tensor> {
    let mut weights = vec![0.0_f32; past * past];
    for row in 0..past {
        for offset in 0..kernel {
            let seen = (row + offset).saturating_sub(kernel / 2).min(past - 1);
            weights[seen * past + row] += 1.0 / kernel as f32;
        }
    }
    Tensor::from_vec(weights, (past, past), device)
}

/// A linear layer over time: one for all channels, or one for each.
enum Continuation {
    Shared(Linear),
    /// Weight `[channels, steps, past]`, bias `[channels, 1, steps]`.
    Individual {
        weight: Var,
        bias: Var,
    },
}

impl Continuation {
    fn new(
        builder: &mut StateBuilder<'_>,
        name: &str,
        span: Span,
        channels: usize,
    ) -> Result<Self> {
        let Span { past, steps, .. } = span;
        if channels == 0 {
            return Ok(Self::Shared(Linear::new(builder, name, past, steps)?));
        }
        let initial = Initial::FanIn(past);
        Ok(Self::Individual {
            weight: builder.parameter(
                format!("{name}.weight"),
                &[channels, steps, past],
                initial,
            )?,
            bias: builder.parameter(format!("{name}.bias"), &[channels, 1, steps], initial)?,
        })
    }

    /// `[batch, channels, past]` to `[batch, channels, steps]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Shared(linear) => linear.forward(x),
            Self::Individual { weight, bias } => {
                let by_channel = x.transpose(0, 1)?.contiguous()?; // [channels, batch, past]
                let steps = by_channel
                    .matmul(&weight.transpose(1, 2)?.contiguous()?)?
                    .broadcast_add(bias)?;
                steps.transpose(0, 1)?.contiguous()
            }
        }
    }
}

struct Decomposed {
    state: State,
    average: Tensor,
    seasonal: Continuation,
    trend: Continuation,
}

impl Forecaster for Decomposed {
    fn state(&self) -> &State {
        &self.state
    }

    fn forecast(&self, past: &Tensor, _: Mode, _: &mut Random) -> Result<Tensor> {
        let x = past.transpose(1, 2)?.contiguous()?; // [batch, channels, past]
        let (batch, channels, rows) = x.dims3()?;
        let trend = x
            .reshape((batch * channels, rows))?
            .matmul(&self.average)?
            .reshape((batch, channels, rows))?;
        let seasonal = (&x - &trend)?;
        let steps = (self.seasonal.forward(&seasonal)? + self.trend.forward(&trend)?)?;
        steps.transpose(1, 2)?.contiguous()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trends_repeat_the_ends() {
        let average = averages(4, 3, &Device::Cpu).unwrap();
        let x = Tensor::new(&[[3.0_f32, 6.0, 9.0, 0.0]], &Device::Cpu).unwrap();
        let trend = x.matmul(&average).unwrap().to_vec2::<f32>().unwrap();
        let expected = [4.0, 6.0, 5.0, 3.0];
        assert!(
            trend[0]
                .iter()
                .zip(expected)
                .all(|(one, other)| (one - other).abs() < 1e-5),
            "{trend:?}"
        );
        // A kernel wider than the window still sums to one.
        let wide = averages(3, 25, &Device::Cpu)
            .unwrap()
            .sum(0)
            .unwrap()
            .to_vec1::<f32>()
            .unwrap();
        assert!(wide.iter().all(|sum| (sum - 1.0).abs() < 1e-5));
    }

    #[test]
    fn individual_layers_with_equal_weights_are_the_shared_ones() {
        let span = Span {
            past: 5,
            steps: 2,
            channels: 3,
        };
        let mut random = Random::new(1, "init");
        let mut builder = StateBuilder::new(&Device::Cpu, &mut random);
        let shared = Continuation::new(&mut builder, "shared", span, 0).unwrap();
        let individual = Continuation::new(&mut builder, "individual", span, 3).unwrap();
        let (Continuation::Shared(linear), Continuation::Individual { weight, bias }) =
            (&shared, &individual)
        else {
            panic!("not the variants asked for")
        };
        weight
            .set(
                &linear
                    .weight
                    .broadcast_as((3, 2, 5))
                    .unwrap()
                    .contiguous()
                    .unwrap(),
            )
            .unwrap();
        bias.set(
            &linear
                .bias
                .broadcast_as((3, 1, 2))
                .unwrap()
                .contiguous()
                .unwrap(),
        )
        .unwrap();
        let values: Vec<f32> = (0..4 * 3 * 5)
            .map(|index| (index as f32 * 0.7).sin())
            .collect();
        let x = Tensor::from_vec(values, (4, 3, 5), &Device::Cpu).unwrap();
        let apart = (shared.forward(&x).unwrap() - individual.forward(&x).unwrap())
            .unwrap()
            .abs()
            .unwrap();
        assert!(
            apart
                .flatten_all()
                .unwrap()
                .max(0)
                .unwrap()
                .to_scalar::<f32>()
                .unwrap()
                < 1e-5
        );
    }
}
