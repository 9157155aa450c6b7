//! Colours by meaning. Whether they are shown follows NO_COLOR, CLICOLOR, CLICOLOR_FORCE and whether there is a
//! terminal; text never depends on them.
//!
//! A coloured text holds marks, and only [`styled`] turns marks into a terminal's sequences. So a sequence that comes from a
//! file or a program never passes for one of ours, and is shown as text.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use anstyle::{AnsiColor, Style};

use crate::diagnostic::{visible, visible_lines};

/// A meaning that has a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    Good,
    Bad,
    Warn,
    Busy,
    Quiet,
    Strong,
}

/// All of them, in the order in which they are declared: that is the order of their marks.
const PAINTS: [Paint; 6] = [
    Paint::Good,
    Paint::Bad,
    Paint::Warn,
    Paint::Busy,
    Paint::Quiet,
    Paint::Strong,
];

/// The mark that ends a colour; those that begin one come after it. They lie in a plane for private use, at a place that
/// every process chooses anew: no text that was written before can hold one on purpose.
static END: LazyLock<u32> = LazyLock::new(|| {
    const PLANE: u32 = 0xF_0000;
    const PLACES: u64 = 0xFF00;
    PLANE + (RandomState::new().hash_one(std::process::id()) % PLACES) as u32
});

fn mark(number: u32) -> char {
    char::from_u32(*END + number).unwrap_or('\u{f0000}')
}

/// What a mark stands for.
#[derive(Clone, Copy)]
enum Mark {
    Begin(Paint),
    End,
}

fn meaning(character: char) -> Option<Mark> {
    match u32::from(character).checked_sub(*END)? {
        0 => Some(Mark::End),
        number => Some(Mark::Begin(*PAINTS.get(number as usize - 1)?)),
    }
}

impl Paint {
    fn style(self) -> Style {
        match self {
            Self::Good => AnsiColor::Green.on_default(),
            Self::Bad => AnsiColor::Red.on_default().bold(),
            Self::Warn => AnsiColor::Yellow.on_default(),
            Self::Busy => AnsiColor::Cyan.on_default(),
            Self::Quiet => Style::new().dimmed(),
            Self::Strong => Style::new().bold(),
        }
    }

    /// The text in this colour, as part of one line; print it through [`screen`](super::screen).
    pub fn on<T: fmt::Display>(self, text: T) -> String {
        let number = self as u32 + 1;
        format!("{}{}{}", mark(number), visible(&text.to_string()), mark(0))
    }
}

/// Text for a stream: colours where they are wanted, and everything else that steers a terminal as its escape.
pub(super) fn styled(text: &str, colours: Colours) -> String {
    let safe = visible_lines(text);
    let mut shown = String::with_capacity(safe.len());
    let mut last = Style::new();
    for character in safe.chars() {
        match meaning(character) {
            None => shown.push(character),
            Some(_) if !colours.0 => {}
            Some(Mark::Begin(paint)) => {
                last = paint.style();
                shown.push_str(&last.render().to_string());
            }
            Some(Mark::End) => shown.push_str(&last.render_reset().to_string()),
        }
    }
    shown
}

/// How many characters of a text are seen: all but marks.
pub(super) fn width(text: &str) -> usize {
    let seen = text.chars().filter(|letter| meaning(*letter).is_none());
    seen.count()
}

/// Whether to show colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colours(pub bool);

impl Colours {
    /// What standard output wants.
    pub fn of_stdout() -> Self {
        Self(anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never)
    }

    /// What standard error wants.
    pub fn of_stderr() -> Self {
        Self(anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_ours_and_sequences_are_text() {
        let hostile = "\u{1b}[32mgood\u{1b}[0m\u{1b}]8;;http://x\u{7}";
        let text = format!("{}: {hostile}\n", Paint::Bad.on("a\nb"));
        let plain = "a\\nb: \\u{1b}[32mgood\\u{1b}[0m\\u{1b}]8;;http://x\\u{7}\n";
        assert_eq!(styled(&text, Colours(false)), plain);
        let coloured = styled(&text, Colours(true));
        assert!(
            coloured.starts_with("\u{1b}[1m\u{1b}[31ma\\nb\u{1b}[0m: "),
            "{coloured:?}"
        );
        assert_eq!(coloured.matches('\u{1b}').count(), 3);
    }
}
