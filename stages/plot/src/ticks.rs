//! Where axes have marks and what stands beside them: round numbers, powers of ten, calendar times.

/// A mark and its text.
#[derive(Clone, Debug, PartialEq)]
pub struct Tick {
    pub at: f64,
    pub text: String,
}

/// Multiples of 1, 2 or 5 times a power of ten within a range, about `count` of them.
pub fn linear(low: f64, high: f64, count: usize) -> Vec<Tick> {
    let length = high - low;
    if length.is_nan() || length <= 0.0 || length.is_infinite() {
        return Vec::new();
    }
    let (mantissa, exponent) = round_step(length / count.max(1) as f64);
    let step = mantissa * 10_f64.powi(exponent);
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    // All texts of an axis group their digits, or none does.
    let group = low.abs().max(high.abs()) >= 10_000.0;
    let mut ticks = Vec::new();
    for multiple in first..=last {
        ticks.push(Tick {
            at: multiple as f64 * step,
            // From the mantissa, which is exact: the product with the step is not.
            text: decimal(multiple as f64 * mantissa, exponent, group),
        });
    }
    // Far from zero, powers of ten read alike: then all digits stand there.
    if ticks.windows(2).any(|pair| pair[0].text == pair[1].text) {
        for tick in &mut ticks {
            tick.text = in_full(tick.at, exponent);
        }
    }
    ticks
}

/// A number with all of its digits down to those of the step.
fn in_full(value: f64, exponent: i32) -> String {
    let text = if exponent >= 0 {
        integer(value.round() as i64, true)
    } else {
        format!("{value:.*}", exponent.unsigned_abs() as usize)
    };
    text.replace('-', "−")
}

/// The smallest of 1, 2, 5 and 10 times a power of ten that is not below a number, as factor and exponent.
fn round_step(least: f64) -> (f64, i32) {
    let exponent = libm::log10(least).floor() as i32;
    let scaled = least / 10_f64.powi(exponent);
    for factor in [1.0, 2.0, 5.0] {
        if factor >= scaled * (1.0 - 1e-9) {
            return (factor, exponent);
        }
    }
    (1.0, exponent + 1)
}

/// `mantissa * 10^exponent` as people write it.
fn decimal(mantissa: f64, exponent: i32, group: bool) -> String {
    let value = mantissa * 10_f64.powi(exponent);
    let text = if mantissa == 0.0 {
        "0".to_owned()
    } else if value.abs() >= 1e6 || value.abs() < 1e-3 {
        scientific(value)
    } else if exponent >= 0 {
        integer(value.round() as i64, group)
    } else {
        format!("{value:.*}", exponent.unsigned_abs() as usize)
    };
    text.replace('-', "−")
}

fn scientific(value: f64) -> String {
    let exponent = libm::log10(value.abs()).floor() as i32;
    let mantissa = format!("{:.2}", value / 10_f64.powi(exponent));
    let mantissa = mantissa.trim_end_matches('0').trim_end_matches('.');
    let power: String = exponent.to_string().chars().map(superscript).collect();
    if mantissa == "1" {
        format!("10{power}")
    } else {
        format!("{mantissa}×10{power}")
    }
}

fn superscript(digit: char) -> char {
    match digit {
        '-' => '⁻',
        // These three are older than the block in which the others are.
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        digit => char::from_u32(0x2070 + digit.to_digit(10).unwrap_or(0)).unwrap_or('⁰'),
    }
}

/// Digits, in groups of three if asked for.
fn integer(value: i64, group: bool) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if group && index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0 { format!("-{text}") } else { text }
}

/// A number with three significant digits, for titles.
pub fn rounded(value: f64) -> String {
    let magnitude = value.abs();
    let text = if value == 0.0 {
        "0".to_owned()
    } else if !(1e-3..1e6).contains(&magnitude) {
        scientific(value)
    } else {
        let decimals = (2 - libm::log10(magnitude).floor() as i32).max(0) as usize;
        format!("{value:.decimals$}")
    };
    text.replace('-', "−")
}

/// Powers of ten within a range above 0, thinned to about `count`; with 2 and 5 between them if there are few.
pub fn logarithmic(low: f64, high: f64, count: usize) -> Vec<Tick> {
    let first = libm::log10(low).ceil() as i32;
    let last = libm::log10(high).floor() as i32;
    let stride = ((last - first + 1).max(1) as usize).div_ceil(count.max(1)) as i32;
    let factors: &[f64] = if last - first < 2 {
        &[1.0, 2.0, 5.0]
    } else {
        &[1.0]
    };
    let mut ticks = Vec::new();
    for exponent in first - 1..=last {
        if (exponent - first) % stride != 0 {
            continue;
        }
        for factor in factors {
            let at = factor * 10_f64.powi(exponent);
            if at >= low * (1.0 - 1e-9) && at <= high * (1.0 + 1e-9) {
                ticks.push(Tick {
                    at,
                    text: decimal(*factor, exponent, high >= 10_000.0),
                });
            }
        }
    }
    ticks
}

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const STEPS: [i64; 22] = [
    SECOND,
    5 * SECOND,
    15 * SECOND,
    30 * SECOND,
    MINUTE,
    5 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    2 * DAY,
    3 * DAY,
    5 * DAY,
    7 * DAY,
    14 * DAY,
    30 * DAY,
    90 * DAY,
    180 * DAY,
    365 * DAY,
];

/// Round calendar times among the rising times of rows; positions are row numbers.
pub fn calendar(times: &[i64], count: usize) -> Vec<Tick> {
    let (Some(first), Some(last)) = (times.first(), times.last()) else {
        return Vec::new();
    };
    // Differences of 64 bits: one of the times may be a sentinel at the end of what they hold.
    let length = last.abs_diff(*first);
    let least = length / count.max(1) as u64;
    let step = STEPS
        .into_iter()
        .find(|step| *step as u64 >= least)
        .unwrap_or_else(|| (least / DAY as u64 + 1) as i64 * DAY);
    let mut ticks = Vec::new();
    let past = first.rem_euclid(step);
    let mut next = match past {
        0 => Some(*first),
        past => first.checked_add(step - past),
    };
    while let Some(time) = next.filter(|time| time <= last) {
        let row = times.partition_point(|other| *other < time);
        ticks.push(Tick {
            at: row as f64,
            text: calendar_text(time, step),
        });
        next = time.checked_add(step);
    }
    ticks
}

/// A time in UTC, as exact as the step asks for.
fn calendar_text(time: i64, step: i64) -> String {
    let (year, month, day) = civil(time.div_euclid(DAY));
    let of_day = time.rem_euclid(DAY);
    let (hour, minute) = (of_day / HOUR, of_day % HOUR / MINUTE);
    if step >= DAY {
        format!("{year:04}-{month:02}-{day:02}")
    } else if step >= MINUTE {
        format!("{month:02}-{day:02} {hour:02}:{minute:02}")
    } else {
        let second = of_day % MINUTE / SECOND;
        format!("{hour:02}:{minute:02}:{second:02}")
    }
}

/// Year, month and day of a day number since 1970-01-01, in the Gregorian calendar.
fn civil(day_number: i64) -> (i64, i64, i64) {
    // Whole cycles of 400 years have 146,097 days.
    let cycle = day_number.div_euclid(146_097);
    let mut rest = day_number.rem_euclid(146_097);
    let mut year = 1970 + 400 * cycle;
    while rest >= 337 + february(year) {
        rest -= 337 + february(year);
        year += 1;
    }
    let mut lengths = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    lengths[1] = february(year);
    let mut month = 0;
    while rest >= lengths[month] {
        rest -= lengths[month];
        month += 1;
    }
    (year, month as i64 + 1, rest + 1)
}

/// Days of February.
fn february(year: i64) -> i64 {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    if is_leap { 29 } else { 28 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(ticks: &[Tick]) -> Vec<&str> {
        ticks.iter().map(|tick| tick.text.as_str()).collect()
    }

    #[test]
    fn round_numbers() {
        assert_eq!(
            texts(&linear(0.0, 1.0, 5)),
            ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]
        );
        assert_eq!(texts(&linear(-1.3, 2.2, 4)), ["−1", "0", "1", "2"]);
        assert_eq!(
            texts(&linear(0.0, 23_688.0, 5)),
            ["0", "5,000", "10,000", "15,000", "20,000"]
        );
        assert_eq!(texts(&linear(4100.0, 5900.0, 2)), ["5000"]);
        assert_eq!(texts(&linear(0.0, 3e7, 3)), ["0", "10⁷", "2×10⁷", "3×10⁷"]);
        let far = linear(4e9 - 20.0, 4e9 + 40.0, 3);
        assert_eq!(
            texts(&far),
            [
                "3,999,999,980",
                "4,000,000,000",
                "4,000,000,020",
                "4,000,000,040"
            ]
        );
        let near = linear(1e-4, 1.0004e-4, 2);
        assert_eq!(texts(&near), ["0.00010000", "0.00010002", "0.00010004"]);
        assert!(linear(1.0, 1.0, 5).is_empty() && linear(f64::NAN, 1.0, 5).is_empty());
    }

    #[test]
    fn times_that_are_sentinels_end() {
        for times in [
            [1_609_459_200_000, i64::MAX],
            [i64::MIN, i64::MAX],
            [i64::MIN, 0],
        ] {
            let ticks = calendar(&times, 5);
            assert!(ticks.len() <= 6, "{ticks:?}");
        }
    }

    #[test]
    fn powers_of_ten() {
        assert_eq!(
            texts(&logarithmic(0.005, 2000.0, 8)),
            ["0.01", "0.1", "1", "10", "100", "1000"]
        );
        assert_eq!(texts(&logarithmic(0.9, 12.0, 8)), ["1", "2", "5", "10"]);
        assert_eq!(rounded(0.123_456), "0.123");
        assert_eq!(rounded(-1234.5), "−1234");
        assert_eq!(rounded(1.5e-7), "1.5×10⁻⁷");
    }

    #[test]
    fn calendar_times() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(19_782), (2024, 2, 29));
        assert_eq!(civil(-1), (1969, 12, 31));
        let start = 1_467_331_200_000; // 2016-07-01 00:00 UTC
        let times: Vec<i64> = (0..100).map(|hour| start + hour * HOUR).collect();
        let ticks = calendar(&times, 5);
        assert_eq!(
            texts(&ticks),
            [
                "2016-07-01",
                "2016-07-02",
                "2016-07-03",
                "2016-07-04",
                "2016-07-05"
            ]
        );
        assert_eq!(ticks[1].at, 24.0);
    }
}
