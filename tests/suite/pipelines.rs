//! Small pipelines that several tests run. Each ends within a fraction of a second.

/// Every kind of artifact, a training, files with blobs and a foreign program; eight stages.
pub const SMALL: &str = r#"pipeline: small
seed: 7
params: {epochs: 2, channels: 3}
stages:
  raw:
    uses: generate
    with: {channels: "${channels}", day: 24, rows: {train: 160, validation: 60, calibration: 60, test: 160}}
  scaled: {uses: normalize, from: raw, with: {method: zscore}}
  windows: {uses: window, from: scaled, with: {length: 16}}
  model:
    uses: train
    from: windows
    with: {model: {kind: tvnet-recon, patch: 8, blocks: 1}, epochs: "${epochs}", batch: 32}
  scores: {uses: score, from: {model: model, windows: windows}}
  metrics:
    uses: evaluate
    from: scores
    with: {threshold: {kind: quantile, anomaly_ratio: 2}, metrics: [precision, recall, f1, best_f1]}
  plots:
    uses: render-plots
    from: {series: raw, scores: scores, metrics: metrics}
    with: {width: 300, height: 150, channels: 1, events: 1}
  size:
    uses: command
    from: metrics
    with:
      run: [sh, -c, "wc -c < {in.metrics} > {out.size}"]
      outputs: {size: {path: size.txt}}
"#;

/// The stages of [`SMALL`] in order.
pub const SMALL_STAGES: [&str; 8] = [
    "raw", "scaled", "windows", "model", "scores", "metrics", "plots", "size",
];

/// A training that takes long enough to be interrupted: an epoch lasts tens of milliseconds, and there are many.
pub const LONG_TRAINING: &str = r#"pipeline: long
seed: 3
params: {epochs: 40}
stages:
  raw:
    uses: generate
    with: {channels: 6, day: 48, rows: {train: 600, validation: 120, calibration: 120, test: 300}}
  scaled: {uses: normalize, from: raw}
  windows: {uses: window, from: scaled, with: {length: 32}}
  model:
    uses: train
    from: windows
    with: {model: {kind: tvnet-recon, patch: 8, blocks: 1}, epochs: "${epochs}", batch: 64}
  scores: {uses: score, from: {model: model, windows: windows}}
"#;
