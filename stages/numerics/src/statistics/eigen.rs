//! Eigenvalues and eigenvectors of symmetric matrices: Householder's tridiagonal form, then the QL method with implicit
//! shifts (Golub and Van Loan, "Matrix Computations", sections 8.3.1 and 8.3.3).
//! Work is split over threads by rows and columns only, so no sum depends on their number.

use rayon::prelude::*;

use super::matrix::{Matrix, dot};

/// Columns of a strip of eigenvectors that one thread rotates.
const STRIP: usize = 64;
/// Rotations of one eigenvalue's search; more are never needed for finite input.
const MOST_SWEEPS: usize = 64;

/// A symmetric matrix as Σ value · vector · vectorᵀ.
#[derive(Clone, Debug)]
pub struct Eigen {
    /// Falling.
    pub values: Vec<f64>,
    /// A row per value: orthonormal vectors whose component of largest size is positive.
    pub vectors: Matrix,
}

impl Eigen {
    /// The decomposition of a symmetric matrix. `None` if it holds values that are not finite.
    pub fn new(matrix: &Matrix) -> Option<Self> {
        assert_eq!(matrix.rows(), matrix.columns());
        if !matrix.is_finite() {
            return None;
        }
        let mut form = Tridiagonal::new(matrix.clone());
        let mut strips = Strips::new(&form.vectors);
        diagonalise(&mut form, &mut strips)?;
        let vectors = strips.into_matrix(matrix.rows());
        Some(Self::sorted(&form.diagonal, &vectors))
    }

    fn sorted(values: &[f64], vectors: &Matrix) -> Self {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|one, other| values[*other].total_cmp(&values[*one]).then(one.cmp(other)));
        let mut sorted = vectors.select_rows(&order);
        for row in 0..sorted.rows() {
            let vector = sorted.row_mut(row);
            let mut largest = 0.0_f64;
            for value in &*vector {
                if value.abs() > largest.abs() {
                    largest = *value;
                }
            }
            if largest < 0.0 {
                for value in vector {
                    *value = -*value;
                }
            }
        }
        Self {
            values: order.iter().map(|index| values[*index]).collect(),
            vectors: sorted,
        }
    }

    /// Σ f(value) · vector · vectorᵀ.
    pub fn map(&self, function: impl Fn(f64) -> f64) -> Matrix {
        let mut scaled = self.vectors.clone();
        for (row, value) in self.values.iter().enumerate() {
            let factor = function(*value);
            for component in scaled.row_mut(row) {
                *component *= factor;
            }
        }
        scaled.transposed_product(&self.vectors).symmetric()
    }
}

/// A = Q · T · Qᵀ with T tridiagonal.
struct Tridiagonal {
    diagonal: Vec<f64>,
    /// Beside the diagonal; the last is zero.
    beside: Vec<f64>,
    /// Qᵀ: rows are the vectors of the basis.
    vectors: Matrix,
}

impl Tridiagonal {
    fn new(mut matrix: Matrix) -> Self {
        let size = matrix.rows();
        let mut reflections: Vec<(Vec<f64>, f64)> = Vec::new();
        let mut beside = vec![0.0; size];
        for step in 0..size.saturating_sub(2) {
            let below: Vec<f64> = (step + 1..size).map(|row| matrix[(row, step)]).collect();
            let (vector, factor, length) = reflection(below);
            beside[step] = length;
            if factor != 0.0 {
                reflect_both_sides(&mut matrix, step + 1, &vector, factor);
            }
            reflections.push((vector, factor));
        }
        if size > 1 {
            beside[size - 2] = matrix[(size - 1, size - 2)];
        }
        let diagonal = (0..size).map(|index| matrix[(index, index)]).collect();
        let mut vectors = Matrix::identity(size);
        for (step, (vector, factor)) in reflections.iter().enumerate().rev() {
            // Rows before the reflection's first are still those of the identity there.
            vectors.values_mut()[(step + 1) * size..]
                .par_chunks_exact_mut(size)
                .for_each(|row| {
                    let tail = &mut row[step + 1..];
                    let shift = factor * dot(tail, vector);
                    for (value, direction) in tail.iter_mut().zip(vector) {
                        *value -= shift * direction;
                    }
                });
        }
        Self {
            diagonal,
            beside,
            vectors,
        }
    }
}

/// The reflection I - factor · v · vᵀ that leaves only the first component of `vector`: v, factor, and that component.
fn reflection(mut vector: Vec<f64>) -> (Vec<f64>, f64, f64) {
    let tail = largest(&vector[1..]);
    let largest = vector[0].abs().max(tail);
    if tail <= f64::MIN_POSITIVE || tail <= largest * f64::EPSILON * f64::EPSILON {
        let first = vector[0];
        return (vector, 0.0, first);
    }
    // In these units no square overflows.
    for value in &mut vector {
        *value /= largest;
    }
    let length = dot(&vector, &vector).sqrt() * if vector[0] > 0.0 { -1.0 } else { 1.0 };
    vector[0] -= length;
    let factor = 2.0 / dot(&vector, &vector);
    (vector, factor, length * largest)
}

/// H · A · H for the rows and columns from `first` on.
fn reflect_both_sides(matrix: &mut Matrix, first: usize, vector: &[f64], factor: f64) {
    let size = matrix.rows();
    let image: Vec<f64> = (first..size)
        .into_par_iter()
        .with_min_len(64)
        .map(|row| factor * dot(&matrix.row(row)[first..], vector))
        .collect();
    let half = 0.5 * factor * dot(&image, vector);
    let mut shift = image;
    for (shift, direction) in shift.iter_mut().zip(vector) {
        *shift -= half * direction;
    }
    matrix.values_mut()[first * size..]
        .par_chunks_exact_mut(size)
        .with_min_len(64)
        .enumerate()
        .for_each(|(own, row)| {
            let terms = vector.iter().zip(&shift);
            for (value, (direction, other_shift)) in row[first..].iter_mut().zip(terms) {
                *value -= vector[own] * other_shift + shift[own] * direction;
            }
        });
}

/// One rotation of neighbouring vectors: (first, cosine, sine).
type Rotation = (usize, f64, f64);

/// Vectors as rows, cut into strips of columns, so that each strip is rotated where it is.
struct Strips(Vec<Vec<f64>>);

impl Strips {
    fn new(vectors: &Matrix) -> Self {
        let size = vectors.rows();
        let mut strips = Vec::with_capacity(size.div_ceil(STRIP));
        for first in (0..size).step_by(STRIP) {
            let columns = first..(first + STRIP).min(size);
            let mut strip = Vec::with_capacity(size * columns.len());
            for row in 0..size {
                strip.extend_from_slice(&vectors.row(row)[columns.clone()]);
            }
            strips.push(strip);
        }
        Self(strips)
    }

    fn rotate(&mut self, rotations: &[Rotation], size: usize) {
        self.0.par_iter_mut().for_each(|strip| {
            let width = strip.len() / size;
            for (first, cosine, sine) in rotations {
                let (upper, lower) = strip[first * width..(first + 2) * width].split_at_mut(width);
                for (one, other) in upper.iter_mut().zip(lower) {
                    let old = *other;
                    *other = sine * *one + cosine * old;
                    *one = cosine * *one - sine * old;
                }
            }
        });
    }

    fn into_matrix(self, size: usize) -> Matrix {
        let mut matrix = Matrix::zeros(size, size);
        for (index, strip) in self.0.iter().enumerate() {
            let width = strip.len() / size;
            for (row, part) in strip.chunks_exact(width).enumerate() {
                matrix.row_mut(row)[index * STRIP..index * STRIP + width].copy_from_slice(part);
            }
        }
        matrix
    }
}

/// Takes the values beside the diagonal to zero, one eigenvalue after another. `None` if one does not settle.
fn diagonalise(form: &mut Tridiagonal, strips: &mut Strips) -> Option<()> {
    let size = form.diagonal.len();
    let mut rotations = Vec::with_capacity(size);
    // What lies below the rounding of the whole matrix is noise, and would only be turned round and round.
    let noise = f64::EPSILON * largest(&form.diagonal).max(largest(&form.beside));
    for wanted in 0..size {
        let mut sweeps = 0;
        loop {
            let split = (wanted..size - 1)
                .find(|index| is_negligible(form, *index, noise))
                .unwrap_or(size - 1);
            if split == wanted {
                break;
            }
            sweeps += 1;
            if sweeps > MOST_SWEEPS {
                return None;
            }
            rotations.clear();
            sweep(form, wanted, split, &mut rotations);
            strips.rotate(&rotations, size);
        }
    }
    Some(())
}

/// The largest absolute value, 0 of none.
fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |most, value| value.abs().max(most))
}

fn is_negligible(form: &Tridiagonal, index: usize, noise: f64) -> bool {
    let scale = form.diagonal[index].abs() + form.diagonal[index + 1].abs();
    form.beside[index].abs() <= noise.max(f64::EPSILON * scale)
}

/// One implicit QL step on the block `first..=last`, shifted by the eigenvalue of its upper corner (Wilkinson).
fn sweep(form: &mut Tridiagonal, first: usize, last: usize, rotations: &mut Vec<Rotation>) {
    let (d, e) = (&mut form.diagonal, &mut form.beside);
    let slope = (d[first + 1] - d[first]) / (2.0 * e[first]);
    let root = slope.hypot(1.0);
    let mut bulge =
        d[last] - d[first] + e[first] / (slope + if slope >= 0.0 { root } else { -root });
    let (mut sine, mut cosine, mut carried) = (1.0, 1.0, 0.0);
    for index in (first..last).rev() {
        let (left, right) = (sine * e[index], cosine * e[index]);
        let length = left.hypot(bulge);
        e[index + 1] = length;
        if length == 0.0 {
            d[index + 1] -= carried;
            e[last] = 0.0;
            return;
        }
        sine = left / length;
        cosine = bulge / length;
        let rest = d[index + 1] - carried;
        let twist = (d[index] - rest) * sine + 2.0 * cosine * right;
        carried = sine * twist;
        d[index + 1] = rest + carried;
        bulge = cosine * twist - right;
        rotations.push((index, cosine, sine));
    }
    d[first] -= carried;
    e[first] = bulge;
    e[last] = 0.0;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::matrix::tests::draws;

    fn check(matrix: &Matrix) {
        let size = matrix.rows();
        let eigen = Eigen::new(matrix).unwrap();
        let scale = matrix.largest().max(1e-300);
        assert!(
            eigen.map(|value| value).minus(matrix).largest() < 1e-13 * scale * size as f64,
            "{size}"
        );
        let products = eigen.vectors.product_transposed(&eigen.vectors);
        assert!(products.minus(&Matrix::identity(size)).largest() < 1e-13 * size as f64);
        assert!(eigen.values.windows(2).all(|pair| pair[0] >= pair[1]));
    }

    #[test]
    fn decompositions_multiply_back() {
        for size in [1, 2, 3, 7, 64, 65, 150] {
            check(&draws(size, size, size as u64).symmetric());
            let tall = draws(size, 1 + size / 3, 9);
            check(&tall.product_transposed(&tall));
        }
        check(&Matrix::zeros(4, 4));
        check(&Matrix::identity(5));
        check(&draws(12, 12, 8).symmetric().scaled(1e-200));
        check(&Matrix::from_fn(6, 6, |row, column| {
            10_f64.powi(-3 * (row + column) as i32)
        }));
        assert!(Eigen::new(&Matrix::diagonal(&[1.0, f64::NAN])).is_none());
    }

    #[test]
    fn a_known_spectrum_and_powers() {
        // The second difference on n points: 2 - 2 cos(k π / (n + 1)).
        let size = 20;
        let difference = Matrix::from_fn(size, size, |row, column| match row.abs_diff(column) {
            0 => 2.0,
            1 => -1.0,
            _ => 0.0,
        });
        let eigen = Eigen::new(&difference).unwrap();
        for (index, value) in eigen.values.iter().enumerate() {
            let angle = std::f64::consts::PI * (size - index) as f64 / (size + 1) as f64;
            assert!((value - (2.0 - 2.0 * angle.cos())).abs() < 1e-13);
        }
        let root = eigen.map(f64::sqrt);
        assert!(root.product(&root).minus(&difference).largest() < 1e-13);
    }

    #[test]
    fn threads_change_no_bit() {
        let matrix = draws(200, 200, 6).symmetric();
        let bits = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let eigen = pool.install(|| Eigen::new(&matrix).unwrap());
            (eigen.values, eigen.vectors)
        };
        assert_eq!(bits(1), bits(3));
    }
}
