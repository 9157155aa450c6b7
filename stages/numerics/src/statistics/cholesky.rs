//! The factor of a symmetric positive definite matrix, and what is solved with it; least squares by normal equations,
//! which may be singular.

use super::matrix::{Matrix, dot};

/// A = L · Lᵀ with L lower triangular.
#[derive(Clone, Debug)]
pub struct Cholesky {
    lower: Matrix,
}

impl Cholesky {
    /// `None` if the matrix is not positive definite within rounding.
    pub fn new(matrix: &Matrix) -> Option<Self> {
        let size = matrix.rows();
        let mut lower = Matrix::zeros(size, size);
        for row in 0..size {
            for column in 0..=row {
                let inner = dot(&lower.row(row)[..column], &lower.row(column)[..column]);
                let rest = matrix[(row, column)] - inner;
                if row == column {
                    // What is left by rounding alone is no evidence of a positive value.
                    if rest <= matrix[(row, row)].abs() * f64::EPSILON || !rest.is_finite() {
                        return None;
                    }
                    lower[(row, row)] = rest.sqrt();
                } else {
                    lower[(row, column)] = rest / lower[(column, column)];
                }
            }
        }
        Some(Self { lower })
    }

    pub(crate) fn lower(&self) -> &Matrix {
        &self.lower
    }

    /// ln det A.
    pub fn log_determinant(&self) -> f64 {
        (0..self.lower.rows())
            .map(|index| 2.0 * libm::log(self.lower[(index, index)]))
            .sum()
    }

    /// L⁻¹ · vector, whose squared length is vectorᵀ · A⁻¹ · vector.
    pub(crate) fn whiten(&self, vector: &[f64]) -> Vec<f64> {
        let mut solved: Vec<f64> = Vec::with_capacity(vector.len());
        for (row, value) in vector.iter().enumerate() {
            let inner = dot(&self.lower.row(row)[..row], &solved);
            solved.push((value - inner) / self.lower[(row, row)]);
        }
        solved
    }

    /// A⁻¹ · vector.
    pub(crate) fn solve_vector(&self, vector: &[f64]) -> Vec<f64> {
        let mut solved = self.whiten(vector);
        for row in (0..solved.len()).rev() {
            solved[row] /= self.lower[(row, row)];
            let value = solved[row];
            let (above, line) = (&mut solved[..row], &self.lower.row(row)[..row]);
            for (solved, factor) in above.iter_mut().zip(line) {
                *solved -= value * factor;
            }
        }
        solved
    }

    /// A⁻¹ · right.
    pub(crate) fn solve(&self, right: &Matrix) -> Matrix {
        let columns = right.transposed();
        let mut solved = Vec::with_capacity(columns.values().len());
        for column in 0..columns.rows() {
            solved.extend(self.solve_vector(columns.row(column)));
        }
        Matrix::new(columns.rows(), columns.columns(), solved).transposed()
    }

    /// A⁻¹.
    pub fn inverse(&self) -> Matrix {
        self.solve(&Matrix::identity(self.lower.rows())).symmetric()
    }
}

/// The solution of `gram · x = right` for a symmetric positive semidefinite matrix, row by row of `x`.
///
/// Rows and columns that depend on those before them within `tolerance`, relative to their own diagonal, are left out:
/// their part of the solution is zero. So regressors that say the same thing do not make least squares fail.
#[derive(Clone, Debug)]
pub(crate) struct Semidefinite {
    factor: Cholesky,
    /// Rows that are not left out.
    kept: Vec<usize>,
    size: usize,
}

impl Semidefinite {
    pub fn new(gram: &Matrix, tolerance: f64) -> Self {
        let size = gram.rows();
        let (mut kept, mut lower): (Vec<usize>, Vec<Vec<f64>>) = (Vec::new(), Vec::new());
        for row in 0..size {
            let mut line: Vec<f64> = Vec::with_capacity(kept.len() + 1);
            for (place, column) in kept.iter().enumerate() {
                let inner = dot(&line, &lower[place][..place]);
                line.push((gram[(row, *column)] - inner) / lower[place][place]);
            }
            let rest = gram[(row, row)] - dot(&line, &line);
            if rest > tolerance * gram[(row, row)] && rest.is_finite() {
                line.push(rest.sqrt());
                lower.push(line);
                kept.push(row);
            }
        }
        let lower = Matrix::from_fn(kept.len(), kept.len(), |row, column| {
            lower[row].get(column).copied().unwrap_or(0.0)
        });
        Self {
            factor: Cholesky { lower },
            kept,
            size,
        }
    }

    pub fn solve(&self, right: &Matrix) -> Matrix {
        let solved = self.factor.solve(&right.select_rows(&self.kept));
        let mut full = Matrix::zeros(self.size, right.columns());
        for (place, row) in self.kept.iter().enumerate() {
            full.row_mut(*row).copy_from_slice(solved.row(place));
        }
        full
    }

    /// The inverse over the kept rows and columns, zero elsewhere.
    pub fn inverse(&self) -> Matrix {
        self.solve(&Matrix::identity(self.size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::matrix::tests::draws;

    #[test]
    fn solves_and_measures() {
        let matrix = draws(8, 20, 1);
        let matrix = matrix.product_transposed(&matrix);
        let factor = Cholesky::new(&matrix).unwrap();
        assert!(
            factor
                .lower()
                .product_transposed(factor.lower())
                .minus(&matrix)
                .largest()
                < 1e-12
        );
        let right = draws(8, 3, 2);
        assert!(
            matrix
                .product(&factor.solve(&right))
                .minus(&right)
                .largest()
                < 1e-11
        );
        assert!(
            matrix
                .product(&factor.inverse())
                .minus(&Matrix::identity(8))
                .largest()
                < 1e-11
        );
        let vector = right.transposed().row(0).to_vec();
        let quadratic = dot(&vector, &factor.solve_vector(&vector));
        let whitened = factor.whiten(&vector);
        assert!((dot(&whitened, &whitened) / quadratic - 1.0).abs() < 1e-12);
        assert!(
            (Cholesky::new(&Matrix::diagonal(&[2.0, 3.0]))
                .unwrap()
                .log_determinant()
                - 6_f64.ln())
            .abs()
                < 1e-15
        );
        assert!(Cholesky::new(&Matrix::diagonal(&[1.0, -1.0])).is_none());
        assert!(Cholesky::new(&Matrix::diagonal(&[1.0, f64::NAN])).is_none());
    }

    #[test]
    fn dependent_rows_are_left_out() {
        let mut columns = draws(30, 4, 3);
        for row in 0..30 {
            columns[(row, 2)] = 2.0 * columns[(row, 0)] - columns[(row, 1)];
        }
        let gram = columns.transposed_product(&columns);
        let solver = Semidefinite::new(&gram, 1e-10);
        assert_eq!(solver.kept, [0, 1, 3]);
        let target = draws(30, 1, 4);
        let right = columns.transposed_product(&target);
        let solution = solver.solve(&right);
        assert_eq!(solution[(2, 0)], 0.0);
        // The residual is orthogonal to all columns, those left out included.
        let residual = target.minus(&columns.product(&solution));
        assert!(columns.transposed_product(&residual).largest() < 1e-11);
        assert_eq!(
            Semidefinite::new(&Matrix::zeros(2, 2), 1e-10).solve(&draws(2, 1, 5)),
            Matrix::zeros(2, 1)
        );
    }
}
