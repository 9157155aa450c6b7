//! The PNG back end: antialiased by tiny-skia, text from its outlines. Lean, since data sets of pictures come from here.

use tiny_skia::{FillRule, LineCap, LineJoin, Paint, PathBuilder, Pixmap, StrokeDash, Transform};

use super::canvas::{Anchor, Canvas, Color, Rect, Stroke, TextStyle, palette};
use super::font;

/// A picture of pixels.
pub struct Raster {
    pixmap: Pixmap,
}

impl Raster {
    /// A white picture.
    ///
    /// # Errors
    /// If a side is 0 or the picture does not fit into memory.
    pub fn new(width: u32, height: u32) -> Result<Self, String> {
        let mut pixmap = Pixmap::new(width, height)
            .ok_or_else(|| format!("a picture of {width} by {height} pixels cannot be made"))?;
        pixmap.fill(color(palette::PAPER, 1.0));
        Ok(Self { pixmap })
    }

    /// Red, green and blue of all pixels, row by row.
    pub fn rgb(&self) -> Vec<u8> {
        self.pixmap.data().chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect()
    }

    fn blend(&mut self, column: i32, row: i32, paint: Color, coverage: f32) {
        let (width, height) = (self.pixmap.width() as i32, self.pixmap.height() as i32);
        if !(0..width).contains(&column) || !(0..height).contains(&row) {
            return;
        }
        let at = (row * width + column) as usize * 4;
        let weight = (coverage.clamp(0.0, 1.0) * 256.0) as i32;
        for (channel, ink) in [paint.0, paint.1, paint.2].into_iter().enumerate() {
            let under = i32::from(self.pixmap.data()[at + channel]);
            let mixed = under + (((i32::from(ink) - under) * weight) >> 8);
            self.pixmap.data_mut()[at + channel] = mixed as u8;
        }
    }
}

fn color(Color(red, green, blue): Color, opacity: f32) -> tiny_skia::Color {
    tiny_skia::Color::from_rgba8(red, green, blue, (opacity.clamp(0.0, 1.0) * 255.0).round() as u8)
}

fn paint(ink: Color, opacity: f32) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color(color(ink, opacity));
    paint
}

impl Canvas for Raster {
    fn size(&self) -> (f32, f32) {
        (self.pixmap.width() as f32, self.pixmap.height() as f32)
    }

    fn fill_rect(&mut self, rect: Rect, ink: Color, opacity: f32) {
        let Some(rect) = tiny_skia::Rect::from_xywh(rect.left, rect.top, rect.width, rect.height) else { return };
        let path = PathBuilder::from_rect(rect);
        self.pixmap.fill_path(&path, &paint(ink, opacity), FillRule::Winding, Transform::identity(), None);
    }

    fn polyline(&mut self, points: &[(f32, f32)], stroke: Stroke) {
        let mut builder = PathBuilder::with_capacity(points.len(), points.len());
        for (index, (x, y)) in points.iter().enumerate() {
            if index == 0 { builder.move_to(*x, *y) } else { builder.line_to(*x, *y) }
        }
        let Some(path) = builder.finish() else { return };
        let dash =
            if stroke.dashed { StrokeDash::new(vec![stroke.width * 5.0, stroke.width * 3.0], 0.0) } else { None };
        let pen = tiny_skia::Stroke {
            width: stroke.width,
            line_cap: LineCap::Butt,
            line_join: LineJoin::Bevel,
            dash,
            ..tiny_skia::Stroke::default()
        };
        self.pixmap.stroke_path(&path, &paint(stroke.color, 1.0), &pen, Transform::identity(), None);
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
                self.blend(left + column as i32, top + row as i32, style.color, coverage);
            });
        }
    }

    fn finish(self: Box<Self>) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, self.pixmap.width(), self.pixmap.height());
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::Fast);
        let mut writer = encoder.write_header().map_err(|error| error.to_string())?;
        writer.write_image_data(&self.rgb()).map_err(|error| error.to_string())?;
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
        raster.fill_rect(Rect { left: 10.0, top: 5.0, width: 20.0, height: 10.0 }, palette::BLUE, 1.0);
        let stroke = Stroke { color: palette::VERMILION, width: 2.0, dashed: false };
        raster.polyline(&[(0.0, 19.0), (40.0, 19.0)], stroke);
        let rgb = raster.rgb();
        let pixel =
            |x: usize, y: usize| Color(rgb[(y * 40 + x) * 3], rgb[(y * 40 + x) * 3 + 1], rgb[(y * 40 + x) * 3 + 2]);
        assert_eq!(pixel(15, 10), palette::BLUE);
        assert_eq!(pixel(5, 10), palette::PAPER);
        assert_eq!(pixel(20, 18), palette::VERMILION);
        let bytes = Box::new(raster).finish().unwrap();
        assert_eq!(&bytes[1..4], b"PNG");
    }

    #[test]
    fn text_stays_inside_and_leaves_ink() {
        let mut raster = Raster::new(30, 20).unwrap();
        let style = TextStyle { size: 12.0, color: palette::TEXT, anchor: Anchor::Start };
        raster.text(-5.0, 2.0, "clipped on two sides", style);
        raster.text(2.0, 15.0, "0.5", style);
        assert!(raster.rgb().iter().filter(|value| **value < 100).count() > 30);
        assert!(Raster::new(0, 5).is_err());
    }
}
