//! What the Anomaly Transformer alone promises.

use super::*;
use crate::models::{fault_of, on_cpu};
use candle_core::Device;
use numerics::Gradients;
use numerics::Slopes;
use numerics::host::with_slice_mut;

const LENGTH: usize = 10;

fn small() -> AnomalyTransformer {
    AnomalyTransformer {
        d_model: 12,
        heads: 3,
        d_ff: 16,
        layers: 2,
        ..AnomalyTransformer::default()
    }
}

fn network(config: &AnomalyTransformer) -> Detector {
    let shape = DataShape::detect(LENGTH, 4);
    on_cpu(1, |builder| config.network(shape, builder)).unwrap()
}

fn batch() -> Batch {
    let mut random = Random::new(2, "data");
    let values: Vec<f32> = (0..5 * LENGTH * 4)
        .map(|_| random.normal() as f32)
        .collect();
    Batch::of(Tensor::from_vec(values, (5, LENGTH, 4), &Device::Cpu).unwrap())
}

fn traced(network: &Detector, name: &str) -> Tensor {
    let named = network.trace(&batch(), Mode::Train).unwrap();
    named
        .into_iter()
        .find(|(found, _)| found == name)
        .unwrap()
        .1
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// The largest difference, relative to the largest value.
fn apart(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected
        .iter()
        .fold(1e-9_f32, |most, value| most.max(value.abs()));
    found
        .iter()
        .zip(expected)
        .fold(0.0_f32, |most, (one, other)| most.max((one - other).abs()))
        / largest
}

#[test]
fn the_step_follows_the_sum_of_both_phases() {
    let network = network(&small());
    let (loss, sum) = network
        .gradients(0, &batch(), &mut Random::new(3, "noise"))
        .unwrap();
    let phases = ["loss", "loss2"].map(|name| traced(&network, name));
    let values = phases
        .each_ref()
        .map(|phase| f64::from(phase.to_scalar::<f32>().unwrap()));
    assert!(
        (loss - values[0] - values[1]).abs() < 1e-5 * loss,
        "{loss} {values:?}"
    );
    let [one, other] = phases.map(|phase| Gradients::of(network.state(), &phase).unwrap());
    for (index, (name, _)) in network.state().parameters().enumerate() {
        let gradient = flat(sum.0[index].as_ref().unwrap());
        let of = |phase: &Gradients| {
            phase.0[index]
                .as_ref()
                .map_or_else(|| vec![0.0; gradient.len()], flat)
        };
        let expected: Vec<f32> = of(&one)
            .iter()
            .zip(of(&other))
            .map(|(one, other)| one + other)
            .collect();
        // Softmax does not see the keys' bias; what is left is rounding.
        if !name.ends_with("key_projection.bias") {
            assert!(
                apart(&gradient, &expected) < 1e-4,
                "{name}: {}",
                apart(&gradient, &expected)
            );
        }
    }
}

/// In the last layer, queries and keys make the series association alone and σ the prior alone, so that there the slope of
/// a phase's loss is its gradient although the other side counts as constant.
#[test]
fn phases_pull_their_own_side_only_and_by_the_slope_of_their_loss() {
    let network = network(&small());
    let phases = [
        ("loss", "query_projection.weight"),
        ("loss", "key_projection.weight"),
        ("loss2", "sigma_projection.weight"),
    ];
    for (phase, parameter) in phases {
        let name = format!("encoder.attn_layers.1.attention.{parameter}");
        let variable = network
            .state()
            .parameters()
            .find(|(found, _)| *found == name)
            .unwrap()
            .1
            .clone();
        let slopes = Slopes::of(&traced(&network, phase)).unwrap();
        let gradient = flat(&slopes.get(&variable).unwrap().unwrap());
        let length = gradient
            .iter()
            .map(|g| f64::from(*g).powi(2))
            .sum::<f64>()
            .sqrt();
        let shifted = |by: f64| {
            let original = variable.copy().unwrap();
            with_slice_mut(&variable, |values| {
                let moves = values.iter_mut().zip(&gradient);
                moves.for_each(|(value, g)| *value += (by * f64::from(*g) / length) as f32);
            })
            .unwrap();
            let loss = f64::from(traced(&network, phase).to_scalar::<f32>().unwrap());
            variable.set(&original).unwrap();
            loss
        };
        let slope = (shifted(2e-3) - shifted(-2e-3)) / 4e-3;
        assert!(
            (slope / length - 1.0).abs() < 0.02,
            "{phase} {parameter}: {slope} {length}"
        );
    }
    let sigma = network.layers[1].sigma.weight.clone();
    let first = Slopes::of(&traced(&network, "loss")).unwrap();
    let of_sigma = first.get(&sigma).unwrap();
    assert!(of_sigma.is_none_or(|gradient| flat(&gradient).iter().all(|value| *value == 0.0)));
}

#[test]
fn forms_agree_where_the_quirks_have_no_effect() {
    let of = |form, layers| {
        let config = AnomalyTransformer {
            form,
            layers,
            ..small()
        };
        let network = network(&config);
        // The reference has tensors more, so weights are copied by name.
        let paper = super::tests::network(&AnomalyTransformer { layers, ..small() });
        let mut data = network.state().to_data().unwrap();
        data.extend(paper.state().to_data().unwrap());
        network.state().set_data(&data).unwrap();
        network
    };
    for layers in [1, 3] {
        let (paper, reference) = (of(Form::Paper, layers), of(Form::Reference, layers));
        let predicted =
            [&paper, &reference].map(|network| flat(&network.predict(&batch()).unwrap()));
        assert!(apart(&predicted[0], &predicted[1]) < 1e-5);
        let errors = [&paper, &reference].map(|network| flat(&network.errors(&batch()).unwrap()));
        let difference = apart(&errors[0], &errors[1]);
        // One layer's mean is its sum.
        assert!(
            if layers == 1 {
                difference < 1e-3
            } else {
                difference > 3e-3
            },
            "{layers}: {difference}"
        );
        let unused = reference
            .state()
            .parameters()
            .filter(|(name, _)| name.contains("attention.norm"))
            .count();
        assert_eq!(unused, 2 * layers);
        let gradients = reference
            .gradients(0, &batch(), &mut Random::new(3, "noise"))
            .unwrap()
            .1;
        assert_eq!(
            gradients
                .0
                .iter()
                .filter(|gradient| gradient.is_none())
                .count(),
            unused
        );
    }
}

#[test]
fn scores_weigh_errors_by_a_distribution_over_rows() {
    let network = network(&AnomalyTransformer {
        temperature: 1.0,
        ..small()
    });
    let errors = (network.predict(&batch()).unwrap() - &batch().inputs)
        .unwrap()
        .sqr()
        .unwrap();
    let (errors, scores) = (flat(&errors), flat(&network.errors(&batch()).unwrap()));
    let weights: Vec<f32> = scores
        .iter()
        .zip(&errors)
        .map(|(score, error)| score / error)
        .collect();
    for window in weights.chunks_exact(LENGTH * 4) {
        let sum: f32 = window.chunks_exact(4).map(|row| row[0]).sum();
        assert!((sum - 1.0).abs() < 1e-4, "{sum}");
        assert!(window.chunks_exact(4).all(|row| {
            row.iter()
                .all(|weight| (weight / row[0] - 1.0).abs() < 1e-3)
        }));
    }
}

#[test]
fn widths_follow_their_formula() {
    let projected = Tensor::new(&[[-4.0_f32, -1.0, 0.0, 0.3, 2.0]], &Device::Cpu).unwrap();
    for form in [Form::Paper, Form::Reference] {
        let found = flat(&positive(&projected, form).unwrap());
        for (found, projected) in found.iter().zip(flat(&projected)) {
            let exponent = 1.0 / (1.0 + (-5.0 * f64::from(projected)).exp()) + 1e-5;
            let expected = 3.0_f64.powf(exponent) - 1.0;
            let allowed = if form == Form::Paper { 1e-5 } else { 2e-2 };
            assert!(
                (f64::from(*found) / expected - 1.0).abs() < allowed,
                "{form:?} {projected}: {found} {expected}"
            );
        }
    }
}

#[test]
fn impossible_settings_are_named() {
    let fault = |config: AnomalyTransformer| fault_of(&config);
    assert_eq!(
        fault(AnomalyTransformer {
            heads: 5,
            ..small()
        })
        .parameter,
        "heads"
    );
    assert_eq!(
        fault(AnomalyTransformer { k: -1.0, ..small() }).parameter,
        "k"
    );
    let Fault { parameter, reason } = fault(AnomalyTransformer {
        form: Form::Reference,
        dropout: 0.1,
        ..small()
    });
    assert!(
        parameter == "dropout" && reason.contains("reference"),
        "{parameter} {reason}"
    );
}
