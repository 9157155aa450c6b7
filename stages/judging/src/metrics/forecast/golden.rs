//! The forecast metrics against thuml/Time-Series-Library. The reference has 64-bit values, forecasts have 32 bits.

use safetensors::SafeTensors;
use serde_json::Value;

use super::ForecastCase;
use super::case::tests::{case, forecasts};
use crate::metrics::{MetricChoice, evaluate, golden};

const TOLERANCE: f64 = 1e-6;

fn value(text: &str, case: &ForecastCase) -> f64 {
    let choice: MetricChoice = serde_json::from_str(text).unwrap();
    evaluate(&choice, case, false).unwrap().value.unwrap()
}

#[test]
fn agrees_with_the_reference() {
    let json = std::fs::read_to_string(golden::folder().join("case.json")).unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    let expected = &json["expected"]["forecast"];
    let bytes = std::fs::read(golden::folder().join("case.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let read = |name: &str| {
        let tensor = tensors.tensor(name).unwrap();
        let words = tensor
            .data()
            .chunks_exact(8)
            .map(|word| f64::from_le_bytes(word.try_into().unwrap()) as f32);
        (words.collect::<Vec<f32>>(), tensor.shape().to_vec())
    };
    let ((predicted, shape), (actual, _)) = (read("in.forecast.pred"), read("in.forecast.true"));
    let case = case(forecasts(shape[1], shape[2], &actual, &predicted));
    for metric in ["mae", "mse", "rmse", "mape", "mspe", "rse"] {
        let (own, reference) = (
            value(&format!("\"{metric}\""), &case),
            expected[metric].as_f64().unwrap(),
        );
        assert!(
            (own - reference).abs() <= TOLERANCE * reference,
            "{metric}: {own} {reference}"
        );
    }
    let form = r#"{"kind":"corr","form":"tslib"}"#;
    let steps = expected["corr"].as_array().unwrap();
    for (step, reference) in steps.iter().enumerate() {
        let (own, reference) = (
            value(form, &case.at_step(step)),
            reference.as_f64().unwrap(),
        );
        assert!(
            (own - reference).abs() <= TOLERANCE * reference,
            "step {step}: {own} {reference}"
        );
    }
    let mean = steps.iter().map(|step| step.as_f64().unwrap()).sum::<f64>() / steps.len() as f64;
    assert!((value(form, &case) - mean).abs() <= TOLERANCE * mean);
}
