//! What an imputation hides: single values, drawn independently of each other.
//! What a model does about them is its own business.

use candle_core::Tensor;

use crate::models::Batch;
use contract::{Random, Trouble};

contract::parameters! {
    /// How much of a window is hidden from a model that imputes.
    #[derive(Copy, PartialEq)]
    pub struct Masking {
        /// The chance of every single value to be hidden.
        #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
        pub ratio: f64 = 0.25,
    }
}

impl Masking {
    /// Hides values of complete windows. The draws go through the windows one after another, whatever the batch.
    ///
    /// # Errors
    /// If a tensor cannot be made.
    pub fn hide(self, batch: Batch, random: &mut Random) -> Result<Batch, Trouble> {
        let mut seen = vec![1.0_f32; batch.inputs.elem_count()];
        for value in &mut seen {
            if random.uniform() < self.ratio {
                *value = 0.0;
            }
        }
        let mask = Tensor::from_vec(seen, batch.inputs.shape(), batch.inputs.device())?;
        Ok(Batch {
            inputs: (&batch.inputs * &mask)?,
            mask: Some(mask),
            ..batch
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::impute::Impute;
    use crate::train::Train;
    use candle_core::Device;
    use contract::Fault;
    use contract::testing::fault_of;
    use serde_json::json;

    fn batch(windows: usize) -> Batch {
        let inputs = Tensor::ones((windows, 50, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        Batch {
            targets: Some(inputs.clone()),
            ..Batch::of(inputs)
        }
    }

    fn flat(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn all_and_nothing_are_refused() {
        for ratio in [0.0, 1.0] {
            let reason = format!("must be above 0 and below 1, not {ratio:?}");
            let recipe = json!({
                "model": {"kind": "tvnet"}, "task": "impute", "mask": {"ratio": ratio},
            });
            let fault = fault_of::<Train>(recipe).unwrap();
            assert_eq!(fault, Fault::new("mask.ratio", reason.clone()));
            let fault = fault_of::<Impute>(json!({"ratio": ratio})).unwrap();
            assert_eq!(fault, Fault::new("ratio", reason));
        }
    }

    #[test]
    fn hides_its_share_whatever_the_batch() {
        let masking = Masking { ratio: 0.375 };
        let together = masking
            .hide(batch(40), &mut Random::new(3, "mask"))
            .unwrap();
        let mask = flat(together.mask.as_ref().unwrap());
        let hidden = mask.iter().filter(|seen| **seen == 0.0).count() as f64 / mask.len() as f64;
        assert!((hidden - 0.375).abs() < 0.02, "{hidden}");
        assert_eq!(flat(&together.inputs), mask);
        assert!(
            flat(together.targets.as_ref().unwrap())
                .iter()
                .all(|value| *value == 1.0)
        );
        let mut random = Random::new(3, "mask");
        let parts = [7, 33].map(|windows| {
            flat(
                masking
                    .hide(batch(windows), &mut random)
                    .unwrap()
                    .mask
                    .as_ref()
                    .unwrap(),
            )
        });
        assert_eq!(parts.concat(), mask);
    }
}
