//! What is handed to a backend: the members to run, divided into units (a task each), and the stages that they share as
//! units before them. A submission is a folder of the store with its units, scripts and logs. Nothing is ever updated in it:
//! what has become of it is read from the backend and from results.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use contract::artifact::Digest;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::backend::JobNeeds;
use super::course::Member;
use super::file::SweepFile;
use super::options::JobOptions;
use super::space::Point;
use super::trials::{Trials, label, overrides};
use crate::cache::{
    CacheError, GcReport, Key, Layout, Remote, RemoteGcReport, Root, RunId, Store, SweepMember,
};
use crate::diagnostic::SourceMap;
use crate::engine::Plan;
use crate::graph::{Graph, StageId};
use crate::project::{Collection, Error, Project};

/// One member, as a task runs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnitMember {
    pub member: Member,
    /// As in names of stages.
    pub label: String,
    /// `NAME=VALUE` pairs.
    pub overrides: Vec<(String, String)>,
    /// The stages to run; what they need runs too.
    pub targets: Vec<String>,
}

impl UnitMember {
    /// The member as a record holds it.
    pub fn recorded(&self) -> SweepMember {
        SweepMember {
            label: self.label.clone(),
            overrides: self.overrides.clone(),
            targets: self.targets.clone(),
            params: IndexMap::new(),
            seed: None,
        }
    }
}

/// What one task does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Unit {
    pub members: Vec<UnitMember>,
}

/// Part of a submission: it becomes one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A wave of stages that several trials need, from 0; each comes after the one before it.
    Shared(usize),
    Trials,
    /// Submits what comes next, once this is known.
    Next,
}

impl Part {
    /// `shared`, `shared-2`, ..., `trials`, `next`.
    pub fn name(self) -> String {
        match self {
            Self::Shared(0) => "shared".to_owned(),
            Self::Shared(wave) => format!("shared-{}", wave + 1),
            Self::Trials => "trials".to_owned(),
            Self::Next => "next".to_owned(),
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "shared" => Some(Self::Shared(0)),
            "trials" => Some(Self::Trials),
            "next" => Some(Self::Next),
            _ => {
                let wave: usize = name.strip_prefix("shared-")?.parse().ok()?;
                (wave > 1).then(|| Self::Shared(wave - 1))
            }
        }
    }
}

/// A submission.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Submission {
    /// Its own name, and that of its folder.
    pub id: String,
    /// The sweep file.
    pub file: PathBuf,
    /// The sweep's name in run records.
    pub record: String,
    pub pipeline: PathBuf,
    pub profile: Option<String>,
    /// Texts of the sweep file, the pipeline and what it includes, by path: tasks go by them, whatever becomes of the files.
    pub texts: BTreeMap<PathBuf, Arc<str>>,
    pub backend: String,
    /// `NAME=VALUE` pairs and targets of the command line, for what comes next.
    pub overrides: Vec<(String, String)>,
    pub targets: Vec<String>,
    /// Milliseconds since 1970.
    pub submitted: u64,
    /// Submissions of the same campaign that came before.
    pub before: Vec<String>,
    /// Waves of units with what trials share.
    pub shared: Vec<Vec<Unit>>,
    pub trials: Vec<Unit>,
    /// What a task of each part has of its machine, by the part's name.
    pub needs: BTreeMap<String, JobNeeds>,
    /// What stages that were to run ask for, by their name in the pipeline.
    pub stage_needs: BTreeMap<String, JobNeeds>,
    /// Keys of stages that were known, so that nothing collects what is being built upon.
    pub keys: Vec<Key>,
}

/// Where a sweep stands when something of it is submitted.
#[derive(Clone, Copy)]
pub struct Stand<'a> {
    pub points: &'a [Point],
    pub roster: &'a Trials,
    pub graph: &'a Graph,
    pub plan: &'a Plan,
}

/// All submissions of all sweeps of a store that can be read.
pub fn submissions(layout: &Layout) -> Vec<Submission> {
    layout
        .folders_in(&layout.sweeps())
        .iter()
        .flat_map(|sweep| Submission::all(layout, sweep))
        .collect()
}

/// What sweeps on a cluster were built upon, and what their tasks came to: a collection of garbage keeps it.
///
/// # Errors
/// If the runs cannot be listed.
fn keys_of_sweeps(store: &Store) -> Result<BTreeSet<Key>, CacheError> {
    let submissions = submissions(store.layout());
    let sweeps: BTreeSet<&str> = submissions
        .iter()
        .map(|submission| submission.record.as_str())
        .collect();
    let mut keys: BTreeSet<Key> = submissions
        .iter()
        .flat_map(|submission| &submission.keys)
        .copied()
        .collect();
    for run in if sweeps.is_empty() {
        Vec::new()
    } else {
        store.runs()?
    } {
        if let Ok(record) = store.load_run(&run)
            && sweeps.contains(record.file.as_str())
        {
            keys.extend(record.stages.iter().filter_map(|stage| stage.key));
        }
    }
    Ok(keys)
}

impl Project {
    /// Removes from the store what nobody needs: no run, no lock, no sweep on a cluster.
    ///
    /// # Errors
    /// If a lock cannot be read, or the store cannot be used.
    pub fn collect(&self, mut collection: Collection) -> Result<GcReport, Error> {
        collection.also.push(self.root_of_sweeps()?);
        self.collect_besides_sweeps(collection)
    }

    /// Removes from the remote what is older and what nobody here needs. Gives the remote and what was removed.
    ///
    /// # Errors
    /// If there is no remote, it is only to be read, or it cannot be used; or a lock cannot be read.
    pub fn collect_at_remote(
        &self,
        mut collection: Collection,
        older_than: Duration,
    ) -> Result<(Remote, RemoteGcReport), Error> {
        collection.also.push(self.root_of_sweeps()?);
        self.collect_at_remote_besides_sweeps(collection, older_than)
    }

    fn root_of_sweeps(&self) -> Result<Root, Error> {
        Ok(Root {
            name: "sweeps".into(),
            keys: keys_of_sweeps(&self.local_store())?,
        })
    }
}

/// The folder of a sweep's submissions.
pub fn sweep_folder(layout: &Layout, name: &str, record: &str) -> PathBuf {
    layout.sweeps().join(sweep_id(name, record))
}

/// A name for a sweep that is a file name and a job name, and tells sweeps of one name in different files apart, and those of
/// different names in one file.
pub fn sweep_id(name: &str, record: &str) -> String {
    const LONGEST: usize = 80;
    let plain: String = name
        .chars()
        .map(|one| if is_plain(one) { one } else { '_' })
        .take(LONGEST)
        .collect();
    if plain == name && !name.is_empty() {
        return format!(
            "{plain}-{}",
            &Digest::of_bytes(record.as_bytes()).to_string()[..8]
        );
    }
    // More digits behind the last dash than above, so that it is the name of no plain one either.
    let whole = format!("{} {name}{record}", name.len());
    format!(
        "{plain}-{}",
        &Digest::of_bytes(whole.as_bytes()).to_string()[..32]
    )
}

fn is_plain(character: char) -> bool {
    character.is_ascii_alphanumeric() || "._-".contains(character)
}

impl Submission {
    /// Divides members into units. `open` says by its place in the roster which members are to run, in so many tasks;
    /// `shared` is what they share.
    pub fn new(
        file: &SweepFile,
        record: &str,
        backend: &str,
        stand: &Stand<'_>,
        open: &[usize],
        shared: &[Wave],
        tasks: usize,
    ) -> Self {
        let Stand {
            points,
            roster,
            graph,
            plan,
        } = *stand;
        let submitted = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let whole = |place: &usize| {
            let member = roster.members[*place];
            UnitMember {
                member,
                label: label(file, &member),
                overrides: overrides(file, &points[member.trial], &member),
                targets: file.all_targets(),
            }
        };
        let per_unit = open.len().div_ceil(tasks.max(1)).max(1);
        let trials = open
            .chunks(per_unit)
            .map(|places| Unit {
                members: places.iter().map(whole).collect(),
            })
            .collect();
        let first_user = |stage: &StageId| {
            open.iter()
                .copied()
                .find(|place| roster.stages(*place).contains(stage))
        };
        let member = |place: usize, targets| UnitMember {
            targets,
            ..whole(&place)
        };
        let shared = shared
            .iter()
            .map(|wave| wave.units(graph, tasks, &first_user, &member))
            .collect();
        let mut keys: Vec<Key> = graph
            .order()
            .iter()
            .filter_map(|id| plan.stage(*id).key)
            .collect();
        keys.sort();
        keys.dedup();
        Self {
            id: RunId::now().0,
            file: std::path::absolute(&file.path).unwrap_or_else(|_| file.path.clone()),
            record: record.to_owned(),
            pipeline: std::path::absolute(&file.pipeline).unwrap_or_else(|_| file.pipeline.clone()),
            profile: file.profile.clone(),
            texts: BTreeMap::new(),
            backend: backend.to_owned(),
            overrides: Vec::new(),
            targets: Vec::new(),
            submitted: u64::try_from(submitted.as_millis()).unwrap_or(u64::MAX),
            before: Vec::new(),
            shared,
            trials,
            needs: BTreeMap::new(),
            stage_needs: BTreeMap::new(),
            keys,
        }
    }

    /// Where its units, scripts and logs are.
    pub fn folder(&self, sweep: &Path) -> PathBuf {
        sweep.join(&self.id)
    }

    /// Writes the submission down, before anything of it is handed to a backend. Its folder is new, so that what scripts
    /// write in it later by paths is written there.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn save(&self, layout: &Layout, sweep: &Path) -> Result<(), CacheError> {
        let folder = self.folder(sweep);
        layout.make_new(&folder)?;
        layout.write(
            &folder.join(UNITS),
            &serde_json::to_vec_pretty(self).unwrap_or_default(),
        )
    }

    /// Reads the submission in this folder.
    ///
    /// # Errors
    /// If there is none that can be read.
    pub fn load(layout: &Layout, folder: &Path) -> Result<Self, CacheError> {
        let path = folder.join(UNITS);
        let text = layout.read(&path).map_err(CacheError::io("read", &path))?;
        serde_json::from_slice(&text).map_err(|error| CacheError::Record {
            path,
            reason: error.to_string(),
        })
    }

    /// All submissions of a sweep that can be read, oldest first.
    pub fn all(layout: &Layout, sweep: &Path) -> Vec<Self> {
        layout
            .folders_in(sweep)
            .iter()
            .filter_map(|folder| Self::load(layout, folder).ok())
            .collect()
    }

    pub fn units(&self, part: Part) -> &[Unit] {
        match part {
            Part::Shared(wave) => self.shared.get(wave).map_or(&[], Vec::as_slice),
            Part::Trials => &self.trials,
            Part::Next => &[],
        }
    }

    /// For reading its files as they were.
    pub fn sources(&self) -> SourceMap {
        SourceMap::keeping(
            self.texts
                .iter()
                .map(|(path, text)| (path.clone(), Arc::clone(text))),
        )
    }

    /// Its parts, each after those that it waits for.
    pub fn parts(&self) -> impl Iterator<Item = Part> {
        (0..self.shared.len())
            .map(Part::Shared)
            .chain([Part::Trials, Part::Next])
    }

    /// All members of its trials.
    pub fn members(&self) -> impl Iterator<Item = &UnitMember> {
        self.trials.iter().flat_map(|unit| &unit.members)
    }

    /// What a backend is told beside a job, so that its tasks can be found again: `ID:PART`.
    pub fn comment(&self, part: Part) -> String {
        format!("{}:{}", self.id, part.name())
    }
}

const UNITS: &str = "units.json";

/// A comment read back.
pub fn read_comment(comment: &str) -> Option<(&str, Part)> {
    let (id, part) = comment.split_once(':')?;
    Some((id, Part::parse(part)?))
}

/// Stages that trials share and that can run beside each other, in groups whose stages hang together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wave(Vec<Vec<StageId>>);

impl Wave {
    /// All its stages.
    pub fn stages(&self) -> impl Iterator<Item = StageId> {
        self.0.iter().flatten().copied()
    }

    /// A unit for each group, or for several, if there are more groups than tasks.
    fn units(
        &self,
        graph: &Graph,
        tasks: usize,
        first_user: &impl Fn(&StageId) -> Option<usize>,
        member: &impl Fn(usize, Vec<String>) -> UnitMember,
    ) -> Vec<Unit> {
        let per_unit = self.0.len().div_ceil(tasks.max(1)).max(1);
        let unit = |groups: &[Vec<StageId>]| {
            let mut by_member: BTreeMap<usize, Vec<String>> = BTreeMap::new();
            for &stage in groups.iter().flatten() {
                // What another stage of the unit needs runs with that one.
                if graph
                    .needed_by(stage)
                    .iter()
                    .any(|next| groups.iter().any(|group| group.contains(next)))
                {
                    continue;
                }
                if let Some(user) = first_user(&stage) {
                    by_member
                        .entry(user)
                        .or_default()
                        .push(plain_name(graph, stage).to_owned());
                }
            }
            Unit {
                members: by_member
                    .into_iter()
                    .map(|(place, targets)| member(place, targets))
                    .collect(),
            }
        };
        self.0.chunks(per_unit).map(unit).collect()
    }
}

/// A stage's name in the pipeline, without the member's label.
pub fn plain_name(graph: &Graph, stage: StageId) -> &str {
    let name = &graph.stage(stage).name;
    name.split_once('#').map_or(name, |(name, _)| name)
}

/// Stages that more than one open member needs and that are not there yet. Those with the same users that hang together
/// are a group, which one task runs; groups that do not need each other are a wave. So the trainings that trials of a later axis
/// share run beside each other, after the common beginning of all.
pub fn shared_waves(roster: &Trials, graph: &Graph, plan: &Plan, open: &[usize]) -> Vec<Wave> {
    let mut users: BTreeMap<StageId, Vec<usize>> = BTreeMap::new();
    for &place in open {
        for &stage in roster.stages(place) {
            if plan.stage(stage).hit().is_none() {
                users.entry(stage).or_default().push(place);
            }
        }
    }
    users.retain(|_, users| users.len() > 1);
    let ordered: Vec<StageId> = graph
        .order()
        .iter()
        .copied()
        .filter(|stage| users.contains_key(stage))
        .collect();
    let mut group: BTreeMap<StageId, usize> = ordered
        .iter()
        .enumerate()
        .map(|(index, stage)| (*stage, index))
        .collect();
    let shared_needs = |stage: StageId| {
        graph
            .needs(stage)
            .into_iter()
            .filter(|need| users.contains_key(need))
    };
    for &stage in &ordered {
        for need in shared_needs(stage).filter(|need| users[need] == users[&stage]) {
            let (from, to) = (group[&stage], group[&need]);
            group
                .values_mut()
                .filter(|value| **value == from)
                .for_each(|value| *value = to);
        }
    }
    // Needs never have fewer users than what stands on them, so that groups cannot wait for each other in a circle.
    let mut wave_of: BTreeMap<usize, usize> = group.values().map(|number| (*number, 0)).collect();
    loop {
        let before = wave_of.clone();
        for &stage in &ordered {
            for need in shared_needs(stage).filter(|need| group[need] != group[&stage]) {
                let least = wave_of[&group[&need]] + 1;
                wave_of
                    .entry(group[&stage])
                    .and_modify(|wave| *wave = least.max(*wave));
            }
        }
        if wave_of == before {
            break;
        }
    }
    let mut waves: BTreeMap<usize, BTreeMap<usize, Vec<StageId>>> = BTreeMap::new();
    for stage in ordered {
        let number = group[&stage];
        waves
            .entry(wave_of[&number])
            .or_default()
            .entry(number)
            .or_default()
            .push(stage);
    }
    waves
        .into_values()
        .map(|groups| Wave(groups.into_values().collect()))
        .collect()
}

/// How many tasks the trials of a sweep are divided into.
pub fn task_count(members: usize, options: &JobOptions, largest_array: usize) -> usize {
    /// Without a word on it, a sweep keeps to so many tasks: a queue is shared with others.
    const USUAL: usize = 200;
    let wanted = match options.trials_per_job {
        Some(per_job) => members.div_ceil(per_job.max(1)),
        None => members.min(USUAL),
    };
    wanted.clamp(1, largest_array.max(1))
}
