//! thuml/Anomaly-Transformer: `model/`, and both phases, the score and the threshold of `solver.py`. Point adjustment and
//! what follows is for the metrics.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use contract::Random;
use contract::artifact::TensorData;
use learning::models::{Batch, DataShape, Network};
use numerics::{Gradients, Mode};
use serde_json::json;

use crate::case::{Case, Report, distance};
use crate::check::{check_buffers, check_gradients, check_step, is_zero_gradient};
use crate::{Adapter, Tolerances};

pub const ADAPTER: Adapter = Adapter {
    case: "anomaly_transformer",
    choice: |case| {
        let value = |name| case.hyperparameter(name);
        let parameters = json!({
            "form": "reference", "d_model": value("d_model"), "heads": value("n_heads"), "d_ff": value("d_ff"),
            "layers": value("e_layers"), "dropout": value("dropout"), "k": value("k"), "temperature": value("temperature"),
        });
        ("anomaly-transformer", parameters)
    },
    shape: |case| DataShape::detect(case.size("win_size"), case.size("enc_in")),
    weights: |case| {
        let mut weights = case.below("param.");
        weights.remove("embedding.position_embedding.pe_first_rows");
        weights
    },
    tolerances: Tolerances {
        out: 1e-5,
        out_train: 3e-5,
        loss: 1e-5,
        gradient: 1e-4,
    },
    check,
    ..Adapter::BASE
};

fn check(adapter: &Adapter, case: &Case, device: &Device, place: &str) -> Report {
    let mut report = Report::of(case);
    let network = crate::check::network(adapter, case, device);
    let weights = (adapter.weights)(case);
    network.state().set_data(&weights).unwrap();
    let batch = (adapter.batch)(case, device);
    crate::transformer_recon::compare_positions(case, case.size("d_model"), &mut report);

    let mut traced: BTreeMap<String, Tensor> = network
        .trace(&batch, Mode::Train)
        .unwrap()
        .into_iter()
        .collect();
    check_associations(case, &traced, &mut report);
    report.compare_tensor(case, "out.recon", &traced["recon"], adapter.tolerances.out);
    for (loss, prefix) in [("loss", "grad1."), ("loss2", "grad2.")] {
        let value = traced.remove(loss).unwrap();
        report.compare_tensor(case, loss, &value, adapter.tolerances.loss);
        let gradients = Gradients::of(network.state(), &value).unwrap();
        check_phase(
            case,
            prefix,
            network.as_ref(),
            &gradients,
            adapter.tolerances.gradient,
            &mut report,
        );
    }
    check_energies(case, network.as_ref(), &batch, device, &mut report);

    let (_, gradients) = network
        .gradients(0, &batch, &mut Random::new(0, "train"))
        .unwrap();
    check_gradients(
        adapter,
        case,
        network.as_ref(),
        &gradients,
        "trainer",
        &mut report,
    );
    check_buffers(case, network.as_ref(), "trainer", &mut report);
    check_step(case, network.as_ref(), &mut report);
    assert!(
        report.compared > 10,
        "{} on {place}: hardly anything was compared",
        case.name
    );
    report
}

/// What a layer attends to and its prior. Where σ is small the reference has lost most of its digits.
fn check_associations(case: &Case, traced: &BTreeMap<String, Tensor>, report: &mut Report) {
    let found = |name: &str| {
        traced[name]
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap()
    };
    for layer in 0..case.size("e_layers") {
        let name = format!("series{layer}");
        report.compare(
            &name,
            &found(&name),
            &case.floats(&format!("out.{name}")),
            1e-5,
        );
        let widths = case.floats(&format!("out.sigma{layer}"));
        for (name, row) in [
            (format!("sigma{layer}"), 1),
            (format!("prior{layer}"), case.size("win_size")),
        ] {
            let (found, expected) = (found(&name), case.floats(&format!("out.{name}")));
            for (small, tolerance) in [(true, 1e-2), (false, 1e-4)] {
                let wanted = |index: usize| (widths[index / row] < 1e-3) == small;
                let size = |index: usize, value: &f32| {
                    if wanted(index) {
                        f64::from(value.abs())
                    } else {
                        0.0
                    }
                };
                let largest = expected
                    .iter()
                    .enumerate()
                    .map(|(index, value)| size(index, value))
                    .fold(1e-30, f64::max);
                let title = format!("{name}, small: {small}");
                report.judge(
                    &title,
                    distance(&found, &expected, wanted) / largest,
                    tolerance,
                );
            }
        }
    }
}

/// The gradients of one phase alone.
fn check_phase(
    case: &Case,
    prefix: &str,
    network: &dyn Network,
    gradients: &Gradients,
    tolerance: f64,
    report: &mut Report,
) {
    let expected = case.below(prefix);
    for ((name, _), gradient) in network.state().parameters().zip(&gradients.0) {
        if is_zero_gradient(case, name) {
            continue;
        }
        let expected = expected.get(name).and_then(TensorData::to_f32);
        let found = gradient
            .as_ref()
            .map(|gradient| gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        match (found, expected) {
            (Some(found), Some(expected)) if expected.iter().any(|value| *value != 0.0) => {
                report.compare(&format!("{prefix}{name}"), &found, &expected, tolerance);
            }
            (found, expected) => {
                let largest = |values: Option<Vec<f32>>| {
                    values
                        .into_iter()
                        .flatten()
                        .fold(0.0_f32, |most, value| most.max(value.abs()))
                };
                report.judge(
                    &format!("{prefix}{name}, unreached"),
                    f64::from(largest(found) + largest(expected)),
                    0.0,
                );
            }
        }
    }
}

/// The scores of all points, and the threshold that the reference takes from those of both splits.
fn check_energies(
    case: &Case,
    network: &dyn Network,
    batch: &Batch,
    device: &Device,
    report: &mut Report,
) {
    let energies = |inputs: Tensor| -> Vec<f32> {
        let errors = network.errors(&Batch::of(inputs)).unwrap();
        errors
            .mean(2)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap()
    };
    let train = energies(batch.inputs.clone());
    // The batches of the test split, in their order.
    let mut test = Vec::new();
    let mut number = 0;
    while case.has(&format!("in.x_test{number}")) {
        test.extend(energies(case.tensor(&format!("in.x_test{number}"), device)));
        number += 1;
    }
    report.compare(
        "out.energy_train",
        &train,
        &case.floats("out.energy_train"),
        5e-4,
    );
    report.compare(
        "out.energy_test",
        &test,
        &case.floats("out.energy_test"),
        5e-4,
    );

    let mut all: Vec<f64> = train
        .iter()
        .chain(&test)
        .map(|energy| f64::from(*energy))
        .collect();
    all.sort_by(f64::total_cmp);
    let ratio = case
        .hyperparameter("anomaly_ratio_percent")
        .as_f64()
        .unwrap();
    let place = (1.0 - ratio / 100.0) * (all.len() - 1) as f64;
    let (below, part) = (place.floor() as usize, place.fract());
    let threshold = all[below] + part * (all[(below + 1).min(all.len() - 1)] - all[below]);
    let expected: [u8; 8] = case.tensors["out.threshold"].bytes[..]
        .try_into()
        .expect("a 64-bit float");
    let expected = f64::from_le_bytes(expected);
    report.judge("out.threshold", (threshold / expected - 1.0).abs(), 5e-4);
    let flags = case.tensors["out.pred_raw"].to_i64().expect("integers");
    let flags: Vec<f32> = flags.into_iter().map(|flag| flag as f32).collect();
    let own: Vec<f32> = test
        .iter()
        .map(|energy| {
            if f64::from(*energy) > threshold {
                1.0
            } else {
                0.0
            }
        })
        .collect();
    report.judge("out.pred_raw", distance(&own, &flags, |_| true), 0.0);
}
