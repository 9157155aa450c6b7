//! UykiZhao/Graduate, `models/transformer.py` and the training step of `trainers/pipeline.py`.

use candle_core::Tensor;
use learning::models::DataShape;
use numerics::Mode;
use numerics::positions::Positions;
use serde_json::json;

use crate::case::{Case, Report};
use crate::{Adapter, Tolerances};

/// A table of sines and cosines, which is computed here and no weight.
const POSITIONS: &str = "embedding.position_embedding.pe_first_rows";

pub const ADAPTER: Adapter = Adapter {
    case: "transformer_recon",
    choice: |case| {
        let value = |name| case.hyperparameter(name);
        let parameters = json!({
            "form": "reference", "d_model": value("d_model"), "heads": value("n_heads"), "d_ff": value("d_ff"),
            "layers": value("num_layers"), "dropout": value("dropout"), "noise": value("input_noise_std"),
            "smoothness": value("smoothness_weight"),
        });
        ("transformer-recon", parameters)
    },
    shape: |case| DataShape::detect(case.size("window_length"), case.size("input_c")),
    weights: |case| {
        let mut weights = case.below("param.");
        weights.remove(POSITIONS);
        weights
    },
    tolerances: Tolerances {
        out: 1e-5,
        out_train: 3e-5,
        loss: 1e-5,
        gradient: 3e-5,
    },
    more: |adapter, case, device, report| {
        compare_positions(case, case.size("d_model"), report);
        let network = crate::check::network(adapter, case, device);
        network.state().set_data(&(adapter.weights)(case)).unwrap();
        let batch = (adapter.batch)(case, device);
        for (name, value) in network.trace(&batch, Mode::Evaluate).unwrap() {
            if name.starts_with("loss_") {
                report.compare_tensor(case, &name, &value, adapter.tolerances.loss);
            }
        }
        let (_, gradients) = network
            .gradients(0, &batch, &mut contract::Random::new(0, "train"))
            .unwrap();
        report.compare(
            "grad_norm",
            &[gradients.norm().unwrap() as f32],
            &case.floats("grad_norm"),
            3e-5,
        );
        // The score of a window is that of its last row.
        let errors: Tensor = network.errors(&batch).unwrap();
        let last = errors
            .narrow(1, case.size("window_length") - 1, 1)
            .unwrap()
            .mean((1, 2))
            .unwrap();
        report.compare_tensor(case, "out.score", &last, adapter.tolerances.out);
    },
    ..Adapter::BASE
};

/// The positions of a case beside ours.
pub fn compare_positions(case: &Case, width: usize, report: &mut Report) {
    let name = format!("param.{POSITIONS}");
    let expected = case.floats(&name);
    report.compare(
        &name,
        Positions::new(expected.len() / width, width).values(),
        &expected,
        1e-5,
    );
}
