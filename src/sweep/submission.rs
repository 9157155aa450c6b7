//! What is submitted to a backend: the members to run, divided into units (a task each), and before them the stages that they
//! share. A submission is a folder of the store with its units, scripts and logs. Nothing is ever updated in it: its state is
//! read from the backend and from results.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use contract::artifact::Digest;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::backend::JobNeeds;
use super::course::Member;
use super::file::SweepFile;
use super::opened::{Sweep, View};
use super::options::JobOptions;
use super::trials::{label, overrides};
use super::waves::Wave;
use crate::cache::{CacheError, Key, Layout, RunId, SweepMember};
use crate::diagnostic::SourceMap;

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
    /// Texts of the sweep file, the pipeline and what it includes, by path: tasks read these, whatever happens to the files.
    pub texts: BTreeMap<PathBuf, Arc<str>>,
    pub backend: String,
    /// `NAME=VALUE` pairs and targets of the command line, for what comes next.
    pub overrides: Vec<(String, String)>,
    pub targets: Vec<String>,
    /// Milliseconds since 1970.
    pub submitted: u64,
    /// Earlier submissions of the same sweep that led to this one.
    pub before: Vec<String>,
    /// Waves of units with what trials share.
    pub shared: Vec<Vec<Unit>>,
    pub trials: Vec<Unit>,
    /// What a task of each part has of its machine, by the part's name.
    pub needs: BTreeMap<String, JobNeeds>,
    /// What stages that were to run ask for, by their name in the pipeline.
    pub stage_needs: BTreeMap<String, JobNeeds>,
    /// Keys of stages that were known, so that no collection of garbage removes what is being built on.
    pub keys: Vec<Key>,
}

/// All submissions of all sweeps of a store that can be read.
pub fn submissions(layout: &Layout) -> Vec<Submission> {
    layout
        .folders_in(&layout.sweeps())
        .iter()
        .flat_map(|sweep| Submission::all(layout, sweep))
        .collect()
}

/// The member at this place, with all targets of the sweep.
pub(super) fn unit_member(file: &SweepFile, view: &View, place: usize) -> UnitMember {
    let member = view.trials.members[place];
    UnitMember {
        member,
        label: label(file, &member),
        overrides: overrides(file, &view.progress.points[member.trial], &member),
        targets: file.all_targets(),
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
    /// Divides members into units. `open` says by its place among the sweep's which members are to run, in so many tasks;
    /// `waves` are what they share.
    pub(super) fn new(
        sweep: &Sweep,
        backend: &str,
        view: &View,
        open: &[usize],
        waves: &[Wave],
        tasks: usize,
    ) -> Self {
        let file = &sweep.file;
        let per_unit = open.len().div_ceil(tasks.max(1)).max(1);
        let mut trials = Vec::new();
        for places in open.chunks(per_unit) {
            let members = places.iter().map(|place| unit_member(file, view, *place));
            trials.push(Unit {
                members: members.collect(),
            });
        }
        let submitted = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let mut keys = BTreeSet::new();
        for id in view.session.graph.order() {
            keys.extend(view.plan.stage(*id).key);
        }
        let shared = waves.iter().map(|wave| wave.units(file, view, open, tasks));
        Self {
            id: RunId::now().0,
            file: std::path::absolute(&file.path).unwrap_or_else(|_| file.path.clone()),
            record: sweep.name.clone(),
            pipeline: std::path::absolute(&file.pipeline).unwrap_or_else(|_| file.pipeline.clone()),
            profile: file.profile.clone(),
            texts: sweep.texts(view),
            backend: backend.to_owned(),
            overrides: Vec::new(),
            targets: Vec::new(),
            submitted: u64::try_from(submitted.as_millis()).unwrap_or(u64::MAX),
            before: Vec::new(),
            shared: shared.collect(),
            trials,
            needs: BTreeMap::new(),
            stage_needs: BTreeMap::new(),
            keys: keys.into_iter().collect(),
        }
    }

    /// Where its units, scripts and logs are.
    pub fn folder(&self, sweep: &Path) -> PathBuf {
        sweep.join(&self.id)
    }

    /// Writes the submission down, before any job of it is submitted. Its folder is new, so that what scripts later write in it
    /// by path is written there.
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
        SourceMap::keeping(self.texts.clone())
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

    /// A comment for a backend to keep with a job, so that its tasks can be found again: `ID:PART`.
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

/// How many tasks the trials of a sweep are divided into.
pub fn task_count(members: usize, options: &JobOptions, largest_array: usize) -> usize {
    /// By default a sweep has no more tasks than this: a queue is shared with others.
    const USUAL: usize = 200;
    let wanted = match options.trials_per_job {
        Some(per_job) => members.div_ceil(per_job.max(1)),
        None => members.min(USUAL),
    };
    wanted.clamp(1, largest_array.max(1))
}
