//! The record of a run: what was asked, on which machine, what came out.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use indexmap::IndexMap;

use super::Session;
use crate::cache::{Instance, PipelineFile, RunId, RunRecord, RunStatus, StageRecord, StageState};
use crate::engine::{Plan, environment};
use crate::graph::Graph;

/// The record at the start of a run.
pub(super) fn start(session: &Session, run: &RunId) -> RunRecord {
    let started = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    RunRecord {
        run: run.clone(),
        pipeline: session.spec.name.value.clone(),
        file: session.file.clone(),
        status: RunStatus::Running,
        started: u64::try_from(started.as_millis()).unwrap_or(u64::MAX),
        seconds: 0.0,
        command: session
            .project
            .command
            .iter()
            .map(|argument| environment::without_credentials(argument))
            .collect(),
        profile: session.spec.profile.clone(),
        overrides: session.choice.overrides.clone(),
        targets: session.choice.targets.clone(),
        sweep: session.sweep.clone(),
        params: session.params(),
        seed: session.spec.seed,
        environment: environment::brief(&setting(session)),
        pipeline_files: pipeline_files(session),
        instances: instances(&session.graph),
        stages: Vec::new(),
        metrics: IndexMap::new(),
        previous: None,
        seal: None,
    }
}

/// What names of stages stand for.
fn instances(graph: &Graph) -> IndexMap<String, Instance> {
    let mut instances = IndexMap::new();
    for id in graph.order() {
        let node = graph.stage(*id);
        // Any other stage is called as in the pipeline, and belongs to no trial: there is nothing to say of it.
        if node.name != node.stage || !node.members.is_empty() {
            let instance = Instance {
                stage: node.stage.clone(),
                axes: node.point.iter().cloned().collect(),
                members: node.members.clone(),
            };
            instances.insert(node.name.clone(), instance);
        }
    }
    instances
}

fn pipeline_files(session: &Session) -> Vec<PipelineFile> {
    let mut files = Vec::new();
    for (path, text) in &session.spec.files {
        files.push(PipelineFile {
            path: path.to_owned(),
            text: Arc::clone(text),
        });
    }
    files
}

/// What the environment of a run follows from.
pub(super) fn setting(session: &Session) -> environment::Setting<'_> {
    environment::Setting {
        device: session.machine.device,
        numeric_class: &session.numeric_class,
        hardware: session.project.catalogue.hardware,
        threads: session.machine.threads,
        folder: Path::new(&session.file).parent().unwrap_or(Path::new(".")),
    }
}

/// The stages that are there already when a run starts.
pub(super) fn hits(graph: &Graph, plan: &Plan) -> Vec<StageRecord> {
    let mut records = Vec::new();
    for id in graph.order() {
        let Some(action) = plan.stage(*id).hit() else {
            continue;
        };
        let digests = action.outputs.iter();
        records.push(StageRecord {
            name: graph.stage(*id).name.clone(),
            kind: graph.stage(*id).kind.name.to_owned(),
            state: StageState::Hit,
            key: Some(action.key),
            digests: digests
                .map(|output| (output.port.clone(), output.record.digest))
                .collect(),
            seconds: 0.0,
            reason: String::new(),
            causes: Vec::new(),
            doubts: action.doubts.clone(),
            findings: action.findings.clone(),
        });
    }
    records
}
