//! The environment of a detector: an interpreter that exists, or one that is made from a lock file, once, in the store.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use super::parameters::Params;
use super::probe::{self, ask, resolve};
use super::source::LOCK;
use crate::running::{self, Call, hardware_variables};
use contract::artifact::DigestWriter;
use contract::{LookUp, StageContext, Trouble};

/// The versions of everything that does the work.
///
/// # Errors
/// If there is no interpreter, or the lock file cannot be read.
pub(super) fn packages(
    params: &Params,
    look_up: LookUp<'_>,
) -> Result<BTreeMap<String, String>, Trouble> {
    let Some(lock) = &params.environment.lock else {
        return Ok(probe::of_stage(params, look_up)?.versions());
    };
    let interpreter = resolve(params, look_up);
    let found = ask(&interpreter, &[])?;
    let place = look_up(lock).unwrap_or_else(|| lock.clone());
    let text = std::fs::read_to_string(&place).map_err(|error| {
        let message = format!("the lock file `{}` cannot be read", lock.display());
        Trouble::new(message).because(error)
    })?;
    let mut versions = pinned(&text, lock)?;
    versions.insert("python".to_owned(), found.version);
    Ok(versions)
}

/// Packages with their versions, from lines such as `numpy==2.1.0 ; python_version > "3.9" \`.
fn pinned(text: &str, path: &Path) -> Result<BTreeMap<String, String>, Trouble> {
    let mut versions = BTreeMap::new();
    let mut is_continued = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.split(" #").next().unwrap_or_default().trim();
        let is_part = is_continued;
        is_continued = line.ends_with('\\');
        if is_part || line.is_empty() || line.starts_with(['#', '-']) {
            continue;
        }
        let requirement = line.split([';', '\\', ' ']).next().unwrap_or_default();
        let pin = requirement
            .split_once("==")
            .map(|(name, version)| (name, version.to_owned()));
        // A package from a place of its own: the place says which.
        let from = line
            .split_once(" @ ")
            .map(|(name, place)| (name, place.trim().to_owned()));
        let Some((name, version)) = from.or(pin) else {
            let message = format!("`{}` does not name a version", requirement.escape_debug());
            let hint = "a lock file has a line `NAME==VERSION` for each package: write it with `pip freeze` or `uv pip compile`";
            return Err(Trouble::new(message).at(path, Some(index + 1)).hint(hint));
        };
        let name = name.split('[').next().unwrap_or(name).trim();
        versions.insert(name.replace('_', "-").to_lowercase(), version);
    }
    if versions.is_empty() {
        return Err(Trouble::new("the lock file names no package").at(path, None));
    }
    Ok(versions)
}

/// The interpreter that the stage runs; it is made if there is none.
///
/// # Errors
/// If it cannot be made.
pub(super) fn interpreter(params: &Params, context: &StageContext<'_>) -> Result<String, Trouble> {
    let look_up = |path: &Path| context.host.look_up(path);
    let base = resolve(params, &look_up);
    if params.environment.lock.is_none() {
        return Ok(base.to_string_lossy().into_owned());
    }
    let lock = context.file(LOCK)?;
    let text = std::fs::read_to_string(&lock)?;
    let version = ask(&base, &[])?.version;
    let mut writer = DigestWriter::new("python environment");
    writer.text(&version);
    writer.text(std::env::consts::ARCH);
    writer.text(&text);
    let made = context
        .host
        .shared_folder(&writer.finish(), &mut |folder| {
            make(&base, &lock, folder, context)
        })?;
    let interpreter = made.join(BIN);
    Ok(interpreter.to_string_lossy().into_owned())
}

/// Where the interpreter of an environment lies.
const BIN: &str = "bin/python";

/// Makes an environment: with uv where it is installed, or else with venv and pip.
fn make(
    base: &Path,
    lock: &Path,
    folder: &Path,
    context: &StageContext<'_>,
) -> Result<(), Trouble> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let (base, lock, place) = (text(base), text(lock), text(folder));
    let python = text(&folder.join(BIN));
    let with_uv: [Vec<&str>; 2] = [
        vec!["uv", "venv", "--quiet", "--python", &base, &place],
        vec!["uv", "pip", "install", "--python", &python, "-r", &lock],
    ];
    let with_pip: [Vec<&str>; 2] = [
        vec![&base, "-m", "venv", &place],
        vec![
            &python,
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            "--no-input",
            "-r",
            &lock,
        ],
    ];
    let steps = if has_uv() { with_uv } else { with_pip };
    context
        .host
        .note(&format!("makes the environment of {lock}"));
    for step in steps {
        let arguments: Vec<String> = step.into_iter().map(str::to_owned).collect();
        let variables = machine_variables();
        let call = Call {
            arguments: &arguments,
            variables: &variables,
            folder: context.host.scratch()?,
            is_answered: false,
            saves: false,
            imports: None,
        };
        running::run_to_end(call, context, &mut |_| Ok(None)).map_err(|trouble| {
            let hint =
                "are all packages to be had for this version of Python, and is the index reached?";
            Trouble::new(format!("the environment of `{lock}` could not be made"))
                .with_causes(
                    [
                        vec![trouble.message().to_owned()],
                        trouble.causes().to_vec(),
                    ]
                    .concat(),
                )
                .hint(hint)
        })?;
    }
    Ok(())
}

fn has_uv() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path);
    folders.any(|folder| folder.join("uv").is_file())
}

/// Installers see the user's whole environment: indices, proxies and certificates are said there.
fn machine_variables() -> BTreeMap<String, OsString> {
    let all = std::env::vars_os();
    all.filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| !name.starts_with("RUNNER_"))
        .collect()
}

/// What the detector sees of the environment.
pub(super) fn variables(context: &StageContext<'_>) -> BTreeMap<String, OsString> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_names_a_version_for_each_package() {
        let text = "# made by uv\nnumpy==2.1.0 \\\n    --hash=sha256:aa\nScikit_Learn[all]==1.5 ; python_version > '3'\n\
                    -e .\npyod @ file:///x/pyod.whl\n";
        let found = pinned(text, Path::new("lock")).unwrap();
        let expected = [
            ("numpy", "2.1.0"),
            ("pyod", "file:///x/pyod.whl"),
            ("scikit-learn", "1.5"),
        ];
        let expected = expected.map(|(name, version)| (name.to_owned(), version.to_owned()));
        assert_eq!(found, BTreeMap::from(expected));
        let told = pinned("numpy\n", Path::new("lock")).unwrap_err();
        assert!(
            told.message().contains("`numpy` does not name a version"),
            "{told}"
        );
        assert!(pinned("# nothing\n", Path::new("lock")).is_err());
    }
}
