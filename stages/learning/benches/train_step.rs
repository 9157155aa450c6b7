//! Time of one training step per model at its source's sizes: loss, gradients and the optimiser's update of a batch in
//! memory, the way training takes it; for some, beside it, as a graph that is differentiated automatically.
//! `benches/peers/train_step.sh` runs it beside PyTorch; the thread count is RAYON_NUM_THREADS, the device RUNNER_DEVICE
//! (`cpu` or `cuda`).

use std::ffi::{c_int, c_long};
use std::hint::black_box;

use candle_core::{Device, Tensor};
use contract::{self, Random};
use criterion::{Criterion, criterion_group, criterion_main};
use learning::models::{self, Batch, DataShape, ModelChoice, Network, Task};
use numerics::optimizer::{Optimizer, OptimizerChoice};
use numerics::{Gradients, Mode};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A model at its source's sizes. `benches/peers/models/NAME.py` has the same in PyTorch.
struct Case {
    /// The name of the file beside it, and of the group of measurements.
    name: &'static str,
    model: &'static str,
    parameters: fn() -> Value,
    shape: fn() -> DataShape,
    batch: usize,
    /// Whether the automatically differentiated graph is timed too.
    graph: bool,
}

const CASES: &[Case] = &[
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

/// All phases of a step.
fn step(network: &dyn Network, optimizers: &mut [Optimizer], batch: &Batch, random: &mut Random) {
    for (phase, optimizer) in optimizers.iter_mut().enumerate() {
        let (loss, gradients) = network
            .gradients(phase, batch, random)
            .expect("the batch fits");
        optimizer
            .step(network.state(), &gradients, 1e-4)
            .expect("the gradients fit");
        black_box(loss);
    }
    network
        .state()
        .device()
        .synchronize()
        .expect("the device answers");
}

/// The device that the environment asks for.
fn device() -> Device {
    let asked = match std::env::var("RUNNER_DEVICE").as_deref() {
        Ok("cuda") => contract::Device::Cuda(0),
        _ => contract::Device::Cpu,
    };
    numerics::device(asked).expect("the device can be used")
}

/// mimalloc's number for the milliseconds after which freed memory goes back to the system.
const PURGE_DELAY: c_int = 15;

unsafe extern "C" {
    fn mi_option_set(option: c_int, value: c_long);
}

fn train_step(criterion: &mut Criterion) {
    // As the program does it.
    // SAFETY: the option is one of the allocator's, and any number of milliseconds is allowed.
    unsafe { mi_option_set(PURGE_DELAY, 10_000) };
    let device = device();
    for case in CASES {
        let mut random = Random::new(0, "bench");
        let choice =
            ModelChoice::new(case.model, (case.parameters)()).expect("the model is in the table");
        let network = models::build(&choice, (case.shape)(), &device, &mut random)
            .expect("the sizes are possible");
        let adam = OptimizerChoice::new("adam", json!({"lr": 1e-4}))
            .expect("the optimizer is in the table");
        let optimizer = |_: &_| Optimizer::new(&adam, network.state()).expect("the optimizer fits");
        let mut optimizers: Vec<Optimizer> = network.phases().iter().map(optimizer).collect();
        let batch = batch((case.shape)(), case.batch, &device, &mut random);

        let mut group = criterion.benchmark_group(case.name);
        group.bench_function("train_step", |bencher| {
            bencher.iter(|| step(network.as_ref(), &mut optimizers, &batch, &mut random));
        });
        if case.graph {
            group.bench_function("train_step_graph", |bencher| {
                bencher.iter(|| {
                    let loss = network
                        .loss(&batch, Mode::Train, &mut random)
                        .expect("the batch fits");
                    let gradients =
                        Gradients::of(network.state(), &loss).expect("a differentiable loss");
                    optimizers[0]
                        .step(network.state(), &gradients, 1e-4)
                        .expect("the gradients fit");
                });
            });
        }
        group.bench_function("evaluate", |bencher| {
            bencher.iter(|| {
                let output = if (case.shape)().task == Task::Detect {
                    network.errors(&batch)
                } else {
                    network.predict(&batch)
                };
                black_box(output.expect("the batch fits"));
                device.synchronize().expect("the device answers");
            });
        });
        group.finish();
    }
}

criterion_group!(benches, train_step);
criterion_main!(benches);
