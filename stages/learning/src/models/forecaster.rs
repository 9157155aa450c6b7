//! What all forecasters have in common: to forecast, they predict the rows that follow a window; to detect, they predict
//! the window's last row from the rows before it, and their error there is the error of every row of the window.

use candle_core::Tensor;

use super::draws::scoring;
use super::{Batch, DataShape, Edge, Network, Result, Task, named};
use contract::artifact::Windows;
use contract::{Random, StageContext, Trouble};
use numerics::{Mode, State};

/// What a forecaster sees and predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Rows that are seen.
    pub past: usize,
    /// Rows that are predicted.
    pub steps: usize,
    pub channels: usize,
}

impl Span {
    /// What a shape asks of the forecaster `name`, which needs `least` rows to see.
    ///
    /// # Errors
    /// If the window is too short.
    pub fn of(shape: DataShape, name: &str, least: usize) -> Result<Self, Trouble> {
        let rows = shape.length;
        let (past, steps, which) = match shape.task {
            Task::Forecast => (rows, shape.horizon, ""),
            _ => (
                rows - 1,
                1,
                ", the last of which is forecast from the others",
            ),
        };
        if past < least.max(1) {
            let needed = rows - past + least.max(1);
            let message = format!("{name} cannot work with windows of {rows} rows{which}");
            let hint = format!("make the windows at least {needed} rows long");
            return Err(Trouble::new(message).hint(hint));
        }
        let channels = shape.channels;
        Ok(Self {
            past,
            steps,
            channels,
        })
    }
}

/// Predicts the rows that follow others.
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
    fn fit(&self, _windows: &Windows, _context: &StageContext<'_>) -> Result<(), Trouble> {
        Err(Trouble::new("this model is trained by gradients"))
    }

    /// See [`Network::graph`].
    ///
    /// # Errors
    /// As there.
    fn graph(&self) -> Result<Option<Vec<Edge>>> {
        Ok(None)
    }
}

/// A forecaster at work on one task.
pub struct Forecasting<F> {
    pub shape: DataShape,
    pub forecaster: F,
}

impl<F: Forecaster> Forecasting<F> {
    /// The rows that are seen.
    fn past(&self, batch: &Batch) -> Result<Tensor> {
        self.shape.check_windows(&batch.inputs)?;
        match self.shape.task {
            Task::Forecast => Ok(batch.inputs.clone()),
            _ => batch
                .inputs
                .narrow(1, 0, self.shape.length - 1)?
                .contiguous(),
        }
    }

    /// The rows that follow them.
    fn actual(&self, batch: &Batch) -> Result<Tensor> {
        match self.shape.task {
            Task::Forecast => Ok(batch.targets()?.clone()),
            _ => batch
                .inputs
                .narrow(1, self.shape.length - 1, 1)?
                .contiguous(),
        }
    }

    fn evaluate(&self, past: &Tensor) -> Result<Tensor> {
        self.forecaster
            .forecast(past, Mode::Evaluate, &mut scoring())
    }
}

impl<F: Forecaster> Network for Forecasting<F> {
    fn state(&self) -> &State {
        self.forecaster.state()
    }

    fn loss(&self, batch: &Batch, mode: Mode, random: &mut Random) -> Result<Tensor> {
        let (past, actual) = (self.past(batch)?, self.actual(batch)?);
        let forecast = self.forecaster.forecast(&past, mode, random)?;
        if mode == Mode::Train {
            self.forecaster.notice(&forecast.detach(), &actual)?;
        }
        (forecast - actual)?.sqr()?.mean_all()
    }

    fn fit(&self, windows: &Windows, context: &StageContext<'_>) -> Result<(), Trouble> {
        self.forecaster.fit(windows, context)
    }

    fn predict(&self, batch: &Batch) -> Result<Tensor> {
        let past = self.past(batch)?;
        let forecast = self.evaluate(&past)?;
        match self.shape.task {
            Task::Forecast => Ok(forecast),
            _ => Tensor::cat(&[past, forecast], 1),
        }
    }

    fn errors(&self, batch: &Batch) -> Result<Tensor> {
        let forecast = self.evaluate(&self.past(batch)?)?;
        let judged = self.forecaster.judge(&forecast, &self.actual(batch)?)?;
        // Every row of the window gets the error of the one row that was forecast.
        let first = judged.narrow(1, 0, 1)?;
        first.broadcast_as(batch.inputs.shape())?.contiguous()
    }

    fn graph(&self) -> Result<Option<Vec<Edge>>> {
        self.forecaster.graph()
    }

    fn trace(&self, batch: &Batch, mode: Mode) -> Result<Vec<(String, Tensor)>> {
        let past = self.past(batch)?;
        let forecast = self.forecaster.forecast(&past, mode, &mut scoring())?;
        Ok(named([("forecast", forecast)]))
    }
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
