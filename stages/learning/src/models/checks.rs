//! Checks that several models share: of their configuration, and of the windows they are given.

use candle_core::Tensor;

use super::DataShape;
use contract::Fault;

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

/// Whether a kernel has a middle.
pub(super) fn odd(name: &str, rows: usize) -> Result<(), Fault> {
    if rows.is_multiple_of(2) {
        return Err(Fault::new(name, format!("must be odd, not {rows}")));
    }
    Ok(())
}

/// Whether heads share the width of an attention evenly.
pub(super) fn heads(heads: usize, d_model: usize) -> Result<(), Fault> {
    if d_model.is_multiple_of(heads) {
        return Ok(());
    }
    let reason = format!("must share the {d_model} values of `d_model` evenly, not be {heads}");
    Err(Fault::new("heads", reason))
}
