//! Time stamps in text as milliseconds since 1970-01-01 UTC. The proleptic Gregorian calendar, no leap seconds. A stamp
//! without an offset is taken as UTC, unless a time zone is named.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
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
    /// Microseconds since 1970-01-01 UTC, cut to milliseconds.
    Microseconds,
    /// Nanoseconds since 1970-01-01 UTC, cut to milliseconds.
    Nanoseconds,
    /// Fields in another order, in the letters of `strftime`, such as `%d.%m.%Y %H:%M` or `%m/%d/%y %I:%M %p`.
    Pattern(String),
}

/// Letters of `strftime` that a pattern may use.
const LETTERS: &str = "YymdeBbhHIMSfpPjaAzTFDR%";

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
                if !LETTERS.contains(field) {
                    let known: Vec<String> =
                        LETTERS.chars().map(|letter| format!("%{letter}")).collect();
                    return Err(format!(
                        "`%{field}` is not known; there are {}",
                        known.join(" ")
                    ));
                }
            }
        }
        if ["%Y", "%y", "%F", "%D"]
            .iter()
            .any(|year| pattern.contains(year))
        {
            Ok(())
        } else {
            Err("a time stamp needs its year: %Y, or %y for two digits".to_owned())
        }
    }

    /// Reads one stamp, without an offset as UTC; `None` if the text does not have this format.
    pub fn parse(&self, text: &str) -> Option<i64> {
        match self {
            Self::Iso => iso(text, None),
            Self::Seconds => {
                let seconds = text
                    .parse::<f64>()
                    .ok()
                    .filter(|seconds| seconds.abs() < 1e14)?;
                Some((seconds * 1e3).round() as i64)
            }
            Self::Milliseconds => text.parse().ok(),
            Self::Microseconds => Some(text.parse::<i64>().ok()?.div_euclid(1_000)),
            Self::Nanoseconds => Some(text.parse::<i64>().ok()?.div_euclid(1_000_000)),
            Self::Pattern(pattern) => by_pattern(pattern, text, None),
        }
    }

    /// The format in words, for messages.
    pub fn described(&self) -> String {
        match self {
            Self::Iso => "year, month, day and time as in `2016-07-01 13:45:00`".to_owned(),
            Self::Seconds => "seconds since 1970".to_owned(),
            Self::Milliseconds => "milliseconds since 1970".to_owned(),
            Self::Microseconds => "microseconds since 1970".to_owned(),
            Self::Nanoseconds => "nanoseconds since 1970".to_owned(),
            Self::Pattern(pattern) => format!("`{pattern}`"),
        }
    }
}

/// How the stamps of a column are read: their format, and the zone of those that have no offset.
#[derive(Clone, Debug)]
pub struct Clock {
    pub format: TimeFormat,
    pub zone: Option<TimeZone>,
}

/// ISO 8601, in UTC.
pub(super) static ISO: Clock = Clock::iso();

impl Clock {
    /// ISO 8601, in UTC.
    pub const fn iso() -> Self {
        Self {
            format: TimeFormat::Iso,
            zone: None,
        }
    }

    /// Reads one stamp; `None` if the text does not have the format, or names no moment in the zone. Of the two moments of an
    /// hour that comes twice, it is the earlier one; see [`Self::again`].
    pub fn parse(&self, text: &str) -> Option<i64> {
        match &self.format {
            TimeFormat::Iso => iso(text, self.zone.as_ref()),
            TimeFormat::Pattern(pattern) => by_pattern(pattern, text, self.zone.as_ref()),
            format => format.parse(text),
        }
    }

    /// A moment in ISO 8601, whatever the format of the column.
    pub fn moment(&self, text: &str) -> Option<i64> {
        iso(text, self.zone.as_ref())
    }

    /// When the clock of the zone shows the same time once more, after it was set back.
    pub fn again(&self, time: i64) -> Option<i64> {
        let zone = self.zone.as_ref()?;
        let local = zone.to_datetime(Timestamp::from_millisecond(time).ok()?);
        let later = zone.to_ambiguous_timestamp(local).later().ok()?;
        let later = later.as_millisecond();
        (later > time).then_some(later)
    }

    /// What to write instead for a text that does not have the format.
    pub fn hint(&self, text: &str) -> String {
        if let Some(zone) = &self.zone
            && (Self {
                format: self.format.clone(),
                zone: None,
            })
            .parse(text)
            .is_some()
        {
            let zone = zone.iana_name().unwrap_or("the zone");
            return format!(
                "in {zone} the clock was set forward over this time; is it another zone, or do the stamps need offsets, such as `+02:00`?"
            );
        }
        let found = FORMATS.into_iter().find(|format| format.matches(text));
        let written = match found {
            Some(Guess::Pattern(pattern)) => format!("`format: {{pattern: \"{pattern}\"}}`"),
            Some(Guess::Epoch(unit)) => format!("`format: {unit}`"),
            None => "`format: {pattern: \"%d.%m.%Y %H:%M\"}`, `seconds`, `milliseconds`, `microseconds` or `nanoseconds`".to_owned(),
        };
        format!("say how it is written, as in `time: {{column: NAME, format: …}}` with {written}")
    }
}

/// A format that a stamp may have.
#[derive(Clone, Copy, Debug)]
pub enum Guess {
    Pattern(&'static str),
    /// Whole numbers since 1970 of this unit.
    Epoch(&'static str),
}

/// Formats that are tried on stamps, the likelier first. Of days and months, the day stands first unless it cannot.
pub const FORMATS: [Guess; 16] = [
    Guess::Pattern("%d.%m.%Y %H:%M:%S"),
    Guess::Pattern("%d.%m.%Y %H:%M"),
    Guess::Pattern("%d.%m.%Y"),
    Guess::Pattern("%d/%m/%Y %H:%M:%S"),
    Guess::Pattern("%d/%m/%Y %H:%M"),
    Guess::Pattern("%d/%m/%Y %I:%M:%S %p"),
    Guess::Pattern("%d/%m/%Y"),
    Guess::Pattern("%m/%d/%Y %H:%M:%S"),
    Guess::Pattern("%m/%d/%Y %H:%M"),
    Guess::Pattern("%m/%d/%Y %I:%M:%S %p"),
    Guess::Pattern("%m/%d/%Y"),
    Guess::Pattern("%d/%m/%y"),
    Guess::Pattern("%m/%d/%y"),
    Guess::Epoch("seconds"),
    Guess::Epoch("milliseconds"),
    Guess::Epoch("nanoseconds"),
];

impl Guess {
    /// Whether a stamp has the format, and lies between 1970 and 2100 if it is a number.
    pub fn matches(self, text: &str) -> bool {
        match self {
            Self::Pattern(pattern) => by_pattern(pattern, text, None).is_some(),
            Self::Epoch(unit) => {
                let Ok(number) = text.parse::<f64>() else {
                    return false;
                };
                let seconds = match unit {
                    "seconds" => number,
                    "milliseconds" => number / 1e3,
                    _ => number / 1e9,
                };
                // The first weeks of 1970 are rather numbers of rows.
                (1e7..4.2e9).contains(&seconds)
            }
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

impl Civil {
    /// The same as a date and time without a zone.
    fn to_jiff(self) -> Option<DateTime> {
        let narrow = |field: i64| i8::try_from(field).ok();
        DateTime::new(
            i16::try_from(self.year).ok()?,
            narrow(self.month)?,
            narrow(self.day)?,
            narrow(self.hour)?,
            narrow(self.minute)?,
            narrow(self.second)?,
            i32::try_from(self.millisecond * 1_000_000).ok()?,
        )
        .ok()
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

    /// A year of four digits: with fewer, nobody knows which field is the year.
    fn year(&mut self) -> Option<i64> {
        let before = self.0.len();
        let year = self.number(4)?;
        (before - self.0.len() == 4).then_some(year)
    }

    fn any_of(&mut self, characters: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        characters.contains(first).then(|| {
            self.0 = rest;
            *first
        })
    }
}

fn iso(text: &str, zone: Option<&TimeZone>) -> Option<i64> {
    let mut rest = Rest(text.as_bytes());
    let mut civil = Civil {
        year: rest.year()?,
        ..Civil::ZERO
    };
    let separator = rest.any_of(b"-/")?;
    civil.month = rest.number(2)?;
    rest.any_of(&[separator])?;
    civil.day = rest.number(2)?;
    let mut shift = Offset::None;
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
        shift = offset(&mut rest)?;
    }
    rest.0.is_empty().then_some(())?;
    let local = civil.to_milliseconds()?;
    match (shift, zone) {
        (Offset::East(minutes), _) => Some(local - minutes * 60_000),
        (Offset::None, Some(zone)) => in_zone(civil.to_jiff()?, zone),
        (Offset::None, None) => Some(local),
    }
}

/// A time of day in a zone. An hour that the clock is set forward over names no moment; of one that comes twice it is the
/// first.
fn in_zone(local: DateTime, zone: &TimeZone) -> Option<i64> {
    let moment = zone.to_ambiguous_timestamp(local);
    match moment.offset() {
        AmbiguousOffset::Gap { .. } => None,
        _ => Some(moment.earlier().ok()?.as_millisecond()),
    }
}

/// A fraction of a second, cut to milliseconds.
fn thousandths(rest: &mut Rest<'_>) -> Option<i64> {
    let before = rest.0.len();
    let value = rest.number(3)?;
    let scale = [100, 10, 1][before - rest.0.len() - 1];
    while rest.any_of(b"0123456789").is_some() {}
    Some(value * scale)
}

/// What stands behind a time of day.
enum Offset {
    None,
    /// Minutes east of UTC.
    East(i64),
}

/// `Z`, `+02:00`, `+0200`, `+02` or nothing, behind a time of day.
fn offset(rest: &mut Rest<'_>) -> Option<Offset> {
    match rest.any_of(b"Zz+-") {
        None => Some(Offset::None),
        Some(sign @ (b'+' | b'-')) => {
            let hours = rest.number(2)?;
            rest.any_of(b":");
            let minutes = if rest.0.is_empty() {
                0
            } else {
                rest.number(2)?
            };
            (hours < 24 && minutes < 60).then_some(())?;
            let east = hours * 60 + minutes;
            Some(Offset::East(if sign == b'-' { -east } else { east }))
        }
        Some(_) => Some(Offset::East(0)),
    }
}

fn by_pattern(pattern: &str, text: &str, zone: Option<&TimeZone>) -> Option<i64> {
    // Whole numbers and literal characters are read here: the parser for all patterns is several times slower.
    if pattern
        .split('%')
        .skip(1)
        .all(|field| field.starts_with(['Y', 'm', 'd', 'H', 'M', 'S']))
    {
        let civil = by_numbers(pattern, text)?;
        let local = civil.to_milliseconds()?;
        return match zone {
            Some(zone) => in_zone(civil.to_jiff()?, zone),
            None => Some(local),
        };
    }
    let fields = BrokenDownTime::parse(pattern, text).ok()?;
    let local = fields.to_datetime().ok()?;
    let zone = match (fields.offset(), zone) {
        (Some(offset), _) => offset.to_time_zone(),
        (None, Some(zone)) => zone.clone(),
        (None, None) => TimeZone::UTC,
    };
    in_zone(local, &zone)
}

fn by_numbers(pattern: &str, text: &str) -> Option<Civil> {
    let mut rest = Rest(text.as_bytes());
    let mut civil = Civil::ZERO;
    let mut bytes = pattern.bytes();
    while let Some(byte) = bytes.next() {
        let field = if byte == b'%' { bytes.next()? } else { 0 };
        match field {
            b'Y' => civil.year = rest.year()?,
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
    rest.0.is_empty().then_some(civil)
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
                iso(text, None),
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
            "2016-07-01-03",
            "2016-07-01Z",
            "2016-07-01 01:00+24:00",
            "2016-07-01 01:00+01:60",
            "2016-07-01 01:00:00 ",
            "01/02/14",
            "16-07-01",
        ] {
            assert_eq!(iso(text, None), None, "{text}");
        }
    }

    #[test]
    fn reads_the_other_formats() {
        let german = TimeFormat::Pattern("%d.%m.%Y %H:%M".to_owned());
        assert_eq!(german.parse("01.07.2016 01:00"), Some(1_467_334_800_000));
        assert_eq!(german.parse("1.7.2016"), None);
        assert_eq!(TimeFormat::Seconds.parse("1.5"), Some(1500));
        assert_eq!(TimeFormat::Milliseconds.parse("-3"), Some(-3));
        assert!(TimeFormat::Pattern("%q %Y".to_owned()).check().is_err());
        assert!(TimeFormat::Pattern("%d.%m.".to_owned()).check().is_err());
        let american = TimeFormat::Pattern("%m/%d/%y %I:%M %p".to_owned());
        american.check().unwrap();
        assert_eq!(american.parse("07/01/16 01:00 AM"), Some(1_467_334_800_000));
        assert_eq!(american.parse("07/01/16 12:00 AM"), Some(1_467_331_200_000));
        let words = TimeFormat::Pattern("%d %b %Y %H:%M:%S %z".to_owned());
        assert_eq!(
            words.parse("1 Jul 2016 03:00:00 +0200"),
            Some(1_467_334_800_000)
        );
        assert_eq!(
            TimeFormat::Nanoseconds.parse("1467334800000999999"),
            Some(1_467_334_800_000)
        );
        assert_eq!(TimeFormat::Microseconds.parse("-1"), Some(-1));
        assert!(german.check().is_ok());
    }

    #[test]
    fn a_zone_knows_when_its_clock_changes() {
        let clock = |text: &str| {
            let zone = Some(TimeZone::get("Europe/Berlin").unwrap());
            let format = TimeFormat::Iso;
            Clock { format, zone }.parse(text)
        };
        assert_eq!(clock("2016-07-01 03:00"), Some(1_467_334_800_000));
        assert_eq!(clock("2016-01-01 01:00"), Some(1_451_606_400_000));
        assert_eq!(clock("2016-10-30 02:30"), clock("2016-10-30 02:30+02:00"));
        assert_eq!(clock("2016-03-27 02:30"), None, "it never comes");
        assert_eq!(clock("2016-10-30 02:30+01:00"), Some(1_477_791_000_000));
    }

    #[test]
    fn a_hint_names_a_format_that_fits() {
        let hint = |text: &str| Clock::iso().hint(text);
        assert!(
            hint("31.12.2015 10:00").contains("%d.%m.%Y %H:%M"),
            "{}",
            hint("31.12.2015 10:00")
        );
        assert!(hint("12/31/2015").contains("%m/%d/%Y"));
        assert!(hint("31/12/15").contains("%d/%m/%y"));
        assert!(hint("1467334800").contains("`format: seconds`"));
        assert!(hint("soon").contains("pattern"));
    }
}
