//! What a training step and an evaluation of every model ask of a GPU, at its source's sizes, counted by the driver of
//! `tests/software_gpu`. The table of it, `benches/cuda-budget.md`, is in the repository, so no change adds to it unseen.
//! `UPDATE_GENERATED=1` writes it anew. With `RUNNER_BUDGET_DETAILS=MODEL` the launches of that model are printed.

#[path = "../../benches/train_step/cases.rs"]
mod cases;

use std::fmt::Write as _;
use std::path::Path;

use cases::{CASES, Work};

/// Counts of calls. The driver writes this struct.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Counts {
    kernels: u64,
    products: u64,
    memsets: u64,
    uploads: u64,
    copies: u64,
    waits: u64,
    allocations: u64,
    uploaded: u64,
    allocated: u64,
}

impl Counts {
    /// All that the device does one after another.
    fn operations(&self) -> u64 {
        self.kernels + self.products + self.memsets + self.uploads + self.copies
    }

    /// What was asked of the device since the last call.
    fn take() -> Self {
        let mut counts = Self::default();
        // SAFETY: the pointer is valid for the struct that the driver writes.
        unsafe { software_gpu_take(&raw mut counts) };
        counts
    }
}

unsafe extern "C" {
    fn software_gpu_only_count();
    fn software_gpu_take(counts: *mut Counts);
    fn software_gpu_print_launches();
}

/// Device operations of a training step once all of a model's layers have kernels of their own.
const GOALS: &[(&str, u64)] = &[
    ("anomaly_transformer", 220),
    ("cnn", 90),
    ("dlinear", 35),
    ("dynonet", 1800),
    ("gdn", 120),
    ("omni_anomaly", 1750),
    ("omni_vae", 130),
    ("resnet50_plot", 850),
    ("transformer_recon", 150),
    ("tvnet", 300),
    ("tvnet_official", 300),
    ("tvnet_recon", 260),
];

const HEAD: &str = "\
# What a model asks of a GPU

A step of a small model takes about 6 microseconds per operation of the device, whatever the operation does, so their number
says how fast it is. This is what one training step (loss, gradients, Adam's update) and one evaluation ask for at the
source's sizes, as in `train_step`, counted without a GPU by `scripts/test-software-gpu.sh`; CI fails when it changes.

*Operations* are kernels, matrix products, memsets, uploads and copies on the device. *Waits* are the times that the host
waits for the device: copies to the host and synchronisation. The *goal* is what is left when every layer has kernels of its
own.
";

const COLUMNS: &str =
    "kernels | products | memsets | uploads (kB) | copies | waits | allocations (MB)";

#[test]
fn no_step_asks_for_more_than_the_table_says() {
    // SAFETY: nothing has asked the driver for memory yet.
    unsafe { software_gpu_only_count() };
    let device = numerics::device(contract::Device::Cuda(0)).expect("the software GPU");
    let mut table = HEAD.to_owned();
    let _ = writeln!(
        table,
        "\n## A training step\n\n| model | operations | goal | {COLUMNS} |"
    );
    table.push_str("|---|---|---|---|---|---|---|---|---|---|\n");
    for case in CASES {
        let counts = of_step(case.name, &mut Work::new(case, &device));
        let goal = GOALS.iter().find(|(name, _)| *name == case.name);
        let goal = goal.map_or(String::new(), |(_, goal)| goal.to_string());
        row(&mut table, case.name, &counts, Some(&goal));
    }
    let _ = writeln!(
        table,
        "\n## An evaluation\n\n| model | operations | {COLUMNS} |"
    );
    table.push_str("|---|---|---|---|---|---|---|---|---|\n");
    for case in CASES {
        let counts = of_evaluation(&Work::new(case, &device));
        row(&mut table, case.name, &counts, None);
    }
    expect(&table);
}

/// The third step: the first two fill what is made once.
fn of_step(name: &str, work: &mut Work) -> Counts {
    work.step();
    work.step();
    Counts::take();
    work.step();
    if std::env::var("RUNNER_BUDGET_DETAILS").as_deref() == Ok(name) {
        // SAFETY: it reads the driver's own counts.
        unsafe { software_gpu_print_launches() };
    }
    Counts::take()
}

fn of_evaluation(work: &Work) -> Counts {
    work.evaluate();
    Counts::take();
    work.evaluate();
    Counts::take()
}

fn row(table: &mut String, name: &str, counts: &Counts, goal: Option<&str>) {
    let goal = goal.map_or(String::new(), |goal| format!("{goal} | "));
    let _ = writeln!(
        table,
        "| {name} | {} | {goal}{} | {} | {} | {} ({}) | {} | {} | {} ({}) |",
        counts.operations(),
        counts.kernels,
        counts.products,
        counts.memsets,
        counts.uploads,
        counts.uploaded.div_ceil(1000),
        counts.copies,
        counts.waits,
        counts.allocations,
        counts.allocated.div_ceil(1_000_000),
    );
}

/// Fails unless the table in the repository is this one.
fn expect(table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../benches/cuda-budget.md");
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(&path, table).expect("the table can be written");
        return;
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    for (found, written) in table.lines().zip(written.lines()) {
        assert_eq!(
            found,
            written,
            "{} says otherwise: `UPDATE_GENERATED=1 scripts/test-software-gpu.sh` writes it anew",
            path.display()
        );
    }
    assert_eq!(table.lines().count(), written.lines().count());
}
