//! Collection of garbage: what nobody needs any more is removed from the store, or from the remote.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Error, Project, lock_beside};
use crate::audit::Lock;
use crate::cache::{
    GcOptions, GcReport, Key, Remote, RemoteGcOptions, RemoteGcReport, Root, Store, files_below,
    read_plain,
};

/// What a collection keeps, and how much of the rest.
#[derive(Debug, Default)]
pub struct Collection {
    /// Keep at most so many bytes.
    pub max_bytes: Option<u64>,
    /// Forget runs that are older.
    pub max_age: Option<Duration>,
    /// Locks, or folders of them, whose results are kept; those beside the pipelines of recorded runs always are.
    pub locks: Vec<PathBuf>,
    /// Further keys that are kept, with the name of who needs them.
    pub also: Vec<Root>,
    /// Whether nothing is removed, and it is only said what would be.
    pub dry_run: bool,
}

impl Project {
    /// Removes from the store what nobody needs.
    ///
    /// # Errors
    /// If a lock cannot be read, or the store cannot be used.
    pub(crate) fn collect_besides_sweeps(&self, collection: Collection) -> Result<GcReport, Error> {
        let store = self.local_store();
        // Settings that are wrong are an error here, too, whether a remote matters or not.
        let has_remote = self.find_remote(Path::new("."))?.is_some();
        let held = match collection.max_bytes {
            Some(_) if has_remote => self.held()?,
            _ => BTreeSet::new(),
        };
        let mut roots = roots(&store, &collection.locks)?;
        roots.extend(collection.also);
        Ok(store.gc(&GcOptions {
            max_bytes: collection.max_bytes,
            max_age: collection.max_age,
            dry_run: collection.dry_run,
            roots,
            held,
        })?)
    }

    /// Removes from the remote what is older and what nobody here needs. Gives the remote and what was removed.
    ///
    /// # Errors
    /// If there is no remote, it is only to be read, or it cannot be used; or a lock cannot be read.
    pub(crate) fn collect_at_remote_besides_sweeps(
        &self,
        collection: Collection,
        older_than: Duration,
    ) -> Result<(Remote, RemoteGcReport), Error> {
        let remote = self.named_remote(Path::new("."))?;
        Self::refuse_read_only(&remote)?;
        let store = self.local_store();
        let mut roots = roots(&store, &collection.locks)?;
        roots.extend(collection.also);
        let mut keys: BTreeSet<Key> = roots.into_iter().flat_map(|root| root.keys).collect();
        for run in store.runs()? {
            if let Ok(record) = store.load_run(&run) {
                keys.extend(record.keys());
            }
        }
        let report = remote.gc(&RemoteGcOptions {
            older_than,
            roots: keys,
            dry_run: collection.dry_run,
        })?;
        Ok((remote, report))
    }

    /// The keys that the remote holds. A remote that cannot be asked holds nothing.
    fn held(&self) -> Result<BTreeSet<Key>, Error> {
        let remote = self.named_remote(Path::new("."))?;
        Ok(remote.keys().unwrap_or_else(|error| {
            let warning = format!("{error}; what it holds is not known, and counts as nothing");
            self.listener.warning(&warning);
            BTreeSet::new()
        }))
    }
}

/// What locks need besides the recorded runs.
fn roots(store: &Store, locks: &[PathBuf]) -> Result<Vec<Root>, Error> {
    let mut keys = BTreeSet::new();
    for path in lock_files(store, locks)? {
        // A lock that cannot be read may need anything: then nothing goes.
        keys.extend(Lock::read(&path)?.keys());
    }
    Ok(vec![Root {
        name: "locks".into(),
        keys,
    }])
}

/// The locks that were named, those in folders that were named, and those beside the pipelines of recorded runs.
fn lock_files(store: &Store, named: &[PathBuf]) -> Result<BTreeSet<PathBuf>, Error> {
    let mut files = BTreeSet::new();
    for path in named {
        if path.is_dir() {
            // The user's own folder may be a link.
            let folder = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
            let below = files_below(&folder)?;
            files.extend(below.into_iter().filter(|path| is_lock(path)));
        } else {
            files.insert(path.clone());
        }
    }
    for run in store.runs()? {
        if let Ok(record) = store.load_run(&run) {
            let beside = lock_beside(Some(Path::new(&record.file)));
            // A relative path, as of the built-in pipeline, may mean any file here.
            if beside.is_absolute() && beside.is_file() {
                files.insert(beside);
            }
        }
    }
    Ok(files)
}

/// Other programs write files with this ending, too; ours begin with a line that says so, whatever a merge did below it.
fn is_lock(path: &Path) -> bool {
    const BEGINS: &str = "# The lock of a pipeline.";
    let named_so = path.extension().is_some_and(|ending| ending == "lock");
    named_so && read_plain(path).is_ok_and(|bytes| bytes.starts_with(BEGINS.as_bytes()))
}
