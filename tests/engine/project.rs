//! A project whose stage kinds are toys, in a folder that goes with the test.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use contract::Catalogue;
use runner::cache::{RunRecord, StageState};
use runner::diagnostic::{Diagnostics, SourceMap};
use runner::engine::{Event, Reporter};
use runner::project::{
    Choice, Error, Fetch, Limits, Listener, Project, Reporting, Request, Session,
};
use runner::sweep::{Finished, Sweep};
use tempfile::TempDir;

use crate::toys;

/// A folder with `pipeline.yaml` and a store.
pub struct Bench {
    folder: TempDir,
    pub project: Project,
    pub heard: Arc<Heard>,
}

/// Keeps warnings and notes.
#[derive(Default)]
pub struct Heard(Mutex<Vec<String>>);

impl Heard {
    pub fn all(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }

    fn add(&self, text: String) {
        self.0.lock().unwrap().push(text);
    }
}

impl Listener for Heard {
    fn diagnostics(&self, diagnostics: &Diagnostics, sources: &SourceMap) {
        self.add(diagnostics.render(sources, false));
    }

    fn warning(&self, text: &str) {
        self.add(text.to_owned());
    }
}

/// Reports to nobody.
struct Silent;

impl Reporter for Silent {
    fn on(&mut self, _: &Event) {}
}

pub const SILENT: &Reporting<'static> = &|| Ok(Box::new(Silent));

impl Bench {
    /// A pipeline with these lines below its name.
    pub fn new(pipeline: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let heard = Arc::new(Heard::default());
        let catalogue = Arc::new(Catalogue::of(toys::kinds()));
        let mut project = Project::new(catalogue, folder.path().join("cache"));
        project.listener = Arc::clone(&heard) as Arc<dyn Listener>;
        let bench = Self {
            folder,
            project,
            heard,
        };
        bench.pipeline(pipeline);
        bench
    }

    /// Replaces the pipeline.
    pub fn pipeline(&self, text: &str) {
        self.write("pipeline.yaml", &format!("pipeline: toys\n{text}"));
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn open(&self, overrides: &[&str]) -> Result<Session, Error> {
        let request = Request {
            pipeline: Some(self.path("pipeline.yaml")),
            choice: Choice {
                overrides: overrides.iter().map(ToString::to_string).collect(),
                threads: Some(2),
                ..Choice::default()
            },
        };
        Session::open(&self.project, &request, Fetch::Never)
    }

    pub fn run(&self, overrides: &[&str]) -> RunRecord {
        let mut session = self.open(overrides).unwrap();
        session.run(Limits::default(), SILENT).unwrap()
    }

    /// Writes `sweep.yaml` with these lines below its head, and opens it.
    pub fn sweep(&self, text: &str) -> Result<Sweep, Error> {
        let head = "sweep: toys\npipeline: pipeline.yaml\n";
        let path = self.write("sweep.yaml", &format!("{head}{text}"));
        Sweep::open(&self.project, &path, &Choice::default(), true)
    }

    pub fn run_sweep(&self, text: &str) -> Finished {
        let mut sweep = self.sweep(text).unwrap();
        sweep.run(Limits::default(), SILENT, &|_, _| {}).unwrap()
    }

    /// The newest run.
    pub fn latest(&self) -> RunRecord {
        self.project.local_store().find_run("latest").unwrap()
    }

    pub fn count_runs(&self) -> usize {
        self.project.local_store().runs().unwrap().len()
    }
}

/// How many stages ran, by their name in the pipeline.
pub fn ran(record: &RunRecord) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for stage in &record.stages {
        if stage.state == StageState::Ran {
            *counts
                .entry(stage.name.split('#').next().unwrap())
                .or_default() += 1;
        }
    }
    counts
}

/// An error as people read it.
pub fn told(error: &Error) -> String {
    match error {
        Error::Faulty(faulty) => faulty.diagnostics.render(&faulty.sources, false),
        Error::Trouble(_) => error.to_string(),
    }
}
