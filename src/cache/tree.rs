//! How the store looks at its own folder. Nothing in it is ever followed: a symbolic link is what it is, a file of a kind
//! that does not belong here, and so is a pipe or a device. Only the top of the store may be a link that the user made.
//! Everything that lists, reads, measures or removes something in a store does it through here.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::{CacheError, Key, Layout, ObjectRecord};

/// No action, ledger or record of a run comes near this length.
const LONGEST_RECORD: u64 = 256 * 1024 * 1024;

/// Files that were seen to be under way may go before they are looked at more closely; so may folders.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// How often a folder that is to be removed is emptied in vain, since somebody writes into it, before it counts as one that
/// cannot be removed.
const LOOKS: usize = 10;

/// What lies under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    /// A symbolic link, a pipe, a socket or a device: nothing of ours.
    Foreign,
}

/// What is known of a file without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub kind: Kind,
    pub bytes: u64,
    pub inode: u64,
    /// Last change of the content, by the file system's clock unless a program set it.
    pub modified: SystemTime,
    /// Last change of content, name or permissions; no program can set it.
    pub changed: SystemTime,
}

impl Seen {
    #[expect(
        clippy::useless_conversion,
        clippy::unnecessary_cast,
        reason = "the types differ between platforms"
    )]
    fn of(stat: &Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Folder,
            _ => Kind::Foreign,
        };
        Self {
            kind,
            bytes: u64::try_from(stat.st_size).unwrap_or_default(),
            inode: u64::from(stat.st_ino),
            modified: time(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            changed: time(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }
    }
}

fn time(seconds: i64, nanoseconds: i64) -> SystemTime {
    let seconds = Duration::from_secs(seconds.try_into().unwrap_or_default());
    UNIX_EPOCH + seconds + Duration::from_nanos(nanoseconds.try_into().unwrap_or_default())
}

/// Something below a folder.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub path: PathBuf,
    pub seen: Seen,
}

impl Found {
    /// The last part of its path.
    pub fn name(&self) -> Cow<'_, str> {
        last_part(&self.path)
    }
}

/// A folder of the store that is held open, so that what is done in it is done there and nowhere else.
#[derive(Debug)]
pub(super) struct Folder {
    handle: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// The folder at this path below `top`; `None` if it is not there, or if anything on the way is not a folder itself.
    /// `top` may be a link.
    pub fn open(top: &Path, folder: &Path) -> io::Result<Option<Self>> {
        match Self::open_step_by_step(top, folder) {
            Err(error) if is_gone(&error) || is_not_a_folder(&error) => Ok(None),
            other => other.map(Some),
        }
    }

    /// From one open folder into the next: a part of the path that is replaced by a link meanwhile leads nowhere else.
    fn open_step_by_step(top: &Path, folder: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut opened = Self {
            handle: rustix::fs::openat(CWD, top, flags, Mode::empty())?,
            path: top.to_owned(),
        };
        for name in folder.strip_prefix(top).map_err(io::Error::other)? {
            opened = opened.enter(name)?;
        }
        Ok(opened)
    }

    fn enter(&self, name: &OsStr) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(&self.handle, name, flags, Mode::empty())?;
        Ok(Self {
            handle,
            path: self.path.join(name),
        })
    }

    /// What lies in it, sorted by name, as it is on the disk or the server at this moment.
    pub fn entries(&self) -> io::Result<Vec<Found>> {
        self.refresh();
        let mut names: Vec<OsString> = Vec::new();
        for entry in Dir::read_from(&self.handle)? {
            let name = entry?.file_name().to_bytes().to_owned();
            if name != b"." && name != b".." {
                names.push(OsStr::from_bytes(&name).to_owned());
            }
        }
        names.sort();
        let mut entries = Vec::with_capacity(names.len());
        for name in names {
            match self.look(&name) {
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
                Ok(seen) => entries.push(Found {
                    path: self.path.join(name),
                    seen,
                }),
            }
        }
        Ok(entries)
    }

    fn entries_reversed(&self) -> Result<Vec<Found>, CacheError> {
        let entries = self.entries();
        let mut entries = entries.map_err(CacheError::io("list", &self.path))?;
        entries.reverse();
        Ok(entries)
    }

    fn look(&self, name: &OsStr) -> io::Result<Seen> {
        let stat = rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(Seen::of(&stat))
    }

    /// A network file system shows what it knew of a folder some time ago unless it is asked to look again.
    fn refresh(&self) {
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::StatxFlags;
            let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC;
            let _ = rustix::fs::statx(&self.handle, c"", flags, StatxFlags::BASIC_STATS);
        }
    }

    /// Removes what has this name: a link itself, a folder with all that is in it.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        if self.look(name)?.kind == Kind::Folder {
            return self.remove_folder(name);
        }
        Ok(rustix::fs::unlinkat(&self.handle, name, AtFlags::empty())?)
    }

    /// Removes a folder. What lies deeper is moved up into it bit by bit: however deep it goes, two folders are open at a time.
    fn remove_folder(&self, name: &OsStr) -> io::Result<()> {
        let top = self.enter_and_open(name)?;
        let (mut moved, mut looks_in_vain) = (0_u64, 0);
        loop {
            let before = moved;
            for entry in top.entries()? {
                let name = entry.path.file_name().unwrap_or_default();
                let removed = match entry.seen.kind {
                    Kind::Folder => top.flatten(name, &mut moved),
                    _ => Ok(rustix::fs::unlinkat(&top.handle, name, AtFlags::empty())?),
                };
                match removed {
                    Err(error) if is_gone(&error) => {}
                    other => other?,
                }
            }
            match rustix::fs::unlinkat(&self.handle, name, AtFlags::REMOVEDIR) {
                // What was moved up is next. Or somebody still writes into it.
                Err(Errno::NOTEMPTY | Errno::EXIST) if looks_in_vain < LOOKS => {
                    looks_in_vain += usize::from(moved == before);
                }
                other => return Ok(other?),
            }
        }
    }

    /// Removes a folder whose own folders go up into this one, under new names.
    fn flatten(&self, name: &OsStr, moved: &mut u64) -> io::Result<()> {
        let folder = self.enter_and_open(name)?;
        for entry in folder.entries()? {
            let name = entry.path.file_name().unwrap_or_default();
            if entry.seen.kind == Kind::Folder {
                folder.move_up(name, self, moved)?;
            } else {
                rustix::fs::unlinkat(&folder.handle, name, AtFlags::empty())?;
            }
        }
        let flags = AtFlags::REMOVEDIR;
        Ok(rustix::fs::unlinkat(&self.handle, name, flags)?)
    }

    fn move_up(&self, name: &OsStr, to: &Self, moved: &mut u64) -> io::Result<()> {
        // Only who may write into a folder may give it another parent.
        let _ = self.enter_and_open(name)?;
        loop {
            *moved += 1;
            match rustix::fs::renameat(&self.handle, name, &to.handle, format!("moved-{moved}")) {
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
                other => return Ok(other?),
            }
        }
    }

    /// Enters a folder in which everything may be changed from now on: programs leave folders that not even their owner may
    /// look into or take anything out of.
    fn enter_and_open(&self, name: &OsStr) -> io::Result<Self> {
        let folder = match self.enter(name) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                rustix::fs::chmodat(&self.handle, name, Mode::RWXU, AtFlags::empty())?;
                self.enter(name)?
            }
            other => other?,
        };
        let _ = rustix::fs::fchmod(&folder.handle, Mode::RWXU);
        Ok(folder)
    }
}

fn is_not_a_folder(error: &io::Error) -> bool {
    let number = Errno::from_io_error(error);
    matches!(number, Some(Errno::NOTDIR | Errno::LOOP))
}

/// Everything below a folder that is not a folder itself, sorted; nothing if the folder is not there or is not one.
pub(super) fn walk(top: &Path, folder: &Path) -> Result<Vec<Found>, CacheError> {
    let mut found = walk_with_folders(top, folder)?;
    found.retain(|found| found.seen.kind != Kind::Folder);
    Ok(found)
}

/// Everything below a folder, sorted, each folder before what lies in it. However deep it goes, two folders are open at a time.
fn walk_with_folders(top: &Path, folder: &Path) -> Result<Vec<Found>, CacheError> {
    let Some(mut last) = Folder::open(top, folder).map_err(CacheError::io("list", folder))? else {
        return Ok(Vec::new());
    };
    // What is to be looked at, the next one last.
    let (mut found, mut ahead) = (Vec::new(), last.entries_reversed()?);
    while let Some(entry) = ahead.pop() {
        if entry.seen.kind == Kind::Folder {
            let name = entry.path.file_name().unwrap_or_default();
            // As bytes: part by part, the comparison of long paths takes long.
            let is_here = entry.path.parent().map(Path::as_os_str) == Some(last.path.as_os_str());
            let opened = if is_here {
                last.enter(name).map(Some)
            } else {
                Folder::open(top, &entry.path)
            };
            match opened {
                // It went, or something else took its place.
                Ok(None) => {}
                Err(error) if is_gone(&error) || is_not_a_folder(&error) => {}
                Err(error) => return Err(CacheError::io("list", &entry.path)(error)),
                Ok(Some(opened)) => {
                    last = opened;
                    ahead.extend(last.entries_reversed()?);
                }
            }
        }
        found.push(entry);
    }
    Ok(found)
}

/// All files below a folder, sorted; none if the folder does not exist. No link is followed, that of the folder included.
///
/// # Errors
/// If a folder cannot be listed.
pub fn files_below(folder: &Path) -> Result<Vec<PathBuf>, CacheError> {
    let here = Path::new(".");
    let found = match (folder.parent(), folder.file_name()) {
        (Some(top), Some(_)) if top == Path::new("") => walk(here, &here.join(folder))?,
        (Some(top), Some(_)) => walk(top, folder)?,
        _ => walk(folder, folder)?,
    };
    Ok(found.into_iter().map(|found| found.path).collect())
}

/// Reads a small file whole: a regular one, not a link, of reasonable length.
///
/// # Errors
/// As for any file; what is not a regular file is invalid.
pub fn read_plain(path: &Path) -> io::Result<Vec<u8>> {
    let file = open_plain(path)?;
    let length = file.metadata()?.len();
    if length > LONGEST_RECORD {
        let reason = format!("{length} bytes are too many for a record");
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    file.take(LONGEST_RECORD).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens a regular file to read it and to write at its end, and makes it if it is not there. A link is not followed.
///
/// # Errors
/// As for any file; what is not a regular file is invalid.
pub fn append_plain(path: &Path) -> io::Result<File> {
    let mut options = options_for_plain();
    regular(options.append(true).read(true).create(true).open(path)?)
}

/// How a file of the store is opened: links are not followed, and a pipe without a writer does not block.
pub(super) fn options_for_plain() -> OpenOptions {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let mut options = File::options();
    options.custom_flags(flags.cast_signed());
    options
}

/// The file, if it is a regular one.
pub(super) fn regular(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(foreign())
    }
}

fn foreign() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is not a regular file")
}

/// Opens a regular file. A link is not followed, and a pipe that nobody writes into is not waited for.
pub(super) fn open_plain(path: &Path) -> io::Result<File> {
    match options_for_plain().read(true).open(path) {
        Err(error) if is_not_a_folder(&error) || is_unopenable(&error) => Err(foreign()),
        other => regular(other?),
    }
}

/// Opens a file of ours to give it another time.
pub(super) fn open_to_touch(path: &Path) -> io::Result<File> {
    options_for_plain().append(true).open(path)
}

/// A socket, or a device without a driver.
fn is_unopenable(error: &io::Error) -> bool {
    let number = Errno::from_io_error(error);
    matches!(number, Some(Errno::NXIO | Errno::NODEV))
}

impl Layout {
    /// What lies under a path of the store; `None` if nothing does, or if something on the way is not a folder itself.
    pub fn look_at(&self, path: &Path) -> Option<Metadata> {
        self.is_sound(path.parent()?)
            .then(|| fs::symlink_metadata(path).ok())?
    }

    /// The same of an object, for those who ask for many: whether its folder is one is found out once.
    pub(super) fn look_at_object(&self, record: &ObjectRecord) -> Option<Metadata> {
        let shard = &self.shards.objects[usize::from(record.object.0[0])];
        self.look_in(shard, &self.object(record))
    }

    /// The same of an action.
    pub(super) fn look_at_action(&self, key: &Key) -> Option<Metadata> {
        let shard = &self.shards.actions[usize::from(key.0.0[0])];
        self.look_in(shard, &self.action(key))
    }

    fn look_in(&self, is_folder: &AtomicBool, path: &Path) -> Option<Metadata> {
        if !is_folder.load(Ordering::Relaxed) {
            if !self.is_sound(path.parent()?) {
                return None;
            }
            is_folder.store(true, Ordering::Relaxed);
        }
        fs::symlink_metadata(path).ok()
    }

    /// Whether a regular file lies under a path of the store.
    pub fn holds(&self, path: &Path) -> bool {
        self.look_at(path).is_some_and(|found| found.is_file())
    }

    /// Whether everything from the top of the store to this folder is a folder, and no link to one.
    fn is_sound(&self, folder: &Path) -> bool {
        let mut below = folder.ancestors().take_while(|above| *above != self.root());
        below.all(|above| fs::symlink_metadata(above).is_ok_and(|metadata| metadata.is_dir()))
    }

    /// Opens a regular file of the store.
    ///
    /// # Errors
    /// As for any file; what is not a regular file, or lies behind a link, is invalid.
    pub fn open(&self, path: &Path) -> io::Result<File> {
        self.check_way(path)?;
        open_plain(path)
    }

    /// Reads a record of the store.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.check_way(path)?;
        read_plain(path)
    }

    fn check_way(&self, path: &Path) -> io::Result<()> {
        let parent = path.parent().unwrap_or(path);
        // A folder that is not there is the usual case of a file that is not there.
        if self.is_sound(parent) || !is_link_on_the_way(parent, self.root()) {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a folder on its way is a link",
        ))
    }

    /// Everything below one of the store's folders.
    pub(super) fn walk(&self, folder: &Path) -> Result<Vec<Found>, CacheError> {
        walk(self.root(), folder)
    }

    /// The same, folders included.
    pub(super) fn walk_with_folders(&self, folder: &Path) -> Result<Vec<Found>, CacheError> {
        walk_with_folders(self.root(), folder)
    }

    /// What lies in one of the store's folders, folders included.
    pub(super) fn entries(&self, folder: &Path) -> Result<Vec<Found>, CacheError> {
        let entries = match Folder::open(self.root(), folder) {
            Ok(None) => return Ok(Vec::new()),
            Ok(Some(opened)) => opened.entries(),
            Err(error) => Err(error),
        };
        entries.map_err(CacheError::io("list", folder))
    }

    /// The folders in a folder of the store, sorted.
    pub fn folders_in(&self, folder: &Path) -> Vec<PathBuf> {
        let mut found = self.entries(folder).unwrap_or_default();
        found.retain(|found| found.seen.kind == Kind::Folder);
        found.into_iter().map(|found| found.path).collect()
    }

    /// Removes something from the store, and nothing outside it. What is gone already is as good as removed.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn remove(&self, path: &Path) -> Result<(), CacheError> {
        let parent = path.parent().unwrap_or(path);
        let name = path.file_name().unwrap_or_default();
        let removed = Folder::open(self.root(), parent).and_then(|folder| match folder {
            Some(folder) => folder.remove(name),
            None => Ok(()),
        });
        match removed {
            Err(error) if is_gone(&error) => Ok(()),
            other => other.map_err(CacheError::io("remove", path)),
        }
    }

    /// Makes a folder of the store and those above it. What stands in the way within a folder of the store is set aside;
    /// one of the store's own folders that is a link is an error, since somebody made it on purpose.
    ///
    /// # Errors
    /// If the system refuses, or one of the store's own folders is a link.
    pub fn make(&self, folder: &Path) -> Result<(), CacheError> {
        if folder != self.root() && self.is_sound(folder) {
            return Ok(());
        }
        fs::create_dir_all(self.root()).map_err(CacheError::io("create", self.root()))?;
        let below = folder.ancestors();
        let mut below: Vec<&Path> = below.take_while(|above| *above != self.root()).collect();
        below.reverse();
        for each in below {
            match fs::symlink_metadata(each) {
                Ok(metadata) if metadata.is_dir() => continue,
                Ok(_) if each.parent() == Some(self.root()) => {
                    let path = each.to_owned();
                    return Err(CacheError::Foreign { path });
                }
                Ok(_) => drop(self.set_aside(each)?),
                Err(_) => {}
            }
            match fs::create_dir(each) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => other.map_err(CacheError::io("create", each))?,
            }
        }
        Ok(())
    }

    /// Makes a folder that was not there, and those above it. So nobody can have put something into it before.
    ///
    /// # Errors
    /// As for [`Self::make`], and if something is there already.
    pub fn make_new(&self, folder: &Path) -> Result<(), CacheError> {
        self.make(folder.parent().unwrap_or(folder))?;
        fs::create_dir(folder).map_err(CacheError::io("create", folder))
    }

    /// Writes a small file of the store in one step, in place of what is there, and makes the folders above it.
    ///
    /// # Errors
    /// As for [`Self::make`], and if the file cannot be written.
    pub fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), CacheError> {
        super::object::replace(self, path, bytes)
    }

    /// Opens a file of the store to read it and to write at its end, and makes it and the folders above it.
    ///
    /// # Errors
    /// As for [`Self::make`], and if there is something else than a regular file.
    pub fn append(&self, path: &Path) -> Result<File, CacheError> {
        self.make(path.parent().unwrap_or(path))?;
        append_plain(path).map_err(CacheError::io("open", path))
    }

    /// Moves something out of reach, for inspection; a link as a link, a folder with all that is in it.
    pub(super) fn set_aside(&self, path: &Path) -> Result<PathBuf, CacheError> {
        let quarantine = self.quarantine();
        if fs::symlink_metadata(&quarantine).is_ok_and(|metadata| !metadata.is_dir()) {
            self.remove(&quarantine)?;
        }
        if path == quarantine {
            return Ok(quarantine);
        }
        self.make(&quarantine)?;
        let unique = super::object::temporary(self);
        // Of an object, name and shard together are the digest.
        let shard = last_part(path.parent().unwrap_or(path));
        let aside = quarantine.join(format!("{shard}{}-{}", last_part(path), last_part(&unique)));
        match fs::rename(path, &aside) {
            Err(error) if !is_gone(&error) => Err(CacheError::io("set aside", path)(error)),
            _ => Ok(aside),
        }
    }
}

fn last_part(path: &Path) -> Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

/// Whether one of the folders from here up to the top is there and is no folder.
fn is_link_on_the_way(folder: &Path, top: &Path) -> bool {
    let mut above = folder.ancestors().take_while(|above| *above != top);
    above.any(|each| fs::symlink_metadata(each).is_ok_and(|metadata| !metadata.is_dir()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A store with a victim beside it.
    fn store() -> (tempfile::TempDir, Layout, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(&folder.path().join("store"));
        fs::create_dir_all(layout.objects().join("ab")).unwrap();
        let victim = folder.path().join("victim");
        fs::create_dir_all(victim.join("sub")).unwrap();
        fs::write(victim.join("sub/doc"), "precious").unwrap();
        (folder, layout, victim)
    }

    #[test]
    fn links_are_seen_and_never_followed() {
        let (_folder, layout, victim) = store();
        symlink(&victim, layout.objects().join("cd")).unwrap();
        symlink(victim.join("sub/doc"), layout.objects().join("ab/x")).unwrap();
        let found = layout.walk(&layout.objects()).unwrap();
        let names: Vec<_> = found
            .iter()
            .map(|found| found.path.strip_prefix(layout.objects()).unwrap())
            .collect();
        assert_eq!(names, [Path::new("ab/x"), Path::new("cd")]);
        assert!(found.iter().all(|found| found.seen.kind == Kind::Foreign));
        assert!(
            layout.look_at(&layout.objects().join("cd/sub")).is_none(),
            "nothing lies behind a link"
        );
        for path in ["ab/x", "cd/sub/doc"] {
            let error = layout.read(&layout.objects().join(path)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{path}: {error}");
        }
        for found in found {
            layout.remove(&found.path).unwrap();
        }
        layout.remove(&layout.objects().join("cd/sub/doc")).unwrap();
        assert_eq!(
            fs::read_to_string(victim.join("sub/doc")).unwrap(),
            "precious"
        );
        assert!(layout.walk(&layout.objects()).unwrap().is_empty());
    }

    #[test]
    fn a_folder_goes_with_its_links_and_not_with_what_they_lead_to() {
        let (_folder, layout, victim) = store();
        let shard = layout.objects().join("ab");
        fs::create_dir_all(shard.join("deep/er")).unwrap();
        symlink(&victim, shard.join("deep/link")).unwrap();
        fs::set_permissions(
            shard.join("deep/er"),
            std::os::unix::fs::PermissionsExt::from_mode(0o000),
        )
        .unwrap();
        layout.remove(&shard).unwrap();
        assert!(!shard.exists() && victim.join("sub/doc").exists());
    }

    #[test]
    fn what_stands_in_the_way_of_a_folder_is_set_aside_but_not_a_folder_of_the_store_itself() {
        let (_folder, layout, victim) = store();
        let shard = layout.objects().join("cd");
        symlink(&victim, &shard).unwrap();
        layout.make(&shard).unwrap();
        assert!(fs::symlink_metadata(&shard).unwrap().is_dir());
        assert_eq!(layout.entries(&layout.quarantine()).unwrap().len(), 1);
        symlink(&victim, layout.tmp()).unwrap();
        assert!(matches!(
            layout.make(&layout.tmp()),
            Err(CacheError::Foreign { .. })
        ));
        symlink(layout.root().parent().unwrap(), victim.join("store")).unwrap();
        let through = Layout::new(&victim.join("store"));
        assert_eq!(
            through.walk(through.root()).unwrap().len(),
            2,
            "the top itself may be a link"
        );
    }

    #[test]
    fn only_regular_files_of_reasonable_length_are_read() {
        let (_folder, layout, _) = store();
        let path = layout.objects().join("ab/x");
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert_eq!(
            layout.read(&path).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        layout.remove(&path).unwrap();
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(
            layout.read(&path).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        assert_eq!(
            layout
                .read(&path.with_extension("none"))
                .unwrap_err()
                .kind(),
            io::ErrorKind::NotFound
        );
        fs::write(&path, "record").unwrap();
        assert_eq!(layout.read(&path).unwrap(), b"record");
        assert_eq!(files_below(&layout.objects()).unwrap(), [path]);
    }

    /// A program can nest folders deeper than files may be open, and deeper than a path may be long.
    #[test]
    fn however_deep_folders_are_nested_they_are_seen_and_go() {
        const DEPTH: usize = 5000;
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        layout.make(&layout.tmp().join("deep")).unwrap();
        let mut inner = rustix::fs::openat(
            CWD,
            layout.tmp().join("deep"),
            OFlags::DIRECTORY,
            Mode::empty(),
        )
        .unwrap();
        let write = |inside: &OwnedFd, name: &str| {
            let flags = OFlags::CREATE | OFlags::WRONLY;
            rustix::fs::openat(inside, name, flags, Mode::RUSR).unwrap();
        };
        for level in 0..DEPTH {
            rustix::fs::mkdirat(&inner, "d", Mode::RWXU).unwrap();
            if level % 1000 == 0 {
                write(&inner, "moved-1");
                rustix::fs::mkdirat(&inner, "moved-2", Mode::RWXU).unwrap();
            }
            let next = rustix::fs::openat(&inner, "d", OFlags::DIRECTORY, Mode::empty()).unwrap();
            if level % 700 == 0 {
                // Neither may it be looked into, nor may anything be taken out of it.
                rustix::fs::fchmod(&inner, Mode::RUSR).unwrap();
            }
            inner = next;
        }
        write(&inner, "bottom");
        let is_root = rustix::process::geteuid().is_root();
        if is_root {
            let found = layout.walk(&layout.tmp()).unwrap();
            assert_eq!(found.len(), DEPTH / 1000 + 1);
            assert!(found.iter().any(|found| found.path.ends_with("d/bottom")));
        }
        layout.remove(&layout.tmp().join("deep")).unwrap();
        assert!(layout.entries(&layout.tmp()).unwrap().is_empty());
    }
}
