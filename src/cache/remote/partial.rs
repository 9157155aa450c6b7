//! A file that is being fetched. It lies in `tmp/` under the name of its object, so that whatever fetches it next continues
//! where it ended, even after a crash. One process at a time has it; the lock goes with the process. A lock that does not
//! hold, as on some network file systems, costs work only: what is placed is checked, and checked again when it is read.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use contract::artifact::{ByteDigest, Digest};

use super::super::object::{rename_into, temporary};
use super::super::tree::{options_for_plain, regular};
use super::super::{CacheError, Layout};

/// An object on its way from a remote.
#[derive(Debug)]
pub(super) struct Partial {
    path: PathBuf,
    file: File,
    /// Of what is there.
    digest: ByteDigest,
    length: u64,
    /// Nobody would find it again, or it stands in the way of everything else.
    private: bool,
    placed: bool,
}

impl Partial {
    /// What there is of an object already, or nothing; never more than `most` bytes.
    pub fn open(layout: &Layout, object: &Digest, most: u64) -> Result<Self, CacheError> {
        layout.make(&layout.tmp())?;
        let path = layout.tmp().join(format!("partial-{object}"));
        let (path, file, private) = match claim(&path) {
            Ok(Some(file)) => (path, file, false),
            // Somebody works on it, or it is somebody else's.
            Ok(None) | Err(_) => {
                let path = temporary(layout);
                let file = create(&path).map_err(CacheError::io("create", &path))?;
                (path, file, true)
            }
        };
        let mut partial = Self {
            path,
            file,
            digest: ByteDigest::default(),
            length: 0,
            private,
            placed: false,
        };
        partial.read_back(most)?;
        Ok(partial)
    }

    fn read_back(&mut self, most: u64) -> Result<(), CacheError> {
        let found = self.file.metadata();
        let mut length = found.map_err(CacheError::io("read", &self.path))?.len();
        let mut buffer = vec![0; 1 << 16];
        while length <= most {
            let read = self.file.read(&mut buffer);
            let count = read.map_err(CacheError::io("read", &self.path))?;
            if count == 0 {
                return Ok(());
            }
            self.digest.update(&buffer[..count]);
            self.length += count as u64;
            length = self.length;
        }
        // More bytes than the object has are not the object's.
        self.restart()
    }

    pub fn length(&self) -> u64 {
        self.length
    }

    pub fn digest(&self) -> Digest {
        self.digest.finish()
    }

    pub fn append(&mut self, bytes: &[u8]) -> Result<(), CacheError> {
        let written = self.file.write_all(bytes);
        // A full disk gets its space back at once, not when somebody collects what crashes left.
        self.private |= matches!(&written, Err(error) if is_full(error));
        written.map_err(CacheError::io("write", &self.path))?;
        self.digest.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Forgets what is there.
    pub fn restart(&mut self) -> Result<(), CacheError> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
        emptied.map_err(CacheError::io("write", &self.path))?;
        self.digest = ByteDigest::default();
        self.length = 0;
        Ok(())
    }

    /// Gives the object its place, read-only like all objects.
    pub fn place(mut self, layout: &Layout, path: &Path) -> Result<(), CacheError> {
        let read_only = self.file.set_permissions(Permissions::from_mode(0o444));
        read_only.map_err(CacheError::io("write", &self.path))?;
        rename_into(layout, &self.path, path)?;
        self.placed = true;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.placed && (self.private || self.length == 0) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Opens the file or makes it; a link or a pipe in its place is not followed or waited for.
fn create(path: &Path) -> io::Result<File> {
    let mut options = options_for_plain();
    options.read(true).write(true).create(true).truncate(false);
    regular(options.open(path)?)
}

/// The file, if nobody else has it.
fn claim(path: &Path) -> io::Result<Option<File>> {
    const TRIES: usize = 8;
    for _ in 0..TRIES {
        let file = create(path)?;
        if file.try_lock().is_err() {
            return Ok(None);
        }
        // It may have been placed among the objects before the lock was free: then this is an object now.
        let mine = file.metadata()?;
        match fs::symlink_metadata(path) {
            Ok(named) if (named.dev(), named.ino()) == (mine.dev(), mine.ino()) => {
                return Ok(Some(file));
            }
            _ => {}
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        let object = Digest::of_bytes(b"hello world");
        let mut first = Partial::open(&layout, &object, 11).unwrap();
        first.append(b"hello").unwrap();
        let second = Partial::open(&layout, &object, 11).unwrap();
        assert!(second.private && second.length() == 0, "the file is taken");
        drop((first, second));
        let mut third = Partial::open(&layout, &object, 11).unwrap();
        assert_eq!(third.length(), 5);
        third.append(b" world").unwrap();
        assert_eq!(third.digest(), object);
        third
            .place(&layout, &layout.object_named(&object, ""))
            .unwrap();
        assert_eq!(
            fs::read(layout.object_named(&object, "")).unwrap(),
            b"hello world"
        );
        assert_eq!(fs::read_dir(layout.tmp()).unwrap().count(), 0);
    }

    /// `/dev/full` stands for a file on a full disk.
    #[test]
    fn a_full_disk_keeps_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        let object = Digest::of_bytes(b"hello world");
        let mut partial = Partial::open(&layout, &object, 11).unwrap();
        partial.append(b"hello").unwrap();
        partial.file = File::options().write(true).open("/dev/full").unwrap();
        partial.append(b" world").unwrap_err();
        drop(partial);
        assert_eq!(fs::read_dir(layout.tmp()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_too_long_or_wrong_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        let object = Digest::of_bytes(b"new");
        let mut partial = Partial::open(&layout, &object, 9).unwrap();
        partial.append(b"too long").unwrap();
        drop(partial);
        let mut partial = Partial::open(&layout, &object, 3).unwrap();
        assert_eq!(partial.length(), 0);
        partial.append(b"old").unwrap();
        partial.restart().unwrap();
        partial.append(b"new").unwrap();
        assert_eq!(partial.digest(), object);
        partial.restart().unwrap();
        drop(partial);
        assert_eq!(
            fs::read_dir(layout.tmp()).unwrap().count(),
            0,
            "nothing is not kept"
        );
    }
}
