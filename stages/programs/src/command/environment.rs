//! The environment of a program: what was declared, and as little else as programs can do with.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::CommandParams;
use crate::running::{PACKAGE, hardware_variables};
use contract::StageContext;

/// Passed on from the machine. They say where things are: programs, the user's own packages, space for temporary files.
/// Like the program itself they are the machine's and in no key; a run's record has them.
const PASSED: [&str; 3] = ["PATH", "HOME", "TMPDIR"];

/// The same on every machine: these decide what programs write, such as the order of names and how a time reads.
const FIXED: [(&str, &str); 2] = [("LANG", "C.UTF-8"), ("TZ", "UTC")];

/// Where temporary files go if the machine does not say.
const TEMPORARY: &str = "/tmp";

/// All variables that the program sees. What was declared comes before what is passed on or fixed.
pub(super) fn variables(
    params: &CommandParams,
    context: &StageContext<'_>,
) -> BTreeMap<String, OsString> {
    let mut variables = BTreeMap::new();
    for (name, value) in FIXED {
        variables.insert(name.to_owned(), OsString::from(value));
    }
    variables.insert("TMPDIR".to_owned(), TEMPORARY.into());
    for name in PASSED {
        if let Some(value) = std::env::var_os(name).filter(|value| !value.is_empty()) {
            variables.insert(name.to_owned(), value);
        }
    }
    variables.extend(hardware_variables(context));
    variables.insert("PYTHONPATH".to_owned(), PACKAGE.into());
    // By way of the host, which puts the values into the key.
    for name in &params.pass_env {
        if let Some(value) = context.host.environment(name) {
            variables.insert(name.clone(), value.into());
        }
    }
    for (name, value) in &params.env {
        variables.insert(name.clone(), value.into());
    }
    variables
}
