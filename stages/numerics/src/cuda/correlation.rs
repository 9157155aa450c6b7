//! Every convolution on CUDA: a matrix product with what lies under the window at all of its places.

use candle_core::Result;

use super::{Buffer, Floats, Gpu, Kernel, Matrix, Product, ints};
use crate::conv2d::Window2d;

const GATHER: Kernel = Kernel {
    module: "correlation",
    name: "gather",
};
const SCATTER: Kernel = Kernel {
    module: "correlation",
    name: "scatter",
};

/// From `image`, `[batch, height, width, channels]`, to `map`, `[batch, rows, columns, outputs]`, with a weight of
/// `[outputs, channels, taps]`; or back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Correlation {
    pub window: Window2d,
    /// Whether the first axis is a circle, whose padding holds what is at the other end.
    pub is_circular: bool,
    pub batch: usize,
    pub plane: [usize; 2],
    pub channels: usize,
    pub map: [usize; 2],
    pub outputs: usize,
}

impl Correlation {
    fn places(&self) -> usize {
        self.batch * self.map[0] * self.map[1]
    }

    /// Values under the window.
    fn depth(&self) -> usize {
        self.channels * self.window.taps()
    }

    fn image_len(&self) -> usize {
        self.batch * self.plane[0] * self.plane[1] * self.channels
    }

    /// Whether the values under the window are the image as it lies.
    fn is_plain(&self) -> bool {
        let window = self.window;
        window.taps() == 1 && window.stride == [1; 2] && window.padding == [0; 2]
    }

    fn words(&self) -> Vec<u64> {
        let ([height, width], [rows, columns]) = (self.plane, self.map);
        let window = self.window;
        let sizes = [height, width, self.channels, rows, columns];
        let steps = [
            window.kernel,
            window.stride,
            window.padding,
            window.dilation,
        ]
        .concat();
        ints(&[&sizes[..], &steps, &[usize::from(self.is_circular)]].concat())
    }

    /// What lies under the window, `[places, depth]`; nothing if that is the image as it lies.
    fn gathered(&self, gpu: Gpu<'_>, image: Floats<'_>) -> Result<Option<Buffer>> {
        if self.is_plain() {
            return Ok(None);
        }
        let count = self.places() * self.depth();
        let patches = gpu.buffer(count)?;
        gpu.each(GATHER, count)
            .floats(image)
            .floats(patches.floats())
            .words(self.words())
            .int(count)
            .run()?;
        Ok(Some(patches))
    }

    /// The map, on top of what is there if `is_added`.
    pub fn forward(
        &self,
        gpu: Gpu<'_>,
        image: Floats<'_>,
        weight: Floats<'_>,
        map: Floats<'_>,
        is_added: bool,
    ) -> Result<()> {
        let gathered = self.gathered(gpu, image)?;
        let patches = gathered.as_ref().map_or(image, Buffer::floats);
        let product = Product {
            keep: if is_added { 1.0 } else { 0.0 },
            ..Product::default()
        };
        let patches = Matrix::new(patches, self.places(), self.depth());
        let weight = Matrix::new(weight, self.outputs, self.depth());
        gpu.product(patches, weight.t(), map, product)
    }

    /// What a map passes back to the image: the gradient there, or a transposed convolution.
    pub fn adjoint(
        &self,
        gpu: Gpu<'_>,
        map: Floats<'_>,
        weight: Floats<'_>,
        bias: Option<Floats<'_>>,
    ) -> Result<Buffer> {
        let patches = gpu.buffer(self.places() * self.depth())?;
        let rows = Matrix::new(map, self.places(), self.outputs);
        let weight = Matrix::new(weight, self.outputs, self.depth());
        gpu.product(rows, weight, patches.floats(), Product::default())?;
        if self.is_plain() && bias.is_none() {
            return Ok(patches);
        }
        let (count, image) = (self.image_len(), gpu.buffer(self.image_len())?);
        gpu.each(SCATTER, count)
            .floats(patches.floats())
            .optional(bias)
            .floats(image.floats())
            .words(self.words())
            .int(count)
            .run()?;
        Ok(image)
    }

    /// The gradient of the weight, from an image and the gradient of the map.
    pub fn weight_gradient(
        &self,
        gpu: Gpu<'_>,
        image: Floats<'_>,
        map: Floats<'_>,
    ) -> Result<Buffer> {
        let of_weight = gpu.buffer(self.outputs * self.depth())?;
        let gathered = self.gathered(gpu, image)?;
        let patches = gathered.as_ref().map_or(image, Buffer::floats);
        let patches = Matrix::new(patches, self.places(), self.depth());
        let rows = Matrix::new(map, self.places(), self.outputs);
        gpu.product(rows.t(), patches, of_weight.floats(), Product::default())?;
        Ok(of_weight)
    }
}
