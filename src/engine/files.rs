//! How the engine asks for raw files. Where they lie and how they are fetched is decided elsewhere.

use std::path::{Path, PathBuf};

use contract::artifact::Digest;
use contract::{FileRequest, Trouble};

use crate::data::Identity;

/// A raw file on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundFile {
    pub path: PathBuf,
    /// blake3 of its bytes.
    pub digest: Digest,
    /// As long as the file has this identity, it has these bytes. None for a file that changed just now.
    pub identity: Option<Identity>,
}

/// Finds raw files.
pub trait FileFinder: Sync {
    /// The file that a stage asks for; `None` if it is optional and absent.
    fn find(&self, request: &FileRequest) -> Result<Option<FoundFile>, Trouble>;

    /// Whether a request that may mean one file or many ([`FileRequest::many`]) means many.
    fn means_many(&self, _request: &FileRequest) -> bool {
        false
    }

    /// Where a path leads that a user wrote. For advice only: nothing is read.
    fn look_up(&self, _path: &Path) -> Option<PathBuf> {
        None
    }

    /// The files of the folder that a stage asks for: their paths below it, sorted.
    fn list(&self, request: &FileRequest) -> Result<Vec<(String, FoundFile)>, Trouble> {
        let path = request.path.display();
        Err(Trouble::new(format!("there is no folder `{path}`")))
    }
}

/// Finds nothing, for graphs that need no files.
#[derive(Debug)]
pub struct NoFiles;

impl FileFinder for NoFiles {
    fn find(&self, request: &FileRequest) -> Result<Option<FoundFile>, Trouble> {
        let path = request.path.display();
        Err(Trouble::new(format!("there is no file `{path}`")))
    }
}
