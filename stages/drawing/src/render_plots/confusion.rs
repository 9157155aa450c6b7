//! The plot of a confusion matrix.

use std::sync::Arc;

use super::{Drawing, Params, Plot};
use contract::Trouble;
use contract::artifact::Predictions;
use judging::metrics::ClassificationCase;
use plot::{Matrix, rounded};

/// The confusion matrix of the drawn split.
///
/// # Errors
/// If the split has no samples, or they have no true class.
pub fn plan(params: &Params, predictions: Arc<Predictions>) -> Result<Plot, Trouble> {
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
    let mut counts = Vec::with_capacity(order.len() * order.len());
    for truth in &order {
        for predicted in &order {
            counts.push(case.confusion(*truth, *predicted));
        }
    }
    let accuracy = rounded(case.hits() as f64 / case.samples() as f64);
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
        counts,
    };
    Ok(Plot {
        name: "confusion".to_owned(),
        size: matrix.size(),
        drawing: Drawing::Matrix(matrix),
    })
}

/// The numbers of the classes as they are drawn: names that are numbers by their value, others as they come.
fn order(classes: &[String]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..classes.len()).collect();
    let numbers: Result<Vec<f64>, _> = classes.iter().map(|name| name.parse()).collect();
    if let Ok(numbers) = numbers {
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
