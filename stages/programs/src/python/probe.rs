//! What an interpreter has: its version, its packages with theirs, and whether modules are found. It is asked once in the
//! life of this process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use serde::Deserialize;

use super::parameters::{Params, Place};
use super::venv;
use contract::{LookUp, Trouble};

/// Prints, as JSON, what an interpreter has. Names of packages stand in the names of folders, so nothing is imported and no
/// metadata is parsed. Of two packages of one name the first on the path counts, as it does for imports.
const SCRIPT: &str = r#"
import importlib.util, json, os, sys
packages = {}
for path in sys.path:
    if not path or not os.path.isdir(path):
        continue
    for name in sorted(os.listdir(path)):
        stem, ending = os.path.splitext(name)
        if ending in (".dist-info", ".egg-info") and "-" in stem:
            package, version = stem.split("-")[:2]
            packages.setdefault(package.replace("_", "-").lower(), version)
found = {}
for module in sys.argv[1:]:
    try:
        found[module] = importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        found[module] = False
print(json.dumps({"version": "%d.%d.%d" % sys.version_info[:3], "implementation": sys.implementation.name,
                  "packages": packages, "found": found}))
"#;

/// Packages that install others and compute nothing.
const INSTALLERS: [&str; 4] = ["pip", "wheel", "uv", "virtualenv"];

/// What an interpreter has.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Found {
    pub version: String,
    pub implementation: String,
    pub packages: BTreeMap<String, String>,
    /// Whether the modules that were asked for are there.
    pub found: BTreeMap<String, bool>,
}

impl Found {
    /// The versions that enter the key.
    pub fn versions(&self) -> BTreeMap<String, String> {
        let mut versions = self.packages.clone();
        versions.retain(|name, _| !INSTALLERS.contains(&name.as_str()));
        let python = match self.implementation.as_str() {
            "cpython" => "python",
            other => other,
        };
        versions.insert(python.to_owned(), self.version.clone());
        versions
    }
}

type Known = BTreeMap<(PathBuf, Vec<String>), Result<Found, Trouble>>;

static KNOWN: Mutex<Known> = Mutex::new(BTreeMap::new());

/// Asks an interpreter, which is a name on PATH or a path that exists.
///
/// # Errors
/// If there is none, or it does not answer.
pub(super) fn ask(interpreter: &Path, modules: &[String]) -> Result<Found, Trouble> {
    let question = (interpreter.to_owned(), modules.to_vec());
    // Held while it is asked: a hundred stages of one environment ask once.
    let Ok(mut known) = KNOWN.lock() else {
        return ask_anew(interpreter, modules);
    };
    if let Some(answer) = known.get(&question) {
        return answer.clone();
    }
    let answer = match venv::look(interpreter, modules) {
        Some(found) => Ok(found),
        None => ask_anew(interpreter, modules),
    };
    known.insert(question, answer.clone());
    answer
}

fn ask_anew(interpreter: &Path, modules: &[String]) -> Result<Found, Trouble> {
    let shown = interpreter.display();
    let failed = Trouble::new(format!("the Python interpreter `{shown}` cannot be used"));
    let mut command = Command::new(interpreter);
    command.args(["-B", "-c", SCRIPT]).args(modules);
    command.env_clear();
    for name in ["PATH", "HOME", "TMPDIR"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    let answer = command.stdin(Stdio::null()).output();
    let hint = "name another in `environment: {python: PATH}`; it needs Python 3.10 or later";
    let output = match answer {
        Ok(output) => output,
        Err(error) => return Err(failed.because(error).hint(hint)),
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(failed.because(said).hint(hint));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| {
        let said = String::from_utf8_lossy(&output.stdout);
        let start: String = said.chars().take(200).collect();
        failed
            .because(format!("it said `{start}` ({error})"))
            .hint(hint)
    })
}

/// The interpreter as it is started: a name on PATH, or a path from where the user is.
pub(super) fn resolve(params: &Params, look_up: LookUp<'_>) -> PathBuf {
    let written = params.environment.python.clone();
    let written = written.unwrap_or_else(|| PathBuf::from("python3"));
    if written.components().count() < 2 {
        return written;
    }
    match look_up(&written) {
        Some(found) => std::path::absolute(&found).unwrap_or(found),
        None => written,
    }
}

/// Asks the interpreter of a stage, which must have NumPy and the module of the detector.
///
/// # Errors
/// If there is none, or a module is missing.
pub(super) fn of_stage(params: &Params, look_up: LookUp<'_>) -> Result<Found, Trouble> {
    let interpreter = resolve(params, look_up);
    let found = ask(&interpreter, &modules(params))?;
    let missing = found.found.iter().find(|(_, is_there)| !**is_there);
    let Some((module, _)) = missing else {
        return Ok(found);
    };
    let shown = interpreter.display();
    let message = format!("there is no module `{module}` in the environment of `{shown}`");
    let hint = format!(
        "install it with `{shown} -m pip install {}`, or name another interpreter in `environment: {{python: PATH}}`",
        package_of(module)
    );
    Err(Trouble::new(message).hint(hint))
}

const NUMPY: &str = "numpy";

/// The modules that must be there.
pub(super) fn modules(params: &Params) -> Vec<String> {
    let mut modules = vec![NUMPY.to_owned()];
    if let Some((Place::Module(module), _)) = params.place() {
        let first = module.split('.').next().unwrap_or(module);
        let code = params.code.iter();
        let mut own = code.filter_map(|path| path.file_stem()?.to_str());
        if !own.any(|name| name == first) {
            modules.push(first.to_owned());
        }
    }
    modules
}

/// What a module is called in the index, where that differs.
fn package_of(module: &str) -> &str {
    match module {
        "sklearn" => "scikit-learn",
        "TSB_AD" => "TSB-AD",
        other => other,
    }
}
