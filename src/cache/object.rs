//! Objects: immutable files named by the blake3 of their bytes. Written aside, then renamed into place.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use contract::artifact::{Artifact, ArtifactError, ArtifactKind, ByteDigest, Digest};

use super::hold::Hold;
use super::tree::open_plain;
use super::{CacheError, Layout, ObjectRecord, failpoint};

/// A name in `tmp/` that no other process or thread uses.
pub(super) fn temporary(layout: &Layout) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    static TOKEN: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let token = TOKEN.get_or_init(|| {
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let nanoseconds = clock.map_or(0, |since| since.as_nanos());
        let machine = rustix::system::uname();
        let host = machine.nodename().to_string_lossy();
        format!("{host}-{}-{nanoseconds:x}", std::process::id())
    });
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    layout.tmp().join(format!("{token}-{number}"))
}

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

/// Bytes of an object that are gathered in memory. A shorter one needs no file until it is known to be new.
const PIECE: usize = 256 * 1024;

/// An object on its way into the store: in memory while it is short, under `tmp/` once it is long. It is hashed on its
/// way, so that its bytes need not be in memory as a whole. Unless it is placed, nothing stays of it.
pub(super) struct Draft<'a> {
    layout: &'a Layout,
    /// Neither hashed nor written yet.
    gathered: Vec<u8>,
    digest: ByteDigest,
    /// Bytes that went before the gathered ones.
    passed: u64,
    file: Option<(PathBuf, File)>,
    /// Why the file could not be written: what encodes the object passes on only that it could not.
    failure: Option<CacheError>,
}

impl<'a> Draft<'a> {
    /// Takes in what `write` writes.
    pub fn new(
        layout: &'a Layout,
        write: impl FnOnce(&mut (dyn Write + Send)) -> Result<(), ArtifactError>,
    ) -> Result<Self, CacheError> {
        let mut draft = Self {
            layout,
            gathered: Vec::new(),
            digest: ByteDigest::default(),
            passed: 0,
            file: None,
            failure: None,
        };
        let written = write(&mut draft);
        match (written, draft.failure.take()) {
            (Ok(()), None) => Ok(draft),
            (_, Some(failure)) => Err(failure),
            (Err(error), None) => Err(error.into()),
        }
    }

    /// blake3 of the bytes, which is the object's name, and their number.
    pub fn name(&self) -> (Digest, u64) {
        let mut digest = self.digest.clone();
        digest.update(&self.gathered);
        (digest.finish(), self.passed + self.gathered.len() as u64)
    }

    /// Gives the object its place, and holds it there.
    pub fn place(mut self, path: &Path, hold: &mut Hold) -> Result<File, CacheError> {
        self.spill()?;
        failpoint::pass();
        let Some((aside, file)) = self.file.take() else {
            let object = self.name().0;
            return Err(CacheError::Missing { object });
        };
        hold.place(self.layout, &aside, path)?;
        Ok(file)
    }

    /// Writes out what was gathered. Objects are read-only, so that no editor or script changes one by accident.
    fn spill(&mut self) -> Result<(), CacheError> {
        if self.file.is_none() {
            self.file = Some(create_aside(self.layout, 0o444)?);
            failpoint::pass();
        }
        if let Some((path, file)) = &mut self.file {
            file.write_all(&self.gathered)
                .map_err(CacheError::io("write", path))?;
        }
        self.digest.update(&self.gathered);
        self.passed += self.gathered.len() as u64;
        self.gathered.clear();
        Ok(())
    }
}

impl Write for Draft<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.gathered.len() + bytes.len() > PIECE
            && let Err(failure) = self.spill()
        {
            let told = io::Error::other(failure.to_string());
            self.failure.get_or_insert(failure);
            return Err(told);
        }
        let taken = bytes.len().min(PIECE);
        self.gathered.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if let Some((path, _)) = &self.file {
            let _ = fs::remove_file(path);
        }
    }
}

pub(super) fn create_aside(layout: &Layout, mode: u32) -> Result<(PathBuf, File), CacheError> {
    use std::os::unix::fs::OpenOptionsExt;
    layout.make(&layout.tmp())?;
    let path = temporary(layout);
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&path);
    Ok((path.clone(), file.map_err(CacheError::io("create", &path))?))
}

/// Renames into place, making the folder if it is not there yet. What stands in the way of either is set aside.
pub(super) fn rename_into(layout: &Layout, from: &Path, to: &Path) -> Result<(), CacheError> {
    layout.make(to.parent().unwrap_or(to))?;
    match fs::rename(from, to) {
        // The folder went, as an empty one may, or there is one where the file should be.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            layout.make(to.parent().unwrap_or(to))?
        }
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => drop(layout.set_aside(to)?),
        other => return other.map_err(CacheError::io("write", to)),
    }
    fs::rename(from, to).map_err(CacheError::io("write", to))
}

/// Replaces a small record in one step. Not synchronised: for files whose loss costs nothing but time.
pub(super) fn replace(layout: &Layout, to: &Path, bytes: &[u8]) -> Result<(), CacheError> {
    let (path, _) = write_aside(layout, bytes)?;
    rename_into(layout, &path, to).inspect_err(|_| drop(fs::remove_file(&path)))
}

/// Reads an object and checks that the bytes are those of its name.
pub(super) fn read_verified(layout: &Layout, record: &ObjectRecord) -> Result<Vec<u8>, CacheError> {
    let mut file = open_object(layout, record)?;
    let path = layout.object(record);
    let length = usize::try_from(record.bytes).unwrap_or_default();
    let mut bytes = Vec::with_capacity(length.min(MOST_AT_ONCE));
    let read = file.read_to_end(&mut bytes);
    read.map_err(CacheError::io("read", &path))?;
    same_object(&record.object, Digest::of_bytes(&bytes), bytes.len() as u64)?;
    Ok(bytes)
}

/// Memory for an object is asked for in such steps: what a record says of its length may not be so.
const MOST_AT_ONCE: usize = 64 * 1024 * 1024;

/// Checks an object without keeping its bytes.
pub(super) fn check(layout: &Layout, record: &ObjectRecord) -> Result<(), CacheError> {
    let file = open_object(layout, record)?;
    let (found, bytes) =
        Digest::of_reader(file).map_err(CacheError::io("read", &layout.object(record)))?;
    same_object(&record.object, found, bytes)
}

/// Opens an object that has at least the right length.
fn open_object(layout: &Layout, record: &ObjectRecord) -> Result<File, CacheError> {
    let (path, object) = (layout.object(record), record.object);
    let opened = layout.with_rescue(&path, || layout.open(&path));
    let file = as_object(opened, &path, object)?;
    let metadata = file.metadata().map_err(CacheError::io("read", &path))?;
    if metadata.len() != record.bytes {
        let reason = format!("it has {} bytes, not {}", metadata.len(), record.bytes);
        return Err(CacheError::Damaged { object, reason });
    }
    Ok(file)
}

/// What it means for an object that its file could or could not be opened.
fn as_object(opened: io::Result<File>, path: &Path, object: Digest) -> Result<File, CacheError> {
    opened.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => CacheError::Missing { object },
        io::ErrorKind::InvalidData => CacheError::Damaged {
            object,
            reason: error.to_string(),
        },
        _ => CacheError::io("read", path)(error),
    })
}

/// Checks a file that may become an object, or is one of which only the name is known. A link is not followed.
///
/// # Errors
/// If it is missing, or its bytes are not those of the name.
pub fn check_file(path: &Path, object: &Digest) -> Result<(), CacheError> {
    let file = as_object(open_plain(path), path, *object)?;
    let (found, bytes) = Digest::of_reader(file).map_err(CacheError::io("read", path))?;
    same_object(object, found, bytes)
}

/// The kind of artifact that an object is.
pub(super) fn kind_of(record: &ObjectRecord) -> Result<ArtifactKind, CacheError> {
    record.kind.ok_or_else(|| CacheError::Damaged {
        object: record.object,
        reason: "a blob stands where an artifact should".into(),
    })
}

/// The content of an artifact is that of which its record has the digest.
pub(super) fn same_content(record: &ObjectRecord, artifact: &Artifact) -> Result<(), CacheError> {
    let found = artifact.digest();
    if found == record.digest {
        return Ok(());
    }
    let (found, digest) = (found.short(), record.digest.short());
    Err(CacheError::Damaged {
        object: record.object,
        reason: format!("its content has the digest {found}, not {digest}"),
    })
}

fn same_object(object: &Digest, found: Digest, bytes: u64) -> Result<(), CacheError> {
    if found == *object {
        return Ok(());
    }
    Err(CacheError::Damaged {
        object: *object,
        reason: format!("its {bytes} bytes have the digest {}", found.short()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_in_pieces_has_the_name_of_the_whole() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        let content: Vec<u8> = (0..3 * PIECE + 17)
            .map(|index| (index % 251) as u8)
            .collect();
        for length in [0, 1, PIECE, PIECE + 1, content.len()] {
            let whole = &content[..length];
            for piece in [1000, PIECE - 1, 2 * PIECE] {
                let parts = |sink: &mut (dyn Write + Send)| {
                    Ok(whole
                        .chunks(piece)
                        .try_for_each(|part| sink.write_all(part))?)
                };
                let draft = Draft::new(&layout, parts).unwrap();
                assert_eq!(draft.name(), (Digest::of_bytes(whole), length as u64));
                let path = layout.object_named(&draft.name().0, "");
                draft.place(&path, &mut Hold::default()).unwrap();
                assert_eq!(fs::read(&path).unwrap(), whole);
                check_file(&path, &Digest::of_bytes(whole)).unwrap();
                assert!(matches!(
                    check_file(&path, &Digest::of_bytes(b"other")),
                    Err(CacheError::Damaged { .. })
                ));
            }
        }
    }

    #[test]
    fn what_is_not_placed_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        let long = vec![7; 3 * PIECE];
        drop(Draft::new(&layout, |sink| Ok(sink.write_all(&long)?)).unwrap());
        let failed = Draft::new(&layout, |sink| {
            sink.write_all(&long)?;
            Err(ArtifactError::MissingPart("it".into()))
        });
        assert!(matches!(
            failed,
            Err(CacheError::Artifact(ArtifactError::MissingPart(_)))
        ));
        assert_eq!(
            fs::read_dir(layout.tmp()).unwrap().count(),
            0,
            "long ones were there and went"
        );
        drop(
            Draft::new(&Layout::new(&folder.path().join("other")), |sink| {
                Ok(sink.write_all(b"short")?)
            })
            .unwrap(),
        );
        assert!(
            !folder.path().join("other").exists(),
            "a short one is never written"
        );
    }

    /// The error of the store comes through the encoder as it was.
    #[test]
    fn a_store_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("v1"), b"").unwrap();
        let layout = Layout::new(folder.path());
        let failed = Draft::new(&layout, |sink| Ok(sink.write_all(&vec![0; 2 * PIECE])?));
        assert!(
            matches!(&failed, Err(CacheError::Io { .. })),
            "{:?}",
            failed.err()
        );
    }
}
