//! Whether a file is still the one that was looked at before, told without reading it.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// How long a file must have rested before its identity stands for its content. Some file systems count whole seconds,
/// FAT two.
const REST_NANOSECONDS: i128 = 2_500_000_000;

/// What tells whether a file is still the one that was hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) size: u64,
    /// Last change of the content, in nanoseconds since 1970.
    pub(super) modified: i128,
    /// Last change of content or metadata; nobody can set it back.
    pub(super) changed: i128,
}

impl Identity {
    /// Of the file at this path; links are followed.
    ///
    /// # Errors
    /// If there is no such file, or it cannot be looked at.
    pub fn at(path: &Path) -> io::Result<Self> {
        Ok(Self::of(&std::fs::metadata(path)?))
    }

    pub(super) fn of(metadata: &Metadata) -> Self {
        let nanoseconds =
            |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether the file changed so long before `now`, in nanoseconds since 1970, that a further change shows in its times.
    pub(super) fn has_rested(&self, now: i128) -> bool {
        self.modified.max(self.changed) + REST_NANOSECONDS <= now
    }
}
