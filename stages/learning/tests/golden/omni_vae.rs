//! UykiZhao/Graduate, `models/omni_anomaly.py`.

use learning::models::DataShape;
use learning::models::omni_vae::OmniVae;
use serde_json::{from_value, json};

use crate::{Adapter, Tolerances};

pub const ADAPTER: Adapter = Adapter {
    case: "omni_vae",
    shape: |case| DataShape::detect(case.size("window_length"), case.size("input_c")),
    tolerances: Tolerances {
        out: 1e-5,
        out_train: 1e-5,
        loss: 1e-5,
        gradient: 3e-5,
    },
    check: |adapter, case, device, place| {
        let size = |name| case.hyperparameter(name);
        let config: OmniVae = from_value(json!({
            "form": "reference", "state": size("d_model"), "latent": size("latent_dim"), "inner": size("d_ff"),
            "beta": size("beta_kl"), "input_noise": size("input_noise_std"),
        }))
        .unwrap();
        let network = config
            .with_draws((adapter.shape)(case), device, case.tensor("in.eps", device))
            .unwrap();
        let mut report =
            crate::check::check_network(adapter, case, network.as_ref(), device, place);

        network.state().set_data(&case.below("param.")).unwrap();
        let batch = (adapter.batch)(case, device);
        let last = case.size("window_length") - 1;
        let scores = network
            .errors(&batch)
            .unwrap()
            .narrow(1, last, 1)
            .unwrap()
            .mean((1, 2))
            .unwrap();
        report.compare_tensor(case, "out.score", &scores, adapter.tolerances.out);
        report
    },
    ..Adapter::BASE
};
