//! Gated recurrent units over whole sequences: the form of PyTorch, and the form that was published first.
//! Stacked and bidirectional layers are put together from these by the models that need them.

mod cell;
#[cfg(feature = "cuda")]
mod cuda;
pub(crate) mod op;
pub(crate) mod reset_after;
pub(crate) mod reset_before;
mod sequence;

use candle_core::{Result, Tensor, Var, bail};

use self::cell::{Cell, Sizes};
use self::op::{GruOp, Spare};
use self::reset_after::ResetAfter;
use self::reset_before::ResetBefore;
use super::batch_norm::Mode;
use super::initialise::Initial;
use super::operation::apply_packed;
use super::packed::Packed;
use super::state::StateBuilder;

/// One layer of `torch.nn.GRU`: gates r, z, n stacked in `weight_ih_l0`, `[3 * hidden, input]`, `weight_hh_l0`,
/// `[3 * hidden, hidden]`, `bias_ih_l0` and `bias_hh_l0`, `[3 * hidden]`.
///
/// `n = tanh(W x + b + r (U h + c))`: the reset gate acts on the product with the state, bias included.
#[derive(Clone, Debug)]
pub struct Gru {
    pub(crate) weight_ih: Var,
    pub(crate) weight_hh: Var,
    pub(crate) bias_ih: Var,
    pub(crate) bias_hh: Var,
    pub(crate) input: usize,
    pub(crate) hidden: usize,
    spare: Spare,
}

impl Gru {
    /// A layer with PyTorch's names below `name`, started uniformly in ±1/√hidden as there.
    ///
    /// # Errors
    /// If a tensor cannot be made.
    pub fn new(
        builder: &mut StateBuilder<'_>,
        name: &str,
        input: usize,
        hidden: usize,
    ) -> Result<Self> {
        let mut parameter = |part: &str, shape: &[usize]| {
            builder.parameter(format!("{name}.{part}_l0"), shape, Initial::FanIn(hidden))
        };
        Ok(Self {
            weight_ih: parameter("weight_ih", &[3 * hidden, input])?,
            weight_hh: parameter("weight_hh", &[3 * hidden, hidden])?,
            bias_ih: parameter("bias_ih", &[3 * hidden])?,
            bias_hh: parameter("bias_hh", &[3 * hidden])?,
            input,
            hidden,
            spare: Spare::default(),
        })
    }

    /// `[batch, time, input]` to all states, `[batch, time, hidden]`, from `initial`, `[batch, hidden]`, or from zeros.
    ///
    /// In evaluation less memory is used and a backward pass, which is still possible, takes longer.
    ///
    /// # Errors
    /// If the input has another width, or no steps.
    pub fn forward(&self, x: &Tensor, initial: Option<&Tensor>, mode: Mode) -> Result<Tensor> {
        let sizes = sizes(x, self.input, self.hidden)?;
        let weights = [
            &self.weight_ih,
            &self.weight_hh,
            &self.bias_ih,
            &self.bias_hh,
        ];
        run::<ResetAfter>(x, weights, initial, sizes, mode, &self.spare)
    }
}

/// One layer of TensorFlow's `GRUCell`: `gates/kernel`, `[input + hidden, 2 * hidden]`, for r and u,
/// `candidate/kernel`, `[input + hidden, hidden]`, and `gates/bias` and `candidate/bias`.
///
/// `c = tanh([x, r h] C + d)`: the reset gate acts on the state (Cho et al., "Learning phrase representations using RNN
/// encoder-decoder for statistical machine translation", EMNLP 2014).
#[derive(Clone, Debug)]
pub struct GruCell {
    pub(crate) gates_kernel: Var,
    pub(crate) gates_bias: Var,
    pub(crate) candidate_kernel: Var,
    pub(crate) candidate_bias: Var,
    pub(crate) input: usize,
    pub(crate) hidden: usize,
    spare: Spare,
}

impl GruCell {
    /// A layer with TensorFlow's names below `name`, started as there: kernels by Glorot, the gates' biases at one.
    ///
    /// # Errors
    /// If a tensor cannot be made.
    pub fn new(
        builder: &mut StateBuilder<'_>,
        name: &str,
        input: usize,
        hidden: usize,
    ) -> Result<Self> {
        let rows = input + hidden;
        let mut parameter = |part: &str, shape: &[usize], initial| {
            builder.parameter(format!("{name}/{part}"), shape, initial)
        };
        let [for_gates, for_candidate] = [2 * hidden, hidden].map(|width| Initial::Glorot {
            fan_in: rows,
            fan_out: width,
        });
        Ok(Self {
            gates_kernel: parameter("gates/kernel", &[rows, 2 * hidden], for_gates)?,
            gates_bias: parameter("gates/bias", &[2 * hidden], Initial::Ones)?,
            candidate_kernel: parameter("candidate/kernel", &[rows, hidden], for_candidate)?,
            candidate_bias: parameter("candidate/bias", &[hidden], Initial::Zeros)?,
            input,
            hidden,
            spare: Spare::default(),
        })
    }

    /// As [`Gru::forward`].
    ///
    /// # Errors
    /// As [`Gru::forward`].
    pub fn forward(&self, x: &Tensor, initial: Option<&Tensor>, mode: Mode) -> Result<Tensor> {
        let sizes = sizes(x, self.input, self.hidden)?;
        let weights = [
            &self.gates_kernel,
            &self.candidate_kernel,
            &self.gates_bias,
            &self.candidate_bias,
        ];
        run::<ResetBefore>(x, weights, initial, sizes, mode, &self.spare)
    }
}

fn sizes(x: &Tensor, input: usize, hidden: usize) -> Result<Sizes> {
    match x.dims() {
        [batch, time, width] if *width == input && *batch > 0 && *time > 0 => Ok(Sizes {
            batch: *batch,
            time: *time,
            input,
            hidden,
        }),
        other => bail!("a recurrent layer of {input} inputs cannot take {other:?}"),
    }
}

fn initial_state(x: &Tensor, initial: Option<&Tensor>, sizes: Sizes) -> Result<Tensor> {
    let Sizes { batch, hidden, .. } = sizes;
    match initial {
        None => Tensor::zeros((batch, hidden), x.dtype(), x.device()),
        Some(initial) if initial.dims() == [batch, hidden] => initial.contiguous(),
        Some(initial) => bail!(
            "an initial state of {:?} does not fit [{batch}, {hidden}]",
            initial.dims()
        ),
    }
}

fn run<C: Cell>(
    x: &Tensor,
    weights: [&Var; 4],
    initial: Option<&Tensor>,
    sizes: Sizes,
    mode: Mode,
    spare: &Spare,
) -> Result<Tensor> {
    let initial = initial_state(x, initial, sizes)?;
    let weights = weights.map(|weight| weight.as_tensor());
    let packed = Packed::new(&weights, C::packed(sizes.input, sizes.hidden))?;
    let op = GruOp::<C>::new(sizes, mode == Mode::Train, spare);
    apply_packed(op, [x, packed.tensor(), &initial], &[&packed])
}

#[cfg(test)]
mod tests;
