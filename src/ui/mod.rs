//! How a run looks: bars on a terminal, plain lines in a log, JSON lines for programs. Reads events, decides nothing.

mod bars;
mod json;
mod lines;
pub mod screen;
mod style;
mod table;
mod trace;

use std::io::IsTerminal;

pub use crate::diagnostic::{bytes, duration, number};
pub use json::JsonLines;
pub use lines::{Lines, doubt_text};
pub use screen::{Redrawn, clear_line, json_line, print_json, redraw};
pub(crate) use screen::{err, errln, out, outln};
pub use style::{Colours, Paint};
pub use table::{Align, Table};
pub use trace::Trace;

use crate::engine::Reporter;

/// Which rendering the user asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Bars if standard error is a terminal, lines otherwise.
    Auto,
    Quiet,
    Json,
}

/// The reporter for a mode. Hits are told one by one only when asked for.
pub fn reporter(mode: Mode, verbose: bool) -> Box<dyn Reporter> {
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    let terminal = std::io::stderr().is_terminal() && !dumb;
    match mode {
        Mode::Json => Box::new(JsonLines),
        Mode::Quiet => Box::new(Lines::quiet()),
        Mode::Auto if terminal => Box::new(bars::Bars::new(verbose)),
        Mode::Auto => Box::new(Lines::new(verbose)),
    }
}
