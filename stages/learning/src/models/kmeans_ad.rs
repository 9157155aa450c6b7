//! KMeansAD: windows are clustered, and one that is far from every centroid is unusual (Yairi, Kato and Hori, "Fault
//! Detection by Mining Association Rules from House-keeping Data", 2001; as in TSB-AD, Liu and Paparrizos, NeurIPS 2024,
//! whose score of a row is the mean over the windows that cover it: `overlap: mean`).

use candle_core::{Device, Result, Tensor, Var, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::closed_form::{Verdict, by_channel, count, host_values, judge_windows, set, set_count};
use super::{Architecture, Batch, DataShape, Network, Task, closed_form, forecaster};
use contract::artifact::Windows;
use contract::{Named, Random, StageContext, Trouble};
use numerics::initialise::Initial;
use numerics::statistics::clusters::{Clusters, Limits};
use numerics::statistics::gram::RowSource;
use numerics::{Mode, State, StateBuilder};

/// Clusters of windows.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KmeansAd {
    #[schemars(range(min = 1, max = 4096))]
    pub clusters: usize,
    /// The most rounds of assigning windows and moving centroids.
    #[schemars(range(min = 1))]
    pub iterations: usize,
    /// The rounds end when the centroids' squared movement, relative to the variance of the windows, is no larger.
    #[schemars(range(min = 0.0))]
    pub tolerance: f64,
}

impl Default for KmeansAd {
    fn default() -> Self {
        Self {
            clusters: 30,
            iterations: 300,
            tolerance: 1e-4,
        }
    }
}

impl Named for KmeansAd {
    const NAME: &'static str = "kmeans-ad";
    const DOC: &'static str = "Clusters windows; the distance to the nearest centroid is the score";
    const EXAMPLE: &'static str = r#"{"clusters": 4}"#;
}

// Reference: Yairi, Kato and Hori, "Fault Detection by Mining Association Rules from House-keeping Data",
// 2001
impl Architecture for KmeansAd {
    fn tasks(&self) -> &'static [Task] {
        &[Task::Detect]
    }

    fn closed_form(&self) -> bool {
        true
    }

    fn build(
        &self,
        shape: DataShape,
        device: &Device,
        random: &mut Random,
    ) -> std::result::Result<Box<dyn Network>, Trouble> {
        let width = shape.length * shape.channels;
        let mut builder = StateBuilder::new(device, random);
        Ok(Box::new(Centroids {
            centroids: builder.buffer("centroids", &[self.clusters, width], Initial::Zeros)?,
            found: builder.counter("found")?,
            state: builder.finish(),
            shape,
            config: self.clone(),
        }))
    }
}

/// The centroids; only the first `found` count.
struct Centroids {
    state: State,
    shape: DataShape,
    config: KmeansAd,
    centroids: Var,
    found: Var,
}

impl Centroids {
    fn clusters(&self) -> Result<Clusters> {
        let (found, width) = (count(&self.found)?, self.shape.length * self.shape.channels);
        if found == 0 {
            bail!("the clusters have not been fitted")
        }
        let mut centroids = host_values(&self.centroids)?;
        centroids.truncate(found * width);
        Ok(Clusters { width, centroids })
    }
}

impl Network for Centroids {
    fn state(&self) -> &State {
        &self.state
    }

    fn fit(
        &self,
        windows: &Windows,
        context: &StageContext<'_>,
    ) -> std::result::Result<(), Trouble> {
        let source = closed_form::training_windows(windows)?;
        let KmeansAd {
            clusters,
            iterations,
            tolerance,
        } = self.config;
        let limits = Limits {
            iterations,
            tolerance,
        };
        let stop = || context.check_cancelled();
        let found = Clusters::fit(
            &source,
            clusters,
            limits,
            &mut context.random("clusters"),
            stop,
        )?;
        set_count(&self.found, found.centroids.len() / source.width())?;
        let mut centroids = found.centroids;
        centroids.resize(clusters * source.width(), 0.0);
        Ok(set(&self.centroids, centroids)?)
    }

    /// The nearest centroid of every window.
    fn predict(&self, batch: &Batch) -> Result<Tensor> {
        forecaster::expect_windows(self.shape, &batch.inputs)?;
        let (clusters, values) = (self.clusters()?, host_values(&batch.inputs)?);
        let nearest = |window: &[f32]| {
            let first = clusters.nearest(window).0 * clusters.width;
            clusters.centroids[first..first + clusters.width].to_vec()
        };
        let nearest: Vec<f32> = values
            .chunks_exact(clusters.width)
            .flat_map(nearest)
            .collect();
        Tensor::from_vec(nearest, batch.inputs.shape(), batch.inputs.device())
    }

    fn errors(&self, batch: &Batch) -> Result<Tensor> {
        let (clusters, channels) = (self.clusters()?, self.shape.channels);
        judge_windows(self.shape, &batch.inputs, |window| {
            let (index, distance) = clusters.nearest(window);
            let centroid =
                &clusters.centroids[index * clusters.width..(index + 1) * clusters.width];
            let apart = |place: usize| f64::from(window[place] - centroid[place]).powi(2);
            Verdict {
                score: distance.sqrt(),
                blame: by_channel(window.len(), channels, apart),
            }
        })
    }

    fn trace(&self, batch: &Batch, _: Mode) -> Result<Vec<(String, Tensor)>> {
        Ok(vec![
            ("nearest".to_owned(), self.predict(batch)?),
            ("errors".to_owned(), self.errors(batch)?),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::NullHost;
    use contract::testing::training_windows;

    #[test]
    fn distances_are_those_to_the_nearest_centroid() {
        // Two kinds of rows, in turn; windows of two rows are of two kinds, too.
        let values: Vec<f32> = (0..40)
            .flat_map(|row| if row % 2 == 0 { [0.0, 0.0] } else { [8.0, 4.0] })
            .collect();
        let shape = DataShape::detect(2, 2);
        let network = KmeansAd {
            clusters: 5,
            ..KmeansAd::default()
        }
        .build(shape, &Device::Cpu, &mut Random::new(1, "init"))
        .unwrap();
        network
            .fit(
                &training_windows(values, 2, 2),
                &NullHost::default().context(1),
            )
            .unwrap();
        let windows = vec![0.0_f32, 0.0, 8.0, 4.0, 3.0, 4.0, 8.0, 4.0];
        let batch = Batch::of(Tensor::from_vec(windows, (2, 2, 2), &Device::Cpu).unwrap());
        let errors = network.errors(&batch).unwrap().to_vec3::<f32>().unwrap();
        assert_eq!(errors[0], [[0.0, 0.0], [0.0, 0.0]]);
        // 5 away, 9/25 of the square by the first channel; the mean over channels is the distance.
        assert!(
            errors[1]
                .iter()
                .all(|row| (row[0] - 3.6).abs() < 1e-5 && (row[1] - 6.4).abs() < 1e-5),
            "{errors:?}"
        );
        let nearest = network.predict(&batch).unwrap().to_vec3::<f32>().unwrap();
        assert_eq!(nearest[1], [[0.0, 0.0], [8.0, 4.0]]);
    }
}
