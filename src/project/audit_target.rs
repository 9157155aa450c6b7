//! What an audit is about: the record that a name means.

use std::path::{Path, PathBuf};

use contract::StageKind;
use contract::artifact::RelativePath;

use super::{Error, QUICKSTART_PATH, lock_beside};
use crate::audit::Lock;
use crate::cache::{CacheError, RunRecord, RunStatus, Store, SweepPart};
use crate::diagnostic::shown_path as shown;
use crate::report::{self, BroughtFiles, bundle, pipeline_files};

/// A record, and the pipeline that it is about.
pub struct Target {
    /// For people: `run 2026…`, or the path of a lock.
    pub name: String,
    pub lock: Lock,
    /// `None` for the built-in pipeline.
    pub pipeline: Option<PathBuf>,
    /// The pipeline is the one that the record holds, and not a file of the user's.
    pub pipeline_is_recorded: bool,
    /// The members of a sweep that the run was about.
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
        let ends = |ending: &str| {
            path.extension()
                .is_some_and(|extension| extension == ending)
        };
        let mut target = match () {
            () if ends("lock") => Self::of_lock(path)?,
            () if bundle::is_bundle(path) => Self::of_bundle(places, path, pipeline.is_some())?,
            () if path.is_file() => Self::of_pipeline(places, path)?,
            () if ends("yaml") || ends("yml") => {
                return Err(Error::wrong(format!("there is no pipeline {name}")));
            }
            () if ends("bundle") => {
                let message = format!("there is no bundle {name}");
                return Err(
                    Error::wrong(message).hint("`runner export RUN --bundle FILE` makes one")
                );
            }
            () => {
                let record = places
                    .store
                    .find_run(name)
                    .map_err(|error| not_found(error, name))?;
                Self::of_run(places, &record, pipeline.is_some())?
            }
        };
        if let Some(pipeline) = pipeline {
            target.pipeline = Some(pipeline.to_owned());
        }
        target.refuse_sweep_file()?;
        Ok(target)
    }

    /// A sweep's file is no pipeline; the records of its runs say what was carried out.
    fn refuse_sweep_file(&self) -> Result<(), Error> {
        let Some(sweep) = self
            .pipeline
            .as_deref()
            .filter(|path| crate::pipeline::is_sweep(path))
        else {
            return Ok(());
        };
        let shown = shown(sweep);
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
            "records of this version do: `runner sweep {shown}` makes one where something is missing; or audit a trial by \
             itself: `runner sweep best {shown}` says how to run it"
        );
        Err(Error::wrong(message).hint(hint))
    }

    fn of_lock(path: &Path) -> Result<Self, Error> {
        let lock = Lock::read(path)?;
        if lock.is_of_sweep() {
            let message = format!(
                "the lock {} is of several members of a sweep, and does not say which",
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
            lock.overrides = record
                .params
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            lock.overrides.push(format!("seed={}", record.seed));
        }
        let file = record
            .sweep
            .as_ref()
            .map_or(&record.file, |sweep| &sweep.pipeline);
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
        let mut unfinished = None;
        let is_done = |record: &RunRecord| {
            if record.file == file && record.status != RunStatus::Done && unfinished.is_none() {
                unfinished = Some(format!(
                    "its run {} is {}; name a run or a lock",
                    record.run,
                    record.status.name()
                ));
            }
            record.file == file && record.status == RunStatus::Done
        };
        let record = store.newest_first()?.find(is_done);
        let record = record.ok_or_else(|| {
            let message = format!(
                "there is neither a lock nor a finished run of {}",
                shown(path)
            );
            Error::wrong(message).hint(
                unfinished
                    .unwrap_or_else(|| "`runner run` it first, or name a run or a lock".to_owned()),
            )
        })?;
        Self::of_run(places, &record, true)
    }
}

/// Why a word on the command line means nothing: it could be a run or a file.
fn not_found(error: CacheError, name: &str) -> Error {
    let is_unknown = matches!(error, CacheError::NoSuchRun(_) | CacheError::NoRuns(_));
    if !is_unknown || name == "latest" {
        return error.into();
    }
    let hint = match error {
        CacheError::NoRuns(_) => {
            "the store has no runs yet: `runner run PIPELINE` makes one".to_owned()
        }
        _ => "`runner runs` lists the runs; a pipeline, a lock or a bundle is named by its path"
            .to_owned(),
    };
    Error::wrong(format!("there is neither a run nor a file called `{name}`")).hint(hint)
}

/// Writes the pipeline that a record holds below a folder; gives its path there.
fn laid_out(record: &RunRecord, folder: &Path) -> Result<PathBuf, Error> {
    let files = pipeline_files(record)?;
    for (path, text) in &files {
        let inside = RelativePath::new(path.as_str());
        let inside = inside.map_err(|fault| {
            Error::wrong(format!("the record of the run {}: {fault}", record.run))
        })?;
        let path = folder.join(inside.as_str());
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent)
            .and_then(|()| std::fs::write(&path, text.as_bytes()))
            .map_err(|error| Error::failed(format!("cannot write {}: {error}", path.display())))?;
    }
    let main = files.first().map(|(path, _)| folder.join(path));
    main.ok_or_else(|| {
        Error::wrong(format!(
            "the record of the run {} holds no pipeline",
            record.run
        ))
    })
}
