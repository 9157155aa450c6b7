//! Checks that several models share: of their configuration, and of the windows they are given.

use candle_core::Tensor;

use super::{DataShape, Fault};

/// Refuses batches of windows of another size than the model was built for.
pub(super) fn windows(shape: DataShape, inputs: &Tensor) -> candle_core::Result<()> {
    let (batch, length, channels) = inputs.dims3()?;
    if batch == 0 || length != shape.length || channels != shape.channels {
        let DataShape {
            length, channels, ..
        } = shape;
        candle_core::bail!(
            "the model takes windows of {length} rows and {channels} channels, not {:?}",
            inputs.dims()
        )
    }
    Ok(())
}

/// Sizes by name, each with the most it may be.
pub(super) fn sizes(sizes: &[(&str, usize, usize)]) -> Result<(), Fault> {
    match sizes
        .iter()
        .find(|(_, size, most)| !(1..=*most).contains(size))
    {
        Some((name, size, most)) => Err((
            (*name).to_owned(),
            format!("must lie between 1 and {most}, not be {size}"),
        )),
        None => Ok(()),
    }
}

/// Whether heads share the width of an attention evenly.
pub(super) fn heads(heads: usize, d_model: usize) -> Result<(), Fault> {
    match heads {
        1.. if d_model.is_multiple_of(heads) => Ok(()),
        _ => Err((
            "heads".to_owned(),
            format!("must share the {d_model} values of `d_model` evenly, not be {heads}"),
        )),
    }
}

/// Whether a rate leaves something.
pub(super) fn dropout(rate: f64) -> Result<(), Fault> {
    match rate {
        0.0..1.0 => Ok(()),
        _ => Err((
            "dropout".to_owned(),
            format!("must be at least 0 and below 1, not {rate}"),
        )),
    }
}
