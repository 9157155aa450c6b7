//! pytorch/vision, `ResNet(Bottleneck)` with narrow planes and the plot classifier's head.

use learning::models::{Batch, DataShape};
use serde_json::json;

use crate::{Adapter, Tolerances};

pub const ADAPTER: Adapter = Adapter {
    case: "resnet50_plot",
    choice: |case| {
        let sizes = |name| case.hyperparameter(name);
        let dropout = case.hyperparameter("dropout");
        let parameters = json!({
            "width": sizes("stem_channels"),
            "planes": sizes("planes"),
            "depth": sizes("blocks"),
            "head": sizes("head_hidden"),
            "dropout": [dropout, dropout, dropout],
            // The case's images are normalised.
            "normalise": false,
        });
        ("resnet50-plot", parameters)
    },
    shape: |case| {
        let x = &case.tensors["in.x"].shape;
        DataShape::images(x[2], x[3], x[1], case.size("num_classes"))
    },
    batch: |case, device| Batch {
        classes: Some(case.classes("in.y", device)),
        ..Batch::of(case.tensor("in.x", device))
    },
    layout: |name, tensor| match name {
        "stem" => tensor.permute((0, 3, 1, 2))?.contiguous(),
        _ => Ok(tensor),
    },
    tolerances: Tolerances {
        out: 3e-5,
        out_train: 3e-4,
        loss: 3e-5,
        gradient: 3e-3,
    },
    ..Adapter::BASE
};
