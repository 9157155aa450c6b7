//! `cache verify`: reads every object, decodes every artifact, and compares with what the actions say.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use contract::artifact::Digest;
use rayon::prelude::*;

use super::object::{check, replace, same_content};
use super::seal::{seal, unseal};
use super::tree::Kind;
use super::{Action, CacheError, Key, Ledger, ObjectRecord, RecordSeal, Store};

/// One thing that is wrong with the store.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Damage {
    pub path: PathBuf,
    pub reason: String,
    /// The stage kinds whose actions need it.
    pub needed_by: Vec<String>,
}

/// What a verification found.
#[derive(Debug, Default, serde::Serialize)]
pub struct VerifyReport {
    pub objects: usize,
    pub actions: usize,
    pub bytes: u64,
    /// Objects and records of runs that were set aside, actions and ledgers that were removed.
    pub damaged: Vec<Damage>,
    /// Files that a crash left in `tmp/` or that no action names; `cache gc` removes them.
    pub orphans: usize,
}

impl Damage {
    /// Of something that no action needs.
    fn of(path: PathBuf, reason: impl Into<String>) -> Self {
        Self {
            path,
            reason: reason.into(),
            needed_by: Vec::new(),
        }
    }
}

/// An object that actions name.
#[derive(Default)]
struct Needed {
    /// What they say of it, which may be different things.
    records: Vec<ObjectRecord>,
    /// Their kinds.
    kinds: BTreeSet<String>,
}

/// A file that goes, and why.
type BrokenFile = (PathBuf, &'static str);

impl Store {
    /// Every action that can be read, and the paths of those that cannot.
    pub fn actions(&self) -> Result<(Vec<Action>, Vec<PathBuf>), CacheError> {
        let (mut actions, mut broken) = (Vec::new(), Vec::new());
        for path in self.paths_below(&self.layout().actions())? {
            let Some(text) = self.read_if_there(&path)? else {
                continue;
            };
            match unseal::<Action>(&text) {
                Some(action) if self.layout().action(&action.key) == path => actions.push(action),
                _ => broken.push(path),
            }
        }
        Ok((actions, broken))
    }

    /// The bytes of a file that was listed, unless it has gone since; none of what is not a file of ours.
    ///
    /// # Errors
    /// If it is there and cannot be read, which says nothing about its content.
    fn read_if_there(&self, path: &Path) -> Result<Option<Vec<u8>>, CacheError> {
        match self.layout().read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Some(Vec::new())),
            other => other.map(Some).map_err(CacheError::io("read", path)),
        }
    }

    /// Checks everything; damaged objects are set aside, actions that lost an object are removed, so that the next
    /// run recomputes their stages. `progress` is called with the number of objects checked and their total.
    pub fn verify(
        &self,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<VerifyReport, CacheError> {
        // What stands in the way of the store's folders goes first: nothing can be given back before.
        if !self.layout().root().is_dir() {
            return Ok(VerifyReport::default());
        }
        let mut report = VerifyReport {
            damaged: self.set_foreign_aside()?,
            ..VerifyReport::default()
        };
        // A collection would take away what is looked for. Where no lease can be taken, none is at work either.
        let _turn = match self.turn_to_collect() {
            Err(CacheError::Collecting) => return Err(CacheError::Collecting),
            Err(_) => None,
            Ok(turn) => {
                self.take_back()?;
                Some(turn)
            }
        };
        report.damaged.extend(self.set_broken_records_aside()?);
        let (actions, broken) = self.actions()?;
        report.actions = actions.len();
        let (ledgers, unwritten) = self.check_ledgers(&actions)?;
        let mut broken: Vec<BrokenFile> = broken
            .into_iter()
            .map(|path| (path, "not a readable action"))
            .collect();
        broken.extend(ledgers);
        for (path, reason) in broken {
            self.layout().remove(&path)?;
            report.damaged.push(Damage::of(path, reason));
        }
        let needed = self.needed_objects(actions.iter().chain(&unwritten));
        let on_disk = self.layout().walk(&self.layout().objects())?;
        report.objects = on_disk.len();
        for file in &on_disk {
            report.bytes += file.seen.bytes;
            report.orphans += usize::from(!needed.contains_key(&file.path));
        }
        report.orphans += self.layout().walk(&self.layout().tmp())?.len();
        let done = AtomicUsize::new(0);
        let found: Vec<Option<(Damage, Option<Digest>)>> = needed
            .into_par_iter()
            .map(|(path, needed)| {
                let found = self.verify_needed(path, needed);
                progress(done.fetch_add(1, Ordering::Relaxed) + 1, on_disk.len());
                found
            })
            .collect();
        let (mut damaged, mut lost) = (Vec::new(), BTreeSet::new());
        for (damage, object) in found.into_iter().flatten() {
            damaged.push(damage);
            lost.extend(object);
        }
        // The actions go before their ledgers are looked at: what a ledger alone knows of then is what it must forget.
        self.drop_actions_that_need(&actions, &lost)?;
        self.prune_ledgers(&unwritten.iter().map(|action| action.key).collect())?;
        report.damaged.extend(damaged);
        Ok(report)
    }

    /// The objects that these actions name, by their places.
    fn needed_objects<'a>(
        &self,
        actions: impl Iterator<Item = &'a Action>,
    ) -> BTreeMap<PathBuf, Needed> {
        let mut all: BTreeMap<PathBuf, Needed> = BTreeMap::new();
        for action in actions {
            for record in action.objects() {
                let needed = all.entry(self.layout().object(record)).or_default();
                needed.kinds.insert(action.kind.clone());
                if !needed.records.contains(record) {
                    needed.records.push(record.clone());
                }
            }
        }
        all
    }

    /// What is wrong with an object, if anything is, and the object if it is lost.
    fn verify_needed(&self, path: PathBuf, needed: Needed) -> Option<(Damage, Option<Digest>)> {
        let mut records = needed.records.iter();
        let error = records.find_map(|record| self.verify_object(record).err())?;
        let object = needed.records.first()?.object;
        // A part is looked at for itself.
        if error.object().is_some_and(|wrong| wrong != object) {
            return None;
        }
        let damage = Damage {
            path,
            reason: error.to_string(),
            needed_by: needed.kinds.into_iter().collect(),
        };
        // What cannot be read at the moment is not lost.
        Some((damage, error.is_loss().then_some(object)))
    }

    /// Whether an object and its parts are whole: the bytes are those of their names, the content that of the digest. Nothing
    /// is set aside.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn inspect(&self, record: &ObjectRecord) -> Result<(), CacheError> {
        for part in record.all() {
            check(self.layout(), part)?;
        }
        if record.kind.is_none() {
            return Ok(());
        }
        same_content(record, &self.load(record)?)
    }

    fn paths_below(&self, folder: &Path) -> Result<Vec<PathBuf>, CacheError> {
        let found = self.layout().walk(folder)?.into_iter();
        Ok(found.map(|found| found.path).collect())
    }

    /// Sets aside whatever in the store is neither a file nor a folder, and what stands where a folder of it should be.
    fn set_foreign_aside(&self) -> Result<Vec<Damage>, CacheError> {
        let layout = self.layout();
        let folders = layout.folders();
        let mut foreign: Vec<PathBuf> = Vec::new();
        for found in layout.entries(layout.root())? {
            let is_folder = folders.contains(&found.path);
            if found.seen.kind == Kind::Foreign || (is_folder && found.seen.kind != Kind::Folder) {
                foreign.push(found.path);
            }
        }
        for folder in [
            layout.objects(),
            layout.actions(),
            layout.checkpoints(),
            layout.ledgers(),
            layout.pulls(),
        ] {
            let mut found = layout.walk(&folder)?;
            found.retain(|found| found.seen.kind == Kind::Foreign);
            foreign.extend(found.into_iter().map(|found| found.path));
        }
        // What runs link lies deeper, and is not part of the store's promise.
        for run in layout.entries(&layout.runs())? {
            let mut own = if run.seen.kind == Kind::Folder {
                layout.entries(&run.path)?
            } else {
                vec![run]
            };
            own.retain(|found| found.seen.kind == Kind::Foreign);
            foreign.extend(own.into_iter().map(|found| found.path));
        }
        for path in &foreign {
            layout.set_aside(path)?;
        }
        let reason = "neither a file nor a folder of the store, in which nothing is followed";
        let foreign = foreign.into_iter();
        Ok(foreign.map(|path| Damage::of(path, reason)).collect())
    }

    /// Sets aside records of runs that cannot be read, since a collection of garbage does not know what they need. One that is
    /// as it was written comes from a newer version and stays.
    fn set_broken_records_aside(&self) -> Result<Vec<Damage>, CacheError> {
        let mut damaged = Vec::new();
        for run in self.runs()? {
            let error = match self.load_run_as_written(&run) {
                Ok(_) => continue,
                Err(error) if error.is_absence() => continue,
                Err(error) if error.is_damage() => error,
                // It may be somebody else's, or the disk does not answer: that says nothing about its content.
                Err(error) => return Err(error),
            };
            let is_as_written = matches!(self.record_seal(&run), Ok(RecordSeal::Intact(_)));
            if is_as_written && !matches!(error, CacheError::Misplaced { .. }) {
                continue;
            }
            let path = self.run_path(&run);
            self.layout().set_aside(&path)?;
            damaged.push(Damage::of(path, error.to_string()));
        }
        Ok(damaged)
    }

    /// Ledgers that cannot be read, or that say something else than the actions; and what ledgers alone know of, as far as it is
    /// there: the next run writes it again.
    fn check_ledgers(
        &self,
        actions: &[Action],
    ) -> Result<(Vec<BrokenFile>, Vec<Action>), CacheError> {
        let written: BTreeMap<&Key, &Action> =
            actions.iter().map(|action| (&action.key, action)).collect();
        let (mut broken, mut unwritten) = (Vec::new(), Vec::new());
        for path in self.paths_below(&self.layout().ledgers())? {
            let Some(text) = self.read_if_there(&path)? else {
                continue;
            };
            let Some(ledger) = unseal::<Ledger>(&text) else {
                broken.push((path, "not a readable ledger"));
                continue;
            };
            let (mut is_wrong, mut only_here) = (false, Vec::new());
            for (stage, noted) in &ledger.stages {
                match written.get(&noted.key) {
                    // A ledger may be older than an action, but not than one that it looked at.
                    Some(action) if action.outputs != noted.outputs => {
                        is_wrong |= ledger.is_as_it_was(self, stage, &noted.key);
                    }
                    Some(_) => {}
                    None if self.has_outputs(noted) => only_here.push(Action::clone(noted)),
                    None => {}
                }
            }
            if is_wrong {
                broken.push((path, "a ledger that says something else than the actions"));
            } else {
                unwritten.extend(only_here);
            }
        }
        Ok((broken, unwritten))
    }

    /// Takes out of the ledgers what they alone know of by now and what was not checked: its objects are not there, and once
    /// other stages had made those again, nobody would doubt it; or its action went just now. `checked` are the keys of those
    /// whose objects were looked at.
    fn prune_ledgers(&self, checked: &BTreeSet<Key>) -> Result<(), CacheError> {
        for path in self.paths_below(&self.layout().ledgers())? {
            let text = self.layout().read(&path).unwrap_or_default();
            let Some(mut ledger) = unseal::<Ledger>(&text) else {
                continue;
            };
            let mut doubtful = Vec::new();
            for (stage, noted) in &ledger.stages {
                let is_sure = checked.contains(&noted.key) && self.has_outputs(noted);
                if self.action_file(&noted.key).is_none() && !is_sure {
                    doubtful.push(stage.clone());
                }
            }
            if doubtful.is_empty() {
                continue;
            }
            for stage in &doubtful {
                ledger.forget(stage);
            }
            replace(self.layout(), &path, &seal(&ledger))?;
        }
        Ok(())
    }

    /// The bytes are those of the object's name, and the content is that of the artifact's digest.
    fn verify_object(&self, record: &ObjectRecord) -> Result<(), CacheError> {
        if record.kind.is_none() {
            return self.blob(record).map(drop);
        }
        check(self.layout(), record).inspect_err(|error| {
            if matches!(error, CacheError::Damaged { .. }) {
                let _ = self.quarantine(record);
            }
        })?;
        let artifact = self.load(record)?;
        same_content(record, &artifact).inspect_err(|_| drop(self.quarantine(record)))
    }

    fn drop_actions_that_need(
        &self,
        actions: &[Action],
        lost: &BTreeSet<Digest>,
    ) -> Result<(), CacheError> {
        for action in actions
            .iter()
            .filter(|action| action.objects().any(|record| lost.contains(&record.object)))
        {
            // A run may have published it again meanwhile.
            if self.action(&action.key)?.is_some_and(|now| now != *action) {
                continue;
            }
            self.layout().remove(&self.layout().action(&action.key))?;
        }
        Ok(())
    }

    /// Forgets an action whose objects turned out to be damaged.
    pub fn forget(&self, action: &Action) {
        let _ = self.layout().remove(&self.layout().action(&action.key));
        if let Some(remote) = self.remote() {
            remote.forget(&action.key);
        }
    }
}
