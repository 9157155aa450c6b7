//! What stands before the rows of a text file: lines to skip, comments, a line that names the delimiter, the names of the
//! columns, a line of units. What was taken for what is noted, since a file may mean something else.

use std::borrow::Cow;
use std::path::Path;

use super::columns::{self, check_count};
use super::line::{self, is_missing, shortened};
use super::number;
use super::text::{Dialect, MARK_OF_UTF8, Source, whole_line};
use contract::{Doubt, Trouble};

/// Rows that are looked at to find out how decimals are written.
const LOOK: usize = 50;

/// What was found.
pub(super) struct Head {
    pub names: Vec<String>,
    pub delimiter: u8,
    /// The decimal sign.
    pub decimal: u8,
    /// Where the first row starts, and the number of its line.
    pub body: u64,
    pub first_line: usize,
    /// Bytes of the first row, for estimates.
    pub row_bytes: usize,
    pub notes: Vec<String>,
    /// What is probably not a head, though it was read as one.
    pub doubt: Option<Doubt>,
}

/// A line of the file: its text, its number, and where it and the next one start.
struct Line {
    text: Vec<u8>,
    number: usize,
    start: u64,
    next: u64,
}

impl Line {
    fn is_blank(&self) -> bool {
        self.text.iter().all(u8::is_ascii_whitespace)
    }

    fn shown(&self) -> String {
        shortened(String::from_utf8_lossy(&self.text).trim())
    }
}

/// Goes through a file line by line. A line break within quotes does not end a line.
struct Lines<'a> {
    source: &'a Source,
    bytes: u64,
    at: u64,
    number: usize,
    delimiter: u8,
}

impl Lines<'_> {
    fn next(&mut self) -> std::io::Result<Option<Line>> {
        if self.at >= self.bytes {
            return Ok(None);
        }
        let (start, number) = (self.at, self.number);
        let (mut text, mut next) = whole_line(self.source, start, self.bytes)?;
        self.number += 1;
        while line::open_quote(&text, self.delimiter) && next < self.bytes {
            let (more, after) = whole_line(self.source, next, self.bytes)?;
            text.push(b'\n');
            text.extend(more);
            next = after;
            self.number += 1;
        }
        self.at = next;
        Ok(Some(Line {
            text,
            number,
            start,
            next,
        }))
    }
}

impl Head {
    /// Looks at the beginning of a file that has `bytes` bytes of text.
    ///
    /// # Errors
    /// If there are no rows, or if what stands there is not a table.
    pub fn read(
        source: &Source,
        bytes: u64,
        path: &Path,
        dialect: &Dialect<'_>,
    ) -> Result<Self, Trouble> {
        let failed = columns::unreadable(path);
        let mut mark = vec![0; 3.min(bytes as usize)];
        source.read_exact_at(&mut mark, 0).map_err(&failed)?;
        let start = if mark == MARK_OF_UTF8 { 3 } else { 0 };
        let mut lines = Lines {
            source,
            bytes,
            at: start,
            number: 1,
            delimiter: dialect.delimiter,
        };
        let (mut notes, mut doubt) = (Vec::new(), None);
        for _ in 0..dialect.skip {
            lines.next().map_err(&failed)?;
        }
        let (comments, first) =
            leading(&mut lines, &mut notes, path).map_err(|error| match error {
                Stop::Read(error) => failed(error),
                Stop::Wrong(trouble) => trouble,
            })?;
        let Some(first) = first else {
            return Err(columns::empty(path));
        };
        let delimiter = lines.delimiter;
        let separators = first.text.iter().filter(|byte| **byte == delimiter);
        check_count(1 + separators.count(), path)?;
        if line::stray_return(&first.text, delimiter) {
            let (message, hint) = line::STRAY_RETURN;
            return Err(Trouble::new(message)
                .at(path, Some(first.number))
                .hint(hint));
        }
        let fields = line::fields(&first.text, delimiter);
        let (mut names, mut row) = if !dialect.header {
            ((0..fields.len()).map(dialect.name).collect(), Some(first))
        } else if let Some(names) = names_in_comment(&comments, &fields, delimiter) {
            notes.push(format!(
                "the names of the columns stand in the comment `{}`",
                comments.last().map(Line::shown).unwrap_or_default()
            ));
            (names, Some(first))
        } else {
            if fields.iter().all(|name| name.is_empty()) {
                return Err(columns::empty(path));
            }
            let names: Vec<String> = fields.into_iter().map(Cow::into_owned).collect();
            if names.iter().all(|name| is_number(name)) {
                doubt = Some(numbers_for_names(&first, path));
            }
            (names, lines.next().map_err(&failed)?)
        };
        if let Some(text) = comments.first().map(Line::shown) {
            let count = comments.len();
            let what = if count == 1 { "a comment" } else { "comments" };
            notes.push(format!(
                "{count} lines before the table are taken for {what}: `{text}`, …"
            ));
        }
        let mut ahead = Vec::new();
        if dialect.header
            && let Some(units) = &row
            && let Some(after) = lines.next().map_err(&failed)?
        {
            if are_units(&units.text, &after.text, delimiter) {
                notes.push(format!(
                    "line {} (`{}`) is taken for units",
                    units.number,
                    units.shown()
                ));
                row = Some(after);
            } else {
                ahead.push(after);
            }
        }
        let Some(row) = row else {
            return Err(columns::empty(path));
        };
        without_last(&mut names, &line::fields(&row.text, delimiter));
        let decimal = match dialect.decimal {
            Some(decimal) => decimal,
            None if delimiter == b',' => b'.',
            None => {
                let mut seen = vec![row.text.clone()];
                seen.extend(ahead.into_iter().map(|line| line.text));
                while seen.len() < LOOK
                    && let Some(line) = lines.next().map_err(&failed)?
                {
                    seen.push(line.text);
                }
                decimal(&seen, delimiter, &mut notes)
            }
        };
        Ok(Self {
            names,
            delimiter,
            decimal,
            body: row.start,
            first_line: row.number,
            row_bytes: (row.next - row.start) as usize,
            notes,
            doubt,
        })
    }
}

/// A first row of numbers that was taken for the names of the columns.
fn numbers_for_names(line: &Line, path: &Path) -> Doubt {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let message = format!(
        "the names of the columns are numbers: line {} of {file} is `{}`",
        line.number,
        line.shown()
    );
    Doubt::new("numbers-for-names", message).hint(
        "set `header: false` where the file has no header; its first row is left out otherwise",
    )
}

/// Why reading the head stopped.
enum Stop {
    Read(std::io::Error),
    Wrong(Trouble),
}

/// Comments, and the first line that is none. Excel's `sep=;` sets the delimiter.
fn leading(
    lines: &mut Lines<'_>,
    notes: &mut Vec<String>,
    path: &Path,
) -> Result<(Vec<Line>, Option<Line>), Stop> {
    let mut comments = Vec::new();
    while let Some(line) = lines.next().map_err(Stop::Read)? {
        if let [b's' | b'S', b'e' | b'E', b'p' | b'P', b'=', delimiter] = line.text[..] {
            lines.delimiter = delimiter;
            let delimiter = char::from(delimiter);
            notes.push(format!(
                "line {} sets the delimiter `{delimiter}`",
                line.number
            ));
        } else if line.text.starts_with(b"#") {
            comments.push(line);
        } else if line.is_blank() && lines.at < lines.bytes {
            let trouble = Trouble::new(format!("line {} is blank", line.number))
                .at(path, Some(line.number))
                .hint("the table begins in the first line; where the format has `skip`, it says how many lines stand before it");
            return Err(Stop::Wrong(trouble));
        } else {
            return Ok((comments, Some(line).filter(|line| !line.is_blank())));
        }
    }
    Ok((comments, None))
}

/// The names in the last comment, where it has a name for each column and a row of numbers follows, as `numpy.savetxt`
/// writes it.
fn names_in_comment(comments: &[Line], row: &[Cow<'_, str>], delimiter: u8) -> Option<Vec<String>> {
    let comment = comments.last()?;
    let names = line::fields(comment.text.strip_prefix(b"#")?, delimiter);
    let fits = names.len() == row.len()
        && row
            .iter()
            .all(|field| is_number(field) || is_missing(field))
        && names
            .iter()
            .all(|name| !name.is_empty() && !is_number(name));
    fits.then(|| names.into_iter().map(Cow::into_owned).collect())
}

/// Whether a line below the names holds units: wherever the next line has a number, it has a word.
fn are_units(line: &[u8], next: &[u8], delimiter: u8) -> bool {
    let (words, row) = (line::fields(line, delimiter), line::fields(next, delimiter));
    let mut numbers = 0;
    for (word, field) in words.iter().zip(&row) {
        if is_number(field) {
            numbers += 1;
            if is_number(word) || is_missing(word) {
                return false;
            }
        }
    }
    numbers > 0 && words.len() == row.len()
}

/// Takes off the last name where a delimiter ends each line.
fn without_last(names: &mut Vec<String>, row: &[Cow<'_, str>]) {
    let ends_with_delimiter = names.len() > 1
        && names.last().is_some_and(String::is_empty)
        && (row.len() < names.len() || row.last().is_some_and(|field| field.is_empty()));
    if ends_with_delimiter {
        names.pop();
    }
}

/// The decimal sign of some rows. A comma before three digits may as well stand between thousands, so that alone decides
/// nothing.
fn decimal(rows: &[Vec<u8>], delimiter: u8, notes: &mut Vec<String>) -> u8 {
    let mut example = None;
    for row in rows {
        for field in line::fields(row, delimiter) {
            if is_number(&field) && field.contains('.') {
                return b'.';
            }
            if example.is_none() && has_decimal_comma(&field) {
                example = Some(field.into_owned());
            }
        }
    }
    match example {
        Some(example) => {
            notes.push(format!(
                "numbers such as `{example}` are read with a decimal comma"
            ));
            b','
        }
        None => b'.',
    }
}

/// A number with one comma, and not three digits after it.
fn has_decimal_comma(field: &str) -> bool {
    let Some((whole, fraction)) = field.split_once(',') else {
        return false;
    };
    let whole = whole.trim_start_matches(['+', '-']);
    let are_digits =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    are_digits(whole) && are_digits(fraction) && fraction.len() != 3
}

fn is_number(field: &str) -> bool {
    number::parse(field.as_bytes(), 0).is_some_and(|(_, end)| end == field.len())
}
