//! `runner show`: what a run did and what came out.

use clap::Args;
use serde_json::Value;

use super::arguments::RunName;
use super::shown;
use super::{Error, Exit, Global, record, views};
use crate::cache::{RunRecord, StageState, Store};
use crate::diagnostic::{counted, visible};
use crate::ui::{Align, Paint, Table, bytes, duration, out, outln, print_json};

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
            files.iter().for_each(|path| outln!("  {}", shown(path)));
        }
    }
    Ok(Exit::Done)
}

/// One entry of the environment in words.
pub(super) fn environment_value(name: &str, value: &Value) -> String {
    let part = |key: &str| value.get(key).map(plain);
    match (name, value) {
        ("memory" | "memory_limit", Value::Number(number)) => {
            number.as_u64().map_or_else(|| plain(value), bytes)
        }
        ("git" | "pipeline_git", Value::Object(_)) => {
            let commit = part("commit").map(|commit| commit.chars().take(12).collect::<String>());
            let changed = value
                .get("changed_files")
                .and_then(Value::as_u64)
                .unwrap_or_default();
            let state = match value.get("dirty").and_then(Value::as_bool) {
                Some(true) => Some(format!("dirty ({})", counted(changed, "changed file"))),
                Some(false) => Some("clean".to_owned()),
                None => None,
            };
            let branch = part("branch").map(|branch| format!("on {branch}"));
            let origin = part("origin").map(|origin| format!("from {origin}"));
            let user = part("user").map(|user| format!("by {user}"));
            [commit, branch, state, origin, user]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(", ")
        }
        ("gpu", Value::Object(_)) => {
            let driver = part("driver").map(|driver| format!("driver {driver}"));
            let cuda = part("cuda").map(|cuda| format!("CUDA {cuda}"));
            let memory = value.get("memory").and_then(Value::as_u64).map(bytes);
            [part("name"), memory, driver, cuda]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(", ")
        }
        ("variables", Value::Object(variables)) => {
            let one = |(name, value): (&String, &Value)| match value {
                Value::Bool(true) => format!("{name} (set, its value is not kept)"),
                _ => format!("{name}={}", plain(value)),
            };
            variables.iter().map(one).collect::<Vec<_>>().join(" ")
        }
        _ => plain(value),
    }
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
    for stage in record
        .stages
        .iter()
        .filter(|stage| !stage.causes.is_empty())
    {
        text += &format!(
            "\n{} {}: {}\n",
            Paint::Bad.on("failed"),
            Paint::Strong.on(&stage.name),
            stage.reason
        );
        for line in stage.causes.iter().flat_map(|cause| cause.lines()) {
            text += &format!("  {line}\n");
        }
    }
    text
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
    let line =
        |name: &str, value: String| format!("  {}: {}\n", Paint::Quiet.on(name), visible(&value));
    text += &line("command", record.command.join(" "));
    if let Some(profile) = &record.profile {
        text += &line("profile", profile.clone());
    }
    let params: Vec<String> = record
        .common_params()
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
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
    text += &causes(record);
    if !record.metrics.is_empty() {
        text += "\n";
        let varied = record.varied();
        let title = |stage: &String| title_of(record, &varied, stage);
        let titled = record
            .metrics
            .iter()
            .map(|(stage, metrics)| (title(stage), metrics.clone()));
        text += &views::metrics_table(&titled.collect());
    }
    text
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
        cells.extend(varied.iter().map(|name| {
            record
                .value_of_trial(trial, name)
                .map_or_else(String::new, |value| plain(&value))
        }));
        cells.extend(has_seeds.then(|| record.seed_of_trial(trial).to_string()));
        table.row(cells);
    }
    table.render()
}

/// A stage of a trial with the trial's values, which its name does not say.
fn title_of(record: &RunRecord, varied: &[String], stage: &str) -> String {
    if record.trials_of(stage).len() == record.trials().len() {
        return stage.to_owned();
    }
    let value = |name: &String| Some(format!("{name}={}", plain(&record.value_at(stage, name)?)));
    let values: Vec<String> = varied.iter().filter_map(value).collect();
    if values.is_empty() {
        stage.to_owned()
    } else {
        format!("{stage} ({})", values.join(", "))
    }
}
