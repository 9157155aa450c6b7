//! Objects: immutable files named by the blake3 of their bytes. Written aside, then renamed into place.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use stages::artifact::Digest;

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

/// Writes a file under `tmp/`, ready to be renamed.
pub(super) fn write_aside(layout: &Layout, bytes: &[u8]) -> Result<(PathBuf, File), CacheError> {
    write_with_mode(layout, bytes, 0o644)
}

/// The same for an object. Objects are read-only, so that no editor or script changes one by accident.
pub(super) fn write_object_aside(layout: &Layout, bytes: &[u8]) -> Result<(PathBuf, File), CacheError> {
    write_with_mode(layout, bytes, 0o444)
}

fn write_with_mode(layout: &Layout, bytes: &[u8], mode: u32) -> Result<(PathBuf, File), CacheError> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = temporary(layout);
    let open = || File::options().write(true).create_new(true).mode(mode).open(&path);
    let mut file = match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(layout.tmp()).map_err(CacheError::io("create", &layout.tmp()))?;
            open()
        }
        other => other,
    }
    .map_err(CacheError::io("create", &path))?;
    failpoint::pass();
    if let Err(error) = file.write_all(bytes) {
        let _ = fs::remove_file(&path);
        return Err(CacheError::io("write", &path)(error));
    }
    failpoint::pass();
    Ok((path, file))
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
    let found = Digest::of_bytes(&bytes);
    if found == *object {
        Ok(bytes)
    } else {
        let reason = format!("its {} bytes have the digest {}", bytes.len(), found.short());
        Err(CacheError::Damaged { object: *object, reason })
    }
}

/// Checks an object without keeping its bytes.
pub(super) fn check(path: &Path, object: &Digest) -> Result<(), CacheError> {
    read_verified(path, object).map(drop)
}
