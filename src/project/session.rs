//! A pipeline ready to be planned: it was read, its graph is built, the machine is known and the store is open.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use contract::{Device, Hardware};
use serde_json::Value;

use super::{BroughtWhen, Choice, DeviceChoice, Error, Files, Project, Request};
use crate::cache::{Ledger, Store, SweepPart};
use crate::diagnostic::{Diagnostic, Diagnostics, SourceMap, did_you_mean, list};
use crate::engine::environment::is_setting;
use crate::engine::{Planner, RunOptions};
use crate::graph::{Graph, Machine, StageId, build};
use crate::pipeline::{LoadOptions, Spec, load, load_text};

/// The pipeline that runs when none is named.
pub const QUICKSTART: &str = include_str!("../../pipelines/quickstart.yaml");

/// The name under which the built-in pipeline is recorded.
pub const QUICKSTART_PATH: &str = "pipelines/quickstart.yaml (built in)";

/// A pipeline ready to be planned.
pub struct Session {
    pub project: Project,
    pub spec: Spec,
    pub graph: Graph,
    pub store: Arc<Store>,
    pub ledger: Ledger,
    pub files: Files,
    pub machine: Machine,
    pub numeric_class: String,
    /// Path of the pipeline, for records.
    pub file: String,
    /// The members behind the graph, where it is that of a sweep.
    pub sweep: Option<SweepPart>,
    /// What the caller makes of the pipeline.
    pub choice: Choice,
    forced: BTreeSet<StageId>,
}

/// What a session is put together from.
pub struct Parts {
    pub spec: Spec,
    pub graph: Graph,
    pub store: Arc<Store>,
    pub ledger: Ledger,
    pub file: String,
    pub sweep: Option<SweepPart>,
}

/// Whether missing data may be downloaded while the pipeline is planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetch {
    /// Only what is here counts.
    Never,
    /// Unless the user said `--offline`.
    Allowed,
}

impl Session {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// All problems of the pipeline at once; or the store or the device cannot be used.
    pub fn open(project: &Project, request: &Request, fetch: Fetch) -> Result<Self, Error> {
        let store = project.open_store(&request.folder())?;
        Self::open_on(store, project, request, fetch)
    }

    /// The same on a store that is open already.
    pub fn open_on(
        store: Store,
        project: &Project,
        request: &Request,
        fetch: Fetch,
    ) -> Result<Self, Error> {
        let choice = &request.choice;
        let store = Arc::new(store);
        let file = name_of(request);
        // The ledger of a wide pipeline takes about as long to read as its file: the two go side by side.
        let (pipeline, ledger) = std::thread::scope(|scope| {
            let ledger = scope.spawn(|| Ledger::load(&store, &file));
            (read(project, request), ledger.join().unwrap_or_default())
        });
        let (spec, graph) = pipeline?;
        let graph = select(graph, &choice.targets)?;
        let folder = request.folder();
        let offline = choice.offline || fetch == Fetch::Never;
        let parts = Parts {
            spec,
            graph,
            store,
            ledger,
            file,
            sweep: None,
        };
        Self::of(project, parts, choice, &folder, offline)
    }

    /// A session about a graph that was built elsewhere, such as that of a sweep. `folder` is that of the pipeline.
    pub fn of(
        project: &Project,
        parts: Parts,
        choice: &Choice,
        folder: &Path,
        offline: bool,
    ) -> Result<Self, Error> {
        let Parts {
            spec,
            mut graph,
            store,
            ledger,
            file,
            sweep,
        } = parts;
        if let Some(remote) = store.remote() {
            remote.cancel_on(project.cancel.flag());
        }
        let machine = Machine {
            threads: choice.thread_count(),
            device: pick_device(choice.device, project.catalogue.hardware)?,
        };
        graph.place(&machine);
        let mut forced = BTreeSet::new();
        for name in &choice.force {
            forced.extend(find(&graph, name)?);
        }
        Ok(Self {
            project: project.clone(),
            ledger,
            files: Files::new(project, folder, offline, store.layout())
                .with_brought(BroughtWhen::of_pipeline(&project.catalogue, &store, &spec)),
            numeric_class: project.catalogue.hardware.class(machine.device)?,
            forced,
            spec,
            graph,
            store,
            machine,
            file,
            sweep,
            choice: choice.clone(),
        })
    }

    /// How stages are executed on this machine: `jobs` at a time (by default as many as there are threads), and within
    /// `memory` bytes (by default all that the machine has).
    pub fn run_options(
        &self,
        jobs: Option<u16>,
        memory: Option<u64>,
        keep_going: bool,
    ) -> RunOptions {
        let Machine { threads, device } = self.machine;
        RunOptions {
            jobs: jobs.map_or(threads, usize::from),
            threads,
            device,
            memory: memory.unwrap_or_else(total_memory),
            gpus: usize::from(matches!(device, Device::Cuda(_))),
            keep_going,
        }
    }

    pub fn planner(&self) -> Planner<'_> {
        Planner {
            graph: &self.graph,
            store: &self.store,
            ledger: &self.ledger,
            files: &self.files,
            numeric_class: &self.numeric_class,
            forced: self.forced.clone(),
            environment: |name| std::env::var(name).ok(),
        }
    }

    /// Forced stages have run; from now on they are as any other.
    pub fn stop_forcing(&mut self) {
        self.forced.clear();
    }

    /// The pipeline's parameters after profile and overrides.
    pub fn params(&self) -> indexmap::IndexMap<String, Value> {
        self.spec.values()
    }
}

/// Reads a pipeline and builds its graph. Warnings go to the listener.
///
/// # Errors
/// All problems of the pipeline at once.
fn read(project: &Project, request: &Request) -> Result<(Spec, Graph), Error> {
    let Reading {
        built,
        diagnostics,
        sources,
    } = Reading::of(project, request)?;
    match built {
        Some(built) if !diagnostics.has_errors() => {
            project.warn(&diagnostics, &sources);
            Ok(built)
        }
        _ => Err(Error::faulty(diagnostics, sources)),
    }
}

/// What became of a pipeline file.
pub struct Reading {
    /// What could be understood, even if there are errors.
    pub built: Option<(Spec, Graph)>,
    pub diagnostics: Diagnostics,
    pub sources: SourceMap,
}

impl Reading {
    /// Reads a pipeline and builds its graph, as far as both can be done.
    ///
    /// # Errors
    /// If an override is not `NAME=VALUE`.
    pub fn of(project: &Project, request: &Request) -> Result<Self, Error> {
        let mut sources = SourceMap::default();
        let choice = &request.choice;
        let options = LoadOptions {
            profile: choice.profile.clone(),
            overrides: choice.overrides()?,
            given_by: None,
        };
        let (spec, mut diagnostics) = match &request.pipeline {
            Some(path) => load(path, &options, &mut sources),
            None => load_text(
                Path::new(QUICKSTART_PATH),
                QUICKSTART,
                &options,
                &mut sources,
            ),
        };
        let mut built = None;
        if let Some(spec) = spec {
            let (graph, found) = build(&spec, &project.catalogue.kinds);
            diagnostics.extend(found);
            diagnostics.extend(unset_variables(&graph));
            built = Some((spec, graph));
        }
        Ok(Reading {
            built,
            diagnostics,
            sources,
        })
    }
}

/// Warns of variables that stages ask for and that are not set. Settings of the machine may well be unset.
fn unset_variables(graph: &Graph) -> Diagnostics {
    let mut problems = Diagnostics::default();
    for id in graph.order() {
        let node = graph.stage(*id);
        for name in &node.environment {
            if is_setting(name) || std::env::var_os(name).is_some() {
                continue;
            }
            let message = format!(
                "stage `{}` asks for the variable `{name}`, which is not set here",
                node.stage
            );
            problems.push(
                Diagnostic::warning("unset-variable", message)
                    .at(node.span)
                    .hint("set it, or do not ask for it"),
            );
        }
    }
    problems
}

/// The pipeline's name in records and ledgers: the same file has the same one from every folder.
fn name_of(request: &Request) -> String {
    let Some(path) = &request.pipeline else {
        return QUICKSTART_PATH.to_owned();
    };
    let absolute = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
    absolute.display().to_string()
}

/// The stages that a name on the command line means.
pub fn find(graph: &Graph, name: &str) -> Result<Vec<StageId>, Error> {
    let found = graph.find(name);
    if !found.is_empty() {
        return Ok(found);
    }
    let stage = name.split('[').next().unwrap_or(name);
    let names = graph.names();
    let mut near = names.clone();
    let mut instances = Vec::new();
    for id in graph.order() {
        let instance = graph.stage(*id).name.as_str();
        near.push(instance);
        if instance.starts_with(&format!("{stage}[")) {
            instances.push(instance);
        }
    }
    let hint = match did_you_mean(name, near) {
        Some(near) => format!("did you mean `{near}`?"),
        None if !instances.is_empty() => {
            format!("the instances of `{stage}` are {}", list(&instances))
        }
        None if names.contains(&stage) => format!("did you mean `{stage}`? It has no instances"),
        None => format!("there are {}", list(&names)),
    };
    Err(Error::wrong(format!("the pipeline has no stage `{name}`")).hint(hint))
}

/// What these targets need of a graph; all of it if there are none.
pub fn select(graph: Graph, targets: &[String]) -> Result<Graph, Error> {
    if targets.is_empty() {
        return Ok(graph);
    }
    let mut stages = Vec::new();
    for name in targets {
        stages.extend(find(&graph, name)?);
    }
    Ok(graph.prune(&stages))
}

/// Decides where model stages run.
pub fn pick_device(choice: DeviceChoice, hardware: &dyn Hardware) -> Result<Device, Error> {
    match choice {
        DeviceChoice::Auto if hardware.open(Device::Cuda(0)).is_ok() => Ok(Device::Cuda(0)),
        DeviceChoice::Auto => Ok(Device::Cpu),
        DeviceChoice::Only(device) => {
            match hardware.open(device) {
                Ok(()) => Ok(device),
                Err(error) => Err(Error::wrong(error.to_string())
                    .maybe_hint(error.hint_text().map(str::to_owned))),
            }
        }
    }
}

fn total_memory() -> u64 {
    let info = rustix::system::sysinfo();
    #[expect(
        clippy::useless_conversion,
        reason = "the type differs between platforms"
    )]
    let total = u64::from(info.totalram);
    total.saturating_mul(u64::from(info.mem_unit))
}
