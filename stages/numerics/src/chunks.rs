//! A batch cut into a fixed number of chunks: the unit of parallel work.
//! Partial sums belong to chunks and are added in their order, so bits do not depend on the number of threads.

use std::ops::Range;

use rayon::prelude::*;

use super::elementwise::add;
use super::simd::Level;

/// The most chunks that a batch is cut into, whatever the number of threads.
pub(crate) const CHUNKS: usize = 16;

/// Consecutive ranges that cover `0..count`, at most `CHUNKS` of them, none empty, sizes differing by at most one.
pub fn chunks(count: usize) -> Vec<Range<usize>> {
    cut(count, CHUNKS.min(count))
}

/// Consecutive ranges that cover `0..count`, `parts` of them, sizes differing by at most one.
pub(crate) fn cut(count: usize, parts: usize) -> Vec<Range<usize>> {
    (0..parts)
        .map(|part| part * count / parts..(part + 1) * count / parts)
        .collect()
}

/// The rows of each range, `width` floats each, to be written side by side. The ranges cover all rows in order.
pub fn split_rows<'a>(
    mut values: &'a mut [f32],
    ranges: &[Range<usize>],
    width: usize,
) -> Vec<&'a mut [f32]> {
    let mut parts = Vec::with_capacity(ranges.len());
    for range in ranges {
        let (part, rest) = values.split_at_mut(range.len() * width);
        parts.push(part);
        values = rest;
    }
    parts
}

/// Computes rows in parallel: `N` matrices with a row for each of the ranges' rows and these widths, zero before `work`
/// gets to write the rows of its range, and what `work` returns, in the order of the ranges.
///
/// # Panics
/// If the ranges do not follow one another from 0 on.
pub fn fill_rows<const N: usize, T: Send>(
    ranges: &[Range<usize>],
    widths: [usize; N],
    work: impl Fn(Range<usize>, [&mut [f32]; N]) -> T + Sync,
) -> ([Vec<f32>; N], Vec<T>) {
    // The unsafe code below relies on this: every row belongs to one range.
    let mut count = 0;
    for range in ranges {
        assert!(
            range.start == count && range.end >= count,
            "rows {range:?} do not follow row {count}"
        );
        count = range.end;
    }
    // Zeroed by the thread that writes them and while they are in its cache, not all at once by this one.
    let mut buffers = widths.map(|width| Vec::<f32>::with_capacity(count * width));
    let places = buffers.each_mut().map(|buffer| Place(buffer.as_mut_ptr()));
    let results = ranges.par_iter().map(|range| {
        let parts = std::array::from_fn(|index| {
            let width = widths[index];
            // SAFETY: ranges do not overlap, as checked above, and lie within the capacity of `count` rows; zeros are
            // valid floats.
            unsafe {
                let first = places[index].row(range.start * width);
                first.write_bytes(0, range.len() * width);
                std::slice::from_raw_parts_mut(first, range.len() * width)
            }
        });
        work(range.clone(), parts)
    });
    let results = results.collect();
    for (buffer, width) in buffers.iter_mut().zip(widths) {
        // SAFETY: the ranges cover all rows, and each was written in full.
        unsafe { buffer.set_len(count * width) };
    }
    (buffers, results)
}

/// Where a buffer lies that several threads write to, each to different rows.
struct Place(*mut f32);

// SAFETY: the one user, `fill_rows`, hands out parts that do not overlap.
unsafe impl Sync for Place {}

impl Place {
    /// # Safety
    /// `offset` must lie within the buffer.
    unsafe fn row(&self, offset: usize) -> *mut f32 {
        unsafe { self.0.add(offset) }
    }
}

/// Calls `work` in parallel with every range and its rows of `target`, `width` floats each.
pub(crate) fn each_part(
    target: &mut [f32],
    ranges: &[Range<usize>],
    width: usize,
    work: impl Fn(Range<usize>, &mut [f32]) + Sync,
) {
    split_rows(target, ranges, width)
        .into_par_iter()
        .zip(ranges)
        .for_each(|(target, range)| work(range.clone(), target));
}

/// `size` sums to which `work` adds the share of every range, in parallel: each share starts from zeros, and the shares are
/// added in the order of the ranges.
pub(crate) fn sum_parts(
    ranges: &[Range<usize>],
    size: usize,
    work: impl Fn(Range<usize>, &mut [f32]) + Sync,
) -> Vec<f32> {
    let (_, shares) = fill_rows(ranges, [], |range, []| {
        let mut share = vec![0.0; size];
        work(range, &mut share);
        share
    });
    sum_shares(shares, size)
}

/// The sum of the shares of chunks, `size` floats each, added in their order.
pub(crate) fn sum_shares(shares: Vec<Vec<f32>>, size: usize) -> Vec<f32> {
    // Enough for a task to be worth its while. Every value is summed in the same order wherever the cuts are.
    const TASK: usize = 1 << 15;
    let mut shares = shares.into_iter();
    let Some(mut sum) = shares.next() else {
        return vec![0.0; size];
    };
    let rest: Vec<Vec<f32>> = shares.collect();
    sum.par_chunks_mut(TASK)
        .enumerate()
        .for_each(|(index, sum)| {
            for share in &rest {
                add(Level::detect(), &share[index * TASK..][..sum.len()], sum);
            }
        });
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn cover_everything_once(count in 0_usize..1000) {
            let chunks = chunks(count);
            prop_assert!(chunks.len() <= CHUNKS);
            prop_assert!(chunks.iter().all(|chunk| !chunk.is_empty()));
            prop_assert_eq!(chunks.into_iter().flatten().collect::<Vec<_>>(), (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn filled_rows_are_where_they_belong() {
        let ranges = chunks(37);
        let ([ones, pairs], results) = fill_rows(&ranges, [1, 2], |range, [ones, pairs]| {
            assert!(ones.iter().chain(&*pairs).all(|value| *value == 0.0));
            for (index, row) in range.clone().enumerate() {
                ones[index] = row as f32;
                pairs[2 * index + 1] = -(row as f32);
            }
            range.start
        });
        assert!((0..37).all(|row| ones[row] == row as f32
            && pairs[2 * row] == 0.0
            && pairs[2 * row + 1] == -(row as f32)));
        assert_eq!(
            results,
            ranges.iter().map(|range| range.start).collect::<Vec<_>>()
        );
        let ([none], results) = fill_rows(&[], [3], |_, _: [&mut [f32]; 1]| ());
        assert!(none.is_empty() && results.is_empty());
    }

    #[test]
    #[should_panic(expected = "do not follow")]
    fn ranges_with_a_gap_are_refused() {
        fill_rows(&[0..2, 3..4], [1], |_, _: [&mut [f32]; 1]| ());
    }

    #[test]
    fn shares_are_added_in_their_order() {
        let shares: Vec<Vec<f32>> = (0..5)
            .map(|share| {
                (0..70_001)
                    .map(|i| (i * 7 + share * 3) as f32 * 0.37)
                    .collect()
            })
            .collect();
        let plain = |index: usize| {
            shares
                .iter()
                .skip(1)
                .fold(shares[0][index], |sum, share| sum + share[index])
        };
        let expected: Vec<f32> = (0..70_001).map(plain).collect();
        assert_eq!(sum_shares(shares, 70_001), expected);
        assert_eq!(sum_shares(Vec::new(), 3), [0.0; 3]);
    }
}
