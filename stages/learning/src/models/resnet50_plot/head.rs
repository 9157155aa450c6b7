//! The head: three linear layers, values dropped in front of each, a ReLU and then a normalisation after the first two.

use candle_core::{Result, Tensor};

use contract::Random;
use numerics::batch_norm::BatchNorm;
use numerics::dropout::Dropout;
use numerics::linear::Linear;
use numerics::relu::relu;
use numerics::{Mode, StateBuilder};

/// The head; names are the places in the reference's sequence of dropout, linear layer, ReLU and normalisation.
#[derive(Clone, Debug)]
pub(super) struct Head {
    layers: [Linear; 3],
    norms: [BatchNorm; 2],
    dropout: [f64; 3],
}

impl Head {
    /// `sizes` are those of the input, of the two inner layers, and the number of classes.
    pub fn new(
        builder: &mut StateBuilder<'_>,
        name: &str,
        sizes: [usize; 4],
        dropout: [f64; 3],
    ) -> Result<Self> {
        let [input, first, second, classes] = sizes;
        let one = Linear::new(builder, &format!("{name}.1"), input, first)?;
        let one_norm = BatchNorm::new(builder, &format!("{name}.3"), first)?;
        let two = Linear::new(builder, &format!("{name}.5"), first, second)?;
        let two_norm = BatchNorm::new(builder, &format!("{name}.7"), second)?;
        let three = Linear::new(builder, &format!("{name}.9"), second, classes)?;
        Ok(Self {
            layers: [one, two, three],
            norms: [one_norm, two_norm],
            dropout,
        })
    }

    /// `[batch, input]` to logits, `[batch, classes]`.
    pub fn forward(&self, features: &Tensor, mode: Mode, random: &mut Random) -> Result<Tensor> {
        let mut x = features.clone();
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&Dropout::draw(self.dropout[index], mode, random).forward(&x)?)?;
            if let Some(norm) = self.norms.get(index) {
                x = norm.forward(&relu(&x)?, mode)?;
            }
        }
        Ok(x)
    }
}
