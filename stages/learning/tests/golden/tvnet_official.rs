//! Curyyfaust/TVNet, the authors' program for long-term forecasting.

use candle_core::{Device, Tensor};
use contract::Random;
use learning::models::{Batch, DataShape};
use numerics::{Mode, Slopes};
use serde_json::json;

use crate::case::{Case, Report};
use crate::{Adapter, Tolerances};

pub const FORECAST: Adapter = Adapter {
    case: "tvnet_official_forecast",
    choice: |case| {
        let size = |name| case.hyperparameter(name);
        let parameters = json!({
            "form": "reference", "patch": size("patch_length"), "stride": size("stride"), "blocks": size("layers"),
            "cm": size("d_model"), "dropout": size("dropout"),
        });
        ("tvnet", parameters)
    },
    shape: |case| {
        DataShape::forecast(
            case.size("seq_len"),
            case.size("c_in"),
            case.size("pred_len"),
        )
    },
    batch: |case, device| Batch {
        targets: Some(case.tensor("in.y", device)),
        ..Batch::of(case.tensor("in.x", device))
    },
    weights: |case| {
        let mut weights = case.below("param.");
        // The table of positions is computed, not learned.
        weights.remove("enc_embedding.position_embedding.pe_first_rows");
        weights
    },
    name: |name| if name == "forecast" { "output" } else { name },
    ignored: &["forecast_per_sample"],
    tolerances: Tolerances {
        out: 1e-5,
        out_train: 1e-5,
        loss: 1e-5,
        gradient: 5e-5,
    },
    more: samples_alone,
    ..Adapter::BASE
};

/// Forecasts, loss and gradients without mixing: every sample is a batch of its own, and statistics are the running ones.
fn samples_alone(adapter: &Adapter, case: &Case, device: &Device, report: &mut Report) {
    let network = crate::check::network(adapter, case, device);
    network.state().set_data(&(adapter.weights)(case)).unwrap();
    let batch = (adapter.batch)(case, device);
    let count = batch.inputs.dim(0).unwrap();
    let alone: Vec<Batch> = (0..count)
        .map(|sample| {
            let own = |tensor: &Tensor| tensor.narrow(0, sample, 1).unwrap().contiguous().unwrap();
            Batch {
                targets: batch.targets.as_ref().map(own),
                ..Batch::of(own(&batch.inputs))
            }
        })
        .collect();
    let forecasts: Vec<Tensor> = alone
        .iter()
        .map(|batch| network.predict(batch).unwrap())
        .collect();
    let forecasts = Tensor::cat(&forecasts, 0).unwrap();
    report.compare_tensor(
        case,
        "out.forecast_per_sample",
        &forecasts,
        adapter.tolerances.out,
    );

    let mut random = Random::new(0, "train");
    let losses: Vec<Tensor> = alone
        .iter()
        .map(|batch| network.loss(batch, Mode::Evaluate, &mut random).unwrap())
        .collect();
    let loss = Tensor::stack(&losses, 0).unwrap().mean_all().unwrap();
    report.compare_tensor(case, "loss_eval_per_sample", &loss, adapter.tolerances.loss);
    let slopes = Slopes::of(&loss).unwrap();
    for (name, parameter) in network.state().parameters() {
        let expected = format!("grad_eval_per_sample.{name}");
        if case.has(&expected) {
            let gradient = slopes.get(parameter).unwrap();
            let gradient = gradient.unwrap_or_else(|| panic!("no gradient of {name}"));
            report.compare_tensor(case, &expected, &gradient, adapter.tolerances.gradient);
        }
    }
}
