//! Time of one training step per model at its source's sizes: loss, gradients and the optimiser's update of a batch in
//! memory, the way training takes it; for some, beside it, as a graph that is differentiated automatically.
//! `benches/peers/train_step.sh` runs it beside PyTorch; the thread count is RAYON_NUM_THREADS, the device RUNNER_DEVICE
//! (`cpu` or `cuda`).

mod cases;

use std::ffi::{c_int, c_long};
use std::hint::black_box;

use candle_core::Device;
use criterion::{Criterion, criterion_group, criterion_main};
use numerics::{Gradients, Mode};

use cases::{CASES, Work};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
        let mut work = Work::new(case, &device);
        let mut group = criterion.benchmark_group(case.name);
        group.bench_function("train_step", |bencher| {
            bencher.iter(|| {
                work.step();
                device.synchronize().expect("the device answers");
            });
        });
        if case.graph {
            group.bench_function("train_step_graph", |bencher| {
                bencher.iter(|| {
                    let (network, random) = (&work.network, &mut work.random);
                    let loss = network
                        .loss(&work.batch, Mode::Train, random)
                        .expect("the batch fits");
                    let gradients =
                        Gradients::of(network.state(), &loss).expect("a differentiable loss");
                    work.optimizers[0]
                        .step(network.state(), &gradients, 1e-4)
                        .expect("the gradients fit");
                });
            });
        }
        group.bench_function("evaluate", |bencher| {
            bencher.iter(|| {
                black_box(work.evaluate());
                device.synchronize().expect("the device answers");
            });
        });
        group.finish();
    }
}

criterion_group!(benches, train_step);
criterion_main!(benches);
