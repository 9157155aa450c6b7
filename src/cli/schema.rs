//! `runner schema`: the JSON Schema of pipeline and sweep files. A first line such as
//! `# yaml-language-server: $schema=schema.json` makes editors use it.

use clap::{Args, ValueEnum};
use contract::StageKind;

use super::{Error, Exit, Global};
use crate::pipeline::pipeline_schema;
use crate::sweep::sweep_schema;
use crate::ui::out;

#[derive(Debug, Args)]
#[command(
    after_help = "A pipeline file names it in its first line, and editors complete and check the file:\n  \
    # yaml-language-server: $schema=schema.json\n\nExample:\n  runner schema > pipelines/schema.json"
)]
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

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    match arguments.of {
        Of::Pipeline => out!("{}\n", text(&global.project.catalogue.kinds)?),
        Of::Sweep => out!("{}\n", pretty(&sweep_schema())?),
    }
    Ok(Exit::Done)
}

/// The schema of pipelines as it is printed, without the last line break.
pub(super) fn text(kinds: &[StageKind]) -> Result<String, Error> {
    pretty(&pipeline_schema(kinds))
}

fn pretty(schema: &serde_json::Value) -> Result<String, Error> {
    serde_json::to_string_pretty(schema).map_err(|error| Error::failed(error.to_string()))
}
