//! Runs a pipeline from Rust, with a stage kind of one's own beside those that ship:
//! `cargo run --release --example run_pipeline`.

use std::path::Path;
use std::sync::Arc;

use contract::StageKind;
use runner::engine::{Event, Reporter};
use runner::project::{Error, Fetch, Limits, Project, Request, Session};

// The same file extends the program itself: see CONTRIBUTING.md.
#[path = "extensions/difference.rs"]
mod difference;

const PIPELINE: &str = "\
pipeline: differences
seed: 7
stages:
  raw:     {uses: generate, with: {channels: 2}}
  steps:   {uses: difference, from: raw, with: {lag: 2}}
  scaled:  {uses: normalize, from: steps}
  windows: {uses: window, from: scaled, with: {length: 32}}
  model:   {uses: train, from: windows, with: {model: {kind: pca}}}
  scores:  {uses: score, from: {model: model, windows: windows}}
  metrics: {uses: evaluate, from: scores, with: {threshold: {kind: quantile, anomaly_ratio: 1.0}}}
";

/// Prints what runs.
struct Told;

impl Reporter for Told {
    fn on(&mut self, event: &Event) {
        if let Event::StageFinished { stage, seconds, .. } = event {
            println!("{stage}: {seconds:.3} s");
        }
    }
}

fn main() {
    let folder = std::env::temp_dir().join("runner-example");
    if let Err(error) = run(&folder) {
        eprintln!("{error}");
        std::process::exit(1);
    }
    println!("what was computed is in {}", folder.display());
}

fn run(folder: &Path) -> Result<(), Error> {
    let file = folder.join("differences.yaml");
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&file, PIPELINE))
        .map_err(|error| Error::failed(format!("cannot write {}: {error}", file.display())))?;
    let mut catalogue = stages::catalogue();
    catalogue
        .kinds
        .push(StageKind::of::<difference::Difference>());
    let project = Project::new(Arc::new(catalogue), folder.join("cache"));
    let request = Request {
        pipeline: Some(file),
        ..Request::default()
    };
    let mut session = Session::open(&project, &request, Fetch::Allowed)?;
    let record = session.run(Limits::default(), &|| Ok(Box::new(Told)))?;
    println!("the run {} is {}", record.run, record.status.name());
    for metric in &record.metrics["metrics"] {
        println!("{}: {:?}", metric.name, metric.value);
    }
    Ok(())
}
