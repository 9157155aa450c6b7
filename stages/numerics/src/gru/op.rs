//! A layer over a whole sequence as one operation of Candle's graph on the CPU, with its walk back through time.
//! On other devices the layer is composed of Candle's own operations instead.

use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

use super::cell::{Cell, Sizes};
use super::sequence::{self, Sequence};
use crate::host::{floats, with_slice};

/// Memory that is handed from step to step of training, so that it need not be cleared and mapped again.
#[derive(Clone, Debug, Default)]
pub(super) struct Spare(Arc<Mutex<Vec<Vec<f32>>>>);

impl Spare {
    /// Floats of any value.
    fn take(&self, count: usize) -> Vec<f32> {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = spare.pop().unwrap_or_default();
        drop(spare);
        found.resize(count, 0.0);
        found
    }

    fn give(&self, values: Vec<f32>) {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One for a step under way, one for a second use of the layer in it.
        if spare.len() < 2 {
            spare.push(values);
        }
    }
}

/// `x`, `[batch, time, input]`, packed weights and initial states, `[batch, hidden]`, to all states,
/// `[batch, time, hidden]`. All are contiguous.
pub(super) struct GruOp<C> {
    sizes: Sizes,
    /// What backward needs, if it is expected; otherwise it is computed again.
    kept: Mutex<Option<Vec<f32>>>,
    spare: Spare,
    cell: PhantomData<fn() -> C>,
}

impl<C: Cell> GruOp<C> {
    pub fn new(sizes: Sizes, keep: bool, spare: &Spare) -> Self {
        let kept = keep.then(|| spare.take(sizes.batch * sizes.kept()));
        Self {
            sizes,
            kept: Mutex::new(kept),
            spare: spare.clone(),
            cell: PhantomData,
        }
    }

    fn take_kept(&self) -> Option<Vec<f32>> {
        self.kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl<C> Drop for GruOp<C> {
    fn drop(&mut self) {
        if let Some(kept) = self
            .kept
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            self.spare.give(kept);
        }
    }
}

impl<C: Cell> CustomOp3 for GruOp<C> {
    fn name(&self) -> &'static str {
        "gru"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        packed: &CpuStorage,
        packed_layout: &Layout,
        initial: &CpuStorage,
        initial_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let sizes = self.sizes;
        let sequence = Sequence {
            sizes,
            x: floats(x, x_layout)?,
            packed: floats(packed, packed_layout)?,
            initial: floats(initial, initial_layout)?,
        };
        let mut kept = self.take_kept();
        let states = sequence::forward::<C>(sequence, kept.as_deref_mut().unwrap_or_default());
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = kept;
        Ok((
            CpuStorage::F32(states),
            (sizes.batch, sizes.time, sizes.hidden).into(),
        ))
    }

    fn bwd(
        &self,
        x: &Tensor,
        packed: &Tensor,
        initial: &Tensor,
        states: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let sizes = self.sizes;
        let gradient = gradient.contiguous()?;
        let work = |x_values: &[f32],
                    packed: &[f32],
                    initial: &[f32],
                    states: &[f32],
                    gradient: &[f32]| {
            let sequence = Sequence {
                sizes,
                x: x_values,
                packed,
                initial,
            };
            let mut kept = self.take_kept().unwrap_or_else(|| {
                let mut kept = self.spare.take(sizes.batch * sizes.kept());
                sequence::forward::<C>(sequence, &mut kept);
                kept
            });
            let gradients =
                sequence::backward::<C>(sequence, states, gradient, &mut kept, x.track_op());
            self.spare.give(kept);
            gradients
        };
        let found = with_slice(x, |x| {
            with_slice(packed, |packed| {
                with_slice(initial, |initial| {
                    with_slice(states, |states| {
                        with_slice(&gradient, |gradient| {
                            work(x, packed, initial, states, gradient)
                        })
                    })
                })
            })
        })?????;
        let tensor =
            |values: Vec<f32>, like: &Tensor| Tensor::from_vec(values, like.shape(), like.device());
        Ok((
            found.x.map(|values| tensor(values, x)).transpose()?,
            Some(tensor(found.packed, packed)?),
            initial
                .track_op()
                .then(|| tensor(found.initial, initial))
                .transpose()?,
        ))
    }
}
