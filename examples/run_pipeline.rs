//! Runs a pipeline from Rust, with a stage kind of one's own beside those that ship:
//! `cargo run --release --example run_pipeline`.

use std::path::Path;
use std::sync::Arc;

use contract::artifact::{ArtifactKind, Series};
use contract::{Inputs, Numerics, Outputs, Port, Stage, StageContext, StageKind, Threads, Trouble};
use runner::engine::{Event, Reporter};
use runner::project::{Error, Fetch, Limits, Project, Request, Session};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Differences between a row and an earlier one.
struct Difference;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// Rows between the two.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    lag: usize,
}

fn one() -> usize {
    1
}

impl Stage for Difference {
    type Params = Params;

    const NAME: &'static str = "difference";
    const VERSION: u32 = 1;
    const DOC: &'static str = "Subtracts from each row an earlier one of the same segment.";
    const NUMERICS: Numerics = Numerics::Exact;
    const THREADS: Threads = Threads::One;
    const SEEDED: bool = false;

    fn inputs(_: &Params) -> Vec<Port> {
        vec![Port::new("series", ArtifactKind::Series, "the series")]
    }

    fn outputs(_: &Params) -> Vec<Port> {
        vec![Port::new("series", ArtifactKind::Series, "the differences")]
    }

    fn run(params: &Params, inputs: &Inputs, _: &StageContext<'_>) -> Result<Outputs, Trouble> {
        let series = inputs.get::<Series>("series")?;
        let mut differences = Series::clone(&series);
        differences.values.fill(0.0);
        for segment in &series.segments {
            for row in segment.rows.clone().skip(params.lag) {
                let (now, before) = (series.row(row), series.row(row - params.lag));
                for channel in 0..series.width() {
                    let place = row * series.width() + channel;
                    differences.values[place] = now[channel] - before[channel];
                }
            }
        }
        Ok(Outputs::one("series", differences))
    }
}

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
    catalogue.kinds.push(StageKind::of::<Difference>());
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
