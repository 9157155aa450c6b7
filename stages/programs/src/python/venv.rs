//! What a virtual environment has, read off its folder: a plan starts no interpreter for it. Where the folder does not say
//! everything, as with packages that are installed from a working copy, nothing is said.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::probe::Found;

/// Files that say where further modules lie, but for those that every environment may have.
const HARMLESS: [&str; 2] = ["distutils-precedence.pth", "_virtualenv.pth"];

/// What the environment of an interpreter has.
pub(super) fn look(interpreter: &Path, modules: &[String]) -> Option<Found> {
    let place = place(interpreter)?;
    let root = place.parent()?.parent()?;
    let settings = fs::read_to_string(root.join("pyvenv.cfg")).ok()?;
    let mut values: BTreeMap<&str, &str> = BTreeMap::new();
    for line in settings.lines() {
        let (name, value) = line.split_once('=')?;
        values.insert(name.trim(), value.trim());
    }
    if *values.get("include-system-site-packages")? != "false" {
        return None;
    }
    let version = values
        .get("version")
        .or_else(|| values.get("version_info"))?;
    let mut numbers = version.split('.');
    let version = [numbers.next()?, numbers.next()?, numbers.next()?];
    let folder = format!("python{}.{}", version[0], version[1]);
    let site = root.join("lib").join(folder).join("site-packages");
    let mut packages = BTreeMap::new();
    for entry in fs::read_dir(&site).ok()? {
        let name = entry.ok()?.file_name().into_string().ok()?;
        let Some((stem, ending)) = name.rsplit_once('.') else {
            continue;
        };
        if ending == "pth" && !HARMLESS.contains(&name.as_str()) {
            return None;
        }
        if matches!(ending, "dist-info" | "egg-info") {
            let mut parts = stem.split('-');
            let package = parts.next()?.replace('_', "-").to_lowercase();
            packages.insert(package, parts.next()?.to_owned());
        }
    }
    let mut found = BTreeMap::new();
    for module in modules {
        let is_there = site.join(module).is_dir() || site.join(format!("{module}.py")).is_file();
        // It may be a module of Python itself, or one in another form.
        if !is_there {
            return None;
        }
        found.insert(module.clone(), is_there);
    }
    Some(Found {
        version: version.join("."),
        implementation: "cpython".to_owned(),
        packages,
        found,
    })
}

/// Where an interpreter lies: as it is, or by its name on PATH. Links are not followed, since that of an environment leads
/// out of it.
fn place(interpreter: &Path) -> Option<PathBuf> {
    if interpreter.components().count() > 1 {
        return Some(interpreter.to_owned());
    }
    let path = std::env::var_os("PATH")?;
    let mut places = std::env::split_paths(&path).map(|folder| folder.join(interpreter));
    places.find(|place| place.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_is_read_without_its_interpreter() {
        let root = tempfile::tempdir().unwrap();
        let site = root.path().join("lib/python3.12/site-packages");
        for folder in [
            "numpy",
            "numpy-2.1.0.dist-info",
            "Py_OD-3.0.dist-info",
            "pyod",
        ] {
            fs::create_dir_all(site.join(folder)).unwrap();
        }
        let settings = "home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.12.4\n";
        fs::write(root.path().join("pyvenv.cfg"), settings).unwrap();
        let interpreter = root.path().join("bin/python");
        let ask = |module: &str| look(&interpreter, &[module.to_owned()]);
        let found = ask("pyod").unwrap();
        let versions = found.versions();
        assert_eq!(versions["numpy"], "2.1.0");
        assert_eq!(versions["py-od"], "3.0");
        assert_eq!(versions["python"], "3.12.4");
        assert!(ask("torch").is_none(), "the interpreter is asked");
        fs::write(site.join("__editable__.pth"), "/srv/mine").unwrap();
        assert!(ask("pyod").is_none());
        fs::remove_file(site.join("__editable__.pth")).unwrap();
        let open = settings.replace("false", "true");
        fs::write(root.path().join("pyvenv.cfg"), open).unwrap();
        assert!(ask("pyod").is_none());
    }
}
