//! Garbage at a remote. Others whom this machine does not know of may use it, so age decides as well: only what is older
//! than asked for goes, and of that only what nothing known here needs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::super::tree::{Folder, walk};
use super::super::{Action, Key, Removal};
use super::client::Listed;
use super::names::Names;
use super::pool::in_parallel;
use super::{Remote, RemoteError, RemoteFault};

/// Objects without an action may be on their way there.
const GRACE: Duration = Duration::from_secs(24 * 3600);

/// What lies in a store where somebody works, and never in what is only a remote.
const OF_A_STORE: [&str; 6] = [
    "tmp",
    "leases",
    "ledger",
    "runs.head",
    "sweeps",
    "files.memo",
];

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
        let now = self.clock(options.dry_run);
        let client = &self.shared.client;
        self.refuse_a_store()?;
        // Objects are listed first: what comes later is not among them, and so cannot be taken for garbage.
        let objects = client.list(Names::OBJECTS)?;
        let (old_runs, runs): (Vec<Listed>, Vec<Listed>) = client
            .list(Names::RUNS)?
            .into_iter()
            .partition(|file| file.age(now) > options.older_than);
        let mut roots = options.roots.clone();
        for run in runs.iter().filter_map(|file| Names::run_of(&file.name)) {
            if let Some(record) = self.run(&run)? {
                roots.extend(record.stages.iter().filter_map(|stage| stage.key));
            }
        }
        let (mut kept, mut old) = (Vec::new(), Vec::new());
        for file in client.list(Names::ACTIONS)? {
            let key = Names::digest(&file.name).map(Key);
            if file.age(now) <= options.older_than || key.is_some_and(|key| roots.contains(&key)) {
                kept.push(file);
            } else {
                old.push(file);
            }
        }
        let mut named = BTreeSet::new();
        for action in self.read_all(&kept)? {
            named.extend(action.objects().map(Names::object));
        }
        let grace = options.older_than.min(GRACE);
        let (kept_objects, orphans): (Vec<Listed>, Vec<Listed>) = objects
            .into_iter()
            .partition(|file| named.contains(&file.name) || file.age(now) <= grace);
        let mut report = RemoteGcReport {
            kept_actions: kept.len(),
            kept_objects: kept_objects.len(),
            kept_bytes: kept_objects.iter().map(|file| file.bytes).sum(),
            ..RemoteGcReport::default()
        };
        // Actions before objects: in no moment does one name what is gone.
        let unneeded = "older than the limit, and no run, lock or sweep here needs it";
        let groups = [
            (old_runs, "the record of a run older than the limit"),
            (old, unneeded),
            (orphans, "no action there needs it"),
        ];
        for (files, reason) in groups {
            self.remove_all(&files, reason, options.dry_run, &mut report)?;
        }
        for (path, file) in self.leftovers()? {
            if file.age(now) <= grace {
                continue;
            }
            if !options.dry_run {
                self.clear(&path)?;
            }
            report.note(&file, "left behind by an upload that was killed");
        }
        Ok(report)
    }

    /// The folder of a store is collected by what its own runs need, of which nothing is known here.
    fn refuse_a_store(&self) -> Result<(), RemoteError> {
        let Some(folder) = self.address().folder() else {
            return Ok(());
        };
        let is_store = OF_A_STORE
            .iter()
            .any(|name| folder.join("v1").join(name).symlink_metadata().is_ok());
        if !is_store {
            return Ok(());
        }
        let address = self.address();
        let message =
            format!("{address} is the store of somebody who works there, not only a remote");
        let hint = format!(
            "`runner cache gc --store {} --dry-run` says what goes when it is collected as a store: also what others sent \
             and no run there needs",
            folder.display()
        );
        Err(RemoteError::new(RemoteFault::Address, message).with_hint(hint))
    }

    /// What uploads to a folder that were killed left there. Such files have no name that a listing would show.
    fn leftovers(&self) -> Result<Vec<(PathBuf, Listed)>, RemoteError> {
        let Some(folder) = self.address().folder() else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for part in [Names::OBJECTS, Names::ACTIONS, Names::RUNS] {
            let files = walk(folder, &folder.join(part))
                .map_err(|error| self.unusable("listed", &error))?;
            for file in files.into_iter().filter(|file| is_unfinished(&file.path)) {
                let name = file.path.strip_prefix(folder).unwrap_or(&file.path);
                let modified = file.seen.modified.duration_since(UNIX_EPOCH);
                let seconds = modified.unwrap_or_default().as_secs();
                let listed = Listed {
                    name: name.display().to_string(),
                    bytes: file.seen.bytes,
                    modified: i64::try_from(seconds).unwrap_or(i64::MAX),
                };
                found.push((file.path, listed));
            }
        }
        Ok(found)
    }

    /// Removes a file that lies in the remote's folder, and in no other.
    fn clear(&self, path: &Path) -> Result<(), RemoteError> {
        let (Some(folder), Some(parent), Some(name)) =
            (self.address().folder(), path.parent(), path.file_name())
        else {
            return Ok(());
        };
        let removed = Folder::open(folder, parent).and_then(|parent| match parent {
            Some(parent) => parent.remove(name),
            None => Ok(()),
        });
        removed.map_err(|error| self.unusable("cleared", &error))
    }

    /// The time by the remote's own clock, which dates its files: that of this host may be wrong.
    fn clock(&self, dry_run: bool) -> Duration {
        let here = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let client = &self.shared.client;
        let name = format!("{}/clock-{:x}", Names::CLOCKS, here.as_nanos());
        if dry_run || client.put(&name, Vec::new()).is_err() {
            return here;
        }
        let seen = client.modified(&name);
        let _ = client.remove(&name);
        match seen {
            Ok(Some(modified)) => Duration::from_secs(u64::try_from(modified).unwrap_or_default()),
            _ => here,
        }
    }

    fn unusable(&self, verb: &str, error: &dyn std::error::Error) -> RemoteError {
        let message = format!("{} cannot be {verb}", self.address());
        RemoteError::new(RemoteFault::Unusable, message).because(error.to_string())
    }

    /// The actions in these files.
    fn read_all(&self, files: &[Listed]) -> Result<Vec<Action>, RemoteError> {
        let read = in_parallel(files, self.options().parallel, |file| {
            match Names::digest(&file.name) {
                Some(digest) => self.shared.look_up(&Key(digest)),
                None => Ok(None),
            }
        });
        let mut actions = Vec::with_capacity(files.len());
        for action in read {
            actions.extend(action?);
        }
        let damaged = files.len() - actions.len();
        if damaged > 0 {
            let message = format!(
                "{damaged} actions at {} cannot be read, so nothing is removed",
                self.address()
            );
            return Err(RemoteError::new(RemoteFault::Damaged, message).with_hint(
                "`runner cache push --all --verify` from a store that has them puts them right",
            ));
        }
        Ok(actions)
    }

    fn remove_all(
        &self,
        files: &[Listed],
        reason: &str,
        dry_run: bool,
        report: &mut RemoteGcReport,
    ) -> Result<(), RemoteError> {
        if !dry_run {
            for removed in in_parallel(files, self.options().parallel, |file| {
                self.shared.client.remove(&file.name)
            }) {
                removed?;
            }
        }
        for file in files {
            report.note(file, reason);
        }
        Ok(())
    }
}

impl RemoteGcReport {
    fn note(&mut self, file: &Listed, reason: &str) {
        self.freed += file.bytes;
        self.removed.push(Removal {
            path: file.name.clone().into(),
            bytes: file.bytes,
            reason: reason.to_owned(),
        });
    }
}

/// Whether `object_store` is writing this file, or was: it puts a number behind the name.
fn is_unfinished(path: &Path) -> bool {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    name.rsplit_once('#').is_some_and(|(_, number)| {
        !number.is_empty() && number.bytes().all(|each| each.is_ascii_digit())
    })
}
