//! The record of a run: what was asked, on which machine, what came out.

use std::time::{SystemTime, UNIX_EPOCH};

use indexmap::IndexMap;
use serde_json::{Value, json};
use stages::artifact::Metric;
use stages::contract::Device;

use super::session::Session;
use crate::cache::{RunId, RunRecord, RunStatus, StageRecord, StageState};
use crate::engine::Plan;
use crate::graph::{Graph, StageId};

/// The record at the start of a run.
pub(super) fn start(session: &Session, run: &RunId) -> RunRecord {
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    RunRecord {
        run: run.clone(),
        pipeline: session.spec.name.value.clone(),
        file: session.file.clone(),
        status: RunStatus::Running,
        started: u64::try_from(started.as_millis()).unwrap_or(u64::MAX),
        seconds: 0.0,
        command: std::env::args().collect(),
        profile: session.spec.profile.clone(),
        overrides: session.choice.overrides.clone(),
        targets: session.choice.targets.clone(),
        params: session.params(),
        seed: session.spec.seed,
        environment: environment(session),
        stages: Vec::new(),
        metrics: IndexMap::new(),
        previous: None,
        seal: None,
    }
}

/// The stages that are there already when a run starts.
pub(super) fn hits(graph: &Graph, plan: &Plan) -> Vec<StageRecord> {
    let record = |id: &StageId| {
        let action = plan.stage(*id).hit()?;
        let digests = action.outputs.iter().map(|output| (output.port.clone(), output.record.digest));
        Some(StageRecord {
            name: graph.stage(*id).name.clone(),
            kind: graph.stage(*id).kind.name.to_owned(),
            state: StageState::Hit,
            key: Some(action.key),
            digests: digests.collect(),
            seconds: 0.0,
            reason: String::new(),
        })
    };
    graph.order().iter().filter_map(record).collect()
}

/// What may matter to who wants the same result elsewhere.
fn environment(session: &Session) -> IndexMap<String, Value> {
    let machine = rustix::system::uname();
    let text = |value: &std::ffi::CStr| Value::from(value.to_string_lossy().into_owned());
    let device = match session.machine.device {
        Device::Cpu => "cpu".to_owned(),
        Device::Cuda(ordinal) => format!("cuda:{ordinal}"),
    };
    IndexMap::from([
        ("runner".to_owned(), json!(env!("CARGO_PKG_VERSION"))),
        ("host".to_owned(), text(machine.nodename())),
        ("system".to_owned(), text(machine.sysname())),
        ("release".to_owned(), text(machine.release())),
        ("processor".to_owned(), json!(processor())),
        ("device".to_owned(), json!(device)),
        ("numeric_class".to_owned(), json!(session.numeric_class)),
        ("threads".to_owned(), json!(session.machine.threads)),
    ])
}

/// The processor's name as Linux tells it.
pub(super) fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(':')).map(|(_, name)| name.trim().to_owned());
    name.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// The record as `runner show --json` prints it.
pub(super) fn to_json(record: &RunRecord) -> Value {
    let stages: Vec<Value> = record
        .stages
        .iter()
        .map(|stage| {
            json!({
                "name": stage.name,
                "kind": stage.kind,
                "state": stage.state.name(),
                "key": stage.key,
                "digests": stage.digests,
                "seconds": stage.seconds,
                "reason": stage.reason,
            })
        })
        .collect();
    let values = |metrics: &Vec<Metric>| -> Value {
        metrics
            .iter()
            .map(|metric| (metric.name.clone(), json!(metric.value)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let metrics: serde_json::Map<String, Value> =
        record.metrics.iter().map(|(stage, metrics)| (stage.clone(), values(metrics))).collect();
    json!({
        "run": record.run,
        "pipeline": record.pipeline,
        "file": record.file,
        "status": record.status.name(),
        "started": record.started,
        "seconds": record.seconds,
        "command": record.command,
        "profile": record.profile,
        "overrides": record.overrides,
        "targets": record.targets,
        "params": record.params,
        "seed": record.seed,
        "environment": record.environment,
        "stages": stages,
        "metrics": metrics,
    })
}
