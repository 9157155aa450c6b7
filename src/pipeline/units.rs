//! Durations (`90 s`, `1h 30m`) and sizes (`4 GiB`) as people write them. A number without a unit is refused:
//! nobody should have to guess.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// Units of time in milliseconds.
const TIMES: &[(&str, f64)] = &[
    ("ms", 1.0),
    ("s", 1e3),
    ("min", 6e4),
    ("m", 6e4),
    ("h", 3.6e6),
    ("d", 8.64e7),
];

/// Units of memory in bytes.
const SIZES: &[(&str, f64)] = &[
    ("B", 1.0),
    ("kB", 1e3),
    ("KB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("TiB", 1_099_511_627_776.0),
];

/// A hundred years: longer ones cannot be added to a clock's time everywhere.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// A duration above zero: numbers with units that add up.
pub fn duration(text: &str) -> Option<Duration> {
    let milliseconds = sum(text, TIMES)?;
    let duration = Duration::try_from_secs_f64(milliseconds / 1e3).ok()?;
    (!duration.is_zero() && duration <= LONGEST).then_some(duration)
}

/// A size above zero, in bytes.
pub fn size(text: &str) -> Option<u64> {
    let bytes = sum(text, SIZES)?;
    (bytes >= 1.0 && bytes < u64::MAX as f64).then_some(bytes as u64)
}

/// A kind of text with a unit: how a schema names it, how it is read, and how people write it.
pub(super) struct Unit {
    pub name: &'static str,
    pub reads: fn(&str) -> bool,
    pub hint: &'static str,
}

/// The kinds of texts with units that a schema may name under [`KEYWORD`].
pub(super) const UNITS: [Unit; 2] = [
    Unit {
        name: "duration",
        reads: |text| duration(text).is_some(),
        hint: "write it as `90 s`, `30 min` or `1h 30m`",
    },
    Unit {
        name: "size",
        reads: |text| size(text).is_some(),
        hint: "write it as `500 MB` or `4 GiB`",
    },
];

/// The keyword by which a schema says that a text has a unit.
pub(super) const KEYWORD: &str = "x-unit";

/// The schema of a field that [`read_duration`] reads.
pub struct DurationText;

/// The schema of a field that [`read_size`] reads.
pub struct SizeText;

impl JsonSchema for DurationText {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "x-unit": "duration"})
    }
}

impl JsonSchema for SizeText {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "x-unit": "size"})
    }
}

/// A field that holds a [`duration`].
///
/// # Errors
/// If the text is not one.
pub fn read_duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(from)?;
    match duration(&text) {
        Some(duration) => Ok(Some(duration)),
        None => Err(D::Error::custom(format!("`{text}` is not a duration"))),
    }
}

/// A field that holds a [`size`], in bytes.
///
/// # Errors
/// If the text is not one.
pub fn read_size<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(from)?;
    match size(&text) {
        Some(bytes) => Ok(Some(bytes)),
        None => Err(D::Error::custom(format!("`{text}` is not a size"))),
    }
}

/// Adds up `number unit` pairs; at least one.
fn sum(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let mut rest = text.trim();
    let mut total = None;
    while !rest.is_empty() {
        let digits =
            rest.find(|character: char| !character.is_ascii_digit() && character != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest
            .find(|character: char| !character.is_ascii_alphabetic())
            .unwrap_or(rest.len());
        let (_, factor) = units.iter().find(|(unit, _)| *unit == &rest[..letters])?;
        total = Some(total.unwrap_or(0.0) + number * factor);
        rest = rest[letters..].trim_start();
    }
    total
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations() {
        let cases = [
            ("90 s", 90.0),
            ("2h", 7200.0),
            ("1h 30m", 5400.0),
            ("1.5 min", 90.0),
            ("250ms", 0.25),
            ("1d", 86400.0),
        ];
        for (text, seconds) in cases {
            assert_eq!(
                duration(text),
                Some(Duration::from_secs_f64(seconds)),
                "{text}"
            );
        }
        for text in [
            "",
            "90",
            "s",
            "90 sec",
            "-1 s",
            "0 s",
            "1..2 s",
            "1e3 s",
            "99999999999999999999999 d",
        ] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("4 GiB", 4 << 30),
            ("500 MB", 500_000_000),
            ("1.5KiB", 1536),
            ("7 B", 7),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["4", "4 gigs", "4 Gib", "0 GiB", "99999999 TiB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_measured_or_refused(text in ".{0,20}|[0-9.a-zA-Z ]{0,20}") {
            let _ = (duration(&text), size(&text));
        }
    }
}
