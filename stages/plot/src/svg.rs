//! The SVG back end: the same plots as text, for papers and zooming.

use std::fmt::Write;

use super::canvas::{Anchor, Canvas, Color, Rect, Stroke, TextStyle, palette};

/// An image of shapes.
pub struct Svg {
    width: f32,
    height: f32,
    body: String,
}

impl Svg {
    /// A white image.
    pub fn new(width: u32, height: u32) -> Self {
        let mut svg = Self {
            width: width as f32,
            height: height as f32,
            body: String::new(),
        };
        svg.fill_rect(
            Rect {
                left: 0.0,
                top: 0.0,
                width: svg.width,
                height: svg.height,
            },
            palette::PAPER,
            1.0,
        );
        svg
    }

    fn add(&mut self, arguments: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.body.write_fmt(arguments);
        self.body.push('\n');
    }
}

/// A coordinate with at most two decimals.
struct Short(f32);

impl std::fmt::Display for Short {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rounded = (f64::from(self.0) * 100.0).round() / 100.0;
        write!(formatter, "{}", rounded + 0.0)
    }
}

impl std::fmt::Display for Color {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "#{:02x}{:02x}{:02x}", self.0, self.1, self.2)
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            character if character.is_control() => escaped.push(' '),
            character => escaped.push(character),
        }
    }
    escaped
}

impl Canvas for Svg {
    fn size(&self) -> (f32, f32) {
        (self.width, self.height)
    }

    fn fill_rect(&mut self, rect: Rect, color: Color, opacity: f32) {
        let (left, top, width, height) = (
            Short(rect.left),
            Short(rect.top),
            Short(rect.width),
            Short(rect.height),
        );
        let opacity = if opacity < 1.0 {
            format!(" fill-opacity=\"{}\"", Short(opacity))
        } else {
            String::new()
        };
        self.add(format_args!(
            "<rect x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{height}\" fill=\"{color}\"{opacity}/>"
        ));
    }

    fn polyline(&mut self, points: &[(f32, f32)], stroke: Stroke) {
        let mut list = String::with_capacity(points.len() * 12);
        for (x, y) in points {
            let _ = write!(list, "{},{} ", Short(*x), Short(*y));
        }
        let dash = if stroke.dashed {
            format!(
                " stroke-dasharray=\"{} {}\"",
                Short(stroke.width * 5.0),
                Short(stroke.width * 3.0)
            )
        } else {
            String::new()
        };
        self.add(format_args!(
            "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"{}\" stroke-linejoin=\"bevel\"{dash} points=\"{}\"/>",
            stroke.color,
            Short(stroke.width),
            list.trim_end()
        ));
    }

    fn text(&mut self, x: f32, y: f32, text: &str, style: TextStyle) {
        let anchor = match style.anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.add(format_args!(
            "<text x=\"{}\" y=\"{}\" font-size=\"{}\" fill=\"{}\" text-anchor=\"{anchor}\">{}</text>",
            Short(x),
            Short(y),
            Short(style.size),
            style.color,
            escape(text)
        ));
    }

    fn finish(self: Box<Self>) -> Result<Vec<u8>, String> {
        let (width, height) = (Short(self.width), Short(self.height));
        let head = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
             font-family=\"'DejaVu Sans', Verdana, sans-serif\">\n"
        );
        Ok([head.as_str(), &self.body, "</svg>\n"]
            .concat()
            .into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_shapes_and_escapes_text() {
        let mut svg = Svg::new(20, 10);
        svg.polyline(
            &[(0.0, 1.0), (2.005, 3.5)],
            Stroke::dashed(palette::BLUE, 1.5),
        );
        svg.text(
            1.0,
            2.0,
            "a < b & \"c\"",
            TextStyle::new(9.0, palette::TEXT).ending(),
        );
        let text = String::from_utf8(Box::new(svg).finish().unwrap()).unwrap();
        assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"));
        assert!(
            text.contains("stroke=\"#0072b2\"") && text.contains("stroke-dasharray=\"7.5 4.5\"")
        );
        assert!(
            text.contains("points=\"0,1 2,3.5\"") || text.contains("points=\"0,1 2.01,3.5\""),
            "{text}"
        );
        assert!(text.contains("a &lt; b &amp; &quot;c&quot;"));
    }
}
