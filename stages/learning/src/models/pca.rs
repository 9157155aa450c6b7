//! Principal components of windows as a detector (Shyu, Chen, Sarinnapakorn and Chang, "A Novel Anomaly Detection Scheme
//! Based on Principal Component Classifier", 2003). A window is one vector of all its rows; windows of one row give the
//! detector of single rows that TSB-AD (Liu and Paparrizos, NeurIPS 2024) runs on multivariate series.

use candle_core::{Tensor, Var, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::closed_form::{
    Verdict, by_channel, count, host_values, judge_windows, matrix, reals, set, set_count,
};
use super::{Architecture, Batch, Built, DataShape, Network, Result, Task, closed_form, named};
use contract::artifact::Windows;
use contract::{Fault, Named, StageContext, Trouble};
use numerics::statistics::Eigen;
use numerics::statistics::gram::{RowSource, Scale, gram};
use numerics::statistics::matrix::{Matrix, dot};
use numerics::{Mode, State, StateBuilder};

/// The longest vector, in values: its covariance matrix fills 128 MiB.
const MOST_VALUES: usize = 4096;
/// Components with less than this share of the largest variance are rounding.
const LEAST_VARIANCE: f64 = 1e-10;

/// What is unusual about a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// Σ over the kept components of the squared projection, divided by the component's variance (Shyu et al.).
    #[default]
    Projection,
    /// Σ over the kept components of the window's distance from the component's unit vector, divided by the share of
    /// the variance that the component explains: the score of PyOD, which TSB-AD uses with `components: 0.75`.
    Distance,
    /// The squared distance from the plane of the kept components.
    Reconstruction,
}

contract::parameters! {
    /// Principal components of windows.
    pub struct Pca {
        /// Below 1, the share of the variance that the kept components explain at least; from 1 on, their number. All that
        /// have any variance if left out.
        #[schemars(extend("exclusiveMinimum" = 0.0))]
        pub components: Option<f64> = None,
        pub score: Measure = Measure::default(),
        /// Whether every value of the vector is brought to mean 0 and deviation 1 first.
        pub standardize: bool = true,
    }
}

impl Named for Pca {
    const NAME: &'static str = "pca";
    const DOC: &'static str = "Principal components of windows; far from them is unusual";
}

impl Architecture for Pca {
    fn tasks(&self) -> &'static [Task] {
        &[Task::Detect]
    }

    fn closed_form(&self) -> bool {
        true
    }

    fn check(&self) -> Result<(), Fault> {
        match self.components {
            Some(kept) if kept >= 1.0 && kept.fract() != 0.0 => {
                let reason =
                    format!("must be a share between 0 and 1 or a whole number, not {kept}");
                Err(Fault::new("components", reason))
            }
            _ => Ok(()),
        }
    }

    fn citation(&self) -> &'static str {
        "Shyu, Chen, Sarinnapakorn, Chang: A Novel Anomaly Detection Scheme Based on Principal Component Classifier. ICDM workshop 2003."
    }

    fn build(&self, shape: DataShape, builder: &mut StateBuilder<'_>) -> Built {
        let width = shape.length * shape.channels;
        if width > MOST_VALUES {
            let message =
                format!("{shape} are vectors of {width} values; pca takes up to {MOST_VALUES}");
            return Err(Trouble::new(message).hint("make the windows shorter"));
        }
        Ok(Box::new(Components {
            mean: builder.reals("mean", &[width])?,
            deviation: builder.reals("deviation", &[width])?,
            vectors: builder.reals("components", &[width, width])?,
            variances: builder.reals("variances", &[width])?,
            kept: builder.counter("kept")?,
            state: builder.finish(),
            shape,
            config: self.clone(),
        }))
    }
}

/// The components found, by falling variance; only the first `kept` count.
struct Components {
    state: State,
    shape: DataShape,
    config: Pca,
    mean: Var,
    deviation: Var,
    vectors: Var,
    variances: Var,
    kept: Var,
}

/// The state on the host.
struct Plane {
    scale: Scale,
    /// `[kept, width]`.
    vectors: Matrix,
    /// Of all components.
    variances: Vec<f64>,
}

impl Components {
    fn plane(&self) -> Result<Plane> {
        let kept = count(&self.kept)?;
        if kept == 0 {
            bail!("the components have not been fitted")
        }
        let width = self.shape.length * self.shape.channels;
        Ok(Plane {
            scale: Scale {
                mean: reals(&self.mean)?,
                deviation: reals(&self.deviation)?,
            },
            vectors: matrix(&self.vectors)?.corner(kept.min(width), width),
            variances: reals(&self.variances)?,
        })
    }

    /// How many of the components are kept, given all variances.
    fn keep(&self, variances: &[f64]) -> usize {
        // A direction in which nothing varies is rounding, which a division by its variance would magnify.
        let least = LEAST_VARIANCE * variances[0];
        let real = variances
            .iter()
            .filter(|variance| **variance > least)
            .count()
            .max(1);
        let total: f64 = variances.iter().sum();
        match self.config.components {
            None => real,
            Some(number) if number >= 1.0 => real.min(number as usize),
            Some(share) => {
                let (mut kept, mut explained) = (0, 0.0);
                while kept < real && explained <= share * total {
                    explained += variances[kept];
                    kept += 1;
                }
                kept
            }
        }
    }
}

impl Plane {
    fn standardised(&self, window: &[f32]) -> Vec<f64> {
        let mut values = vec![0.0; window.len()];
        self.scale.apply(window, &mut values);
        values
    }

    /// What the plane makes of a vector, in standard units.
    fn reconstruct(&self, projections: &[f64]) -> Vec<f64> {
        let mut values = vec![0.0; self.vectors.columns()];
        for (component, projection) in projections.iter().enumerate() {
            for (value, direction) in values.iter_mut().zip(self.vectors.row(component)) {
                *value += projection * direction;
            }
        }
        values
    }

    fn judge(&self, measure: Measure, channels: usize, window: &[f32]) -> Verdict {
        let mut values = self.standardised(window);
        let mut projections = self.vectors.times(&values);
        let along = projections.iter_mut().zip(&self.variances);
        match measure {
            Measure::Distance => {
                let (size, total) = (dot(&values, &values), self.variances.iter().sum::<f64>());
                let mut score = 0.0;
                for (projection, variance) in along {
                    let distance = (size - 2.0 * *projection + 1.0).max(0.0).sqrt();
                    score += distance * total / variance;
                }
                let blame = squares(&values, channels);
                Verdict { score, blame }
            }
            Measure::Projection => {
                for (projection, variance) in along {
                    *projection /= variance.sqrt();
                }
                Verdict {
                    score: dot(&projections, &projections),
                    blame: squares(&self.reconstruct(&projections), channels),
                }
            }
            Measure::Reconstruction => {
                // What the plane does not hold is left.
                for (value, plane) in values.iter_mut().zip(self.reconstruct(&projections)) {
                    *value -= plane;
                }
                Verdict {
                    score: dot(&values, &values),
                    blame: squares(&values, channels),
                }
            }
        }
    }
}

/// Σ over rows, per channel, of the squares of a window's values.
fn squares(values: &[f64], channels: usize) -> Vec<f64> {
    by_channel(values.len(), channels, |place| values[place].powi(2))
}

impl Network for Components {
    fn state(&self) -> &State {
        &self.state
    }

    fn fit(&self, windows: &Windows, context: &StageContext<'_>) -> Result<(), Trouble> {
        let source = closed_form::training_windows(windows)?;
        let mut scale = Scale::of(&source);
        if self.config.standardize {
            scale = scale.without_zeros();
        } else {
            scale.deviation.fill(1.0);
        }
        let products = gram(source.rows(), source.width(), |index, row| {
            scale.apply(source.row(index), row)
        });
        context.check_cancelled()?;
        let Some(eigen) = Eigen::new(&products.scaled(1.0 / source.rows() as f64)) else {
            let message = "the training windows have no principal components: are they finite?";
            return Err(Trouble::new(message));
        };
        // Rounding makes some that are zero negative.
        let variances: Vec<f64> = eigen.values.iter().map(|value| value.max(0.0)).collect();
        if variances[0] <= 0.0 {
            let message = "nothing varies in the training windows, so they have no components";
            return Err(Trouble::new(message));
        }
        set_count(&self.kept, self.keep(&variances))?;
        set(&self.mean, scale.mean)?;
        set(&self.deviation, scale.deviation)?;
        set(&self.vectors, eigen.vectors.into_values())?;
        Ok(set(&self.variances, variances)?)
    }

    /// The windows as the kept components would have them.
    fn predict(&self, batch: &Batch) -> Result<Tensor> {
        self.shape.check_windows(&batch.inputs)?;
        let (plane, values) = (self.plane()?, host_values(&batch.inputs)?);
        let mut predicted = Vec::with_capacity(values.len());
        for window in values.chunks_exact(self.shape.length * self.shape.channels) {
            let own = plane.reconstruct(&plane.vectors.times(&plane.standardised(window)));
            for (place, value) in own.into_iter().enumerate() {
                let scale = &plane.scale;
                predicted.push((scale.mean[place] + scale.deviation[place] * value) as f32);
            }
        }
        numerics::upload(predicted, batch.inputs.shape(), batch.inputs.device())
    }

    fn errors(&self, batch: &Batch) -> Result<Tensor> {
        let plane = self.plane()?;
        judge_windows(self.shape, &batch.inputs, |window| {
            plane.judge(self.config.score, self.shape.channels, window)
        })
    }

    fn trace(&self, batch: &Batch, _: Mode) -> Result<Vec<(String, Tensor)>> {
        Ok(named([
            ("recon", self.predict(batch)?),
            ("errors", self.errors(batch)?),
        ]))
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

    /// Rows near the line y = 2 x.
    fn line() -> Windows {
        let mut random = Random::new(3, "line");
        let rows: Vec<[f32; 2]> = (0..400)
            .map(|_| {
                let along = random.normal();
                [along as f32, (2.0 * along + 0.01 * random.normal()) as f32]
            })
            .collect();
        training_windows(rows.as_flattened().to_vec(), 2, 1)
    }

    fn errors(config: &Pca, rows: &[[f32; 2]]) -> Vec<f32> {
        let shape = DataShape::detect(1, 2);
        let network = on_cpu(1, |builder| config.build(shape, builder)).unwrap();
        network
            .fit(&line(), &NullHost::default().context(1))
            .unwrap();
        let inputs = Tensor::from_vec(
            rows.as_flattened().to_vec(),
            (rows.len(), 1, 2),
            &Device::Cpu,
        )
        .unwrap();
        network
            .errors(&Batch::of(inputs))
            .unwrap()
            .mean(2)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap()
    }

    #[test]
    fn every_measure_tells_what_is_off_the_line() {
        let rows = [[1.0, 2.0], [1.0, -2.0], [0.0, 0.0]];
        for score in [Measure::Projection, Measure::Reconstruction] {
            let components = if score == Measure::Projection {
                None
            } else {
                Some(1.0)
            };
            let found = errors(
                &Pca {
                    components,
                    score,
                    standardize: true,
                },
                &rows,
            );
            assert!(
                found[1] > 50.0 * found[0].max(found[2]),
                "{score:?}: {found:?}"
            );
        }
        let found = errors(
            &Pca {
                score: Measure::Distance,
                ..Pca::default()
            },
            &rows,
        );
        assert!(found[2] < found[0], "{found:?}");
    }

    #[test]
    fn shares_and_numbers_of_components() {
        let shape = DataShape::detect(1, 4);
        let kept = |components: Option<f64>| {
            let config = Pca {
                components,
                ..Pca::default()
            };
            let mut random = Random::new(1, "init");
            let mut builder = StateBuilder::new(&Device::Cpu, &mut random);
            let var = builder.reals("none", &[1]).unwrap();
            let [mean, deviation, vectors, variances, kept] = std::array::from_fn(|_| var.clone());
            let own = Components {
                state: builder.finish(),
                shape,
                config,
                mean,
                deviation,
                vectors,
                variances,
                kept,
            };
            own.keep(&[5.0, 3.0, 2.0, 0.0])
        };
        assert_eq!(
            [None, Some(2.0), Some(0.4), Some(0.5), Some(0.9), Some(9.0)].map(kept),
            [3, 2, 1, 2, 3, 3]
        );
        for components in [0.0, 1.5] {
            let config = Pca {
                components: Some(components),
                ..Pca::default()
            };
            assert_eq!(fault_of(&config).parameter, "components");
        }
        let wide = DataShape::detect(200, 38);
        let error = on_cpu(1, |builder| Pca::default().build(wide, builder))
            .err()
            .unwrap();
        assert!(error.message().contains("7600 values"), "{error}");
    }
}
