//! `runner sweep cancel` and `logs`: about what was submitted to a cluster, from any host that sees the store.

use std::io::Read;

use clap::Args;

use super::super::{Error, Exit, Global, shown};
use super::About;
use crate::cache::CacheError;
use crate::diagnostic::counted;
use crate::sweep::{Queue, Sweep};
use crate::ui::{out, outln, print_json};

#[derive(Debug, Args)]
pub(super) struct LogsArguments {
    #[command(flatten)]
    about: About,
    /// The trial, as tables number it; without it, the logs are listed
    #[arg(value_name = "TRIAL")]
    trial: Option<usize>,
}

pub(super) fn cancel(global: &Global, about: &About) -> Result<Exit, Error> {
    let sweep = Sweep::open(&global.project, &about.file, &about.choice.choice(), true)?;
    let ended = Queue::of(&sweep).cancel(&sweep)?;
    if global.json {
        print_json(&serde_json::json!({"cancelled": ended}));
    } else {
        let ended = counted(ended, "job");
        outln!(
            "{ended} cancelled; finished work is kept, and the same sweep can be submitted again"
        );
    }
    Ok(Exit::Done)
}

pub(super) fn logs(global: &Global, arguments: &LogsArguments) -> Result<Exit, Error> {
    let About { file, choice } = &arguments.about;
    let mut sweep = Sweep::open(&global.project, file, &choice.choice(), true)?;
    let queue = Queue::of(&sweep);
    // By its values: the file may have changed since, and with it the number.
    let point = match arguments.trial {
        None => None,
        Some(trial) => Some(sweep.values_of_trial(&queue, trial)?),
    };
    let found = queue.logs(&sweep, point.as_deref());
    if let Some(trial) = arguments.trial.filter(|_| found.is_empty()) {
        let message = format!("there is no log of trial {trial}");
        return Err(Error::failed(message).hint(
            "only trials that were submitted to a cluster have logs; `runner sweep status` says more",
        ));
    }
    if global.json {
        let entries = found
            .iter()
            .map(|(path, labels)| serde_json::json!({"path": path, "members": labels}));
        print_json(&serde_json::json!({"logs": entries.collect::<Vec<_>>()}));
        return Ok(Exit::Done);
    }
    for (path, labels) in &found {
        if arguments.trial.is_none() {
            outln!("{}  {}", shown(path), labels.join("; "));
            continue;
        }
        outln!("==> {} <==", shown(path));
        let mut text = Vec::new();
        let read = sweep
            .store
            .layout()
            .open(path)
            .and_then(|mut log| log.read_to_end(&mut text));
        read.map_err(CacheError::io("read", path))?;
        out!("{}", String::from_utf8_lossy(&text));
    }
    if found.is_empty() {
        outln!("nothing of this sweep was submitted to a cluster");
    }
    Ok(Exit::Done)
}
