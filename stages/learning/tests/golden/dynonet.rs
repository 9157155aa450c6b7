//! kvu1342009-pixel/DynoNet: both levels of one step, with the draws of the case.

use candle_core::{Device, Result, Tensor};
use contract::Random;
use learning::models::dynonet::{Draws, Dynonet, Forecaster};
use learning::models::{Batch, DataShape, Network};
use numerics::{Gradients, StateBuilder};
use serde_json::{Value, json};

use crate::case::{Case, Report};
use crate::check::{check_after, check_outputs, rate, step};
use crate::{Adapter, Tolerances};

pub const ADAPTER: Adapter = Adapter {
    case: "dynonet",
    choice: |case| ("dynonet", parameters(case)),
    shape: |case| {
        DataShape::forecast(
            case.size("seq_len"),
            case.size("input_dim"),
            case.size("pred_len"),
        )
    },
    batch: |case, device| batch(case, "train", device),
    tolerances: Tolerances {
        out: 1e-5,
        out_train: 1e-5,
        loss: 1e-5,
        gradient: 5e-5,
    },
    check,
    ..Adapter::BASE
};

fn parameters(case: &Case) -> Value {
    let size = |name: &str| case.hyperparameter(name);
    json!({
        "form": "reference",
        "control_hidden": size("control_hidden"),
        "worker_hidden": size("worker_hidden"),
        "layers": size("num_layers"),
        "worker_length": size("worker_seq_len"),
        "decomposition_kernel": size("decomposition_kernel"),
        "mixer_expansion": size("mixer_expansion"),
        "dropout": size("dropout"),
        "penalty": case.number(&["optimizer", "worker", "weight_decay"]),
    })
}

fn batch(case: &Case, part: &str, device: &Device) -> Batch {
    let targets = Some(case.tensor(&format!("in.y_{part}"), device));
    Batch {
        targets,
        ..Batch::of(case.tensor(&format!("in.x_{part}"), device))
    }
}

/// The draws of the case.
struct Given<'a> {
    case: &'a Case,
    part: &'static str,
    frozen: Vec<f32>,
}

impl Draws for Given<'_> {
    fn kept(
        &mut self,
        worker: usize,
        layer: usize,
        keep: &Tensor,
        time: usize,
        _: usize,
    ) -> Result<Tensor> {
        let mask = self.case.tensor(
            &format!("in.mask_{}.{worker}.{layer}", self.part),
            keep.device(),
        );
        let length = mask.dim(1)?;
        mask.narrow(1, length - time, time)?.contiguous()
    }

    fn frozen(&mut self, worker: usize, _: f64) -> bool {
        self.frozen[worker] > 0.0
    }

    fn uniform(&mut self) -> f64 {
        panic!("the case has no dropout in its mixer")
    }
}

fn check(adapter: &Adapter, case: &Case, device: &Device, _: &str) -> Report {
    let mut report = Report::of(case);
    let config: Dynonet = serde_json::from_value(parameters(case)).unwrap();
    let mut random = Random::new(0, "init");
    let builder = &mut StateBuilder::new(device, &mut random);
    let network = config.network((adapter.shape)(case), builder).unwrap();
    network.state().set_data(&case.below("param.")).unwrap();
    check_outputs(
        adapter,
        case,
        &network,
        &batch(case, "train", device),
        &mut report,
    );

    let mut draws = Given {
        case,
        part: "train",
        frozen: case.floats("in.freeze"),
    };
    let (loss, workers) = network
        .worker_gradients(&batch(case, "train", device), &mut draws)
        .unwrap();
    report.compare(
        "loss",
        &[loss as f32],
        &case.floats("loss"),
        adapter.tolerances.loss,
    );
    check_part(
        adapter,
        case,
        &network,
        &workers,
        "worker_net.",
        &mut report,
    );
    // The controller is judged by what the workers forecast after their step.
    let optimizer = &case.description["optimizer"];
    step(case, &network, &optimizer["worker"], "worker_net.");

    let mut draws = Given {
        case,
        part: "val",
        frozen: Vec::new(),
    };
    let (loss, controller) = network
        .controller_gradients(&batch(case, "val", device), &mut draws)
        .unwrap();
    report.compare(
        "loss_val",
        &[loss as f32],
        &case.floats("loss_val"),
        adapter.tolerances.loss,
    );
    check_part(
        adapter,
        case,
        &network,
        &controller,
        "control_net.",
        &mut report,
    );
    step(case, &network, &optimizer["controller"], "control_net.");
    let rate_of = |name: &str| match name.starts_with("worker_net.") {
        true => rate(&optimizer["worker"]),
        false => rate(&optimizer["controller"]),
    };
    check_after(case, &network, rate_of, &mut report);
    report
}

/// The gradients of one part as its optimiser sees them; the other part has none.
fn check_part(
    adapter: &Adapter,
    case: &Case,
    network: &Forecaster,
    gradients: &Gradients,
    part: &str,
    report: &mut Report,
) {
    for ((name, _), gradient) in network.state().parameters().zip(&gradients.0) {
        let expected = format!("grad.{name}");
        match gradient {
            Some(gradient) if name.starts_with(part) && case.has(&expected) => {
                report.compare_tensor(case, &expected, gradient, adapter.tolerances.gradient);
            }
            Some(_) => report.judge(
                &format!("{expected}, which the reference does not have"),
                1.0,
                0.0,
            ),
            None if name.starts_with(part) && case.has(&expected) => {
                report.judge(&format!("{expected}, which is missing"), 1.0, 0.0);
            }
            None => {}
        }
    }
}
