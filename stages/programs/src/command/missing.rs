//! What a program that failed did not find, where that is a file beside the pipeline which is not declared.

use std::path::{Path, PathBuf};

use super::CommandParams;
use super::layout::plain;
use super::remarks::declaration;
use contract::LookUp;

/// What programs say when a file is not where they look for it.
const MISSING: [&str; 3] = ["no such file", "cannot open", "can't open"];

/// What Python says when it does not find a module; the module's name follows.
const NO_MODULE: &str = "No module named";

/// Lines that are looked at, from the end: the last words say why.
const LINES: usize = 50;

/// How to declare the file whose absence a program complained about in its last words.
pub(super) fn advice(params: &CommandParams, said: &str, look_up: LookUp<'_>) -> Option<String> {
    let lines = said.lines().rev().take(LINES);
    let mut paths = lines.flat_map(missing);
    let path = paths.find(|path| is_beside(path, look_up))?;
    let text = path.display().to_string();
    let (key, declare) = declaration(params, &text);
    Some(format!(
        "`{text}` lies beside the pipeline, and not in the program's folder: {declare}name it `{{file.{key}}}`"
    ))
}

/// The paths that a line says are missing.
fn missing(line: &str) -> Vec<PathBuf> {
    if let Some((_, module)) = line.split_once(NO_MODULE) {
        let name = module.trim_matches([' ', '\'', '"', ';']);
        let mut parts = name.split(['\'', '"', ' ', ';', '.']);
        let first = parts.next().unwrap_or_default();
        return match first {
            "" => Vec::new(),
            first => vec![PathBuf::from(format!("{first}.py")), PathBuf::from(first)],
        };
    }
    let lower = line.to_lowercase();
    if !MISSING.iter().any(|phrase| lower.contains(phrase)) {
        return Vec::new();
    }
    let is_between = |c: char| c.is_whitespace() || "'\"`:;,()[]{}<>=‘’“”".contains(c);
    let mut paths = Vec::new();
    for word in line.split(is_between).filter(|word| !word.is_empty()) {
        let path = plain(Path::new(word));
        let name = path.file_name().map(PathBuf::from);
        let is_absolute = path.is_absolute();
        paths.push(path);
        if is_absolute {
            // A path of the program's own folder, which it saw whole.
            paths.extend(name);
        }
    }
    paths
}

/// Whether a relative path leads to a file beside the pipeline, or to a folder of modules.
fn is_beside(path: &Path, look_up: LookUp<'_>) -> bool {
    let is_relative = path.is_relative() && !path.as_os_str().is_empty() && !path.starts_with("..");
    is_relative && look_up(path).is_some_and(|place| place.is_file() || has_modules(&place))
}

fn has_modules(folder: &Path) -> bool {
    let entries = folder.read_dir();
    entries.is_ok_and(|mut entries| entries.any(is_python))
}

fn is_python(entry: std::io::Result<std::fs::DirEntry>) -> bool {
    entry.is_ok_and(|entry| Path::new(&entry.file_name()).extension() == Some("py".as_ref()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_file_that_lies_beside_the_pipeline_is_advised() {
        let beside = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(beside.path().join("conf")).unwrap();
        std::fs::create_dir_all(beside.path().join("lib")).unwrap();
        for name in [
            "helper.py",
            "conf/a.yaml",
            "notes.txt",
            "lib/x.py",
            "declared.csv",
        ] {
            std::fs::write(beside.path().join(name), "").unwrap();
        }
        let look_up = |path: &Path| Some(beside.path().join(path)).filter(|place| place.exists());
        let params: CommandParams = serde_json::from_value(json!({
            "run": ["x"], "files": {"table": "declared.csv"}, "outputs": {"o": {"path": "o"}},
        }))
        .unwrap();
        let advice = |said: &str| advice(&params, said, &look_up);
        for (said, line) in [
            (
                "ModuleNotFoundError: No module named 'helper'",
                "add `helper: helper.py` to `files` under `with`",
            ),
            (
                "ModuleNotFoundError: No module named 'lib.x'; 'lib' is not a package",
                "add `lib: lib` to `files`",
            ),
            (
                "FileNotFoundError: [Errno 2] No such file or directory: 'conf/a.yaml'",
                "add `a: conf/a.yaml` to `files`",
            ),
            (
                "cat: notes.txt: No such file or directory",
                "add `notes: notes.txt` to `files`",
            ),
            (
                "python3: can't open file '/tmp/s/helper.py': [Errno 2] No such file or directory",
                "`helper: helper.py`",
            ),
            (
                "cat: ./declared.csv: No such file or directory\n",
                "it is declared as `table`: name it `{file.table}`",
            ),
        ] {
            let found = advice(said).unwrap_or_default();
            assert!(found.contains(line), "{said}: {found}");
        }
        for said in [
            "cat: elsewhere.txt: No such file or directory",
            "ModuleNotFoundError: No module named 'torch'",
            "sh: 1: helper.py: not found",
            "ValueError: channel notes.txt not found",
            "notes.txt is damaged",
            "cat: /etc/none: No such file or directory",
        ] {
            assert_eq!(advice(said), None, "{said}");
        }
    }
}
