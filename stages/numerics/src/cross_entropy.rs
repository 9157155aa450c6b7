//! The cross entropy of logits and classes, with weights per class and smoothed labels, as PyTorch defines it.
//! Where weights and smoothing come from is the recipe's business.

use std::sync::OnceLock;

use candle_core::{D, Result, Shape, Tensor, bail};

use super::operation::{Input, Operation, apply};

/// How mistakes are counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CrossEntropy {
    /// What a sample of each class counts; all the same if left out.
    pub class_weights: Option<Vec<f32>>,
    /// The share of every label that is spread over all classes alike, in [0, 1).
    pub label_smoothing: f64,
}

impl CrossEntropy {
    /// The mean loss of a batch, a scalar: with `p = softmax(logits)`, weights `w` and smoothing `ε`,
    /// `Σ_i [(1 - ε) w[y_i] (-ln p_i[y_i]) + ε/K Σ_c w[c] (-ln p_i[c])] / Σ_i w[y_i]`.
    ///
    /// `logits` is `[batch, classes]`, `classes` is `[batch]` of unsigned 32-bit integers.
    ///
    /// # Errors
    /// If the shapes do not fit, or a class is not one of the logits'.
    pub fn loss(&self, logits: &Tensor, classes: &Tensor) -> Result<Tensor> {
        let (batch, count) = logits.dims2()?;
        let labels: Vec<u32> = classes.to_vec1()?;
        if labels.len() != batch || batch == 0 {
            bail!("{} classes were given for {batch} samples", labels.len())
        }
        if let Some(class) = labels.iter().find(|class| **class as usize >= count) {
            bail!("class {class} is not one of the {count} that the model tells apart")
        }
        let weights = self
            .class_weights
            .clone()
            .unwrap_or_else(|| vec![1.0; count]);
        if weights.len() != count {
            bail!(
                "{} class weights were given for {count} classes",
                weights.len()
            )
        }
        let op = CrossEntropyOp {
            labels,
            weights,
            smoothing: self.label_smoothing,
            gradient: OnceLock::new(),
        };
        apply(op, [logits])
    }
}

/// The mean loss of logits, `[batch, classes]`.
pub(crate) struct CrossEntropyOp {
    labels: Vec<u32>,
    weights: Vec<f32>,
    smoothing: f64,
    /// Of the logits, as the forward pass found it.
    gradient: OnceLock<Vec<f32>>,
}

impl CrossEntropyOp {
    fn total(&self) -> f64 {
        self.labels
            .iter()
            .map(|label| f64::from(self.weights[*label as usize]))
            .sum()
    }

    /// What each class's `-ln p` counts in a sample's loss, which is the target distribution times the weights.
    fn shares(&self, label: u32) -> Vec<f64> {
        let spread = self.smoothing / self.weights.len() as f64;
        let mut shares = Vec::with_capacity(self.weights.len());
        for (class, weight) in self.weights.iter().enumerate() {
            let is_label = class == label as usize;
            let hit = if is_label { 1.0 - self.smoothing } else { 0.0 };
            shares.push(f64::from(*weight) * (hit + spread));
        }
        shares
    }
}

impl Operation<1> for CrossEntropyOp {
    const LABEL: &'static str = "cross-entropy";

    fn compose(&self, [logits]: [&Tensor; 1]) -> Result<Tensor> {
        let total = self.total();
        let mut shares = Vec::with_capacity(logits.elem_count());
        for label in &self.labels {
            shares.extend(
                self.shares(*label)
                    .iter()
                    .map(|share| (share / total) as f32),
            );
        }
        let shares =
            crate::upload(shares, logits.shape(), logits.device())?.to_dtype(logits.dtype())?;
        let log = candle_nn::ops::log_softmax(logits, D::Minus1)?;
        (log * shares)?.sum_all()?.neg()
    }

    fn forward(&self, [logits]: [Input<'_>; 1]) -> Result<(Vec<f32>, Shape)> {
        let (count, total) = (self.weights.len(), self.total());
        let mut gradient = Vec::with_capacity(logits.values.len());
        let mut loss = 0.0;
        for (logits, label) in logits.values.chunks_exact(count).zip(&self.labels) {
            // Without the largest logit, no exponential overflows and their sum is at least 1.
            let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let exponentials: Vec<f64> = logits
                .iter()
                .map(|logit| f64::from(logit - most).exp())
                .collect();
            let sum: f64 = exponentials.iter().sum();
            let shares = self.shares(*label);
            let all: f64 = shares.iter().sum();
            for ((logit, exponential), share) in logits.iter().zip(&exponentials).zip(&shares) {
                // A class without a share may have a logit of minus infinity.
                if *share != 0.0 {
                    loss += share * (sum.ln() - f64::from(logit - most));
                }
                gradient.push(((all * exponential / sum - share) / total) as f32);
            }
        }
        if self.gradient.set(gradient).is_err() {
            bail!("a cross entropy was applied twice")
        }
        Ok((vec![(loss / total) as f32], ().into()))
    }

    fn backward(
        &self,
        _: [Input<'_>; 1],
        _: &[f32],
        upstream: &[f32],
    ) -> Result<[Option<Vec<f32>>; 1]> {
        let Some(gradient) = self.gradient.get() else {
            bail!("a cross entropy was differentiated before it was applied")
        };
        let values = gradient.iter().map(|gradient| gradient * upstream[0]);
        Ok([Some(values.collect())])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{Draw, Example, Examples};
    use candle_core::{Device, Var};

    impl Examples<1> for CrossEntropyOp {
        fn examples(draw: &mut Draw) -> Vec<Example<Self, 1>> {
            let mut example = |labels: &[u32], weights: &[f32], smoothing: f64| Example {
                operation: Self {
                    labels: labels.to_vec(),
                    weights: weights.to_vec(),
                    smoothing,
                    gradient: OnceLock::new(),
                },
                inputs: [draw.variable(&[labels.len(), weights.len()])],
            };
            vec![
                example(&[0], &[1.0], 0.0),
                example(&[2, 0, 1, 2], &[1.0; 3], 0.0),
                example(&[2, 0, 1, 2, 2], &[0.5, 2.0, 1.0], 0.2),
            ]
        }
    }

    /// Weighted or not, smoothing, loss.
    const LOSSES: [(bool, f64, f32); 4] = [
        (false, 0.0, 0.956_180_2),
        (true, 0.0, 1.054_968_2),
        (false, 0.1, 1.029_096_8),
        (true, 0.2, 1.171_923),
    ];
    const LOGITS: [[f32; 3]; 4] = [
        [0.5, -1.0, 2.0],
        [1.5, 0.25, -0.5],
        [0.0, 0.0, 0.0],
        [-2.0, 3.0, 1.0],
    ];

    fn case(class_weights: Option<Vec<f32>>, label_smoothing: f64) -> (f32, Vec<f32>) {
        let logits = Var::new(&LOGITS, &Device::Cpu).unwrap();
        let classes = Tensor::new(&[2_u32, 0, 1, 2], &Device::Cpu).unwrap();
        let loss = CrossEntropy {
            class_weights,
            label_smoothing,
        }
        .loss(&logits, &classes)
        .unwrap();
        let store = (&loss * 2.0).unwrap().backward().unwrap();
        let gradient = store
            .get(logits.as_tensor())
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap();
        (loss.to_scalar().unwrap(), gradient)
    }

    /// `torch.nn.functional.cross_entropy(logits, [2, 0, 1, 2], weight, label_smoothing=…)` of PyTorch 2.5.1.
    #[test]
    fn losses_are_those_of_pytorch() {
        let weights = Some(vec![0.5, 2.0, 1.0]);
        for (weights, smoothing, expected) in LOSSES.map(|(weighted, smoothing, loss)| {
            (
                if weighted { weights.clone() } else { None },
                smoothing,
                loss,
            )
        }) {
            let (loss, _) = case(weights, smoothing);
            assert!(
                (loss - expected).abs() < 1e-6,
                "{smoothing}: {loss} {expected}"
            );
        }
    }

    #[test]
    fn misfits_are_refused() {
        let logits = Tensor::new(&LOGITS, &Device::Cpu).unwrap();
        let loss = |classes: &[u32], weights| {
            let classes = Tensor::new(classes, &Device::Cpu).unwrap();
            CrossEntropy {
                class_weights: weights,
                label_smoothing: 0.0,
            }
            .loss(&logits, &classes)
            .unwrap_err()
            .to_string()
        };
        assert!(loss(&[0, 1, 2, 3], None).contains("class 3"));
        assert!(loss(&[0, 1], None).contains("4 samples"));
        assert!(loss(&[0, 1, 2, 2], Some(vec![1.0; 2])).contains("3 classes"));
    }
}
