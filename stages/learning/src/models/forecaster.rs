//! What all forecasters have in common: to forecast, they tell the rows that follow a window; to detect, they tell the
//! window's last row from the rows before it, and what they get wrong is the error of every row of the window.

use candle_core::{Result, Tensor, bail};

use super::{Batch, DataShape, Network, Task};
use contract::artifact::Windows;
use contract::{Random, StageContext, Trouble};
use numerics::{Mode, State};

/// What a forecaster sees and tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Rows that are seen.
    pub past: usize,
    /// Rows that are told.
    pub steps: usize,
    pub channels: usize,
}

impl Span {
    /// What a shape asks of the forecaster `name`, which needs `least` rows to see.
    ///
    /// # Errors
    /// If the window is too short.
    pub fn of(shape: DataShape, name: &str, least: usize) -> std::result::Result<Self, Trouble> {
        let (past, steps, told) = match shape.task {
            Task::Forecast => (shape.length, shape.horizon, ""),
            _ => (
                shape.length - 1,
                1,
                ", the last of which is to be told from the others",
            ),
        };
        if past < least.max(1) {
            let needed = shape.length - past + least.max(1);
            return Err(Trouble::new(format!(
                "{name} cannot work with windows of {} rows{told}",
                shape.length
            ))
            .hint(format!("make the windows at least {needed} rows long")));
        }
        Ok(Self {
            past,
            steps,
            channels: shape.channels,
        })
    }
}

/// Tells the rows that follow others.
pub trait Forecaster: Send + Sync {
    fn state(&self) -> &State;

    /// `[batch, past, channels]` to `[batch, steps, channels]`.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn forecast(&self, past: &Tensor, mode: Mode, random: &mut Random) -> Result<Tensor>;

    /// What each channel of a forecast adds to the score of a row, given the row: `[batch, 1, channels]` all of them.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn judge(&self, forecast: &Tensor, actual: &Tensor) -> Result<Tensor> {
        (forecast - actual)?.sqr()
    }

    /// Takes note of forecasts made in training and of what they should have been.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn notice(&self, _forecast: &Tensor, _actual: &Tensor) -> Result<()> {
        Ok(())
    }

    /// See [`Network::fit`].
    ///
    /// # Errors
    /// As there.
    fn fit(
        &self,
        _windows: &Windows,
        _context: &StageContext<'_>,
    ) -> std::result::Result<(), Trouble> {
        Err(Trouble::new("this model is trained by gradients"))
    }

    /// See [`Network::graph`].
    ///
    /// # Errors
    /// As there.
    fn graph(&self) -> Result<Option<Vec<super::Edge>>> {
        Ok(None)
    }
}

/// A forecaster at work on one task.
pub struct Forecasting<F> {
    pub shape: DataShape,
    pub forecaster: F,
}

impl<F: Forecaster> Forecasting<F> {
    /// What is seen, and what is to be told as far as it is known.
    fn split(&self, batch: &Batch) -> Result<(Tensor, Option<Tensor>)> {
        expect_windows(self.shape, &batch.inputs)?;
        if self.shape.task == Task::Forecast {
            return Ok((batch.inputs.clone(), batch.targets.clone()));
        }
        let last = self.shape.length - 1;
        let past = batch.inputs.narrow(1, 0, last)?.contiguous()?;
        Ok((past, Some(batch.inputs.narrow(1, last, 1)?.contiguous()?)))
    }

    fn evaluate(&self, past: &Tensor) -> Result<Tensor> {
        self.forecaster
            .forecast(past, Mode::Evaluate, &mut scoring())
    }
}

/// The generator of what is evaluated: the same draws for every batch.
fn scoring() -> Random {
    Random::new(0, "scoring")
}

impl<F: Forecaster> Network for Forecasting<F> {
    fn state(&self) -> &State {
        self.forecaster.state()
    }

    fn loss(&self, batch: &Batch, mode: Mode, random: &mut Random) -> Result<Tensor> {
        let (past, actual) = self.split(batch)?;
        let Some(actual) = actual else {
            bail!("the batch does not say which rows follow")
        };
        let forecast = self.forecaster.forecast(&past, mode, random)?;
        if mode == Mode::Train {
            self.forecaster.notice(&forecast.detach(), &actual)?;
        }
        (forecast - actual)?.sqr()?.mean_all()
    }

    fn fit(
        &self,
        windows: &Windows,
        context: &StageContext<'_>,
    ) -> std::result::Result<(), Trouble> {
        self.forecaster.fit(windows, context)
    }

    fn predict(&self, batch: &Batch) -> Result<Tensor> {
        let (past, _) = self.split(batch)?;
        let forecast = self.evaluate(&past)?;
        match self.shape.task {
            Task::Forecast => Ok(forecast),
            _ => Tensor::cat(&[past, forecast], 1),
        }
    }

    fn errors(&self, batch: &Batch) -> Result<Tensor> {
        let (past, actual) = self.split(batch)?;
        let Some(actual) = actual else {
            bail!("the batch does not say which rows follow")
        };
        let judged = self.forecaster.judge(&self.evaluate(&past)?, &actual)?;
        judged
            .narrow(1, 0, 1)?
            .broadcast_as(batch.inputs.shape())?
            .contiguous()
    }

    fn graph(&self) -> Result<Option<Vec<super::Edge>>> {
        self.forecaster.graph()
    }

    fn trace(&self, batch: &Batch, mode: Mode) -> Result<Vec<(String, Tensor)>> {
        let (past, _) = self.split(batch)?;
        Ok(vec![(
            "forecast".to_owned(),
            self.forecaster.forecast(&past, mode, &mut scoring())?,
        )])
    }
}

/// Whether inputs are `[batch, length, channels]` with a batch of at least one.
///
/// # Errors
/// If they are not.
pub fn expect_windows(shape: DataShape, inputs: &Tensor) -> Result<()> {
    let (batch, length, channels) = inputs.dims3()?;
    if batch == 0 || length != shape.length || channels != shape.channels {
        let DataShape {
            length, channels, ..
        } = shape;
        bail!(
            "the model takes windows of {length} rows and {channels} channels, not {:?}",
            inputs.dims()
        )
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_too_short_are_named_with_the_length_they_need() {
        let error = Span::of(DataShape::detect(4, 2), "seasonal naive", 4).unwrap_err();
        assert!(
            error.hint_text().unwrap().contains("at least 5 rows"),
            "{error:?}"
        );
        assert_eq!(
            Span::of(DataShape::detect(5, 2), "x", 4).unwrap(),
            Span {
                past: 4,
                steps: 1,
                channels: 2
            }
        );
        assert_eq!(
            Span::of(DataShape::forecast(5, 2, 3), "x", 4).unwrap(),
            Span {
                past: 5,
                steps: 3,
                channels: 2
            }
        );
    }
}
