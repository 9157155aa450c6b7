//! What every model of the table must do, whatever it computes.
//! What one model alone promises is tested in its own file.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::*;
use crate::nn::host::with_slice_mut;
use crate::nn::optimizer::{Optimizer, Optimizers};

/// Window lengths, channels and batches, odd on purpose.
const SIZES: [(usize, usize, usize); 4] = [(1, 1, 2), (7, 1, 1), (13, 5, 3), (33, 2, 17)];

fn every_model() -> Vec<Choice<Models>> {
    MODELS.iter().map(|model| Choice::new(model.name, Value::Object(Map::new())).unwrap()).collect()
}

fn network(choice: &Choice<Models>, length: usize, channels: usize, seed: u64) -> Box<dyn Network> {
    let shape = DataShape { length, channels, horizon: 0 };
    build(choice, shape, &Device::Cpu, &mut Random::new(seed, "init")).unwrap()
}

fn batch(length: usize, channels: usize, count: usize) -> Batch {
    let mut random = Random::new(11, "data");
    let values: Vec<f32> = (0..count * length * channels).map(|_| random.normal() as f32).collect();
    Batch { inputs: Tensor::from_vec(values, (count, length, channels), &Device::Cpu).unwrap(), targets: None }
}

fn noise() -> Random {
    Random::new(2, "noise")
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn odd_sizes_give_finite_errors_of_the_inputs_shape() {
    for choice in every_model() {
        for (length, channels, count) in SIZES {
            let (network, batch) = (network(&choice, length, channels, 1), batch(length, channels, count));
            let errors = network.errors(&batch).unwrap();
            assert_eq!(errors.dims(), [count, length, channels]);
            assert!(flat(&errors).iter().all(|error| error.is_finite() && *error >= 0.0), "{choice:?}");
            // A single value per channel cannot be normalised by its batch: an error is right there, a NaN is not.
            if let Ok((loss, gradients)) = network.gradients(&batch, &mut noise()) {
                assert!(loss.is_finite() && gradients.norm().unwrap().is_finite(), "{choice:?}");
            }
        }
    }
}

#[test]
fn windows_of_another_shape_are_refused() {
    for choice in every_model() {
        let network = network(&choice, 13, 5, 1);
        for wrong in [batch(12, 5, 2), batch(13, 4, 2), batch(13, 5, 0)] {
            let error = network.errors(&wrong).unwrap_err().to_string();
            assert!(error.contains("13 rows and 5 channels"), "{error}");
            assert!(network.gradients(&wrong, &mut noise()).is_err());
        }
        let empty = DataShape { length: 0, channels: 3, horizon: 0 };
        assert!(build(&choice, empty, &Device::Cpu, &mut Random::new(1, "init")).is_err());
    }
}

#[test]
fn eight_windows_are_learned_by_heart() {
    for choice in every_model() {
        let (network, batch) = (network(&choice, 16, 3, 1), batch(16, 3, 8));
        let adam: Choice<Optimizers> = Choice::new("adam", json!({"lr": 0.01})).unwrap();
        let mut optimizer = Optimizer::new(&adam, network.state()).unwrap();
        let mut losses = Vec::new();
        for _ in 0..200 {
            let (loss, gradients) = network.gradients(&batch, &mut noise()).unwrap();
            optimizer.step(network.state(), &gradients, 0.01).unwrap();
            losses.push(loss);
        }
        assert!(losses[199] < 0.02 * losses[0], "{choice:?}: {} then {}", losses[0], losses[199]);
    }
}

#[test]
fn files_carry_everything_that_outputs_depend_on() {
    for choice in every_model() {
        let (first, batch) = (network(&choice, 13, 5, 1), batch(13, 5, 4));
        // Running statistics must travel too, so they are moved away from where they start.
        first.gradients(&batch, &mut noise()).unwrap();
        let shape = DataShape { length: 13, channels: 5, horizon: 0 };
        let model = Model {
            config: choice.to_value(),
            training: Value::Object(describe(shape)),
            tensors: first.state().to_data().unwrap(),
        };
        let model = Model::decode(&model.encode().unwrap()).unwrap();
        let (second, found) = load(&model, &Device::Cpu).unwrap();
        assert_eq!(found, shape);
        assert_eq!(flat(&first.errors(&batch).unwrap()), flat(&second.errors(&batch).unwrap()), "{choice:?}");
        let (one, other) = (first.gradients(&batch, &mut noise()).unwrap(), second.gradients(&batch, &mut noise()));
        assert_eq!(one.0, other.unwrap().0);
    }
}

#[test]
fn seeds_decide_the_weights() {
    for choice in every_model() {
        let weights = |seed| -> BTreeMap<_, _> { network(&choice, 13, 5, seed).state().to_data().unwrap() };
        assert_eq!(weights(1), weights(1));
        assert_ne!(weights(1), weights(2));
    }
}

#[test]
fn thread_counts_do_not_change_a_bit() {
    for choice in every_model() {
        let (length, channels, count) = SIZES[3];
        let batch = batch(length, channels, count);
        let bits = |threads| {
            let network = network(&choice, length, channels, 1);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let (loss, gradients) = network.gradients(&batch, &mut noise()).unwrap();
                let gradients: Vec<Vec<f32>> = gradients.0.iter().flatten().map(flat).collect();
                (loss, gradients, flat(&network.errors(&batch).unwrap()))
            })
        };
        let one = bits(1);
        assert!([2, 3, 8].into_iter().all(|threads| bits(threads) == one), "{choice:?}");
    }
}

#[test]
fn gradients_are_the_slope_of_the_loss() {
    for choice in every_model() {
        let (network, batch) = (network(&choice, 13, 5, 1), batch(13, 5, 6));
        let (_, gradients) = network.gradients(&batch, &mut noise()).unwrap();
        let largest = gradients.norm().unwrap();
        for ((name, parameter), gradient) in network.state().parameters().zip(&gradients.0) {
            let gradient = flat(gradient.as_ref().unwrap());
            let length = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            // Below this the slope is lost in the rounding of a 32-bit loss.
            if length < 1e-2 * largest {
                continue;
            }
            let shifted = |by: f64| {
                let original = parameter.copy().unwrap();
                with_slice_mut(parameter, |values| {
                    values
                        .iter_mut()
                        .zip(&gradient)
                        .for_each(|(value, g)| *value += (by * f64::from(*g) / length) as f32);
                })
                .unwrap();
                let (loss, _) = network.gradients(&batch, &mut noise()).unwrap();
                parameter.set(&original).unwrap();
                loss
            };
            let step = 4e-3;
            let slope = (shifted(step) - shifted(-step)) / (2.0 * step);
            assert!((slope / length - 1.0).abs() < 0.02, "{choice:?} {name}: {slope} {length}");
        }
    }
}
