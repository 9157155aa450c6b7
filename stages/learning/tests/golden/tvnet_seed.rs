//! bishesh-droid/TVNet-Anomaly-Detection: what its scripts for forecasting, classification and imputation train.

use candle_core::{Device, Tensor};
use learning::models::{Batch, DataShape};
use serde_json::{Value, json};

use crate::case::{Case, Report};
use crate::{Adapter, Tolerances};

fn choice(case: &Case) -> (&'static str, Value) {
    let size = |name| case.hyperparameter(name);
    let mut parameters = json!({
        "variant": "seed", "form": "reference", "patch": size("patch_len"), "blocks": size("num_blocks"), "cm": size("Cm"),
    });
    if let Some(kernel) = size("kernel_size").as_u64() {
        parameters["kernel"] = kernel.into();
    }
    ("tvnet", parameters)
}

/// `[batch, channels, time]` to `[batch, time, channels]` or back.
fn turned(tensor: &Tensor) -> Tensor {
    tensor.transpose(1, 2).unwrap().contiguous().unwrap()
}

pub const FORECAST: Adapter = Adapter {
    case: "tvnet_forecast",
    choice,
    shape: |case| {
        DataShape::forecast(
            case.size("input_len"),
            case.size("in_dim"),
            case.size("out_len"),
        )
    },
    batch: |case, device| Batch {
        targets: Some(case.tensor("in.y", device)),
        ..Batch::of(case.tensor("in.x", device))
    },
    name: |name| if name == "embedding" { name } else { "output" },
    ..Adapter::BASE
};

pub const CLASSIFICATION: Adapter = Adapter {
    case: "tvnet_classification",
    choice,
    shape: |case| {
        DataShape::classify(
            case.size("input_len"),
            case.size("in_dim"),
            case.size("num_classes"),
        )
    },
    batch: |case, device| Batch {
        classes: Some(case.classes("in.y", device)),
        ..Batch::of(case.tensor("in.x", device))
    },
    name: |_| "output",
    tolerances: Tolerances {
        out: 1e-5,
        out_train: 3e-5,
        loss: 1e-5,
        gradient: 1e-3,
    },
    ..Adapter::BASE
};

pub const IMPUTATION: Adapter = Adapter {
    case: "tvnet_imputation",
    choice,
    shape: |case| DataShape::impute(case.size("window_len"), case.size("in_channels")),
    batch: |case, device| {
        let tensor = |name| turned(&case.tensor(name, device));
        let (targets, mask) = (Some(tensor("in.x_full")), Some(tensor("in.mask")));
        Batch {
            targets,
            mask,
            ..Batch::of(tensor("in.x_masked"))
        }
    },
    name: |_| "output",
    layout: |_, tensor| Ok(turned(&tensor)),
    ignored: &["mse_all", "mae_all", "mse_hidden_only", "mae_hidden_only"],
    more: errors,
    ..Adapter::BASE
};

/// The script's errors over all points, and those over the hidden ones.
fn errors(adapter: &Adapter, case: &Case, device: &Device, report: &mut Report) {
    let network = crate::check::network(adapter, case, device);
    network.state().set_data(&(adapter.weights)(case)).unwrap();
    let batch = (adapter.batch)(case, device);
    let apart = (network.predict(&batch).unwrap() - batch.targets.unwrap())
        .unwrap()
        .flatten_all()
        .unwrap();
    let apart: Vec<f32> = apart.to_vec1().unwrap();
    let mask: Vec<f32> = batch
        .mask
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap();
    let mean = |of: fn(f64) -> f64, every: bool| {
        let chosen = apart
            .iter()
            .zip(&mask)
            .filter(|(_, seen)| every || **seen == 0.0);
        let values: Vec<f64> = chosen.map(|(apart, _)| of(f64::from(*apart))).collect();
        (values.iter().sum::<f64>() / values.len() as f64) as f32
    };
    for (name, of) in [
        ("mse", (|apart| apart * apart) as fn(f64) -> f64),
        ("mae", f64::abs),
    ] {
        for (which, every) in [("all", true), ("hidden_only", false)] {
            let name = format!("out.{name}_{which}");
            report.compare(
                &name,
                &[mean(of, every)],
                &case.floats(&name),
                adapter.tolerances.out,
            );
        }
    }
}
