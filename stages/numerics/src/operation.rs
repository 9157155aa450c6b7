//! One function of a few tensors, said once for all devices. On the CPU our own kernels compute its values and gradients as
//! one node of Candle's graph, and on CUDA where it has kernels there; otherwise it is composed of Candle's operations.
//!
//! `conformance` holds every operation's kernels to its composition.

use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor,
};

#[cfg(feature = "cuda")]
use super::cuda::{Buffer, Floats, Gpu, with_floats};
use super::gradients;
use super::host::{floats, with_slices};
use super::packed::Packed;
#[cfg(feature = "cuda")]
use super::precision::Precision;

/// One of the tensors that go into an operation, contiguous; on the CPU its values are a slice.
#[derive(Clone, Copy)]
pub struct Input<'a, V = &'a [f32]> {
    pub values: V,
    pub dims: &'a [usize],
    /// In the backward pass: whether the gradient of this input is wanted.
    pub tracked: bool,
}

impl<V> Input<'_, V> {
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

    /// Its kernels on CUDA, if it has some for inputs of these sizes.
    #[cfg(feature = "cuda")]
    fn on_cuda(&self, _dims: [&[usize]; N]) -> Option<&dyn OnCuda<N>> {
        None
    }

    /// Whether the second input has the gradient of the first, as in a sum. [`Self::backward`] then leaves it out, and
    /// the two share memory.
    fn shares_gradient(&self) -> bool {
        false
    }
}

/// The kernels of an operation on CUDA, for 32-bit floats. As those for the CPU, but they read and write memory of the
/// device.
#[cfg(feature = "cuda")]
pub trait OnCuda<const N: usize> {
    /// # Errors
    /// If the device refuses.
    fn forward_on(
        &self,
        gpu: Gpu<'_>,
        inputs: [Input<'_, Floats<'_>>; N],
    ) -> Result<(Buffer, Shape)>;

    /// # Errors
    /// If the device refuses.
    fn backward_on(
        &self,
        gpu: Gpu<'_>,
        inputs: [Input<'_, Floats<'_>>; N],
        output: Floats<'_>,
        gradient: Floats<'_>,
    ) -> Result<[Option<Buffer>; N]>;
}

/// What the forward pass of an operation keeps for its backward pass on CUDA.
#[derive(Default)]
pub struct Kept {
    #[cfg(feature = "cuda")]
    buffer: std::sync::OnceLock<Buffer>,
}

#[cfg(feature = "cuda")]
impl Kept {
    /// # Errors
    /// If something is kept already.
    pub fn keep(&self, buffer: Buffer) -> Result<()> {
        if self.buffer.set(buffer).is_err() {
            candle_core::bail!("an operation was applied twice")
        }
        Ok(())
    }

    /// # Errors
    /// If nothing is kept yet.
    pub fn get(&self) -> Result<&Buffer> {
        let kept = self.buffer.get();
        kept.ok_or_else(|| candle_core::Error::msg("the forward pass comes first"))
    }
}

/// The output of an operation: by its kernels where it has some for the inputs, otherwise by its composition.
///
/// # Errors
/// If the operation cannot take the inputs.
pub fn apply<O, T: Inputs<O>>(operation: O, inputs: T) -> Result<Tensor> {
    inputs.apply(operation, &[])
}

/// The same where some of the inputs are these packed parameters.
///
/// # Errors
/// If the operation cannot take the inputs.
pub fn apply_packed<O, T: Inputs<O>>(
    operation: O,
    inputs: T,
    packed: &[&Packed],
) -> Result<Tensor> {
    inputs.apply(operation, packed)
}

/// Whether kernels can work on these tensors.
fn has_kernels<const N: usize>(operation: &impl Operation<N>, inputs: [&Tensor; N]) -> bool {
    if inputs.iter().any(|input| input.dtype() != DType::F32) {
        return false;
    }
    if inputs.iter().all(|input| input.device().is_cpu()) {
        return true;
    }
    has_cuda_kernels(operation, inputs)
}

#[cfg(feature = "cuda")]
fn has_cuda_kernels<const N: usize>(operation: &impl Operation<N>, inputs: [&Tensor; N]) -> bool {
    let mut are_there = inputs.iter().all(|input| input.device().is_cuda());
    // Short operands are for products that are composed.
    are_there &= Precision::current() == Precision::F32;
    are_there && operation.on_cuda(inputs.map(Tensor::dims)).is_some()
}

#[cfg(not(feature = "cuda"))]
fn has_cuda_kernels<const N: usize>(_: &impl Operation<N>, _: [&Tensor; N]) -> bool {
    false
}

/// The output by Candle's operations, which differentiate packed parameters through their parts.
fn composed<const N: usize>(
    operation: &impl Operation<N>,
    inputs: [&Tensor; N],
    packed: &[&Packed],
) -> Result<Tensor> {
    let mut through = inputs.map(Tensor::clone);
    for input in &mut through {
        let mut packed = packed.iter();
        if let Some(packed) = packed.find(|packed| packed.tensor().id() == input.id()) {
            *input = packed.composed()?;
        }
    }
    operation.compose(through.each_ref())
}

/// As many tensors as an operation takes.
pub trait Inputs<O> {
    /// # Errors
    /// As [`apply`].
    fn apply(self, operation: O, packed: &[&Packed]) -> Result<Tensor>;
}

impl<O: Operation<1>> Inputs<O> for [&Tensor; 1] {
    fn apply(self, operation: O, packed: &[&Packed]) -> Result<Tensor> {
        if !has_kernels(&operation, self) {
            return composed(&operation, self, packed);
        }
        let node = Node::new(operation, self, packed);
        self[0].contiguous()?.apply_op1(node)
    }
}

impl<O: Operation<2>> Inputs<O> for [&Tensor; 2] {
    fn apply(self, operation: O, packed: &[&Packed]) -> Result<Tensor> {
        if !has_kernels(&operation, self) {
            return composed(&operation, self, packed);
        }
        let node = Node::new(operation, self, packed);
        let second = self[1].contiguous()?;
        self[0].contiguous()?.apply_op2(&second, node)
    }
}

impl<O: Operation<3>> Inputs<O> for [&Tensor; 3] {
    fn apply(self, operation: O, packed: &[&Packed]) -> Result<Tensor> {
        if !has_kernels(&operation, self) {
            return composed(&operation, self, packed);
        }
        let node = Node::new(operation, self, packed);
        let (second, third) = (self[1].contiguous()?, self[2].contiguous()?);
        self[0].contiguous()?.apply_op3(&second, &third, node)
    }
}

/// An operation in the form in which Candle keeps it.
struct Node<O> {
    operation: O,
    /// Which of the inputs are packed parameters, by their numbers.
    packed: Vec<(usize, Packed)>,
}

impl<O> Node<O> {
    fn new<const N: usize>(operation: O, inputs: [&Tensor; N], packed: &[&Packed]) -> Self {
        let mut numbered = Vec::with_capacity(packed.len());
        for packed in packed {
            let mut ids = inputs.iter().map(|input| input.id());
            if let Some(number) = ids.position(|id| id == packed.tensor().id()) {
                numbered.push((number, (*packed).clone()));
            }
        }
        Self {
            operation,
            packed: numbered,
        }
    }

    fn forward<const N: usize>(
        &self,
        inputs: [(&CpuStorage, &Layout); N],
    ) -> Result<(CpuStorage, Shape)>
    where
        O: Operation<N>,
    {
        let mut views: [Input<'_>; N] = [Input {
            values: &[],
            dims: &[],
            tracked: false,
        }; N];
        for (view, (storage, layout)) in views.iter_mut().zip(inputs) {
            view.values = floats(storage, layout)?;
            view.dims = layout.dims();
        }
        let (values, shape) = self.operation.forward(views)?;
        Ok((CpuStorage::F32(values), shape))
    }

    /// The gradients that kernels find, of the inputs that have one.
    fn gradients_on_cpu<const N: usize>(
        &self,
        inputs: [&Tensor; N],
        output: &Tensor,
        gradient: &Tensor,
    ) -> Result<[Option<Tensor>; N]>
    where
        O: Operation<N>,
    {
        let found = with_slices(inputs, |values| {
            let views = std::array::from_fn(|index| Input {
                values: values[index],
                dims: inputs[index].dims(),
                tracked: inputs[index].track_op(),
            });
            with_slices([output, gradient], |[output, gradient]| {
                self.operation.backward(views, output, gradient)
            })
        })???;
        let mut gradients = [const { None }; N];
        for ((gradient, values), input) in gradients.iter_mut().zip(found).zip(inputs) {
            if let Some(values) = values {
                *gradient = Some(Tensor::from_vec(values, input.shape(), input.device())?);
            }
        }
        Ok(gradients)
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
        let mut gradients = match gradient.device().is_cpu() {
            true => self.gradients_on_cpu(inputs, output, &gradient)?,
            false => self.gradients_on_cuda(inputs, output, &gradient)?,
        };
        if self.operation.shares_gradient() {
            gradients[1] = gradients[0].clone();
        }
        for (number, (gradient, input)) in gradients.iter_mut().zip(inputs).enumerate() {
            let Some(found) = gradient.take() else {
                continue;
            };
            let packed = self.packed.iter().find(|(packed, _)| *packed == number);
            *gradient = match packed {
                Some((_, packed)) => packed.take(found)?,
                None => gradients::take(input, found)?,
            };
        }
        Ok(gradients)
    }
}

#[cfg(feature = "cuda")]
impl<O> Node<O> {
    fn kernels<const N: usize>(&self, dims: [&[usize]; N]) -> Result<&dyn OnCuda<N>>
    where
        O: Operation<N>,
    {
        let Some(kernels) = self.operation.on_cuda(dims) else {
            candle_core::bail!("{} has no kernels on CUDA for these sizes", O::LABEL)
        };
        Ok(kernels)
    }

    fn forward_on_cuda<const N: usize>(
        &self,
        inputs: [(&CudaStorage, &Layout); N],
    ) -> Result<(CudaStorage, Shape)>
    where
        O: Operation<N>,
    {
        let mut views: [Input<'_, Floats<'_>>; N] = [Input {
            values: Floats::NONE,
            dims: &[],
            tracked: false,
        }; N];
        for (view, (storage, layout)) in views.iter_mut().zip(inputs) {
            view.values = Floats::of_storage(storage, layout)?;
            view.dims = layout.dims();
        }
        let kernels = self.kernels(views.map(|view| view.dims))?;
        let (values, shape) = kernels.forward_on(Gpu::of_storage(inputs[0].0), views)?;
        Ok((values.into_storage(), shape))
    }

    fn gradients_on_cuda<const N: usize>(
        &self,
        inputs: [&Tensor; N],
        output: &Tensor,
        gradient: &Tensor,
    ) -> Result<[Option<Tensor>; N]>
    where
        O: Operation<N>,
    {
        let gpu = Gpu::of(gradient)?;
        let kernels = self.kernels(inputs.map(Tensor::dims))?;
        let found = with_floats(inputs, |values| {
            let views = std::array::from_fn(|index| Input {
                values: values[index],
                dims: inputs[index].dims(),
                tracked: inputs[index].track_op(),
            });
            with_floats([output, gradient], |[output, gradient]| {
                kernels.backward_on(gpu, views, output, gradient)
            })
        })?;
        let mut gradients = [const { None }; N];
        for ((gradient, values), input) in gradients.iter_mut().zip(found).zip(inputs) {
            *gradient = values.map(|values| values.into_tensor(input.shape()));
        }
        Ok(gradients)
    }
}

#[cfg(not(feature = "cuda"))]
#[expect(
    clippy::unused_self,
    reason = "these are called as those with CUDA are"
)]
impl<O> Node<O> {
    fn forward_on_cuda<const N: usize>(
        &self,
        _: [(&CudaStorage, &Layout); N],
    ) -> Result<(CudaStorage, Shape)>
    where
        O: Operation<N>,
    {
        candle_core::bail!("{}: this program was built without CUDA", O::LABEL)
    }

    fn gradients_on_cuda<const N: usize>(
        &self,
        _: [&Tensor; N],
        _: &Tensor,
        _: &Tensor,
    ) -> Result<[Option<Tensor>; N]>
    where
        O: Operation<N>,
    {
        candle_core::bail!("{}: this program was built without CUDA", O::LABEL)
    }
}

impl<O: Operation<1>> CustomOp1 for Node<O> {
    fn name(&self) -> &'static str {
        O::LABEL
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward([(x, layout)])
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        self.forward_on_cuda([(x, layout)])
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

    fn cuda_fwd(
        &self,
        first: &CudaStorage,
        first_layout: &Layout,
        second: &CudaStorage,
        second_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.forward_on_cuda([(first, first_layout), (second, second_layout)])
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

    fn cuda_fwd(
        &self,
        first: &CudaStorage,
        first_layout: &Layout,
        second: &CudaStorage,
        second_layout: &Layout,
        third: &CudaStorage,
        third_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.forward_on_cuda([
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
