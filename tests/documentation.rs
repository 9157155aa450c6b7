//! What the documents say is true: every example plans, every command parses, every link leads somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use contract::artifact::{
    Artifact, ArtifactError, ArtifactKind, Digest, Forecasts, Model, Origin, Parts, Scores,
    Segment, Series, Source, Split, TensorData,
};
use runner::data::Sources;
use runner::diagnostic::SourceMap;
use runner::graph::{Graph, build};
use runner::pipeline::{LoadOptions, load, load_text};

/// The documents that are written by hand.
const DOCUMENTS: [&str; 18] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/artifacts.md",
    "docs/audit.md",
    "docs/glossary.md",
    "docs/pipelines.md",
    "docs/programs.md",
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

/// What stands before the part of a page that is generated.
const GENERATED: &str = "<!-- written by the test of this page -->\n";

#[test]
fn the_tables_of_artifacts_are_up_to_date() {
    let name = "docs/artifacts.md";
    let text = document(name);
    let (by_hand, found) = text.split_once(GENERATED).expect("the mark of the tables");
    let tables = contract::artifact::layouts_markdown();
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::write(root().join(name), format!("{by_hand}{GENERATED}{tables}")).unwrap();
        return;
    }
    assert!(
        found == tables,
        "{name} is out of date: `UPDATE_GENERATED=1 cargo test --release --test documentation` writes it anew"
    );
}

/// The interpreter that `scripts/install-python-readers.sh` installs with its libraries.
fn python() -> Option<PathBuf> {
    let script = fs::read_to_string(root().join("scripts/install-python-readers.sh")).unwrap();
    let mut lines = script.lines();
    let version = lines
        .find_map(|line| line.strip_prefix("version="))
        .unwrap();
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let usual = cache.map(|cache| cache.join(format!("runner-tests/python-readers-{version}")));
    let named = std::env::var_os("RUNNER_PYTHON_READERS").map(PathBuf::from);
    let mut places = named.into_iter().chain(usual);
    let found = places.find_map(|place| {
        let program = place.join("bin/python");
        program.is_file().then_some(program)
    });
    if found.is_none() {
        let message =
            "there are no Python libraries: scripts/install-python-readers.sh installs them";
        let is_required = std::env::var_os("RUNNER_REQUIRE_SERVERS").is_some();
        assert!(!is_required, "{message}");
        eprintln!("SKIPPED: {message}");
    }
    found
}

/// Two machines, of which only the test rows are labelled, with all that is drawn from them.
fn artifacts_to_read() -> Vec<(&'static str, Artifact)> {
    let segments: Vec<Segment> = [
        (Split::Train, "pump", 0..30),
        (Split::Test, "pump", 30..50),
        (Split::Train, "fan", 50..60),
        (Split::Test, "fan", 60..80),
    ]
    .map(|(split, entity, rows)| Segment::new(split, entity, rows).labelled(split == Split::Test))
    .to_vec();
    let series = Series {
        channels: vec!["load".into(), "heat".into()],
        values: (0..160).map(|value| value as f32).collect(),
        labels: (0..80).map(|row| u8::from(row == 40 || row > 75)).collect(),
        times: (0..80)
            .map(|row| 1_600_000_000_000 + 60_000 * row)
            .collect(),
        segments: segments.clone(),
        ..Series::default()
    };
    let scores = Scores {
        scores: (0..80).map(|row| row as f32).collect(),
        labels: series.labels.clone(),
        times: series.times.clone(),
        segments,
        channels: Vec::new(),
        contributions: Vec::new(),
    };
    let origin = |row| Origin {
        split: Split::Test,
        entity: "pump".into(),
        row,
    };
    let forecasts = Forecasts {
        channels: vec!["load".into()],
        horizon: 3,
        origins: vec![origin(30), origin(31)],
        predicted: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        actual: vec![0.0; 6],
        ..Forecasts::default()
    };
    let model = Model {
        config: serde_json::json!({"kind": "mlp"}),
        training: serde_json::json!({"epochs": 3}),
        tensors: [(
            "layer.weight".to_owned(),
            TensorData::from_f32(&[2, 3], &[0.5; 6]),
        )]
        .into(),
    };
    vec![
        ("series.parquet", series.into()),
        ("scores.parquet", scores.into()),
        ("forecasts.parquet", forecasts.into()),
        ("model.safetensors", model.into()),
    ]
}

/// What the examples must say, in the order of the page.
const SAID: [&[&str]; 7] = [
    &["fan     79.0", "pump    49.0"],
    &["2.5", "3.5", "4.5"],
    &["train pump (30, 2) 29.5", "test fan (20, 2) 139.5"],
    &[r#"{"kind":"mlp"}"#, "'layer.weight': (2, 3)"],
    &["'layer.weight': torch.Size([2, 3])"],
    &[],
    &[],
];

#[test]
fn the_python_examples_of_artifacts_work() {
    let Some(python) = python() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    for (name, artifact) in artifacts_to_read() {
        let mut file = fs::File::create(folder.path().join(name)).unwrap();
        artifact.encode_to(&mut file).unwrap();
    }
    let mut examples = in_language("python");
    examples.retain(|block| block.place.starts_with("docs/artifacts.md"));
    assert_eq!(examples.len(), SAID.len());
    for (Block { place, text, .. }, expected) in examples.iter().zip(SAID) {
        let output = Command::new(&python)
            .args(["-c", text])
            .current_dir(folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        if text.contains("import torch") && error.contains("No module named 'torch'") {
            eprintln!("SKIPPED: {place}: there is no PyTorch");
            continue;
        }
        assert!(output.status.success(), "{place}: {error}");
        for text in expected {
            assert!(said.contains(text), "{place}: no `{text}` in\n{said}");
        }
    }
    // What Python wrote is read here.
    let source = Source::open(&folder.path().join("written.parquet")).unwrap();
    let written = Artifact::decode(ArtifactKind::Scores, source, &NoParts).unwrap();
    let Artifact::Scores(scores) = written else {
        panic!("not scores")
    };
    assert_eq!(scores.labels, [0, 0, 0, 1, 0]);
    assert_eq!(scores.times[1..3], [1000, 2000]);
    assert_eq!(scores.values(Split::Test), [0.1, 7.5, 0.3]);
}

/// For artifacts in one file.
struct NoParts;

impl Parts for NoParts {
    fn artifact(&self, digest: &Digest) -> Result<Artifact, ArtifactError> {
        Err(ArtifactError::MissingPart(digest.to_string()))
    }

    fn blob(&self, digest: &Digest) -> Result<PathBuf, ArtifactError> {
        Err(ArtifactError::MissingPart(digest.to_string()))
    }
}
