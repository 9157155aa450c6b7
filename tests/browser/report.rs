//! Pages as files: what they show is what the store has, and nothing in them does anything but show it.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::access::expect_accessible;
use crate::driver::Browser;
use crate::environment::TestEnvironment;

/// A detector over generated rows, with everything that a page can show of it.
pub const DETECTOR: &str = r#"pipeline: seen
seed: 7
stages:
  raw:
    uses: generate
    with: {channels: 12, day: 48, rows: {train: 400, validation: 120, calibration: 120, test: 900}}
  scaled: {uses: normalize, from: raw, with: {method: zscore}}
  windows: {uses: window, from: scaled, with: {length: 16}}
  model:
    uses: train
    from: windows
    with: {model: {kind: tvnet-recon, patch: 8, blocks: 1}, epochs: 3, batch: 32}
  scores: {uses: score, from: {model: model, windows: windows}}
  metrics:
    uses: evaluate
    from: scores
    with: {threshold: {kind: quantile, anomaly_ratio: 5}}
  plots:
    uses: render-plots
    from: {series: raw, scores: scores, metrics: metrics}
    with: {width: 300, height: 150, channels: 1, events: 1}
"#;

/// Two detectors on three series, collected and ranked.
const COMPARED: &str = r#"pipeline: compared
seed: 3
stages:
  raw:
    uses: generate
    foreach: {series: [36, 48, 60]}
    with: {channels: 3, day: "${series}", rows: {train: 300, validation: 60, calibration: 120, test: 600}}
  windows:
    uses: window
    from: raw
    matrix: {detector: [pca, kmeans-ad]}
    with: {length: 8}
  model: {uses: train, from: windows, with: {model: {kind: "${detector}"}}}
  scores: {uses: score, from: {model: model, windows: windows}}
  metrics:
    uses: evaluate
    from: scores
    with: {threshold: {kind: quantile, anomaly_ratio: 5}, metrics: [average_precision, f1]}
  ranking:
    uses: collect
    from: metrics
    with: {by: [detector], rank: average_precision}
"#;

/// Runs a pipeline and writes its page.
fn page_of(environment: &TestEnvironment) -> std::path::PathBuf {
    environment.succeed(&["run", "pipeline.yaml"]);
    environment.succeed(&["report", "-o", "page.html"]);
    environment.path("page.html")
}

#[test]
fn a_run_shows_what_the_store_has() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let environment = TestEnvironment::with_pipeline(DETECTOR);
    let page = page_of(&environment);
    browser.open_file(&page);
    let own = format!("file://{}", page.display());
    // Every metric of the record, as the terminal writes it.
    let record = environment.latest();
    let shown = environment.succeed(&["show"]).stdout;
    for name in record["metrics"]["metrics"].as_object().unwrap().keys() {
        let cell = browser.eval(&format!(
            "return document.querySelector('[data-metric=\"{name}\"]').textContent"
        ));
        let line = shown
            .lines()
            .find(|line| line.split_whitespace().next() == Some(name.as_str()));
        let value = line.unwrap().split_whitespace().nth(1).unwrap();
        assert_eq!(cell, value, "{name}");
    }
    for section in ["results", "series", "training", "stages", "provenance"] {
        browser.click(&format!("nav a[href='#{section}']"));
        assert_eq!(browser.eval("return location.hash"), format!("#{section}"));
    }
    // A box of the graph opens its stage.
    browser.eval("document.querySelector('svg.graph a[href=\"#stage-3\"]').dispatchEvent(new MouseEvent('click', {bubbles: true}))");
    browser.wait("return document.getElementById('stage-3').open");
    let text = browser.eval("return document.getElementById('stage-3').textContent");
    assert!(text.as_str().unwrap().contains("tvnet-recon"), "{text}");
    // An event leads to its rows.
    browser.click("[data-jump]");
    let rows = browser.eval(
        "const button = document.querySelector('[data-jump]'); const host = document.querySelector('[data-scene]');
         return [Number(button.dataset.from), Number(button.dataset.to), Number(host.dataset.from), Number(host.dataset.to)]",
    );
    let rows: Vec<i64> = serde_json::from_value(rows).unwrap();
    assert!(
        rows[2] <= rows[0] && rows[1] <= rows[3] && rows[3] - rows[2] < 900,
        "{rows:?}"
    );
    // All channels, on request.
    browser.click("[data-all]");
    browser.wait("return document.querySelectorAll('.lane').length === 13");
    // Found and missed add up to the events of the test rows.
    let counts = browser.eval(
        "const scene = runnerPage.data.scenes[0];
         return [scene.events.length, document.querySelectorAll('td .good, td .bad').length, scene.rows]",
    );
    assert_eq!(counts[0], counts[1]);
    assert_eq!(counts[2], 900);
    browser.click("#theme");
    browser.wait("return document.documentElement.dataset.theme === 'dark'");
    browser.picture("run-dark");
    browser.click("#theme");
    browser.expect_quiet(&own);
    expect_accessible(&browser, "the page of a run");
    browser.picture("run");
}

#[test]
fn a_comparison_ranks_and_joins_what_does_not_differ() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let environment = TestEnvironment::with_pipeline(COMPARED);
    let page = page_of(&environment);
    browser.open_file(&page);
    let record = environment.latest();
    // The means of the page are those of the metrics in the record.
    for detector in ["pca", "kmeans-ad"] {
        let mut values = Vec::new();
        for (stage, metrics) in record["metrics"].as_object().unwrap() {
            if stage.starts_with("metrics[") && stage.contains(&format!("detector={detector}")) {
                values.push(metrics["average_precision"].as_f64().unwrap());
            }
        }
        assert_eq!(values.len(), 3);
        let mean = values.iter().sum::<f64>() / 3.0;
        let shown = browser.eval(&format!(
            "const row = [...document.querySelectorAll('#ranking table tbody tr')].find((row) => row.textContent.includes('{detector}'));
             return Number(row.cells[2].dataset.value)"
        ));
        assert!(
            (shown.as_f64().unwrap() - mean).abs() < 1e-12,
            "{detector}: {shown} {mean}"
        );
    }
    // Three series, two detectors: no bar is short enough to tell them apart.
    let diagram = browser.eval("return document.querySelector('#ranking figure').textContent");
    let diagram = diagram.as_str().unwrap();
    assert!(
        diagram.contains("over 3 series") && diagram.contains("1.132"),
        "{diagram}"
    );
    // A click on a head sorts, a second one the other way.
    let order = "return [...document.querySelectorAll('#ranking table tbody tr')].slice(0, 2).map((row) => Number(row.cells[2].dataset.value))";
    for (clicks, is_falling) in [(1, true), (2, false)] {
        browser.click("#ranking table thead th:nth-child(3) button");
        let values: Vec<f64> = serde_json::from_value(browser.eval(order)).unwrap();
        assert_eq!(
            values[0] >= values[1],
            is_falling,
            "click {clicks}: {values:?}"
        );
    }
    // Another series has another chart.
    browser.eval(
        "const choice = document.querySelector('[data-choose]'); choice.selectedIndex = 2;
         choice.dispatchEvent(new Event('change'))",
    );
    browser.wait("return document.querySelector('#s2 [data-ready]') !== null");
    let labels = browser.eval(
        "return [...document.querySelectorAll('#s2 .label bdi')].map((label) => label.textContent)",
    );
    assert_eq!(
        labels.as_array().unwrap().len(),
        5,
        "two detectors, three channels: {labels}"
    );
    browser.expect_quiet(&format!("file://{}", page.display()));
    expect_accessible(&browser, "the page of a comparison");
    browser.picture("ranking");
}

/// A spike of one row among many is seen from afar, and is found there with its value.
#[test]
fn a_spike_of_one_row_is_never_lost() {
    const ROWS: usize = 150_000;
    const SPIKE: usize = 123_457;
    let Some(browser) = Browser::start() else {
        return;
    };
    let mut csv = "a,b,label\n".to_owned();
    for row in 0..ROWS {
        let a = if row == SPIKE {
            77.125
        } else {
            (row % 97) as f64 / 97.0
        };
        writeln!(csv, "{a},{},{}", row % 13, u8::from(row == SPIKE)).unwrap();
    }
    let environment = TestEnvironment::with_pipeline(
        "pipeline: spike
stages:
  raw: {uses: ingest, with: {dataset: csv, path: spike.csv, label: label, split: {train: 0.2, calibration: 0.1, test: 0.7}}}
  windows: {uses: window, from: raw, with: {length: 1}}
  model: {uses: train, from: windows, with: {model: {kind: pca}}}
  scores: {uses: score, from: {model: model, windows: windows}}
  metrics: {uses: evaluate, from: scores, with: {threshold: {kind: quantile, anomaly_ratio: 0.1}, metrics: [f1]}}
",
    );
    environment.write("spike.csv", csv);
    let page = page_of(&environment);
    browser.open_file(&page);
    let row = SPIKE - ROWS * 3 / 10;
    let from_afar = browser.eval(
        "const chart = runnerPage.charts.get('s0');
         const lane = chart.lanes.find((lane) => lane.name === 'a');
         const [x, y] = lane.rows.points(0, chart.scene.rows, 900);
         const place = y.indexOf(Math.max(...y));
         return {points: x.length, value: y[place], x: x[place]}",
    );
    assert_eq!(from_afar["value"], 77.125, "{from_afar}");
    assert!(from_afar["points"].as_u64().unwrap() < 5_000, "{from_afar}");
    let near = browser.eval(&format!(
        "const chart = runnerPage.charts.get('s0');
         chart.show({row} - 4, {row} + 4);
         const lane = chart.lanes.find((lane) => lane.name === 'a');
         while (!('value' in lane.rows.at({row}))) await new Promise((done) => setTimeout(done, 50));
         const [x, y] = lane.rows.points(chart.from, chart.to, 900);
         return {{at: lane.rows.at({row}).value, beside: lane.rows.at({row} + 1).value, drawn: y[x.indexOf({row})], to: chart.to - chart.from}}"
    ));
    assert_eq!(near["at"], 77.125, "{near}");
    assert_eq!(near["drawn"], 77.125, "{near}");
    let beside = ((SPIKE + 1) % 97) as f64 / 97.0;
    assert!(
        (near["beside"].as_f64().unwrap() - beside).abs() < 1e-6,
        "{near}"
    );
    assert_eq!(near["to"], 8, "{near}");
    browser.expect_quiet(&format!("file://{}", page.display()));
}

/// A threshold that moves from row to row: the alarms of the page are those that the metrics count.
#[test]
fn a_threshold_that_moves_is_drawn_and_its_alarms_are_counted() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let threshold = "{kind: quantile, anomaly_ratio: 5}";
    let moving = "{kind: ewma, k: 2, smoothing: 0.05}, metrics: [recall, precision]";
    let environment = TestEnvironment::with_pipeline(&DETECTOR.replace(threshold, moving));
    let page = page_of(&environment);
    browser.open_file(&page);
    let text = browser.eval("return document.body.innerText");
    let says = "at a threshold that moves from row to row";
    assert!(text.as_str().unwrap().contains(says), "{text}");
    let counted = browser.eval(
        "const chart = runnerPage.charts.get('s0');
         const { line, excess } = chart.lanes[0].moving;
         const inEvent = (row) => chart.scene.events.some(([start, end]) => row >= start && row < end);
         let [alarms, hits, anomalous, wrong] = [0, 0, 0, 0];
         for (let row = 0; row < chart.scene.rows; row++) {
           const isAlarm = excess.at(row).value > 0;
           wrong += isAlarm === (chart.lanes[0].rows.at(row).value > line.at(row).value) ? 0 : 1;
           alarms += isAlarm ? 1 : 0;
           anomalous += inEvent(row) ? 1 : 0;
           hits += isAlarm && inEvent(row) ? 1 : 0;
         }
         return {recall: hits / anomalous, precision: hits / alarms, wrong}",
    );
    let run = environment.latest();
    for name in ["recall", "precision"] {
        let seen = counted[name].as_f64().unwrap();
        let stored = run["metrics"]["metrics"][name].as_f64().unwrap();
        assert!((seen - stored).abs() < 1e-9, "{name}: {counted}");
    }
    assert!(counted["recall"].as_f64().unwrap() > 0.0, "{counted}");
    assert_eq!(counted["wrong"], 0, "{counted}");
    browser.expect_quiet(&format!("file://{}", page.display()));
}

/// Names that would do something if they were markup, and such that confuse a reader.
#[test]
fn hostile_names_do_nothing() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let long = "x".repeat(10_000);
    let names = [
        "<img src=x onerror=window.hacked=1>",
        "</script><script>window.hacked=1</script>",
        "\"><svg onload=window.hacked=1>",
        "'+window.hacked+'",
        "{{constructor}}",
        "\u{202e}txet tfel ot thgir",
        "&lt;b&gt;",
        &long,
    ];
    let quoted: Vec<String> = names
        .iter()
        .map(|name| format!("\"{}\"", name.replace('"', "\"\"")))
        .collect();
    let mut csv = format!("{},label\n", quoted.join(","));
    for row in 0..400 {
        for channel in 0..names.len() {
            write!(csv, "{},", (row * (channel + 3)) % 17).unwrap();
        }
        writeln!(csv, "{}", u8::from((300..310).contains(&row))).unwrap();
    }
    let environment = TestEnvironment::with_pipeline(
        "pipeline: hostile
params: {name: '</script><script>window.hacked=1</script>'}
stages:
  raw:
    uses: ingest
    with: {dataset: csv, path: '<img src=x onerror=hacked=1>.csv', label: label, split: {train: 0.5, calibration: 0.1, test: 0.4}}
  windows: {uses: window, from: raw, with: {length: 1}}
  model: {uses: train, from: windows, with: {model: {kind: pca}}}
  scores: {uses: score, from: {model: model, windows: windows}}
  metrics: {uses: evaluate, from: scores, with: {threshold: {kind: quantile, anomaly_ratio: 1}, metrics: [f1]}}
",
    );
    environment.write("<img src=x onerror=hacked=1>.csv", csv);
    let page = page_of(&environment);
    browser.open_file(&page);
    let all = browser
        .eval("return runnerPage.data.scenes[0].channels.map((channel) => channel.name).sort()");
    let mut expected: Vec<&str> = names.to_vec();
    expected.sort_unstable();
    let mut found: Vec<String> = serde_json::from_value(all).unwrap();
    found.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(browser.eval("return window.hacked"), Value::Null);
    let strange = "return document.querySelectorAll('img[src=x], b, svg[onload]').length";
    assert_eq!(browser.eval(strange), json!(0));
    browser.expect_quiet(&format!("file://{}", page.display()));
    expect_accessible(&browser, "a page of hostile names");
    browser.picture("hostile");
}

#[test]
fn audits_locks_and_several_runs_have_pages() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let environment = TestEnvironment::with_pipeline(DETECTOR);
    environment.succeed(&["run", "pipeline.yaml"]);
    environment.succeed(&["lock", "pipeline.yaml"]);
    environment.succeed(&["run", "pipeline.yaml", "--set", "model.with.epochs=2"]);
    environment.succeed(&["report", "pipeline.lock", "-o", "lock.html"]);
    browser.open_file(&environment.path("lock.html"));
    let text = browser.eval("return document.body.innerText");
    assert!(text.as_str().unwrap().contains("as written"), "{text}");
    expect_accessible(&browser, "the page of a lock");
    environment.succeed(&["audit", "pipeline.lock", "--report", "audit.html"]);
    browser.open_file(&environment.path("audit.html"));
    let text = browser.eval("return document.body.innerText");
    assert!(text.as_str().unwrap().contains("reproduced"), "{text}");
    expect_accessible(&browser, "the page of an audit");
    // A lock of other numbers: the page shows the first that differs.
    let lock = environment.read("pipeline.lock");
    environment.write("pipeline.yaml", DETECTOR.replace("epochs: 3", "epochs: 2"));
    environment.write("pipeline.lock", lock);
    environment
        .run(&["audit", "pipeline.lock", "--report", "audit.html"])
        .expect(3);
    browser.open_file(&environment.path("audit.html"));
    let text = browser.eval("return document.body.innerText");
    assert!(text.as_str().unwrap().contains("differs"), "{text}");
    browser.picture("audit");
    let runs = environment.json(&["runs"]);
    let names: Vec<&str> = runs["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["run"].as_str().unwrap())
        .collect();
    environment.succeed(&["report", names[0], names[1], "-o", "two.html"]);
    browser.open_file(&environment.path("two.html"));
    let shown = browser
        .eval("return [...document.querySelectorAll('thead th')].map((head) => head.textContent)");
    for name in names {
        assert!(shown.to_string().contains(name), "{shown}");
    }
    browser.expect_quiet(&format!("file://{}", environment.folder().display()));
    expect_accessible(&browser, "the page of two runs");
}
