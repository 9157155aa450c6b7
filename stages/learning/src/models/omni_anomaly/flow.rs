//! Planar normalising flows (Rezende and Mohamed, ICML 2015) that make a normal posterior supple: a few layers, shared by
//! all rows.

use candle_core::{D, Result, Shape, Tensor, Var};
use rayon::prelude::*;

use super::softplus;
use crate::models::dot;
use numerics::StateBuilder;
use numerics::chunks::{chunks, split_rows};
use numerics::initialise::Initial;
use numerics::operation::{Input, Operation, apply};

/// Layers one after another, `y + û tanh(w·y + b)` each.
#[derive(Clone, Debug)]
pub(super) struct PlanarFlow {
    layers: Vec<Layer>,
    latent: usize,
}

#[derive(Clone, Debug)]
struct Layer {
    w: Var,
    u: Var,
    b: Var,
}

impl PlanarFlow {
    pub fn new(
        builder: &mut StateBuilder<'_>,
        name: &str,
        count: usize,
        latent: usize,
    ) -> Result<Self> {
        let mut layers = Vec::with_capacity(count);
        for index in 0..count {
            let name = format!("{name}/_{index}");
            let small = Initial::Normal(0.01);
            layers.push(Layer {
                w: builder.parameter(format!("{name}/w"), &[1, latent], small)?,
                u: builder.parameter(format!("{name}/u"), &[1, latent], small)?,
                b: builder.parameter(format!("{name}/b"), &[1], Initial::Zeros)?,
            });
        }
        Ok(Self { layers, latent })
    }

    /// `[…, latent]` to the same shape, and `Σ ln|det|` over the layers, `[…]`.
    pub fn forward(&self, y: &Tensor) -> Result<(Tensor, Tensor)> {
        let mut shape = y.dims().to_vec();
        let rows = y.elem_count() / self.latent;
        let flat = y.contiguous()?.reshape((rows, self.latent))?;
        let (y, volume) = if self.layers.is_empty() {
            (flat.clone(), flat.sum(1)?.zeros_like()?)
        } else {
            let latent = self.latent;
            let both = apply(Planar { latent }, [&flat, &self.packed()?])?;
            let volume = both.narrow(1, latent, 1)?.squeeze(1)?;
            (
                both.narrow(1, 0, latent)?.contiguous()?,
                volume.contiguous()?,
            )
        };
        let y = y.reshape(shape.as_slice())?;
        shape.pop();
        Ok((y, volume.reshape(shape)?))
    }

    /// `[layers, latent + latent + 1]`: `w`, the `û` that keeps the layer invertible, and `b`.
    fn packed(&self) -> Result<Tensor> {
        let (mut w, mut u, mut b) = (Vec::new(), Vec::new(), Vec::new());
        for layer in &self.layers {
            w.push(layer.w.as_tensor());
            u.push(layer.u.as_tensor());
            b.push(layer.b.as_tensor());
        }
        let (w, u, b) = (
            Tensor::cat(&w, 0)?,
            Tensor::cat(&u, 0)?,
            Tensor::cat(&b, 0)?,
        );
        // û = u + (m(w·u) - w·u) w / |w|² with m(x) = -1 + ln(1 + e^x), which is above -1 (appendix A.1).
        let product = (&w * &u)?.sum_keepdim(1)?;
        let along = ((softplus(&product)? - 1.0)? - &product)?;
        let direction = (along / w.sqr()?.sum_keepdim(1)?)?.broadcast_mul(&w)?;
        Tensor::cat(&[w, (u + direction)?, b.unsqueeze(1)?], 1)
    }
}

/// `y`, `[rows, latent]`, and packed layers to `[rows, latent + 1]`: what comes out, and the logarithm of the volume.
pub(crate) struct Planar {
    latent: usize,
}

/// One layer's numbers.
#[derive(Clone, Copy)]
struct Numbers<'a> {
    w: &'a [f32],
    u: &'a [f32],
    b: f32,
    /// `w·û`, which is above -1.
    stretch: f32,
}

impl Numbers<'_> {
    /// Moves a point, and returns the activation.
    fn apply(&self, point: &mut [f32]) -> f32 {
        let a = (dot(self.w, point) + self.b).tanh();
        for (point, u) in point.iter_mut().zip(self.u) {
            *point += a * u;
        }
        a
    }
}

impl Planar {
    fn layers<'a>(&self, packed: &'a [f32]) -> Vec<Numbers<'a>> {
        let mut layers = Vec::new();
        for layer in packed.chunks_exact(2 * self.latent + 1) {
            let (w, rest) = layer.split_at(self.latent);
            let (u, b) = rest.split_at(self.latent);
            let (b, stretch) = (b[0], dot(w, u));
            layers.push(Numbers { w, u, b, stretch });
        }
        layers
    }

    fn run(&self, y: &[f32], packed: &[f32]) -> Vec<f32> {
        let (latent, layers) = (self.latent, self.layers(packed));
        let rows = y.len() / latent;
        let mut target = vec![0.0; rows * (latent + 1)];
        let parts = chunks(rows);
        let targets = split_rows(&mut target, &parts, latent + 1).into_par_iter();
        targets.zip(&parts).for_each(|(target, range)| {
            let y = y[range.start * latent..range.end * latent].chunks_exact(latent);
            for (y, target) in y.zip(target.chunks_exact_mut(latent + 1)) {
                let (point, volume) = target.split_at_mut(latent);
                point.copy_from_slice(y);
                for layer in &layers {
                    let a = layer.apply(point);
                    volume[0] += ((1.0 - a * a) * layer.stretch).ln_1p();
                }
            }
        });
        target
    }

    /// The gradients of `y` and of the packed layers, the chunks' shares added in their order.
    fn run_back(&self, y: &[f32], packed: &[f32], gradient: &[f32]) -> [Vec<f32>; 2] {
        let (latent, layers) = (self.latent, self.layers(packed));
        let rows = y.len() / latent;
        let mut of_y = vec![0.0; y.len()];
        let parts = chunks(rows);
        let targets = split_rows(&mut of_y, &parts, latent).into_par_iter();
        let shares: Vec<Vec<f32>> = targets
            .zip(&parts)
            .map(|(of_y, range)| {
                let mut walk = Walk {
                    points: vec![0.0; layers.len() * latent],
                    activations: vec![0.0; layers.len()],
                };
                let mut share = vec![0.0; packed.len()];
                for (row, of_y) in range.clone().zip(of_y.chunks_exact_mut(latent)) {
                    let gradient = &gradient[row * (latent + 1)..][..=latent];
                    of_y.copy_from_slice(&y[row * latent..][..latent]);
                    walk.forward(&layers, of_y);
                    of_y.copy_from_slice(&gradient[..latent]);
                    walk.backward(&layers, of_y, gradient[latent], &mut share);
                }
                share
            })
            .collect();
        let mut of_packed = vec![0.0; packed.len()];
        for share in &shares {
            for (sum, share) in of_packed.iter_mut().zip(share) {
                *sum += share;
            }
        }
        [of_y, of_packed]
    }
}

/// What one row's way back needs of its way forward.
struct Walk {
    /// The point before each layer.
    points: Vec<f32>,
    activations: Vec<f32>,
}

impl Walk {
    fn forward(&mut self, layers: &[Numbers<'_>], point: &mut [f32]) {
        let kept = self
            .points
            .chunks_exact_mut(point.len())
            .zip(&mut self.activations);
        for (layer, (kept, activation)) in layers.iter().zip(kept) {
            kept.copy_from_slice(point);
            *activation = layer.apply(point);
        }
    }

    /// `gradient` goes from after the last layer to before the first; `volume` is that of the logarithm.
    fn backward(
        &self,
        layers: &[Numbers<'_>],
        gradient: &mut [f32],
        volume: f32,
        share: &mut [f32],
    ) {
        let latent = gradient.len();
        let kept = self.points.chunks_exact(latent).zip(&self.activations);
        let shares = share.chunks_exact_mut(2 * latent + 1);
        for ((layer, (point, a)), share) in layers.iter().zip(kept).zip(shares).rev() {
            // The volume is ln(1 + (1 - a²) w·û); what follows are its derivatives by w·û and by a.
            let (slope, per_volume) = (1.0 - a * a, volume / (1.0 + (1.0 - a * a) * layer.stretch));
            let of_stretch = per_volume * slope;
            let of_a = dot(gradient, layer.u) - 2.0 * a * layer.stretch * per_volume;
            let inner = of_a * slope;
            let (of_w, rest) = share.split_at_mut(latent);
            let (of_u, of_b) = rest.split_at_mut(latent);
            for unit in 0..latent {
                of_w[unit] += inner * point[unit] + of_stretch * layer.u[unit];
                of_u[unit] += a * gradient[unit] + of_stretch * layer.w[unit];
                gradient[unit] += inner * layer.w[unit];
            }
            of_b[0] += inner;
        }
    }
}

impl Operation<2> for Planar {
    const LABEL: &'static str = "planar-flow";

    fn compose(&self, [y, packed]: [&Tensor; 2]) -> Result<Tensor> {
        let latent = self.latent;
        let (mut y, mut volume) = (y.clone(), y.narrow(1, 0, 1)?.zeros_like()?);
        for index in 0..packed.dim(0)? {
            let layer = packed.narrow(0, index, 1)?;
            let (w, u, b) = (
                layer.narrow(1, 0, latent)?,
                layer.narrow(1, latent, latent)?,
                layer.narrow(1, 2 * latent, 1)?,
            );
            let a = y
                .broadcast_mul(&w)?
                .sum_keepdim(D::Minus1)?
                .broadcast_add(&b)?
                .tanh()?;
            let stretch = (&w * &u)?.sum_keepdim(1)?;
            let slope = (1.0 - a.sqr()?)?.broadcast_mul(&stretch)?;
            volume = (volume + (slope + 1.0)?.log()?)?;
            y = (y + a.broadcast_mul(&u)?)?;
        }
        Tensor::cat(&[y, volume], 1)
    }

    fn forward(&self, [y, packed]: [Input<'_>; 2]) -> Result<(Vec<f32>, Shape)> {
        let target = self.run(y.values, packed.values);
        Ok((target, y.with_last(self.latent + 1)))
    }

    fn backward(
        &self,
        [y, packed]: [Input<'_>; 2],
        _: &[f32],
        gradient: &[f32],
    ) -> Result<[Option<Vec<f32>>; 2]> {
        let gradients = self.run_back(y.values, packed.values, gradient);
        Ok(gradients.map(Some))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use contract::Random;
    use numerics::conformance::{Draw, Example, Examples};

    impl Examples<2> for Planar {
        fn examples(draw: &mut Draw) -> Vec<Example<Self, 2>> {
            let mut example = |(rows, layers, latent)| {
                // Near nothing, as layers start, so that they are invertible.
                let packed = draw.between(-0.4, 0.4, &[layers, 2 * latent + 1]);
                Example {
                    operation: Self { latent },
                    inputs: [draw.variable(&[rows, latent]), packed],
                }
            };
            [(1, 1, 1), (40, 3, 3), (19, 5, 2)].map(&mut example).into()
        }
    }

    fn flow(latent: usize) -> PlanarFlow {
        let mut random = Random::new(7, "flow");
        let mut builder = StateBuilder::new(&Device::Cpu, &mut random);
        let flow = PlanarFlow::new(&mut builder, "flow", 3, latent).unwrap();
        // Far from where layers start, where the flow does hardly anything.
        for layer in &flow.layers {
            for var in [&layer.w, &layer.u, &layer.b] {
                let values: Vec<f32> = (0..var.elem_count())
                    .map(|_| random.normal() as f32)
                    .collect();
                var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap())
                    .unwrap();
            }
        }
        flow
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn the_volume_is_the_determinant_of_the_derivative() {
        let flow = flow(2);
        let at = |x: f32, y: f32| {
            let point = Tensor::new(&[[x, y]], &Device::Cpu).unwrap();
            let (out, volume) = flow.forward(&point).unwrap();
            (values(&out), values(&volume)[0])
        };
        let (x, y, step) = (0.3, -0.7, 1e-2);
        let slope =
            |a: Vec<f32>, b: Vec<f32>| [(a[0] - b[0]) / (2.0 * step), (a[1] - b[1]) / (2.0 * step)];
        let along_x = slope(at(x + step, y).0, at(x - step, y).0);
        let along_y = slope(at(x, y + step).0, at(x, y - step).0);
        let determinant = along_x[0] * along_y[1] - along_x[1] * along_y[0];
        assert!((determinant.abs().ln() - at(x, y).1).abs() < 1e-3);
    }

    #[test]
    fn without_layers_nothing_changes() {
        let mut random = Random::new(7, "flow");
        let flow = PlanarFlow::new(
            &mut StateBuilder::new(&Device::Cpu, &mut random),
            "flow",
            0,
            2,
        )
        .unwrap();
        let y = Tensor::new(&[[[1_f32, 2.0]]], &Device::Cpu).unwrap();
        let (out, volume) = flow.forward(&y).unwrap();
        assert_eq!((values(&out), values(&volume)), (vec![1.0, 2.0], vec![0.0]));
        assert_eq!(volume.dims(), [1, 1]);
    }
}
