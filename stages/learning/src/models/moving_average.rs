//! The mean of the last rows as what comes next: a level without trend or season.

use candle_core::{Device, Tensor};

use super::forecaster::{Forecaster, Forecasting, Span};
use super::{Architecture, Built, DataShape, Result, Task};
use contract::artifact::Windows;
use contract::{Named, Random, StageContext, Trouble};
use numerics::{Mode, State, StateBuilder};

contract::parameters! {
    /// The mean of the last rows.
    pub struct MovingAverage {
        /// How many rows; all that are seen if left out.
        #[schemars(range(min = 1))]
        pub rows: Option<usize> = None,
    }
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

    fn build(&self, shape: DataShape, builder: &mut StateBuilder<'_>) -> Built {
        let least = self.rows.unwrap_or(1);
        let span = Span::of(shape, &format!("a moving average of {least} rows"), least)?;
        let forecaster = Level {
            state: builder.finish(),
            span,
            rows: self.rows.unwrap_or(span.past),
        };
        Ok(Box::new(Forecasting { shape, forecaster }))
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
        let last = past.narrow(1, self.span.past - self.rows, self.rows)?;
        let shape = (past.dim(0)?, self.span.steps, self.span.channels);
        last.mean_keepdim(1)?.broadcast_as(shape)?.contiguous()
    }

    /// There is nothing to learn.
    fn fit(&self, _: &Windows, _: &StageContext<'_>) -> Result<(), Trouble> {
        Ok(())
    }
}

/// A centred moving average over `kernel` rows as a matrix, `[rows, rows]`, a column per row of the result. Beyond the
/// ends the first and the last row are repeated.
pub(super) fn averaging(rows: usize, kernel: usize, device: &Device) -> Result<Tensor> {
    let mut weights = vec![0.0_f32; rows * rows];
    for row in 0..rows {
        for offset in 0..kernel {
            let seen = (row + offset).saturating_sub(kernel / 2).min(rows - 1);
            weights[seen * rows + row] += 1.0 / kernel as f32;
        }
    }
    Tensor::from_vec(weights, (rows, rows), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Batch;
    use crate::models::on_cpu;

    #[test]
    fn the_last_rows_decide() {
        let shape = DataShape::detect(4, 2);
        let values = vec![9.0_f32, 9.0, 1.0, 2.0, 3.0, 6.0, 5.0, 5.0];
        let inputs = Tensor::from_vec(values, (1, 4, 2), &Device::Cpu).unwrap();
        let network = on_cpu(1, |builder| {
            MovingAverage { rows: Some(2) }.build(shape, builder)
        })
        .unwrap();
        let errors = network
            .errors(&Batch::of(inputs))
            .unwrap()
            .to_vec3::<f32>()
            .unwrap();
        assert!(errors[0].iter().all(|row| *row == [9.0, 1.0]));
    }

    #[test]
    fn trends_repeat_the_ends() {
        let average = averaging(4, 3, &Device::Cpu).unwrap();
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
        let wide = averaging(3, 25, &Device::Cpu)
            .unwrap()
            .sum(0)
            .unwrap()
            .to_vec1::<f32>()
            .unwrap();
        assert!(wide.iter().all(|sum| (sum - 1.0).abs() < 1e-5));
    }
}
