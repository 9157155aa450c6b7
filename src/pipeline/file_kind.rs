//! What a YAML file describes: a pipeline or a sweep.

use std::path::Path;
use std::sync::Arc;

use super::limits::read_text;
use super::yaml;
use crate::diagnostic::SourceMap;

/// Whether a file describes a sweep: it has the key `sweep`, whatever else is right or wrong with it.
pub fn is_sweep(path: &Path) -> bool {
    let text: Arc<str> = read_text(path).unwrap_or_default().into();
    let file = SourceMap::default().add(path.display().to_string(), Arc::clone(&text));
    yaml::parse(&text, file, 0)
        .0
        .is_some_and(|node| node.get("sweep").is_some())
}
