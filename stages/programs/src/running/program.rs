//! Finds the program that the first item of `run` means, and says what to do when it cannot be started.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::interpreter::run_line;
use contract::Trouble;

/// Commands of shells that are not programs.
const BUILT_IN: [&str; 13] = [
    ".", "alias", "cd", "eval", "exec", "export", "if", "for", "set", "source", "ulimit", "umask",
    "while",
];

/// The program as it is started: found on PATH, or a path from the folder that it runs in.
pub(super) fn find(
    name: &str,
    variables: &BTreeMap<String, OsString>,
    folder: &Path,
) -> Result<PathBuf, Trouble> {
    if name.contains('/') {
        return Ok(PathBuf::from(name));
    }
    let path = variables.get("PATH").cloned().unwrap_or_default();
    // What is relative would be looked for in the program's folder, where nothing is.
    let folders = std::env::split_paths(&path);
    let folders: Vec<PathBuf> = folders.filter(|folder| folder.is_absolute()).collect();
    let places: Vec<PathBuf> = folders.iter().map(|folder| folder.join(name)).collect();
    if let Some(found) = places.iter().find(|place| is_program(place)) {
        return Ok(found.clone());
    }
    let error = Trouble::new(format!("cannot start `{}`", name.escape_debug()));
    if let Some(found) = places.iter().find(|place| place.is_file()) {
        let hint = format!("make it executable: `chmod +x {}`", found.display());
        return Err(error
            .because(format!("{} is not executable", found.display()))
            .hint(hint));
    }
    let reason = match folders.is_empty() {
        true => "PATH is empty",
        false => "there is no program of this name on PATH",
    };
    Err(error.because(reason).hint(hint(name, folder, &folders)))
}

fn is_program(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

fn hint(name: &str, folder: &Path, path: &[PathBuf]) -> String {
    if BUILT_IN.contains(&name) {
        return format!(
            "`{name}` is a shell command, and no shell is involved: write `[sh, -c, \"{name} …\"]`"
        );
    }
    if name.contains(char::is_whitespace) {
        let words: Vec<&str> = name.split_whitespace().collect();
        let words = words.join(", ");
        return format!("write the program and each argument as a separate item: `[{words}]`");
    }
    let mut folders = path.iter();
    if name == "python" && folders.any(|folder| is_program(&folder.join("python3"))) {
        return "there is `python3`".to_owned();
    }
    if name.starts_with(['~', '$']) || name.contains("${") {
        return "no shell replaces `~` or `$NAME`: write the path in full".to_owned();
    }
    if folder.join(name).exists() {
        return format!("to run what lies in its folder, write `./{name}`");
    }
    "install it, or name it by its whole path; declare a script that lies beside the pipeline in `files` under `with`, and \
     call it as `\"{file.NAME}\"`"
        .to_owned()
}

/// Why a program that was found, or is a path, did not start.
pub(super) fn cannot_start(name: &str, program: &Path, folder: &Path, error: io::Error) -> Trouble {
    let failed = Trouble::new(format!("cannot start `{}`", name.escape_debug()));
    let place = folder.join(program);
    let hint = match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::NOENT) if place.exists() => {
            let line = first_line(&place);
            format!("its first line names a program that does not exist: {}", line.escape_debug())
        }
        Some(rustix::io::Errno::NOENT) if program.is_absolute() => "there is no such file on this machine".to_owned(),
        Some(rustix::io::Errno::NOENT) => {
            "it is looked for in the folder that the program runs in: `{in.NAME}` and `{file.NAME}` are paths to what is there"
                .to_owned()
        }
        Some(rustix::io::Errno::ACCESS) if place.is_dir() => "it is a folder".to_owned(),
        Some(rustix::io::Errno::ACCESS) if !is_program(&place) => {
            format!("it is not executable: make it so with `chmod +x`, or write `{}`", run_line(program, "NAME", false))
        }
        Some(rustix::io::Errno::NOEXEC) => {
            let line = run_line(program, "NAME", false);
            format!("a script needs a first line such as `#!/bin/sh`, or the program that runs it: `{line}`")
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
    if read.is_err() {
        return String::new();
    }
    let text = String::from_utf8_lossy(&bytes);
    text.split('\n').next().unwrap_or_default().to_owned()
}
