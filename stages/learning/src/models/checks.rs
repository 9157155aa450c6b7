//! What the configurations of several models must fulfil beyond their schemas.

use super::Result;
use contract::Fault;

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
