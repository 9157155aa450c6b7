//! Durations (`90 s`, `1h 30m`) and sizes (`4 GiB`) as people write them. A number without a unit is refused:
//! nobody should have to guess.

use std::time::Duration;

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
