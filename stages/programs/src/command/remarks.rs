//! What is possible and yet not what was meant: a program or a file that stands beside the pipeline, is named in `run`, and is
//! not declared. The program runs in its own folder, where it is not; and if it is named by its whole path, what it
//! holds determines the outputs and is in no key.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use super::CommandParams;
use super::layout::{FILES, INPUTS, is_inside, plain};
use super::template::{Part, parts, placeholders};
use crate::running::run_line;
use contract::{LookUp, Remark};

/// The code of a warning about a file that is not declared.
const UNDECLARED: &str = "undeclared-file";

/// Below these a file belongs to the machine, as programs do.
const MACHINE: [&str; 9] = [
    "/bin", "/dev", "/lib", "/lib64", "/opt", "/proc", "/sbin", "/sys", "/usr",
];

/// What cuts the text of a shell, or of a value such as `--config=a.yaml,b.yaml`, into words.
const BETWEEN: &[char] = &[
    ' ', '\t', '\n', '\r', '"', '\'', '`', ';', '|', '&', '<', '>', '(', ')', '=', ',', ':', '[',
    ']', '{', '}', '$',
];

pub(super) fn remarks(params: &CommandParams, look_up: LookUp<'_>) -> Vec<Remark> {
    let mut found: Vec<Remark> = program(params, look_up).into_iter().collect();
    let mut named = BTreeSet::new();
    // The program itself was looked at.
    for (index, argument) in params.run.iter().enumerate().skip(1) {
        let parameter = format!("run.{index}");
        for word in words(argument) {
            if let Some(remark) = undeclared(params, &parameter, &word, look_up)
                && named.insert(word.text)
            {
                found.push(remark);
            }
        }
    }
    for (name, value) in &params.env {
        let word = Word {
            text: value.clone(),
            is_whole: true,
        };
        let remark = undeclared(params, &format!("env.{name}"), &word, look_up);
        found.extend(remark.map(|remark| remark.hint(hint_for_a_variable(params, value))));
    }
    found
}

/// A program that is named by a path from where the user is, which is not where it runs.
fn program(params: &CommandParams, look_up: LookUp<'_>) -> Option<Remark> {
    let name = params.run.first()?;
    let path = Path::new(name);
    let is_filled_in = placeholders(name).next().is_some();
    let fatal = |message: String, hint: String| Some(Remark::error("run.0", message).hint(hint));
    if !is_filled_in && name.starts_with(['~', '$']) && name.contains('/') {
        let message = format!("there is no program `{name}`: no shell replaces its beginning");
        return fatal(message, "write the path in full".to_owned());
    }
    if !is_filled_in && name.contains(char::is_whitespace) && path.is_relative() {
        let words: Vec<&str> = name.split_whitespace().collect();
        let shown = name.escape_debug();
        let message = format!("the program's name `{shown}` has blanks in it");
        let words = words.join(", ");
        let hint =
            format!("write the program and each argument as a separate item: `[{words}, …]`");
        return fatal(message, hint);
    }
    if !is_filled_in && name.contains('/') && path.is_relative() && !is_given(path) {
        let message = format!(
            "there is no program `{name}` where the stage runs, which is in its own folder"
        );
        let hint = match look_up(path) {
            Some(place) => hint_for_a_program(params, name, &place),
            None => "there is no such file beside the pipeline either: check its path".to_owned(),
        };
        return fatal(message, hint);
    }
    // A bare name is looked for on PATH only; a script beside the pipeline is not found there.
    let is_script = !is_filled_in && Path::new(name).extension().is_some() && !name.contains('/');
    if let Some(place) = look_up(path).filter(|place| is_script && place.is_file()) {
        let message = format!("`{name}` is looked for on PATH, not beside the pipeline");
        let hint = hint_for_a_program(params, name, &place);
        return Some(Remark::warning(UNDECLARED, "run.0", message).hint(hint));
    }
    not_executable(params, name, look_up)
}

/// A declared script that is to be the program and cannot be executed.
fn not_executable(params: &CommandParams, name: &str, look_up: LookUp<'_>) -> Option<Remark> {
    let key = placeholders(name).next()?.strip_prefix("file.")?;
    let path = params.files.get(key)?;
    let place = look_up(path)?;
    if name != format!("{{file.{key}}}") || !place.is_file() || is_executable(&place) {
        return None;
    }
    let message = format!("`{}` is not executable", path.display());
    let line = run_line(&place, key, false);
    let hint = format!("write `{line}`, or make it executable with `chmod +x`");
    Some(Remark::warning("not-executable", "run.0", message).hint(hint))
}

/// Whether a path leads to what the stage lays out.
fn is_given(path: &Path) -> bool {
    let path = plain(path);
    path.starts_with(INPUTS) || path.starts_with(FILES)
}

/// A part of an argument that may be a path.
struct Word {
    text: String,
    /// It is all of the argument, or all of the value of an option.
    is_whole: bool,
}

/// What may be a path in an argument. A word of a longer text must look like one.
fn words(argument: &str) -> Vec<Word> {
    let mut words = Vec::new();
    // What is filled in is not a path of the user's, nor is what follows it.
    if placeholders(argument).next().is_none() {
        let value = match argument.split_once('=') {
            Some((option, value)) if option.starts_with('-') => value,
            _ => argument,
        };
        words.push(Word {
            text: value.to_owned(),
            is_whole: true,
        });
    }
    let mut text = String::new();
    for part in parts(argument) {
        text.push_str(match part {
            Part::Text(text) => text,
            // No path holds this, so it marks the words that hold a placeholder.
            Part::Placeholder(_) => "\0",
        });
    }
    for word in text.split(BETWEEN) {
        if !word.contains('\0') && word.contains(['.', '/']) {
            words.push(Word {
                text: word.to_owned(),
                is_whole: false,
            });
        }
    }
    words
}

fn undeclared(
    params: &CommandParams,
    parameter: &str,
    word: &Word,
    look_up: LookUp<'_>,
) -> Option<Remark> {
    let text = word.text.as_str();
    let path = Path::new(text);
    let mut outputs = params.outputs.values();
    let is_output = outputs.any(|output| path.starts_with(&output.path));
    let is_machine = MACHINE.iter().any(|folder| path.starts_with(folder));
    let mut components = path.components();
    let names_something = components.any(|part| matches!(part, Component::Normal(_)));
    if text.is_empty()
        || text.starts_with('-')
        || !names_something
        || is_output
        || is_machine
        || is_given(path)
    {
        return None;
    }
    let place = look_up(path)?;
    // Many words are also names of folders; one with a slash in it is meant as a path. Folders elsewhere are places to write
    // to as often as not, and programs belong to the machine wherever they lie.
    let is_folder = place.is_dir() && text.contains('/') && word.is_whole && path.is_relative();
    let is_meant = is_folder || (place.is_file() && !(path.is_absolute() && is_program(&place)));
    if !is_meant {
        return None;
    }
    let what = if place.is_dir() { "folder" } else { "file" };
    let message = match declared_as(params, text) {
        Some(_) => format!(
            "the {what} `{text}` is named by its path, where the program does not find its copy"
        ),
        None if path.is_absolute() => {
            format!(
                "the {what} `{text}` is not declared: what it holds determines the outputs, and it is not in the key"
            )
        }
        None => format!(
            "the {what} `{text}` is not declared: the program does not find it in its folder"
        ),
    };
    let argument = parameter
        .strip_prefix("run.")
        .and_then(|index| params.run.get(index.parse::<usize>().ok()?));
    let hint = hint_for_an_argument(params, word, argument.map_or(text, String::as_str));
    Some(Remark::warning(UNDECLARED, parameter, message).hint(hint))
}

/// Whether a file looks like a program that was installed.
fn is_program(place: &Path) -> bool {
    place.extension().is_none() && is_executable(place)
}

fn is_executable(place: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let mode = place
        .metadata()
        .map(|metadata| metadata.permissions().mode());
    mode.is_ok_and(|mode| mode & 0o111 != 0)
}

/// How to name a file in an argument: the whole argument where it can be said, in quotes, since YAML takes braces for a map.
fn hint_for_an_argument(params: &CommandParams, word: &Word, argument: &str) -> String {
    let (key, declare) = declaration(params, &word.text);
    let placeholder = format!("{{file.{key}}}");
    if word.is_whole {
        let whole = quoted(&with_placeholder(argument, &word.text, &placeholder));
        return format!("{declare}write `{whole}`");
    }
    format!("{declare}write `{placeholder}` in its place")
}

/// The argument with a placeholder for the path at its end, or else for the first place of it.
fn with_placeholder(argument: &str, path: &str, placeholder: &str) -> String {
    match argument.strip_suffix(path) {
        Some(start) => format!("{start}{placeholder}"),
        None => argument.replacen(path, placeholder, 1),
    }
}

/// How to run a script that lies beside the pipeline.
fn hint_for_a_program(params: &CommandParams, text: &str, place: &Path) -> String {
    if place.is_dir() {
        return "it is a folder: name a file in it".to_owned();
    }
    let (key, declare) = declaration(params, text);
    let line = run_line(place, &key, is_executable(place));
    format!("{declare}write `{line}`")
}

/// How to name a file in a variable, where placeholders are not filled in: by the place of its copy.
fn hint_for_a_variable(params: &CommandParams, text: &str) -> String {
    let (key, declare) = declaration(params, text);
    let path = plain(Path::new(text));
    if is_inside(&path) {
        let copy = Path::new(FILES).join(path);
        let copy = copy.display();
        return format!("{declare}write `{copy}`, where the program finds its copy");
    }
    format!("{declare}give `\"{{file.{key}}}\"` to the program as an argument in `run`")
}

/// The name under which a file is declared, or could be, and how to declare it: the beginning of a sentence.
pub(super) fn declaration(params: &CommandParams, text: &str) -> (String, String) {
    if let Some(key) = declared_as(params, text) {
        return (key.to_owned(), format!("it is declared as `{key}`: "));
    }
    let path = plain(Path::new(text));
    let key = free_key(params, &path);
    let path = path.display().to_string();
    let needs_quotes =
        path.contains(|c: char| c.is_whitespace() || ",[]{}#&*!|>'\"%@`:?".contains(c));
    let path = if needs_quotes { quoted(&path) } else { path };
    let declare = match params.files.is_empty() {
        true => format!("add `files: {{{key}: {path}}}` under `with`, and "),
        false => format!("add `{key}: {path}` to `files` under `with`, and "),
    };
    (key, declare)
}

/// A text as YAML takes it whatever is in it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn declared_as<'a>(params: &'a CommandParams, text: &str) -> Option<&'a str> {
    let path = plain(Path::new(text));
    let mut files = params.files.iter();
    let (key, _) = files.find(|(_, declared)| plain(declared) == path)?;
    Some(key)
}

/// A name for a path that no other file has.
fn free_key(params: &CommandParams, path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let is_odd = |c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-';
    let mut base = stem.replace(is_odd, "_");
    if !base.contains(|c: char| c.is_ascii_alphanumeric()) {
        "file".clone_into(&mut base);
    }
    let mut key = base.clone();
    let mut number = 2;
    while params.files.contains_key(&key) {
        key = format!("{base}{number}");
        number += 1;
    }
    key
}
