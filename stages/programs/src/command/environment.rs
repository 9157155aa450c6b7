//! The environment of a program: what was declared, and as little else as programs can do with.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::CommandParams;
use contract::StageContext;

/// Passed on from the machine. They say where things are: programs, the user's own packages, space for temporary files.
/// Like the program itself they are the machine's and in no key; a run's record has them.
const PASSED: [&str; 3] = ["PATH", "HOME", "TMPDIR"];

/// The same on every machine: these decide what programs write, such as the order of names and how a time reads.
const FIXED: [(&str, &str); 2] = [("LANG", "C.UTF-8"), ("TZ", "UTC")];

/// Where temporary files go if nobody says.
const TEMPORARY: &str = "/tmp";

/// All variables that the program sees. What was declared comes before what is passed on or fixed.
pub(super) fn variables(
    params: &CommandParams,
    context: &StageContext<'_>,
) -> BTreeMap<String, OsString> {
    let mut variables: BTreeMap<String, OsString> = FIXED
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    variables.insert("TMPDIR".to_owned(), TEMPORARY.into());
    let passed = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    variables.extend(
        PASSED
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), passed(name)?))),
    );
    let declared = |name: &String| Some((name.clone(), context.host.environment(name)?.into()));
    variables.extend(params.pass_env.iter().filter_map(declared));
    variables.extend(
        params
            .env
            .iter()
            .map(|(name, value)| (name.clone(), value.into())),
    );
    variables
}
