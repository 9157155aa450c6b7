//! The command line: one file per verb. Verbs print; everything else returns values.

mod arguments;
mod audit_report;
mod error;
mod execution;
mod gc;
mod listener;
mod progress;
mod record;
mod remote;
mod shared_parameters;
mod signals;
mod transfer;
mod usage;
mod views;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use contract::Catalogue;

pub use arguments::Global;
pub use error::Exit;

use crate::diagnostic::shown_path as shown;
use crate::project::Error;
use crate::ui::{Paint, errln, screen};

/// Runs time-series experiments that can be trusted.
#[derive(Debug, Parser)]
#[command(
    name = "runner",
    version,
    about,
    long_about = "Runs time-series experiments that can be trusted.\n\n\
        A YAML pipeline names stages, which form a graph. Every output is stored under a key that follows from what \
        determined it: a second run computes nothing, and can say why.",
    after_help = "Start with `runner run`: it runs the built-in quickstart pipeline, which needs no data.\n\n\
        Exit codes: 0 all done, 1 a stage failed, 2 the command line or the pipeline is wrong and nothing ran, \
        3 a difference was found, 130 interrupted."
)]
struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// Makes the enumeration of verbs and their dispatch from a line each: what help says, the name, and the module. A module
/// has `Arguments`, which clap reads, and `run`.
macro_rules! verbs {
    ($($(#[$doc:meta])* $name:ident($module:ident),)*) => {
        $(mod $module;)*

        #[derive(Debug, Subcommand)]
        enum Verb {
            $($(#[$doc])* $name(Box<$module::Arguments>),)*
        }

        impl Verb {
            fn run(&self, global: &Global) -> Result<Exit, Error> {
                match self {
                    $(Self::$name(arguments) => $module::run(global, arguments),)*
                }
            }
        }
    };
}

verbs! {
    /// Run a pipeline: use the results that exist already, and compute the rest
    Run(run),
    /// Run a pipeline with many settings, and compare the results
    Sweep(sweep),
    /// Write down the results of a pipeline and what determined them, in a file for version control
    Lock(lock),
    /// Repeat a run or a lock beside the original, and compare the results; exit code 3 if something differs
    Audit(audit),
    /// Check that a run's record or a lock, and its results, are unchanged since they were written; exit code 3 if not
    Verify(verify),
    /// Say what would run, and why
    Plan(plan),
    /// Say why a stage runs or ran: what changed, and what reran because of it
    Why(why),
    /// Draw a pipeline as Mermaid, DOT or JSON, coloured by what is stored
    Graph(graph),
    /// Apply a trained model of a run to new data: a CSV or Parquet file, or an image
    Predict(predict),
    /// Show a run: stages, metrics, environment, files
    Show(show),
    /// List the runs, newest last
    Runs(runs),
    /// Compare two runs: parameters, keys, metrics; exit code 3 if they differ
    Diff(diff),
    /// Write a run as a page for the browser: one file, or a folder
    Report(report),
    /// Show the runs of the store in a browser, live
    Ui(ui),
    /// Follow a run or a sweep that is under way, in the terminal, from any host that sees the store
    Watch(watch),
    /// Write a run in another format (RO-Crate, PROV-JSON, MLflow, CSV, Parquet), or as a bundle
    Export(export),
    /// Import a bundle that `export` wrote into the store
    Import(import),
    /// List the stage kinds, or describe one
    Stages(stages),
    /// Print the JSON Schema of pipeline or sweep files, for editors
    Schema(schema),
    /// List, fetch and verify data sets
    Data(data),
    /// Inspect, verify and clean the store
    Cache(cache),
    /// Write a new pipeline to start from
    New(new),
    /// Check device, store and data, and say what is wrong with them
    Doctor(doctor),
    /// Print a completion script for a shell
    Completions(completions),
    /// Print the manual page, or write the pages of all commands into a folder
    Man(man),
}

/// Writes a file that the user named: whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = std::fs::write(&aside, bytes).and_then(|()| std::fs::rename(&aside, path));
    written.map_err(|error| {
        let _ = std::fs::remove_file(&aside);
        Error::failed(format!("cannot write {}: {error}", path.display()))
    })
}

/// Parses the command line, does what it says with the stages of the catalogue, and returns the exit code.
pub fn main(catalogue: Catalogue) -> ExitCode {
    let exit = match Arguments::try_parse() {
        Ok(mut arguments) => {
            arguments.global.apply(Arc::new(catalogue));
            carry_out_verb(arguments)
        }
        Err(error) => usage::answer(&error),
    };
    match screen::failure() {
        None => exit.into(),
        // A reader of our output that goes away, as `head` does, is no fault: the process ends as if by SIGPIPE.
        Some(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::from(screen::NOBODY_READS)
        }
        Some(error) => {
            errln!(
                "{}: cannot write the output: {}",
                Paint::Bad.on("error"),
                reason(error)
            );
            if exit == Exit::Done {
                Exit::Failed.into()
            } else {
                exit.into()
            }
        }
    }
}

/// The system's words without its number.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn carry_out_verb(arguments: Arguments) -> Exit {
    let global = arguments.global;
    let result = arguments.verb.run(&global);
    result.unwrap_or_else(|error| {
        error::print(&error, global.json);
        Exit::from(&error)
    })
}
