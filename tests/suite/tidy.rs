//! Rules of the house that no compiler checks: what may import what, where heavy dependencies may be used, names of
//! files, and generated files that are up to date. `UPDATE_GENERATED=1` writes the generated files anew.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::environment::TestEnvironment;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Folders that hold no sources of the project.
const FOREIGN: [&str; 5] = [".git", "target", "cache", "data", "node_modules"];

/// All source files, relative to the root.
fn files() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let is_foreign = folder == root() && FOREIGN.contains(&name.as_str());
            match entry.file_type().unwrap() {
                kind if kind.is_dir() && !is_foreign => walk(&entry.path(), found),
                kind if kind.is_file() && !is_foreign && !name.ends_with(".snap.new") => {
                    found.push(entry.path())
                }
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    walk(root(), &mut found);
    found.push(root().join("data/sources.yaml"));
    found.sort();
    found
        .into_iter()
        .map(|path| path.strip_prefix(root()).unwrap().to_owned())
        .collect()
}

/// Rust files with their text.
fn rust_files() -> Vec<(String, String)> {
    let rust = files()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "rs"));
    let all: Vec<(String, String)> = rust
        .map(|path| {
            (
                path.display().to_string(),
                fs::read_to_string(root().join(&path)).unwrap(),
            )
        })
        .collect();
    assert!(
        all.len() > 200,
        "only {} files: the walk misses some",
        all.len()
    );
    all
}

/// Lines that are code, with their numbers.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line));
    lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// A file up to its tests, which may use what they need.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or(text)
}

/// Fails with all problems, a line each.
#[track_caller]
fn none(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for() {
    let bad = rust_files()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//! "));
    none(
        bad.map(|(path, _)| format!("{path} does not begin with `//! `"))
            .collect(),
    );
}

/// The modules of this crate that a line names: `crate::a::b`, `crate::{a, b::c}`.
fn modules_named(line: &str) -> Vec<String> {
    let identifier = |text: &str| -> String {
        text.chars()
            .take_while(|character| character.is_ascii_alphanumeric() || *character == '_')
            .collect()
    };
    let mut named = Vec::new();
    for (position, marker) in line.match_indices("crate::") {
        let is_ours = !line[..position]
            .ends_with(|character: char| character.is_alphanumeric() || character == '_');
        let rest = &line[position + marker.len()..];
        match rest.strip_prefix('{') {
            _ if !is_ours => {}
            Some(list) => named.extend(list.split(',').map(|part| identifier(part.trim()))),
            None => named.push(identifier(rest)),
        }
    }
    named
}

#[test]
fn named_modules_are_found() {
    assert_eq!(modules_named("use crate::cache::{Key, Store};"), ["cache"]);
    assert_eq!(
        modules_named("let a = crate::ui::b(crate::pipeline::c);"),
        ["ui", "pipeline"]
    );
    assert_eq!(
        modules_named("use crate::{cache, ui::Paint};"),
        ["cache", "ui"]
    );
    assert_eq!(
        modules_named("use other_crate::cache;"),
        Vec::<String>::new()
    );
}

/// The module that a file below `folder` belongs to.
fn module_of(path: &str, folder: &str) -> Option<String> {
    let rest = path.strip_prefix(folder)?;
    let first = rest.split('/').next()?;
    Some(first.trim_end_matches(".rs").to_owned())
}

/// Problems of imports against the ranks of modules. Those of equal rank may not see each other if `strict` says so.
fn wrong_imports(
    folder: &str,
    rank: impl Fn(&str) -> Option<usize>,
    may_share_a_rank: impl Fn(usize) -> bool,
) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, text) in rust_files() {
        let Some(module) = module_of(&path, folder) else {
            continue;
        };
        let Some(own) = rank(&module) else { continue };
        for (number, line) in code(without_tests(&text)) {
            for other in modules_named(line)
                .into_iter()
                .filter(|other| *other != module)
            {
                let Some(theirs) = rank(&other) else { continue };
                if theirs > own || (theirs == own && !may_share_a_rank(own)) {
                    problems.push(format!("{path}:{number}: `{module}` may not use `{other}`"));
                }
            }
        }
    }
    problems
}

/// The modules of the program, each of which may use those before it.
const PROGRAM: [&str; 13] = [
    "diagnostic",
    "pipeline",
    "graph",
    "cache",
    "data",
    "engine",
    "audit",
    "report",
    "project",
    "sweep",
    "page",
    "ui",
    "cli",
];

#[test]
fn the_program_imports_leftwards() {
    let rank = |module: &str| PROGRAM.iter().position(|name| *name == module);
    none(wrong_imports("src/", rank, |_| false));
    let declared: BTreeSet<String> = fs::read_dir(root().join("src"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.contains('.'))
        .collect();
    assert_eq!(
        declared,
        PROGRAM.map(str::to_owned).into(),
        "a new module needs its place in the order"
    );
}

/// Stage files meet in artifacts, and never import each other; in `learning`, models know nothing of training.
#[test]
fn stages_never_import_each_other() {
    const STAGES: usize = 3;
    let rank = |module: &str| match module {
        "lib" | "testing" => None,
        "readers" | "metrics" | "thresholds" | "schedules" | "exchange" | "running" => Some(0),
        "models" => Some(1),
        "training" => Some(2),
        _ => Some(STAGES),
    };
    for name in ["data", "drawing", "judging", "learning", "programs"] {
        let folder = format!("stages/{name}/src/");
        none(wrong_imports(&folder, rank, |rank| rank != STAGES));
    }
}

/// Crates that the library depends on, and the only places in it that may name them. What a whole crate of the workspace
/// may use is said in its manifest.
const DOORS: [(&[&str], &[&str]); 8] = [
    (&["petgraph"], &["src/graph/"]),
    (
        &["object_store", "reqwest", "rustls", "futures_util"],
        &["src/cache/remote/"],
    ),
    (&["tokio"], &["src/cache/remote/", "src/page/server/"]),
    (&["axum"], &["src/page/server/"]),
    (&["maud"], &["src/page/html/"]),
    (&["toml"], &["src/project/settings.rs"]),
    (
        &["saphyr_parser", "serde_yaml"],
        &["src/pipeline/", "src/data/"],
    ),
    (&["blake3"], &["src/cache/", "src/data/"]),
];

#[test]
fn heavy_crates_have_one_door() {
    let mut problems = Vec::new();
    for (path, text) in rust_files() {
        if !path.starts_with("src/") {
            continue;
        }
        for (crates, places) in DOORS {
            if places.iter().any(|place| path.starts_with(place)) {
                continue;
            }
            for (number, line) in code(&text) {
                let names = |name: &&&str| uses_crate(line, name);
                problems.extend(crates.iter().filter(names).map(|name| {
                    format!(
                        "{path}:{number}: `{name}` is used outside {}",
                        places.join(" and ")
                    )
                }));
            }
        }
    }
    none(problems);
}

/// Whether a line names a crate: `arrow::…` but not `crate::readers::arrow::…`.
fn uses_crate(line: &str, name: &str) -> bool {
    let path = format!("{name}::");
    line.match_indices(&path).any(|(position, _)| {
        let before = line[..position].chars().next_back();
        !before.is_some_and(|before| before.is_alphanumeric() || "_:\"'".contains(before))
    })
}

#[test]
fn used_crates_are_found() {
    assert!(
        uses_crate("use arrow::array::Array;", "arrow")
            && uses_crate("let a = arrow::array::new();", "arrow")
    );
    assert!(
        !uses_crate("use crate::readers::arrow::read;", "arrow")
            && !uses_crate("use narrow::x;", "arrow")
    );
}

/// Ways to the screen that pass its one filter by.
const PAST_THE_FILTER: [&str; 7] = [
    "println!(",
    " print!(",
    "eprintln!(",
    " eprint!(",
    "stdout().lock()",
    "stderr().lock()",
    "write!(std::io::std",
];

#[test]
fn output_has_one_door() {
    let mut problems = Vec::new();
    for (path, text) in rust_files() {
        if !path.starts_with("src/") || path == "src/ui/screen.rs" {
            continue;
        }
        let tests = text.find("#[cfg(test)]").unwrap_or(text.len());
        for (number, line) in code(&text[..tests]) {
            let found = PAST_THE_FILTER
                .iter()
                .find(|way| format!(" {}", line.trim_start()).contains(**way));
            problems.extend(
                found.map(|way| format!("{path}:{number}: `{way}…` passes src/ui/screen.rs by")),
            );
        }
    }
    none(problems);
}

#[test]
fn a_stage_kind_and_its_file_have_one_name() {
    let mut named = BTreeSet::new();
    for (path, text) in rust_files() {
        // stages/CRATE/src/STEM.rs
        let parts: Vec<&str> = path.split('/').collect();
        let ["stages", _, "src", file] = parts[..] else {
            continue;
        };
        // Operations and entries of tables have names, too.
        if !text.contains("\nimpl Stage for ") {
            continue;
        }
        let stem = file.trim_end_matches(".rs");
        let declared = without_tests(&text)
            .lines()
            .find_map(|line| line.trim().strip_prefix("const NAME: &'static str = \""));
        if let Some(name) = declared.and_then(|rest| rest.split('"').next()) {
            assert_eq!(stem, name.replace('-', "_"), "{path}");
            named.insert(name.to_owned());
        }
    }
    let kinds: BTreeSet<String> = stages::catalogue()
        .kinds
        .iter()
        .map(|kind| kind.name.to_owned())
        .collect();
    assert_eq!(named, kinds, "files and the table of kinds");
}

/// A generated file holds what the program prints.
#[track_caller]
fn generated(path: &str, arguments: &[&str]) {
    let printed = TestEnvironment::new().succeed(arguments).stdout;
    let path = root().join(path);
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &printed).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    let first = found
        .lines()
        .zip(printed.lines())
        .position(|(old, new)| old != new);
    let place = first.map_or_else(
        || "at its end".to_owned(),
        |index| format!("in line {}", index + 1),
    );
    assert!(
        found == printed,
        "{} is out of date {place}: `UPDATE_GENERATED=1 cargo test --release --workspace --test suite tidy` writes it anew",
        path.display()
    );
}

#[test]
fn the_catalogue_of_stages_is_up_to_date() {
    generated("docs/stages.md", &["stages", "--markdown"]);
}

#[test]
fn the_schema_for_editors_is_up_to_date() {
    generated("pipelines/schema.json", &["schema"]);
    generated("pipelines/sweeps/schema.json", &["schema", "sweep"]);
}

/// Beginnings of paths that exist on somebody's machine only; written so that this file holds none of them.
const PRIVATE: [&str; 4] = [
    concat!("/", "home/"),
    concat!("/", "root/"),
    concat!("/", "work/"),
    concat!("/", "Users/"),
];

#[test]
fn no_file_names_a_path_of_one_machine() {
    let mut problems = Vec::new();
    for path in files() {
        let Ok(text) = fs::read_to_string(root().join(&path)) else {
            continue;
        };
        for (index, line) in text.lines().enumerate() {
            // An address may have such a folder; a path begins after a space, a quote or the like.
            let begins = |(position, _): (usize, &str)| {
                !line[..position]
                    .ends_with(|before: char| before.is_alphanumeric() || "._-]}".contains(before))
            };
            problems.extend(
                PRIVATE
                    .iter()
                    .filter(|private| line.match_indices(**private).any(begins))
                    .map(|private| format!("{}:{}: {private}", path.display(), index + 1)),
            );
        }
    }
    none(problems);
}
