//! What an audit is about: the record that a name means.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use contract::StageKind;
use contract::artifact::RelativePath;

use super::{Error, QUICKSTART_PATH, lock_beside};
use crate::audit::Lock;
use crate::cache::{CacheError, RunRecord, RunStatus, Store, SweepPart};
use crate::diagnostic::shown_path as shown;
use crate::report::{self, BroughtFiles, bundle, pipeline_files};

/// A record, and the pipeline that it is about.
pub(super) struct Target {
    /// For people: `run 2026…`, or the path of a lock.
    pub name: String,
    pub lock: Lock,
    /// `None` for the built-in pipeline.
    pub pipeline: Option<PathBuf>,
    /// The pipeline is the one that the record holds, and not a file of the user's.
    pub pipeline_is_recorded: bool,
    /// The trials of a sweep that the run was about.
    pub sweep: Option<SweepPart>,
    /// Raw files that came along with the pipeline, if it is the recorded one.
    pub brought: Option<BroughtFiles>,
    /// The store with what a bundle brought; otherwise the user's own holds the original.
    pub store: Option<PathBuf>,
}

/// Where results are, and where something can be laid out.
pub(super) struct Places<'a> {
    pub store: &'a Store,
    pub kinds: &'a [StageKind],
    /// An empty folder that goes when the audit has ended.
    pub scratch: &'a Path,
}

impl Target {
    /// The target that the user names.
    ///
    /// # Errors
    /// If there is no such record.
    pub(super) fn resolve(
        places: &Places<'_>,
        name: &str,
        pipeline: Option<&Path>,
    ) -> Result<Self, Error> {
        let path = Path::new(name);
        let ending = path.extension().and_then(OsStr::to_str);
        let mut target = match ending {
            Some("lock") => Self::of_lock(path)?,
            _ if bundle::is_bundle(path) => Self::of_bundle(places, path, pipeline.is_some())?,
            _ if path.is_file() => Self::of_pipeline(places, path)?,
            Some("yaml" | "yml") => {
                return Err(Error::wrong(format!("there is no pipeline {name}")));
            }
            Some("bundle") => {
                let message = format!("there is no bundle {name}");
                return Err(
                    Error::wrong(message).hint("`runner export RUN --bundle FILE` makes one")
                );
            }
            _ => match places.store.find_run(name) {
                Ok(record) => Self::of_run(places, &record, pipeline.is_some())?,
                Err(error) => return Err(not_found(error, name)),
            },
        };
        if let Some(pipeline) = pipeline {
            target.pipeline = Some(pipeline.to_owned());
        }
        target.refuse_sweep_file()?;
        Ok(target)
    }

    /// A sweep file is not a pipeline; the records of its runs say what was carried out.
    fn refuse_sweep_file(&self) -> Result<(), Error> {
        let shown = match &self.pipeline {
            Some(path) if crate::pipeline::is_sweep(path) => shown(path),
            _ => return Ok(()),
        };
        if self.sweep.is_some() {
            let message = format!("{shown} is a sweep file");
            return Err(
                Error::wrong(message).hint("--pipeline names the pipeline that the sweep varies")
            );
        }
        let message = format!(
            "{} is of the sweep {shown}, and does not say which of its trials were run",
            self.name
        );
        let hint = format!(
            "records of this version do: `runner sweep {shown}` makes one where something is missing; or audit a single \
             trial: `runner sweep best {shown}` says how to run it"
        );
        Err(Error::wrong(message).hint(hint))
    }

    fn of_lock(path: &Path) -> Result<Self, Error> {
        let lock = Lock::read(path)?;
        if lock.is_of_sweep() {
            let message = format!(
                "the lock {} is of several trials of a sweep, and does not say which",
                shown(path)
            );
            return Err(
                Error::wrong(message).hint("audit the run, or the bundle that the lock came in")
            );
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        let pipeline = (!lock.file.is_empty()).then(|| folder.join(&lock.file));
        let name = format!("the lock {}", shown(path));
        Ok(Self {
            name,
            lock,
            pipeline,
            pipeline_is_recorded: false,
            sweep: None,
            brought: None,
            store: None,
        })
    }

    /// The run in a bundle, which is taken into a store of its own.
    fn of_bundle(places: &Places<'_>, path: &Path, has_pipeline: bool) -> Result<Self, Error> {
        let folder = places.scratch.join("bundle");
        let store = Store::open(&folder);
        let record = bundle::import(path, &store, places.kinds, false, &|_, _| {})?.record;
        let target = Self::of_run(
            &Places {
                store: &store,
                ..*places
            },
            &record,
            has_pipeline,
        )?;
        Ok(Self {
            name: format!("{} in {}", target.name, shown(path)),
            store: Some(folder),
            ..target
        })
    }

    fn of_run(places: &Places<'_>, record: &RunRecord, has_pipeline: bool) -> Result<Self, Error> {
        let mut lock = Lock::of_run(record, places.store);
        // The results that a bundle left out are described in its lock.
        if let Some(known) = Lock::beside(places.store, record) {
            lock.take_manifests(&known);
        }
        if record.seal.is_none() && lock.overrides.is_empty() {
            // Records did not keep overrides then, but parameters they did.
            for (name, value) in &record.params {
                lock.overrides.push(format!("{name}={value}"));
            }
            lock.overrides.push(format!("seed={}", record.seed));
        }
        let file = match &record.sweep {
            Some(sweep) => &sweep.pipeline,
            None => &record.file,
        };
        let mut pipeline = (record.file != QUICKSTART_PATH).then(|| PathBuf::from(file));
        // The path in a record from elsewhere means nothing here, but the record brings the pipeline along.
        let is_foreign = places.store.is_imported(&record.run) && !record.pipeline_files.is_empty();
        let pipeline_is_recorded = is_foreign && !has_pipeline;
        if pipeline_is_recorded {
            pipeline = Some(laid_out(record, &places.scratch.join("pipeline"))?);
        }
        let brought =
            pipeline_is_recorded.then(|| report::brought(places.store, record, places.kinds));
        let (name, sweep) = (format!("run {}", record.run), record.sweep.clone());
        Ok(Self {
            name,
            lock,
            pipeline,
            pipeline_is_recorded,
            sweep,
            brought,
            store: None,
        })
    }

    /// A pipeline's lock, or its latest run that was done.
    fn of_pipeline(places: &Places<'_>, path: &Path) -> Result<Self, Error> {
        let beside = lock_beside(Some(path));
        if beside.is_file() {
            return Self::of_lock(&beside);
        }
        let store = places.store;
        let file = std::fs::canonicalize(path)
            .unwrap_or_else(|_| path.to_owned())
            .display()
            .to_string();
        let mut hint = "`runner run` it first, or name a run or a lock".to_owned();
        let mut is_newest = true;
        for record in store.newest_first()?.filter(|record| record.file == file) {
            if record.status == RunStatus::Done {
                return Self::of_run(places, &record, true);
            }
            if is_newest {
                let (run, status) = (&record.run, record.status.name());
                hint = format!("its run {run} is {status}; name a run or a lock");
                is_newest = false;
            }
        }
        let path = shown(path);
        let message = format!("there is neither a lock nor a finished run of {path}");
        Err(Error::wrong(message).hint(hint))
    }
}

/// Why a word on the command line means nothing: it could be a run or a file.
fn not_found(error: CacheError, name: &str) -> Error {
    let hint = match error {
        _ if name == "latest" => return error.into(),
        CacheError::NoRuns(_) => "the store has no runs yet: `runner run PIPELINE` makes one",
        CacheError::NoSuchRun(_) => {
            "`runner runs` lists the runs; a pipeline, a lock or a bundle is named by its path"
        }
        _ => return error.into(),
    };
    Error::wrong(format!("there is neither a run nor a file called `{name}`")).hint(hint)
}

/// Writes the pipeline that a record holds below a folder; gives its path there.
fn laid_out(record: &RunRecord, folder: &Path) -> Result<PathBuf, Error> {
    let files = pipeline_files(record)?;
    for (path, text) in &files {
        let inside = RelativePath::new(path.as_str()).map_err(|fault| {
            Error::wrong(format!("the record of the run {}: {fault}", record.run))
        })?;
        let path = folder.join(inside.as_str());
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent)
            .and_then(|()| std::fs::write(&path, text.as_bytes()))
            .map_err(|error| Error::failed(format!("cannot write {}: {error}", path.display())))?;
    }
    match files.first() {
        Some((path, _)) => Ok(folder.join(path)),
        None => {
            let message = format!("the record of the run {} holds no pipeline", record.run);
            Err(Error::wrong(message))
        }
    }
}
