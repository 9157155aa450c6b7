//! Writes beneath a folder and nowhere else: every folder on the way is opened from the one above it, no link is
//! followed, and a file is only ever new.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use super::path::Shown;
use super::{Content, FileEntry, Files, RelativePath};

const OPEN_FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// An open folder.
#[derive(Debug)]
pub struct Folder {
    place: PathBuf,
    root: OwnedFd,
    /// The folder that was written to last. Files come folder by folder.
    last: Option<(String, OwnedFd)>,
}

impl Folder {
    /// Makes a folder that was not there.
    ///
    /// # Errors
    /// If something is there already, or the folder above is not.
    pub fn create(place: &Path) -> io::Result<Self> {
        fs::create_dir(place).map_err(|error| cannot("create", &place.display(), &error))?;
        let root = rustix::fs::open(place, OPEN_FOLDER, Mode::empty());
        Ok(Self {
            place: place.to_owned(),
            root: root.map_err(|error| cannot("open", &place.display(), &error.into()))?,
            last: None,
        })
    }

    /// Opens a folder, or makes it and those above it. This path is the caller's own, and links in it are followed.
    ///
    /// # Errors
    /// If there is something else, or the folder cannot be made.
    pub fn open(place: &Path) -> io::Result<Self> {
        fs::create_dir_all(place).map_err(|error| cannot("create", &place.display(), &error))?;
        let root = rustix::fs::open(
            place,
            OPEN_FOLDER.difference(OFlags::NOFOLLOW),
            Mode::empty(),
        );
        Ok(Self {
            place: place.to_owned(),
            root: root.map_err(|error| cannot("open", &place.display(), &error.into()))?,
            last: None,
        })
    }

    /// Where a path beneath it is, for messages and for others to read.
    pub fn path_of(&self, path: &RelativePath) -> PathBuf {
        self.place.join(path.as_str())
    }

    /// Makes a folder and those above it. It may be there already.
    ///
    /// # Errors
    /// If a file or a link is in the way.
    pub fn make_folder(&mut self, path: &RelativePath) -> io::Result<()> {
        self.enter(Some(path.as_str()))
            .map(drop)
            .map_err(|error| self.refused(path, &error))
    }

    /// Makes a new file, and the folders above it.
    ///
    /// # Errors
    /// If anything is there already, or a file or a link is in the way.
    pub fn make_file(&mut self, path: &RelativePath, executable: bool) -> io::Result<File> {
        let (folder, name) = path.split();
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(if executable { 0o777 } else { 0o666 });
        let made = self
            .enter(folder)
            .and_then(|folder| Ok(rustix::fs::openat(folder, name, flags, mode)?));
        made.map(File::from)
            .map_err(|error| self.refused(path, &error))
    }

    /// Gives a file a second name beneath this folder.
    ///
    /// # Errors
    /// As for [`Self::make_file`], and if the file lies on another file system.
    pub fn link(&mut self, path: &RelativePath, file: &Path) -> io::Result<()> {
        let (folder, name) = path.split();
        let linked = self.enter(folder).and_then(|folder| {
            Ok(rustix::fs::linkat(
                CWD,
                file,
                folder,
                name,
                AtFlags::empty(),
            )?)
        });
        linked.map_err(|error| self.refused(path, &error))
    }

    /// Takes a file or a link away.
    ///
    /// # Errors
    /// If there is none, it is a folder, or a link is in the way.
    pub fn remove_file(&mut self, path: &RelativePath) -> io::Result<()> {
        let (folder, name) = path.split();
        let removed = self
            .enter(folder)
            .and_then(|folder| Ok(rustix::fs::unlinkat(folder, name, AtFlags::empty())?));
        removed.map_err(|error| cannot("remove", &self.path_of(path).display(), &error))
    }

    /// Writes a new file of an artifact. Its bytes go from file to file without passing through this process where the
    /// system can do that, and are shared where the file system can.
    ///
    /// # Errors
    /// As for [`Self::make_file`], and if the content is gone or has another length than the artifact says.
    pub fn write(&mut self, entry: &FileEntry) -> io::Result<()> {
        let mut file = self.make_file(&entry.path, entry.executable)?;
        let written = match &entry.content {
            Content::Memory(bytes) => {
                io::Write::write_all(&mut file, bytes).map(|()| bytes.len() as u64)
            }
            Content::Disk(_) => entry
                .content
                .open()
                .and_then(|mut content| io::copy(&mut content, &mut file)),
        };
        match written {
            Ok(bytes) if bytes == entry.size => Ok(()),
            Ok(bytes) => {
                let reason = format!("it has {bytes} bytes instead of {}", entry.size);
                Err(self.refused(
                    &entry.path,
                    &io::Error::new(io::ErrorKind::InvalidData, reason),
                ))
            }
            Err(error) => Err(self.refused(&entry.path, &error)),
        }
    }

    /// The folder of this path, made if it is not there.
    fn enter(&mut self, path: Option<&str>) -> io::Result<&OwnedFd> {
        let Some(path) = path else {
            return Ok(&self.root);
        };
        if self.last.as_ref().is_none_or(|(last, _)| last != path) {
            let mut inner: Option<OwnedFd> = None;
            for part in path.split('/') {
                inner = Some(enter(inner.as_ref().unwrap_or(&self.root), part)?);
            }
            self.last = inner.map(|folder| (path.to_owned(), folder));
        }
        Ok(self.last.as_ref().map_or(&self.root, |(_, folder)| folder))
    }

    fn refused(&self, path: &RelativePath, error: &io::Error) -> io::Error {
        cannot(
            "write",
            &format_args!("{}/{}", self.place.display(), Shown(path.as_str())),
            error,
        )
    }
}

fn enter(above: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    match rustix::fs::openat(above, name, OPEN_FOLDER, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => {}
        other => return Ok(other?),
    }
    match rustix::fs::mkdirat(above, name, Mode::from_raw_mode(0o777)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(rustix::fs::openat(above, name, OPEN_FOLDER, Mode::empty())?)
}

fn cannot(verb: &str, what: &dyn std::fmt::Display, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {verb} {what}: {error}"))
}

impl Files {
    /// Lays the files and folders out in a folder of their own, which must not be there yet.
    ///
    /// # Errors
    /// If the folder is there, or a file cannot be written.
    pub fn lay_out(&self, place: &Path) -> io::Result<()> {
        let mut folder = Folder::create(place)?;
        self.entries()
            .iter()
            .try_for_each(|entry| folder.write(entry))?;
        self.folders()
            .iter()
            .try_for_each(|path| folder.make_folder(path))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn path(text: &str) -> RelativePath {
        RelativePath::new(text).unwrap()
    }

    fn entry(name: &str, bytes: &[u8]) -> FileEntry {
        FileEntry::from_bytes(path(name), bytes.to_vec())
    }

    #[test]
    fn a_folder_comes_back_as_it_was() {
        let scratch = tempfile::tempdir().unwrap();
        let blob = scratch.path().join("blob");
        fs::write(&blob, b"from disk").unwrap();
        let disk = FileEntry {
            content: Content::Disk(blob.clone()),
            executable: true,
            ..entry("x/run", b"from disk")
        };
        let files = vec![
            entry("x/y/z", b"1"),
            entry("x.txt", b"2"),
            entry("x/a", b""),
            disk,
        ];
        let files = Files::with_folders(
            files,
            vec![path("empty/inner"), path("x/y"), path("x/none")],
        )
        .unwrap();
        let place = scratch.path().join("place");
        files.lay_out(&place).unwrap();
        assert_eq!(fs::read(place.join("x/y/z")).unwrap(), b"1");
        assert_eq!(fs::read(place.join("x/run")).unwrap(), b"from disk");
        let mode =
            |name: &str| fs::metadata(place.join(name)).unwrap().permissions().mode() & 0o100;
        assert_eq!((mode("x/run"), mode("x/a")), (0o100, 0));
        assert!(
            fs::read_dir(place.join("empty/inner"))
                .unwrap()
                .next()
                .is_none()
        );
        assert!(place.join("x/none").is_dir());
        let again = files.lay_out(&place).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists, "{again}");
        fs::write(&blob, b"longer than before").unwrap();
        let changed = files
            .lay_out(&scratch.path().join("other"))
            .unwrap_err()
            .to_string();
        assert!(
            changed.ends_with("x/run: it has 18 bytes instead of 9"),
            "{changed}"
        );
    }

    #[test]
    fn nothing_is_followed_and_nothing_overwritten() {
        let scratch = tempfile::tempdir().unwrap();
        let (inside, outside) = (
            scratch.path().join("inside"),
            scratch.path().join("outside"),
        );
        fs::create_dir_all(&inside).unwrap();
        fs::create_dir_all(outside.join("deep")).unwrap();
        fs::write(outside.join("file"), b"mine").unwrap();
        symlink(&outside, inside.join("folder")).unwrap();
        symlink(outside.join("file"), inside.join("name")).unwrap();
        symlink(outside.join("new"), inside.join("dangling")).unwrap();
        fs::write(inside.join("taken"), b"mine").unwrap();
        let mut folder = Folder::open(&inside).unwrap();
        for name in [
            "folder/x",
            "folder/deep/x",
            "name",
            "dangling",
            "taken",
            "taken/x",
            "name/x",
            "dangling/x",
        ] {
            let error = folder.write(&entry(name, b"evil")).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
            assert!(
                folder.link(&path(name), &outside.join("file")).is_err(),
                "{name}"
            );
        }
        assert!(folder.remove_file(&path("folder/file")).is_err());
        folder.remove_file(&path("dangling")).unwrap();
        assert!(
            folder.make_folder(&path("folder/new")).is_err()
                && folder.make_folder(&path("folder")).is_err()
        );
        assert_eq!(fs::read(outside.join("file")).unwrap(), b"mine");
        assert_eq!(fs::read(inside.join("taken")).unwrap(), b"mine");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 2);
        folder
            .link(&path("a/b/linked"), &outside.join("file"))
            .unwrap();
        folder.write(&entry("a/b/c", b"fine")).unwrap();
        assert_eq!(fs::read(inside.join("a/b/linked")).unwrap(), b"mine");
    }

    #[test]
    fn content_that_is_no_plain_file_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        fs::write(scratch.path().join("secret"), b"secret").unwrap();
        symlink(scratch.path().join("secret"), scratch.path().join("link")).unwrap();
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(
            CWD,
            scratch.path().join("pipe"),
            rustix::fs::FileType::Fifo,
            mode,
            0,
        )
        .unwrap();
        for name in ["link", "pipe", "."] {
            let content = Content::Disk(scratch.path().join(name));
            assert!(content.open().is_err() && content.read().is_err(), "{name}");
        }
    }
}
