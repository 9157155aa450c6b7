//! `runner graph`: a drawing of the pipeline, coloured by what is stored already.

use clap::{Args, ValueEnum};

use super::arguments::PipelineArguments;
use super::session::{Fetch, Session};
use super::{CliError, Exit, Global};
use crate::engine::Verdict;
use crate::graph::{Colour, Format, draw};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    pipeline: PipelineArguments,
    /// The language of the drawing; `--json` is the same as `--format json`
    #[arg(long, value_name = "FORMAT", default_value = "mermaid")]
    format: FormatName,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatName {
    Mermaid,
    Dot,
    Json,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, CliError> {
    let session = Session::open(global, &arguments.pipeline, Fetch::Never)?;
    let plan = session.planner().plan();
    let format = match arguments.format {
        _ if global.json => Format::Json,
        FormatName::Mermaid => Format::Mermaid,
        FormatName::Dot => Format::Dot,
        FormatName::Json => Format::Json,
    };
    let colour = |id| match plan.stage(id).verdict {
        Verdict::Hit(_) => Colour::Hit,
        Verdict::Miss(_) => Colour::Miss,
        Verdict::Pending(_) => Colour::Pending,
        Verdict::Broken(_) => Colour::Broken,
    };
    print!("{}", draw(&session.graph, format, colour));
    Ok(Exit::Done)
}
