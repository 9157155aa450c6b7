//! What can be said of the parameters before anything runs, without a look at any file.

use std::path::Path;

use contract::Fault;
use schemars::{Schema, SchemaGenerator, json_schema};

use super::CommandParams;
use super::layout::{FILES, INPUTS, is_inside};
use crate::running::{CHECKPOINTS, JOB, PACKAGE};

/// The schema of `run`. Numbers and switches are taken, as the text that was written.
pub(super) fn arguments(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "minItems": 1, "x-command-line": true, "items": text_as_written()})
}

/// The schema of `env`.
pub(super) fn variables(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "additionalProperties": text_as_written()})
}

fn text_as_written() -> Schema {
    json_schema!({"type": ["string", "number", "boolean"], "x-as-written": true})
}

/// The parameter at fault and why.
pub(super) fn check(params: &CommandParams) -> Result<(), Fault> {
    for (name, output) in &params.outputs {
        if output.of.is_some() && !output.kind.has_rows() {
            let reason = "is for outputs that have rows of an input: scores, forecasts, predictions and series";
            return Err(Fault::new(format!("outputs.{name}.of"), reason));
        }
        if output.splits.is_some() && !output.kind.has_rows() {
            let reason = "is for outputs that have rows of an input";
            return Err(Fault::new(format!("outputs.{name}.splits"), reason));
        }
        if params.checkpoints && output.path.starts_with(CHECKPOINTS) {
            let reason = format!("`{CHECKPOINTS}` is the folder of checkpoints, not an output");
            return Err(Fault::new(format!("outputs.{name}.path"), reason));
        }
        let has_files = !params.files.is_empty();
        let checked = output_path(&output.path, has_files);
        checked.map_err(|reason| Fault::new(format!("outputs.{name}.path"), reason))?;
    }
    for (name, input) in &params.inputs {
        let given = input.splits.as_ref();
        let lost = input
            .labels
            .iter()
            .find(|split| given.is_some_and(|given| !given.contains(split)));
        if let Some(split) = lost {
            let reason =
                format!("names `{split}`, which is not among the splits that are handed over");
            return Err(Fault::new(format!("inputs.{name}.labels"), reason));
        }
    }
    let program = params.run.first();
    if program.is_some_and(|program| program.trim().is_empty()) {
        return Err(Fault::new("run.0", "the program to run has no name"));
    }
    for (index, argument) in params.run.iter().enumerate() {
        if argument.contains('\0') {
            let reason = "an argument cannot hold a NUL character";
            return Err(Fault::new(format!("run.{index}"), reason));
        }
    }
    for name in params.env.keys().chain(&params.pass_env) {
        if name.is_empty() || name.contains(['=', '\0']) {
            let shown = name.escape_debug();
            let reason = format!("`{shown}` is not a name of an environment variable");
            let parameter = if params.env.contains_key(name) {
                "env"
            } else {
                "pass_env"
            };
            return Err(Fault::new(parameter, reason));
        }
    }
    for (name, value) in &params.env {
        if value.contains('\0') {
            let reason = "a value cannot hold a NUL character";
            return Err(Fault::new(format!("env.{name}"), reason));
        }
    }
    Ok(())
}

/// Names of inputs must be those of inputs.
pub(super) fn check_inputs(params: &CommandParams, connected: &[&str]) -> Result<(), Fault> {
    let names: Vec<&str> = connected
        .iter()
        .filter_map(|port| port.strip_prefix("inputs."))
        .collect();
    let unknown = |name: &str| match names.as_slice() {
        [] => {
            format!("`{name}` is not an input of this stage, which has none: name stages in `from`")
        }
        names => format!(
            "`{name}` is not an input of this stage; there are {}",
            names.join(", ")
        ),
    };
    for name in params.inputs.keys() {
        if !names.contains(&name.as_str()) {
            return Err(Fault::new(format!("inputs.{name}"), unknown(name)));
        }
    }
    for (output, spec) in &params.outputs {
        if let Some(of) = &spec.of
            && !names.contains(&of.as_str())
        {
            return Err(Fault::new(format!("outputs.{output}.of"), unknown(of)));
        }
        let is_lost = spec.kind.has_rows() && spec.kind != super::OutputKind::Series;
        if is_lost && names.is_empty() {
            let reason = "the rows of this output are those of an input, and the stage has none: name one in `from`";
            return Err(Fault::new(format!("outputs.{output}.kind"), reason));
        }
    }
    Ok(())
}

fn output_path(path: &Path, has_files: bool) -> Result<(), String> {
    let shown = path.display();
    if !is_inside(path) || path.as_os_str().is_empty() || path.to_string_lossy().contains('\0') {
        return Err(format!(
            "`{shown}` is not a path below the folder of the command"
        ));
    }
    if path.starts_with(JOB) || path.starts_with(PACKAGE) {
        return Err(format!(
            "`{shown}` is not a path for an output: the program finds its job there"
        ));
    }
    if path.starts_with(INPUTS) {
        return Err(format!(
            "`{shown}` is not a path for an output: `{INPUTS}` holds the inputs"
        ));
    }
    if has_files && path.starts_with(FILES) {
        return Err(format!(
            "`{shown}` is not a path for an output: `{FILES}` holds the copies of declared files"
        ));
    }
    Ok(())
}
