//! The environment of a detector: an interpreter that exists, one that is made from a lock file, once, in the store, or
//! that of a container.

mod image;
mod lock;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::parameters::Params;
use super::probe::{self, ask, resolve};
use super::source::{LOCK, PROJECT};
use crate::running::{self, hardware_variables};
use contract::artifact::DigestWriter;
use contract::{LookUp, StageContext, Trouble};
use lock::{BIN, Recipe};

pub(super) use image::digest;
pub(super) use lock::project;

/// How a detector is started.
pub(super) struct Start {
    /// The command line up to the interpreter's own arguments.
    pub arguments: Vec<String>,
    /// What it sees of the environment.
    pub variables: BTreeMap<String, OsString>,
    /// What removes a container that did not end by itself.
    pub clears: Option<Vec<String>>,
    /// Whether the interpreter may be started before it is needed.
    pub may_wait: bool,
}

/// The versions of everything that does the work.
///
/// # Errors
/// If there is no interpreter, or the lock file cannot be read.
pub(super) fn packages(
    params: &Params,
    look_up: LookUp<'_>,
) -> Result<BTreeMap<String, String>, Trouble> {
    let environment = &params.environment;
    if let Some(image) = &environment.image {
        image::engine(image)?;
        let digest = digest(image).map_err(|fault| Trouble::new(fault.to_string()))?;
        return Ok(BTreeMap::from([("image".to_owned(), digest.to_owned())]));
    }
    let Some(lock) = &environment.lock else {
        return Ok(probe::of_stage(params, look_up)?.versions());
    };
    let place = look_up(lock).unwrap_or_else(|| lock.clone());
    let text = std::fs::read_to_string(&place).map_err(|error| {
        let message = format!("the lock file `{}` cannot be read", lock.display());
        Trouble::new(message).because(error)
    })?;
    let mut versions = lock::versions(lock, &text)?;
    if !lock::has_python(lock, &text) {
        let interpreter = resolve(params, look_up);
        versions.insert("python".to_owned(), ask(&interpreter, &[])?.version);
    }
    Ok(versions)
}

/// How the stage is started; an environment is made if there is none.
///
/// # Errors
/// If it cannot be made.
pub(super) fn start(
    params: &Params,
    folder: &Path,
    context: &StageContext<'_>,
) -> Result<Start, Trouble> {
    let variables = variables(context);
    if let Some(image) = &params.environment.image {
        let python = params.environment.python.clone();
        let python = python.unwrap_or_else(|| PathBuf::from("python3"));
        return Ok(Start {
            arguments: image::arguments(image, &python, &variables, folder, context)?,
            variables: lock::machine_variables(),
            clears: Some(image::clears(image, folder)?),
            may_wait: false,
        });
    }
    let interpreter = interpreter(params, context)?;
    Ok(Start {
        arguments: vec![interpreter],
        variables,
        clears: None,
        may_wait: true,
    })
}

fn interpreter(params: &Params, context: &StageContext<'_>) -> Result<String, Trouble> {
    let look_up = |path: &Path| context.host.look_up(path);
    let base = resolve(params, &look_up);
    let Some(written) = &params.environment.lock else {
        return Ok(base.to_string_lossy().into_owned());
    };
    let lock = context.file(LOCK)?;
    let project = match project(written) {
        Some(_) => Some(context.file(PROJECT)?),
        None => None,
    };
    let text = std::fs::read_to_string(&lock)?;
    let mut writer = DigestWriter::new("python environment");
    if !lock::has_python(written, &text) {
        writer.text(&ask(&base, &[])?.version);
    }
    writer.text(std::env::consts::ARCH);
    writer.text(&text);
    if let Some(project) = &project {
        writer.text(&std::fs::read_to_string(project)?);
    }
    let recipe = Recipe {
        base: &base,
        written,
        lock: &lock,
        project: project.as_deref(),
    };
    let mut make = |folder: &Path| lock::make(&recipe, folder, context);
    let made = context.host.shared_folder(&writer.finish(), &mut make)?;
    let made = std::path::absolute(made)?;
    let interpreter = made.join(BIN);
    Ok(interpreter.to_string_lossy().into_owned())
}

/// What the detector sees of the environment.
fn variables(context: &StageContext<'_>) -> BTreeMap<String, OsString> {
    let mut variables = hardware_variables(context);
    for (name, value) in [
        ("LANG", "C.UTF-8"),
        ("TZ", "UTC"),
        ("TMPDIR", "/tmp"),
        ("PYTHONHASHSEED", "0"),
        ("PYTHONPATH", running::PACKAGE),
    ] {
        variables.insert(name.to_owned(), value.into());
    }
    for name in ["PATH", "HOME", "TMPDIR"] {
        if let Some(value) = std::env::var_os(name).filter(|value| !value.is_empty()) {
            variables.insert(name.to_owned(), value);
        }
    }
    variables
}
