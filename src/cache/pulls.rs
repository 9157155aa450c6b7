//! What somebody fetched on purpose. No record of a run need name it, so a note does, and collections keep what it names
//! for a while.

use std::collections::BTreeSet;

use super::object::replace;
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
        let name = format!("{}.json", RunId::now());
        replace(
            self.layout(),
            &self.layout().pulls().join(name),
            &seal(keys),
        )
    }

    /// The notes that there are. One that cannot be read keeps nothing.
    pub(super) fn pulls(&self) -> Result<Vec<(Found, BTreeSet<Key>)>, CacheError> {
        let mut pulls = Vec::new();
        for found in self.layout().walk(&self.layout().pulls())? {
            let text = self.layout().read(&found.path).unwrap_or_default();
            pulls.push((found, unseal(&text).unwrap_or_default()));
        }
        Ok(pulls)
    }
}
