//! The linear layer on CUDA: products, and the bias in front of them.

use candle_core::{Result, Shape};

use super::op::LinearOp;
use crate::cuda::{Buffer, Floats, Gpu, Matrix, Product};
use crate::operation::{Input, OnCuda};

/// Adds a product to what is there.
const ADDED: Product = Product {
    factor: 1.0,
    keep: 1.0,
    count: 1,
};

impl OnCuda<3> for LinearOp {
    fn forward_on(
        &self,
        gpu: Gpu<'_>,
        [x, weight, bias]: [Input<'_, Floats<'_>>; 3],
    ) -> Result<(Buffer, Shape)> {
        let rows = x.values.len() / self.input;
        let target = gpu.rows_of(bias.values, rows)?;
        let weight = Matrix::new(weight.values, self.output, self.input);
        let x_rows = Matrix::new(x.values, rows, self.input);
        gpu.product(x_rows, weight.t(), target.floats(), ADDED)?;
        Ok((target, x.with_last(self.output)))
    }

    fn backward_on(
        &self,
        gpu: Gpu<'_>,
        [x, weight, _]: [Input<'_, Floats<'_>>; 3],
        _: Floats<'_>,
        gradient: Floats<'_>,
    ) -> Result<[Option<Buffer>; 3]> {
        let rows = x.values.len() / self.input;
        let slopes = Matrix::new(gradient, rows, self.output);
        let of_weight = gpu.buffer(self.output * self.input)?;
        let x_rows = Matrix::new(x.values, rows, self.input);
        gpu.product(slopes.t(), x_rows, of_weight.floats(), Product::default())?;
        let of_bias = gpu.column_sums(gradient, rows, self.output)?;
        let mut of_x = None;
        if x.tracked {
            let found = gpu.buffer(x.values.len())?;
            let weight = Matrix::new(weight.values, self.output, self.input);
            gpu.product(slopes, weight, found.floats(), Product::default())?;
            of_x = Some(found);
        }
        Ok([of_x, Some(of_weight), Some(of_bias)])
    }
}
