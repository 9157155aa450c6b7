//! `runner schema`: the JSON Schema of pipeline and sweep files. A first line such as
//! `# yaml-language-server: $schema=schema.json` makes editors use it.

use clap::{Args, ValueEnum};
use contract::StageKind;

use super::{CliError, Exit, Global};
use crate::spec::pipeline_schema;
use crate::sweep::sweep_schema;
use crate::ui::out;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Which files
    #[arg(value_enum, default_value = "pipeline")]
    of: Of,
}

/// Kinds of files.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Of {
    Pipeline,
    Sweep,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, CliError> {
    match arguments.of {
        Of::Pipeline => out!("{}\n", text(&global.catalogue.kinds)?),
        Of::Sweep => out!("{}\n", pretty(&sweep_schema())?),
    }
    Ok(Exit::Done)
}

/// The schema of pipelines as it is printed, without the last line break.
pub(super) fn text(kinds: &[StageKind]) -> Result<String, CliError> {
    pretty(&pipeline_schema(kinds))
}

fn pretty(schema: &serde_json::Value) -> Result<String, CliError> {
    serde_json::to_string_pretty(schema).map_err(|error| CliError::failed(error.to_string()))
}
