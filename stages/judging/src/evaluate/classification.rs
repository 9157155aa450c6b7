//! Judging class predictions: the metrics, the confusion matrix, and the metrics of each class.

use std::sync::Arc;

use super::{Params, none_of_split};
use crate::metrics::{self, ClassificationCase, Subject};
use contract::artifact::{Metrics, Predictions, Table};
use contract::{Outputs, StageContext, Trouble};

/// The outputs `metrics`, `confusion` and `by_class`.
pub fn judge(
    params: &Params,
    predictions: Arc<Predictions>,
    context: &StageContext<'_>,
) -> Result<Outputs, Trouble> {
    let has_samples = |split| predictions.of_split(split).next().is_some();
    if !has_samples(params.on) {
        return Err(none_of_split(
            "predictions",
            &[params.on],
            "judged",
            has_samples,
        ));
    }
    let case = ClassificationCase::new(predictions, params.on).map_err(Trouble::new)?;
    context.check_cancelled()?;
    let choices = params.choices(Subject::Classification);
    let entries = metrics::evaluate_all(&choices, &case, false)?;
    Ok(Outputs::one("metrics", Metrics { entries })
        .with("confusion", confusion(&case)?)
        .with("by_class", by_class(&case)?))
}

/// A row per pair of true and predicted class, those that never occurred included.
fn confusion(case: &ClassificationCase) -> Result<Table, Trouble> {
    let (mut classes, mut predictions, mut counts) = (Vec::new(), Vec::new(), Vec::new());
    for (truth, class) in case.classes().iter().enumerate() {
        for (predicted, called) in case.classes().iter().enumerate() {
            classes.push(class.clone());
            predictions.push(called.clone());
            counts.push(case.confusion(truth, predicted) as i64);
        }
    }
    Ok(Table::new(vec![
        ("class", classes.into()),
        ("predicted", predictions.into()),
        ("count", counts.into()),
    ])?)
}

fn by_class(case: &ClassificationCase) -> Result<Table, Trouble> {
    let (mut precision, mut recall, mut f1) = (Vec::new(), Vec::new(), Vec::new());
    let mut samples = Vec::new();
    for class in case.by_class() {
        precision.push(class.precision);
        recall.push(class.recall);
        f1.push(class.f1);
        samples.push(class.support as i64);
    }
    Ok(Table::new(vec![
        ("class", case.classes().to_vec().into()),
        ("precision", precision.into()),
        ("recall", recall.into()),
        ("f1", f1.into()),
        ("samples", samples.into()),
    ])?)
}
