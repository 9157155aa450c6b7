//! Outputs, loss, gradients and one optimiser step of a network beside a reference's.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use contract::Random;
use contract::artifact::TensorData;
use learning::models::{self, Batch, ModelChoice, Network};
use numerics::optimizer::{Optimizer, OptimizerChoice};
use numerics::{Gradients, Mode, to_data};
use serde_json::{Value, json};

use crate::Adapter;
use crate::case::{Case, Report, distance};

/// The network that a case describes, with weights that are not the case's yet.
pub fn network(adapter: &Adapter, case: &Case, device: &Device) -> Box<dyn Network> {
    let (name, parameters) = (adapter.choice)(case);
    let choice =
        ModelChoice::new(name, parameters).unwrap_or_else(|error| panic!("{}: {error}", case.name));
    models::build(
        &choice,
        (adapter.shape)(case),
        device,
        &mut Random::new(0, "init"),
    )
    .unwrap()
}

/// Outputs, loss, gradients and one step of a case, for models that are trained by one loss.
pub fn check(adapter: &Adapter, case: &Case, device: &Device, place: &str) -> Report {
    let network = network(adapter, case, device);
    check_network(adapter, case, network.as_ref(), device, place)
}

/// The same for a network that was built already.
pub fn check_network(
    adapter: &Adapter,
    case: &Case,
    network: &dyn Network,
    device: &Device,
    place: &str,
) -> Report {
    let mut report = Report::of(case);
    let weights = (adapter.weights)(case);
    let batch = (adapter.batch)(case, device);
    let mut random = Random::new(0, "train");

    network.state().set_data(&weights).unwrap();
    check_outputs(adapter, case, network, &batch, &mut report);
    // The gradients as the trainer takes them, and as automatic differentiation finds them.
    for way in ["trainer", "autodiff"] {
        network.state().set_data(&weights).unwrap();
        let (loss, gradients) = match way {
            "trainer" => network.gradients(0, &batch, &mut random).unwrap(),
            _ => {
                let loss = network.loss(&batch, Mode::Train, &mut random).unwrap();
                let gradients = Gradients::of(network.state(), &loss).unwrap();
                (f64::from(loss.to_scalar::<f32>().unwrap()), gradients)
            }
        };
        report.compare(
            &format!("loss ({way})"),
            &[loss as f32],
            &case.floats("loss"),
            adapter.tolerances.loss,
        );
        check_gradients(adapter, case, network, &gradients, way, &mut report);
        check_buffers(case, network, way, &mut report);
    }
    network.state().set_data(&weights).unwrap();
    check_step(case, network, &mut report);
    assert!(
        report.compared > 10,
        "{} on {place}: hardly anything was compared",
        case.name
    );
    (adapter.more)(adapter, case, device, &mut report);
    report
}

/// Every `out.` and `out_train.` tensor of the case that the adapter finds among what the network traces.
pub fn check_outputs(
    adapter: &Adapter,
    case: &Case,
    network: &dyn Network,
    batch: &Batch,
    report: &mut Report,
) {
    let passes = [
        ("out.", Mode::Evaluate, adapter.tolerances.out),
        ("out_train.", Mode::Train, adapter.tolerances.out_train),
    ];
    for (prefix, mode, tolerance) in passes {
        let expected = case.below(prefix);
        if expected.is_empty() {
            continue;
        }
        let traced: BTreeMap<String, Tensor> =
            network.trace(batch, mode).unwrap().into_iter().collect();
        for name in expected
            .keys()
            .filter(|name| !adapter.ignored.contains(&name.as_str()))
        {
            let own = (adapter.name)(name);
            let tensor = traced
                .get(own)
                .unwrap_or_else(|| panic!("{}: no output {own} for {prefix}{name}", case.name));
            let tensor = (adapter.layout)(name, tensor.clone()).unwrap();
            report.compare_tensor(case, &format!("{prefix}{name}"), &tensor, tolerance);
        }
    }
}

/// Gradients that are mathematically zero hold rounding noise in the reference.
pub fn is_zero_gradient(case: &Case, name: &str) -> bool {
    let listed = case.description["rounding"]["mathematically_zero_gradients"].as_array();
    listed.is_some_and(|names| names.iter().any(|listed| listed == &format!("grad.{name}")))
}

/// The gradients of every parameter that the reference's loss reaches.
pub fn check_gradients(
    adapter: &Adapter,
    case: &Case,
    network: &dyn Network,
    gradients: &Gradients,
    way: &str,
    report: &mut Report,
) {
    let expected = case.below("grad.");
    let magnitude = |values: &[f32]| {
        values
            .iter()
            .fold(0.0_f64, |most, value| most.max(f64::from(value.abs())))
    };
    let largest = expected
        .values()
        .filter_map(TensorData::to_f32)
        .fold(0.0_f64, |most, g| most.max(magnitude(&g)));
    for ((name, _), gradient) in network.state().parameters().zip(&gradients.0) {
        let Some(expected) = expected.get(name).and_then(TensorData::to_f32) else {
            assert!(
                gradient.is_none(),
                "{}: the reference's loss does not reach {name}",
                case.name
            );
            continue;
        };
        let gradient = gradient
            .as_ref()
            .unwrap_or_else(|| panic!("{}: no gradient of {name}", case.name));
        let found: Vec<f32> = gradient.flatten_all().unwrap().to_vec1().unwrap();
        let title = format!("grad.{name} ({way})");
        if is_zero_gradient(case, name) {
            report.judge(&title, magnitude(&found) / largest, 1e-5);
        } else {
            report.compare(&title, &found, &expected, adapter.tolerances.gradient);
        }
    }
}

/// The running statistics that a training pass left.
pub fn check_buffers(case: &Case, network: &dyn Network, way: &str, report: &mut Report) {
    for (name, buffer) in network.state().buffers() {
        let found = to_data(buffer).unwrap();
        let expected = &case.tensors[&format!("after.{name}")];
        if name.ends_with("num_batches_tracked") {
            assert_eq!(&found, expected, "{}: {name}", case.name);
        } else {
            report.compare(
                &format!("after.{name} ({way})"),
                &found.to_f32().unwrap(),
                &expected.to_f32().unwrap(),
                1e-5,
            );
        }
    }
}

/// One step of the case's optimiser along the reference's own gradients. With ours, it would say less of the optimiser:
/// Adam makes a whole step of a gradient that is nothing but rounding. Which parameters have one is what `check_gradients`
/// compares.
pub fn check_step(case: &Case, network: &dyn Network, report: &mut Report) {
    let optimizer = &case.description["optimizer"];
    step(case, network, optimizer, "");
    check_after(case, network, |_| rate(optimizer), report);
}

pub fn rate(optimizer: &Value) -> f64 {
    optimizer["lr"].as_f64().expect("an optimiser has a rate")
}

/// A step of one optimiser of the case, of the parameters whose names begin with `part`.
pub fn step(case: &Case, network: &dyn Network, described: &Value, part: &str) {
    let mut parameters = json!({"lr": rate(described)});
    for (name, theirs) in [("epsilon", "eps"), ("weight_decay", "weight_decay")] {
        if let Some(value) = described[theirs].as_f64() {
            parameters[name] = value.into();
        }
    }
    for (name, index) in [("beta1", 0), ("beta2", 1)] {
        if let Some(value) = described["betas"][index].as_f64() {
            parameters[name] = value.into();
        }
    }
    let title = described["name"].as_str().unwrap_or_default();
    if title.contains("TensorFlow") {
        parameters["epsilon_hat"] = true.into();
    }
    let kind = if title.contains("AdamW") {
        "adamw"
    } else {
        "adam"
    };
    let choice = OptimizerChoice::new(kind, parameters).unwrap();
    let mut optimizer = Optimizer::new(&choice, network.state()).unwrap();
    let mut gradients = Vec::new();
    for (name, parameter) in network.state().parameters() {
        let gradient = format!("grad.{name}");
        let wanted = name.starts_with(part) && case.has(&gradient);
        gradients.push(wanted.then(|| case.tensor(&gradient, parameter.device())));
    }
    assert!(
        gradients.iter().any(Option::is_some),
        "{}: no gradient of any parameter `{part}`",
        case.name
    );
    let gradients = Gradients(gradients);
    optimizer
        .step(network.state(), &gradients, rate(described))
        .unwrap();
}

/// The parameters after a step, in rates of the optimiser that they belong to. Those without a gradient stay as they are.
pub fn check_after(
    case: &Case,
    network: &dyn Network,
    rate: impl Fn(&str) -> f64,
    report: &mut Report,
) {
    for (name, parameter) in network.state().parameters() {
        let found: Vec<f32> = parameter.flatten_all().unwrap().to_vec1().unwrap();
        if case.has(&format!("grad.{name}")) {
            let expected = case.floats(&format!("after.{name}"));
            assert_eq!(
                found.len(),
                expected.len(),
                "{}: {name} has another size",
                case.name
            );
            let apart = distance(&found, &expected, |_| true) / rate(name);
            report.judge(&format!("after.{name}, in rates"), apart, 0.02);
        } else {
            let before = case.floats(&format!("param.{name}"));
            let title = format!("after.{name}, untouched");
            report.judge(&title, distance(&found, &before, |_| true), 0.0);
        }
    }
}
