//! Events as JSON lines on standard output.

use super::screen;
use crate::engine::{Event, Reporter};

/// One JSON object per event.
#[derive(Debug, Default)]
pub struct JsonLines;

impl Reporter for JsonLines {
    fn on(&mut self, event: &Event) {
        if let Ok(event) = serde_json::to_value(event) {
            screen::json_event(&event);
        }
    }
}
