//! Where a sweep stands: its file, its course as far as results are known, the graph of its members, and their states.
//! Everything about a sweep is found out anew from the file and the store.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use contract::artifact::Direction;
use indexmap::IndexMap;
use serde_json::Value;

use super::queue::Queue;
use super::{
    Course, Leaderboard, Member, MemberState, Note, Outcome, Progress, Sampler, SweepFile,
    TaskState, Trials, assemble, direction, label, outcomes, overrides,
};
use crate::cache::{Key, Ledger, RunRecord, StageState, Store, SweepMember, SweepPart};
use crate::diagnostic::SourceMap;
use crate::engine::{CancelToken, Plan, Planner};
use crate::graph::Needs;
use crate::project::{Choice, Error, Parts, Project, Session, size_pool};

/// A sweep whose file was read.
pub struct Sweep {
    pub file: SweepFile,
    pub store: Arc<Store>,
    pub cancel: CancelToken,
    pub choice: Choice,
    threads: usize,
    offline: bool,
    /// The sweep's name in records: the file's path from the root.
    pub name: String,
    warned: bool,
    /// Numeric classes of machines whose results count; `None` if only those of this one do.
    classes: Option<BTreeSet<String>>,
    /// Texts that messages point into: the sweep file's, and those of pipelines.
    sources: SourceMap,
}

/// Where a sweep stands.
pub struct View {
    pub progress: Progress,
    pub session: Session,
    pub roster: Trials,
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
        let stages = self
            .roster
            .stages(member)
            .iter()
            .map(|id| (id, self.plan.stage(*id)));
        let missing = stages.filter(|(_, stage)| stage.hit().is_none());
        missing
            .map(|(id, stage)| Lacking {
                name: &self.session.graph.stage(*id).name,
                key: stage.key,
            })
            .collect()
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
        let threads = size_pool(choice);
        let (file, diagnostics) = SweepFile::load(path, &mut sources);
        let Some(mut file) = file else {
            return Err(Error::faulty(diagnostics, sources));
        };
        project.warn(&diagnostics, &sources);
        file.profile = choice.profile.clone().or(file.profile);
        let set = choice.overrides()?;
        let over = file
            .stopping
            .as_ref()
            .map(|stopping| stopping.over.as_str());
        let seeds = (!file.seeds.is_empty()).then_some("seed");
        let axes: Vec<&str> = file
            .space
            .axes()
            .into_iter()
            .chain(over)
            .chain(seeds)
            .collect();
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
            file,
            store: Arc::new(store),
            cancel: CancelToken::default(),
            choice: choice.clone(),
            threads,
            offline: offline || choice.offline,
            name,
            warned: false,
            classes: None,
            sources,
        })
    }

    /// The texts of the sweep file, the pipeline and what it includes, by their absolute paths.
    pub fn texts(&self, view: &View) -> BTreeMap<PathBuf, Arc<str>> {
        let sweep = self
            .sources
            .iter()
            .next()
            .map(|(path, text)| (path.to_owned(), Arc::clone(text)));
        let files = sweep
            .into_iter()
            .chain(view.session.spec.files.iter().cloned());
        files
            .filter_map(|(path, text)| Some((std::path::absolute(path).ok()?, text)))
            .collect()
    }

    /// Forced stages have run; from now on they are as any other.
    pub fn stop_forcing(&mut self) {
        self.choice.force.clear();
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
    pub fn view(&mut self, project: &Project, failed: &BTreeSet<Member>) -> Result<View, Error> {
        let mut known: BTreeMap<Member, Outcome> = BTreeMap::new();
        let mut view: Option<View> = None;
        loop {
            let look = |member: &Member| {
                let fallback = if failed.contains(member) {
                    Outcome::Failed
                } else {
                    Outcome::Unknown
                };
                known.get(member).copied().unwrap_or(fallback)
            };
            let progress = Course::new(&self.file).progress(&look);
            match view {
                Some(mut view) if view.progress.members == progress.members => {
                    view.progress = progress;
                    return Ok(view);
                }
                _ => {}
            }
            let next = self.assembled(project, progress)?;
            known = outcomes(&self.file, &next.roster.members, &next.states, &|member| {
                failed.contains(member)
            });
            self.check_direction(&next.states)?;
            view = Some(next);
        }
    }

    /// The same without members that failed: their stages are left out.
    pub fn without(
        &mut self,
        project: &Project,
        view: View,
        failed: &BTreeSet<Member>,
    ) -> Result<View, Error> {
        let mut progress = view.progress;
        progress.members.retain(|member| !failed.contains(member));
        self.assembled(project, progress)
    }

    /// [`Self::view`] as far as records and queue tell: members whose stages failed and that nobody works on have failed.
    pub fn stand(&mut self, project: &Project, queue: &Queue) -> Result<View, Error> {
        let failures = self.failures();
        let under_way = queue.members(&[TaskState::Waiting, TaskState::Running]);
        self.view_where(project, |values, missing| {
            missing.iter().any(|stage| failures.of(stage).is_some()) && !under_way.contains(values)
        })
    }

    /// [`Self::view`], with results from all machines on which the sweep ran, as nodes of a cluster may compute in another
    /// numeric class than the host that asks; and where members have failed for which that holds of their values and the stages that they lack.
    pub fn view_where(
        &mut self,
        project: &Project,
        has_failed: impl Fn(&Vec<(String, String)>, &[Lacking<'_>]) -> bool,
    ) -> Result<View, Error> {
        self.classes
            .get_or_insert_with(|| classes_of(&self.store, &self.name));
        let mut failed = BTreeSet::new();
        loop {
            let view = self.view(project, &failed)?;
            let known = failed.len();
            for (number, member) in view.roster.members.iter().enumerate() {
                let missing = view.lacking(number);
                if has_failed(
                    &overrides(&self.file, &view.progress.points[member.trial], member),
                    &missing,
                ) {
                    failed.insert(*member);
                }
            }
            if failed.len() == known {
                return Ok(view);
            }
        }
    }

    fn assembled(&mut self, project: &Project, progress: Progress) -> Result<View, Error> {
        let sources = &mut self.sources;
        let assembled = assemble(&self.file, &progress, &project.catalogue, sources);
        let assembly = assembled.map_err(|problems| Error::faulty(problems, sources.clone()))?;
        if !self.warned {
            project.warn(&assembly.warnings, sources);
            self.warned = true;
        }
        let graph = &assembly.graph;
        let declared = (0..graph.len())
            .map(|_| Needs::default())
            .collect::<Vec<_>>();
        let declared = graph.order().iter().fold(declared, |mut declared, id| {
            declared[id.index()] = graph.stage(*id).needs;
            declared
        });
        let sweep = self.part(&assembly.roster, assembly.values, &progress);
        let parts = Parts {
            spec: assembly.spec,
            graph: assembly.graph,
            store: Arc::clone(&self.store),
            ledger: Ledger::load(&self.store, &self.name),
            file: self.name.clone(),
            sweep: Some(sweep),
            threads: self.threads,
        };
        let folder = self.file.pipeline.parent().unwrap_or(Path::new("."));
        let mut session = Session::of(
            project,
            parts,
            &self.choice,
            folder,
            self.offline,
            &self.cancel,
        )?;
        session.spec.name.value.clone_from(&self.file.name);
        let mut plan = session.planner().plan();
        for class in self
            .classes
            .iter()
            .flatten()
            .filter(|class| **class != session.numeric_class)
        {
            plan.or_hits_of(
                Planner {
                    numeric_class: class,
                    ..session.planner()
                }
                .plan(),
            );
        }
        let roster = assembly.roster;
        let states = roster.states(&self.file, &plan, &self.store);
        Ok(View {
            progress,
            session,
            roster,
            plan,
            states,
            declared,
        })
    }

    /// The members as a record holds them.
    fn part(
        &self,
        roster: &Trials,
        values: Vec<(IndexMap<String, Value>, u64)>,
        progress: &Progress,
    ) -> SweepPart {
        let file = &self.file;
        let first = values
            .first()
            .map(|(params, _)| params.clone())
            .unwrap_or_default();
        let member = |(member, (params, seed)): (&Member, (IndexMap<String, Value>, u64))| {
            let member = SweepMember {
                label: label(file, member),
                overrides: overrides(file, &progress.points[member.trial], member),
                targets: file.all_targets(),
                params: IndexMap::new(),
                seed: None,
            };
            member.with_values(params, seed, &first)
        };
        let pipeline =
            std::fs::canonicalize(&file.pipeline).unwrap_or_else(|_| file.pipeline.clone());
        let members = roster.members.iter().zip(values).map(member).collect();
        SweepPart {
            pipeline: pipeline.display().to_string(),
            members,
        }
    }

    /// A figure that points nowhere cannot be sought.
    fn check_direction(&self, states: &[MemberState]) -> Result<(), Error> {
        let neither = states.iter().any(|state| {
            matches!(
                state,
                MemberState::Done {
                    direction: Direction::Neither,
                    ..
                }
            )
        });
        if neither && direction(&self.file, states).is_none() {
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
        let mut records: Vec<RunRecord> =
            records.filter(|record| record.file == self.name).collect();
        records.reverse();
        for record in records {
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
        project: &Project,
        queue: &Queue,
        trial: usize,
    ) -> Result<Vec<(String, String)>, Error> {
        let view = self.stand(project, queue)?;
        let points = &view.progress.points;
        let point = trial.checked_sub(1).and_then(|index| points.get(index));
        let Some(point) = point else {
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

    /// The leaderboard; `queue` is what was handed to clusters.
    pub fn board(&self, view: &View, queue: &Queue) -> Result<Leaderboard, Error> {
        let failures = self.failures();
        let leased: BTreeSet<Key> = self.store.leased()?.into_iter().collect();
        let [in_queue, in_tasks] =
            [TaskState::Waiting, TaskState::Running].map(|state| queue.members(&[state]));
        let lost = queue.lost();
        let values =
            |member: &Member| overrides(&self.file, &view.progress.points[member.trial], member);
        let note = |member: usize| {
            let own = values(&view.roster.members[member]);
            let open = view.lacking(member);
            let failure = open.iter().find_map(|stage| failures.of(stage).cloned());
            let is_leased =
                |stage: &Lacking<'_>| stage.key.is_some_and(|key| leased.contains(&key));
            Note {
                failure: failure.or_else(|| lost.get(&own).filter(|_| !open.is_empty()).cloned()),
                running: in_tasks.contains(&own) || open.iter().any(is_leased),
                queued: in_queue.contains(&own),
                seconds: view.roster.seconds(member, &view.plan),
                finished: view.roster.finished(member, &view.plan),
                execution: Some(view.roster.objective(member)),
            }
        };
        let notes: Vec<Note> = (0..view.roster.members.len()).map(note).collect();
        Ok(Leaderboard::new(
            &self.file,
            &view.progress,
            &view.states,
            &notes,
        ))
    }
}

/// The numeric classes of machines on which something of a sweep ran, by its run records.
fn classes_of(store: &Store, name: &str) -> BTreeSet<String> {
    let records = store.runs().unwrap_or_default();
    let records = records
        .iter()
        .filter_map(|run| store.load_run(run).ok())
        .filter(|record| record.file == name);
    records
        .filter_map(|record| {
            Some(
                record
                    .environment
                    .get("numeric_class")?
                    .as_str()?
                    .to_owned(),
            )
        })
        .collect()
}
