//! Gradients of a network's parameters, in the order of its state.
//! What is done with them is up to the optimiser.

use std::cell::RefCell;
use std::collections::HashMap;

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, TensorId};

use super::host::{with_slice, with_slice_mut};
use super::state::State;

/// One gradient per parameter; `None` where the loss does not reach it, and the parameter then stays as it is.
#[derive(Clone, Debug)]
pub struct Gradients(pub Vec<Option<Tensor>>);

thread_local! {
    /// The gradients of parameters that operations have found in the backward pass under way on this thread, if there is
    /// one that wants them.
    static DIRECT: RefCell<Option<HashMap<TensorId, Tensor>>> = const { RefCell::new(None) };
}

/// Runs a backward pass: what it gives, and the gradients of parameters that operations found in it.
fn collecting<T>(pass: impl FnOnce() -> T) -> (T, HashMap<TensorId, Tensor>) {
    /// However the pass ends, the next one does not find its gradients.
    struct Forget;

    impl Drop for Forget {
        fn drop(&mut self) {
            DIRECT.set(None);
        }
    }

    DIRECT.set(Some(HashMap::new()));
    let _forget = Forget;
    (pass(), DIRECT.take().unwrap_or_default())
}

/// Takes the gradient of a parameter that an operation has found, so that it does not go through Candle's store, which adds
/// the first one to zeros. Gives it back where nothing wants it.
///
/// # Errors
/// If a tensor operation fails.
pub(crate) fn take(parameter: &Tensor, gradient: Tensor) -> Result<Option<Tensor>> {
    DIRECT.with_borrow_mut(|direct| {
        let Some(direct) = direct.as_mut().filter(|_| parameter.is_variable()) else {
            return Ok(Some(gradient));
        };
        let sum = match direct.remove(&parameter.id()) {
            Some(sum) => (sum + gradient)?,
            None => gradient,
        };
        direct.insert(parameter.id(), sum);
        Ok(None)
    })
}

/// What a loss changes by with each tensor that it is computed of.
pub struct Slopes {
    /// Candle's.
    store: GradStore,
    /// What operations found of parameters.
    direct: HashMap<TensorId, Tensor>,
}

impl Slopes {
    /// What automatic differentiation finds for a loss, a scalar.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn of(loss: &Tensor) -> Result<Self> {
        let (store, direct) = collecting(|| loss.backward());
        let store = store?;
        Ok(Self { store, direct })
    }

    /// The gradient of a variable, if the loss depends on it.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn get(&self, variable: &Tensor) -> Result<Option<Tensor>> {
        let own = self.direct.get(&variable.id());
        let rest = self.store.get(variable);
        match (own, rest) {
            (Some(own), Some(rest)) => (own + rest).map(Some),
            (own, rest) => Ok(own.or(rest).cloned()),
        }
    }
}

impl Gradients {
    /// What automatic differentiation finds for a loss, a scalar.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn of(state: &State, loss: &Tensor) -> Result<Self> {
        let slopes = Slopes::of(loss)?;
        let mut gradients = Vec::with_capacity(state.parameters().len());
        for (_, parameter) in state.parameters() {
            gradients.push(slopes.get(parameter)?);
        }
        Ok(Self(gradients))
    }

    /// √(Σ g²) over all gradients.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn norm(&self) -> Result<f64> {
        let mut sum = 0.0;
        for gradient in self.0.iter().flatten() {
            sum += square(gradient)?;
        }
        Ok(f64::sqrt(sum))
    }

    /// Scales all gradients so that their norm is at most `limit`, as `torch.nn.utils.clip_grad_norm_` does.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn clip(&mut self, limit: f64) -> Result<()> {
        let factor = limit / (self.norm()? + 1e-6);
        if factor < 1.0 {
            self.scale(factor)
        } else {
            Ok(())
        }
    }

    /// Adds others, parameter by parameter.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn add(&mut self, other: &Self) -> Result<()> {
        for (own, other) in self.0.iter_mut().zip(&other.0) {
            *own = match (own.take(), other) {
                (Some(own), Some(other)) => Some((own + other)?),
                (own, other) => own.or_else(|| other.clone()),
            };
        }
        Ok(())
    }

    /// Multiplies all gradients.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn scale(&mut self, factor: f64) -> Result<()> {
        for gradient in self.0.iter_mut().flatten() {
            scale(gradient, factor)?;
        }
        Ok(())
    }

    /// Scales every gradient so that its own norm is at most `limit`, as `tf.clip_by_norm` does.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn clip_each(&mut self, limit: f64) -> Result<()> {
        for gradient in self.0.iter_mut().flatten() {
            let norm = square(gradient)?.sqrt();
            if norm > limit {
                scale(gradient, limit / norm)?;
            }
        }
        Ok(())
    }
}

/// Σ g² of one gradient.
fn square(gradient: &Tensor) -> Result<f64> {
    if gradient.device().is_cpu() {
        return with_slice(&gradient.contiguous()?, |values| {
            values.iter().map(|value| f64::from(*value).powi(2)).sum()
        });
    }
    Ok(f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?))
}

fn scale(gradient: &mut Tensor, factor: f64) -> Result<()> {
    if gradient.device().is_cpu() {
        // Others may hold the same values, so a copy is changed in place.
        *gradient = gradient.copy()?;
        return with_slice_mut(gradient, |values| {
            for value in values {
                *value *= factor as f32;
            }
        });
    }
    *gradient = (&*gradient * factor)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StateBuilder;
    use crate::linear::Linear;
    use candle_core::Device;

    /// A parameter that two operations use, and that is squared by Candle.
    #[test]
    fn all_ways_to_a_parameter_count() {
        let mut random = contract::Random::new(1, "gradients");
        let mut builder = StateBuilder::new(&Device::Cpu, &mut random);
        let layer = Linear::new(&mut builder, "layer", 3, 3).unwrap();
        let state = builder.finish();
        let x = Tensor::new(&[[1_f32, -2.0, 0.5]], &Device::Cpu).unwrap();
        let twice = layer.forward(&layer.forward(&x).unwrap()).unwrap();
        let squares = layer.weight.sqr().unwrap().sum_all().unwrap();
        let loss = (twice.sum_all().unwrap() + squares).unwrap();
        let found = Gradients::of(&state, &loss).unwrap();
        let store = loss.backward().unwrap();
        for ((_, parameter), found) in state.parameters().zip(&found.0) {
            let expected = store.get(parameter.as_tensor()).unwrap();
            let apart = (found.as_ref().unwrap() - expected).unwrap().abs().unwrap();
            let apart: f32 = apart.max_all().unwrap().to_scalar().unwrap();
            assert!(apart < 1e-6, "{apart}");
        }
    }

    #[test]
    fn clipping_keeps_directions_and_small_norms() {
        let tensor = |values: &[f32]| Some(Tensor::new(values, &Device::Cpu).unwrap());
        let mut gradients = Gradients(vec![tensor(&[3.0, 0.0]), None, tensor(&[4.0])]);
        assert!((gradients.norm().unwrap() - 5.0).abs() < 1e-9);
        gradients.clip(10.0).unwrap();
        assert_eq!(
            gradients.0[0].as_ref().unwrap().to_vec1::<f32>().unwrap(),
            [3.0, 0.0]
        );
        gradients.clip(1.0).unwrap();
        assert!((gradients.norm().unwrap() - 1.0).abs() < 1e-5);
        let clipped: Vec<f32> = gradients.0[2].as_ref().unwrap().to_vec1().unwrap();
        assert!((clipped[0] - 0.8).abs() < 1e-5);

        let mut sum = Gradients(vec![None, tensor(&[1.0]), tensor(&[2.0])]);
        sum.add(&Gradients(vec![tensor(&[5.0]), None, tensor(&[0.5])]))
            .unwrap();
        sum.scale(2.0).unwrap();
        let values: Vec<f32> = sum
            .0
            .iter()
            .flatten()
            .map(|g| g.to_vec1::<f32>().unwrap()[0])
            .collect();
        assert_eq!(values, [10.0, 2.0, 5.0]);
    }

    #[test]
    fn clipping_each_looks_at_one_gradient_at_a_time() {
        let tensor = |values: &[f32]| Some(Tensor::new(values, &Device::Cpu).unwrap());
        let mut gradients = Gradients(vec![tensor(&[3.0, 4.0]), None, tensor(&[0.5])]);
        gradients.clip_each(1.0).unwrap();
        let clipped: Vec<f32> = gradients.0[0].as_ref().unwrap().to_vec1().unwrap();
        assert!((clipped[0] - 0.6).abs() < 1e-6 && (clipped[1] - 0.8).abs() < 1e-6);
        assert_eq!(
            gradients.0[2].as_ref().unwrap().to_vec1::<f32>().unwrap(),
            [0.5]
        );
    }
}
