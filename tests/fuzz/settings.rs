//! What is said around a pipeline: `runner.toml`, `--set`, `--profile`, variables. An input is a text of lines:
//! `set NAME=VALUE`, `profile NAME`, `env NAME=VALUE`; what follows the line `toml` is the file.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use runner::cache::Address;
use runner::diagnostic::SourceMap;
use runner::graph::build;
use runner::pipeline::{LoadOptions, load_text};
use runner::project::check_settings;

use crate::frame::fuzz;
use crate::mutate;
use crate::pipelines::placed;

const WORDS: &[&str] = &[
    "set ",
    "profile ",
    "env ",
    "toml\n",
    "[remote]",
    "url",
    "mode",
    "retries",
    "timeout",
    "parallel",
    "\"",
    "'",
    "=",
    ".",
    "\n",
    "s3://",
    "gs://",
    "az://",
    "https://",
    "file:///",
    "user:pass@",
    "?",
    "#",
    "%00",
    "read-write",
    "off",
    "15 s",
    "1e30 d",
    "seed",
    "strict",
    "params.",
    "stages.",
    "model",
    "model.with.optimizer.lr",
    "a.b.c.d.e.f",
    "retries",
    "timeout",
    "{",
    "}",
    "[",
    "]",
    "${epochs}",
    "&x",
    "*x",
    "|",
    "RUNNER_STORE",
    "RUNNER_REMOTE",
    "RUNNER_REMOTE_MODE",
    "RUNNER_LOG",
    "RUNNER_DATA_PATH",
    "NO_COLOR",
    "\u{1b}[2J",
    "\u{202e}",
];

const EXAMPLES: [&str; 4] = [
    "set seed=3\nset model.with.epochs=2\ntoml\n[remote]\nurl = \"s3://bucket/prefix\"\nmode = \"read\"\nretries = 3\n",
    "set windows.with.length=16\nprofile smoke\nenv RUNNER_REMOTE=https://host.org/x\ntoml\n",
    "env RUNNER_STORE=cache\nenv RUNNER_REMOTE_MODE=off\nenv RUNNER_LOG=debug\ntoml\n[remote]\ntimeout = \"15 s\"\nparallel = 8\n",
    "set raw.with.kinds=[spike, shift]\nset model.with.optimizer={kind: adam, lr: 1e-3}\nenv RUNNER_REMOTE=file:///x\n",
];

/// One input in so many is also given to the program itself, which takes longer.
const PROCESSES: u64 = 40;

#[test]
fn settings() {
    let examples = EXAMPLES
        .iter()
        .map(|text| text.as_bytes().to_vec())
        .collect();
    fuzz("settings", mutate::mutated(examples, WORDS), judge);
}

static CATALOGUE: LazyLock<contract::Catalogue> = LazyLock::new(stages::catalogue);

const PIPELINE: &str = include_str!("../../pipelines/quickstart.yaml");

/// An input in its parts.
#[derive(Default)]
struct Said<'a> {
    set: Vec<(String, String)>,
    profile: Option<String>,
    env: Vec<(&'a str, &'a str)>,
    toml: &'a str,
}

fn read(text: &str) -> Said<'_> {
    let (lines, toml) = text.split_once("toml\n").unwrap_or((text, ""));
    let mut said = Said {
        toml,
        ..Said::default()
    };
    for line in lines.lines() {
        let pair = |rest: &'static str| {
            line.strip_prefix(rest)
                .and_then(|rest| rest.split_once('='))
        };
        said.set
            .extend(pair("set ").map(|(name, value)| (name.to_owned(), value.to_owned())));
        said.env.extend(pair("env "));
        said.profile = line
            .strip_prefix("profile ")
            .map(str::to_owned)
            .or(said.profile);
    }
    said
}

fn judge(input: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(input).into_owned();
    let said = read(&text);
    if let Err(error) = check_settings(said.toml, "runner.toml") {
        let told = error.to_string();
        if !told.starts_with("runner.toml") {
            return Err(format!("no place: {told}"));
        }
    }
    for (_, value) in &said.env {
        let _ = Address::parse(value);
    }
    let mut sources = SourceMap::default();
    let options = LoadOptions {
        profile: said.profile.clone(),
        overrides: said.set.clone(),
        given_by: None,
    };
    let (spec, mut diagnostics) = load_text(
        Path::new("quickstart.yaml"),
        PIPELINE,
        &options,
        &mut sources,
    );
    if let Some(spec) = spec {
        diagnostics.extend(build(&spec, &CATALOGUE.kinds).1);
    }
    placed(&diagnostics, &sources)?;
    let sum = input.iter().fold(0_u64, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add((*byte).into())
    });
    if sum.is_multiple_of(PROCESSES) {
        by_the_program(&said)
    } else {
        Ok(())
    }
}

/// The program with these settings: it plans, or says what is wrong, and ends with a code that it promises.
fn by_the_program(said: &Said<'_>) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).map_err(|error| error.to_string())
    };
    write("runner.toml", said.toml)?;
    write("p.yaml", "pipeline: p\nstages: {raw: {uses: generate}}\n")?;
    let is_sound = |text: &str| !text.contains('\0');
    let mut command = Command::new(env!("CARGO_BIN_EXE_runner"));
    command
        .current_dir(folder.path())
        .args(["plan", "p.yaml"])
        .env_remove("RUNNER_STORE")
        .env_remove("RUNNER_REMOTE");
    for (name, value) in said
        .set
        .iter()
        .filter(|(name, value)| is_sound(name) && is_sound(value))
    {
        command.arg("--set").arg(format!("{name}={value}"));
    }
    // A remote would be asked; what is no address, or is none that leads out, may be tried.
    let leads_out = |value: &str| value.contains("://") && !value.starts_with("file:///");
    let ours = |name: &str| name.starts_with("RUNNER_") && !name.contains('=') && is_sound(name);
    for (name, value) in said
        .env
        .iter()
        .filter(|(name, value)| ours(name) && is_sound(value) && !leads_out(value))
    {
        command.env(name, value);
    }
    command.env("HOME", folder.path());
    if said.toml.contains("://") {
        command.env("RUNNER_REMOTE", "off");
    }
    let output = command.output().map_err(|error| error.to_string())?;
    let told = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0..=2) if !told.contains("panicked") => Ok(()),
        code => Err(format!("the program ended with {code:?}: {told}")),
    }
}
