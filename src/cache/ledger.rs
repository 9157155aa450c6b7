//! The ledger of a pipeline: the actions of its last run by stage. It makes a no-op fast (one file instead of one per
//! stage) and remembers what a stage's manifest was before, so that `why` can say what changed.
//! It is a shortcut only: without it everything works, slower. It also knows how the file of each action looked when that
//! was last found right: as long as it looks so, it need not be read, and once it does not, the ledger is no reason to
//! believe in it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use contract::artifact::Digest;
use serde::{Deserialize, Serialize};

use super::object::replace;
use super::seal::{seal, unseal};
use super::{Action, CacheError, Key, Layout, RunId, Store};

/// How a file looks from outside. Writing into it or replacing it changes that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileState {
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds of the last change of content, name or permissions; no program can set it back.
    changed: (i64, i64),
}

/// The actions of a pipeline's last run.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// Stage name to its action, without the manifest.
    pub stages: BTreeMap<String, Arc<Action>>,
    /// Stages that stand on actions which nobody need look for in the store.
    #[serde(skip)]
    given: BTreeSet<String>,
    /// Stage name to the file of its action.
    #[serde(default)]
    files: BTreeMap<String, FileState>,
    /// Stages that failed and have not come to their outputs since.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failed: BTreeMap<String, LastFailure>,
}

/// How a stage failed the last time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastFailure {
    pub key: Key,
    pub run: RunId,
    pub reason: String,
}

impl Ledger {
    fn path(layout: &Layout, pipeline: &str) -> PathBuf {
        layout
            .ledgers()
            .join(format!("{}.json", Digest::of_bytes(pipeline.as_bytes())))
    }

    /// The ledger of the pipeline with this name or path; empty if there is none that can be read.
    pub fn load(store: &Store, pipeline: &str) -> Self {
        let text = store.layout().read(&Self::path(store.layout(), pipeline));
        unseal(&text.unwrap_or_default()).unwrap_or_default()
    }

    pub fn save(&self, store: &Store, pipeline: &str) -> Result<(), CacheError> {
        let path = Self::path(store.layout(), pipeline);
        replace(store.layout(), &path, &seal(self))
    }

    /// Notes that a stage now stands on this action, which was found right. Returns whether that is news.
    pub fn note(&mut self, store: &Store, stage: &str, action: &Arc<Action>) -> bool {
        let recovered = self.failed.remove(stage).is_some();
        // What the ledger itself has told has been compared with the file already.
        let known = self.stages.get(stage);
        let is_known = known.is_some_and(|known| Arc::ptr_eq(known, action));
        if is_known && self.files.contains_key(stage) {
            return false;
        }
        let mut is_new_file = false;
        if let Some(file) = store.action_file(&action.key) {
            is_new_file = self.files.insert(stage.to_owned(), file) != Some(file);
        }
        self.note_action(stage, action) || is_new_file || recovered
    }

    fn note_action(&mut self, stage: &str, action: &Arc<Action>) -> bool {
        let known = self.stages.get(stage);
        if known.is_some_and(|known| known.key == action.key && known.outputs == action.outputs) {
            return false;
        }
        let short = if action.manifest.is_empty() {
            Arc::clone(action)
        } else {
            Arc::new(Action {
                manifest: String::new(),
                ..Action::clone(action)
            })
        };
        self.stages.insert(stage.to_owned(), short);
        true
    }

    /// Makes a stage stand on this action, whatever the store says of its key: the caller knows better.
    pub fn give(&mut self, stage: &str, action: Arc<Action>) {
        self.stages.insert(stage.to_owned(), action);
        self.given.insert(stage.to_owned());
    }

    /// Notes that a stage failed. Returns whether that is news.
    pub fn note_failure(&mut self, stage: &str, failure: LastFailure) -> bool {
        let known = self.failed.insert(stage.to_owned(), failure.clone());
        known != Some(failure)
    }

    /// How a stage failed with this key, if it did the last time.
    pub fn failure(&self, stage: &str, key: &Key) -> Option<&LastFailure> {
        self.failed.get(stage).filter(|failure| failure.key == *key)
    }

    /// The action on which a stage stood, if it has this key.
    pub fn find(&self, stage: &str, key: &Key) -> Option<&Arc<Action>> {
        self.stages.get(stage).filter(|action| action.key == *key)
    }

    /// Whether the file of a stage's action looks as it did when it was found right.
    pub fn is_as_it_was(&self, store: &Store, stage: &str, key: &Key) -> bool {
        let known = self.files.get(stage).copied();
        self.given.contains(stage) || (known.is_some() && store.action_file(key) == known)
    }

    /// Forgets a stage.
    pub fn forget(&mut self, stage: &str) {
        self.stages.remove(stage);
        self.files.remove(stage);
    }
}

impl Store {
    /// How the file of an action looks, if there is one.
    pub fn action_file(&self, key: &Key) -> Option<FileState> {
        let found = self.layout().look_at_action(key)?;
        if !found.is_file() {
            return None;
        }
        Some(FileState {
            inode: found.ino(),
            bytes: found.len(),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}
