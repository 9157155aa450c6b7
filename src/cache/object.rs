//! Objects: immutable files named by the blake3 of their bytes. Written aside, then renamed into place.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use stages::artifact::{ArtifactError, ByteDigest, Digest};

use super::{CacheError, Layout, failpoint};

/// A name in `tmp/` that no other process or thread uses.
pub(super) fn temporary(layout: &Layout) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    static TOKEN: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let token = TOKEN.get_or_init(|| {
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let nanoseconds = clock.map_or(0, |since| since.as_nanos());
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        format!("{host}-{}-{nanoseconds:x}", std::process::id())
    });
    layout.tmp().join(format!("{token}-{}", COUNTER.fetch_add(1, Ordering::Relaxed)))
}

/// Pieces in which objects are written. Long enough for the hash to work on several blocks at a time.
const PIECE: usize = 256 * 1024;

/// Writes a file under `tmp/`, ready to be renamed.
pub(super) fn write_aside(layout: &Layout, bytes: &[u8]) -> Result<(PathBuf, File), CacheError> {
    let (path, mut file) = create_aside(layout, 0o644)?;
    failpoint::pass();
    if let Err(error) = file.write_all(bytes) {
        let _ = fs::remove_file(&path);
        return Err(CacheError::io("write", &path)(error));
    }
    failpoint::pass();
    Ok((path, file))
}

/// An object that was written under `tmp/`, ready to be renamed.
#[derive(Debug)]
pub(super) struct Aside {
    pub path: PathBuf,
    pub file: File,
    /// blake3 of what was written: the object's name.
    pub object: Digest,
    pub bytes: u64,
}

/// Writes an object under `tmp/`; it is hashed on its way, so that its bytes need not be in memory as a whole. Objects
/// are read-only, so that no editor or script changes one by accident.
pub(super) fn write_object_aside(
    layout: &Layout,
    write: impl FnOnce(&mut (dyn Write + Send)) -> Result<(), ArtifactError>,
) -> Result<Aside, CacheError> {
    let (path, file) = create_aside(layout, 0o444)?;
    failpoint::pass();
    let mut sink = BufWriter::with_capacity(PIECE, Hashing { file, digest: ByteDigest::default(), bytes: 0 });
    let written = write(&mut sink).and_then(|()| Ok(sink.into_inner().map_err(io::IntoInnerError::into_error)?));
    match written {
        Ok(Hashing { file, digest, bytes }) => {
            failpoint::pass();
            Ok(Aside { path, file, object: digest.finish(), bytes })
        }
        Err(error) => {
            let _ = fs::remove_file(&path);
            Err(match error {
                ArtifactError::Io(error) => CacheError::io("write", &path)(error),
                other => CacheError::Artifact(other),
            })
        }
    }
}

fn create_aside(layout: &Layout, mode: u32) -> Result<(PathBuf, File), CacheError> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = temporary(layout);
    let open = || File::options().write(true).create_new(true).mode(mode).open(&path);
    let file = match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(layout.tmp()).map_err(CacheError::io("create", &layout.tmp()))?;
            open()
        }
        other => other,
    };
    let file = file.map_err(CacheError::io("create", &path))?;
    Ok((path, file))
}

/// A file that hashes and counts what is written to it.
struct Hashing {
    file: File,
    digest: ByteDigest,
    bytes: u64,
}

impl Write for Hashing {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let written = self.file.write(piece)?;
        self.digest.update(&piece[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Renames into place, making the folder if it is not there yet.
pub(super) fn rename_into(from: &Path, to: &Path) -> Result<(), CacheError> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = to.parent().unwrap_or(Path::new("."));
            fs::create_dir_all(parent).map_err(CacheError::io("create", parent))?;
            fs::rename(from, to).map_err(CacheError::io("write", to))
        }
        other => other.map_err(CacheError::io("write", to)),
    }
}

/// Replaces a small record in one step. Not synchronised: for files whose loss costs nothing but time.
pub(super) fn replace(layout: &Layout, to: &Path, bytes: &[u8]) -> Result<(), CacheError> {
    let (path, _) = write_aside(layout, bytes)?;
    rename_into(&path, to)
}

/// Reads an object and checks that the bytes are those of its name.
pub(super) fn read_verified(path: &Path, object: &Digest) -> Result<Vec<u8>, CacheError> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(CacheError::Missing { object: *object });
        }
        other => other.map_err(CacheError::io("read", path))?,
    };
    same_object(object, Digest::of_bytes(&bytes), bytes.len() as u64)?;
    Ok(bytes)
}

/// Checks an object without keeping its bytes.
pub(super) fn check(path: &Path, object: &Digest) -> Result<(), CacheError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(CacheError::Missing { object: *object }),
        other => other.map_err(CacheError::io("read", path))?,
    };
    let (found, bytes) = Digest::of_reader(file).map_err(CacheError::io("read", path))?;
    same_object(object, found, bytes)
}

fn same_object(object: &Digest, found: Digest, bytes: u64) -> Result<(), CacheError> {
    if found == *object {
        return Ok(());
    }
    Err(CacheError::Damaged { object: *object, reason: format!("its {bytes} bytes have the digest {}", found.short()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_in_pieces_has_the_name_of_the_whole() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        let content: Vec<u8> = (0..3 * PIECE + 17).map(|index| (index % 251) as u8).collect();
        for length in [0, 1, PIECE, PIECE + 1, content.len()] {
            let whole = &content[..length];
            let write =
                |sink: &mut (dyn Write + Send)| Ok(whole.chunks(1000).try_for_each(|part| sink.write_all(part))?);
            let aside = write_object_aside(&layout, write).unwrap();
            assert_eq!((aside.object, aside.bytes), (Digest::of_bytes(whole), length as u64));
            assert_eq!(fs::read(&aside.path).unwrap(), whole);
            check(&aside.path, &aside.object).unwrap();
            let other = check(&aside.path, &Digest::of_bytes(b"other")).unwrap_err();
            assert!(matches!(other, CacheError::Damaged { .. }), "{other}");
        }
    }

    #[test]
    fn what_cannot_be_written_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        let full = write_object_aside(&layout, |_| Err(io::Error::from(io::ErrorKind::StorageFull).into()));
        assert!(full.unwrap_err().hint().unwrap().contains("the disk is full"));
        assert_eq!(fs::read_dir(layout.tmp()).unwrap().count(), 0);
    }
}
