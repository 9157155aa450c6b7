//! Time of the metrics over 700,000 rows, which is all of SMD's test split: 28 stretches, 4 % anomalous. And of those of
//! forecasts over the test split of ETTh1: 2785 windows of 96 steps and 7 channels.
//!
//! With `RUNNER_BENCH_DUMP` set to a folder, the input and the metrics (of the rows as one stretch) are written there
//! for `benches/peers/metrics.sh`.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use contract::artifact::{Artifact, Forecasts, Origin, Split};
use contract::{Inputs, NullHost, Random, StageKind};
use criterion::{Criterion, criterion_group, criterion_main};
use judging::evaluate::Evaluate;
use judging::metrics::{self, Case, ForecastCase, MetricChoice, Subject};

const ROWS: usize = 700_000;
const STRETCHES: usize = 28;
const THRESHOLD: f64 = 2.0;

const WINDOWS: usize = 2785;
const HORIZON: usize = 96;
const CHANNELS: usize = 7;

/// Scores with noise, higher inside events of 20 to 200 rows.
fn rows() -> (Vec<f64>, Vec<bool>) {
    let mut random = Random::new(1, "benchmark");
    let mut labels = vec![false; ROWS];
    let mut row = 0;
    while row < ROWS {
        row += 500 + random.below(4000) as usize;
        let end = row + 20 + random.below(180) as usize;
        labels[row.min(ROWS)..end.min(ROWS)].fill(true);
        row = end;
    }
    // Scores travel as 32-bit floats.
    let score = |label: &bool| {
        f64::from((random.normal() * random.normal() + f64::from(u8::from(*label))) as f32)
    };
    (labels.iter().map(score).collect(), labels)
}

/// The metrics of a subject, with their defaults.
fn metrics_of(subject: Subject) -> Vec<MetricChoice> {
    metrics::all()
        .filter(|metric| metrics::reading(metric, subject).is_ok())
        .collect()
}

fn case(scores: &[f64], labels: &[bool]) -> Case {
    let length = ROWS / STRETCHES;
    let stretches = (0..STRETCHES)
        .map(|index| index * length..(index + 1) * length)
        .collect();
    Case::new(scores.to_vec(), labels.to_vec(), stretches)
        .expect("finite scores")
        .at(THRESHOLD)
}

/// Writes `scores.f64`, `labels.u8` and `figures.json`.
fn dump(folder: &Path, scores: &[f64], labels: &[bool]) -> std::io::Result<()> {
    std::fs::write(
        folder.join("scores.f64"),
        scores
            .iter()
            .flat_map(|score| score.to_le_bytes())
            .collect::<Vec<_>>(),
    )?;
    std::fs::write(
        folder.join("labels.u8"),
        labels
            .iter()
            .map(|label| u8::from(*label))
            .collect::<Vec<_>>(),
    )?;
    let case = Case::of_one_stretch(scores.to_vec(), labels.to_vec())
        .expect("finite scores")
        .at(THRESHOLD);
    let mut figures = serde_json::Map::new();
    for metric in metrics_of(Subject::Detection) {
        let metric = metrics::evaluate(&metric, &case, false).expect("it judges scores");
        figures.insert(metric.name.clone(), metric.value.into());
    }
    figures.insert("threshold".to_owned(), THRESHOLD.into());
    std::fs::write(
        folder.join("figures.json"),
        serde_json::Value::Object(figures).to_string(),
    )
}

fn bench(criterion: &mut Criterion) {
    let (scores, labels) = rows();
    if let Some(folder) = std::env::var_os("RUNNER_BENCH_DUMP") {
        dump(Path::new(&folder), &scores, &labels).expect("the folder takes files");
    }
    let mut group = criterion.benchmark_group("700k rows");
    group.sample_size(10);
    group.bench_function("sort and threshold", |bencher| {
        bencher.iter(|| case(black_box(&scores), &labels))
    });
    let sorted = case(&scores, &labels);
    let metrics = metrics_of(Subject::Detection);
    for metric in &metrics {
        group.bench_function(metric.name(), |bencher| {
            bencher.iter(|| metrics::evaluate(metric, black_box(&sorted), false));
        });
    }
    group.bench_function("everything", |bencher| {
        bencher.iter(|| {
            let case = case(&scores, &labels);
            for metric in &metrics {
                black_box(metrics::evaluate(metric, &case, false)).expect("it judges scores");
            }
        });
    });
    group.finish();
}

fn forecasts() -> Forecasts {
    let mut random = Random::new(2, "benchmark");
    let count = WINDOWS * HORIZON * CHANNELS;
    let actual: Vec<f32> = (0..count).map(|_| random.normal() as f32).collect();
    Forecasts {
        channels: (0..CHANNELS).map(|channel| format!("c{channel}")).collect(),
        horizon: HORIZON,
        origins: (0..WINDOWS)
            .map(|row| Origin {
                split: Split::Test,
                entity: "ETTh1".into(),
                row,
            })
            .collect(),
        predicted: actual
            .iter()
            .map(|value| value * 0.5 + random.normal() as f32 * 0.5)
            .collect(),
        actual,
        naive_error: vec![1.0; CHANNELS],
        ..Forecasts::default()
    }
}

fn bench_forecasts(criterion: &mut Criterion) {
    let forecasts = Arc::new(forecasts());
    let mut group = criterion.benchmark_group("2785 windows of 96 x 7");
    group.sample_size(10);
    let case = ForecastCase::new(Arc::clone(&forecasts), Split::Test).expect("finite values");
    for metric in metrics_of(Subject::Forecast) {
        group.bench_function(metric.name(), |bencher| {
            bencher.iter(|| metrics::evaluate(&metric, black_box(&case), false));
        });
    }
    let kind = StageKind::of::<Evaluate>();
    let parameters = kind
        .parse(serde_json::json!({}))
        .expect("all parameters have defaults");
    let mut inputs = Inputs::default();
    inputs.add("forecasts", "", Artifact::Forecasts(forecasts));
    group.bench_function("the stage: whole, by step and by channel", |bencher| {
        bencher.iter(|| parameters.run(black_box(&inputs), &NullHost::default().context(0)));
    });
    group.finish();
}

criterion_group!(benches, bench, bench_forecasts);
criterion_main!(benches);
