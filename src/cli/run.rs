//! `runner run`: plan, execute, record, show.

use std::mem::ManuallyDrop;
use std::path::PathBuf;

use clap::Args;

use super::arguments::PipelineArguments;
use super::execution::Execution;
use super::plan::plan_table;
use super::shown;
use super::{Error, Exit, Global, lock, record, remote, signals, views};
use crate::cache::RunStatus;
use crate::project::{Carried, Fetch, Session, carry_out, lock_beside};
use crate::ui::{err, out, outln, print_json};

/// More files than this are counted, not listed.
const FILES_LISTED: usize = 12;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner run                                              the built-in quickstart\n  \
    runner run pipelines/smd_tvnet.yaml                     TVNet on one machine of SMD\n  \
    runner run pipelines/smd_tvnet.yaml --set machine=machine-1-6 --set epochs=3\n  \
    runner run pipelines/smd_tvnet.yaml --target scores     only what the scores need\n  \
    runner run pipelines/smd_tvnet.yaml --locked            only if nothing differs from smd_tvnet.lock")]
pub(super) struct Arguments {
    #[command(flatten)]
    pipeline: PipelineArguments,
    #[command(flatten)]
    execution: Execution,
    /// Run only if everything that determines the results matches the lock, and compare the results with it; exit code 3 if
    /// they differ
    #[arg(long)]
    locked: bool,
    /// The lock for --locked; by default the one beside the pipeline
    #[arg(long, value_name = "FILE", requires = "locked")]
    lock: Option<PathBuf>,
    /// Accept only a lock that is signed with this ed25519 key (PEM)
    #[arg(long, value_name = "PUBKEY", requires = "locked")]
    verify: Option<PathBuf>,
}

impl Arguments {
    /// The lock that the run must keep to.
    fn lock_path(&self) -> Option<PathBuf> {
        let beside = || lock_beside(self.pipeline.pipeline.as_deref());
        self.locked
            .then(|| self.lock.clone().unwrap_or_else(beside))
    }
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    // The process ends right after; taking a wide graph apart piece by piece would take as long as planning it.
    let mut session = ManuallyDrop::new(Session::open(
        &global.project,
        &arguments.pipeline.request(),
        Fetch::Allowed,
    )?);
    let lock_path = arguments.lock_path();
    let lock = match lock_path.as_deref() {
        None => None,
        Some(path) => {
            let kept = lock::require(global, &session, path, arguments.verify.as_deref())?;
            let Some(lock) = kept else {
                return Ok(Exit::Different);
            };
            Some(lock)
        }
    };
    session.store.prepare()?;
    signals::install(&global.project.cancel);
    let plan = session.planner().plan();
    if !global.quiet && !global.json {
        err!("{}", plan_table(&session.graph, &plan, global.verbose));
    }
    let carried = ManuallyDrop::new(carry_out(
        &mut session,
        plan,
        arguments.execution.limits(),
        &|| arguments.execution.reporter(global),
        &mut (),
    )?);
    let exit = conclude(&session, &carried, global)?;
    match lock.zip(lock_path) {
        Some((lock, path))
            if exit == Exit::Done
                && !lock::same_came_out(global, &lock, &path, &carried.record) =>
        {
            Ok(Exit::Different)
        }
        _ => Ok(exit),
    }
}

fn conclude(session: &Session, carried: &Carried, global: &Global) -> Result<Exit, Error> {
    let files = carried.finish(session)?;
    let Carried {
        record, outcome, ..
    } = carried;
    let interrupted;
    if global.json {
        interrupted = remote::settle(&session.store, global);
        let mut result = record::to_json(record);
        result["event"] = "result".into();
        print_json(&result);
    } else {
        if !record.metrics.is_empty() {
            out!("{}\n", views::metrics_table(&record.metrics));
        }
        match files.len() {
            0 => {}
            1..=FILES_LISTED => files.iter().for_each(|path| outln!("{}", shown(path))),
            many => outln!(
                "{many} files in {}",
                shown(&session.store.run_folder(&record.run).join("files"))
            ),
        }
        interrupted = remote::settle(&session.store, global);
    }
    Ok(match outcome.status {
        RunStatus::Done if interrupted => Exit::Interrupted,
        status => Exit::from(status),
    })
}
