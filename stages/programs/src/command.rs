//! The stage kind `command`: any program as a stage. It runs in its own folder, which holds copies of its inputs and of
//! the files that were declared; it sees only the environment that was declared, and it may write only the outputs
//! that were declared. When it ends, everything that it started ends.

mod check;
mod environment;
mod layout;
mod missing;
mod outputs;
mod placeholders;
mod remarks;
mod template;
mod typed;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::exchange::Format;
use crate::running::{self, Call, Checkpoints};
use contract::artifact::{ArtifactKind, Split};
use contract::{
    Fault, FileRequest, Inputs, Learning, LookUp, Numerics, Outputs, Port, Purpose, Remark, Stage,
    StageContext, Surroundings, Threads, Trouble,
};

/// Parameters of `command`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandParams {
    /// The program and its arguments; no shell is involved. `{in.NAME}`, `{file.NAME}` and `{out.NAME}` become paths, relative
    /// to the folder it runs in. A number or a switch becomes its text, as it is written.
    #[schemars(length(min = 1), schema_with = "check::arguments")]
    pub run: Vec<String>,
    /// Files that the program reads, such as a script, by name: a file, a folder, or a pattern such as `lib/**/*.py`. It gets
    /// copies. The content of each enters the key; hidden files and `__pycache__` below a folder are left out.
    #[serde(default)]
    pub files: BTreeMap<String, PathBuf>,
    /// What the program writes, by output name.
    #[schemars(length(min = 1))]
    pub outputs: BTreeMap<String, OutputSpec>,
    /// How inputs are handed over, by name: in which form, of which splits, with which labels. Without this an input is
    /// handed over whole, and without labels.
    #[serde(default)]
    pub inputs: BTreeMap<String, InputSpec>,
    /// Values for the program, which finds them in its job file.
    #[serde(default)]
    pub params: Map<String, Value>,
    /// The splits from whose rows the program learns, for the leakage check; `[]` if it learns nothing. Without this it is
    /// taken to learn from the splits whose labels it is given.
    #[serde(default)]
    pub learns: Option<Vec<Split>>,
    /// Whether the bits of the outputs depend on processor and GPU. Only `device` gets a GPU.
    #[serde(default)]
    pub numerics: NumericsChoice,
    /// Whether the program draws random numbers from the seed in its job file; then the seed enters the key.
    #[serde(default)]
    pub seeded: bool,
    /// How many threads the program makes use of.
    #[serde(default)]
    pub threads: ThreadsChoice,
    /// Whether the program keeps checkpoints, in the folder `checkpoints`: what lies there when it is stopped, or fails, is
    /// there again at the next try.
    #[serde(default)]
    pub checkpoints: bool,
    /// Environment variables with their values. Besides them the program sees PATH, HOME and TMPDIR of the machine,
    /// LANG=C.UTF-8 and TZ=UTC, and no others.
    #[serde(default)]
    #[schemars(schema_with = "check::variables")]
    pub env: BTreeMap<String, String>,
    /// Names of variables that are passed on from outside; their values enter the key.
    #[serde(default)]
    pub pass_env: BTreeSet<String>,
}

/// One declared output.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputSpec {
    /// Where the program writes it: a file or a folder, relative to the folder it runs in.
    pub path: PathBuf,
    /// What it becomes.
    #[serde(default)]
    pub kind: OutputKind,
    /// Of scores, forecasts, predictions and series: the input whose rows they belong to. It may be left out where only
    /// one input can be meant.
    #[serde(default)]
    pub of: Option<String>,
    /// The splits whose rows the output has; all that the program was given if left out.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub splits: Option<Vec<Split>>,
}

/// How one input is handed over.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// The form of the file.
    #[serde(default, rename = "as")]
    pub(crate) form: Format,
    /// The splits that are handed over; all if left out.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub splits: Option<Vec<Split>>,
    /// The splits whose labels are handed over, and the classes of whose samples.
    #[serde(default)]
    pub labels: Vec<Split>,
}

/// See [`Numerics`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NumericsChoice {
    /// The same bits on every machine.
    #[default]
    Exact,
    /// Bits depend on the hardware class, which enters the key.
    Device,
}

/// See [`Threads`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ThreadsChoice {
    #[default]
    One,
    /// All that the run may use.
    All,
}

/// What a written file becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OutputKind {
    /// A file or a folder, as it is.
    #[default]
    Files,
    /// A JSON object of numbers: `{"f1": 0.5}`.
    Metrics,
    /// An anomaly score for each row of a series: Parquet, Arrow, CSV or `.npy`, as the others below.
    Scores,
    /// For each window, what follows it: a row per step, a column per channel.
    Forecasts,
    /// For each sample, a probability per class.
    Predictions,
    /// New channels for the rows of a series; or rows of its own, with columns `split` and `entity`.
    Series,
    /// Any table.
    Table,
    /// A folder of PNG files of one size, as `SPLIT/CLASS/NAME.png`.
    Images,
}

impl OutputKind {
    fn artifact(self) -> ArtifactKind {
        match self {
            Self::Files => ArtifactKind::Files,
            Self::Metrics => ArtifactKind::Metrics,
            Self::Scores => ArtifactKind::Scores,
            Self::Forecasts => ArtifactKind::Forecasts,
            Self::Predictions => ArtifactKind::Predictions,
            Self::Series => ArtifactKind::Series,
            Self::Table => ArtifactKind::Table,
            Self::Images => ArtifactKind::Images,
        }
    }

    /// Whether it has rows of an input.
    fn has_rows(self) -> bool {
        matches!(
            self,
            Self::Scores | Self::Forecasts | Self::Predictions | Self::Series
        )
    }
}

/// Any program as a stage.
pub struct Command;

impl Stage for Command {
    type Params = CommandParams;

    const NAME: &'static str = "command";
    // 2: relative paths, copies of declared files, a fixed LANG and TZ, empty folders.
    // 3: inputs with columns of entity, split and time, and without labels unless they are asked for; a job file; variables
    // for threads and GPU.
    const VERSION: u32 = 3;
    const DOC: &'static str = "Runs any program with declared inputs, outputs and environment.";
    const NUMERICS: Numerics = Numerics::Exact;
    const THREADS: Threads = Threads::One;
    const SEEDED: bool = false;
    const PORTS_VARY: bool = true;
    const REMARKS: bool = true;
    const EXAMPLE: &'static str =
        r#"{"run": ["cp", "{in.scores}", "{out.copy}"], "outputs": {"copy": {"path": "copy"}}}"#;

    fn inputs(_: &CommandParams) -> Vec<Port> {
        let doc = "Each becomes a file, or a folder for Files, under its name.";
        vec![Port::any("inputs", doc).many().optional()]
    }

    fn outputs(params: &CommandParams) -> Vec<Port> {
        let mut ports = Vec::new();
        for (name, output) in &params.outputs {
            let kind = output.kind.artifact();
            ports.push(Port::new(name.clone(), kind, "What the program wrote."));
        }
        ports
    }

    fn check(params: &CommandParams) -> Result<(), Fault> {
        check::check(params)
    }

    fn check_inputs(params: &CommandParams, connected: &[&str]) -> Result<(), Fault> {
        check::check_inputs(params, connected)
    }

    fn numerics(params: &CommandParams) -> Numerics {
        match params.numerics {
            NumericsChoice::Exact => Numerics::Exact,
            NumericsChoice::Device => Numerics::Device,
        }
    }

    fn seeded(params: &CommandParams) -> bool {
        params.seeded
    }

    fn threads(params: &CommandParams) -> Threads {
        match params.threads {
            ThreadsChoice::One => Threads::One,
            ThreadsChoice::All => Threads::All,
        }
    }

    fn learns(params: &CommandParams) -> Vec<Learning> {
        let mut labelled = BTreeSet::new();
        for input in params.inputs.values() {
            labelled.extend(input.labels.iter().copied());
        }
        let (from, parameter) = match &params.learns {
            Some(splits) => (splits.clone(), "learns"),
            None => (labelled.iter().copied().collect(), "inputs"),
        };
        if from.is_empty() {
            return Vec::new();
        }
        vec![Learning {
            what: "outputs",
            purpose: Purpose::Fit,
            labels: from.iter().any(|split| labelled.contains(split)),
            from,
            oracle: false,
            parameter,
        }]
    }

    fn files(params: &CommandParams) -> Vec<FileRequest> {
        let files = params.files.iter();
        files
            .map(|(name, path)| FileRequest::new(name, path).or_many())
            .collect()
    }

    fn remarks(params: &CommandParams, around: Surroundings<'_>) -> Vec<Remark> {
        let mut found = placeholders::remarks(params, around.connected);
        found.extend(remarks::remarks(params, around.look_up));
        found
    }

    fn advice(params: &CommandParams, said: &str, look_up: LookUp<'_>) -> Option<String> {
        missing::advice(params, said, look_up)
    }

    fn environment(params: &CommandParams) -> Vec<String> {
        params.pass_env.iter().cloned().collect()
    }

    fn run(
        params: &CommandParams,
        inputs: &Inputs,
        context: &StageContext<'_>,
    ) -> Result<Outputs, Trouble> {
        let layout = layout::lay_out(params, inputs, context)?;
        let arguments: Result<Vec<String>, Trouble> =
            params.run.iter().map(|text| layout.fill(text)).collect();
        let variables = environment::variables(params, context);
        let call = Call {
            arguments: &arguments?,
            variables: &variables,
            folder: layout.folder(),
            is_answered: false,
            saves: params.checkpoints,
            clears: None,
            imports: None,
        };
        let work = |kept: &mut Checkpoints| {
            running::run_to_end(call, context, &mut |report| {
                kept.on_report(report, context)?;
                Ok(None)
            })?;
            outputs::collect(params, inputs, &layout)
        };
        Checkpoints::around(params.checkpoints, layout.folder(), params, context, work)
    }
}

#[cfg(test)]
mod tests;
