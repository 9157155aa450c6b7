//! One function of a few tensors, said once for all devices. On the CPU our own kernels compute its values and gradients as
//! one node of Candle's graph; elsewhere, and for other types of number, it is composed of Candle's operations.
//!
//! `conformance` holds every operation's kernels to its composition.

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor,
};

use super::gradients;
use super::host::{floats, with_slices};

/// One of the tensors that go into an operation, contiguous.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    pub values: &'a [f32],
    pub dims: &'a [usize],
    /// In the backward pass: whether the gradient of this input is wanted.
    pub tracked: bool,
}

impl Input<'_> {
    /// Its shape with a last axis of this length.
    pub fn with_last(&self, length: usize) -> Shape {
        let mut dims = self.dims.to_vec();
        if let Some(last) = dims.last_mut() {
            *last = length;
        }
        dims.into()
    }
}

/// A function of `N` tensors with its derivative. Candle's graph allows three tensors at most, so parameters that belong
/// together are often one.
pub trait Operation<const N: usize>: Send + Sync + 'static {
    /// What Candle's messages call it.
    const LABEL: &'static str;

    /// The output by Candle's own operations, on any device and for any type of number.
    ///
    /// # Errors
    /// If the operation cannot take the inputs.
    fn compose(&self, inputs: [&Tensor; N]) -> Result<Tensor>;

    /// The values of the output and its shape, by kernels for 32-bit floats on the CPU.
    ///
    /// # Errors
    /// As [`Self::compose`].
    fn forward(&self, inputs: [Input<'_>; N]) -> Result<(Vec<f32>, Shape)>;

    /// The gradients of the inputs, from the output and its gradient, by the same kernels. An input that is not tracked
    /// needs none.
    ///
    /// # Errors
    /// If [`Self::forward`] has to come first, and did not.
    fn backward(
        &self,
        inputs: [Input<'_>; N],
        output: &[f32],
        gradient: &[f32],
    ) -> Result<[Option<Vec<f32>>; N]>;

    /// Whether the second input has the gradient of the first, as in a sum. [`Self::backward`] then leaves it out, and
    /// the two share memory.
    fn shares_gradient(&self) -> bool {
        false
    }
}

/// The output of an operation: by its kernels where it has some for the inputs, otherwise by its composition.
///
/// # Errors
/// If the operation cannot take the inputs.
pub fn apply<O, T: Inputs<O>>(operation: O, inputs: T) -> Result<Tensor> {
    inputs.apply(operation)
}

/// Whether kernels can work on these tensors.
fn have_kernels(inputs: &[&Tensor]) -> bool {
    let mut inputs = inputs.iter();
    inputs.all(|input| input.device().is_cpu() && input.dtype() == DType::F32)
}

/// As many tensors as an operation takes.
pub trait Inputs<O> {
    /// # Errors
    /// As [`apply`].
    fn apply(self, operation: O) -> Result<Tensor>;
}

impl<O: Operation<1>> Inputs<O> for [&Tensor; 1] {
    fn apply(self, operation: O) -> Result<Tensor> {
        if !have_kernels(&self) {
            return operation.compose(self);
        }
        self[0].contiguous()?.apply_op1(Node(operation))
    }
}

impl<O: Operation<2>> Inputs<O> for [&Tensor; 2] {
    fn apply(self, operation: O) -> Result<Tensor> {
        if !have_kernels(&self) {
            return operation.compose(self);
        }
        let second = self[1].contiguous()?;
        self[0].contiguous()?.apply_op2(&second, Node(operation))
    }
}

impl<O: Operation<3>> Inputs<O> for [&Tensor; 3] {
    fn apply(self, operation: O) -> Result<Tensor> {
        if !have_kernels(&self) {
            return operation.compose(self);
        }
        let (second, third) = (self[1].contiguous()?, self[2].contiguous()?);
        let node = Node(operation);
        self[0].contiguous()?.apply_op3(&second, &third, node)
    }
}

/// An operation in the form in which Candle keeps it.
struct Node<O>(O);

impl<O> Node<O> {
    fn forward<const N: usize>(
        &self,
        inputs: [(&CpuStorage, &Layout); N],
    ) -> Result<(CpuStorage, Shape)>
    where
        O: Operation<N>,
    {
        let mut views = [Input {
            values: &[],
            dims: &[],
            tracked: false,
        }; N];
        for (view, (storage, layout)) in views.iter_mut().zip(inputs) {
            view.values = floats(storage, layout)?;
            view.dims = layout.dims();
        }
        let (values, shape) = self.0.forward(views)?;
        Ok((CpuStorage::F32(values), shape))
    }

    fn backward<const N: usize>(
        &self,
        inputs: [&Tensor; N],
        output: &Tensor,
        gradient: &Tensor,
    ) -> Result<[Option<Tensor>; N]>
    where
        O: Operation<N>,
    {
        let gradient = gradient.contiguous()?;
        let found = with_slices(inputs, |values| {
            let views = std::array::from_fn(|index| Input {
                values: values[index],
                dims: inputs[index].dims(),
                tracked: inputs[index].track_op(),
            });
            with_slices([output, &gradient], |[output, gradient]| {
                self.0.backward(views, output, gradient)
            })
        })???;
        let mut gradients = [const { None }; N];
        for ((gradient, values), input) in gradients.iter_mut().zip(found).zip(inputs) {
            if let Some(values) = values {
                *gradient = Some(Tensor::from_vec(values, input.shape(), input.device())?);
            }
        }
        if self.0.shares_gradient() {
            gradients[1] = gradients[0].clone();
        }
        for (gradient, input) in gradients.iter_mut().zip(inputs) {
            if let Some(found) = gradient.take() {
                *gradient = gradients::take(input, found)?;
            }
        }
        Ok(gradients)
    }
}

impl<O: Operation<1>> CustomOp1 for Node<O> {
    fn name(&self) -> &'static str {
        O::LABEL
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward([(x, layout)])
    }

    fn bwd(&self, x: &Tensor, output: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let [x] = self.backward([x], output, gradient)?;
        Ok(x)
    }
}

impl<O: Operation<2>> CustomOp2 for Node<O> {
    fn name(&self) -> &'static str {
        O::LABEL
    }

    fn cpu_fwd(
        &self,
        first: &CpuStorage,
        first_layout: &Layout,
        second: &CpuStorage,
        second_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward([(first, first_layout), (second, second_layout)])
    }

    fn bwd(
        &self,
        first: &Tensor,
        second: &Tensor,
        output: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradients = self.backward([first, second], output, gradient)?;
        Ok(gradients.into())
    }
}

impl<O: Operation<3>> CustomOp3 for Node<O> {
    fn name(&self) -> &'static str {
        O::LABEL
    }

    fn cpu_fwd(
        &self,
        first: &CpuStorage,
        first_layout: &Layout,
        second: &CpuStorage,
        second_layout: &Layout,
        third: &CpuStorage,
        third_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward([
            (first, first_layout),
            (second, second_layout),
            (third, third_layout),
        ])
    }

    fn bwd(
        &self,
        first: &Tensor,
        second: &Tensor,
        third: &Tensor,
        output: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradients = self.backward([first, second, third], output, gradient)?;
        Ok(gradients.into())
    }
}
