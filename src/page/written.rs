//! Pages as files: a page as one file that carries its arrays, or as a folder with the arrays beside it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::html::{self, Tiles, run_page};
use super::run::RunView;
use super::sweep;
use super::tiles::{Carried, InFolder};
use crate::audit::Lock;
use crate::cache::{RunRecord, Store};
use crate::data::{Options, Sources};
use crate::pipeline::is_sweep;
use crate::project::{Audited, Error, Project, VerifyOrder};
use crate::report::{History, ReportError, Target};

/// What page to write, and where.
pub struct PageOrder {
    /// Runs (`latest`, a name, or the start or end of one), or the path of a lock, a pipeline or a sweep file. A pipeline
    /// stands for its latest run; several runs are compared.
    pub targets: Vec<String>,
    /// By default a name that follows from what the page is of, in the current folder.
    pub output: Option<PathBuf>,
    /// A folder with every row, rather than one file; for a single run.
    pub is_folder: bool,
    /// Bytes of arrays, compressed, that one file carries at most.
    pub room: usize,
    /// Whether what is there is replaced.
    pub replace: bool,
}

/// What was written.
pub struct Written {
    /// What the page is of, for people.
    pub subject: String,
    pub path: PathBuf,
    pub bytes: u64,
    /// Channels of which the file has no single rows.
    pub cut: usize,
}

/// Where the tiles of a folder lie, as seen from its page.
const TILES: &str = "tiles/";

/// By this file a folder is known as a report that may be replaced.
const NOTE: &str = "runner-report.json";

/// Writes a page.
///
/// # Errors
/// If there is no such run, lock or sweep, or the page cannot be written.
pub fn write_page(project: &Project, order: &PageOrder) -> Result<Written, Error> {
    let store = project.local_store();
    let [target] = &order.targets[..] else {
        return comparison(&store, order);
    };
    let path = Path::new(target);
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    match path.extension().and_then(|it| it.to_str()) {
        Some("yaml" | "yml") if !path.exists() => {
            let message = format!("there is no file {}", path.display());
            Err(Error::wrong(message).hint("`runner runs` lists the runs, which have pages too"))
        }
        Some("lock") => {
            let text = lock_text(project, path)?;
            file(order, &format!("report-{stem}-lock.html"), target, &text)
        }
        Some("yaml" | "yml") if is_sweep(path) => {
            let absolute = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
            let runs = runs_of(&store, &absolute)?;
            let view = sweep::view(project, path, runs)?;
            let text = html::sweep_page(&view, Vec::new(), false);
            file(order, &format!("report-{stem}.html"), target, &text)
        }
        Some("yaml" | "yml") => {
            let record = latest_of(&store, path)?;
            run(project, &store, &record, order)
        }
        _ => run(project, &store, &store.find_run(target)?, order),
    }
}

/// Writes the page of an audit.
///
/// # Errors
/// If it cannot be written.
pub fn write_audit(
    audited: &Audited,
    output: &Path,
    replace: bool,
) -> Result<PathBuf, ReportError> {
    let text = html::audit_page(audited);
    Target::new(output, replace)?.file(text.as_bytes())
}

fn target(order: &PageOrder, default: &str) -> Result<Target, ReportError> {
    let path = order.output.clone();
    Target::new(&path.unwrap_or_else(|| default.into()), order.replace)
}

fn file(order: &PageOrder, default: &str, subject: &str, text: &str) -> Result<Written, Error> {
    if order.is_folder {
        return Err(Error::wrong("a folder is for the page of a single run")
            .hint("leave out `--dir`: this page has no arrays, and one file holds it"));
    }
    let path = target(order, default)?.file(text.as_bytes())?;
    Ok(Written {
        subject: subject.to_owned(),
        bytes: bytes_of(&path),
        path,
        cut: 0,
    })
}

fn run(
    project: &Project,
    store: &Store,
    record: &RunRecord,
    order: &PageOrder,
) -> Result<Written, Error> {
    let sources = Sources::load(&Options::from_environment().data_dir)?;
    let history = History::of(store, record, &project.catalogue.kinds, &sources);
    let (path, cut) = if order.is_folder {
        let target = target(order, &format!("report-{}", record.run))?;
        (folder(&history, target)?, 0)
    } else {
        let target = target(order, &format!("report-{}.html", record.run))?;
        let sink = Carried::up_to(order.room);
        let view = RunView::gather(&history, &sink)?;
        let tiles = sink.into_tiles();
        let text = run_page(&view, Tiles::Carried(&tiles), Vec::new());
        (target.file(text.as_bytes())?, view.cut())
    };
    Ok(Written {
        subject: format!("run {}", record.run),
        bytes: bytes_of(&path),
        path,
        cut,
    })
}

fn folder(history: &History<'_>, target: Target) -> Result<PathBuf, ReportError> {
    target.folder(TILES)?;
    let sink = InFolder::new(&target.aside().join(TILES));
    let view = RunView::gather(history, &sink)?;
    let text = run_page(&view, Tiles::Below(TILES), Vec::new());
    target.write("index.html", text.as_bytes())?;
    let note = json!({"run": history.record.run, "runner": env!("CARGO_PKG_VERSION")});
    target.write(NOTE, note.to_string().as_bytes())?;
    target.finish()
}

/// Several runs side by side.
fn comparison(store: &Store, order: &PageOrder) -> Result<Written, Error> {
    let mut records = Vec::with_capacity(order.targets.len());
    for name in &order.targets {
        records.push(store.find_run(name)?);
    }
    let text = html::compare_page(&records, true, Vec::new(), false);
    let subject = format!("{} runs", records.len());
    file(order, "report-comparison.html", &subject, &text)
}

/// A lock beside the store. Nothing is executed.
fn lock_text(project: &Project, path: &Path) -> Result<String, Error> {
    let lock = Lock::read(path)?;
    let order = VerifyOrder {
        target: path.display().to_string(),
        public_key: None,
        sign: None,
    };
    let verified = project.verify(&order, &|_, _| {})?;
    Ok(html::lock_page(&lock, &verified))
}

/// The latest run of a pipeline's file.
fn latest_of(store: &Store, path: &Path) -> Result<RunRecord, Error> {
    let wanted = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let is_it = |record: &RunRecord| record.sweep.is_none() && is_file(&record.file, &wanted);
    let found = store.newest_first()?.find(is_it);
    found.ok_or_else(|| {
        let file = path.display();
        Error::wrong(format!("the store has no run of {file}"))
            .hint(format!("`runner run {file}` makes one"))
    })
}

/// The runs that carried out parts of a sweep, the newest first.
fn runs_of(store: &Store, path: &Path) -> Result<Vec<String>, Error> {
    let mut runs = Vec::new();
    for record in store.newest_first()? {
        if record.sweep.is_some() && is_file(&record.file, path) {
            runs.push(record.run.0);
        }
    }
    Ok(runs)
}

/// Whether a file that a record names is this one.
fn is_file(recorded: &str, path: &Path) -> bool {
    let recorded = Path::new(recorded);
    recorded == path || fs::canonicalize(recorded).is_ok_and(|found| found == path)
}

/// The bytes of a file, or of all files below a folder.
fn bytes_of(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else {
        return fs::metadata(path).map_or(0, |file| file.len());
    };
    let entries = entries.filter_map(Result::ok);
    entries.map(|entry| bytes_of(&entry.path())).sum()
}
