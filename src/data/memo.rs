//! The sums of raw files, remembered, so that a run that changes nothing reads no data.
//!
//! A file is known again by device, inode, size, and the times of its last change. A file that changed just before it
//! was hashed could change once more within the same tick of the file system's clock and look the same, so it is not
//! remembered until it has rested (git calls such entries racily clean).
//!
//! The memo is an append-only text file, one line a file, each with its own check. Lines that are torn, damaged
//! or of another version are skipped; writers that collide at worst cost one another a line. Losing it costs time only.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use contract::artifact::Digest;
use sha2::Digest as _;

use super::{DataError, Identity};
use crate::cache::{append_plain, read_plain};

/// First word of each line; raised with the format.
const VERSION: &str = "f1";
/// Bytes that are read at once.
const BLOCK: usize = 1 << 20;
/// The memo is written again when it has more lines than this and half of them are out of date.
const MOST_STALE: usize = 4096;

/// Sums and size of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileDigest {
    pub blake3: Digest,
    pub sha256: [u8; 32],
    pub bytes: u64,
}

impl FileDigest {
    /// The sha256 sum as 64 hexadecimal digits.
    pub fn sha256_text(&self) -> String {
        hexadecimal(&self.sha256)
    }
}

/// Sums of files by identity. Safe to share between threads and processes.
#[derive(Debug)]
pub struct Memo {
    path: Option<PathBuf>,
    known: Mutex<HashMap<Identity, FileDigest>>,
}

impl Memo {
    /// Opens the memo in this file, which need not exist. What cannot be read is as if it were not there.
    pub fn open(path: &Path) -> Self {
        let text = read_plain(path).unwrap_or_default();
        let (mut known, mut lines) = (HashMap::new(), 0);
        for line in text.split(|byte| *byte == b'\n') {
            lines += usize::from(!line.is_empty());
            known.extend(parse(line));
        }
        let memo = Self {
            path: Some(path.to_owned()),
            known: Mutex::new(known),
        };
        memo.compact(lines);
        memo
    }

    /// A memo that is forgotten with the process.
    pub fn in_memory() -> Self {
        Self {
            path: None,
            known: Mutex::default(),
        }
    }

    /// The sums of a file, from memory where its identity is known.
    ///
    /// # Errors
    /// If the file cannot be read, or changes while it is read.
    pub fn digest(&self, path: &Path) -> Result<FileDigest, DataError> {
        self.look(path).map(|(digest, _)| digest)
    }

    /// The sums of a file, and the identity by which it is known again: as long as it has that, it has these sums.
    /// There is none for a file that changed just now.
    ///
    /// # Errors
    /// If the file cannot be read, or changes while it is read.
    pub fn look(&self, path: &Path) -> Result<(FileDigest, Option<Identity>), DataError> {
        let identity = Identity::at(path).map_err(DataError::io("cannot read", path))?;
        if let Some(digest) = self.known().get(&identity) {
            return Ok((*digest, Some(identity)));
        }
        let (identity, digest) = hash_unchanging(path)?;
        let rested = identity.has_rested(now());
        if rested {
            self.remember(identity, digest);
        }
        Ok((digest, rested.then_some(identity)))
    }

    /// The sums of a file as it is on the disk, whatever is remembered.
    ///
    /// # Errors
    /// If the file cannot be read, or changes while it is read.
    pub fn fresh_digest(&self, path: &Path) -> Result<FileDigest, DataError> {
        hash_unchanging(path).map(|(_, digest)| digest)
    }

    fn remember(&self, identity: Identity, digest: FileDigest) {
        self.known().insert(identity, digest);
        let Some(path) = &self.path else { return };
        // A memo that cannot be written is no reason to fail: the next run hashes again.
        let _ = append(path, &format(&identity, &digest));
    }

    /// Replaces a file that is mostly out of date.
    fn compact(&self, lines: usize) {
        let known = self.known();
        let Some(path) = &self.path else { return };
        if lines <= MOST_STALE || lines <= 2 * known.len() {
            return;
        }
        let all = known.iter();
        let mut text: Vec<String> = all
            .map(|(identity, digest)| format(identity, digest))
            .collect();
        text.sort_unstable();
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        let written = std::fs::write(&temporary, text.concat());
        if written
            .and_then(|()| std::fs::rename(&temporary, path))
            .is_err()
        {
            let _ = std::fs::remove_file(&temporary);
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Identity, FileDigest>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One line in one write, which the system does not tear apart on a local file system.
fn append(path: &Path, line: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = append_plain(path)?;
    // After a torn line a fresh one must begin.
    let mut text = String::with_capacity(line.len() + 1);
    if !ends_with_line(&mut file)? {
        text.push('\n');
    }
    text.push_str(line);
    file.write_all(text.as_bytes())
}

fn ends_with_line(file: &mut File) -> std::io::Result<bool> {
    use std::os::unix::fs::FileExt;
    let length = file.metadata()?.len();
    let mut last = [b'\n'];
    if length > 0 {
        file.read_exact_at(&mut last, length - 1)?;
    }
    Ok(last == [b'\n'])
}

fn format(identity: &Identity, digest: &FileDigest) -> String {
    let Identity {
        device,
        inode,
        size,
        modified,
        changed,
    } = identity;
    let sums = format!("{} {}", digest.blake3, digest.sha256_text());
    let body = format!("{VERSION} {device} {inode} {size} {modified} {changed} {sums}");
    format!("{body} {}\n", check_of(body.as_bytes()))
}

fn parse(line: &[u8]) -> Option<(Identity, FileDigest)> {
    let text = std::str::from_utf8(line).ok()?;
    let (body, check) = text.rsplit_once(' ')?;
    if check != check_of(body.as_bytes()) {
        return None;
    }
    let words: Vec<&str> = body.split(' ').collect();
    let [
        VERSION,
        device,
        inode,
        size,
        modified,
        changed,
        blake3,
        sha256,
    ] = words[..]
    else {
        return None;
    };
    let identity = Identity {
        device: device.parse().ok()?,
        inode: inode.parse().ok()?,
        size: size.parse().ok()?,
        modified: modified.parse().ok()?,
        changed: changed.parse().ok()?,
    };
    Some((
        identity,
        FileDigest {
            blake3: blake3.parse().ok()?,
            sha256: bytes_of(sha256)?,
            bytes: identity.size,
        },
    ))
}

/// A few digits that tell a whole line from a torn one.
fn check_of(body: &[u8]) -> String {
    Digest::of_bytes(body).to_string()[..8].to_owned()
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes_of(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut bytes = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
    }
    Some(bytes)
}

fn now() -> i128 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_nanos() as i128
}

/// Hashes a file and makes sure that it was one and the same from the first byte to the last.
fn hash_unchanging(path: &Path) -> Result<(Identity, FileDigest), DataError> {
    for _ in 0..3 {
        let failed = || DataError::io("cannot read", path);
        let mut file = File::open(path).map_err(failed())?;
        let before = Identity::of(&file.metadata().map_err(failed())?);
        let digest = hash(&mut file, before.size).map_err(failed())?;
        let after = Identity::at(path).map_err(failed())?;
        if before == after && digest.bytes == before.size {
            return Ok((before, digest));
        }
    }
    let changes = std::io::Error::other("it changes while it is being read");
    Err(DataError::io("cannot read", path)(changes))
}

/// Both sums in one pass, at the same time.
fn hash(file: &mut File, size: u64) -> std::io::Result<FileDigest> {
    let mut fast = blake3::Hasher::new();
    let mut common = sha2::Sha256::new();
    let mut buffer = vec![0; BLOCK.min(size as usize + 1)];
    let mut bytes = 0;
    loop {
        let mut filled = 0;
        while filled < buffer.len() {
            match file.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if filled == 0 {
            break;
        }
        let block = &buffer[..filled];
        rayon::join(|| fast.update(block), || common.update(block));
        bytes += filled as u64;
    }
    Ok(FileDigest {
        blake3: Digest(*fast.finalize().as_bytes()),
        sha256: common.finalize().into(),
        bytes,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Makes a file look as if it had rested. Its change time stays, so the identity is made by hand.
    fn rested(memo: &Memo, path: &Path) -> Identity {
        let (identity, digest) = hash_unchanging(path).unwrap();
        memo.remember(identity, digest);
        identity
    }

    fn folder_with(content: &[u8]) -> (tempfile::TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("data.txt");
        std::fs::write(&file, content).unwrap();
        let memo = folder.path().join("memo");
        (folder, file, memo)
    }

    #[test]
    fn sums_are_the_known_ones() {
        let (_folder, file, _) = folder_with(b"abc");
        let digest = Memo::in_memory().digest(&file).unwrap();
        assert_eq!(
            digest.sha256_text(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(digest.blake3, Digest::of_bytes(b"abc"));
        let long: Vec<u8> = (0..3_000_000_u32)
            .map(|index| (index % 251) as u8)
            .collect();
        std::fs::write(&file, &long).unwrap();
        let digest = Memo::in_memory().digest(&file).unwrap();
        assert_eq!(digest.blake3, Digest::of_bytes(&long));
        assert_eq!(digest.sha256, <[u8; 32]>::from(sha2::Sha256::digest(&long)));
    }

    #[test]
    fn what_is_remembered_survives_the_process() {
        let (_folder, file, path) = folder_with(b"abc");
        let identity = rested(&Memo::open(&path), &file);
        // Poisoned on purpose: if the memo answers, it is this answer.
        let wrong = FileDigest {
            blake3: Digest([7; 32]),
            sha256: [9; 32],
            bytes: 3,
        };
        append(&path, &format(&identity, &wrong)).unwrap();
        assert_eq!(
            Memo::open(&path).digest(&file).unwrap(),
            wrong,
            "the later line wins and no byte is read"
        );
        assert_ne!(Memo::open(&path).fresh_digest(&file).unwrap(), wrong);
    }

    #[test]
    fn a_fresh_file_is_not_trusted() {
        let (_folder, file, path) = folder_with(b"abc");
        let memo = Memo::open(&path);
        memo.digest(&file).unwrap();
        assert!(
            !path.exists(),
            "nothing is remembered of a file that was just written"
        );
        let identity = Identity::of(&std::fs::metadata(&file).unwrap());
        let later = identity.modified.max(identity.changed);
        assert!(!identity.has_rested(later + 1_000_000_000));
        assert!(identity.has_rested(later + 3_000_000_000));
    }

    #[test]
    fn a_change_of_the_same_size_with_the_time_set_back_is_seen() {
        let (_folder, file, path) = folder_with(b"abc");
        let memo = Memo::open(&path);
        rested(&memo, &file);
        let modified = std::fs::metadata(&file).unwrap().modified().unwrap();
        std::thread::sleep(Duration::from_millis(20));
        std::fs::write(&file, b"abd").unwrap();
        File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_modified(modified)
            .unwrap();
        assert_eq!(memo.digest(&file).unwrap().blake3, Digest::of_bytes(b"abd"));
    }

    #[test]
    fn damage_costs_only_what_it_touches() {
        let (folder, file, path) = folder_with(b"abc");
        let other = folder.path().join("other.txt");
        std::fs::write(&other, b"other").unwrap();
        let memo = Memo::open(&path);
        let first = rested(&memo, &file);
        let second = rested(&memo, &other);
        let text = std::fs::read(&path).unwrap();
        // Every single flipped byte leaves at least one entry, and never a wrong one.
        for place in 0..text.len() {
            let mut damaged = text.clone();
            damaged[place] ^= 0x11;
            std::fs::write(&path, &damaged).unwrap();
            let known = Memo::open(&path).known.into_inner().unwrap();
            let kept = [first, second]
                .iter()
                .filter(|identity| known.contains_key(identity))
                .count();
            assert!(
                kept >= usize::from(text[place] != b'\n') && kept <= 2,
                "byte {place}"
            );
            assert!(
                known
                    .iter()
                    .all(|(identity, digest)| identity.size == digest.bytes
                        && [first, second].contains(identity))
            );
        }
        // A torn last line does not swallow the next one.
        std::fs::write(&path, &text[..text.len() - 10]).unwrap();
        rested(&Memo::open(&path), &other);
        assert_eq!(Memo::open(&path).known.into_inner().unwrap().len(), 2);
    }

    #[test]
    fn writers_that_collide_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memo");
        std::thread::scope(|scope| {
            for writer in 0..8_u64 {
                let path = &path;
                scope.spawn(move || {
                    let memo = Memo::open(path);
                    for inode in 0..50 {
                        let identity = Identity {
                            device: writer,
                            inode,
                            size: 1,
                            modified: 0,
                            changed: 0,
                        };
                        memo.remember(
                            identity,
                            FileDigest {
                                blake3: Digest([1; 32]),
                                sha256: [2; 32],
                                bytes: 1,
                            },
                        );
                    }
                });
            }
        });
        assert_eq!(Memo::open(&path).known.into_inner().unwrap().len(), 400);
    }

    #[test]
    fn stale_lines_are_swept_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memo");
        let digest = FileDigest {
            blake3: Digest([1; 32]),
            sha256: [2; 32],
            bytes: 1,
        };
        let line = |inode| {
            format(
                &Identity {
                    device: 1,
                    inode,
                    size: 1,
                    modified: 0,
                    changed: 0,
                },
                &digest,
            )
        };
        std::fs::write(
            &path,
            (0..=MOST_STALE as u64)
                .map(|index| line(index % 10))
                .collect::<String>(),
        )
        .unwrap();
        assert_eq!(Memo::open(&path).known.into_inner().unwrap().len(), 10);
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 10);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
