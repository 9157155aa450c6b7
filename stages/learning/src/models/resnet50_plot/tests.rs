//! What this model alone promises.

use std::collections::BTreeMap;

use super::*;
use crate::models::{fault_of, on_cpu};
use candle_core::Device;
use contract::NullHost;
use contract::artifact::{Model, TensorData};
use serde_json::Value;

fn small() -> Resnet50Plot {
    Resnet50Plot {
        depth: [1, 2, 1, 1],
        ..serde_json::from_str(Resnet50Plot::EXAMPLE).unwrap()
    }
}

fn network(config: &Resnet50Plot, classes: usize, seed: u64) -> Resnet {
    let shape = DataShape::images(32, 40, 3, classes);
    on_cpu(seed, |builder| config.network(shape, builder)).unwrap()
}

fn images(count: usize) -> Tensor {
    let mut random = Random::new(4, "images");
    let values: Vec<f32> = (0..count * 3 * 32 * 40)
        .map(|_| random.uniform() as f32)
        .collect();
    Tensor::from_vec(values, (count, 3, 32, 40), &Device::Cpu).unwrap()
}

#[test]
fn the_full_model_has_the_published_number_of_parameters() {
    assert_eq!(
        network(&Resnet50Plot::default(), 9, 1).state.size(),
        24_692_297
    );
}

#[test]
fn normalisation_inside_is_normalisation_outside() {
    let (inside, outside) = (
        small(),
        Resnet50Plot {
            normalise: false,
            ..small()
        },
    );
    let (inside, outside) = (network(&inside, 3, 1), network(&outside, 3, 1));
    let images = images(2);
    let constants = |values: [f32; 3]| {
        Tensor::new(&values, &Device::Cpu)
            .unwrap()
            .reshape((1, 3, 1, 1))
            .unwrap()
    };
    let normalised = images
        .broadcast_sub(&constants(MEAN))
        .unwrap()
        .broadcast_div(&constants(DEVIATION))
        .unwrap();
    let one = inside
        .predict(&Batch::of(images))
        .unwrap()
        .to_vec2::<f32>()
        .unwrap();
    let other = outside
        .predict(&Batch::of(normalised))
        .unwrap()
        .to_vec2::<f32>()
        .unwrap();
    assert!(
        one.iter()
            .flatten()
            .zip(other.iter().flatten())
            .all(|(one, other)| (one - other).abs() < 1e-4)
    );
}

#[test]
fn class_weights_and_smoothing_reach_the_loss() {
    let network = network(&small(), 3, 1);
    let classes = Tensor::new(&[0_u32, 2], &Device::Cpu).unwrap();
    let plain = Batch {
        classes: Some(classes),
        ..Batch::of(images(2))
    };
    let weights = Tensor::new(&[1_f32, 1.0, 5.0], &Device::Cpu).unwrap();
    let loss = |batch: &Batch| -> f32 {
        network
            .loss(batch, Mode::Evaluate, &mut Random::new(1, "x"))
            .unwrap()
            .to_scalar()
            .unwrap()
    };
    let weighted = Batch {
        class_weights: Some(weights),
        ..plain.clone()
    };
    let smoothed = Batch {
        label_smoothing: 0.3,
        ..plain.clone()
    };
    assert!(loss(&plain) != loss(&weighted) && loss(&plain) != loss(&smoothed));
    assert!(
        network
            .loss(
                &Batch::of(images(2)),
                Mode::Evaluate,
                &mut Random::new(1, "x")
            )
            .is_err()
    );
}

#[test]
fn values_are_dropped_in_training_alone() {
    let network = network(
        &Resnet50Plot {
            dropout: [0.5; 3],
            ..small()
        },
        3,
        1,
    );
    let logits = |mode, seed| {
        let forward = network
            .forward(&images(3), mode, &mut Random::new(seed, "noise"))
            .unwrap();
        forward.logits.to_vec2::<f32>().unwrap()
    };
    assert_eq!(logits(Mode::Evaluate, 1), logits(Mode::Evaluate, 2));
    assert_ne!(logits(Mode::Train, 1), logits(Mode::Train, 2));
    assert_eq!(logits(Mode::Train, 1), logits(Mode::Train, 1));
}

#[test]
fn the_tape_and_the_graph_agree_in_gradients_and_running_statistics() {
    let config = Resnet50Plot {
        dropout: [0.2; 3],
        ..small()
    };
    let (tape, graph) = (network(&config, 3, 1), network(&config, 3, 1));
    let classes = Tensor::new(&[0_u32, 2, 1, 1, 0], &Device::Cpu).unwrap();
    let batch = Batch {
        classes: Some(classes),
        label_smoothing: 0.1,
        ..Batch::of(images(5))
    };
    let (found_loss, found) = tape
        .gradients(0, &batch, &mut Random::new(3, "noise"))
        .unwrap();
    let loss = graph
        .loss(&batch, Mode::Train, &mut Random::new(3, "noise"))
        .unwrap();
    let expected = Gradients::of(&graph.state, &loss).unwrap();
    assert!((found_loss - f64::from(loss.to_scalar::<f32>().unwrap())).abs() < 1e-6);
    let most = |tensor: &Tensor| -> f32 {
        tensor
            .abs()
            .unwrap()
            .flatten_all()
            .unwrap()
            .max(0)
            .unwrap()
            .to_scalar()
            .unwrap()
    };
    for (((name, _), found), expected) in tape.state.parameters().zip(&found.0).zip(&expected.0) {
        let (found, expected) = (found.as_ref().unwrap(), expected.as_ref().unwrap());
        assert!(
            most(&(found - expected).unwrap()) < 1e-3 * most(expected),
            "{name}"
        );
    }
    assert_eq!(
        tape.state.to_data().unwrap(),
        graph.state.to_data().unwrap()
    );
}

/// A file with the tensors of a network, changed by `change`, and what loading it into another one says.
fn load_changed(
    change: impl FnOnce(&mut BTreeMap<String, TensorData>),
) -> (Resnet, Resnet, Option<Trouble>) {
    let (source, target) = (network(&small(), 5, 1), network(&small(), 3, 2));
    let mut tensors = source.state.to_data().unwrap();
    change(&mut tensors);
    let file = tempfile::NamedTempFile::new().unwrap();
    let model = Model {
        config: Value::Null,
        training: Value::Null,
        tensors,
    };
    std::fs::write(file.path(), model.encode().unwrap()).unwrap();
    let host = NullHost {
        files: vec![(pretrained::NAME.to_owned(), file.path().to_owned())],
    };
    let error = target.start(&host.context(1)).err();
    (source, target, error)
}

#[test]
fn pretrained_weights_replace_everything_but_the_head() {
    let (source, target, error) = load_changed(|tensors| {
        // Older files have no counters.
        tensors.retain(|name, _| !name.ends_with("num_batches_tracked"));
    });
    assert!(error.is_none(), "{error:?}");
    let (source, found) = (
        source.state.to_data().unwrap(),
        target.state.to_data().unwrap(),
    );
    let fresh = network(&small(), 3, 2).state.to_data().unwrap();
    for (name, tensor) in &found {
        let expected = if name.starts_with("fc.") {
            &fresh[name]
        } else {
            &source[name]
        };
        assert!(tensor == expected, "{name}");
    }
}

#[test]
fn files_that_do_not_fit_are_refused_with_the_tensor_that_does_not() {
    let fault = |change: fn(&mut BTreeMap<String, TensorData>), words: &[&str]| {
        let (_, target, error) = load_changed(change);
        let message = error.unwrap().message().to_owned();
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
        let fresh = network(&small(), 3, 2).state.to_data().unwrap();
        assert_eq!(target.state.to_data().unwrap(), fresh);
    };
    fault(
        |tensors| drop(tensors.remove("layer2.1.conv2.weight")),
        &["lacks", "layer2.1.conv2.weight"],
    );
    fault(
        |tensors| drop(tensors.insert("conv1.weight".into(), TensorData::from_f32(&[1], &[0.0]))),
        &["conv1.weight", "[1]", "[12, 3, 7, 7]"],
    );
    fault(
        |tensors| drop(tensors.insert("layer9.weight".into(), TensorData::from_f32(&[1], &[0.0]))),
        &["layer9.weight"],
    );
    let config = Resnet50Plot {
        pretrained: Some("backbone.safetensors".into()),
        ..small()
    };
    assert_eq!(
        config.files(),
        [FileRequest::new("pretrained", "backbone.safetensors")]
    );
}

#[test]
fn impossible_configurations_are_named() {
    for (config, parameter) in [
        (
            Resnet50Plot {
                width: 0,
                ..small()
            },
            "width",
        ),
        (
            Resnet50Plot {
                depth: [1, 0, 1, 1],
                ..small()
            },
            "depth",
        ),
        (
            Resnet50Plot {
                width: 513,
                planes: None,
                ..small()
            },
            "width",
        ),
        (
            Resnet50Plot {
                planes: Some([0; 4]),
                ..small()
            },
            "planes",
        ),
        (
            Resnet50Plot {
                dropout: [0.0, 1.0, 0.0],
                ..small()
            },
            "dropout",
        ),
    ] {
        let fault = fault_of(&config).parameter;
        assert!(fault.starts_with(parameter), "{fault}");
    }
    let build = |shape| {
        let built = on_cpu(1, |builder| small().build(shape, builder));
        built.err().unwrap().message().to_owned()
    };
    assert!(build(DataShape::classify(32, 3, 2)).contains("images"));
    assert!(build(DataShape::images(32, 32, 1, 2)).contains("three colours"));
}
