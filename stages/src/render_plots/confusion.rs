//! The picture of a confusion matrix.

use std::sync::Arc;

use super::Params;
use super::pictures::{Drawing, Picture};
use crate::artifact::Predictions;
use crate::contract::StageError;
use crate::metrics::ClassificationCase;
use crate::plot::{Matrix, figure};

/// The confusion matrix of the drawn split.
///
/// # Errors
/// If the split has no samples, or they have no true class.
pub fn plan(params: &Params, predictions: Arc<Predictions>) -> Result<Picture, StageError> {
    let case = ClassificationCase::new(predictions, params.split).map_err(StageError::new)?;
    if case.samples() == 0 {
        return Err(StageError::new(format!("there are no predictions of split `{}` to draw", params.split)));
    }
    let classes = case.classes();
    let cells = (0..classes.len()).flat_map(|truth| (0..classes.len()).map(move |predicted| (truth, predicted)));
    let accuracy = figure(case.hits() as f64 / case.samples() as f64);
    let matrix = Matrix {
        title: "confusion matrix".to_owned(),
        subtitle: format!("{} samples of split {} · accuracy {accuracy}", case.samples(), params.split),
        axes: ["true class".to_owned(), "predicted class".to_owned()],
        rows: classes.to_vec(),
        columns: classes.to_vec(),
        counts: cells.map(|(truth, predicted)| case.confusion(truth, predicted)).collect(),
    };
    Ok(Picture { name: "confusion".to_owned(), drawing: Drawing::Matrix(matrix), channels: 0 })
}
