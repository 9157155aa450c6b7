//! What a caller asks for: a pipeline with its overrides, a device, a remote.

use std::path::{Path, PathBuf};

use contract::Device;

use super::Error;

/// What a remote is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RemoteUse {
    /// Results are looked up there, and sent there.
    ReadWrite,
    /// Results are looked up there.
    Read,
    /// The remote is not used.
    Off,
}

/// A pipeline, and what to make of it.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The file; without it, the built-in quickstart.
    pub pipeline: Option<PathBuf>,
    pub choice: Choice,
}

impl Request {
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
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// A named set of parameter values of the pipeline file; `overrides` come after it and win.
    pub profile: Option<String>,
    /// `NAME=VALUE`, read as YAML: a parameter, `seed`, or a key of a stage such as `model.with.batch`.
    pub overrides: Vec<String>,
    /// Only these stages and what they need; of a sweep, these besides the objective.
    pub targets: Vec<String>,
    /// Stages that run even if their outputs are there.
    pub force: Vec<String>,
    /// Where model stages run.
    pub device: DeviceChoice,
    /// Threads to use in all, by default one per processor; never changes a result.
    pub threads: Option<u16>,
    /// Never download data.
    pub offline: bool,
}

impl Choice {
    /// `NAME=VALUE` pairs.
    pub fn overrides(&self) -> Result<Vec<(String, String)>, Error> {
        let mut pairs = Vec::with_capacity(self.overrides.len());
        for text in &self.overrides {
            match text.split_once('=') {
                Some((name, value)) if !name.trim().is_empty() => {
                    pairs.push((name.trim().to_owned(), value.to_owned()));
                }
                _ => {
                    let message = format!("`--set {text}` is not NAME=VALUE");
                    return Err(Error::wrong(message).hint("for example `--set epochs=5`"));
                }
            }
        }
        Ok(pairs)
    }

    /// Threads to use in all.
    pub fn thread_count(&self) -> usize {
        match self.threads {
            Some(threads) => usize::from(threads),
            None => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        }
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
        let device = match text {
            "auto" => return Ok(Self::Auto),
            "cpu" => Some(Device::Cpu),
            "cuda" => Some(Device::Cuda(0)),
            _ => match text.strip_prefix("cuda:").map(str::parse) {
                Some(Ok(ordinal)) => Some(Device::Cuda(ordinal)),
                _ => None,
            },
        };
        match device {
            Some(device) => Ok(Self::Only(device)),
            None => Err(format!(
                "`{text}` is not a device: choose from auto, cpu, cuda and cuda:N"
            )),
        }
    }
}
