//! Records of invocations: what was asked, what happened to each stage, what came out, and on which machine.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stages::artifact::{Digest, Metric, RelativePath, Shown};

use super::{CacheError, Key, Link, Store};

/// Names a run; sorts by time to the millisecond: `20260101-120000-250c1f`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct RunId(pub String);

impl TryFrom<String> for RunId {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        if Self::is_name(&name) { Ok(Self(name)) } else { Err(format!("`{}` is not the name of a run", Shown(&name))) }
    }
}

impl RunId {
    /// Whether a text from elsewhere can name a run, and so a folder: one plain part of a path.
    pub fn is_name(text: &str) -> bool {
        RelativePath::new(text).is_ok() && !text.contains(['/', '\\']) && !text.starts_with('.')
    }

    /// Whether it is this, or begins or ends with it.
    pub fn is_called(&self, name: &str) -> bool {
        self.0.starts_with(name) || self.0.ends_with(name)
    }

    /// A new name for a run that starts now (UTC).
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = since.as_secs();
        let (year, month, day) = civil_date(seconds / 86_400);
        let second = seconds % 86_400;
        let salt = format!("{}-{}", since.as_nanos(), std::process::id());
        let salt = &Digest::of_bytes(salt.as_bytes()).to_string()[..3];
        let millisecond = since.subsec_millis();
        let time = format!("{:02}{:02}{:02}", second / 3600, second / 60 % 60, second % 60);
        Self(format!("{year:04}{month:02}{day:02}-{time}-{millisecond:03}{salt}"))
    }
}

/// Days since 1970-01-01 to year, month, day in the Gregorian calendar (Hinnant, `civil_from_days`).
fn civil_date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// A time in milliseconds since 1970 as ISO 8601 has it, in UTC: `2026-01-01T12:00:00.250Z`.
pub fn utc(milliseconds: u64) -> String {
    let (seconds, millisecond) = (milliseconds / 1000, milliseconds % 1000);
    let (year, month, day) = civil_date(seconds / 86_400);
    let second = seconds % 86_400;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
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
    /// Still going, or its process was killed.
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

impl Store {
    /// The folder of a run's record.
    pub fn run_folder(&self, run: &RunId) -> PathBuf {
        self.layout().runs().join(&run.0)
    }

    /// All runs, oldest first.
    pub fn runs(&self) -> Result<Vec<RunId>, CacheError> {
        let folder = self.layout().runs();
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(CacheError::io("list", &folder))?,
        };
        let name = |entry: fs::DirEntry| entry.file_name().into_string().ok().map(RunId);
        let mut runs: Vec<RunId> = entries.filter_map(|entry| name(entry.ok()?)).collect();
        runs.sort();
        Ok(runs)
    }

    /// The run that this text names: `latest`, an id, or the start or end of one.
    pub fn find_run(&self, name: &str) -> Result<RunRecord, CacheError> {
        let runs = self.runs()?;
        let is_meant = |run: &&RunId| name == "latest" || (!name.is_empty() && run.is_called(name));
        // A process that was killed early may leave a folder without a record.
        let mut found = runs.iter().rev().filter(is_meant).filter_map(|run| self.load_run(run).ok());
        let newest = found.next().ok_or_else(|| CacheError::NoSuchRun(name.to_owned()))?;
        if name == "latest" || newest.run.0 == name {
            return Ok(newest);
        }
        let mut others: Vec<RunId> = found.map(|record| record.run).collect();
        if others.is_empty() {
            return Ok(newest);
        }
        if let Some(exact) = others.iter().find(|run| run.0 == name) {
            return self.load_run(exact);
        }
        others.insert(0, newest.run);
        Err(CacheError::ManyRuns { name: name.to_owned(), runs: others })
    }

    pub fn load_run(&self, run: &RunId) -> Result<RunRecord, CacheError> {
        let path = self.run_path(run);
        let text = fs::read(&path).map_err(CacheError::io("read", &path))?;
        match serde_json::from_slice::<RunRecord>(&text) {
            Ok(record) if record.run == *run => Ok(record),
            Ok(record) => Err(CacheError::Misplaced { path, found: record.run }),
            Err(error) => Err(CacheError::Record { path, reason: error.to_string() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_called_by_one_plain_name() {
        let read = |name: &str| serde_json::from_value::<RunId>(name.into());
        for name in ["20260101-120000-250c1f", "r", "a.b"] {
            assert_eq!(read(name).unwrap(), RunId(name.to_owned()));
        }
        for name in ["", ".", "..", "../x", "/x", "a/b", "a\\b", "a\0", ".hidden", "x/"] {
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
        fs::write(&path, serde_json::json!({"run": "../../../elsewhere"}).to_string()).unwrap();
        assert!(matches!(store.load_run(&mine), Err(CacheError::Record { .. })));
    }

    #[test]
    fn dates_are_right() {
        assert_eq!(civil_date(0), (1970, 1, 1));
        assert_eq!(civil_date(11_016), (2000, 2, 29));
        assert_eq!(civil_date(20_453), (2025, 12, 31));
        assert_eq!(utc(951_827_696_789), "2000-02-29T12:34:56.789Z");
    }
}
