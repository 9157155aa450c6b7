//! How fast raw text becomes a normalised series in Parquet: one machine of SMD, 16 MB of text. Reading the same bytes
//! is measured beside it, as the floor. `benches/peers/ingest.sh` runs polars and pandas on the same work.
//!
//! With `RUNNER_BENCH_ONCE=N` it does the whole work N times without criterion and prints milliseconds and peak memory
//! as one JSON line. Needs `RUNNER_DATA_PATH`.

use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use contract::artifact::Artifact;
use contract::{Configured, Inputs, NullHost, StageKind};
use criterion::{Criterion, Throughput};
use mimalloc::MiMalloc;
use serde_json::json;

/// The allocator of the program, counting what is in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static MOST_IN_USE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to mimalloc as it is; counting has no effect on it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = IN_USE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST_IN_USE.fetch_max(now, Ordering::Relaxed);
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let now = IN_USE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST_IN_USE.fetch_max(now, Ordering::Relaxed);
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const MACHINE: &str = "machine-2-1";

/// The work, set up once.
struct Work {
    ingest: Configured,
    normalize: Configured,
    host: NullHost,
    target: PathBuf,
}

impl Work {
    fn new(root: &Path, target: PathBuf) -> Self {
        let ingest = StageKind::of::<data::ingest::Ingest>();
        let normalize = StageKind::of::<data::normalize::Normalize>();
        let ingest = ingest
            .parse(json!({"dataset": "smd", "entity": MACHINE}))
            .expect("sound parameters");
        let normalize = normalize.parse(json!({})).expect("sound parameters");
        let files = ingest
            .files()
            .into_iter()
            .map(|file| (file.name, root.join(file.path)))
            .collect();
        Self {
            ingest,
            normalize,
            host: NullHost { files },
            target,
        }
    }

    fn read_bytes(&self) -> usize {
        self.host
            .files
            .iter()
            .map(|(_, path)| std::fs::read(path).expect("a readable file").len())
            .sum()
    }

    fn ingest(&self) -> Artifact {
        let outputs = self.ingest.run(&Inputs::default(), &self.host.context(0));
        outputs
            .expect("sound data")
            .into_map()
            .swap_remove("series")
            .expect("an output")
    }

    fn normalize(&self, series: Artifact) -> Artifact {
        let mut inputs = Inputs::default();
        inputs.add("series", "raw", series);
        let outputs = self.normalize.run(&inputs, &self.host.context(0));
        outputs
            .expect("sound data")
            .into_map()
            .swap_remove("series")
            .expect("an output")
    }

    /// From text to a normalised Parquet file.
    fn whole(&self) {
        let scaled = self.normalize(self.ingest());
        let mut file = std::fs::File::create(&self.target).expect("a writable folder");
        scaled.encode_to(&mut file).expect("an encodable series");
    }
}

/// Encodes without a disk.
fn encode(artifact: &Artifact) {
    artifact
        .encode_to(&mut std::io::sink())
        .expect("an encodable series");
}

/// The folder that holds the data set.
fn root() -> Option<PathBuf> {
    let path = format!("ServerMachineDataset/train/{MACHINE}.txt");
    Some(
        contract::testing::real_data(&path)?
            .ancestors()
            .nth(3)?
            .to_owned(),
    )
}

fn criterion(work: &Work) {
    let mut criterion = Criterion::default().configure_from_args().sample_size(30);
    let mut group = criterion.benchmark_group("ingest");
    group.throughput(Throughput::Bytes(work.read_bytes() as u64));
    group.bench_function("read the bytes", |bencher| {
        bencher.iter(|| black_box(work.read_bytes()))
    });
    group.bench_function("ingest", |bencher| {
        bencher.iter(|| black_box(work.ingest()))
    });
    let series = work.ingest();
    group.bench_function("normalize", |bencher| {
        bencher.iter(|| black_box(work.normalize(series.clone())))
    });
    let scaled = work.normalize(series);
    group.bench_function("encode", |bencher| bencher.iter(|| encode(&scaled)));
    group.bench_function("digest", |bencher| {
        bencher.iter(|| black_box(scaled.digest()))
    });
    group.bench_function("text to normalised Parquet", |bencher| {
        bencher.iter(|| work.whole())
    });
    group.finish();
    criterion.final_summary();
}

/// Prints the times of `count` repetitions and the most memory the process ever had; and, for each part of the work,
/// the most bytes that were allocated at once, as a multiple of the series itself.
fn once(work: &Work, count: usize) {
    let idle = peak_kilobytes();
    let time = |_| {
        let start = Instant::now();
        work.whole();
        start.elapsed().as_secs_f64() * 1e3
    };
    let times: Vec<f64> = (0..count).map(time).collect();
    let peak = peak_kilobytes();
    let (ingest, series) = most_in_use(|| work.ingest());
    let Artifact::Series(content) = &series else {
        return;
    };
    let own = (content.values.len() * 4 + content.labels.len()) as f64;
    let raw = series.clone();
    // The stage's input is alive while it runs: it counts.
    let (normalize, scaled) = most_in_use(move || work.normalize(raw));
    drop(series);
    let (encode, ()) = most_in_use(|| encode(&scaled));
    let most = json!({
        "ingest": ingest / own, "normalize with its input": normalize / own + 1.0, "encode with its input": encode / own + 1.0,
    });
    println!(
        "{}",
        json!({"milliseconds": times, "peak_kilobytes": peak, "idle_kilobytes": idle, "most_in_use": most})
    );
}

/// The most bytes that `work` had allocated at once beyond what was there before.
fn most_in_use<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let before = IN_USE.load(Ordering::Relaxed);
    MOST_IN_USE.store(before, Ordering::Relaxed);
    let result = work();
    (
        (MOST_IN_USE.load(Ordering::Relaxed) - before) as f64,
        result,
    )
}

/// The high-water mark of resident memory, from the kernel.
fn peak_kilobytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap_or_default();
    line.split_whitespace()
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

fn main() {
    let Some(root) = root() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let work = Work::new(&root, folder.path().join("series.parquet"));
    match std::env::var("RUNNER_BENCH_ONCE")
        .ok()
        .and_then(|count| count.parse().ok())
    {
        Some(count) => once(&work, count),
        None => criterion(&work),
    }
}
