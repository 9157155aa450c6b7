//! Help for tests: models and data with known properties. Nothing here is for programs.
//!
//! It is compiled into every build because `learning` tests its Kalman filter against the same model, and a crate sees
//! nothing of another that stands behind `cfg(test)`.

use contract::Random;

use crate::statistics::matrix::add;
use crate::statistics::state_space::StateSpace;
use crate::statistics::{Cholesky, Matrix};

/// A model of three states and two channels, and rows drawn from it with some entries missing.
pub fn example(rows: usize) -> (StateSpace, Matrix) {
    let model = StateSpace {
        observation: Matrix::new(2, 3, vec![1.0, 0.0, 0.5, 0.3, 1.0, -0.2]),
        observation_intercept: vec![0.5, -0.5],
        observation_noise: Matrix::new(2, 2, vec![0.4, 0.1, 0.1, 0.3]),
        transition: Matrix::new(3, 3, vec![0.8, 0.1, 0.0, -0.1, 0.7, 0.2, 0.0, 0.0, 0.5]),
        state_intercept: vec![0.1, 0.0, -0.1],
        state_noise: Matrix::diagonal(&[0.3, 0.2, 0.1]),
        initial_mean: vec![0.2, 0.0, 0.0],
        initial_covariance: Matrix::diagonal(&[2.0, 1.0, 1.5]),
    };
    let mut random = Random::new(6, "example");
    let mut draw = |covariance: &Matrix| {
        let noise: Vec<f64> = (0..covariance.rows()).map(|_| random.normal()).collect();
        Cholesky::new(covariance).unwrap().lower().times(&noise)
    };
    let mut state = sum(&draw(&model.initial_covariance), &model.initial_mean);
    let mut values = Vec::new();
    for _ in 0..rows {
        values.extend(sum(&draw(&model.observation_noise), &model.observe(&state)));
        state = sum(&draw(&model.state_noise), &model.advance(&state));
    }
    let mut rows = Matrix::new(rows, 2, values);
    if rows.rows() > 9 {
        rows[(3, 1)] = f64::NAN;
        rows.row_mut(7).fill(f64::NAN);
    }
    (model, rows)
}

fn sum(one: &[f64], other: &[f64]) -> Vec<f64> {
    let mut sum = one.to_vec();
    add(other, &mut sum);
    sum
}
