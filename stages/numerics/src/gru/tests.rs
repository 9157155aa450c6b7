//! The fast ways against Candle's operations and against finite differences, and the same bits for every thread count.

use candle_core::{Device, Tensor, Var};

use super::{Gru, GruCell};
use crate::batch_norm::Mode;
use crate::host::with_slice_mut;
use crate::{State, StateBuilder};
use contract::Random;

/// Batch, time, input, hidden: chunks of one and of many, vectors that are full and that are not.
const SIZES: [(usize, usize, usize, usize); 5] = [
    (1, 1, 1, 1),
    (3, 7, 5, 6),
    (17, 4, 3, 16),
    (29, 5, 33, 21),
    (40, 3, 9, 130),
];

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

    fn compose(&self, x: &Tensor, initial: Option<&Tensor>) -> Tensor {
        match self {
            Self::After(layer) => layer.compose(x, initial).unwrap(),
            Self::Before(layer) => layer.compose(x, initial).unwrap(),
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
    let gradients = (states * upstream)
        .unwrap()
        .sum_all()
        .unwrap()
        .backward()
        .unwrap();
    let mut all = vec![flat(states)];
    all.extend(
        of.iter()
            .map(|of| flat(gradients.get(of.as_tensor()).unwrap())),
    );
    all
}

#[test]
fn agree_with_candle_forward_and_backward() {
    for (batch, time, input, hidden) in SIZES {
        for (layer, state) in Layer::both(input, hidden) {
            let (x, initial) = (
                draws(&[batch, time, input], "x"),
                draws(&[batch, hidden], "initial"),
            );
            let upstream = draws(&[batch, time, hidden], "upstream");
            for start in [None, Some(&*initial)] {
                let mut of = vec![&x];
                of.extend(start.map(|_| &initial));
                of.extend(state.parameters().map(|(_, parameter)| parameter));
                let expected = differentiate(&layer.compose(&x, start), &upstream, &of);
                for mode in [Mode::Train, Mode::Evaluate] {
                    let found = differentiate(&layer.forward(&x, start, mode), &upstream, &of);
                    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
                        let largest = expected
                            .iter()
                            .fold(1e-3_f32, |most, value| most.max(value.abs()));
                        let apart = found
                            .iter()
                            .zip(expected)
                            .fold(0_f32, |most, (a, b)| most.max((a - b).abs()));
                        assert_eq!(found.len(), expected.len());
                        assert!(
                            apart < 1e-5 * largest,
                            "{:?} {index}: {apart} {largest}",
                            (batch, time, input, hidden)
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn gradients_are_slopes() {
    let (batch, time, input, hidden) = (4, 6, 3, 5);
    for (layer, state) in Layer::both(input, hidden) {
        let (x, initial) = (
            draws(&[batch, time, input], "x"),
            draws(&[batch, hidden], "initial"),
        );
        let upstream = draws(&[batch, time, hidden], "upstream");
        let mut of = vec![&x, &initial];
        of.extend(state.parameters().map(|(_, parameter)| parameter));
        let gradients = differentiate(
            &layer.forward(&x, Some(&initial), Mode::Train),
            &upstream,
            &of,
        );
        for (of, gradient) in of.iter().zip(&gradients[1..]) {
            let length = gradient
                .iter()
                .map(|g| f64::from(*g).powi(2))
                .sum::<f64>()
                .sqrt();
            let shifted = |by: f64| {
                let original = of.copy().unwrap();
                with_slice_mut(of, |values| {
                    values
                        .iter_mut()
                        .zip(gradient)
                        .for_each(|(v, g)| *v += (by * f64::from(*g) / length) as f32);
                })
                .unwrap();
                let states = layer.forward(&x, Some(&initial), Mode::Evaluate);
                of.set(&original).unwrap();
                let terms = flat(&states).into_iter().zip(flat(&upstream));
                terms
                    .map(|(state, upstream)| f64::from(state) * f64::from(upstream))
                    .sum::<f64>()
            };
            let step = 3e-3;
            let slope = (shifted(step) - shifted(-step)) / (2.0 * step);
            assert!(
                (slope / length - 1.0).abs() < 2e-3,
                "{:?}: {slope} {length}",
                of.dims()
            );
        }
    }
}

#[test]
fn thread_counts_do_not_change_a_bit() {
    let (batch, time, input, hidden) = (37, 5, 4, 19);
    for (layer, state) in Layer::both(input, hidden) {
        let (x, upstream) = (
            draws(&[batch, time, input], "x"),
            draws(&[batch, time, hidden], "upstream"),
        );
        let mut of = vec![&x];
        of.extend(state.parameters().map(|(_, parameter)| parameter));
        let bits = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| differentiate(&layer.forward(&x, None, Mode::Train), &upstream, &of))
        };
        let one = bits(1);
        assert!([2, 5].into_iter().all(|threads| bits(threads) == one));
    }
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
