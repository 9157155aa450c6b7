//! What a scalar means: the core schema of YAML 1.2 (section 10.3), in which `yes`, `on` and `1_000` are strings.
//! Quoted scalars never come here with another meaning than their text.

use std::sync::Arc;

use serde_json::{Number, Value};

/// A leaf of a YAML tree as it was written. Two are equal if they mean the same: `a` and `'a'`, but not `1` and `'1'`.
#[derive(Clone, Debug)]
pub struct Scalar {
    pub text: Arc<str>,
    /// Written in quotes or as a block: always a string.
    pub quoted: bool,
}

/// The value of a scalar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Resolved<'a> {
    Null,
    Bool(bool),
    /// Within the range of `i64` and `u64`; larger ones are floats.
    Integer(i128),
    Float(f64),
    Text(&'a str),
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        self.resolve() == other.resolve()
    }
}

impl Scalar {
    pub fn new(text: impl Into<Arc<str>>, quoted: bool) -> Self {
        Self {
            text: text.into(),
            quoted,
        }
    }

    pub fn resolve(&self) -> Resolved<'_> {
        if self.quoted {
            Resolved::Text(&self.text)
        } else {
            resolve(&self.text)
        }
    }

    /// As JSON. Infinities and not-a-number, which JSON lacks, keep their text.
    pub fn to_json(&self) -> Value {
        match self.resolve() {
            Resolved::Null => Value::Null,
            Resolved::Bool(value) => Value::Bool(value),
            Resolved::Integer(value) => Number::from_i128(value).map_or(Value::Null, Value::Number),
            Resolved::Float(value) => {
                Number::from_f64(value).map_or_else(|| Value::from(&*self.text), Value::Number)
            }
            Resolved::Text(text) => Value::from(text),
        }
    }
}

/// The value of a plain scalar.
pub fn resolve(text: &str) -> Resolved<'_> {
    let Some(first) = text.bytes().next() else {
        return Resolved::Null;
    };
    match first {
        b'~' | b'n' | b'N' | b't' | b'T' | b'f' | b'F' => word(text),
        b'0'..=b'9' | b'+' | b'-' | b'.' => number(text).unwrap_or(Resolved::Text(text)),
        _ => Resolved::Text(text),
    }
}

fn word(text: &str) -> Resolved<'_> {
    match text {
        "~" | "null" | "Null" | "NULL" => Resolved::Null,
        "true" | "True" | "TRUE" => Resolved::Bool(true),
        "false" | "False" | "FALSE" => Resolved::Bool(false),
        other => Resolved::Text(other),
    }
}

fn number(text: &str) -> Option<Resolved<'static>> {
    if let Some(digits) = text.strip_prefix("0x") {
        return radix(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return radix(digits, 8);
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    match unsigned {
        ".inf" | ".Inf" | ".INF" if text.starts_with('-') => {
            return Some(Resolved::Float(f64::NEG_INFINITY));
        }
        ".inf" | ".Inf" | ".INF" => return Some(Resolved::Float(f64::INFINITY)),
        ".nan" | ".NaN" | ".NAN" if unsigned.len() == text.len() => {
            return Some(Resolved::Float(f64::NAN));
        }
        _ => {}
    }
    if !unsigned.is_empty() && unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        let fits = text.parse::<i128>().ok().filter(|value| in_range(*value));
        return fits
            .map(Resolved::Integer)
            .or_else(|| text.parse().ok().map(Resolved::Float));
    }
    is_float(unsigned)
        .then(|| text.parse().ok().map(Resolved::Float))
        .flatten()
}

fn in_range(value: i128) -> bool {
    (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&value)
}

fn radix(digits: &str, radix: u32) -> Option<Resolved<'static>> {
    let clean = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
    let value = clean
        .then(|| i128::from_str_radix(digits, radix).ok())
        .flatten()?;
    Some(if in_range(value) {
        Resolved::Integer(value)
    } else {
        Resolved::Float(value as f64)
    })
}

/// `( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?`
fn is_float(unsigned: &str) -> bool {
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let sound_mantissa = match mantissa.split_once('.') {
        Some((whole, fraction)) => {
            digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty())
        }
        None => digits(mantissa) && !mantissa.is_empty(),
    };
    let sound_exponent = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent)
    });
    sound_mantissa && sound_exponent
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_core_schema() {
        let cases: &[(&str, Resolved<'_>)] = &[
            ("", Resolved::Null),
            ("~", Resolved::Null),
            ("NULL", Resolved::Null),
            ("True", Resolved::Bool(true)),
            ("FALSE", Resolved::Bool(false)),
            ("yes", Resolved::Text("yes")),
            ("0", Resolved::Integer(0)),
            ("-012", Resolved::Integer(-12)),
            ("+3", Resolved::Integer(3)),
            ("0x1F", Resolved::Integer(31)),
            ("0o17", Resolved::Integer(15)),
            ("-0x1", Resolved::Text("-0x1")),
            ("0xfg", Resolved::Text("0xfg")),
            (
                "18446744073709551615",
                Resolved::Integer(i128::from(u64::MAX)),
            ),
            (
                "18446744073709551616",
                Resolved::Float(18_446_744_073_709_551_616.0),
            ),
            ("1e-4", Resolved::Float(1e-4)),
            ("1.0E+3", Resolved::Float(1000.0)),
            (".5", Resolved::Float(0.5)),
            ("5.", Resolved::Float(5.0)),
            (".", Resolved::Text(".")),
            ("-", Resolved::Text("-")),
            ("1e", Resolved::Text("1e")),
            ("1_000", Resolved::Text("1_000")),
            ("-.inf", Resolved::Float(f64::NEG_INFINITY)),
            ("inf", Resolved::Text("inf")),
            ("nan", Resolved::Text("nan")),
            ("machine-1-1", Resolved::Text("machine-1-1")),
            ("1.2.3", Resolved::Text("1.2.3")),
            ("2024-01-01", Resolved::Text("2024-01-01")),
        ];
        for (text, expected) in cases {
            assert_eq!(resolve(text), *expected, "{text:?}");
        }
        assert!(matches!(resolve(".nan"), Resolved::Float(value) if value.is_nan()));
        assert_eq!(Scalar::new("12", true).to_json(), Value::from("12"));
        assert_eq!(Scalar::new(".inf", false).to_json(), Value::from(".inf"));
    }

    proptest! {
        #[test]
        fn numbers_keep_their_value(integer: i64, float in proptest::num::f64::NORMAL) {
            let whole = Scalar::new(integer.to_string(), false);
            prop_assert_eq!(whole.resolve(), Resolved::Integer(integer.into()));
            let shortest = Scalar::new(format!("{float:?}"), false);
            prop_assert_eq!(shortest.resolve(), Resolved::Float(float));
            let scientific = Scalar::new(format!("{float:e}"), false);
            prop_assert_eq!(scientific.resolve(), Resolved::Float(float));
        }

        #[test]
        fn any_text_resolves(text in ".*") {
            let _ = resolve(&text);
        }
    }
}
