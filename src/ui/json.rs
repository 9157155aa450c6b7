//! Events as JSON lines on standard output.

use std::io::Write;

use crate::engine::{Event, Reporter};

/// One JSON object per event.
#[derive(Debug, Default)]
pub struct JsonLines;

impl JsonLines {
    pub fn new() -> Self {
        Self
    }
}

impl Reporter for JsonLines {
    fn on(&mut self, event: &Event) {
        if let Ok(line) = serde_json::to_string(event) {
            // A reader that went away is no reason to fail.
            let _ = writeln!(std::io::stdout().lock(), "{line}");
        }
    }
}
