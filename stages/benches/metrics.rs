//! Time of the metrics over 700,000 rows, which is all of SMD's test split: 28 stretches, 4 % anomalous.
//!
//! With `RUNNER_BENCH_DUMP` set to a folder, the input and the figures (of the rows as one stretch) are written there
//! for `benches/peers/metrics.sh`.

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use stages::contract::Random;
use stages::metrics::{self, Case, MetricChoice};

const ROWS: usize = 700_000;
const STRETCHES: usize = 28;
const THRESHOLD: f64 = 2.0;

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
    let score = |label: &bool| f64::from((random.normal() * random.normal() + f64::from(u8::from(*label))) as f32);
    (labels.iter().map(score).collect(), labels)
}

fn case(scores: &[f64], labels: &[bool]) -> Case {
    let length = ROWS / STRETCHES;
    let stretches = (0..STRETCHES).map(|index| index * length..(index + 1) * length).collect();
    Case::new(scores.to_vec(), labels.to_vec(), stretches).expect("finite scores").at(THRESHOLD)
}

/// Writes `scores.f64`, `labels.u8` and `figures.json`.
fn dump(folder: &Path, scores: &[f64], labels: &[bool]) -> std::io::Result<()> {
    std::fs::write(folder.join("scores.f64"), scores.iter().flat_map(|score| score.to_le_bytes()).collect::<Vec<_>>())?;
    std::fs::write(folder.join("labels.u8"), labels.iter().map(|label| u8::from(*label)).collect::<Vec<_>>())?;
    let case = Case::of_one_stretch(scores.to_vec(), labels.to_vec()).expect("finite scores").at(THRESHOLD);
    let figure = |name: &'static str| {
        let choice: MetricChoice = serde_json::from_value(name.into()).expect("a metric by its bare name");
        (name.to_owned(), metrics::evaluate(&choice, &case, false).expect("defaults are right").value.into())
    };
    let mut figures: serde_json::Map<String, serde_json::Value> =
        metrics::METRICS.iter().map(|declaration| figure(declaration.name)).collect();
    figures.insert("threshold".to_owned(), THRESHOLD.into());
    std::fs::write(folder.join("figures.json"), serde_json::Value::Object(figures).to_string())
}

fn bench(criterion: &mut Criterion) {
    let (scores, labels) = rows();
    if let Some(folder) = std::env::var_os("RUNNER_BENCH_DUMP") {
        dump(Path::new(&folder), &scores, &labels).expect("the folder takes files");
    }
    let mut group = criterion.benchmark_group("700k rows");
    group.sample_size(10);
    group.bench_function("sort and threshold", |bencher| bencher.iter(|| case(black_box(&scores), &labels)));
    let sorted = case(&scores, &labels);
    for declaration in metrics::METRICS {
        let choice: MetricChoice = serde_json::from_value(declaration.name.into()).expect("a metric by its bare name");
        group.bench_function(declaration.name, |bencher| {
            bencher.iter(|| metrics::evaluate(&choice, black_box(&sorted), false));
        });
    }
    group.bench_function("everything", |bencher| {
        bencher.iter(|| {
            let case = case(&scores, &labels);
            for declaration in metrics::METRICS {
                let choice: MetricChoice = serde_json::from_value(declaration.name.into()).expect("a name");
                black_box(metrics::evaluate(&choice, &case, false)).expect("defaults are right");
            }
        });
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
