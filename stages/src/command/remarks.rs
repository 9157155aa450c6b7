//! What is possible and yet not what was meant: a program or a file that stands beside the pipeline, is named in `run`, and is
//! not declared. The program runs in a folder of its own, where it is not; and if it is named by its whole path, what it
//! holds determines the outputs and is in no key.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::CommandParams;
use super::layout::INPUTS;
use super::template::{Part, parts};
use crate::contract::{LookUp, Remark};

/// Below these a file belongs to the machine, as programs do.
const MACHINE: [&str; 9] = ["/bin", "/dev", "/lib", "/lib64", "/opt", "/proc", "/sbin", "/sys", "/usr"];

/// What cuts the text of a shell, or of a value such as `--config=a.yaml,b.yaml`, into words.
const BETWEEN: &[char] =
    &[' ', '\t', '\n', '\r', '"', '\'', '`', ';', '|', '&', '<', '>', '(', ')', '=', ',', ':', '[', ']', '{', '}', '$'];

pub(super) fn remarks(params: &CommandParams, look_up: LookUp<'_>) -> Vec<Remark> {
    let mut found: Vec<Remark> = program(params, look_up).into_iter().collect();
    let mut named = BTreeSet::new();
    for (index, argument) in params.run.iter().enumerate().skip(usize::from(!found.is_empty())) {
        let parameter = format!("run.{index}");
        for word in words(argument, index == 0) {
            if let Some(remark) = undeclared(params, &parameter, &word, look_up)
                && named.insert(word.text)
            {
                found.push(remark);
            }
        }
    }
    for (name, value) in &params.env {
        let word = Word { text: value.clone(), is_whole: true };
        found.extend(undeclared(params, &format!("env.{name}"), &word, look_up));
    }
    found
}

/// A program that is named by a path from where the user is, which is not where it runs.
fn program(params: &CommandParams, look_up: LookUp<'_>) -> Option<Remark> {
    let name = params.run.first()?;
    let path = Path::new(name);
    let is_filled_in = parts(name).iter().any(|part| matches!(part, Part::Placeholder(_)));
    let parameter = "run.0".to_owned();
    if !is_filled_in && name.contains('/') && path.is_relative() && !is_given(path) {
        let message = format!("the program `{name}` is not there: the stage runs in a folder of its own");
        return Some(Remark { parameter, message, hint: hint(params, name), fatal: true });
    }
    if !is_filled_in && name.contains(char::is_whitespace) && path.is_relative() {
        let words: Vec<&str> = name.split_whitespace().collect();
        let message = format!("the program's name `{}` has blanks in it", name.escape_debug());
        let hint = format!("the program and each argument are items of their own: `[{}, …]`", words.join(", "));
        return Some(Remark { parameter, message, hint, fatal: false });
    }
    // A bare name is looked for on PATH only; a script beside the pipeline is not found there.
    let is_script = !is_filled_in && Path::new(name).extension().is_some() && !name.contains('/');
    if is_script && look_up(path).is_some_and(|found| found.is_file()) {
        let message = format!("`{name}` is looked for on PATH, not beside the pipeline");
        return Some(Remark { parameter, message, hint: hint(params, name), fatal: false });
    }
    None
}

/// Whether a path leads to what the stage lays out.
fn is_given(path: &Path) -> bool {
    let path = plain(path);
    path.starts_with(INPUTS) || path.starts_with("files")
}

/// A part of an argument that may be a path.
struct Word {
    text: String,
    /// It is all of the argument, or all of the value of an option.
    is_whole: bool,
}

/// What may be a path in an argument. A word of a longer text must look like one.
fn words(argument: &str, is_program: bool) -> Vec<Word> {
    let mut words = Vec::new();
    // What is filled in is no path of the user, nor is what goes on from it.
    if parts(argument).iter().all(|part| matches!(part, Part::Text(_))) {
        let value = match argument.split_once('=') {
            Some((option, value)) if option.starts_with('-') => value,
            _ => argument,
        };
        words.push(Word { text: value.to_owned(), is_whole: !is_program });
    }
    let text: String = parts(argument)
        .into_iter()
        .map(|part| match part {
            Part::Text(text) => text,
            Part::Placeholder(_) => "\0",
        })
        .collect();
    let looks_like_a_path = |word: &&str| !word.contains('\0') && word.contains(['.', '/']);
    let pieces =
        text.split(BETWEEN).filter(looks_like_a_path).map(|word| Word { text: word.to_owned(), is_whole: false });
    words.extend(pieces);
    words
}

fn undeclared(params: &CommandParams, parameter: &str, word: &Word, look_up: LookUp<'_>) -> Option<Remark> {
    let text = word.text.as_str();
    let path = Path::new(text);
    let is_output = params.outputs.values().any(|output| path.starts_with(&output.path));
    let is_machine = MACHINE.iter().any(|folder| path.starts_with(folder));
    let names_something = path.components().any(|part| matches!(part, Component::Normal(_)));
    if text.is_empty() || text.starts_with('-') || !names_something || is_output || is_machine || is_given(path) {
        return None;
    }
    let place = look_up(path)?;
    // Many words are also names of folders; one with a slash in it is meant as a path.
    let is_meant = place.is_file() || (place.is_dir() && text.contains('/') && word.is_whole);
    if !is_meant {
        return None;
    }
    let what = if place.is_dir() { "folder" } else { "file" };
    let message = match declared_as(params, text) {
        Some(_) => format!("the {what} `{text}` is named by its path, where the program does not find its copy"),
        None if path.is_absolute() => {
            format!(
                "the {what} `{text}` is not declared: what it holds determines the outputs, and it is not in the key"
            )
        }
        None => format!("the {what} `{text}` is not declared: the program does not find it in its folder"),
    };
    Some(Remark { parameter: parameter.to_owned(), message, hint: hint(params, text), fatal: false })
}

/// How to name a file: by the name under which it is declared, and if it is not, with the line that declares it.
fn hint(params: &CommandParams, text: &str) -> String {
    let path = plain(Path::new(text));
    if let Some(key) = declared_as(params, text) {
        return format!("it is declared as `{key}`: write `{{file.{key}}}`");
    }
    let key = free_key(params, &path);
    let path = path.display().to_string();
    let needs_quotes = path.chars().any(|c| c.is_whitespace() || ",[]{}#&*!|>'\"%@`:?".contains(c));
    let path = if needs_quotes { format!("{path:?}") } else { path };
    if params.files.is_empty() {
        format!("add `files: {{{key}: {path}}}` and write `{{file.{key}}}`")
    } else {
        format!("add `{key}: {path}` to `files` and write `{{file.{key}}}`")
    }
}

fn declared_as<'a>(params: &'a CommandParams, text: &str) -> Option<&'a str> {
    let path = plain(Path::new(text));
    params.files.iter().find(|(_, declared)| plain(declared) == path).map(|(key, _)| key.as_str())
}

fn plain(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != Component::CurDir).collect()
}

/// A name for a path that no other file has.
fn free_key(params: &CommandParams, path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let base: String = stem.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    let base = if base.chars().any(|c| c.is_ascii_alphanumeric()) { base } else { "file".to_owned() };
    let numbered = (2..).map(|number| format!("{base}{number}"));
    std::iter::once(base.clone()).chain(numbered).find(|key| !params.files.contains_key(key)).unwrap_or(base)
}
