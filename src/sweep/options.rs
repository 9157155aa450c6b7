//! The options of a sweep for the engine that runs its jobs: the file's key `slurm`.

use std::time::Duration;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::backend::JobNeeds;
use super::submission::Part;
use crate::graph::{Graph, Needs, StageId};
use crate::pipeline::units::{self, DurationText, SizeText};

/// Options of the jobs of `--on slurm`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub struct JobOptions {
    #[serde(flatten)]
    pub task: TaskOptions,
    /// Tasks that may run at the same time.
    #[serde(default)]
    #[schemars(with = "usize", range(min = 1))]
    pub cap: Option<usize>,
    /// Trials that one task runs; by default as many as keep a sweep to 200 tasks.
    #[serde(default)]
    #[schemars(with = "usize", range(min = 1))]
    pub trials_per_job: Option<usize>,
    /// Lines of shell before the program, such as `module load cuda`.
    #[serde(default)]
    pub setup: Vec<String>,
    /// Further flags of sbatch, such as `--exclusive`.
    #[serde(default)]
    pub extra: Vec<String>,
    /// Options of jobs that run a stage, by its name; the larger need and the later text win.
    #[serde(default)]
    pub stages: IndexMap<String, TaskOptions>,
}

/// What a task needs, and where it may run.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub struct TaskOptions {
    /// Processors of a task; more if a stage asks for more.
    #[serde(default)]
    #[schemars(with = "usize", range(min = 1))]
    cpus: Option<usize>,
    /// Memory of a task, such as `8 GiB`.
    #[serde(default, deserialize_with = "units::read_size")]
    #[schemars(with = "SizeText")]
    memory: Option<u64>,
    /// Graphics cards of a task.
    #[serde(default)]
    gpus: usize,
    /// Time limit of a task, such as `2h`. Shortly before it ends, training keeps its state and the task goes back into
    /// the queue.
    #[serde(default, deserialize_with = "units::read_duration")]
    #[schemars(with = "DurationText")]
    time: Option<Duration>,
    #[serde(flatten)]
    passed_on: PassedOn,
}

/// Options that are sbatch's own and are passed on under their name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct PassedOn {
    /// As sbatch's `--partition`.
    #[schemars(with = "String")]
    partition: Option<String>,
    /// As sbatch's `--account`.
    #[schemars(with = "String")]
    account: Option<String>,
    /// As sbatch's `--qos`.
    #[schemars(with = "String")]
    qos: Option<String>,
    /// As sbatch's `--constraint`.
    #[schemars(with = "String")]
    constraint: Option<String>,
    /// As sbatch's `--reservation`.
    #[schemars(with = "String")]
    reservation: Option<String>,
    /// As sbatch's `--exclude`.
    #[schemars(with = "String")]
    exclude: Option<String>,
}

impl TaskOptions {
    fn needs(&self) -> JobNeeds {
        JobNeeds {
            cpus: self.cpus.unwrap_or(0),
            memory: self.memory,
            gpus: self.gpus,
            time: self.time,
        }
    }

    /// The options that are passed on, by their names.
    fn passed_on(&self) -> IndexMap<String, String> {
        let mut given = IndexMap::new();
        if let Ok(Value::Object(options)) = serde_json::to_value(&self.passed_on) {
            for (name, value) in options {
                if let Value::String(text) = value {
                    given.insert(name, text);
                }
            }
        }
        given
    }
}

impl JobOptions {
    /// What a job with these stages needs, and the options that are passed on for it. Each stage's declared resources count,
    /// and the largest wins; `declared` holds them by the stage's number.
    pub fn for_job(
        &self,
        part: Part,
        stages: &[StageId],
        graph: &Graph,
        declared: &[Needs],
    ) -> (JobNeeds, IndexMap<String, String>) {
        let (mut needs, mut passed_on) = (self.task.needs(), self.task.passed_on());
        if part == Part::Next {
            return (
                JobNeeds {
                    cpus: 1,
                    gpus: 0,
                    memory: None,
                    ..needs
                },
                passed_on,
            );
        }
        for &stage in stages {
            let own = declared[stage.index()];
            needs.cpus = needs.cpus.max(own.threads);
            needs.gpus = needs.gpus.max(own.gpus);
            needs.memory = needs.memory.max((own.memory > 0).then_some(own.memory));
            if let Some(options) = self.stages.get(&graph.stage(stage).stage) {
                let wanted = options.needs();
                needs.cpus = needs.cpus.max(wanted.cpus);
                needs.gpus = needs.gpus.max(wanted.gpus);
                needs.memory = needs.memory.max(wanted.memory);
                needs.time = needs.time.max(wanted.time);
                passed_on.extend(options.passed_on());
            }
        }
        (needs, passed_on)
    }
}
