//! Long lines made short without changing what is seen: the extremes of each pixel column stay; and where a line has gaps.

/// The points of a line to draw. `position` maps an index of `values` to pixels, rising; `height` maps a value.
///
/// Where a column of pixels holds several values, these are drawn from the first over the lowest and the highest, in
/// their order, to the last.
pub fn points<T: Copy + PartialOrd>(
    values: &[T],
    position: impl Fn(usize) -> f32,
    height: impl Fn(T) -> f32,
) -> Vec<(f32, f32)> {
    let mut points = Vec::new();
    let mut start = 0;
    while start < values.len() {
        let column = position(start).floor();
        let mut end = start + 1;
        while end < values.len() && position(end).floor() == column {
            end += 1;
        }
        let (mut low, mut high) = (start, start);
        for index in start..end {
            if values[index] < values[low] {
                low = index;
            }
            if values[index] > values[high] {
                high = index;
            }
        }
        let mut kept = vec![start, low.min(high), low.max(high), end - 1];
        kept.dedup();
        // Dense columns are drawn along their middles, which leaves no pale gaps between them.
        let dense = end - start > kept.len();
        for index in kept {
            let across = if dense { column + 0.5 } else { position(index) };
            points.push((across, height(values[index])));
        }
        start = end;
    }
    points
}

/// The stretches of some rows whose values are known.
pub fn known(values: &[f64], rows: std::ops::Range<usize>) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    let mut start = rows.start;
    for stretch in values[rows].chunk_by(|one, next| one.is_nan() == next.is_nan()) {
        let end = start + stretch.len();
        if !stretch[0].is_nan() {
            found.push(start..end);
        }
        start = end;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_not_drawn_where_values_are_unknown() {
        let unknown = f64::NAN;
        assert_eq!(
            known(&[unknown, 1.0, 2.0, unknown, 3.0], 0..5),
            [1..3, 4..5]
        );
        assert_eq!(
            known(&[1.0, 2.0, unknown], 1..3),
            std::slice::from_ref(&(1..2))
        );
        assert!(known(&[unknown], 0..1).is_empty() && known(&[], 0..0).is_empty());
    }

    #[test]
    fn keeps_extremes_and_few_points() {
        let mut values: Vec<f32> = (0..10_000)
            .map(|index| (index as f32 * 0.01).sin())
            .collect();
        values[5003] = 9.0;
        values[7777] = -9.0;
        let points = points(&values, |index| index as f32 / 100.0, |value| value);
        assert!(points.len() <= 400);
        for extreme in [9.0, -9.0] {
            assert!(points.iter().any(|(_, y)| *y == extreme));
        }
        assert_eq!(points.first().unwrap().0, 0.5);
        assert_eq!(points.last().unwrap().0, 99.5);
        assert!(points.windows(2).all(|pair| pair[0].0 <= pair[1].0));
    }

    #[test]
    fn leaves_short_lines_alone() {
        let points = points(&[1.0, 2.0, 0.0], |index| index as f32 * 10.0, |value| value);
        assert_eq!(points, [(0.0, 1.0), (10.0, 2.0), (20.0, 0.0)]);
    }
}
