//! `runner schema`: the JSON Schema of pipeline files. A first line such as
//! `# yaml-language-server: $schema=schema.json` makes editors use it.

use super::{CliError, Exit};
use crate::spec::pipeline_schema;

pub(super) fn run() -> Result<Exit, CliError> {
    println!("{}", text()?);
    Ok(Exit::Done)
}

/// The schema as it is printed, without the last line break.
pub(super) fn text() -> Result<String, CliError> {
    let schema = pipeline_schema(&stages::kinds());
    serde_json::to_string_pretty(&schema).map_err(|error| CliError::failed(error.to_string()))
}
