//! Pages of runs that were made, with their arrays in files, so that many readers cost no more than one.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tempfile::TempDir;

use crate::cache::RunId;

/// Pages that are kept.
const KEPT: usize = 8;

/// A page that was made.
pub struct Made {
    pub run: RunId,
    /// When the record of the run was written of which it is.
    pub written: Option<SystemTime>,
    pub page: String,
    /// Where its tiles are; it goes with the page.
    tiles: PathBuf,
}

impl Made {
    /// The file of a tile, if the name can be that of one.
    pub fn tile(&self, name: &str) -> Option<PathBuf> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
        let is_name = !name.starts_with('.') && !name.is_empty() && name.bytes().all(is_plain);
        is_name.then(|| self.tiles.join(name))
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.tiles);
    }
}

/// The pages that are kept, the last one used first.
pub struct Views {
    /// Nobody else can read it: it holds what the store holds.
    folder: TempDir,
    made: Mutex<(u64, VecDeque<Arc<Made>>)>,
}

impl Views {
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            folder: tempfile::Builder::new().prefix("runner-ui-").tempdir()?,
            made: Mutex::default(),
        })
    }

    /// Removes all pages and their folder.
    pub fn remove(&self) {
        let mut kept = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        kept.1.clear();
        let _ = fs::remove_dir_all(self.folder.path());
    }

    /// The page of a run that was made last, whatever has become of the run since.
    pub fn latest(&self, run: &RunId) -> Option<Arc<Made>> {
        let kept = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        kept.1.iter().find(|made| made.run == *run).cloned()
    }

    /// The page of a run as it was when its record was written, if it was made.
    pub fn known(&self, run: &RunId, written: Option<SystemTime>) -> Option<Arc<Made>> {
        let mut kept = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let is_meant = |made: &Arc<Made>| made.run == *run && made.written == written;
        let place = kept.1.iter().position(is_meant)?;
        let made = kept.1.remove(place)?;
        kept.1.push_front(Arc::clone(&made));
        Some(made)
    }

    /// The page of a run, made now if it is not known. Two who ask at once for one page may make it twice.
    ///
    /// # Errors
    /// What `make` says.
    pub fn get<E: From<std::io::Error>>(
        &self,
        run: &RunId,
        written: Option<SystemTime>,
        make: impl FnOnce(&Path) -> Result<String, E>,
    ) -> Result<Arc<Made>, E> {
        if let Some(made) = self.known(run, written) {
            return Ok(made);
        }
        let number = {
            let mut kept = self.made.lock().unwrap_or_else(PoisonError::into_inner);
            kept.0 += 1;
            kept.0
        };
        let tiles = self.folder.path().join(number.to_string());
        fs::create_dir(&tiles)?;
        let mut made = Made {
            run: run.clone(),
            written,
            page: String::new(),
            tiles,
        };
        made.page = make(&made.tiles)?;
        let made = Arc::new(made);
        let mut kept = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        kept.1.push_front(Arc::clone(&made));
        kept.1.truncate(KEPT);
        Ok(made)
    }
}
