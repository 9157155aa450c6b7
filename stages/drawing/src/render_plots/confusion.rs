//! The picture of a confusion matrix.

use std::sync::Arc;

use super::Params;
use super::pictures::{Drawing, Picture};
use contract::Trouble;
use contract::artifact::Predictions;
use judging::metrics::ClassificationCase;
use plot::{Matrix, figure};

/// The confusion matrix of the drawn split.
///
/// # Errors
/// If the split has no samples, or they have no true class.
pub fn plan(params: &Params, predictions: Arc<Predictions>) -> Result<Picture, Trouble> {
    let case = ClassificationCase::new(predictions, params.split).map_err(Trouble::new)?;
    if case.samples() == 0 {
        return Err(Trouble::new(format!(
            "there are no predictions of split `{}` to draw",
            params.split
        )));
    }
    let classes = case.classes();
    let order = order(classes);
    let names: Vec<String> = order.iter().map(|class| classes[*class].clone()).collect();
    let cells = order
        .iter()
        .flat_map(|truth| order.iter().map(move |predicted| (*truth, *predicted)));
    let accuracy = figure(case.hits() as f64 / case.samples() as f64);
    let matrix = Matrix {
        title: "confusion matrix".to_owned(),
        subtitle: format!(
            "{} samples of split {} · accuracy {accuracy}",
            case.samples(),
            params.split
        ),
        axes: ["true class".to_owned(), "predicted class".to_owned()],
        rows: names.clone(),
        columns: names,
        counts: cells
            .map(|(truth, predicted)| case.confusion(truth, predicted))
            .collect(),
    };
    Ok(Picture {
        name: "confusion".to_owned(),
        drawing: Drawing::Matrix(matrix),
        channels: 0,
    })
}

/// The numbers of the classes as they are drawn: names that are numbers by their value, others as they come.
fn order(classes: &[String]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..classes.len()).collect();
    if let Ok(numbers) = classes
        .iter()
        .map(|name| name.parse::<f64>())
        .collect::<Result<Vec<f64>, _>>()
    {
        order.sort_by(|one, other| numbers[*one].total_cmp(&numbers[*other]));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_comes_after_nine() {
        let names = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(order(&names(&["1.0", "10.0", "2.0"])), [0, 2, 1]);
        assert_eq!(order(&names(&["1", "10", "b"])), [0, 1, 2]);
    }
}
