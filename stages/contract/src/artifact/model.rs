//! Trained weights as safetensors: tensors under PyTorch-style names, everything else in the header's metadata,
//! so that `safetensors.torch.load_file` reads them as they are.

use std::collections::{BTreeMap, HashMap};

use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use serde_json::Value;

use super::{ArtifactError, Digest, DigestWriter};

/// Where the header of a safetensors file keeps what is not a tensor.
const METADATA: &str = "__metadata__";

/// What a tensor's elements are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementType {
    F32,
    F64,
    I64,
}

impl ElementType {
    fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F64 => Dtype::F64,
            Self::I64 => Dtype::I64,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F64 => "float64",
            Self::I64 => "int64",
        }
    }

    fn of(dtype: Dtype) -> Option<Self> {
        [Self::F32, Self::F64, Self::I64]
            .into_iter()
            .find(|element| element.dtype() == dtype)
    }
}

/// A tensor on the host: shape, element type, and little-endian bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorData {
    pub element: ElementType,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl TensorData {
    pub fn from_f32(shape: &[usize], values: &[f32]) -> Self {
        let bytes = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        Self {
            element: ElementType::F32,
            shape: shape.to_vec(),
            bytes,
        }
    }

    pub fn from_f64(shape: &[usize], values: &[f64]) -> Self {
        let bytes = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        Self {
            element: ElementType::F64,
            shape: shape.to_vec(),
            bytes,
        }
    }

    pub fn from_i64(shape: &[usize], values: &[i64]) -> Self {
        let bytes = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        Self {
            element: ElementType::I64,
            shape: shape.to_vec(),
            bytes,
        }
    }

    /// The elements, if they are 32-bit floats.
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        let float = |chunk: &[u8]| f32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
        (self.element == ElementType::F32).then(|| self.bytes.chunks_exact(4).map(float).collect())
    }

    /// The elements, if they are 64-bit floats.
    pub fn to_f64(&self) -> Option<Vec<f64>> {
        let float = |chunk: &[u8]| f64::from_le_bytes(chunk.try_into().expect("chunks of eight"));
        (self.element == ElementType::F64).then(|| self.bytes.chunks_exact(8).map(float).collect())
    }

    /// The elements, if they are 64-bit integers.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        let integer = |chunk: &[u8]| i64::from_le_bytes(chunk.try_into().expect("chunks of eight"));
        (self.element == ElementType::I64)
            .then(|| self.bytes.chunks_exact(8).map(integer).collect())
    }
}

/// Weights with the configuration that gives them meaning.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// The model's configuration as the pipeline gave it, defaults filled in: `{"kind": "tvnet-recon", …}`.
    pub config: Value,
    /// What training learned about itself: chosen epoch, losses, number of channels, and the like.
    pub training: Value,
    /// Parameters and buffers under PyTorch's state-dict names.
    pub tensors: BTreeMap<String, TensorData>,
}

impl Model {
    pub fn digest(&self) -> Digest {
        let mut writer = DigestWriter::new("model");
        writer.text(&self.config.to_string());
        writer.text(&self.training.to_string());
        writer.number(self.tensors.len() as u64);
        for (name, tensor) in &self.tensors {
            writer.text(name);
            writer.text(tensor.element.name());
            writer.number(tensor.shape.len() as u64);
            tensor
                .shape
                .iter()
                .for_each(|size| writer.number(*size as u64));
            writer.bytes(&tensor.bytes);
        }
        writer.finish()
    }

    /// The bytes of the safetensors file; also how training keeps its checkpoints.
    ///
    /// # Errors
    /// If a tensor has not as many bytes as its shape says, or a name that the format keeps for itself.
    pub fn encode(&self) -> Result<Vec<u8>, ArtifactError> {
        if self.tensors.contains_key(METADATA) {
            return Err(ArtifactError::corrupt(
                "model",
                format!("a tensor cannot be called `{METADATA}`"),
            ));
        }
        let header = HashMap::from([
            ("runner.format".to_owned(), "model/1".to_owned()),
            ("runner.config".to_owned(), self.config.to_string()),
            ("runner.training".to_owned(), self.training.to_string()),
        ]);
        let views = self
            .tensors
            .iter()
            .map(|(name, tensor)| {
                Ok((
                    name,
                    TensorView::new(tensor.element.dtype(), tensor.shape.clone(), &tensor.bytes)?,
                ))
            })
            .collect::<Result<Vec<_>, ArtifactError>>()?;
        Ok(sorted_header(serialize(views, Some(header))?))
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, ArtifactError> {
        let (_, header) = SafeTensors::read_metadata(bytes)?;
        let header = header.metadata().clone().unwrap_or_default();
        if header.get("runner.format").map(String::as_str) != Some("model/1") {
            return Err(ArtifactError::corrupt(
                "model",
                "the header does not name the format model/1",
            ));
        }
        let json = |name: &str| {
            let text = header.get(name).map_or("null", String::as_str);
            serde_json::from_str(text)
                .map_err(|error| ArtifactError::corrupt("model", format!("{name}: {error}")))
        };
        Ok(Self {
            config: json("runner.config")?,
            training: json("runner.training")?,
            tensors: tensors_of(bytes)?,
        })
    }
}

/// The tensors of any safetensors file, whoever wrote it.
///
/// # Errors
/// If the file is damaged or holds elements of a type that is not ours.
pub fn tensors_of(bytes: &[u8]) -> Result<BTreeMap<String, TensorData>, ArtifactError> {
    let tensor = |(name, view): (String, TensorView<'_>)| {
        let element = ElementType::of(view.dtype()).ok_or_else(|| {
            ArtifactError::corrupt("model", format!("{name} has type {:?}", view.dtype()))
        })?;
        Ok((
            name,
            TensorData {
                element,
                shape: view.shape().to_vec(),
                bytes: view.data().to_vec(),
            },
        ))
    };
    SafeTensors::deserialize(bytes)?
        .tensors()
        .into_iter()
        .map(tensor)
        .collect()
}

/// The library writes the header's metadata in the order of a hash map; the same model must give the same bytes.
fn sorted_header(bytes: Vec<u8>) -> Vec<u8> {
    let length = u64::from_le_bytes(
        bytes[..8]
            .try_into()
            .expect("a safetensors file starts with its header's length"),
    );
    let (header, data) = bytes[8..].split_at(length as usize);
    let mut header: serde_json::Map<String, Value> =
        serde_json::from_slice(header).expect("the library wrote this header");
    if let Some(Value::Object(metadata)) = header.get_mut(METADATA) {
        metadata.sort_keys();
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    // The data must start at a multiple of eight bytes.
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut sorted = (text.len() as u64).to_le_bytes().to_vec();
    sorted.extend(text);
    sorted.extend_from_slice(data);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_its_file_with_the_same_bytes() {
        let model = Model {
            config: serde_json::json!({"kind": "tvnet-recon", "blocks": 3}),
            training: serde_json::json!({"best_epoch": 2}),
            tensors: BTreeMap::from([
                ("b.count".to_owned(), TensorData::from_i64(&[], &[7])),
                (
                    "a.weight".to_owned(),
                    TensorData::from_f32(&[2, 2], &[1.0, -2.0, 3.5, 0.0]),
                ),
            ]),
        };
        let bytes = model.encode().unwrap();
        let again = Model::decode(&bytes).unwrap();
        assert_eq!(model, again);
        assert_eq!(bytes, again.encode().unwrap());
        assert_eq!(
            again.tensors["a.weight"].to_f32().unwrap(),
            [1.0, -2.0, 3.5, 0.0]
        );
    }
}
