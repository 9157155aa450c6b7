//! The user's own code: the file of the detector and what `code` names. Each file enters the key, and the detector sees
//! copies, which lie as the files do beside the pipeline.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::environment::project;
use super::parameters::{Params, Place};
use crate::running::Imports;
use contract::{FileRequest, LookUp, StageContext, Trouble};

/// The folder of the copies.
pub(super) const FILES: &str = "files";

/// What is asked for, under the names that people gave.
pub(super) fn files(params: &Params) -> Vec<FileRequest> {
    let mut requests = Vec::new();
    if let Some((Place::File(path), _)) = params.place() {
        requests.push(FileRequest::new(path, path));
    }
    for path in &params.code {
        requests.push(FileRequest::new(path.to_string_lossy(), path).or_many());
    }
    if let Some(lock) = &params.environment.lock {
        requests.push(FileRequest::new(LOCK, lock));
        if let Some(project) = project(lock) {
            requests.push(FileRequest::new(PROJECT, project));
        }
    }
    requests
}

/// The names under which the lock file is asked for, and the file that it goes with.
pub(super) const LOCK: &str = "lock";
pub(super) const PROJECT: &str = "lock project";

/// Where a file or folder goes below the folder of copies.
fn place(path: &Path) -> PathBuf {
    let mut inside = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => inside.push(name),
            // What lies elsewhere keeps the last part of its path alone.
            Component::RootDir | Component::ParentDir => inside = PathBuf::new(),
            _ => {}
        }
    }
    let is_elsewhere =
        path.is_absolute() || path.components().any(|part| part == Component::ParentDir);
    match path.file_name() {
        Some(name) if is_elsewhere => PathBuf::from(name),
        _ => inside,
    }
}

/// The detector as the program finds it: with the place of its copy.
pub(super) fn copied_detector(params: &Params) -> String {
    match params.place() {
        Some((Place::File(path), name)) => {
            let place = Path::new(FILES).join(place(Path::new(path)));
            format!("{}:{name}", place.display())
        }
        _ => params.detector.clone(),
    }
}

/// What an interpreter imports before it begins the stage: the detector's module, or what its file imports. What has the name of
/// a copied file or folder is the user's own. `paths` are those of [`lay_out`].
///
/// # Errors
/// If the copies cannot be listed.
pub(super) fn imports(
    params: &Params,
    folder: &Path,
    paths: &[String],
) -> Result<Imports, Trouble> {
    let mut imports = Imports {
        modules: Vec::new(),
        files: Vec::new(),
        own: Vec::new(),
    };
    for path in paths {
        let place = folder.join(path);
        // A detector of a package needs no files.
        if !place.is_dir() {
            continue;
        }
        for entry in fs::read_dir(place)? {
            let path = entry?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            imports.own.extend(stem.map(str::to_owned));
        }
    }
    imports.own.sort();
    match params.place() {
        Some((Place::File(path), _)) => {
            let copy = Path::new(FILES).join(place(Path::new(path)));
            imports.files.push(copy.to_string_lossy().into_owned());
        }
        Some((Place::Module(module), _)) => imports.modules.push(module.to_owned()),
        None => {}
    }
    Ok(imports)
}

/// The path that the user wrote of a file whose copy lies at this place.
pub(super) fn original(params: &Params, copy: &str) -> PathBuf {
    let below = copy.strip_prefix("files/").unwrap_or(copy);
    if let Some((Place::File(path), _)) = params.place()
        && place(Path::new(path)) == Path::new(below)
    {
        return path.into();
    }
    below.into()
}

/// Copies the code, and says in which folders modules are looked for.
pub(super) fn lay_out(
    params: &Params,
    folder: &Path,
    context: &StageContext<'_>,
) -> Result<Vec<String>, Trouble> {
    let mut searched = vec![FILES.to_owned()];
    let mut done = BTreeSet::new();
    for request in &files(params) {
        context.check_cancelled()?;
        let name = &request.name;
        if [LOCK, PROJECT].contains(&name.as_str()) {
            continue;
        }
        let below = context.host.names_below(name);
        let at = match below.is_empty() {
            true => place(&request.path),
            false => place(&request.folder()),
        };
        let mut copies = Vec::new();
        if below.is_empty() {
            copies.push((name.clone(), at.clone()));
        }
        for path in below {
            let target = at.join(&path);
            copies.push((format!("{name}/{path}"), target));
        }
        for (name, target) in copies {
            let target = folder.join(FILES).join(target);
            if done.insert(target.clone()) {
                if let Some(parent) = target.parent() {
                    fs::create_dir_all(parent)?;
                }
                context.copy_file(&name, &target)?;
            }
        }
        // As where a script is run: its own folder comes first.
        if let Some((Place::File(path), _)) = params.place()
            && path == name
            && let Some(parent) = at.parent().filter(|parent| !parent.as_os_str().is_empty())
        {
            searched.insert(0, format!("{FILES}/{}", parent.display()));
        }
    }
    Ok(searched)
}

/// What to add where a module was not found that lies beside the pipeline.
pub(super) fn advice(params: &Params, said: &str, look_up: LookUp<'_>) -> Option<String> {
    let (_, after) = said.rsplit_once("No module named ")?;
    let module = after.split('\'').nth(1)?.split('.').next()?;
    let beside = match params.place() {
        Some((Place::File(path), _)) => Path::new(path).parent().unwrap_or(Path::new("")),
        _ => Path::new(""),
    };
    for name in [format!("{module}.py"), module.to_owned()] {
        let path = beside.join(&name);
        if look_up(&path).is_some() {
            return Some(format!(
                "`{}` lies beside the pipeline and is not declared: {}",
                path.display(),
                line_to_add(params, &path)
            ));
        }
    }
    Some(format!(
        "install `{module}` into the environment, or declare it if it is your own: {}",
        line_to_add(params, Path::new(&format!("{module}.py")))
    ))
}

/// How to declare a file of code.
pub(super) fn line_to_add(params: &Params, path: &Path) -> String {
    let mut all: Vec<String> = Vec::new();
    for known in params.code.iter().map(PathBuf::as_path).chain([path]) {
        all.push(known.display().to_string());
    }
    format!("write `code: [{}]` under `with`", all.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_lie_as_the_files_do() {
        assert_eq!(place(Path::new("models/a.py")), Path::new("models/a.py"));
        assert_eq!(place(Path::new("./lib")), Path::new("lib"));
        assert_eq!(place(Path::new("../shared/lib")), Path::new("lib"));
        assert_eq!(place(Path::new("/opt/x/a.py")), Path::new("a.py"));
    }
}
