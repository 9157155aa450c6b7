//! Marks and their texts as matplotlib places and writes them by default (`AutoLocator` and `ScalarFormatter`), so that
//! plots for classifiers look like those that people made with it. Charts for people have other marks.

use super::layout::span;

/// Sizes of steps between marks, times a power of ten.
const STEPS: [f64; 10] = [0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 2.5, 5.0, 10.0, 20.0];

/// An offset must save at least so many digits.
const OFFSET_DIGITS: i32 = 4;

/// Powers of ten at and beyond which texts are scientific.
const SCIENTIFIC: (i32, i32) = (-5, 6);

fn power(exponent: i32) -> f64 {
    10_f64.powi(exponent)
}

/// How often `divisor` goes into `value`, rounded down, and what remains, by the exact remainder: dividing first may
/// round up to the next whole number.
fn divide(value: f64, divisor: f64) -> (f64, f64) {
    let rest = value % divisor;
    let rest = if rest < 0.0 { rest + divisor } else { rest };
    (((value - rest) / divisor).round(), rest)
}

/// The power of ten of a positive number.
fn magnitude(value: f64) -> i32 {
    libm::floor(libm::log10(value)) as i32
}

/// The marks of an axis from `low` to `high` with at most `spaces` spaces between them; the first and the last may lie
/// beyond the axis.
pub(super) fn marks(low: f64, high: f64, spaces: usize) -> Vec<f64> {
    let (length, middle) = (high - low, (high + low) / 2.0);
    let spaces = spaces.max(1) as f64;
    if !(length > 0.0 && length.is_finite()) {
        return Vec::new();
    }
    // Far from zero, steps are counted from a round number nearby, for the sake of precision.
    let far = (middle / length).abs() >= 100.0;
    let offset = if far {
        power(magnitude(middle.abs())).copysign(middle)
    } else {
        0.0
    };
    let (low, high) = (low - offset, high - offset);
    let scale = power(magnitude(length / spaces));
    let least = length / spaces;
    let first = STEPS
        .iter()
        .position(|step| step * scale >= least)
        .unwrap_or(STEPS.len() - 1);
    let mut marks = Vec::new();
    for step in STEPS[..=first].iter().rev() {
        let step = step * scale;
        let base = divide(low, step).0 * step;
        let tolerance = tolerance(offset, step);
        let from = below(low - base, step, tolerance);
        let to = above(high - base, step, tolerance);
        marks.clear();
        let mut inside = 0;
        for index in 0..=(to - from).max(0.0) as usize {
            let mark = (from + index as f64) * step + base;
            inside += usize::from((low..=high).contains(&mark));
            marks.push(mark + offset);
        }
        // Smaller steps are tried only where fewer than two marks would be seen.
        if inside >= 2 {
            break;
        }
    }
    marks
}

fn tolerance(offset: f64, step: f64) -> f64 {
    if offset == 0.0 {
        return 1e-10;
    }
    let digits = libm::log10(offset.abs() / step);
    libm::pow(10.0, digits - 12.0).clamp(1e-10, 0.4999)
}

/// The multiple of `step` at or below `value`, up to rounding.
fn below(value: f64, step: f64, tolerance: f64) -> f64 {
    let (whole, rest) = divide(value, step);
    if (rest / step - 1.0).abs() < tolerance {
        whole + 1.0
    } else {
        whole
    }
}

/// The multiple of `step` at or above `value`, up to rounding.
fn above(value: f64, step: f64, tolerance: f64) -> f64 {
    let (whole, rest) = divide(value, step);
    if (rest / step).abs() < tolerance {
        whole
    } else {
        whole + 1.0
    }
}

/// The texts beside the marks, and what stands once at the end of the axis, such as `1e6`; empty if nothing does.
pub(super) fn texts(marks: &[f64], low: f64, high: f64) -> (Vec<String>, String) {
    let mut inside = marks.to_vec();
    inside.retain(|mark| (low..=high).contains(mark));
    let offset = offset(&inside);
    let exponent = exponent(&inside, offset, high - low);
    let mut spanned = marks.to_vec();
    if marks.len() < 2 {
        spanned.extend([low, high]);
    }
    for value in &mut spanned {
        *value = (*value - offset) / power(exponent);
    }
    let decimals = decimals(&spanned, marks.len());
    let mut texts = Vec::new();
    for scaled in &spanned[..marks.len()] {
        let text = format!("{scaled:.decimals$}");
        // Rounded to nothing, a negative number keeps no sign.
        let is_zero = text.trim_matches(['-', '0', '.']).is_empty();
        texts.push(text.replace('-', if is_zero { "" } else { "−" }));
    }
    let mut note = String::new();
    if exponent != 0 {
        note = format!("1e{exponent}");
    }
    if offset != 0.0 {
        let sign = if offset > 0.0 { "+" } else { "" };
        note += &format!("{sign}{}", short(offset));
    }
    (texts, note.replace('-', "−"))
}

/// A number that all marks share in their first digits, if taking it away shortens them enough.
fn offset(marks: &[f64]) -> f64 {
    let (Some(first), Some(last)) = (marks.first(), marks.last()) else {
        return 0.0;
    };
    if first == last || (*first <= 0.0 && *last >= 0.0) {
        return 0.0;
    }
    let (small, large) = (first.abs().min(last.abs()), first.abs().max(last.abs()));
    let sign = 1_f64.copysign(*first);
    let top = libm::ceil(libm::log10(large)) as i32;
    let mut exponent = shared_above(small, large, top, 0.0);
    if (large - small) / power(exponent) <= 1e-2 {
        // They lie on two sides of a round number, as 999.9 and 1000.1 do.
        exponent = shared_above(small, large, top, 1.0);
    }
    let shared = digits(large, exponent);
    if shared >= power(OFFSET_DIGITS - 1) {
        sign * shared * power(exponent)
    } else {
        0.0
    }
}

fn digits(value: f64, exponent: i32) -> f64 {
    divide(value, power(exponent)).0
}

/// The power of ten down from which the digits of two numbers differ by more than `most`, plus one.
fn shared_above(small: f64, large: f64, top: i32, most: f64) -> i32 {
    /// Numbers of 64 bits have no more digits.
    const DIGITS: i32 = 18;
    let mut exponent = top;
    while exponent > top - DIGITS && digits(large, exponent) - digits(small, exponent) <= most {
        exponent -= 1;
    }
    exponent + 1
}

/// The power of ten that is taken out of all texts; 0 for numbers that read well as they are.
fn exponent(marks: &[f64], offset: f64, length: f64) -> i32 {
    let size = if offset == 0.0 {
        largest_of(marks.iter().map(|mark| mark.abs()))
    } else {
        length
    };
    let exponent = if size > 0.0 { magnitude(size) } else { 0 };
    if exponent <= SCIENTIFIC.0 || exponent >= SCIENTIFIC.1 {
        exponent
    } else {
        0
    }
}

/// How many decimals are needed to tell the first `count` values apart.
fn decimals(values: &[f64], count: usize) -> usize {
    let (low, high) = span(values.iter().copied());
    let mut range = high - low;
    if range <= 0.0 {
        range = low.abs().max(high.abs());
    }
    let magnitude = if range > 0.0 { magnitude(range) } else { 0 };
    let threshold = 1e-3 * power(magnitude);
    let mut decimals = (3 - magnitude).max(0);
    while decimals >= 0 {
        let off = values[..count].iter().map(|value| off(*value, decimals));
        if largest_of(off) >= threshold {
            break;
        }
        decimals -= 1;
    }
    usize::try_from(decimals + 1).unwrap_or(0)
}

/// What is lost of a number with so many decimals.
fn off(value: f64, decimals: i32) -> f64 {
    (value - (value * power(decimals)).round_ties_even() / power(decimals)).abs()
}

/// The largest of some numbers from 0 up.
fn largest_of(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, f64::max)
}

/// At most ten significant digits, with an exponent: `1.25e3`.
fn short(value: f64) -> String {
    let exponent = magnitude(value.abs());
    let significand = (value / power(exponent) * 1e10).round_ties_even() / 1e10;
    if exponent == 0 {
        significand.to_string()
    } else {
        format!("{significand}e{exponent}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts of the marks within the axis, and the note.
    fn axis(low: f64, high: f64, spaces: usize) -> (Vec<String>, String) {
        let marks = marks(low, high, spaces);
        let (texts, note) = texts(&marks, low, high);
        let shown = marks
            .iter()
            .zip(texts)
            .filter(|(mark, _)| (low..=high).contains(*mark));
        (shown.map(|(_, text)| text).collect(), note)
    }

    /// Each line was printed by matplotlib 3.11 for an axis of these limits.
    #[test]
    fn marks_and_texts_are_those_of_matplotlib() {
        for (low, high, spaces, expected, note) in CASES {
            let (found, found_note) = axis(*low, *high, *spaces);
            let expected: Vec<&str> = expected.split_whitespace().collect();
            assert_eq!(found, expected, "{low} to {high} in {spaces}");
            assert_eq!(found_note, *note, "{low} to {high} in {spaces}");
        }
    }

    type Case = (f64, f64, usize, &'static str, &'static str);
    const CASES: &[Case] = &[
        (-12.75, 267.75, 4, "0 100 200", ""),
        (-0.05, 1.05, 5, "0.00 0.25 0.50 0.75 1.00", ""),
        (-3.2, 3.1, 9, "−3 −2 −1 0 1 2 3", ""),
        (0.0012, 0.0019, 5, "0.0012 0.0014 0.0016 0.0018", ""),
        (-1234567.0, 2345678.0, 6, "−1 0 1 2", "1e6"),
        (1000.01, 1000.35, 6, "0.1 0.2 0.3", "+1e3"),
        (99990.2, 100010.3, 5, "−5 0 5 10", "+1e5"),
        (-5.5e-07, 7.7e-07, 4, "−5 0 5", "1e−7"),
        (12.1, 14.9, 3, "13 14", ""),
        (-0.3, 0.2, 7, "−0.2 −0.1 0.0 0.1 0.2", ""),
        (123456.1, 123457.2, 4, "6.5 7.0", "+1.2345e5"),
        (-14.05, 295.05, 3, "0 200", ""),
        (3200000000.0, 9900000000.0, 5, "4 6 8", "1e9"),
        (-1051.3, -1049.1, 5, "−1051.0 −1050.5 −1050.0 −1049.5", ""),
        (0.5, 0.5001, 6, "0 2 4 6 8", "1e−5+5e−1"),
        (-24.95, 523.95, 9, "0 100 200 300 400 500", ""),
        (100.0, 100.9, 1, "100.0 100.5", ""),
        (-2.0, 2.0, 2, "−2 0 2", ""),
        (95.0, 1050.0, 9, "200 400 600 800 1000", ""),
    ];

    #[test]
    fn odd_axes_do_no_harm() {
        assert!(marks(1.0, 1.0, 5).is_empty() && marks(f64::NAN, 1.0, 5).is_empty());
        assert_eq!(texts(&[], 0.0, 1.0), (vec![], String::new()));
        for (low, high) in [
            (-1e-30, 1e-30),
            (1e30, 1.000_000_1e30),
            (0.0, f64::from(f32::MAX)),
        ] {
            assert!(axis(low, high, 5).0.len() >= 2, "{low} to {high}");
        }
    }
}
