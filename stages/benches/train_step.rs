//! Time of one training step per model: loss, gradients and the optimiser's update of a batch that is at hand, the way
//! training takes it and, beside it, as a graph of layers that is differentiated automatically.
//! `benches/peers/train_step.sh` runs it beside PyTorch; the thread count is RAYON_NUM_THREADS.

use std::hint::black_box;

use candle_core::{Device, Tensor};
use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::json;
use stages::contract::{Choice, Random};
use stages::models::{self, Batch, DataShape, Models};
use stages::nn::optimizer::{Optimizer, Optimizers};
use stages::nn::{Gradients, Mode};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: usize = 128;
const SHAPE: DataShape = DataShape { length: 100, channels: 38, horizon: 0 };

fn train_step(criterion: &mut Criterion) {
    let choice: Choice<Models> = Choice::new("tvnet-recon", json!({})).expect("the model is in the table");
    let mut random = Random::new(0, "bench");
    let network = models::build(&choice, SHAPE, &Device::Cpu, &mut random).expect("the sizes are possible");
    let optimizer: Choice<Optimizers> =
        Choice::new("adam", json!({"lr": 1e-4})).expect("the optimizer is in the table");
    let mut optimizer = Optimizer::new(&optimizer, network.state()).expect("the optimizer fits");
    let values: Vec<f32> = (0..BATCH * SHAPE.length * SHAPE.channels).map(|_| random.normal() as f32).collect();
    let inputs = Tensor::from_vec(values, (BATCH, SHAPE.length, SHAPE.channels), &Device::Cpu).expect("sizes agree");
    let batch = Batch { inputs, targets: None };

    let mut group = criterion.benchmark_group("tvnet-recon");
    group.bench_function("train_step", |bencher| {
        bencher.iter(|| {
            let (loss, gradients) = network.gradients(&batch, &mut random).expect("the batch fits");
            optimizer.step(network.state(), &gradients, 1e-4).expect("the gradients fit");
            black_box(loss)
        });
    });
    group.bench_function("train_step_graph", |bencher| {
        bencher.iter(|| {
            let loss = network.loss(&batch, Mode::Train, &mut random).expect("the batch fits");
            let store = loss.backward().expect("the loss is differentiable");
            let gradients = Gradients::of(network.state(), &store);
            optimizer.step(network.state(), &gradients, 1e-4).expect("the gradients fit");
            black_box(gradients)
        });
    });
    group.bench_function("evaluate", |bencher| {
        bencher.iter(|| black_box(network.errors(&batch).expect("the batch fits")));
    });
    group.finish();
}

criterion_group!(benches, train_step);
criterion_main!(benches);
