//! Many numbers of the shape `d.dddddd` at once, eight to a step where the processor has AVX2. Exported measurements
//! are often written like this, whole files long. Any other shape ends the run and is left to `number`.

use super::number;

/// Bytes of one field with its delimiter.
pub(super) const FIELD: usize = 9;
/// Fields of one step.
const STEP: usize = 8;

/// Reads fields `d.dddddd` that each end with `delimiter`, from `at` on, until `into` is full or a field has another
/// shape. Returns how many were read; each is [`FIELD`] bytes long.
#[inline]
pub(super) fn parse(text: &[u8], at: usize, delimiter: u8, into: &mut [f32]) -> usize {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { wide::parse(text, at, delimiter, into) };
    }
    narrow(text, at, delimiter, into)
}

/// Reads one field that ends with `delimiter`, if it has the shape.
#[inline]
pub(super) fn one(text: &[u8], at: usize, delimiter: u8) -> Option<f32> {
    let field = text.get(at..at + FIELD)?;
    let digits = number::short_fraction(field)?;
    // Both are exact in 32 bits, so one division rounds once.
    (field[FIELD - 1] == delimiter).then_some(digits as f32 / 1e6)
}

/// One field after the other.
fn narrow(text: &[u8], at: usize, delimiter: u8, into: &mut [f32]) -> usize {
    for (count, value) in into.iter_mut().enumerate() {
        match one(text, at + count * FIELD, delimiter) {
            Some(read) => *value = read,
            None => return count,
        }
    }
    into.len()
}

#[cfg(target_arch = "x86_64")]
mod wide {
    use std::arch::x86_64::*;

    use super::{FIELD, STEP};

    /// As [`super::narrow`], eight fields to a step.
    #[target_feature(enable = "avx2")]
    pub(super) fn parse(text: &[u8], at: usize, delimiter: u8, into: &mut [f32]) -> usize {
        let mut count = 0;
        while count < into.len() && into.len() >= STEP {
            // The last step overlaps the one before, so that no fields are left over.
            let first = count.min(into.len() - STEP);
            let start = at + first * FIELD;
            let fields = text
                .get(start..start + STEP * FIELD)
                .and_then(|fields| fields.first_chunk());
            let Some(values) = fields.and_then(|fields| eight(fields, delimiter)) else {
                break;
            };
            into[first..first + STEP].copy_from_slice(&values);
            count = first + STEP;
        }
        count + super::narrow(text, at + count * FIELD, delimiter, &mut into[count..])
    }

    /// The first eight bytes of field `index`.
    #[inline(always)]
    fn word(fields: &[u8; STEP * FIELD], index: usize) -> i64 {
        let start = index * FIELD;
        fields[start..start + 8]
            .first_chunk()
            .map_or(0, |bytes| i64::from_le_bytes(*bytes))
    }

    /// Eight fields, if all of them have the shape.
    #[target_feature(enable = "avx2")]
    fn eight(fields: &[u8; STEP * FIELD], delimiter: u8) -> Option<[f32; STEP]> {
        let mut strange = 0;
        for index in 1..=STEP {
            strange |= fields[index * FIELD - 1] ^ delimiter;
        }
        if strange != 0 {
            return None;
        }
        // This order undoes the one in which `packus` joins halves.
        let first = _mm256_set_epi64x(
            word(fields, 5),
            word(fields, 4),
            word(fields, 1),
            word(fields, 0),
        );
        let second = _mm256_set_epi64x(
            word(fields, 7),
            word(fields, 6),
            word(fields, 3),
            word(fields, 2),
        );
        let (first, first_is_plain) = digits(first);
        let (second, second_is_plain) = digits(second);
        if !(first_is_plain && second_is_plain) {
            return None;
        }
        // Two numbers of four digits become one of seven.
        let fours = _mm256_packus_epi32(first, second);
        let whole = _mm256_madd_epi16(fours, _mm256_set1_epi32(10_000 | (1 << 16)));
        // Both are exact in 32 bits, so the division rounds once, like that of a single field.
        let values = _mm256_div_ps(_mm256_cvtepi32_ps(whole), _mm256_set1_ps(1e6));
        // SAFETY: both types are 32 bytes of plain numbers.
        Some(unsafe { std::mem::transmute::<__m256, [f32; STEP]>(values) })
    }

    /// For four fields, two numbers each, of the digits `0 d d d` and `d d d d`; and whether they have the shape.
    #[target_feature(enable = "avx2")]
    fn digits(fields: __m256i) -> (__m256i, bool) {
        // A digit becomes 0 to 9, the point at byte 1 becomes 0; anything else exceeds its limit.
        let expected = _mm256_set1_epi64x(0x3030_3030_3030_2e30);
        let limits = _mm256_set1_epi64x(0x0909_0909_0909_0009);
        let found = _mm256_sub_epi8(fields, expected);
        let excess = _mm256_subs_epu8(found, limits);
        // The point goes away: a zero leads instead.
        let order = _mm256_set_epi64x(
            0x0f0e_0d0c_0b0a_0880,
            0x0706_0504_0302_0080,
            0x0f0e_0d0c_0b0a_0880,
            0x0706_0504_0302_0080,
        );
        let plain = _mm256_shuffle_epi8(found, order);
        let pairs = _mm256_maddubs_epi16(plain, _mm256_set1_epi16(10 | (1 << 8)));
        let fours = _mm256_madd_epi16(pairs, _mm256_set1_epi32(100 | (1 << 16)));
        (fours, _mm256_testz_si256(excess, excess) == 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stops_at_the_first_other_shape() {
        let plain = "1.234567,".repeat(20);
        for (place, other) in [
            (0, b'-'),
            (1, b','),
            (30, b'x'),
            (80, b'/'),
            (100, b':'),
            (161, b'\n'),
            (179, b';'),
        ] {
            let mut text = plain.clone().into_bytes();
            text[place] = other;
            let mut values = [0.0; 20];
            let count = parse(&text, 0, b',', &mut values);
            assert_eq!(count, place / FIELD, "byte {place}");
            assert!(values[..count].iter().all(|value| *value == 1.234_567));
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_standard_library(numbers in prop::collection::vec(0_u32..10_000_000, 0..60), offset in 0_usize..9) {
            let field = |number: &u32| format!("{}.{:06};", number / 1_000_000, number % 1_000_000);
            let text: String = " ".repeat(offset) + &numbers.iter().map(field).collect::<String>();
            let expected: Vec<u32> = numbers.iter()
                .map(|number| (field(number).trim_end_matches(';').parse::<f64>().unwrap() as f32).to_bits()).collect();
            for parse in [parse, narrow] {
                let mut values = vec![f32::NAN; numbers.len() + 3];
                prop_assert_eq!(parse(text.as_bytes(), offset, b';', &mut values), numbers.len());
                let found: Vec<u32> = values[..numbers.len()].iter().map(|value| value.to_bits()).collect();
                prop_assert_eq!(&found, &expected);
            }
        }
    }
}
