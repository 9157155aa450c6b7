//! Copying by request: actions and all that they name, to a remote or from it. Many objects at a time; what is there is
//! not sent, what is here is not fetched, so a transfer that was interrupted continues where it ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use contract::artifact::Digest;
use contract::{Trouble, TroubleKind};
use serde::Serialize;

use super::super::chain::seal_of;
use super::super::seal::{seal, unseal};
use super::super::{Action, CacheError, Key, ObjectRecord, RecordSeal, RunId, RunRecord, Store};
use super::fetch::FetchError;
use super::names::Names;
use super::pool::in_parallel;
use super::{Remote, RemoteError, RemoteFault, lock};
use crate::diagnostic::AsTrouble;

/// For more files than this it is cheaper to list what is there than to ask for each.
const LIST_ABOVE: usize = 300;

/// How far a transfer is, to be shown.
#[derive(Debug, Default)]
pub struct Progress {
    pub objects: AtomicU64,
    pub all_objects: AtomicU64,
    pub bytes: AtomicU64,
    pub all_bytes: AtomicU64,
    /// What is there is read back.
    pub checking: AtomicBool,
    /// Set where more would fail the same way: nothing more is begun.
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
    fn begin(&self, records: &[&ObjectRecord]) {
        let (objects, bytes) = amount(records);
        self.all_bytes.store(bytes, Ordering::Relaxed);
        self.all_objects.store(objects, Ordering::Relaxed);
    }

    fn arrived(&self, objects: u64, bytes: u64) {
        self.objects.fetch_add(objects, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
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

/// Reasons for what did not work, by their messages: each is reported once.
#[derive(Debug, Default)]
struct Reasons(Mutex<BTreeMap<String, String>>);

impl Reasons {
    fn note(&self, error: &RemoteError) {
        if error.fault == RemoteFault::Interrupted {
            return;
        }
        lock(&self.0)
            .entry(error.to_string())
            .or_insert_with(|| error.in_one_line());
    }

    fn texts(self) -> Vec<String> {
        let texts = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        texts.into_values().collect()
    }
}

/// How many objects these are, and their bytes.
fn amount(records: &[&ObjectRecord]) -> (u64, u64) {
    let bytes = records.iter().map(|record| record.bytes).sum();
    (records.len() as u64, bytes)
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
        let (there, new): (Vec<&ObjectRecord>, Vec<&ObjectRecord>) = objects
            .into_iter()
            .partition(|record| present.contains(&record.object));
        (report.objects_present, report.bytes_present) = amount(&there);
        report.actions_present = known.len();
        progress.begin(&new);
        let mut unsent: Vec<&Action> = actions.iter().collect();
        unsent.retain(|action| !known.contains(&action.key));
        if options.dry_run {
            (report.objects, report.bytes) = amount(&new);
            report.actions = unsent.len();
            return Ok(report);
        }
        let reasons = Reasons::default();
        let sent = in_parallel(&new, self.options().parallel, |record| {
            let sent = self.shared.send_object(store.layout(), record);
            if sent.is_ok() {
                progress.arrived(1, record.bytes);
            }
            sent
        });
        for (record, sent) in new.iter().zip(sent) {
            match sent {
                Ok(_) => {
                    report.objects += 1;
                    report.bytes += record.bytes;
                    present.insert(record.object);
                }
                Err(error) => reasons.note(&error),
            }
        }
        // Only actions of which everything is there: others trust an action that they see. Objects that were there already
        // may have lost their action, or not have had one yet.
        let due = unsent.len();
        unsent.retain(|action| {
            action
                .objects()
                .all(|record| present.contains(&record.object))
        });
        for sent in in_parallel(&unsent, self.options().parallel, |action| {
            self.shared.send_action(action)
        }) {
            match sent {
                Ok(()) => report.actions += 1,
                Err(error) => reasons.note(&error),
            }
        }
        report.failed = due - report.actions;
        report.interrupted = self.shared.client.is_interrupted();
        report.reasons = reasons.texts();
        Ok(report)
    }

    /// Which of these objects are there with their size.
    fn objects_there(&self, objects: &[&ObjectRecord]) -> Result<BTreeSet<Digest>, RemoteError> {
        let sizes = self.sizes(Names::OBJECTS, objects, |record| Names::object(record))?;
        let mut there = BTreeSet::new();
        for (record, size) in objects.iter().zip(sizes) {
            if size == Some(record.bytes) {
                there.insert(record.object);
            }
        }
        Ok(there)
    }

    /// Which of these actions are there, by size.
    fn actions_there(&self, actions: &[Action]) -> Result<BTreeSet<Key>, RemoteError> {
        let sizes = self.sizes(Names::ACTIONS, actions, |action| Names::action(&action.key))?;
        let mut there = BTreeSet::new();
        for (action, size) in actions.iter().zip(sizes) {
            if size == Some(seal(action).len() as u64) {
                there.insert(action.key);
            }
        }
        Ok(there)
    }

    /// Reads back the objects that are there, and takes those with wrong bytes from the set. Returns how many those were.
    fn drop_wrong_objects(
        &self,
        objects: &[&ObjectRecord],
        present: &mut BTreeSet<Digest>,
        progress: &Progress,
    ) -> Result<u64, RemoteError> {
        let mut there = objects.to_vec();
        there.retain(|record| present.contains(&record.object));
        progress.checking.store(true, Ordering::Relaxed);
        progress.begin(&there);
        let right = in_parallel(&there, self.options().parallel, |record| {
            let right = self.shared.is_right(record);
            progress.arrived(1, record.bytes);
            right
        });
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

    /// Takes the actions from the set that are there, but cannot be read or name other outputs. Returns how many those were.
    fn drop_wrong_actions(
        &self,
        actions: &[Action],
        known: &mut BTreeSet<Key>,
    ) -> Result<usize, RemoteError> {
        let mut there: Vec<&Action> = actions.iter().collect();
        there.retain(|action| known.contains(&action.key));
        let texts = in_parallel(&there, self.options().parallel, |action| {
            self.shared.client.record(&Names::action(&action.key))
        });
        let mut wrong = 0;
        for (action, text) in there.into_iter().zip(texts) {
            let found: Option<Action> = unseal(&text?.unwrap_or_default());
            if found.is_none_or(|found| found.key != action.key || found.outputs != action.outputs)
            {
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
            let sizes = items.iter().map(|item| listed.get(&name(item)).copied());
            return Ok(sizes.collect());
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
        let (here, new): (Vec<&ObjectRecord>, Vec<&ObjectRecord>) = distinct(&actions)
            .into_iter()
            .partition(|record| store.is_present(record));
        let (objects, bytes) = amount(&here);
        report.objects_present += objects;
        report.bytes_present += bytes;
        progress.begin(&new);
        if dry_run {
            (report.objects, report.bytes) = amount(&new);
            report.actions = actions.len();
            report.reasons = reasons.texts();
            return Ok(report);
        }
        let fetched = in_parallel(&new, self.options().parallel, |record| {
            if progress.is_cancelled() || self.shared.client.is_interrupted() {
                return None;
            }
            let told = |bytes| progress.arrived(0, bytes);
            let fetched = self.shared.fetch(store.layout(), record, &told);
            match &fetched {
                Ok(()) => progress.arrived(1, 0),
                Err(FetchError::Remote(_)) => {}
                // A full disk does not get better: nothing more is begun.
                Err(FetchError::Local(_)) => progress.cancelled.store(true, Ordering::Relaxed),
            }
            Some(fetched)
        });
        for (record, fetched) in new.iter().zip(fetched) {
            match fetched {
                Some(Ok(())) => {
                    report.objects += 1;
                    report.bytes += record.bytes;
                }
                Some(Err(FetchError::Remote(error))) => reasons.note(&error),
                Some(Err(FetchError::Local(error))) => return Err(error.into()),
                None => {}
            }
        }
        report.actions = store.keep(actions.iter())?;
        report.failed += actions.len() - report.actions;
        report.interrupted = self.shared.client.is_interrupted();
        report.reasons = reasons.texts();
        Ok(report)
    }

    /// The keys of all actions at the remote.
    pub fn keys(&self) -> Result<BTreeSet<Key>, RemoteError> {
        let mut keys = BTreeSet::new();
        for file in self.shared.client.list(Names::ACTIONS)? {
            keys.extend(Names::digest(&file.name).map(Key));
        }
        Ok(keys)
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
        let mut latest: Option<RunId> = None;
        for file in self.shared.client.list(Names::RUNS)? {
            if let Some(run) = Names::run_of(&file.name)
                && run.is_called(name)
            {
                latest = latest.max(Some(run));
            }
        }
        match latest {
            Some(run) => self.run(&run),
            None => Ok(None),
        }
    }

    /// The newest run at the remote: of the records that were sent last, by the remote's clock, the one that no other follows in
    /// the chain of its store. What a host's clock said, and so a run's name, is no matter, as in a store.
    fn latest(&self) -> Result<Option<RunRecord>, RemoteError> {
        /// Of more, the latest is hardly to be found among those that were sent before them.
        const LOOKED_AT: usize = 200;
        let listed = self.shared.client.list(Names::RUNS)?;
        let mut sent: Vec<(i64, RunId)> = Vec::new();
        for file in listed {
            if let Some(run) = Names::run_of(&file.name) {
                sent.push((file.modified, run));
            }
        }
        sent.sort_by(|left, right| right.cmp(left));
        sent.truncate(LOOKED_AT);
        let (mut records, mut damaged) = (Vec::new(), None);
        for found in in_parallel(&sent, self.options().parallel, |(_, run)| self.run(run)) {
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
        // Its name becomes part of an address.
        if !run.is_plain() {
            return Ok(None);
        }
        let Some(text) = self.shared.client.record(&Names::run(run))? else {
            return Ok(None);
        };
        let reason = if seal_of(&text) == RecordSeal::Broken {
            "its seal does not fit".to_owned()
        } else {
            match serde_json::from_slice::<RunRecord>(&text) {
                Ok(record) if record.run == *run => return Ok(Some(record)),
                // Its name becomes a path here.
                Ok(_) => "it belongs to another run".to_owned(),
                Err(error) => error.to_string(),
            }
        };
        let message = format!("the record of run {run} at {} is damaged", self.address());
        Err(RemoteError::new(RemoteFault::Damaged, message).because(reason))
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

impl AsTrouble for TransferError {
    fn kind(&self) -> TroubleKind {
        self.to_trouble().kind()
    }

    fn hint(&self) -> Option<String> {
        self.to_trouble().hint_text().map(str::to_owned)
    }

    fn to_trouble(&self) -> Trouble {
        match self {
            Self::Remote(error) => error.to_trouble(),
            Self::Local(error) => error.to_trouble(),
        }
    }
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
