//! Garbage at a remote. Others whom this machine does not know of may use it, so age decides as well: only what is older
//! than asked for goes, and of that only what nothing known here needs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::super::{Action, Key, Removal};
use super::client::Listed;
use super::crew::in_parallel;
use super::names::Names;
use super::{Remote, RemoteError, RemoteFault};

/// Objects without an action may be on their way there.
const GRACE: Duration = Duration::from_secs(24 * 3600);

/// What to keep at a remote.
#[derive(Clone, Debug)]
pub struct RemoteGcOptions {
    /// What is younger stays.
    pub older_than: Duration,
    /// What these keys name stays.
    pub roots: BTreeSet<Key>,
    /// Say what would go, remove nothing.
    pub dry_run: bool,
}

/// What went, or would go.
#[derive(Debug, Default, Serialize)]
pub struct RemoteGcReport {
    pub removed: Vec<Removal>,
    pub freed: u64,
    pub kept_actions: usize,
    pub kept_objects: usize,
    pub kept_bytes: u64,
}

impl Remote {
    /// Collects garbage there: records of runs, then actions, then objects that no action names.
    ///
    /// # Errors
    /// If the remote cannot be listed, or an action that stays cannot be read: then its objects are not known.
    pub fn gc(&self, options: &RemoteGcOptions) -> Result<RemoteGcReport, RemoteError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let age = |file: &Listed| now.saturating_sub(Duration::from_secs(u64::try_from(file.modified).unwrap_or(0)));
        let client = &self.shared.client;
        // Objects are listed first: what comes later is not among them, and so cannot be taken for garbage.
        let objects = client.list(Names::OBJECTS)?;
        let (old_runs, runs): (Vec<Listed>, Vec<Listed>) =
            client.list(Names::RUNS)?.into_iter().partition(|file| age(file) > options.older_than);
        let mut roots = options.roots.clone();
        for run in runs.iter().filter_map(|file| Names::run_of(&file.name)) {
            let record = self.run(&run)?;
            roots.extend(record.iter().flat_map(|record| &record.stages).filter_map(|stage| stage.key));
        }
        let needed = |file: &Listed| Names::digest(&file.name).is_some_and(|digest| roots.contains(&Key(digest)));
        let (kept, old): (Vec<Listed>, Vec<Listed>) =
            client.list(Names::ACTIONS)?.into_iter().partition(|file| age(file) <= options.older_than || needed(file));
        let actions = self.read_all(&kept)?;
        let named: BTreeMap<String, u64> =
            actions.iter().flat_map(Action::objects).map(|record| (Names::object(record), record.bytes)).collect();
        let grace = options.older_than.min(GRACE);
        let (kept_objects, orphans): (Vec<Listed>, Vec<Listed>) =
            objects.into_iter().partition(|file| named.contains_key(&file.name) || age(file) <= grace);
        let mut report = RemoteGcReport {
            kept_actions: kept.len(),
            kept_objects: kept_objects.len(),
            kept_bytes: kept_objects.iter().map(|file| file.bytes).sum(),
            ..RemoteGcReport::default()
        };
        // Actions first: in no moment does one name what is gone.
        let groups = [
            (old_runs, "the record of a run older than the limit"),
            (old, "older than the limit, and no run, lock or sweep here needs it"),
            (orphans, "no action there needs it"),
        ];
        for (files, reason) in groups {
            self.remove_all(&files, reason, options.dry_run, &mut report)?;
        }
        Ok(report)
    }

    /// The actions in these files.
    fn read_all(&self, files: &[Listed]) -> Result<Vec<Action>, RemoteError> {
        let read = |file: &Listed| {
            let digest = Names::digest(&file.name);
            let Some(key) = digest.map(Key) else { return Ok(None) };
            self.shared.look_up(&key)
        };
        let read = in_parallel(files, self.options().parallel, read);
        let actions: Vec<Option<Action>> = read.into_iter().collect::<Result<_, _>>()?;
        let damaged = actions.iter().filter(|action| action.is_none()).count();
        if damaged > 0 {
            let message = format!("{damaged} actions at {} cannot be read, so nothing is removed", self.address());
            return Err(RemoteError::new(RemoteFault::Damaged, message)
                .hint("`runner cache push` from a store that has them puts them right"));
        }
        Ok(actions.into_iter().flatten().collect())
    }

    fn remove_all(
        &self,
        files: &[Listed],
        reason: &str,
        dry_run: bool,
        report: &mut RemoteGcReport,
    ) -> Result<(), RemoteError> {
        if !dry_run {
            let removed = in_parallel(files, self.options().parallel, |file| self.shared.client.remove(&file.name));
            removed.into_iter().collect::<Result<(), RemoteError>>()?;
        }
        for file in files {
            report.freed += file.bytes;
            report.removed.push(Removal {
                path: file.name.clone().into(),
                bytes: file.bytes,
                reason: reason.to_owned(),
            });
        }
        Ok(())
    }
}
