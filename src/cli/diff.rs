//! `runner diff A B`: parameters, stages and metrics in which two runs differ. Exit code 3 if they do.

use clap::Args;
use serde_json::{Map, Value, json};

use super::show::environment_value;
use super::{Error, Exit, Global};
use crate::cache::{RunRecord, Store};
use crate::report::{Pair, RunDiff, StageDifference};
use crate::ui::{Align, Paint, Table, number, out, outln, print_json};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The earlier run: `latest`, its name, or the start or end of its name
    a: String,
    /// The later run, named likewise
    #[arg(default_value = "latest")]
    b: String,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    let store = Store::open(&global.store);
    let (a, b) = (store.find_run(&arguments.a)?, store.find_run(&arguments.b)?);
    let diff = RunDiff::between(&store, &a, &b);
    if global.json {
        print_json(&json!({
            "a": a.run,
            "b": b.run,
            "params": as_object(&diff.params),
            "stages": diff.stages,
            "metrics": as_object(&diff.metrics),
            "environment": as_object(&diff.environment),
        }));
    } else {
        print(&a, &b, &diff.params, &diff.stages, &diff.metrics);
        print_environment(&diff.environment);
    }
    Ok(match diff.is_empty() {
        true => Exit::Done,
        false => Exit::Different,
    })
}

fn as_object(pairs: &[Pair]) -> Map<String, Value> {
    let mut object = Map::new();
    for (name, values) in pairs {
        object.insert(name.clone(), json!(values));
    }
    object
}

fn print(
    a: &RunRecord,
    b: &RunRecord,
    params: &[Pair],
    stages: &[StageDifference],
    metrics: &[Pair],
) {
    outln!("{} {} and {}", Paint::Quiet.on("comparing"), a.run, b.run);
    let (left, right) = (a.run.0.as_str(), b.run.0.as_str());
    for (title, pairs) in [("parameters", params), ("metrics", metrics)] {
        if pairs.is_empty() {
            outln!("{title}: {}", Paint::Good.on("the same"));
            continue;
        }
        let mut table = Table::new(&[
            (title, Align::Left),
            (left, Align::Right),
            (right, Align::Right),
            ("change", Align::Right),
        ]);
        for (name, [before, after]) in pairs {
            let change = match (
                before.as_ref().and_then(Value::as_f64),
                after.as_ref().and_then(Value::as_f64),
            ) {
                (Some(before), Some(after)) => format!("{:+.4}", after - before),
                _ => String::new(),
            };
            table.row([
                name.clone(),
                value_text(before.as_ref()),
                value_text(after.as_ref()),
                change,
            ]);
        }
        out!("{}", table.render());
    }
    if stages.is_empty() {
        outln!("stages: {}", Paint::Good.on("the same keys"));
    }
    for stage in stages {
        let [before, after] = stage
            .keys
            .clone()
            .map(|key| key.unwrap_or_else(|| "(absent)".to_owned()));
        let content = if stage.same_content {
            ", same content"
        } else {
            ""
        };
        outln!(
            "  {}: {before} -> {after}{content}",
            Paint::Strong.on(&stage.name)
        );
        for difference in &stage.manifest {
            outln!("    {difference}");
        }
    }
}

fn value_text(value: Option<&Value>) -> String {
    match value {
        None => "(absent)".to_owned(),
        Some(value) => value.as_f64().map_or_else(|| value.to_string(), number),
    }
}

/// This is information: two runs whose results are equal are equal wherever they ran.
fn print_environment(environment: &[Pair]) {
    if environment.is_empty() {
        return;
    }
    outln!("environment");
    for (name, values) in environment {
        let [before, after] = values
            .clone()
            .map(|value| value.map_or_else(String::new, |value| environment_value(name, &value)));
        outln!("  {}: {before} -> {after}", Paint::Quiet.on(name));
    }
}
