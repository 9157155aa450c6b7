//! The one typeface of all plots, built in so that they look the same everywhere: a part of DejaVu Sans.

use std::sync::OnceLock;

use ab_glyph::{Font, FontRef, OutlinedGlyph, PxScale, ScaleFont, point};

const BYTES: &[u8] = include_bytes!("../assets/DejaVuSans-subset.ttf");

fn font() -> &'static FontRef<'static> {
    static FONT: OnceLock<FontRef<'static>> = OnceLock::new();
    // The bytes are part of the program and a test loads them.
    FONT.get_or_init(|| FontRef::try_from_slice(BYTES).expect("the built-in font is sound"))
}

/// The scale at which an em is `size` pixels.
fn scale(size: f32) -> PxScale {
    font()
        .pt_to_px_scale(size * 0.75)
        .unwrap_or(PxScale::from(size))
}

/// The width of a line of text in pixels.
pub fn width(text: &str, size: f32) -> f32 {
    let mut end = 0.0;
    lay_out(text, size, |_, _, after| end = after);
    end
}

/// The width of the widest of some lines.
pub(super) fn widest<'a>(texts: impl Iterator<Item = &'a str>, size: f32) -> f32 {
    let mut widest = 0.0_f32;
    for text in texts {
        widest = widest.max(width(text, size));
    }
    widest
}

/// The outlines of a line of text that starts at `x` on the baseline `y`.
pub(super) fn outlines(text: &str, size: f32, x: f32, y: f32) -> Vec<OutlinedGlyph> {
    let mut glyphs = Vec::new();
    lay_out(text, size, |id, at, _| {
        glyphs.extend(
            font().outline_glyph(id.with_scale_and_position(scale(size), point(x + at, y))),
        );
    });
    glyphs
}

/// Calls back with each glyph, its start and its end.
fn lay_out(text: &str, size: f32, mut place: impl FnMut(ab_glyph::GlyphId, f32, f32)) {
    let scaled = font().as_scaled(scale(size));
    let (mut end, mut last) = (0.0, None);
    for character in text.chars() {
        let id = scaled.glyph_id(character);
        let start = end + last.map_or(0.0, |last| scaled.kern(last, id));
        end = start + scaled.h_advance(id);
        place(id, start, end);
        last = Some(id);
    }
}

/// The text itself if it fits into `room` pixels, or as much of its start as fits with an ellipsis.
pub fn fit(text: &str, size: f32, room: f32) -> String {
    if width(text, size) <= room {
        return text.to_owned();
    }
    let mut short = text.to_owned();
    while short.pop().is_some() {
        let candidate = format!("{}…", short.trim_end());
        if width(&candidate, size) <= room {
            return candidate;
        }
    }
    String::new()
}

/// Breaks text at spaces, not at non-breaking ones, into lines of at most `room` pixels; the last of at most `lines` is shortened.
pub fn wrap(text: &str, size: f32, room: f32, lines: usize) -> Vec<String> {
    let mut wrapped: Vec<String> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        match wrapped.last_mut() {
            Some(line) if width(&format!("{line} {word}"), size) <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => wrapped.push(word.to_owned()),
        }
    }
    if wrapped.len() > lines {
        let rest = wrapped.split_off(lines.saturating_sub(1)).join(" ");
        wrapped.push(rest);
    }
    wrapped
        .into_iter()
        .map(|line| fit(&line, size, room))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_all_characters_that_charts_use() {
        for character in "AZaz09−–—…·×±≤≥%()=,.:/äéµσ".chars() {
            assert_ne!(font().glyph_id(character).0, 0, "{character}");
        }
    }

    #[test]
    fn fits_text_into_room() {
        assert!(width("threshold", 12.0) > width("thresh", 12.0));
        let short = fit("a rather long line of text", 12.0, 60.0);
        assert!(short.ends_with('…') && width(&short, 12.0) <= 60.0);
        let lines = wrap("one two three four five six seven", 12.0, 70.0, 2);
        assert!(
            lines.len() == 2 && lines.iter().all(|line| width(line, 12.0) <= 70.0),
            "{lines:?}"
        );
    }
}
