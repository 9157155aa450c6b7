//! A pipeline ready to be planned: it was read, its graph is built, the machine is known and the store is open.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use contract::{Catalogue, Device, Hardware};
use serde_json::Value;

use super::{BroughtWhen, Choice, DeviceChoice, Error, Files, Project, Request};
use crate::cache::{Ledger, Store, SweepPart};
use crate::diagnostic::{Diagnostic, Diagnostics, SourceMap, did_you_mean, list};
use crate::engine::environment::is_setting;
use crate::engine::{CancelToken, Planner, RunOptions};
use crate::graph::{Graph, Machine, StageId, build};
use crate::pipeline::{LoadOptions, Spec, load, load_text};

/// The pipeline that runs when none is named.
pub const QUICKSTART: &str = include_str!("../../pipelines/quickstart.yaml");

/// The name under which the built-in pipeline is recorded.
pub const QUICKSTART_PATH: &str = "pipelines/quickstart.yaml (built in)";

/// A pipeline ready to be planned.
pub struct Session {
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
    /// Stops the run.
    pub cancel: CancelToken,
    forced: BTreeSet<StageId>,
    pub catalogue: Arc<Catalogue>,
    /// As records name it.
    pub command: Vec<String>,
}

/// What a session is put together from.
pub struct Parts {
    pub spec: Spec,
    pub graph: Graph,
    pub store: Arc<Store>,
    pub ledger: Ledger,
    pub file: String,
    pub sweep: Option<SweepPart>,
    /// As [`size_pool`] found them.
    pub threads: usize,
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
        // Before anything runs in parallel: the pool is made on its first use.
        let threads = size_pool(choice);
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
            threads,
        };
        Self::of(
            project,
            parts,
            choice,
            &folder,
            offline,
            &CancelToken::default(),
        )
    }

    /// A session about a graph that was built elsewhere, such as that of a sweep. `folder` is that of the pipeline.
    pub fn of(
        project: &Project,
        parts: Parts,
        choice: &Choice,
        folder: &Path,
        offline: bool,
        cancel: &CancelToken,
    ) -> Result<Self, Error> {
        let Parts {
            spec,
            mut graph,
            store,
            ledger,
            file,
            sweep,
            threads,
        } = parts;
        if let Some(remote) = store.remote() {
            remote.cancel_on(cancel.flag());
        }
        let machine = Machine {
            threads,
            device: pick_device(choice.device, project.catalogue.hardware)?,
        };
        graph.place(&machine);
        let forced = choice
            .force
            .iter()
            .map(|name| find(&graph, name))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            ledger,
            files: Files::new(project, folder, offline, store.layout(), cancel)
                .with_brought(BroughtWhen::of_pipeline(&project.catalogue, &store, &spec)),
            cancel: cancel.clone(),
            numeric_class: project.catalogue.hardware.class(machine.device)?,
            forced: forced.into_iter().flatten().collect(),
            spec,
            graph,
            store,
            machine,
            file,
            sweep,
            choice: choice.clone(),
            catalogue: Arc::clone(&project.catalogue),
            command: project.command.clone(),
        })
    }

    /// How stages are executed on this machine, so many at a time and within so much memory; as many as there are threads,
    /// and within all that the machine has, unless it is said.
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
pub fn read(project: &Project, request: &Request) -> Result<(Spec, Graph), Error> {
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
            diagnostics.extend(unset_variables(&graph, |name| {
                std::env::var_os(name).is_some()
            }));
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
fn unset_variables(graph: &Graph, is_set: impl Fn(&str) -> bool) -> Diagnostics {
    let mut problems = Diagnostics::default();
    for node in graph.order().iter().map(|id| graph.stage(*id)) {
        for name in node
            .environment
            .iter()
            .filter(|name| !is_setting(name) && !is_set(name))
        {
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
    let names = graph.names();
    let instances = || {
        graph
            .order()
            .iter()
            .map(|id| graph.stage(*id).name.as_str())
    };
    let stage = name.split_once('[').map_or(name, |(stage, _)| stage);
    let of_stage: Vec<&str> = instances()
        .filter(|other| other.starts_with(&format!("{stage}[")))
        .collect();
    let hint = match did_you_mean(name, names.iter().copied().chain(instances())) {
        Some(near) => format!("did you mean `{near}`?"),
        None if !of_stage.is_empty() => {
            format!("the instances of `{stage}` are {}", list(&of_stage))
        }
        None if names.contains(&stage) => format!("did you mean `{stage}`? It has no instances"),
        None => format!("there are {}", list(&names)),
    };
    Err(Error::wrong(format!("the pipeline has no stage `{name}`")).hint(hint))
}

/// What these targets need of a graph; all of it without targets.
pub fn select(graph: Graph, targets: &[String]) -> Result<Graph, Error> {
    if targets.is_empty() {
        return Ok(graph);
    }
    let targets = targets
        .iter()
        .map(|name| find(&graph, name))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(graph.prune(&targets.concat()))
}

/// Sizes the thread pool that stages and the planner share.
pub fn size_pool(choice: &Choice) -> usize {
    let available = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = choice.threads.map_or(available, usize::from);
    let _ = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global();
    threads
}

/// Decides where model stages run.
pub fn pick_device(choice: DeviceChoice, hardware: &dyn Hardware) -> Result<Device, Error> {
    match choice {
        DeviceChoice::Auto => Ok(match hardware.open(Device::Cuda(0)) {
            Ok(()) => Device::Cuda(0),
            Err(_) => Device::Cpu,
        }),
        DeviceChoice::Only(device) => {
            hardware.open(device).map_err(|error| {
                Error::wrong(error.to_string()).maybe_hint(error.hint_text().map(str::to_owned))
            })?;
            Ok(device)
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
