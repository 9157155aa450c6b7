//! What an audit is about: the record that a word on the command line means, and the part of it that is asked for.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use stages::artifact::Digest;

use super::session::{QUICKSTART_PATH, shown};
use super::{CliError, lock};
use crate::audit::Lock;
use crate::cache::{RunRecord, RunStatus, Store};
use crate::graph::{Graph, StageId};

/// A record, and the pipeline that it is about.
pub(super) struct Target {
    /// For people: `run 2026…`, or the path of a lock.
    pub name: String,
    pub lock: Lock,
    /// `None` for the built-in pipeline.
    pub pipeline: Option<PathBuf>,
}

impl Target {
    /// The target that the user names.
    ///
    /// # Errors
    /// If there is no such record.
    pub fn resolve(store: &Store, name: &str, pipeline: Option<&Path>) -> Result<Self, CliError> {
        let path = Path::new(name);
        let ends = |ending: &str| path.extension().is_some_and(|extension| extension == ending);
        let mut target = match () {
            () if ends("lock") => Self::of_lock(path)?,
            () if path.is_file() => Self::of_pipeline(store, path)?,
            () if ends("yaml") || ends("yml") => {
                return Err(CliError::wrong(format!("there is no pipeline {name}")));
            }
            () => Self::of_run(store, &store.find_run(name)?),
        };
        if let Some(pipeline) = pipeline {
            target.pipeline = Some(pipeline.to_owned());
        }
        if let Some(sweep) = target.pipeline.as_deref().filter(|path| crate::sweep::is_sweep(path)) {
            let message = format!("{} is of the sweep {}, whose trials share their stages", target.name, shown(sweep));
            let hint = format!("audit a trial: `runner sweep best {}` says how to run one by itself", shown(sweep));
            return Err(CliError::wrong(message).hint(hint));
        }
        Ok(target)
    }

    fn of_lock(path: &Path) -> Result<Self, CliError> {
        let lock = Lock::read(path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let pipeline = (!lock.file.is_empty()).then(|| folder.join(&lock.file));
        Ok(Self { name: format!("the lock {}", shown(path)), lock, pipeline })
    }

    fn of_run(store: &Store, record: &RunRecord) -> Self {
        let mut lock = Lock::of_run(record, store);
        if record.seal.is_none() && lock.overrides.is_empty() {
            // Records did not keep overrides then, but parameters they did.
            lock.overrides = record.params.iter().map(|(name, value)| format!("{name}={value}")).collect();
            lock.overrides.push(format!("seed={}", record.seed));
        }
        let pipeline = (record.file != QUICKSTART_PATH).then(|| PathBuf::from(&record.file));
        Self { name: format!("run {}", record.run), lock, pipeline }
    }

    /// A pipeline's lock, or its latest run that was done.
    fn of_pipeline(store: &Store, path: &Path) -> Result<Self, CliError> {
        let beside = lock::beside(Some(path));
        if beside.is_file() {
            return Self::of_lock(&beside);
        }
        let file = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()).display().to_string();
        let runs = store.runs()?;
        let mut records = runs.iter().rev().filter_map(|run| store.load_run(run).ok());
        let record = records.find(|record| record.file == file && record.status == RunStatus::Done);
        let record = record.ok_or_else(|| {
            let message = format!("there is neither a lock nor a finished run of {}", shown(path));
            CliError::wrong(message).hint("`runner run` it first, or name a run or a lock")
        })?;
        Ok(Self::of_run(store, &record))
    }
}

/// Names of the stages and of all that depend on them.
pub(super) fn with_everything_after(graph: &Graph, stages: &[StageId]) -> BTreeSet<String> {
    let mut reached: BTreeSet<StageId> = stages.iter().copied().collect();
    for &id in graph.order() {
        if graph.needs(id).iter().any(|need| reached.contains(need)) {
            reached.insert(id);
        }
    }
    reached.into_iter().map(|id| graph.stage(id).name.clone()).collect()
}

/// A choice of recorded stages that looks random and depends on nothing but the seed and the names.
pub(super) fn sample(lock: &Lock, count: usize, seed: u64) -> BTreeSet<String> {
    let names = lock.stages.keys();
    let mut drawn: Vec<(Digest, &String)> =
        names.map(|name| (Digest::of_bytes(format!("{seed} {name}").as_bytes()), name)).collect();
    drawn.sort();
    drawn.into_iter().take(count).map(|(_, name)| name.clone()).collect()
}
