//! What a task of a submission does. Backends start it.
//!
//! Whatever happens to a task (it is lost, runs twice, or beside another that does the same) costs time at most: results
//! have their keys, and a lease keeps two tasks from working on one stage.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::waves::plain_name;
use super::{JobNeeds, Part, Submission, UnitMember};
use crate::cache::{
    Key, Ledger, RunRecord, RunStatus, StageRecord, StageState, Store, SweepMember, SweepPart,
};
use crate::diagnostic::bytes;
use crate::graph::StageId;
use crate::project::{
    self, Carried, Choice, Error, Limits, Parts, Project, Read, Reporting, Session, carry_out,
};

/// How a task ended.
pub struct Ended {
    pub status: RunStatus,
    /// A stage that was interrupted, if all the work of the task is lost.
    pub in_vain: Option<String>,
}

impl Ended {
    fn without_work(status: RunStatus) -> Self {
        Self {
            status,
            in_vain: None,
        }
    }
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
        let members: Vec<SweepMember> = unit.members.iter().map(UnitMember::recorded).collect();
        let mut kept = Vec::with_capacity(members.len());
        for member in &members {
            kept.push(self.read(member)?);
        }
        let Some(mut session) = self.session(&kept)? else {
            return Ok(Ended::without_work(RunStatus::Done));
        };
        let lost = self.hopeless(&session, &kept);
        for (label, why) in &lost {
            let note = format!("trial {label} is left out: {why}");
            self.project.listener.note(&note);
        }
        if !lost.is_empty() {
            kept.retain(|read| !lost.contains_key(&read.member.label));
            match self.session(&kept)? {
                Some(without) => session = without,
                None => return Ok(Ended::without_work(RunStatus::Failed)),
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
        let carried = carry_out(&mut session, plan, limits, reporting, &mut ())?;
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
        let has_run = |stage: &StageRecord| stage.state == StageState::Ran;
        let is_lost = outcome.interrupted.iter().all(|stage| stage.is_lost)
            && !record.stages.iter().any(has_run);
        let first = outcome.interrupted.first().filter(|_| is_lost);
        Ok(Ended {
            status,
            in_vain: first.map(|stage| stage.stage.clone()),
        })
    }

    /// What this task has of its machine.
    fn needs(&self) -> JobNeeds {
        let needs = self.submission.needs.get(&self.part.name());
        needs.copied().unwrap_or_default()
    }

    fn sweep_name(&self) -> String {
        let name = self.submission.file.file_stem().unwrap_or_default();
        name.to_string_lossy().into_owned()
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
    fn session(&self, members: &[Read<'_>]) -> Result<Option<Session>, Error> {
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
        };
        let folder = self.submission.pipeline.parent().unwrap_or(Path::new("."));
        Session::of(self.project, parts, choice, folder, choice.offline).map(Some)
    }

    /// Members that cannot succeed here, and why: a stage that they need failed in the shared part and would fail again for
    /// each of them, or it asks for more than this task has.
    fn hopeless(&self, session: &Session, members: &[Read<'_>]) -> BTreeMap<String, String> {
        let (graph, plan) = (&session.graph, session.planner().plan());
        let mut hopeless = BTreeMap::new();
        for stage in graph.order() {
            let planned = plan.stage(*stage);
            if planned.hit().is_some() {
                continue;
            }
            let Some(why) = self.trouble(plain_name(graph, *stage), planned.key.as_ref()) else {
                continue;
            };
            for read in members {
                if needs(read, &graph.stage(*stage).name) {
                    let label = read.member.label.clone();
                    hopeless.entry(label).or_insert_with(|| why.clone());
                }
            }
        }
        hopeless
    }

    /// Why a stage that is not there yet must not run in this task.
    fn trouble(&self, name: &str, key: Option<&Key>) -> Option<String> {
        if let Some(key) = key
            && self
                .store
                .layout()
                .holds(&self.failures().join(key.to_string()))
        {
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
        for stage in &record.stages {
            if let (StageState::Failed, Some(key)) = (stage.state, stage.key) {
                let note = self.failures().join(key.to_string());
                self.store.layout().write(&note, stage.reason.as_bytes())?;
            }
        }
        if record.status == RunStatus::Interrupted {
            let note = "interrupted; what was done is kept";
            self.project.listener.note(note);
        }
        Ok(())
    }
}

/// Whether a stage of the joined graph is one of the member's: in its own graph, a stage has no label behind its name.
fn needs(read: &Read<'_>, name: &str) -> bool {
    let is_it = |stage: &StageId| {
        let own = &read.graph.stage(*stage).name;
        name == own || name == format!("{own}#{}", read.member.label)
    };
    read.graph.order().iter().any(is_it)
}
