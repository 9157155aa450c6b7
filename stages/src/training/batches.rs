//! Windows gathered into the tensors of a batch.
//! Their order is up to the caller.

use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

use crate::artifact::Windows;
use crate::models::{Batch, DataShape};

/// The shape of the data that these windows offer to a model.
pub fn data_shape(windows: &Windows) -> DataShape {
    let spec = windows.spec;
    DataShape { length: spec.length, channels: windows.series.width(), horizon: spec.horizon }
}

/// The windows that start at these rows, in this order, with what follows them if that is asked for and defined.
///
/// # Errors
/// If a tensor cannot be made on the device.
pub fn gather(windows: &Windows, starts: &[usize], device: &Device, with_targets: bool) -> Result<Batch> {
    let DataShape { length, channels, horizon } = data_shape(windows);
    let inputs = copy(starts, length * channels, |start| windows.input(start));
    let inputs = Tensor::from_vec(inputs, (starts.len(), length, channels), device)?;
    let targets = if horizon == 0 || !with_targets {
        None
    } else {
        let targets = copy(starts, horizon * channels, |start| windows.target(start));
        Some(Tensor::from_vec(targets, (starts.len(), horizon, channels), device)?)
    };
    Ok(Batch { inputs, targets })
}

fn copy<'a>(starts: &[usize], size: usize, window: impl Fn(usize) -> &'a [f32] + Sync) -> Vec<f32> {
    let mut values = vec![0.0; starts.len() * size];
    // A few windows per task are worth waking a thread for.
    values.par_chunks_exact_mut(size).zip(starts).with_min_len(16).for_each(|(target, start)| {
        target.copy_from_slice(window(*start));
    });
    values
}
