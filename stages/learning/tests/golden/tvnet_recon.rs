//! bishesh-droid/TVNet-Anomaly-Detection, `tasks/anomaly_detection.py`.

use learning::models::{Batch, DataShape};
use serde_json::json;

use crate::{Adapter, Tolerances};

pub const ADAPTER: Adapter = Adapter {
    case: "tvnet_recon",
    choice: |case| {
        let size = |name| case.hyperparameter(name);
        (
            "tvnet-recon",
            json!({"patch": size("patch_p"), "blocks": size("num_blocks"), "cm": size("cm")}),
        )
    },
    shape: |case| DataShape::detect(case.size("window_len"), case.size("in_channels")),
    batch: |case, device| {
        Batch::of(
            case.tensor("in.x", device)
                .transpose(1, 2)
                .unwrap()
                .contiguous()
                .unwrap(),
        )
    },
    name: |name| if name == "y" { "recon" } else { name },
    layout: |name, tensor| match name {
        "recon" | "y" => tensor.transpose(1, 2)?.contiguous(),
        "embed" | "last_block" => {
            // [batch, patches, patch, channels] to [batch, channels, patches, 2, half a patch].
            let (batch, patches, patch, channels) = tensor.dims4()?;
            tensor.permute((0, 3, 1, 2))?.contiguous()?.reshape((
                batch,
                channels,
                patches,
                2,
                patch / 2,
            ))
        }
        name if name.starts_with("alpha") => tensor.transpose(1, 2)?.contiguous(),
        _ => Ok(tensor),
    },
    tolerances: Tolerances {
        out: 1e-5,
        out_train: 3e-5,
        loss: 1e-5,
        gradient: 1e-4,
    },
    more: |adapter, case, device, report| {
        let network = crate::check::network(adapter, case, device);
        network.state().set_data(&case.below("param.")).unwrap();
        let errors = network
            .errors(&(adapter.batch)(case, device))
            .unwrap()
            .mean((1, 2))
            .unwrap();
        report.compare_tensor(case, "out.window_score", &errors, adapter.tolerances.out);
    },
    ..Adapter::BASE
};
