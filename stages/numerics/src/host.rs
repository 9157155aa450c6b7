//! Tensors on the CPU as slices of floats, read and written where they are.
//! Tensors elsewhere are refused: callers ask for the device first.

use std::cell::RefCell;

use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Storage, Tensor, bail};

/// Calls `read` with the floats of a contiguous tensor on the CPU.
pub fn with_slice<T>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        bail!("expected a tensor on the CPU")
    };
    floats(storage, layout).map(read)
}

/// Calls `read` with the floats of several contiguous tensors on the CPU.
pub fn with_slices<const N: usize, T>(
    tensors: [&Tensor; N],
    read: impl FnOnce([&[f32]; N]) -> T,
) -> Result<T> {
    let guards = tensors.map(Tensor::storage_and_layout);
    let mut slices = [&[] as &[f32]; N];
    for (slice, (storage, layout)) in slices.iter_mut().zip(&guards) {
        let Storage::Cpu(storage) = &**storage else {
            bail!("expected a tensor on the CPU")
        };
        *slice = floats(storage, layout)?;
    }
    Ok(read(slices))
}

/// The floats of a contiguous storage, as custom operations get it.
pub fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("expected a contiguous tensor")
    };
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// Calls `write` with the floats of a contiguous tensor on the CPU, which it may change in place.
pub fn with_slice_mut(tensor: &Tensor, write: impl FnMut(&mut [f32])) -> Result<()> {
    tensor.inplace_op1(&Write(RefCell::new(write)))
}

struct Write<F>(RefCell<F>);

impl<F: FnMut(&mut [f32])> InplaceOp1 for Write<F> {
    fn name(&self) -> &'static str {
        "write"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("expected a contiguous tensor")
        };
        let CpuStorage::F32(values) = storage else {
            bail!("expected 32-bit floats")
        };
        (self.0.borrow_mut())(&mut values[start..end]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn writes_are_seen_and_other_layouts_refused() {
        let tensor = Tensor::new(&[[1_f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
        with_slice_mut(&tensor, |values| values[1] = 9.0).unwrap();
        assert_eq!(
            with_slice(&tensor, <[f32]>::to_vec).unwrap(),
            [1.0, 9.0, 3.0, 4.0]
        );
        let sums = with_slices([&tensor, &tensor], |[one, other]| one[1] + other[3]).unwrap();
        assert_eq!(sums, 13.0);
        assert!(with_slices([&tensor, &tensor.t().unwrap()], |_| ()).is_err());
        assert!(with_slice(&tensor.t().unwrap(), |_| ()).is_err());
        assert!(with_slice(&Tensor::new(&[1_i64], &Device::Cpu).unwrap(), |_| ()).is_err());
    }
}
