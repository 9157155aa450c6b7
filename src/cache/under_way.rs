//! Whether a run is still under way. Its record says so from the start, and would say so for ever if its process were
//! killed; so the process holds a lease beside the record, which shows by its holder or its age that nobody is there.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use super::lease::{Holder, create, is_held};
use super::object::temporary;
use super::{CacheError, RunId, RunRecord, RunStatus, Store};

/// Keeps the lease of a run fresh until it is dropped.
#[derive(Debug)]
pub struct RunLease {
    _beating: Arc<PathBuf>,
}

impl Store {
    fn run_lease(&self, run: &RunId) -> PathBuf {
        self.run_folder(run).join("lease")
    }

    /// Says that a run is under way, until its record says how it ended or this process is gone.
    ///
    /// # Errors
    /// If the run's folder cannot be written to.
    pub fn hold_run(&self, run: &RunId) -> Result<RunLease, CacheError> {
        let (folder, path) = (self.run_folder(run), self.run_lease(run));
        self.layout().make(&folder)?;
        let holder = Holder::myself(&temporary(self.layout()));
        create(&path, &holder).map_err(CacheError::io("create", &path))?;
        Ok(RunLease {
            _beating: self.heart().beat(&path),
        })
    }

    /// The run has ended, and its record says how.
    pub(super) fn release_run(&self, run: &RunId) {
        let _ = self.layout().remove(&self.run_lease(run));
    }

    /// How a run stands: one whose process is gone was interrupted, whatever its record still says.
    pub(super) fn standing(&self, record: &RunRecord) -> RunStatus {
        if record.status == RunStatus::Running {
            self.standing_at(record, self.clock())
        } else {
            record.status
        }
    }

    /// The same at a time by the file system's clock.
    pub(super) fn standing_at(&self, record: &RunRecord, now: SystemTime) -> RunStatus {
        let is_gone =
            record.status == RunStatus::Running && !is_held(&self.run_lease(&record.run), now);
        if is_gone {
            RunStatus::Interrupted
        } else {
            record.status
        }
    }
}
