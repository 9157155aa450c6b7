//! `runner data`, and the finder through which stages get their raw files.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};

use clap::Subcommand;
use contract::{Catalogue, FileRequest};
use serde_json::json;

use super::{CliError, Exit, Global, signals};
use crate::cache::{Layout, Store};
use crate::data::{self, DataError, FileState, FileStatus, Memo, Options, Sources, Transfer};
use crate::diagnostic::visible;
use crate::engine::{CancelToken, Failure, FileFinder, FoundFile};
use crate::report::{self, Brought, BroughtFiles};
use crate::spec::Spec;
use crate::ui::{Align, Paint, Table, bytes, err, out, outln, print_json, redraw};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List the data sets and how much of each is here
    List,
    /// Download the missing files of a data set
    Get {
        /// The data set
        name: String,
        /// Only files whose path contains this, such as machine-2-1
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
        let paint = if set.present > 0 {
            Paint::Good
        } else {
            Paint::Quiet
        };
        table.row([
            Paint::Strong.on(&set.name),
            paint.on(here),
            bytes(set.bytes),
            set.licence,
            set.title,
        ]);
    }
    out!("{}", table.render());
    let places: Vec<String> = std::iter::once(&options.data_dir)
        .chain(&options.search_path)
        .map(|folder| folder.display().to_string())
        .collect();
    out!(
        "\nlooked in {}; RUNNER_DATA_PATH adds folders, `runner data get NAME` downloads\n",
        places.join(", ")
    );
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
        let failed: BTreeMap<&String, String> = report
            .failed
            .iter()
            .map(|(path, error)| (path, error.to_string()))
            .collect();
        print_json(
            &json!({"downloaded": report.downloaded, "present": report.present, "failed": failed}),
        );
    } else {
        outln!(
            "{} downloaded, {} here already",
            report.downloaded.len(),
            report.present.len()
        );
        for (path, error) in &report.failed {
            err!(
                "{}: {}: {}\n",
                Paint::Bad.on("error"),
                visible(path),
                CliError::from(Failure::from(error))
            );
        }
    }
    Ok(if report.failed.is_empty() {
        Exit::Done
    } else {
        Exit::Failed
    })
}

fn verify(
    global: &Global,
    sources: &Sources,
    options: &Options,
    name: Option<&str>,
) -> Result<Exit, CliError> {
    let show = !global.json && !global.quiet;
    let seen = |status: &FileStatus| {
        if show && !matches!(status.state, FileState::Missing) {
            let (mark, why) = match &status.state {
                FileState::Good => (Paint::Good.on("good"), String::new()),
                FileState::Unchecked => {
                    (Paint::Warn.on("note"), ": no checksum is listed".to_owned())
                }
                FileState::Damaged(error) => (Paint::Bad.on("bad "), format!(": {error}")),
                FileState::Missing => (String::new(), String::new()),
            };
            outln!("{mark} {}{why}", status.path);
        }
    };
    let statuses = data::verify(name, sources, options, &memo(global), &seen)?;
    let count = |wanted: fn(&FileState) -> bool| {
        statuses
            .iter()
            .filter(|status| wanted(&status.state))
            .count()
    };
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
    Ok(if damaged > 0 {
        Exit::Different
    } else {
        Exit::Done
    })
}

/// For `runner doctor`: title, files present, files listed.
pub(super) fn summary() -> Result<Vec<(String, usize, usize)>, DataError> {
    let options = Options::from_environment();
    let sets = data::list(&Sources::load(&options.data_dir)?, &options);
    Ok(sets
        .into_iter()
        .map(|set| (set.title, set.present, set.files))
        .collect())
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
            let total = transfer
                .total
                .map_or_else(String::new, |total| format!(" of {}", bytes(total)));
            let name = transfer
                .target
                .file_name()
                .unwrap_or_default()
                .to_string_lossy();
            redraw(&format!(
                "downloading {name}: {}{total}",
                bytes(transfer.done)
            ));
            if is_last {
                err!("\n");
            }
        }
        if cancel.is_cancelled() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

/// Finds raw files for stages; remembers what it found for the length of the command.
pub(super) struct Files {
    options: Options,
    memo: Memo,
    /// Read when the first listed file is asked for.
    sources: OnceLock<Result<Sources, Failure>>,
    found: Mutex<BTreeMap<(Option<String>, PathBuf), FoundFile>>,
    /// Files that came in a bundle.
    brought: BroughtWhen,
    /// The same for folders that may be files, which many stages tend to share.
    listed: Mutex<BTreeMap<PathBuf, Vec<(String, FoundFile)>>>,
    cancel: CancelToken,
}

impl Files {
    /// `folder` is the pipeline file's; `offline` forbids downloads.
    pub fn new(folder: &Path, offline: bool, layout: &Layout, cancel: &CancelToken) -> Self {
        let options = Options {
            base: Some(folder.to_owned()),
            offline,
            ..Options::from_environment()
        };
        Self {
            options,
            memo: Memo::open(&layout.file_memo()),
            sources: OnceLock::new(),
            found: Mutex::default(),
            brought: BroughtWhen::Never,
            listed: Mutex::default(),
            cancel: cancel.clone(),
        }
    }

    /// With what came along in bundles.
    pub fn with_brought(mut self, brought: BroughtWhen) -> Self {
        self.brought = brought;
        self
    }

    /// What came along for a request, if this is the moment to look.
    fn brought(&self, request: &FileRequest, moment: Moment) -> Option<&Brought> {
        let name = (request.dataset.clone(), request.path.clone());
        match (&self.brought, moment) {
            (BroughtWhen::First(files), Moment::Before) => files.get(&name),
            (BroughtWhen::Missing(files), Moment::After) => {
                // What is here is what the user works on.
                let brought = if self.is_here(request) {
                    None
                } else {
                    files.get(&name)
                };
                if brought.is_some() {
                    tracing::warn!(
                        "{} is not here; its copy from an imported run is read",
                        request.path.display()
                    );
                }
                brought
            }
            _ => None,
        }
    }

    /// Whether anything is where a request leads.
    fn is_here(&self, request: &FileRequest) -> bool {
        if !request.pattern().as_os_str().is_empty() {
            return data::locate_folder(request, &self.options, &self.memo).is_ok();
        }
        let places = data::places_of(&request.path, request.dataset.is_some(), &self.options);
        places.iter().any(|place| place.exists())
    }

    /// A file that came along, with the sum that it has now.
    fn found_brought(&self, path: &Path) -> Result<FoundFile, Failure> {
        let located = data::Located::at(path.to_owned(), &self.memo)
            .map_err(|error| Failure::from(&error))?;
        let found = found_file(located);
        if path
            .file_name()
            .is_some_and(|name| name.to_str() == Some(&found.digest.to_string()))
        {
            return Ok(found);
        }
        let mut failure = Failure::new(format!(
            "{} is not the file any more that came in the bundle",
            path.display()
        ));
        failure.hint = Some("remove it and import the bundle again".to_owned());
        Err(failure)
    }

    fn sources(&self) -> Result<&Sources, Failure> {
        let load = || Sources::load(&self.options.data_dir).map_err(|error| Failure::from(&error));
        self.sources
            .get_or_init(load)
            .as_ref()
            .map_err(Clone::clone)
    }
}

/// When files that came in a bundle count.
pub(super) enum BroughtWhen {
    Never,
    /// Before all others: in an audit of what came from elsewhere, where paths mean nothing here.
    First(BroughtFiles),
    /// Where nothing is at the place that a stage names. Found out when that happens.
    Missing(LazyLock<BroughtFiles, Box<dyn FnOnce() -> BroughtFiles + Send>>),
}

impl BroughtWhen {
    /// What came with runs of a pipeline that were imported, the newest first.
    pub fn of_pipeline(catalogue: &'static Catalogue, store: &Arc<Store>, spec: &Spec) -> Self {
        let (store, name) = (Arc::clone(store), spec.name.value.clone());
        let text = spec.files.first().map(|(_, text)| Arc::clone(text));
        let find = move || {
            let mut all = BroughtFiles::new();
            let runs = store.runs().unwrap_or_default();
            for run in runs.iter().rev().filter(|run| store.is_imported(run)) {
                let Ok(record) = store.load_run(run) else {
                    continue;
                };
                // The run of a sweep has the sweep's name.
                let is_same_text = record
                    .pipeline_files
                    .first()
                    .is_some_and(|file| Some(&file.text) == text.as_ref());
                if record.pipeline == name || is_same_text {
                    for (name, files) in report::brought(&store, &record, &catalogue.kinds) {
                        all.entry(name).or_insert(files);
                    }
                }
            }
            all
        };
        Self::Missing(LazyLock::new(Box::new(find)))
    }
}

/// Before files are looked for, or after nothing was found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moment {
    Before,
    After,
}

impl FileFinder for Files {
    fn find(&self, request: &FileRequest) -> Result<Option<FoundFile>, Failure> {
        let name = (request.dataset.clone(), request.path.clone());
        if let Some(found) = self
            .found
            .lock()
            .ok()
            .and_then(|found| found.get(&name).cloned())
        {
            return Ok(Some(found));
        }
        for moment in [Moment::Before, Moment::After] {
            if let Some(path) = self
                .brought(request, moment)
                .and_then(|brought| brought.file.as_ref())
            {
                return self.found_brought(path).map(Some);
            }
        }
        let watch = watch(self.cancel.clone(), true);
        let none = Sources::default();
        let sources = if request.dataset.is_some() {
            self.sources()?
        } else {
            &none
        };
        let located = data::locate(request, sources, &self.options, &self.memo, &watch);
        let located = located.map_err(|error| Failure::from(&error))?;
        let found = located.map(found_file);
        if let (Some(found), Ok(mut all)) = (&found, self.found.lock()) {
            all.insert(name, found.clone());
        }
        Ok(found)
    }

    fn look_up(&self, path: &Path) -> Option<PathBuf> {
        data::places_of(path, false, &self.options)
            .into_iter()
            .find(|place| place.exists())
    }

    fn means_many(&self, request: &FileRequest) -> bool {
        if !request.many {
            return false;
        }
        let came = [Moment::Before, Moment::After]
            .into_iter()
            .find_map(|moment| self.brought(request, moment));
        match came {
            Some(brought) => brought.file.is_none() && !brought.many.is_empty(),
            None => data::means_many(request, &self.options),
        }
    }

    fn list(&self, request: &FileRequest) -> Result<Vec<(String, FoundFile)>, Failure> {
        for moment in [Moment::Before, Moment::After] {
            if let Some(brought) = self
                .brought(request, moment)
                .filter(|brought| !brought.many.is_empty())
            {
                let many = brought.many.iter();
                return many
                    .map(|(below, path)| Ok((below.clone(), self.found_brought(path)?)))
                    .collect();
            }
        }
        let known =
            |all: &BTreeMap<PathBuf, _>| all.get(&request.path).filter(|_| request.many).cloned();
        if let Some(listed) = self.listed.lock().ok().and_then(|all| known(&all)) {
            return Ok(listed);
        }
        let listed = data::locate_folder(request, &self.options, &self.memo);
        let listed = listed.map_err(|error| Failure::from(&error))?;
        let listed: Vec<_> = listed
            .into_iter()
            .map(|(below, located)| (below, found_file(located)))
            .collect();
        if let (true, Ok(mut all)) = (request.many, self.listed.lock()) {
            all.insert(request.path.clone(), listed.clone());
        }
        Ok(listed)
    }
}

fn found_file(located: data::Located) -> FoundFile {
    FoundFile {
        path: located.path,
        digest: located.digest.blake3,
        identity: located.identity,
    }
}

impl From<&DataError> for Failure {
    fn from(error: &DataError) -> Self {
        let mut failure = Self::new(error.to_string());
        failure.causes = error
            .tried()
            .iter()
            .map(|path| format!("not at {}", path.display()))
            .collect();
        failure.hint = error.hint();
        failure
    }
}

impl From<DataError> for CliError {
    fn from(error: DataError) -> Self {
        match error {
            DataError::UnknownDataSet { .. } => {
                Self::wrong(error.to_string()).maybe_hint(error.hint())
            }
            _ => Failure::from(&error).into(),
        }
    }
}
