//! Whole files, overrides and fragments, with the reports that people would see.

use std::fmt::Write;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::pipeline::Resources;
use crate::pipeline::Sources;

const EXAMPLE: &str = r#"pipeline: smd_tvnet
description: TVNet reconstruction on one SMD machine
seed: 42
params: {machine: machine-2-1, window: 100, epochs: 10, label: "${machine}-w${window}"}
stages:
  raw:     {uses: ingest,    with: {dataset: smd, entity: "${machine}"}}
  scaled:  {uses: normalize, from: raw,     with: {method: zscore, fit: train}}
  windows: {uses: window,    from: scaled,  with: {length: "${window}", stride: 1}}
  model:
    uses: train
    from: windows
    with: {model: {kind: tvnet-recon}, epochs: "${epochs}", optimizer: {kind: adam, lr: 1.0e-4}}
    matrix: {lr: [0.1, 0.2]}
    resources: {cpus: 2, memory: 4 GiB}
    retries: 2
    timeout: 1h 30m
  scores:  {uses: score,     from: {model: model.best, windows: windows}}
"#;

/// Reads a text with overrides, each as `name=value`.
fn read(text: &str, overrides: &[&str]) -> (Option<Spec>, String) {
    let overrides = overrides
        .iter()
        .map(|set| set.split_once('=').unwrap_or((set, "")));
    let options = LoadOptions {
        overrides: overrides
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        ..LoadOptions::default()
    };
    let mut sources = SourceMap::default();
    let (spec, mut diagnostics) = load_text(Path::new("p.yaml"), text, &options, &mut sources);
    // The graph reports these, since it knows the stage kinds.
    let strays = spec
        .iter()
        .flat_map(|spec| &spec.stages)
        .flat_map(|stage| &stage.strays);
    diagnostics.extend(strays.map(|stray| stray.told(None)));
    (spec, diagnostics.render(&sources, false))
}

fn good(text: &str, overrides: &[&str]) -> Spec {
    let (spec, report) = read(text, overrides);
    assert!(!report.contains("error["), "{report}");
    spec.unwrap()
}

fn with(spec: &Spec, stage: &str) -> serde_json::Value {
    let stage = spec
        .stages
        .iter()
        .find(|other| other.name.value == stage)
        .unwrap();
    substitute(stage.with.as_ref().unwrap(), &spec.scope())
        .unwrap()
        .to_json()
}

#[test]
fn the_example_becomes_a_spec() {
    let spec = good(EXAMPLE, &[]);
    assert_eq!(
        (spec.name.value.as_str(), spec.seed, spec.strict),
        ("smd_tvnet", 42, false)
    );
    assert_eq!(
        spec.params.keys().collect::<Vec<_>>(),
        ["machine", "window", "epochs", "label"]
    );
    assert_eq!(
        spec.params["label"].value.to_json(),
        json!("machine-2-1-w100")
    );
    assert_eq!(with(&spec, "windows"), json!({"length": 100, "stride": 1}));
    let model = &spec.stages[3];
    assert_eq!(model.uses.value, "train");
    assert_eq!(
        model.resources,
        Resources {
            cpus: Some(2),
            memory: Some(4 << 30),
            gpus: None
        }
    );
    assert_eq!(
        (model.retries, model.timeout),
        (2, Some(Duration::from_secs(5400)))
    );
    assert_eq!(model.axes.points(&spec.scope()).unwrap().len(), 2);
    assert!(
        matches!(&*model.from.sources(&spec.scope()).unwrap(), Sources::One(one) if one.stage.value == "windows")
    );
    let scores = spec.stages[4].from.sources(&spec.scope()).unwrap();
    assert!(
        matches!(&*scores, Sources::Ports(ports, _) if ports[0].references[0].output.is_some())
    );
}

#[test]
fn overrides_reach_parameters_top_level_and_stages() {
    let spec = good(
        EXAMPLE,
        &[
            "machine=machine-1-6",
            "window=5",
            "window=50",
            "seed=7",
            "strict=true",
            "model.with.optimizer.lr=1e-3",
            "stages.model.retries=0",
            "scores.with.overlap=mean",
            "model.matrix.lr=[1, 2, 3]",
        ],
    );
    assert_eq!((spec.seed, spec.strict), (7, true));
    assert_eq!(
        spec.params["label"].value.to_json(),
        json!("machine-1-6-w50")
    );
    assert_eq!(
        with(&spec, "model")["optimizer"],
        json!({"kind": "adam", "lr": 1e-3})
    );
    assert_eq!(with(&spec, "scores"), json!({"overlap": "mean"}));
    assert_eq!(spec.stages[3].retries, 0);
    assert_eq!(spec.stages[3].axes.points(&spec.scope()).unwrap().len(), 3);
    let spec = good(
        "pipeline: p\nseed: ${s}\nparams: {s: 1, m: {a: [1, 2]}}\nstages: {}\n",
        &["s=9", "m.a.1=5", "m.b=x"],
    );
    assert_eq!(spec.seed, 9);
    assert_eq!(
        spec.params["m"].value.to_json(),
        json!({"a": [1, 5], "b": "x"})
    );
}

#[test]
fn bad_overrides_point_at_the_command_line() {
    let cases: &[&[&str]] = &[
        &["machin=machine-1-6"],
        &["model.epochs=3"],
        &["model=3"],
        &["stages.modle.with.epochs=3"],
        &["seed=-1", "strict=maybe"],
        &["machine={a: "],
        &["machine.x=1"],
        &["model.retires=1"],
        &["=1"],
        &["nonsense=1"],
        &["model.timeout=90", "model.resources.memory=4"],
    ];
    let report: String = cases
        .iter()
        .map(|overrides| read(EXAMPLE, overrides).1)
        .collect();
    insta::assert_snapshot!(report, @r#"
    error[unknown-parameter]: unknown parameter `machin`
     --> command line:1:7
      |
    1 | --set machin=machine-1-6
      |       ^^^^^^
      |
      = help: did you mean `machine`?

    error[bad-override]: `epochs` is not a key of a stage
     --> command line:1:13
      |
    1 | --set model.epochs=3
      |             ^^^^^^
      |
      = help: parameters of a stage stand below `with`: `model.with.epochs`

    error[bad-override]: `model` is a stage, not a parameter
     --> command line:1:7
      |
    1 | --set model=3
      |       ^^^^^
      |
      = help: name the key to set, such as `model.with.KEY`

    error[unknown-stage]: there is no stage `modle`
     --> command line:1:14
      |
    1 | --set stages.modle.with.epochs=3
      |              ^^^^^
      |
      = help: did you mean `model`?

    error[out-of-range]: `seed` must be an integer of at least 0, found `-1`
     --> command line:1:12
      |
    1 | --set seed=-1
      |            ^^

    error[wrong-type]: `strict` must be `true` or `false`, found `maybe`
     --> command line:1:14
      |
    1 | --set strict=maybe
      |              ^^^^^

    error[bad-yaml]: a value is missing here
     --> command line:1:19
      |
    1 | --set machine={a: 
      |               -   ^
      |               |
      |               opened here
      |
      = help: add it

    error[bad-override]: there is no `x` in `machine-2-1`
     --> command line:1:15
      |
    1 | --set machine.x=1
      |               ^
      |
     ::: p.yaml:4:19
      |
    4 | params: {machine: machine-2-1, window: 100, epochs: 10, label: "${machine}-w${window}"}
      |                   ----------- the value

    error[bad-override]: `retires` is not a key of a stage
     --> command line:1:13
      |
    1 | --set model.retires=1
      |             ^^^^^^^
      |
      = help: did you mean `model.retries`?

    error[bad-override]: nothing is named before `=`
     --> command line:1:7
      |
    1 | --set =1
      |       ^
      |
      = help: write `--set name=value`

    error[unknown-parameter]: unknown parameter `nonsense`
     --> command line:1:7
      |
    1 | --set nonsense=1
      |       ^^^^^^^^
      |
      = help: the parameters are `machine`, `window`, `epochs`, `label`; a stage is set as `STAGE.with.KEY`

    error[bad-unit]: `timeout` must be a duration, found `90`
     --> command line:1:21
      |
    1 | --set model.timeout=90
      |                     ^^
      |
      = help: write it as `90 s`, `30 min` or `1h 30m`

    error[bad-unit]: `resources.memory` must be a size, found `4`
     --> command line:1:30
      |
    1 | --set model.resources.memory=4
      |                              ^
      |
      = help: write it as `500 MB` or `4 GiB`
    "#);
}

#[test]
fn every_problem_of_a_file_is_in_one_report() {
    let text = "pipline: p
seed: -1
strict: yes
params:
  a: ${b}
  b: ${c}
  c: ${a}
  d: ${dd}
  e: ${d}
  2nd: 1
stages:
  raw: {use: ingest, with: [1]}
  scaled: {uses: normalize, form: raw, with: {method: zscore}, retries: many}
  3rd: {uses: window}
  model:
    uses: train
    from: {}
    timeout: soon
    resources: {cpus: 0, memory: lots, gpu: 1}
    matrix: {lr: 0.1}
  model:
    uses: train
  scores:
  last: {uses: [score], description: \"${e}\"}
";
    let (spec, report) = read(text, &[]);
    let spec = spec.unwrap();
    let broken: Vec<&str> = spec.broken.iter().map(|name| name.value.as_str()).collect();
    assert_eq!(broken, ["raw", "scores", "last"]);
    // What hangs on a bad parameter fails without a report of its own.
    let e = Node::scalar("${e}", false, spec.name.span);
    assert!(substitute(&e, &spec.scope()).unwrap_err().is_empty());
    insta::assert_snapshot!(report, @r#"
    error[unknown-key]: unknown key `pipline` in the pipeline
     --> p.yaml:1:1
      |
    1 | pipline: p
      | ^^^^^^^
      |
      = help: did you mean `pipeline`?

    error[missing-key]: the pipeline lacks `pipeline`
     --> p.yaml:1:1
      |
    1 | pipline: p
      | ^^^^^^^^^^
      |
      = help: add `pipeline`: a string that is not empty (The name of the pipeline)

    error[out-of-range]: `seed` must be an integer of at least 0, found `-1`
     --> p.yaml:2:7
      |
    2 | seed: -1
      |       ^^

    error[wrong-type]: `strict` must be `true` or `false`, found `yes`
     --> p.yaml:3:9
      |
    3 | strict: yes
      |         ^^^
      |
      = help: write `true`

    error[parameter-cycle]: parameters refer to each other in a circle: `a` -> `b` -> `c` -> `a`
     --> p.yaml:7:6
      |
    7 |   c: ${a}
      |      ^^^^
      |
      = help: give one of them a value that does not refer to the others

    error[undefined-name]: `dd` is not defined
     --> p.yaml:8:6
      |
    8 |   d: ${dd}
      |      ^^^^^
      |
      = help: did you mean `d`?

    error[bad-name]: `2nd` cannot be the name of a parameter
      --> p.yaml:10:3
       |
    10 |   2nd: 1
       |   ^^^
       |
       = help: a name begins with a letter or `_`, followed by letters, digits, `_` and `-`

    error[missing-key]: stage `raw` lacks `uses`
      --> p.yaml:12:8
       |
    12 |   raw: {use: ingest, with: [1]}
       |        ^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = help: add `uses`: a string (The stage kind)

    error[unknown-key]: unknown key `use` in stage `raw`
      --> p.yaml:12:9
       |
    12 |   raw: {use: ingest, with: [1]}
       |         ^^^
       |
       = help: did you mean `uses`?

    error[wrong-type]: `with` must be a map, found a list
      --> p.yaml:12:28
       |
    12 |   raw: {use: ingest, with: [1]}
       |                            ^^^

    error[unknown-key]: unknown key `form` in stage `scaled`
      --> p.yaml:13:29
       |
    13 |   scaled: {uses: normalize, form: raw, with: {method: zscore}, retries: many}
       |                             ^^^^
       |
       = help: did you mean `from`?

    error[wrong-type]: `retries` must be an integer of at least 0, found `many`
      --> p.yaml:13:73
       |
    13 |   scaled: {uses: normalize, form: raw, with: {method: zscore}, retries: many}
       |                                                                         ^^^^

    error[bad-name]: `3rd` cannot be the name of a stage
      --> p.yaml:14:3
       |
    14 |   3rd: {uses: window}
       |   ^^^
       |
       = help: a name begins with a letter or `_`, followed by letters, digits, `_` and `-`

    error[bad-from]: `from` must name a stage, found an empty map
      --> p.yaml:17:11
       |
    17 |     from: {}
       |           ^^
       |
       = help: write `from: stage`, `from: stage.output`, `from: [a, b]` or `from: {port: stage}`

    error[bad-unit]: `timeout` must be a duration, found `soon`
      --> p.yaml:18:14
       |
    18 |     timeout: soon
       |              ^^^^
       |
       = help: write it as `90 s`, `30 min` or `1h 30m`

    error[out-of-range]: `resources.cpus` must be an integer of at least 1, found `0`
      --> p.yaml:19:23
       |
    19 |     resources: {cpus: 0, memory: lots, gpu: 1}
       |                       ^

    error[bad-unit]: `resources.memory` must be a size, found `lots`
      --> p.yaml:19:34
       |
    19 |     resources: {cpus: 0, memory: lots, gpu: 1}
       |                                  ^^^^
       |
       = help: write it as `500 MB` or `4 GiB`

    error[unknown-key]: unknown key `gpu` in `resources`
      --> p.yaml:19:40
       |
    19 |     resources: {cpus: 0, memory: lots, gpu: 1}
       |                                        ^^^
       |
       = help: did you mean `gpus`?

    error[bad-axes]: axis `lr` must be a list of values, found `0.1`
      --> p.yaml:20:18
       |
    20 |     matrix: {lr: 0.1}
       |                  ^^^
       |
       = help: write `lr: [value, value]`

    error[duplicate-key]: `model` is given twice
      --> p.yaml:21:3
       |
    15 |   model:
       |   ----- first here
    ...
    21 |   model:
       |   ^^^^^ again here
       |
       = help: keep one of them

    error[wrong-type]: stage `scores` must be a map, found nothing
      --> p.yaml:23:3
       |
    23 |   scores:
       |   ^^^^^^

    error[wrong-type]: `uses` must be a string, found a list
      --> p.yaml:24:16
       |
    24 |   last: {uses: [score], description: "${e}"}
       |                ^^^^^^^
    "#);
}

#[test]
fn files_that_are_no_pipelines() {
    let report: String = [
        "",
        "- a\n",
        "just words\n",
        "pipeline: p\n",
        "pipeline: p\nstages:\n",
        "pipeline: 5\nstages: {}\n",
    ]
    .iter()
    .map(|text| read(text, &[]).1)
    .collect();
    insta::assert_snapshot!(report, @r#"
    error[missing-key]: `p.yaml` is empty
     --> p.yaml:1:1
      |
    1 |
      | ^
      |
      = help: begin with `pipeline: NAME` and `stages:`

    error[wrong-type]: the pipeline must be a map, found a list
     --> p.yaml:1:1
      |
    1 | - a
      | ^^^

    error[wrong-type]: the pipeline must be a map, found `just words`
     --> p.yaml:1:1
      |
    1 | just words
      | ^^^^^^^^^^

    error[missing-key]: the pipeline lacks `stages`
     --> p.yaml:1:1
      |
    1 | pipeline: p
      | ^^^^^^^^^^^
      |
      = help: add `stages`: a map (The stages by name)

    error[wrong-type]: `stages` must be a map, found nothing
     --> p.yaml:2:1
      |
    2 | stages:
      | ^^^^^^

    error[wrong-type]: `pipeline` must be a string that is not empty, found `5`
     --> p.yaml:1:11
      |
    1 | pipeline: 5
      |           ^
      |
      = help: quote it: "5"
    "#);
}

/// Writes files into a folder, reads the first, and shows what came out, without the name of the folder.
fn in_folder(files: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let mut sources = SourceMap::default();
    let path = folder.path().join("p.yaml");
    let (spec, diagnostics) = load(&path, &LoadOptions::default(), &mut sources);
    let mut text = diagnostics.render(&sources, false);
    for (name, param) in spec.iter().flat_map(|spec| &spec.params) {
        let _ = writeln!(text, "{name} = {}", param.value.to_json());
    }
    for stage in spec.iter().flat_map(|spec| &spec.stages) {
        let _ = writeln!(text, "stage {}", stage.name.value);
    }
    text.replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn fragments_are_shared_and_the_including_file_wins() {
    let report = in_folder(&[
        (
            "p.yaml",
            "pipeline: p\ninclude: [parts/a.yaml, parts/b.yaml]\nparams: {x: mine}\nstages: {own: {uses: k, with: {a: \"${x}\", b: \"${w}\"}}}\n",
        ),
        (
            "parts/a.yaml",
            "include: [deep.yaml]\nparams: {x: a, y: \"${x}-y\"}\nstages: {from_a: {uses: k}}\n",
        ),
        ("parts/b.yaml", "include: [deep.yaml]\nparams: {w: 4}\n"),
        (
            "parts/deep.yaml",
            "params: {z: 3}\nstages: {deep: {uses: k}}\n",
        ),
    ]);
    insta::assert_snapshot!(report, @r#"
    z = 3
    x = "mine"
    y = "mine-y"
    w = 4
    stage deep
    stage from_a
    stage own
    "#);
}

#[test]
fn bad_includes_are_explained() {
    let cycle = in_folder(&[
        (
            "p.yaml",
            "pipeline: p\ninclude: [a.yaml, commn.yaml]\nstages: {}\n",
        ),
        ("a.yaml", "include: [parts/b.yaml]\n"),
        ("parts/b.yaml", "include: [../a.yaml]\npipeline: b\n"),
        ("common.yaml", ""),
    ]);
    let twice = in_folder(&[
        (
            "p.yaml",
            "pipeline: p\ninclude: [a.yaml, b.yaml]\nstages: {s: {uses: k}}\n",
        ),
        ("a.yaml", "params: {x: 1}\nstages: {s: {uses: k}}\n"),
        ("b.yaml", "params: {x: 2}\n"),
    ]);
    let missing = in_folder(&[("pp.yaml", "")]);
    insta::assert_snapshot!(cycle + &twice + &missing, @r#"
    error[unreadable-file]: cannot read `commn.yaml`: there is no such file
     --> p.yaml:2:19
      |
    2 | include: [a.yaml, commn.yaml]
      |                   ^^^^^^^^^^
      |
      = help: did you mean `common.yaml`?

    error[include-cycle]: files include each other: `a.yaml` -> `parts/b.yaml` -> `a.yaml`
     --> parts/b.yaml:1:11
      |
    1 | include: [../a.yaml]
      |           ^^^^^^^^^
      |
      = help: remove this one

    error[unknown-key]: unknown key `pipeline` in the fragment
     --> parts/b.yaml:2:1
      |
    2 | pipeline: b
      | ^^^^^^^^
      |
      = help: choose from `params`, `stages`

    error[duplicate-stage]: the stage `s` is defined twice
     --> p.yaml:3:10
      |
    3 | stages: {s: {uses: k}}
      |          ^ again here
      |
     ::: a.yaml:2:10
      |
    2 | stages: {s: {uses: k}}
      |          - first here
      |
      = help: rename one of them

    error[duplicate-key]: two fragments define the parameter `x`
     --> b.yaml:1:10
      |
    1 | params: {x: 2}
      |          ^
      |
     ::: a.yaml:1:10
      |
    1 | params: {x: 1}
      |          - the other one
      |
      = help: define it in the including file, which then decides

    x = 2
    stage s
    error[unreadable-file]: cannot read `p.yaml`: there is no such file
     |
     = help: did you mean `pp.yaml`?
    "#);
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(
        text in "pipeline: p\n(params: \\{[a-c:$\\{\\}, \"0-9]{0,20}\\}\n)?stages:\n( [ab]: [a-z\\{\\}:$, \\[\\]]{0,30}\n){0,4}",
        name in "[a-c.]{0,6}",
        value in "[ -~]{0,10}",
    ) {
        let options = LoadOptions { overrides: vec![(name, value)], ..LoadOptions::default() };
        let mut sources = SourceMap::default();
        let (_, diagnostics) = load_text(Path::new("p.yaml"), &text, &options, &mut sources);
        let _ = diagnostics.render(&sources, true);
        let _ = diagnostics.to_json(&sources);
    }
}
