//! Stochastic gradient descent with momentum, as PyTorch defines it: the rate multiplies the accumulated direction.
//! Dampening is not here.

use candle_core::{Result, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Level, Rule};
#[cfg(feature = "cuda")]
use crate::cuda::{Kernel, slots::Launched};
use crate::simd::vectorised;
use contract::{Fault, Named};

/// Stochastic gradient descent, plain or with momentum.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sgd {
    /// Learning rate.
    #[schemars(range(min = 0.0))]
    pub(crate) lr: f64,
    /// Share of the last direction that is kept.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub(crate) momentum: f64,
    /// Looks ahead along the direction (Nesterov); needs momentum.
    pub(crate) nesterov: bool,
    /// L2 penalty: this times the weights is added to the gradient.
    #[schemars(range(min = 0.0))]
    pub(crate) weight_decay: f64,
}

impl Default for Sgd {
    fn default() -> Self {
        Self {
            lr: 1e-2,
            momentum: 0.0,
            nesterov: false,
            weight_decay: 0.0,
        }
    }
}

vectorised! {
    fn update(
        constants: [f32; 3],
        nesterov: bool,
        values: &mut [f32],
        gradient: &[f32],
        direction: &mut [f32],
    ) {
        let [rate, momentum, penalty] = constants;
        for ((value, gradient), direction) in values.iter_mut().zip(gradient).zip(direction) {
            let gradient = gradient + penalty * *value;
            *direction = *direction * momentum + gradient;
            *value -= rate * if nesterov { gradient + momentum * *direction } else { *direction };
        }
    }
}

impl Named for Sgd {
    const NAME: &'static str = "sgd";
    const DOC: &'static str = "Stochastic gradient descent, plain or with momentum";
}

impl Rule for Sgd {
    fn rate(&self) -> f64 {
        self.lr
    }

    fn memory(&self) -> &'static [&'static str] {
        &["direction"]
    }

    fn check(&self) -> std::result::Result<(), Fault> {
        if self.nesterov && self.momentum == 0.0 {
            return Err(Fault::new("nesterov", "needs a momentum above 0"));
        }
        Ok(())
    }

    fn update(
        &self,
        level: Level,
        _: u64,
        rate: f64,
        values: &mut [f32],
        gradient: &[f32],
        memory: &mut [Vec<f32>],
    ) {
        let [direction] = memory else { return };
        let constants = [rate, self.momentum, self.weight_decay].map(|constant| constant as f32);
        update(level, constants, self.nesterov, values, gradient, direction);
    }

    #[cfg(feature = "cuda")]
    fn on_cuda(&self, _: u64, rate: f64) -> Option<Launched> {
        let constants = [rate, self.momentum, self.weight_decay].map(|constant| constant as f32);
        let is_nesterov = if self.nesterov { 1.0 } else { 0.0 };
        Some(Launched {
            kernel: Kernel {
                module: "sgd",
                name: "sgd",
            },
            constants: [&constants[..], &[is_nesterov]].concat(),
        })
    }

    fn update_tensor(
        &self,
        _: u64,
        rate: f64,
        values: &Tensor,
        gradient: &Tensor,
        memory: &mut [Tensor],
    ) -> Result<Tensor> {
        let gradient = (gradient + (values * self.weight_decay)?)?;
        memory[0] = ((&memory[0] * self.momentum)? + &gradient)?;
        let direction = if self.nesterov {
            (gradient + (&memory[0] * self.momentum)?)?
        } else {
            memory[0].clone()
        };
        values - (direction * rate)?
    }
}
