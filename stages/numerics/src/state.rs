//! A network's parameters and buffers by name, in the order of declaration, and their way into and out of files.
//! What the names mean to a layer is the layer's business.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor, Var, WithDType};
use indexmap::IndexMap;

use super::initialise::Initial;
use contract::artifact::{ElementType, TensorData};
use contract::{Random, Trouble};

/// Named tensors of a network. Parameters are learned by gradients, buffers are kept by layers themselves.
#[derive(Debug)]
pub struct State {
    device: Device,
    parameters: IndexMap<String, Var>,
    buffers: IndexMap<String, Var>,
}

impl State {
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Parameters in the order of declaration, which is also the order of [`super::Gradients`].
    pub fn parameters(&self) -> impl ExactSizeIterator<Item = (&str, &Var)> {
        self.parameters
            .iter()
            .map(|(name, parameter)| (name.as_str(), parameter))
    }

    pub fn buffers(&self) -> impl ExactSizeIterator<Item = (&str, &Var)> {
        self.buffers
            .iter()
            .map(|(name, buffer)| (name.as_str(), buffer))
    }

    /// The number of learned values.
    pub fn size(&self) -> usize {
        self.parameters
            .values()
            .map(|parameter| parameter.elem_count())
            .sum()
    }

    /// All tensors as they go into a file, under PyTorch's state-dict names.
    pub fn to_data(&self) -> Result<BTreeMap<String, TensorData>> {
        let mut data = BTreeMap::new();
        for (name, tensor) in self.parameters.iter().chain(&self.buffers) {
            data.insert(name.clone(), to_data(tensor)?);
        }
        Ok(data)
    }

    /// Replaces all values by those of a file.
    ///
    /// # Errors
    /// If a tensor is missing, unknown, or of another shape or type; nothing is changed then.
    pub fn set_data(
        &self,
        data: &BTreeMap<String, TensorData>,
    ) -> std::result::Result<(), Trouble> {
        for name in data.keys() {
            if !self.parameters.contains_key(name) && !self.buffers.contains_key(name) {
                return Err(Trouble::new(format!(
                    "the weights hold a tensor `{name}` that the model does not have"
                )));
            }
        }
        // All are read before any is set, so that a model is never half of one file and half of another.
        let mut values = Vec::new();
        for (name, own) in self.parameters.iter().chain(&self.buffers) {
            let Some(found) = data.get(name) else {
                let message = format!("the weights lack the tensor `{name}`");
                return Err(Trouble::new(message));
            };
            if found.shape != own.dims() {
                let (found, expected) = (&found.shape, own.dims());
                return Err(Trouble::new(format!(
                    "the tensor `{name}` has shape {found:?}, the model {expected:?}"
                )));
            }
            values.push((own, from_data(name, found, own.dtype(), &self.device)?));
        }
        for (own, value) in values {
            own.set(&value)?;
        }
        Ok(())
    }
}

/// A tensor's values on the host.
pub fn to_data(tensor: &Tensor) -> Result<TensorData> {
    let flat = tensor.flatten_all()?;
    Ok(match tensor.dtype() {
        DType::I64 => TensorData::from_i64(tensor.dims(), &flat.to_vec1::<i64>()?),
        DType::F64 => TensorData::from_f64(tensor.dims(), &flat.to_vec1::<f64>()?),
        _ => TensorData::from_f32(tensor.dims(), &flat.to_dtype(DType::F32)?.to_vec1::<f32>()?),
    })
}

fn from_data(
    name: &str,
    data: &TensorData,
    wanted: DType,
    device: &Device,
) -> std::result::Result<Tensor, Trouble> {
    let shape = data.shape.as_slice();
    let (expected, tensor) = match wanted {
        DType::I64 => (ElementType::I64, made(data.to_i64(), shape, device)?),
        DType::F64 => (ElementType::F64, made(data.to_f64(), shape, device)?),
        _ => (ElementType::F32, made(data.to_f32(), shape, device)?),
    };
    tensor.ok_or_else(|| {
        let (found, expected) = (data.element.name(), expected.name());
        Trouble::new(format!(
            "the tensor `{name}` holds {found}, the model {expected}"
        ))
    })
}

/// A tensor of values, if there are any.
fn made<T: WithDType>(
    values: Option<Vec<T>>,
    shape: &[usize],
    device: &Device,
) -> Result<Option<Tensor>> {
    values
        .map(|values| Tensor::from_vec(values, shape, device))
        .transpose()
}

/// Declares a network's tensors, one layer after another.
pub struct StateBuilder<'a> {
    state: State,
    random: &'a mut Random,
}

impl<'a> StateBuilder<'a> {
    /// Values are drawn from `random` in the order of declaration.
    pub fn new(device: &Device, random: &'a mut Random) -> Self {
        let state = State {
            device: device.clone(),
            parameters: IndexMap::new(),
            buffers: IndexMap::new(),
        };
        Self { state, random }
    }

    /// Where the tensors live.
    pub fn device(&self) -> &Device {
        &self.state.device
    }

    pub fn parameter(
        &mut self,
        name: impl Into<String>,
        shape: &[usize],
        initial: Initial,
    ) -> Result<Var> {
        let var = self.float(shape, initial)?;
        self.state.parameters.insert(name.into(), var.clone());
        Ok(var)
    }

    pub fn buffer(
        &mut self,
        name: impl Into<String>,
        shape: &[usize],
        initial: Initial,
    ) -> Result<Var> {
        let var = self.float(shape, initial)?;
        self.state.buffers.insert(name.into(), var.clone());
        Ok(var)
    }

    /// A 64-bit counter that starts at zero.
    pub fn counter(&mut self, name: impl Into<String>) -> Result<Var> {
        self.integers(name, &[])
    }

    /// A buffer of 64-bit integers, zero at first.
    pub fn integers(&mut self, name: impl Into<String>, shape: &[usize]) -> Result<Var> {
        self.zeros(name, shape, DType::I64)
    }

    /// A buffer of 64-bit floats, zero at first: for what is estimated in closed form.
    pub fn reals(&mut self, name: impl Into<String>, shape: &[usize]) -> Result<Var> {
        self.zeros(name, shape, DType::F64)
    }

    /// All that was declared. Whatever is declared after that belongs to another state.
    pub fn finish(&mut self) -> State {
        State {
            device: self.state.device.clone(),
            parameters: std::mem::take(&mut self.state.parameters),
            buffers: std::mem::take(&mut self.state.buffers),
        }
    }

    fn zeros(&mut self, name: impl Into<String>, shape: &[usize], kind: DType) -> Result<Var> {
        let var = Var::zeros(shape, kind, &self.state.device)?;
        self.state.buffers.insert(name.into(), var.clone());
        Ok(var)
    }

    fn float(&mut self, shape: &[usize], initial: Initial) -> Result<Var> {
        let values = initial.draw(shape.iter().product(), self.random);
        Var::from_vec(values, shape, &self.state.device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(seed: u64) -> State {
        let mut random = Random::new(seed, "init");
        let mut builder = StateBuilder::new(&Device::Cpu, &mut random);
        builder
            .parameter("layer.weight", &[2, 3], Initial::FanIn(3))
            .unwrap();
        builder.buffer("layer.mean", &[2], Initial::Zeros).unwrap();
        builder.counter("layer.steps").unwrap();
        let exact = builder.reals("layer.exact", &[2]).unwrap();
        exact
            .set(&Tensor::new(&[0.1_f64, seed as f64 / 3.0], &Device::Cpu).unwrap())
            .unwrap();
        builder.integers("layer.places", &[1, 2]).unwrap();
        builder.finish()
    }

    #[test]
    fn travels_through_data_and_names_what_does_not_fit() {
        let (one, other) = (state(1), state(2));
        let data = one.to_data().unwrap();
        assert_ne!(data, other.to_data().unwrap());
        other.set_data(&data).unwrap();
        assert_eq!(data, other.to_data().unwrap());

        let mut missing = data.clone();
        missing.remove("layer.mean");
        assert!(
            other
                .set_data(&missing)
                .unwrap_err()
                .message()
                .contains("layer.mean")
        );
        let mut wrong = data.clone();
        wrong.insert(
            "layer.weight".into(),
            TensorData::from_f32(&[3, 2], &[0.0; 6]),
        );
        assert!(
            other
                .set_data(&wrong)
                .unwrap_err()
                .message()
                .contains("[3, 2]")
        );
        let mut extra = data.clone();
        extra.insert("other".into(), TensorData::from_f32(&[], &[0.0]));
        assert!(
            other
                .set_data(&extra)
                .unwrap_err()
                .message()
                .contains("other")
        );
        let mut kind = data;
        kind.insert("layer.steps".into(), TensorData::from_f32(&[], &[0.0]));
        assert!(
            other
                .set_data(&kind)
                .unwrap_err()
                .message()
                .contains("int64")
        );
        kind.insert("layer.steps".into(), TensorData::from_i64(&[], &[0]));
        kind.insert("layer.exact".into(), TensorData::from_f32(&[2], &[0.0; 2]));
        assert!(
            other
                .set_data(&kind)
                .unwrap_err()
                .message()
                .contains("float64")
        );
    }
}
