//! The passes on small pipelines, from text to graph.

use std::path::Path;

use runner::diagnostic::{Diagnostics, SourceMap};
use runner::graph::{Colour, Format, Graph, StageId, build, draw};
use runner::pipeline::{LoadOptions, load_text};

/// The graph of the stages in `text`, and what was found wrong with it.
fn graph_of(text: &str) -> (Graph, Vec<String>) {
    let text = format!("pipeline: test\n{text}");
    let mut sources = SourceMap::default();
    let (spec, mut diagnostics): (_, Diagnostics) = load_text(
        Path::new("test.yaml"),
        &text,
        &LoadOptions::default(),
        &mut sources,
    );
    let (graph, found) = build(
        &spec.expect("the text can be parsed"),
        &stages::catalogue().kinds,
    );
    diagnostics.extend(found);
    let messages = diagnostics
        .sorted()
        .iter()
        .map(|diagnostic| diagnostic.message.clone())
        .collect();
    (graph, messages)
}

fn names(graph: &Graph) -> Vec<&str> {
    graph
        .order()
        .iter()
        .map(|id| graph.stage(*id).name.as_str())
        .collect()
}

/// `source.output -> stage.input` for every edge.
fn edges(graph: &Graph) -> Vec<String> {
    let edge = |id: &StageId| {
        let name = &graph.stage(*id).name;
        let inputs = graph.inputs(*id).into_iter().map(move |(source, handoff)| {
            let item = handoff
                .item
                .as_ref()
                .map_or_else(String::new, |item| format!("<{item}>"));
            format!(
                "{}.{} -> {name}.{}{item}",
                graph.stage(source).name,
                handoff.output,
                handoff.input
            )
        });
        inputs.collect::<Vec<_>>()
    };
    graph.order().iter().flat_map(edge).collect()
}

#[test]
fn ports_are_found_by_type() {
    let (graph, problems) = graph_of(
        "stages:
           raw: {uses: generate}
           scaled: {uses: normalize, from: raw}
           again: {uses: normalize, from: {series: raw, statistics: scaled}}
           plots: {uses: render-plots, from: scaled}",
    );
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(
        edges(&graph),
        [
            "raw.series -> scaled.series",
            "raw.series -> again.series",
            "scaled.statistics -> again.statistics",
            "scaled.series -> plots.series",
        ]
    );
}

#[test]
fn axes_flow_downstream_until_they_are_collected() {
    let (graph, problems) = graph_of(
        "stages:
           raw: {uses: generate, foreach: {n: [3, 4]}, with: {channels: '${n}'}}
           scaled: {uses: normalize, from: raw, matrix: {how: [zscore, minmax]}, with: {method: '${how}'}}
           plain: {uses: normalize, from: raw}
           all: {uses: command, from: {a: scaled, b: plain}, with: {run: [cp, '{in.a}', '{out.x}'], outputs: {x: {path: x}}}}
           table: {uses: collect, from: scaled.statistics}",
    );
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(
        names(&graph),
        [
            "raw[n=3]",
            "raw[n=4]",
            "scaled[n=3,how=zscore]",
            "scaled[n=3,how=minmax]",
            "scaled[n=4,how=zscore]",
            "scaled[n=4,how=minmax]",
            "plain[n=3]",
            "plain[n=4]",
            "all[n=3,how=zscore]",
            "all[n=3,how=minmax]",
            "all[n=4,how=zscore]",
            "all[n=4,how=minmax]",
            "table",
        ]
    );
    let edges = edges(&graph);
    // `a` and `b` share the axis `n` and are joined on it.
    assert!(
        edges.contains(&"plain[n=4].series -> all[n=4,how=minmax].inputs<b>".to_owned()),
        "{edges:#?}"
    );
    let gathered: Vec<&String> = edges
        .iter()
        .filter(|edge| edge.contains("-> table."))
        .collect();
    assert_eq!(gathered.len(), 4);
    assert_eq!(
        gathered[1],
        "scaled[n=3,how=minmax].statistics -> table.items<n=3,how=minmax>"
    );
}

#[test]
fn a_collecting_stage_keeps_the_axes_that_it_declares() {
    let (graph, problems) = graph_of(
        "stages:
           raw: {uses: generate, matrix: {n: [3, 4], ratio: [0.1, 0.2]}, with: {channels: '${n}', anomaly_ratio: '${ratio}'}}
           scaled: {uses: normalize, from: raw}
           table: {uses: collect, from: scaled.statistics, foreach: {n: [3, 4]}}",
    );
    assert_eq!(problems, Vec::<String>::new());
    let gathered: Vec<String> = edges(&graph)
        .into_iter()
        .filter(|edge| edge.contains("-> table[n=4]"))
        .collect();
    assert_eq!(
        gathered,
        [
            "scaled[n=4,ratio=0.1].statistics -> table[n=4].items<ratio=0.1>",
            "scaled[n=4,ratio=0.2].statistics -> table[n=4].items<ratio=0.2>",
        ]
    );
}

#[test]
fn cycles_are_named_in_full() {
    let (_, problems) = graph_of(
        "stages:
           a: {uses: normalize, from: c.series}
           b: {uses: normalize, from: a.series}
           c: {uses: normalize, from: b.series}",
    );
    assert_eq!(problems, ["the stages form a cycle: a -> b -> c -> a"]);
}

#[test]
fn a_bad_axis_is_told_once_and_its_name_is_not_called_undefined() {
    let (_, problems) = graph_of(
        "stages:
           raw: {uses: generate, matrix: {n: [3], ratio: {by: m, 3: [0.1]}, more: {by: ratio, 1: [2]}},
                 with: {channels: '${n}', anomaly_ratio: '${ratio}'}}
           scaled: {uses: normalize, from: raw, with: {method: '${ratio}'}}",
    );
    assert_eq!(
        problems,
        ["`by` of axis `ratio` must name an earlier axis, found `m`"]
    );
}

#[test]
fn every_wrong_connection_is_told() {
    let (graph, problems) = graph_of(
        "stages:
           raw: {uses: generate}
           lost: {uses: normalize}
           typo: {uses: normalize, from: rwa}
           wrong: {uses: evaluate, from: raw, with: {threshold: {kind: fixed, value: 1}}}
           port: {uses: normalize, from: {serie: raw}}
           output: {uses: normalize, from: raw.labels}
           list: {uses: normalize, from: [raw, raw]}",
    );
    assert_eq!(
        problems,
        [
            "`lost` needs its input `series` (Series)",
            "there is no stage `rwa`",
            "`wrong` takes nothing that `raw` gives",
            "`port` has no input `serie`",
            "`raw` has no output `labels`",
            "`list` takes no list of inputs",
        ]
    );
    assert_eq!(graph.len(), 7, "what is wrong can still be drawn");
}

#[test]
fn leaks_are_named_with_their_parameter() {
    let (_, problems) = graph_of(
        "stages:
           raw: {uses: generate}
           scaled: {uses: normalize, from: raw, with: {fit: all}}
           windows: {uses: window, from: scaled, with: {length: 20, cross_boundaries: true}}",
    );
    assert_eq!(
        problems,
        [
            "leakage: `scaled` learns its normalisation statistics from validation and calibration and test rows",
            "leakage: `windows` makes windows that cross a split boundary",
        ]
    );
    let (_, sound) =
        graph_of("stages:\n  raw: {uses: generate}\n  scaled: {uses: normalize, from: raw}");
    assert_eq!(sound, Vec::<String>::new());
}

#[test]
fn drawings_name_stages_edges_and_states() {
    let (graph, _) =
        graph_of("stages:\n  raw: {uses: generate}\n  scaled: {uses: normalize, from: raw}");
    let mermaid = draw(&graph, Format::Mermaid, |id| {
        if id.index() == 0 {
            Colour::Hit
        } else {
            Colour::Miss
        }
    });
    assert!(
        mermaid.contains("s0[\"raw<br/><i>generate</i>\"]:::hit\n"),
        "{mermaid}"
    );
    assert!(mermaid.contains("s0 -->|series| s1\n"), "{mermaid}");
    let dot = draw(&graph, Format::Dot, |_| Colour::Pending);
    assert!(dot.contains("s0 -> s1 [label=\"series\"];"), "{dot}");
    let json: serde_json::Value =
        serde_json::from_str(&draw(&graph, Format::Json, |_| Colour::Hit)).unwrap();
    assert_eq!(json["stages"][1]["inputs"][0]["from"], "raw");
    assert_eq!(json["stages"][1]["wave"], 1);
}

#[test]
fn pruning_keeps_what_the_targets_need() {
    let (graph, _) = graph_of(
        "stages:
           raw: {uses: generate}
           other: {uses: normalize, from: raw}
           scaled: {uses: normalize, from: raw}
           windows: {uses: window, from: scaled, with: {length: 20}}",
    );
    let pruned = graph.prune(&graph.find("windows"));
    assert_eq!(names(&pruned), ["raw", "scaled", "windows"]);
    assert_eq!(
        edges(&pruned),
        [
            "raw.series -> scaled.series",
            "scaled.series -> windows.series"
        ]
    );
    let path = pruned.critical_path(|_| 1.0);
    assert_eq!(path, [3.0, 2.0, 1.0]);
}

#[test]
fn kinds_judge_their_connections_and_outputs_follow_them() {
    let scored = "stages:
           raw: {uses: generate}
           windows: {uses: window, from: raw, with: {length: 50}}
           model: {uses: train, from: windows, with: {model: {kind: tvnet-recon}}}
           scores: {uses: score, from: {model: model, windows: windows}}
           metrics: {uses: evaluate, from: scores";
    let (_, problems) = graph_of(&format!("{scored}}}"));
    assert!(
        problems.len() == 1 && problems[0].contains("`scores` are judged at a threshold"),
        "{problems:?}"
    );
    let (_, problems) = graph_of(&format!(
        "{scored}, with: {{threshold: {{kind: ewma}}, metrics: [f1, mse]}}}}"
    ));
    assert!(
        problems.len() == 1 && problems[0].contains("metric `mse` judges forecasts"),
        "{problems:?}"
    );
    let (graph, problems) = graph_of(&format!("{scored}, with: {{threshold: {{kind: ewma}}}}}}"));
    assert_eq!(
        problems,
        Vec::<String>::new(),
        "carrying a threshold forward is no leak"
    );
    let outputs: Vec<&str> = graph
        .stage(graph.find("metrics")[0])
        .outputs
        .iter()
        .map(|output| output.name.as_str())
        .collect();
    assert_eq!(
        outputs,
        ["metrics"],
        "the tables come with forecasts and predictions"
    );
    let leak = "threshold: {kind: quantile, anomaly_ratio: 1.0, over: [train, test]}";
    let (_, problems) = graph_of(&format!("{scored}, with: {{{leak}}}}}"));
    assert_eq!(
        problems,
        ["leakage: `metrics` learns its threshold from test rows, which are judged by it"]
    );
}

/// What was found wrong with a pipeline, each problem with its hint.
fn told(text: &str) -> Vec<(String, String)> {
    let text = format!("pipeline: test\n{text}");
    let mut sources = SourceMap::default();
    let (spec, mut diagnostics) = load_text(
        Path::new("test.yaml"),
        &text,
        &LoadOptions::default(),
        &mut sources,
    );
    if let Some(spec) = spec {
        diagnostics.extend(build(&spec, &stages::catalogue().kinds).1);
    }
    let told = |problem: &runner::diagnostic::Diagnostic| {
        (
            problem.message.clone(),
            problem.hint.as_deref().unwrap_or_default().to_owned(),
        )
    };
    diagnostics.sorted().into_iter().map(told).collect()
}

#[test]
fn a_key_on_the_wrong_level_is_sent_to_the_right_one() {
    let problems = told(
        "stages:
           raw: {uses: generate, kinds: [noise_burst], retires: 2, with: {retries: 2}}
           it: {uses: command, files: {s: s.sh}, with: {run: [sh], outputs: {o: {path: o}}}}
           odd: {files: {s: s.sh}}",
    );
    let hint = |key: &str, stage: &str| {
        let message = format!("unknown key `{key}` in stage `{stage}`");
        problems
            .iter()
            .find(|(found, _)| *found == message)
            .unwrap_or_else(|| panic!("{problems:?}"))
            .1
            .as_str()
    };
    assert_eq!(
        hint("kinds", "raw"),
        "`kinds` is a parameter of `generate`: put it under `with`"
    );
    assert_eq!(hint("retires", "raw"), "did you mean `retries`?");
    assert_eq!(
        hint("retries", "raw"),
        "`retries` is a key of the stage: put it beside `with`"
    );
    assert_eq!(
        hint("files", "it"),
        "`files` is a parameter of `command`: put it under `with`"
    );
    assert!(
        hint("files", "odd").starts_with("choose from"),
        "its kind is not known"
    );
}

#[test]
fn placeholders_without_quotes_are_maps_and_the_hint_says_so() {
    let problems = told(
        "stages: {it: {uses: command, with: {run: [sh, {file.s}], files: {s: s.sh}, outputs: {o: {path: o}}}}}",
    );
    let (message, hint) = &problems[0];
    assert!(message.contains("`run.1`"), "{message}");
    assert_eq!(hint, "quote it, or YAML takes it for a map: \"{file.s}\"");
}

#[test]
fn problems_of_all_instances_are_told_once_and_those_of_one_by_name() {
    let run = "run: [x, '{in.rwa}', '{out.p}', '{metrics}'], outputs: {metrics: {path: m.json}}";
    let problems = told(&format!(
        "stages:
           raw: {{uses: generate}}
           it: {{uses: command, from: raw, matrix: {{n: [1, 2, 3]}}, with: {{{run}}}}}
           windows: {{uses: window, from: raw, matrix: {{n: [100, 0]}}, with: {{length: \"${{n}}\", strid: 1}}}}"
    ));
    let messages: Vec<&str> = problems
        .iter()
        .map(|(message, _)| message.as_str())
        .collect();
    let unused = "the axis `n` of stage `it` changes nothing";
    let messages: Vec<&str> = messages
        .into_iter()
        .filter(|message| !message.starts_with(unused))
        .collect();
    assert_eq!(
        messages
            .iter()
            .filter(|message| message.contains("`{in.rwa}`"))
            .count(),
        1,
        "{messages:?}"
    );
    assert_eq!(
        messages
            .iter()
            .filter(|message| message.contains("`{out.p}`"))
            .count(),
        1,
        "{messages:?}"
    );
    assert_eq!(
        messages
            .iter()
            .filter(|message| message.contains("`{metrics}`"))
            .count(),
        1,
        "{messages:?}"
    );
    assert!(
        messages.contains(&"unknown key `strid` in stage `windows`"),
        "{messages:?}"
    );
    let one = messages
        .iter()
        .find(|message| message.contains("`length`"))
        .unwrap();
    assert!(one.ends_with("(in `windows[n=0]`)"), "{one}");
}
