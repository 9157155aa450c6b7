//! Graph deviation network: every sensor has an embedding, its neighbours are the sensors with the most similar ones, and
//! attention over them forecasts its next value; what is unlike the forecast, compared with what is usual for the sensor,
//! is the score (Deng and Hooi, "Graph Neural Network-Based Anomaly Detection in Multivariate Time Series", AAAI 2021).
//!
//! Two things differ from the authors' program. It compares errors with their median and interquartile range over the
//! test rows; here both are running statistics of the training. And it smooths scores over four rows; here that is left
//! to the stage that scores.

use std::sync::Arc;

use candle_core::{Tensor, Var};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::closed_form::{host_values, set, set_count};
use super::forecaster::{Forecaster, Forecasting, Span};
use super::{Architecture, Built, DataShape, Edge, Result, Task, dot};
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

contract::parameters! {
    /// A graph of sensors and attention over it.
    pub struct Gdn {
        /// Size of a sensor's embedding, and of what it makes of its window.
        #[schemars(range(min = 1, max = 4096))]
        pub embedding: usize = 64,
        /// Sensors that each one listens to besides itself; all others if there are fewer.
        #[schemars(range(min = 1))]
        pub neighbours: usize = 15,
        /// Sizes of the hidden layers between a sensor's state and its forecast.
        #[schemars(inner(range(min = 1, max = 4096)))]
        pub hidden: Vec<usize> = Vec::new(),
        /// Share of the hidden values that training leaves out.
        #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
        pub dropout: f64 = 0.2,
        pub aggregate: Aggregate = Aggregate::default(),
    }
}

impl Named for Gdn {
    const NAME: &'static str = "gdn";
    const DOC: &'static str = "Graph deviation network: forecasts every sensor from those that a learned graph links it to";
    const EXAMPLE: &'static str =
        r#"{"embedding": 16, "neighbours": 3, "hidden": [32], "dropout": 0.0}"#;
}

impl Architecture for Gdn {
    fn tasks(&self) -> &'static [Task] {
        &[Task::Detect, Task::Forecast]
    }

    fn citation(&self) -> &'static str {
        "Deng, Hooi: Graph Neural Network-Based Anomaly Detection in Multivariate Time Series. AAAI 2021. arXiv:2106.06947"
    }

    fn build(&self, shape: DataShape, builder: &mut StateBuilder<'_>) -> Built {
        let span = Span::of(shape, Self::NAME, 1)?;
        if span.channels < 2 {
            return Err(Trouble::new(
                "gdn needs at least two sensors to learn a graph, and the series has one",
            ));
        }
        let forecaster = self.network(span, builder)?;
        Ok(Box::new(Forecasting { shape, forecaster }))
    }
}

impl Gdn {
    fn network(&self, span: Span, builder: &mut StateBuilder<'_>) -> Result<Graph> {
        let (size, channels) = (self.embedding, span.channels);
        let initial = Initial::FanIn(size);
        let embeddings = builder.parameter("embedding.weight", &[channels, size], initial)?;
        let encode = Linear::new(builder, "gnn.lin", span.past, size)?;
        let attention = [
            builder.parameter("gnn.att_i", &[size], initial)?,
            builder.parameter("gnn.att_em_i", &[size], initial)?,
            builder.parameter("gnn.att_j", &[size], initial)?,
            builder.parameter("gnn.att_em_j", &[size], initial)?,
        ];
        let bias = builder.parameter("gnn.bias", &[size], Initial::Zeros)?;
        let norm = BatchNorm::new(builder, "gnn.bn", size)?;
        let mixed_norm = BatchNorm::new(builder, "bn_outlayer_in", size)?;
        let (mut output, mut input) = (Vec::new(), size);
        for (index, width) in self.hidden.iter().enumerate() {
            let name = format!("out_layer.{index}");
            output.push(Layer {
                linear: Linear::new(builder, &format!("{name}.linear"), input, *width)?,
                norm: Some(BatchNorm::new(builder, &format!("{name}.bn"), *width)?),
            });
            input = *width;
        }
        let name = format!("out_layer.{}.linear", self.hidden.len());
        output.push(Layer {
            linear: Linear::new(builder, &name, input, span.steps)?,
            norm: None,
        });
        Ok(Graph {
            span,
            config: self.clone(),
            embeddings,
            encode,
            attention,
            bias,
            norm,
            mixed_norm,
            output,
            median: builder.buffer("errors.median", &[channels], Initial::Zeros)?,
            spread: builder.buffer("errors.spread", &[channels], Initial::Ones)?,
            batches: builder.counter("errors.num_batches_tracked")?,
            state: builder.finish(),
        })
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
    /// The neighbours of every sensor, the most similar first, with the cosine of their embeddings.
    fn neighbours(&self) -> Result<Vec<Vec<(usize, f32)>>> {
        let mut units = host_values(&self.embeddings)?;
        let size = self.config.embedding;
        for vector in units.chunks_exact_mut(size) {
            let length = dot(vector, vector).sqrt().max(1e-12);
            for value in vector {
                *value /= length;
            }
        }
        let mut neighbours = Vec::with_capacity(self.span.channels);
        for (own, unit) in units.chunks_exact(size).enumerate() {
            let mut ranked = Vec::with_capacity(self.span.channels);
            for (other, vector) in units.chunks_exact(size).enumerate() {
                if other != own {
                    ranked.push((other, dot(unit, vector)));
                }
            }
            // Equal cosines keep the order of the channels, as the sort is stable.
            ranked.sort_by(|one, other| other.1.total_cmp(&one.1));
            ranked.truncate(self.config.neighbours);
            neighbours.push(ranked);
        }
        Ok(neighbours)
    }

    /// What every sensor makes of its own state and of those of its neighbours.
    fn gather(&self, states: &Tensor) -> Result<Tensor> {
        let [own_state, own_embedding, state, embedding] = &self.attention;
        let vectors = Tensor::stack(&[own_state.as_tensor(), state, &self.bias], 0)?;
        let offsets = [self.along(own_embedding)?, self.along(embedding)?];
        // The graph follows the embeddings, which every step moves: it is found again each time.
        let mut neighbours: Vec<Vec<usize>> = Vec::new();
        for ranked in self.neighbours()? {
            neighbours.push(ranked.into_iter().map(|(other, _)| other).collect());
        }
        let edges = Arc::new(Edges::new(&neighbours));
        attend(states, &vectors, &Tensor::stack(&offsets, 0)?, &edges)
    }

    /// The product of every sensor's embedding with a vector, `[channels]`.
    fn along(&self, vector: &Var) -> Result<Tensor> {
        let column = vector.reshape((self.config.embedding, 1))?;
        self.embeddings.matmul(&column)?.flatten_all()
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
        let errors = first_errors(forecast, actual)?;
        let (median, spread) = (host_values(&self.median)?, host_values(&self.spread)?);
        let mut values = host_values(&errors)?;
        for row in values.chunks_exact_mut(self.span.channels) {
            for (channel, value) in row.iter_mut().enumerate() {
                *value = (*value - median[channel]) / (spread[channel] + LEAST_SPREAD);
            }
            if self.config.aggregate == Aggregate::Max {
                keep_largest(row);
            }
        }
        numerics::upload(values, errors.shape(), errors.device())
    }

    fn notice(&self, forecast: &Tensor, actual: &Tensor) -> Result<()> {
        let errors = host_values(&first_errors(forecast, actual)?)?;
        let channels = self.span.channels;
        let seen = self.batches.to_scalar::<i64>()?;
        // The first batch counts in full: there is nothing to average it with.
        let weight = if seen == 0 { 1.0 } else { MOMENTUM as f32 };
        let (mut median, mut spread) = (host_values(&self.median)?, host_values(&self.spread)?);
        for channel in 0..channels {
            let mut own = Vec::with_capacity(errors.len() / channels);
            for row in errors.chunks_exact(channels) {
                own.push(row[channel]);
            }
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
        let mut edges = Vec::new();
        for (to, neighbours) in self.neighbours()?.into_iter().enumerate() {
            for (from, cosine) in neighbours {
                let weight = f64::from(cosine);
                edges.push(Edge { from, to, weight });
            }
        }
        Ok(Some(edges))
    }
}

/// The absolute errors of the first row of forecasts, `[batch, 1, channels]`.
fn first_errors(forecast: &Tensor, actual: &Tensor) -> Result<Tensor> {
    (forecast.narrow(1, 0, 1)? - actual.narrow(1, 0, 1)?)?
        .abs()?
        .contiguous()
}

/// Leaves the largest value alone, as much larger as there are values: so the mean is the largest.
fn keep_largest(row: &mut [f32]) {
    let mut largest = 0;
    for index in 1..row.len() {
        if row[index] > row[largest] {
            largest = index;
        }
    }
    let value = row[largest] * row.len() as f32;
    row.fill(0.0);
    row[largest] = value;
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
    use crate::models::{Batch, on_cpu};
    use candle_core::Device;

    fn graph(config: &Gdn, channels: usize) -> Graph {
        let span = Span {
            past: 4,
            steps: 1,
            channels,
        };
        on_cpu(3, |builder| config.network(span, builder)).unwrap()
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
            let shape = DataShape::detect(5, channels);
            on_cpu(1, |builder| Gdn::default().build(shape, builder))
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
