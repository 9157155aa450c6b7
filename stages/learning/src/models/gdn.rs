//! Graph deviation network: every sensor has an embedding, its neighbours are the sensors with the most similar ones, and
//! attention over them forecasts its next value; what is unlike the forecast, compared with what is usual for the sensor,
//! is the score (Deng and Hooi, "Graph Neural Network-Based Anomaly Detection in Multivariate Time Series", AAAI 2021).
//!
//! Two things differ from the authors' program. It compares errors with their median and interquartile range over the
//! test rows; here both are running statistics of the training. And it smooths scores over four rows; here that is left
//! to the stage that scores.

use std::cmp::Ordering;
use std::sync::Arc;

use candle_core::{Device, Result, Tensor, Var};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::closed_form::{host_values, set, set_count};
use super::forecaster::{Forecaster, Forecasting, Span};
use super::{Architecture, DataShape, Edge, Network, Task};
use contract::{Named, Random, Trouble};
use numerics::batch_norm::{BatchNorm, MOMENTUM};
use numerics::dropout::Dropout;
use numerics::graph_attention::{Edges, attend};
use numerics::initialise::Initial;
use numerics::linear::Linear;
use numerics::{Mode, State, StateBuilder};

/// Added to the usual spread of errors, as in the authors' program.
const LEAST_SPREAD: f32 = 1e-2;

/// How the deviations of the sensors become one score.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Aggregate {
    /// The largest, which also names the sensor (the paper's).
    #[default]
    Max,
    Mean,
}

/// A graph of sensors and attention over it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Gdn {
    /// Size of a sensor's embedding, and of what it makes of its window.
    #[schemars(range(min = 1, max = 4096))]
    pub embedding: usize,
    /// Sensors that each one listens to besides itself; all others if there are fewer.
    #[schemars(range(min = 1))]
    pub neighbours: usize,
    /// Sizes of the hidden layers between a sensor's state and its forecast.
    #[schemars(inner(range(min = 1, max = 4096)))]
    pub hidden: Vec<usize>,
    /// Share of the hidden values that training leaves out.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub dropout: f64,
    pub aggregate: Aggregate,
}

impl Default for Gdn {
    fn default() -> Self {
        Self {
            embedding: 64,
            neighbours: 15,
            hidden: Vec::new(),
            dropout: 0.2,
            aggregate: Aggregate::default(),
        }
    }
}

impl Named for Gdn {
    const NAME: &'static str = "gdn";
    const DOC: &'static str = "Graph deviation network: forecasts every sensor from those that a learned graph links it to";
    const EXAMPLE: &'static str =
        r#"{"embedding": 16, "neighbours": 3, "hidden": [32], "dropout": 0.0}"#;
}

// Reference: Deng and Hooi, "Graph Neural Network-Based Anomaly Detection in Multivariate Time Series", AAAI
// 2021
impl Architecture for Gdn {
    fn tasks(&self) -> &'static [Task] {
        &[Task::Detect, Task::Forecast]
    }

    fn build(
        &self,
        shape: DataShape,
        device: &Device,
        random: &mut Random,
    ) -> std::result::Result<Box<dyn Network>, Trouble> {
        let span = Span::of(shape, Self::NAME, 1)?;
        if span.channels < 2 {
            return Err(Trouble::new(
                "gdn needs at least two sensors to learn a graph, and the series has one",
            ));
        }
        Ok(Box::new(Forecasting {
            shape,
            forecaster: Graph::new(self, span, device, random)?,
        }))
    }
}

/// A layer of the forecast's perceptron, with the normalisation after it unless it is the last.
struct Layer {
    linear: Linear,
    norm: Option<BatchNorm>,
}

struct Graph {
    state: State,
    span: Span,
    config: Gdn,
    /// `[channels, embedding]`.
    embeddings: Var,
    /// From a sensor's window to its state.
    encode: Linear,
    /// What a sensor's own state and embedding, and those of a neighbour, contribute to attention: `[embedding]` each.
    attention: [Var; 4],
    bias: Var,
    norm: BatchNorm,
    mixed_norm: BatchNorm,
    output: Vec<Layer>,
    /// Running median and interquartile range of the absolute errors, `[channels]`, and batches seen.
    median: Var,
    spread: Var,
    batches: Var,
}

impl Graph {
    fn new(config: &Gdn, span: Span, device: &Device, random: &mut Random) -> Result<Self> {
        let size = config.embedding;
        let mut builder = StateBuilder::new(device, random);
        let embeddings = builder.parameter(
            "embedding.weight",
            &[span.channels, size],
            Initial::FanIn(size),
        )?;
        let encode = Linear::new(&mut builder, "gnn.lin", span.past, size)?;
        let names = ["gnn.att_i", "gnn.att_em_i", "gnn.att_j", "gnn.att_em_j"];
        let [own_state, own_embedding, state, embedding] = names;
        let mut vector = |name| builder.parameter(name, &[size], Initial::FanIn(size));
        let attention = [
            vector(own_state)?,
            vector(own_embedding)?,
            vector(state)?,
            vector(embedding)?,
        ];
        let bias = builder.parameter("gnn.bias", &[size], Initial::Zeros)?;
        let norm = BatchNorm::new(&mut builder, "gnn.bn", size)?;
        let mixed_norm = BatchNorm::new(&mut builder, "bn_outlayer_in", size)?;
        let mut output = Vec::new();
        let mut input = size;
        for (index, width) in config.hidden.iter().enumerate() {
            let linear = Linear::new(
                &mut builder,
                &format!("out_layer.{index}.linear"),
                input,
                *width,
            )?;
            let norm = BatchNorm::new(&mut builder, &format!("out_layer.{index}.bn"), *width)?;
            output.push(Layer {
                linear,
                norm: Some(norm),
            });
            input = *width;
        }
        let name = format!("out_layer.{}.linear", config.hidden.len());
        output.push(Layer {
            linear: Linear::new(&mut builder, &name, input, span.steps)?,
            norm: None,
        });
        let median = builder.buffer("errors.median", &[span.channels], Initial::Zeros)?;
        let spread = builder.buffer("errors.spread", &[span.channels], Initial::Ones)?;
        let batches = builder.counter("errors.num_batches_tracked")?;
        Ok(Self {
            state: builder.finish(),
            span,
            config: config.clone(),
            embeddings,
            encode,
            attention,
            bias,
            norm,
            mixed_norm,
            output,
            median,
            spread,
            batches,
        })
    }

    /// The neighbours of every sensor, the most similar first, with the cosine of their embeddings.
    fn neighbours(&self) -> Result<Vec<Vec<(usize, f32)>>> {
        let (values, size) = (host_values(&self.embeddings)?, self.config.embedding);
        let unit = |vector: &[f32]| {
            let length = vector
                .iter()
                .map(|value| value * value)
                .sum::<f32>()
                .sqrt()
                .max(1e-12);
            vector
                .iter()
                .map(|value| value / length)
                .collect::<Vec<f32>>()
        };
        let units: Vec<Vec<f32>> = values.chunks_exact(size).map(unit).collect();
        let of = |own: usize| {
            let cosine = |other: usize| {
                units[own]
                    .iter()
                    .zip(&units[other])
                    .map(|(one, other)| one * other)
                    .sum()
            };
            let others = (0..units.len()).filter(|other| *other != own);
            let mut ranked: Vec<(usize, f32)> =
                others.map(|other| (other, cosine(other))).collect();
            let order = |one: &(usize, f32), other: &(usize, f32)| match other.1.total_cmp(&one.1) {
                Ordering::Equal => one.0.cmp(&other.0),
                different => different,
            };
            ranked.sort_by(order);
            ranked.truncate(self.config.neighbours);
            ranked
        };
        Ok((0..units.len()).map(of).collect())
    }

    /// What every sensor makes of its own state and of those of its neighbours.
    fn gather(&self, states: &Tensor) -> Result<Tensor> {
        let [own_state, own_embedding, state, embedding] = &self.attention;
        let size = self.config.embedding;
        let along = |vector: &Var| {
            self.embeddings
                .matmul(&vector.reshape((size, 1))?)?
                .flatten_all()
        };
        let vectors = Tensor::stack(&[own_state.as_tensor(), state, &self.bias], 0)?;
        let offsets = Tensor::stack(&[along(own_embedding)?, along(embedding)?], 0)?;
        let others = |row: Vec<(usize, f32)>| row.into_iter().map(|(other, _)| other).collect();
        let neighbours: Vec<Vec<usize>> = self.neighbours()?.into_iter().map(others).collect();
        attend(
            states,
            &vectors,
            &offsets,
            &Arc::new(Edges::new(&neighbours)),
        )
    }
}

impl Forecaster for Graph {
    fn state(&self) -> &State {
        &self.state
    }

    fn forecast(&self, past: &Tensor, mode: Mode, random: &mut Random) -> Result<Tensor> {
        let windows = past.transpose(1, 2)?.contiguous()?; // [batch, channels, past]
        let states = self.encode.forward(&windows)?; // [batch, channels, embedding]
        let gathered = self.norm.forward_relu(&self.gather(&states)?, mode)?;
        let mixed = gathered.broadcast_mul(&self.embeddings)?;
        let dropout = Dropout::draw(self.config.dropout, mode, random);
        let mut x = dropout.forward(&self.mixed_norm.forward_relu(&mixed, mode)?)?;
        for layer in &self.output {
            x = layer.linear.forward(&x)?;
            if let Some(norm) = &layer.norm {
                x = norm.forward_relu(&x, mode)?;
            }
        }
        x.transpose(1, 2)?.contiguous() // [batch, steps, channels]
    }

    /// Errors in units of what is usual for their sensor; of the largest only, if that is the score.
    fn judge(&self, forecast: &Tensor, actual: &Tensor) -> Result<Tensor> {
        let errors = (forecast.narrow(1, 0, 1)? - actual.narrow(1, 0, 1)?)?.abs()?;
        let (median, spread) = (host_values(&self.median)?, host_values(&self.spread)?);
        let mut values = host_values(&errors)?;
        for row in values.chunks_exact_mut(self.span.channels) {
            for (value, (median, spread)) in row.iter_mut().zip(median.iter().zip(&spread)) {
                *value = (*value - median) / (spread + LEAST_SPREAD);
            }
            if self.config.aggregate == Aggregate::Max {
                keep_largest(row);
            }
        }
        Tensor::from_vec(values, errors.shape(), errors.device())
    }

    fn notice(&self, forecast: &Tensor, actual: &Tensor) -> Result<()> {
        let errors = host_values(
            &(forecast.narrow(1, 0, 1)? - actual.narrow(1, 0, 1)?)?
                .abs()?
                .contiguous()?,
        )?;
        let channels = self.span.channels;
        let seen = self.batches.to_scalar::<i64>()?;
        let weight = if seen == 0 { 1.0 } else { MOMENTUM as f32 };
        let (mut median, mut spread) = (host_values(&self.median)?, host_values(&self.spread)?);
        for channel in 0..channels {
            let mut own: Vec<f32> = errors
                .iter()
                .skip(channel)
                .step_by(channels)
                .copied()
                .collect();
            own.sort_unstable_by(f32::total_cmp);
            let range = quantile(&own, 0.75) - quantile(&own, 0.25);
            median[channel] += weight * (quantile(&own, 0.5) - median[channel]);
            spread[channel] += weight * (range - spread[channel]);
        }
        set(&self.median, median)?;
        set(&self.spread, spread)?;
        set_count(&self.batches, seen.unsigned_abs() as usize + 1)
    }

    fn graph(&self) -> Result<Option<Vec<Edge>>> {
        let edges = |(to, neighbours): (usize, Vec<(usize, f32)>)| {
            neighbours.into_iter().map(move |(from, cosine)| Edge {
                from,
                to,
                weight: f64::from(cosine),
            })
        };
        Ok(Some(
            self.neighbours()?
                .into_iter()
                .enumerate()
                .flat_map(edges)
                .collect(),
        ))
    }
}

/// Leaves the largest value alone, as much larger as there are values: so the mean is the largest.
fn keep_largest(row: &mut [f32]) {
    let count = row.len() as f32;
    let largest = (0..row.len()).fold(
        0,
        |best, index| if row[index] > row[best] { index } else { best },
    );
    for (index, value) in row.iter_mut().enumerate() {
        *value = if index == largest {
            *value * count
        } else {
            0.0
        };
    }
}

/// A quantile of rising values, interpolated.
fn quantile(rising: &[f32], share: f64) -> f32 {
    let place = share * (rising.len() - 1) as f64;
    let (low, part) = (place as usize, place.fract() as f32);
    let high = (low + 1).min(rising.len() - 1);
    rising[low] + part * (rising[high] - rising[low])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Batch;

    fn graph(config: &Gdn, channels: usize) -> Graph {
        let span = Span {
            past: 4,
            steps: 1,
            channels,
        };
        Graph::new(config, span, &Device::Cpu, &mut Random::new(3, "init")).unwrap()
    }

    #[test]
    fn neighbours_are_the_most_similar_others() {
        let config = Gdn {
            embedding: 2,
            neighbours: 2,
            ..Gdn::default()
        };
        let graph = graph(&config, 4);
        set(
            &graph.embeddings,
            vec![1.0_f32, 0.0, 2.0, 0.2, 0.0, 1.0, -1.0, 0.5],
        )
        .unwrap();
        let found: Vec<Vec<usize>> = graph
            .neighbours()
            .unwrap()
            .into_iter()
            .map(|row| row.into_iter().map(|(other, _)| other).collect())
            .collect();
        assert_eq!(found, [[1, 2], [0, 2], [3, 1], [2, 1]].map(Vec::from));
        let edges = Forecaster::graph(&graph).unwrap().unwrap();
        assert_eq!((edges.len(), edges[0].from, edges[0].to), (8, 1, 0));
        assert!((edges[0].weight - 2.0 / 4.04_f64.sqrt()).abs() < 1e-6);
    }

    #[test]
    fn deviations_are_measured_by_what_is_usual() {
        let graph = graph(&Gdn::default(), 2);
        let tensor = |values: &[f32]| {
            Tensor::from_vec(values.to_vec(), (values.len() / 2, 1, 2), &Device::Cpu).unwrap()
        };
        let zeros = tensor(&[0.0; 10]);
        graph
            .notice(
                &zeros,
                &tensor(&[1.0, 10.0, 2.0, 20.0, 3.0, 30.0, 4.0, 40.0, 5.0, 50.0]),
            )
            .unwrap();
        assert_eq!(host_values(&graph.median).unwrap(), [3.0, 30.0]);
        assert_eq!(host_values(&graph.spread).unwrap(), [2.0, 20.0]);
        // 4 usual spreads above the median for the first sensor, half of one for the second.
        let judged = host_values(
            &graph
                .judge(&tensor(&[0.0, 0.0]), &tensor(&[-11.0, 40.0]))
                .unwrap(),
        )
        .unwrap();
        assert!(
            (judged[0] - 2.0 * 8.0 / 2.01).abs() < 1e-4 && judged[1] == 0.0,
            "{judged:?}"
        );
    }

    #[test]
    fn a_single_sensor_has_no_graph() {
        let build = |channels| {
            Gdn::default().build(
                DataShape::detect(5, channels),
                &Device::Cpu,
                &mut Random::new(1, "init"),
            )
        };
        assert!(build(1).err().unwrap().message().contains("two sensors"));
        let network = build(3).unwrap();
        assert_eq!(network.graph().unwrap().unwrap().len(), 6);
        let inputs = Tensor::zeros((2, 5, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert_eq!(
            network.errors(&Batch::of(inputs)).unwrap().dims(),
            [2, 5, 3]
        );
    }
}
