//! The classification metrics against scikit-learn.

use std::sync::Arc;

use safetensors::SafeTensors;
use serde_json::Value;

use super::ClassificationCase;
use crate::metrics::{MetricChoice, evaluate, golden};
use contract::artifact::{Predictions, Split};

fn check(what: &str, own: f64, reference: &Value) {
    let reference = reference.as_f64().unwrap();
    assert!(
        (own - reference).abs() <= 1e-12,
        "{what}: {own} {reference}"
    );
}

#[test]
fn agrees_with_the_reference() {
    let json = std::fs::read_to_string(golden::folder().join("case.json")).unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    let expected = &json["expected"]["classification"];
    let bytes = std::fs::read(golden::folder().join("case.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let integers = |name: &str| -> Vec<usize> {
        let tensor = tensors.tensor(name).unwrap();
        tensor
            .data()
            .chunks_exact(8)
            .map(|word| i64::from_le_bytes(word.try_into().unwrap()) as usize)
            .collect()
    };
    let (truth, predicted) = (
        integers("in.classification.true"),
        integers("in.classification.pred"),
    );
    let classes = expected["classes"].as_u64().unwrap() as usize;
    let certain = |class: &usize| {
        (0..classes)
            .map(|other| if other == *class { 1.0 } else { 0.0 })
            .collect::<Vec<_>>()
    };
    let predictions = Predictions {
        classes: (0..classes).map(|class| class.to_string()).collect(),
        samples: (0..truth.len()).map(|sample| sample.to_string()).collect(),
        splits: vec![Split::Test; truth.len()],
        truth: truth.iter().map(|class| *class as u32).collect(),
        probabilities: predicted.iter().flat_map(certain).collect(),
        ..Predictions::default()
    };
    let case = ClassificationCase::new(Arc::new(predictions), Split::Test).unwrap();
    let value = |name: &str| {
        let choice: MetricChoice = serde_json::from_value(name.into()).unwrap();
        evaluate(&choice, &case, false).unwrap().value.unwrap()
    };
    check("accuracy", value("accuracy"), &expected["accuracy"]);
    for average in ["macro", "weighted"] {
        for metric in ["precision", "recall", "f1"] {
            let name = format!("{metric}_{average}");
            check(&name, value(&name), &expected[average][metric]);
        }
    }
    for metric in ["precision", "recall", "f1"] {
        check(
            metric,
            value(&format!("{metric}_micro")),
            &expected["accuracy"],
        );
    }
    for (class, figures) in case.by_class().iter().enumerate() {
        let reference = |what: &str| &expected["per_class"][what][class];
        check("precision", figures.precision, reference("precision"));
        check("recall", figures.recall, reference("recall"));
        check("f1", figures.f1, reference("f1"));
        assert_eq!(
            figures.support as u64,
            reference("support").as_u64().unwrap()
        );
    }
    let confusion = integers("out.classification.confusion");
    let own = (0..classes).flat_map(|truth| (0..classes).map(move |called| (truth, called)));
    assert_eq!(
        own.map(|(truth, called)| case.confusion(truth, called))
            .collect::<Vec<_>>(),
        confusion
    );
    // Over the classes that have samples.
    let supports = expected["per_class"]["support"].as_array().unwrap();
    let recalls = expected["per_class"]["recall"].as_array().unwrap();
    let (mut sum, mut present) = (0.0, 0.0);
    for (support, recall) in supports.iter().zip(recalls) {
        if support.as_u64().unwrap() > 0 {
            sum += recall.as_f64().unwrap();
            present += 1.0;
        }
    }
    assert!((value("balanced_accuracy") - sum / present).abs() <= 1e-12);
}
