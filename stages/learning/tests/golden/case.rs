//! A reference's case in memory, and the report of how far ours is from it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use candle_core::{Device, Tensor};
use contract::artifact::{ElementType, TensorData};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde_json::Value;

/// A case folder in memory.
pub struct Case {
    pub name: String,
    pub description: Value,
    pub tensors: BTreeMap<String, TensorData>,
}

impl Case {
    pub fn read(folder: &Path) -> Result<Self, String> {
        let read = |file: &str| {
            std::fs::read(folder.join(file)).map_err(|error| format!("{file}: {error}"))
        };
        let description = serde_json::from_slice(&read("case.json")?)
            .map_err(|error| format!("case.json: {error}"))?;
        let bytes = read("case.safetensors")?;
        let file = SafeTensors::deserialize(&bytes)
            .map_err(|error| format!("case.safetensors: {error}"))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.tensors() {
            let element = match view.dtype() {
                Dtype::I64 => ElementType::I64,
                Dtype::F64 => ElementType::F64,
                _ => ElementType::F32,
            };
            tensors.insert(
                name,
                TensorData {
                    element,
                    shape: view.shape().to_vec(),
                    bytes: view.data().to_vec(),
                },
            );
        }
        let name = folder
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Ok(Self {
            name,
            description,
            tensors,
        })
    }

    /// All tensors below a prefix, without it.
    pub fn below(&self, prefix: &str) -> BTreeMap<String, TensorData> {
        let stripped = |(name, tensor): (&String, &TensorData)| {
            Some((name.strip_prefix(prefix)?.to_owned(), tensor.clone()))
        };
        self.tensors.iter().filter_map(stripped).collect()
    }

    pub fn floats(&self, name: &str) -> Vec<f32> {
        let tensor = self
            .tensors
            .get(name)
            .unwrap_or_else(|| panic!("{}: no tensor {name}", self.name));
        tensor
            .to_f32()
            .unwrap_or_else(|| panic!("{}: {name} does not hold 32-bit floats", self.name))
    }

    /// A tensor of 64-bit floats.
    pub fn reals(&self, name: &str) -> Vec<f64> {
        let tensor = self
            .tensors
            .get(name)
            .unwrap_or_else(|| panic!("{}: no tensor {name}", self.name));
        tensor
            .to_f64()
            .unwrap_or_else(|| panic!("{}: {name} does not hold 64-bit floats", self.name))
    }

    /// Whether there is such a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// A tensor of 32-bit floats in the reference's layout.
    pub fn tensor(&self, name: &str, device: &Device) -> Tensor {
        let shape = self
            .tensors
            .get(name)
            .unwrap_or_else(|| panic!("{}: no tensor {name}", self.name))
            .shape
            .clone();
        Tensor::from_vec(self.floats(name), shape, device).unwrap()
    }

    /// Class numbers, which references keep as 64-bit integers.
    pub fn classes(&self, name: &str, device: &Device) -> Tensor {
        let classes = self.tensors[name]
            .to_i64()
            .unwrap_or_else(|| panic!("{}: {name} holds no integers", self.name));
        let classes: Vec<u32> = classes
            .into_iter()
            .map(|class| class.try_into().unwrap())
            .collect();
        Tensor::new(classes, device).unwrap()
    }

    /// One of the case's hyperparameters.
    pub fn hyperparameter(&self, name: &str) -> &Value {
        &self.description["hyperparameters"][name]
    }

    /// One of the case's sizes.
    pub fn size(&self, name: &str) -> usize {
        let size = self.hyperparameter(name).as_u64();
        size.unwrap_or_else(|| panic!("{}: no hyperparameter {name}", self.name)) as usize
    }

    /// A number of case.json.
    pub fn number(&self, path: &[&str]) -> Option<f64> {
        path.iter()
            .try_fold(&self.description, |value, key| value.get(key))?
            .as_f64()
    }
}

/// Collects what differs, so that one run shows everything.
pub struct Report {
    pub case: String,
    pub text: String,
    pub compared: usize,
    pub failed: usize,
}

impl Report {
    pub fn of(case: &Case) -> Self {
        Self {
            case: case.name.clone(),
            text: String::new(),
            compared: 0,
            failed: 0,
        }
    }

    /// Compares a tensor with one of the case.
    pub fn compare_tensor(&mut self, case: &Case, name: &str, found: &Tensor, tolerance: f64) {
        let expected = &case.tensors[name].shape;
        assert_eq!(
            found.elem_count(),
            expected.iter().product::<usize>(),
            "{}: {name}: {:?}",
            self.case,
            found.dims()
        );
        let found: Vec<f32> = found.flatten_all().unwrap().to_vec1().unwrap();
        self.compare(name, &found, &case.floats(name), tolerance);
    }

    /// Compares values, relative to the largest of the reference.
    pub fn compare(&mut self, name: &str, found: &[f32], expected: &[f32], tolerance: f64) {
        assert_eq!(
            found.len(),
            expected.len(),
            "{}: {name} has another size",
            self.case
        );
        let largest = expected.iter().fold(0.0_f64, |largest, value| {
            largest.max(f64::from(value.abs()))
        });
        let apart = distance(found, expected, |_| true);
        self.judge(name, apart / largest.max(f64::MIN_POSITIVE), tolerance);
    }

    /// Compares 64-bit values with a tensor of the case, relative to its largest.
    pub fn compare_reals(&mut self, case: &Case, name: &str, found: &[f64], tolerance: f64) {
        let expected = case.reals(name);
        assert_eq!(
            found.len(),
            expected.len(),
            "{}: {name} has another size",
            self.case
        );
        let largest = expected
            .iter()
            .fold(0.0_f64, |largest, value| largest.max(value.abs()));
        let apart = found
            .iter()
            .zip(&expected)
            .map(|(found, expected)| (found - expected).abs());
        let apart = apart.fold(0.0, |most: f64, apart| {
            if apart.is_nan() || most.is_nan() {
                f64::NAN
            } else {
                most.max(apart)
            }
        });
        self.judge(name, apart / largest.max(f64::MIN_POSITIVE), tolerance);
    }

    /// Takes a difference down and whether it is too large.
    pub fn judge(&mut self, name: &str, difference: f64, tolerance: f64) {
        self.compared += 1;
        if difference.is_nan() || difference > tolerance {
            self.failed += 1;
            let _ = writeln!(
                self.text,
                "  {name}: {difference:.3e} where {tolerance:.1e} is allowed"
            );
        }
    }
}

/// The largest distance of two slices over the indices that are asked for; NaN wins.
pub fn distance(found: &[f32], expected: &[f32], wanted: impl Fn(usize) -> bool) -> f64 {
    let pairs = found
        .iter()
        .zip(expected)
        .enumerate()
        .filter(|(index, _)| wanted(*index));
    pairs.fold(0.0, |largest: f64, (_, (found, expected))| {
        let apart = (f64::from(*found) - f64::from(*expected)).abs();
        if apart.is_nan() || largest.is_nan() {
            f64::NAN
        } else {
            largest.max(apart)
        }
    })
}
