//! What the documents say is true: every example plans, every command parses, every link leads somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use runner::data::Sources;
use runner::diagnostic::SourceMap;
use runner::graph::{Graph, build};
use runner::pipeline::{LoadOptions, load, load_text};

/// The documents that are written by hand.
const DOCUMENTS: [&str; 15] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/audit.md",
    "docs/glossary.md",
    "docs/pipelines.md",
    "docs/provenance.md",
    "docs/python.md",
    "docs/remote.md",
    "docs/results.md",
    "docs/store.md",
    "docs/sweeps.md",
    "docs/your-data.md",
    "data/README.md",
    "cache/README.md",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of a document.
fn document(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A fenced block of a document.
struct Block {
    /// `README.md:12`.
    place: String,
    language: String,
    text: String,
}

/// All fenced blocks of all documents.
fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    for name in DOCUMENTS {
        let mut open: Option<Block> = None;
        for (index, line) in document(name).lines().enumerate() {
            match (line.strip_prefix("```"), &mut open) {
                (Some(language), None) => {
                    let place = format!("{name}:{}", index + 1);
                    open = Some(Block {
                        place,
                        language: language.to_owned(),
                        text: String::new(),
                    });
                }
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (None, Some(block)) => block.text += &format!("{line}\n"),
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{name}: a block is not closed");
    }
    blocks
}

fn in_language(language: &str) -> Vec<Block> {
    blocks()
        .into_iter()
        .filter(|block| block.language == language)
        .collect()
}

/// The graph of a pipeline, which must have no problem at all.
fn graph_of(name: &str, text: &str) -> Graph {
    let mut sources = SourceMap::default();
    let (spec, mut problems) =
        load_text(Path::new(name), text, &LoadOptions::default(), &mut sources);
    let (graph, found) = spec
        .map(|spec| build(&spec, &stages::catalogue().kinds))
        .unwrap_or_default();
    problems.extend(found);
    assert!(
        problems.is_empty(),
        "{name}:\n{}",
        problems.render(&sources, false)
    );
    graph
}

/// The first line that is neither empty nor a comment.
fn first_line(text: &str) -> &str {
    text.lines()
        .find(|line| !line.is_empty() && !line.starts_with('#'))
        .unwrap_or_default()
}

#[test]
fn every_yaml_example_is_a_pipeline_a_fragment_or_a_list_of_data_sets() {
    let examples = in_language("yaml");
    for Block { place, text, .. } in &examples {
        let first = first_line(text);
        if first.starts_with("pipeline:") {
            assert!(!graph_of(place, text).is_empty(), "{place} has no stages");
        } else if first.starts_with("params:") || first.starts_with("stages:") {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("fragment.yaml"), text).unwrap();
            let path = folder.path().join("whole.yaml");
            fs::write(
                &path,
                "pipeline: whole\ninclude: [fragment.yaml]\nstages: {}\n",
            )
            .unwrap();
            let mut sources = SourceMap::default();
            let (spec, problems) = load(&path, &LoadOptions::default(), &mut sources);
            assert!(
                problems.is_empty(),
                "{place}:\n{}",
                problems.render(&sources, false)
            );
            assert!(!spec.unwrap().stages.is_empty(), "{place} has no stages");
        } else {
            let parsed =
                Sources::parse(text, place).unwrap_or_else(|error| panic!("{place}: {error}"));
            assert_ne!(parsed.iter().count(), 0, "{place} lists no data set");
        }
    }
    assert!(
        examples.len() >= 8,
        "only {} examples: is the search still right?",
        examples.len()
    );
}

#[test]
fn every_pipeline_that_ships_plans_without_a_warning() {
    let mut seen = 0;
    for folder in ["pipelines", "pipelines/templates"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path
                .extension()
                .is_some_and(|extension| extension == "yaml")
            {
                graph_of(
                    &path.display().to_string(),
                    &fs::read_to_string(&path).unwrap(),
                );
                seen += 1;
            }
        }
    }
    assert!(seen >= 3, "only {seen} pipelines");
}

#[test]
fn the_instances_of_the_sweep_are_as_many_as_the_text_says() {
    let sweep = in_language("yaml")
        .into_iter()
        .find(|block| block.text.contains("pipeline: compare"))
        .unwrap();
    let graph = graph_of(&sweep.place, &sweep.text);
    let counts: Vec<usize> = ["scaled", "windows", "model", "scores", "metrics", "table"]
        .map(|stage| graph.find(stage).len())
        .to_vec();
    assert_eq!(counts, [2, 2, 6, 6, 6, 1]);
    assert_eq!(
        graph.find("model[method=zscore,blocks=1,lr=1.0e-2]").len(),
        1
    );
    assert_eq!(graph.inputs(graph.find("table")[0]).len(), 6);
}

/// The prose of a document on one line, without its blocks.
fn prose(name: &str) -> String {
    let text = document(name);
    let parts = text.split("```").step_by(2);
    parts
        .collect::<String>()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

/// Commands of the program, with their places: lines of `sh` and `console` blocks, and what stands between backticks.
fn commands() -> BTreeSet<(String, String)> {
    let mut commands = BTreeSet::new();
    for Block {
        place,
        language,
        text,
    } in blocks()
    {
        if ["sh", "console"].contains(&language.as_str()) {
            commands.extend(
                text.lines()
                    .filter_map(command_in)
                    .map(|command| (place.clone(), command)),
            );
        }
    }
    for name in DOCUMENTS {
        let prose = prose(name);
        let spans = prose.split('`').skip(1).step_by(2);
        commands.extend(
            spans
                .filter_map(command_in)
                .map(|command| (name.to_owned(), command)),
        );
    }
    commands
}

/// What follows the program's name, without a comment at the end.
fn command_in(line: &str) -> Option<String> {
    let line = line.trim().trim_start_matches("$ ");
    let rest = line
        .strip_prefix("cargo run --release -- ")
        .or_else(|| line.strip_prefix("runner "))?;
    Some(rest.split(" #").next().unwrap_or(rest).trim().to_owned())
}

fn runner(arguments: &[String]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_runner"))
        .args(arguments)
        .output()
        .unwrap()
}

/// The words of a command; double quotes keep a word together.
fn words(command: &str) -> Vec<String> {
    let parts = command.split('"').enumerate();
    parts
        .flat_map(|(index, part)| match index % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        })
        .collect()
}

/// Whether the program understands a command: with `--help` behind it, it is parsed and does nothing.
fn is_understood(command: &str) -> Result<(), String> {
    let mut arguments = words(command);
    arguments.push("--help".to_owned());
    let output = runner(&arguments);
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[test]
fn every_command_is_understood() {
    let commands = commands();
    for (place, command) in &commands {
        is_understood(command).unwrap_or_else(|error| panic!("{place}: runner {command}\n{error}"));
    }
    assert!(
        commands.len() >= 20,
        "only {} commands: is the search still right?",
        commands.len()
    );
    for wrong in [
        "walk",
        "run --sett a=1",
        "runs --limit many",
        "completions tcsh",
        "cache gc --max-size 10",
    ] {
        assert!(
            is_understood(wrong).is_err(),
            "`runner {wrong}` should not be understood"
        );
    }
}

#[test]
fn every_pipeline_in_a_command_exists() {
    for (place, command) in commands() {
        for path in words(&command)
            .into_iter()
            .filter(|word| word.starts_with("pipelines/"))
        {
            // A lock lies beside its pipeline once somebody has written it.
            let file = path
                .strip_suffix(".lock")
                .map_or_else(|| path.clone(), |name| format!("{name}.yaml"));
            assert!(root().join(file).is_file(), "{place}: there is no {path}");
        }
    }
}

#[test]
fn the_table_of_commands_is_complete() {
    let help = String::from_utf8(runner(&["--help".to_owned()]).stdout).unwrap();
    let listed = help
        .split("Commands:\n")
        .nth(1)
        .and_then(|rest| rest.split("\n\n").next())
        .unwrap();
    let verbs: Vec<&str> = listed
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|verb| *verb != "help")
        .collect();
    assert!(
        verbs.contains(&"run") && verbs.contains(&"completions"),
        "{verbs:?}"
    );
    let readme = document("README.md");
    for verb in verbs {
        assert!(
            readme.contains(&format!("| `runner {verb}` |")),
            "the README's table lacks `runner {verb}`"
        );
    }
}

/// Targets of links and pictures that are files of the repository, with their anchors.
fn links(text: &str) -> Vec<(String, Option<String>)> {
    let targets = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target);
    let inner = targets.filter(|target| !target.contains("://"));
    inner
        .map(|target| match target.split_once('#') {
            Some((path, anchor)) => (path.to_owned(), Some(anchor.to_owned())),
            None => (target.to_owned(), None),
        })
        .collect()
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut seen = 0;
    for name in DOCUMENTS {
        let folder = root().join(name).parent().map(PathBuf::from).unwrap();
        for (path, anchored) in links(&document(name)) {
            seen += 1;
            let target = if path.is_empty() {
                root().join(name)
            } else {
                folder.join(&path)
            };
            assert!(target.exists(), "{name}: there is no {path}");
            if let Some(anchored) = anchored {
                let text = fs::read_to_string(&target).unwrap();
                let mut headings = text
                    .lines()
                    .filter(|line| line.starts_with('#'))
                    .map(|line| anchor(line.trim_start_matches('#')));
                assert!(
                    headings.any(|heading| heading == anchored),
                    "{name}: no heading for #{anchored}"
                );
            }
        }
    }
    assert!(seen >= 20, "only {seen} links: is the search still right?");
}

#[test]
fn every_example_of_an_extension_is_listed() {
    let folder = root().join("examples/extensions");
    let text = fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    let list = fs::read_to_string(folder.join("extensions.toml")).unwrap();
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.ends_with(".rs") {
            continue;
        }
        seen += 1;
        let link = format!("[{name}](examples/extensions/{name})");
        assert!(text.contains(&link), "CONTRIBUTING.md has no `{link}`");
        let file = format!("file = \"{name}\"");
        assert!(list.contains(&file), "extensions.toml has no `{file}`");
    }
    assert_eq!(
        seen, 8,
        "metric, threshold, model, optimiser, data set, stage, verb, backend"
    );
}
