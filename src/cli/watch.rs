//! `runner watch`: a run or a sweep that is under way, from any host that sees the store.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::{Map, Value, json};

use super::signals;
use super::sweep::summary_of;
use super::{Error, Exit, Global};
use crate::cache::{RunRecord, RunStatus, Store};
use crate::pipeline::is_sweep;
use crate::project::{Followed, FollowedStage};
use crate::ui::{Paint, Redrawn, duration, json_line, number};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner watch                        the latest run, until it ends\n  \
    runner watch sweeps/lr.yaml         a sweep, wherever its jobs run\n  \
    runner watch --once                 the progress now\n\n\
    Ctrl-C stops watching; the run continues.")]
pub(super) struct Arguments {
    /// A run (`latest`, its name, or the start or end of it), or a sweep file
    #[arg(value_name = "RUN|SWEEP", default_value = "latest")]
    target: String,
    /// Print the progress once and exit
    #[arg(long)]
    once: bool,
    /// Seconds between updates
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = interval)]
    every: f64,
}

fn interval(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "it is not a number".to_owned())?;
    match (0.1..=3600.0).contains(&seconds) {
        true => Ok(seconds),
        false => Err("choose from 0.1 to 3600 seconds".to_owned()),
    }
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    signals::install(&global.project.cancel);
    let path = Path::new(&arguments.target);
    let is_file = path
        .extension()
        .is_some_and(|it| it == "yaml" || it == "yml");
    let (mut screen, mut run) = (Redrawn::default(), None);
    loop {
        let (lines, has_ended) = if is_file && is_sweep(path) {
            summary_of(global, path)?
        } else {
            let store = global.project.local_store();
            // `latest` is the run that was the latest when the watching began.
            let record = match &run {
                Some(run) => store.load_run(run)?,
                None => store.find_run(&arguments.target)?,
            };
            run = Some(record.run.clone());
            look(global, &store, &record)
        };
        if !global.json {
            screen.show(&lines);
        }
        if has_ended || arguments.once || rest(global, arguments.every) {
            return Ok(Exit::Done);
        }
    }
}

/// Waits; says whether the user wants to stop.
fn rest(global: &Global, seconds: f64) -> bool {
    const STEP: f64 = 0.1;
    let mut left = seconds;
    while left > 0.0 && !global.project.cancel.is_cancelled() {
        std::thread::sleep(Duration::from_secs_f64(left.min(STEP)));
        left -= STEP;
    }
    global.project.cancel.is_cancelled()
}

/// How far a run is, in lines, and whether it has ended.
fn look(global: &Global, store: &Store, record: &RunRecord) -> (Vec<String>, bool) {
    let followed = Followed::read(store, &record.run);
    let has_ended = record.status != RunStatus::Running;
    let all = followed.stages.max(followed.begun.len());
    if global.json {
        json_line(&json!({
            "run": record.run,
            "status": record.status.name(),
            "stages": all,
            "done": followed.done,
            "at_work": at_work(&followed).map(|(name, stage)| stage_json(name, stage)).collect::<Vec<_>>(),
        }));
        return (Vec::new(), has_ended);
    }
    let paint = match record.status {
        RunStatus::Done => Paint::Good,
        RunStatus::Failed => Paint::Bad,
        RunStatus::Running | RunStatus::Interrupted => Paint::Warn,
    };
    let mut lines = vec![format!(
        "{} {} {}: {} of {all} stages",
        Paint::Strong.on(&record.pipeline),
        record.run,
        paint.on(record.status.name()),
        followed.done,
    )];
    for (name, stage) in at_work(&followed) {
        let since = duration(since_start(record) - stage.started);
        let mut line = format!("  {} {}", Paint::Busy.on(name), Paint::Quiet.on(since));
        if let Some(last) = stage.reports.last() {
            line += &format!("  {} {} of {}", last.unit, last.done, last.total);
            for (name, value) in &last.values {
                line += &format!("  {name} {}", number(*value));
            }
        }
        lines.push(line);
    }
    (lines, has_ended)
}

/// Seconds since a run began, by this machine's clock.
fn since_start(record: &RunRecord) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default().as_secs_f64();
    f64::max(now - record.started as f64 / 1000.0, 0.0)
}

fn at_work(followed: &Followed) -> impl Iterator<Item = (&String, &FollowedStage)> {
    followed
        .begun
        .iter()
        .filter(|(_, stage)| stage.ended.is_none())
}

fn stage_json(name: &str, stage: &FollowedStage) -> Value {
    let last = stage.reports.last();
    let mut values = Map::new();
    for (name, value) in last.iter().flat_map(|report| &report.values) {
        values.insert(name.clone(), json!(value));
    }
    json!({
        "stage": name,
        "kind": stage.kind,
        "unit": last.map(|report| &report.unit),
        "done": last.map(|report| report.done),
        "total": last.map(|report| report.total),
        "values": values,
    })
}
