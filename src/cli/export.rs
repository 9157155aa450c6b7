//! `runner export`: a run in the formats of others, or as a bundle for another store.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::json;

use super::shown;
use super::{Error, Exit, Global, arguments};
use crate::cache::{RunRecord, Store};
use crate::data::{Options, Sources};
use crate::diagnostic::counted;
use crate::pipeline::limits::MOST_RAW_FILES;
use crate::report::{
    CrateOptions, History, LeftOut, MetricsTable, Objects, Selection, TableFormat, Target,
    Tracking, bundle, send_mlflow, write_mlflow, write_prov, write_ro_crate,
};
use crate::ui::{Paint, bytes, clear_line, errln, outln, print_json, redraw, screen};

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
    /// Objects to include: by default all in a bundle, and none elsewhere, where digests name them
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

/// The formats of others.
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

    /// Where a run goes if nobody says where.
    fn path(self, run: &str) -> PathBuf {
        match self {
            Self::RoCrate => format!("{run}.crate"),
            Self::ProvJson => format!("{run}.prov.json"),
            Self::Mlflow => "mlruns".to_owned(),
            Self::Csv => format!("{run}.csv"),
            Self::Parquet => format!("{run}.parquet"),
        }
        .into()
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
    let store = Store::open(&global.store);
    if arguments.to.is_some() && arguments.format != Some(Format::Mlflow) {
        return Err(Error::wrong("only --format mlflow sends a run to a server")
            .hint("add --format mlflow, or leave --to out"));
    }
    if let (Some(format), Some(_)) = (arguments.format, arguments.files_up_to) {
        return Err(no_effect(arguments, format.name(), &["--files-up-to"]));
    }
    if let Some(table) = arguments.format.and_then(Format::table) {
        return write_table(global, arguments, &store, table);
    }
    if arguments.all || arguments.runs.len() > 1 {
        let message = "only tables of metrics hold several runs";
        return Err(Error::wrong(message)
            .hint("use --format csv or --format parquet, or export one run at a time"));
    }
    let record = store.find_run(&arguments.runs[0])?;
    let sources = Sources::load(&Options::from_environment().data_dir)?;
    let kinds = &global.project.catalogue.kinds;
    let history = History::of(&store, &record, kinds, &sources);
    let lost: Vec<&str> = history
        .stages
        .iter()
        .filter(|stage| stage.action.is_none() && !stage.record.digests.is_empty())
        .map(|stage| stage.record.name.as_str())
        .collect();
    if !lost.is_empty() {
        tracing::warn!(
            "the store no longer has the actions of {}: their inputs and parameters are missing",
            lost.join(", ")
        );
    }
    match (&arguments.bundle, arguments.format) {
        (Some(path), _) => write_bundle(global, arguments, &history, path),
        (None, Some(format)) => write_format(global, arguments, &history, format),
        (None, None) => Err(Error::wrong("neither --format nor --bundle is given")),
    }
}

/// Bytes of raw files that a bundle takes along if nobody says.
const RAW_FILES: u64 = 16 << 20;

/// A size that raw files of a bundle may have; a number alone is one of bytes.
fn raw_size(text: &str) -> Result<u64, String> {
    let most = || {
        format!(
            "a bundle takes no more than {} of raw files",
            bytes(MOST_RAW_FILES)
        )
    };
    let size = text.trim().parse().or_else(|_| arguments::size(text))?;
    if size <= MOST_RAW_FILES {
        Ok(size)
    } else {
        Err(most())
    }
}

fn selection(arguments: &Arguments, otherwise: Objects) -> Selection {
    Selection {
        objects: arguments.objects.map_or(otherwise, Objects::from),
        stages: arguments.stages.clone(),
    }
}

fn write_format(
    global: &Global,
    arguments: &Arguments,
    history: &History<'_>,
    format: Format,
) -> Result<Exit, Error> {
    let takes_objects = matches!(format, Format::RoCrate | Format::Mlflow);
    if !takes_objects && (arguments.objects.is_some() || !arguments.stages.is_empty()) {
        return Err(no_effect(
            arguments,
            format.name(),
            &["--objects", "--stage"],
        ));
    }
    if arguments.licence.is_some() && format != Format::RoCrate {
        return Err(no_effect(arguments, format.name(), &["--licence"]));
    }
    let selection = selection(arguments, Objects::None);
    selection.check(history)?;
    if let Some(server) = &arguments.to {
        return send(global, arguments, history, &selection, server);
    }
    let path = arguments
        .output
        .clone()
        .unwrap_or_else(|| format.path(&history.record.run.0));
    let written = match format {
        Format::RoCrate => {
            let options = CrateOptions {
                licence: arguments.licence.clone(),
            };
            write_ro_crate(
                history,
                &selection,
                &options,
                Target::new(&path, arguments.force)?,
            )?
        }
        Format::Mlflow => {
            let written = write_mlflow(history, &path, &selection, arguments.force)?;
            if !global.quiet && !global.json {
                errln!("{}: {FOLDER_NOTE}", Paint::Quiet.on("note"));
            }
            written
        }
        _ => {
            let document = write_prov(history)?;
            let text = serde_json::to_string_pretty(&document).unwrap_or_default() + "\n";
            if path.as_os_str() == "-" {
                screen::raw(text.as_bytes());
                return Ok(Exit::Done);
            }
            Target::new(&path, arguments.force)?.file(text.as_bytes())?
        }
    };
    tell(
        global,
        &written,
        format.name(),
        &[("run", json!(history.record.run))],
    );
    Ok(Exit::Done)
}

/// What a reader of a tracking folder must know.
const FOLDER_NOTE: &str = "MLflow 3.13 and later reads folders only with MLFLOW_ALLOW_FILE_STORE=true; `--to http://HOST:PORT` \
     sends the run to a server";

/// Sends a run to a tracking server.
fn send(
    global: &Global,
    arguments: &Arguments,
    history: &History<'_>,
    selection: &Selection,
    server: &str,
) -> Result<Exit, Error> {
    let tracking = Tracking::new(server, |name| std::env::var(name).ok())?;
    let sent = send_mlflow(history, &tracking, selection, arguments.force)?;
    if let Some(elsewhere) = &sent.artifacts_elsewhere {
        tracing::warn!(
            "the server keeps artifacts at {elsewhere} and takes none itself: record, pipeline and objects were not sent"
        );
    }
    if global.json {
        let object = json!({
            "address": sent.address,
            "format": Format::Mlflow.name(),
            "run": history.record.run,
            "experiment_id": sent.experiment_id,
            "run_id": sent.run_id,
            "runs": sent.runs,
            "artifacts": sent.artifacts,
            "was_there": sent.was_there,
        });
        print_json(&object);
    } else {
        outln!("{}", sent.address);
        if sent.was_there && !global.quiet {
            errln!(
                "{}: all of it was there already; --force sends it again",
                Paint::Quiet.on("note")
            );
        }
    }
    Ok(Exit::Done)
}

fn tell(global: &Global, path: &Path, format: &str, more: &[(&str, serde_json::Value)]) {
    if global.json {
        let mut object = json!({"path": path, "format": format});
        more.iter()
            .for_each(|(name, value)| object[*name] = value.clone());
        print_json(&object);
    } else {
        outln!("{}", shown(path));
    }
}

fn write_bundle(
    global: &Global,
    arguments: &Arguments,
    history: &History<'_>,
    path: &Path,
) -> Result<Exit, Error> {
    if arguments.licence.is_some() {
        return Err(no_effect(arguments, "bundle", &["--licence"]));
    }
    let selection = selection(arguments, Objects::All);
    let written = {
        let progress = Progress::new(global, "written");
        let target = Target::new(path, arguments.force)?;
        let files_up_to = arguments.files_up_to.unwrap_or(RAW_FILES);
        bundle::write(history, &selection, files_up_to, target, &|done, total| {
            progress.at(done, total)
        })?
    };
    if global.json {
        let more = [
            ("run", json!(history.record.run)),
            ("bytes", json!(written.bytes)),
            ("objects", json!(written.objects)),
            ("files", json!(written.files)),
            (
                "left_out",
                written
                    .left_out
                    .iter()
                    .map(serde_json::Value::from)
                    .collect(),
            ),
            ("signed", json!(written.signed)),
        ];
        tell(global, &written.path, "bundle", &more);
    } else {
        let signed = match written.signed[..] {
            [] => String::new(),
            ref signed => format!(
                ", with the signature of the {}",
                signed.join(" and that of the ")
            ),
        };
        let files = match written.files {
            0 => String::new(),
            count => format!("{}, ", counted(count, "raw file")),
        };
        let objects = counted(written.objects, "object");
        outln!(
            "{}: {objects}, {files}{}{signed}",
            shown(&written.path),
            bytes(written.bytes)
        );
        tell_left_out(arguments, &written.left_out);
    }
    Ok(Exit::Done)
}

/// What whoever gets the bundle must have.
fn tell_left_out(arguments: &Arguments, left_out: &[LeftOut]) {
    if arguments.files_up_to == Some(0) {
        return;
    }
    for left in left_out {
        let size = left
            .bytes
            .map_or_else(String::new, |size| format!(", {}", bytes(size)));
        outln!(
            "{}: the raw file {} is not included ({}{size})",
            Paint::Warn.on("note"),
            left.path,
            left.reason
        );
    }
    if left_out.iter().any(|left| left.reason == "too large") {
        outln!(
            "{}: `--files-up-to SIZE` includes more",
            Paint::Quiet.on("hint")
        );
    }
}

fn format_of(table: TableFormat) -> Format {
    if table == TableFormat::Csv {
        Format::Csv
    } else {
        Format::Parquet
    }
}

/// The options among these that were given and that this sort of export does not use.
fn no_effect(arguments: &Arguments, what: &str, options: &[&str]) -> Error {
    let is_given = |option: &&&str| match **option {
        "--objects" => arguments.objects.is_some(),
        "--stage" => !arguments.stages.is_empty(),
        "--files-up-to" => arguments.files_up_to.is_some(),
        _ => arguments.licence.is_some(),
    };
    let given: Vec<&str> = options.iter().filter(is_given).copied().collect();
    let users = |option: &str| match option {
        "--licence" => "--licence is for --format ro-crate",
        "--files-up-to" => "--files-up-to is for --bundle",
        "--stage" => "--stage is for --bundle, --format ro-crate and --format mlflow",
        _ => "--objects is for --bundle, --format ro-crate and --format mlflow",
    };
    let hints: Vec<&str> = given.iter().map(|option| users(option)).collect();
    let what = if what == "bundle" {
        "a bundle".to_owned()
    } else {
        format!("--format {what}")
    };
    Error::wrong(format!("{what} does not use {}", given.join(" and "))).hint(hints.join("; "))
}

fn write_table(
    global: &Global,
    arguments: &Arguments,
    store: &Store,
    format: TableFormat,
) -> Result<Exit, Error> {
    if arguments.objects.is_some() || !arguments.stages.is_empty() || arguments.licence.is_some() {
        return Err(no_effect(
            arguments,
            format_of(format).name(),
            &["--objects", "--stage", "--licence"],
        ));
    }
    let records: Vec<RunRecord> = if arguments.all {
        let mut records: Vec<RunRecord> = store.newest_first()?.collect();
        records.reverse();
        records
    } else {
        arguments
            .runs
            .iter()
            .map(|run| store.find_run(run))
            .collect::<Result<_, _>>()?
    };
    let table = MetricsTable::of(&records);
    if table.is_empty() {
        tracing::warn!("no stage of these runs has metrics: the table has no rows");
    }
    let bytes = table.to_bytes(format)?;
    let to_screen = match &arguments.output {
        Some(path) => path.as_os_str() == "-",
        None => format == TableFormat::Csv,
    };
    if to_screen {
        screen::raw(&bytes);
        return Ok(Exit::Done);
    }
    let kind = format_of(format);
    let otherwise = || kind.path(records.last().map_or("metrics", |record| &record.run.0));
    let path = arguments.output.clone().unwrap_or_else(otherwise);
    let written = Target::new(&path, arguments.force)?.file(&bytes)?;
    tell(
        global,
        &written,
        kind.name(),
        &[("runs", json!(records.len())), ("rows", json!(table.len()))],
    );
    Ok(Exit::Done)
}

/// How far a long copy is, on a terminal.
pub(super) struct Progress {
    show: bool,
    what: &'static str,
    last: std::cell::Cell<std::time::Instant>,
    drawn: std::cell::Cell<bool>,
}

impl Progress {
    pub fn new(global: &Global, what: &'static str) -> Self {
        let show = std::io::stderr().is_terminal() && !global.quiet && !global.json;
        Self {
            show,
            what,
            last: std::time::Instant::now().into(),
            drawn: false.into(),
        }
    }

    pub fn at(&self, done: u64, total: u64) {
        if self.show && self.last.get().elapsed().as_millis() > 100 {
            self.last.set(std::time::Instant::now());
            self.drawn.set(true);
            redraw(&format!(
                "{} of {} {}",
                bytes(done),
                bytes(total),
                self.what
            ));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn.get() {
            clear_line();
        }
    }
}
