//! A convolution of three taps over time whose ends meet, without bias: how transformers for series embed values.
//! Channels-last rows lie side by side, so a row with its neighbours is one stretch of memory and the convolution a
//! product.

mod op;

use candle_core::{Result, Tensor, Var, bail};

use super::initialise::Initial;
use super::operation::{apply, has_kernels};
use super::positions::Positions;
use super::precision::matmul;
use super::state::StateBuilder;
use op::CircularConvOp;

/// The kernel's taps: the row before, the row itself and the row after.
const TAPS: usize = 3;

/// The layer's weight, `[output, input, 3]`, as `torch.nn.Conv1d` with circular padding declares it.
#[derive(Clone, Debug)]
pub struct CircularConv {
    pub weight: Var,
    pub input: usize,
    pub output: usize,
}

impl CircularConv {
    /// A layer with Kaiming's normal initialisation.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn new(
        builder: &mut StateBuilder<'_>,
        name: &str,
        input: usize,
        output: usize,
    ) -> Result<Self> {
        let initial = Initial::KaimingNormal(TAPS * input);
        let weight =
            builder.parameter(format!("{name}.weight"), &[output, input, TAPS], initial)?;
        Ok(Self {
            weight,
            input,
            output,
        })
    }

    /// `x`, `[batch, length, input]`, to `[batch, length, output]`, plus the positions of rows.
    ///
    /// # Errors
    /// If the last axis is not as wide as the layer's input, or the table of positions is of another size than the
    /// output.
    pub fn forward_onto(&self, x: &Tensor, positions: &Positions) -> Result<Tensor> {
        let (_, length, channels) = x.dims3()?;
        if (length, self.output) != (positions.length, positions.width) {
            let Positions {
                length: rows,
                width,
                ..
            } = positions;
            bail!(
                "positions of {rows} rows of {width} values cannot be added to {length} of {}",
                self.output
            )
        }
        if channels != self.input || length == 0 {
            bail!(
                "a convolution of {} channels cannot take {:?}",
                self.input,
                x.dims()
            )
        }
        if has_kernels(x) {
            let op = CircularConvOp {
                input: self.input,
                output: self.output,
                positions: positions.clone(),
            };
            return apply(op, [x, &self.weight]);
        }
        self.compose(x)?
            .broadcast_add(&positions.tensor(x.device())?.to_dtype(x.dtype())?)
    }

    /// The convolution with Candle's own operations, on any device.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, length, input) = x.dims3()?;
        let (last, first) = (x.narrow(1, length - 1, 1)?, x.narrow(1, 0, 1)?);
        let (before, after) = match length {
            1 => (last, first),
            _ => (
                Tensor::cat(&[&last, &x.narrow(1, 0, length - 1)?], 1)?,
                Tensor::cat(&[&x.narrow(1, 1, length - 1)?, &first], 1)?,
            ),
        };
        let rows =
            Tensor::cat(&[&before, x, &after], 2)?.reshape((batch * length, TAPS * input))?;
        let weight = self
            .weight
            .permute((2, 1, 0))?
            .reshape((TAPS * input, self.output))?;
        matmul(&rows, &weight)?.reshape((batch, length, self.output))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use contract::Random;

    #[test]
    fn the_operation_agrees_with_candle_and_with_the_definition() {
        let mut random = Random::new(2, "circular");
        for (batch, length, input, output) in
            [(1, 1, 1, 1), (2, 2, 3, 5), (3, 9, 7, 20), (17, 5, 2, 33)]
        {
            let mut builder = StateBuilder::new(&Device::Cpu, &mut random);
            let layer = CircularConv::new(&mut builder, "conv", input, output).unwrap();
            let mut draw = |width: usize| {
                let values = (0..batch * length * width)
                    .map(|_| random.range(-1.0, 1.0) as f32)
                    .collect::<Vec<_>>();
                Var::from_vec(values, (batch, length, width), &Device::Cpu).unwrap()
            };
            let (x, upstream) = (draw(input), draw(output));
            let positions = Positions::new(length, output);
            let found = layer.forward_onto(&x, &positions).unwrap();
            let table = positions.tensor(&Device::Cpu).unwrap();
            let expected = layer.compose(&x).unwrap().broadcast_add(&table).unwrap();
            let differentiate = |y: &Tensor| {
                let store = (y * upstream.as_tensor())
                    .unwrap()
                    .sum_all()
                    .unwrap()
                    .backward()
                    .unwrap();
                [&x, &layer.weight].map(|variable| store.get(variable).unwrap().clone())
            };
            let pairs = differentiate(&found)
                .into_iter()
                .zip(differentiate(&expected))
                .chain([(found.clone(), expected)]);
            for (found, expected) in pairs {
                assert_eq!(found.dims(), expected.dims());
                let apart = (found - expected)
                    .unwrap()
                    .abs()
                    .unwrap()
                    .flatten_all()
                    .unwrap()
                    .max(0)
                    .unwrap();
                assert!(apart.to_scalar::<f32>().unwrap() < 1e-5, "{apart}");
            }
            let (x, weight) = (
                x.to_vec3::<f32>().unwrap(),
                layer.weight.to_vec3::<f32>().unwrap(),
            );
            let value = found.to_vec3::<f32>().unwrap()[batch - 1][0][output - 1];
            let rows = [length - 1, 0, 1 % length];
            let terms = (0..TAPS).flat_map(|tap| (0..input).map(move |channel| (tap, channel)));
            let sum: f32 = terms
                .map(|(tap, c)| x[batch - 1][rows[tap]][c] * weight[output - 1][c][tap])
                .sum();
            let sum = sum + positions.values()[output - 1];
            assert!((value - sum).abs() < 1e-5, "{value} {sum}");
            let x = Tensor::new(x, &Device::Cpu).unwrap();
            let longer = Positions::new(length + 1, output);
            assert!(layer.forward_onto(&x, &longer).is_err());
        }
    }

    #[test]
    fn other_channels_are_refused() {
        let mut random = Random::new(2, "circular");
        let layer = CircularConv::new(
            &mut StateBuilder::new(&Device::Cpu, &mut random),
            "conv",
            3,
            2,
        )
        .unwrap();
        let x = Tensor::zeros((1, 4, 2), DType::F32, &Device::Cpu).unwrap();
        assert!(layer.forward_onto(&x, &Positions::new(4, 2)).is_err());
    }
}
