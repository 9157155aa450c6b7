//! `runner run`: plan, execute, record, show.

use std::mem::ManuallyDrop;
use std::path::PathBuf;

use clap::Args;
use stages::contract::Device;

use super::arguments::PipelineArguments;
use super::plan::plan_table;
use super::session::{Fetch, Session, shown};
use super::views::Results;
use super::{CliError, Exit, Global, record, signals, views};
use crate::cache::{RunId, RunRecord, RunStatus, StageRecord, StageState};
use crate::engine::{Journal, Outcome, Plan, Reporter, Reporters, RunOptions, execute};
use crate::graph::StageId;
use crate::ui::{self, Mode, Trace};

/// More files than this are counted, not listed.
const FILES_LISTED: usize = 12;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner run                                              the built-in quickstart\n  \
    runner run pipelines/smd_tvnet.yaml                     TVNet on one machine of SMD\n  \
    runner run pipelines/smd_tvnet.yaml --set machine=machine-1-6 --set epochs=3\n  \
    runner run pipelines/smd_tvnet.yaml --target scores     only what the scores need")]
pub(super) struct Arguments {
    #[command(flatten)]
    pipeline: PipelineArguments,
    /// Stages that may run at the same time; by default as many as there are threads
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// After a failure, go on with what does not depend on it
    #[arg(long, short)]
    keep_going: bool,
    /// Write a trace of the run that Chrome (about:tracing) and Perfetto show
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, CliError> {
    // The process ends right after; taking a wide graph apart piece by piece would take as long as planning it.
    let mut session = ManuallyDrop::new(Session::open(global, &arguments.pipeline, Fetch::Allowed)?);
    session.store.prepare()?;
    signals::install(&session.cancel);
    let plan = session.planner().plan();
    if !global.quiet && !global.json {
        anstream::eprint!("{}", plan_table(&session.graph, &plan, global.verbose));
    }
    let run = RunId::now();
    let mut record = ManuallyDrop::new(record::start(&session, &run));
    let nothing_to_do = plan.hits() == plan.len();
    if !nothing_to_do {
        // Until it ends, the record keeps what the run builds on from being collected.
        record.stages = record::hits(&session.graph, &plan);
        session.store.save_run(&record)?;
    }
    let mut outcome = perform(&session, plan, &run, global, arguments)?;
    remember(&mut session, &outcome);
    let mut results = views::results_of(&session.graph, &session.store, &outcome.actions)?;
    if !results.lost.is_empty() && outcome.status == RunStatus::Done {
        // Nothing downstream had read them, so the damage shows only now; what was lost is computed again.
        let first = std::mem::take(&mut outcome.stages);
        outcome = repair(&mut session, &results.lost, &outcome, &run, global, arguments)?;
        keep_what_ran(&mut outcome, &first);
        results = views::results_of(&session.graph, &session.store, &outcome.actions)?;
    }
    conclude(&session, &mut record, outcome, &results, global)
}

/// Forgets the actions whose results are damaged, and runs again.
fn repair(
    session: &mut Session,
    lost: &[StageId],
    outcome: &Outcome,
    run: &RunId,
    global: &Global,
    arguments: &Arguments,
) -> Result<Outcome, CliError> {
    for action in lost.iter().filter_map(|stage| outcome.actions.get(stage)) {
        session.store.forget(action);
    }
    for stage in lost {
        let name = &session.graph.stage(*stage).name;
        tracing::warn!("the stored results of {name} are damaged or missing; it runs again");
        session.ledger.stages.remove(name);
    }
    session.stop_forcing();
    let plan = session.planner().plan();
    let outcome = perform(session, plan, run, global, arguments)?;
    remember(session, &outcome);
    Ok(outcome)
}

/// A stage that ran before the repair is no hit for the record.
fn keep_what_ran(outcome: &mut Outcome, first: &[StageRecord]) {
    for record in &mut outcome.stages {
        let before = first.iter().find(|before| before.name == record.name && before.state == StageState::Ran);
        if let (StageState::Hit, Some(before)) = (record.state, before) {
            record.clone_from(before);
        }
    }
}

fn perform(
    session: &Session,
    plan: Plan,
    run: &RunId,
    global: &Global,
    arguments: &Arguments,
) -> Result<Outcome, CliError> {
    let mode = match (global.json, global.quiet) {
        (true, _) => Mode::Json,
        (_, true) => Mode::Quiet,
        _ => Mode::Auto,
    };
    let mut reporters: Vec<Box<dyn Reporter>> = vec![ui::reporter(mode, global.verbose)];
    if plan.hits() < plan.len() {
        reporters.push(Box::new(Journal::create(&session.store.run_folder(run))?));
    }
    if let Some(path) = &arguments.trace {
        let trace = Trace::create(path);
        let trace = trace.map_err(|error| CliError::wrong(format!("cannot write {}: {error}", path.display())))?;
        reporters.push(Box::new(trace));
    }
    let threads = session.machine.threads;
    let options = RunOptions {
        jobs: arguments.jobs.map_or(threads, usize::from),
        threads,
        device: session.machine.device,
        memory: total_memory(),
        gpus: usize::from(matches!(session.machine.device, Device::Cuda(_))),
        keep_going: arguments.keep_going,
    };
    let mut reporter = Reporters(reporters);
    Ok(execute(&session.planner(), plan, &session.store, &options, run, &session.cancel, &mut reporter))
}

fn total_memory() -> u64 {
    let info = rustix::system::sysinfo();
    #[expect(clippy::useless_conversion, reason = "the type differs between platforms")]
    let total = u64::from(info.totalram);
    total.saturating_mul(u64::from(info.mem_unit))
}

/// Brings the ledger up to date; losing it costs nothing but time.
fn remember(session: &mut Session, outcome: &Outcome) {
    let mut news = false;
    for (stage, action) in &outcome.actions {
        news |= session.ledger.note(&session.graph.stage(*stage).name, action);
    }
    if news && let Err(error) = session.ledger.save(&session.store, &session.file) {
        tracing::warn!("{error}");
    }
}

fn conclude(
    session: &Session,
    record: &mut RunRecord,
    outcome: Outcome,
    results: &Results,
    global: &Global,
) -> Result<Exit, CliError> {
    record.status = outcome.status;
    record.seconds = outcome.seconds;
    record.metrics.clone_from(&results.metrics);
    record.stages = outcome.stages;
    let files = views::link_files(results, &session.store, &record.run);
    session.store.save_run(record)?;
    if global.json {
        let mut result = record::to_json(record);
        result["event"] = "result".into();
        println!("{result}");
    } else {
        if !record.metrics.is_empty() {
            anstream::println!("{}", views::metrics_table(&record.metrics));
        }
        match files.len() {
            0 => {}
            1..=FILES_LISTED => files.iter().for_each(|path| println!("{}", shown(path))),
            many => println!("{many} files in {}", shown(&session.store.run_folder(&record.run).join("files"))),
        }
    }
    Ok(match outcome.status {
        RunStatus::Done => Exit::Done,
        RunStatus::Interrupted => Exit::Interrupted,
        RunStatus::Failed | RunStatus::Running => Exit::Failed,
    })
}
