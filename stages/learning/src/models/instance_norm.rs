//! Windows normalised one by one: mean and deviation of every channel, put back after the model (Kim et al., "Reversible
//! Instance Normalization", ICLR 2022, without learned scales).

use candle_core::Tensor;

use super::Result;

const EPSILON: f64 = 1e-5;

/// Mean and deviation of the channels of every window, `[batch, 1, channels]`, over what is observed of them.
pub(super) struct Instance {
    pub mean: Tensor,
    pub deviation: Tensor,
    mask: Option<Tensor>,
}

impl Instance {
    /// `x`, `[batch, length, channels]`, is 0 where `mask`, of the same shape, is 0.
    pub fn of(x: &Tensor, mask: Option<&Tensor>) -> Result<Self> {
        let Some(mask) = mask else {
            let mean = x.mean_keepdim(1)?;
            let deviation = (x.broadcast_sub(&mean)?.sqr()?.mean_keepdim(1)? + EPSILON)?.sqrt()?;
            return Ok(Self {
                mean,
                deviation,
                mask: None,
            });
        };
        // A channel of which nothing is observed has the mean 0.
        let count = mask.sum_keepdim(1)?.maximum(1.0)?;
        let mean = (x * mask)?.sum_keepdim(1)?.div(&count)?;
        let squares = (x.broadcast_sub(&mean)? * mask)?.sqr()?.sum_keepdim(1)?;
        let deviation = (squares.div(&count)? + EPSILON)?.sqrt()?;
        Ok(Self {
            mean,
            deviation,
            mask: Some(mask.clone()),
        })
    }

    /// What is hidden stays 0, which is now the mean.
    pub fn normalise(&self, x: &Tensor) -> Result<Tensor> {
        let normalised = x
            .broadcast_sub(&self.mean)?
            .broadcast_div(&self.deviation)?;
        match &self.mask {
            Some(mask) => normalised * mask,
            None => Ok(normalised),
        }
    }

    pub fn restore(&self, y: &Tensor) -> Result<Tensor> {
        y.broadcast_mul(&self.deviation)?.broadcast_add(&self.mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn hidden_points_have_no_say() {
        let x = Tensor::new(&[[[1_f32], [3.0], [0.0], [5.0]]], &Device::Cpu).unwrap();
        let mask = Tensor::new(&[[[1_f32], [1.0], [0.0], [1.0]]], &Device::Cpu).unwrap();
        let instance = Instance::of(&x, Some(&mask)).unwrap();
        let normalised = instance.normalise(&x).unwrap();
        let values: Vec<f32> = normalised.flatten_all().unwrap().to_vec1().unwrap();
        let expected = [-1.224_74, 0.0, 0.0, 1.224_74];
        assert!(
            values
                .iter()
                .zip(expected)
                .all(|(found, expected)| (found - expected).abs() < 1e-4),
            "{values:?}"
        );
        let restored: Vec<f32> = instance
            .restore(&normalised)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap();
        assert!(
            restored
                .iter()
                .zip([1.0, 3.0, 3.0, 5.0])
                .all(|(found, expected)| (found - expected).abs() < 1e-5)
        );
        let nothing =
            Instance::of(&x.zeros_like().unwrap(), Some(&mask.zeros_like().unwrap())).unwrap();
        let values: Vec<f32> = nothing
            .normalise(&x.zeros_like().unwrap())
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap();
        assert!(values.iter().all(|value| *value == 0.0));
    }
}
