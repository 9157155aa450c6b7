//! What can be said of the parameters before anything runs, without a look at any file.

use std::path::Path;

use contract::Fault;
use schemars::{Schema, SchemaGenerator, json_schema};

use super::CommandParams;
use super::layout::{FILES, INPUTS, is_inside};

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
        let has_files = !params.files.is_empty();
        let checked = output_path(&output.path, has_files);
        checked.map_err(|reason| Fault::new(format!("outputs.{name}.path"), reason))?;
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

fn output_path(path: &Path, has_files: bool) -> Result<(), String> {
    let shown = path.display();
    if !is_inside(path) || path.as_os_str().is_empty() || path.to_string_lossy().contains('\0') {
        return Err(format!(
            "`{shown}` is not a path below the folder of the command"
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
