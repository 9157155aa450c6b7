//! Dense matrices of 64-bit floats, row-major, and their products. On one thread.

use std::ops::{Index, IndexMut};

use gemm::Parallelism;

/// Multiplications below which a product is not worth packing its sides.
const SMALL: usize = 16_384;

/// A dense matrix, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    rows: usize,
    columns: usize,
    values: Vec<f64>,
}

impl Matrix {
    /// `values` are `[rows, columns]`.
    ///
    /// # Panics
    /// If there are more or fewer values.
    pub fn new(rows: usize, columns: usize, values: Vec<f64>) -> Self {
        assert_eq!(
            values.len(),
            rows * columns,
            "a {rows} x {columns} matrix of {} values",
            values.len()
        );
        Self {
            rows,
            columns,
            values,
        }
    }

    pub fn zeros(rows: usize, columns: usize) -> Self {
        Self {
            rows,
            columns,
            values: vec![0.0; rows * columns],
        }
    }

    pub fn identity(size: usize) -> Self {
        Self::diagonal(&vec![1.0; size])
    }

    pub fn diagonal(values: &[f64]) -> Self {
        let mut matrix = Self::zeros(values.len(), values.len());
        for (index, value) in values.iter().enumerate() {
            matrix[(index, index)] = *value;
        }
        matrix
    }

    pub fn from_fn(rows: usize, columns: usize, value: impl Fn(usize, usize) -> f64) -> Self {
        let mut values = Vec::with_capacity(rows * columns);
        for row in 0..rows {
            for column in 0..columns {
                values.push(value(row, column));
            }
        }
        Self {
            rows,
            columns,
            values,
        }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    /// All values, row after row.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    pub fn values_mut(&mut self) -> &mut [f64] {
        &mut self.values
    }

    pub fn into_values(self) -> Vec<f64> {
        self.values
    }

    pub fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.columns..(row + 1) * self.columns]
    }

    pub(crate) fn row_mut(&mut self, row: usize) -> &mut [f64] {
        &mut self.values[row * self.columns..(row + 1) * self.columns]
    }

    #[must_use]
    pub fn transposed(&self) -> Self {
        Self::from_fn(self.columns, self.rows, |row, column| self[(column, row)])
    }

    /// The first `rows` rows and `columns` columns.
    #[must_use]
    pub fn corner(&self, rows: usize, columns: usize) -> Self {
        Self::from_fn(rows, columns, |row, column| self[(row, column)])
    }

    /// These rows, in this order.
    #[must_use]
    pub fn select_rows(&self, rows: &[usize]) -> Self {
        let mut values = Vec::with_capacity(rows.len() * self.columns);
        for row in rows {
            values.extend_from_slice(self.row(*row));
        }
        Self {
            rows: rows.len(),
            columns: self.columns,
            values,
        }
    }

    /// These rows and columns of a square matrix.
    #[must_use]
    pub(crate) fn select(&self, indices: &[usize]) -> Self {
        Self::from_fn(indices.len(), indices.len(), |row, column| {
            self[(indices[row], indices[column])]
        })
    }

    /// `self · other`.
    #[must_use]
    pub fn product(&self, other: &Self) -> Self {
        assert_eq!(self.columns, other.rows);
        multiply((self, false), (other, false))
    }

    /// `selfᵀ · other`.
    #[must_use]
    pub fn transposed_product(&self, other: &Self) -> Self {
        assert_eq!(self.rows, other.rows);
        multiply((self, true), (other, false))
    }

    /// `self · otherᵀ`.
    #[must_use]
    pub(crate) fn product_transposed(&self, other: &Self) -> Self {
        assert_eq!(self.columns, other.columns);
        multiply((self, false), (other, true))
    }

    /// `self · inner · selfᵀ`, with rounding made symmetric.
    #[must_use]
    pub fn sandwich(&self, inner: &Self) -> Self {
        self.product(inner).product_transposed(self).symmetric()
    }

    /// `self · vector`.
    pub fn times(&self, vector: &[f64]) -> Vec<f64> {
        assert_eq!(self.columns, vector.len());
        (0..self.rows)
            .map(|row| dot(self.row(row), vector))
            .collect()
    }

    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.zip(other, |one, other| one + other)
    }

    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        self.zip(other, |one, other| one - other)
    }

    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        Self {
            values: self.values.iter().map(|value| value * factor).collect(),
            ..*self
        }
    }

    /// Adds `factor · other` to this matrix.
    pub(crate) fn add_scaled(&mut self, factor: f64, other: &Self) {
        assert_eq!((self.rows, self.columns), (other.rows, other.columns));
        for (own, other) in self.values.iter_mut().zip(&other.values) {
            *own += factor * other;
        }
    }

    /// Adds `left · rightᵀ` to this matrix.
    pub(crate) fn add_outer(&mut self, left: &[f64], right: &[f64]) {
        assert_eq!((self.rows, self.columns), (left.len(), right.len()));
        for (row, left) in self.values.chunks_exact_mut(right.len().max(1)).zip(left) {
            for (own, right) in row.iter_mut().zip(right) {
                *own += left * right;
            }
        }
    }

    /// The mean of a square matrix and its transpose.
    #[must_use]
    pub(crate) fn symmetric(&self) -> Self {
        Self::from_fn(self.rows, self.columns, |row, column| {
            0.5 * (self[(row, column)] + self[(column, row)])
        })
    }

    pub(crate) fn trace(&self) -> f64 {
        (0..self.rows.min(self.columns))
            .map(|index| self[(index, index)])
            .sum()
    }

    /// The largest absolute value.
    pub fn largest(&self) -> f64 {
        self.values
            .iter()
            .fold(0.0, |largest, value| value.abs().max(largest))
    }

    /// Whether all entries beside the diagonal are zero.
    pub(crate) fn is_diagonal(&self) -> bool {
        (0..self.rows()).all(|row| {
            let mut entries = self.row(row).iter().enumerate();
            entries.all(|(column, value)| column == row || *value == 0.0)
        })
    }

    pub(crate) fn is_finite(&self) -> bool {
        self.values.iter().all(|value| value.is_finite())
    }

    fn zip(&self, other: &Self, combine: impl Fn(f64, f64) -> f64) -> Self {
        assert_eq!((self.rows, self.columns), (other.rows, other.columns));
        let values = self
            .values
            .iter()
            .zip(&other.values)
            .map(|(one, other)| combine(*one, *other))
            .collect();
        Self { values, ..*self }
    }
}

impl Index<(usize, usize)> for Matrix {
    type Output = f64;

    fn index(&self, (row, column): (usize, usize)) -> &f64 {
        &self.values[row * self.columns + column]
    }
}

impl IndexMut<(usize, usize)> for Matrix {
    fn index_mut(&mut self, (row, column): (usize, usize)) -> &mut f64 {
        &mut self.values[row * self.columns + column]
    }
}

/// Σ one · other, in four interleaved sums.
pub fn dot(one: &[f64], other: &[f64]) -> f64 {
    let mut sums = [0.0; 4];
    let (one_fours, other_fours) = (one.chunks_exact(4), other.chunks_exact(4));
    let rest = one_fours.remainder().iter().zip(other_fours.remainder());
    let rest: f64 = rest.map(|(a, b)| a * b).sum();
    for (a, b) in one_fours.zip(other_fours) {
        for lane in 0..4 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest
}

/// Adds terms to sums, one by one.
pub(crate) fn add(terms: &[f64], sums: &mut [f64]) {
    for (sum, term) in sums.iter_mut().zip(terms) {
        *sum += term;
    }
}

/// A matrix seen as it is or transposed: its size, and the steps from row to row and from column to column.
fn view((matrix, transposed): (&Matrix, bool)) -> (usize, usize, (usize, usize)) {
    if transposed {
        (matrix.columns, matrix.rows, (1, matrix.columns))
    } else {
        (matrix.rows, matrix.columns, (matrix.columns, 1))
    }
}

fn multiply(left: (&Matrix, bool), right: (&Matrix, bool)) -> Matrix {
    let (rows, depth, left_steps) = view(left);
    let (_, columns, right_steps) = view(right);
    let sides = Sides {
        left: &left.0.values,
        left_steps,
        right: &right.0.values,
        right_steps,
    };
    let mut product = Matrix::zeros(rows, columns);
    if rows * columns * depth < SMALL {
        sides.add_plainly(&mut product, depth);
    } else {
        sides.add_to(&mut product.values, rows, columns, depth, columns);
    }
    product
}

/// The two sides of a product, with the steps from row to row and from column to column.
pub(super) struct Sides<'a> {
    pub left: &'a [f64],
    pub left_steps: (usize, usize),
    pub right: &'a [f64],
    pub right_steps: (usize, usize),
}

impl Sides<'_> {
    /// Adds a small product, term by term.
    fn add_plainly(&self, product: &mut Matrix, depth: usize) {
        let (left, right) = (self.left_steps, self.right_steps);
        for row in 0..product.rows {
            for inner in 0..depth {
                let factor = self.left[row * left.0 + inner * left.1];
                for column in 0..product.columns {
                    let value = self.right[inner * right.0 + column * right.1];
                    product[(row, column)] += factor * value;
                }
            }
        }
    }

    /// Adds the product, `[rows, columns]` over a `depth`, to a target whose rows are `step` apart.
    pub fn add_to(
        &self,
        target: &mut [f64],
        rows: usize,
        columns: usize,
        depth: usize,
        step: usize,
    ) {
        if rows == 0 || columns == 0 || depth == 0 {
            return;
        }
        assert!(last_place(rows, depth, self.left_steps) < self.left.len());
        assert!(last_place(depth, columns, self.right_steps) < self.right.len());
        assert!(last_place(rows, columns, (step, 1)) < target.len());
        // SAFETY: the assertions keep every access inside its slice, as no place is behind that of the last row and column.
        unsafe {
            gemm::gemm(
                rows,
                columns,
                depth,
                target.as_mut_ptr(),
                1,
                step as isize,
                true,
                self.left.as_ptr(),
                self.left_steps.1 as isize,
                self.left_steps.0 as isize,
                self.right.as_ptr(),
                self.right_steps.1 as isize,
                self.right_steps.0 as isize,
                1.0,
                1.0,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
    }
}

/// The place of the last value of so many rows and columns.
fn last_place(rows: usize, columns: usize, (row, column): (usize, usize)) -> usize {
    (rows - 1) * row + (columns - 1) * column
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use contract::Random;

    /// Standard normal draws.
    pub(crate) fn draws(rows: usize, columns: usize, seed: u64) -> Matrix {
        let mut random = Random::new(seed, "matrix");
        Matrix::new(
            rows,
            columns,
            (0..rows * columns).map(|_| random.normal()).collect(),
        )
    }

    #[test]
    fn products_of_every_size_and_layout_agree_with_the_definition() {
        for (rows, depth, columns) in [(1, 1, 1), (3, 5, 2), (40, 33, 51), (70, 64, 65)] {
            let (left, right) = (draws(rows, depth, 1), draws(depth, columns, 2));
            let plain = |row: usize, column: usize| {
                (0..depth)
                    .map(|k| left[(row, k)] * right[(k, column)])
                    .sum()
            };
            let expected = Matrix::from_fn(rows, columns, plain);
            let close = |found: Matrix| found.minus(&expected).largest() < 1e-12;
            assert!(close(left.product(&right)));
            assert!(close(left.transposed().transposed_product(&right)));
            assert!(close(left.product_transposed(&right.transposed())));
        }
        let (square, vector) = (draws(9, 7, 3), draws(7, 1, 4));
        assert!(dot(square.row(2), vector.values()) - square.product(&vector)[(2, 0)] < 1e-14);
        assert_eq!(
            square.times(vector.values())[8],
            dot(square.row(8), vector.values())
        );
    }

    #[test]
    fn sums_and_parts() {
        let matrix = draws(3, 3, 5);
        let mut sum = matrix.clone();
        sum.add_outer(&[1.0, 0.0, 2.0], &[3.0, 4.0, 5.0]);
        assert_eq!(sum[(2, 1)], matrix[(2, 1)] + 8.0);
        assert_eq!(matrix.symmetric()[(0, 2)], matrix.symmetric()[(2, 0)]);
        assert_eq!(matrix.select(&[2, 0])[(0, 1)], matrix[(2, 0)]);
        assert_eq!(matrix.select_rows(&[1]).values(), matrix.row(1));
        assert_eq!(matrix.corner(1, 2).values(), &matrix.row(0)[..2]);
        assert_eq!(Matrix::identity(3).product(&matrix), matrix);
    }
}
