//! Time stamps in text as milliseconds since 1970-01-01 UTC. The proleptic Gregorian calendar, no leap seconds, and no
//! time zones but an offset that is written out: a stamp without one is taken as UTC.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How time stamps are written.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TimeFormat {
    /// `2016-07-01`, `2016-07-01 13:45`, `2016-07-01T13:45:00.250+02:00`, `2016/7/1 13:45:00`.
    #[default]
    Iso,
    /// Seconds since 1970-01-01 UTC, whole or with a fraction.
    Seconds,
    /// Milliseconds since 1970-01-01 UTC.
    Milliseconds,
    /// Fields in another order: `%Y %m %d %H %M %S` and literal characters, such as `%d.%m.%Y %H:%M`.
    Pattern(String),
}

impl TimeFormat {
    /// What is wrong with the format itself, if anything.
    pub fn check(&self) -> Result<(), String> {
        let Self::Pattern(pattern) = self else {
            return Ok(());
        };
        let mut characters = pattern.chars();
        while let Some(character) = characters.next() {
            if character == '%' {
                let field = characters.next().unwrap_or(' ');
                if !"YmdHMS%".contains(field) {
                    return Err(format!(
                        "`%{field}` is not known; there are %Y %m %d %H %M %S"
                    ));
                }
            }
        }
        if pattern.contains("%Y") {
            Ok(())
        } else {
            Err("a time stamp needs its year: %Y".to_owned())
        }
    }

    /// Reads one stamp; `None` if the text does not have this format.
    pub fn parse(&self, text: &str) -> Option<i64> {
        match self {
            Self::Iso => iso(text),
            Self::Seconds => {
                let seconds = text
                    .parse::<f64>()
                    .ok()
                    .filter(|seconds| seconds.abs() < 1e14)?;
                Some((seconds * 1e3).round() as i64)
            }
            Self::Milliseconds => text.parse().ok(),
            Self::Pattern(pattern) => by_pattern(pattern, text),
        }
    }
}

/// The parts of a stamp.
#[derive(Clone, Copy)]
struct Civil {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    millisecond: i64,
}

impl Civil {
    const ZERO: Self = Self {
        year: 1970,
        month: 1,
        day: 1,
        hour: 0,
        minute: 0,
        second: 0,
        millisecond: 0,
    };

    fn to_milliseconds(self) -> Option<i64> {
        let leap = self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0);
        let last = match self.month {
            2 => 28 + i64::from(leap),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let sound = (1..=12).contains(&self.month)
            && (1..=last).contains(&self.day)
            && (0..24).contains(&self.hour)
            && (0..60).contains(&self.minute)
            && (0..60).contains(&self.second);
        // Years begin in March, so that the leap day is the last day of a year.
        let (year, month) = if self.month > 2 {
            (self.year, self.month - 3)
        } else {
            (self.year - 1, self.month + 9)
        };
        let days = year * 365 + year.div_euclid(4) - year.div_euclid(100)
            + year.div_euclid(400)
            + (153 * month + 2) / 5
            + self.day
            - 719_469;
        let seconds = ((days * 24 + self.hour) * 60 + self.minute) * 60 + self.second;
        sound.then_some(seconds * 1000 + self.millisecond)
    }
}

/// The characters of a stamp, taken from the left.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    /// A whole number of `1..=most` digits.
    fn number(&mut self, most: usize) -> Option<i64> {
        let digits = self
            .0
            .iter()
            .take(most)
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let (number, rest) = self.0.split_at(digits);
        self.0 = rest;
        (digits > 0).then(|| {
            number
                .iter()
                .fold(0, |value, byte| value * 10 + i64::from(byte - b'0'))
        })
    }

    fn any_of(&mut self, characters: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        characters.contains(first).then(|| {
            self.0 = rest;
            *first
        })
    }
}

fn iso(text: &str) -> Option<i64> {
    let mut rest = Rest(text.as_bytes());
    let mut civil = Civil {
        year: rest.number(4)?,
        ..Civil::ZERO
    };
    let separator = rest.any_of(b"-/")?;
    civil.month = rest.number(2)?;
    rest.any_of(&[separator])?;
    civil.day = rest.number(2)?;
    if rest.any_of(b" T").is_some() {
        civil.hour = rest.number(2)?;
        rest.any_of(b":")?;
        civil.minute = rest.number(2)?;
        if rest.any_of(b":").is_some() {
            civil.second = rest.number(2)?;
            if rest.any_of(b".,").is_some() {
                civil.millisecond = thousandths(&mut rest)?;
            }
        }
    }
    let offset = offset(&mut rest)?;
    rest.0.is_empty().then_some(())?;
    Some(civil.to_milliseconds()? - offset * 60_000)
}

/// A fraction of a second, cut to milliseconds.
fn thousandths(rest: &mut Rest<'_>) -> Option<i64> {
    let before = rest.0.len();
    let value = rest.number(3)?;
    let scale = [100, 10, 1][before - rest.0.len() - 1];
    while rest.any_of(b"0123456789").is_some() {}
    Some(value * scale)
}

/// Minutes east of UTC: nothing, `Z`, `+02:00`, `+0200` or `+02`.
fn offset(rest: &mut Rest<'_>) -> Option<i64> {
    match rest.any_of(b"Zz+-") {
        Some(sign @ (b'+' | b'-')) => {
            let hours = rest.number(2)?;
            rest.any_of(b":");
            let minutes = if rest.0.is_empty() {
                0
            } else {
                rest.number(2)?
            };
            let east = hours * 60 + minutes;
            Some(if sign == b'-' { -east } else { east })
        }
        _ => Some(0),
    }
}

fn by_pattern(pattern: &str, text: &str) -> Option<i64> {
    let mut rest = Rest(text.as_bytes());
    let mut civil = Civil::ZERO;
    let mut bytes = pattern.bytes();
    while let Some(byte) = bytes.next() {
        let field = if byte == b'%' { bytes.next()? } else { 0 };
        match field {
            b'Y' => civil.year = rest.number(4)?,
            b'm' => civil.month = rest.number(2)?,
            b'd' => civil.day = rest.number(2)?,
            b'H' => civil.hour = rest.number(2)?,
            b'M' => civil.minute = rest.number(2)?,
            b'S' => civil.second = rest.number(2)?,
            _ => {
                rest.any_of(&[byte])?;
            }
        }
    }
    if rest.0.is_empty() {
        civil.to_milliseconds()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_iso() {
        // Checked with `date -u -d '2016-07-01 01:00:00' +%s` and the like.
        for (text, seconds) in [
            ("1970-01-01", 0.0),
            ("2016-07-01 01:00:00", 1_467_334_800.0),
            ("2016/7/1 1:00", 1_467_334_800.0),
            ("2000-02-29T23:59:59Z", 951_868_799.0),
            ("2024-03-01T00:00:00.25+02:00", 1_709_244_000.25 - 0.0),
            ("1969-12-31 23:59:59.999999", -0.001),
        ] {
            assert_eq!(
                iso(text),
                Some((seconds * 1000.0_f64).round() as i64),
                "{text}"
            );
        }
        for text in [
            "",
            "2016",
            "2016-13-01",
            "2015-02-29",
            "2016-07-01 25:00",
            "2016-07-01x",
            "2016-07-01 01:00:00 ",
        ] {
            assert_eq!(iso(text), None, "{text}");
        }
    }

    #[test]
    fn reads_the_other_formats() {
        let german = TimeFormat::Pattern("%d.%m.%Y %H:%M".to_owned());
        assert_eq!(german.parse("01.07.2016 01:00"), Some(1_467_334_800_000));
        assert_eq!(german.parse("1.7.2016"), None);
        assert_eq!(TimeFormat::Seconds.parse("1.5"), Some(1500));
        assert_eq!(TimeFormat::Milliseconds.parse("-3"), Some(-3));
        assert!(TimeFormat::Pattern("%y".to_owned()).check().is_err());
        assert!(german.check().is_ok());
    }
}
