//! `runner sweep work`: what a task of a submission does. Backends call it; people need not.
//!
//! Whatever happens to a task (it is lost, runs twice, or beside another that does the same) costs time at most: results
//! have their keys, and a lease keeps two from working on one.

use std::fs;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use clap::Args;

use super::super::arguments::Choice;
use super::super::carry_out::{Carried, Execution, carry_out};
use super::super::session::{Parts, Session, size_pool};
use super::super::{CliError, Exit, Global, remote, signals};
use super::RunArguments;
use super::campaign::{Campaign, exit_of};
use super::members::{self, Read};
use super::submit::{find_backend, submit};
use crate::cache::{Ledger, RunStatus, StageState, Store, SweepMember, SweepPart};
use crate::engine::CancelToken;
use crate::graph::StageId;
use crate::sweep::{Part, Submission, UnitMember};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The submission's folder
    #[arg(long, value_name = "DIR")]
    folder: PathBuf,
    /// The part of it: shared, trials or next
    #[arg(long, value_name = "PART", value_parser = part)]
    part: Part,
    /// The number of the task
    #[arg(value_name = "TASK")]
    task: usize,
    #[command(flatten)]
    choice: Choice,
}

fn part(name: &str) -> Result<Part, String> {
    Part::parse(name).ok_or_else(|| format!("`{name}` is no part; there are shared, trials and next"))
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, CliError> {
    let submission = Submission::load(&arguments.folder)?;
    if arguments.part == Part::Next {
        return next(global, arguments, &submission);
    }
    let Some(unit) = submission.units(arguments.part).get(arguments.task) else {
        return Err(CliError::wrong(format!("the submission has no task {}", arguments.task)));
    };
    let folder = submission.pipeline.parent().unwrap_or(Path::new("."));
    let store = Arc::new(global.open_store(folder)?);
    store.prepare()?;
    let cancel = CancelToken::default();
    signals::install(&cancel);
    let time_is_up = signals::install_warning(&cancel);
    let task =
        Task { global, arguments, submission: &submission, store, cancel, threads: size_pool(&arguments.choice) };
    let exit = task.run(&unit.members)?;
    remote::settle(&task.store, global, &task.cancel);
    if time_is_up.load(Ordering::Relaxed) {
        eprintln!("the time of the task is up; what it did is kept, and it goes back into the queue");
        find_backend(&submission.backend)?.requeue_own_task()?;
    }
    Ok(exit)
}

/// Submits what comes after a submission whose tasks are over.
fn next(global: &Global, arguments: &Arguments, submission: &Submission) -> Result<Exit, CliError> {
    let choice = Choice {
        profile: submission.profile.clone(),
        overrides: submission.overrides.iter().map(|(name, value)| format!("{name}={value}")).collect(),
        targets: submission.targets.clone(),
        ..arguments.choice.clone()
    };
    let mut campaign = Campaign::open(global, &submission.file, &choice, false)?;
    let sweep = arguments.folder.parent().unwrap_or(Path::new("."));
    let mut before: Vec<Submission> =
        submission.before.iter().filter_map(|id| Submission::load(&sweep.join(id)).ok()).collect();
    before.push(submission.clone());
    let backend = find_backend(&submission.backend)?;
    let run = RunArguments {
        file: Some(submission.file.clone()),
        choice,
        execution: Execution::default(),
        dry_run: false,
        yes: true,
        on: Some(submission.backend.clone()),
    };
    submit(global, &mut campaign, &run, backend.as_ref(), &before)
}

struct Task<'a> {
    global: &'a Global,
    arguments: &'a Arguments,
    submission: &'a Submission,
    store: Arc<Store>,
    cancel: CancelToken,
    threads: usize,
}

impl Task<'_> {
    fn run(&self, members: &[UnitMember]) -> Result<Exit, CliError> {
        let members: Vec<SweepMember> = members.iter().map(UnitMember::recorded).collect();
        let profile = self.submission.profile.as_deref();
        let read = |member| members::read(self.global, &self.submission.pipeline, profile, member);
        let mut kept = members.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let Some(mut session) = self.session(&kept)? else { return Ok(Exit::Done) };
        let lost = self.hopeless(&session, &kept);
        for label in &lost {
            eprintln!("{label}: a stage that it shares with others has failed; it is left out");
        }
        if !lost.is_empty() {
            kept.retain(|read| !lost.contains(&read.member.label));
            match self.session(&kept)? {
                Some(without) => session = without,
                None => return Ok(Exit::Failed),
            }
        }
        session.spec.name.value = self.sweep_name();
        let plan = session.planner().plan();
        let execution = Execution { keep_going: true, ..Execution::default() };
        let carried = ManuallyDrop::new(carry_out(&mut session, plan, self.global, &execution)?);
        let Carried { record, outcome, .. } = &*carried;
        self.store.save_run(record)?;
        if self.arguments.part == Part::Shared {
            self.note_failures(record)?;
        }
        let exit = exit_of(outcome.status);
        Ok(if exit == Exit::Done && !lost.is_empty() { Exit::Failed } else { exit })
    }

    fn sweep_name(&self) -> String {
        self.submission.file.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }

    /// `None` without members.
    fn session(&self, members: &[Read<'_>]) -> Result<Option<Session>, CliError> {
        let Some(first) = members.first() else { return Ok(None) };
        let choice = &self.arguments.choice;
        let sweep = SweepPart {
            pipeline: self.submission.pipeline.display().to_string(),
            members: members.iter().map(|read| read.member.clone()).collect(),
        };
        let parts = Parts {
            spec: first.spec.clone(),
            graph: members::joined(members),
            store: Arc::clone(&self.store),
            ledger: Ledger::default(),
            file: self.submission.record.clone(),
            sweep: Some(sweep),
            threads: self.threads,
        };
        let folder = self.submission.pipeline.parent().unwrap_or(Path::new("."));
        Session::of(parts, choice, folder, choice.offline, &self.cancel).map(Some)
    }

    /// Members that stand on a stage which failed in the shared part: it would fail again for each of them.
    fn hopeless(&self, session: &Session, members: &[Read<'_>]) -> Vec<String> {
        let plan = session.planner().plan();
        let failed = |stage: &StageId| {
            let stage = plan.stage(*stage);
            let key = stage.key.filter(|_| stage.hit().is_none());
            key.is_some_and(|key| self.failures().join(key.to_string()).exists())
        };
        let lost: Vec<StageId> = session.graph.order().iter().copied().filter(failed).collect();
        if lost.is_empty() {
            return Vec::new();
        }
        let names: Vec<&str> = lost.iter().map(|stage| session.graph.stage(*stage).name.as_str()).collect();
        let stands_on = |read: &&Read<'_>| {
            read.graph.order().iter().any(|stage| {
                let name = &read.graph.stage(*stage).name;
                names.iter().any(|lost| *lost == name || **lost == format!("{name}#{}", read.member.label))
            })
        };
        members.iter().filter(stands_on).map(|read| read.member.label.clone()).collect()
    }

    fn failures(&self) -> PathBuf {
        self.arguments.folder.join("failed")
    }

    /// Leaves word of stages that failed, for the tasks that come after.
    fn note_failures(&self, record: &crate::cache::RunRecord) -> Result<(), CliError> {
        let failed = record.stages.iter().filter(|stage| stage.state == StageState::Failed);
        for (key, reason) in failed.filter_map(|stage| Some((stage.key?, &stage.reason))) {
            let write = || {
                fs::create_dir_all(self.failures())?;
                fs::write(self.failures().join(key.to_string()), reason)
            };
            write().map_err(|error| {
                CliError::failed(format!("cannot write below {}: {error}", self.failures().display()))
            })?;
        }
        if record.status == RunStatus::Interrupted {
            eprintln!("interrupted; what was done is kept");
        }
        Ok(())
    }
}
