//! The verbs besides `run`: what they print, what they write, and how they end.

use insta::assert_snapshot;

use crate::environment::TestEnvironment;
use crate::pipelines::SMALL;
use crate::store::ran;

fn after_one_run() -> TestEnvironment {
    let environment = TestEnvironment::with_pipeline(SMALL);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    environment
}

#[test]
fn plan_says_what_would_run_and_writes_nothing() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    let first = environment.succeed(&["plan", "pipeline.yaml"]).stdout;
    assert!(!environment.path("cache").exists());
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    let before = environment.files("cache");
    let changed = environment
        .succeed(&["plan", "pipeline.yaml", "--set", "epochs=3"])
        .stdout;
    // The hits say how long they took.
    let changed: Vec<&str> = changed
        .lines()
        .filter(|line| !line.contains("took"))
        .collect();
    let forced = environment.json(&["plan", "pipeline.yaml", "--force", "raw"]);
    assert_eq!(forced["stages"][0]["reason"], "forced");
    assert_eq!(environment.files("cache"), before, "a plan writes nothing");
    assert_snapshot!(format!("{first}\n{}", changed.join("\n")));
    environment
        .succeed(&["plan", "pipeline.yaml"])
        .prints("plan: all 8 stages are up to date");
}

#[test]
fn plan_in_json_names_the_differences() {
    let environment = after_one_run();
    let plan = environment.json(&["plan", "pipeline.yaml", "--set", "epochs=3"]);
    assert_eq!(plan["hits"], 3);
    let model = &plan["stages"][3];
    assert_eq!(
        (&model["name"], &model["verdict"]),
        (&"model".into(), &"miss".into())
    );
    assert_eq!(
        model["differences"],
        serde_json::json!([{"path": "with.epochs", "before": "2", "after": "3"}])
    );
    assert_eq!(plan["stages"][4]["verdict"], "pending");
}

#[test]
fn why_tells_before_and_after() {
    let environment = after_one_run();
    environment
        .succeed(&["why", "model", "pipeline.yaml", "--set", "epochs=3"])
        .prints("with.epochs")
        .prints("2 -> 3");
    environment.succeed(&["run", "--quiet", "pipeline.yaml", "--set", "epochs=3"]);
    let after = environment.succeed(&["why", "model", "pipeline.yaml", "--set", "epochs=3"]);
    after
        .prints("model is up to date")
        .prints("with.epochs")
        .prints("reran because of it: scores, metrics, plots, size");
    let unknown = environment.run(&["why", "modle"]).expect(2);
    unknown
        .says("the pipeline has no stage `modle`")
        .says("did you mean `model`?");
}

/// What a stage is compared with is what came before it, whatever ran since.
#[test]
fn why_looks_back_and_not_ahead() {
    let environment = after_one_run();
    environment.succeed(&["run", "--quiet", "pipeline.yaml", "--set", "epochs=3"]);
    environment.succeed(&["run", "--quiet", "pipeline.yaml", "--set", "epochs=2"]);
    let first = environment.succeed(&["why", "model", "pipeline.yaml"]);
    first
        .prints("model is up to date")
        .prints("it ran then because: never ran");
    assert!(!first.stdout.contains("epochs"), "{}", first.describe());
}

/// A run that failed came to no outputs that anything could be compared with; the one before it did.
#[test]
fn why_passes_over_what_failed() {
    let saying = |word: &str, end: &str| {
        format!(
            "pipeline: said\nstages:\n  a: {{uses: command, with: {{run: [sh, -c, \"echo {word} > {{out.o}}; {end}\"], \
             outputs: {{o: {{path: o}}}}}}}}\n"
        )
    };
    let environment = TestEnvironment::with_pipeline(&saying("one", "true"));
    environment.succeed(&["run", "pipeline.yaml"]);
    environment.write("pipeline.yaml", saying("two", "false"));
    environment.run(&["run", "pipeline.yaml"]).expect(1);
    environment.write("pipeline.yaml", saying("three", "true"));
    environment
        .succeed(&["why", "a", "pipeline.yaml"])
        .prints("  with.run[2]: \"echo one")
        .prints("-> \"echo three");
}

/// The drawing shows where the errors are; the report goes beside it.
#[test]
fn a_faulty_graph_is_drawn_as_far_as_it_goes() {
    let environment = TestEnvironment::with_pipeline(
        "pipeline: faulty
stages:
  raw: {uses: generate}
  scaled: {uses: normalize, from: raw, with: {method: zscor}}
  windows: {uses: window, from: raw.serie, with: {length: 16}}
  around: {uses: normalize, from: around}
  other: {uses: window, from: scaled, with: {length: 16}}
",
    );
    let drawn = environment.run(&["graph", "pipeline.yaml"]).expect(2);
    drawn
        .says("cannot be `zscor`")
        .says("has no output `serie`")
        .says("a cycle: around -> around");
    for (stage, kind, class) in [
        ("raw", "generate", "pending"),
        ("scaled", "normalize", "broken"),
        ("windows", "window", "broken"),
        ("other", "window", "pending"),
    ] {
        drawn.prints(&format!("[\"{stage}<br/><i>{kind}</i>\"]:::{class}"));
    }
    assert_eq!(
        drawn.stdout.matches("-->|series|").count(),
        2,
        "{}",
        drawn.describe()
    );
    let report = environment
        .run(&["graph", "--json", "pipeline.yaml"])
        .expect(2)
        .json();
    assert_eq!(report["diagnostics"].as_array().unwrap().len(), 3);
    assert!(!environment.path("cache").exists());
}

#[test]
fn a_profile_counts_for_every_verb_and_is_recorded() {
    let profiles = "profiles:\n  longer: {epochs: 3}\nstages:\n";
    let environment = TestEnvironment::with_pipeline(&SMALL.replacen("stages:\n", profiles, 1));
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    assert_eq!(environment.latest()["profile"], serde_json::Value::Null);
    let why = ["why", "model", "pipeline.yaml", "--profile", "longer"];
    environment
        .succeed(&why)
        .prints("with.epochs")
        .prints("2 -> 3");
    let hits = |options: &[&str]| {
        environment.json(&[&["plan", "pipeline.yaml"], options].concat())["hits"].clone()
    };
    assert_eq!(
        (hits(&[]), hits(&["--profile", "longer"])),
        (8.into(), 3.into())
    );
    assert_eq!(hits(&["--profile", "longer", "--set", "epochs=2"]), 8);
    environment.succeed(&[
        "run",
        "--quiet",
        "pipeline.yaml",
        "--profile",
        "longer",
        "--target",
        "raw",
    ]);
    let latest = environment.latest();
    assert_eq!(
        (&latest["profile"], &latest["params"]["epochs"]),
        (&"longer".into(), &3.into())
    );
    environment.succeed(&["show"]).prints("profile: longer");
    let unknown = environment
        .run(&["graph", "pipeline.yaml", "--profile", "longe"])
        .expect(2);
    unknown
        .says("unknown profile `longe`")
        .says("did you mean `longer`?");
}

#[test]
fn runs_and_show_before_any_run() {
    let environment = TestEnvironment::new();
    environment
        .succeed(&["runs"])
        .prints("no runs yet; start with `runner run`");
    environment
        .run(&["show"])
        .expect(2)
        .says("no run matches `latest`: the store has no runs yet");
    assert!(
        !environment.path("cache").exists(),
        "to look is not to write"
    );
}

#[test]
fn runs_lists_newest_last_up_to_a_limit() {
    let environment = after_one_run();
    environment.succeed(&["run", "--quiet", "pipeline.yaml", "--set", "epochs=3"]);
    environment.succeed(&["run", "--quiet", "pipeline.yaml", "--set", "epochs=3"]);
    let runs = environment.succeed(&["runs"]).stdout;
    let counts: Vec<Vec<&str>> = runs
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().skip(1).take(4).collect())
        .collect();
    assert_eq!(
        counts,
        [
            ["small", "done", "8", "0"],
            ["small", "done", "5", "3"],
            ["small", "done", "0", "8"]
        ]
    );
    let latest = environment.latest()["run"].as_str().unwrap().to_owned();
    let last = environment.succeed(&["runs", "-n", "1"]).stdout;
    assert_eq!(
        (last.lines().count(), last.contains(&latest)),
        (2, true),
        "{last}"
    );
}

#[test]
fn show_is_readable() {
    let environment = after_one_run();
    let shown = environment.succeed(&["show"]);
    for text in [
        "command: ",
        "params: epochs=2 channels=3",
        "seed: 7",
        "processor: ",
        "numeric_class: ",
        "best_f1",
        "score.png",
    ] {
        shown.prints(text);
    }
}

#[test]
fn diff_is_0_for_equal_runs_and_3_for_others() {
    let environment = after_one_run();
    let first = environment.latest()["run"].as_str().unwrap().to_owned();
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    environment
        .succeed(&["diff", &first, "latest"])
        .prints("parameters: the same")
        .prints("stages: the same keys");
    environment.succeed(&["run", "--quiet", "pipeline.yaml", "--set", "epochs=3"]);
    let other = environment.run(&["diff", &first]).expect(3);
    other
        .prints("epochs")
        .prints("with.epochs")
        .prints("model: ");
    let json = environment
        .run(&["diff", &first, "--json"])
        .expect(3)
        .json();
    assert_eq!(json["params"], serde_json::json!({"epochs": [2, 3]}));
    let names: Vec<&str> = json["stages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["model", "scores", "metrics", "plots", "size"]);
    environment
        .run(&["diff", "nothing"])
        .expect(2)
        .says("no run matches `nothing`");
}

#[test]
fn graph_draws_in_three_languages() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    environment.succeed(&["run", "--quiet", "pipeline.yaml", "--target", "windows"]);
    let draw = |format: &str| {
        environment
            .succeed(&["graph", "pipeline.yaml", "--format", format])
            .stdout
    };
    assert_snapshot!(["mermaid", "dot", "json"].map(draw).join("\n"));
}

#[test]
fn stages_describes_each_kind() {
    let environment = TestEnvironment::new();
    let listed = environment.json(&["stages"]);
    for kind in listed["stages"].as_array().unwrap() {
        let name = kind["name"].as_str().unwrap();
        environment
            .succeed(&["stages", name])
            .prints(&format!("## {name}"))
            .prints("Outputs");
        let parameters = &kind["parameters"];
        assert!(
            parameters["type"] == "object" || parameters.get("oneOf").is_some(),
            "{name}: {parameters}"
        );
    }
    environment
        .run(&["stages", "trian"])
        .expect(2)
        .says("did you mean `train`?");
}

#[test]
fn completions_for_every_shell() {
    let environment = TestEnvironment::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        environment
            .succeed(&["completions", shell])
            .prints("runner")
            .prints("plan");
    }
}

#[test]
fn manual_pages_of_every_command() {
    let environment = TestEnvironment::new();
    environment
        .succeed(&["man"])
        .prints(".TH RUNNER 1")
        .prints("runner\\-run(1)")
        .prints("Exit codes: 0 all done");
    environment
        .succeed(&["man", "pages"])
        .prints("pages to pages");
    for name in ["runner", "runner-run", "runner-cache-gc"] {
        let page = environment.read(&format!("pages/{name}.1"));
        assert!(page.contains(&name.to_uppercase()), "{name}: {page}");
    }
    let listed = environment.json(&["man", "pages"]);
    assert!(listed["pages"].as_array().unwrap().len() > 20, "{listed}");
}

#[test]
fn new_writes_a_pipeline_that_plans_and_never_overwrites() {
    let environment = TestEnvironment::new();
    for template in ["quickstart", "smd", "csv"] {
        environment
            .succeed(&["new", template, "--template", template])
            .prints("next: runner plan");
        let path = format!("pipelines/{template}.yaml");
        assert!(
            environment
                .read(&path)
                .contains(&format!("pipeline: {template}\n"))
        );
        let planned = environment.run(&["plan", &path]);
        let expected = if template == "quickstart" { 0 } else { 1 };
        assert_eq!(planned.code(), Some(expected), "{}", planned.describe());
        assert!(
            environment
                .read(&path)
                .starts_with("# yaml-language-server: $schema=schema.json\n"),
            "{template}"
        );
    }
    assert_eq!(
        environment.read("pipelines/schema.json"),
        environment.succeed(&["schema"]).stdout
    );
    let before = environment.read("pipelines/csv.yaml");
    environment
        .run(&["new", "csv"])
        .expect(2)
        .says("is there already");
    assert_eq!(environment.read("pipelines/csv.yaml"), before);
    environment
        .run(&["new", "../escape"])
        .expect(2)
        .says("cannot name a pipeline");
}

#[test]
fn doctor_says_what_is_wrong() {
    let environment = TestEnvironment::new();
    let well = environment.succeed(&["doctor"]);
    well.prints("good machine: ")
        .prints("cuda: ")
        .prints("good store: ")
        .prints("Server Machine Dataset");
    environment.write("blocked", "a file");
    environment
        .run(&["doctor", "--store", "blocked"])
        .expect(1)
        .prints("bad  store: ");
}

#[test]
fn data_list_names_licences_and_places() {
    let mut environment = TestEnvironment::new();
    environment.write("folder/ETT-small/ETTh1.csv", "x");
    environment.set(
        "RUNNER_DATA_PATH",
        environment.path("folder").display().to_string(),
    );
    let listed = environment.json(&["data", "list"]);
    let sets = listed["datasets"].as_array().unwrap();
    let names: Vec<&str> = sets
        .iter()
        .map(|set| set["name"].as_str().unwrap())
        .collect();
    for name in ["smd", "ett"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert_eq!(
        sets.iter().find(|set| set["name"] == "ett").unwrap()["present"],
        1
    );
    environment
        .run(&["data", "verify", "ett"])
        .expect(3)
        .prints("bad")
        .prints("ETTh1.csv");
    environment
        .run(&["data", "get", "smdd"])
        .expect(2)
        .says("did you mean `smd`?");
}

#[test]
fn missing_data_say_where_they_were_looked_for() {
    let mut environment = TestEnvironment::with_pipeline(
        "pipeline: far\nstages:\n  raw: {uses: ingest, with: {dataset: smd, entity: machine-1-1}}\n",
    );
    environment.set("RUNNER_DATA_PATH", "elsewhere");
    let finished = environment
        .run(&["run", "--offline", "pipeline.yaml"])
        .expect(1);
    assert_snapshot!(
        environment.neutral(
            &finished
                .stderr
                .lines()
                .filter(|line| !line.contains("(run ") && !line.starts_with("run "))
                .collect::<Vec<_>>()
                .join("\n")
        )
    );
}

#[test]
fn the_store_is_counted_and_emptied() {
    let environment = after_one_run();
    let stats = environment.json(&["cache", "stats"]);
    assert_eq!(
        (&stats["actions"]["count"], &stats["runs"]["count"]),
        (&8.into(), &1.into())
    );
    assert!(stats["objects"]["bytes"].as_u64().unwrap() > 10_000);

    let idle = environment.json(&["cache", "gc"]);
    assert_eq!(
        idle["removed"],
        serde_json::json!([]),
        "all of it belongs to a run"
    );

    environment
        .succeed(&["cache", "gc", "--max-size", "1 B", "--dry-run"])
        .prints("would remove");
    assert_eq!(environment.json(&["cache", "stats"])["actions"]["count"], 8);
    environment
        .succeed(&["cache", "gc", "--max-size", "1 B"])
        .prints("removed");
    assert_eq!(environment.json(&["cache", "stats"])["actions"]["count"], 0);
    assert_eq!(environment.json(&["cache", "stats"])["objects"]["count"], 0);

    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    assert_eq!(ran(&environment.latest()).len(), 8);
    environment.succeed(&["cache", "verify"]);
}

#[test]
fn what_is_cheap_to_recompute_goes_first() {
    let environment = after_one_run();
    let total = environment.json(&["cache", "gc"])["kept_bytes"]
        .as_u64()
        .unwrap();
    environment.succeed(&["cache", "gc", "--max-size", &format!("{} B", total - 1)]);
    let stats = environment.json(&["cache", "stats"]);
    let actions = stats["actions"]["count"].as_u64().unwrap();
    assert!((1..8).contains(&actions), "{stats}");
    environment.succeed(&["cache", "verify"]);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    assert!(ran(&environment.latest()).len() < 8);
}

#[test]
fn a_trace_is_one_json_document() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    environment.succeed(&["run", "--quiet", "pipeline.yaml", "--trace", "trace.json"]);
    let trace: serde_json::Value = serde_json::from_str(&environment.read("trace.json")).unwrap();
    let events = trace
        .as_array()
        .or_else(|| trace["traceEvents"].as_array())
        .unwrap();
    let named = events
        .iter()
        .filter(|event| event["name"] == "model")
        .count();
    assert!(named >= 1, "{trace}");
}

#[test]
fn the_store_can_lie_anywhere() {
    let mut environment = TestEnvironment::with_pipeline(SMALL);
    environment.succeed(&[
        "run",
        "--quiet",
        "--store",
        "elsewhere/store",
        "pipeline.yaml",
    ]);
    assert!(environment.path("elsewhere/store/v1").exists() && !environment.path("cache").exists());
    environment.set("RUNNER_STORE", "elsewhere/store");
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    assert_eq!(ran(&environment.latest()), Vec::<String>::new());
}

#[test]
fn help_and_version_end_well() {
    let environment = TestEnvironment::new();
    let help = environment.succeed(&["--help"]);
    for verb in [
        "run",
        "plan",
        "why",
        "graph",
        "show",
        "runs",
        "diff",
        "stages",
        "schema",
        "data",
        "cache",
        "new",
        "doctor",
        "completions",
        "man",
    ] {
        assert!(
            help.stdout
                .lines()
                .any(|line| line.trim_start().starts_with(&format!("{verb} "))),
            "{verb}"
        );
        environment.succeed(&[verb, "--help"]);
    }
    help.prints("Exit codes: 0 all done, 1 a stage failed");
    environment
        .succeed(&["--version"])
        .prints(env!("CARGO_PKG_VERSION"));
    environment.run(&[]).expect(2);
}

#[test]
fn caveats_of_metrics_stand_on_lines_of_their_own() {
    let shown = after_one_run().succeed(&["show"]).stdout;
    let notes: Vec<&str> = shown
        .lines()
        .filter(|line| line.trim_start().starts_with('['))
        .collect();
    let numbers = (1..=notes.len()).map(|number| format!("[{number}] "));
    assert!(
        !notes.is_empty()
            && notes
                .iter()
                .zip(numbers)
                .all(|(line, mark)| line.trim_start().starts_with(&mark)),
        "{shown}"
    );
    assert!(!shown.contains("\\n"), "{shown}");
}

/// Nobody is sent from an empty store to a list that is empty.
#[test]
fn an_empty_store_says_what_to_do_first() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    let verbs: [&[&str]; 6] = [
        &["show"],
        &["export", "--format", "prov-json"],
        &["export", "latest", "--format", "csv"],
        &["audit", "latest"],
        &["diff", "a", "b"],
        &["why", "raw"],
    ];
    for arguments in verbs {
        let finished = environment.run(arguments).expect(2);
        finished
            .says("the store has no runs yet")
            .says("`runner run PIPELINE` makes one");
    }
    let audit = environment.run(&["audit", "nope"]).expect(2);
    audit
        .says("there is neither a run nor a file called `nope`")
        .says("the store has no runs yet");
    environment
        .run(&["import", "nope"])
        .expect(2)
        .says("there is no such file")
        .says("runner export RUN --bundle FILE");
}

#[test]
fn why_without_a_file_says_which_it_took_and_takes_no_sweep_for_a_pipeline() {
    let environment = after_one_run();
    environment.write(
        "sweep.yaml",
        "sweep: s\npipeline: pipeline.yaml\naxes: {epochs: [1]}\nobjective: {stage: metrics, metric: f1, direction: maximize}\n",
    );
    environment.succeed(&["sweep", "--quiet", "sweep.yaml"]);
    environment
        .succeed(&["why", "model"])
        .prints("pipeline.yaml, the pipeline of run")
        .prints("model is up to date");
    std::fs::remove_file(environment.path("pipeline.yaml")).unwrap();
    environment
        .run(&["why", "model"])
        .expect(2)
        .says("is gone")
        .says("name the pipeline file");
}

#[test]
fn options_without_effect_are_refused_or_warned_of() {
    let environment = after_one_run();
    environment
        .run(&["export", "latest", "--all", "--format", "csv"])
        .expect(2)
        .says("cannot be used with");
    environment
        .run(&["export", "--format", "csv", "--files-up-to", "1 MiB"])
        .expect(2)
        .says("--files-up-to is for --bundle");
    let licence = environment
        .run(&["export", "--format", "mlflow", "--licence", "MIT"])
        .expect(2);
    licence
        .says("--format mlflow does not use --licence")
        .says("--licence is for --format ro-crate");
    let both = environment
        .run(&[
            "export",
            "--format",
            "csv",
            "--stage",
            "model",
            "--objects",
            "all",
        ])
        .expect(2);
    both.says("--format csv does not use --objects and --stage")
        .says("--format mlflow");
    environment
        .run(&["cache", "gc", "--max-size", "5"])
        .expect(2)
        .says("`5` has no unit: write for example `5 GiB`");
    environment.write(
        "asks.yaml",
        "pipeline: p\nstages:\n  a: {uses: command, with: {run: [sh, -c, \"echo > {out.o}\"], pass_env: [NOT_SET_ANYWHERE, \
         CUDA_VISIBLE_DEVICES], outputs: {o: {path: o}}}}\n",
    );
    let plan = environment.run(&["plan", "asks.yaml"]).expect(0);
    plan.says("asks for the variable `NOT_SET_ANYWHERE`, which is not set here");
    assert!(
        !plan.stderr.contains("CUDA_VISIBLE_DEVICES`"),
        "{}",
        plan.describe()
    );
}

#[test]
fn instances_of_a_stage_are_suggested() {
    let environment = TestEnvironment::with_pipeline(
        "pipeline: p\nstages:\n  raw: {uses: generate, matrix: {day: [20, 30]}, with: {day: \"${day}\"}}\n",
    );
    environment
        .run(&["plan", "pipeline.yaml", "--target", "raw[day=40]"])
        .expect(2)
        .says("raw[day=20]");
}

#[test]
fn checkpoints_are_counted_alike_everywhere() {
    let environment = after_one_run();
    let stats = environment.json(&["cache", "stats"]);
    let gc = environment.json(&["cache", "gc", "--dry-run"]);
    assert_eq!(
        stats["checkpoints"]["count"], gc["kept_checkpoints"],
        "{stats} {gc}"
    );
    assert_ne!(stats["checkpoints"]["count"], 0);
}
