//! Sign descent: every weight moves by the rate, against the sign of its gradient (Bernstein et al., ICML 2018).

use candle_core::{Result, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Level, Rule};
use contract::Named;

/// Descent by the sign of the gradient.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SignSgd {
    /// Learning rate.
    #[schemars(range(min = 0.0))]
    pub lr: f64,
}

impl Default for SignSgd {
    fn default() -> Self {
        Self { lr: 1e-3 }
    }
}

impl Named for SignSgd {
    const NAME: &'static str = "sign-sgd";
    const DOC: &'static str = "Descent by the sign of the gradient";
}

impl Rule for SignSgd {
    fn rate(&self) -> f64 {
        self.lr
    }

    fn memory(&self) -> &'static [&'static str] {
        &[]
    }

    fn update(
        &self,
        _: Level,
        _: u64,
        rate: f64,
        values: &mut [f32],
        gradient: &[f32],
        _: &mut [Vec<f32>],
    ) {
        for (value, gradient) in values.iter_mut().zip(gradient) {
            // Unlike `signum`, this leaves a weight without a gradient where it is.
            if *gradient != 0.0 {
                *value -= rate as f32 * gradient.signum();
            }
        }
    }

    fn update_tensor(
        &self,
        _: u64,
        rate: f64,
        values: &Tensor,
        gradient: &Tensor,
        _: &mut [Tensor],
    ) -> Result<Tensor> {
        values - (gradient.sign()? * rate)?
    }
}
