//! Collection of garbage with sweeps in mind: what trials on a cluster are built on, and what their tasks have made, is kept.

use std::collections::BTreeSet;
use std::time::Duration;

use super::submissions;
use crate::cache::{GcReport, Remote, RemoteGcReport, Root};
use crate::project::{Collection, Error, Project};

impl Project {
    /// Removes from the store what no run, no lock and no sweep on a cluster needs.
    ///
    /// # Errors
    /// If a lock cannot be read, or the store cannot be used.
    pub fn collect(&self, mut collection: Collection) -> Result<GcReport, Error> {
        collection.also.push(self.root_of_sweeps()?);
        self.collect_besides_sweeps(collection)
    }

    /// Removes from the remote what is older and what nobody here needs. Gives the remote and what was removed.
    ///
    /// # Errors
    /// If there is no remote, it is only to be read, or it cannot be used; or a lock cannot be read.
    pub fn collect_at_remote(
        &self,
        mut collection: Collection,
        older_than: Duration,
    ) -> Result<(Remote, RemoteGcReport), Error> {
        collection.also.push(self.root_of_sweeps()?);
        self.collect_at_remote_besides_sweeps(collection, older_than)
    }

    /// The keys of what submissions were built on, and of what ran since in the name of their sweeps.
    fn root_of_sweeps(&self) -> Result<Root, Error> {
        let store = self.local_store();
        let submissions = submissions(store.layout());
        let mut keys = BTreeSet::new();
        let mut sweeps = BTreeSet::new();
        for submission in &submissions {
            keys.extend(&submission.keys);
            sweeps.insert(&submission.record);
        }
        if !sweeps.is_empty() {
            for run in store.runs()? {
                if let Ok(record) = store.load_run(&run)
                    && sweeps.contains(&record.file)
                {
                    keys.extend(record.keys());
                }
            }
        }
        let name = "sweeps".into();
        Ok(Root { name, keys })
    }
}
