//! The engine through its library interface, on stage kinds of the test's own choice.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use contract::artifact::Digest;
use contract::{Device, FileRequest, Trouble};
use runner::cache::{Ledger, RunId, StageState, Store};
use runner::diagnostic::SourceMap;
use runner::engine::{
    CancelToken, Event, FileFinder, FoundFile, Outcome, Planner, Reporter, RunOptions, execute,
};
use runner::graph::{Graph, Machine, build};
use runner::pipeline::{LoadOptions, load_text};
use tempfile::TempDir;

use crate::toys;

/// A store, and runs of pipelines of toys on it.
pub struct Engine {
    folder: TempDir,
    pub store: Arc<Store>,
    pub options: RunOptions,
    pub cancel: CancelToken,
}

/// Finds files by the paths that stages give. Nothing stands for their content but the content itself, as for files that
/// were written just now.
struct AnyFile;

impl FileFinder for AnyFile {
    fn find(&self, request: &FileRequest) -> Result<Option<FoundFile>, Trouble> {
        let bytes =
            std::fs::read(&request.path).map_err(|error| Trouble::new(error.to_string()))?;
        Ok(Some(FoundFile {
            path: request.path.clone(),
            digest: Digest::of_bytes(&bytes),
            identity: None,
        }))
    }
}

/// Keeps all events.
#[derive(Default)]
struct Recorder(Vec<Event>);

impl Reporter for Recorder {
    fn on(&mut self, event: &Event) {
        self.0.push(event.clone());
    }
}

/// What came of a run.
pub struct Story {
    pub outcome: Outcome,
    pub events: Vec<Event>,
}

impl Engine {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&folder.path().join("cache")));
        let memory = 1 << 30;
        let options = RunOptions {
            jobs: 2,
            threads: 2,
            device: Device::Cpu,
            memory,
            gpus: 0,
            keep_going: false,
        };
        Self {
            folder,
            store,
            options,
            cancel: CancelToken::default(),
        }
    }

    pub fn keep_going() -> Self {
        let mut engine = Self::new();
        engine.options.keep_going = true;
        engine
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn graph(&self, stages: &str) -> Graph {
        let text = format!("pipeline: toys\nstages:\n{stages}");
        let mut sources = SourceMap::default();
        let options = LoadOptions::default();
        let (spec, mut diagnostics) =
            load_text(Path::new("toys.yaml"), &text, &options, &mut sources);
        let spec = spec.unwrap_or_else(|| panic!("{}", diagnostics.render(&sources, false)));
        let (mut graph, found) = build(&spec, &toys::kinds());
        diagnostics.extend(found);
        assert!(
            diagnostics.is_empty(),
            "{}",
            diagnostics.render(&sources, false)
        );
        graph.place(&Machine {
            threads: self.options.threads,
            device: Device::Cpu,
        });
        graph
    }

    /// Runs these stages, given as the lines below `stages:`.
    pub fn run(&self, stages: &str) -> Story {
        let graph = self.graph(stages);
        let planner = Planner {
            graph: &graph,
            store: &self.store,
            ledger: &Ledger::default(),
            files: &AnyFile,
            numeric_class: "test",
            forced: BTreeSet::new(),
            environment: |_| None,
        };
        let mut recorder = Recorder::default();
        let plan = planner.plan();
        let run = RunId("20260101-000000-000000".into());
        let outcome = execute(
            &planner,
            plan,
            &self.store,
            &self.options,
            &run,
            &self.cancel,
            &mut recorder,
        );
        Story {
            outcome,
            events: recorder.0,
        }
    }
}

impl Story {
    /// The state of every stage.
    pub fn states(&self) -> BTreeMap<&str, StageState> {
        self.outcome
            .stages
            .iter()
            .map(|stage| (stage.name.as_str(), stage.state))
            .collect()
    }

    pub fn state(&self, stage: &str) -> StageState {
        self.states()[stage]
    }

    /// Why a stage ran, was skipped, or failed.
    pub fn reason(&self, stage: &str) -> &str {
        &self
            .outcome
            .stages
            .iter()
            .find(|record| record.name == stage)
            .unwrap()
            .reason
    }

    /// The value that a stage came to.
    pub fn digest(&self, stage: &str) -> String {
        let record = self
            .outcome
            .stages
            .iter()
            .find(|record| record.name == stage)
            .unwrap();
        record.digests["value"].to_string()
    }
}
