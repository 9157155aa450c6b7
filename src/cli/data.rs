//! `runner data`, and the finder through which stages get their raw files.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use clap::Subcommand;
use serde_json::json;
use stages::contract::FileRequest;

use super::{CliError, Exit, Global, signals};
use crate::cache::{Layout, Store};
use crate::data::{self, DataError, FileState, FileStatus, Memo, Options, Sources, Transfer};
use crate::diagnostic::visible;
use crate::engine::{CancelToken, Failure, FileFinder, FoundFile};
use crate::ui::{Align, Paint, Table, bytes, err, out, outln, print_json, redraw};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List the data sets and how much of each is here
    List,
    /// Download what is missing of a data set
    Get {
        /// The data set
        name: String,
        /// Only files whose path has this in it, such as machine-2-1
        filter: Option<String>,
    },
    /// Read every file that is here and compare it with its checksum
    Verify {
        /// The data set; without it, all of them
        name: Option<String>,
    },
}

pub(super) fn run(global: &Global, verb: &Verb) -> Result<Exit, CliError> {
    let options = Options::from_environment();
    let sources = Sources::load(&options.data_dir)?;
    match verb {
        Verb::List => list(global, &sources, &options),
        Verb::Get { name, filter } => get(global, &sources, &options, name, filter.as_deref()),
        Verb::Verify { name } => verify(global, &sources, &options, name.as_deref()),
    }
}

fn memo(global: &Global) -> Memo {
    Memo::open(&Store::open(&global.store).layout().file_memo())
}

fn list(global: &Global, sources: &Sources, options: &Options) -> Result<Exit, CliError> {
    let sets = data::list(sources, options);
    if global.json {
        let entry = |set: &data::DataSetStatus| {
            json!({
                "name": set.name, "title": set.title, "licence": set.licence, "citation": set.citation,
                "homepage": set.homepage, "files": set.files, "present": set.present, "bytes": set.bytes,
                "downloadable": set.downloadable,
            })
        };
        print_json(&json!({"datasets": sets.iter().map(entry).collect::<Vec<_>>()}));
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&[
        ("data set", Align::Left),
        ("here", Align::Right),
        ("size", Align::Right),
        ("licence", Align::Left),
        ("title", Align::Left),
    ]);
    for set in sets {
        let here = format!("{}/{}", set.present, set.files);
        let paint = if set.present > 0 { Paint::Good } else { Paint::Quiet };
        table.row([Paint::Strong.on(&set.name), paint.on(here), bytes(set.bytes), set.licence, set.title]);
    }
    out!("{}", table.render());
    let places: Vec<String> = std::iter::once(&options.data_dir)
        .chain(&options.search_path)
        .map(|folder| folder.display().to_string())
        .collect();
    out!("\nlooked in {}; RUNNER_DATA_PATH adds folders, `runner data get NAME` downloads\n", places.join(", "));
    Ok(Exit::Done)
}

fn get(
    global: &Global,
    sources: &Sources,
    options: &Options,
    name: &str,
    filter: Option<&str>,
) -> Result<Exit, CliError> {
    let cancel = CancelToken::default();
    signals::install(&cancel);
    let watch = watch(cancel.clone(), !global.quiet && !global.json);
    let report = match data::get(name, filter, sources, options, &memo(global), &watch) {
        Err(DataError::Cancelled) => return Ok(Exit::Interrupted),
        other => other?,
    };
    if global.json {
        let failed: BTreeMap<&String, String> =
            report.failed.iter().map(|(path, error)| (path, error.to_string())).collect();
        print_json(&json!({"downloaded": report.downloaded, "present": report.present, "failed": failed}));
    } else {
        outln!("{} downloaded, {} here already", report.downloaded.len(), report.present.len());
        for (path, error) in &report.failed {
            err!("{}: {}: {}\n", Paint::Bad.on("error"), visible(path), CliError::from(Failure::from(error)));
        }
    }
    Ok(if report.failed.is_empty() { Exit::Done } else { Exit::Failed })
}

fn verify(global: &Global, sources: &Sources, options: &Options, name: Option<&str>) -> Result<Exit, CliError> {
    let show = !global.json && !global.quiet;
    let seen = |status: &FileStatus| {
        if show && !matches!(status.state, FileState::Missing) {
            let (mark, why) = match &status.state {
                FileState::Good => (Paint::Good.on("good"), String::new()),
                FileState::Unchecked => (Paint::Warn.on("note"), ": no checksum is listed".to_owned()),
                FileState::Damaged(error) => (Paint::Bad.on("bad "), format!(": {error}")),
                FileState::Missing => (String::new(), String::new()),
            };
            outln!("{mark} {}{why}", status.path);
        }
    };
    let statuses = data::verify(name, sources, options, &memo(global), &seen)?;
    let count = |wanted: fn(&FileState) -> bool| statuses.iter().filter(|status| wanted(&status.state)).count();
    let good = count(|state| matches!(state, FileState::Good));
    let damaged = count(|state| matches!(state, FileState::Damaged(_)));
    let missing = count(|state| matches!(state, FileState::Missing));
    if global.json {
        let entry = |status: &FileStatus| {
            let (state, reason) = match &status.state {
                FileState::Good => ("good", None),
                FileState::Unchecked => ("unchecked", None),
                FileState::Missing => ("missing", None),
                FileState::Damaged(error) => ("damaged", Some(error.to_string())),
            };
            json!({"dataset": status.dataset, "path": status.path, "place": status.place, "state": state, "reason": reason})
        };
        print_json(&json!({"files": statuses.iter().map(entry).collect::<Vec<_>>()}));
    } else {
        outln!("{good} good, {damaged} damaged, {missing} not here");
    }
    Ok(if damaged > 0 { Exit::Different } else { Exit::Done })
}

/// For `runner doctor`: title, files present, files listed.
pub(super) fn summary() -> Result<Vec<(String, usize, usize)>, DataError> {
    let options = Options::from_environment();
    let sets = data::list(&Sources::load(&options.data_dir)?, &options);
    Ok(sets.into_iter().map(|set| (set.title, set.present, set.files)).collect())
}

/// Shows downloads on a terminal, and ends them when the run is stopped.
fn watch(cancel: CancelToken, show: bool) -> impl Fn(&Transfer<'_>) -> ControlFlow<()> {
    let show = show && std::io::stderr().is_terminal();
    let last = Mutex::new(std::time::Instant::now());
    move |transfer| {
        let is_last = transfer.total == Some(transfer.done);
        if show
            && let Ok(mut last) = last.lock()
            && (is_last || last.elapsed().as_millis() > 100)
        {
            *last = std::time::Instant::now();
            let total = transfer.total.map_or_else(String::new, |total| format!(" of {}", bytes(total)));
            let name = transfer.target.file_name().unwrap_or_default().to_string_lossy();
            redraw(&format!("downloading {name}: {}{total}", bytes(transfer.done)));
            if is_last {
                err!("\n");
            }
        }
        if cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Finds raw files for stages; remembers what it found for the length of the command.
pub(super) struct Files {
    options: Options,
    memo: Memo,
    /// Read when the first listed file is asked for.
    sources: OnceLock<Result<Sources, Failure>>,
    found: Mutex<BTreeMap<(Option<String>, PathBuf), FoundFile>>,
    /// The same for folders that may be files, which many stages tend to share.
    listed: Mutex<BTreeMap<PathBuf, Vec<(String, FoundFile)>>>,
    cancel: CancelToken,
}

impl Files {
    /// `folder` is the pipeline file's; `offline` forbids downloads.
    pub fn new(folder: &Path, offline: bool, layout: &Layout, cancel: &CancelToken) -> Self {
        let options = Options { base: Some(folder.to_owned()), offline, ..Options::from_environment() };
        Self {
            options,
            memo: Memo::open(&layout.file_memo()),
            sources: OnceLock::new(),
            found: Mutex::default(),
            listed: Mutex::default(),
            cancel: cancel.clone(),
        }
    }

    fn sources(&self) -> Result<&Sources, Failure> {
        let load = || Sources::load(&self.options.data_dir).map_err(|error| Failure::from(&error));
        self.sources.get_or_init(load).as_ref().map_err(Clone::clone)
    }
}

impl FileFinder for Files {
    fn find(&self, request: &FileRequest) -> Result<Option<FoundFile>, Failure> {
        let name = (request.dataset.clone(), request.path.clone());
        if let Some(found) = self.found.lock().ok().and_then(|found| found.get(&name).cloned()) {
            return Ok(Some(found));
        }
        let watch = watch(self.cancel.clone(), true);
        let none = Sources::default();
        let sources = if request.dataset.is_some() { self.sources()? } else { &none };
        let located = data::locate(request, sources, &self.options, &self.memo, &watch);
        let located = located.map_err(|error| Failure::from(&error))?;
        let found = located.map(found_file);
        if let (Some(found), Ok(mut all)) = (&found, self.found.lock()) {
            all.insert(name, found.clone());
        }
        Ok(found)
    }

    fn means_many(&self, request: &FileRequest) -> bool {
        request.many && data::means_many(request, &self.options)
    }

    fn list(&self, request: &FileRequest) -> Result<Vec<(String, FoundFile)>, Failure> {
        let known = |all: &BTreeMap<PathBuf, _>| all.get(&request.path).filter(|_| request.many).cloned();
        if let Some(listed) = self.listed.lock().ok().and_then(|all| known(&all)) {
            return Ok(listed);
        }
        let listed = data::locate_folder(request, &self.options, &self.memo);
        let listed = listed.map_err(|error| Failure::from(&error))?;
        let listed: Vec<_> = listed.into_iter().map(|(below, located)| (below, found_file(located))).collect();
        if let (true, Ok(mut all)) = (request.many, self.listed.lock()) {
            all.insert(request.path.clone(), listed.clone());
        }
        Ok(listed)
    }
}

fn found_file(located: data::Located) -> FoundFile {
    FoundFile { path: located.path, digest: located.digest.blake3, identity: located.identity }
}

impl From<&DataError> for Failure {
    fn from(error: &DataError) -> Self {
        let mut failure = Self::new(error.to_string());
        failure.causes = error.tried().iter().map(|path| format!("not at {}", path.display())).collect();
        failure.hint = error.hint();
        failure
    }
}

impl From<DataError> for CliError {
    fn from(error: DataError) -> Self {
        match error {
            DataError::UnknownDataSet { .. } => Self::wrong(error.to_string()).maybe_hint(error.hint()),
            _ => Failure::from(&error).into(),
        }
    }
}
