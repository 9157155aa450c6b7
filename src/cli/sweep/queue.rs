//! `runner sweep cancel` and `logs`: about what was handed to a cluster, from any host that sees the store.

use std::collections::BTreeSet;
use std::fs;

use clap::Args;

use super::super::session::shown;
use super::super::{CliError, Exit, Global};
use super::About;
use super::campaign::Campaign;
use super::submit::{Queue, job_name};
use crate::sweep::{Part, backend};

#[derive(Debug, Args)]
pub(super) struct LogsArguments {
    #[command(flatten)]
    about: About,
    /// The trial, as tables number it; without it, the logs are listed
    #[arg(value_name = "TRIAL")]
    trial: Option<usize>,
}

pub(super) fn cancel(global: &Global, about: &About) -> Result<Exit, CliError> {
    let campaign = Campaign::open(global, &about.file, &about.choice, true)?;
    let queue = Queue::of(&campaign);
    let names: BTreeSet<&str> = queue.submissions.iter().map(|submission| submission.backend.as_str()).collect();
    let mut ended = 0;
    for backend in names.into_iter().filter_map(backend) {
        ended += backend.cancel(&job_name(&campaign), &queue.scripts())?;
    }
    if global.json {
        println!("{}", serde_json::json!({"cancelled": ended}));
    } else {
        println!("{ended} jobs cancelled; what was done is kept, and the sweep can be issued again");
    }
    Ok(Exit::Done)
}

pub(super) fn logs(global: &Global, arguments: &LogsArguments) -> Result<Exit, CliError> {
    let campaign = Campaign::open(global, &arguments.about.file, &arguments.about.choice, true)?;
    let queue = Queue::of(&campaign);
    let mut found = Vec::new();
    for submission in &queue.submissions {
        let folder = submission.folder(&queue.folder).join("logs");
        for part in submission.parts() {
            let units = if part == Part::Next { 1 } else { submission.units(part).len() };
            for number in 0..units {
                let members = submission.units(part).get(number).into_iter().flat_map(|unit| &unit.members);
                let is_meant = match arguments.trial {
                    None => true,
                    Some(trial) => {
                        part == Part::Trials && members.clone().any(|member| member.member.trial + 1 == trial)
                    }
                };
                let path = folder.join(format!("{}-{number}.out", part.name()));
                if is_meant && path.exists() {
                    let labels: Vec<String> = members.map(|member| member.label.clone()).collect();
                    found.push((path, labels));
                }
            }
        }
    }
    if let Some(trial) = arguments.trial.filter(|_| found.is_empty()) {
        let message = format!("there is no log of trial {trial}");
        return Err(CliError::failed(message)
            .hint("only trials that were handed to a cluster have logs; `runner sweep status` tells more"));
    }
    if global.json {
        let entries = found.iter().map(|(path, labels)| serde_json::json!({"path": path, "members": labels}));
        println!("{}", serde_json::json!({"logs": entries.collect::<Vec<_>>()}));
        return Ok(Exit::Done);
    }
    for (path, labels) in &found {
        if arguments.trial.is_none() {
            println!("{}  {}", shown(path), labels.join("; "));
            continue;
        }
        println!("==> {} <==", shown(path));
        let text =
            fs::read(path).map_err(|error| CliError::failed(format!("cannot read {}: {error}", path.display())))?;
        print!("{}", String::from_utf8_lossy(&text));
    }
    if found.is_empty() {
        println!("nothing of this sweep was handed to a cluster");
    }
    Ok(Exit::Done)
}
