//! What every operation is held to: its kernels give the values and gradients of its composition, whatever the sizes; the
//! same bits for every number of threads and whichever gradients are asked for; and gradients that are slopes.
//!
//! It is compiled into every build, since `learning` has operations too, and a crate sees nothing of another that stands
//! behind `cfg(test)`. Nothing here is for programs; failures are panics.

use candle_core::{DType, Device, Result, Tensor, Var};
use contract::Random;

use crate::Mode;
use crate::dropout::Dropout;
use crate::operation::{Inputs, Operation, apply};

/// An operation, and tensors to try it on.
#[derive(Debug)]
pub struct Example<O, const N: usize> {
    pub operation: O,
    /// What is differentiated is a variable; no gradient is expected of other tensors.
    pub inputs: [Tensor; N],
}

/// An operation that can be tried.
pub trait Examples<const N: usize>: Operation<N> + Sized {
    /// How far values and gradients may be from those of the composition, as a share of the largest, or of 1.
    const TOLERANCE: f32 = 2e-5;

    /// Whether the gradients are those of the values; stop-gradients are an exception.
    const HAS_SLOPES: bool = true;

    /// Sizes of one, odd ones, and more rows than there are chunks of them. The same draws give the same examples.
    fn examples(draw: &mut Draw) -> Vec<Example<Self, N>>;

    /// The same operation for inputs on another device, if it holds tensors itself.
    ///
    /// # Errors
    /// If the device has no memory for them.
    fn to_device(self, _device: &Device) -> Result<Self> {
        Ok(self)
    }
}

/// Where the numbers of examples come from.
#[derive(Debug)]
pub struct Draw(Random);

impl Draw {
    /// A variable of numbers from the standard normal distribution.
    pub fn variable(&mut self, dims: &[usize]) -> Tensor {
        let values = (0..dims.iter().product())
            .map(|_| self.0.normal() as f32)
            .collect();
        variable(values, dims)
    }

    /// A variable of numbers between two others.
    pub fn between(&mut self, low: f64, high: f64, dims: &[usize]) -> Tensor {
        let values = (0..dims.iter().product())
            .map(|_| self.0.range(low, high) as f32)
            .collect();
        variable(values, dims)
    }

    /// A tensor that is not differentiated.
    pub fn constant(&mut self, dims: &[usize]) -> Tensor {
        self.variable(dims).detach()
    }

    /// An application of dropout.
    pub fn dropout(&mut self, rate: f64) -> Dropout {
        Dropout::draw(rate, Mode::Train, &mut self.0)
    }
}

fn variable(values: Vec<f32>, dims: &[usize]) -> Tensor {
    let var = Var::from_vec(values, dims, &Device::Cpu);
    var.expect("there is memory for an example").into_inner()
}

/// The output of an operation and its gradients, for an upstream gradient that follows from the output's size.
#[derive(Debug, PartialEq)]
struct Outcome {
    dims: Vec<usize>,
    values: Vec<f32>,
    gradients: Vec<Option<Vec<f32>>>,
}

impl Outcome {
    /// What the upstream gradient is the gradient of.
    fn objective(&self) -> f64 {
        let terms = self.values.iter().zip(upstream(self.values.len()));
        terms
            .map(|(value, weight)| f64::from(*value) * f64::from(weight))
            .sum()
    }
}

fn upstream(count: usize) -> Vec<f32> {
    let mut random = Random::new(count as u64, "upstream");
    (0..count).map(|_| random.range(-1.0, 1.0) as f32).collect()
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    let values = tensor.flatten_all().and_then(|flat| flat.to_vec1());
    values.expect("an example has 32-bit floats")
}

fn outcome(inputs: &[Tensor], output: Result<Tensor>) -> Outcome {
    let output = output.unwrap_or_else(|error| panic!("an example cannot be computed: {error}"));
    let weights = upstream(output.elem_count());
    let weights = Tensor::from_vec(weights, output.shape(), output.device());
    let sum = weights.and_then(|weights| (&output * weights)?.sum_all());
    let store = sum.and_then(|sum| sum.backward());
    let store = store.unwrap_or_else(|error| panic!("an example has no gradient: {error}"));
    let gradient = |input: &Tensor| input.is_variable().then(|| store.get(input).map(flat))?;
    Outcome {
        dims: output.dims().to_vec(),
        values: flat(&output),
        gradients: inputs.iter().map(gradient).collect(),
    }
}

/// Fails unless all examples of an operation come out as they must.
///
/// # Panics
/// With the operation, the number of the example and what is wrong.
pub fn check<O, const N: usize>()
where
    O: Examples<N>,
    for<'a> [&'a Tensor; N]: Inputs<O>,
{
    let count = examples::<O, N>().len();
    assert!(count > 1, "{} has too few examples", O::LABEL);
    for index in 0..count {
        Check::<O, N> {
            index,
            operation: std::marker::PhantomData,
        }
        .run();
    }
}

fn examples<O: Examples<N>, const N: usize>() -> Vec<Example<O, N>> {
    O::examples(&mut Draw(Random::new(1, O::LABEL)))
}

struct Check<O, const N: usize> {
    index: usize,
    operation: std::marker::PhantomData<fn() -> O>,
}

impl<O, const N: usize> Check<O, N>
where
    O: Examples<N>,
    for<'a> [&'a Tensor; N]: Inputs<O>,
{
    fn run(&self) {
        let by_kernels = self.on_threads(1);
        for threads in [2, 3] {
            let same = self.on_threads(threads) == by_kernels;
            assert!(same, "{}: {threads} threads give other bits", self.name());
        }
        self.expect_composition(&by_kernels);
        self.expect_same_on_a_gpu(&by_kernels);
        self.expect_single_gradients(&by_kernels);
        if O::HAS_SLOPES {
            self.expect_slopes(&by_kernels);
        }
    }

    fn name(&self) -> String {
        format!("{}, example {}", O::LABEL, self.index)
    }

    fn example(&self) -> Example<O, N> {
        examples::<O, N>().swap_remove(self.index)
    }

    /// What the kernels give for these inputs, or those of the example.
    fn by_kernels(&self, inputs: Option<[Tensor; N]>) -> Outcome {
        let Example {
            operation,
            inputs: own,
        } = self.example();
        let inputs = inputs.unwrap_or(own);
        outcome(&inputs, apply(operation, inputs.each_ref()))
    }

    fn on_threads(&self, threads: usize) -> Outcome {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.expect("there are threads");
        pool.install(|| self.by_kernels(None))
    }

    fn expect_composition(&self, found: &Outcome) {
        let Example { operation, inputs } = self.example();
        let expected = outcome(&inputs, operation.compose(inputs.each_ref()));
        self.expect_same(found, &expected);
    }

    /// A GPU gives what the CPU does, where there is one.
    fn expect_same_on_a_gpu(&self, expected: &Outcome) {
        let Ok(device) = crate::device(contract::Device::Cuda(0)) else {
            return;
        };
        let Example { operation, inputs } = self.example();
        let inputs = inputs.map(|input| {
            let moved = input.to_device(&device).expect("the device has memory");
            if !input.is_variable() {
                return moved;
            }
            let variable = Var::from_tensor(&moved);
            variable.expect("the device has memory").into_inner()
        });
        let operation = operation.to_device(&device);
        let operation = operation.expect("the device has memory");
        let found = outcome(&inputs, apply(operation, inputs.each_ref()));
        self.expect_same(&found, expected);
    }

    fn expect_same(&self, found: &Outcome, expected: &Outcome) {
        let inputs = self.example().inputs;
        assert_eq!(found.dims, expected.dims, "{}: the shape", self.name());
        self.expect_close("a value", &found.values, &expected.values);
        for (number, input) in inputs.iter().enumerate() {
            if !input.is_variable() {
                continue;
            }
            // Candle leaves out what is multiplied by nothing but 0.
            let zeros = || vec![0.0; input.elem_count()];
            let [found, expected] = [found, expected]
                .map(|outcome| outcome.gradients[number].clone().unwrap_or_else(zeros));
            self.expect_close(&format!("gradient {number}"), &found, &expected);
        }
    }

    fn expect_close(&self, what: &str, found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len(), "{}: {what}", self.name());
        let largest = expected
            .iter()
            .fold(1.0_f32, |most, value| most.max(value.abs()));
        for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert!(
                (found - expected).abs() <= O::TOLERANCE * largest,
                "{}: {what} at {index} is {found} instead of {expected}; the largest is {largest}",
                self.name()
            );
        }
    }

    /// Each gradient is the same where it alone is asked for.
    fn expect_single_gradients(&self, all: &Outcome) {
        for number in 0..N {
            let mut inputs = self.example().inputs;
            if !inputs[number].is_variable() {
                continue;
            }
            for (other, input) in inputs.iter_mut().enumerate() {
                if other != number {
                    *input = input.detach();
                }
            }
            let found = self.by_kernels(Some(inputs));
            let same = found.gradients[number] == all.gradients[number];
            assert!(same, "{}: gradient {number} alone is another", self.name());
        }
    }

    /// A small step along a gradient changes the objective by the gradient's length.
    fn expect_slopes(&self, all: &Outcome) {
        for (number, gradient) in all.gradients.iter().enumerate() {
            let Some(gradient) = gradient else { continue };
            let squares = gradient.iter().map(|value| f64::from(*value).powi(2));
            let length = squares.sum::<f64>().sqrt();
            if length < 1e-3 {
                continue;
            }
            let step = 0.01;
            let moved = |by: f64| {
                let mut inputs = self.example().inputs;
                let own = flat(&inputs[number]);
                let moved = own.iter().zip(gradient).map(|(value, gradient)| {
                    (f64::from(*value) + by * f64::from(*gradient) / length) as f32
                });
                inputs[number] = variable(moved.collect(), inputs[number].dims());
                self.by_kernels(Some(inputs)).objective()
            };
            let slope = (moved(step) - moved(-step)) / (2.0 * step);
            assert!(
                (slope / length - 1.0).abs() < 0.02,
                "{}: along gradient {number} the slope is {slope}, and the gradient {length}",
                self.name()
            );
        }
    }
}

/// Another type of number takes the composition, whatever the device.
///
/// # Panics
/// If the operation cannot be computed in 64 bits.
pub fn check_in_64_bits<O, const N: usize>()
where
    O: Examples<N>,
    for<'a> [&'a Tensor; N]: Inputs<O>,
{
    let Some(Example { operation, inputs }) = examples::<O, N>().into_iter().next() else {
        return;
    };
    let wide = inputs.each_ref().map(|input| input.to_dtype(DType::F64));
    let wide = wide.map(|input| input.expect("floats have a wide form"));
    let output = apply(operation, wide.each_ref());
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", O::LABEL));
    assert_eq!(output.dtype(), DType::F64, "{}", O::LABEL);
}

/// The operations of a crate, each with a test; and a test that none of the crate is missing.
///
/// Every entry is a type, the number of tensors that it takes, and a name for its test.
#[macro_export]
macro_rules! conformance {
    ($($test:ident: $operation:ty, $count:literal;)*) => {
        $(
            #[test]
            fn $test() {
                $crate::conformance::check::<$operation, $count>();
                $crate::conformance::check_in_64_bits::<$operation, $count>();
            }
        )*

        #[test]
        fn every_operation_is_listed() {
            let listed = [$((stringify!($operation), $count)),*];
            $crate::conformance::expect_all(env!("CARGO_MANIFEST_DIR"), &listed);
        }
    };
}

/// Fails if a crate's sources have an operation that is not listed.
///
/// # Panics
/// With its name.
pub fn expect_all(folder: &str, listed: &[(&str, usize)]) {
    let mut folders = vec![std::path::Path::new(folder).join("src")];
    let mut found = 0;
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).expect("a crate has sources");
        for entry in entries {
            let path = entry.expect("a crate's sources can be read").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            for line in text.lines().filter(|line| line.starts_with("impl")) {
                let rest = line.split_once(" Operation<").map(|(_, rest)| rest);
                let parts = rest.and_then(|rest| rest.split_once("> for "));
                // Other traits are bounded by operations, too.
                let Some((count, name)) = parts.filter(|(count, _)| count.len() == 1) else {
                    continue;
                };
                let name = name.split(['<', ' ']).next().unwrap_or_default();
                let is_listed = listed.iter().any(|(operation, listed)| {
                    let operation = operation.split('<').next().unwrap_or_default();
                    operation.ends_with(name) && listed.to_string() == count
                });
                assert!(is_listed, "{}: {name} is not listed", path.display());
                found += 1;
            }
        }
    }
    assert!(found > 0, "no operation was found in {folder}");
}

#[cfg(test)]
mod tests {
    use crate::attention::op::AttentionOp;
    use crate::batch_norm::op::BatchNormOp;
    use crate::circular_conv::op::CircularConvOp;
    use crate::conv::op::Conv3x3Op;
    use crate::conv1d::op::Conv1dOp;
    use crate::conv2d::op::Conv2dOp;
    use crate::cross_entropy::CrossEntropyOp;
    use crate::dropout::Dropout;
    use crate::feed_forward::op::FeedForwardOp;
    use crate::gelu::GeluOp;
    use crate::graph_attention::AttendOp;
    use crate::group_mean::GroupMean;
    use crate::gru::op::GruOp;
    use crate::gru::reset_after::ResetAfter;
    use crate::gru::reset_before::ResetBefore;
    use crate::layer_norm::op::LayerNormOp;
    use crate::linear::op::LinearOp;
    use crate::loss::{Mean, Pair, Steps};
    use crate::noise::Noise;
    use crate::pool::MaxPoolOp;
    use crate::relu::ReluOp;

    crate::conformance! {
        attention: AttentionOp, 1;
        batch_norm: BatchNormOp, 2;
        batch_norm_and_residual: BatchNormOp, 3;
        circular_convolution: CircularConvOp, 2;
        convolution_1d: Conv1dOp, 3;
        convolution_2d: Conv2dOp, 2;
        convolution_2d_and_bias: Conv2dOp, 3;
        convolution_3x3: Conv3x3Op, 3;
        cross_entropy: CrossEntropyOp, 1;
        dropout: Dropout, 1;
        feed_forward: FeedForwardOp, 2;
        gelu: GeluOp, 1;
        graph_attention: AttendOp, 3;
        group_mean: GroupMean, 1;
        gru_reset_after: GruOp<ResetAfter>, 3;
        gru_reset_before: GruOp<ResetBefore>, 3;
        layer_norm: LayerNormOp, 2;
        layer_norm_and_residual: LayerNormOp, 3;
        linear: LinearOp, 3;
        loss: Pair, 2;
        max_pool: MaxPoolOp, 1;
        mean: Mean, 1;
        mean_squared_step: Steps, 1;
        noise: Noise, 1;
        relu: ReluOp, 1;
    }
}
