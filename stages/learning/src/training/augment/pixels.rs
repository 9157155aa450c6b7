//! One image in memory, and its values at places between pixels.

/// The planes of an image's colours, `[colours, height, width]`, values from 0 to 1.
pub struct Pixels<'a> {
    pub height: usize,
    pub width: usize,
    pub values: &'a mut [f32],
}

impl Pixels<'_> {
    /// Moves every pixel: `place` says for a row and a column, counted from the centre, where its value is found.
    /// Values between pixels are interpolated; beyond the border lie those of the nearest pixel.
    pub fn warp(&mut self, place: impl Fn(f64, f64) -> (f64, f64)) {
        let (height, width) = (self.height, self.width);
        let (middle, centre) = ((height - 1) as f64 / 2.0, (width - 1) as f64 / 2.0);
        let source = self.values.to_vec();
        for row in 0..height {
            for column in 0..width {
                let (down, right) = place(row as f64 - middle, column as f64 - centre);
                let (upper, lower, down) = neighbours(down + middle, height);
                let (left, other, right) = neighbours(right + centre, width);
                let planes = self.values.chunks_exact_mut(height * width);
                for (plane, source) in planes.zip(source.chunks_exact(height * width)) {
                    // First along both rows, then between them.
                    let [upper, lower] = [upper, lower].map(|row| {
                        let row = &source[row * width..(row + 1) * width];
                        row[left] + (row[other] - row[left]) * right
                    });
                    plane[row * width + column] = upper + (lower - upper) * down;
                }
            }
        }
    }

    /// Replaces every value, and keeps it between 0 and 1.
    pub fn change(&mut self, mut value: impl FnMut(f32) -> f32) {
        for own in self.values.iter_mut() {
            *own = value(*own).clamp(0.0, 1.0);
        }
    }
}

/// The pixels around a place and the share of the second one.
fn neighbours(place: f64, count: usize) -> (usize, usize, f32) {
    let place = place.clamp(0.0, (count - 1) as f64);
    let first = place.floor();
    let index = first as usize;
    (index, (index + 1).min(count - 1), (place - first) as f32)
}
