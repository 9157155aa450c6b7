//! Adam (Kingma and Ba, ICLR 2015) and AdamW (Loshchilov and Hutter, ICLR 2019), with PyTorch's placement of epsilon,
//! or for Adam TensorFlow's.
//! They differ only in where weight decay enters. AMSGrad is not here.

use candle_core::{Result, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Level, Rule};
#[cfg(feature = "cuda")]
use crate::cuda::{Kernel, slots::Launched};
use crate::simd::vectorised;
use contract::Named;

/// Adam; weight decay is added to the gradient.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Adam {
    /// Learning rate.
    #[schemars(range(min = 0.0))]
    pub(crate) lr: f64,
    /// Decay of the mean of gradients.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub(crate) beta1: f64,
    /// Decay of the mean of squared gradients.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub(crate) beta2: f64,
    /// Added to the root of the mean of squares.
    #[schemars(range(min = 0.0))]
    pub(crate) epsilon: f64,
    /// L2 penalty: this times the weights is added to the gradient.
    #[schemars(range(min = 0.0))]
    pub(crate) weight_decay: f64,
    /// Whether epsilon is added before the bias of the second moment is corrected, which in early steps makes it larger:
    /// the paper's epsilon-hat and TensorFlow's form. PyTorch adds it afterwards.
    pub(crate) epsilon_hat: bool,
}

impl Default for Adam {
    fn default() -> Self {
        Self {
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            epsilon_hat: false,
        }
    }
}

/// Adam; weight decay shrinks the weights themselves.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdamW {
    /// Learning rate.
    #[schemars(range(min = 0.0))]
    pub(crate) lr: f64,
    /// Decay of the mean of gradients.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub(crate) beta1: f64,
    /// Decay of the mean of squared gradients.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub(crate) beta2: f64,
    /// Added to the root of the mean of squares.
    #[schemars(range(min = 0.0))]
    pub(crate) epsilon: f64,
    /// Each step shrinks the weights by the rate times this.
    #[schemars(range(min = 0.0))]
    pub(crate) weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        Self {
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 1e-2,
        }
    }
}

/// The numbers of one step, the same for all parameters.
#[derive(Clone, Copy)]
struct Step {
    beta1: f32,
    beta2: f32,
    epsilon: f32,
    /// Rate over the first moment's bias correction.
    size: f32,
    /// Root of the second moment's bias correction.
    root: f32,
    /// Factor on the weights before the step.
    keep: f32,
    /// Factor on the weights that is added to the gradient.
    penalty: f32,
}

impl Adam {
    fn step(&self, step: u64, rate: f64, decoupled: bool) -> Step {
        // Both moments start at zero, so that early ones are too small by these factors.
        let first = 1.0 - self.beta1.powf(step as f64);
        let root = (1.0 - self.beta2.powf(step as f64)).sqrt();
        let (keep, penalty) = match decoupled {
            true => (1.0 - rate * self.weight_decay, 0.0),
            false => (1.0, self.weight_decay),
        };
        let epsilon = match self.epsilon_hat {
            true => self.epsilon / root,
            false => self.epsilon,
        };
        Step {
            beta1: self.beta1 as f32,
            beta2: self.beta2 as f32,
            epsilon: epsilon as f32,
            size: (rate / first) as f32,
            root: root as f32,
            keep: keep as f32,
            penalty: penalty as f32,
        }
    }
}

impl AdamW {
    fn as_adam(&self) -> Adam {
        let Self {
            lr,
            beta1,
            beta2,
            epsilon,
            weight_decay,
        } = *self;
        Adam {
            lr,
            beta1,
            beta2,
            epsilon,
            weight_decay,
            epsilon_hat: false,
        }
    }
}

vectorised! {
    fn update(step: Step, values: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]) {
        let moments = first.iter_mut().zip(second.iter_mut());
        for ((value, gradient), (first, second)) in values.iter_mut().zip(gradient).zip(moments) {
            let gradient = gradient + step.penalty * *value;
            *first += (gradient - *first) * (1.0 - step.beta1);
            *second = *second * step.beta2 + (1.0 - step.beta2) * (gradient * gradient);
            // Decoupled weight decay shrinks the value itself and never enters the moments.
            *value = *value * step.keep - step.size * (*first / (second.sqrt() / step.root + step.epsilon));
        }
    }
}

fn update_tensor(
    step: Step,
    values: &Tensor,
    gradient: &Tensor,
    memory: &mut [Tensor],
) -> Result<Tensor> {
    let gradient = (gradient + (values * f64::from(step.penalty))?)?;
    memory[0] = (&memory[0] + ((&gradient - &memory[0])? * f64::from(1.0 - step.beta1))?)?;
    memory[1] =
        ((&memory[1] * f64::from(step.beta2))? + (gradient.sqr()? * f64::from(1.0 - step.beta2))?)?;
    let root = ((memory[1].sqrt()? / f64::from(step.root))? + f64::from(step.epsilon))?;
    (values * f64::from(step.keep))? - ((&memory[0] / root)? * f64::from(step.size))?
}

impl Named for Adam {
    const NAME: &'static str = "adam";
    const DOC: &'static str = "Adam (Kingma and Ba, 2015); weight decay is added to the gradient";
}

impl Named for AdamW {
    const NAME: &'static str = "adamw";
    const DOC: &'static str = "AdamW (Loshchilov and Hutter, 2019); weight decay is decoupled";
}

macro_rules! rule {
    ($name:ident, $decoupled:literal, $adam:expr) => {
        impl Rule for $name {
            fn rate(&self) -> f64 {
                self.lr
            }

            fn memory(&self) -> &'static [&'static str] {
                &["first", "second"]
            }

            fn update(
                &self,
                level: Level,
                step: u64,
                rate: f64,
                values: &mut [f32],
                gradient: &[f32],
                memory: &mut [Vec<f32>],
            ) {
                let adam: fn(&Self) -> Adam = $adam;
                let [first, second] = memory else { return };
                update(
                    level,
                    adam(self).step(step, rate, $decoupled),
                    values,
                    gradient,
                    first,
                    second,
                );
            }

            #[cfg(feature = "cuda")]
            fn on_cuda(&self, step: u64, rate: f64) -> Option<Launched> {
                let adam: fn(&Self) -> Adam = $adam;
                let step = adam(self).step(step, rate, $decoupled);
                Some(Launched {
                    kernel: Kernel {
                        module: "adam",
                        name: "adam",
                    },
                    constants: vec![
                        step.beta1,
                        step.beta2,
                        step.epsilon,
                        step.size,
                        step.root,
                        step.keep,
                        step.penalty,
                    ],
                })
            }

            fn update_tensor(
                &self,
                step: u64,
                rate: f64,
                values: &Tensor,
                gradient: &Tensor,
                memory: &mut [Tensor],
            ) -> Result<Tensor> {
                let adam: fn(&Self) -> Adam = $adam;
                update_tensor(
                    adam(self).step(step, rate, $decoupled),
                    values,
                    gradient,
                    memory,
                )
            }
        }
    };
}
rule!(Adam, false, Adam::clone);
rule!(AdamW, true, AdamW::as_adam);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_steps_follow_the_formula() {
        // Without epsilon the first step is the rate times the gradient's sign, whatever its size.
        let adam = Adam {
            lr: 0.1,
            epsilon: 0.0,
            ..Adam::default()
        };
        let (mut values, mut memory) = (vec![1.0, -1.0, 0.5], vec![vec![0.0; 3]; 2]);
        adam.update(
            Level::detect(),
            1,
            0.1,
            &mut values,
            &[1e-3, -5.0, 2.0],
            &mut memory,
        );
        for (value, expected) in values.iter().zip([0.9, -0.9, 0.4]) {
            assert!((value - expected).abs() < 1e-6, "{value} {expected}");
        }
        // lr √(1 - β₂) / (1 - β₁) · m / (√v + ε̂) with m = (1 - β₁) g and v = (1 - β₂) g².
        let adam = Adam {
            lr: 0.1,
            epsilon: 0.01,
            epsilon_hat: true,
            ..Adam::default()
        };
        let (mut values, mut memory) = (vec![0.0], vec![vec![0.0]; 2]);
        adam.update(Level::detect(), 1, 0.1, &mut values, &[2.0], &mut memory);
        let expected = -0.1 * 2.0 * 0.001_f32.sqrt() / (2.0 * 0.001_f32.sqrt() + 0.01);
        assert!(
            (values[0] - expected).abs() < 1e-6,
            "{} {expected}",
            values[0]
        );
        // Decoupled decay acts without a gradient, the penalty through it.
        let adamw = AdamW {
            lr: 0.1,
            weight_decay: 0.5,
            ..AdamW::default()
        };
        let mut values = vec![1.0];
        adamw.update(
            Level::detect(),
            1,
            0.1,
            &mut values,
            &[0.0],
            &mut [vec![0.0], vec![0.0]],
        );
        assert!((values[0] - 0.95).abs() < 1e-6);
        let adam = Adam {
            lr: 0.1,
            weight_decay: 0.5,
            ..Adam::default()
        };
        let mut values = vec![1.0];
        adam.update(
            Level::detect(),
            1,
            0.1,
            &mut values,
            &[0.0],
            &mut [vec![0.0], vec![0.0]],
        );
        assert!((values[0] - 0.9).abs() < 1e-6);
    }
}
