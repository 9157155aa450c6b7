//! Folders that stages share, now and later, such as environments of Python packages. The stage that needs one first makes
//! it. It is made where it stays, since environments write their own place into their scripts; a file in it, written last,
//! says that it is whole. No key depends on one: its name says what is in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use contract::Trouble;
use contract::artifact::Digest;

use super::{CacheError, Key, LeaseAttempt, Store, lease};
use crate::diagnostic::AsTrouble;

/// How often somebody looks who waits for another process.
const POLL: Duration = Duration::from_millis(100);

/// The file that a whole folder has.
const COMPLETE: &str = "complete";

/// Whether a folder that stages share was made to its end.
pub(super) fn is_complete(place: &Path) -> bool {
    place.join(COMPLETE).is_file()
}

/// Says in the folder's time that it is used now, so that a collection knows what nothing has used for long. Somebody who may
/// only read the store leaves no trace.
fn note_use(place: &Path) {
    if let Ok(folder) = fs::File::open(place) {
        lease::touch(&folder);
    }
}

impl Store {
    /// The folder of this name. Where it is not there, `make` makes it at the place that it is given.
    ///
    /// # Errors
    /// If it cannot be made, or the wait for another process was cancelled.
    pub fn shared_folder(
        &self,
        name: &Digest,
        is_cancelled: &dyn Fn() -> bool,
        make: &mut dyn FnMut(&Path) -> Result<(), Trouble>,
    ) -> Result<PathBuf, Trouble> {
        let parent = self.layout().environments();
        let place = parent.join(name.to_string());
        loop {
            if is_complete(&place) {
                note_use(&place);
                return Ok(place);
            }
            let lease = self
                .lease(&Key(*name))
                .map_err(|error| error.to_trouble())?;
            if let LeaseAttempt::Taken(_lease) = lease {
                return self.make_shared(&parent, &place, make);
            }
            if is_cancelled() {
                return Err(Trouble::cancelled());
            }
            std::thread::sleep(POLL);
        }
    }

    fn make_shared(
        &self,
        parent: &Path,
        place: &Path,
        make: &mut dyn FnMut(&Path) -> Result<(), Trouble>,
    ) -> Result<PathBuf, Trouble> {
        // It may have appeared between the look and the lease.
        if is_complete(place) {
            return Ok(place.to_owned());
        }
        let failed = |doing: &'static str, path: &Path| {
            let path = path.to_owned();
            move |error| CacheError::io(doing, &path)(error).to_trouble()
        };
        self.layout()
            .make(parent)
            .map_err(|error| error.to_trouble())?;
        // What a process left that was killed while it made the folder.
        if place.exists() {
            fs::remove_dir_all(place).map_err(failed("remove", place))?;
        }
        if let Err(trouble) = make(place) {
            let _ = fs::remove_dir_all(place);
            return Err(trouble);
        }
        let marker = place.join(COMPLETE);
        fs::File::create(&marker).map_err(failed("write", &marker))?;
        Ok(place.to_owned())
    }
}
