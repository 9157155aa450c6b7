//! TVNet's block on the CPU (Li, Li and Yuan, ICLR 2025): a convolution whose output is weighted per patch, forward and
//! backward by hand, with everything between two products fused into one pass over memory.
//!
//! A chunk of a batch is worked on by one thread. Training meets twice per block, where batch normalisation needs the
//! statistics of the whole batch; between these meetings chunks know nothing of each other.

use super::batch_norm::{Normaliser, normalise_backward, scale_shift_relu};
use super::conv::{ConvKernel, Plane, TAPS};
use super::elementwise::{Lanes, add_rows, group_means, lanes};
use super::linear::{LinearKernel, Starts};
use super::moments::Moments;
use super::simd::{Level, vectorised};

/// The weights of one block as the kernels want them, with the normalisations of the present step.
#[derive(Clone, Debug)]
pub struct BlockKernel {
    pub level: Level,
    pub conv: ConvKernel,
    pub intra: LinearKernel,
    pub inter: LinearKernel,
    pub conv_norm: Normaliser,
    pub intra_norm: Normaliser,
}

impl BlockKernel {
    pub fn new(level: Level, channels: usize) -> Self {
        Self {
            level,
            conv: ConvKernel::new(level, channels, channels),
            intra: LinearKernel::new(level, channels, channels),
            inter: LinearKernel::new(level, channels, channels),
            conv_norm: Normaliser::default(),
            intra_norm: Normaliser::default(),
        }
    }
}

/// What a thread needs beside a chunk's own values.
#[derive(Clone, Debug)]
pub struct Scratch {
    bordered: Vec<f32>,
    starts: Starts,
    means: Vec<f32>,
    pooled: Vec<f32>,
}

impl Scratch {
    /// For chunks of at most `samples` planes.
    pub fn new(plane: &Plane, samples: usize) -> Self {
        let (patches, channels) = (
            samples * plane.height * plane.channels,
            samples * plane.channels,
        );
        Self {
            bordered: plane.bordered(),
            starts: Starts::default(),
            means: vec![0.0; patches],
            pooled: vec![0.0; channels],
        }
    }

    pub fn starts(&mut self) -> &mut Starts {
        &mut self.starts
    }
}

/// One block's values for one chunk, kept from forward to backward. `S` samples, `N` patches, `P` rows in a patch.
#[derive(Clone, Debug)]
pub struct BlockChunk {
    /// What the convolution gave, `[S, N, P, C]`; in backward its gradient.
    convolved: Vec<f32>,
    convolved_gradient: Vec<f32>,
    /// Means over each patch of the block's input, `[S, N, C]`.
    patch_means: Vec<f32>,
    /// Before normalisation, `[S, N, C]`.
    intra_input: Vec<f32>,
    /// The weights within a patch, `[S, N, C]`.
    intra: Vec<f32>,
    intra_gradient: Vec<f32>,
    /// Means over the patches of `intra`, `[S, C]`.
    pooled: Vec<f32>,
    inter: Vec<f32>,
    /// `1 + inter + intra`, `[S, N, C]`.
    pub(crate) weights: Vec<f32>,
    pub conv_moments: Moments,
    pub intra_moments: Moments,
    pub gradients: BlockGradients,
}

/// A chunk's share of the gradients of a block's parameters.
#[derive(Clone, Debug)]
pub struct BlockGradients {
    /// `[3, 3, input, output]`.
    pub conv: Vec<f32>,
    pub conv_bias: Vec<f32>,
    pub intra: Vec<f32>,
    pub intra_bias: Vec<f32>,
    pub inter: Vec<f32>,
    pub inter_bias: Vec<f32>,
    pub conv_norm: NormSums,
    pub intra_norm: NormSums,
}

/// Sums over rows of the gradient behind a normalisation: the gradients of its bias and weight.
#[derive(Clone, Debug)]
pub struct NormSums {
    /// `Σ gradient`.
    pub bias: Vec<f64>,
    /// `Σ gradient * normalised`.
    pub weight: Vec<f64>,
}

impl NormSums {
    pub fn new(channels: usize) -> Self {
        Self {
            bias: vec![0.0; channels],
            weight: vec![0.0; channels],
        }
    }

    /// Adds the sums of another chunk.
    pub fn merge(&mut self, other: &Self) {
        for (own, other) in [
            (&mut self.bias, &other.bias),
            (&mut self.weight, &other.weight),
        ] {
            for (own, other) in own.iter_mut().zip(other) {
                *own += other;
            }
        }
    }

    fn add(&mut self, bias: &[f32], weight: &[f32]) {
        for (own, other) in [(&mut self.bias, bias), (&mut self.weight, weight)] {
            for (own, other) in own.iter_mut().zip(other) {
                *own += f64::from(*other);
            }
        }
    }

    fn clear(&mut self) {
        self.bias.fill(0.0);
        self.weight.fill(0.0);
    }

    /// The means over `count` rows, in the order bias, weight.
    pub fn means(&self, count: f64) -> [Vec<f32>; 2] {
        [&self.bias, &self.weight].map(|sums| sums.iter().map(|sum| (sum / count) as f32).collect())
    }
}

impl BlockGradients {
    fn new(channels: usize) -> Self {
        let square = vec![0.0; channels * channels];
        let line = vec![0.0; channels];
        Self {
            conv: vec![0.0; TAPS * channels * channels],
            conv_bias: line.clone(),
            intra: square.clone(),
            intra_bias: line.clone(),
            inter: square,
            inter_bias: line,
            conv_norm: NormSums::new(channels),
            intra_norm: NormSums::new(channels),
        }
    }

    fn clear(&mut self) {
        for sums in [
            &mut self.conv,
            &mut self.conv_bias,
            &mut self.intra,
            &mut self.intra_bias,
            &mut self.inter,
            &mut self.inter_bias,
        ] {
            sums.fill(0.0);
        }
        self.conv_norm.clear();
        self.intra_norm.clear();
    }
}

impl BlockChunk {
    /// For `samples` planes; what only training needs is left out if it is not wanted.
    pub fn new(plane: &Plane, samples: usize, train: bool) -> Self {
        let channels = plane.channels;
        let (full, patches) = (samples * plane.len(), samples * plane.height * channels);
        let for_training = usize::from(train);
        Self {
            convolved: vec![0.0; full],
            convolved_gradient: vec![0.0; for_training * full],
            patch_means: vec![0.0; patches],
            intra_input: vec![0.0; patches],
            intra: vec![0.0; patches],
            intra_gradient: vec![0.0; for_training * patches],
            pooled: vec![0.0; samples * channels],
            inter: vec![0.0; samples * channels],
            weights: vec![0.0; patches],
            conv_moments: Moments::new(channels),
            intra_moments: Moments::new(channels),
            gradients: BlockGradients::new(channels),
        }
    }

    /// The products in front of the normalisations. `x` is `[S, N, P, C]`.
    pub fn begin(&mut self, kernel: &BlockKernel, plane: &Plane, x: &[f32], scratch: &mut Scratch) {
        let samples = x.chunks_exact(plane.len());
        for (x, target) in samples.zip(self.convolved.chunks_exact_mut(plane.len())) {
            plane.fill(x, &mut scratch.bordered);
            kernel.conv.forward(plane, &scratch.bordered, target);
        }
        let (width, means) = (plane.width, &mut self.patch_means);
        group_means(kernel.level, x, width, plane.channels, means);
        let (starts, target) = (&mut scratch.starts, &mut self.intra_input);
        kernel.intra.forward(starts, means, target);
    }

    /// The statistics that training normalises by, one sample after another while it is still in the cache.
    pub fn measure(&mut self, level: Level, plane: &Plane) {
        self.conv_moments.clear();
        self.intra_moments.clear();
        for rows in self.convolved.chunks_exact(plane.len()) {
            self.conv_moments.add_rows(level, rows);
        }
        self.intra_moments.add_rows(level, &self.intra_input);
    }

    /// Everything behind the normalisations: `y = relu(weights * normalised) + x`.
    pub fn finish(
        &mut self,
        kernel: &BlockKernel,
        plane: &Plane,
        x: &[f32],
        y: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let (level, channels) = (kernel.level, plane.channels);
        let norm = &kernel.intra_norm;
        scale_shift_relu(level, &self.intra_input, norm, &mut self.intra);
        group_means(level, &self.intra, plane.height, channels, &mut self.pooled);
        let starts = &mut scratch.starts;
        kernel.inter.forward(starts, &self.pooled, &mut self.inter);
        let (intra, inter, weights) = (&self.intra, &self.inter, &mut self.weights);
        add_weights(level, intra, inter, plane.height, channels, weights);
        let (norm, sizes) = (&kernel.conv_norm, (plane.width, channels));
        gate(level, &self.convolved, weights, norm, x, sizes, y);
    }

    /// From the gradient of the output to the sums that the normalisations need of the whole batch.
    pub fn backward_begin(
        &mut self,
        kernel: &BlockKernel,
        plane: &Plane,
        gradient: &[f32],
        scratch: &mut Scratch,
    ) {
        let (level, channels, patches) =
            (kernel.level, plane.channels, plane.height * plane.channels);
        self.gradients.clear();
        let (mut bias, mut weight) = (vec![0.0; channels], vec![0.0; channels]);
        for (sample, gradient) in gradient.chunks_exact(plane.len()).enumerate() {
            let values = sample * plane.len()..(sample + 1) * plane.len();
            let means = sample * patches..(sample + 1) * patches;
            // Sums in 32 bits over a sample, in 64 bits over the batch.
            bias.fill(0.0);
            weight.fill(0.0);
            gate_backward(
                level,
                &self.convolved[values.clone()],
                &self.weights[means.clone()],
                &kernel.conv_norm,
                gradient,
                (plane.width, channels),
                &mut self.convolved_gradient[values],
                &mut self.intra_gradient[means],
                &mut bias,
                &mut weight,
            );
            self.gradients.conv_norm.add(&bias, &weight);
        }
        self.inter_backward(kernel, plane, scratch);
        bias.fill(0.0);
        weight.fill(0.0);
        relu_backward(
            level,
            &self.intra,
            &self.intra_input,
            &kernel.intra_norm,
            &mut self.intra_gradient,
            &mut bias,
            &mut weight,
        );
        self.gradients.intra_norm.add(&bias, &weight);
    }

    /// From the gradient of the weights to that of `intra`, in place, through the mean over patches.
    fn inter_backward(&mut self, kernel: &BlockKernel, plane: &Plane, scratch: &mut Scratch) {
        let (channels, patches) = (plane.channels, plane.height);
        let pooled = &mut scratch.pooled[..self.pooled.len()];
        let blocks = self.intra_gradient.chunks_exact(patches * channels);
        for (block, sum) in blocks.zip(self.inter.chunks_exact_mut(channels)) {
            sum.fill(0.0);
            add_rows(kernel.level, block, sum);
        }
        let (weight, bias) = (&mut self.gradients.inter, &mut self.gradients.inter_bias);
        let (layer, starts) = (&kernel.inter, &mut scratch.starts);
        layer.add_gradients(starts, &self.pooled, &self.inter, weight, bias);
        layer.input_gradient(starts, &self.inter, pooled);
        let target = &mut self.intra_gradient;
        spread(kernel.level, pooled, patches, channels, target);
    }

    /// From the sums of the whole batch to the gradients of parameters and, in place of `gradient`, of the input.
    ///
    /// `conv_means` and `intra_means` are those of [`NormSums::means`].
    pub fn backward_finish(
        &mut self,
        kernel: &BlockKernel,
        plane: &Plane,
        x: &[f32],
        means: (&[Vec<f32>; 2], &[Vec<f32>; 2]),
        gradient: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let (level, gradients) = (kernel.level, &mut self.gradients);
        let (convolved, intra) = (&mut self.convolved_gradient, &mut self.intra_gradient);
        normalise_backward(
            level,
            &self.convolved,
            &kernel.conv_norm,
            means.0,
            convolved,
        );
        normalise_backward(level, &self.intra_input, &kernel.intra_norm, means.1, intra);
        let (weight, bias) = (&mut gradients.intra, &mut gradients.intra_bias);
        let (layer, starts) = (&kernel.intra, &mut scratch.starts);
        layer.add_gradients(starts, &self.patch_means, intra, weight, bias);
        let patch_gradient = &mut scratch.means[..self.patch_means.len()];
        layer.input_gradient(starts, intra, patch_gradient);
        spread(level, patch_gradient, plane.width, plane.channels, gradient);
        let (conv, bordered) = (&kernel.conv, &mut scratch.bordered);
        for (sample, convolved) in convolved.chunks_exact(plane.len()).enumerate() {
            let values = sample * plane.len()..(sample + 1) * plane.len();
            plane.fill(convolved, bordered);
            conv.add_input_gradient(plane, bordered, &mut gradient[values.clone()]);
            plane.fill(&x[values], bordered);
            conv.add_weight_gradient(plane, bordered, convolved, &mut gradients.conv);
            add_rows(level, convolved, &mut gradients.conv_bias);
        }
    }
}

vectorised! {
    /// `1 + inter + intra`, the former the same for all patches of a sample.
    fn add_weights(intra: &[f32], inter: &[f32], patches: usize, channels: usize, target: &mut [f32]) {
        let samples = intra.chunks_exact(patches * channels).zip(target.chunks_exact_mut(patches * channels));
        for ((intra, target), inter) in samples.zip(inter.chunks_exact(channels)) {
            for (intra, target) in intra.chunks_exact(channels).zip(target.chunks_exact_mut(channels)) {
                for block in lanes(channels) {
                    let inter = Lanes::splat(1.0) + Lanes::load(inter, block);
                    (inter + Lanes::load(intra, block)).store(target, block);
                }
            }
        }
    }
}

vectorised! {
    /// `y = max(weights * (z * scale + shift), 0) + x`, with one row of weights per patch.
    fn gate(
        z: &[f32],
        weights: &[f32],
        norm: &Normaliser,
        x: &[f32],
        sizes: (usize, usize),
        y: &mut [f32],
    ) {
        let (width, channels) = sizes;
        for (patch, weights) in weights.chunks_exact(channels).enumerate() {
            let rows = patch * width * channels..(patch + 1) * width * channels;
            let (z, x, y) = (&z[rows.clone()], &x[rows.clone()], &mut y[rows]);
            for block in lanes(channels) {
                let weights = Lanes::load(weights, block);
                let (scale, shift) = (Lanes::load(&norm.scale, block), Lanes::load(&norm.shift, block));
                let rows = z.chunks_exact(channels).zip(x.chunks_exact(channels)).zip(y.chunks_exact_mut(channels));
                for ((z, x), y) in rows {
                    let normalised = Lanes::load(z, block) * scale + shift;
                    ((weights * normalised).positive() + Lanes::load(x, block)).store(y, block);
                }
            }
        }
    }
}

vectorised! {
    /// The gradient behind [`gate`]: of the normalised values into `target`, of the weights into `weights_gradient`,
    /// and the two sums that the normalisation needs, added to `bias` and `weight`.
    fn gate_backward(
        z: &[f32],
        weights: &[f32],
        norm: &Normaliser,
        gradient: &[f32],
        sizes: (usize, usize),
        target: &mut [f32],
        weights_gradient: &mut [f32],
        bias: &mut [f32],
        weight: &mut [f32],
    ) {
        let (width, channels) = sizes;
        for block in lanes(channels) {
            let (scale, shift) = (Lanes::load(&norm.scale, block), Lanes::load(&norm.shift, block));
            let (mean, inverse) = (Lanes::load(&norm.mean, block), Lanes::load(&norm.inverse, block));
            let (mut bias_sum, mut weight_sum) = (Lanes::splat(0.0), Lanes::splat(0.0));
            let patches = weights.chunks_exact(channels).zip(weights_gradient.chunks_exact_mut(channels));
            for (patch, (weights, weights_gradient)) in patches.enumerate() {
                let rows = patch * width * channels..(patch + 1) * width * channels;
                let (z, gradient, target) = (&z[rows.clone()], &gradient[rows.clone()], &mut target[rows]);
                let weights = Lanes::load(weights, block);
                let mut weights_sum = Lanes::splat(0.0);
                let rows = z.chunks_exact(channels).zip(gradient.chunks_exact(channels));
                for ((z, gradient), target) in rows.zip(target.chunks_exact_mut(channels)) {
                    let z = Lanes::load(z, block);
                    let normalised = z * scale + shift;
                    let passed = Lanes::load(gradient, block).where_positive(weights * normalised);
                    let inner = passed * weights;
                    inner.store(target, block);
                    weights_sum = weights_sum + passed * normalised;
                    bias_sum = bias_sum + inner;
                    weight_sum = weight_sum + inner * ((z - mean) * inverse);
                }
                weights_sum.store(weights_gradient, block);
            }
            (Lanes::load(bias, block) + bias_sum).store(bias, block);
            (Lanes::load(weight, block) + weight_sum).store(weight, block);
        }
    }
}

vectorised! {
    /// The gradient in front of a ReLU, in place, and the two sums that the normalisation before it needs.
    fn relu_backward(
        output: &[f32],
        input: &[f32],
        norm: &Normaliser,
        gradient: &mut [f32],
        bias: &mut [f32],
        weight: &mut [f32],
    ) {
        let channels = bias.len();
        for block in lanes(channels) {
            let (mean, inverse) = (Lanes::load(&norm.mean, block), Lanes::load(&norm.inverse, block));
            let (mut bias_sum, mut weight_sum) = (Lanes::splat(0.0), Lanes::splat(0.0));
            let rows = output.chunks_exact(channels).zip(input.chunks_exact(channels));
            for ((output, input), gradient) in rows.zip(gradient.chunks_exact_mut(channels)) {
                let passed = Lanes::load(gradient, block).where_positive(Lanes::load(output, block));
                passed.store(gradient, block);
                bias_sum = bias_sum + passed;
                weight_sum = weight_sum + passed * ((Lanes::load(input, block) - mean) * inverse);
            }
            bias_sum.store(bias, block);
            weight_sum.store(weight, block);
        }
    }
}

vectorised! {
    /// The gradient of a mean over `group` rows: its share added to each of them.
    fn spread(means: &[f32], group: usize, channels: usize, target: &mut [f32]) {
        let share = Lanes::splat(1.0 / group as f32);
        for (mean, rows) in means.chunks_exact(channels).zip(target.chunks_exact_mut(group * channels)) {
            for block in lanes(channels) {
                let added = Lanes::load(mean, block) * share;
                for row in rows.chunks_exact_mut(channels) {
                    (Lanes::load(row, block) + added).store(row, block);
                }
            }
        }
    }
}
