//! `runner runs`: the runs, newest last.

use clap::Args;
use serde_json::json;

use super::{Error, Exit, Global};
use crate::cache::{RunRecord, RunStatus, StageState, Store};
use crate::ui::{Align, Paint, Table, duration, out, outln, print_json};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Show at most this many, the newest
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20)]
    limit: usize,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    let store = Store::open(&global.store);
    let mut records: Vec<RunRecord> = store.newest_first()?.take(arguments.limit).collect();
    records.reverse();
    if global.json {
        let mut runs = Vec::with_capacity(records.len());
        for record in &records {
            runs.push(json!({
                "run": record.run,
                "pipeline": record.pipeline,
                "file": record.file,
                "status": record.status.name(),
                "started": record.started,
                "seconds": record.seconds,
            }));
        }
        print_json(&json!({"runs": runs}));
        return Ok(Exit::Done);
    }
    if records.is_empty() {
        outln!("no runs yet; start with `runner run`");
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&[
        ("run", Align::Left),
        ("pipeline", Align::Left),
        ("status", Align::Left),
        ("ran", Align::Right),
        ("hits", Align::Right),
        ("time", Align::Right),
    ]);
    for record in &records {
        let paint = match record.status {
            RunStatus::Done => Paint::Good,
            RunStatus::Failed => Paint::Bad,
            RunStatus::Running | RunStatus::Interrupted => Paint::Warn,
        };
        table.row([
            record.run.to_string(),
            record.pipeline.clone(),
            paint.on(record.status.name()),
            count(record, StageState::Ran).to_string(),
            count(record, StageState::Hit).to_string(),
            duration(record.seconds),
        ]);
    }
    out!("{}", table.render());
    Ok(Exit::Done)
}

fn count(record: &RunRecord, state: StageState) -> usize {
    let stages = record.stages.iter();
    stages.filter(|stage| stage.state == state).count()
}
