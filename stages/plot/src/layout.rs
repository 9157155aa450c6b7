//! What charts, matrices, rankings and graphs share: sizes of text, margins, title and subtitle, the frame of an area.

use super::canvas::{Canvas, Rect, Stroke, TextStyle, palette};
use super::font;

const TITLE: f32 = 15.0;
pub const TEXT: f32 = 12.0;
pub const SMALL: f32 = 11.0;
/// Free space around everything.
pub const MARGIN: f32 = 14.0;
/// From the middle of a line of digits down to its baseline, in ems.
pub const HALF_DIGIT: f32 = 0.36;

pub const BODY: TextStyle = TextStyle::new(TEXT, palette::TEXT);
pub const FAINT_BODY: TextStyle = TextStyle::new(TEXT, palette::FAINT_TEXT);
pub const LABEL: TextStyle = TextStyle::new(SMALL, palette::TEXT);
pub const FAINT_LABEL: TextStyle = TextStyle::new(SMALL, palette::FAINT_TEXT);

pub const GRID: Stroke = Stroke::solid(palette::GRID, 1.0);
pub const FRAME: Stroke = Stroke::solid(palette::FRAME, 1.0);

/// Title and subtitle over the whole width; gives the last baseline.
pub fn draw_head(canvas: &mut dyn Canvas, title: &str, subtitle: &str) -> f32 {
    let room = canvas.size().0 - 2.0 * MARGIN;
    let mut baseline = MARGIN;
    if !title.is_empty() {
        baseline += TITLE * 0.85;
        let style = TextStyle::new(TITLE, palette::TEXT);
        canvas.text(MARGIN, baseline, &font::fit(title, TITLE, room), style);
        baseline += 5.0;
    }
    for line in font::wrap(subtitle, TEXT, room, 2) {
        baseline += TEXT + 2.0;
        canvas.text(MARGIN, baseline, &line, FAINT_BODY);
    }
    baseline
}

/// The left and the lower edge of an area, just outside of it.
pub fn draw_frame(canvas: &mut dyn Canvas, area: Rect) {
    // A line of one pixel is sharp only in the middle of a pixel.
    let (left, bottom) = (area.left.round() - 0.5, area.bottom().round() + 0.5);
    let corner = [(left, area.top), (left, bottom), (area.right(), bottom)];
    canvas.polyline(&corner, FRAME);
}

/// The least and the greatest of some numbers; the least is infinite if there is none.
pub fn span(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values {
        (low, high) = (low.min(value), high.max(value));
    }
    (low, high)
}
