//! How much a store holds.

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::verify::files_below;
use super::{CacheError, Store};

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
        let mut runs = amount(&layout.runs())?;
        runs.count = self.runs()?.len();
        Ok(Stats {
            objects: amount(&layout.objects())?,
            actions: amount(&layout.actions())?,
            checkpoints: amount(&layout.checkpoints())?,
            runs,
            quarantine: amount(&layout.quarantine())?,
            leases: amount(&layout.leases())?,
            temporary: amount(&layout.tmp())?,
        })
    }
}

fn amount(folder: &Path) -> Result<Amount, CacheError> {
    let files = files_below(folder)?;
    let bytes = files.iter().filter_map(|path| Some(fs::metadata(path).ok()?.len())).sum();
    Ok(Amount { count: files.len(), bytes })
}
