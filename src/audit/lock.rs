//! The lock of a pipeline: what determined each stage and its outputs, as one text file that is made for version
//! control. Its seals show a change; who made it is shown by a signature, which is not the business of this file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use contract::TroubleKind;
use contract::artifact::{Digest, Metric};
use serde_json::Value;
use thiserror::Error;

use super::lock_text;
use super::metric_values::{MetricValues, values_of};
use crate::cache::{Action, Key, Manifest, RunRecord, Store};
use crate::diagnostic::AsTrouble;
use crate::graph::{Graph, StageId};
use crate::pipeline::limits::read_regular;

/// The version of the file's format.
pub const FORMAT: u64 = 1;

/// The results of a pipeline, and what determined them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lock {
    /// The version of runner that wrote it.
    pub runner: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// The pipeline's file, relative to the folder of the lock; empty for the built-in pipeline.
    pub file: String,
    pub profile: Option<String>,
    /// `NAME=VALUE`, as given with `--set`.
    pub overrides: Vec<String>,
    /// Stages to which the pipeline was limited; empty for all.
    pub targets: Vec<String>,
    /// `None` in the lock of a run of a sweep whose trials have different ones.
    pub seed: Option<u64>,
    /// The pipeline's parameters after profile and overrides; of a run of a sweep, those that are the same in all trials.
    pub params: BTreeMap<String, Value>,
    pub stages: BTreeMap<String, LockedStage>,
}

/// One stage of a lock.
#[derive(Clone, Debug, PartialEq)]
pub struct LockedStage {
    pub key: Key,
    /// The stages from which it takes, by name.
    pub needs: BTreeSet<String>,
    /// Logical digests of the outputs by port.
    pub outputs: BTreeMap<String, Digest>,
    /// Metrics, where it makes some.
    pub metrics: MetricValues,
    /// What determined it, in text form; empty where a record does not know it.
    pub manifest: String,
}

impl LockedStage {
    /// The value of a line of the manifest, as it stands there.
    pub fn determinant(&self, path: &str) -> Option<&str> {
        let mut lines = self.manifest.lines();
        lines.find_map(|line| line.strip_prefix(path)?.strip_prefix(" = "))
    }

    /// Whether the key is that of the manifest, where the manifest is known.
    fn has_key_of_manifest(&self) -> bool {
        self.manifest.is_empty()
            || Manifest::parse(&self.manifest).is_some_and(|manifest| manifest.key() == self.key)
    }

    /// The name of the stage kind.
    pub fn kind(&self) -> String {
        Manifest::parse(&self.manifest).unwrap_or_default().kind
    }

    /// What its floating-point bits depend on, for kinds where they depend on the machine.
    pub fn numeric_class(&self) -> Option<String> {
        serde_json::from_str(self.determinant("numeric_class")?)
            .ok()
            .flatten()
    }
}

/// Why a lock cannot be used.
#[derive(Debug, Error)]
pub enum LockError {
    #[error("there is no lock {}", .0.display())]
    Missing(PathBuf),
    #[error("cannot {verb} {}", path.display())]
    Io {
        verb: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{}:{line}: {reason}", path.display())]
    Syntax {
        path: PathBuf,
        line: usize,
        reason: String,
    },
    #[error("{} was changed after it was written: {what}", path.display())]
    Tampered { path: PathBuf, what: String },
}

impl LockError {
    fn io(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { verb, path, source }
    }
}

impl AsTrouble for LockError {
    fn kind(&self) -> TroubleKind {
        match self {
            Self::Missing(_) | Self::Syntax { .. } => TroubleKind::Wrong,
            Self::Io { .. } => TroubleKind::Failed,
            Self::Tampered { .. } => TroubleKind::Different,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Missing(_) => "`runner lock PIPELINE` writes it, once the pipeline has run",
            Self::Io { .. } => return None,
            Self::Syntax { .. } => {
                "after a merge, settle the conflict with `runner lock PIPELINE`, which writes the file again"
            }
            Self::Tampered { .. } => {
                "restore the file from version control, or write it again with `runner lock PIPELINE`"
            }
        };
        Some(hint.to_owned())
    }
}

impl Lock {
    /// Adds the results of these stages; `action` gives the action of a stage, manifest included.
    pub fn add_stages(
        &mut self,
        graph: &Graph,
        action: impl Fn(StageId) -> Option<Action>,
        metrics: impl Fn(&str) -> Vec<Metric>,
    ) {
        for &id in graph.order() {
            let name = &graph.stage(id).name;
            let Some(action) = action(id) else { continue };
            let needs = graph.needs(id).into_iter();
            let locked = LockedStage {
                key: action.key,
                needs: needs.map(|need| graph.stage(need).name.clone()).collect(),
                outputs: action.digests(),
                metrics: values_of(&metrics(name)),
                manifest: action.manifest,
            };
            self.stages.insert(name.clone(), locked);
        }
    }

    /// What a run's record says, with the manifests that the store still has. `needs` are not known.
    pub fn of_run(record: &RunRecord, store: &Store) -> Self {
        Self::of_record(record, &|key| {
            let action = store.action(key).ok().flatten();
            action.map(|action| action.manifest).unwrap_or_default()
        })
    }

    fn of_record(record: &RunRecord, manifest: &dyn Fn(&Key) -> String) -> Self {
        let mut stages = BTreeMap::new();
        for stage in &record.stages {
            let Some(key) = stage.key else { continue };
            let locked = LockedStage {
                key,
                needs: BTreeSet::new(),
                outputs: stage.digests.clone().into_iter().collect(),
                metrics: values_of(record.metrics.get(&stage.name).into_iter().flatten()),
                manifest: manifest(&key),
            };
            stages.insert(stage.name.clone(), locked);
        }
        let runner = record.environment.get("runner").and_then(Value::as_str);
        Self {
            runner: runner.unwrap_or_default().to_owned(),
            pipeline: record.pipeline.clone(),
            file: record.file.clone(),
            profile: record.profile.clone(),
            overrides: record.overrides.clone(),
            targets: record.targets.clone(),
            seed: record.common_seed(),
            params: record.common_params().into_iter().collect(),
            stages,
        }
    }

    /// Whether seed and parameters are those of a record. Of a run of a sweep, the record has those of the first trial, which
    /// earlier versions wrote into its lock.
    pub fn is_of_first_trial(&self, record: &RunRecord) -> bool {
        self.seed == Some(record.seed) && self.params.iter().eq(&Self::of_first_trial(record))
    }

    fn of_first_trial(record: &RunRecord) -> BTreeMap<String, Value> {
        record.params.clone().into_iter().collect()
    }

    /// The lock as earlier versions wrote it.
    #[must_use]
    pub fn with_first_trial(self, record: &RunRecord) -> Self {
        Self {
            seed: Some(record.seed),
            params: Self::of_first_trial(record),
            ..self
        }
    }

    /// Whether it is of several trials of a sweep, whose variants of a stage are told apart by a label: `model#7`.
    pub fn is_of_sweep(&self) -> bool {
        // Values of axes stand in brackets, and may hold anything.
        self.stages.keys().any(|name| {
            name.rsplit_once('#')
                .is_some_and(|(_, label)| !label.contains(']'))
        })
    }

    /// Takes manifests that it lacks from another lock, where that is of the same keys.
    pub fn take_manifests(&mut self, other: &Self) {
        for (name, stage) in &mut self.stages {
            if stage.manifest.is_empty()
                && let Some(known) = other.stages.get(name)
                && known.key == stage.key
                && known.has_key_of_manifest()
            {
                stage.manifest = known.manifest.clone();
            }
        }
    }

    /// The first thing in which the lock of a run says something else than the run's record, or than itself.
    pub fn disagreement(&self, record: &RunRecord) -> Option<String> {
        let other = Self::of_record(record, &|_| String::new());
        let is_of_first = self.is_of_first_trial(record);
        let parts = [
            ("version of runner", self.runner == other.runner),
            ("pipeline", self.pipeline == other.pipeline),
            ("profile", self.profile == other.profile),
            ("list of overrides", self.overrides == other.overrides),
            ("list of targets", self.targets == other.targets),
            ("seed", is_of_first || self.seed == other.seed),
            (
                "list of parameters",
                is_of_first || self.params == other.params,
            ),
            ("list of stages", self.stages.keys().eq(other.stages.keys())),
        ];
        for (what, agrees) in parts {
            if !agrees {
                return Some(format!("its {what} is different"));
            }
        }
        for ((name, stage), other) in self.stages.iter().zip(other.stages.values()) {
            let is_stage = |need: &String| self.stages.contains_key(need);
            let what = match () {
                () if stage.key != other.key => "another key",
                () if stage.outputs != other.outputs => "other outputs",
                () if stage.metrics != other.metrics => "other metrics",
                () if !stage.needs.iter().all(is_stage) => "a need that is not a stage",
                () if !stage.has_key_of_manifest() => "a manifest that is not that of its key",
                () => continue,
            };
            return Some(format!("the stage {name} has {what}"));
        }
        None
    }

    /// The digest that a stage's output has in the lock.
    pub(super) fn output(&self, stage: &str, port: &str) -> Option<Digest> {
        self.stages.get(stage)?.outputs.get(port).copied()
    }

    /// The keys of all stages: what a collection of garbage must leave alone.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.stages.values().map(|stage| stage.key)
    }

    /// The text of the file.
    pub fn to_text(&self) -> String {
        lock_text::render(self)
    }

    /// Over everything in the lock.
    pub fn seal(&self) -> Digest {
        lock_text::seal(self)
    }

    /// Reads a lock and checks its seals.
    ///
    /// # Errors
    /// If there is none, it is not a lock, or it was changed after it was written.
    pub fn read(path: &Path) -> Result<Self, LockError> {
        match read_regular(path) {
            Ok(bytes) => Self::parse(&String::from_utf8_lossy(&bytes), path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(LockError::Missing(path.to_owned()))
            }
            Err(error) => Err(LockError::io("read", path)(error)),
        }
    }

    /// The lock that came with an imported run, if it can be read.
    pub fn beside(store: &Store, record: &RunRecord) -> Option<Self> {
        let path = store.run_folder(&record.run).join("pipeline.lock");
        let text = String::from_utf8(store.layout().read(&path).ok()?).ok()?;
        Self::parse(&text, &path).ok()
    }

    /// Reads the text of a lock and checks its seals. `path` is for messages.
    ///
    /// # Errors
    /// If it is not a lock, or was changed after it was written.
    pub fn parse(text: &str, path: &Path) -> Result<Self, LockError> {
        lock_text::parse(text, path)
    }

    /// Writes the file aside and renames it into place.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), LockError> {
        write_whole(path, self.to_text().as_bytes()).map_err(LockError::io("write", path))
    }
}

/// Writes a file aside, flushes it and renames it into place: there is never half a file under this name.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = fs::File::create(&aside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written
        .and_then(|()| fs::rename(&aside, path))
        .inspect_err(|_| drop(fs::remove_file(&aside)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn sample() -> Lock {
        let stage = |byte: u8, needs: &[&str], manifest: &str| LockedStage {
            key: Key(Digest([byte; 32])),
            needs: needs.iter().map(|need| (*need).to_owned()).collect(),
            outputs: BTreeMap::from([("odd name".to_owned(), Digest([byte + 100; 32]))]),
            metrics: BTreeMap::from([
                ("f1".to_owned(), Some(0.1 + 0.2)),
                ("auc = \"x\"".to_owned(), None),
            ]),
            manifest: manifest.to_owned(),
        };
        Lock {
            runner: "0.1.0".to_owned(),
            pipeline: "small".to_owned(),
            file: "small.yaml".to_owned(),
            profile: None,
            overrides: vec!["epochs=3".to_owned()],
            targets: Vec::new(),
            seed: Some(7),
            params: BTreeMap::from([
                ("epochs".to_owned(), Value::from(3)),
                ("x.y".to_owned(), serde_json::json!({"b": 1, "a": [true]})),
            ]),
            stages: BTreeMap::from([
                (
                    "raw".to_owned(),
                    stage(
                        1,
                        &[],
                        "files.\"a = b\" = blake3:00\nkind = \"ingest\"\nnumeric_class = null\n",
                    ),
                ),
                (
                    "model[a=1,b=2]".to_owned(),
                    stage(2, &["raw"], "kind = \"train\"\nnumeric_class = \"cpu/x\"\n"),
                ),
            ]),
        }
    }

    #[test]
    fn survives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("small.lock");
        let lock = sample();
        lock.write(&path).unwrap();
        assert_eq!(Lock::read(&path).unwrap(), lock);
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "nothing is left aside"
        );
        assert_eq!(lock.keys().count(), 2);
        assert_eq!(
            lock.stages["model[a=1,b=2]"].numeric_class().as_deref(),
            Some("cpu/x")
        );
        assert_eq!(lock.stages["raw"].numeric_class(), None);
        assert!(matches!(
            Lock::read(&folder.path().join("other.lock")),
            Err(LockError::Missing(_))
        ));
        let mut of_sweep = lock.clone();
        of_sweep
            .stages
            .insert("model[a=x#y]".to_owned(), lock.stages["raw"].clone());
        assert!(!of_sweep.is_of_sweep());
        of_sweep.stages.insert(
            "model[a=x#y]#7,seed=2".to_owned(),
            lock.stages["raw"].clone(),
        );
        assert!(of_sweep.is_of_sweep());
    }
}
