//! What every back end can draw: rectangles, lines and text. Coordinates are pixels from the top left corner.

/// An opaque sRGB colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Color(pub u8, pub u8, pub u8);

/// Colours that stay apart for colour-blind readers (Okabe and Ito, 2008), and greys with good contrast on white.
pub mod palette {
    use super::Color;

    pub const BLUE: Color = Color(0, 114, 178);
    pub const VERMILION: Color = Color(213, 94, 0);
    pub const ORANGE: Color = Color(230, 159, 0);
    pub const GREEN: Color = Color(0, 128, 96);
    pub const PURPLE: Color = Color(163, 73, 164);
    pub const TEXT: Color = Color(33, 37, 41);
    pub const FAINT_TEXT: Color = Color(92, 99, 106);
    pub const FRAME: Color = Color(134, 142, 150);
    pub const GRID: Color = Color(228, 231, 235);
    pub const PAPER: Color = Color(255, 255, 255);
}

/// A rectangle by its corner, width and height.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rect {
    pub left: f32,
    pub top: f32,
    pub width: f32,
    pub height: f32,
}

impl Rect {
    pub fn right(self) -> f32 {
        self.left + self.width
    }

    pub fn bottom(self) -> f32 {
        self.top + self.height
    }
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stroke {
    pub color: Color,
    pub width: f32,
    pub dashed: bool,
}

impl Stroke {
    pub const fn solid(color: Color, width: f32) -> Self {
        Self {
            color,
            width,
            dashed: false,
        }
    }

    pub const fn dashed(color: Color, width: f32) -> Self {
        Self {
            color,
            width,
            dashed: true,
        }
    }
}

/// Which point of a text its position means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// How text is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TextStyle {
    /// Pixels per em.
    pub size: f32,
    pub color: Color,
    pub anchor: Anchor,
}

impl TextStyle {
    /// Text that starts at its position.
    pub const fn new(size: f32, color: Color) -> Self {
        Self {
            size,
            color,
            anchor: Anchor::Start,
        }
    }

    #[must_use]
    pub const fn centered(self) -> Self {
        Self {
            anchor: Anchor::Middle,
            ..self
        }
    }

    /// Text that ends at its position.
    #[must_use]
    pub const fn ending(self) -> Self {
        Self {
            anchor: Anchor::End,
            ..self
        }
    }
}

/// A surface to draw on, white at first.
pub trait Canvas {
    /// Width and height in pixels.
    fn size(&self) -> (f32, f32);
    /// Fills a rectangle; `opacity` is between 0 and 1.
    fn fill_rect(&mut self, rect: Rect, color: Color, opacity: f32);
    /// Draws lines from point to point.
    fn polyline(&mut self, points: &[(f32, f32)], stroke: Stroke);
    /// Writes one line of text; `y` is its baseline.
    fn text(&mut self, x: f32, y: f32, text: &str, style: TextStyle);
    /// The bytes of the image file.
    fn finish(self: Box<Self>) -> Result<Vec<u8>, String>;
}
