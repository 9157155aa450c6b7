//! Each model at its source's sizes, with a batch in memory. Used by the bench `train_step` and by the test `budget`.

use candle_core::{Device, Tensor};
use contract::Random;
use learning::models::{self, Batch, DataShape, ModelChoice, Network, Task};
use numerics::Constants;
use numerics::optimizer::{Optimizer, OptimizerChoice};
use serde_json::{Value, json};

/// A model at its source's sizes. `benches/peers/models/NAME.py` has the same in PyTorch.
pub struct Case {
    /// The name of the file beside it, and of the group of measurements.
    pub name: &'static str,
    pub model: &'static str,
    pub parameters: fn() -> Value,
    pub shape: fn() -> DataShape,
    pub batch: usize,
    /// Whether the automatically differentiated graph is timed too.
    #[allow(dead_code, reason = "the bench alone reads it")]
    pub graph: bool,
}

pub const CASES: &[Case] = &[
    Case {
        name: "anomaly_transformer",
        model: "anomaly-transformer",
        parameters: || json!({}),
        shape: || DataShape::detect(100, 38),
        batch: 32,
        graph: false,
    },
    Case {
        name: "cnn",
        model: "cnn",
        parameters: || json!({}),
        shape: || DataShape::detect(101, 38),
        batch: 128,
        graph: false,
    },
    Case {
        name: "dlinear",
        model: "dlinear",
        parameters: || json!({}),
        shape: || DataShape::forecast(336, 7, 96),
        batch: 32,
        graph: false,
    },
    Case {
        name: "dynonet",
        model: "dynonet",
        parameters: || json!({"form": "reference"}),
        shape: || DataShape::forecast(336, 7, 96),
        batch: 128,
        graph: false,
    },
    Case {
        name: "gdn",
        model: "gdn",
        parameters: || json!({}),
        shape: || DataShape::detect(16, 38),
        batch: 128,
        graph: false,
    },
    Case {
        name: "omni_anomaly",
        model: "omni-anomaly",
        parameters: || json!({}),
        shape: || DataShape::detect(100, 38),
        batch: 50,
        graph: false,
    },
    Case {
        name: "omni_vae",
        model: "omni-vae",
        parameters: || json!({}),
        shape: || DataShape::detect(100, 38),
        batch: 256,
        graph: false,
    },
    Case {
        name: "resnet50_plot",
        model: "resnet50-plot",
        parameters: || json!({}),
        shape: || DataShape::images(224, 224, 3, 9),
        batch: 8,
        graph: false,
    },
    Case {
        name: "transformer_recon",
        model: "transformer-recon",
        parameters: || json!({}),
        shape: || DataShape::detect(100, 38),
        batch: 256,
        graph: false,
    },
    Case {
        name: "tvnet",
        model: "tvnet",
        parameters: || json!({}),
        shape: || DataShape::forecast(96, 7, 96),
        batch: 32,
        graph: false,
    },
    Case {
        name: "tvnet_official",
        model: "tvnet",
        parameters: || json!({"form": "reference"}),
        shape: || DataShape::forecast(96, 7, 96),
        batch: 32,
        graph: false,
    },
    Case {
        name: "tvnet_recon",
        model: "tvnet-recon",
        parameters: || json!({}),
        shape: || DataShape::detect(100, 38),
        batch: 128,
        graph: true,
    },
    Case {
        name: "vae",
        model: "vae",
        parameters: || json!({"of": "images", "hidden": [32, 64, 128, 256, 512], "latent": 128, "deviation": 0.5}),
        shape: || DataShape {
            width: 224,
            ..DataShape::detect(224, 3)
        },
        batch: 8,
        graph: false,
    },
];

/// A batch of noise of this shape.
fn batch(shape: DataShape, count: usize, device: &Device, random: &mut Random) -> Batch {
    let DataShape {
        length,
        channels,
        horizon,
        classes,
        width,
        ..
    } = shape;
    let mut tensor = |dims: &[usize]| {
        let values: Vec<f32> = (0..dims.iter().product())
            .map(|_| random.normal() as f32)
            .collect();
        Tensor::from_vec(values, dims, device).expect("sizes agree")
    };
    let windows = [count, length, channels];
    let inputs = if width == 0 {
        tensor(&windows)
    } else {
        tensor(&[count, channels, length, width])
    };
    let mut batch = Batch::of(inputs);
    match shape.task {
        Task::Detect => {}
        Task::Forecast => batch.targets = Some(tensor(&[count, horizon, channels])),
        Task::Impute => {
            batch.targets = Some(batch.inputs.clone());
            batch.mask = Some(
                tensor(&windows)
                    .gt(-0.5)
                    .and_then(|mask| mask.to_dtype(candle_core::DType::F32))
                    .expect("a mask"),
            );
        }
        Task::Classify => {
            let numbers: Vec<u32> = (0..count).map(|sample| (sample % classes) as u32).collect();
            batch.classes = Some(Tensor::new(numbers, device).expect("sizes agree"));
        }
    }
    batch
}

/// A network with what it takes to train it.
pub struct Work {
    pub network: Box<dyn Network>,
    pub optimizers: Vec<Optimizer>,
    pub batch: Batch,
    pub random: Random,
    task: Task,
}

impl Work {
    pub fn new(case: &Case, device: &Device) -> Self {
        let mut random = Random::new(0, "bench");
        let choice =
            ModelChoice::new(case.model, (case.parameters)()).expect("the model is in the table");
        let shape = (case.shape)();
        let network =
            models::build(&choice, shape, device, &mut random).expect("the sizes are possible");
        let adam = OptimizerChoice::new("adam", json!({"lr": 1e-4}))
            .expect("the optimizer is in the table");
        let optimizer = |_: &_| Optimizer::new(&adam, network.state()).expect("the optimizer fits");
        Self {
            optimizers: network.phases().iter().map(optimizer).collect(),
            network,
            batch: batch(shape, case.batch, device, &mut random),
            random,
            task: shape.task,
        }
    }

    /// All phases of a step: loss, gradients and update. On a GPU it may still be under way afterwards.
    pub fn step(&mut self) {
        for (phase, optimizer) in self.optimizers.iter_mut().enumerate() {
            let constants = Constants::keep(self.network.state().device());
            let (_, gradients) = self
                .network
                .gradients(phase, &self.batch, &mut self.random)
                .expect("the batch fits");
            drop(constants);
            optimizer
                .step(self.network.state(), &gradients, 1e-4)
                .expect("the gradients fit");
        }
    }

    /// What scoring, or forecasting, computes of the batch.
    pub fn evaluate(&self) -> Tensor {
        let _constants = Constants::keep(self.network.state().device());
        let output = if self.task == Task::Detect {
            self.network.errors(&self.batch)
        } else {
            self.network.predict(&self.batch)
        };
        output.expect("the batch fits")
    }
}
