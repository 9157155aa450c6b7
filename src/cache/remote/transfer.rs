//! Copying by request: actions and all that they name, to a remote or from it. Many objects at a time; what is there is
//! not sent, what is here is not fetched, so a transfer that was interrupted goes on where it ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use contract::artifact::Digest;
use serde::Serialize;

use super::super::chain::seal_of;
use super::super::seal::{seal, unseal};
use super::super::{Action, CacheError, Key, ObjectRecord, RecordSeal, RunId, RunRecord, Store};
use super::fetch::FetchError;
use super::names::Names;
use super::pool::in_parallel;
use super::{Remote, RemoteError, RemoteFault, lock};

/// For more files than this it is cheaper to list what is there than to ask for each.
const LIST_ABOVE: usize = 300;

/// How far a transfer is, for whoever shows it.
#[derive(Debug, Default)]
pub struct Progress {
    pub objects: AtomicU64,
    pub all_objects: AtomicU64,
    pub bytes: AtomicU64,
    pub all_bytes: AtomicU64,
    /// What is there is read back.
    pub checking: AtomicBool,
    /// Set where going on makes no sense: nothing more is begun.
    cancelled: AtomicBool,
}

/// How results are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PushOptions {
    /// Read back what is there, and replace what is wrong.
    pub verify: bool,
    /// Say what would be sent, send nothing.
    pub dry_run: bool,
}

impl Progress {
    fn begin<'a>(&self, records: impl Iterator<Item = &'a ObjectRecord>) {
        let (mut objects, mut bytes) = (0, 0);
        for record in records {
            objects += 1;
            bytes += record.bytes;
        }
        self.all_bytes.store(bytes, Ordering::Relaxed);
        self.all_objects.store(objects, Ordering::Relaxed);
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// What a transfer did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TransferReport {
    /// Actions that arrived.
    pub actions: usize,
    pub objects: u64,
    pub bytes: u64,
    /// What was where it should be already.
    pub actions_present: usize,
    pub objects_present: u64,
    pub bytes_present: u64,
    /// What was there and damaged, and is replaced: only a push that verifies looks.
    pub actions_wrong: usize,
    pub objects_wrong: u64,
    /// Keys whose results are not where they should come from.
    pub absent: usize,
    /// Actions that could not be copied whole.
    pub failed: usize,
    /// Why; each reason once.
    pub reasons: Vec<String>,
    pub interrupted: bool,
}

impl TransferReport {
    pub fn is_complete(&self) -> bool {
        self.failed == 0 && !self.interrupted
    }
}

/// Reasons for what did not work, each told once.
#[derive(Debug, Default)]
struct Reasons(Mutex<BTreeMap<String, RemoteError>>);

impl Reasons {
    fn note(&self, error: &RemoteError) {
        if error.fault == RemoteFault::Interrupted {
            return;
        }
        lock(&self.0)
            .entry(error.message.clone())
            .or_insert_with(|| error.clone());
    }

    fn texts(&self) -> Vec<String> {
        let text = |error: &RemoteError| {
            let causes: String = error
                .causes
                .iter()
                .map(|cause| format!(": {cause}"))
                .collect();
            let hint = error
                .hint
                .as_ref()
                .map_or_else(String::new, |hint| format!(" ({hint})"));
            format!("{error}{causes}{hint}")
        };
        lock(&self.0).values().map(text).collect()
    }
}

/// Every object of these actions once, in the order in which they are named.
fn distinct(actions: &[Action]) -> Vec<&ObjectRecord> {
    let mut seen = BTreeSet::new();
    actions
        .iter()
        .flat_map(Action::objects)
        .filter(|record| seen.insert(record.object))
        .collect()
}

impl Remote {
    /// Sends the actions of these keys and their objects.
    ///
    /// # Errors
    /// If nothing can be copied at all. What fails for single objects is in the report.
    pub fn push(
        &self,
        store: &Store,
        keys: &BTreeSet<Key>,
        options: PushOptions,
        progress: &Progress,
    ) -> Result<TransferReport, TransferError> {
        let mut report = TransferReport::default();
        let mut actions = Vec::with_capacity(keys.len());
        for key in keys {
            match store.usable_action(key)? {
                Some(action) => actions.push(action),
                None => report.absent += 1,
            }
        }
        let objects = distinct(&actions);
        let mut present = self.objects_there(&objects)?;
        let mut known = self.actions_there(&actions)?;
        if options.verify {
            report.objects_wrong = self.drop_wrong_objects(&objects, &mut present, progress)?;
            report.actions_wrong = self.drop_wrong_actions(&actions, &mut known)?;
        }
        let (there, new): (Vec<&ObjectRecord>, _) = objects
            .into_iter()
            .partition(|record| present.contains(&record.object));
        report.objects_present = there.len() as u64;
        report.bytes_present = there.iter().map(|record| record.bytes).sum();
        report.actions_present = known.len();
        progress.begin(new.iter().copied());
        let unsent: Vec<&Action> = actions
            .iter()
            .filter(|action| !known.contains(&action.key))
            .collect();
        if options.dry_run {
            report.objects = new.len() as u64;
            report.bytes = new.iter().map(|record| record.bytes).sum();
            report.actions = unsent.len();
            return Ok(report);
        }
        let reasons = Reasons::default();
        let send = |record: &&ObjectRecord| {
            let sent = self.shared.send_object(store.layout(), record);
            sent.inspect_err(|error| reasons.note(error)).ok()?;
            progress.objects.fetch_add(1, Ordering::Relaxed);
            progress.bytes.fetch_add(record.bytes, Ordering::Relaxed);
            Some((record.object, record.bytes))
        };
        let sent: Vec<(Digest, u64)> = in_parallel(&new, self.options().parallel, send)
            .into_iter()
            .flatten()
            .collect();
        report.objects = sent.len() as u64;
        report.bytes = sent.iter().map(|(_, bytes)| bytes).sum();
        let arrived: BTreeSet<Digest> = sent
            .into_iter()
            .map(|(object, _)| object)
            .chain(present)
            .collect();
        // Objects that were there already may have lost their action, or not have had one yet.
        let whole = |action: &&&Action| {
            action
                .objects()
                .all(|record| arrived.contains(&record.object))
        };
        let sendable: Vec<&Action> = unsent.iter().filter(whole).copied().collect();
        let send = |action: &&Action| {
            self.shared
                .send_action(action)
                .inspect_err(|error| reasons.note(error))
                .is_ok()
        };
        let sent = in_parallel(&sendable, self.options().parallel, send);
        report.actions = sent.iter().filter(|sent| **sent).count();
        report.failed = unsent.len() - report.actions;
        report.interrupted = self.shared.client.is_interrupted();
        report.reasons = reasons.texts();
        Ok(report)
    }

    /// Which of these objects are there with their size.
    fn objects_there(&self, objects: &[&ObjectRecord]) -> Result<BTreeSet<Digest>, RemoteError> {
        let sizes = self.sizes(Names::OBJECTS, objects, |record| Names::object(record))?;
        let there = objects
            .iter()
            .zip(sizes)
            .filter(|(record, size)| *size == Some(record.bytes));
        Ok(there.map(|(record, _)| record.object).collect())
    }

    /// Which of these actions are there, by size.
    fn actions_there(&self, actions: &[Action]) -> Result<BTreeSet<Key>, RemoteError> {
        let sizes = self.sizes(Names::ACTIONS, actions, |action| Names::action(&action.key))?;
        let there = actions
            .iter()
            .zip(sizes)
            .filter(|(action, size)| *size == Some(seal(action).len() as u64));
        Ok(there.map(|(action, _)| action.key).collect())
    }

    /// Reads back the objects that are there, and takes those with wrong bytes from the set. Says how many those were.
    fn drop_wrong_objects(
        &self,
        objects: &[&ObjectRecord],
        present: &mut BTreeSet<Digest>,
        progress: &Progress,
    ) -> Result<u64, RemoteError> {
        let there: Vec<&ObjectRecord> = objects
            .iter()
            .filter(|record| present.contains(&record.object))
            .copied()
            .collect();
        progress.checking.store(true, Ordering::Relaxed);
        progress.begin(there.iter().copied());
        let is_right = |record: &&ObjectRecord| {
            let right = self.shared.is_right(record);
            progress.objects.fetch_add(1, Ordering::Relaxed);
            progress.bytes.fetch_add(record.bytes, Ordering::Relaxed);
            right
        };
        let right = in_parallel(&there, self.options().parallel, is_right);
        let mut wrong = 0;
        for (record, right) in there.into_iter().zip(right) {
            if !right? {
                self.shared.distrust(record.object);
                present.remove(&record.object);
                wrong += 1;
            }
        }
        progress.checking.store(false, Ordering::Relaxed);
        progress.objects.store(0, Ordering::Relaxed);
        progress.bytes.store(0, Ordering::Relaxed);
        Ok(wrong)
    }

    /// Takes the actions from the set that are there, but cannot be read or name other outputs. Says how many those were.
    fn drop_wrong_actions(
        &self,
        actions: &[Action],
        known: &mut BTreeSet<Key>,
    ) -> Result<usize, RemoteError> {
        let there: Vec<&Action> = actions
            .iter()
            .filter(|action| known.contains(&action.key))
            .collect();
        let is_right = |action: &&Action| {
            let text = self
                .shared
                .client
                .record(&Names::action(&action.key))?
                .unwrap_or_default();
            let found = unseal::<Action>(&text);
            Ok(found
                .is_some_and(|found| found.key == action.key && found.outputs == action.outputs))
        };
        let right: Vec<Result<bool, RemoteError>> =
            in_parallel(&there, self.options().parallel, is_right);
        let mut wrong = 0;
        for (action, right) in there.into_iter().zip(right) {
            if !right? {
                known.remove(&action.key);
                wrong += 1;
            }
        }
        Ok(wrong)
    }

    /// The sizes that files have there.
    fn sizes<T: Sync>(
        &self,
        folder: &str,
        items: &[T],
        name: impl Fn(&T) -> String + Sync,
    ) -> Result<Vec<Option<u64>>, RemoteError> {
        if items.len() > LIST_ABOVE
            && let Ok(listed) = self.shared.client.list(folder)
        {
            let listed: BTreeMap<String, u64> = listed
                .into_iter()
                .map(|file| (file.name, file.bytes))
                .collect();
            return Ok(items
                .iter()
                .map(|item| listed.get(&name(item)).copied())
                .collect());
        }
        let sizes = in_parallel(items, self.options().parallel, |item| {
            self.shared.client.size(&name(item))
        });
        sizes.into_iter().collect()
    }

    /// Fetches the actions of these keys and their objects.
    ///
    /// # Errors
    /// If nothing can be copied at all, or the store cannot take it.
    pub fn pull(
        &self,
        store: &Store,
        keys: &BTreeSet<Key>,
        dry_run: bool,
        progress: &Progress,
    ) -> Result<TransferReport, TransferError> {
        let mut report = TransferReport::default();
        let mut missing = Vec::new();
        for key in keys {
            match store.usable_action(key)? {
                Some(action) => {
                    report.actions_present += 1;
                    report.objects_present += action.objects().count() as u64;
                    report.bytes_present += action.bytes();
                }
                None => missing.push(*key),
            }
        }
        let reasons = Reasons::default();
        let mut actions = Vec::new();
        for found in in_parallel(&missing, self.options().parallel, |key| {
            self.shared.look_up(key)
        }) {
            match found {
                Ok(Some(action)) => actions.push(action),
                Ok(None) => report.absent += 1,
                Err(error) => {
                    reasons.note(&error);
                    report.failed += 1;
                }
            }
        }
        let (here, new): (Vec<&ObjectRecord>, _) = distinct(&actions)
            .into_iter()
            .partition(|record| store.is_present(record));
        report.objects_present += here.len() as u64;
        report.bytes_present += here.iter().map(|record| record.bytes).sum::<u64>();
        progress.begin(new.iter().copied());
        if dry_run {
            report.objects = new.len() as u64;
            report.bytes = new.iter().map(|record| record.bytes).sum();
            report.actions = actions.len();
            report.reasons = reasons.texts();
            return Ok(report);
        }
        let told = |bytes: u64| {
            progress.bytes.fetch_add(bytes, Ordering::Relaxed);
        };
        let fetch = |record: &&ObjectRecord| {
            if progress.is_cancelled() || self.shared.client.is_interrupted() {
                return Ok(None);
            }
            match self.shared.fetch(store.layout(), record, &told) {
                Ok(()) => {
                    progress.objects.fetch_add(1, Ordering::Relaxed);
                    Ok(Some(record.bytes))
                }
                Err(FetchError::Remote(error)) => {
                    reasons.note(&error);
                    Ok(None)
                }
                Err(FetchError::Local(error)) => {
                    // A full disk does not get better by going on.
                    progress.cancelled.store(true, Ordering::Relaxed);
                    Err(error)
                }
            }
        };
        let fetched = in_parallel(&new, self.options().parallel, fetch);
        let fetched: Vec<Option<u64>> = fetched.into_iter().collect::<Result<_, _>>()?;
        report.objects = fetched.iter().flatten().count() as u64;
        report.bytes = fetched.iter().flatten().sum();
        report.actions = store.keep(actions.iter())?;
        report.failed += actions.len() - report.actions;
        report.interrupted = self.shared.client.is_interrupted();
        report.reasons = reasons.texts();
        Ok(report)
    }

    /// The keys of all actions at the remote.
    pub fn keys(&self) -> Result<BTreeSet<Key>, RemoteError> {
        let listed = self.shared.client.list(Names::ACTIONS)?;
        Ok(listed
            .iter()
            .filter_map(|file| Names::digest(&file.name))
            .map(Key)
            .collect())
    }

    /// Sends the record of a run, so that others can name it.
    pub fn push_run(&self, store: &Store, run: &RunId) -> Result<(), TransferError> {
        let path = store.run_path(run);
        let text = store
            .layout()
            .read(&path)
            .map_err(CacheError::io("read", &path))?;
        Ok(self.shared.client.put(&Names::run(run), text)?)
    }

    /// The record of the run that this text names at the remote: `latest`, an id, or the start or end of one.
    pub fn find_run(&self, name: &str) -> Result<Option<RunRecord>, RemoteError> {
        if name == "latest" {
            return self.latest();
        }
        let exact = RunId(name.to_owned());
        if let Some(record) = self.run(&exact)? {
            return Ok(Some(record));
        }
        let listed = self.shared.client.list(Names::RUNS)?;
        let mut runs: Vec<RunId> = listed
            .iter()
            .filter_map(|file| Names::run_of(&file.name))
            .collect();
        runs.sort();
        let is_meant = |run: &&RunId| !name.is_empty() && run.is_called(name);
        match runs.iter().rev().find(is_meant) {
            Some(run) => self.run(run),
            None => Ok(None),
        }
    }

    /// The newest run at the remote: of the records that were sent last, by the remote's clock, the one that no other follows in
    /// the chain of its store. What a host's clock said, and so a run's name, is no matter, as in a store.
    fn latest(&self) -> Result<Option<RunRecord>, RemoteError> {
        /// Of more, the latest is hardly to be found among those that were sent before them.
        const LOOKED_AT: usize = 200;
        let listed = self.shared.client.list(Names::RUNS)?;
        let mut sent: Vec<(i64, RunId)> = listed
            .iter()
            .filter_map(|file| Some((file.modified, Names::run_of(&file.name)?)))
            .collect();
        sent.sort();
        let runs: Vec<RunId> = sent
            .into_iter()
            .rev()
            .take(LOOKED_AT)
            .map(|(_, run)| run)
            .collect();
        let (mut records, mut damaged) = (Vec::new(), None);
        for found in in_parallel(&runs, self.options().parallel, |run| self.run(run)) {
            match found {
                Ok(record) => records.extend(record),
                Err(error) if error.fault == RemoteFault::Damaged => {
                    damaged = damaged.or(Some(error))
                }
                Err(error) => return Err(error),
            }
        }
        match (newest(records), damaged) {
            (None, Some(error)) => Err(error),
            (newest, _) => Ok(newest),
        }
    }

    /// The record of a run at the remote.
    pub(super) fn run(&self, run: &RunId) -> Result<Option<RunRecord>, RemoteError> {
        let is_name = !run.0.is_empty()
            && run
                .0
                .chars()
                .all(|each| each.is_ascii_alphanumeric() || each == '-');
        if !is_name {
            return Ok(None);
        }
        let Some(text) = self.shared.client.record(&Names::run(run))? else {
            return Ok(None);
        };
        let damaged = |reason: &str| {
            RemoteError::new(
                RemoteFault::Damaged,
                format!("the record of run {run} at {} is damaged", self.address()),
            )
            .because(reason)
        };
        if seal_of(&text) == RecordSeal::Broken {
            return Err(damaged("its seal does not fit"));
        }
        let record: RunRecord =
            serde_json::from_slice(&text).map_err(|error| damaged(&error.to_string()))?;
        // Its name becomes a path.
        if record.run == *run {
            Ok(Some(record))
        } else {
            Err(damaged("it belongs to another run"))
        }
    }
}

/// The last of a chain that begins with the first of these records.
fn newest(mut records: Vec<RunRecord>) -> Option<RunRecord> {
    let follows = |record: &RunRecord, before: &RunRecord| {
        let link = record.previous.as_ref().filter(|link| link.seal.is_some());
        link.is_some_and(|link| link.run.as_ref() == Some(&before.run) && link.seal == before.seal)
    };
    let mut newest = (!records.is_empty()).then(|| records.remove(0))?;
    // Each comes up once, so that a forged circle has an end.
    while let Some(next) = records.iter().position(|record| follows(record, &newest)) {
        newest = records.swap_remove(next);
    }
    Some(newest)
}

/// Why a transfer ended early.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error(transparent)]
    Local(#[from] CacheError),
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::{Duration, SystemTime};

    use super::super::super::chain::tests::record;
    use super::super::super::{RunStatus, Store};
    use super::super::{Address, RemoteOptions};
    use super::*;

    /// Names are in the order opposite to that in which the runs took their places, as when a clock was set back.
    #[test]
    fn the_latest_run_is_the_last_of_the_chain_that_was_sent_last() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let address = Address::parse(&format!("file://{}", place("remote").display())).unwrap();
        std::fs::create_dir_all(place("remote")).unwrap();
        let remote = Remote::new(address, RemoteOptions::default());
        let [mine, other] = ["mine", "other"].map(|name| Store::open(&place(name)));
        let latest = || {
            remote
                .find_run("latest")
                .unwrap()
                .map(|record| record.run.0)
        };
        assert_eq!(latest(), None);
        let send = |store: &Store, run: &str, seconds: u64| {
            remote.push_run(store, &RunId(run.into())).unwrap();
            let sent = File::options()
                .append(true)
                .open(place(&format!("remote/v1/runs/{run}/run.json")))
                .unwrap();
            sent.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
                .unwrap();
        };
        for run in ["c", "b", "a"] {
            mine.save_run(&record(run, RunStatus::Done)).unwrap();
        }
        other.save_run(&record("b2", RunStatus::Done)).unwrap();
        // Sent together, within a second.
        ["a", "b", "c"]
            .into_iter()
            .for_each(|run| send(&mine, run, 100));
        assert_eq!(latest().as_deref(), Some("a"));
        send(&other, "b2", 200);
        assert_eq!(latest().as_deref(), Some("b2"), "it was sent after them");
        // An old one that is sent again is still followed by the same.
        send(&mine, "c", 300);
        assert_eq!(latest().as_deref(), Some("a"));
        std::fs::write(place("remote/v1/runs/a/run.json"), "damaged").unwrap();
        assert_eq!(latest().as_deref(), Some("b"));
        assert!(remote.find_run("").unwrap().is_none());
    }
}
