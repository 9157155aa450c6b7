//! The store as a whole: look a key up, load an artifact, take a lease. Readers never lock.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use contract::artifact::{Artifact, ArtifactError, Digest, Parts, Source};

use super::lease::{Heart, clock_of, holder_of, is_held};
use super::object::{check, create_aside, kind_of, read_verified, temporary};
use super::salt::Salt;
use super::seal::unseal;
use super::{Action, CacheError, Key, Layout, Lease, LeaseAttempt, ObjectRecord, Remote};

/// An open store.
#[derive(Debug)]
pub struct Store {
    layout: Layout,
    heart: Heart,
    /// Blobs whose bytes this process has checked.
    checked: Mutex<BTreeSet<Digest>>,
    /// Damaged objects stay where they are: they are evidence.
    untouched: AtomicBool,
    salt: Salt,
    /// Where what is not here may be.
    pub(super) remote: Option<Remote>,
}

impl Store {
    /// Opens the store in this folder, which need not exist yet.
    pub fn open(folder: &Path) -> Self {
        Self {
            layout: Layout::new(folder),
            heart: Heart::new(),
            checked: Mutex::default(),
            untouched: AtomicBool::new(false),
            salt: Salt::default(),
            remote: None,
        }
    }

    /// From now on, damaged objects are not set aside.
    pub fn leave_untouched(&self) {
        self.untouched.store(true, Ordering::Relaxed);
    }

    /// Makes sure that the store can be written before anything is computed, and that its folders are its own.
    pub fn prepare(&self) -> Result<(), CacheError> {
        for folder in self.layout.folders() {
            if fs::symlink_metadata(&folder).is_ok_and(|metadata| !metadata.is_dir()) {
                return Err(CacheError::Foreign { path: folder });
            }
        }
        let (probe, _) = create_aside(&self.layout, 0o644)?;
        self.salt.allow_writing();
        fs::remove_file(&probe).map_err(CacheError::io("remove", &probe))
    }

    /// This store with the secret of another one, so that what both digest can be compared.
    #[must_use]
    pub fn with_salt_of(self, other: &Self) -> Self {
        Self {
            salt: other.salt.for_another_store(&other.layout),
            ..self
        }
    }

    /// What may be written down of a value that nobody must learn; it tells whether it is the same one.
    pub fn digest_of_secret(&self, name: &str, value: &str) -> String {
        self.salt.digest(&self.layout, name, value)
    }

    /// The time by the clock of the store's file system, which all hosts share, read off a file that is made for it. Where
    /// none can be made, this host's clock must do.
    pub fn clock(&self) -> SystemTime {
        // To look at a store must not make one.
        if !self.layout.root().is_dir() {
            return SystemTime::now();
        }
        clock_of(&self.layout).unwrap_or_else(|_| SystemTime::now())
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The action of a key, if it is known. Whether its objects are there is another question.
    pub fn action(&self, key: &Key) -> Result<Option<Action>, CacheError> {
        let path = self.layout.action(key);
        let text = match self.layout.read(&path) {
            Ok(text) => text,
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::InvalidData => return Ok(None),
                _ => return Err(CacheError::io("read", &path)(error)),
            },
        };
        // A record that cannot be read is as good as none; the stage runs again and replaces it.
        Ok(unseal::<Action>(&text).filter(|action| action.key == *key))
    }

    /// The action of a key whose objects are all there, by size.
    pub fn usable_action(&self, key: &Key) -> Result<Option<Action>, CacheError> {
        Ok(self.action(key)?.filter(|action| self.has_outputs(action)))
    }

    /// Whether all objects of an action are there, by name and size.
    pub fn has_outputs(&self, action: &Action) -> bool {
        action.objects().all(|record| self.is_present(record))
    }

    /// Whether an object is there with its size; a look at the directory, not at the bytes.
    pub fn is_present(&self, record: &ObjectRecord) -> bool {
        let found = self.layout.look_at_object(record);
        found.is_some_and(|metadata| metadata.is_file() && metadata.len() == record.bytes)
    }

    /// Reads an artifact and checks its bytes. A damaged object is set aside, never served. What is not here or was
    /// damaged comes from the remote, if there is one that has it.
    pub fn load(&self, record: &ObjectRecord) -> Result<Artifact, CacheError> {
        self.with_help(record, || self.load_here(record))
    }

    /// Does what needs an object, with the remote's help before and after.
    fn with_help<T>(
        &self,
        record: &ObjectRecord,
        read: impl Fn() -> Result<T, CacheError>,
    ) -> Result<T, CacheError> {
        if self.remote.is_none() {
            return read();
        }
        self.fetch(&[record])?;
        match read() {
            Err(CacheError::Damaged { .. }) => {
                self.fetch(&[record])?;
                read()
            }
            other => other,
        }
    }

    fn load_here(&self, record: &ObjectRecord) -> Result<Artifact, CacheError> {
        let kind = kind_of(record)?;
        let source = self.guarded(record, |path| {
            if kind.is_read_in_pieces() {
                check(&self.layout, record)?;
                return Source::open(path).map_err(CacheError::io("read", path));
            }
            read_verified(&self.layout, record).map(Source::from)
        })?;
        let (load, blob) = (
            |part: &ObjectRecord| self.load(part),
            |part: &ObjectRecord| self.blob(part),
        );
        let parts = RecordedParts::new(&record.parts, &load, &blob);
        let artifact = Artifact::decode(kind, source, &parts);
        if let Some(failure) = parts.into_failure() {
            return Err(failure);
        }
        artifact.map_err(|error| {
            let _ = self.quarantine(record);
            let error = match error {
                ArtifactError::Io(_) => CacheError::Artifact(error),
                other => CacheError::Damaged {
                    object: record.object,
                    reason: other.to_string(),
                },
            };
            // What is computed again after it would otherwise say nothing of it.
            tracing::warn!("{error}");
            error
        })
    }

    /// The path of a blob whose bytes were checked by this process.
    pub fn blob(&self, record: &ObjectRecord) -> Result<PathBuf, CacheError> {
        let path = self.layout.object(record);
        let checked = self.checked.lock();
        let is_known = checked.is_ok_and(|checked| checked.contains(&record.object));
        if !is_known {
            self.with_help(record, || {
                self.guarded(record, |_| check(&self.layout, record))
            })?;
            if let Ok(mut checked) = self.checked.lock() {
                checked.insert(record.object);
            }
        }
        Ok(path)
    }

    fn guarded<T>(
        &self,
        record: &ObjectRecord,
        read: impl FnOnce(&Path) -> Result<T, CacheError>,
    ) -> Result<T, CacheError> {
        let result = read(&self.layout.object(record));
        if let Err(error @ CacheError::Damaged { .. }) = &result {
            let aside = if self.untouched.load(Ordering::Relaxed) {
                ""
            } else {
                "; it is set aside"
            };
            tracing::warn!("{error}{aside}");
            self.quarantine(record)?;
        }
        result
    }

    /// Moves an object out of reach, for inspection.
    pub fn quarantine(&self, record: &ObjectRecord) -> Result<PathBuf, CacheError> {
        let path = self.layout.object(record);
        if self.untouched.load(Ordering::Relaxed) {
            return Ok(path);
        }
        self.layout.set_aside(&path)
    }

    /// A folder for a stage's temporary files, which nobody else uses. It is not made.
    pub fn scratch_folder(&self) -> PathBuf {
        temporary(&self.layout)
    }

    /// Removes a stage's folder with all that programs have left in it.
    ///
    /// # Errors
    /// If something in it cannot be removed, such as a mounted file system.
    pub fn remove_scratch(&self, folder: &Path) -> Result<(), CacheError> {
        self.layout.remove(folder)
    }

    /// How names in `tmp/` begin that belong to processes which hold a lease.
    pub(super) fn processes_at_work(
        &self,
        now: SystemTime,
    ) -> Result<BTreeSet<String>, CacheError> {
        let mut leases = self.layout.walk(&self.layout.leases())?;
        leases.retain(|lease| is_held(&lease.path, now));
        let holders = leases.iter().filter_map(|lease| holder_of(&lease.path));
        Ok(holders.collect())
    }

    /// The keys that somebody works on.
    pub fn leased(&self) -> Result<Vec<Key>, CacheError> {
        let names = self.held_leases(self.clock())?;
        let keys = names.iter().filter_map(|name| name.parse().ok());
        Ok(keys.map(Key).collect())
    }

    /// What is leased, by name.
    pub(super) fn held_leases(&self, now: SystemTime) -> Result<BTreeSet<String>, CacheError> {
        let mut leases = self.layout.walk(&self.layout.leases())?;
        leases.retain(|lease| is_held(&lease.path, now));
        let names = leases.iter().map(|lease| lease.name().into_owned());
        Ok(names.collect())
    }

    /// What keeps the leases of this process fresh.
    pub(super) fn heart(&self) -> &Heart {
        &self.heart
    }

    /// Tries to become the one who works on a key.
    pub fn lease(&self, key: &Key) -> Result<LeaseAttempt, CacheError> {
        Lease::acquire(&self.layout, &key.to_string(), Some(&self.heart))
    }

    /// Tries to become the only one who collects garbage.
    pub(super) fn lease_collection(&self) -> Result<LeaseAttempt, CacheError> {
        Lease::acquire(&self.layout, "gc", Some(&self.heart))
    }
}

/// The parts of one artifact, found through the records beside its own.
pub(super) struct RecordedParts<'a> {
    records: &'a [ObjectRecord],
    artifact: &'a dyn Fn(&ObjectRecord) -> Result<Artifact, CacheError>,
    blob: &'a dyn Fn(&ObjectRecord) -> Result<PathBuf, CacheError>,
    /// The first failure with its full meaning, which the artifact layer cannot carry.
    failure: Mutex<Option<CacheError>>,
}

impl<'a> RecordedParts<'a> {
    pub fn new(
        records: &'a [ObjectRecord],
        artifact: &'a dyn Fn(&ObjectRecord) -> Result<Artifact, CacheError>,
        blob: &'a dyn Fn(&ObjectRecord) -> Result<PathBuf, CacheError>,
    ) -> Self {
        Self {
            records,
            artifact,
            blob,
            failure: Mutex::new(None),
        }
    }

    /// Why a part could not be had, if one could not.
    pub fn into_failure(self) -> Option<CacheError> {
        self.failure.into_inner().unwrap_or_default()
    }

    fn find<T>(
        &self,
        digest: &Digest,
        load: impl FnOnce(&ObjectRecord) -> Result<T, CacheError>,
    ) -> Result<T, ArtifactError> {
        let mut records = self.records.iter();
        if let Some(record) = records.find(|record| record.digest == *digest) {
            match load(record) {
                Ok(part) => return Ok(part),
                Err(error) => {
                    if let Ok(mut failure) = self.failure.lock() {
                        failure.get_or_insert(error);
                    }
                }
            }
        }
        Err(ArtifactError::MissingPart(digest.to_string()))
    }
}

impl Parts for RecordedParts<'_> {
    fn artifact(&self, digest: &Digest) -> Result<Artifact, ArtifactError> {
        self.find(digest, |record| (self.artifact)(record))
    }

    fn blob(&self, digest: &Digest) -> Result<PathBuf, ArtifactError> {
        self.find(digest, |record| (self.blob)(record))
    }
}
