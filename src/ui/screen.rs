//! The only way to standard output and standard error: text goes through one filter, in which nothing of a terminal's
//! language is left but the colours that [`Paint`](super::Paint) put there. Output that cannot be written is noted here
//! and reported when the process ends.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, OnceLock, PoisonError};

use serde_json::Value;

use super::style::{Colours, styled};
use crate::diagnostic::{visible, visible_json, visible_lines};

/// As if by SIGPIPE: how a process ends whose reader went away.
pub const NOBODY_READS: u8 = 128 + 13;

/// Prints text on standard output; takes what `format!` takes.
macro_rules! out {
    ($($text:tt)*) => { $crate::ui::screen::print(&format!($($text)*)) };
}

/// Prints one line on standard output: a line break inside is no end of the line, and is shown as its escape.
macro_rules! outln {
    ($($text:tt)*) => { $crate::ui::screen::print_line(&format!($($text)*)) };
}

/// Prints text on standard error.
macro_rules! err {
    ($($text:tt)*) => { $crate::ui::screen::report(&format!($($text)*)) };
}

/// Prints one line on standard error, in the same way.
macro_rules! errln {
    ($($text:tt)*) => { $crate::ui::screen::report_line(&format!($($text)*)) };
}

pub(crate) use {err, errln, out, outln};

/// The first failure to write to standard output.
static FAILURE: OnceLock<io::Error> = OnceLock::new();

/// What the one JSON document of a command says besides its result.
static BESIDE: Mutex<Vec<Value>> = Mutex::new(Vec::new());

/// Text for standard output.
pub fn print(text: &str) {
    raw(styled(text, Colours::of_stdout()).as_bytes());
}

/// The text for a file: without colours, and nothing in it steers a terminal.
pub fn plain(text: &str) -> String {
    styled(text, Colours(false))
}

/// One line for standard output.
pub fn print_line(text: &str) {
    print(&(visible(text).into_owned() + "\n"));
}

/// One line for standard error.
pub fn report_line(text: &str) {
    report(&(visible(text).into_owned() + "\n"));
}

/// Bytes for standard output that are a file's content rather than words: nothing in them is changed.
pub fn raw(bytes: &[u8]) {
    match write(bytes) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            std::process::exit(NOBODY_READS.into())
        }
        Err(error) => {
            let _ = FAILURE.set(error);
        }
        Ok(()) => {}
    }
}

fn write(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// Text for standard error. Where that cannot be written, there is nobody left to tell.
pub fn report(text: &str) {
    let text = styled(text, Colours::of_stderr());
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// The result of a command as JSON. Warnings that were given by [`beside`] become part of it: it is the only document.
pub fn print_json(value: &Value) {
    json_line(&with_warnings(value));
}

/// [`print_json`] with a line for each value, for results that people read, too.
pub fn print_json_pretty(value: &Value) {
    let text = serde_json::to_string_pretty(&*with_warnings(value)).unwrap_or_default() + "\n";
    raw(visible_json(&text).as_bytes());
}

fn with_warnings(value: &Value) -> Cow<'_, Value> {
    let diagnostics = std::mem::take(&mut *BESIDE.lock().unwrap_or_else(PoisonError::into_inner));
    match value {
        Value::Object(object) if !diagnostics.is_empty() => {
            let mut object = object.clone();
            object.insert("diagnostics".to_owned(), Value::Array(diagnostics));
            Cow::Owned(Value::Object(object))
        }
        other => Cow::Borrowed(other),
    }
}

/// Keeps warnings for the document that [`print_json`] writes.
pub fn beside(diagnostics: Vec<Value>) {
    BESIDE
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .extend(diagnostics);
}

/// One document of a stream of JSON lines, such as an event.
pub fn json_line(value: &Value) {
    raw(line_of(value).as_bytes());
}

/// An event for whoever still reads: one who went away is no reason to end a run.
pub fn json_event(value: &Value) {
    if let Err(error) = write(line_of(value).as_bytes()) {
        let _ = FAILURE.set(error);
    }
}

fn line_of(value: &Value) -> String {
    visible_json(&value.to_string()).into_owned() + "\n"
}

/// Draws a line of progress on a terminal's standard error over the one before.
pub fn redraw(text: &str) {
    let _ = write!(io::stderr().lock(), "\r\u{1b}[2K{}", visible(text));
}

/// Ends a line of progress: what comes next begins where it stood.
pub fn clear_line() {
    redraw("");
}

/// Lines on standard output that take the place of those before them on a terminal. Elsewhere they are printed when they have
/// changed.
#[derive(Default)]
pub struct Redrawn(Vec<String>);

impl Redrawn {
    /// Shows these lines.
    pub fn show(&mut self, lines: &[String]) {
        if self.0 == lines {
            return;
        }
        if !self.0.is_empty() && io::stdout().is_terminal() {
            // Up over what was there, and clear to the end of the screen.
            let _ = write!(io::stdout().lock(), "\u{1b}[{}A\u{1b}[0J", self.0.len());
        }
        for line in lines {
            crate::ui::outln!("{line}");
        }
        self.0 = lines.to_vec();
    }
}

/// Why standard output could not be written, if so.
pub fn failure() -> Option<&'static io::Error> {
    FAILURE.get()
}

/// A writer on standard error for the log, whose lines hold nothing but text and the colours of its own levels.
#[derive(Clone, Copy, Debug, Default)]
pub struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = with_colours_of_others(&String::from_utf8_lossy(bytes));
        io::stderr().lock().write_all(text.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Text that another library has coloured, and in which it made everything else harmless: only `ESC [ … m` stays.
pub fn report_coloured(text: &str) {
    let text = with_colours_of_others(text);
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

fn with_colours_of_others(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('\u{1b}') {
        shown.push_str(&visible_lines(&rest[..start]));
        let sequence = &rest[start..];
        let length = colour_length(sequence);
        match length {
            Some(length) => shown.push_str(&sequence[..length]),
            None => shown.push_str("\\u{1b}"),
        }
        rest = &sequence[length.unwrap_or(1)..];
    }
    shown.push_str(&visible_lines(rest));
    shown
}

/// The length of a sequence that sets colours, if the text begins with one.
fn colour_length(text: &str) -> Option<usize> {
    let numbers = text.strip_prefix("\u{1b}[")?;
    let end = numbers.find(|character: char| !character.is_ascii_digit() && character != ';')?;
    numbers[end..].starts_with('m').then_some(2 + end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_colours_of_libraries_are_let_through() {
        let text = "\u{1b}[1m\u{1b}[31merror\u{1b}[0m: \u{1b}]0;x\u{7}\u{1b}[2J\n\u{1b}";
        let shown = with_colours_of_others(text);
        assert_eq!(
            shown,
            "\u{1b}[1m\u{1b}[31merror\u{1b}[0m: \\u{1b}]0;x\\u{7}\\u{1b}[2J\n\\u{1b}"
        );
    }
}
