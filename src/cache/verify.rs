//! `cache verify`: reads every object, decodes every artifact, and compares with what the actions say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use stages::artifact::Digest;

use super::object::check;
use super::seal::unseal;
use super::{Action, CacheError, Ledger, ObjectRecord, Store};

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
    /// Objects that were set aside, actions and ledgers that were removed.
    pub damaged: Vec<Damage>,
    /// Files that a crash left in `tmp/` or that no action names; `cache gc` removes them.
    pub orphans: usize,
}

impl Store {
    /// Every action that can be read, and the paths of those that cannot.
    pub fn actions(&self) -> Result<(Vec<Action>, Vec<PathBuf>), CacheError> {
        let (mut actions, mut broken) = (Vec::new(), Vec::new());
        for path in files_below(&self.layout().actions())? {
            let action = fs::read(&path).ok().and_then(|text| unseal::<Action>(&text));
            match action {
                Some(action) if self.layout().action(&action.key) == path => actions.push(action),
                _ => broken.push(path),
            }
        }
        Ok((actions, broken))
    }

    /// Checks everything; damaged objects are set aside, actions that lost an object are removed, so that the next
    /// run recomputes their stages. `progress` is called with the number of objects checked and their total.
    pub fn verify(&self, progress: &(dyn Fn(usize, usize) + Sync)) -> Result<VerifyReport, CacheError> {
        let (actions, broken) = self.actions()?;
        let mut report = VerifyReport { actions: actions.len(), ..VerifyReport::default() };
        let broken = broken.into_iter().map(|path| (path, "not a readable action"));
        let ledgers = self.broken_ledgers()?.into_iter().map(|path| (path, "not a readable ledger"));
        for (path, reason) in broken.chain(ledgers) {
            fs::remove_file(&path).map_err(CacheError::io("remove", &path))?;
            report.damaged.push(Damage { path, reason: reason.into(), needed_by: Vec::new() });
        }
        let mut needed: BTreeMap<PathBuf, (ObjectRecord, BTreeSet<String>)> = BTreeMap::new();
        for action in &actions {
            for record in action.objects() {
                let entry = needed.entry(self.layout().object(record));
                entry.or_insert_with(|| (record.clone(), BTreeSet::new())).1.insert(action.kind.clone());
            }
        }
        let on_disk = files_below(&self.layout().objects())?;
        report.objects = on_disk.len();
        report.bytes = on_disk.iter().filter_map(|path| Some(fs::metadata(path).ok()?.len())).sum();
        report.orphans = on_disk.iter().filter(|path| !needed.contains_key(*path)).count();
        report.orphans += files_below(&self.layout().tmp())?.len();
        let done = std::sync::atomic::AtomicUsize::new(0);
        let lost: Vec<(PathBuf, Digest, Damage)> = needed
            .into_par_iter()
            .filter_map(|(path, (record, kinds))| {
                let found = self.verify_object(&path, &record);
                progress(done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1, on_disk.len());
                let reason = found.err()?.to_string();
                let damage = Damage { path: path.clone(), reason, needed_by: kinds.into_iter().collect() };
                Some((path, record.object, damage))
            })
            .collect();
        self.drop_actions_that_need(&actions, &lost.iter().map(|(_, object, _)| *object).collect())?;
        report.damaged.extend(lost.into_iter().map(|(.., damage)| damage));
        Ok(report)
    }

    /// Whether an object and its parts are whole: the bytes are those of their names, the content that of the digest. Nothing
    /// is set aside.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn inspect(&self, record: &ObjectRecord) -> Result<(), CacheError> {
        for part in record.all() {
            check(&self.layout().object(part), &part.object)?;
        }
        if record.kind.is_none() {
            return Ok(());
        }
        let found = self.load(record)?.digest();
        if found != record.digest {
            let reason = format!("its content has the digest {}, not {}", found.short(), record.digest.short());
            return Err(CacheError::Damaged { object: record.object, reason });
        }
        Ok(())
    }

    fn broken_ledgers(&self) -> Result<Vec<PathBuf>, CacheError> {
        let readable = |path: &PathBuf| fs::read(path).is_ok_and(|text| unseal::<Ledger>(&text).is_some());
        Ok(files_below(&self.layout().ledgers())?.into_iter().filter(|path| !readable(path)).collect())
    }

    /// The bytes are those of the object's name, and the content is that of the artifact's digest.
    fn verify_object(&self, path: &Path, record: &ObjectRecord) -> Result<(), CacheError> {
        if record.kind.is_none() {
            return self.blob(record).map(drop);
        }
        check(path, &record.object).inspect_err(|error| {
            if matches!(error, CacheError::Damaged { .. }) {
                let _ = self.quarantine(record);
            }
        })?;
        let found = self.load(record)?.digest();
        if found != record.digest {
            let _ = self.quarantine(record);
            let reason = format!("its content has the digest {}, not {}", found.short(), record.digest.short());
            return Err(CacheError::Damaged { object: record.object, reason });
        }
        Ok(())
    }

    fn drop_actions_that_need(&self, actions: &[Action], lost: &BTreeSet<Digest>) -> Result<(), CacheError> {
        for action in actions.iter().filter(|action| action.objects().any(|record| lost.contains(&record.object))) {
            let path = self.layout().action(&action.key);
            fs::remove_file(&path).map_err(CacheError::io("remove", &path))?;
        }
        Ok(())
    }

    /// Forgets an action whose objects turned out to be damaged.
    pub fn forget(&self, action: &Action) {
        let _ = fs::remove_file(self.layout().action(&action.key));
        if let Some(remote) = self.remote() {
            remote.forget(&action.key);
        }
    }
}

/// All files below a folder, sorted; none if the folder does not exist.
pub fn files_below(folder: &Path) -> Result<Vec<PathBuf>, CacheError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(CacheError::io("list", folder))?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(CacheError::io("list", folder))?;
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder {
            files.extend(files_below(&entry.path())?);
        } else {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}
