//! Convolution and transposed convolution as operations with kernels for the CPU.

use candle_core::{Result, Shape, bail};

use super::correlation::Correlation;
use super::patches::Grid;
use super::window::Window2d;
use crate::chunks::{chunks, sum_parts};
use crate::elementwise::add_rows;
use crate::operation::{Input, Operation};
use crate::simd::Level;

/// Which way the weights are passed through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// From images to maps.
    Convolve,
    /// From maps to images with this many rows and columns added at the end.
    Transpose([usize; 2]),
}

/// `x`, `[batch, height, width, input]`, weight (`[output, input, kernel height, kernel width]`, transposed
/// `[input, output, …]`) and, in its three-armed form, bias, `[output]`.
pub(super) struct Conv2dOp {
    pub window: Window2d,
    pub way: Way,
}

impl Conv2dOp {
    fn correlation(&self, x: &[usize], weight: &[usize]) -> Result<Correlation> {
        let &[batch, height, width, channels] = x else {
            bail!("a convolution cannot take {x:?}")
        };
        let own = Grid {
            size: [height, width],
            channels,
        };
        let (size, channels) = match self.way {
            Way::Convolve => (self.window.places(own.size), weight[0]),
            Way::Transpose(added) => (self.window.plane(own.size, added), weight[1]),
        };
        let Some(size) = size else {
            bail!(
                "a window of {:?} does not fit on a plane of {height} by {width}",
                self.window.kernel
            )
        };
        let other = Grid { size, channels };
        let (image, map) = match self.way {
            Way::Convolve => (own, other),
            Way::Transpose(_) => (other, own),
        };
        Ok(Correlation {
            level: Level::detect(),
            window: self.window,
            batch,
            image,
            map,
        })
    }

    fn run(
        &self,
        x: Input<'_>,
        weight: Input<'_>,
        bias: Option<&[f32]>,
    ) -> Result<(Vec<f32>, Shape)> {
        let correlation = self.correlation(x.dims, weight.dims)?;
        let (x, weight) = (x.values, weight.values);
        let (values, grid) = match self.way {
            Way::Convolve => (correlation.forward(x, weight, bias), correlation.map),
            Way::Transpose(_) => (correlation.adjoint(x, weight, bias), correlation.image),
        };
        let [rows, columns] = grid.size;
        Ok((
            values,
            (correlation.batch, rows, columns, grid.channels).into(),
        ))
    }

    fn differentiate(
        &self,
        x: Input<'_>,
        weight: Input<'_>,
        gradient: &[f32],
    ) -> Result<[Option<Vec<f32>>; 2]> {
        let correlation = self.correlation(x.dims, weight.dims)?;
        let [mut of_x, mut of_weight] = [None, None];
        if x.tracked {
            of_x = Some(match self.way {
                Way::Convolve => correlation.adjoint(gradient, weight.values, None),
                Way::Transpose(_) => correlation.forward(gradient, weight.values, None),
            });
        }
        if weight.tracked {
            of_weight = Some(match self.way {
                Way::Convolve => correlation.weight_gradient(x.values, gradient),
                Way::Transpose(_) => correlation.weight_gradient(gradient, x.values),
            });
        }
        Ok([of_x, of_weight])
    }
}

impl Operation<2> for Conv2dOp {
    const NAME: &'static str = "conv2d";

    fn forward(&self, [x, weight]: [Input<'_>; 2]) -> Result<(Vec<f32>, Shape)> {
        self.run(x, weight, None)
    }

    fn backward(
        &self,
        [x, weight]: [Input<'_>; 2],
        _: &[f32],
        gradient: &[f32],
    ) -> Result<[Option<Vec<f32>>; 2]> {
        self.differentiate(x, weight, gradient)
    }
}

impl Operation<3> for Conv2dOp {
    const NAME: &'static str = "conv2d-bias";

    fn forward(&self, [x, weight, bias]: [Input<'_>; 3]) -> Result<(Vec<f32>, Shape)> {
        self.run(x, weight, Some(bias.values))
    }

    fn backward(
        &self,
        [x, weight, bias]: [Input<'_>; 3],
        _: &[f32],
        gradient: &[f32],
    ) -> Result<[Option<Vec<f32>>; 3]> {
        let [of_x, of_weight] = self.differentiate(x, weight, gradient)?;
        let columns = bias.values.len();
        let of_bias = sum_parts(&chunks(gradient.len() / columns), columns, |rows, share| {
            let rows = &gradient[rows.start * columns..rows.end * columns];
            add_rows(Level::detect(), rows, share);
        });
        Ok([of_x, of_weight, Some(of_bias)])
    }
}
