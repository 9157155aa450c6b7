//! The mean of the last rows as what comes next: a level without trend or season.

use candle_core::{Device, Result, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::forecaster::{Forecaster, Forecasting, Span};
use super::{Architecture, DataShape, Network, Task};
use contract::artifact::Windows;
use contract::{Named, Random, StageContext, Trouble};
use numerics::{Mode, State, StateBuilder};

/// The mean of the last rows.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MovingAverage {
    /// How many rows; all that are seen if left out.
    #[schemars(range(min = 1))]
    pub rows: Option<usize>,
}

impl Named for MovingAverage {
    const NAME: &'static str = "moving-average";
    const DOC: &'static str = "The mean of the last rows is what comes next";
    const EXAMPLE: &'static str = r#"{"rows": 3}"#;
}

impl Architecture for MovingAverage {
    fn tasks(&self) -> &'static [Task] {
        &[Task::Detect, Task::Forecast]
    }

    fn closed_form(&self) -> bool {
        true
    }

    fn build(
        &self,
        shape: DataShape,
        device: &Device,
        random: &mut Random,
    ) -> std::result::Result<Box<dyn Network>, Trouble> {
        let least = self.rows.unwrap_or(1);
        let span = Span::of(shape, &format!("a moving average of {least} rows"), least)?;
        let rows = self.rows.unwrap_or(span.past);
        let state = StateBuilder::new(device, random).finish();
        Ok(Box::new(Forecasting {
            shape,
            forecaster: Level { state, span, rows },
        }))
    }
}

struct Level {
    state: State,
    span: Span,
    rows: usize,
}

impl Forecaster for Level {
    fn state(&self) -> &State {
        &self.state
    }

    fn forecast(&self, past: &Tensor, _: Mode, _: &mut Random) -> Result<Tensor> {
        let Span {
            past: seen,
            steps,
            channels,
        } = self.span;
        let mean = past
            .narrow(1, seen - self.rows, self.rows)?
            .mean_keepdim(1)?;
        mean.broadcast_as((past.dim(0)?, steps, channels))?
            .contiguous()
    }

    /// There is nothing to learn.
    fn fit(&self, _: &Windows, _: &StageContext<'_>) -> std::result::Result<(), Trouble> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Batch;

    #[test]
    fn the_last_rows_decide() {
        let shape = DataShape::detect(4, 2);
        let values = vec![9.0_f32, 9.0, 1.0, 2.0, 3.0, 6.0, 5.0, 5.0];
        let inputs = Tensor::from_vec(values, (1, 4, 2), &Device::Cpu).unwrap();
        let network = MovingAverage { rows: Some(2) }
            .build(shape, &Device::Cpu, &mut Random::new(1, "init"))
            .unwrap();
        let errors = network
            .errors(&Batch::of(inputs))
            .unwrap()
            .to_vec3::<f32>()
            .unwrap();
        assert!(errors[0].iter().all(|row| *row == [9.0, 1.0]));
    }
}
