//! Sweeps through the library: trials share what they have in common, a sweep that runs again runs what is missing, and
//! what comes next follows from results alone.

use std::collections::BTreeMap;

use runner::cache::RunStatus;
use runner::engine::CancelToken;
use runner::project::Limits;
use runner::sweep::{Finished, PlotFormat, Queue, Row, influence, plots};

use crate::project::{Bench, SILENT, ran};

/// The objective of `last` follows from `y`, and what it takes from `first` from `x`.
const CHAIN: &str = "params: {x: 1, y: 1}
stages:
  raw: {uses: number, with: {value: 1}}
  first: {uses: curve, from: raw, with: {x: \"${x}\"}}
  last: {uses: curve, from: first, with: {x: \"${y}\"}}
";

const OF_LAST: &str = "objective: {stage: last, metric: loss}\n";

const ONE: &str = "params: {x: 1, epochs: 1}
stages:
  it: {uses: curve, with: {x: \"${x}\", epochs: \"${epochs}\"}}
";

const OF_ONE: &str = "objective: {stage: it, metric: loss}\n";

fn means(rows: &[Row]) -> Vec<(String, Option<f64>)> {
    let point = |row: &Row| serde_json::to_string(&row.point).unwrap();
    rows.iter().map(|row| (point(row), row.mean)).collect()
}

#[test]
fn what_is_common_runs_once_and_again_nothing_runs() {
    let bench = Bench::new(CHAIN);
    let axes = "axes: {x: [1, 2], y: [1, 5]}";
    let mut sweep = bench.sweep(&format!("{OF_LAST}{axes}")).unwrap();
    let view = sweep.view(&Default::default()).unwrap();
    let graph = &view.session.graph;
    assert_eq!((view.trials.members.len(), graph.len()), (4, 1 + 2 + 4));
    assert_eq!(view.count_open(graph.order()), 7);
    assert_eq!(view.count_open(&view.trials.shared(graph)), 3);
    assert!(
        !bench.path("cache").exists(),
        "to look at it writes nothing"
    );

    let finished = sweep.run(Limits::default(), SILENT, &|_, _| {}).unwrap();
    assert_eq!(
        (finished.status, finished.board.count("done")),
        (RunStatus::Done, 4)
    );
    let record = bench.latest();
    assert_eq!(
        ran(&record),
        BTreeMap::from([("raw", 1), ("first", 2), ("last", 4)])
    );
    assert_eq!(record.trials().len(), 4);

    let again = bench.run_sweep(&format!("{OF_LAST}{axes}"));
    assert_eq!(again.board.count("done"), 4);
    assert_eq!(bench.count_runs(), 1, "nothing was missing");

    // One more value: only what is new runs.
    let more = bench.run_sweep(&format!("{OF_LAST}axes: {{x: [1, 2], y: [1, 5, 9]}}"));
    assert_eq!(more.board.rows.len(), 6);
    assert_eq!(ran(&bench.latest()), BTreeMap::from([("last", 2)]));
    // A trial is the pipeline with its values, and so it is there on its own, too.
    assert!(ran(&bench.run(&["x=2", "y=9"])).is_empty());
}

#[test]
fn seeds_are_averaged_and_the_best_stands_first() {
    let bench = Bench::new("params: {x: 1}\nstages:\n  it: {uses: draw, with: {x: \"${x}\"}}\n");
    let sweep = "objective: {stage: it, metric: score}\naxes: {x: [0, 10]}\nseeds: [1, 2, 3]";
    let Finished { view, board, .. } = bench.run_sweep(sweep);
    assert_eq!(board.rows.len(), 2);
    for row in &board.rows {
        let mean = row.values.iter().sum::<f64>() / 3.0;
        let squares = row.values.iter().map(|value| (value - mean).powi(2));
        assert!((row.mean.unwrap() - mean).abs() < 1e-12);
        assert!((row.deviation.unwrap() - (squares.sum::<f64>() / 2.0).sqrt()).abs() < 1e-12);
    }
    let best = board.best().unwrap();
    assert_eq!(best.point["x"], 10);
    let sweep = bench.sweep(sweep).unwrap();
    let values = sweep.values_of_row(&view, best);
    let pairs: Vec<String> = values
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(pairs, ["x=10", "seed=1"]);
    let alone = bench.run(&[&pairs[0], &pairs[1]]);
    assert_eq!(alone.metrics["it"][0].value, Some(best.values[0]));
    assert!(!bench.heard.all().contains("unused-seeds"));
}

/// One execution is not a sample of three, and seeds on which nothing depends are reported.
#[test]
fn seeds_without_effect_give_no_deviation() {
    let bench = Bench::new(ONE);
    let finished = bench.run_sweep(&format!("{OF_ONE}axes: {{x: [1, 2]}}\nseeds: [1, 2, 3]"));
    let heard = bench.heard.all();
    assert!(
        heard.contains("[unused-seeds]") && heard.contains("sweep.yaml:5:1"),
        "{heard}"
    );
    for row in &finished.board.rows {
        assert_eq!((row.values.len(), row.deviation), (1, None));
    }
}

#[test]
fn an_axis_that_reaches_nothing_is_reported() {
    let bench = Bench::new(&ONE.replace("x: 1,", "x: 1, rate: 1,"));
    bench.run_sweep(&format!("{OF_ONE}axes: {{rate: [1, 2]}}"));
    let heard = bench.heard.all();
    assert!(
        heard.contains("nothing refers to the parameter `rate`"),
        "{heard}"
    );
}

#[test]
fn a_failed_trial_leaves_the_others_and_runs_again_with_the_sweep() {
    let bench = Bench::new(CHAIN);
    let text = format!("{OF_LAST}axes: {{x: [1, -1]}}");
    for round in 0..2 {
        let Finished { board, status, .. } = bench.run_sweep(&text);
        assert_eq!(status, RunStatus::Failed);
        assert_eq!((board.count("done"), board.count("failed")), (1, 1));
        let reason = board.rows[1].standing.failure().unwrap();
        assert!(reason.contains("the loss became infinite"), "{reason}");
        let expected = if round == 0 { 3 } else { 0 };
        assert_eq!(ran(&bench.latest()).values().sum::<usize>(), expected);
    }
    // Whoever asks later sees the same.
    let mut sweep = bench.sweep(&text).unwrap();
    let queue = Queue::of(&sweep);
    let view = sweep.state(&queue).unwrap();
    let board = sweep.board(&view, &queue).unwrap();
    assert_eq!((board.count("done"), board.count("failed")), (1, 1));
}

#[test]
fn trials_whose_data_are_missing_have_failed() {
    let bench = Bench::new(
        "params: {x: 1}
stages:
  raw: {uses: reader, with: {file: number.txt}}
  it: {uses: curve, from: raw, with: {x: \"${x}\"}}
",
    );
    let finished = bench.run_sweep(&format!("{OF_ONE}axes: {{x: [1, 2]}}"));
    assert_eq!(finished.status, RunStatus::Failed);
    assert_eq!(finished.board.count("failed"), 2);
}

#[test]
fn halving_raises_the_better_half_and_levels_are_never_compared() {
    let bench = Bench::new(ONE);
    let text = format!(
        "{OF_ONE}axes: {{x: [1, 2, 3, 5]}}\nstopping: {{rule: halving, over: epochs, levels: [1, 2, 4], factor: 2}}"
    );
    let Finished { board, view, .. } = bench.run_sweep(&text);
    let levels: Vec<Option<u64>> = board.rows.iter().map(|row| row.level).collect();
    assert_eq!(levels, [Some(4), Some(2), Some(1), Some(1)]);
    assert_eq!(board.best().unwrap().point["x"], 3);
    assert_eq!(board.best().unwrap().mean, Some(0.25));
    assert_eq!(view.trials.members.len(), 4 + 2 + 1);
    assert_eq!(bench.count_runs(), 3, "a run for each level");
    assert_eq!(
        means(&bench.run_sweep(&text).board.rows),
        means(&board.rows)
    );
    assert_eq!(bench.count_runs(), 3);

    let influences = influence(&board.axes, &board.rows);
    let drawn: BTreeMap<String, Vec<u8>> = plots(&board, &influences, PlotFormat::Svg)
        .unwrap()
        .into_iter()
        .collect();
    let text = |name: &str| String::from_utf8(drawn[name].clone()).unwrap();
    assert!(text("parallel.svg").contains("3 ended at a lower level"));
    let objective = text("objective.svg");
    assert!(objective.contains("at a lower level: not to be compared"));
    assert!(
        objective.contains(">4<") && !objective.contains(">4.0<"),
        "trials are whole numbers"
    );
    assert!(
        plots(&board, &influences, PlotFormat::Png).unwrap()[0]
            .1
            .starts_with(b"\x89PNG")
    );
}

#[test]
fn an_estimator_tries_the_same_points_whatever_the_order_in_which_trials_end() {
    let text = format!(
        "{OF_ONE}axes: {{x: {{uniform: [0, 9]}}}}\nsampler: {{kind: tpe, trials: 12, startup: 4, batch: 2, seed: 5}}"
    );
    let with_jobs = |jobs: u16| {
        let bench = Bench::new(ONE);
        let limits = Limits {
            jobs: Some(jobs),
            ..Limits::default()
        };
        let mut sweep = bench.sweep(&text).unwrap();
        means(&sweep.run(limits, SILENT, &|_, _| {}).unwrap().board.rows)
    };
    let one = with_jobs(1);
    assert_eq!(one.len(), 12);
    assert_eq!(one, with_jobs(4));
}

#[test]
fn a_failed_trial_does_not_end_a_search() {
    let bench = Bench::new(ONE);
    let text = format!(
        "{OF_ONE}axes: {{x: [-1, 2, 4], epochs: {{int: [1, 9]}}}}\nsampler: {{kind: tpe, trials: 8, startup: 4, batch: 2, seed: 1}}"
    );
    let Finished { board, status, .. } = bench.run_sweep(&text);
    assert_eq!(status, RunStatus::Failed);
    assert!(board.count("failed") > 0, "{board:?}");
    assert_eq!(board.count("failed") + board.count("done"), 8, "{board:?}");
}

/// The caller's own token stops a sweep, and what was done is not lost.
#[test]
fn a_cancelled_sweep_continues_with_what_is_missing() {
    let bench = Bench::new(ONE);
    let text = format!(
        "{OF_ONE}axes: {{x: [1, 2, 3, 5]}}\nstopping: {{rule: halving, over: epochs, levels: [1, 2], factor: 2}}"
    );
    let mut sweep = bench.sweep(&text).unwrap();
    let cancel = CancelToken::default();
    sweep.project.cancel = cancel.clone();
    let finished = sweep.run(Limits::default(), SILENT, &|_, view| {
        if view.count_ended() > 0 {
            cancel.cancel();
        }
    });
    let finished = finished.unwrap();
    assert_eq!(finished.status, RunStatus::Interrupted);
    assert_eq!(
        (
            finished.board.count("done"),
            finished.board.count("missing")
        ),
        (0, 2)
    );
    let finished = bench.run_sweep(&text);
    assert_eq!(finished.status, RunStatus::Done);
    assert_eq!(ran(&bench.latest()), BTreeMap::from([("it", 2)]));
    let straight = Bench::new(ONE).run_sweep(&text);
    assert_eq!(means(&finished.board.rows), means(&straight.board.rows));
}
