//! `runner show`: what a run did, and its results.

use clap::Args;
use indexmap::IndexMap;
use serde_json::Value;

use super::arguments::RunName;
use super::shown;
use super::{Error, Exit, Global, record, views};
use crate::cache::{RunRecord, StageState, Store};
use crate::diagnostic::{counted, visible};
use crate::ui::{Align, Paint, Table, bytes, doubt_text, duration, out, outln, print_json};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    name: RunName,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    let store = Store::open(&global.store);
    let record = store.find_run(&arguments.name.run)?;
    if global.json {
        print_json(&record::to_json(&record));
    } else {
        out!("{}", describe(&record));
        let files = crate::cache::files_below(&store.run_folder(&record.run).join("files"))?;
        if !files.is_empty() {
            outln!("{}", Paint::Strong.on("files"));
            for path in &files {
                outln!("  {}", shown(path));
            }
        }
    }
    Ok(Exit::Done)
}

/// One entry of the environment in words.
pub(super) fn environment_value(name: &str, value: &Value) -> String {
    match (name, value) {
        ("memory" | "memory_limit", Value::Number(number)) => {
            number.as_u64().map_or_else(|| plain(value), bytes)
        }
        ("git" | "pipeline_git", Value::Object(_)) => {
            let mut parts = Vec::new();
            if let Some(commit) = part(value, "", "commit") {
                parts.push(commit.chars().take(12).collect());
            }
            parts.extend(part(value, "on ", "branch"));
            match value.get("dirty").and_then(Value::as_bool) {
                Some(true) => {
                    let changed = value.get("changed_files").and_then(Value::as_u64);
                    let changed = counted(changed.unwrap_or_default(), "changed file");
                    parts.push(format!("dirty ({changed})"));
                }
                Some(false) => parts.push("clean".to_owned()),
                None => {}
            }
            parts.extend(part(value, "from ", "origin"));
            parts.extend(part(value, "by ", "user"));
            parts.join(", ")
        }
        ("gpu", Value::Object(_)) => {
            let mut parts = Vec::new();
            parts.extend(part(value, "", "name"));
            parts.extend(value.get("memory").and_then(Value::as_u64).map(bytes));
            parts.extend(part(value, "driver ", "driver"));
            parts.extend(part(value, "CUDA ", "cuda"));
            parts.join(", ")
        }
        ("variables", Value::Object(variables)) => {
            let mut parts = Vec::with_capacity(variables.len());
            for (name, value) in variables {
                parts.push(match value {
                    Value::Bool(true) => format!("{name} (set, its value is not kept)"),
                    _ => format!("{name}={}", plain(value)),
                });
            }
            parts.join(" ")
        }
        _ => plain(value),
    }
}

/// An entry of an object behind a word that says what it is.
fn part(object: &Value, word: &str, key: &str) -> Option<String> {
    let value = object.get(key)?;
    Some(format!("{word}{}", plain(value)))
}

/// Text without quotes, lists with commas.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// What lies behind the reasons of the stages that failed, such as what their programs said.
fn causes(record: &RunRecord) -> String {
    let mut text = String::new();
    for stage in &record.stages {
        if stage.causes.is_empty() {
            continue;
        }
        let (failed, name) = (Paint::Bad.on("failed"), Paint::Strong.on(&stage.name));
        text += &format!("\n{failed} {name}: {}\n", stage.reason);
        for line in stage.causes.iter().flat_map(|cause| cause.lines()) {
            text += &format!("  {line}\n");
        }
    }
    text
}

/// What is doubtful in what the stages read.
fn doubts(record: &RunRecord) -> String {
    let mut text = String::new();
    for stage in &record.stages {
        for doubt in &stage.doubts {
            text += &format!("{}\n", doubt_text(&stage.name, doubt));
        }
    }
    text
}

/// What the stages found out about their data.
fn findings(record: &RunRecord) -> String {
    let mut text = String::new();
    for stage in &record.stages {
        for finding in &stage.findings {
            text += &line(&stage.name, finding.clone());
        }
    }
    match text.is_empty() {
        true => text,
        false => format!("\n{}\n{text}", Paint::Strong.on("findings")),
    }
}

fn describe(record: &RunRecord) -> String {
    let mut text = format!(
        "{} {} of {} ({}): {} in {}\n",
        Paint::Quiet.on("run"),
        Paint::Strong.on(&record.run),
        visible(&record.pipeline),
        visible(&record.file),
        record.status.name(),
        duration(record.seconds)
    );
    text += &line("command", record.command.join(" "));
    if let Some(profile) = &record.profile {
        text += &line("profile", profile.clone());
    }
    let mut params = Vec::new();
    for (name, value) in record.common_params() {
        params.push(format!("{name}={value}"));
    }
    if !params.is_empty() {
        text += &line("params", params.join(" "));
    }
    if let Some(seed) = record.common_seed() {
        text += &line("seed", seed.to_string());
    }
    text += &trials(record);
    text += &format!("{}\n", Paint::Strong.on("environment"));
    for (name, value) in &record.environment {
        text += &line(name, environment_value(name, value));
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
        let time = if stage.state == StageState::Ran {
            duration(stage.seconds)
        } else {
            String::new()
        };
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
    text += &findings(record);
    text += &doubts(record);
    text += &causes(record);
    if !record.metrics.is_empty() {
        text += "\n";
        let varied = record.varied();
        let mut titled = IndexMap::new();
        for (stage, metrics) in &record.metrics {
            titled.insert(title_of(record, &varied, stage), metrics.clone());
        }
        text += &views::metrics_table(&titled);
    }
    text
}

fn line(name: &str, value: String) -> String {
    format!("  {}: {}\n", Paint::Quiet.on(name), visible(&value))
}

/// The trials of a sweep, with what is not the same in all of them.
fn trials(record: &RunRecord) -> String {
    if record.trials().is_empty() {
        return String::new();
    }
    let varied = record.varied();
    let has_seeds = record.common_seed().is_none();
    let mut header = vec![("trial", Align::Left)];
    header.extend(varied.iter().map(|name| (name.as_str(), Align::Right)));
    header.extend(has_seeds.then_some(("seed", Align::Right)));
    let mut table = Table::new(&header);
    for trial in record.trials() {
        let mut cells = vec![trial.label.clone()];
        for name in &varied {
            let value = record.value_of_trial(trial, name);
            cells.push(value.as_ref().map_or_else(String::new, plain));
        }
        if has_seeds {
            cells.push(record.seed_of_trial(trial).to_string());
        }
        table.row(cells);
    }
    table.render()
}

/// A stage of a trial with the trial's values, which its name does not say.
fn title_of(record: &RunRecord, varied: &[String], stage: &str) -> String {
    if record.trials_of(stage).len() == record.trials().len() {
        return stage.to_owned();
    }
    let mut values = Vec::new();
    for name in varied {
        if let Some(value) = record.value_at(stage, name) {
            values.push(format!("{name}={}", plain(&value)));
        }
    }
    if values.is_empty() {
        stage.to_owned()
    } else {
        format!("{stage} ({})", values.join(", "))
    }
}
