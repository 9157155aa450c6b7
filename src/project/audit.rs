//! An audit: what a record says is done again beside the original, and compared with it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use contract::artifact::Digest;

use super::audit_target::{Places, Target};
use super::{
    BroughtWhen, Choice, DeviceChoice, Error, Fetch, Files, Project, Request, Session, find,
    session_of,
};
use crate::audit::{
    Audit, AuditReport, Lock, Obstacle, Reexecution, Scope, Tolerances, common_differences,
    header_differences,
};
use crate::cache::{Layout, Store};
use crate::diagnostic::suggestion;
use crate::engine::Reporter;
use crate::graph::{Graph, StageId};

/// What is to be audited, and how.
pub struct AuditOrder {
    /// A run, a lock, a bundle, or a pipeline, which stands for its lock or its latest run.
    pub target: String,
    /// Where the pipeline's file is now, if it is not where the record says.
    pub pipeline: Option<PathBuf>,
    pub tolerances: Tolerances,
    /// Whether everything is executed twice.
    pub twice: bool,
    /// Whether what seems to inherit a difference is executed again on the original inputs.
    pub confirm: bool,
    pub part: AuditPart,
    /// Keep what is computed in this folder, which must be new or empty.
    pub shadow: Option<PathBuf>,
    pub device: DeviceChoice,
    pub threads: Option<u16>,
    /// Stages at the same time.
    pub jobs: Option<u16>,
    pub offline: bool,
}

/// Which stages are audited.
#[derive(Clone, Debug)]
pub enum AuditPart {
    Everything,
    /// So many, chosen by a seed, each on the inputs that it had.
    Sample {
        count: usize,
        seed: u64,
    },
    /// This stage and everything after it.
    From(String),
}

/// What an audit found.
pub struct Audited {
    /// For people: `run 2026…`, or the path of a lock.
    pub name: String,
    /// What the record says.
    pub lock: Lock,
    /// Whether the pipeline is the one that the record holds, and not a file of the user's.
    pub pipeline_is_recorded: bool,
    pub report: AuditReport,
    /// Of the machine that did it again.
    pub numeric_class: String,
}

impl Project {
    /// Audits a record.
    ///
    /// # Errors
    /// If there is no such record, the pipeline cannot be read, or the audit was cancelled.
    pub fn audit(&self, order: &AuditOrder, reporter: &mut dyn Reporter) -> Result<Audited, Error> {
        let store = self.local_store();
        let scratch = Folder::temporary("runner-audit")?;
        let places = Places {
            store: &store,
            kinds: &self.catalogue.kinds,
            scratch: &scratch.path,
        };
        let target = Target::resolve(&places, &order.target, order.pipeline.as_deref())?;
        let shadow = match &order.shadow {
            Some(path) => Folder::named(path)?,
            None => Folder {
                path: scratch.path.join("shadow"),
                is_temporary: false,
            },
        };
        let session = open(self, order, &target, &shadow.path)?;
        session.store.leave_untouched();
        check_names(&order.tolerances, &session.graph)?;
        let scope = match &order.part {
            AuditPart::Everything => Scope::Everything,
            AuditPart::Sample { count, seed } => Scope::Single(sample(&target.lock, *count, *seed)),
            AuditPart::From(name) => {
                let stages = find(&session.graph, name)?;
                Scope::Part(with_everything_after(&session.graph, &stages))
            }
        };
        let options = session.run_options(order.jobs, None, true);
        let audit = Audit {
            reexecution: Reexecution {
                graph: &session.graph,
                lock: &target.lock,
                original: &session.store,
                files: &session.files,
                numeric_class: &session.numeric_class,
                environment: |name| std::env::var(name).ok(),
                options: &options,
                cancel: &self.cancel,
            },
            scope,
            tolerances: &order.tolerances,
            twice: order.twice,
            confirm: order.confirm,
        };
        let mut report = match audit.run(&shadow.path, reporter) {
            Ok(report) => report,
            Err(Obstacle::Interrupted) => return Err(contract::Trouble::cancelled().into()),
            Err(Obstacle::Trouble(trouble)) => return Err(trouble.into()),
            Err(Obstacle::NoOriginal(stage)) => {
                let message =
                    format!("the output of {stage} is needed as an input, and is not in the store");
                let hint = "audit everything, without --sample and --from: that needs no original";
                return Err(Error::wrong(message).hint(hint));
            }
        };
        let differences = if target.sweep.is_some() {
            common_differences
        } else {
            header_differences
        };
        let params = session.params().into_iter().collect();
        report.header = differences(&target.lock, session.spec.seed, &params);
        Ok(Audited {
            name: target.name,
            lock: target.lock,
            pipeline_is_recorded: target.pipeline_is_recorded,
            report,
            numeric_class: session.numeric_class.clone(),
        })
    }
}

/// The pipeline as it is now, with the profile, overrides and targets of the record. Raw files are hashed again: an audit
/// does not rely on what the original store remembers of them.
fn open(
    project: &Project,
    order: &AuditOrder,
    target: &Target,
    shadow: &Path,
) -> Result<Session, Error> {
    let choice = Choice {
        profile: target.lock.profile.clone(),
        overrides: target.lock.overrides.clone(),
        targets: target.lock.targets.clone(),
        force: Vec::new(),
        device: order.device,
        threads: order.threads,
        offline: order.offline,
    };
    if let Some(path) = target.pipeline.as_deref().filter(|path| !path.is_file()) {
        let message = format!(
            "the pipeline {} of {} is not there",
            path.display(),
            target.name
        );
        return Err(Error::wrong(message).hint("say where it is now with --pipeline FILE"));
    }
    let request = Request {
        pipeline: target.pipeline.clone(),
        choice,
    };
    let folder = request.folder();
    let store = match &target.store {
        Some(path) => Store::open(path),
        None => project.open_store(&folder)?,
    };
    let mut session = match (&target.sweep, &target.pipeline) {
        (Some(part), Some(pipeline)) => {
            session_of(store, project, part, pipeline, &request.choice)?
        }
        _ => Session::open_on(store, project, &request, Fetch::Allowed)?,
    };
    session.files = Files::new(project, &folder, order.offline, &Layout::new(shadow));
    if let Some(brought) = target.brought.clone() {
        session.files = session.files.with_brought(BroughtWhen::First(brought));
    }
    Ok(session)
}

/// Refuses tolerances for outputs that the pipeline does not have.
fn check_names(tolerances: &Tolerances, graph: &Graph) -> Result<(), Error> {
    let Some((stage, port)) = tolerances.unknown(graph) else {
        return Ok(());
    };
    find(graph, stage)?;
    let mut outputs = Vec::new();
    for id in graph.find(stage) {
        let ports = graph.stage(id).outputs.iter();
        outputs.extend(ports.map(|port| port.name.as_str()));
    }
    let message = format!("the stage `{stage}` has no output `{port}`");
    Err(Error::wrong(message).maybe_hint(suggestion(port, &outputs)))
}

/// Names of the stages and of all that depend on them.
fn with_everything_after(graph: &Graph, stages: &[StageId]) -> BTreeSet<String> {
    let mut reached: BTreeSet<StageId> = stages.iter().copied().collect();
    let mut names = BTreeSet::new();
    // A stage stands after all that it needs, so that one pass is enough.
    for &id in graph.order() {
        if reached.contains(&id) || graph.needs(id).iter().any(|need| reached.contains(need)) {
            reached.insert(id);
            names.insert(graph.stage(id).name.clone());
        }
    }
    names
}

/// A choice of recorded stages that looks random and depends on nothing but the seed and the names.
fn sample(lock: &Lock, count: usize, seed: u64) -> BTreeSet<String> {
    let mut drawn = Vec::with_capacity(lock.stages.len());
    for name in lock.stages.keys() {
        drawn.push((Digest::of_bytes(format!("{seed} {name}").as_bytes()), name));
    }
    drawn.sort();
    drawn.truncate(count);
    drawn.into_iter().map(|(_, name)| name.clone()).collect()
}

/// A folder of an audit; a temporary one goes with this value.
struct Folder {
    path: PathBuf,
    is_temporary: bool,
}

impl Folder {
    fn temporary(what: &str) -> Result<Self, Error> {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        let name = format!("{what}-{}-{:x}", std::process::id(), since.as_nanos());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).map_err(|error| {
            Error::failed(format!("cannot create {}: {error}", path.display()))
                .hint("choose another folder for temporary files with TMPDIR")
        })?;
        Ok(Self {
            path,
            is_temporary: true,
        })
    }

    /// The folder that the user names, which must be new or empty.
    fn named(folder: &Path) -> Result<Self, Error> {
        let is_empty = match std::fs::read_dir(folder) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        };
        if !is_empty {
            let message = format!("{} is not an empty folder", folder.display());
            return Err(
                Error::wrong(message).hint("an audit computes everything: give it a new folder")
            );
        }
        Ok(Self {
            path: folder.to_owned(),
            is_temporary: false,
        })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_temporary {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
