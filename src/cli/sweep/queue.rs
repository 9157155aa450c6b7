//! `runner sweep cancel` and `logs`: about what was handed to a cluster, from any host that sees the store.

use std::collections::BTreeSet;
use std::io::Read;

use clap::Args;

use super::super::session::shown;
use super::super::{CliError, Exit, Global};
use super::About;
use super::campaign::Campaign;
use super::submit::{Queue, job_name};
use crate::cache::CacheError;
use crate::diagnostic::counted;
use crate::sweep::{Member, Part, UnitMember, backend, overrides};
use crate::ui::{out, outln, print_json};

/// What the trial of this number sets.
fn point_of(
    global: &Global,
    campaign: &mut Campaign,
    queue: &Queue,
    trial: usize,
) -> Result<Vec<(String, String)>, CliError> {
    let view = campaign.stand(global, queue)?;
    let point = trial
        .checked_sub(1)
        .and_then(|index| view.progress.points.get(index))
        .ok_or_else(|| {
            let message = format!("the sweep has no trial {trial}");
            CliError::wrong(message).hint(format!(
                "there are trials 1 to {} by now",
                view.progress.points.len()
            ))
        })?;
    let member = Member {
        trial: trial - 1,
        seed: None,
        level: None,
    };
    Ok(overrides(&campaign.file, point, &member))
}

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
    let names: BTreeSet<&str> = queue
        .submissions
        .iter()
        .map(|submission| submission.backend.as_str())
        .collect();
    let mut ended = 0;
    for backend in names.into_iter().filter_map(backend) {
        ended += backend.cancel(&job_name(&campaign), &queue.scripts())?;
    }
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

pub(super) fn logs(global: &Global, arguments: &LogsArguments) -> Result<Exit, CliError> {
    let mut campaign =
        Campaign::open(global, &arguments.about.file, &arguments.about.choice, true)?;
    let queue = Queue::of(&campaign);
    // By its values: the file may have changed since, and with it the number.
    let point = match arguments.trial {
        None => None,
        Some(trial) => Some(point_of(global, &mut campaign, &queue, trial)?),
    };
    let has_point = |member: &&UnitMember| {
        point
            .as_ref()
            .is_none_or(|point| point.iter().all(|pair| member.overrides.contains(pair)))
    };
    let mut found = Vec::new();
    for submission in &queue.submissions {
        let folder = submission.folder(&queue.folder).join("logs");
        for part in submission.parts() {
            let units = if part == Part::Next {
                1
            } else {
                submission.units(part).len()
            };
            for number in 0..units {
                let members = submission
                    .units(part)
                    .get(number)
                    .into_iter()
                    .flat_map(|unit| &unit.members);
                let is_meant = point.is_none()
                    || part == Part::Trials && members.clone().any(|one| has_point(&one));
                let path = folder.join(format!("{}-{number}.out", part.name()));
                if is_meant && campaign.store.layout().holds(&path) {
                    let labels: Vec<String> = members.map(|member| member.label.clone()).collect();
                    found.push((path, labels));
                }
            }
        }
    }
    if let Some(trial) = arguments.trial.filter(|_| found.is_empty()) {
        let message = format!("there is no log of trial {trial}");
        return Err(CliError::failed(message).hint(
            "only trials that were handed to a cluster have logs; `runner sweep status` tells more",
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
        let read = campaign
            .store
            .layout()
            .open(path)
            .and_then(|mut log| log.read_to_end(&mut text));
        read.map_err(CacheError::io("read", path))?;
        out!("{}", String::from_utf8_lossy(&text));
    }
    if found.is_empty() {
        outln!("nothing of this sweep was handed to a cluster");
    }
    Ok(Exit::Done)
}
