//! The stage kind `command`: any program as a stage. It runs in its own folder, which holds copies of its inputs and of
//! the files that were declared; it sees only the environment that was declared, and it may write only the outputs
//! that were declared. When it ends, everything that it started ends.

mod check;
mod environment;
mod group;
mod interpreter;
mod layout;
mod log;
mod missing;
mod outputs;
mod placeholders;
mod process;
mod program;
mod remarks;
mod template;
mod watchdog;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use contract::artifact::ArtifactKind;
use contract::{
    Fault, FileRequest, Inputs, LookUp, Numerics, Outputs, Port, Remark, Stage, StageContext,
    Surroundings, Threads, Trouble,
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
}

/// Any program as a stage.
pub struct Command;

impl Stage for Command {
    type Params = CommandParams;

    const NAME: &'static str = "command";
    // 2: relative paths, copies of declared files, a fixed LANG and TZ, empty folders.
    // 3: inputs with columns of entity, split and time.
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
            let kind = match output.kind {
                OutputKind::Files => ArtifactKind::Files,
                OutputKind::Metrics => ArtifactKind::Metrics,
            };
            ports.push(Port::new(name.clone(), kind, "What the program wrote."));
        }
        ports
    }

    fn check(params: &CommandParams) -> Result<(), Fault> {
        check::check(params)
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
        process::run_to_end(&arguments?, &variables, layout.folder(), context)?;
        outputs::collect(params, &layout)
    }
}

#[cfg(test)]
mod tests;
