//! Wrong sweep files are refused with words that help, at their place, and nothing is written.

use crate::project::{Bench, told};

const PIPELINE: &str = "params: {lr: 1, ratio: 1, clip: 1, epochs: 1}
stages:
  model: {uses: curve, with: {x: \"${lr}\", epochs: \"${epochs}\"}}
  metrics: {uses: curve, from: model, with: {x: \"${ratio}\"}}
  more: {uses: curve, from: model, with: {x: \"${clip}\"}}
";

fn refused(text: &str, words: &str) {
    let bench = Bench::new(PIPELINE);
    let opened = bench.sweep(&format!(
        "objective: {{stage: metrics, metric: loss}}\n{text}"
    ));
    let viewed = opened.and_then(|mut sweep| sweep.view(&Default::default()).map(drop));
    let error = told(&viewed.expect_err(text));
    assert!(error.contains(words), "{text}: {error}");
    assert!(!bench.path("cache").exists(), "{text}");
}

#[test]
fn axes() {
    refused(
        "axes: {ratio: [1, 2], lr: {by: ratio, 1: [0.1]}}",
        "axis `lr` has no case for `2`",
    );
    refused(
        "axes: {lr: [0.1], ratio: {by: lr, 0.2: [1]}}",
        "has no case for `0.1`",
    );
    refused(
        "axes: {ratio: {by: lr, default: [1]}}",
        "must name an earlier axis",
    );
    refused("axes: {learning: [1]}", "unknown parameter `learning`");
    refused("axes: {lr: []}", "axis `lr` has no values");
    refused("axes: {lr: [1, 1]}", "has the value 1 twice");
    refused("axes: {lr: [1]}\nset: {lr: 2}", "`lr` is given twice");
    refused("axes: {lr: [x]}", "sweep.yaml:1:4");
    refused("axis: {lr: [1]}", "did you mean `axes`?");
    refused(
        "axes: {lr: [1]}\nzip: {ratio: [1, 2], clip: [1]}",
        "has 1 values, `ratio` has 2",
    );
    refused(
        "zip: {ratio: [1, 2, 1], clip: [1, 2, 1]}",
        "items 1 and 3 below `zip` are the same",
    );
}

#[test]
fn ranges() {
    let random = "sampler: {kind: random, trials: 2}";
    refused(
        &format!("axes: {{lr: {{uniform: [2, 1]}}}}\n{random}"),
        "the lower bound is above the upper one",
    );
    refused(
        &format!("axes: {{lr: {{log_uniform: [0, 1]}}}}\n{random}"),
        "must lie above 0",
    );
    refused(
        "axes: {lr: {uniform: [0, 1]}}",
        "of which a grid cannot take every value",
    );
    refused("axes: {lr: {unifrom: [0, 1]}}", "did you mean `uniform`?");
}

#[test]
fn samplers_rules_and_jobs() {
    refused(
        "axes: {lr: [1]}\nsampler: {kind: tpe}",
        "`sampler` lacks `trials`",
    );
    refused(
        "axes: {lr: [1]}\nstopping: {rule: median, over: epochs, levels: [3, 2]}",
        "`levels` must rise",
    );
    refused(
        "axes: {lr: [1]}\nslurm: {time: soon}",
        "`slurm.time` must be a duration, found `soon`",
    );
}
