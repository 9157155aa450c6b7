//! The options of a sweep for the engine that runs its jobs: the file's key `slurm`.

use indexmap::IndexMap;
use serde_json::{Value, json};

use super::backend::JobNeeds;
use super::file::SweepFile;
use super::submission::{Part, text_of};
use crate::graph::{Graph, Needs, StageId};
use crate::pipeline::units;

/// Options that are sbatch's own and are passed on under their name.
const PASSED_ON: [&str; 6] = [
    "partition",
    "account",
    "qos",
    "constraint",
    "reservation",
    "exclude",
];

/// What the file says about jobs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobOptions {
    pub needs: JobNeeds,
    /// Tasks that may run at the same time.
    pub cap: Option<usize>,
    pub trials_per_job: Option<usize>,
    pub setup: Vec<String>,
    pub passed_on: IndexMap<String, String>,
    pub extra: Vec<String>,
    /// Options of jobs that run these stages.
    pub stages: IndexMap<String, Self>,
}

/// The JSON Schema of the key `slurm`.
pub(super) fn schema() -> Value {
    let mut properties = needs_properties();
    let list =
        |doc: &str| json!({"type": "array", "items": {"type": "string"}, "description": doc});
    let count = |doc: &str| json!({"type": "integer", "minimum": 1, "description": doc});
    properties["cap"] = count("Tasks that may run at the same time.");
    properties["trials_per_job"] =
        count("Trials that one task runs; by default as many as keep a sweep to 200 tasks.");
    properties["setup"] = list("Lines of shell before the program, such as `module load cuda`.");
    properties["extra"] = list("Further flags of sbatch, such as `--exclusive`.");
    properties["stages"] = json!({
        "type": "object",
        "additionalProperties":
            {"type": "object", "properties": needs_properties(), "additionalProperties": false},
        "description": "Options of jobs that run a stage, by its name; the larger need and the later text win.",
    });
    json!({"type": "object", "properties": properties, "additionalProperties": false,
           "description": "Options of the jobs of `--on slurm`."})
}

fn needs_properties() -> Value {
    let text = |doc: &str| json!({"type": "string", "description": doc});
    let mut properties = json!({
        "cpus": {"type": "integer", "minimum": 1, "description": "Processors of a task; more if a stage asks for more."},
        "memory": text("Memory of a task, such as `8 GiB`."),
        "gpus": {"type": "integer", "minimum": 0, "description": "Graphics cards of a task."},
        "time": text("Time limit of a task, such as `2h`. Shortly before it ends, training keeps its state and the task goes back into the queue."),
    });
    for name in PASSED_ON {
        properties[name] = text(&format!("As sbatch's `--{name}`."));
    }
    properties
}

impl JobOptions {
    /// Reads what the file says.
    ///
    /// # Errors
    /// The option with a value that cannot be read, and what is expected.
    pub fn of(file: &SweepFile) -> Result<Self, (String, &'static str)> {
        Self::read(&file.slurm)
    }

    fn read<'a>(
        map: impl IntoIterator<Item = (&'a String, &'a Value)>,
    ) -> Result<Self, (String, &'static str)> {
        let mut options = Self::default();
        for (name, value) in map {
            let count = || value.as_u64().map(|count| count as usize);
            let texts = || {
                value
                    .as_array()
                    .map(|items| items.iter().map(text_of).collect::<Vec<_>>())
                    .unwrap_or_default()
            };
            match name.as_str() {
                "cpus" => options.needs.cpus = count().unwrap_or(0),
                "gpus" => options.needs.gpus = count().unwrap_or(0),
                "memory" => {
                    let size = units::size(&text_of(value));
                    options.needs.memory =
                        Some(size.ok_or_else(|| (name.clone(), "write a size such as `8 GiB`"))?);
                }
                "time" => {
                    let time = units::duration(&text_of(value));
                    options.needs.time =
                        Some(time.ok_or_else(|| (name.clone(), "write a duration such as `2h`"))?);
                }
                "cap" => options.cap = count(),
                "trials_per_job" => options.trials_per_job = count(),
                "setup" => options.setup = texts(),
                "extra" => options.extra = texts(),
                "stages" => {
                    for (stage, own) in value.as_object().into_iter().flatten() {
                        let own = Self::read(own.as_object().into_iter().flatten())?;
                        options.stages.insert(stage.clone(), own);
                    }
                }
                _ => drop(options.passed_on.insert(name.clone(), text_of(value))),
            }
        }
        Ok(options)
    }

    /// What a job with these stages needs, and the options that are passed on for it. Each stage's declared resources count,
    /// and the largest wins; `declared` holds them by the stage's number.
    pub fn for_job(
        &self,
        part: Part,
        stages: &[StageId],
        graph: &Graph,
        declared: &[Needs],
    ) -> (JobNeeds, IndexMap<String, String>) {
        let (mut needs, mut passed_on) = (self.needs, self.passed_on.clone());
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
                needs.cpus = needs.cpus.max(options.needs.cpus);
                needs.gpus = needs.gpus.max(options.needs.gpus);
                needs.memory = needs.memory.max(options.needs.memory);
                needs.time = needs.time.max(options.needs.time);
                passed_on.extend(options.passed_on.clone());
            }
        }
        (needs, passed_on)
    }
}
