//! Options that several verbs share.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use clap::{Args, ValueEnum};
use contract::{Catalogue, Device};

use super::CliError;
use crate::spec::units;
use crate::ui::screen::Log;

/// Sets the options of every verb apart from a verb's own.
const GLOBAL: &str = "Global options";

/// The crates whose debugging notes `--verbose` shows.
const OUR_CRATES: [&str; 7] = [
    "runner", "contract", "data", "drawing", "judging", "learning", "programs",
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
    pub remote_mode: Option<RemoteModeChoice>,
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
    /// What the program knows of stages.
    #[arg(skip = nothing())]
    pub catalogue: &'static Catalogue,
}

/// A catalogue without stages: what stands in [`Global`] until the program has given its own.
fn nothing() -> &'static Catalogue {
    static NOTHING: LazyLock<Catalogue> = LazyLock::new(|| Catalogue::of(Vec::new()));
    &NOTHING
}

/// What a remote is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum RemoteModeChoice {
    /// Results are looked up there, and sent there
    ReadWrite,
    /// Results are looked up there
    Read,
    /// The remote is not used
    Off,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ColorChoice {
    Auto,
    Always,
    Never,
}

impl Global {
    /// Sets up colours and logging.
    pub(super) fn apply(&self) {
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
    pub choice: Choice,
}

impl PipelineArguments {
    /// The folder that the pipeline lies in: the current one if none is named.
    pub fn folder(&self) -> PathBuf {
        self.pipeline
            .as_deref()
            .and_then(Path::parent)
            .unwrap_or(Path::new("."))
            .to_owned()
    }
}

/// What to make of a pipeline.
#[derive(Clone, Debug, Default, Args)]
pub struct Choice {
    /// Use a profile of the pipeline file, a named set of parameter values; --set comes after it and wins
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Override a parameter, `seed`, or a key of a stage such as model.with.batch; the value is read as YAML; may be
    /// repeated
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub overrides: Vec<String>,
    /// Only this stage and what it needs (of a sweep: this one besides the objective); may be repeated
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

impl Choice {
    /// `NAME=VALUE` pairs.
    pub fn overrides(&self) -> Result<Vec<(String, String)>, CliError> {
        let pair = |text: &String| match text.split_once('=') {
            Some((name, value)) if !name.trim().is_empty() => {
                Ok((name.trim().to_owned(), value.to_owned()))
            }
            _ => Err(CliError::wrong(format!("`--set {text}` is not NAME=VALUE"))
                .hint("for example `--set epochs=5`")),
        };
        self.overrides.iter().map(pair).collect()
    }
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

/// A device as the user names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// CUDA where it is usable, the CPU otherwise.
    #[default]
    Auto,
    Only(Device),
}

impl std::fmt::Display for DeviceChoice {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => formatter.write_str("auto"),
            Self::Only(Device::Cpu) => formatter.write_str("cpu"),
            Self::Only(Device::Cuda(ordinal)) => write!(formatter, "cuda:{ordinal}"),
        }
    }
}

impl std::str::FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = || format!("`{text}` is not a device: choose from auto, cpu, cuda and cuda:N");
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Only(Device::Cpu)),
            "cuda" => Ok(Self::Only(Device::Cuda(0))),
            _ => {
                let ordinal = text.strip_prefix("cuda:").ok_or_else(error)?;
                ordinal
                    .parse()
                    .map(|ordinal| Self::Only(Device::Cuda(ordinal)))
                    .map_err(|_| error())
            }
        }
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
