//! The kinds look like what they are called, and the whole is balanced and reproducible.

use serde_json::json;

use super::*;
use contract::artifact::Split;
use contract::testing::fault_of;

fn params(value: serde_json::Value) -> Params {
    serde_json::from_value(value).unwrap()
}

#[test]
fn every_split_is_balanced_and_every_sample_has_its_class() {
    let series = generate(
        &params(json!({"samples": 20, "length": {"from": 50, "to": 90}})),
        3,
    )
    .unwrap();
    assert_eq!(series.segments.len(), 9 * 20);
    for (split, each) in [(Split::Train, 14), (Split::Validation, 3), (Split::Test, 3)] {
        for (_, name, _) in KINDS {
            let count = series
                .of_split(split)
                .filter(|segment| segment.class.as_deref() == Some(name))
                .count();
            assert_eq!(count, each, "{name} in {split}");
        }
    }
    let lengths: Vec<usize> = series
        .segments
        .iter()
        .map(|segment| segment.rows.len())
        .collect();
    assert!(lengths.iter().all(|length| (50..=90).contains(length)));
    assert!(lengths.iter().min() < lengths.iter().max());
    assert!(series.values.iter().all(|value| value.is_finite()));
}

#[test]
fn a_sample_does_not_depend_on_how_many_there_are() {
    let of = |samples: usize| {
        generate(
            &params(json!({"samples": samples, "kinds": ["mean_shift"]})),
            5,
        )
        .unwrap()
    };
    let (few, many) = (of(10), of(20));
    assert_eq!(few.values[..256], many.values[..256]);
    assert_eq!(few.segments[0].entity, "mean_shift/00000");
}

/// If this fails, outputs have changed: raise `GenerateShapes::VERSION` and put the new digest here.
#[test]
fn the_bits_are_those_of_this_version_whatever_the_threads() {
    let digest = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            generate(&Params::default(), 42)
                .unwrap()
                .digest()
                .to_string()
        })
    };
    let found = digest(1);
    assert_eq!(found, digest(3));
    assert_eq!(
        (GenerateShapes::VERSION, found.as_str()),
        (
            2,
            "322fba586f977d5848c5d971433ac258d8844de25b8123a4d6560471a86d2a2a"
        )
    );
}

/// The share of the samples of a kind for which something holds.
fn share(kind: Kind, holds: impl Fn(&[f64]) -> bool) -> f64 {
    let draw = entry(kind).2;
    let count = 200;
    let held = (0..count)
        .filter(|number| holds(&draw(256, &mut Random::new(*number, "share"))))
        .count();
    held as f64 / count as f64
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    (values
        .iter()
        .map(|value| (value - mean).powi(2))
        .sum::<f64>()
        / values.len() as f64)
        .sqrt()
}

/// The spread of the means of eight equal parts.
fn wandering(values: &[f64]) -> f64 {
    deviation(
        &values
            .chunks_exact(values.len() / 8)
            .map(mean)
            .collect::<Vec<f64>>(),
    )
}

/// The largest deviation of eight equal parts, relative to the smallest.
fn unevenness(values: &[f64]) -> f64 {
    let parts: Vec<f64> = values
        .chunks_exact(values.len() / 8)
        .map(deviation)
        .collect();
    parts.iter().copied().fold(0.0, f64::max) / parts.iter().copied().fold(f64::INFINITY, f64::min)
}

#[test]
fn kinds_differ_in_what_their_names_say() {
    for kind in [
        Kind::DeterministicTrend,
        Kind::StochasticTrend,
        Kind::MeanShift,
        Kind::TrendShift,
    ] {
        assert!(
            share(kind, |values| wandering(values) > 0.7) > 0.9,
            "{kind:?} leaves its level"
        );
    }
    for kind in [Kind::PointAnomaly, Kind::VarianceShift, Kind::Volatility] {
        assert!(
            share(kind, |values| wandering(values) < 0.5 * deviation(values)) > 0.9,
            "{kind:?} keeps its level"
        );
    }
    assert!(share(Kind::VarianceShift, |values| unevenness(values) > 2.0) > 0.9);
    assert!(share(Kind::Volatility, |values| unevenness(values) > 1.8) > 0.7);
    let extreme = |values: &[f64]| values.iter().map(|value| value.abs()).fold(0.0, f64::max);
    assert!(share(Kind::PointAnomaly, |values| extreme(values) >= 5.0) > 0.999);
    // Turned upside down, the rhythm stays within its usual range.
    assert!(share(Kind::ContextualAnomaly, |values| extreme(values) < 3.0) > 0.999);
}

#[test]
fn checks_its_parameters() {
    for (value, parameter) in [
        (json!({"kinds": []}), "kinds"),
        (json!({"kinds": ["volatility", "volatility"]}), "kinds"),
        (json!({"length": 10}), "length"),
        (json!({"length": {"from": 90, "to": 80}}), "length"),
        (json!({"samples": 0}), "samples"),
        (json!({"samples": 3}), "split"),
        (json!({"split": {"train": 0.5}}), "split"),
    ] {
        let fault = fault_of::<GenerateShapes>(value.clone()).unwrap();
        assert_eq!(fault.parameter, parameter, "{value}");
    }
    assert_eq!(fault_of::<GenerateShapes>(json!({})), None);
}
