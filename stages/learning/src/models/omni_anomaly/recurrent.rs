//! The block that both networks of OmniAnomaly share: a gated recurrent unit and two dense layers.
//! The caller says what is read off its output.

use candle_core::{Result, Tensor, Var};

use numerics::gru::GruCell;
use numerics::initialise::Initial;
use numerics::{Mode, StateBuilder};

/// A dense layer as TensorFlow declares it: `x kernel + bias`, kernel `[input, output]`.
#[derive(Clone, Debug)]
pub(super) struct Dense {
    pub kernel: Var,
    pub bias: Var,
}

impl Dense {
    pub fn new(
        builder: &mut StateBuilder<'_>,
        name: &str,
        input: usize,
        output: usize,
    ) -> Result<Self> {
        let glorot = Initial::Glorot {
            fan_in: input,
            fan_out: output,
        };
        Ok(Self {
            kernel: builder.parameter(format!("{name}/kernel"), &[input, output], glorot)?,
            bias: builder.parameter(format!("{name}/bias"), &[output], Initial::Zeros)?,
        })
    }
}

/// What is read off a block's output: one kernel, `[dense, columns]`, and one bias, `[columns]`.
pub(super) struct Readout {
    pub kernel: Tensor,
    pub bias: Tensor,
}

impl Readout {
    /// Layers beside each other.
    pub fn beside(layers: &[&Dense]) -> Result<Self> {
        let (mut kernels, mut biases) = (Vec::new(), Vec::new());
        for layer in layers {
            kernels.push(layer.kernel.as_tensor());
            biases.push(layer.bias.as_tensor());
        }
        Ok(Self {
            kernel: Tensor::cat(&kernels, 1)?,
            bias: Tensor::cat(&biases, 0)?,
        })
    }

    /// The same without a way back to the layers.
    pub fn detach(&self) -> Self {
        Self {
            kernel: self.kernel.detach(),
            bias: self.bias.detach(),
        }
    }

    /// Only these rows of the kernel.
    pub fn rows(&self, first: usize, count: usize) -> Result<Self> {
        Ok(Self {
            kernel: self.kernel.narrow(0, first, count)?.contiguous()?,
            bias: self.bias.clone(),
        })
    }
}

/// A recurrent layer of `state` units and two linear layers of `dense`.
#[derive(Clone, Debug)]
pub(super) struct Recurrent {
    cell: GruCell,
    first: Dense,
    second: Dense,
}

impl Recurrent {
    pub fn new(
        builder: &mut StateBuilder<'_>,
        name: &str,
        input: usize,
        (state, dense): (usize, usize),
    ) -> Result<Self> {
        Ok(Self {
            cell: GruCell::new(builder, &format!("{name}/rnn/gru_cell"), input, state)?,
            first: Dense::new(builder, &format!("{name}/dense"), state, dense)?,
            second: Dense::new(builder, &format!("{name}/dense_1"), dense, dense)?,
        })
    }

    /// All states, `[batch, length, state]`.
    pub fn states(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.cell.forward(x, None, mode)
    }

    /// What is read off the block's output, `[batch, length, columns]`.
    ///
    /// There is no activation between the layers. So their kernels are multiplied first, from the narrow end, and the
    /// many rows of states meet one narrow kernel.
    pub fn read(&self, states: &Tensor, readout: &Readout) -> Result<Tensor> {
        self.read_with(states, readout, |layer| {
            (
                layer.kernel.as_tensor().clone(),
                layer.bias.as_tensor().clone(),
            )
        })
    }

    /// The same without a way back to the block's layers.
    pub fn read_detached(&self, states: &Tensor, readout: &Readout) -> Result<Tensor> {
        self.read_with(states, readout, |layer| {
            (layer.kernel.detach(), layer.bias.detach())
        })
    }

    fn read_with(
        &self,
        states: &Tensor,
        readout: &Readout,
        weights: impl Fn(&Dense) -> (Tensor, Tensor),
    ) -> Result<Tensor> {
        let (first, first_bias) = weights(&self.first);
        let (second, second_bias) = weights(&self.second);
        let inner = second.matmul(&readout.kernel)?;
        let kernel = first.matmul(&inner)?;
        // Each bias goes through the layers after its own.
        let first_bias = first_bias.unsqueeze(0)?.matmul(&inner)?.squeeze(0)?;
        let second_bias = second_bias
            .unsqueeze(0)?
            .matmul(&readout.kernel)?
            .squeeze(0)?;
        let bias = ((first_bias + second_bias)? + &readout.bias)?;
        let (batch, length, width) = states.dims3()?;
        let columns = kernel.dim(1)?;
        let rows = states
            .reshape((batch * length, width))?
            .matmul(&kernel)?
            .broadcast_add(&bias)?;
        rows.reshape((batch, length, columns))
    }
}
