//! Decimal numbers in text, eight digits at a time. It reads one number at one place and knows nothing of fields,
//! lines or missing values.
//!
//! The result is the 64-bit float nearest to the text, whatever path was taken.

/// Powers of ten that a 64-bit float holds exactly.
const EXACT_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// Bytes after the end of a text that must be readable for the fast path to be taken up to its last number.
pub(super) const PADDING: usize = 16;

/// Reads the number that starts at `at`: its value and the place after its last character.
///
/// Returns `None` where no number starts. Infinities and NaN are not numbers here.
#[inline]
pub(super) fn parse(text: &[u8], at: usize) -> Option<(f64, usize)> {
    match text.get(at..at + 9) {
        Some(field) if !continues_number(field[8]) => match short_fraction(field) {
            Some(digits) => Some((f64::from(digits) / 1e6, at + 8)),
            None => general(text, at),
        },
        _ => general(text, at),
    }
}

/// The digits of the commonest shape of measured data, `d.dddddd`, as one word. Looks at the first eight bytes only.
#[inline]
pub(super) fn short_fraction(field: &[u8]) -> Option<u32> {
    let word = u64::from_le_bytes(field[..8].try_into().ok()?);
    // The digit before the point and the six after it, moved together behind a leading zero.
    let digits = ((word & 0xff) << 8) | (word & 0xffff_ffff_ffff_0000) | u64::from(b'0');
    if (word >> 8) & 0xff != u64::from(b'.') || !are_eight_digits(digits) {
        return None;
    }
    Some(eight_digits(digits) as u32)
}

/// Whether this byte after a digit would still belong to the number.
fn continues_number(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E')
}

/// Whether all bytes of a little-endian word are ASCII digits.
#[inline]
fn are_eight_digits(word: u64) -> bool {
    let high = word & 0xf0f0_f0f0_f0f0_f0f0;
    // Adding 6 carries bytes above '9' out of the 0x30 row.
    let carried = word.wrapping_add(0x0606_0606_0606_0606) & 0xf0f0_f0f0_f0f0_f0f0;
    high == 0x3030_3030_3030_3030 && carried == 0x3030_3030_3030_3030
}

/// The value of eight ASCII digits, the first one in the lowest byte: neighbours are joined pairwise, three times.
#[inline]
fn eight_digits(word: u64) -> u64 {
    let ones = word & 0x0f0f_0f0f_0f0f_0f0f;
    let pairs = (ones.wrapping_mul(10) + (ones >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100) + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    (fours.wrapping_mul(10_000) + (fours >> 32)) & 0xffff_ffff
}

/// Digits gathered so far.
#[derive(Default)]
struct Digits {
    mantissa: u64,
    /// Digits in `mantissa` after the first that is not zero.
    significant: usize,
    /// Digits seen at all.
    seen: usize,
}

impl Digits {
    /// Takes the run of digits at `at` and returns the place after it.
    #[inline]
    fn take(&mut self, text: &[u8], mut at: usize) -> usize {
        while let Some(Ok(bytes)) = text.get(at..at + 8).map(<[u8; 8]>::try_from) {
            let word = u64::from_le_bytes(bytes);
            if !are_eight_digits(word) {
                break;
            }
            self.mantissa = self
                .mantissa
                .wrapping_mul(100_000_000)
                .wrapping_add(eight_digits(word));
            self.significant += if self.significant == 0 && self.mantissa == 0 {
                0
            } else {
                8
            };
            self.seen += 8;
            at += 8;
        }
        while let Some(digit) = text
            .get(at)
            .map(|byte| byte.wrapping_sub(b'0'))
            .filter(|digit| *digit < 10)
        {
            self.mantissa = self
                .mantissa
                .wrapping_mul(10)
                .wrapping_add(u64::from(digit));
            self.significant += usize::from(self.significant > 0 || digit > 0);
            self.seen += 1;
            at += 1;
        }
        at
    }
}

/// Any decimal number: sign, digits, point, exponent.
fn general(text: &[u8], start: usize) -> Option<(f64, usize)> {
    let negative = text.get(start) == Some(&b'-');
    let mut at = start + usize::from(negative || text.get(start) == Some(&b'+'));
    let mut digits = Digits::default();
    at = digits.take(text, at);
    let whole = digits.seen;
    if text.get(at) == Some(&b'.') {
        at = digits.take(text, at + 1);
    }
    if digits.seen == 0 {
        return None;
    }
    let fraction = (digits.seen - whole) as i64;
    let (exponent, end) = exponent(text, at);
    let magnitude = exact(&digits, exponent - fraction).or_else(|| {
        let token = std::str::from_utf8(&text[start..end]).ok()?;
        token.parse::<f64>().ok().map(f64::abs)
    })?;
    let value = if negative { -magnitude } else { magnitude };
    Some((value, end))
}

/// The exponent at `at`, if a whole one stands there.
fn exponent(text: &[u8], at: usize) -> (i64, usize) {
    if !matches!(text.get(at), Some(b'e' | b'E')) {
        return (0, at);
    }
    let negative = text.get(at + 1) == Some(&b'-');
    let first = at + 1 + usize::from(negative || text.get(at + 1) == Some(&b'+'));
    let digits = text[first.min(text.len())..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    if digits == 0 {
        return (0, at);
    }
    let magnitude = text[first..first + digits]
        .iter()
        .fold(0_i64, |value, byte| {
            value
                .saturating_mul(10)
                .saturating_add(i64::from(byte - b'0'))
                .min(100_000)
        });
    (
        if negative { -magnitude } else { magnitude },
        first + digits,
    )
}

/// The product or quotient of two exact floats, which is rounded once (Clinger, 1990); `None` where that does not do.
fn exact(digits: &Digits, exponent: i64) -> Option<f64> {
    if digits.significant > 19 || digits.mantissa > 1 << 53 {
        return None;
    }
    let power = EXACT_POWERS.get(usize::try_from(exponent.unsigned_abs()).ok()?)?;
    let mantissa = digits.mantissa as f64;
    Some(if exponent < 0 {
        mantissa / power
    } else {
        mantissa * power
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(text: &str) -> Option<(f64, usize)> {
        parse(text.as_bytes(), 0)
    }

    #[test]
    fn reads_every_shape() {
        for text in [
            "0.202020",
            "1",
            "-1.5",
            "+2.",
            ".5",
            "1e3",
            "1.25E-2",
            "0",
            "-0",
            "00012.50",
            "123456789012345678901",
        ]
        .into_iter()
        .chain([
            "5.827000141143799",
            "1.5989999771118164",
            "0.000000000000000000000123456789012345",
            "1e400",
            "4e-46",
        ]) {
            let expected = text.parse::<f64>().unwrap();
            let (found, end) = value(text).unwrap();
            assert_eq!(
                (found.to_bits(), end),
                (expected.to_bits(), text.len()),
                "{text}"
            );
        }
    }

    #[test]
    fn stops_where_the_number_stops() {
        assert_eq!(value("0.123456,7"), Some((0.123_456, 8)));
        assert_eq!(value("0.1234567,7"), Some((0.123_456_7, 9)));
        assert_eq!(value("12abc"), Some((12.0, 2)));
        assert_eq!(value("3e,"), Some((3.0, 1)));
        for text in ["", "-", ".", "nan", "inf", "e5", "x", ",1"] {
            assert_eq!(value(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_standard_library(text in "[-+]?[0-9]{0,12}(\\.[0-9]{0,22})?([eE][-+]?[0-9]{1,3})?", tail in "[,;\n x]?") {
            let whole = format!("{text}{tail}");
            if let Ok(expected) = text.parse::<f64>() {
                let (found, end) = value(&whole).unwrap();
                prop_assert_eq!(found.to_bits(), expected.to_bits());
                prop_assert_eq!(end, text.len());
            }
        }

        #[test]
        fn six_decimals_are_as_exact_as_any(whole in 0_u32..10, fraction in 0_u32..1_000_000) {
            let text = format!("{whole}.{fraction:06},");
            let expected = text[..8].parse::<f64>().unwrap() ;
            prop_assert_eq!(value(&text), Some((expected, 8)));
        }
    }
}
