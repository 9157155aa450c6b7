//! Attention of the nodes of a graph over themselves and their neighbours, as one operation with its backward pass
//! (Deng and Hooi, AAAI 2021, equations 5 to 8; the logits are those of Veličković et al., ICLR 2018).

use std::sync::{Arc, OnceLock};

use candle_core::{D, Result, Shape, Tensor, bail};

use super::chunks::{chunks, fill_rows, sum_shares};
use super::elementary::exp;
use super::elementwise::{Lanes, add, lanes};
use super::operation::{Input, Operation, apply};
use super::precision::matmul;
use super::simd::{Level, vectorised};

/// The slope of the leaky rectifier below zero.
const LEAK: f32 = 0.2;
/// Stands for minus infinity where no edge is.
const NO_EDGE: f32 = -1e30;

/// Whom every node listens to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edges {
    /// Where the sources of each node start in `from`, and where those of the last one end.
    starts: Vec<usize>,
    from: Vec<usize>,
}

impl Edges {
    /// Every node listens to itself and to these others, in this order.
    pub fn new(neighbours: &[Vec<usize>]) -> Self {
        let mut edges = Self {
            starts: vec![0],
            from: Vec::new(),
        };
        for (own, others) in neighbours.iter().enumerate() {
            edges.from.push(own);
            edges.from.extend(others);
            edges.starts.push(edges.from.len());
        }
        edges
    }

    fn nodes(&self) -> usize {
        self.starts.len() - 1
    }

    /// `[nodes, nodes]`: 0 where a node listens to another, and as good as minus infinity elsewhere.
    fn mask(&self, like: &Tensor) -> Result<Tensor> {
        let nodes = self.nodes();
        let mut mask = vec![NO_EDGE; nodes * nodes];
        for own in 0..nodes {
            for other in &self.from[self.starts[own]..self.starts[own + 1]] {
                mask[own * nodes + other] = 0.0;
            }
        }
        Tensor::from_vec(mask, (nodes, nodes), like.device())?.to_dtype(like.dtype())
    }
}

/// What every node makes of the nodes that it listens to.
///
/// With a = `vectors[0]` and b = `vectors[1]`, node i listens to j with the softmax over its sources of
/// `leaky(a·state_i + offsets[0, i] + b·state_j + offsets[1, j])`. States are `[batch, nodes, width]`, vectors
/// `[3, width]`, of which the last is added to the sum of states, and offsets `[2, nodes]`. The result has the shape of
/// the states.
///
/// # Errors
/// If the shapes do not fit together.
pub fn attend(
    states: &Tensor,
    vectors: &Tensor,
    offsets: &Tensor,
    edges: &Arc<Edges>,
) -> Result<Tensor> {
    let (_, nodes, width) = states.dims3()?;
    if vectors.dims() != [3, width] || offsets.dims() != [2, nodes] || edges.nodes() != nodes {
        let (found, wanted) = (vectors.dims(), offsets.dims());
        bail!(
            "attention over {} nodes: {:?}, {found:?} and {wanted:?} do not fit",
            edges.nodes(),
            states.dims()
        )
    }
    let op = AttendOp {
        edges: Arc::clone(edges),
        shares: OnceLock::new(),
    };
    apply(op, [states, vectors, offsets])
}

/// What every node takes from every other: `[batch, nodes, nodes]`, rows that sum to 1.
fn weights(states: &Tensor, vectors: &Tensor, offsets: &Tensor, edges: &Edges) -> Result<Tensor> {
    let (batch, nodes, width) = states.dims3()?;
    let rows = states.reshape((batch * nodes, width))?;
    let mut shares = Vec::with_capacity(2);
    for index in 0..2 {
        let products = matmul(&rows, &vectors.get(index)?.reshape((width, 1))?)?;
        let products = products.reshape((batch, nodes))?;
        shares.push(products.broadcast_add(&offsets.get(index)?.unsqueeze(0)?)?);
    }
    let logits = shares[0]
        .unsqueeze(2)?
        .broadcast_add(&shares[1].unsqueeze(1)?)?;
    // max(x, leak x), with a gradient that Candle gets right.
    let leaky = (logits.relu()? - (logits.neg()?.relu()? * f64::from(LEAK))?)?;
    candle_nn::ops::softmax(&leaky.broadcast_add(&edges.mask(states)?)?, D::Minus1)
}

/// States, vectors and offsets to what every node makes of the others.
pub(crate) struct AttendOp {
    edges: Arc<Edges>,
    /// Of every sample and edge: the weight, and the slope of the rectifier.
    shares: OnceLock<[Vec<f32>; 2]>,
}

impl Operation<3> for AttendOp {
    const LABEL: &'static str = "graph-attention";

    fn compose(&self, [states, vectors, offsets]: [&Tensor; 3]) -> Result<Tensor> {
        weights(states, vectors, offsets, &self.edges)?
            .matmul(states)?
            .broadcast_add(&vectors.get(2)?)
    }

    fn forward(&self, [states, vectors, offsets]: [Input<'_>; 3]) -> Result<(Vec<f32>, Shape)> {
        let (batch, nodes, width) = Shape::from(states.dims).dims3()?;
        let (size, edges) = (nodes * width, self.edges.from.len());
        let ([target, weights, slopes], _) = fill_rows(
            &chunks(batch),
            [size, edges, edges],
            |range, [target, weights, slopes]| {
                let mut logits = vec![0.0; 2 * nodes];
                for (index, sample) in range.enumerate() {
                    let kept = index * edges..(index + 1) * edges;
                    logits.copy_from_slice(offsets.values);
                    forward(
                        Level::detect(),
                        &states.values[sample * size..][..size],
                        vectors.values,
                        &self.edges,
                        &mut logits,
                        &mut weights[kept.clone()],
                        &mut slopes[kept],
                        &mut target[index * size..][..size],
                    );
                }
            },
        );
        if self.shares.set([weights, slopes]).is_err() {
            bail!("an attention was applied twice")
        }
        Ok((target, states.dims.into()))
    }

    fn backward(
        &self,
        [states, vectors, _]: [Input<'_>; 3],
        _: &[f32],
        gradient: &[f32],
    ) -> Result<[Option<Vec<f32>>; 3]> {
        let Some([weights, slopes]) = self.shares.get() else {
            bail!("an attention was differentiated before it was applied")
        };
        let (batch, nodes, width) = Shape::from(states.dims).dims3()?;
        let (size, edges) = (nodes * width, self.edges.from.len());
        let ([of_states], shares) = fill_rows(&chunks(batch), [size], |range, [of_states]| {
            // The vectors' share and, behind it, that of the offsets.
            let mut share = vec![0.0; 3 * width + 2 * nodes];
            let (of_vectors, of_offsets) = share.split_at_mut(3 * width);
            let mut of_logits = vec![0.0; 2 * nodes];
            let mut of_weights = vec![0.0; edges];
            for (sample, of_states) in range.zip(of_states.chunks_exact_mut(size)) {
                let kept = sample * edges..(sample + 1) * edges;
                of_logits.fill(0.0);
                backward(
                    Level::detect(),
                    &states.values[sample * size..][..size],
                    vectors.values,
                    &self.edges,
                    [&weights[kept.clone()], &slopes[kept]],
                    &gradient[sample * size..][..size],
                    &mut of_weights,
                    &mut of_logits,
                    of_states,
                    of_vectors,
                );
                add(Level::detect(), &of_logits, of_offsets);
            }
            share
        });
        let mut of_vectors = sum_shares(shares, 3 * width + 2 * nodes);
        let of_offsets = of_vectors.split_off(3 * width);
        Ok([Some(of_states), Some(of_vectors), Some(of_offsets)])
    }
}

/// The product of two rows, summed in the order of [`Lanes::sum`].
#[inline(always)]
fn dot(one: &[f32], other: &[f32]) -> f32 {
    let mut sum = Lanes::splat(0.0);
    for span in lanes(one.len()) {
        sum = sum + Lanes::load(one, span) * Lanes::load(other, span);
    }
    sum.sum()
}

/// `target += factor * row`.
#[inline(always)]
fn add_scaled(factor: f32, row: &[f32], target: &mut [f32]) {
    for (target, value) in target.iter_mut().zip(row) {
        *target += factor * value;
    }
}

vectorised! {
    /// One sample. `logits` holds the offsets and gets what each node adds to the logits as listener and as source.
    fn forward(
        states: &[f32],
        vectors: &[f32],
        edges: &Edges,
        logits: &mut [f32],
        weights: &mut [f32],
        slopes: &mut [f32],
        target: &mut [f32],
    ) {
        let (nodes, width) = (edges.nodes(), vectors.len() / 3);
        let (listening, speaking) = logits.split_at_mut(nodes);
        for (node, state) in states.chunks_exact(width).enumerate() {
            listening[node] += dot(state, &vectors[..width]);
            speaking[node] += dot(state, &vectors[width..2 * width]);
        }
        for (node, target) in target.chunks_exact_mut(width).enumerate() {
            let range = edges.starts[node]..edges.starts[node + 1];
            let (from, weights) = (&edges.from[range.clone()], &mut weights[range.clone()]);
            let slopes = &mut slopes[range];
            // Without the largest logit, no exponential overflows.
            let mut largest = f32::NEG_INFINITY;
            for (source, (weight, slope)) in from.iter().zip(weights.iter_mut().zip(slopes.iter_mut())) {
                let logit = listening[node] + speaking[*source];
                *slope = if logit > 0.0 { 1.0 } else { LEAK };
                *weight = logit * *slope;
                largest = largest.max(*weight);
            }
            let mut sum = 0.0;
            for weight in weights.iter_mut() {
                *weight = exp(*weight - largest);
                sum += *weight;
            }
            target.copy_from_slice(&vectors[2 * width..]);
            for (source, weight) in from.iter().zip(weights) {
                *weight /= sum;
                add_scaled(*weight, &states[source * width..][..width], target);
            }
        }
    }
}

vectorised! {
    /// One sample. `of_logits`, zeros at first, gets the gradient of what each node adds to the logits, `of_weights` is
    /// memory; the gradients of states and vectors are added.
    fn backward(
        states: &[f32],
        vectors: &[f32],
        edges: &Edges,
        shares: [&[f32]; 2],
        gradient: &[f32],
        of_weights: &mut [f32],
        of_logits: &mut [f32],
        of_states: &mut [f32],
        of_vectors: &mut [f32],
    ) {
        let (nodes, width) = (edges.nodes(), vectors.len() / 3);
        let [weights, slopes] = shares;
        for (node, gradient) in gradient.chunks_exact(width).enumerate() {
            add_scaled(1.0, gradient, &mut of_vectors[2 * width..]);
            let range = edges.starts[node]..edges.starts[node + 1];
            let mut mean = 0.0;
            for edge in range.clone() {
                let at = edges.from[edge] * width;
                of_weights[edge] = dot(gradient, &states[at..at + width]);
                mean += weights[edge] * of_weights[edge];
                add_scaled(weights[edge], gradient, &mut of_states[at..at + width]);
            }
            for edge in range {
                let of_logit = weights[edge] * (of_weights[edge] - mean) * slopes[edge];
                of_logits[node] += of_logit;
                of_logits[nodes + edges.from[edge]] += of_logit;
            }
        }
        let rows = states.chunks_exact(width).zip(of_states.chunks_exact_mut(width));
        for (node, (state, of_state)) in rows.enumerate() {
            for (part, of_logit) in [of_logits[node], of_logits[nodes + node]].into_iter().enumerate() {
                let vector = part * width..(part + 1) * width;
                add_scaled(of_logit, &vectors[vector.clone()], of_state);
                add_scaled(of_logit, state, &mut of_vectors[vector]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{Draw, Example, Examples};
    use candle_core::Device;

    impl Examples<3> for AttendOp {
        const TOLERANCE: f32 = 5e-5;

        fn examples(draw: &mut Draw) -> Vec<Example<Self, 3>> {
            let neighbours = [vec![3, 1], vec![0], vec![], vec![4, 0, 1], vec![2]];
            let mut example = |batch, width| Example {
                operation: Self {
                    edges: Arc::new(Edges::new(&neighbours)),
                    shares: OnceLock::new(),
                },
                inputs: [
                    draw.variable(&[batch, 5, width]),
                    draw.variable(&[3, width]),
                    draw.variable(&[2, 5]),
                ],
            };
            vec![example(1, 1), example(3, 7), example(20, 33)]
        }
    }

    #[test]
    fn attention_goes_to_neighbours_and_sums_to_one() {
        let edges = Edges::new(&[vec![1], vec![2], vec![0]]);
        let tensor = |dims: &[usize]| {
            let values = (0..dims.iter().product())
                .map(|index: usize| (index as f32).sin())
                .collect::<Vec<f32>>();
            Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
        };
        let weights = weights(
            &tensor(&[2, 3, 4]),
            &tensor(&[3, 4]),
            &tensor(&[2, 3]),
            &edges,
        )
        .unwrap();
        for (own, row) in weights.to_vec3::<f32>().unwrap()[1].iter().enumerate() {
            let positive: Vec<usize> = (0..3).filter(|other| row[*other] > 0.0).collect();
            assert!(positive.len() == 2 && positive.contains(&own), "{row:?}");
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        }
    }
}
