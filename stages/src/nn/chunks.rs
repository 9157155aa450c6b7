//! A batch cut into a fixed number of chunks: the unit of parallel work.
//! Partial sums belong to chunks and are added in their order, so bits do not depend on the number of threads.

use std::ops::Range;

/// The most chunks that a batch is cut into, whatever the number of threads.
pub const CHUNKS: usize = 16;

/// Consecutive ranges that cover `0..count`, at most [`CHUNKS`] of them, none empty, sizes differing by at most one.
pub fn chunks(count: usize) -> Vec<Range<usize>> {
    let parts = CHUNKS.min(count);
    (0..parts).map(|part| part * count / parts..(part + 1) * count / parts).collect()
}

/// The rows of each range, `width` floats each, to be written side by side. The ranges cover all rows in order.
pub fn split_rows<'a>(mut values: &'a mut [f32], ranges: &[Range<usize>], width: usize) -> Vec<&'a mut [f32]> {
    let mut parts = Vec::with_capacity(ranges.len());
    for range in ranges {
        let (part, rest) = values.split_at_mut(range.len() * width);
        parts.push(part);
        values = rest;
    }
    parts
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
}
