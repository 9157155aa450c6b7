//! Finds the program that the first item of `run` means, and says what to do when it cannot be started.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::contract::StageError;

/// Commands of shells that are no programs.
const BUILT_IN: [&str; 13] =
    [".", "alias", "cd", "eval", "exec", "export", "if", "for", "set", "source", "ulimit", "umask", "while"];

/// The program as it is started: found on PATH, or a path from the folder that it runs in.
pub(super) fn find(name: &str, variables: &BTreeMap<String, OsString>, folder: &Path) -> Result<PathBuf, StageError> {
    if name.contains('/') {
        return Ok(PathBuf::from(name));
    }
    let path = variables.get("PATH").cloned().unwrap_or_default();
    // What is relative would be looked for in the program's folder, where nothing is.
    let folders: Vec<PathBuf> = std::env::split_paths(&path).filter(|folder| folder.is_absolute()).collect();
    let places = || folders.iter().map(|folder| folder.join(name));
    if let Some(found) = places().find(|place| is_program(place)) {
        return Ok(found);
    }
    let error = StageError::new(format!("cannot start `{}`", name.escape_debug()));
    if let Some(found) = places().find(|place| place.is_file()) {
        let hint = format!("`chmod +x {}` makes it one", found.display());
        return Err(error.because(format!("{} is not executable", found.display())).hint(hint));
    }
    let reason = match folders.is_empty() {
        true => "PATH is empty",
        false => "there is no program of this name on PATH",
    };
    Err(error.because(reason).hint(hint(name, folder, &folders)))
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

fn hint(name: &str, folder: &Path, path: &[PathBuf]) -> String {
    if BUILT_IN.contains(&name) {
        return format!("`{name}` is a command of a shell, and no shell is involved: write `[sh, -c, \"{name} …\"]`");
    }
    if name.contains(char::is_whitespace) {
        let words: Vec<&str> = name.split_whitespace().collect();
        return format!("the program and each argument are items of their own: `[{}]`", words.join(", "));
    }
    if name == "python" && path.iter().any(|folder| is_program(&folder.join("python3"))) {
        return "there is `python3`".to_owned();
    }
    if name.starts_with(['~', '$']) || name.contains("${") {
        return "no shell is involved that would replace `~` or `$NAME`; write the path in full".to_owned();
    }
    if folder.join(name).exists() {
        return format!("to run what lies in its folder, write `./{name}`");
    }
    "install it, or name it by its whole path; a script beside the pipeline is declared below `files` and called by \
     `{file.NAME}`; no shell is involved"
        .to_owned()
}

/// Why a program that was found, or is a path, did not start.
pub(super) fn cannot_start(name: &str, program: &Path, folder: &Path, error: io::Error) -> StageError {
    let failed = StageError::new(format!("cannot start `{}`", name.escape_debug()));
    let place = folder.join(program);
    let shown = name.escape_debug();
    let hint = match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::NOENT) if place.exists() => {
            let line = first_line(&place);
            format!("its first line names a program that is not there: {}", line.escape_debug())
        }
        Some(rustix::io::Errno::NOENT) if program.is_absolute() => "there is no such file on this machine".to_owned(),
        Some(rustix::io::Errno::NOENT) => {
            let base = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let key = base.split('.').next().filter(|key| !key.is_empty()).unwrap_or("program");
            format!(
                "a relative path starts at the folder of its own that the program runs in; for a file beside the pipeline add \
                 `{key}: {shown}` to `files` and write `{{file.{key}}}`"
            )
        }
        Some(rustix::io::Errno::ACCESS) if place.is_dir() => "it is a folder".to_owned(),
        Some(rustix::io::Errno::ACCESS) if !is_program(&place) => {
            format!("it is not executable: `chmod +x` makes it so, or name what runs it first: `[sh, {shown}]`")
        }
        Some(rustix::io::Errno::NOEXEC) => {
            "it is no program; a script needs a first line such as `#!/bin/sh`, or name what runs it first: `[sh, …]`"
                .to_owned()
        }
        Some(rustix::io::Errno::TOOBIG) => {
            "arguments and environment are too long; pass long values in a file".to_owned()
        }
        _ => "the first item of `run` is a program on PATH, or a path; no shell is involved".to_owned(),
    };
    failed.because(error).hint(hint)
}

fn first_line(path: &Path) -> String {
    use std::io::Read;
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(200).read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes);
    read.ok().and_then(|_| text.split('\n').next()).unwrap_or_default().to_owned()
}
