//! How a plan is carried out, as the command line says it, and who is told of its events.

use std::path::PathBuf;

use clap::Args;

use super::arguments::size;
use super::{Error, Global};
use crate::engine::{Reporter, Reporters};
use crate::project::Limits;
use crate::ui::{self, Mode, Trace};

/// How a plan is carried out; none of it changes a result.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Execution {
    /// Stages that may run at the same time; by default as many as there are threads
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// Memory that stages running at the same time may ask for, such as `8 GiB`; by default all of the machine's
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory: Option<u64>,
    /// After a failure, continue with what does not depend on it
    #[arg(long, short)]
    pub keep_going: bool,
    /// Write a trace of the run for Chrome (about:tracing) and Perfetto
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
}

impl Execution {
    pub fn limits(&self) -> Limits {
        Limits {
            jobs: self.jobs,
            memory: self.memory,
            keep_going: self.keep_going,
        }
    }

    /// The screen, and the trace if one is asked for.
    pub fn reporter(&self, global: &Global) -> Result<Box<dyn Reporter>, Error> {
        let mode = match (global.json, global.quiet) {
            (true, _) => Mode::Json,
            (_, true) => Mode::Quiet,
            _ => Mode::Auto,
        };
        let screen = ui::reporter(mode, global.verbose);
        let Some(path) = &self.trace else {
            return Ok(screen);
        };
        let trace = Trace::create(path)
            .map_err(|error| Error::wrong(format!("cannot write {}: {error}", path.display())))?;
        Ok(Box::new(Reporters(vec![screen, Box::new(trace)])))
    }
}
