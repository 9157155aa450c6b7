//! A run with everything that the store and the lists of data sets know about it: what each stage took, made, and of which
//! raw files, under which parameters, and when.

use std::collections::{BTreeMap, BTreeSet};

use contract::artifact::Digest;
use contract::{Configured, FileRequest, StageKind};
use serde_json::Value;

use crate::cache::{
    Action, Manifest, ObjectRecord, Output, OutputPaths, RunRecord, RunStatus, StageRecord, Store,
};
use crate::data::{DataSet, Sources};

/// A raw file that a stage read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawFile {
    /// The name under which the stage asked for it.
    pub name: String,
    /// Relative to a data folder, or as the user wrote it; empty if it is not known any more.
    pub path: String,
    pub blake3: Digest,
    /// The data set that lists it.
    pub data_set: Option<String>,
    pub sha256: Option<String>,
    pub bytes: Option<u64>,
    /// Where it can be had.
    pub url: Option<String>,
}

/// What a stage took in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    pub port: String,
    /// Its name on a port that takes many.
    pub item: Option<String>,
    pub digest: Digest,
    /// The stage that made it and the port, by the stage's place in the run.
    pub maker: Option<(usize, String)>,
}

/// One stage of the run.
#[derive(Clone, Debug)]
pub struct StageHistory {
    pub record: StageRecord,
    /// What it made; `None` if it failed, or the store no longer has it or has something else in its place.
    pub action: Option<Action>,
    /// What its manifest says; empty without an action.
    pub recorded: Manifest,
    pub inputs: Vec<Input>,
    pub files: Vec<RawFile>,
}

impl RawFile {
    /// Its path, or its name where the path is not known any more.
    pub fn shown_name(&self) -> &str {
        if self.path.is_empty() {
            &self.name
        } else {
            &self.path
        }
    }
}

impl StageHistory {
    /// When it was executed, in this run or an earlier one: milliseconds since 1970.
    pub fn times(&self) -> Option<(u64, u64)> {
        let action = self.action.as_ref()?;
        let duration = (action.seconds * 1000.0).round() as u64;
        Some((action.finished.saturating_sub(duration), action.finished))
    }

    pub fn outputs(&self) -> &[Output] {
        self.action.as_ref().map_or(&[], |action| &action.outputs)
    }

    /// Its parameters as leaves: `optimizer.lr` and the value.
    pub fn parameters(&self) -> Vec<(String, Value)> {
        let mut leaves = Vec::new();
        leaves_of(&self.recorded.parameters, String::new(), &mut leaves);
        leaves
    }
}

/// A run and what is known about it.
pub struct History<'a> {
    pub store: &'a Store,
    pub record: &'a RunRecord,
    pub stages: Vec<StageHistory>,
    /// The stage kinds of this program, for what they say about themselves.
    pub kinds: &'a [StageKind],
    sources: &'a Sources,
    paths: OutputPaths,
    /// What stages of the run took in.
    taken: BTreeSet<Digest>,
}

impl<'a> History<'a> {
    /// Gathers what is known. Actions that are gone from the store are left out.
    pub fn of(
        store: &'a Store,
        record: &'a RunRecord,
        kinds: &'a [StageKind],
        sources: &'a Sources,
    ) -> Self {
        let mut stages: Vec<StageHistory> = Vec::with_capacity(record.stages.len());
        // Of several stages with the same content, the one nearest above made it.
        let mut makers: BTreeMap<Digest, (usize, String)> = BTreeMap::new();
        let mut taken = BTreeSet::new();
        for (index, stage) in record.stages.iter().enumerate() {
            let action = action_of(store, stage);
            let manifest = action.as_ref().map_or("", |action| &action.manifest);
            let recorded = Manifest::parse(manifest).unwrap_or_default();
            let mut inputs = Vec::with_capacity(recorded.inputs.len());
            for (port, item, digest) in recorded.inputs.clone() {
                let maker = makers.get(&digest).cloned();
                taken.insert(digest);
                inputs.push(Input {
                    port,
                    item,
                    digest,
                    maker,
                });
            }
            let files = raw_files(&recorded, kinds, sources);
            for output in action.iter().flat_map(|action| &action.outputs) {
                makers.insert(output.record.digest, (index, output.port.clone()));
            }
            stages.push(StageHistory {
                record: stage.clone(),
                action,
                recorded,
                inputs,
                files,
            });
        }
        let paths = OutputPaths::of(record.stages.iter().map(|stage| stage.name.as_str()));
        Self {
            store,
            record,
            stages,
            kinds,
            sources,
            paths,
            taken,
        }
    }

    /// Where the files of an output belong, below a folder of the whole run.
    pub fn output_path(&self, stage: &StageHistory, output: &Output) -> String {
        self.paths.path(
            &stage.record.name,
            &output.port,
            stage.outputs().iter().map(|output| output.port.as_str()),
        )
    }

    pub fn kind(&self, name: &str) -> Option<&StageKind> {
        self.kinds.iter().find(|kind| kind.name == name)
    }

    pub fn data_set(&self, name: &str) -> Option<&DataSet> {
        self.sources.set(name).ok()
    }

    /// The data sets whose files were read, by name.
    pub fn data_sets(&self) -> BTreeMap<&str, &DataSet> {
        let mut sets = BTreeMap::new();
        for file in self.stages.iter().flat_map(|stage| &stage.files) {
            if let Some(name) = &file.data_set
                && let Some(set) = self.data_set(name)
            {
                sets.insert(name.as_str(), set);
            }
        }
        sets
    }

    /// What was published of the models, by their names.
    pub fn citations(&self) -> BTreeMap<String, &'static str> {
        let mut found = BTreeMap::new();
        for stage in &self.stages {
            let parameters = stage.recorded.parameters.clone();
            let kind = self.kind(&stage.recorded.kind);
            // Parameters of another version of the program may be unknown to this one.
            let configured = kind.and_then(|kind| kind.parse(parameters).ok());
            found.extend(configured.iter().flat_map(Configured::cites));
        }
        found.retain(|_, citation| !citation.is_empty());
        found
    }

    /// What was made, by its logical digest, with the object that holds it.
    pub fn artifacts(&self) -> BTreeMap<Digest, &ObjectRecord> {
        let mut artifacts = BTreeMap::new();
        for output in self.stages.iter().flat_map(StageHistory::outputs) {
            artifacts.insert(output.record.digest, &output.record);
        }
        artifacts
    }

    /// Whether no stage of the run takes this: it is what the run was for.
    pub fn is_final(&self, digest: &Digest) -> bool {
        !self.taken.contains(digest)
    }

    /// When the run ended: milliseconds since 1970; `None` for one that is still going or was killed.
    pub fn ended(&self) -> Option<u64> {
        if self.record.status == RunStatus::Running {
            return None;
        }
        let duration = (self.record.seconds * 1000.0).round() as u64;
        Some(self.record.started.saturating_add(duration))
    }

    /// An entry of what was recorded about the machine, as text.
    pub fn environment(&self, name: &str) -> Option<&str> {
        self.record.environment.get(name)?.as_str()
    }

    /// The version of runner that carried the run out.
    pub fn runner_version(&self) -> &str {
        self.environment("runner").unwrap_or("unknown")
    }

    /// Who git said worked there.
    pub fn user(&self) -> Option<&str> {
        let user = self.record.environment.get("git")?.get("user")?.as_str();
        user.filter(|name| !name.is_empty())
    }
}

/// The action of a stage, if its outputs are those of the record: a stage that was executed again since may have others.
fn action_of(store: &Store, stage: &StageRecord) -> Option<Action> {
    let action = store.action(&stage.key?).ok()??;
    let recorded: BTreeMap<String, Digest> = stage.digests.clone().into_iter().collect();
    (action.digests() == recorded).then_some(action)
}

/// The raw files of a stage, with what the list of its data set says about them.
fn raw_files(recorded: &Manifest, kinds: &[StageKind], sources: &Sources) -> Vec<RawFile> {
    let kind = kinds
        .iter()
        .find(|kind| kind.name == recorded.kind && kind.version == recorded.version);
    let configured = kind.and_then(|kind| kind.parse(recorded.parameters.clone()).ok());
    let requests = match configured {
        Some(configured) => configured.files(),
        None => Vec::new(),
    };
    let mut files = Vec::new();
    for (name, digest) in &recorded.files {
        let Some(blake3) = *digest else { continue };
        let request = requests
            .iter()
            .find(|request| request.name == *name || request.holds(name));
        let (path, data_set) = match request {
            Some(request) => (path_of(request, name), request.dataset.clone()),
            None => (String::new(), None),
        };
        let set = data_set.as_ref().and_then(|name| sources.set(name).ok());
        let listed = set.and_then(|set| set.files.get(&path));
        files.push(RawFile {
            name: name.clone(),
            blake3,
            sha256: listed.and_then(|file| file.sha256.clone()),
            bytes: listed.and_then(|file| file.bytes),
            url: set.and_then(|set| set.url(&path)),
            path,
            data_set,
        });
    }
    files
}

/// The path of a file of this name, as its request has it.
fn path_of(request: &FileRequest, name: &str) -> String {
    let path = match name.strip_prefix(&format!("{}/", request.name)) {
        Some(below) if request.holds(name) => request.folder().join(below),
        _ => request.path.clone(),
    };
    path.to_string_lossy().into_owned()
}

fn leaves_of(value: &Value, path: String, leaves: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (name, item) in map {
                let dot = if path.is_empty() { "" } else { "." };
                leaves_of(item, format!("{path}{dot}{name}"), leaves);
            }
        }
        _ if path.is_empty() => {}
        // A list is one value: nobody asks for its third item.
        _ => leaves.push((path, value.clone())),
    }
}
