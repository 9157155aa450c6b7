//! Gradients of a network's parameters, in the order of its state.
//! What is done with them is up to the optimiser.

use candle_core::backprop::GradStore;
use candle_core::{Device, Result, Tensor};

use super::host::{with_slice, with_slice_mut};
use super::state::State;

/// One gradient per parameter; `None` where the loss does not reach it, and the parameter then stays as it is.
#[derive(Clone, Debug)]
pub struct Gradients(pub Vec<Option<Tensor>>);

impl Gradients {
    /// What automatic differentiation found.
    pub fn of(state: &State, store: &GradStore) -> Self {
        Self(state.parameters().map(|(_, parameter)| store.get(parameter.as_tensor()).cloned()).collect())
    }

    /// √(Σ g²) over all gradients.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn norm(&self) -> Result<f64> {
        let mut sum = 0.0;
        for gradient in self.0.iter().flatten() {
            sum += match gradient.device() {
                Device::Cpu => {
                    let gradient = gradient.contiguous()?;
                    with_slice(&gradient, |values| values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>())?
                }
                _ => f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?),
            };
        }
        Ok(sum.sqrt())
    }

    /// Scales all gradients so that their norm is at most `limit`, as `torch.nn.utils.clip_grad_norm_` does.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn clip(&mut self, limit: f64) -> Result<()> {
        let factor = limit / (self.norm()? + 1e-6);
        if factor >= 1.0 {
            return Ok(());
        }
        for gradient in self.0.iter_mut().flatten() {
            match gradient.device() {
                Device::Cpu => {
                    *gradient = gradient.copy()?;
                    with_slice_mut(gradient, |values| values.iter_mut().for_each(|value| *value *= factor as f32))?;
                }
                _ => *gradient = (&*gradient * factor)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipping_keeps_directions_and_small_norms() {
        let tensor = |values: &[f32]| Some(Tensor::new(values, &Device::Cpu).unwrap());
        let mut gradients = Gradients(vec![tensor(&[3.0, 0.0]), None, tensor(&[4.0])]);
        assert!((gradients.norm().unwrap() - 5.0).abs() < 1e-9);
        gradients.clip(10.0).unwrap();
        assert_eq!(gradients.0[0].as_ref().unwrap().to_vec1::<f32>().unwrap(), [3.0, 0.0]);
        gradients.clip(1.0).unwrap();
        assert!((gradients.norm().unwrap() - 1.0).abs() < 1e-5);
        let clipped: Vec<f32> = gradients.0[2].as_ref().unwrap().to_vec1().unwrap();
        assert!((clipped[0] - 0.8).abs() < 1e-5);
    }
}
