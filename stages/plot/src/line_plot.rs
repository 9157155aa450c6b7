//! A line plot in the look that matplotlib gives it by default: margins around the axes, frame, ticks with labels, colours
//! and widths of lines. Made for data sets of many images: what all of them share is drawn once.

use std::collections::BTreeMap;

use super::canvas::{Canvas, Color, Rect, Stroke};
use super::layout::span;
use super::raster::{Raster, Stamp};
use super::{decimate, font, locator, stroke};

/// Colours of the first to the tenth line: matplotlib's `tab10`.
const COLORS: [Color; 10] = [
    Color(0x1f, 0x77, 0xb4),
    Color(0xff, 0x7f, 0x0e),
    Color(0x2c, 0xa0, 0x2c),
    Color(0xd6, 0x27, 0x28),
    Color(0x94, 0x67, 0xbd),
    Color(0x8c, 0x56, 0x4b),
    Color(0xe3, 0x77, 0xc2),
    Color(0x7f, 0x7f, 0x7f),
    Color(0xbc, 0xbd, 0x22),
    Color(0x17, 0xbe, 0xcf),
];

const BLACK: Color = Color(0, 0, 0);

/// Where the axes lie in the image, from its left and its bottom.
const LEFT: f32 = 0.125;
const RIGHT: f32 = 0.9;
const BOTTOM: f32 = 0.11;
const TOP: f32 = 0.88;

/// Lengths in points, of which an inch has 72.
const FRAME: f32 = 0.8;
const TICK: f32 = 3.5;
const PAD: f32 = 3.5;
const FONT: f32 = 10.0;

/// Heights of a line of text above its baseline in ems: of tall letters, and of the middle of a digit.
const ASCENT: f32 = 0.76;
const MIDDLE: f32 = 0.38;

/// The free space around the data, relative to their range.
const MARGIN: f64 = 0.05;

/// What labels consist of.
const CHARACTERS: [char; 14] = [
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '.', '−', '+', 'e',
];

/// What can be chosen about a line plot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinePlotStyle {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Pixels of an inch: it scales lines and text.
    pub dpi: f32,
    /// In points.
    pub line_width: f32,
    /// Frame, ticks and labels; without them the lines have the whole image.
    pub axes: bool,
}

/// A plotter for many images of one style.
pub struct LinePlot {
    style: LinePlotStyle,
    /// The inside of the frame.
    area: Rect,
    /// White with the frame.
    background: Raster,
    glyphs: BTreeMap<char, Glyph>,
}

/// A character at the size of the labels.
struct Glyph {
    /// How far the next character is.
    advance: f32,
    ink: Option<Stamp>,
}

impl LinePlot {
    /// # Errors
    /// If no image of this size can be made.
    pub fn new(style: LinePlotStyle) -> Result<Self, String> {
        let mut background = Raster::new(style.width, style.height)?;
        let (width, height) = background.size();
        let area = if style.axes {
            let (left, top) = (LEFT * width, (1.0 - TOP) * height);
            Rect {
                left,
                top,
                width: (RIGHT - LEFT) * width,
                height: (TOP - BOTTOM) * height,
            }
        } else {
            Rect {
                left: 0.0,
                top: 0.0,
                width,
                height,
            }
        };
        let points = style.dpi / 72.0;
        if style.axes {
            let [left, right, top, bottom] =
                [area.left, area.right(), area.top, area.bottom()].map(middle_of_pixel);
            let frame = [
                (left, top),
                (right, top),
                (right, bottom),
                (left, bottom),
                (left, top),
            ];
            let stroke = Stroke::solid(BLACK, FRAME * points);
            draw_line(&mut background, &frame, stroke);
        }
        let glyphs = CHARACTERS
            .map(|character| (character, Glyph::new(character, FONT * points)))
            .into();
        Ok(Self {
            style,
            area,
            background,
            glyphs,
        })
    }

    /// Draws lines over 0, 1, 2, …: each `values` is `[rows, channels]`, row-major, and each channel is a line.
    pub fn draw(&self, values: &[f32], channels: usize) -> Raster {
        let mut raster = self.background.clone();
        let channels = channels.max(1);
        let rows = values.len() / channels;
        let across = Axis::around(0.0, rows.saturating_sub(1) as f64);
        let (low, high) = span(values.iter().map(|value| f64::from(*value)));
        let up = if low <= high {
            Axis::around(low, high)
        } else {
            Axis::around(0.0, 0.0)
        };
        if self.style.axes {
            self.draw_marks_across(&mut raster, &across);
            self.draw_marks_up(&mut raster, &up);
        }
        let width = self.style.line_width * self.points();
        let mut line: Vec<f32> = Vec::with_capacity(rows);
        for channel in 0..channels {
            line.clear();
            line.extend(values.iter().skip(channel).step_by(channels));
            let points = decimate::points(
                &line,
                |row| self.x(&across, row as f64),
                |value| self.y(&up, f64::from(value)),
            );
            let color = COLORS[channel % COLORS.len()];
            draw_line(&mut raster, &points, Stroke::solid(color, width));
        }
        raster
    }

    /// Pixels of a point.
    fn points(&self) -> f32 {
        self.style.dpi / 72.0
    }

    fn x(&self, axis: &Axis, value: f64) -> f32 {
        self.area.left + axis.share(value) as f32 * self.area.width
    }

    fn y(&self, axis: &Axis, value: f64) -> f32 {
        self.area.bottom() - axis.share(value) as f32 * self.area.height
    }

    /// A mark for every width of three characters.
    fn draw_marks_across(&self, raster: &mut Raster, axis: &Axis) {
        let spaces = spaces(self.area.width / self.points(), 3.0);
        let (marks, note) = axis.marks(spaces);
        let (top, length) = (self.area.bottom(), TICK * self.points());
        let baseline = top + length + (PAD + ASCENT * FONT) * self.points();
        for (mark, text) in &marks {
            let x = self.x(axis, *mark);
            let sharp = middle_of_pixel(x);
            self.tick(raster, (sharp, top), (sharp, top + length));
            self.write(raster, text, x - self.width(text) / 2.0, baseline);
        }
        let below = baseline + (PAD + FONT) * self.points();
        self.write(raster, &note, self.area.right() - self.width(&note), below);
    }

    /// A mark for every two lines of text.
    fn draw_marks_up(&self, raster: &mut Raster, axis: &Axis) {
        let spaces = spaces(self.area.height / self.points(), 2.0);
        let (marks, note) = axis.marks(spaces);
        let (right, length) = (self.area.left, TICK * self.points());
        for (mark, text) in &marks {
            let y = self.y(axis, *mark);
            let sharp = middle_of_pixel(y);
            self.tick(raster, (right - length, sharp), (right, sharp));
            let start = right - length - PAD * self.points() - self.width(text);
            self.write(raster, text, start, y + MIDDLE * FONT * self.points());
        }
        let above = self.area.top - PAD * self.points();
        self.write(raster, &note, self.area.left, above);
    }

    fn tick(&self, raster: &mut Raster, from: (f32, f32), to: (f32, f32)) {
        // Ticks end bluntly at the frame: the stroke reaches half its width beyond its ends.
        let reach = FRAME * self.points() / 2.0;
        let (from, to) = if from.1 == to.1 {
            ((from.0 + reach, from.1), (to.0 - reach, to.1))
        } else {
            ((from.0, from.1 + reach), (to.0, to.1 - reach))
        };
        let stroke = Stroke::solid(BLACK, FRAME * self.points());
        draw_line(raster, &[from, to], stroke);
    }

    /// What of a text has a glyph.
    fn glyphs_of(&self, text: &str) -> impl Iterator<Item = &Glyph> {
        text.chars()
            .filter_map(|character| self.glyphs.get(&character))
    }

    fn width(&self, text: &str) -> f32 {
        self.glyphs_of(text).map(|glyph| glyph.advance).sum()
    }

    fn write(&self, raster: &mut Raster, text: &str, start: f32, baseline: f32) {
        // Whole pixels for the start of the text, as matplotlib has it, and for each character, as hinting would.
        let (mut at, baseline) = (start.round(), baseline.round() as i32);
        for glyph in self.glyphs_of(text) {
            if let Some(ink) = &glyph.ink {
                raster.stamp(ink, at.round() as i32, baseline, BLACK);
            }
            at += glyph.advance;
        }
    }
}

impl Glyph {
    fn new(character: char, size: f32) -> Self {
        let text = character.to_string();
        let ink = font::outlines(&text, size, 0.0, 0.0).pop().map(|outline| {
            let bounds = outline.px_bounds();
            let (width, height) = (bounds.width() as usize, bounds.height() as usize);
            let mut coverage = vec![0; width * height];
            outline.draw(|column, row, covered| {
                let covered = (covered.clamp(0.0, 1.0) * 255.0).round() as u8;
                coverage[row as usize * width + column as usize] = in_levels(covered);
            });
            Stamp {
                left: bounds.min.x as i32,
                top: bounds.min.y as i32,
                width,
                coverage,
            }
        });
        Self {
            advance: font::width(&text, size),
            ink,
        }
    }
}

/// Pixels are covered in so many steps: few enough for all colours of a plot to fit into a palette, which makes its file
/// a quarter as large, and too many to be seen.
const LEVELS: u32 = 63;

fn in_levels(covered: u8) -> u8 {
    let level = (u32::from(covered) * LEVELS + 127) / 255;
    ((level * 255 + LEVELS / 2) / LEVELS) as u8
}

fn draw_line(raster: &mut Raster, points: &[(f32, f32)], stroke: Stroke) {
    let (width, height) = raster.size();
    if let Some(mut coverage) = stroke::cover(points, stroke, (width as usize, height as usize)) {
        for covered in &mut coverage.pixels {
            *covered = in_levels(*covered);
        }
        raster.ink(&coverage, stroke.color);
    }
}

/// How many spaces between marks an axis of this length in points has, if each takes so many characters.
fn spaces(length: f32, characters: f32) -> usize {
    ((length / (FONT * characters)) as usize).clamp(1, 9)
}

/// Lines of about a pixel are drawn along the middle of one: the next after the pixel border that is nearest.
fn middle_of_pixel(position: f32) -> f32 {
    (position + 0.5).floor() + 0.5
}

/// The range of an axis.
struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    /// The range of the data with a margin on both sides. A single value gets a range around it.
    fn around(low: f64, high: f64) -> Self {
        let (mut low, mut high) = (low, high);
        if high <= low {
            let half = if low == 0.0 {
                MARGIN
            } else {
                low.abs() * MARGIN
            };
            (low, high) = (low - half, high + half);
        }
        let margin = (high - low) * MARGIN;
        Self {
            low: low - margin,
            high: high + margin,
        }
    }

    fn share(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// The marks on the axis with their texts, and the note at its end.
    fn marks(&self, spaces: usize) -> (Vec<(f64, String)>, String) {
        let marks = locator::marks(self.low, self.high, spaces);
        let (texts, note) = locator::texts(&marks, self.low, self.high);
        let mut inside: Vec<(f64, String)> = marks.into_iter().zip(texts).collect();
        inside.retain(|(mark, _)| (self.low..=self.high).contains(mark));
        (inside, note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn style(width: u32, height: u32) -> LinePlotStyle {
        LinePlotStyle {
            width,
            height,
            dpi: 100.0,
            line_width: 1.5,
            axes: true,
        }
    }

    fn pixel(raster: &Raster, width: usize, x: usize, y: usize) -> Color {
        let at = (y * width + x) * 3;
        Color(raster.rgb()[at], raster.rgb()[at + 1], raster.rgb()[at + 2])
    }

    #[test]
    fn frame_and_line_are_where_matplotlib_has_them() {
        let plot = LinePlot::new(style(640, 480)).unwrap();
        let raster = plot.draw(&[1.0, 1.0, 1.0, 2.0], 1);
        // Edges of the axes: 80, 576, 57.6 and 427.2 pixels.
        for (x, y) in [(80, 240), (576, 240), (300, 58), (300, 427)] {
            assert_eq!(pixel(&raster, 640, x, y), BLACK, "{x}, {y}");
        }
        assert_eq!(pixel(&raster, 640, 300, 240), Color(255, 255, 255));
        // The value 1 lies a twenty-second of the height above the bottom.
        let y = (427.2 - 369.6 / 22.0) as usize;
        assert_eq!(pixel(&raster, 640, 200, y), COLORS[0]);
        assert_eq!(plot.draw(&[1.0, 1.0, 1.0, 2.0], 1).rgb(), raster.rgb());
    }

    #[test]
    fn the_colours_of_a_plot_fit_into_a_palette() {
        let values: Vec<f32> = (0..300).map(|row| ((row * row) % 97) as f32).collect();
        let raster = LinePlot::new(style(224, 224)).unwrap().draw(&values, 1);
        let colours: std::collections::BTreeSet<_> =
            raster.rgb().as_chunks::<3>().0.iter().collect();
        assert!((40..=256).contains(&colours.len()), "{}", colours.len());
        assert_eq!((in_levels(0), in_levels(255)), (0, 255));
    }

    #[test]
    fn channels_have_colours_of_their_own() {
        let plot = LinePlot::new(LinePlotStyle {
            axes: false,
            ..style(100, 100)
        })
        .unwrap();
        let raster = plot.draw(&[0.0, 10.0, 0.0, 10.0, 0.0, 10.0], 2);
        let has = |color: Color| {
            raster
                .rgb()
                .as_chunks::<3>()
                .0
                .contains(&[color.0, color.1, color.2])
        };
        assert!(has(COLORS[0]) && has(COLORS[1]) && !has(COLORS[2]) && !has(BLACK));
    }

    #[test]
    fn odd_values_do_no_harm() {
        let plot = LinePlot::new(style(224, 224)).unwrap();
        for values in [
            vec![5.0; 3],
            vec![f32::MAX, f32::MIN],
            vec![1e-40, 2e-40],
            vec![1e30, 1.000_001e30],
        ] {
            let raster = plot.draw(&values, 1);
            let has_line = raster
                .rgb()
                .as_chunks::<3>()
                .0
                .iter()
                .any(|[red, _, blue]| blue > red);
            assert!(has_line, "{values:?}");
        }
        // As in matplotlib, a single value is not a line, but it has axes.
        assert!(plot.draw(&[0.0], 1).rgb() == plot.draw(&[], 1).rgb());
        assert!(LinePlot::new(style(0, 5)).is_err());
    }
}
