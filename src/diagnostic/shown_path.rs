//! Paths in messages.

use std::path::Path;

/// A path as seen from the current folder, if it lies below it.
pub fn shown_path(path: &Path) -> String {
    let current = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&current)
        .unwrap_or(path)
        .display()
        .to_string()
}
