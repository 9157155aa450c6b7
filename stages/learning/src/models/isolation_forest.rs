//! Isolation forest over windows (Liu, Ting and Zhou, "Isolation Forest", ICDM 2008). A window is one vector of all its
//! rows; TSB-AD (Liu and Paparrizos, NeurIPS 2024) runs it on single rows of multivariate series.

use candle_core::{Tensor, Var, bail};

use super::closed_form::{Verdict, count, host_values, judge_windows, set, set_count};
use super::{Architecture, Batch, Built, DataShape, Network, Result, Task, closed_form, named};
use contract::artifact::Windows;
use contract::{Named, StageContext, Trouble};
use numerics::initialise::Initial;
use numerics::statistics::gram::RowSource;
use numerics::statistics::isolation::{Forest, Growth};
use numerics::{Mode, State, StateBuilder};

contract::parameters! {
    /// Trees of random splits.
    pub struct IsolationForest {
        #[schemars(range(min = 1, max = 100_000))]
        pub trees: usize = 100,
        /// Windows that each tree is grown from.
        #[schemars(range(min = 2, max = 65536))]
        pub samples: usize = 256,
        /// Share of a window's values that each tree may split by.
        #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
        pub features: f64 = 1.0,
    }
}

impl Named for IsolationForest {
    const NAME: &'static str = "isolation-forest";
    const DOC: &'static str = "Random splits; what few of them set apart is unusual";
    const EXAMPLE: &'static str = r#"{"trees": 10, "samples": 32}"#;
}

impl Architecture for IsolationForest {
    fn tasks(&self) -> &'static [Task] {
        &[Task::Detect]
    }

    fn closed_form(&self) -> bool {
        true
    }

    fn citation(&self) -> &'static str {
        "Liu, Ting, Zhou: Isolation Forest. ICDM 2008. doi:10.1109/ICDM.2008.17"
    }

    fn build(&self, shape: DataShape, builder: &mut StateBuilder<'_>) -> Built {
        let width = shape.length * shape.channels;
        let features = ((self.features * width as f64).round() as usize).clamp(1, width);
        let growth = Growth {
            trees: self.trees,
            samples: self.samples,
            features,
        };
        let size = [growth.trees, growth.nodes()];
        Ok(Box::new(Trees {
            features: builder.integers("features", &size)?,
            thresholds: builder.buffer("thresholds", &size, Initial::Zeros)?,
            children: builder.integers("children", &size)?,
            lengths: builder.buffer("lengths", &size, Initial::Zeros)?,
            samples: builder.counter("samples")?,
            state: builder.finish(),
            shape,
            growth,
        }))
    }
}

/// The forest as tensors, `[trees, nodes]` each.
struct Trees {
    state: State,
    shape: DataShape,
    growth: Growth,
    features: Var,
    thresholds: Var,
    children: Var,
    lengths: Var,
    /// Windows that each tree was in fact grown from.
    samples: Var,
}

impl Trees {
    fn forest(&self) -> Result<Forest> {
        let forest = Forest {
            nodes: self.growth.nodes(),
            features: self.features.flatten_all()?.to_vec1()?,
            thresholds: host_values(&self.thresholds)?,
            children: self.children.flatten_all()?.to_vec1()?,
            lengths: host_values(&self.lengths)?,
        };
        if count(&self.samples)? == 0 || !forest.is_sound(self.shape.length * self.shape.channels) {
            bail!("the trees have not been fitted to windows of this shape")
        }
        Ok(forest)
    }
}

impl Network for Trees {
    fn state(&self) -> &State {
        &self.state
    }

    fn fit(&self, windows: &Windows, context: &StageContext<'_>) -> Result<(), Trouble> {
        let source = closed_form::training_windows(windows)?;
        let forest = Forest::grow(&source, self.growth, &mut context.random("forest"));
        set_count(&self.samples, self.growth.samples.min(source.rows()))?;
        set(&self.features, forest.features)?;
        set(&self.thresholds, forest.thresholds)?;
        set(&self.children, forest.children)?;
        Ok(set(&self.lengths, forest.lengths)?)
    }

    fn predict(&self, _: &Batch) -> Result<Tensor> {
        bail!("an isolation forest knows how unusual a window is, not what it should be")
    }

    fn errors(&self, batch: &Batch) -> Result<Tensor> {
        let (forest, samples) = (self.forest()?, count(&self.samples)?);
        // Splits do not add up to parts of channels: all are to blame alike.
        judge_windows(self.shape, &batch.inputs, |window| Verdict {
            score: forest.score(window, samples),
            blame: vec![1.0; self.shape.channels],
        })
    }

    fn trace(&self, batch: &Batch, _: Mode) -> Result<Vec<(String, Tensor)>> {
        Ok(named([("errors", self.errors(batch)?)]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{fault_of, on_cpu};
    use candle_core::Device;
    use contract::NullHost;
    use contract::Random;
    use contract::testing::training_windows;

    #[test]
    fn unusual_windows_score_high_and_an_unfitted_forest_says_so() {
        let mut random = Random::new(6, "normal");
        let values: Vec<f32> = (0..2000).map(|_| random.normal() as f32).collect();
        let shape = DataShape::detect(2, 2);
        let forest = IsolationForest::default();
        let network = on_cpu(1, |builder| forest.build(shape, builder)).unwrap();
        let windows = vec![0.0_f32, 0.1, -0.2, 0.1, 5.0, -5.0, 5.0, 5.0];
        let batch = Batch::of(Tensor::from_vec(windows, (2, 2, 2), &Device::Cpu).unwrap());
        assert!(
            network
                .errors(&batch)
                .unwrap_err()
                .to_string()
                .contains("not been fitted")
        );
        network
            .fit(
                &training_windows(values, 2, 2),
                &NullHost::default().context(1),
            )
            .unwrap();
        let scores: Vec<f32> = network
            .errors(&batch)
            .unwrap()
            .mean((1, 2))
            .unwrap()
            .to_vec1()
            .unwrap();
        assert!(scores[0] < 0.45 && scores[1] > 0.65, "{scores:?}");
        for (config, name) in [
            (
                IsolationForest {
                    trees: 0,
                    ..IsolationForest::default()
                },
                "trees",
            ),
            (
                IsolationForest {
                    samples: 1,
                    ..IsolationForest::default()
                },
                "samples",
            ),
            (
                IsolationForest {
                    features: 0.0,
                    ..IsolationForest::default()
                },
                "features",
            ),
        ] {
            assert_eq!(fault_of(&config).parameter, name);
        }
    }
}
