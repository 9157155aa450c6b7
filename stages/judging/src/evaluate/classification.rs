//! Judging class predictions: the figures, the confusion matrix, and the figures of each class.

use std::sync::Arc;

use rayon::prelude::*;

use super::Params;
use crate::metrics::{self, ClassificationCase, Subject};
use contract::artifact::{Metrics, Predictions, Split, Table};
use contract::{Outputs, StageContext, Trouble};

/// The outputs `metrics`, `confusion` and `by_class`.
pub fn judge(
    params: &Params,
    predictions: Arc<Predictions>,
    context: &StageContext<'_>,
) -> Result<Outputs, Trouble> {
    if predictions.of_split(params.on).next().is_none() {
        return Err(no_samples(&predictions, params.on));
    }
    let case = ClassificationCase::new(predictions, params.on).map_err(Trouble::new)?;
    context.check_cancelled()?;
    let choices = params.choices(Subject::Classification);
    let entries = choices
        .par_iter()
        .map(|choice| metrics::evaluate(choice, &case, false));
    let entries = entries
        .collect::<Result<Vec<_>, _>>()
        .map_err(Trouble::new)?;
    Ok(Outputs::one("metrics", Metrics { entries })
        .with("confusion", confusion(&case)?)
        .with("by_class", by_class(&case)?))
}

/// A row per pair of true and predicted class, those that never occurred included.
fn confusion(case: &ClassificationCase) -> Result<Table, Trouble> {
    let names = case.classes();
    let pairs = || {
        (0..names.len()).flat_map(|truth| (0..names.len()).map(move |predicted| (truth, predicted)))
    };
    let truths: Vec<String> = pairs().map(|(truth, _)| names[truth].clone()).collect();
    let predictions: Vec<String> = pairs()
        .map(|(_, predicted)| names[predicted].clone())
        .collect();
    let counts: Vec<i64> = pairs()
        .map(|(truth, predicted)| case.confusion(truth, predicted) as i64)
        .collect();
    table(vec![
        ("class", truths.into()),
        ("predicted", predictions.into()),
        ("count", counts.into()),
    ])
}

fn by_class(case: &ClassificationCase) -> Result<Table, Trouble> {
    let figures = case.by_class();
    let reals =
        |get: fn(&metrics::ClassFigures) -> f64| figures.iter().map(get).collect::<Vec<f64>>();
    table(vec![
        ("class", case.classes().to_vec().into()),
        ("precision", reals(|class| class.precision).into()),
        ("recall", reals(|class| class.recall).into()),
        ("f1", reals(|class| class.f1).into()),
        (
            "samples",
            figures
                .iter()
                .map(|class| class.support as i64)
                .collect::<Vec<i64>>()
                .into(),
        ),
    ])
}

fn table(columns: Vec<(&str, contract::artifact::Column)>) -> Result<Table, Trouble> {
    Table::new(columns).map_err(|error| Trouble::new(format!("a table could not be made: {error}")))
}

fn no_samples(predictions: &Predictions, split: Split) -> Trouble {
    let present = Split::ALL
        .into_iter()
        .filter(|split| predictions.of_split(*split).next().is_some());
    let present: Vec<String> = present.map(|split| format!("`{split}`")).collect();
    let hint = if present.is_empty() {
        "there are no samples at all".to_owned()
    } else {
        format!("there are samples of {}", present.join(", "))
    };
    Trouble::new(format!(
        "there are no predictions of split `{split}` to be judged"
    ))
    .hint(hint)
}
