//! Options that several verbs share.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use contract::Catalogue;

use super::listener::Screen;
use crate::engine::CancelToken;
use crate::pipeline::units;
use crate::project::{Choice, DeviceChoice, Project, RemoteChoice, RemoteUse, Request};
use crate::ui::screen::Log;

/// Sets the options of every verb apart from a verb's own.
const GLOBAL: &str = "Global options";

/// The crates whose debugging notes `--verbose` shows.
const OUR_CRATES: [&str; 10] = [
    "runner", "contract", "data", "drawing", "judging", "learning", "numerics", "plot", "programs",
    "stages",
];

/// Options of every verb.
#[derive(Debug, Args)]
pub struct Global {
    /// Where results are stored
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "DIR", env = "RUNNER_STORE", default_value = "cache")]
    pub store: PathBuf,
    /// Share results through a remote: s3://BUCKET/PREFIX, gs://…, az://…, https://… or file:///FOLDER; `off` for none
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "URL", env = "RUNNER_REMOTE", hide_env_values = true)]
    pub remote: Option<String>,
    /// Whether results are also sent to the remote or only looked up there
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "MODE", env = "RUNNER_REMOTE_MODE")]
    pub remote_mode: Option<RemoteUse>,
    /// Print results as JSON on standard output
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub json: bool,
    /// Print nothing but errors, warnings and results
    #[arg(long, short, global = true, help_heading = GLOBAL)]
    pub quiet: bool,
    /// Say more: each stage that is up to date, and debugging notes (also RUNNER_LOG=debug)
    #[arg(long, short, global = true, help_heading = GLOBAL)]
    pub verbose: bool,
    /// When to use colours; NO_COLOR is obeyed too
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "WHEN", default_value = "auto")]
    pub color: ColorChoice,
    /// What the verbs work on; follows from the options above.
    #[arg(skip = nothing())]
    pub project: Project,
}

/// What stands in [`Global`] until the options are read.
fn nothing() -> Project {
    Project::new(Arc::new(Catalogue::of(Vec::new())), "")
}

impl clap::ValueEnum for RemoteUse {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::ReadWrite, Self::Read, Self::Off]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::ReadWrite => {
                PossibleValue::new("read-write").help("Results are looked up there, and sent there")
            }
            Self::Read => PossibleValue::new("read").help("Results are looked up there"),
            Self::Off => PossibleValue::new("off").help("The remote is not used"),
        })
    }
}

/// When to use colours.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ColorChoice {
    Auto,
    Always,
    Never,
}

impl Global {
    /// Sets up the project, colours and logging.
    pub(super) fn apply(&mut self, catalogue: Arc<Catalogue>) {
        self.project = Project {
            catalogue,
            store: self.store.clone(),
            command: std::env::args().collect(),
            remote: RemoteChoice {
                url: self.remote.clone(),
                mode: self.remote_mode,
            },
            listener: Arc::new(Screen::new(self.json)),
            cancel: CancelToken::default(),
        };
        match self.color {
            ColorChoice::Auto => {}
            ColorChoice::Always => anstream::ColorChoice::Always.write_global(),
            ColorChoice::Never => anstream::ColorChoice::Never.write_global(),
        }
        let detailed = OUR_CRATES.iter().fold("info".to_owned(), |filter, name| {
            filter + "," + name + "=debug"
        });
        let level = if self.verbose { &detailed } else { "warn" };
        let filter = tracing_subscriber::EnvFilter::try_from_env("RUNNER_LOG");
        let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(Log::default);
        let _ = subscriber
            .with_ansi(crate::ui::Colours::of_stderr().0)
            .without_time()
            .try_init();
    }
}

/// Options of the verbs that read a pipeline.
#[derive(Clone, Debug, Default, Args)]
pub struct PipelineArguments {
    /// The pipeline file; without it, the built-in quickstart pipeline
    #[arg(value_name = "PIPELINE")]
    pub pipeline: Option<PathBuf>,
    #[command(flatten)]
    pub choice: ChoiceArguments,
}

impl PipelineArguments {
    /// What the library is asked for.
    pub fn request(&self) -> Request {
        Request {
            pipeline: self.pipeline.clone(),
            choice: self.choice.choice(),
        }
    }
}

/// What to make of a pipeline.
#[derive(Clone, Debug, Default, Args)]
pub struct ChoiceArguments {
    /// Use a profile of the pipeline file, which is a named set of parameter values; --set overrides it
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Override a parameter, `seed`, or a key of a stage such as model.with.batch; the value is read as YAML; may be
    /// repeated
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub overrides: Vec<String>,
    /// Run only this stage and what it needs (in a sweep: in addition to the objective); may be repeated
    #[arg(long = "target", value_name = "STAGE")]
    pub targets: Vec<String>,
    /// Run this stage even if its outputs are there; may be repeated
    #[arg(long = "force", value_name = "STAGE")]
    pub force: Vec<String>,
    /// Where model stages run: auto (CUDA if it is usable), cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: DeviceChoice,
    /// Threads to use in all, by default one per processor; never changes a result
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// Never download data
    #[arg(long)]
    pub offline: bool,
}

impl ChoiceArguments {
    /// The same for the library. As the process has no other work, its thread pool gets as many threads as the user wants: it is
    /// made on its first use, so this comes before anything that runs in parallel.
    pub fn choice(&self) -> Choice {
        let choice = Choice {
            profile: self.profile.clone(),
            overrides: self.overrides.clone(),
            targets: self.targets.clone(),
            force: self.force.clone(),
            device: self.device,
            threads: self.threads,
            offline: self.offline,
        };
        size_pool(choice.thread_count());
        choice
    }
}

/// Sets the number of threads of this process's pool, unless it has been used.
pub(super) fn size_pool(threads: usize) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    let _ = pool.build_global();
}

/// A size on the command line.
pub(super) fn size(text: &str) -> Result<u64, String> {
    units::size(text).ok_or_else(|| not_measured(text, "size", "GiB"))
}

/// A duration on the command line.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    units::duration(text).ok_or_else(|| not_measured(text, "duration", "d"))
}

/// Why a text is not a number with a unit.
fn not_measured(text: &str, what: &str, unit: &str) -> String {
    match text.trim().parse::<f64>() {
        Ok(number) if number > 0.0 => {
            format!("`{text}` has no unit: write for example `{number} {unit}`")
        }
        _ => format!("`{text}` is not a {what}: write for example `20 {unit}`"),
    }
}

/// Which run a verb is about.
#[derive(Debug, Args)]
pub struct RunName {
    /// A run: `latest`, its name, or the start or end of its name
    #[arg(value_name = "RUN", default_value = "latest")]
    pub run: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_say_what_is_missing() {
        assert_eq!(size("5 GiB"), Ok(5 << 30));
        assert_eq!(
            size("5").unwrap_err(),
            "`5` has no unit: write for example `5 GiB`"
        );
        assert_eq!(
            size("much").unwrap_err(),
            "`much` is not a size: write for example `20 GiB`"
        );
        assert_eq!(
            duration("-1").unwrap_err(),
            "`-1` is not a duration: write for example `20 d`"
        );
        assert_eq!(
            "gpu".parse::<DeviceChoice>().unwrap_err(),
            "`gpu` is not a device: choose from auto, cpu, cuda and cuda:N"
        );
    }
}
