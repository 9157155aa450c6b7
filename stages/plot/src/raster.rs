//! The PNG back end: antialiased, text from its outlines. Lean, since data sets of pictures come from here, and without
//! any arithmetic that depends on the processor.

use super::canvas::{Anchor, Canvas, Color, Rect, Stroke, TextStyle, palette};
use super::font;
use super::stroke::{self, Coverage};

/// A picture of pixels.
#[derive(Clone)]
pub struct Raster {
    width: usize,
    height: usize,
    /// `[height, width, 3]`: red, green, blue.
    pixels: Vec<u8>,
    compact: bool,
}

/// A shape that is drawn again and again, such as a character.
pub(super) struct Stamp {
    /// Where its corner lies from the place that it is put at.
    pub left: i32,
    pub top: i32,
    pub width: usize,
    /// Row-major, 0 to 255.
    pub coverage: Vec<u8>,
}

/// The weight of ink that covers a pixel as far as 0 to 255 say: 255 becomes 256.
fn weight(covered: u8) -> i32 {
    i32::from(covered) + i32::from(covered >> 7)
}

impl Raster {
    /// A white picture.
    ///
    /// # Errors
    /// If a side is 0 or the picture has more than 2^28 pixels.
    pub fn new(width: u32, height: u32) -> Result<Self, String> {
        let (width, height) = (width as usize, height as usize);
        let count = width
            .checked_mul(height)
            .filter(|count| (1..=1 << 28).contains(count));
        let count = count
            .ok_or_else(|| format!("a picture of {width} by {height} pixels cannot be made"))?;
        let Color(red, green, blue) = palette::PAPER;
        Ok(Self {
            width,
            height,
            pixels: [red, green, blue].repeat(count),
            compact: false,
        })
    }

    /// Lets the file be a fraction of the size, for ten times the time of encoding.
    #[must_use]
    pub fn compact(self) -> Self {
        Self {
            compact: true,
            ..self
        }
    }

    /// Red, green and blue of all pixels, row by row.
    pub fn rgb(&self) -> &[u8] {
        &self.pixels
    }

    /// Lays ink over the pixels that are covered.
    pub(super) fn ink(&mut self, coverage: &Coverage, ink: Color) {
        for (row, covered) in coverage.pixels.chunks_exact(coverage.width).enumerate() {
            let start = (row + coverage.top) * self.width + coverage.left;
            for (column, covered) in covered
                .iter()
                .enumerate()
                .filter(|(_, covered)| **covered > 0)
            {
                self.blend(start + column, ink, weight(*covered));
            }
        }
    }

    /// Puts a stamp at a place; what lies outside of the picture is not seen.
    pub(super) fn stamp(&mut self, stamp: &Stamp, x: i32, y: i32, ink: Color) {
        let place = |at: i32, offset: usize, limit: usize| {
            usize::try_from(at + offset as i32)
                .ok()
                .filter(|place| *place < limit)
        };
        for (row, covered) in stamp.coverage.chunks_exact(stamp.width.max(1)).enumerate() {
            let Some(row) = place(y + stamp.top, row, self.height) else {
                continue;
            };
            for (column, covered) in covered
                .iter()
                .enumerate()
                .filter(|(_, covered)| **covered > 0)
            {
                if let Some(column) = place(x + stamp.left, column, self.width) {
                    self.blend(row * self.width + column, ink, weight(*covered));
                }
            }
        }
    }

    /// Mixes ink into the pixel with this index; `weight` of 256 is ink alone.
    fn blend(&mut self, index: usize, ink: Color, weight: i32) {
        let pixel = &mut self.pixels[index * 3..index * 3 + 3];
        for (under, ink) in pixel.iter_mut().zip([ink.0, ink.1, ink.2]) {
            let below = i32::from(*under);
            *under = (below + (((i32::from(ink) - below) * weight + 128) >> 8)) as u8;
        }
    }
}

/// The share of the pixel at `index` between two edges.
fn overlap(index: usize, low: f32, high: f32) -> f32 {
    (high.min(index as f32 + 1.0) - low.max(index as f32)).clamp(0.0, 1.0)
}

impl Canvas for Raster {
    fn size(&self) -> (f32, f32) {
        (self.width as f32, self.height as f32)
    }

    fn fill_rect(&mut self, rect: Rect, color: Color, opacity: f32) {
        // Casting cuts negative numbers to 0.
        let rows = rect.top as usize..(rect.bottom().ceil() as usize).min(self.height);
        let columns = rect.left as usize..(rect.right().ceil() as usize).min(self.width);
        for row in rows {
            let height = overlap(row, rect.top, rect.bottom()) * opacity.clamp(0.0, 1.0) * 256.0;
            for column in columns.clone() {
                let weight = (overlap(column, rect.left, rect.right()) * height).round() as i32;
                self.blend(row * self.width + column, color, weight);
            }
        }
    }

    fn polyline(&mut self, points: &[(f32, f32)], stroke: Stroke) {
        if let Some(coverage) = stroke::cover(points, stroke, (self.width, self.height)) {
            self.ink(&coverage, stroke.color);
        }
    }

    fn text(&mut self, x: f32, y: f32, text: &str, style: TextStyle) {
        let start = match style.anchor {
            Anchor::Start => x,
            Anchor::Middle => x - font::width(text, style.size) / 2.0,
            Anchor::End => x - font::width(text, style.size),
        };
        // Whole pixels keep stems and baselines sharp.
        for glyph in font::outlines(text, style.size, start.round(), y.round()) {
            let corner = glyph.px_bounds().min;
            let (left, top) = (corner.x as i32, corner.y as i32);
            glyph.draw(|column, row, coverage| {
                let column = usize::try_from(left + column as i32)
                    .ok()
                    .filter(|column| *column < self.width);
                let row = usize::try_from(top + row as i32)
                    .ok()
                    .filter(|row| *row < self.height);
                if let (Some(column), Some(row)) = (column, row) {
                    let weight = (coverage.clamp(0.0, 1.0) * 256.0).round() as i32;
                    self.blend(row * self.width + column, style.color, weight);
                }
            });
        }
    }

    fn finish(self: Box<Self>) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        if self.compact {
            encoder.set_compression(png::Compression::Balanced);
            encoder.set_filter(png::Filter::NoFilter);
        } else {
            // Charts have the same pixel above more often than not, and no other filter is as fast.
            encoder.set_compression(png::Compression::Fast);
            encoder.set_filter(png::Filter::Up);
        }
        let mut writer = encoder.write_header().map_err(|error| error.to_string())?;
        writer
            .write_image_data(&self.pixels)
            .map_err(|error| error.to_string())?;
        writer.finish().map_err(|error| error.to_string())?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_what_and_where_it_is_told() {
        let mut raster = Raster::new(40, 20).unwrap();
        raster.fill_rect(
            Rect {
                left: 10.0,
                top: 5.0,
                width: 20.0,
                height: 10.0,
            },
            palette::BLUE,
            1.0,
        );
        let stroke = Stroke {
            color: palette::VERMILION,
            width: 2.0,
            dashed: false,
        };
        raster.polyline(&[(0.0, 19.0), (40.0, 19.0)], stroke);
        let rgb = raster.rgb();
        let pixel = |x: usize, y: usize| {
            Color(
                rgb[(y * 40 + x) * 3],
                rgb[(y * 40 + x) * 3 + 1],
                rgb[(y * 40 + x) * 3 + 2],
            )
        };
        assert_eq!(pixel(15, 10), palette::BLUE);
        assert_eq!(pixel(5, 10), palette::PAPER);
        assert_eq!(pixel(20, 18), palette::VERMILION);
        let bytes = Box::new(raster).finish().unwrap();
        assert_eq!(&bytes[1..4], b"PNG");
    }

    #[test]
    fn text_stays_inside_and_leaves_ink() {
        let mut raster = Raster::new(30, 20).unwrap();
        let style = TextStyle {
            size: 12.0,
            color: palette::TEXT,
            anchor: Anchor::Start,
        };
        raster.text(-5.0, 2.0, "clipped on two sides", style);
        raster.text(2.0, 15.0, "0.5", style);
        assert!(raster.rgb().iter().filter(|value| **value < 100).count() > 30);
        assert!(Raster::new(0, 5).is_err());
    }
}
