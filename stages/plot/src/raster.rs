//! The PNG back end: antialiased, text from its outlines. Lean, since data sets of images come from here, and without
//! any arithmetic that depends on the processor.

use super::canvas::{Anchor, Canvas, Color, Rect, Stroke, TextStyle, palette};
use super::font;
use super::stroke::{self, Coverage};

/// An image of pixels.
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
    /// A white image.
    ///
    /// # Errors
    /// If a side is 0 or the image has more than 2^28 pixels.
    pub fn new(width: u32, height: u32) -> Result<Self, String> {
        let (width, height) = (width as usize, height as usize);
        let count = width.saturating_mul(height);
        if !(1..=1 << 28).contains(&count) {
            return Err(format!(
                "an image of {width} by {height} pixels cannot be made"
            ));
        }
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
            for (column, covered) in covered.iter().enumerate() {
                if *covered > 0 {
                    self.blend(start + column, ink, weight(*covered));
                }
            }
        }
    }

    /// Puts a stamp at a place; what lies outside of the image is not seen.
    pub(super) fn stamp(&mut self, stamp: &Stamp, x: i32, y: i32, ink: Color) {
        let (left, top) = (x + stamp.left, y + stamp.top);
        for (row, covered) in stamp.coverage.chunks_exact(stamp.width.max(1)).enumerate() {
            for (column, covered) in covered.iter().enumerate() {
                if *covered > 0
                    && let Some(index) = self.index(left + column as i32, top + row as i32)
                {
                    self.blend(index, ink, weight(*covered));
                }
            }
        }
    }

    /// The pixel at a place, if that lies inside of the image.
    fn index(&self, column: i32, row: i32) -> Option<usize> {
        let column = usize::try_from(column).ok()?;
        let row = usize::try_from(row).ok()?;
        (column < self.width && row < self.height).then_some(row * self.width + column)
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
                if let Some(index) = self.index(left + column as i32, top + row as i32) {
                    let weight = (coverage.clamp(0.0, 1.0) * 256.0).round() as i32;
                    self.blend(index, style.color, weight);
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
        let written = encoder.write_header().and_then(|mut writer| {
            writer.write_image_data(&self.pixels)?;
            writer.finish()
        });
        match written {
            Ok(()) => Ok(bytes),
            Err(error) => Err(error.to_string()),
        }
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
        raster.polyline(
            &[(0.0, 19.0), (40.0, 19.0)],
            Stroke::solid(palette::VERMILION, 2.0),
        );
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
        let style = TextStyle::new(12.0, palette::TEXT);
        raster.text(-5.0, 2.0, "clipped on two sides", style);
        raster.text(2.0, 15.0, "0.5", style);
        assert!(raster.rgb().iter().filter(|value| **value < 100).count() > 30);
        assert!(Raster::new(0, 5).is_err());
    }
}
