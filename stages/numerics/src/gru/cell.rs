//! What the two forms of the gated recurrent unit have in common towards the walk through time.
//! How a sequence is walked through, and by how many threads, is in `sequence.rs`.

use candle_core::{Result, Tensor};

use crate::product::Rows;
use crate::simd::Level;

/// Sizes of a layer and of what it is given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub batch: usize,
    pub time: usize,
    pub input: usize,
    pub hidden: usize,
}

/// What a cell keeps of every step of one sample, in floats per step and hidden unit.
pub(super) const KEPT: usize = 4;

impl Sizes {
    /// Floats that one sample keeps for the backward pass.
    pub fn kept(self) -> usize {
        self.time * KEPT * self.hidden
    }
}

/// Rows of all samples of a chunk at one step.
#[derive(Clone, Copy)]
pub(crate) struct Step<'a> {
    pub time: usize,
    /// `[samples, input]`.
    pub x: Rows<'a>,
    /// The states before the step, `[samples, hidden]`.
    pub previous: Rows<'a>,
}

impl<'a> Step<'a> {
    pub fn previous_row(&self, sample: usize, hidden: usize) -> &'a [f32] {
        let start = self.previous.starts[sample];
        &self.previous.values[start..start + hidden]
    }
}

/// Room for the steps of one chunk.
pub(crate) struct Scratch {
    /// `[samples, 3 * hidden]`, twice: products with the input and with the state.
    pub input: Vec<f32>,
    pub state: Vec<f32>,
    /// `[samples, hidden]`, twice: the state after the step, and what a cell has between two products.
    pub next: Vec<f32>,
    pub between: Vec<f32>,
}

impl Scratch {
    pub fn new(samples: usize, sizes: Sizes) -> Self {
        let size = samples * sizes.hidden;
        Self {
            input: vec![0.0; 3 * size],
            state: vec![0.0; 3 * size],
            next: vec![0.0; size],
            between: vec![0.0; size],
        }
    }
}

/// One sample's share of what the gradient of the weights is computed from.
#[derive(Clone, Copy)]
pub(crate) struct Sample<'a> {
    /// `[time, input]`.
    pub x: &'a [f32],
    /// `[hidden]`, where the sequence did not start from zeros.
    pub initial: Option<&'a [f32]>,
    /// `[time, hidden]`.
    pub states: &'a [f32],
    /// What the backward walk left.
    pub kept: &'a [f32],
}

/// What a form needs beside the walk on the CPU.
#[cfg(feature = "cuda")]
pub(crate) use super::cuda::CellOnCuda as OnDevices;

/// What a form needs beside the walk on the CPU: nothing.
#[cfg(not(feature = "cuda"))]
pub(crate) trait OnDevices {}
#[cfg(not(feature = "cuda"))]
impl<C> OnDevices for C {}

/// One form of the unit, with its weights as the products want them. On one thread.
pub(crate) trait Cell: OnDevices + Sized + Send + Sync + 'static {
    /// Floats of all weights and biases, one after another.
    fn packed(input: usize, hidden: usize) -> usize;

    /// All states, `[batch, time, hidden]`, by Candle's own operations.
    fn compose(sizes: Sizes, x: &Tensor, packed: &Tensor, initial: &Tensor) -> Result<Tensor>;

    /// Takes weights over.
    fn new(level: Level, sizes: Sizes, packed: &[f32], direction: Direction) -> Self;

    /// From the states before a step to those after it, in `scratch.next`; `kept` is the chunk's.
    fn forward(&self, step: Step<'_>, kept: &mut [f32], scratch: &mut Scratch);

    /// From the gradient of the states after a step to that of the states before it, in place. What was kept of the
    /// step becomes the gradient in front of the activations.
    fn backward(
        &self,
        step: Step<'_>,
        kept: &mut [f32],
        gradient: &mut [f32],
        scratch: &mut Scratch,
    );

    /// The gradient of a sample's input, `[time, input]`, from what the backward walk left.
    fn input_gradient(&self, kept: &[f32], target: &mut [f32]);

    /// Adds a sample's share of the gradient of the packed weights.
    fn add_weight_gradient(&self, sample: Sample<'_>, packed: &mut [f32]);
}

/// Which products will be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    Backward,
    /// Backward without the gradient of the input.
    BackwardToState,
}

/// Step after step over `[batch, time, …]`, from one state to the next.
pub(super) fn walk(
    input: &Tensor,
    initial: &Tensor,
    sizes: Sizes,
    step: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let mut state = initial.clone();
    let mut states = Vec::with_capacity(sizes.time);
    for time in 0..sizes.time {
        state = step(&input.narrow(1, time, 1)?.squeeze(1)?, &state)?;
        states.push(state.clone());
    }
    Tensor::stack(&states, 1)
}

/// Matrices that lie one after another, the rows and columns of each given.
pub(super) fn parts<const N: usize>(
    packed: &Tensor,
    sizes: [[usize; 2]; N],
) -> Result<[Tensor; N]> {
    let mut parts = Vec::with_capacity(N);
    let mut start = 0;
    for [rows, columns] in sizes {
        let part = packed.narrow(0, start, rows * columns)?;
        parts.push(part.reshape((rows, columns))?);
        start += rows * columns;
    }
    let parts = <[Tensor; N]>::try_from(parts);
    parts.map_err(|_| candle_core::Error::Msg("a part for each size".to_owned()))
}
