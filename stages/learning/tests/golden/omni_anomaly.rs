//! NetManAIOps/OmniAnomaly, the TensorFlow program; and the bound that it is meant to compute.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use contract::Random;
use learning::models::omni_anomaly::OmniAnomaly;
use learning::models::{DataShape, Network};
use numerics::Mode;
use serde_json::{from_value, json};

use crate::case::{Case, Report};
use crate::check::{check_buffers, check_gradients, check_step};
use crate::{Adapter, Tolerances};

pub const ADAPTER: Adapter = Adapter {
    case: "omni_anomaly_original",
    shape: |case| DataShape::detect(case.size("window_length"), case.size("x_dim")),
    tolerances: Tolerances {
        out: 5e-5,
        out_train: 5e-5,
        loss: 2e-5,
        gradient: 5e-5,
    },
    check: |adapter, case, device, _| {
        let mut report = Report::of(case);
        check_chain(adapter, case, device, &mut report);
        check_scores(adapter, case, device, &mut report);
        check_training(adapter, case, device, &mut report);
        check_paper(adapter, case, device, &mut report);
        assert!(
            report.compared > 10,
            "{}: hardly anything was compared",
            case.name
        );
        report
    },
    ..Adapter::BASE
};

/// A network with the case's weights and draws.
fn network(
    adapter: &Adapter,
    case: &Case,
    device: &Device,
    form: &str,
    draws: &str,
    samples: usize,
) -> Box<dyn Network> {
    let size = |name| case.hyperparameter(name);
    let config: OmniAnomaly = from_value(json!({
        "form": form, "latent": size("z_dim"), "state": size("rnn_num_hidden"), "dense": size("dense_dim"),
        "flows": size("nf_layers"), "least_deviation": size("std_epsilon"), "samples": samples,
    }))
    .unwrap();
    // The case has time before samples.
    let draws = case
        .tensor(draws, device)
        .transpose(0, 1)
        .unwrap()
        .contiguous()
        .unwrap();
    let network = config
        .with_draws((adapter.shape)(case), device, draws)
        .unwrap();
    network.state().set_data(&case.below("param.")).unwrap();
    network
}

fn traced(
    adapter: &Adapter,
    case: &Case,
    network: &dyn Network,
    device: &Device,
) -> BTreeMap<String, Tensor> {
    network
        .trace(&(adapter.batch)(case, device), Mode::Train)
        .unwrap()
        .into_iter()
        .collect()
}

/// The quantities of training on one set of draws.
fn check_chain(adapter: &Adapter, case: &Case, device: &Device, report: &mut Report) {
    let network = network(adapter, case, device, "reference", "in.eps_chain", 1);
    let traced = traced(adapter, case, network.as_ref(), device);
    for name in ["z", "log_q", "log_px", "mean", "std", "log_pz"] {
        report.compare_tensor(
            case,
            &format!("out.chain.{name}"),
            &traced[name],
            adapter.tolerances.out,
        );
    }
    report.compare_tensor(
        case,
        "out.chain.loss_on_eps_chain",
        &traced["loss"],
        adapter.tolerances.loss,
    );
}

fn check_scores(adapter: &Adapter, case: &Case, device: &Device, report: &mut Report) {
    let tolerance = adapter.tolerances.out;
    // Draws for scores with one sample, with four, or with any other number.
    for number in case.below("in.eps_score_n").keys() {
        let samples: usize = number.parse().expect("a number of samples");
        let (name, draws) = (
            format!("score_n{number}"),
            format!("in.eps_score_n{number}"),
        );
        let network = network(adapter, case, device, "reference", &draws, samples);
        let traced = traced(adapter, case, network.as_ref(), device);
        report.compare_tensor(
            case,
            &format!("out.{name}.z_mean_std"),
            &traced["z_mean_std"],
            tolerance,
        );
        // The program's score is a sum over channels, and low where ours is high.
        let scores = network
            .errors(&(adapter.batch)(case, device))
            .unwrap()
            .sum(2)
            .unwrap()
            .neg()
            .unwrap();
        let last = scores.narrow(1, scores.dim(1).unwrap() - 1, 1).unwrap();
        for (kept, scores) in [("last_point", &last), ("all_points", &scores)] {
            let title = format!("out.{name}.{kept}");
            if case.has(&title) {
                report.compare_tensor(case, &title, scores, tolerance);
            }
        }
    }
}

fn check_training(adapter: &Adapter, case: &Case, device: &Device, report: &mut Report) {
    let network = network(adapter, case, device, "reference", "in.eps_train", 1);
    let batch = (adapter.batch)(case, device);
    let (loss, gradients) = network
        .gradients(0, &batch, &mut Random::new(0, "train"))
        .unwrap();
    report.compare(
        "loss",
        &[loss as f32],
        &case.floats("loss"),
        adapter.tolerances.loss,
    );
    check_gradients(
        adapter,
        case,
        network.as_ref(),
        &gradients,
        "program",
        report,
    );
    check_buffers(case, network.as_ref(), "program", report);
    check_step(case, network.as_ref(), report);
}

/// The evidence lower bound as published, whose gradient reaches every parameter.
fn check_paper(adapter: &Adapter, case: &Case, device: &Device, report: &mut Report) {
    let network = network(adapter, case, device, "paper", "in.eps_train", 1);
    let traced = traced(adapter, case, network.as_ref(), device);
    for name in ["log_px", "log_pz", "log_q"] {
        report.compare_tensor(
            case,
            &format!("paper.{name}"),
            &traced[name],
            adapter.tolerances.out,
        );
    }
    let mut tensors = case.below("paper.");
    tensors.retain(|name, _| name.starts_with("grad.") || name == "loss");
    let paper = Case {
        name: case.name.clone(),
        description: case.description.clone(),
        tensors,
    };
    let batch = (adapter.batch)(case, device);
    let (loss, gradients) = network
        .gradients(0, &batch, &mut Random::new(0, "train"))
        .unwrap();
    report.compare(
        "paper.loss",
        &[loss as f32],
        &paper.floats("loss"),
        adapter.tolerances.loss,
    );
    check_gradients(
        adapter,
        &paper,
        network.as_ref(),
        &gradients,
        "paper",
        report,
    );
    assert!(
        gradients.0.iter().all(Option::is_some),
        "{}: a parameter is not reached",
        case.name
    );
}
