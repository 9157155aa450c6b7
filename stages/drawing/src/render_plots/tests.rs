//! Tests of the stage `render-plots` on small artifacts.

use super::*;
use contract::artifact::{Artifact, Column, Direction, Metric, Segment};
use contract::{NullHost, Random, StageKind};

const ROWS: usize = 900;

fn segments() -> Vec<Segment> {
    let segment =
        |split, entity: &str, rows, labelled| Segment::new(split, entity, rows).labelled(labelled);
    vec![
        segment(Split::Train, "a", 0..300, false),
        segment(Split::Test, "a", 300..700, true),
        segment(Split::Test, "b/..", 700..ROWS, true),
    ]
}

fn labels() -> Vec<u8> {
    (0..ROWS)
        .map(|row| u8::from((400..420).contains(&row) || (500..505).contains(&row) || row == 899))
        .collect()
}

fn series() -> Series {
    let mut random = Random::new(5, "series");
    let value = |index: usize| {
        if index % 3 == 1 && labels()[index / 3] == 1 {
            9.0
        } else {
            0.0
        }
    };
    Series {
        channels: ["cpu", "disk", "net"].map(str::to_owned).to_vec(),
        values: (0..ROWS * 3)
            .map(|index| random.normal() as f32 + value(index))
            .collect(),
        labels: labels(),
        times: vec![],
        segments: segments(),
        ..Series::default()
    }
}

fn scores() -> Scores {
    let scores = labels()
        .iter()
        .enumerate()
        .map(|(row, label)| f32::from(*label) + (row % 7) as f32 * 0.1)
        .collect();
    Scores {
        scores,
        labels: labels(),
        times: vec![],
        segments: segments(),
        channels: vec![],
        contributions: vec![],
    }
}

fn metrics() -> Metrics {
    let entry = |name: &str, value, oracle| Metric {
        name: name.into(),
        value: Some(value),
        direction: Direction::Neither,
        oracle,
        inflating: false,
        caveat: String::new(),
    };
    Metrics {
        entries: vec![entry("threshold", 0.8, false), entry("best_f1", 0.9, true)],
    }
}

fn run(parameters: &str, inputs: Vec<(&str, Artifact)>) -> Result<Files, Trouble> {
    let kind = StageKind::of::<RenderPlots>();
    let parameters = kind
        .parse(serde_json::from_str(parameters).unwrap())
        .map_err(Trouble::new)?;
    parameters.check()?;
    let mut ports = Inputs::default();
    inputs
        .into_iter()
        .for_each(|(port, artifact)| ports.add(port, "", artifact));
    let outputs = parameters.run(&ports, &NullHost::default().context(0))?;
    match outputs.into_map().swap_remove("plots") {
        Some(Artifact::Files(files)) => Ok(files.as_ref().clone()),
        other => panic!("{other:?}"),
    }
}

fn all() -> Vec<(&'static str, Artifact)> {
    vec![
        ("series", series().into()),
        ("scores", scores().into()),
        ("metrics", metrics().into()),
    ]
}

fn names(files: &Files) -> Vec<&str> {
    files
        .entries()
        .iter()
        .map(|entry| entry.path.as_str())
        .collect()
}

#[test]
fn a_folder_per_entity_with_overview_and_events() {
    let files = run(r#"{"width": 300, "height": 150}"#, all()).unwrap();
    let expected = [
        "001-a/event-001.png",
        "001-a/event-002.png",
        "001-a/score.png",
        "001-a/series.png",
        "002-b_../event-001.png",
        "002-b_../score.png",
        "002-b_../series.png",
    ];
    assert_eq!(names(&files), expected);
}

/// As scores of images are: a row each, with names that begin with their class.
#[test]
fn samples_share_a_plot() {
    let sample = |row: usize| {
        let name = format!("{}/{row}", ["shift", "calm"][row % 2]);
        Segment::new(Split::Test, name, row..row + 1).labelled(true)
    };
    let segments: Vec<Segment> = (0..10).map(sample).collect();
    let labels = (0..10).map(|row| u8::from(row % 2 == 0)).collect();
    let scores = (0..10).map(|row| [5.0, 1.0][row % 2]).collect();
    let scores = Scores {
        scores,
        labels,
        times: vec![],
        segments,
        channels: vec![],
        contributions: vec![],
    };
    let files = run(
        r#"{"format": "svg"}"#,
        vec![("scores", scores.into()), ("metrics", metrics().into())],
    )
    .unwrap();
    assert_eq!(names(&files), ["score.svg"]);
    let text = String::from_utf8(files.entries()[0].content.read().unwrap().to_vec()).unwrap();
    assert!(text.replace('\u{a0}', " ").contains("sample of split test"));
}

/// Scores know when their rows were, so that the series need not be connected for that.
#[test]
fn scores_alone_have_an_axis_of_time() {
    let timed = Scores {
        times: (0..ROWS as i64)
            .map(|row| 1_600_000_000_000 + 60_000 * row)
            .collect(),
        ..scores()
    };
    for (scores, label) in [(timed, "time (UTC)"), (scores(), "row of split test")] {
        let files = run(
            r#"{"format": "svg"}"#,
            vec![("scores", scores.into()), ("metrics", metrics().into())],
        )
        .unwrap();
        let file = files.entries()[0].content.read().unwrap();
        let text = String::from_utf8(file.to_vec()).unwrap();
        assert!(text.replace('\u{a0}', " ").contains(label), "{label}");
    }
}

#[test]
fn same_bits_whatever_the_thread_count() {
    let draw = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            run(r#"{"width": 300, "height": 150}"#, all())
                .unwrap()
                .digest()
        })
    };
    assert_eq!(draw(1), draw(3));
}

#[test]
fn svg_holds_threshold_metrics_and_the_channel_that_matters() {
    let files = run(r#"{"format": "svg", "channels": 1}"#, all()).unwrap();
    let text = |path: &str| {
        let entry = files
            .entries()
            .iter()
            .find(|entry| entry.path == path)
            .unwrap();
        String::from_utf8(entry.content.read().unwrap().to_vec())
            .unwrap()
            .replace('\u{a0}', " ")
    };
    let score = text("001-a/score.svg");
    for part in [
        "threshold 0.800",
        "best F1 0.900 (oracle)",
        "labelled anomaly",
        "alarm",
        "over all entities",
    ] {
        assert!(score.contains(part), "{part}");
    }
    let series = text("001-a/series.svg");
    assert!(series.contains(">disk<") && !series.contains(">cpu<"));
}

#[test]
fn draws_what_is_connected() {
    let only_scores = run(r#"{"events": 0}"#, vec![("scores", scores().into())]).unwrap();
    assert_eq!(
        names(&only_scores),
        ["001-a/score.png", "002-b_../score.png"]
    );
    let only_series = run(
        r#"{"events": 1, "split": "train"}"#,
        vec![("series", series().into())],
    )
    .unwrap();
    assert_eq!(names(&only_series), ["series.png"]);
}

fn forecasts() -> Forecasts {
    let origin = |row| contract::artifact::Origin {
        split: Split::Test,
        entity: "a".into(),
        row,
    };
    Forecasts {
        channels: vec!["cpu".into(), "disk".into()],
        horizon: 12,
        origins: (0..9).map(origin).collect(),
        predicted: (0..9 * 24).map(|value| value as f32 * 0.1).collect(),
        actual: (0..9 * 24).map(|value| value as f32 * 0.11).collect(),
        ..Forecasts::default()
    }
}

#[test]
fn draws_forecasts_and_filled_in_values() {
    let files = run(
        r#"{"windows": 3, "format": "svg"}"#,
        vec![("forecasts", forecasts().into())],
    )
    .unwrap();
    assert_eq!(
        names(&files),
        ["forecast-001.svg", "forecast-002.svg", "forecast-003.svg"]
    );
    let text = |files: &Files| {
        String::from_utf8(files.entries()[2].content.read().unwrap().to_vec()).unwrap()
    };
    for part in ["forecast from row 8", ">measured<", ">model<", ">disk<"] {
        assert!(text(&files).contains(part), "{part}");
    }
    let mut imputed = forecasts();
    imputed.judged = (0..9 * 24).map(|value| u8::from(value % 5 == 0)).collect();
    let files = run(
        r#"{"format": "svg", "channels": ["disk"]}"#,
        vec![("forecasts", imputed.into())],
    )
    .unwrap();
    assert!(text(&files).contains(">hidden<") && !text(&files).contains(">cpu<"));
    let error = run(
        r#"{"channels": ["net"]}"#,
        vec![("forecasts", forecasts().into())],
    )
    .unwrap_err();
    assert!(error.hint_text().unwrap().contains("cpu, disk"));
}

#[test]
fn the_rows_before_a_forecast_are_drawn_if_they_are_there() {
    let series = |entity: &str| Series {
        channels: vec!["cpu".into(), "disk".into()],
        values: vec![0.5; 2 * 40],
        labels: vec![],
        times: vec![],
        segments: vec![
            Segment::new(Split::Train, "b", 0..2),
            Segment::new(Split::Test, entity, 2..40),
        ],
        ..Series::default()
    };
    let mut given = forecasts();
    given.origins.iter_mut().for_each(|origin| origin.row += 2);
    let inputs = |entity| {
        vec![
            ("forecasts", given.clone().into()),
            ("series", series(entity).into()),
        ]
    };
    let files = run(
        r#"{"windows": 2, "format": "svg", "history": 5}"#,
        inputs("a"),
    )
    .unwrap();
    assert_eq!(names(&files), ["forecast-001.svg", "forecast-002.svg"]);
    let shaded = |index: usize| {
        let bytes = files.entries()[index].content.read().unwrap().to_vec();
        String::from_utf8(bytes).unwrap().contains(">forecast<")
    };
    // Before the first window lies another entity.
    assert_eq!([shaded(0), shaded(1)], [false, true]);
    assert!(
        run("{}", inputs("c"))
            .unwrap_err()
            .message()
            .contains("do not belong together")
    );
}

#[test]
fn draws_the_confusion_matrix() {
    let predictions = Predictions {
        classes: vec!["mean_shift".into(), "trend".into()],
        samples: vec!["a".into(), "b".into(), "c".into()],
        splits: vec![Split::Test; 3],
        truth: vec![0, 0, 1],
        probabilities: vec![0.9, 0.1, 0.2, 0.8, 0.3, 0.7],
        ..Predictions::default()
    };
    let files = run(
        r#"{"format": "svg"}"#,
        vec![("predictions", predictions.clone().into())],
    )
    .unwrap();
    assert_eq!(names(&files), ["confusion.svg"]);
    let text = String::from_utf8(files.entries()[0].content.read().unwrap().to_vec()).unwrap();
    for part in ["accuracy 0.667", ">trend<", "50 %", ">true class<"] {
        assert!(text.contains(part), "{part}");
    }
    assert!(
        run(
            r#"{"split": "train"}"#,
            vec![("predictions", predictions.into())]
        )
        .is_err()
    );
}

#[test]
fn tables_are_ranked_and_graphs_drawn() {
    let texts = |names: &[&str]| -> Column {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>()
            .into()
    };
    let table = || {
        let columns = vec![
            ("detector", texts(&["pca", "cnn"])),
            ("vus_pr", vec![0.36, 0.35].into()),
            ("vus_pr_std", vec![0.1, 0.2].into()),
            ("f1", Column::Reals(vec![Some(0.4), None])),
        ];
        Table::new(columns).unwrap()
    };
    let edges = vec![
        ("from", texts(&["cpu", "disk"])),
        ("to", texts(&["disk", "net"])),
        ("weight", vec![0.5, 0.7].into()),
    ];
    let graph = Table::new(edges).unwrap();
    let files = run(
        r#"{"format": "svg"}"#,
        vec![("table", table().into()), ("graph", graph.into())],
    )
    .unwrap();
    let mut found = names(&files);
    found.sort_unstable();
    assert_eq!(found, ["graph.svg", "ranking.svg"]);
    let ratios = vec![
        ("ratio", vec![0.125, 0.5].into()),
        ("mse", vec![0.2, 0.3].into()),
        ("mae", vec![0.1, 0.2].into()),
    ];
    let ratios = Table::new(ratios).unwrap();
    let files = run(
        r#"{"format": "svg", "figures": ["mse", "mae"]}"#,
        vec![("table", ratios.into())],
    )
    .unwrap();
    let text = String::from_utf8(files.entries()[0].content.read().unwrap().to_vec()).unwrap();
    for part in ["mse by ratio", ">ratio 0.125<", ">ratio 0.5<"] {
        assert!(text.contains(part), "{part}");
    }
    let error = run(
        r#"{"figures": ["roc_auc"]}"#,
        vec![("table", table().into())],
    )
    .unwrap_err();
    assert!(error.message().contains("`roc_auc`") && error.hint_text().unwrap().contains("`f1`"));
    assert!(
        run("{}", vec![("graph", table().into())])
            .unwrap_err()
            .message()
            .contains("`from`")
    );
}

#[test]
fn says_what_is_wrong() {
    assert!(
        run("{}", vec![])
            .unwrap_err()
            .message()
            .contains("nothing to draw")
    );
    let error = run(r#"{"channels": ["dsk"]}"#, all()).unwrap_err();
    assert!(error.message().contains("`dsk`") && error.hint_text().unwrap().contains("disk"));
    let error = run(r#"{"split": "validation"}"#, all()).unwrap_err();
    assert!(error.hint_text().unwrap().contains("`train`, `test`"));
    let mut other = scores();
    other.segments[0].rows = 0..299;
    let error = run(
        "{}",
        vec![("series", series().into()), ("scores", other.into())],
    )
    .unwrap_err();
    assert!(error.message().contains("do not belong together"));
    assert!(run(r#"{"width": 20}"#, all()).is_err());
}
