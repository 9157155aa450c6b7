//! `runner show`: what a run did and what came out.

use clap::Args;

use super::arguments::RunName;
use super::session::shown;
use super::{CliError, Exit, Global, record, views};
use crate::cache::{RunRecord, StageState, Store};
use crate::ui::{Align, Paint, Table, duration};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    name: RunName,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, CliError> {
    let store = Store::open(&global.store);
    let record = store.find_run(&arguments.name.run)?;
    if global.json {
        println!("{}", record::to_json(&record));
    } else {
        anstream::print!("{}", describe(&record));
        let files = crate::cache::files_below(&store.run_folder(&record.run).join("files"))?;
        if !files.is_empty() {
            anstream::println!("{}", Paint::Strong.on("files"));
            files.iter().for_each(|path| println!("  {}", shown(path)));
        }
    }
    Ok(Exit::Done)
}

fn describe(record: &RunRecord) -> String {
    let mut text = format!(
        "{} {} of {} ({}): {} in {}\n",
        Paint::Quiet.on("run"),
        Paint::Strong.on(&record.run),
        record.pipeline,
        record.file,
        record.status.name(),
        duration(record.seconds)
    );
    let line = |name: &str, value: String| format!("  {}: {value}\n", Paint::Quiet.on(name));
    text += &line("command", record.command.join(" "));
    if let Some(profile) = &record.profile {
        text += &line("profile", profile.clone());
    }
    let params: Vec<String> = record.params.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if !params.is_empty() {
        text += &line("params", params.join(" "));
    }
    text += &line("seed", record.seed.to_string());
    for (name, value) in &record.environment {
        text += &line(name, value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
    let mut table = Table::new(&[
        ("stage", Align::Left),
        ("kind", Align::Left),
        ("state", Align::Left),
        ("time", Align::Right),
        ("key", Align::Left),
        ("why", Align::Left),
    ]);
    for stage in &record.stages {
        let paint = match stage.state {
            StageState::Hit => Paint::Quiet,
            StageState::Ran => Paint::Good,
            StageState::Failed => Paint::Bad,
            StageState::Skipped => Paint::Warn,
        };
        let time = if stage.state == StageState::Ran { duration(stage.seconds) } else { String::new() };
        let key = stage.key.map_or_else(String::new, |key| key.short());
        table.row([
            stage.name.clone(),
            stage.kind.clone(),
            paint.on(stage.state.name()),
            time,
            Paint::Quiet.on(key),
            stage.reason.clone(),
        ]);
    }
    text += "\n";
    text += &table.render();
    if !record.metrics.is_empty() {
        text += "\n";
        text += &views::metrics_table(&record.metrics);
    }
    text
}
