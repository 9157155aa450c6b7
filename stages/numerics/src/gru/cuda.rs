//! Gated recurrent units on CUDA. What goes from step to step runs by kernels; everything else is products over all steps.

use candle_core::{Result, Shape};

use super::cell::{Cell, Sizes};
use super::op::GruOp;
use super::reset_after::ResetAfter;
use super::reset_before::ResetBefore;
use crate::cuda::{Buffer, Floats, Gpu, Kernel, Launch, Matrix, Product, ints};
use crate::operation::{Input, OnCuda};

/// Floats that are kept of every step and unit.
const KEPT: usize = 5;

/// Adds a product to what is there.
const ADDED: Product = Product {
    factor: 1.0,
    keep: 1.0,
    count: 1,
};

const fn kernel(name: &'static str) -> Kernel {
    let module = "gru";
    Kernel { module, name }
}

/// A layer and what it is given, on the device.
#[derive(Clone, Copy)]
pub(crate) struct OnDevice<'a> {
    gpu: Gpu<'a>,
    sizes: Sizes,
    /// `[batch, time, input]`.
    x: Floats<'a>,
    packed: Floats<'a>,
    /// `[batch, hidden]`.
    initial: Floats<'a>,
}

/// What backward gives.
pub(crate) struct Slopes {
    x: Option<Buffer>,
    packed: Buffer,
    initial: Buffer,
}

impl<'a> OnDevice<'a> {
    /// Rows of all steps of all samples.
    fn rows(&self) -> usize {
        self.sizes.batch * self.sizes.time
    }

    fn x_rows(&self) -> Matrix<'a> {
        Matrix::new(self.x, self.rows(), self.sizes.input)
    }

    /// Columns of what is kept of all steps, from a part on.
    fn kept_rows<'b>(&self, kept: &'b Buffer, part: usize, parts: usize) -> Matrix<'b> {
        let hidden = self.sizes.hidden;
        let floats = kept.floats().after(part * hidden);
        Matrix::of_rows(floats, self.rows(), parts * hidden, KEPT * hidden)
    }

    /// The same of one step.
    fn kept_at<'b>(&self, kept: &'b Buffer, time: usize, part: usize, parts: usize) -> Matrix<'b> {
        let Sizes { batch, hidden, .. } = self.sizes;
        let row = KEPT * hidden;
        let floats = kept.floats().after(time * row + part * hidden);
        Matrix::of_rows(floats, batch, parts * hidden, self.sizes.time * row)
    }

    /// The states before a step, `[batch, hidden]`.
    fn before<'b>(&self, states: Floats<'b>, time: usize) -> Matrix<'b>
    where
        'a: 'b,
    {
        let Sizes { batch, hidden, .. } = self.sizes;
        if time == 0 {
            return Matrix::new(self.initial, batch, hidden);
        }
        let floats = states.after((time - 1) * hidden);
        Matrix::of_rows(floats, batch, hidden, self.sizes.time * hidden)
    }

    /// A launch with a thread for each unit of each sample.
    fn each(&self, name: &'static str) -> Launch<'a> {
        let count = self.sizes.batch * self.sizes.hidden;
        self.gpu.each(kernel(name), count)
    }

    /// The struct `GruSizes` of the kernels.
    fn words(&self) -> Vec<u64> {
        ints(&[self.sizes.batch, self.sizes.time, self.sizes.hidden])
    }

    /// Columns of what is kept, summed over all steps.
    fn kept_sums(&self, kept: &Buffer) -> Result<Buffer> {
        let columns = KEPT * self.sizes.hidden;
        self.gpu.column_sums(kept.floats(), self.rows(), columns)
    }
}

/// One form of the unit on CUDA.
pub(crate) trait CellOnCuda {
    /// All states, `[batch, time, hidden]`, and what backward needs.
    fn forward_on(layer: OnDevice<'_>) -> Result<(Buffer, Buffer)>;

    /// From the gradient of all states; of what was kept, a copy.
    fn backward_on(
        layer: OnDevice<'_>,
        gradient: Floats<'_>,
        kept: Buffer,
        with_x: bool,
    ) -> Result<Slopes>;
}

/// Blocks, threads of each, and the kernels that walk through a whole sequence, if the states are small enough.
fn whole(sizes: Sizes) -> Option<(usize, usize, [&'static str; 2])> {
    let threads = (3 * sizes.hidden).next_multiple_of(32);
    let (samples, names) = match sizes.hidden {
        ..=32 => (1, ["gru_forward_32_1", "gru_backward_32_1"]),
        33..=64 => (1, ["gru_forward_64_1", "gru_backward_64_1"]),
        // More samples than multiprocessors share what a block has loaded.
        65..=128 if sizes.batch <= 128 => (1, ["gru_forward_128_1", "gru_backward_128_1"]),
        65..=128 => (2, ["gru_forward_128_2", "gru_backward_128_2"]),
        _ => return None,
    };
    Some((sizes.batch.div_ceil(samples), threads, names))
}

/// Where the parts of the packed weights begin: those of the state, and the biases of both.
fn after_parts(sizes: Sizes) -> [usize; 3] {
    let triple = 3 * sizes.hidden;
    let state = triple * sizes.input;
    let input_bias = state + triple * sizes.hidden;
    [state, input_bias, input_bias + triple]
}

impl CellOnCuda for ResetAfter {
    fn forward_on(layer: OnDevice<'_>) -> Result<(Buffer, Buffer)> {
        let (gpu, sizes) = (layer.gpu, layer.sizes);
        let (rows, hidden) = (layer.rows(), sizes.hidden);
        let [state, input_bias, state_bias] = after_parts(sizes);
        let weight = Matrix::new(layer.packed, 3 * hidden, sizes.input);
        let products = gpu.buffer(rows * 3 * hidden)?;
        let plain = Product::default();
        gpu.product(layer.x_rows(), weight.t(), products.floats(), plain)?;
        let (states, kept) = (
            gpu.buffer(rows * hidden)?,
            gpu.buffer(rows * KEPT * hidden)?,
        );
        let state_weight = layer.packed.range(state..input_bias);
        let input_bias = layer.packed.range(input_bias..state_bias);
        let state_bias = layer.packed.after(state_bias);
        if let Some((blocks, threads, [forward, _])) = whole(sizes) {
            gpu.launch(kernel(forward), blocks, threads)
                .floats(products.floats())
                .floats(input_bias)
                .floats(state_weight)
                .floats(state_bias)
                .floats(layer.initial)
                .floats(states.floats())
                .floats(kept.floats())
                .words(layer.words())
                .run()?;
            return Ok((states, kept));
        }
        let state_weight = Matrix::new(state_weight, 3 * hidden, hidden);
        let product = gpu.buffer(sizes.batch * 3 * hidden)?;
        for time in 0..sizes.time {
            let before = layer.before(states.floats(), time);
            gpu.product(before, state_weight.t(), product.floats(), plain)?;
            layer
                .each("gru_step_forward")
                .floats(products.floats())
                .floats(input_bias)
                .floats(product.floats())
                .floats(state_bias)
                .floats(layer.initial)
                .floats(states.floats())
                .floats(kept.floats())
                .words(layer.words())
                .int(time)
                .run()?;
        }
        Ok((states, kept))
    }

    fn backward_on(
        layer: OnDevice<'_>,
        gradient: Floats<'_>,
        kept: Buffer,
        with_x: bool,
    ) -> Result<Slopes> {
        let (gpu, sizes) = (layer.gpu, layer.sizes);
        let (hidden, triple) = (sizes.hidden, 3 * sizes.hidden);
        let [state, input_bias, state_bias] = after_parts(sizes);
        let carried = gpu.buffer(sizes.batch * hidden)?;
        let state_weight = layer.packed.range(state..input_bias);
        if let Some((blocks, threads, [_, backward])) = whole(sizes) {
            gpu.launch(kernel(backward), blocks, threads)
                .floats(gradient)
                .floats(state_weight)
                .floats(kept.floats())
                .floats(carried.floats())
                .words(layer.words())
                .run()?;
        } else {
            let state_weight = Matrix::new(state_weight, triple, hidden);
            for time in (0..sizes.time).rev() {
                layer
                    .each("gru_step_backward")
                    .floats(gradient)
                    .floats(kept.floats())
                    .floats(carried.floats())
                    .words(layer.words())
                    .int(time)
                    .run()?;
                // The gradients in front of r, z and of what the state gives n.
                let inner = layer.kept_at(&kept, time, 1, 3);
                gpu.product(inner, state_weight, carried.floats(), ADDED)?;
            }
        }
        let packed = gpu.buffer(layer.packed.len())?;
        let (of, plain) = (packed.floats(), Product::default());
        let [of_n, of_gates] =
            [(0, 1), (1, 2)].map(|(part, parts)| layer.kept_rows(&kept, part, parts));
        let gates = 2 * hidden * sizes.input;
        gpu.product(of_gates.t(), layer.x_rows(), of.range(0..gates), plain)?;
        gpu.product(of_n.t(), layer.x_rows(), of.range(gates..state), plain)?;
        let (inner, previous) = (layer.kept_rows(&kept, 1, 3), layer.kept_rows(&kept, 4, 1));
        gpu.product(inner.t(), previous, of.range(state..input_bias), plain)?;
        let sums = layer.kept_sums(&kept)?;
        let sums = sums.floats();
        gpu.copy_into(sums.range(hidden..triple), of.after(input_bias))?;
        gpu.copy_into(sums.range(0..hidden), of.after(input_bias + 2 * hidden))?;
        gpu.copy_into(sums.range(hidden..4 * hidden), of.after(state_bias))?;
        let mut of_x = None;
        if with_x {
            let found = gpu.buffer(layer.x.len())?;
            let for_gates = Matrix::new(layer.packed, 2 * hidden, sizes.input);
            let for_n = Matrix::new(layer.packed.after(gates), hidden, sizes.input);
            gpu.product(of_gates, for_gates, found.floats(), plain)?;
            gpu.product(of_n, for_n, found.floats(), ADDED)?;
            of_x = Some(found);
        }
        Ok(Slopes {
            x: of_x,
            packed,
            initial: carried,
        })
    }
}

/// The parts of the packed kernels: those of gates and candidate, of input and state each, and the biases.
struct BeforeParts<'a> {
    gates_from_input: Floats<'a>,
    gates_from_state: Floats<'a>,
    candidate_from_input: Floats<'a>,
    candidate_from_state: Floats<'a>,
    gates_bias: Floats<'a>,
    candidate_bias: Floats<'a>,
}

fn before_parts(sizes: Sizes, packed: Floats<'_>) -> BeforeParts<'_> {
    let Sizes { input, hidden, .. } = sizes;
    let mut start = 0;
    let mut part = |count: usize| {
        start += count;
        packed.range(start - count..start)
    };
    BeforeParts {
        gates_from_input: part(input * 2 * hidden),
        gates_from_state: part(hidden * 2 * hidden),
        candidate_from_input: part(input * hidden),
        candidate_from_state: part(hidden * hidden),
        gates_bias: part(2 * hidden),
        candidate_bias: part(hidden),
    }
}

impl CellOnCuda for ResetBefore {
    fn forward_on(layer: OnDevice<'_>) -> Result<(Buffer, Buffer)> {
        let (gpu, sizes) = (layer.gpu, layer.sizes);
        let (rows, plain) = (layer.rows(), Product::default());
        let Sizes {
            batch,
            input,
            hidden,
            ..
        } = sizes;
        let parts = before_parts(sizes, layer.packed);
        let gates_in = gpu.buffer(rows * 2 * hidden)?;
        let weight = Matrix::new(parts.gates_from_input, input, 2 * hidden);
        gpu.product(layer.x_rows(), weight, gates_in.floats(), plain)?;
        let candidate_in = gpu.buffer(rows * hidden)?;
        let weight = Matrix::new(parts.candidate_from_input, input, hidden);
        gpu.product(layer.x_rows(), weight, candidate_in.floats(), plain)?;
        let (states, kept) = (
            gpu.buffer(rows * hidden)?,
            gpu.buffer(rows * KEPT * hidden)?,
        );
        let (gates, candidate) = (gpu.buffer(batch * 2 * hidden)?, gpu.buffer(batch * hidden)?);
        let for_gates = Matrix::new(parts.gates_from_state, hidden, 2 * hidden);
        let for_candidate = Matrix::new(parts.candidate_from_state, hidden, hidden);
        for time in 0..sizes.time {
            let before = layer.before(states.floats(), time);
            gpu.product(before, for_gates, gates.floats(), plain)?;
            layer
                .each("before_gates_forward")
                .floats(gates_in.floats())
                .floats(gates.floats())
                .floats(parts.gates_bias)
                .floats(layer.initial)
                .floats(states.floats())
                .floats(kept.floats())
                .words(layer.words())
                .int(time)
                .run()?;
            let reset = layer.kept_at(&kept, time, 3, 1);
            gpu.product(reset, for_candidate, candidate.floats(), plain)?;
            layer
                .each("before_state_forward")
                .floats(candidate_in.floats())
                .floats(candidate.floats())
                .floats(parts.candidate_bias)
                .floats(states.floats())
                .floats(kept.floats())
                .words(layer.words())
                .int(time)
                .run()?;
        }
        Ok((states, kept))
    }

    fn backward_on(
        layer: OnDevice<'_>,
        gradient: Floats<'_>,
        kept: Buffer,
        with_x: bool,
    ) -> Result<Slopes> {
        let (gpu, sizes, plain) = (layer.gpu, layer.sizes, Product::default());
        let Sizes {
            batch,
            input,
            hidden,
            ..
        } = sizes;
        let parts = before_parts(sizes, layer.packed);
        let (carried, of_reset) = (gpu.buffer(batch * hidden)?, gpu.buffer(batch * hidden)?);
        let for_gates = Matrix::new(parts.gates_from_state, hidden, 2 * hidden);
        let for_candidate = Matrix::new(parts.candidate_from_state, hidden, hidden);
        for time in (0..sizes.time).rev() {
            layer
                .each("before_state_backward")
                .floats(gradient)
                .floats(kept.floats())
                .floats(carried.floats())
                .words(layer.words())
                .int(time)
                .run()?;
            let of_candidate = layer.kept_at(&kept, time, 2, 1);
            gpu.product(of_candidate, for_candidate.t(), of_reset.floats(), plain)?;
            layer
                .each("before_gates_backward")
                .floats(of_reset.floats())
                .floats(kept.floats())
                .floats(carried.floats())
                .words(layer.words())
                .int(time)
                .run()?;
            let of_gates = layer.kept_at(&kept, time, 0, 2);
            gpu.product(of_gates, for_gates.t(), carried.floats(), ADDED)?;
        }
        let packed = gpu.buffer(layer.packed.len())?;
        let of = before_parts(sizes, packed.floats());
        let (of_gates, of_candidate) = (layer.kept_rows(&kept, 0, 2), layer.kept_rows(&kept, 2, 1));
        let (resets, previous) = (layer.kept_rows(&kept, 3, 1), layer.kept_rows(&kept, 4, 1));
        let x = layer.x_rows();
        gpu.product(x.t(), of_gates, of.gates_from_input, plain)?;
        gpu.product(previous.t(), of_gates, of.gates_from_state, plain)?;
        gpu.product(x.t(), of_candidate, of.candidate_from_input, plain)?;
        gpu.product(resets.t(), of_candidate, of.candidate_from_state, plain)?;
        let sums = layer.kept_sums(&kept)?;
        // Both biases lie behind one another, as the gradients of gates and candidate do.
        let end = packed.floats().len();
        let of_biases = packed.floats().after(end - 3 * hidden);
        gpu.copy_into(sums.floats().range(0..3 * hidden), of_biases)?;
        let mut of_x = None;
        if with_x {
            let found = gpu.buffer(layer.x.len())?;
            let for_gates = Matrix::new(parts.gates_from_input, input, 2 * hidden);
            let for_candidate = Matrix::new(parts.candidate_from_input, input, hidden);
            gpu.product(of_gates, for_gates.t(), found.floats(), plain)?;
            gpu.product(of_candidate, for_candidate.t(), found.floats(), ADDED)?;
            of_x = Some(found);
        }
        Ok(Slopes {
            x: of_x,
            packed,
            initial: carried,
        })
    }
}

impl<C: Cell + CellOnCuda> OnCuda<3> for GruOp<C> {
    fn forward_on(
        &self,
        gpu: Gpu<'_>,
        inputs: [Input<'_, Floats<'_>>; 3],
    ) -> Result<(Buffer, Shape)> {
        let sizes = self.sizes();
        let [x, packed, initial] = inputs.map(|input| input.values);
        let (states, kept) = C::forward_on(OnDevice {
            gpu,
            sizes,
            x,
            packed,
            initial,
        })?;
        self.on_cuda.keep(kept)?;
        Ok((states, (sizes.batch, sizes.time, sizes.hidden).into()))
    }

    fn backward_on(
        &self,
        gpu: Gpu<'_>,
        inputs: [Input<'_, Floats<'_>>; 3],
        _: Floats<'_>,
        gradient: Floats<'_>,
    ) -> Result<[Option<Buffer>; 3]> {
        // Backward writes its own results over what is kept, and may be asked for again.
        let kept = gpu.copy(self.on_cuda.get()?.floats())?;
        let with_x = inputs[0].tracked;
        let [x, packed, initial] = inputs.map(|input| input.values);
        let layer = OnDevice {
            gpu,
            sizes: self.sizes(),
            x,
            packed,
            initial,
        };
        let slopes = C::backward_on(layer, gradient, kept, with_x)?;
        let of_initial = inputs[2].tracked.then_some(slopes.initial);
        Ok([slopes.x, Some(slopes.packed), of_initial])
    }
}
