//! DLinear: trend and remainder of a window, each continued by one linear layer over time (Zeng, Chen, Zhang and Xu, "Are
//! Transformers Effective for Time Series Forecasting?", AAAI 2023).

use candle_core::{Tensor, Var};

use super::forecaster::{Forecaster, Forecasting, Span};
use super::moving_average::averaging;
use super::{Architecture, Built, DataShape, Result, Task, checks};
use contract::{Fault, Named, Random};
use numerics::initialise::Initial;
use numerics::linear::Linear;
use numerics::{Mode, State, StateBuilder};

contract::parameters! {
    /// Linear layers over time, for trend and remainder.
    pub struct Dlinear {
        /// Rows of the moving average that is the trend; odd. The first and last rows are repeated beyond the ends.
        #[schemars(range(min = 1, max = 4095))]
        pub kernel: usize = 25,
        /// Whether every channel has its own layers.
        pub individual: bool = false,
    }
}

impl Named for Dlinear {
    const NAME: &'static str = "dlinear";
    const DOC: &'static str = "Continues trend and remainder by a linear layer each";
    const EXAMPLE: &'static str = r#"{"kernel": 5, "individual": true}"#;
}

impl Architecture for Dlinear {
    fn tasks(&self) -> &'static [Task] {
        &[Task::Forecast, Task::Detect]
    }

    fn check(&self) -> Result<(), Fault> {
        checks::odd("kernel", self.kernel)
    }

    fn citation(&self) -> &'static str {
        "Zeng, Chen, Zhang, Xu: Are Transformers Effective for Time Series Forecasting?. AAAI 2023. arXiv:2205.13504"
    }

    fn build(&self, shape: DataShape, builder: &mut StateBuilder<'_>) -> Built {
        let span = Span::of(shape, Self::NAME, 1)?;
        let channels = if self.individual { span.channels } else { 0 };
        let seasonal = Continuation::new(builder, "Linear_Seasonal", span, channels)?;
        let trend = Continuation::new(builder, "Linear_Trend", span, channels)?;
        let forecaster = Decomposed {
            state: builder.finish(),
            average: averaging(span.past, self.kernel, builder.device())?,
            seasonal,
            trend,
        };
        Ok(Box::new(Forecasting { shape, forecaster }))
    }
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
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        Ok(Self::Individual {
            weight: builder.parameter(weight, &[channels, steps, past], initial)?,
            bias: builder.parameter(bias, &[channels, 1, steps], initial)?,
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
    use candle_core::Device;

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
