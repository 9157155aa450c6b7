//! Sinusoidal positions (Vaswani et al., NeurIPS 2017): what tells a transformer where in its window a row is.

use std::sync::{Arc, OnceLock};

use candle_core::{Device, Result, Tensor};

/// A table of `length` rows of `width` values: sines in even and cosines in odd columns, of wavelengths from 2π to
/// 10,000 · 2π.
#[derive(Clone, Debug)]
pub struct Positions {
    pub length: usize,
    pub width: usize,
    values: Arc<[f32]>,
    /// Where it was sent to.
    on_gpu: Arc<OnceLock<Tensor>>,
}

impl Positions {
    /// Computed in 32 bits, as PyTorch programs do: for long windows the angles' rounding can be seen.
    pub fn new(length: usize, width: usize) -> Self {
        let step = -(10_000.0_f64.ln() as f32) / width as f32;
        let mut values = Vec::with_capacity(length * width);
        for row in 0..length {
            for column in 0..width {
                let angle = row as f32 * libm::expf((column - column % 2) as f32 * step);
                values.push(match column % 2 {
                    0 => libm::sinf(angle),
                    _ => libm::cosf(angle),
                });
            }
        }
        Self {
            length,
            width,
            values: values.into(),
            on_gpu: Arc::default(),
        }
    }

    /// The rows one after another.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// `[length, width]`. It is sent to a GPU once.
    ///
    /// # Errors
    /// If the device cannot hold it.
    pub fn tensor(&self, device: &Device) -> Result<Tensor> {
        let sent = self.on_gpu.get();
        if let Some(sent) = sent.filter(|sent| sent.device().same_device(device)) {
            return Ok(sent.clone());
        }
        let tensor = Tensor::from_slice(&self.values, (self.length, self.width), device)?;
        if device.is_cuda() {
            return Ok(self.on_gpu.get_or_init(|| tensor).clone());
        }
        Ok(tensor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_the_definition() {
        for (length, width) in [(100, 8), (3, 5), (1, 1)] {
            let table = Positions::new(length, width)
                .tensor(&Device::Cpu)
                .unwrap()
                .to_vec2::<f32>()
                .unwrap();
            for (row, values) in table.iter().enumerate() {
                for (column, value) in values.iter().enumerate() {
                    let angle =
                        row as f64 / 10_000.0_f64.powf((column / 2 * 2) as f64 / width as f64);
                    let expected = if column % 2 == 0 {
                        angle.sin()
                    } else {
                        angle.cos()
                    };
                    assert!(
                        (f64::from(*value) - expected).abs() < 2e-5,
                        "{row} {column}: {value} {expected}"
                    );
                }
            }
        }
    }
}
