//! What a training promises whatever the model: resumption to the bit, thread counts that do not matter, clear errors.
//! The series and the host made here serve the tests of scoring too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::trainer::Trained;
use super::*;
use contract::artifact::{Digest, Segment, Series, Split, WindowRun, WindowSpec, Windows};
use contract::{Device, Host, NullHost, Progress, StageContext, Trouble};

/// A host that keeps checkpoints and notes in memory and asks to stop after some reports of progress.
#[derive(Default)]
pub struct MemoryHost {
    checkpoints: Mutex<BTreeMap<(Digest, u64), Vec<u8>>>,
    notes: Mutex<Vec<String>>,
    reports: AtomicU64,
    stop_after: AtomicU64,
}

impl MemoryHost {
    fn stopping_after(self, reports: u64) -> Self {
        self.stop_after.store(reports, Ordering::Relaxed);
        self
    }

    fn go_on(&self) {
        self.stop_after.store(0, Ordering::Relaxed);
    }

    pub fn context(&self, seed: u64) -> StageContext<'_> {
        StageContext {
            device: Device::Cpu,
            threads: 1,
            memory: None,
            seed,
            lineage: Digest([1; 32]),
            host: self,
        }
    }

    /// The steps of the checkpoints of one chain.
    fn steps(&self, chain: &Digest) -> Vec<u64> {
        let checkpoints = self.checkpoints.lock().unwrap();
        checkpoints
            .keys()
            .filter(|(of, _)| of == chain)
            .map(|(_, step)| *step)
            .collect()
    }
}

impl Host for MemoryHost {
    fn progress(&self, progress: Progress) {
        assert!(progress.done <= progress.total, "{progress:?}");
        self.reports.fetch_add(1, Ordering::Relaxed);
    }

    fn note(&self, text: &str) {
        self.notes.lock().unwrap().push(text.to_owned());
    }

    fn is_cancelled(&self) -> bool {
        let limit = self.stop_after.load(Ordering::Relaxed);
        limit > 0 && self.reports.load(Ordering::Relaxed) >= limit
    }

    fn file(&self, _: &str) -> Option<PathBuf> {
        None
    }

    fn copy_file(&self, name: &str, _: &Path) -> Result<(), Trouble> {
        Err(Trouble::new(format!("no file `{name}`")))
    }

    fn environment(&self, _: &str) -> Option<String> {
        None
    }

    fn scratch(&self) -> Result<&Path, Trouble> {
        Ok(Path::new("."))
    }

    fn load_checkpoint(&self, chain: &Digest, at_most: u64) -> Option<(u64, Vec<u8>)> {
        let checkpoints = self.checkpoints.lock().unwrap();
        let (key, bytes) = checkpoints
            .range((*chain, 0)..=(*chain, at_most))
            .next_back()?;
        Some((key.1, bytes.clone()))
    }

    fn save_checkpoint(
        &self,
        chain: &Digest,
        step: u64,
        bytes: &[u8],
        _: Option<u64>,
    ) -> Result<(), Trouble> {
        let old = self
            .checkpoints
            .lock()
            .unwrap()
            .insert((*chain, step), bytes.to_vec());
        assert!(
            old.is_none_or(|old| old == bytes),
            "same chain, same step, other bytes"
        );
        Ok(())
    }

    fn forget_checkpoints(&self, chain: &Digest) {
        self.checkpoints
            .lock()
            .unwrap()
            .retain(|(other, _), _| other != chain);
    }
}

/// Waves in three channels: training, validation and test rows, and windows of `length` over them.
pub fn waves(length: usize, stride: usize, rows: [usize; 3]) -> Windows {
    let splits = [Split::Train, Split::Validation, Split::Test];
    let (mut segments, mut runs, mut first) = (Vec::new(), Vec::new(), 0);
    for (split, rows) in splits.into_iter().zip(rows) {
        let last = first + rows;
        segments.push(Segment::new(split, "waves", first..last).labelled(split == Split::Test));
        let count = if rows < length {
            0
        } else {
            (rows - length) / stride + 1
        };
        runs.push(WindowRun {
            split,
            first,
            stride,
            count,
            rows: (first, last),
        });
        first = last;
    }
    let value = |i: usize| {
        let (row, channel) = ((i / 3) as f32, i % 3);
        (row * 0.2 * (channel + 1) as f32).sin() + 0.1 * (row * 1.7 + channel as f32).cos()
    };
    let series = Series {
        channels: ["a", "b", "c"].map(str::to_owned).into(),
        values: (0..first * 3).map(value).collect(),
        labels: (0..first).map(|row| u8::from(row + 5 > first)).collect(),
        times: Vec::new(),
        segments,
        ..Series::default()
    };
    series.validate().unwrap();
    Windows {
        series: series.into(),
        spec: WindowSpec { length, horizon: 0 },
        runs,
    }
}

pub fn recipe(changes: Value) -> Recipe {
    let mut value = json!({
        "model": {"kind": "tvnet-recon", "patch": 4, "blocks": 1, "cm": 5},
        "epochs": 4,
        "batch": 8,
        "optimizer": {"kind": "adam", "lr": 0.01},
    });
    for (name, change) in changes.as_object().unwrap() {
        value[name] = change.clone();
    }
    serde_json::from_value(value).unwrap()
}

fn digests(trained: &Trained) -> (Digest, Digest) {
    (trained.model.digest(), trained.log.digest())
}

#[test]
fn interrupted_and_resumed_ends_with_the_same_bits() {
    let windows = waves(10, 1, [60, 30, 0]);
    for changes in [
        json!({}),
        json!({"keep": "last", "schedule": {"kind": "plateau", "patience": 0, "factor": 0.5, "threshold": 0.3}}),
        json!({"early_stopping": {"patience": 1, "min_delta": 0.05}, "schedule": "cosine", "clip": 0.5}),
        json!({"optimizer": {"kind": "sgd", "momentum": 0.9, "lr": 0.05}, "shuffle": false}),
        json!({"batch": 4, "accumulate": 2, "schedule": "one_cycle", "monitor": {"metric": "mae"}, "early_stopping": {"patience": 2}}),
    ] {
        let recipe = recipe(changes);
        let straight = train(&recipe, &windows, &NullHost::default().context(5)).unwrap();
        // Eight reports make an epoch of 51 windows: seven batches and its end.
        for reports in [1, 3, 8, 12, 17, 25] {
            let host = MemoryHost::default().stopping_after(reports);
            let stopped = train(&recipe, &windows, &host.context(5));
            let Err(error) = stopped else {
                assert!(
                    recipe.early_stopping.is_some(),
                    "{reports} reports did not interrupt it"
                );
                continue;
            };
            assert!(error.is_cancelled(), "{error}");
            assert_eq!(
                host.steps(&recipe.chain(&Digest([1; 32]))).len() as u64,
                reports / 8
            );
            host.go_on();
            let resumed = train(&recipe, &windows, &host.context(5)).unwrap();
            let notes = host.notes.lock().unwrap().join("; ");
            assert!(
                notes.contains("continues inside epoch"),
                "not a step is done twice: {notes}"
            );
            let chains: std::collections::BTreeSet<Digest> = host
                .checkpoints
                .lock()
                .unwrap()
                .keys()
                .map(|(chain, _)| *chain)
                .collect();
            assert_eq!(
                chains.len(),
                1,
                "the state inside an epoch is of no use after that"
            );
            assert_eq!(
                digests(&straight),
                digests(&resumed),
                "{recipe:?} after {reports}"
            );
        }
    }
}

/// Of all epochs, in training and in validation.
fn losses(trained: &Trained) -> Vec<f64> {
    let mut losses = Vec::new();
    for name in ["train_loss", "validation_loss"] {
        losses.extend(trained.log.reals(name).unwrap().into_iter().flatten());
    }
    losses
}

/// The same masks are drawn, the same steps taken: epoch by epoch the losses are near.
#[test]
fn a_gpu_learns_what_the_cpu_learns() {
    if numerics::device(Device::Cuda(0)).is_err() {
        return;
    }
    let windows = waves(10, 1, [60, 30, 0]);
    let sizes = json!({"d_model": 8, "heads": 2, "d_ff": 12, "layers": 1, "dropout": 0.2});
    let of = |kind: &str, parameters: &Value| {
        let mut model = parameters.clone();
        model["kind"] = json!(kind);
        model
    };
    for model in [
        json!({"kind": "tvnet-recon", "patch": 4, "blocks": 1, "cm": 5}),
        of("transformer-recon", &sizes),
        of("anomaly-transformer", &sizes),
        json!({"kind": "omni-vae", "state": 5, "latent": 3, "inner": 6}),
        json!({"kind": "omni-anomaly", "latent": 2, "state": 5, "dense": 4, "flows": 2}),
        json!({"kind": "gdn", "embedding": 4, "neighbours": 2}),
    ] {
        // Adam would make steps of a gradient's rounding, where a normalisation follows a bias.
        let sgd = json!({"kind": "sgd", "momentum": 0.9, "lr": 0.01});
        let recipe = recipe(json!({"model": model, "epochs": 2, "optimizer": sgd}));
        let host = NullHost::default();
        let mut on_gpu = host.context(5);
        on_gpu.device = Device::Cuda(0);
        let [one, other] = [host.context(5), on_gpu].map(|context| {
            let trained = train(&recipe, &windows, &context).unwrap();
            losses(&trained)
        });
        assert_eq!(one.len(), other.len());
        for (one, other) in one.iter().zip(&other) {
            let apart = (one - other).abs() / one.abs().max(0.1);
            assert!(
                apart < 1e-3,
                "{model}: {one} on the CPU, {other} on the GPU"
            );
        }
    }
}

#[test]
fn more_epochs_go_on_from_fewer() {
    let windows = waves(10, 2, [60, 30, 0]);
    let host = MemoryHost::default();
    let short = train(&recipe(json!({"epochs": 2})), &windows, &host.context(5)).unwrap();
    let long = train(&recipe(json!({"epochs": 4})), &windows, &host.context(5)).unwrap();
    assert_eq!(
        host.steps(&recipe(json!({})).chain(&Digest([1; 32]))),
        [1, 2, 3, 4]
    );
    assert_eq!(
        *host.notes.lock().unwrap(),
        ["training continues after epoch 2"]
    );
    let again = train(&recipe(json!({"epochs": 2})), &windows, &host.context(5)).unwrap();
    assert_eq!(digests(&short), digests(&again));
    let fresh = train(
        &recipe(json!({})),
        &windows,
        &NullHost::default().context(5),
    )
    .unwrap();
    assert_eq!(digests(&long), digests(&fresh));
    let other_seed = train(
        &recipe(json!({})),
        &windows,
        &NullHost::default().context(6),
    )
    .unwrap();
    assert_ne!(digests(&other_seed), digests(&fresh));
}

#[test]
fn a_damaged_checkpoint_is_noted_and_not_used() {
    let windows = waves(10, 2, [40, 30, 0]);
    let host = MemoryHost::default();
    let first = train(&recipe(json!({})), &windows, &host.context(5)).unwrap();
    for bytes in host.checkpoints.lock().unwrap().values_mut() {
        bytes.truncate(bytes.len() / 2);
    }
    let chain = recipe(json!({})).chain(&Digest([1; 32]));
    let damaged = host.load_checkpoint(&chain, 4).unwrap();
    host.checkpoints.lock().unwrap().clear();
    host.save_checkpoint(&chain, damaged.0, &damaged.1, None)
        .unwrap();
    let trainer = train(
        &recipe(json!({"epochs": 4})),
        &windows,
        &DamagedHost(&host).context(5),
    )
    .unwrap();
    assert_eq!(digests(&first), digests(&trainer));
    assert!(
        host.notes.lock().unwrap()[0].contains("epoch 4 is not used"),
        "{:?}",
        host.notes
    );
}

/// Loads from a host but saves nowhere, as the host itself insists on equal bytes.
struct DamagedHost<'a>(&'a MemoryHost);

impl DamagedHost<'_> {
    fn context(&self, seed: u64) -> StageContext<'_> {
        StageContext {
            host: self,
            ..self.0.context(seed)
        }
    }
}

impl Host for DamagedHost<'_> {
    fn progress(&self, _: Progress) {}

    fn note(&self, text: &str) {
        self.0.note(text);
    }

    fn is_cancelled(&self) -> bool {
        false
    }

    fn file(&self, _: &str) -> Option<PathBuf> {
        None
    }

    fn copy_file(&self, name: &str, _: &Path) -> Result<(), Trouble> {
        Err(Trouble::new(format!("no file `{name}`")))
    }

    fn environment(&self, _: &str) -> Option<String> {
        None
    }

    fn scratch(&self) -> Result<&Path, Trouble> {
        Ok(Path::new("."))
    }

    fn load_checkpoint(&self, chain: &Digest, at_most: u64) -> Option<(u64, Vec<u8>)> {
        self.0.load_checkpoint(chain, at_most)
    }

    fn save_checkpoint(&self, _: &Digest, _: u64, _: &[u8], _: Option<u64>) -> Result<(), Trouble> {
        Ok(())
    }
}

#[test]
fn thread_counts_do_not_matter() {
    let windows = waves(12, 1, [70, 30, 0]);
    let with_threads = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            digests(
                &train(
                    &recipe(json!({})),
                    &windows,
                    &NullHost::default().context(5),
                )
                .unwrap(),
            )
        })
    };
    let one = with_threads(1);
    assert!(
        [2, 3, 7]
            .into_iter()
            .all(|threads| with_threads(threads) == one)
    );
}

#[test]
fn losses_fall_and_the_best_epoch_is_kept() {
    let windows = waves(10, 1, [80, 40, 0]);
    let trained = train(
        &recipe(json!({"epochs": 12})),
        &windows,
        &NullHost::default().context(5),
    )
    .unwrap();
    let losses: Vec<f64> = trained
        .log
        .reals("train_loss")
        .unwrap()
        .into_iter()
        .flatten()
        .collect();
    let validation: Vec<f64> = trained
        .log
        .reals("validation_loss")
        .unwrap()
        .into_iter()
        .flatten()
        .collect();
    assert_eq!((losses.len(), validation.len()), (12, 12));
    assert!(losses[11] < 0.3 * losses[0], "{losses:?}");
    let lowest = validation.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(trained.model.training["validation_loss"], json!(lowest));
    assert_eq!(trained.model.training["length"], 10);
    assert_eq!(trained.model.config["kind"], "tvnet-recon");
}

#[test]
fn what_keeps_a_training_from_starting_or_ending_is_said() {
    let fails = |changes, windows: &Windows| {
        train(&recipe(changes), windows, &NullHost::default().context(5)).unwrap_err()
    };
    let unwatched = waves(10, 1, [60, 0, 0]);
    for (changes, word) in [
        (json!({}), "keep: best"),
        (
            json!({"keep": "last", "early_stopping": {"patience": 2}}),
            "early_stopping",
        ),
        (json!({"keep": "last", "schedule": "plateau"}), "schedule"),
    ] {
        let error = fails(changes, &unwatched);
        assert!(
            error.message().contains(word) && error.hint_text().is_some(),
            "{error}"
        );
    }
    let last = train(
        &recipe(json!({"keep": "last"})),
        &unwatched,
        &NullHost::default().context(5),
    )
    .unwrap();
    assert_eq!(last.log.reals("validation_loss").unwrap(), [None; 4]);
    assert!(
        fails(json!({}), &waves(10, 1, [5, 30, 0]))
            .message()
            .contains("`train`")
    );
    let diverged = fails(
        json!({"optimizer": {"kind": "sgd", "lr": 1e30}}),
        &waves(10, 1, [60, 30, 0]),
    );
    assert!(diverged.message().contains("loss became"), "{diverged}");
}
