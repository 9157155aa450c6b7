//! `runner why STAGE`: the lines of the manifest in which a stage differs from its nearest earlier one, and what
//! reran, or was spared, because of it.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::arguments::ChoiceArguments;
use super::plan::verdict_name;
use super::shown;
use super::{Error, Exit, Global};
use crate::cache::{Difference, Key, RunId, RunRecord, StageState, Store};
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
    /// The run in which the stage last ran with the key at hand.
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
    let stories: Vec<Story> = stages
        .into_iter()
        .map(|id| tell(&session, &plan, &records, id))
        .collect();
    if global.json {
        let stories: Vec<Value> = stories.iter().map(describe).collect();
        print_json(&json!({"file": session.file, "stages": stories}));
    } else {
        stories.iter().for_each(print);
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
    let mut history = history(records, &name);
    if let Verdict::Hit(_) = stage.verdict {
        let ran = |(record, other): &(&RunRecord, Key)| {
            *other == key && state_in(record, &name) == Some(StageState::Ran)
        };
        if let Some(position) = history.iter().position(ran) {
            let record = history[position].0;
            for below in downstream(session, id) {
                match state_in(record, &below) {
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
    // A run that failed has a key, but no action.
    let mut others = history
        .iter()
        .map(|(_, other)| other)
        .filter(|other| **other != key);
    let earlier = others.find_map(|other| session.store.action(other).ok().flatten());
    let manifest = stage
        .manifest
        .as_ref()
        .map(crate::cache::Manifest::to_text)
        .unwrap_or_default();
    if let Some(earlier) = earlier {
        story.differences = Difference::between(&earlier.manifest, &manifest);
    }
    story
}

/// The runs of this pipeline, newest first.
fn records(session: &Session) -> Result<Vec<RunRecord>, Error> {
    let records = session.store.newest_first()?;
    Ok(records
        .filter(|record| record.file == session.file)
        .collect())
}

/// The runs that came to this stage, newest first, with its key.
fn history<'a>(records: &'a [RunRecord], stage: &str) -> Vec<(&'a RunRecord, Key)> {
    let with_key = |record: &'a RunRecord| {
        let key = record
            .stages
            .iter()
            .find(|other| other.name == stage)?
            .key?;
        Some((record, key))
    };
    records.iter().filter_map(with_key).collect()
}

fn state_in(record: &RunRecord, stage: &str) -> Option<StageState> {
    record
        .stages
        .iter()
        .find(|other| other.name == stage)
        .map(|other| other.state)
}

fn downstream(session: &Session, id: StageId) -> Vec<String> {
    let mut reached = vec![false; session.graph.len()];
    reached[id.index()] = true;
    let mut names = Vec::new();
    for &next in session.graph.order() {
        if session
            .graph
            .needs(next)
            .iter()
            .any(|need| reached[need.index()])
        {
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
    story
        .differences
        .iter()
        .for_each(|difference| outln!("  {difference}"));
    if story.differences.is_empty() && story.verdict == "hit" {
        match recorded_reason(story) {
            Some(reason) => outln!("  it ran then because: {reason}"),
            None => outln!("  nothing differs from earlier runs of this stage"),
        }
    }
    let list = |label: &str, names: &[String]| {
        if !names.is_empty() {
            outln!("  {}: {}", Paint::Quiet.on(label), names.join(", "));
        }
    };
    let because = if story.last_run.is_some() {
        "reran because of it"
    } else {
        "may rerun because of it"
    };
    list(because, &story.reran);
    list(
        "spared, because their inputs kept their content",
        &story.spared,
    );
}

/// Why the stage ran in the run that computed it, as was recorded then: `never ran`, or that it was forced.
fn recorded_reason(story: &Story) -> Option<&str> {
    let stage = story
        .last_run
        .as_ref()?
        .stages
        .iter()
        .find(|stage| stage.name == story.stage)?;
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
