//! Convolution and transposed convolution as operations of Candle's graph on the CPU, with their backward passes.
//! On other devices the layers are composed of Candle's own operations instead.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::correlation::Correlation;
use super::patches::Grid;
use super::window::Window2d;
use crate::chunks::chunks;
use crate::elementwise::{add, add_rows};
use crate::host::{floats, with_slice};
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
/// `[input, output, …]`) and, in its three-armed form, bias, `[output]`. All are contiguous.
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
        let level = Level::detect();
        let window = self.window;
        let sized = |size: Option<[usize; 2]>, channels| match size {
            Some(size) => Ok(Grid { size, channels }),
            None => bail!(
                "a window of {:?} does not fit on a plane of {height} by {width}",
                window.kernel
            ),
        };
        Ok(match self.way {
            Way::Convolve => Correlation {
                level,
                window,
                batch,
                image: own,
                map: sized(window.places(own.size), weight[0])?,
            },
            Way::Transpose(added) => Correlation {
                level,
                window,
                batch,
                image: sized(window.plane(own.size, added), weight[1])?,
                map: own,
            },
        })
    }

    fn run(
        &self,
        x: (&CpuStorage, &Layout),
        weight: (&CpuStorage, &Layout),
        bias: Option<(&CpuStorage, &Layout)>,
    ) -> Result<(CpuStorage, Shape)> {
        let correlation = self.correlation(x.1.dims(), weight.1.dims())?;
        let (x, weight) = (floats(x.0, x.1)?, floats(weight.0, weight.1)?);
        let bias = bias
            .map(|(storage, layout)| floats(storage, layout))
            .transpose()?;
        let (values, grid) = match self.way {
            Way::Convolve => (correlation.forward(x, weight, bias), correlation.map),
            Way::Transpose(_) => (correlation.adjoint(x, weight, bias), correlation.image),
        };
        let shape = Shape::from((correlation.batch, grid.size[0], grid.size[1], grid.channels));
        Ok((CpuStorage::F32(values), shape))
    }

    fn differentiate(
        &self,
        x: &Tensor,
        weight: &Tensor,
        gradient: &Tensor,
    ) -> Result<[Option<Tensor>; 2]> {
        let correlation = self.correlation(x.dims(), weight.dims())?;
        let of_x = match x.track_op() {
            true => Some(with_slice(gradient, |gradient| {
                with_slice(weight, |weight| match self.way {
                    Way::Convolve => correlation.adjoint(gradient, weight, None),
                    Way::Transpose(_) => correlation.forward(gradient, weight, None),
                })
            })??),
            false => None,
        };
        let of_weight = match weight.track_op() {
            true => Some(with_slice(gradient, |gradient| {
                with_slice(x, |x| match self.way {
                    Way::Convolve => correlation.weight_gradient(x, gradient),
                    Way::Transpose(_) => correlation.weight_gradient(gradient, x),
                })
            })??),
            false => None,
        };
        let tensor = |values: Option<Vec<f32>>, like: &Tensor| {
            values
                .map(|values| Tensor::from_vec(values, like.shape(), like.device()))
                .transpose()
        };
        Ok([tensor(of_x, x)?, tensor(of_weight, weight)?])
    }
}

impl CustomOp2 for Conv2dOp {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.run((x, x_layout), (weight, weight_layout), None)
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [x, weight] = self.differentiate(x, weight, &gradient.contiguous()?)?;
        Ok((x, weight))
    }
}

impl CustomOp3 for Conv2dOp {
    fn name(&self) -> &'static str {
        "conv2d-bias"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.run(
            (x, x_layout),
            (weight, weight_layout),
            Some((bias, bias_layout)),
        )
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let [of_x, of_weight] = self.differentiate(x, weight, &gradient)?;
        let sums = with_slice(&gradient, |gradient| {
            column_sums(gradient, bias.elem_count())
        })?;
        Ok((
            of_x,
            of_weight,
            Some(Tensor::from_vec(sums, bias.shape(), bias.device())?),
        ))
    }
}

/// Sums over all rows; the chunks' shares are added in their order.
fn column_sums(rows: &[f32], columns: usize) -> Vec<f32> {
    let share = |range: std::ops::Range<usize>| {
        let mut sums = vec![0.0; columns];
        add_rows(
            Level::detect(),
            &rows[range.start * columns..range.end * columns],
            &mut sums,
        );
        sums
    };
    let shares: Vec<Vec<f32>> = chunks(rows.len() / columns)
        .into_par_iter()
        .map(share)
        .collect();
    let mut sums = vec![0.0; columns];
    shares
        .iter()
        .for_each(|share| add(Level::detect(), share, &mut sums));
    sums
}
