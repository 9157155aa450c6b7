//! Every metric against the reference programs, for all cases of the folder `RUNNER_GOLDEN` (default `tests/golden`).

use std::path::PathBuf;

use safetensors::SafeTensors;
use serde_json::Value;

use super::Case;
use super::adjustment::{Adjustment, Convention, adjusted_alarms, widened_alarms};
use super::counts::{Counts, harmonic};
use super::soft_labels::Widened;
use crate::metrics::{MetricChoice, evaluate};

const TOLERANCE: f64 = 1e-9;

/// The anomaly-detection cases: name, case at its threshold, expected figures, training scores.
pub struct Golden {
    pub name: String,
    pub case: Case,
    pub expected: Value,
    pub train: Vec<f64>,
    pub adjusted: Vec<bool>,
    pub widened: Vec<bool>,
    /// The series of thresholds of the reference's EWMA and of its streaming POT.
    pub adaptive: [Vec<f64>; 2],
}

pub fn folder() -> PathBuf {
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    std::env::var_os("RUNNER_GOLDEN")
        .map_or_else(default, PathBuf::from)
        .join("metrics")
}

pub fn cases() -> Vec<Golden> {
    let json = std::fs::read_to_string(folder().join("case.json")).unwrap();
    let expected: Value = serde_json::from_str(&json).unwrap();
    let bytes = std::fs::read(folder().join("case.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let words = |name: String| -> Vec<[u8; 8]> {
        tensors
            .tensor(&name)
            .unwrap()
            .data()
            .chunks_exact(8)
            .map(|word| word.try_into().unwrap())
            .collect()
    };
    let reals = |name: String| {
        words(name)
            .into_iter()
            .map(f64::from_le_bytes)
            .collect::<Vec<_>>()
    };
    let flags = |name: String| {
        words(name)
            .into_iter()
            .map(|word| i64::from_le_bytes(word) != 0)
            .collect::<Vec<_>>()
    };
    let mut cases = Vec::new();
    for (name, expected) in expected["expected"].as_object().unwrap() {
        let Some(threshold) = expected.get("threshold").and_then(Value::as_f64) else {
            continue;
        };
        let scores = reals(format!("in.{name}.score"));
        let labels = flags(format!("in.{name}.label"));
        let case = Case::of_one_stretch(scores, labels).unwrap().at(threshold);
        cases.push(Golden {
            name: name.clone(),
            case,
            expected: expected.clone(),
            train: reals(format!("in.{name}.train_score")),
            adjusted: flags(format!("out.{name}.adjusted_thuml")),
            widened: flags(format!("out.{name}.adjusted_graduate")),
            adaptive: ["ema_threshold", "pot_dynamic_threshold"]
                .map(|kind| reals(format!("out.{name}.{kind}"))),
        });
    }
    assert!(!cases.is_empty());
    cases
}

fn value(text: &str, case: &Case) -> Option<f64> {
    let choice: MetricChoice = serde_json::from_str(text).unwrap();
    evaluate(&choice, case, false).unwrap().value
}

/// Compares with a number, or with `null` for undefined.
fn check(what: &str, value: Option<f64>, expected: &Value) {
    match (value, expected.as_f64()) {
        (None, None) => {}
        (Some(value), Some(expected))
            if (value - expected).abs() <= TOLERANCE * expected.abs().max(1e-3) => {}
        (value, expected) => panic!("{what}: {value:?}, the reference has {expected:?}"),
    }
}

/// What the reference says of a share; where it is one of nothing, the programs write 0 and it is undefined here.
fn share<'a>(metric: &str, case: &Case, reference: &'a Value) -> &'a Value {
    let is_of_nothing = match metric {
        "accuracy" => false,
        "precision" => case.with_alarms().is_none(),
        _ => case.with_anomalies().is_none(),
    };
    if is_of_nothing {
        assert_eq!(reference.as_f64(), Some(0.0));
        return &Value::Null;
    }
    reference
}

#[test]
fn at_the_threshold() {
    for Golden {
        name,
        case,
        expected,
        adjusted,
        widened,
        ..
    } in cases()
    {
        assert_eq!(
            case.positives() as u64,
            expected["anomalies"].as_u64().unwrap()
        );
        let events: Vec<[usize; 2]> = case
            .events
            .iter()
            .map(|event| [event.start, event.end])
            .collect();
        assert_eq!(serde_json::json!(events), expected["segments"]);
        for metric in ["precision", "recall", "f1", "accuracy"] {
            check(
                &format!("{name} {metric}"),
                value(&format!("\"{metric}\""), &case),
                share(metric, &case, &expected["point"][metric]),
            );
        }
        assert_eq!(adjusted_alarms(&case).as_ref(), adjusted, "{name}");
        for metric in ["precision", "recall", "f1"] {
            for convention in ["thuml", "omni"] {
                let text =
                    format!(r#"{{"kind":"{metric}_point_adjusted","convention":"{convention}"}}"#);
                let reference = &expected[format!("point_adjusted_{convention}")][metric];
                let reference = share(metric, &case, reference);
                check(&format!("{name} {text}"), value(&text, &case), reference);
            }
        }
        let extend = expected["point_adjusted_graduate"]["extend"]
            .as_u64()
            .unwrap();
        assert_eq!(
            widened_alarms(&case, extend as usize).as_ref(),
            widened,
            "{name}"
        );
        for metric in ["precision", "recall", "f1"] {
            let text = format!(
                r#"{{"kind":"{metric}_point_adjusted","convention":"widened","extend":{extend}}}"#
            );
            check(
                &format!("{name} {text}"),
                value(&text, &case),
                share(metric, &case, &expected["point_adjusted_graduate"][metric]),
            );
        }
        let Some(at) = expected["tsb_ad"].get("at_pred") else {
            continue;
        };
        for (metric, reference) in [
            ("f1", "point_f1"),
            ("f1_point_adjusted", "point_adjusted_f1"),
            ("event_f1", "event_f1"),
            ("range_f1", "range_f1"),
            ("affiliation_f1", "affiliation_f1"),
        ] {
            // The reference takes an event that touches the end for one row shorter.
            let last = case.events.last().filter(|event| event.end == case.rows());
            if metric == "event_f1"
                && last
                    .is_some_and(|event| !case.alarms[event.start..event.end - 1].contains(&true))
            {
                continue;
            }
            check(
                &format!("{name} {metric}"),
                value(&format!("\"{metric}\""), &case),
                &at[reference],
            );
        }
    }
}

#[test]
fn adjustment_variants() {
    for Golden {
        name,
        case,
        expected,
        ..
    } in cases()
    {
        if let Some(by_k) = expected.get("pa_percent_k") {
            for (k, reference) in by_k["f1"].as_object().unwrap() {
                let text = format!(r#"{{"kind":"pa_k_f1","k":{k}}}"#);
                check(&format!("{name} {text}"), value(&text, &case), reference);
            }
            check(
                &format!("{name} pa_k_auc"),
                value("\"pa_k_auc\"", &case),
                &by_k["auc"],
            );
        }
        // The reference counts the filled rows, never row 0, over the detected events plus 1e-4.
        let detected: Vec<_> = case
            .events
            .iter()
            .filter(|event| case.alarms[event.start..event.end].contains(&true))
            .collect();
        let at_zero = detected
            .iter()
            .filter(|event| event.start == 0 && !case.alarms[0])
            .count() as f64;
        let count = detected.len() as f64;
        let rows =
            value("\"detection_latency\"", &case).map_or(0.0, |latency| latency * count - at_zero);
        check(
            &format!("{name} latency"),
            Some(rows / (count + 1e-4)),
            &expected["point_adjusted_omni"]["latency"],
        );
        assert_eq!(
            value("\"detection_latency\"", &case).is_none(),
            detected.is_empty()
        );
    }
}

#[test]
fn without_a_threshold() {
    for Golden {
        name,
        case,
        expected,
        ..
    } in cases()
    {
        check(
            &format!("{name} roc_auc"),
            value("\"roc_auc\"", &case),
            &expected["roc_auc"],
        );
        check(
            &format!("{name} ap"),
            value("\"average_precision\"", &case),
            &expected["average_precision"],
        );
        let Some(tsb) = expected.get("tsb_ad") else {
            for metric in [
                "vus_roc",
                "vus_pr",
                "range_auc_roc",
                "range_auc_pr",
                "best_f1",
                "event_f1",
            ] {
                assert_eq!(
                    value(&format!("\"{metric}\""), &case),
                    None,
                    "{name} {metric}"
                );
            }
            continue;
        };
        for (window, reference) in tsb["vus"].as_object().unwrap() {
            let window = window.strip_prefix("window_").unwrap();
            for metric in ["vus_roc", "vus_pr"] {
                let text = format!(r#"{{"kind":"{metric}","window":{window}}}"#);
                check(
                    &format!("{name} {text}"),
                    value(&text, &case),
                    &reference[metric],
                );
            }
        }
        // Range-AUC was computed with the widest window of the volumes.
        let widths = tsb["vus"]
            .as_object()
            .unwrap()
            .keys()
            .map(|key| key["window_".len()..].parse().unwrap());
        let areas = Widened {
            window: widths.max().unwrap(),
        }
        .curve(&case)
        .unwrap();
        check(
            &format!("{name} range auc"),
            areas.roc,
            &tsb["range_auc_vus_repo"]["auc"],
        );
        check(
            &format!("{name} range ap"),
            Some(areas.pr),
            &tsb["range_auc_vus_repo"]["ap"],
        );
    }
}

#[test]
fn affiliation() {
    for Golden {
        name,
        case,
        expected,
        ..
    } in cases()
    {
        let Some(reference) = expected.get("affiliation") else {
            continue;
        };
        for metric in ["precision", "recall"] {
            let own = value(&format!("\"affiliation_{metric}\""), &case);
            check(&format!("{name} {metric}"), own, &reference[metric]);
        }
        let own = super::affiliation::by_event(&case);
        for (index, (precision, recall)) in own.into_iter().enumerate() {
            check(
                &format!("{name} precision {index}"),
                precision,
                &reference["individual_precision"][index],
            );
            check(
                &format!("{name} recall {index}"),
                Some(recall),
                &reference["individual_recall"][index],
            );
        }
    }
}

#[test]
fn the_exact_search_beats_every_grid() {
    for Golden {
        name,
        case,
        expected,
        ..
    } in cases()
    {
        let Some(tsb) = expected.get("tsb_ad") else {
            continue;
        };
        let threshold = super::best_threshold(&case).unwrap();
        let best = case.clone().at(threshold).counts();
        assert_eq!(Some(best.f1()), value("\"best_f1\"", &case));
        assert!(
            best.f1() + 1e-8 >= expected["best_f1_graduate"]["f1"].as_f64().unwrap(),
            "{name}"
        );
        // TSB-AD also tries every score, with 1e-5 in the denominator.
        let (precision, recall) = (best.precision(), best.recall());
        let smoothed = 2.0 * precision * recall / (precision + recall + 1e-5);
        check(
            &format!("{name} best f1"),
            Some(smoothed),
            &tsb["best_point_f1"],
        );

        let adjusted = value("\"best_f1_point_adjusted\"", &case).unwrap();
        assert!(
            adjusted >= tsb["best_point_adjusted_f1"].as_f64().unwrap(),
            "{name}"
        );
        check(
            &format!("{name} grid"),
            Some(best_on_grid(&case)),
            &tsb["best_point_adjusted_f1"],
        );
    }
}

/// TSB-AD's search: 100 thresholds between the extremes.
fn best_on_grid(case: &Case) -> f64 {
    let low = case.scores.iter().copied().fold(f64::INFINITY, f64::min);
    let high = case
        .scores
        .iter()
        .copied()
        .fold(f64::NEG_INFINITY, f64::max);
    let judge = |step: i32| {
        let threshold = if step == 99 {
            high
        } else {
            low + (high - low) / 99.0 * f64::from(step)
        };
        let case = case.clone().at(threshold);
        Adjustment {
            convention: Convention::Thuml,
            ..Adjustment::default()
        }
        .judge(&case)
        .f1
    };
    (0..100).map(judge).fold(0.0, f64::max)
}

#[test]
fn adjusted_counts_match() {
    for Golden { case, expected, .. } in cases() {
        let counts = Counts::of(&adjusted_alarms(&case), &case.labels);
        let reference =
            |name: &str| expected["point_adjusted_omni"][name].as_u64().unwrap() as usize;
        assert_eq!(counts.true_positives, reference("TP"));
        assert_eq!(counts.false_positives, reference("FP"));
        assert_eq!(counts.true_negatives, reference("TN"));
        assert_eq!(counts.false_negatives, reference("FN"));
        assert!((harmonic(counts.precision(), counts.recall()) - counts.f1()).abs() < 1e-12);
    }
}
