//! The state of a sweep: its file, its course as far as results are known, the graph of its members, and their states.
//! All of it follows from the file and the store, and is found out again whenever somebody asks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use contract::artifact::Direction;
use indexmap::IndexMap;
use serde_json::Value;

use super::queue::Queue;
use super::{
    Course, Leaderboard, Member, MemberState, Note, Outcome, Progress, Row, Sampler, SweepFile,
    TaskState, Trials, assemble, direction, label, outcomes, overrides,
};
use crate::cache::{Key, Ledger, RunRecord, StageState, Store, SweepMember, SweepPart};
use crate::diagnostic::SourceMap;
use crate::engine::{Plan, Planner};
use crate::graph::{Needs, StageId};
use crate::project::{Choice, Error, Parts, Project, Session};

/// A sweep whose file was read.
pub struct Sweep {
    pub project: Project,
    pub file: SweepFile,
    pub store: Arc<Store>,
    pub choice: Choice,
    offline: bool,
    /// The sweep's name in records: the file's path from the root.
    pub name: String,
    warned: bool,
    /// Hardware classes of machines whose results count; `None` if only those of this one do.
    classes: Option<BTreeSet<String>>,
    /// Texts that messages point into: the sweep file's, and those of pipelines.
    sources: SourceMap,
}

/// How far a sweep is.
pub struct View {
    pub progress: Progress,
    pub session: Session,
    pub trials: Trials,
    pub plan: Plan,
    pub states: Vec<MemberState>,
    /// What stages ask for in the file, by their number; the graph has it fitted to this machine.
    pub declared: Vec<Needs>,
}

/// A stage that is not there yet.
#[derive(Clone, Copy)]
pub struct Lacking<'a> {
    pub name: &'a str,
    /// `None` as long as something before it is not there.
    pub key: Option<Key>,
}

impl View {
    /// The stages that a member lacks.
    pub fn lacking(&self, member: usize) -> Vec<Lacking<'_>> {
        let mut lacking = Vec::new();
        for id in self.trials.stages(member) {
            if self.is_open(id) {
                lacking.push(Lacking {
                    name: &self.session.graph.stage(*id).name,
                    key: self.plan.stage(*id).key,
                });
            }
        }
        lacking
    }

    /// Whether a stage is still to run.
    pub fn is_open(&self, stage: &StageId) -> bool {
        self.plan.stage(*stage).hit().is_none()
    }

    /// How many of these stages are still to run.
    pub fn count_open(&self, stages: &[StageId]) -> usize {
        stages.iter().filter(|stage| self.is_open(stage)).count()
    }

    /// Members that have come to an end.
    pub fn count_ended(&self) -> usize {
        let is_missing = |state: &&MemberState| matches!(state, MemberState::Missing { .. });
        self.states.len() - self.states.iter().filter(is_missing).count()
    }

    /// Trials whose points follow from results that are not there yet.
    pub fn count_later(&self) -> usize {
        self.progress.total - self.progress.points.len()
    }
}

/// Why stages failed the last time they were tried.
#[derive(Default)]
pub struct Failures {
    by_key: BTreeMap<Key, String>,
    /// Of stages that had no key: a file was missing.
    by_name: BTreeMap<String, String>,
}

impl Failures {
    pub fn of(&self, stage: &Lacking<'_>) -> Option<&String> {
        match stage.key {
            Some(key) => self.by_key.get(&key),
            None => self.by_name.get(stage.name),
        }
    }
}

impl Sweep {
    /// Reads the sweep file; its problems are given as an error, all of them.
    pub fn open(
        project: &Project,
        path: &Path,
        choice: &Choice,
        offline: bool,
    ) -> Result<Self, Error> {
        let store = project.open_store(path.parent().unwrap_or(Path::new(".")))?;
        Self::open_on(store, project, path, choice, offline)
    }

    /// [`Self::open`] on a store that was opened elsewhere.
    pub fn open_on(
        store: Store,
        project: &Project,
        path: &Path,
        choice: &Choice,
        offline: bool,
    ) -> Result<Self, Error> {
        Self::open_with(store, project, path, choice, offline, SourceMap::default())
    }

    /// [`Self::open_on`] with files as they were.
    pub fn open_with(
        store: Store,
        project: &Project,
        path: &Path,
        choice: &Choice,
        offline: bool,
        mut sources: SourceMap,
    ) -> Result<Self, Error> {
        let (file, diagnostics) = SweepFile::load(path, &mut sources);
        let Some(mut file) = file else {
            return Err(Error::faulty(diagnostics, sources));
        };
        project.warn(&diagnostics, &sources);
        file.profile = choice.profile.clone().or(file.profile);
        let set = choice.overrides()?;
        let mut axes = file.space.axes();
        axes.extend(file.stopping.iter().map(|stopping| stopping.over.as_str()));
        if !file.seeds.is_empty() {
            axes.push("seed");
        }
        if let Some((name, _)) = set.iter().find(|(name, _)| axes.contains(&name.as_str())) {
            let message = format!("--set {name} would take away what the sweep varies");
            return Err(
                Error::wrong(message).hint("leave it out, or change the axis in the sweep file")
            );
        }
        file.fixed.extend(set);
        file.targets.extend(choice.targets.iter().cloned());
        let name = std::fs::canonicalize(path)
            .unwrap_or_else(|_| path.to_owned())
            .display()
            .to_string();
        Ok(Self {
            project: project.clone(),
            file,
            store: Arc::new(store),
            choice: choice.clone(),
            offline: offline || choice.offline,
            name,
            warned: false,
            classes: None,
            sources,
        })
    }

    /// The texts of the sweep file, the pipeline and what it includes, by their absolute paths.
    pub fn texts(&self, view: &View) -> BTreeMap<PathBuf, Arc<str>> {
        let mut texts = BTreeMap::new();
        let sweep = self.sources.iter().next();
        let pipeline = view.session.spec.files.iter();
        for (path, text) in sweep
            .into_iter()
            .chain(pipeline.map(|(path, text)| (path.as_str(), text)))
        {
            if let Ok(path) = std::path::absolute(path) {
                texts.insert(path, Arc::clone(text));
            }
        }
        texts
    }

    /// What people read of as the parts of the sweep: without seeds and levels, each run is a trial.
    pub fn unit(&self) -> &'static str {
        if self.file.seeds.is_empty() && self.file.stopping.is_none() {
            "trial"
        } else {
            "run"
        }
    }

    /// Refuses a sweep without trials.
    ///
    /// # Errors
    /// If an axis has no value.
    pub fn check_size(&self) -> Result<(), Error> {
        if self.size() >= 1.0 {
            return Ok(());
        }
        let hint =
            "every axis needs a value, and a dependent axis a case for each value that it goes by";
        Err(Error::wrong("the sweep has no trial").hint(hint))
    }

    /// Members at the first level, at most.
    pub fn size(&self) -> f64 {
        let trials = match self.file.sampler {
            Sampler::Grid => self.file.space.grid_size(),
            Sampler::Random { trials, .. } | Sampler::Tpe { trials, .. } => trials as f64,
        };
        trials * self.file.seeds.len().max(1) as f64
    }

    /// Goes through the course of the sweep as far as the store knows results. Members for which `failed` holds have
    /// run without coming to an end.
    pub fn view(&mut self, failed: &BTreeSet<Member>) -> Result<View, Error> {
        let mut known: BTreeMap<Member, Outcome> = BTreeMap::new();
        let mut view: Option<View> = None;
        loop {
            let progress = Course::new(&self.file).progress(&|member| match known.get(member) {
                Some(outcome) => *outcome,
                None if failed.contains(member) => Outcome::Failed,
                None => Outcome::Unknown,
            });
            // Once no further members follow from what is known, this is how far the sweep is.
            if let Some(mut view) = view
                && view.progress.members == progress.members
            {
                view.progress = progress;
                return Ok(view);
            }
            let next = self.assembled(progress)?;
            known = outcomes(&self.file, &next.trials.members, &next.states, failed);
            self.check_direction(&next.states)?;
            view = Some(next);
        }
    }

    /// The same without members that failed: their stages are left out.
    pub fn without(&mut self, view: View, failed: &BTreeSet<Member>) -> Result<View, Error> {
        let mut progress = view.progress;
        progress.members.retain(|member| !failed.contains(member));
        self.assembled(progress)
    }

    /// [`Self::view`] as far as records and queue tell: members whose stages failed and that nobody works on have failed.
    pub fn state(&mut self, queue: &Queue) -> Result<View, Error> {
        let failures = self.failures();
        let under_way = queue.members(&[TaskState::Waiting, TaskState::Running]);
        self.view_where(|values, missing| {
            missing.iter().any(|stage| failures.of(stage).is_some()) && !under_way.contains(values)
        })
    }

    /// [`Self::view`], with results from all machines on which the sweep ran, as nodes of a cluster may be of another hardware
    /// class than the host that asks. A member has failed if `has_failed` says so of its values and the stages that it lacks.
    pub fn view_where(
        &mut self,
        has_failed: impl Fn(&Vec<(String, String)>, &[Lacking<'_>]) -> bool,
    ) -> Result<View, Error> {
        self.classes
            .get_or_insert_with(|| classes_of(&self.store, &self.name));
        let mut failed = BTreeSet::new();
        loop {
            let view = self.view(&failed)?;
            let known = failed.len();
            for (number, member) in view.trials.members.iter().enumerate() {
                let values = overrides(&self.file, &view.progress.points[member.trial], member);
                if has_failed(&values, &view.lacking(number)) {
                    failed.insert(*member);
                }
            }
            if failed.len() == known {
                return Ok(view);
            }
        }
    }

    fn assembled(&mut self, progress: Progress) -> Result<View, Error> {
        let sources = &mut self.sources;
        let assembled = assemble(&self.file, &progress, &self.project.catalogue, sources);
        let assembly = assembled.map_err(|problems| Error::faulty(problems, sources.clone()))?;
        if !self.warned {
            self.project.warn(&assembly.warnings, sources);
            self.warned = true;
        }
        let graph = &assembly.graph;
        let mut declared = vec![Needs::default(); graph.len()];
        for id in graph.order() {
            declared[id.index()] = graph.stage(*id).needs;
        }
        let sweep = self.part(&assembly.trials, assembly.values, &progress);
        let parts = Parts {
            spec: assembly.spec,
            graph: assembly.graph,
            store: Arc::clone(&self.store),
            ledger: Ledger::load(&self.store, &self.name),
            file: self.name.clone(),
            sweep: Some(sweep),
        };
        let folder = self.file.pipeline.parent().unwrap_or(Path::new("."));
        let mut session = Session::of(&self.project, parts, &self.choice, folder, self.offline)?;
        session.spec.name.value.clone_from(&self.file.name);
        let mut plan = session.planner().plan();
        for numeric_class in self.classes.iter().flatten() {
            if *numeric_class != session.numeric_class {
                let elsewhere = Planner {
                    numeric_class,
                    ..session.planner()
                };
                plan.or_hits_of(elsewhere.plan());
            }
        }
        let trials = assembly.trials;
        let states = trials.states(&self.file, &plan, &self.store);
        Ok(View {
            progress,
            session,
            trials,
            plan,
            states,
            declared,
        })
    }

    /// The members as a record holds them.
    fn part(
        &self,
        trials: &Trials,
        values: Vec<(IndexMap<String, Value>, u64)>,
        progress: &Progress,
    ) -> SweepPart {
        let file = &self.file;
        let first = match values.first() {
            Some((params, _)) => params.clone(),
            None => IndexMap::new(),
        };
        let mut members = Vec::with_capacity(values.len());
        for (member, (params, seed)) in trials.members.iter().zip(values) {
            let member = SweepMember {
                label: label(file, member),
                overrides: overrides(file, &progress.points[member.trial], member),
                targets: file.all_targets(),
                params: IndexMap::new(),
                seed: None,
            };
            members.push(member.with_values(params, seed, &first));
        }
        let pipeline =
            std::fs::canonicalize(&file.pipeline).unwrap_or_else(|_| file.pipeline.clone());
        SweepPart {
            pipeline: pipeline.display().to_string(),
            members,
        }
    }

    /// A metric without a direction cannot be an objective.
    fn check_direction(&self, states: &[MemberState]) -> Result<(), Error> {
        let points_nowhere = |state: &MemberState| matches!(state, MemberState::Done { direction, .. } if *direction == Direction::Neither);
        if states.iter().any(points_nowhere) && direction(&self.file, states).is_none() {
            let message = format!(
                "nothing says whether a larger `{}` is better",
                self.file.objective.metric
            );
            return Err(Error::wrong(message)
                .hint("add `direction: maximize` or `minimize` to the objective"));
        }
        Ok(())
    }

    /// Why stages failed the last time they were tried, by their key: from the records of runs of this sweep that came
    /// after the last success.
    pub fn failures(&self) -> Failures {
        let mut failures = Failures::default();
        let records = self.store.newest_first().into_iter().flatten();
        let mut own: Vec<RunRecord> = records.filter(|record| record.file == self.name).collect();
        own.reverse();
        for record in own {
            for stage in record.stages {
                let reason = format!("{}: {}", stage.name, stage.reason);
                match (stage.state, stage.key) {
                    (StageState::Failed, Some(key)) => drop(failures.by_key.insert(key, reason)),
                    (StageState::Failed, None) => drop(failures.by_name.insert(stage.name, reason)),
                    (StageState::Ran | StageState::Hit, key) => {
                        key.and_then(|key| failures.by_key.remove(&key));
                        failures.by_name.remove(&stage.name);
                    }
                    (StageState::Skipped, _) => {}
                }
            }
        }
        failures
    }

    /// What the trial of this number, counted from 1, sets.
    ///
    /// # Errors
    /// If there is no such trial by now.
    pub fn values_of_trial(
        &mut self,
        queue: &Queue,
        trial: usize,
    ) -> Result<Vec<(String, String)>, Error> {
        let view = self.state(queue)?;
        let points = &view.progress.points;
        // Number 0 wraps to one that no trial has.
        let Some(point) = points.get(trial.wrapping_sub(1)) else {
            let hint = format!("there are trials 1 to {} by now", points.len());
            return Err(Error::wrong(format!("the sweep has no trial {trial}")).hint(hint));
        };
        let member = Member {
            trial: trial - 1,
            seed: None,
            level: None,
        };
        Ok(overrides(&self.file, point, &member))
    }

    /// What the trial of a leaderboard's row sets, at the level of the row and with its first seed.
    pub fn values_of_row(&self, view: &View, row: &Row) -> Vec<(String, String)> {
        let mut members = view.trials.members.iter();
        let is_meant = |member: &&Member| member.trial == row.trial && member.level == row.level;
        match members.find(is_meant) {
            Some(member) => overrides(&self.file, &row.point, member),
            None => Vec::new(),
        }
    }

    /// The leaderboard; `queue` is what was submitted to clusters.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn board(&self, view: &View, queue: &Queue) -> Result<Leaderboard, Error> {
        let failures = self.failures();
        let leased: BTreeSet<Key> = self.store.leased()?.into_iter().collect();
        let [in_queue, in_tasks] =
            [TaskState::Waiting, TaskState::Running].map(|state| queue.members(&[state]));
        let lost = queue.lost();
        let mut notes = Vec::with_capacity(view.trials.members.len());
        for (number, member) in view.trials.members.iter().enumerate() {
            let values = overrides(&self.file, &view.progress.points[member.trial], member);
            let mut note = Note {
                failure: None,
                running: in_tasks.contains(&values),
                queued: in_queue.contains(&values),
                seconds: view.trials.seconds(number, &view.plan),
                finished: view.trials.finished(number, &view.plan),
                execution: Some(view.trials.objective(number)),
            };
            let open = view.lacking(number);
            for stage in &open {
                note.running |= stage.key.is_some_and(|key| leased.contains(&key));
                if note.failure.is_none() {
                    note.failure = failures.of(stage).cloned();
                }
            }
            // A job that ended badly says nothing about a member that is complete.
            if note.failure.is_none() && !open.is_empty() {
                note.failure = lost.get(&values).cloned();
            }
            notes.push(note);
        }
        let Self { file, .. } = self;
        let mut board = Leaderboard::new(file, &view.progress, &view.states, &notes);
        board.oracle = view.trials.are_chosen_by_test();
        Ok(board)
    }
}

/// The hardware classes of machines on which something of a sweep ran, by its run records.
fn classes_of(store: &Store, name: &str) -> BTreeSet<String> {
    let mut classes = BTreeSet::new();
    for run in store.runs().unwrap_or_default() {
        if let Ok(record) = store.load_run(&run)
            && record.file == name
            && let Some(Value::String(class)) = record.environment.get("numeric_class")
        {
            classes.insert(class.clone());
        }
    }
    classes
}
