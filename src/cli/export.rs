//! `runner export`: a run in another format, or as a bundle for another store.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::progress::ByteProgress;
use super::{Error, Exit, Global, arguments, shown};
use crate::cache::RunId;
use crate::diagnostic::counted;
use crate::pipeline::limits::MOST_RAW_FILES;
use crate::project::{ExportForm, ExportOrder, Made, Runs};
use crate::report::bundle::Written;
use crate::report::{FILES_UP_TO, LeftOut, Objects, Selection, Sent, TableFormat};
use crate::ui::{Paint, bytes, errln, outln, print_json, screen};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  \
    runner export --format ro-crate                       the latest run as a Workflow Run RO-Crate\n  \
    runner export latest --format ro-crate --objects outputs --licence CC-BY-4.0 -o crate\n  \
    runner export 250c1f --format prov-json -o run.prov.json\n  \
    runner export --format mlflow --to http://127.0.0.1:5000   sends the run to a tracking server of MLflow\n  \
    runner export --format mlflow -o mlruns               a folder: `MLFLOW_ALLOW_FILE_STORE=true mlflow ui` lists it\n  \
    runner export --all --format csv -o metrics.csv       the metrics of all runs in one table\n  \
    runner export latest --bundle run.bundle              everything, for `runner import` elsewhere\n  \
    runner export latest --bundle small.bundle --objects metrics --stage model\n\n\
    Records leave out the values of variables whose names suggest secrets, and credentials in addresses on the command line. They \
    keep what `--set` was given as it is.",
    group(clap::ArgGroup::new("what").required(true).args(["format", "bundle"]))
)]
pub(super) struct Arguments {
    /// Runs: `latest`, a name, or the start or end of one; only tables of metrics take several
    #[arg(value_name = "RUN", default_value = "latest")]
    runs: Vec<String>,
    /// All runs of the store, oldest first; for tables of metrics
    #[arg(long, conflicts_with_all = ["bundle", "runs"])]
    all: bool,
    /// What to write
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Write one file with pipeline, lock, record, actions and objects, for `runner import`
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// Where to write it; by default a name that follows from the run, and for CSV standard output
    #[arg(long, short, value_name = "PATH", conflicts_with = "bundle")]
    output: Option<PathBuf>,
    /// Send the run to this MLflow tracking server instead of writing a folder; a run that is sent again is not duplicated
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["output", "bundle"])]
    to: Option<String>,
    /// Objects to include; by default all in a bundle, and none in other formats, which name them by their digests
    #[arg(long, value_name = "WHICH")]
    objects: Option<ObjectChoice>,
    /// Also include all objects of this stage; may be repeated
    #[arg(long = "stage", value_name = "STAGE")]
    stages: Vec<String>,
    /// Include raw files, such as scripts, in a bundle: up to this size in all, small ones first; by default
    /// `16 MiB`, and `0` for none
    #[arg(long, value_name = "SIZE", value_parser = raw_size)]
    files_up_to: Option<u64>,
    /// The licence of a crate: an SPDX identifier, an address or a sentence
    #[arg(long, value_name = "LICENCE")]
    licence: Option<String>,
    /// Replace what is there
    #[arg(long)]
    force: bool,
}

/// Formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Workflow Run RO-Crate: a folder that describes the run for archives and people
    RoCrate,
    /// W3C PROV as JSON
    ProvJson,
    /// A run of MLflow: sent to a server with --to, or as a tracking folder, which MLflow 3.13 and later reads only with the
    /// variable `MLFLOW_ALLOW_FILE_STORE=true`
    Mlflow,
    /// Metrics as a table, a row per run, stage and metric
    Csv,
    /// The same table as Parquet
    Parquet,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::RoCrate => "ro-crate",
            Self::ProvJson => "prov-json",
            Self::Mlflow => "mlflow",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        }
    }

    fn table(self) -> Option<TableFormat> {
        match self {
            Self::Csv => Some(TableFormat::Csv),
            Self::Parquet => Some(TableFormat::Parquet),
            Self::RoCrate | Self::ProvJson | Self::Mlflow => None,
        }
    }
}

/// Objects as the user names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ObjectChoice {
    /// None
    None,
    /// Metrics and tables, such as training logs
    Metrics,
    /// Metrics, and what no stage of the run takes as its input
    Outputs,
    /// Everything that the stages made
    All,
}

impl From<ObjectChoice> for Objects {
    fn from(choice: ObjectChoice) -> Self {
        match choice {
            ObjectChoice::None => Self::None,
            ObjectChoice::Metrics => Self::Metrics,
            ObjectChoice::Outputs => Self::Outputs,
            ObjectChoice::All => Self::All,
        }
    }
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    if arguments.to.is_some() && arguments.format != Some(Format::Mlflow) {
        return Err(Error::wrong("only --format mlflow sends a run to a server")
            .hint("add --format mlflow, or leave --to out"));
    }
    refuse_unused_options(arguments)?;
    if let Some(format) = arguments.format.and_then(Format::table) {
        return write_table(global, arguments, format);
    }
    if arguments.all || arguments.runs.len() > 1 {
        let message = "only tables of metrics hold several runs";
        return Err(Error::wrong(message)
            .hint("use --format csv or --format parquet, or export one run at a time"));
    }
    let output = arguments.bundle.as_ref().or(arguments.output.as_ref());
    let order = ExportOrder {
        run: arguments.runs[0].clone(),
        form: form(arguments),
        output: output.cloned(),
        replace: arguments.force,
    };
    let progress = ByteProgress::new(global, "written");
    let exported = global
        .project
        .export(&order, &|done, total| progress.at(done, total))?;
    drop(progress);
    let run = &exported.run;
    match &exported.made {
        Made::Text(text) => screen::raw(text.as_bytes()),
        Made::Sent(sent) => print_sent(global, sent, run),
        Made::Bundle(written) => print_bundle(global, arguments, written, run),
        Made::At(path) => {
            if arguments.format == Some(Format::Mlflow) && !global.quiet && !global.json {
                errln!("{}: {FOLDER_NOTE}", Paint::Quiet.on("note"));
            }
            let name = arguments.format.map_or("bundle", Format::name);
            print_path(global, path, name, &[("run", json!(run))]);
        }
    }
    Ok(Exit::Done)
}

/// What the options ask for; tables are made elsewhere.
fn form(arguments: &Arguments) -> ExportForm {
    let selection = |otherwise| Selection {
        objects: arguments.objects.map_or(otherwise, Objects::from),
        stages: arguments.stages.clone(),
    };
    match (arguments.format, &arguments.to) {
        (Some(Format::RoCrate), _) => ExportForm::RoCrate {
            selection: selection(Objects::None),
            licence: arguments.licence.clone(),
        },
        (Some(Format::Mlflow), None) => ExportForm::MlflowFolder(selection(Objects::None)),
        (Some(Format::Mlflow), Some(server)) => {
            ExportForm::MlflowServer(selection(Objects::None), server.clone())
        }
        (Some(_), _) => ExportForm::ProvJson,
        (None, _) => ExportForm::Bundle {
            selection: selection(Objects::All),
            files_up_to: arguments.files_up_to.unwrap_or(FILES_UP_TO),
        },
    }
}

/// A size that raw files of a bundle may have; a number alone is one of bytes.
fn raw_size(text: &str) -> Result<u64, String> {
    let size = text.trim().parse().or_else(|_| arguments::size(text))?;
    if size <= MOST_RAW_FILES {
        Ok(size)
    } else {
        let most = bytes(MOST_RAW_FILES);
        Err(format!("a bundle takes no more than {most} of raw files"))
    }
}

/// Refuses options that this sort of export would ignore.
fn refuse_unused_options(arguments: &Arguments) -> Result<(), Error> {
    const OBJECTS: &[Format] = &[Format::RoCrate, Format::Mlflow];
    const OF_OBJECTS: &str = "is for --bundle, --format ro-crate and --format mlflow";
    // Whether the option is given, the formats that use it, whether a bundle does, and which exports these are.
    let options = [
        (
            "--files-up-to",
            arguments.files_up_to.is_some(),
            &[][..],
            true,
            "is for --bundle",
        ),
        (
            "--objects",
            arguments.objects.is_some(),
            OBJECTS,
            true,
            OF_OBJECTS,
        ),
        (
            "--stage",
            !arguments.stages.is_empty(),
            OBJECTS,
            true,
            OF_OBJECTS,
        ),
        (
            "--licence",
            arguments.licence.is_some(),
            &[Format::RoCrate],
            false,
            "is for --format ro-crate",
        ),
    ];
    let (mut unused, mut hints) = (Vec::new(), Vec::new());
    for (option, is_given, formats, in_bundle, users) in options {
        let is_used = match arguments.format {
            Some(format) => formats.contains(&format),
            None => in_bundle,
        };
        if is_given && !is_used {
            unused.push(option);
            hints.push(format!("{option} {users}"));
        }
    }
    if unused.is_empty() {
        return Ok(());
    }
    let what = match arguments.format {
        Some(format) => format!("--format {}", format.name()),
        None => "a bundle".to_owned(),
    };
    let message = format!("{what} does not use {}", unused.join(" and "));
    Err(Error::wrong(message).hint(hints.join("; ")))
}

/// What a reader of a tracking folder must know.
const FOLDER_NOTE: &str = "MLflow 3.13 and later reads folders only with MLFLOW_ALLOW_FILE_STORE=true; `--to http://HOST:PORT` \
     sends the run to a server";

fn print_sent(global: &Global, sent: &Sent, run: &RunId) {
    if global.json {
        print_json(&json!({
            "address": sent.address,
            "format": Format::Mlflow.name(),
            "run": run,
            "experiment_id": sent.experiment_id,
            "run_id": sent.run_id,
            "runs": sent.runs,
            "artifacts": sent.artifacts,
            "was_there": sent.was_there,
        }));
        return;
    }
    outln!("{}", sent.address);
    if sent.was_there && !global.quiet {
        let note = Paint::Quiet.on("note");
        errln!("{note}: all of it was there already; --force sends it again");
    }
}

fn print_path(global: &Global, path: &Path, format: &str, more: &[(&str, Value)]) {
    if !global.json {
        outln!("{}", shown(path));
        return;
    }
    let mut object = json!({"path": path, "format": format});
    for (name, value) in more {
        object[*name] = value.clone();
    }
    print_json(&object);
}

fn print_bundle(global: &Global, arguments: &Arguments, written: &Written, run: &RunId) {
    if global.json {
        let left_out = written.left_out.iter().map(Value::from);
        let more = [
            ("run", json!(run)),
            ("bytes", json!(written.bytes)),
            ("objects", json!(written.objects)),
            ("files", json!(written.files)),
            ("left_out", left_out.collect()),
            ("signed", json!(written.signed)),
        ];
        print_path(global, &written.path, "bundle", &more);
        return;
    }
    let mut text = format!(
        "{}: {}",
        shown(&written.path),
        counted(written.objects, "object")
    );
    if written.files > 0 {
        text.push_str(&format!(", {}", counted(written.files, "raw file")));
    }
    text.push_str(&format!(", {}", bytes(written.bytes)));
    if !written.signed.is_empty() {
        let signed = written.signed.join(" and that of the ");
        text.push_str(&format!(", with the signature of the {signed}"));
    }
    outln!("{text}");
    if arguments.files_up_to != Some(0) {
        print_left_out(&written.left_out);
    }
}

/// What the user of the bundle must have.
fn print_left_out(left_out: &[LeftOut]) {
    let note = Paint::Warn.on("note");
    for LeftOut {
        path,
        reason,
        bytes: size,
        ..
    } in left_out
    {
        let size = size.map_or_else(String::new, |size| format!(", {}", bytes(size)));
        outln!("{note}: the raw file {path} is not included ({reason}{size})");
    }
    if left_out.iter().any(|left| left.reason == "too large") {
        outln!(
            "{}: `--files-up-to SIZE` includes more",
            Paint::Quiet.on("hint")
        );
    }
}

fn write_table(global: &Global, arguments: &Arguments, format: TableFormat) -> Result<Exit, Error> {
    let runs = if arguments.all {
        Runs::All
    } else {
        Runs::Named(arguments.runs.clone())
    };
    let table = global.project.export_metrics(&runs, format)?;
    let to_screen = match &arguments.output {
        Some(path) => path.as_os_str() == "-",
        None => format == TableFormat::Csv,
    };
    if to_screen {
        screen::raw(&table.bytes);
        return Ok(Exit::Done);
    }
    let written = table.write(arguments.output.as_deref(), format, arguments.force)?;
    let more = [
        ("runs", json!(table.runs.len())),
        ("rows", json!(table.rows)),
    ];
    print_path(global, &written, format.name(), &more);
    Ok(Exit::Done)
}
