//! k-means: seeding by k-means++ (Arthur and Vassilvitskii, 2007), then Lloyd's iterations.
//! Every row is assigned on its own and sums are added in a fixed order, so bits do not depend on the number of threads.

use std::ops::Range;

use rayon::prelude::*;

use super::gram::{RowSource, Scale};
use super::matrix::add;
use crate::chunks::chunks;
use contract::{Random, Trouble};

/// How the iterations end.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub iterations: usize,
    /// The squared movement of all centroids, relative to the mean variance of a column, at which they rest.
    pub tolerance: f64,
}

/// Centroids, `[count, width]`, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Clusters {
    pub width: usize,
    pub centroids: Vec<f32>,
}

/// A row's nearest centroid and the squared distance to it.
type Nearest = (usize, f64);

impl Clusters {
    /// At most `count` clusters of the rows; fewer only if there are fewer different rows.
    ///
    /// # Errors
    /// What `stop` says, which is asked between the iterations.
    pub fn fit(
        source: &impl RowSource,
        count: usize,
        limits: Limits,
        random: &mut Random,
        stop: impl Fn() -> Result<(), Trouble>,
    ) -> Result<Self, Trouble> {
        let mut clusters = Self::seeded(source, count, random);
        let rest = limits.tolerance * mean_variance(source);
        for _ in 0..limits.iterations {
            stop()?;
            if clusters.iterate(source) <= rest {
                break;
            }
        }
        Ok(clusters)
    }

    /// The centroid nearest to a row; the first of several.
    pub fn nearest(&self, row: &[f32]) -> Nearest {
        let mut best = (0, f64::INFINITY);
        for (index, centroid) in self.centroids.chunks_exact(self.width).enumerate() {
            let distance = f64::from(squared_distance(row, centroid));
            if distance < best.1 {
                best = (index, distance);
            }
        }
        best
    }

    fn count(&self) -> usize {
        self.centroids.len() / self.width
    }

    /// Each centroid is a row, drawn in proportion to its squared distance from those before it.
    fn seeded(source: &impl RowSource, count: usize, random: &mut Random) -> Self {
        let rows = source.rows();
        let mut chosen = random.below(rows.max(1) as u64) as usize;
        let mut centroids = Vec::with_capacity(count * source.width());
        let mut distances = vec![f64::INFINITY; rows];
        for _ in 0..count.min(rows) {
            let centroid = source.row(chosen);
            centroids.extend_from_slice(centroid);
            distances
                .par_iter_mut()
                .enumerate()
                .with_min_len(64)
                .for_each(|(row, distance)| {
                    *distance =
                        distance.min(f64::from(squared_distance(source.row(row), centroid)));
                });
            let total: f64 = distances.iter().sum();
            if total <= 0.0 {
                break;
            }
            let mut left = random.uniform() * total;
            for (row, distance) in distances.iter().enumerate() {
                // Rounding may leave a rest: then it is the last row that has not been taken.
                if *distance > 0.0 {
                    chosen = row;
                }
                left -= distance;
                if left < 0.0 {
                    break;
                }
            }
        }
        Self {
            width: source.width(),
            centroids,
        }
    }

    /// Assigns all rows and moves every centroid to the mean of its rows; how far they moved, squared.
    fn iterate(&mut self, source: &impl RowSource) -> f64 {
        let parts: Vec<Sums> = chunks(source.rows())
            .into_par_iter()
            .map(|rows| Sums::of(self, source, rows))
            .collect();
        let mut total = Sums::empty(self.count(), self.width);
        for part in &parts {
            total.add(part);
        }
        // A centroid that nobody is near to goes to the row that is farthest from its own.
        let mut far = total.far;
        let mut moved = 0.0;
        let width = self.width;
        for (index, centroid) in self.centroids.chunks_exact_mut(width).enumerate() {
            let count = total.counts[index];
            if count == 0 {
                if let Some((row, _)) = far.take() {
                    centroid.copy_from_slice(source.row(row));
                    moved = f64::INFINITY;
                }
                continue;
            }
            for (value, sum) in centroid.iter_mut().zip(&total.sums[index * width..]) {
                let mean = sum / count as f64;
                moved += (mean - f64::from(*value)).powi(2);
                *value = mean as f32;
            }
        }
        moved
    }
}

/// What the rows of a chunk add to their centroids.
struct Sums {
    counts: Vec<usize>,
    sums: Vec<f64>,
    /// The row farthest from its centroid.
    far: Option<(usize, f64)>,
}

impl Sums {
    fn empty(count: usize, width: usize) -> Self {
        Self {
            counts: vec![0; count],
            sums: vec![0.0; count * width],
            far: None,
        }
    }

    fn of(clusters: &Clusters, source: &impl RowSource, rows: Range<usize>) -> Self {
        let width = clusters.width;
        let mut own = Self::empty(clusters.count(), width);
        for row in rows {
            let values = source.row(row);
            let (index, distance) = clusters.nearest(values);
            own.counts[index] += 1;
            for (sum, value) in own.sums[index * width..].iter_mut().zip(values) {
                *sum += f64::from(*value);
            }
            own.see(row, distance);
        }
        own
    }

    fn see(&mut self, row: usize, distance: f64) {
        if self.far.is_none_or(|(_, most)| distance > most) {
            self.far = Some((row, distance));
        }
    }

    fn add(&mut self, other: &Self) {
        for (own, other) in self.counts.iter_mut().zip(&other.counts) {
            *own += other;
        }
        add(&other.sums, &mut self.sums);
        if let Some((row, distance)) = other.far {
            self.see(row, distance);
        }
    }
}

/// The mean over columns of their variance.
fn mean_variance(source: &impl RowSource) -> f64 {
    let scale = Scale::of(source);
    let variances = scale
        .deviation
        .iter()
        .map(|deviation| deviation * deviation);
    variances.sum::<f64>() / source.width().max(1) as f64
}

/// Σ (one - other)², in sixteen interleaved sums.
pub(crate) fn squared_distance(one: &[f32], other: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0_f32; LANES];
    let (ones, others) = (one.chunks_exact(LANES), other.chunks_exact(LANES));
    let rest = ones.remainder().iter().zip(others.remainder());
    let rest: f32 = rest.map(|(a, b)| (a - b) * (a - b)).sum();
    for (a, b) in ones.zip(others) {
        for lane in 0..LANES {
            let apart = a[lane] - b[lane];
            sums[lane] += apart * apart;
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::gram::Slices;

    const LIMITS: Limits = Limits {
        iterations: 100,
        tolerance: 0.0,
    };

    /// Three clouds of 2-D points around (0, 0), (10, 0) and (0, 10), in turn.
    fn clouds(count: usize) -> Vec<f32> {
        let mut random = Random::new(4, "clouds");
        let centre = |index: usize| [(0.0, 0.0), (10.0, 0.0), (0.0, 10.0)][index % 3];
        (0..count)
            .flat_map(|index| {
                [
                    centre(index).0 + random.normal(),
                    centre(index).1 + random.normal(),
                ]
            })
            .map(|v| v as f32)
            .collect()
    }

    fn fit(values: &[f32], width: usize, count: usize) -> Clusters {
        let source = Slices::new(
            values,
            (0..values.len() / width).map(|row| row * width).collect(),
            width,
        );
        Clusters::fit(&source, count, LIMITS, &mut Random::new(5, "seeds"), || {
            Ok(())
        })
        .unwrap()
    }

    #[test]
    fn clouds_are_found_and_their_means_are_the_centroids() {
        let values = clouds(600);
        let clusters = fit(&values, 2, 3);
        for (index, expected) in [(0.0, 0.0), (10.0, 0.0), (0.0, 10.0)]
            .into_iter()
            .enumerate()
        {
            let own: Vec<&[f32]> = values.chunks_exact(2).skip(index).step_by(3).collect();
            let mean = |axis: usize| {
                own.iter().map(|row| f64::from(row[axis])).sum::<f64>() / own.len() as f64
            };
            let (_, distance) = clusters.nearest(&[mean(0) as f32, mean(1) as f32]);
            assert!(distance < 1e-8, "{distance}");
            assert!((mean(0) - expected.0).abs() < 0.3 && (mean(1) - expected.1).abs() < 0.3);
        }
    }

    #[test]
    fn few_rows_are_few_clusters() {
        let clusters = fit(&[1.0, 1.0, 1.0, 4.0], 1, 3);
        assert_eq!(clusters.centroids, [1.0, 4.0]);
        assert_eq!(clusters.nearest(&[3.5]), (1, 0.25));
    }

    #[test]
    fn threads_change_no_bit() {
        let values = clouds(999);
        let bits = |threads: usize| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap()
                .install(|| fit(&values, 37, 5))
        };
        assert_eq!(bits(1), bits(4));
    }

    #[test]
    fn long_distances_are_exact_enough() {
        let one: Vec<f32> = (0..101).map(|index| index as f32 * 0.25).collect();
        let zeros = vec![0.0; 101];
        let expected: f64 = one.iter().map(|value| f64::from(*value).powi(2)).sum();
        assert!((f64::from(squared_distance(&one, &zeros)) / expected - 1.0).abs() < 1e-6);
    }
}
