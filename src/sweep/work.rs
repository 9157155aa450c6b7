//! What a task of a submission does. Backends start it.
//!
//! Whatever happens to a task (it is lost, runs twice, or beside another that does the same) costs time at most: results
//! have their keys, and a lease keeps two from working on one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{JobNeeds, Part, Submission, UnitMember, plain_name};
use crate::cache::{Key, Ledger, RunRecord, RunStatus, StageState, Store, SweepMember, SweepPart};
use crate::diagnostic::bytes;
use crate::engine::CancelToken;
use crate::graph::StageId;
use crate::project::{
    self, Carried, Choice, Error, Limits, Parts, Project, Read, Reporting, Session, carry_out,
    size_pool,
};

/// How a task ended.
pub struct Ended {
    pub status: RunStatus,
    /// A stage that was interrupted, if all the work of the task is lost.
    pub in_vain: Option<String>,
}

/// A task of a submission, at work on this machine.
pub struct Work<'a> {
    pub project: &'a Project,
    pub submission: &'a Submission,
    /// The folder of the submission.
    pub folder: PathBuf,
    pub part: Part,
    pub choice: Choice,
    pub store: Arc<Store>,
    pub cancel: CancelToken,
}

impl Work<'_> {
    /// Does the task of this number.
    ///
    /// # Errors
    /// If there is no such task, the pipeline is wrong, or the store cannot be used.
    pub fn run(&self, task: usize, reporting: &Reporting<'_>) -> Result<Ended, Error> {
        let Some(unit) = self.submission.units(self.part).get(task) else {
            return Err(Error::wrong(format!("the submission has no task {task}")));
        };
        // Before anything is read in parallel: the pool is made on its first use.
        let threads = size_pool(&self.choice);
        let members: Vec<SweepMember> = unit.members.iter().map(UnitMember::recorded).collect();
        let mut kept = members
            .iter()
            .map(|member| self.read(member))
            .collect::<Result<Vec<_>, _>>()?;
        let Some(mut session) = self.session(&kept, threads)? else {
            return Ok(Ended {
                status: RunStatus::Done,
                in_vain: None,
            });
        };
        let lost = self.hopeless(&session, &kept);
        for (label, why) in &lost {
            let note = format!("trial {label} is left out: {why}");
            self.project.listener.notes(&note);
        }
        if !lost.is_empty() {
            kept.retain(|read| !lost.contains_key(&read.member.label));
            match self.session(&kept, threads)? {
                Some(without) => session = without,
                None => {
                    return Ok(Ended {
                        status: RunStatus::Failed,
                        in_vain: None,
                    });
                }
            }
        }
        session.spec.name.value = self.sweep_name();
        let plan = session.planner().plan();
        let memory = self.needs().memory;
        let limits = Limits {
            keep_going: true,
            memory,
            jobs: None,
        };
        let carried = carry_out(&mut session, plan, limits, reporting)?;
        let Carried {
            record, outcome, ..
        } = &carried;
        self.store.save_run(record)?;
        if matches!(self.part, Part::Shared(_)) {
            self.note_failures(record)?;
        }
        let status = match outcome.status {
            RunStatus::Done if !lost.is_empty() => RunStatus::Failed,
            status => status,
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
        Ok(Ended { status, in_vain })
    }

    /// What this task has of its machine.
    fn needs(&self) -> JobNeeds {
        self.submission
            .needs
            .get(&self.part.name())
            .copied()
            .unwrap_or_default()
    }

    fn sweep_name(&self) -> String {
        self.submission
            .file
            .file_stem()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }

    fn read<'a>(&self, member: &'a SweepMember) -> Result<Read<'a>, Error> {
        let Submission {
            pipeline, profile, ..
        } = self.submission;
        project::read_member(
            self.project,
            pipeline,
            profile.as_deref(),
            member,
            self.submission.sources(),
        )
    }

    /// `None` without members.
    fn session(&self, members: &[Read<'_>], threads: usize) -> Result<Option<Session>, Error> {
        let Some(first) = members.first() else {
            return Ok(None);
        };
        let choice = &self.choice;
        let values = first.spec.values();
        let sweep = SweepPart {
            pipeline: self.submission.pipeline.display().to_string(),
            members: members.iter().map(|read| read.recorded(&values)).collect(),
        };
        let parts = Parts {
            spec: first.spec.clone(),
            graph: project::joined(members),
            store: Arc::clone(&self.store),
            ledger: Ledger::default(),
            file: self.submission.record.clone(),
            sweep: Some(sweep),
            threads,
        };
        let folder = self.submission.pipeline.parent().unwrap_or(Path::new("."));
        Session::of(
            self.project,
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
        self.folder.join("failed")
    }

    /// Leaves word of stages that failed, for the tasks that come after.
    fn note_failures(&self, record: &RunRecord) -> Result<(), Error> {
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
            self.project
                .listener
                .notes("interrupted; what was done is kept");
        }
        Ok(())
    }
}
