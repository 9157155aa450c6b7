//! Cost of the engine inside the process, over 10,000 tiny stages: reading the file, building the graph, reading the
//! ledger, planning, hashing keys. The times of whole processes, beside DVC and Snakemake, come from
//! `benches/peers/engine.sh`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use contract::Device;
use contract::artifact::{ArtifactKind, Digest};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use runner::cache::{Action, Key, Ledger, Manifest, ObjectRecord, Output, Store};
use runner::diagnostic::SourceMap;
use runner::engine::{NoFiles, Planner};
use runner::graph::{Graph, Machine, build};
use runner::pipeline::{LoadOptions, Spec, load_text};

/// The program's allocator, without which these figures would not be its figures.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const STAGES: usize = 10_000;

/// Pairs of `generate` and `normalize`, no two the same.
fn pipeline() -> String {
    let mut text = "pipeline: wide\nseed: 1\nstages:\n".to_owned();
    for pair in 0..STAGES / 2 {
        let noise = 0.01 + pair as f64 * 1e-6;
        writeln!(
            text,
            "  generate_{pair}: {{uses: generate, with: {{channels: 1, rows: {{train: 8, validation: 0, calibration: 0, \
             test: 4}}, day: 24, anomaly_ratio: 0, noise: {noise:.6}}}}}\n  \
             normalize_{pair}: {{uses: normalize, from: generate_{pair}, with: {{method: zscore}}}}"
        )
        .expect("writing to a string");
    }
    text
}

fn read(text: &str) -> Spec {
    let mut sources = SourceMap::default();
    let (spec, diagnostics) = load_text(
        Path::new("wide.yaml"),
        text,
        &LoadOptions::default(),
        &mut sources,
    );
    assert!(!diagnostics.has_errors());
    spec.expect("a pipeline without errors")
}

fn graph(spec: &Spec) -> Graph {
    let (mut graph, diagnostics) = build(spec, &stages::catalogue().kinds);
    assert!(!diagnostics.has_errors());
    graph.place(&Machine {
        threads: 2,
        device: Device::Cpu,
    });
    graph
}

/// A planner's surroundings: a store on disk in which every action is known and every object is there.
struct Known {
    store: Store,
    ledger: Ledger,
    graph: Graph,
    _folder: tempfile::TempDir,
}

impl Known {
    fn new(graph: Graph) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(folder.path());
        let mut known = Self {
            store,
            ledger: Ledger::default(),
            graph,
            _folder: folder,
        };
        // A wave at a time: the inputs of the second are the outputs of the first.
        for _ in 0..2 {
            let plan = known.planner().plan();
            let missing: Vec<(String, Key)> = known
                .graph
                .order()
                .iter()
                .filter(|id| plan.stage(**id).hit().is_none())
                .filter_map(|id| Some((known.graph.stage(*id).name.clone(), plan.stage(*id).key?)))
                .collect();
            missing
                .into_iter()
                .for_each(|(name, key)| known.add(&name, key));
        }
        assert_eq!(known.planner().plan().hits(), STAGES);
        known
    }

    fn add(&mut self, name: &str, key: Key) {
        let digest = Digest::of_bytes(name.as_bytes());
        let ports = if name.starts_with("generate") {
            vec!["series"]
        } else {
            vec!["series", "statistics"]
        };
        let record = |port: &str| ObjectRecord {
            digest,
            object: digest,
            kind: Some(if port == "series" {
                ArtifactKind::Series
            } else {
                ArtifactKind::Table
            }),
            bytes: 0,
            parts: Vec::new(),
        };
        let outputs: Vec<Output> = ports
            .iter()
            .map(|port| Output {
                port: (*port).to_owned(),
                record: record(port),
            })
            .collect();
        for output in &outputs {
            let path = self.store.layout().object(&output.record);
            std::fs::create_dir_all(path.parent().expect("objects lie in folders"))
                .expect("a writable folder");
            std::fs::write(path, b"").expect("a writable folder");
        }
        let action = Action {
            key,
            kind: name.to_owned(),
            outputs,
            seconds: 0.001,
            finished: 0,
            runner: "benchmark".to_owned(),
            manifest: String::new(),
            doubts: Vec::new(),
            findings: Vec::new(),
        };
        // A hit from the ledger has its action on disk.
        let path = self.store.layout().action(&action.key);
        std::fs::create_dir_all(path.parent().expect("a name in a folder"))
            .expect("a writable folder");
        std::fs::write(path, b"").expect("a writable folder");
        self.ledger.note(&self.store, name, &Arc::new(action));
    }

    fn planner(&self) -> Planner<'_> {
        Planner {
            graph: &self.graph,
            store: &self.store,
            ledger: &self.ledger,
            files: &NoFiles,
            numeric_class: "cpu",
            forced: BTreeSet::new(),
            environment: |_| None,
        }
    }
}

fn manifests(graph: &Graph) -> Vec<Manifest> {
    let manifest = |id: &runner::graph::StageId| {
        let stage = graph.stage(*id);
        Manifest {
            kind: stage.kind.name.to_owned(),
            version: stage.kind.version,
            numeric_class: None,
            seed: Some(1),
            parameters: stage.parameters().clone(),
            inputs: Vec::new(),
            files: BTreeMap::new(),
            environment: BTreeMap::new(),
            packages: BTreeMap::new(),
        }
    };
    graph.order().iter().map(manifest).collect()
}

fn bench(criterion: &mut Criterion) {
    let text = pipeline();
    let spec = read(&text);
    let mut group = criterion.benchmark_group("10000 stages");
    group
        .sample_size(20)
        .throughput(Throughput::Elements(STAGES as u64));
    group.bench_function("read the file", |bencher| {
        bencher.iter_with_large_drop(|| read(black_box(&text)))
    });
    group.bench_function("build the graph", |bencher| {
        bencher.iter_with_large_drop(|| graph(black_box(&spec)))
    });

    let known = Known::new(graph(&spec));
    let manifests = manifests(&known.graph);
    group.bench_function("hash the keys", |bencher| {
        bencher.iter(|| {
            manifests.iter().for_each(|manifest| {
                black_box(manifest.key());
            });
        });
    });
    group.bench_function("plan, all there", |bencher| {
        bencher.iter_with_large_drop(|| known.planner().plan())
    });
    group.bench_function("write the ledger", |bencher| {
        bencher.iter_batched(
            || (),
            |()| known.ledger.save(&known.store, "wide").expect("writes"),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("read the ledger", |bencher| {
        bencher.iter_with_large_drop(|| Ledger::load(black_box(&known.store), "wide"));
    });
    assert_eq!(Ledger::load(&known.store, "wide"), known.ledger);
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
