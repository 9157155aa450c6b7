//! What somebody fetched on purpose. No record of a run need name it, so a note does, and collections keep what it names
//! for a while.

use std::collections::BTreeSet;

use super::object::{rename_into, write_aside};
use super::seal::{seal, unseal};
use super::tree::Found;
use super::{CacheError, Key, RunId, Store};

impl Store {
    /// Notes that these results are being fetched.
    ///
    /// # Errors
    /// If the note cannot be written.
    pub fn note_pull(&self, keys: &BTreeSet<Key>) -> Result<(), CacheError> {
        if keys.is_empty() {
            return Ok(());
        }
        let (aside, _) = write_aside(self.layout(), &seal(keys))?;
        rename_into(
            self.layout(),
            &aside,
            &self.layout().pulls().join(format!("{}.json", RunId::now())),
        )
    }

    /// The notes that there are. One that cannot be read keeps nothing.
    pub(super) fn pulls(&self) -> Result<Vec<(Found, BTreeSet<Key>)>, CacheError> {
        let read = |found: Found| {
            let keys = self
                .layout()
                .read(&found.path)
                .ok()
                .and_then(|text| unseal(&text))
                .unwrap_or_default();
            (found, keys)
        };
        Ok(self
            .layout()
            .walk(&self.layout().pulls())?
            .into_iter()
            .map(read)
            .collect())
    }
}
