//! `runner new NAME`: a pipeline to start from, and beside it the schema with which editors check it. Never overwrites a file.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::builder::ArgPredicate;
use clap::{Args, ValueEnum};
use contract::Look;
use serde_json::{Value, json};

use super::{Error, Exit, Global, schema};
use crate::pipeline::is_name;
use crate::project::QUICKSTART;
use crate::ui::{outln, print_json};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The pipeline's name; it becomes pipelines/NAME.yaml; an existing file is never overwritten
    name: String,
    /// What to start from
    #[arg(
        long,
        value_name = "TEMPLATE",
        default_value = "quickstart",
        default_value_if("data", ArgPredicate::IsPresent, "csv")
    )]
    template: Template,
    /// Your file, or a folder of files: the pipeline reads it as it seems to be written, and what was guessed is said
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// The folder to write to
    #[arg(long, value_name = "DIR", default_value = "pipelines")]
    folder: PathBuf,
}

/// Pipelines that come with the program.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Template {
    /// Generated data, TVNet, plots
    Quickstart,
    /// A machine of the Server Machine Dataset
    Smd,
    /// Your own CSV file
    Csv,
}

impl Template {
    fn text(self) -> &'static str {
        match self {
            Self::Quickstart => QUICKSTART,
            Self::Smd => include_str!("../../pipelines/smd_tvnet.yaml"),
            Self::Csv => include_str!("../../pipelines/templates/csv.yaml"),
        }
    }
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    let name = &arguments.name;
    if !is_name(name) {
        let hint = "letters, digits, `_` and `-`, beginning with a letter";
        return Err(Error::wrong(format!("`{name}` cannot name a pipeline")).hint(hint));
    }
    let path = arguments.folder.join(format!("{name}.yaml"));
    let mut text = renamed(arguments.template.text(), name);
    let mut guesses = Vec::new();
    if let Some(file) = &arguments.data {
        if !matches!(arguments.template, Template::Csv) {
            let error = Error::wrong("only the template `csv` reads a file of yours");
            return Err(error.hint("leave `--template` out, or `--data`"));
        }
        let look = (global.project.catalogue.look)(file)?;
        text = fitted(&text, &look)?;
        guesses = look.guesses;
    }
    write_new(&path, &text).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Error::wrong(format!("{} is there already", path.display())).hint("choose another name")
        }
        _ => cannot_write(&path, &error),
    })?;
    let schema_path = arguments.folder.join(SCHEMA);
    let schema = schema::text(&global.project.catalogue.kinds)? + "\n";
    let with_schema = match write_new(&schema_path, &schema) {
        Ok(()) => true,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => false,
        Err(error) => return Err(cannot_write(&schema_path, &error)),
    };
    if global.json {
        let schema = with_schema.then_some(schema_path);
        print_json(&json!({"pipeline": path, "schema": schema, "guesses": guesses}));
        return Ok(Exit::Done);
    }
    outln!("wrote {}", path.display());
    if let (Some(file), false) = (&arguments.data, guesses.is_empty()) {
        outln!(
            "guessed from {}; correct in the pipeline what is wrong:",
            file.display()
        );
        for guess in &guesses {
            outln!("  {guess}");
        }
    }
    if with_schema {
        outln!(
            "wrote {}, with which editors check and complete pipelines",
            schema_path.display()
        );
    }
    outln!("next: runner plan {0}, then runner run {0}", path.display());
    Ok(Exit::Done)
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Error {
    Error::failed(format!("cannot write {}: {error}", path.display()))
}

/// The file name of the schema, which stands beside the pipelines.
const SCHEMA: &str = "schema.json";

/// The template as a pipeline of this name, wherever the template itself finds the schema.
fn renamed(text: &str, name: &str) -> String {
    let mut renamed = String::new();
    for line in text.lines() {
        if line.starts_with("pipeline:") {
            renamed += &format!("pipeline: {name}\n");
        } else if line.starts_with("# yaml-language-server:") {
            renamed += &format!("# yaml-language-server: $schema={SCHEMA}\n");
        } else {
            renamed += &format!("{line}\n");
        }
    }
    renamed
}

/// The template with the parameters that fit a file. With labels, the scores are judged, too.
fn fitted(template: &str, look: &Look) -> Result<String, Error> {
    let mut text = String::new();
    let has = |name: &str| look.parameters.contains_key(name);
    let is_labelled = has("label") || has("test_labels");
    for line in template.lines() {
        match line.trim_start() {
            // A test part of its own is not split off.
            "split: {train: 0.5, validation: 0.1, calibration: 0.1, test: 0.3}" if has("test") => {
                text += "      split: {train: 0.7, validation: 0.1, calibration: 0.2}\n";
            }
            // The path stands among the pipeline's parameters.
            "path: my_data.csv" => {
                let path = yaml(look.parameters.get("path"))?;
                text += &format!("  path: {path}\n");
            }
            "dataset: csv" => {
                for (name, value) in &look.parameters {
                    if name != "path" {
                        text += &format!("      {name}: {}\n", yaml(Some(value))?);
                    }
                }
            }
            "from: {series: raw, scores: scores}" if is_labelled => {
                text += "    from: {series: raw, scores: scores, metrics: metrics}\n";
            }
            "plots:" if is_labelled => text += METRICS,
            _ => text += &format!("{line}\n"),
        }
    }
    Ok(text)
}

/// The stage that judges, and the name of the one behind it.
const METRICS: &str = "  metrics:
    uses: evaluate
    from: scores
    with: {threshold: {kind: quantile, anomaly_ratio: 1.0}}
  plots:
";

/// A value on one line: JSON is YAML.
fn yaml(value: Option<&Value>) -> Result<String, Error> {
    serde_json::to_string(&value).map_err(|error| Error::failed(error.to_string()))
}

fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    File::options()
        .write(true)
        .create_new(true)
        .open(path)?
        .write_all(text.as_bytes())
}
