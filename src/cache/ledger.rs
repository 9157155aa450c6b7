//! The ledger of a pipeline: the actions of its last run by stage. It makes a no-op fast (one file instead of one per
//! stage) and remembers what a stage's manifest was before, so that `why` can say what changed.
//! It is a shortcut only: without it everything works, slower.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use stages::artifact::Digest;

use super::object::replace;
use super::seal::{seal, unseal};
use super::{Action, CacheError, Key, Layout, RunId, Store};

/// The actions of a pipeline's last run.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// Stage name to its action, without the manifest.
    pub stages: BTreeMap<String, Arc<Action>>,
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
        layout.ledgers().join(format!("{}.json", Digest::of_bytes(pipeline.as_bytes())))
    }

    /// The ledger of the pipeline with this name or path; empty if there is none that can be read.
    pub fn load(store: &Store, pipeline: &str) -> Self {
        let text = fs::read(Self::path(store.layout(), pipeline)).unwrap_or_default();
        unseal(&text).unwrap_or_default()
    }

    pub fn save(&self, store: &Store, pipeline: &str) -> Result<(), CacheError> {
        replace(store.layout(), &Self::path(store.layout(), pipeline), &seal(self))
    }

    /// Notes that a stage now stands on this action. Says whether that is news.
    pub fn note(&mut self, stage: &str, action: &Arc<Action>) -> bool {
        let recovered = self.failed.remove(stage).is_some();
        let known = self.stages.get(stage);
        if known.is_some_and(|known| known.key == action.key && known.outputs == action.outputs) {
            return recovered;
        }
        let short = if action.manifest.is_empty() {
            Arc::clone(action)
        } else {
            Arc::new(Action { manifest: String::new(), ..Action::clone(action) })
        };
        self.stages.insert(stage.to_owned(), short);
        true
    }

    /// Notes that a stage failed. Says whether that is news.
    pub fn note_failure(&mut self, stage: &str, failure: LastFailure) -> bool {
        self.failed.insert(stage.to_owned(), failure.clone()).is_none_or(|known| known != failure)
    }

    /// How a stage failed with this key, if it did the last time.
    pub fn failure(&self, stage: &str, key: &Key) -> Option<&LastFailure> {
        self.failed.get(stage).filter(|failure| failure.key == *key)
    }

    /// The action on which a stage stood, if it has this key.
    pub fn find(&self, stage: &str, key: &Key) -> Option<&Arc<Action>> {
        self.stages.get(stage).filter(|action| action.key == *key)
    }
}
