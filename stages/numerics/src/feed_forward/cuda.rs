//! A feed-forward layer on CUDA. What the first product gives is kept for the backward pass; what follows from it is
//! computed again.

use candle_core::{Result, Shape};

use super::op::FeedForwardOp;
use crate::cuda::{Buffer, Floats, Gpu, Kernel, Matrix, Product};
use crate::operation::{Input, OnCuda};

const HIDE: Kernel = Kernel {
    module: "feed_forward",
    name: "hide",
};
const HIDE_BACKWARD: Kernel = Kernel {
    module: "feed_forward",
    name: "hide_backward",
};

/// Adds a product to what is there.
const ADDED: Product = Product {
    factor: 1.0,
    keep: 1.0,
    count: 1,
};

/// The parts of the parameters: weights and biases of both layers.
struct Parts<'a> {
    first: Matrix<'a>,
    first_bias: Floats<'a>,
    second: Matrix<'a>,
    second_bias: Floats<'a>,
}

impl FeedForwardOp {
    fn parts<'a>(&self, parameters: Floats<'a>) -> Parts<'a> {
        let [first, bias, second] = self.ends();
        let end = second + self.output;
        Parts {
            first: Matrix::new(parameters.range(0..first), self.hidden, self.input),
            first_bias: parameters.range(first..bias),
            second: Matrix::new(parameters.range(bias..second), self.output, self.hidden),
            second_bias: parameters.range(second..end),
        }
    }

    /// The hidden values, from what the first product gave.
    fn hidden_on(&self, gpu: Gpu<'_>, before: &Buffer, bias: Floats<'_>) -> Result<Buffer> {
        let count = before.floats().len();
        let (rows, after) = (count / self.hidden, gpu.buffer(count)?);
        gpu.each(HIDE, rows * self.hidden.div_ceil(128) * 16)
            .floats(before.floats())
            .floats(bias)
            .words(self.dropout.words())
            .floats(after.floats())
            .int(rows)
            .int(self.hidden)
            .run()?;
        Ok(after)
    }
}

impl OnCuda<2> for FeedForwardOp {
    fn forward_on(
        &self,
        gpu: Gpu<'_>,
        [x, parameters]: [Input<'_, Floats<'_>>; 2],
    ) -> Result<(Buffer, Shape)> {
        let rows = x.values.len() / self.input;
        let parts = self.parts(parameters.values);
        let before = gpu.buffer(rows * self.hidden)?;
        let x_rows = Matrix::new(x.values, rows, self.input);
        gpu.product(x_rows, parts.first.t(), before.floats(), Product::default())?;
        let after = self.hidden_on(gpu, &before, parts.first_bias)?;
        let target = gpu.rows_of(parts.second_bias, rows)?;
        let hidden = Matrix::new(after.floats(), rows, self.hidden);
        gpu.product(hidden, parts.second.t(), target.floats(), ADDED)?;
        self.kept.keep(before)?;
        Ok((target, x.with_last(self.output)))
    }

    fn backward_on(
        &self,
        gpu: Gpu<'_>,
        [x, parameters]: [Input<'_, Floats<'_>>; 2],
        _: Floats<'_>,
        gradient: Floats<'_>,
    ) -> Result<[Option<Buffer>; 2]> {
        let before = self.kept.get()?;
        let rows = x.values.len() / self.input;
        let parts = self.parts(parameters.values);
        let [first, bias, second] = self.ends();
        let (of_parameters, plain) = (gpu.buffer(parameters.values.len())?, Product::default());
        let of = of_parameters.floats();
        let slopes = Matrix::new(gradient, rows, self.output);
        let after = self.hidden_on(gpu, before, parts.first_bias)?;
        let hidden = Matrix::new(after.floats(), rows, self.hidden);
        gpu.product(slopes.t(), hidden, of.range(bias..second), plain)?;
        let of_second_bias = of.range(second..second + self.output);
        gpu.column_sums_into(gradient, rows, self.output, of_second_bias)?;
        // From here on `after` has the gradient of what the first product gave.
        gpu.product(slopes, parts.second, after.floats(), plain)?;
        gpu.each(HIDE_BACKWARD, rows * self.hidden.div_ceil(128) * 16)
            .floats(before.floats())
            .floats(parts.first_bias)
            .words(self.dropout.words())
            .floats(after.floats())
            .int(rows)
            .int(self.hidden)
            .run()?;
        let x_rows = Matrix::new(x.values, rows, self.input);
        gpu.product(hidden.t(), x_rows, of.range(0..first), plain)?;
        gpu.column_sums_into(after.floats(), rows, self.hidden, of.range(first..bias))?;
        let mut of_x = None;
        if x.tracked {
            let found = gpu.buffer(x.values.len())?;
            gpu.product(hidden, parts.first, found.floats(), plain)?;
            of_x = Some(found);
        }
        Ok([of_x, Some(of_parameters)])
    }
}
