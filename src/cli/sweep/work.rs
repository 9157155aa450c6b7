//! `runner sweep work`: what a task of a submission does. Backends call it; people need not.
//!
//! Whatever happens to a task (it is lost, runs twice, or beside another that does the same) costs time at most: results
//! have their keys, and a lease keeps two from working on one.

use std::collections::BTreeMap;
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
use crate::cache::{Key, Layout, Ledger, RunStatus, StageState, Store, SweepMember, SweepPart};
use crate::engine::CancelToken;
use crate::graph::StageId;
use crate::sweep::{JobNeeds, Part, Submission, UnitMember, plain_name};
use crate::ui::{bytes, errln};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The submission's folder
    #[arg(long, value_name = "DIR")]
    folder: PathBuf,
    /// The part of it: shared, shared-2 and so on, trials or next
    #[arg(long, value_name = "PART", value_parser = part)]
    part: Part,
    /// The number of the task
    #[arg(value_name = "TASK")]
    task: usize,
    #[command(flatten)]
    choice: Choice,
}

fn part(name: &str) -> Result<Part, String> {
    Part::parse(name)
        .ok_or_else(|| format!("`{name}` is not a part: choose from shared, trials and next"))
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, CliError> {
    let submission = Submission::load(&Layout::new(&global.store), &arguments.folder)?;
    if arguments.part == Part::Next {
        return next(global, arguments, &submission);
    }
    let Some(unit) = submission.units(arguments.part).get(arguments.task) else {
        return Err(CliError::wrong(format!(
            "the submission has no task {}",
            arguments.task
        )));
    };
    let folder = submission.pipeline.parent().unwrap_or(Path::new("."));
    let store = Arc::new(global.open_store(folder)?);
    store.prepare()?;
    let cancel = CancelToken::default();
    signals::install(&cancel);
    let warnings = signals::install_warnings(&cancel);
    let task = Task {
        global,
        arguments,
        submission: &submission,
        store,
        cancel,
        threads: size_pool(&arguments.choice),
    };
    let Ended { exit, in_vain } = task.run(&unit.members)?;
    let interrupted = remote::settle(&task.store, global, &task.cancel);
    let backend = || find_backend(&submission.backend);
    if warnings.time_is_up.load(Ordering::Relaxed) {
        if let Some(stage) = in_vain {
            let message = format!(
                "the time of the task is up, and `{stage}` has kept nothing from which it can continue"
            );
            let hint = "give it more `time` below `slurm`; again with as much, it would end at the same place";
            return Err(CliError::failed(message).hint(hint));
        }
        errln!("the time of the task is up; what it did is kept, and it goes back into the queue");
        backend()?.requeue_own_task()?;
    } else if exit == Exit::Interrupted
        && warnings.terminated.load(Ordering::Relaxed)
        && backend()?.wants_own_task()
    {
        errln!("the task must make room; what it did is kept, and it goes back into the queue");
        backend()?.requeue_own_task()?;
    }
    Ok(if interrupted && exit == Exit::Done {
        Exit::Interrupted
    } else {
        exit
    })
}

/// Submits what comes after a submission whose tasks are over.
fn next(global: &Global, arguments: &Arguments, submission: &Submission) -> Result<Exit, CliError> {
    let choice = Choice {
        profile: submission.profile.clone(),
        overrides: submission
            .overrides
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect(),
        targets: submission.targets.clone(),
        ..arguments.choice.clone()
    };
    let store = global.open_store(submission.file.parent().unwrap_or(Path::new(".")))?;
    let mut campaign = Campaign::open_with(
        store,
        global,
        &submission.file,
        &choice,
        false,
        submission.sources(),
    )?;
    let sweep = arguments.folder.parent().unwrap_or(Path::new("."));
    let mut before: Vec<Submission> = submission
        .before
        .iter()
        .filter_map(|id| Submission::load(campaign.store.layout(), &sweep.join(id)).ok())
        .collect();
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

/// How a task ended.
struct Ended {
    exit: Exit,
    /// A stage that was interrupted, if all the work of the task is lost.
    in_vain: Option<String>,
}

impl Ended {
    fn with(exit: Exit) -> Self {
        Self {
            exit,
            in_vain: None,
        }
    }
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
    fn run(&self, members: &[UnitMember]) -> Result<Ended, CliError> {
        let members: Vec<SweepMember> = members.iter().map(UnitMember::recorded).collect();
        let mut kept = members
            .iter()
            .map(|member| self.read(member))
            .collect::<Result<Vec<_>, _>>()?;
        let Some(mut session) = self.session(&kept)? else {
            return Ok(Ended::with(Exit::Done));
        };
        let lost = self.hopeless(&session, &kept);
        for (label, why) in &lost {
            errln!("trial {label} is left out: {why}");
        }
        if !lost.is_empty() {
            kept.retain(|read| !lost.contains_key(&read.member.label));
            match self.session(&kept)? {
                Some(without) => session = without,
                None => return Ok(Ended::with(Exit::Failed)),
            }
        }
        session.spec.name.value = self.sweep_name();
        let plan = session.planner().plan();
        let memory = self.needs().memory;
        let execution = Execution {
            keep_going: true,
            memory,
            ..Execution::default()
        };
        let carried = ManuallyDrop::new(carry_out(&mut session, plan, self.global, &execution)?);
        let Carried {
            record, outcome, ..
        } = &*carried;
        self.store.save_run(record)?;
        if matches!(self.arguments.part, Part::Shared(_)) {
            self.note_failures(record)?;
        }
        let exit = exit_of(outcome.status);
        let exit = if exit == Exit::Done && !lost.is_empty() {
            Exit::Failed
        } else {
            exit
        };
        let is_lost = outcome.interrupted.iter().all(|stage| stage.is_lost)
            && !record
                .stages
                .iter()
                .any(|stage| stage.state == StageState::Ran);
        let in_vain = outcome
            .interrupted
            .first()
            .filter(|_| is_lost)
            .map(|stage| stage.stage.clone());
        Ok(Ended { exit, in_vain })
    }

    /// What this task has of its machine.
    fn needs(&self) -> JobNeeds {
        self.submission
            .needs
            .get(&self.arguments.part.name())
            .copied()
            .unwrap_or_default()
    }

    fn sweep_name(&self) -> String {
        self.submission
            .file
            .file_stem()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }

    fn read<'a>(&self, member: &'a SweepMember) -> Result<Read<'a>, CliError> {
        let Submission {
            pipeline, profile, ..
        } = self.submission;
        members::read(
            self.global,
            pipeline,
            profile.as_deref(),
            member,
            self.submission.sources(),
        )
    }

    /// `None` without members.
    fn session(&self, members: &[Read<'_>]) -> Result<Option<Session>, CliError> {
        let Some(first) = members.first() else {
            return Ok(None);
        };
        let choice = &self.arguments.choice;
        let values = first.spec.values();
        let sweep = SweepPart {
            pipeline: self.submission.pipeline.display().to_string(),
            members: members.iter().map(|read| read.recorded(&values)).collect(),
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
        Session::of(
            self.global.catalogue,
            parts,
            choice,
            folder,
            choice.offline,
            &self.cancel,
        )
        .map(Some)
    }

    /// Members that come to nothing here, and why: a stage that they need failed in the shared part and would fail again for
    /// each of them, or it asks for more than this task has.
    fn hopeless(&self, session: &Session, members: &[Read<'_>]) -> BTreeMap<String, String> {
        let plan = session.planner().plan();
        let open = session
            .graph
            .order()
            .iter()
            .filter(|stage| plan.stage(**stage).hit().is_none());
        let lost: Vec<(&str, String)> = open
            .filter_map(|stage| {
                let why = self.trouble(
                    plain_name(&session.graph, *stage),
                    plan.stage(*stage).key.as_ref(),
                )?;
                Some((session.graph.stage(*stage).name.as_str(), why))
            })
            .collect();
        let why = |read: &Read<'_>| {
            let label = &read.member.label;
            lost.iter().find_map(|(name, why)| {
                let is_it = |stage: &StageId| {
                    let own = &read.graph.stage(*stage).name;
                    name == own || *name == format!("{own}#{label}")
                };
                read.graph
                    .order()
                    .iter()
                    .any(is_it)
                    .then(|| (label.clone(), why.clone()))
            })
        };
        members.iter().filter_map(why).collect()
    }

    /// Why a stage that is not there yet must not run in this task.
    fn trouble(&self, name: &str, key: Option<&Key>) -> Option<String> {
        if key.is_some_and(|key| {
            self.store
                .layout()
                .holds(&self.failures().join(key.to_string()))
        }) {
            return Some(format!("`{name}`, which it shares with others, has failed"));
        }
        let (what, wanted, has) = self.needs().lack(self.submission.stage_needs.get(name)?)?;
        let amount = |count: u64| match what {
            _ if count == 0 => "none".to_owned(),
            "memory" => bytes(count),
            _ => count.to_string(),
        };
        let (wanted, has) = (amount(wanted), amount(has));
        Some(format!(
            "`{name}` asks for {wanted} of {what}, and this task for {has}; the job that was to run it did not finish, so issue the sweep again"
        ))
    }

    fn failures(&self) -> PathBuf {
        self.arguments.folder.join("failed")
    }

    /// Leaves word of stages that failed, for the tasks that come after.
    fn note_failures(&self, record: &crate::cache::RunRecord) -> Result<(), CliError> {
        let failed = record
            .stages
            .iter()
            .filter(|stage| stage.state == StageState::Failed);
        for (key, reason) in failed.filter_map(|stage| Some((stage.key?, &stage.reason))) {
            self.store
                .layout()
                .write(&self.failures().join(key.to_string()), reason.as_bytes())?;
        }
        if record.status == RunStatus::Interrupted {
            errln!("interrupted; what was done is kept");
        }
        Ok(())
    }
}
