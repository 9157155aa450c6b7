//! KMeansAD: windows are clustered, and one that is far from every centroid is unusual (Yairi, Kato and Hori, "Fault
//! Detection by Mining Association Rules from House-keeping Data", 2001; as in TSB-AD, Liu and Paparrizos, NeurIPS 2024,
//! whose score of a row is the mean over the windows that cover it: `overlap: mean`).

use candle_core::{Tensor, Var, bail};

use super::closed_form::{Verdict, by_channel, count, host_values, judge_windows, set, set_count};
use super::{Architecture, Batch, Built, DataShape, Network, Result, Task, closed_form, named};
use contract::artifact::Windows;
use contract::{Named, StageContext, Trouble};
use numerics::initialise::Initial;
use numerics::statistics::clusters::{Clusters, Limits};
use numerics::statistics::gram::RowSource;
use numerics::{Mode, State, StateBuilder};

contract::parameters! {
    /// Clusters of windows.
    pub struct KmeansAd {
        #[schemars(range(min = 1, max = 4096))]
        pub clusters: usize = 30,
        /// The most rounds of assigning windows and moving centroids.
        #[schemars(range(min = 1))]
        pub iterations: usize = 300,
        /// The rounds end when the centroids' squared movement, relative to the variance of the windows, is no larger.
        #[schemars(range(min = 0.0))]
        pub tolerance: f64 = 1e-4,
    }
}

impl Named for KmeansAd {
    const NAME: &'static str = "kmeans-ad";
    const DOC: &'static str = "Clusters windows; the distance to the nearest centroid is the score";
    const EXAMPLE: &'static str = r#"{"clusters": 4}"#;
}

impl Architecture for KmeansAd {
    fn tasks(&self) -> &'static [Task] {
        &[Task::Detect]
    }

    fn closed_form(&self) -> bool {
        true
    }

    fn citation(&self) -> &'static str {
        "Yairi, Kato, Hori: Fault Detection by Mining Association Rules from House-keeping Data. i-SAIRAS 2001."
    }

    fn build(&self, shape: DataShape, builder: &mut StateBuilder<'_>) -> Built {
        let width = shape.length * shape.channels;
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

    fn fit(&self, windows: &Windows, context: &StageContext<'_>) -> Result<(), Trouble> {
        let source = closed_form::training_windows(windows)?;
        let clusters = self.config.clusters;
        let limits = Limits {
            iterations: self.config.iterations,
            tolerance: self.config.tolerance,
        };
        let (mut random, stop) = (context.random("clusters"), || context.check_cancelled());
        let found = Clusters::fit(&source, clusters, limits, &mut random, stop)?;
        // There may be fewer centroids than asked for; the buffer keeps its size.
        set_count(&self.found, found.centroids.len() / source.width())?;
        let mut centroids = found.centroids;
        centroids.resize(clusters * source.width(), 0.0);
        Ok(set(&self.centroids, centroids)?)
    }

    /// The nearest centroid of every window.
    fn predict(&self, batch: &Batch) -> Result<Tensor> {
        self.shape.check_windows(&batch.inputs)?;
        let (clusters, values) = (self.clusters()?, host_values(&batch.inputs)?);
        let mut nearest = Vec::with_capacity(values.len());
        for window in values.chunks_exact(clusters.width) {
            nearest.extend_from_slice(centroid(&clusters, clusters.nearest(window).0));
        }
        numerics::upload(nearest, batch.inputs.shape(), batch.inputs.device())
    }

    fn errors(&self, batch: &Batch) -> Result<Tensor> {
        let (clusters, channels) = (self.clusters()?, self.shape.channels);
        judge_windows(self.shape, &batch.inputs, |window| {
            let (index, distance) = clusters.nearest(window);
            let centroid = centroid(&clusters, index);
            Verdict {
                score: distance.sqrt(),
                blame: by_channel(window.len(), channels, |place| {
                    f64::from(window[place] - centroid[place]).powi(2)
                }),
            }
        })
    }

    fn trace(&self, batch: &Batch, _: Mode) -> Result<Vec<(String, Tensor)>> {
        Ok(named([
            ("nearest", self.predict(batch)?),
            ("errors", self.errors(batch)?),
        ]))
    }
}

fn centroid(clusters: &Clusters, index: usize) -> &[f32] {
    &clusters.centroids[index * clusters.width..(index + 1) * clusters.width]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::on_cpu;
    use candle_core::Device;
    use contract::NullHost;
    use contract::testing::training_windows;

    #[test]
    fn distances_are_those_to_the_nearest_centroid() {
        // Two kinds of rows, in turn; windows of two rows are of two kinds, too.
        let values: Vec<f32> = (0..40)
            .flat_map(|row| if row % 2 == 0 { [0.0, 0.0] } else { [8.0, 4.0] })
            .collect();
        let shape = DataShape::detect(2, 2);
        let config = KmeansAd {
            clusters: 5,
            ..KmeansAd::default()
        };
        let network = on_cpu(1, |builder| config.build(shape, builder)).unwrap();
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
