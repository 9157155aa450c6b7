//! Antialiased lines: each pixel is covered as far as its centre lies within half the width of the nearest segment.
//! Many times faster than filling outlines when a line has more segments than the image has columns.

use super::canvas::Stroke;

/// How much of each pixel a line covers, for a rectangle of pixels.
pub struct Coverage {
    pub left: usize,
    pub top: usize,
    pub width: usize,
    /// Row-major, 0 to 255.
    pub pixels: Vec<u8>,
}

/// The coverage of a polyline inside an image of this size; `None` if there is nothing to see.
pub fn cover(points: &[(f32, f32)], stroke: Stroke, size: (usize, usize)) -> Option<Coverage> {
    let reach = stroke.width / 2.0 + 0.5;
    let mut coverage = Coverage::around(points, reach, size)?;
    if stroke.dashed {
        dashes(
            points,
            stroke.width * 5.0,
            stroke.width * 4.0,
            |from, to| coverage.segment(from, to, stroke.width),
        );
    } else {
        for pair in points.windows(2) {
            coverage.segment(pair[0], pair[1], stroke.width);
        }
    }
    Some(coverage)
}

impl Coverage {
    fn around(points: &[(f32, f32)], reach: f32, (width, height): (usize, usize)) -> Option<Self> {
        if points.len() < 2 || points.iter().any(|(x, y)| !x.is_finite() || !y.is_finite()) {
            return None;
        }
        let (mut low, mut high) = (points[0], points[0]);
        for (x, y) in points {
            low = (low.0.min(*x), low.1.min(*y));
            high = (high.0.max(*x), high.1.max(*y));
        }
        // Casting cuts negative numbers to 0.
        let (left, top) = ((low.0 - reach) as usize, (low.1 - reach) as usize);
        let right = ((high.0 + reach).ceil() as usize).min(width);
        let bottom = ((high.1 + reach).ceil() as usize).min(height);
        if left >= right || top >= bottom {
            return None;
        }
        Some(Self {
            left,
            top,
            width: right - left,
            pixels: vec![0; (right - left) * (bottom - top)],
        })
    }

    /// Covers the pixels near a segment, where they are not covered more already.
    fn segment(&mut self, from: (f32, f32), to: (f32, f32), width: f32) {
        let (start_x, start_y) = (from.0 - self.left as f32, from.1 - self.top as f32);
        let (along_x, along_y) = (to.0 - from.0, to.1 - from.1);
        let length = (along_x * along_x + along_y * along_y).sqrt();
        let (unit_x, unit_y) = if length > 0.0 {
            (along_x / length, along_y / length)
        } else {
            (1.0, 0.0)
        };
        let reach = width / 2.0 + 0.5;
        let low_x = start_x.min(start_x + along_x) - reach;
        let high_x = start_x.max(start_x + along_x) + reach;
        let low_y = start_y.min(start_y + along_y) - reach;
        let high_y = start_y.max(start_y + along_y) + reach;
        let rows = self.pixels.len() / self.width;
        // Lines thinner than a pixel are as wide, and fainter.
        let strength = width.min(1.0) * 255.0;
        for row in low_y as usize..(high_y.ceil() as usize).min(rows) {
            let y = row as f32 + 0.5 - start_y;
            // Where this row is near the whole line through the segment.
            let (mut left, mut right) = (low_x, high_x);
            if unit_y.abs() > 1e-3 {
                let (middle, half) = (start_x + y * unit_x / unit_y, reach / unit_y.abs());
                (left, right) = (left.max(middle - half), right.min(middle + half));
            }
            let columns = left as usize..(right.ceil().max(0.0) as usize).min(self.width);
            for column in columns {
                let x = column as f32 + 0.5 - start_x;
                let along = (x * unit_x + y * unit_y).clamp(0.0, length);
                let (off_x, off_y) = (x - along * unit_x, y - along * unit_y);
                let distance = (off_x * off_x + off_y * off_y).sqrt();
                let covered = ((reach - distance).clamp(0.0, 1.0) * strength) as u8;
                let pixel = &mut self.pixels[row * self.width + column];
                *pixel = covered.max(*pixel);
            }
        }
    }
}

/// Calls back with the pieces of a dashed line.
fn dashes(points: &[(f32, f32)], on: f32, off: f32, mut piece: impl FnMut((f32, f32), (f32, f32))) {
    let period = (on + off).max(1.0);
    let mut start = 0.0;
    for pair in points.windows(2) {
        let (along_x, along_y) = (pair[1].0 - pair[0].0, pair[1].1 - pair[0].1);
        let length = (along_x * along_x + along_y * along_y).sqrt();
        if length <= 0.0 {
            continue;
        }
        let at = |distance: f32| {
            let share = (distance / length).clamp(0.0, 1.0);
            (pair[0].0 + share * along_x, pair[0].1 + share * along_y)
        };
        // Dashes are counted from the start of the whole line, so that they run on around its corners.
        let first = (start / period).floor() as usize;
        let last = ((start + length) / period).floor() as usize;
        for dash in first..=last {
            let from = dash as f32 * period - start;
            let to = dash as f32 * period + on - start;
            if to > 0.0 && from < length {
                piece(at(from), at(to));
            }
        }
        start += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::palette;

    fn covered(points: &[(f32, f32)], width: f32, dashed: bool) -> Vec<u8> {
        let mut image = vec![0; 40 * 20];
        let mut stroke = Stroke::solid(palette::BLUE, width);
        stroke.dashed = dashed;
        if let Some(coverage) = cover(points, stroke, (40, 20)) {
            for (row, pixels) in coverage.pixels.chunks(coverage.width).enumerate() {
                let at = (row + coverage.top) * 40 + coverage.left;
                image[at..at + pixels.len()].copy_from_slice(pixels);
            }
        }
        image
    }

    #[test]
    fn a_line_on_pixel_centres_is_sharp() {
        let image = covered(&[(5.0, 10.5), (35.0, 10.5)], 1.0, false);
        assert!((5..35).all(|x| image[10 * 40 + x] == 255
            && image[9 * 40 + x] == 0
            && image[11 * 40 + x] == 0));
    }

    #[test]
    fn ink_is_length_times_width_in_every_direction() {
        for (to, length) in [
            ((35.0, 10.0), 30.0_f32),
            ((20.0, 17.0), 16.553),
            ((5.5, 17.0), 7.018),
        ] {
            let ink: f32 = covered(&[(5.0, 10.0), to], 2.0, false)
                .iter()
                .map(|value| f32::from(*value) / 255.0)
                .sum();
            // Round ends add the area of a circle.
            let area = length * 2.0 + std::f32::consts::PI;
            assert!((ink / area - 1.0).abs() < 0.06, "{to:?}: {ink} {area}");
        }
    }

    #[test]
    fn stays_inside_and_leaves_gaps() {
        let image = covered(&[(-100.0, 5.5), (100.0, 5.5)], 1.0, true);
        let row = &image[5 * 40..6 * 40];
        assert!(row.contains(&255) && row.contains(&0));
        assert!(
            covered(&[(-9.0, -9.0), (-5.0, -5.0)], 1.0, false)
                .iter()
                .all(|value| *value == 0)
        );
        assert!(
            covered(&[(f32::NAN, 1.0), (2.0, 2.0)], 1.0, false)
                .iter()
                .all(|value| *value == 0)
        );
        assert!(
            covered(&[(50.0, 90.0), (60.0, 95.0)], 1.0, false)
                .iter()
                .all(|value| *value == 0)
        );
    }
}
