//! How much a store holds.

use std::path::Path;

use serde::Serialize;

use super::checkpoint::Chain;
use super::{CacheError, Layout, Store};

/// A number of files and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    pub count: usize,
    pub bytes: u64,
}

/// What a store holds, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    pub objects: Amount,
    pub actions: Amount,
    pub checkpoints: Amount,
    pub runs: Amount,
    pub quarantine: Amount,
    pub leases: Amount,
    pub temporary: Amount,
}

impl Stats {
    pub fn entries(&self) -> [(&'static str, Amount); 7] {
        [
            ("objects", self.objects),
            ("actions", self.actions),
            ("checkpoints", self.checkpoints),
            ("runs", self.runs),
            ("quarantine", self.quarantine),
            ("leases", self.leases),
            ("temporary", self.temporary),
        ]
    }
}

impl Store {
    /// Counts everything.
    pub fn stats(&self) -> Result<Stats, CacheError> {
        let layout = self.layout();
        let mut runs = amount(layout, &layout.runs())?;
        runs.count = self.runs()?.len();
        // Beside the states of a chain lie notes of who needs them.
        let mut checkpoints = amount(layout, &layout.checkpoints())?;
        checkpoints.count = 0;
        for chain in self.chains()? {
            checkpoints.count += Chain::open(layout, &chain)?.states.len();
        }
        Ok(Stats {
            objects: amount(layout, &layout.objects())?,
            actions: amount(layout, &layout.actions())?,
            checkpoints,
            runs,
            quarantine: amount(layout, &layout.quarantine())?,
            leases: amount(layout, &layout.leases())?,
            temporary: amount(layout, &layout.tmp())?,
        })
    }
}

fn amount(layout: &Layout, folder: &Path) -> Result<Amount, CacheError> {
    let files = layout.walk(folder)?;
    Ok(Amount {
        count: files.len(),
        bytes: files.iter().map(|file| file.seen.bytes).sum(),
    })
}
