//! A layer over a whole sequence as one operation, with its walk back through time.

use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{Result, Shape, Tensor};

use super::cell::{Cell, Sizes};
use super::sequence::{self, Sequence};
#[cfg(feature = "cuda")]
use crate::operation::OnCuda;
use crate::operation::{Input, Kept, Operation};

/// Memory that is handed from step to step of training, so that it need not be cleared and mapped again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spare(Arc<Mutex<Vec<Vec<f32>>>>);

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
/// `[batch, time, hidden]`.
pub(crate) struct GruOp<C> {
    sizes: Sizes,
    /// What backward needs, if it is expected; otherwise it is computed again.
    kept: Mutex<Option<Vec<f32>>>,
    spare: Spare,
    /// On CUDA: what backward needs.
    #[cfg_attr(
        not(feature = "cuda"),
        expect(dead_code, reason = "kernels on CUDA alone keep something")
    )]
    pub(super) on_cuda: Kept,
    cell: PhantomData<fn() -> C>,
}

impl<C: Cell> GruOp<C> {
    pub fn new(sizes: Sizes, keep: bool, spare: &Spare) -> Self {
        let kept = keep.then(|| spare.take(sizes.batch * sizes.kept()));
        Self {
            sizes,
            kept: Mutex::new(kept),
            spare: spare.clone(),
            on_cuda: Kept::default(),
            cell: PhantomData,
        }
    }

    #[cfg(feature = "cuda")]
    pub(super) fn sizes(&self) -> Sizes {
        self.sizes
    }

    fn kept(&self) -> MutexGuard<'_, Option<Vec<f32>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sequence<'a>(&self, inputs: [Input<'a>; 3]) -> Sequence<'a> {
        let [x, packed, initial] = inputs.map(|input| input.values);
        Sequence {
            sizes: self.sizes,
            x,
            packed,
            initial,
        }
    }
}

impl<C> Drop for GruOp<C> {
    fn drop(&mut self) {
        let kept = self.kept.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = kept.take() {
            self.spare.give(kept);
        }
    }
}

impl<C: Cell> Operation<3> for GruOp<C> {
    const LABEL: &'static str = "gru";

    #[cfg(feature = "cuda")]
    fn on_cuda(&self, _: [&[usize]; 3]) -> Option<&dyn OnCuda<3>> {
        Some(self)
    }

    fn compose(&self, [x, packed, initial]: [&Tensor; 3]) -> Result<Tensor> {
        C::compose(self.sizes, x, packed, initial)
    }

    fn forward(&self, inputs: [Input<'_>; 3]) -> Result<(Vec<f32>, Shape)> {
        let Sizes {
            batch,
            time,
            hidden,
            ..
        } = self.sizes;
        let mut kept = self.kept();
        let kept = kept.as_deref_mut().unwrap_or_default();
        let states = sequence::forward::<C>(self.sequence(inputs), kept);
        Ok((states, (batch, time, hidden).into()))
    }

    fn backward(
        &self,
        inputs: [Input<'_>; 3],
        states: &[f32],
        gradient: &[f32],
    ) -> Result<[Option<Vec<f32>>; 3]> {
        let sequence = self.sequence(inputs);
        let [x, _, initial] = inputs;
        // What is kept can be used once only: backward writes its own results over it.
        let taken = self.kept().take();
        let mut kept = taken.unwrap_or_else(|| {
            let mut kept = self.spare.take(self.sizes.batch * self.sizes.kept());
            sequence::forward::<C>(sequence, &mut kept);
            kept
        });
        let found = sequence::backward::<C>(sequence, states, gradient, &mut kept, x.tracked);
        self.spare.give(kept);
        let of_initial = initial.tracked.then_some(found.initial);
        Ok([found.x, Some(found.packed), of_initial])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{Draw, Example, Examples};

    impl<C: Cell> Examples<3> for GruOp<C> {
        fn examples(draw: &mut Draw) -> Vec<Example<Self, 3>> {
            let mut examples = Vec::new();
            // Chunks of one sample and of many, vectors that are full and that are not.
            for (batch, time, input, hidden) in [
                (1, 1, 1, 1),
                (3, 7, 5, 6),
                (17, 4, 3, 16),
                (29, 5, 33, 21),
                (40, 3, 9, 130),
                // What a GPU does for units and samples of these numbers.
                (3, 4, 2, 50),
                (5, 2, 3, 100),
                (131, 3, 2, 70),
            ] {
                let sizes = Sizes {
                    batch,
                    time,
                    input,
                    hidden,
                };
                for keep in [true, false] {
                    examples.push(Example {
                        operation: Self::new(sizes, keep, &Spare::default()),
                        inputs: [
                            draw.variable(&[batch, time, input]),
                            draw.between(-0.3, 0.3, &[C::packed(input, hidden)]),
                            draw.variable(&[batch, hidden]),
                        ],
                    });
                }
            }
            examples
        }
    }
}
