//! The forecast that any other has to beat: the last value, or the value of the last season (Hyndman and Athanasopoulos,
//! "Forecasting: Principles and Practice", section 5.2).

use candle_core::Tensor;

use super::forecaster::{Forecaster, Forecasting, Span};
use super::{Architecture, Built, DataShape, Result, Task};
use contract::artifact::Windows;
use contract::{Named, Random, StageContext, Trouble};
use numerics::{Mode, State, StateBuilder};

contract::parameters! {
    /// The last value, or that of the last season.
    pub struct Naive {
        /// Rows of a season, whose last one is repeated; 1 repeats the last row.
        #[schemars(range(min = 1))]
        pub season: usize = 1,
    }
}

impl Named for Naive {
    const NAME: &'static str = "naive";
    const DOC: &'static str = "The last value, or the value of the last season, is what comes next";
    const EXAMPLE: &'static str = r#"{"season": 3}"#;
}

impl Architecture for Naive {
    fn tasks(&self) -> &'static [Task] {
        &[Task::Forecast, Task::Detect]
    }

    fn closed_form(&self) -> bool {
        true
    }

    fn build(&self, shape: DataShape, builder: &mut StateBuilder<'_>) -> Built {
        let season = self.season;
        let span = Span::of(
            shape,
            &format!("naive with a season of {season} rows"),
            season,
        )?;
        let state = builder.finish();
        let forecaster = Repeating {
            state,
            span,
            season,
        };
        Ok(Box::new(Forecasting { shape, forecaster }))
    }
}

struct Repeating {
    state: State,
    span: Span,
    season: usize,
}

impl Forecaster for Repeating {
    fn state(&self) -> &State {
        &self.state
    }

    fn forecast(&self, past: &Tensor, _: Mode, _: &mut Random) -> Result<Tensor> {
        let season = past.narrow(1, self.span.past - self.season, self.season)?;
        let seasons = vec![season; self.span.steps.div_ceil(self.season)];
        Tensor::cat(&seasons, 1)?
            .narrow(1, 0, self.span.steps)?
            .contiguous()
    }

    /// There is nothing to learn.
    fn fit(&self, _: &Windows, _: &StageContext<'_>) -> Result<(), Trouble> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{Batch, on_cpu};
    use candle_core::Device;

    fn predict(season: usize, shape: DataShape, values: &[f32]) -> Vec<f32> {
        let network = on_cpu(1, |builder| Naive { season }.build(shape, builder)).unwrap();
        let inputs = Tensor::from_vec(
            values.to_vec(),
            (1, shape.length, shape.channels),
            &Device::Cpu,
        )
        .unwrap();
        network
            .predict(&Batch::of(inputs))
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap()
    }

    #[test]
    fn seasons_are_repeated_in_order() {
        let shape = DataShape::forecast(4, 1, 5);
        assert_eq!(predict(1, shape, &[1.0, 2.0, 3.0, 4.0]), [4.0; 5]);
        assert_eq!(
            predict(3, shape, &[1.0, 2.0, 3.0, 4.0]),
            [2.0, 3.0, 4.0, 2.0, 3.0]
        );
        assert_eq!(
            predict(2, DataShape::detect(4, 1), &[1.0, 2.0, 3.0, 9.0]),
            [1.0, 2.0, 3.0, 2.0]
        );
    }
}
