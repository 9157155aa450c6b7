//! `runner why STAGE`: the lines of the manifest in which a stage differs from its nearest earlier one, and what ran again, or
//! did not have to, because of it.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::arguments::ChoiceArguments;
use super::plan::verdict_name;
use super::shown;
use super::{Error, Exit, Global};
use crate::cache::{Difference, Manifest, RunId, RunRecord, StageRecord, StageState, Store};
use crate::engine::{Plan, Verdict};
use crate::graph::StageId;
use crate::pipeline::is_sweep;
use crate::project::{Fetch, QUICKSTART_PATH, Request, Session, find};
use crate::ui::{Paint, outln, print_json};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner why model                                             in the pipeline of the latest run\n  \
    runner why model pipelines/smd_tvnet.yaml --set epochs=20    what a change would do")]
pub(super) struct Arguments {
    /// The stage to explain; all instances of a repeated stage, or one by its full name
    stage: String,
    /// The pipeline file; without it, that of the latest run of a pipeline
    #[arg(value_name = "PIPELINE")]
    pipeline: Option<PathBuf>,
    #[command(flatten)]
    choice: ChoiceArguments,
}

/// The story of one stage.
struct Story {
    stage: String,
    verdict: &'static str,
    reason: String,
    differences: Vec<Difference>,
    /// The run in which the stage last ran with its present key.
    last_run: Option<RunRecord>,
    reran: Vec<String>,
    spared: Vec<String>,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    let store = Store::open(&global.store);
    let (pipeline, run) = match &arguments.pipeline {
        Some(path) => (Some(path.clone()), None),
        None => of_latest(&store).map(|(pipeline, run)| (pipeline, Some(run)))?,
    };
    let session = Session::open(
        &global.project,
        &Request {
            pipeline,
            choice: arguments.choice.choice(),
        },
        Fetch::Never,
    )?;
    if let Some(run) = run.filter(|_| !global.json) {
        outln!(
            "{}",
            Paint::Quiet.on(format!(
                "in {}, the pipeline of run {run}",
                shown(Path::new(&session.file))
            ))
        );
    }
    let stages = find(&session.graph, &arguments.stage)?;
    let (plan, records) = (session.planner().plan(), records(&session)?);
    let mut described = Vec::new();
    for id in stages {
        let story = tell(&session, &plan, &records, id);
        if global.json {
            described.push(describe(&story));
        } else {
            print(&story);
        }
    }
    if global.json {
        print_json(&json!({"file": session.file, "stages": described}));
    }
    Ok(Exit::Done)
}

/// The pipeline file of the latest run of a pipeline, `None` for the built-in one, and that run. Runs of sweeps are passed over:
/// their file is a sweep's.
fn of_latest(store: &Store) -> Result<(Option<PathBuf>, RunId), Error> {
    const NAME_ONE: &str = "name the pipeline file: `runner why STAGE PIPELINE`";
    // An error where there are no runs at all.
    store.find_run("latest")?;
    let record = store
        .newest_first()?
        .find(|record| record.sweep.is_none() && !is_sweep(Path::new(&record.file)));
    let Some(record) = record else {
        return Err(Error::wrong("all runs in the store are of sweeps").hint(NAME_ONE));
    };
    if record.file == QUICKSTART_PATH {
        return Ok((None, record.run));
    }
    let file = PathBuf::from(&record.file);
    if !file.is_file() {
        let message = format!(
            "{}, the pipeline of run {}, is gone",
            shown(&file),
            record.run
        );
        return Err(Error::wrong(message).hint(NAME_ONE));
    }
    Ok((Some(file), record.run))
}

fn tell(session: &Session, plan: &Plan, records: &[RunRecord], id: StageId) -> Story {
    let stage = plan.stage(id);
    let name = session.graph.stage(id).name.clone();
    let mut story = Story {
        stage: name.clone(),
        verdict: verdict_name(&stage.verdict),
        reason: stage.reason(&session.graph),
        differences: Vec::new(),
        last_run: None,
        reran: Vec::new(),
        spared: Vec::new(),
    };
    let Some(key) = stage.key else { return story };
    // Runs that got as far as this stage, newest first.
    let mut history = Vec::new();
    for record in records {
        if let Some(then) = record_in(record, &name) {
            history.push((record, then));
        }
    }
    if let Verdict::Hit(_) = stage.verdict {
        let mut runs = history.iter();
        let ran = |(_, then): &(&RunRecord, &StageRecord)| {
            then.key == Some(key) && then.state == StageState::Ran
        };
        if let Some(position) = runs.position(ran) {
            let record = history[position].0;
            for below in downstream(session, id) {
                match record_in(record, &below).map(|then| then.state) {
                    Some(StageState::Ran) => story.reran.push(below),
                    Some(StageState::Hit) => story.spared.push(below),
                    _ => {}
                }
            }
            story.last_run = Some(record.clone());
            // What it ran because of lies before it; runs since then say nothing about that.
            history.drain(..=position);
        }
    } else {
        story.reran = downstream(session, id);
    }
    let manifest = stage
        .manifest
        .as_ref()
        .map(Manifest::to_text)
        .unwrap_or_default();
    for other in history.iter().filter_map(|(_, then)| then.key) {
        // A stage that failed has a key, but no action.
        if other != key
            && let Ok(Some(earlier)) = session.store.action(&other)
        {
            story.differences = Difference::between(&earlier.manifest, &manifest);
            break;
        }
    }
    story
}

/// The runs of this pipeline, newest first.
fn records(session: &Session) -> Result<Vec<RunRecord>, Error> {
    let records = session.store.newest_first()?;
    let own = records.filter(|record| record.file == session.file);
    Ok(own.collect())
}

fn record_in<'a>(record: &'a RunRecord, stage: &str) -> Option<&'a StageRecord> {
    record.stages.iter().find(|other| other.name == stage)
}

fn downstream(session: &Session, id: StageId) -> Vec<String> {
    let mut reached = vec![false; session.graph.len()];
    reached[id.index()] = true;
    let mut names = Vec::new();
    for &next in session.graph.order() {
        let needs = session.graph.needs(next);
        if needs.iter().any(|need| reached[need.index()]) {
            reached[next.index()] = true;
            names.push(session.graph.stage(next).name.clone());
        }
    }
    names
}

fn print(story: &Story) {
    let name = Paint::Strong.on(&story.stage);
    match (&story.last_run, story.verdict) {
        (Some(record), _) => outln!("{name} is up to date; run {} computed it", record.run),
        (None, "hit") => {
            outln!("{name} is up to date; no recorded run of this pipeline computed it")
        }
        (None, "miss") => outln!("{name} must run: {}", story.reason),
        (None, "pending") => outln!("{name} {}", story.reason),
        (None, _) => outln!("{name} cannot run: {}", story.reason),
    }
    for difference in &story.differences {
        outln!("  {difference}");
    }
    if story.differences.is_empty() && story.verdict == "hit" {
        match recorded_reason(story) {
            Some(reason) => outln!("  it ran then because: {reason}"),
            None => outln!("  nothing differs from earlier runs of this stage"),
        }
    }
    let reran = match story.last_run {
        Some(_) => "reran because of it",
        None => "may rerun because of it",
    };
    let spared = "spared, because their inputs kept their content";
    for (label, names) in [(reran, &story.reran), (spared, &story.spared)] {
        if !names.is_empty() {
            outln!("  {}: {}", Paint::Quiet.on(label), names.join(", "));
        }
    }
}

/// Why the stage ran in the run that computed it, as was recorded then: `never ran`, or that it was forced.
fn recorded_reason(story: &Story) -> Option<&str> {
    let stage = record_in(story.last_run.as_ref()?, &story.stage)?;
    Some(stage.reason.as_str()).filter(|reason| !reason.is_empty())
}

fn describe(story: &Story) -> Value {
    json!({
        "stage": story.stage,
        "verdict": story.verdict,
        "reason": story.reason,
        "differences": story.differences,
        "run": story.last_run.as_ref().map(|record| &record.run),
        "reran": story.reran,
        "spared": story.spared,
    })
}
