//! `runner graph`: a drawing of the pipeline, coloured by what is stored already. A pipeline with errors is drawn as far
//! as it could be understood.

use clap::{Args, ValueEnum};

use super::arguments::PipelineArguments;
use super::error::print_diagnostics;
use super::{Error, Exit, Global};
use crate::engine::Verdict;
use crate::graph::{Colour, Format, draw};
use crate::project::{Fetch, Reading, Session};
use crate::ui::{out, screen};

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

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    let format = match arguments.format {
        _ if global.json => Format::Json,
        FormatName::Mermaid => Format::Mermaid,
        FormatName::Dot => Format::Dot,
        FormatName::Json => Format::Json,
    };
    let session = match Session::open(&global.project, &arguments.pipeline.request(), Fetch::Never)
    {
        Ok(session) => session,
        // With `--json`, the report has the one place on standard output.
        Err(Error::Faulty(faulty)) if !global.json => {
            print_diagnostics(&faulty.diagnostics, &faulty.sources, false);
            draw_faulty(global, arguments, format)?;
            return Ok(Exit::Wrong);
        }
        Err(error) => return Err(error),
    };
    let plan = session.planner().plan();
    let colour = |id| match plan.stage(id).verdict {
        Verdict::Hit(_) => Colour::Hit,
        Verdict::Miss(_) => Colour::Miss,
        Verdict::Pending(_) => Colour::Pending,
        Verdict::Broken(_) => Colour::Broken,
    };
    let drawing = draw(&session.graph, format, colour);
    match serde_json::from_str(&drawing) {
        Ok(document) if matches!(format, Format::Json) => screen::print_json_pretty(&document),
        _ => out!("{drawing}"),
    }
    Ok(Exit::Done)
}

/// Draws what could be understood of a pipeline with errors; stages of a cycle, and of unknown kinds, are left out.
fn draw_faulty(global: &Global, arguments: &Arguments, format: Format) -> Result<(), Error> {
    let reading = Reading::of(&global.project, &arguments.pipeline.request())?;
    if let Some((_, graph)) = reading
        .built
        .filter(|(_, graph)| reading.diagnostics.has_errors() && !graph.is_empty())
    {
        let colour = |id| {
            if graph.stage(id).faulty {
                Colour::Broken
            } else {
                Colour::Pending
            }
        };
        out!("{}", draw(&graph, format, colour));
    }
    Ok(())
}
