//! The rows of one block of text: fields, their numbers, and a precise complaint about the first that does not fit.
//! It sees neither files nor other blocks; its line numbers count from the start of the block.

use std::borrow::Cow;

use super::columns::{MOST, Role};
use super::fractions;
use super::keys::Keys;
use super::number;
use super::precision::{SIX_DECIMALS, narrow, widen};
use super::times::Clock;

/// What stands for a missing value, besides an empty field.
const MISSING: [&str; 19] = [
    "nan", "na", "n/a", "null", "none", "nil", "missing", "?", "-", "--", "-nan", "#n/a", "#na",
    "<na>", "nat", "#n/a n/a", "1.#ind", "-1.#ind", "1.#qnan",
];

/// Whether a field stands for a missing value.
pub(super) fn is_missing(field: &str) -> bool {
    field.is_empty() || MISSING.contains(&field.to_ascii_lowercase().as_str())
}

/// What marks an anomalous row, and a normal one, besides 1 and 0.
const ANOMALOUS: [&str; 8] = [
    "true",
    "yes",
    "anomaly",
    "anomalous",
    "abnormal",
    "attack",
    "outlier",
    "fault",
];
const NORMAL: [&str; 5] = ["false", "no", "normal", "benign", "inlier"];

/// How fields become columns.
pub(super) struct LineParser<'a> {
    pub roles: &'a [Role],
    /// Whether all roles are [`Role::Value`].
    pub only_values: bool,
    pub names: &'a [String],
    pub delimiter: u8,
    pub decimal: u8,
    /// What stands between thousands, if anything.
    pub thousands: Option<u8>,
    pub clock: &'a Clock,
    pub allow_missing: bool,
}

/// The first line of a block that does not fit.
pub(super) struct Fault {
    /// Counted from the first line of the block, which is 0.
    pub line: usize,
    pub message: String,
    pub hint: String,
}

/// What the lines of one block held.
#[derive(Default)]
pub(super) struct Rows {
    pub values: Vec<f32>,
    /// What rounding took from each value, see [`super::precision`], up to the last one that is not of six decimals: mostly
    /// nothing.
    pub rests: Vec<i32>,
    pub times: Vec<i64>,
    pub labels: Vec<u8>,
    pub ids: Keys,
    pub variables: Keys,
    /// Rows, blank lines not counted.
    pub count: usize,
    /// Lines, blank ones counted.
    pub lines: usize,
    /// The first blank line, if only blank ones follow.
    pub blank: Option<usize>,
    pub any_missing: bool,
    /// A quote was open at the end of a line: the rest of these rows means nothing.
    pub open_quote: bool,
    pub fault: Option<Fault>,
}

impl Rows {
    pub fn clear(&mut self) {
        self.values.clear();
        self.rests.clear();
        self.times.clear();
        self.labels.clear();
        self.ids.clear();
        self.variables.clear();
        (self.count, self.lines, self.blank) = (0, 0, None);
        (self.any_missing, self.open_quote) = (false, false);
        self.fault = None;
    }

    #[inline]
    fn push(&mut self, value: f64) {
        let (nearest, rest) = narrow(value);
        keep_rest(&mut self.rests, self.values.len(), rest);
        self.values.push(nearest);
    }
}

/// Keeps the rest of the value at `place`; those before that have none yet are of six decimals.
#[inline]
fn keep_rest(rests: &mut Vec<i32>, place: usize, rest: i32) {
    rests.resize(place, SIX_DECIMALS);
    rests.push(rest);
}

/// The place of the next line feed at or after `from`.
pub(super) fn end_of_line(text: &[u8], from: usize) -> Option<usize> {
    text.get(from..)?
        .iter()
        .position(|byte| *byte == b'\n')
        .map(|position| from + position)
}

/// The fields of one line as text: quotes taken off, blanks around them too.
pub(super) fn fields(line: &[u8], delimiter: u8) -> Vec<Cow<'_, str>> {
    let mut fields = Vec::new();
    let mut at = 0;
    loop {
        let end = field_end(line, at, line.len(), delimiter);
        fields.push(plain(&line[at..end]));
        if end == line.len() {
            return fields;
        }
        at = end + 1;
    }
}

/// Where the field that starts at `at` ends: at a delimiter outside of quotes or at `end`. A quote means something only at
/// the start of a field, and within one that it opened.
fn field_end(text: &[u8], at: usize, end: usize, delimiter: u8) -> usize {
    scan_field(text, at, end, delimiter).0
}

/// The end of a field, and whether a quote is still open there.
fn scan_field(text: &[u8], at: usize, end: usize, delimiter: u8) -> (usize, bool) {
    let mut index = at;
    while index < end && text[index] != delimiter && matches!(text[index], b' ' | b'\t') {
        index += 1;
    }
    let mut is_open = index < end && text[index] == b'"';
    if is_open {
        index += 1;
    }
    while index < end {
        if is_open && text[index] == b'"' {
            // A quote that is doubled stands for itself, any other closes for good.
            let is_doubled = index + 1 < end && text[index + 1] == b'"';
            is_open = is_doubled;
            index += usize::from(is_doubled);
        } else if text[index] == delimiter && !is_open {
            return (index, false);
        }
        index += 1;
    }
    (end, is_open)
}

/// Whether a line ends within quotes.
pub(super) fn open_quote(line: &[u8], delimiter: u8) -> bool {
    if !line.contains(&b'"') {
        return false;
    }
    let mut at = 0;
    loop {
        let (end, open) = scan_field(line, at, line.len(), delimiter);
        if end == line.len() {
            return open;
        }
        at = end + 1;
    }
}

/// Whether a carriage return stands in the middle of a line, outside of quotes. Others take it for the end of a line.
pub(super) fn stray_return(line: &[u8], delimiter: u8) -> bool {
    if !line.contains(&b'\r') {
        return false;
    }
    let mut at = 0;
    loop {
        let end = field_end(line, at, line.len(), delimiter);
        let mut field = &line[at..end];
        if end == line.len() {
            field = field.strip_suffix(b"\r").unwrap_or(field);
        }
        let start = field.iter().find(|byte| **byte != b' ');
        if start != Some(&b'"') && field.contains(&b'\r') {
            return true;
        }
        if end == line.len() {
            return false;
        }
        at = end + 1;
    }
}

/// What is said of it.
pub(super) const STRAY_RETURN: (&str, &str) = (
    "a carriage return stands in the middle of the line",
    "some programs take it for the end of a line: remove it, or write `\\n` for it where it is one",
);

/// A field without the blanks and quotes around it. What stands between a closing quote and the delimiter belongs to it.
fn plain(field: &[u8]) -> Cow<'_, str> {
    let Ok(text) = std::str::from_utf8(field) else {
        let text = String::from_utf8_lossy(field);
        return Cow::Owned(plain(text.as_bytes()).into_owned());
    };
    let text = text.trim();
    let Some(inner) = text.strip_prefix('"') else {
        return Cow::Borrowed(text);
    };
    match inner.split_once('"') {
        Some((inner, "")) => Cow::Borrowed(inner),
        Some(_) => Cow::Owned(unquoted(inner)),
        None => Cow::Borrowed(text),
    }
}

/// What a field says that began with a quote.
fn unquoted(mut rest: &str) -> String {
    let mut text = String::new();
    while let Some((before, after)) = rest.split_once('"') {
        text += before;
        rest = after;
        let Some(after) = rest.strip_prefix('"') else {
            break;
        };
        text.push('"');
        rest = after;
    }
    text + rest
}

type FieldResult<T> = Result<T, (String, String)>;

/// A word that says what a row belongs to.
fn word<'a>(name: &str, field: &'a str) -> FieldResult<&'a str> {
    if !field.is_empty() {
        return Ok(field);
    }
    let message = format!("column `{name}` is empty here");
    Err((
        message,
        "in the long form, it says what the row belongs to".into(),
    ))
}

impl LineParser<'_> {
    /// Whether rows say what they belong to.
    pub fn is_long(&self) -> bool {
        let mut roles = self.roles.iter();
        roles.any(|role| matches!(role, Role::Id | Role::Variable))
    }

    /// Parses the lines in `text[first..last]`; `last` is a line feed or the end of the file. `text` continues after
    /// that, so that numbers can be read a word at a time.
    pub fn parse(&self, text: &[u8], first: usize, last: usize, rows: &mut Rows) {
        let mut at = first;
        while at <= last {
            // Only a line that does not go the straight way is looked at a second time.
            let step = self
                .row(text, at, last, rows)
                .map_or_else(|| self.careful_row(text, at, last, rows), Ok);
            match step {
                Ok(next) => at = next,
                Err((message, hint)) => {
                    rows.fault = Some(Fault {
                        line: rows.lines,
                        message,
                        hint,
                    });
                    return;
                }
            }
            rows.lines += 1;
        }
    }

    /// The straight way: every field is plain and ends at the delimiter. Changes nothing if it does not succeed.
    #[inline]
    fn row(&self, text: &[u8], start: usize, last: usize, rows: &mut Rows) -> Option<usize> {
        let (values, labels, times) = (rows.values.len(), rows.labels.len(), rows.times.len());
        let (ids, variables) = (rows.ids.rows.len(), rows.variables.rows.len());
        if self.decimal != b'.' || self.thousands.is_some() {
            return None;
        }
        let next = if self.only_values {
            self.plain_values(text, start, last, rows)
        } else {
            self.plain_fields(text, start, last, rows)
        };
        let next = next.filter(|_| rows.blank.is_none());
        if next.is_some() {
            rows.count += 1;
        } else {
            rows.values.truncate(values);
            rows.rests.truncate(values);
            rows.labels.truncate(labels);
            rows.times.truncate(times);
            rows.ids.rows.truncate(ids);
            rows.variables.rows.truncate(variables);
        }
        next
    }

    /// A row of numbers and nothing else.
    #[inline]
    fn plain_values(
        &self,
        text: &[u8],
        start: usize,
        last: usize,
        rows: &mut Rows,
    ) -> Option<usize> {
        let base = rows.values.len();
        rows.values.resize(base + self.roles.len(), 0.0);
        let (end_value, values) = rows.values[base..].split_last_mut()?;
        let mut at = start;
        let mut column = 0;
        while column < values.len() {
            let run = fractions::parse(text, at, self.delimiter, &mut values[column..]);
            column += run;
            at += run * fractions::FIELD;
            if let Some(value) = values.get_mut(column) {
                let (number, end) = number::parse(text, at)?;
                let (nearest, rest) = finite(number)?;
                *value = nearest;
                keep_rest(&mut rows.rests, base + column, rest);
                if text[end] != self.delimiter {
                    return None;
                }
                column += 1;
                at = end + 1;
            }
        }
        if let Some(value) = fractions::one(text, at, b'\n') {
            *end_value = value;
            return next_line(text, at + fractions::FIELD - 1, last);
        }
        let (number, end) = number::parse(text, at)?;
        let (nearest, rest) = finite(number)?;
        *end_value = nearest;
        if widen(nearest, SIX_DECIMALS) != number {
            keep_rest(&mut rows.rests, base + column, rest);
        }
        next_line(text, end, last)
    }

    #[inline]
    fn plain_fields(
        &self,
        text: &[u8],
        start: usize,
        last: usize,
        rows: &mut Rows,
    ) -> Option<usize> {
        let mut at = start;
        let final_column = self.roles.len() - 1;
        for (column, role) in self.roles.iter().enumerate() {
            let end = match role {
                Role::Value => {
                    let (value, end) = number::parse(text, at)?;
                    finite(value)?;
                    rows.push(value);
                    end
                }
                Role::Label => {
                    let (value, end) = number::parse(text, at)?;
                    rows.labels
                        .push((value == 0.0 || value == 1.0).then_some(value as u8)?);
                    end
                }
                Role::Time => {
                    let end = self.plain_end(text, at, last)?;
                    rows.times.push(
                        self.clock
                            .parse(std::str::from_utf8(&text[at..end]).ok()?)?,
                    );
                    end
                }
                Role::Id | Role::Variable => {
                    let end = self.plain_end(text, at, last)?;
                    let word = std::str::from_utf8(&text[at..end]).ok()?.trim();
                    let keys = match role {
                        Role::Id => &mut rows.ids,
                        _ => &mut rows.variables,
                    };
                    keys.push(Some(word).filter(|word| !word.is_empty())?);
                    end
                }
                Role::Skip => self.plain_end(text, at, last)?,
            };
            if column == final_column {
                return next_line(text, end, last);
            }
            if text[end] != self.delimiter {
                return None;
            }
            at = end + 1;
        }
        None
    }

    /// The end of a field without quotes.
    fn plain_end(&self, text: &[u8], at: usize, last: usize) -> Option<usize> {
        let stops = |byte: &u8| *byte == self.delimiter || matches!(byte, b'\n' | b'\r' | b'"');
        let end = text[at..last]
            .iter()
            .position(stops)
            .map_or(last, |position| at + position);
        (text[end] != b'"').then_some(end)
    }

    /// The general way, field by field.
    fn careful_row(
        &self,
        text: &[u8],
        start: usize,
        last: usize,
        rows: &mut Rows,
    ) -> FieldResult<usize> {
        let end = end_of_line(&text[..last], start).unwrap_or(last);
        let line = &text[start..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.iter().all(u8::is_ascii_whitespace) && !line.contains(&self.delimiter) {
            // What follows the last line feed of the file is not a line.
            if start < last || text[last] == b'\n' {
                rows.blank.get_or_insert(rows.lines);
            }
            return Ok(end + 1);
        }
        if let Some(blank) = rows.blank {
            rows.lines = blank;
            return Err((
                "a blank line in the middle of the data".into(),
                "remove it".into(),
            ));
        }
        if open_quote(line, self.delimiter) {
            rows.open_quote = true;
            return Ok(last + 1);
        }
        self.record(line, rows)?;
        Ok(end + 1)
    }

    /// Parses one row, in which quotes may hold line breaks.
    pub fn parse_record(&self, line: &[u8], rows: &mut Rows) {
        rows.lines = 1 + line.iter().filter(|byte| **byte == b'\n').count();
        if line.iter().all(u8::is_ascii_whitespace) && !line.contains(&self.delimiter) {
            rows.blank = Some(0);
        } else if let Err((message, hint)) = self.record(line, rows) {
            rows.fault = Some(Fault {
                line: 0,
                message,
                hint,
            });
        }
    }

    /// The fields of one row, each by its role.
    fn record(&self, line: &[u8], rows: &mut Rows) -> FieldResult<()> {
        let count = 1 + line.iter().filter(|byte| **byte == self.delimiter).count();
        if count > MOST {
            return Err(self.wrong_count(count, ""));
        }
        if stray_return(line, self.delimiter) {
            let (message, hint) = STRAY_RETURN;
            return Err((message.to_owned(), hint.to_owned()));
        }
        let mut fields = fields(line, self.delimiter);
        // A delimiter at the end of each line makes an empty field of nothing.
        if fields.len() == self.roles.len() + 1 && fields.last().is_some_and(|last| last.is_empty())
        {
            fields.pop();
        }
        if fields.len() != self.roles.len() {
            let only = if fields.len() == 1 {
                fields[0].as_ref()
            } else {
                ""
            };
            return Err(self.wrong_count(fields.len(), only));
        }
        for ((role, name), field) in self.roles.iter().zip(self.names).zip(&fields) {
            match role {
                Role::Value => {
                    let value = self.value(name, field)?;
                    rows.any_missing |= value.is_nan();
                    rows.push(value);
                }
                Role::Label => rows.labels.push(label(name, field)?),
                Role::Time => rows.times.push(self.time(name, field)?),
                Role::Id => rows.ids.push(word(name, field)?),
                Role::Variable => rows.variables.push(word(name, field)?),
                Role::Skip => {}
            }
        }
        rows.count += 1;
        Ok(())
    }

    /// `only` is the field of a line that has one.
    fn wrong_count(&self, found: usize, only: &str) -> (String, String) {
        let message = format!("{found} fields where {} are expected", self.roles.len());
        let hint = if only.contains([',', ';', '\t', ' ']) {
            format!(
                "the line reads `{}`; is the delimiter `{}`?",
                shortened(only),
                char::from(self.delimiter)
            )
        } else {
            "every line has as many fields as the first; a line may be cut short or hold a stray delimiter".into()
        };
        (message, hint)
    }

    fn value(&self, name: &str, written: &str) -> FieldResult<f64> {
        if let Some(value) = self.with_point(written).and_then(|text| whole(&text)) {
            return if finite(value).is_some() {
                Ok(value)
            } else {
                let message = format!(
                    "`{}` in column `{name}` does not fit into 32 bits",
                    shortened(written)
                );
                Err((message, "scale the column down".into()))
            };
        }
        if is_missing(written) {
            return if self.allow_missing {
                Ok(f64::NAN)
            } else {
                Err(missing(name, written))
            };
        }
        let word = written.to_ascii_lowercase();
        let hint = match word.trim_start_matches(['+', '-']) {
            "inf" | "infinity" => "values must be finite: replace it or leave the field empty".to_owned(),
            _ if written.contains(',') => "is it a number? `decimal: \",\"` reads a decimal comma, `thousands: \",\"` a comma between thousands".to_owned(),
            _ => "leave the column out with `columns`, name it as `time` or `label`, or correct the file".to_owned(),
        };
        Err((
            format!(
                "`{}` in column `{name}` is not a finite number",
                shortened(written)
            ),
            hint,
        ))
    }

    /// A number as it would be written with a decimal point and nothing between thousands; `None` where the signs stand
    /// at places that make it another number, as in `1.5` where a point stands between thousands.
    fn with_point<'t>(&self, field: &'t str) -> Option<Cow<'t, str>> {
        if self.decimal == b'.' && self.thousands.is_none() {
            return Some(Cow::Borrowed(field));
        }
        let decimal = char::from(self.decimal);
        let (whole, fraction) = match field.split_once(decimal) {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (field, None),
        };
        let whole = match self.thousands.map(char::from) {
            Some(mark) if whole.contains(mark) => {
                are_thousands(whole, mark).then(|| whole.replace(mark, ""))?
            }
            _ => whole.to_owned(),
        };
        let number = match fraction {
            Some(fraction) if fraction.contains('.') => return None,
            Some(fraction) => format!("{whole}.{fraction}"),
            None => whole,
        };
        // What remains of points is no decimal sign.
        let points = usize::from(fraction.is_some());
        (number.matches('.').count() == points).then_some(Cow::Owned(number))
    }

    fn time(&self, name: &str, field: &str) -> FieldResult<i64> {
        self.clock.parse(field).ok_or_else(|| {
            let message = format!(
                "`{}` in column `{name}` is not a time; {} is expected",
                shortened(field),
                self.clock.format.described()
            );
            (message, self.clock.hint(field))
        })
    }
}

/// The number that a text is from end to end.
fn whole(text: &str) -> Option<f64> {
    let (value, end) = number::parse(text.as_bytes(), 0)?;
    (end == text.len()).then_some(value)
}

/// Whether marks divide digits into groups: three at the end, and two or three in the middle, as some count in India.
fn are_thousands(whole: &str, mark: char) -> bool {
    let groups: Vec<&str> = whole
        .strip_prefix(['+', '-'])
        .unwrap_or(whole)
        .split(mark)
        .collect();
    let Some(([first, middle @ ..], last)) = groups.split_last().map(|(last, rest)| (rest, last))
    else {
        return false;
    };
    groups
        .iter()
        .all(|group| group.bytes().all(|byte| byte.is_ascii_digit()))
        && (1..=3).contains(&first.len())
        && middle.iter().all(|group| (2..=3).contains(&group.len()))
        && last.len() == 3
}

fn missing(name: &str, field: &str) -> (String, String) {
    let what = if field.is_empty() {
        "nothing".to_owned()
    } else {
        format!("`{}`", shortened(field))
    };
    let hint = "where the format allows it, `missing: ffill`, `interpolate` or `drop` fills or drops such rows";
    (
        format!("the value of column `{name}` is missing: there is {what}"),
        hint.to_owned(),
    )
}

pub(super) fn label(name: &str, field: &str) -> FieldResult<u8> {
    match number::parse(field.as_bytes(), 0) {
        Some((value, end)) if end == field.len() && value == 0.0 => return Ok(0),
        Some((value, end)) if end == field.len() && value == 1.0 => return Ok(1),
        _ => {}
    }
    let word = field.to_ascii_lowercase();
    if ANOMALOUS.contains(&word.as_str()) {
        return Ok(1);
    }
    if NORMAL.contains(&word.as_str()) {
        return Ok(0);
    }
    let message = format!(
        "the label in column `{name}` is `{}`, neither 0 nor 1",
        shortened(field)
    );
    let hint = format!(
        "1 marks an anomalous row, 0 a normal one; of words, {} and {} are known",
        ANOMALOUS.join(", "),
        NORMAL.join(", ")
    );
    Err((message, hint))
}

/// A value in 32 bits and its rest, if 32 bits reach that far.
#[inline]
fn finite(value: f64) -> Option<(f32, i32)> {
    let (nearest, rest) = narrow(value);
    nearest.is_finite().then_some((nearest, rest))
}

/// Where the next line starts if this one ends at `end`; one beyond `last` if this is the last one.
#[inline]
fn next_line(text: &[u8], end: usize, last: usize) -> Option<usize> {
    let feed = if text[end] == b'\r' { end + 1 } else { end };
    (feed == last || text[feed] == b'\n').then_some(feed + 1)
}

/// At most 40 characters of a field.
pub(super) fn shortened(field: &str) -> String {
    match field.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &field[..end]),
        None => field.to_owned(),
    }
}
