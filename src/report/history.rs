//! A run with everything that the store and the lists of data sets know about it: what each stage took, made, and of which
//! raw files, under which parameters, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use contract::StageKind;
use contract::artifact::Digest;
use serde_json::Value;

use crate::cache::{
    Action, Manifest, ObjectRecord, Output, OutputPaths, RunRecord, RunStatus, StageRecord, Store,
};
use crate::data::{DataSet, SourceFile, Sources};

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
    /// What came out; `None` if it failed, or the store has it no more or something else in its place.
    pub action: Option<Action>,
    /// What its manifest says; empty without an action.
    pub recorded: Manifest,
    pub inputs: Vec<Input>,
    pub files: Vec<RawFile>,
}

impl StageHistory {
    /// When it was executed, in this run or an earlier one: milliseconds since 1970.
    pub fn times(&self) -> Option<(u64, u64)> {
        let action = self.action.as_ref()?;
        Some((
            action
                .finished
                .saturating_sub((action.seconds * 1000.0).round() as u64),
            action.finished,
        ))
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
        // Of several stages that came to the same content, the one nearest above made it.
        let mut makers: BTreeMap<Digest, (usize, String)> = BTreeMap::new();
        for (index, stage) in record.stages.iter().enumerate() {
            let action = stage.key.and_then(|key| store.action(&key).ok().flatten());
            // A stage that was done anew since, and came to something else, is not what the run came to.
            let action = action.filter(|action| is_of(action, stage));
            let recorded = action
                .as_ref()
                .and_then(|action| Manifest::parse(&action.manifest))
                .unwrap_or_default();
            let input = |(port, item, digest): &(String, Option<String>, Digest)| Input {
                port: port.clone(),
                item: item.clone(),
                digest: *digest,
                maker: makers.get(digest).cloned(),
            };
            let inputs = recorded.inputs.iter().map(input).collect();
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
        let taken = stages
            .iter()
            .flat_map(|stage| &stage.inputs)
            .map(|input| input.digest)
            .collect();
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
        let named = self
            .stages
            .iter()
            .flat_map(|stage| &stage.files)
            .filter_map(|file| file.data_set.as_deref());
        named
            .filter_map(|name| Some((name, self.data_set(name)?)))
            .collect()
    }

    /// What was made, by its logical digest, with the object that holds it.
    pub fn artifacts(&self) -> BTreeMap<Digest, &ObjectRecord> {
        let outputs = self.stages.iter().flat_map(StageHistory::outputs);
        outputs
            .map(|output| (output.record.digest, &output.record))
            .collect()
    }

    /// Whether no stage of the run takes this: it is what the run was for.
    pub fn is_final(&self, digest: &Digest) -> bool {
        !self.taken.contains(digest)
    }

    /// When the run ended: milliseconds since 1970; `None` for one that goes on or was killed.
    pub fn ended(&self) -> Option<u64> {
        let duration = (self.record.seconds * 1000.0).round() as u64;
        (self.record.status != RunStatus::Running)
            .then(|| self.record.started.saturating_add(duration))
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
        self.record
            .environment
            .get("git")?
            .get("user")?
            .as_str()
            .filter(|name| !name.is_empty())
    }
}

/// Whether an action came to what the record of a stage says.
fn is_of(action: &Action, stage: &StageRecord) -> bool {
    let same = |output: &Output| stage.digests.get(&output.port) == Some(&output.record.digest);
    action.outputs.len() == stage.digests.len() && action.outputs.iter().all(same)
}

/// The raw files of a stage, with what the list of its data set says about them.
fn raw_files(recorded: &Manifest, kinds: &[StageKind], sources: &Sources) -> Vec<RawFile> {
    let kind = kinds
        .iter()
        .find(|kind| kind.name == recorded.kind && kind.version == recorded.version);
    let completed = kind.and_then(|kind| kind.parse(recorded.parameters.clone()).ok());
    let requests = completed
        .map(|configured| configured.files())
        .unwrap_or_default();
    let one = |(name, digest): (&String, &Option<Digest>)| {
        let blake3 = (*digest)?;
        let request = requests
            .iter()
            .find(|request| request.name == *name || request.holds(name));
        let path = request.map(
            |request| match name.strip_prefix(&format!("{}/", request.name)) {
                Some(below) if request.holds(name) => request.folder().join(below),
                _ => request.path.clone(),
            },
        );
        let path = path
            .as_deref()
            .map(Path::to_string_lossy)
            .unwrap_or_default()
            .into_owned();
        let data_set = request.and_then(|request| request.dataset.clone());
        let set = data_set.as_deref().and_then(|name| sources.set(name).ok());
        let listed = set
            .and_then(|set| set.files.get(&path))
            .cloned()
            .unwrap_or_else(SourceFile::default);
        let url = set.and_then(|set| set.url(&path));
        Some(RawFile {
            name: name.clone(),
            path,
            blake3,
            data_set,
            sha256: listed.sha256,
            bytes: listed.bytes,
            url,
        })
    };
    recorded.files.iter().filter_map(one).collect()
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
