//! Principal components of windows as a detector (Shyu, Chen, Sarinnapakorn and Chang, "A Novel Anomaly Detection Scheme
//! Based on Principal Component Classifier", 2003). A window is one vector of all its rows; windows of one row give the
//! detector of single rows that TSB-AD (Liu and Paparrizos, NeurIPS 2024) runs on multivariate series.

use candle_core::{Device, Result, Tensor, Var, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::closed_form::{
    Verdict, by_channel, count, host_values, judge_windows, matrix, reals, set, set_count,
};
use super::{Architecture, Batch, DataShape, Network, Task, closed_form, forecaster};
use contract::artifact::Windows;
use contract::{Fault, Named, Random, StageContext, Trouble};
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

/// Principal components of windows.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Pca {
    /// Below 1, the share of the variance that the kept components explain at least; from 1 on, their number. All that
    /// have any variance if left out.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub components: Option<f64>,
    pub score: Measure,
    /// Whether every value of the vector is brought to mean 0 and deviation 1 first.
    pub standardize: bool,
}

impl Default for Pca {
    fn default() -> Self {
        Self {
            components: None,
            score: Measure::default(),
            standardize: true,
        }
    }
}

impl Named for Pca {
    const NAME: &'static str = "pca";
    const DOC: &'static str = "Principal components of windows; far from them is unusual";
}

// Reference: Shyu, Chen, Sarinnapakorn and Chang, "A Novel Anomaly Detection Scheme Based on Principal
// Component Classifier", 2003
impl Architecture for Pca {
    fn tasks(&self) -> &'static [Task] {
        &[Task::Detect]
    }

    fn closed_form(&self) -> bool {
        true
    }

    fn check(&self) -> std::result::Result<(), Fault> {
        match self.components {
            Some(kept) if kept >= 1.0 && kept.fract() != 0.0 => {
                let reason =
                    format!("must be a share between 0 and 1 or a whole number, not {kept}");
                Err(Fault::new("components", reason))
            }
            _ => Ok(()),
        }
    }

    fn build(
        &self,
        shape: DataShape,
        device: &Device,
        random: &mut Random,
    ) -> std::result::Result<Box<dyn Network>, Trouble> {
        let width = shape.length * shape.channels;
        if width > MOST_VALUES {
            return Err(Trouble::new(format!(
                "windows of {} rows and {} channels are vectors of {width} values; pca takes up to {MOST_VALUES}",
                shape.length, shape.channels
            ))
            .hint("make the windows shorter"));
        }
        let mut builder = StateBuilder::new(device, random);
        let own = Components {
            mean: builder.reals("mean", &[width])?,
            deviation: builder.reals("deviation", &[width])?,
            vectors: builder.reals("components", &[width, width])?,
            variances: builder.reals("variances", &[width])?,
            kept: builder.counter("kept")?,
            state: builder.finish(),
            shape,
            config: self.clone(),
        };
        Ok(Box::new(own))
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
        let largest = variances.first().copied().unwrap_or(0.0);
        let real = variances
            .iter()
            .filter(|variance| **variance > LEAST_VARIANCE * largest)
            .count()
            .max(1);
        let total: f64 = variances.iter().sum();
        let wanted = match self.config.components {
            None => real,
            Some(kept) if kept >= 1.0 => kept as usize,
            Some(share) => {
                let mut explained = 0.0;
                let reached = variances.iter().position(|variance| {
                    explained += variance;
                    explained > share * total
                });
                reached.map_or(real, |last| last + 1)
            }
        };
        wanted.min(real)
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
            let vector = self.vectors.row(component);
            values
                .iter_mut()
                .zip(vector)
                .for_each(|(value, direction)| *value += projection * direction);
        }
        values
    }

    fn judge(&self, measure: Measure, channels: usize, window: &[f32]) -> Verdict {
        let values = self.standardised(window);
        let projections = self.vectors.times(&values);
        let square =
            |parts: &[f64]| by_channel(parts.len(), channels, |place| parts[place].powi(2));
        match measure {
            Measure::Distance => {
                let (size, total) = (dot(&values, &values), self.variances.iter().sum::<f64>());
                let terms =
                    projections
                        .iter()
                        .zip(&self.variances)
                        .map(|(projection, variance)| {
                            let distance = (size - 2.0 * projection + 1.0).max(0.0).sqrt();
                            distance * total / variance
                        });
                Verdict {
                    score: terms.sum(),
                    blame: square(&values),
                }
            }
            Measure::Projection => {
                let scaled: Vec<f64> = projections
                    .iter()
                    .zip(&self.variances)
                    .map(|(p, v)| p / v.sqrt())
                    .collect();
                Verdict {
                    score: dot(&scaled, &scaled),
                    blame: square(&self.reconstruct(&scaled)),
                }
            }
            Measure::Reconstruction => {
                let plane = self.reconstruct(&projections);
                let rest: Vec<f64> = values
                    .iter()
                    .zip(&plane)
                    .map(|(value, plane)| value - plane)
                    .collect();
                Verdict {
                    score: dot(&rest, &rest),
                    blame: square(&rest),
                }
            }
        }
    }
}

impl Network for Components {
    fn state(&self) -> &State {
        &self.state
    }

    fn fit(
        &self,
        windows: &Windows,
        context: &StageContext<'_>,
    ) -> std::result::Result<(), Trouble> {
        let source = closed_form::training_windows(windows)?;
        let scale = if self.config.standardize {
            Scale::of(&source).without_zeros()
        } else {
            Scale {
                deviation: vec![1.0; source.width()],
                ..Scale::of(&source)
            }
        };
        let products = gram(source.rows(), source.width(), |index, row| {
            scale.apply(source.row(index), row)
        });
        context.check_cancelled()?;
        let eigen = Eigen::new(&products.scaled(1.0 / source.rows() as f64)).ok_or_else(|| {
            Trouble::new("the training windows have no principal components: are they finite?")
        })?;
        let variances: Vec<f64> = eigen.values.iter().map(|value| value.max(0.0)).collect();
        if variances[0] <= 0.0 {
            return Err(Trouble::new(
                "nothing varies in the training windows, so they have no components",
            ));
        }
        set_count(&self.kept, self.keep(&variances))?;
        set(&self.mean, scale.mean)?;
        set(&self.deviation, scale.deviation)?;
        set(&self.vectors, eigen.vectors.into_values())?;
        Ok(set(&self.variances, variances)?)
    }

    /// The windows as the kept components would have them.
    fn predict(&self, batch: &Batch) -> Result<Tensor> {
        forecaster::expect_windows(self.shape, &batch.inputs)?;
        let (plane, values) = (self.plane()?, host_values(&batch.inputs)?);
        let mut predicted = Vec::with_capacity(values.len());
        for window in values.chunks_exact(self.shape.length * self.shape.channels) {
            let own = plane.reconstruct(&plane.vectors.times(&plane.standardised(window)));
            let units = plane.scale.mean.iter().zip(&plane.scale.deviation);
            predicted.extend(
                own.iter()
                    .zip(units)
                    .map(|(value, (mean, deviation))| (mean + deviation * value) as f32),
            );
        }
        Tensor::from_vec(predicted, batch.inputs.shape(), batch.inputs.device())
    }

    fn errors(&self, batch: &Batch) -> Result<Tensor> {
        let plane = self.plane()?;
        judge_windows(self.shape, &batch.inputs, |window| {
            plane.judge(self.config.score, self.shape.channels, window)
        })
    }

    fn trace(&self, batch: &Batch, _: Mode) -> Result<Vec<(String, Tensor)>> {
        Ok(vec![
            ("recon".to_owned(), self.predict(batch)?),
            ("errors".to_owned(), self.errors(batch)?),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::fault_of;
    use contract::NullHost;
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
        let network = config
            .build(shape, &Device::Cpu, &mut Random::new(1, "init"))
            .unwrap();
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
        let error = Pca::default()
            .build(wide, &Device::Cpu, &mut Random::new(1, "init"))
            .err()
            .unwrap();
        assert!(error.message().contains("7600 values"), "{error}");
    }
}
