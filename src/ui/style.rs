//! Colours by meaning. Whether they are shown follows NO_COLOR, CLICOLOR, CLICOLOR_FORCE and whether there is a
//! terminal; text never depends on them.

use std::fmt;

use anstyle::{AnsiColor, Style};

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

    /// The text in this colour; print it through `anstream`, which removes colours where they are not wanted.
    pub fn on<T: fmt::Display>(self, text: T) -> String {
        let style = self.style();
        format!("{style}{text}{style:#}")
    }
}

/// Whether to colour text that is not printed through `anstream`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colours(pub bool);

impl Colours {
    /// What standard error wants.
    pub fn of_stderr() -> Self {
        Self(anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never)
    }
}
