//! Convolution and transposed convolution as operations.

use candle_core::{Result, Shape, Tensor, bail};

use super::correlation::Correlation;
use super::patches::Grid;
use super::window::Window2d;
use crate::chunks::{chunks, sum_parts};
use crate::elementwise::add_rows;
#[cfg(feature = "cuda")]
use crate::operation::OnCuda;
use crate::operation::{Input, Operation};
use crate::simd::Level;
use crate::unfolded::convolve;

/// Which way the weights are passed through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From images to maps.
    Convolve,
    /// From maps to images with this many rows and columns added at the end.
    Transpose([usize; 2]),
}

/// `x`, `[batch, height, width, input]`, weight (`[output, input, kernel height, kernel width]`, transposed
/// `[input, output, …]`) and, in its three-armed form, bias, `[output]`.
pub(crate) struct Conv2dOp {
    pub window: Window2d,
    pub way: Way,
}

impl Conv2dOp {
    fn composed(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let Window2d {
            stride, dilation, ..
        } = self.window;
        let Way::Transpose(added) = self.way else {
            return convolve(x, weight, &self.window);
        };
        let padding = self.window.padding;
        if [stride, dilation, padding, added]
            .iter()
            .any(|[one, other]| one != other)
        {
            bail!("on this device, a transposed convolution needs the same window along both axes")
        }
        let planes = x.permute((0, 3, 1, 2))?.contiguous()?;
        planes
            .conv_transpose2d(weight, padding[0], added[0], stride[0], dilation[0])?
            .permute((0, 2, 3, 1))?
            .contiguous()
    }

    pub(super) fn correlation(&self, x: &[usize], weight: &[usize]) -> Result<Correlation> {
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
    const LABEL: &'static str = "conv2d";

    #[cfg(feature = "cuda")]
    fn on_cuda(&self, _: [&[usize]; 2]) -> Option<&dyn OnCuda<2>> {
        Some(self)
    }

    fn compose(&self, [x, weight]: [&Tensor; 2]) -> Result<Tensor> {
        self.composed(x, weight)
    }

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
    const LABEL: &'static str = "conv2d-bias";

    #[cfg(feature = "cuda")]
    fn on_cuda(&self, _: [&[usize]; 3]) -> Option<&dyn OnCuda<3>> {
        Some(self)
    }

    fn compose(&self, [x, weight, bias]: [&Tensor; 3]) -> Result<Tensor> {
        self.composed(x, weight)?.broadcast_add(bias)
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{Draw, Example, Examples};

    /// Windows of all kinds, from images to maps and, where the composition can, back.
    fn ways() -> Vec<(Conv2dOp, [usize; 2])> {
        let oblong = Window2d {
            kernel: [2, 3],
            stride: [3, 1],
            padding: [1, 0],
            dilation: [1, 2],
        };
        let windows = [
            Window2d::square(1),
            Window2d::square(3).padding(1),
            Window2d::square(3).stride(2).padding(1),
            Window2d::square(2).stride(3),
            Window2d::square(3).dilation(2).padding(2),
            oblong,
        ];
        let mut ways = Vec::new();
        for window in windows {
            let back = (window != oblong).then_some(Way::Transpose([0; 2]));
            for way in [Some(Way::Convolve), back].into_iter().flatten() {
                ways.push((Conv2dOp { window, way }, [5, 7]));
            }
        }
        let window = Window2d::square(3).stride(2).padding(1);
        let way = Way::Transpose([1, 1]);
        ways.push((Conv2dOp { window, way }, [3, 4]));
        ways
    }

    impl Conv2dOp {
        fn example_inputs(&self, [height, width]: [usize; 2], draw: &mut Draw) -> [Tensor; 2] {
            let (input, output) = (3, 5);
            let [rows, columns] = self.window.kernel;
            let channels = match self.way {
                Way::Convolve => [output, input],
                Way::Transpose(_) => [input, output],
            };
            [
                draw.variable(&[2, height, width, input]),
                draw.variable(&[channels[0], channels[1], rows, columns]),
            ]
        }
    }

    impl Examples<2> for Conv2dOp {
        fn examples(draw: &mut Draw) -> Vec<Example<Self, 2>> {
            let mut examples = Vec::new();
            for (operation, plane) in ways() {
                let inputs = operation.example_inputs(plane, draw);
                examples.push(Example { operation, inputs });
            }
            examples
        }
    }

    impl Examples<3> for Conv2dOp {
        fn examples(draw: &mut Draw) -> Vec<Example<Self, 3>> {
            let mut examples = Vec::new();
            for (operation, plane) in ways() {
                let [x, weight] = operation.example_inputs(plane, draw);
                let inputs = [x, weight, draw.variable(&[5])];
                examples.push(Example { operation, inputs });
            }
            examples
        }
    }
}
