//! Layers that are used twice, and inputs that do not fit; the operation is held to its composition with the others.

use candle_core::{Device, Tensor, Var};

use crate::Slopes;

use super::{Gru, GruCell};
use crate::batch_norm::Mode;
use crate::{State, StateBuilder};
use contract::Random;

enum Layer {
    After(Gru),
    Before(GruCell),
}

impl Layer {
    fn both(input: usize, hidden: usize) -> [(Self, State); 2] {
        [true, false].map(|after| {
            let mut random = Random::new(5, "init");
            let mut builder = StateBuilder::new(&Device::Cpu, &mut random);
            let layer = match after {
                true => Self::After(Gru::new(&mut builder, "gru", input, hidden).unwrap()),
                false => {
                    Self::Before(GruCell::new(&mut builder, "gru_cell", input, hidden).unwrap())
                }
            };
            (layer, builder.finish())
        })
    }

    fn forward(&self, x: &Tensor, initial: Option<&Tensor>, mode: Mode) -> Tensor {
        match self {
            Self::After(layer) => layer.forward(x, initial, mode).unwrap(),
            Self::Before(layer) => layer.forward(x, initial, mode).unwrap(),
        }
    }
}

fn draws(shape: &[usize], purpose: &str) -> Var {
    let mut random = Random::new(3, purpose);
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| random.normal() as f32)
        .collect();
    Var::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// States, and the gradients of `Σ states * upstream` with respect to input, initial state and parameters.
fn differentiate(states: &Tensor, upstream: &Tensor, of: &[&Var]) -> Vec<Vec<f32>> {
    let sum = (states * upstream).unwrap().sum_all().unwrap();
    let slopes = Slopes::of(&sum).unwrap();
    let mut all = vec![flat(states)];
    for variable in of {
        all.push(flat(&slopes.get(variable).unwrap().unwrap()));
    }
    all
}

#[test]
fn a_second_pass_and_a_second_backward_are_right() {
    let (layer, _) = Layer::both(4, 9).into_iter().next().unwrap();
    let (x, upstream) = (draws(&[6, 5, 4], "x"), draws(&[6, 5, 9], "upstream"));
    // Two uses of one layer in one graph, memory handed back in between.
    let first = layer.forward(&x, None, Mode::Train);
    let second = layer.forward(&x, None, Mode::Train);
    let once = differentiate(&first, &upstream, &[&x]);
    let again = differentiate(&first, &upstream, &[&x]);
    assert_eq!(once, again);
    assert_eq!(once, differentiate(&second, &upstream, &[&x]));
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    for (layer, _) in Layer::both(4, 3) {
        let refused = |x: &Tensor, initial: Option<&Tensor>| match &layer {
            Layer::After(layer) => layer.forward(x, initial, Mode::Train).is_err(),
            Layer::Before(layer) => layer.forward(x, initial, Mode::Train).is_err(),
        };
        assert!(refused(&draws(&[2, 5, 3], "x"), None));
        assert!(refused(&draws(&[5, 4], "x"), None));
        assert!(refused(
            &draws(&[2, 5, 4], "x"),
            Some(&draws(&[3, 3], "initial"))
        ));
        assert!(!refused(
            &draws(&[2, 5, 4], "x"),
            Some(&draws(&[2, 3], "initial"))
        ));
    }
}
