//! The smoother of Rauch, Tung and Striebel (1965): what all rows say about every state.

use std::sync::Arc;

use super::Cholesky;
use super::matrix::{Matrix, add};
use super::state_space::{Filtered, Gains, StateSpace};

/// Relative differences below which covariances are the same.
const SETTLED: f64 = 1e-13;

/// A state given all rows.
#[derive(Clone, Debug)]
pub struct Smoothed {
    /// E(a_t | all rows).
    pub mean: Vec<f64>,
    /// Cov(a_t | all rows). States share it where it has settled.
    pub covariance: Arc<Matrix>,
    /// Cov(a_{t+1}, a_t | all rows); none for the last row.
    pub(crate) with_next: Option<Arc<Matrix>>,
}

/// The covariances of a backward step, with what they depend on.
struct Backward {
    gains: Arc<Gains>,
    next: Arc<Gains>,
    later: Arc<Matrix>,
    pull: Matrix,
    covariance: Arc<Matrix>,
    with_next: Arc<Matrix>,
}

/// Smooths what the filter found; a state per row.
///
/// # Errors
/// A sentence, if the covariance of a predicted state is singular.
pub fn smooth(model: &StateSpace, filtered: &Filtered) -> Result<Vec<Smoothed>, String> {
    let mut states: Vec<Smoothed> = Vec::with_capacity(filtered.steps.len());
    let mut known: Option<Backward> = None;
    for (index, step) in filtered.steps.iter().enumerate().rev() {
        let Some(later) = states.last() else {
            states.push(Smoothed {
                mean: step.filtered.clone(),
                covariance: Arc::new(step.gains.filtered.clone()),
                with_next: None,
            });
            continue;
        };
        let next = &filtered.steps[index + 1];
        let reusable = known.take().filter(|known| {
            Arc::ptr_eq(&known.gains, &step.gains)
                && Arc::ptr_eq(&known.next, &next.gains)
                && Arc::ptr_eq(&known.later, &later.covariance)
        });
        let backward = match reusable {
            Some(backward) => backward,
            None => backward(model, &step.gains, &next.gains, &later.covariance)?,
        };
        let mut apart = later.mean.clone();
        for (apart, predicted) in apart.iter_mut().zip(&next.predicted) {
            *apart -= predicted;
        }
        let mut mean = step.filtered.clone();
        add(&backward.pull.times(&apart), &mut mean);
        states.push(Smoothed {
            mean,
            covariance: Arc::clone(&backward.covariance),
            with_next: Some(Arc::clone(&backward.with_next)),
        });
        known = Some(backward);
    }
    states.reverse();
    Ok(states)
}

fn backward(
    model: &StateSpace,
    gains: &Arc<Gains>,
    next: &Arc<Gains>,
    later: &Arc<Matrix>,
) -> Result<Backward, String> {
    let predicted = &next.predicted;
    let factor = Cholesky::new(predicted).ok_or_else(|| {
        "the covariance of a predicted state is singular, so it cannot be smoothed".to_owned()
    })?;
    // filtered · Tᵀ · predicted⁻¹
    let pull = factor
        .solve(&model.transition.product(&gains.filtered))
        .transposed();
    let covariance = gains.filtered.plus(&pull.sandwich(&later.minus(predicted)));
    let close = covariance.minus(later).largest() <= SETTLED * later.largest();
    // Once a covariance has settled, states share it, so that the next step finds this one reusable.
    let covariance = if close {
        Arc::clone(later)
    } else {
        Arc::new(covariance)
    };
    Ok(Backward {
        gains: Arc::clone(gains),
        next: Arc::clone(next),
        later: Arc::clone(later),
        with_next: Arc::new(later.product_transposed(&pull)),
        pull,
        covariance,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::example;

    #[test]
    fn smoothing_adds_knowledge_and_settles() {
        let (model, rows) = example(400);
        let filtered = model.filter(&rows).unwrap();
        let smoothed = smooth(&model, &filtered).unwrap();
        assert_eq!(smoothed.len(), 400);
        for (state, step) in smoothed.iter().zip(&filtered.steps) {
            let gain = step.gains.filtered.minus(&state.covariance);
            assert!((0..3).all(|index| gain[(index, index)] > -1e-12));
        }
        let shared = smoothed
            .windows(2)
            .filter(|pair| Arc::ptr_eq(&pair[0].covariance, &pair[1].covariance))
            .count();
        assert!(shared > 200, "{shared}");
        assert!(smoothed[399].with_next.is_none());
    }

    /// The first state, observed twice without any change, is the mean of a precision-weighted average.
    #[test]
    fn a_constant_state_pools_all_rows() {
        let model = StateSpace {
            observation: Matrix::identity(1),
            observation_intercept: vec![0.0],
            observation_noise: Matrix::diagonal(&[2.0]),
            transition: Matrix::identity(1),
            state_intercept: vec![0.0],
            state_noise: Matrix::diagonal(&[0.0]),
            initial_mean: vec![1.0],
            initial_covariance: Matrix::diagonal(&[4.0]),
        };
        let filtered = model
            .filter(&Matrix::new(3, 1, vec![2.0, 6.0, 1.0]))
            .unwrap();
        let precision = 1.0 / 4.0 + 3.0 / 2.0;
        let mean = (1.0 / 4.0 + 9.0 / 2.0) / precision;
        for state in smooth(&model, &filtered).unwrap() {
            assert!((state.mean[0] - mean).abs() < 1e-13);
            assert!((state.covariance[(0, 0)] - 1.0 / precision).abs() < 1e-13);
        }
    }
}
