//! The package `runner` for Python, as a program finds it: it is a part of this program, so nothing needs to be installed.

use std::path::Path;

use contract::Trouble;

/// The folder of the package, in that of the program, and what `PYTHONPATH` names.
pub(crate) const PACKAGE: &str = ".runner";

macro_rules! package {
    ($($name:literal),+ $(,)?) => {
        [$(($name, include_str!(concat!("../../../../python/runner/", $name)))),+]
    };
}

/// The files of the package.
const FILES: [(&str, &str); 7] = package![
    "__init__.py",
    "_job.py",
    "_program.py",
    "_store.py",
    "_warm.py",
    "_worker.py",
    "py.typed",
];

/// Writes the package into the folder of a program.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn lay_out_package(folder: &Path) -> Result<(), Trouble> {
    let place = folder.join(PACKAGE).join("runner");
    std::fs::create_dir_all(&place)?;
    for (name, text) in FILES {
        std::fs::write(place.join(name), text)?;
    }
    Ok(())
}
