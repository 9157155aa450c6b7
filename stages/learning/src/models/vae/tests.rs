//! What this model alone promises: images of any size, and errors that show what it was not trained on.

use super::*;
use crate::models::{fault_of, on_cpu};
use candle_core::Device;
use numerics::Gradients;
use numerics::optimizer::{Optimizer, OptimizerChoice};

fn of_images() -> Vae {
    Vae {
        of: Of::Images,
        latent: 4,
        hidden: Some(vec![6, 8]),
        beta: 0.01,
        deviation: 0.1,
        ..Vae::default()
    }
}

fn network(config: &Vae, shape: DataShape) -> Autoencoder {
    on_cpu(1, |builder| config.network(shape, builder)).unwrap()
}

fn shape(height: usize, width: usize) -> DataShape {
    DataShape {
        width,
        ..DataShape::detect(height, 3)
    }
}

/// White images with a dark bar of some width at a random row.
fn bars(
    count: usize,
    (height, width): (usize, usize),
    thick: usize,
    random: &mut Random,
) -> Tensor {
    let mut values = vec![1.0_f32; count * 3 * height * width];
    for image in values.chunks_exact_mut(3 * height * width) {
        let top = random.below((height - thick) as u64) as usize;
        for colour in image.chunks_exact_mut(height * width) {
            colour[top * width..(top + thick) * width].fill(0.0);
        }
    }
    Tensor::from_vec(values, (count, 3, height, width), &Device::Cpu).unwrap()
}

#[test]
fn images_of_any_size_come_back_in_their_size() {
    for (height, width) in [(1, 1), (7, 10), (16, 13)] {
        let network = network(&of_images(), shape(height, width));
        let batch = Batch::of(Tensor::full(0.5_f32, (2, 3, height, width), &Device::Cpu).unwrap());
        assert_eq!(
            network.predict(&batch).unwrap().dims(),
            [2, 3, height, width]
        );
        assert_eq!(
            network.errors(&batch).unwrap().dims(),
            [2, 3, height, width]
        );
        let loss = network
            .loss(&batch, Mode::Train, &mut Random::new(1, "noise"))
            .unwrap();
        let gradients = Gradients::of(network.state(), &loss).unwrap();
        assert!(gradients.0.iter().all(Option::is_some) && gradients.norm().unwrap().is_finite());
        let other =
            Batch::of(Tensor::full(0.5_f32, (2, 3, width + 1, height), &Device::Cpu).unwrap());
        assert!(
            network
                .predict(&other)
                .unwrap_err()
                .to_string()
                .contains("pixels and 3 channels")
        );
    }
}

#[test]
fn unfamiliar_images_have_larger_errors() {
    let network = network(&of_images(), shape(12, 9));
    let mut random = Random::new(3, "bars");
    let adam = OptimizerChoice::plain("adam").unwrap();
    let mut optimizer = Optimizer::new(&adam, network.state()).unwrap();
    for _ in 0..250 {
        let batch = Batch::of(bars(16, (12, 9), 2, &mut random));
        let (_, gradients) = network.gradients(0, &batch, &mut random).unwrap();
        optimizer.step(network.state(), &gradients, 0.01).unwrap();
    }
    let mut error = |thick| -> f32 {
        let batch = Batch::of(bars(16, (12, 9), thick, &mut random));
        network
            .errors(&batch)
            .unwrap()
            .mean_all()
            .unwrap()
            .to_scalar()
            .unwrap()
    };
    let (known, unknown) = (error(2), error(7));
    assert!(unknown > 3.0 * known, "{known} {unknown}");
}

/// Also for windows, whose values lie otherwise, and where samples differ in their divergence.
#[test]
fn the_bound_of_samples_is_their_loss() {
    let mut random = Random::new(5, "values");
    for (of, shape, sizes) in [
        (Of::Images, shape(6, 5), vec![3, 3, 6, 5]),
        (Of::Windows, DataShape::detect(7, 2), vec![3, 7, 2]),
    ] {
        let config = Vae {
            of,
            score: Score::Bound,
            beta: 3.0,
            ..of_images()
        };
        let network = network(&config, shape);
        let values: Vec<f32> = (0..sizes.iter().product())
            .map(|_| random.uniform() as f32)
            .collect();
        let inputs = Tensor::from_vec(values, sizes, &Device::Cpu).unwrap();
        let scalar = |tensor: Tensor| tensor.mean_all().unwrap().to_scalar::<f32>().unwrap();
        for sample in 0..3 {
            let batch = Batch::of(inputs.narrow(0, sample, 1).unwrap());
            let loss = network
                .loss(&batch, Mode::Evaluate, &mut Random::new(1, "unused"))
                .unwrap();
            let alone = scalar(loss);
            let within = scalar(
                network
                    .errors(&Batch::of(inputs.clone()))
                    .unwrap()
                    .get(sample)
                    .unwrap(),
            );
            assert!((within / alone - 1.0).abs() < 1e-4, "{within} {alone}");
        }
    }
}

#[test]
fn what_does_not_fit_is_named() {
    for (config, parameter) in [
        (
            Vae {
                latent: 0,
                ..Vae::default()
            },
            "latent",
        ),
        (
            Vae {
                hidden: Some(vec![]),
                ..Vae::default()
            },
            "hidden",
        ),
        (
            Vae {
                hidden: Some(vec![3, 0]),
                ..Vae::default()
            },
            "hidden",
        ),
        (
            Vae {
                beta: -1.0,
                ..Vae::default()
            },
            "beta",
        ),
        (
            Vae {
                deviation: 0.0,
                ..Vae::default()
            },
            "deviation",
        ),
    ] {
        let fault = fault_of(&config).parameter;
        assert!(fault.starts_with(parameter), "{fault}");
    }
    let refused = |config: Vae, shape| {
        let built = on_cpu(1, |builder| config.build(shape, builder));
        built.err().unwrap().message().to_owned()
    };
    assert!(refused(Vae::default(), shape(8, 8)).contains("given images"));
    assert!(refused(of_images(), DataShape::detect(8, 3)).contains("given windows"));
}
