//! A training step on the CPU with a hand-written tape for the blocks: gradients are added where they are made, and what
//! backward no longer needs is freed. Stem and head go through Candle's graph. It computes what the graph of the whole
//! network computes; a test holds them together.

use std::sync::Arc;

use candle_core::{Device, Result, Tensor, TensorId, Var, bail};
use rayon::prelude::*;

use super::bottleneck::{Bottleneck, Unit};
use super::{Batch, Resnet};
use contract::Random;
use numerics::batch_norm::NormTape;
use numerics::conv2d::{Correlation, Grid};
use numerics::elementwise::group_means;
use numerics::host::with_slice;
use numerics::{Gradients, Level, Mode, Slopes};

/// Values of a batch of planes, `[batch, height, width, channels]`, shared by those who need them again.
#[derive(Clone)]
struct Planes {
    grid: Grid,
    values: Arc<Vec<f32>>,
}

/// What backward needs of a convolution and its normalisation.
struct UnitTape {
    correlation: Correlation,
    convolved: Vec<f32>,
    norm: NormTape,
    output: Planes,
}

/// What backward needs of a block.
struct BlockTape {
    input: Planes,
    units: [UnitTape; 3],
    shortcut: Option<UnitTape>,
}

/// Gradients of parameters as they are found.
#[derive(Default)]
struct Found(Vec<(TensorId, Tensor)>);

impl Found {
    fn add(&mut self, parameter: &Var, gradient: Tensor) {
        self.0.push((parameter.id(), gradient));
    }

    fn get(&self, parameter: &Var) -> Option<&Tensor> {
        let found = self.0.iter().find(|(id, _)| *id == parameter.id())?;
        Some(&found.1)
    }
}

/// The training loss and all gradients; running statistics are moved on.
pub(super) fn gradients(
    network: &Resnet,
    batch: &Batch,
    random: &mut Random,
) -> Result<(f64, Gradients)> {
    let stem = network.stem(&batch.inputs, Mode::Train)?;
    let (samples, height, width, channels) = stem.dims4()?;
    let grid = Grid {
        size: [height, width],
        channels,
    };
    let mut x = Planes {
        grid,
        values: Arc::new(with_slice(&stem, <[f32]>::to_vec)?),
    };
    let mut tapes = Vec::new();
    for block in &network.blocks {
        let tape = forward(block, x, samples)?;
        x = tape.units[2].output.clone();
        tapes.push(tape);
    }
    let last = x.grid;
    let features = Var::from_tensor(&means(&x, samples)?)?;
    drop(x);
    let loss = batch.cross_entropy(&network.head.forward(&features, Mode::Train, random)?)?;
    let of_head = Slopes::of(&loss)?;
    let Some(gradient) = of_head.get(&features)? else {
        bail!("the loss does not reach the features")
    };
    let mut gradient = spread(&gradient, last)?;
    let mut found = Found::default();
    for (block, tape) in network.blocks.iter().zip(tapes).rev() {
        gradient = backward(block, tape, &gradient, &mut found)?;
    }
    // The sum that has this gradient.
    let upstream = Tensor::from_vec(gradient, stem.shape(), &Device::Cpu)?;
    let of_stem = Slopes::of(&(&stem * upstream)?.sum_all()?)?;
    let mut gradients = Vec::new();
    for (_, parameter) in network.state.parameters() {
        gradients.push(match found.get(parameter) {
            Some(gradient) => Some(gradient.clone()),
            None => of_head.get(parameter)?.or(of_stem.get(parameter)?),
        });
    }
    Ok((f64::from(loss.to_scalar::<f32>()?), Gradients(gradients)))
}

fn forward(block: &Bottleneck, input: Planes, samples: usize) -> Result<BlockTape> {
    let first = run(&block.units[0], &input, None, true, samples)?;
    let second = run(&block.units[1], &first.output, None, true, samples)?;
    let shortcut = match &block.shortcut {
        Some(unit) => Some(run(unit, &input, None, false, samples)?),
        None => None,
    };
    let residual = shortcut.as_ref().map_or(&input, |tape| &tape.output);
    let third = run(
        &block.units[2],
        &second.output,
        Some(residual),
        true,
        samples,
    )?;
    Ok(BlockTape {
        input,
        units: [first, second, third],
        shortcut,
    })
}

fn run(
    unit: &Unit,
    x: &Planes,
    residual: Option<&Planes>,
    relu: bool,
    samples: usize,
) -> Result<UnitTape> {
    let correlation = unit.conv.on_host(samples, x.grid)?;
    let convolved = with_slice(&unit.conv.weight, |weight| {
        correlation.forward(&x.values, weight, None)
    })?;
    let residual = residual.map(|residual| residual.values.as_slice());
    let (values, norm) = unit.norm.train_on_host(&convolved, residual, relu)?;
    let output = Planes {
        grid: correlation.map,
        values: Arc::new(values),
    };
    Ok(UnitTape {
        correlation,
        convolved,
        norm,
        output,
    })
}

/// From the gradient of a block's output to that of its input.
fn backward(
    block: &Bottleneck,
    tape: BlockTape,
    gradient: &[f32],
    found: &mut Found,
) -> Result<Vec<f32>> {
    let BlockTape {
        input,
        units: [first, second, third],
        shortcut,
    } = tape;
    let mut residual = Vec::new();
    let inner = undo(
        &block.units[2],
        third,
        &second.output,
        gradient,
        Wanted::Residual(&mut residual),
        found,
    )?;
    let inner = undo(
        &block.units[1],
        second,
        &first.output,
        &inner,
        Wanted::Input,
        found,
    )?;
    let around = match (&block.shortcut, shortcut) {
        (Some(unit), Some(tape)) => undo(unit, tape, &input, &residual, Wanted::Input, found)?,
        _ => residual,
    };
    undo(
        &block.units[0],
        first,
        &input,
        &inner,
        Wanted::Sum(around),
        found,
    )
}

/// What is asked of a unit's backward pass besides the gradients of its parameters.
enum Wanted<'a> {
    /// The gradient of the input.
    Input,
    /// That added to this.
    Sum(Vec<f32>),
    /// The gradient of the input, and here that of the residual.
    Residual(&'a mut Vec<f32>),
}

fn undo(
    unit: &Unit,
    tape: UnitTape,
    x: &Planes,
    gradient: &[f32],
    wanted: Wanted<'_>,
    found: &mut Found,
) -> Result<Vec<f32>> {
    let UnitTape {
        correlation,
        convolved,
        norm,
        output,
    } = tape;
    let mut gradients = norm.backward(&convolved, &output.values, gradient);
    // Tapes are what fills memory: each part goes as soon as it is not needed any more.
    drop(output);
    let [weight, bias] = gradients.parameters()?;
    found.add(&unit.norm.weight, weight);
    found.add(&unit.norm.bias, bias);
    let sum = match wanted {
        Wanted::Input => None,
        Wanted::Sum(sum) => Some(sum),
        Wanted::Residual(residual) => {
            residual.clone_from(&gradients.passed);
            None
        }
    };
    norm.input_gradient(&convolved, &mut gradients);
    drop(convolved);
    let weight = correlation.weight_gradient(&x.values, &gradients.passed);
    found.add(
        &unit.conv.weight,
        Tensor::from_vec(weight, unit.conv.weight.shape(), &Device::Cpu)?,
    );
    with_slice(&unit.conv.weight, |weight| match sum {
        Some(mut sum) => {
            correlation.add_adjoint(&gradients.passed, weight, &mut sum);
            sum
        }
        None => correlation.adjoint(&gradients.passed, weight, None),
    })
}

/// The mean of every plane, `[samples, channels]`.
fn means(x: &Planes, samples: usize) -> Result<Tensor> {
    let Grid { channels, .. } = x.grid;
    let mut means = vec![0.0; samples * channels];
    let planes = x.values.par_chunks_exact(x.grid.positions() * channels);
    let targets = means.par_chunks_exact_mut(channels).zip(planes);
    targets.for_each(|(mean, plane)| {
        group_means(Level::detect(), plane, x.grid.positions(), channels, mean);
    });
    Tensor::from_vec(means, (samples, channels), &Device::Cpu)
}

/// The gradient of planes from that of their means.
fn spread(gradient: &Tensor, grid: Grid) -> Result<Vec<f32>> {
    let share = 1.0 / grid.positions() as f32;
    let gradient = gradient.contiguous()?;
    let mut planes = vec![0.0; gradient.dim(0)? * grid.positions() * grid.channels];
    with_slice(&gradient, |gradient| {
        let targets = planes.par_chunks_exact_mut(grid.positions() * grid.channels);
        let pairs = targets.zip(gradient.par_chunks_exact(grid.channels));
        pairs.for_each(|(plane, gradient)| {
            for row in plane.chunks_exact_mut(grid.channels) {
                for (value, gradient) in row.iter_mut().zip(gradient) {
                    *value = gradient * share;
                }
            }
        });
    })?;
    Ok(planes)
}
