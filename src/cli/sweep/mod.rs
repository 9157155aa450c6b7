//! `runner sweep`: a pipeline with many settings. The verbs about a sweep all begin by finding out how far it is.

mod leaderboard;
mod plot;
mod queue;
mod run;
mod submit;
mod work;

pub(super) use leaderboard::summary_of;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::arguments::ChoiceArguments;
use super::execution::Execution;
use super::{Error, Exit, Global};

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "All trials form one graph, in which what they share appears once. The store is the only record of a \
        sweep: run it again, and exactly what is missing is computed.\n\nExamples:\n  \
        runner sweep sweeps/learning_rate.yaml                run it, or what is missing of it\n  \
        runner sweep sweeps/learning_rate.yaml --dry-run      the trials and how much there is to do\n  \
        runner sweep sweeps/learning_rate.yaml --on slurm     submit it to the cluster\n  \
        runner sweep status sweeps/learning_rate.yaml         how far it is\n  \
        runner sweep table sweeps/learning_rate.yaml --format csv > trials.csv\n  \
        runner sweep plot sweeps/learning_rate.yaml           plots in a folder beside the sweep file"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    run: RunArguments,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Say how many trials are done, running, failed and missing
    Status(About),
    /// Print the leaderboard
    Table(TableArguments),
    /// Print the best trial, and how to run it alone
    Best(About),
    /// Cancel what was submitted to a cluster; finished work is kept
    Cancel(About),
    /// Print the log of a trial that was submitted to a cluster, or list the logs
    Logs(queue::LogsArguments),
    /// Do a task of a submission
    #[command(hide = true)]
    Work(work::Arguments),
    /// Plot parallel coordinates, the objective over the trials, and which parameters matter
    Plot(PlotArguments),
}

/// Which sweep a verb is about.
#[derive(Clone, Debug, Args)]
pub(super) struct About {
    /// The sweep file
    #[arg(value_name = "SWEEP")]
    file: PathBuf,
    #[command(flatten)]
    choice: ChoiceArguments,
}

#[derive(Clone, Debug, Args)]
pub(super) struct RunArguments {
    /// The sweep file
    #[arg(value_name = "SWEEP", required = true)]
    file: Option<PathBuf>,
    #[command(flatten)]
    choice: ChoiceArguments,
    #[command(flatten)]
    execution: Execution,
    /// Submit it to `slurm`, or to background processes on this machine (`local`), and return
    #[arg(long, value_name = "BACKEND")]
    on: Option<String>,
    /// Say what there is to do, and run nothing; with `--on`, print the job scripts
    #[arg(long)]
    dry_run: bool,
    /// Do not ask before a sweep with more than 10,000 members
    #[arg(long, short)]
    yes: bool,
}

#[derive(Debug, Args)]
struct TableArguments {
    #[command(flatten)]
    about: About,
    /// How to print it; `--json` does the same as `--format json`
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Write to this file instead; needed for Parquet
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// At most this many rows, the best
    #[arg(long, short = 'n', value_name = "N")]
    limit: Option<usize>,
}

/// Forms of the leaderboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Text,
    Csv,
    Parquet,
    Json,
}

#[derive(Debug, Args)]
struct PlotArguments {
    #[command(flatten)]
    about: About,
    /// The folder for the plots; by default one beside the sweep file
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
    /// The format of the plots
    #[arg(long, value_enum, default_value = "svg")]
    format: plot::FormatName,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    match &arguments.verb {
        None => run::run(global, &arguments.run),
        Some(Verb::Status(about)) => leaderboard::status(global, about),
        Some(Verb::Table(arguments)) => leaderboard::table(global, arguments),
        Some(Verb::Best(about)) => leaderboard::best(global, about),
        Some(Verb::Cancel(about)) => queue::cancel(global, about),
        Some(Verb::Logs(arguments)) => queue::logs(global, arguments),
        Some(Verb::Work(arguments)) => work::run(global, arguments),
        Some(Verb::Plot(arguments)) => plot::plot(global, arguments),
    }
}
