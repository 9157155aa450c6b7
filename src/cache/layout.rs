//! Where things lie in a store. The version in the path is raised when the layout changes, so that old and new
//! programs never meet in one folder.
//!
//! ```text
//! cache/v1/objects/ab/cdef….parquet      immutable artifacts and blobs, named by the blake3 of their bytes
//!          actions/ab/cdef….json         what a key produced
//!          checkpoints/ab/cdef…/STEP-…   states of interrupted or extended training
//!          ledger/NAME.json              the keys of a pipeline's last run: the fast path of a no-op
//!          runs/ID/run.json events.jsonl records of invocations
//!          runs.head                     the newest record: the end of their chain
//!          runs.next                     the record that is about to become the newest
//!          leases/cdef…                  who is working on a key, or on something else, right now
//!          sweeps/NAME/ID/…              what sweeps handed to a cluster: units, scripts, logs
//!          environments/cdef…/           packages that a lock file names, made once for all stages
//!          pulls/TIME.json               what somebody fetched, so that it is not collected at once
//!          quarantine/…                  damaged objects, for inspection
//!          salt                          a secret with which secrets are digested; never copied elsewhere
//!          trash/NAME/…                  what a collection is about to remove
//!          tmp/…                         files on their way into the store
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use contract::artifact::Digest;

use super::{Key, ObjectRecord};

/// The paths of one store.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
    pub(super) shards: Arc<Shards>,
}

/// Folders of objects and of actions that were found to be folders, and no links to some, by the first byte of what lies in
/// them. Planning asks for thousands of files in them.
#[derive(Debug)]
pub(super) struct Shards {
    pub objects: [AtomicBool; 256],
    pub actions: [AtomicBool; 256],
}

impl Shards {
    fn unknown() -> Self {
        let unknown = || std::array::from_fn(|_| AtomicBool::new(false));
        Self {
            objects: unknown(),
            actions: unknown(),
        }
    }
}

impl Layout {
    /// The layout below `cache/` or wherever the store was put.
    pub fn new(store: &Path) -> Self {
        // Stages run programs in folders of their own: relative paths would not reach back.
        let store = std::path::absolute(store).unwrap_or_else(|_| store.to_owned());
        Self {
            root: store.join("v1"),
            shards: Arc::new(Shards::unknown()),
        }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn objects(&self) -> PathBuf {
        self.root.join("objects")
    }

    pub fn object(&self, record: &ObjectRecord) -> PathBuf {
        let extension = record.kind.map_or("", |kind| kind.extension());
        self.object_named(&record.object, extension)
    }

    pub fn object_named(&self, object: &Digest, extension: &str) -> PathBuf {
        let name = object.to_string();
        let dot = if extension.is_empty() { "" } else { "." };
        self.objects()
            .join(&name[..2])
            .join(format!("{}{dot}{extension}", &name[2..]))
    }

    pub fn actions(&self) -> PathBuf {
        self.root.join("actions")
    }

    pub fn action(&self, key: &Key) -> PathBuf {
        let name = key.to_string();
        self.actions()
            .join(&name[..2])
            .join(format!("{}.json", &name[2..]))
    }

    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    pub fn chain(&self, chain: &Digest) -> PathBuf {
        let name = chain.to_string();
        self.checkpoints().join(&name[..2]).join(&name[2..])
    }

    pub fn ledgers(&self) -> PathBuf {
        self.root.join("ledger")
    }

    pub fn runs(&self) -> PathBuf {
        self.root.join("runs")
    }

    pub fn leases(&self) -> PathBuf {
        self.root.join("leases")
    }

    /// What sweeps handed to a cluster: units, scripts, logs.
    pub fn sweeps(&self) -> PathBuf {
        self.root.join("sweeps")
    }

    /// Environments of packages that stages share.
    pub fn environments(&self) -> PathBuf {
        self.root.join("environments")
    }

    /// Notes of what somebody fetched.
    pub fn pulls(&self) -> PathBuf {
        self.root.join("pulls")
    }

    pub fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    /// What a collection of garbage is about to remove.
    pub fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    pub fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// The secret with which secrets are digested.
    pub fn salt(&self) -> PathBuf {
        self.root.join("salt")
    }

    /// The folders that a store consists of.
    pub(super) fn folders(&self) -> [PathBuf; 11] {
        [
            self.objects(),
            self.actions(),
            self.checkpoints(),
            self.ledgers(),
            self.runs(),
            self.leases(),
            self.sweeps(),
            self.pulls(),
            self.quarantine(),
            self.trash(),
            self.tmp(),
        ]
    }

    /// Where digests of raw files are remembered.
    pub fn file_memo(&self) -> PathBuf {
        self.root.join("files.memo")
    }
}
