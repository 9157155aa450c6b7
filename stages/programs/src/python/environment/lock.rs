//! Files that say which packages an environment has, each in one version: as pip writes them, uv and conda. What they say is
//! read here, and the environment is made by the program that understands them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::running::{self, Call};
use contract::{StageContext, Trouble};

/// Where the interpreter of an environment lies.
pub(super) const BIN: &str = "bin/python";

/// What uv calls its lock file, and the file beside it that it goes with.
const UV: &str = "uv.lock";
const PROJECT: &str = "pyproject.toml";

/// The line of a file that names every package by its address, as `conda list --explicit` writes it.
const EXPLICIT: &str = "@EXPLICIT";

/// Options of a list of pip that name further lists.
const OTHER_FILES: [&str; 4] = ["-r", "--requirement", "-c", "--constraint"];

/// How a lock file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A line `NAME==VERSION` for each package.
    Pip,
    /// A `uv.lock` beside its `pyproject.toml`.
    Uv,
    /// A list of addresses.
    Conda,
}

impl Form {
    fn of(path: &Path, text: &str) -> Self {
        if path.file_name().is_some_and(|name| name == UV) {
            Self::Uv
        } else if text.lines().any(|line| line.trim() == EXPLICIT) {
            Self::Conda
        } else {
            Self::Pip
        }
    }
}

/// The file that a lock file goes with, if it goes with one.
pub(in crate::python) fn project(lock: &Path) -> Option<PathBuf> {
    lock.file_name()
        .is_some_and(|name| name == UV)
        .then(|| lock.with_file_name(PROJECT))
}

/// Whether the file says which Python there is, too.
pub(super) fn has_python(path: &Path, text: &str) -> bool {
    Form::of(path, text) == Form::Conda
}

/// The packages with their versions.
///
/// # Errors
/// If the file does not name a version for each.
pub(super) fn versions(path: &Path, text: &str) -> Result<BTreeMap<String, String>, Trouble> {
    let versions = match Form::of(path, text) {
        Form::Pip => pinned(text, path)?,
        Form::Uv => of_uv(text, path)?,
        Form::Conda => explicit(text, path)?,
    };
    if versions.is_empty() {
        return Err(Trouble::new("the lock file names no package").at(path, None));
    }
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
        let option = line.split([' ', '=']).next().unwrap_or_default();
        if !is_part && OTHER_FILES.contains(&option) {
            let message = format!(
                "`{}` leads to another file, which is in no key",
                line.escape_debug()
            );
            let hint = "write all packages into one file: `pip freeze` or `uv pip compile` does so";
            return Err(Trouble::new(message).at(path, Some(index + 1)).hint(hint));
        }
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
        let pin = pin.filter(|(_, version)| !version.contains('*'));
        let Some((name, version)) = from.or(pin) else {
            let message = format!("`{}` does not name a version", requirement.escape_debug());
            let hint = "a lock file has a line `NAME==VERSION` for each package: write it with `pip freeze` or `uv pip compile`";
            return Err(Trouble::new(message).at(path, Some(index + 1)).hint(hint));
        };
        let name = name.split('[').next().unwrap_or(name).trim();
        versions.insert(name.replace('_', "-").to_lowercase(), version);
    }
    Ok(versions)
}

#[derive(Deserialize)]
struct UvLock {
    #[serde(default)]
    package: Vec<UvPackage>,
}

#[derive(Deserialize)]
struct UvPackage {
    name: String,
    version: Option<String>,
    #[serde(default)]
    source: BTreeMap<String, toml::Value>,
}

fn of_uv(text: &str, path: &Path) -> Result<BTreeMap<String, String>, Trouble> {
    let lock: UvLock = toml::from_str(text).map_err(|error| {
        let message = "the lock file is not one of uv";
        Trouble::new(message).at(path, None).because(error)
    })?;
    let mut versions: BTreeMap<String, String> = BTreeMap::new();
    for package in lock.package {
        // The project itself, of which nothing is installed.
        let mut of_project = ["virtual", "editable"].iter();
        if of_project.any(|place| package.source.contains_key(*place)) {
            continue;
        }
        let from = || Some(package.source.values().next()?.as_str()?.to_owned());
        let version = package.version.clone().or_else(from).unwrap_or_default();
        // There may be one version for each of several machines.
        versions
            .entry(package.name)
            .and_modify(|known| *known = format!("{known}, {version}"))
            .or_insert(version);
    }
    Ok(versions)
}

/// Packages from addresses such as `https://host/linux-64/numpy-2.1.0-py312h1_0.conda#digest`.
fn explicit(text: &str, path: &Path) -> Result<BTreeMap<String, String>, Trouble> {
    let mut versions = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') || line == EXPLICIT {
            continue;
        }
        let address = line.split('#').next().unwrap_or_default();
        let file = address.rsplit('/').next().unwrap_or_default();
        let stem = file
            .strip_suffix(".conda")
            .or_else(|| file.strip_suffix(".tar.bz2"));
        let mut parts = stem.unwrap_or_default().rsplitn(3, '-');
        let (Some(build), Some(version), Some(name)) = (parts.next(), parts.next(), parts.next())
        else {
            let message = format!("`{}` is not the address of a package", line.escape_debug());
            let hint =
                "write the file with `conda list --explicit` or `conda-lock --kind explicit`";
            return Err(Trouble::new(message).at(path, Some(index + 1)).hint(hint));
        };
        versions.insert(name.to_owned(), format!("{version} {build}"));
    }
    Ok(versions)
}

/// What an environment is made from.
pub(super) struct Recipe<'a> {
    /// The interpreter that it is to have, unless the lock file says so.
    pub base: &'a Path,
    /// As the user wrote it.
    pub written: &'a Path,
    pub lock: &'a Path,
    pub project: Option<&'a Path>,
}

/// Makes an environment in a folder.
///
/// # Errors
/// If the program for it is missing, or fails.
pub(super) fn make(
    recipe: &Recipe<'_>,
    folder: &Path,
    context: &StageContext<'_>,
) -> Result<(), Trouble> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let (base, place) = (text(recipe.base), text(folder));
    let python = text(&folder.join(BIN));
    // The programs run elsewhere.
    let mut lock = text(&std::path::absolute(recipe.lock)?);
    let list = std::fs::read_to_string(recipe.lock)?;
    let mut steps: Vec<Vec<&str>> = Vec::new();
    let work = std::path::absolute(context.host.scratch()?)?.join("environment");
    std::fs::create_dir_all(&work)?;
    let (directory, exported) = (text(&work), text(&work.join("requirements.txt")));
    let form = Form::of(recipe.written, &list);
    let creator = ["micromamba", "mamba", "conda"]
        .into_iter()
        .find(|name| is_on_path(name));
    match form {
        Form::Conda => {
            let Some(creator) = creator else {
                return Err(missing(recipe.written, "micromamba, mamba or conda"));
            };
            // The file's kind is told by its ending.
            std::fs::copy(recipe.lock, work.join("explicit.txt"))?;
            lock = text(&work.join("explicit.txt"));
            steps.push(vec![
                creator, "create", "--yes", "--quiet", "--prefix", &place, "--file", &lock,
            ]);
        }
        Form::Uv => {
            if !is_on_path("uv") {
                return Err(missing(recipe.written, "uv"));
            }
            std::fs::copy(recipe.lock, work.join(UV))?;
            if let Some(project) = recipe.project {
                std::fs::copy(project, work.join(PROJECT))?;
            }
            steps.push(vec![
                "uv",
                "export",
                "--quiet",
                "--frozen",
                "--no-emit-project",
                "--no-dev",
                "--python",
                &base,
                "--project",
                &directory,
                "--output-file",
                &exported,
            ]);
            steps.push(vec!["uv", "venv", "--quiet", "--python", &base, &place]);
            steps.push(vec![
                "uv", "pip", "install", "--quiet", "--python", &python, "-r", &exported,
            ]);
        }
        Form::Pip if is_on_path("uv") => {
            steps.push(vec!["uv", "venv", "--quiet", "--python", &base, &place]);
            steps.push(vec![
                "uv", "pip", "install", "--python", &python, "-r", &lock,
            ]);
        }
        Form::Pip => {
            steps.push(vec![&base, "-m", "venv", &place]);
            steps.push(vec![
                &python,
                "-m",
                "pip",
                "install",
                "--disable-pip-version-check",
                "--no-input",
                "-r",
                &lock,
            ]);
        }
    }
    let shown = recipe.written.display();
    context
        .host
        .note(&format!("makes the environment of {shown}"));
    for step in steps {
        let arguments: Vec<String> = step.into_iter().map(str::to_owned).collect();
        let variables = machine_variables();
        let call = Call {
            arguments: &arguments,
            variables: &variables,
            folder: context.host.scratch()?,
            is_answered: false,
            saves: false,
            clears: None,
            imports: None,
        };
        running::run_to_end(call, context, &mut |_| Ok(None)).map_err(|trouble| {
            let hint =
                "are all packages to be had for this version of Python, and is the index reached?";
            let causes = [
                vec![trouble.message().to_owned()],
                trouble.causes().to_vec(),
            ];
            Trouble::new(format!("the environment of `{shown}` could not be made"))
                .with_causes(causes.concat())
                .hint(hint)
        })?;
    }
    Ok(())
}

fn missing(lock: &Path, program: &str) -> Trouble {
    let message = format!("`{}` needs {program}, which is not on PATH", lock.display());
    Trouble::new(message).hint(
        "install it, or name an interpreter that has the packages: `environment: {python: PATH}`",
    )
}

pub(super) fn is_on_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path);
    folders.any(|folder| folder.join(name).is_file())
}

/// Programs that make environments see the user's whole environment: indices, proxies and certificates are said there.
pub(super) fn machine_variables() -> BTreeMap<String, OsString> {
    let all = std::env::vars_os();
    all.filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| !name.starts_with("RUNNER_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expect(path: &str, text: &str, expected: &[(&str, &str)]) {
        let found = versions(Path::new(path), text).unwrap();
        let expected = expected
            .iter()
            .map(|(name, version)| ((*name).to_owned(), (*version).to_owned()));
        assert_eq!(found, expected.collect::<BTreeMap<_, _>>());
    }

    #[test]
    fn a_lock_names_a_version_for_each_package() {
        let text = "# made by uv\nnumpy==2.1.0 \\\n    --hash=sha256:aa\nScikit_Learn[all]==1.5 ; python_version > '3'\n\
                    -e .\npyod @ file:///x/pyod.whl\n";
        expect(
            "lock",
            text,
            &[
                ("numpy", "2.1.0"),
                ("pyod", "file:///x/pyod.whl"),
                ("scikit-learn", "1.5"),
            ],
        );
        let told = versions(Path::new("lock"), "numpy\n").unwrap_err();
        assert!(
            told.message().contains("`numpy` does not name a version"),
            "{told}"
        );
        assert!(versions(Path::new("lock"), "# nothing\n").is_err());
        for vague in [
            "numpy==2.*\n",
            "numpy==2.1\n-r more.txt\n",
            "--constraint=c.txt\nnumpy==2.1\n",
        ] {
            let told = versions(Path::new("lock"), vague).unwrap_err();
            assert!(told.location().unwrap().line.is_some(), "{told}");
        }
    }

    #[test]
    fn a_lock_of_uv_names_all_but_the_project() {
        let text = r#"version = 1
[[package]]
name = "mine"
version = "0.1.0"
source = { virtual = "." }
[[package]]
name = "numpy"
version = "2.1.0"
source = { registry = "index" }
[[package]]
name = "numpy"
version = "2.2.0"
source = { registry = "index" }
"#;
        expect("a/uv.lock", text, &[("numpy", "2.1.0, 2.2.0")]);
        let told = versions(Path::new("uv.lock"), "numpy==1\n").unwrap_err();
        assert!(told.message().contains("not one of uv"), "{told}");
        assert_eq!(
            project(Path::new("a/uv.lock")),
            Some("a/pyproject.toml".into())
        );
        assert_eq!(project(Path::new("a/other.lock")), None);
    }

    #[test]
    fn a_list_of_addresses_names_versions_and_builds() {
        let text = "# platform: linux-64\n@EXPLICIT\n\
                    https://host/conda-forge/linux-64/python-3.12.4-h1_0_cpython.conda#12ab\n\
                    https://host/noarch/scikit-learn-1.5.0-py_0.tar.bz2\n";
        expect(
            "lock.txt",
            text,
            &[
                ("python", "3.12.4 h1_0_cpython"),
                ("scikit-learn", "1.5.0 py_0"),
            ],
        );
        assert!(has_python(Path::new("lock.txt"), text));
        let told = versions(Path::new("lock.txt"), "@EXPLICIT\nnumpy\n").unwrap_err();
        assert_eq!(told.location().unwrap().line, Some(2), "{told}");
    }
}
