//! Records of invocations: what was asked, what happened to each stage, what came out, and on which machine.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use contract::Doubt;
use contract::artifact::{Digest, Metric, RelativePath, Shown};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::tree::Kind;
use super::{CacheError, Key, Link, Store};

/// Names a run; sorts by time to the millisecond: `20260101-120000-250c1f`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct RunId(pub String);

impl TryFrom<String> for RunId {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        if Self::is_name(&name) {
            Ok(Self(name))
        } else {
            Err(format!("`{}` is not the name of a run", Shown(&name)))
        }
    }
}

impl RunId {
    /// Whether a text from elsewhere can name a run, and so a folder: one plain part of a path.
    pub fn is_name(text: &str) -> bool {
        RelativePath::new(text).is_ok() && !text.contains(['/', '\\']) && !text.starts_with('.')
    }

    /// Whether it is this, or begins or ends with it.
    pub fn is_called(&self, name: &str) -> bool {
        !name.is_empty() && (self.0.starts_with(name) || self.0.ends_with(name))
    }

    /// Whether it is made of letters, digits and hyphens alone, as all names of runs are: it may become part of a path.
    pub fn is_plain(&self) -> bool {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !self.0.is_empty() && self.0.bytes().all(fits)
    }

    /// A new name for a run that starts now (UTC).
    pub fn now() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let (year, month, day) = civil_date(since.as_secs() / 86_400);
        let (hour, minute, second) = time_of_day(since.as_secs());
        let millisecond = since.subsec_millis();
        // Two runs may start in one millisecond.
        let salt = format!("{}-{}", since.as_nanos(), std::process::id());
        let salt = &Digest::of_bytes(salt.as_bytes()).to_string()[..3];
        Self(format!(
            "{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}-{millisecond:03}{salt}"
        ))
    }
}

/// Days since 1970-01-01 to year, month, day in the Gregorian calendar (Hinnant, `civil_from_days`).
fn civil_date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Hour, minute and second of a time in seconds since 1970.
fn time_of_day(seconds: u64) -> (u64, u64, u64) {
    (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}

/// A time in milliseconds since 1970 as ISO 8601 has it, in UTC: `2026-01-01T12:00:00.250Z`.
pub fn utc(milliseconds: u64) -> String {
    let (seconds, millisecond) = (milliseconds / 1000, milliseconds % 1000);
    let (year, month, day) = civil_date(seconds / 86_400);
    let (hour, minute, second) = time_of_day(seconds);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
}

impl fmt::Display for RunId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// Still going. A record that says so of a run whose process is gone is read as interrupted.
    Running,
    Done,
    Failed,
    Interrupted,
}

impl RunStatus {
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

/// What became of a stage in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StageState {
    /// Its outputs were there already.
    Hit,
    /// It was executed.
    Ran,
    Failed,
    /// Something that it needs failed, or the run was stopped.
    Skipped,
}

impl StageState {
    pub fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Ran => "ran",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// One stage of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    pub name: String,
    pub kind: String,
    pub state: StageState,
    pub key: Option<Key>,
    /// Logical digests of the outputs by port.
    pub digests: IndexMap<String, Digest>,
    /// Wall-clock seconds of the execution in this run; 0 for a hit.
    pub seconds: f64,
    /// Why it ran, was skipped, or failed.
    pub reason: String,
    /// Of a stage that failed: what lies behind the reason, outermost first, such as the last words of a program.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// What it found doubtful in what it read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<Doubt>,
    /// What it found out about its data.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
}

/// One file of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipelineFile {
    /// As it was opened: absolute, or relative to the folder in which the run was started.
    pub path: String,
    pub text: Arc<str>,
}

/// What a run carried out of a sweep: its members, in the order in which their graphs were joined. Another can join them
/// again, whatever has become of the sweep's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepPart {
    /// The pipeline's file, as a path from the root.
    pub pipeline: String,
    pub members: Vec<SweepMember>,
}

/// One member of a sweep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepMember {
    /// As in names of stages.
    pub label: String,
    /// All values, by name as for `--set`.
    pub overrides: Vec<(String, String)>,
    /// The stages for which it was run.
    pub targets: Vec<String>,
    /// The pipeline's parameters where they are not as in the record, which has those of the first member.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub params: IndexMap<String, Value>,
    /// The pipeline's seed; records of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

impl SweepMember {
    /// The member with its parameters and seed; `first` are the parameters of the first member, which the record has.
    #[must_use]
    pub fn with_values(
        mut self,
        params: IndexMap<String, Value>,
        seed: u64,
        first: &IndexMap<String, Value>,
    ) -> Self {
        self.params = params;
        self.params
            .retain(|name, value| first.get(name) != Some(value));
        self.seed = Some(seed);
        self
    }
}

/// What the name of a stage in a record stands for, where that is more than a stage of the file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// The stage in the file.
    pub stage: String,
    /// The values of its axes.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub axes: IndexMap<String, Value>,
    /// The members of a sweep that have it, by their places; empty if all of them do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<usize>,
}

/// The record of one invocation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    pub run: RunId,
    /// The pipeline's name.
    pub pipeline: String,
    /// The file it was read from.
    pub file: String,
    pub status: RunStatus,
    /// Milliseconds since 1970.
    pub started: u64,
    pub seconds: f64,
    /// The command line.
    pub command: Vec<String>,
    /// The profile that was chosen.
    #[serde(default)]
    pub profile: Option<String>,
    /// `NAME=VALUE`, as given with `--set`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<String>,
    /// Stages to which the run was limited with `--target`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// Of a run of a sweep; then parameters and seed are those of the first member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<SweepPart>,
    /// The pipeline's parameters after profile and overrides.
    pub params: IndexMap<String, Value>,
    pub seed: u64,
    /// The machine: versions, CPU, device, threads; and the state of the repository.
    pub environment: IndexMap<String, Value>,
    /// The pipeline's file and what it includes, as they were when the run began; the file itself comes first.
    #[serde(default)]
    pub pipeline_files: Vec<PipelineFile>,
    /// What names of stages stand for, where that is more than a stage of the file.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub instances: IndexMap<String, Instance>,
    pub stages: Vec<StageRecord>,
    /// Stage name to its metrics.
    pub metrics: IndexMap<String, Vec<Metric>>,
    /// The record before it; written by the store when the run has ended.
    #[serde(default, skip_serializing)]
    pub previous: Option<Link>,
    /// Over everything above; written by the store.
    #[serde(default, skip_serializing)]
    pub seal: Option<Digest>,
}

impl RunRecord {
    /// The keys of its stages, as far as they were known.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.stages.iter().filter_map(|stage| stage.key)
    }

    /// The path of the pipeline's file: of a run of a sweep, `file` is that of the sweep.
    pub fn pipeline_path(&self) -> &str {
        match &self.sweep {
            Some(sweep) => &sweep.pipeline,
            None => &self.file,
        }
    }
}

impl Store {
    /// The folder of a run's record.
    pub fn run_folder(&self, run: &RunId) -> PathBuf {
        self.layout().runs().join(&run.0)
    }

    /// All runs, in the order of their names, which is that of the clocks of the hosts that made them.
    pub fn runs(&self) -> Result<Vec<RunId>, CacheError> {
        let mut runs = Vec::new();
        for found in self.layout().entries(&self.layout().runs())? {
            if found.seen.kind == Kind::Folder
                && let Some(name) = found.path.file_name().and_then(|name| name.to_str())
            {
                runs.push(RunId(name.to_owned()));
            }
        }
        Ok(runs)
    }

    /// All runs, those first whose records were written last by the file system's clock; without a record, last.
    pub(super) fn by_age(&self) -> Result<Vec<RunId>, CacheError> {
        let mut runs = Vec::new();
        for run in self.runs()? {
            let found = self.layout().look_at(&self.run_path(&run));
            let written = found.and_then(|found| found.modified().ok());
            runs.push((written, run));
        }
        runs.sort_by(|left, right| right.cmp(left));
        Ok(runs.into_iter().map(|(_, run)| run).collect())
    }

    /// The records of all runs, newest first. Where they stand in the chain decides, and not what anybody's clock said; those
    /// that stand in none, such as those of runs under way, come where they were written. What cannot be read is left out with
    /// a warning.
    pub fn newest_first(&self) -> Result<NewestFirst<'_>, CacheError> {
        let next = self.chain_head().map(|head| head.run);
        Ok(NewestFirst {
            store: self,
            next,
            others: self.by_age()?.into(),
            seen: BTreeSet::new(),
            waiting: Vec::new(),
            unreadable: BTreeSet::new(),
        })
    }

    /// The newest run, if there is any.
    fn latest(&self) -> Result<Option<RunRecord>, CacheError> {
        let mut imported: Option<RunRecord> = None;
        for record in self.newest_first()? {
            // One that came from elsewhere is nobody's latest, unless there is no other.
            if !self.is_imported(&record.run) {
                return Ok(Some(record));
            }
            if imported.as_ref().is_none_or(|known| known.run < record.run) {
                imported = Some(record);
            }
        }
        Ok(imported)
    }

    /// The run that this text names: `latest`, an id, or the start or end of one.
    pub fn find_run(&self, name: &str) -> Result<RunRecord, CacheError> {
        let no_runs = || CacheError::NoRuns(name.to_owned());
        if name == "latest" {
            return self.latest()?.ok_or_else(no_runs);
        }
        let runs = self.runs()?;
        if runs.is_empty() {
            return Err(no_runs());
        }
        let (mut found, mut unreadable) = (Vec::new(), None);
        for run in runs.iter().rev().filter(|run| run.is_called(name)) {
            match self.load_run(run) {
                Ok(record) if run.0 == name => return Ok(record),
                Ok(record) => found.push(record),
                // A process that was killed early may leave a folder without a record.
                Err(error) if error.is_absence() => {}
                Err(error) => unreadable = unreadable.or(Some(error)),
            }
        }
        match (found.len(), unreadable) {
            (0, Some(error)) => Err(error),
            (0, None) => Err(CacheError::NoSuchRun(name.to_owned())),
            (1, _) => Ok(found.remove(0)),
            _ => Err(CacheError::ManyRuns {
                name: name.to_owned(),
                runs: found.into_iter().map(|record| record.run).collect(),
            }),
        }
    }

    /// The record of a run. One that was under way when its process was killed is interrupted.
    ///
    /// # Errors
    /// If there is no record, or it cannot be read.
    pub fn load_run(&self, run: &RunId) -> Result<RunRecord, CacheError> {
        let record = self.load_run_as_written(run)?;
        Ok(RunRecord {
            status: self.standing(&record),
            ..record
        })
    }

    /// The record of a run as its file has it.
    pub(super) fn load_run_as_written(&self, run: &RunId) -> Result<RunRecord, CacheError> {
        let path = self.run_path(run);
        let text = self.layout().read(&path);
        let text = text.map_err(CacheError::io("read", &path))?;
        match serde_json::from_slice::<RunRecord>(&text) {
            Ok(record) if record.run == *run => Ok(record),
            Ok(record) => Err(CacheError::Misplaced {
                path,
                found: record.run,
            }),
            Err(error) => Err(CacheError::Record {
                path,
                reason: error.to_string(),
            }),
        }
    }
}

/// Records of runs, newest first; each is read when it is its turn.
#[derive(Debug)]
pub struct NewestFirst<'a> {
    store: &'a Store,
    /// The next record of the chain.
    next: Option<RunId>,
    /// All runs by the time at which their records were written.
    others: VecDeque<RunId>,
    seen: BTreeSet<RunId>,
    /// Records of the chain, or of a branch of it, that were come upon before it was their turn.
    waiting: Vec<RunRecord>,
    /// Runs whose records cannot be read.
    unreadable: BTreeSet<RunId>,
}

impl NewestFirst<'_> {
    /// A record that is damaged is named, since it would otherwise be missing without a word.
    fn load(&mut self, run: &RunId) -> Option<RunRecord> {
        match self.store.load_run(run) {
            Ok(record) => return Some(record),
            Err(error) if error.is_absence() => {}
            Err(error) if self.unreadable.insert(run.clone()) => {
                tracing::warn!("{error}; `runner cache verify` sets a damaged record aside");
            }
            Err(_) => {}
        }
        None
    }

    fn is_chained(&self, record: &RunRecord) -> bool {
        record.previous.is_some() && !self.store.is_imported(&record.run)
    }

    /// A run that was written after the next one of the chain, and stands in no chain.
    fn unchained(&mut self) -> Option<RunRecord> {
        while let Some(run) = self.others.front() {
            if self.next.as_ref() == Some(run) {
                return None;
            }
            let run = self.others.pop_front()?;
            if self.seen.contains(&run) {
                continue;
            }
            let Some(record) = self.load(&run) else {
                continue;
            };
            if self.next.is_none() || !self.is_chained(&record) {
                self.seen.insert(run);
                return Some(record);
            }
            self.waiting.push(record);
        }
        None
    }

    /// What was put aside and says that it came after this run.
    fn branch_of(&mut self, run: &RunId) -> Option<RunRecord> {
        let at = self.waiting.iter().position(|record| {
            let before = record.previous.as_ref().and_then(|link| link.run.as_ref());
            before == Some(run) && !self.seen.contains(&record.run)
        })?;
        Some(self.waiting.swap_remove(at))
    }

    fn of_chain(&mut self) -> Option<RunRecord> {
        let run = self.next.clone()?;
        if let Some(branch) = self.branch_of(&run) {
            self.seen.insert(branch.run.clone());
            return Some(branch);
        }
        let record = self.load(&run);
        let link = record.as_ref().and_then(|record| record.previous.as_ref());
        let before = link.and_then(|link| link.run.clone());
        // A chain that leads back to where it was is a forged one.
        self.next = before.filter(|before| !self.seen.contains(before) && *before != run);
        let is_news = self.seen.insert(run);
        record.filter(|_| is_news).or_else(|| self.next())
    }
}

impl Iterator for NewestFirst<'_> {
    type Item = RunRecord;

    fn next(&mut self) -> Option<RunRecord> {
        if let Some(record) = self.unchained() {
            return Some(record);
        }
        if self.next.is_some() {
            return self.of_chain();
        }
        let mut waiting = self.waiting.iter();
        let left = waiting.position(|record| !self.seen.contains(&record.run))?;
        let record = self.waiting.remove(left);
        self.seen.insert(record.run.clone());
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_run_is_called_by_one_plain_name() {
        let read = |name: &str| serde_json::from_value::<RunId>(name.into());
        for name in ["20260101-120000-250c1f", "r", "a.b"] {
            assert_eq!(read(name).unwrap(), RunId(name.to_owned()));
        }
        for name in [
            "", ".", "..", "../x", "/x", "a/b", "a\\b", "a\0", ".hidden", "x/",
        ] {
            assert!(read(name).is_err(), "{name:?}");
        }
    }

    /// What is done with a record is done in the folder that it names.
    #[test]
    fn a_record_names_the_folder_that_it_lies_in() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path());
        let path = store.run_path(&RunId("mine".into()));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mine = RunId("mine".into());
        fs::write(
            &path,
            serde_json::json!({"run": "../../../elsewhere"}).to_string(),
        )
        .unwrap();
        assert!(matches!(
            store.load_run(&mine),
            Err(CacheError::Record { .. } | CacheError::Misplaced { .. })
        ));
    }

    #[test]
    fn dates_are_right() {
        assert_eq!(civil_date(0), (1970, 1, 1));
        assert_eq!(civil_date(11_016), (2000, 2, 29));
        assert_eq!(civil_date(20_453), (2025, 12, 31));
        assert_eq!(utc(951_827_696_789), "2000-02-29T12:34:56.789Z");
    }
}
