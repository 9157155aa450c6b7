//! The secret of a store, with which values that must not be known are digested. A record, a lock, a bundle or a remote
//! holds such digests and never the secret, so nobody who reads one of them can find a short value by trying.
//!
//! The price: two stores have two secrets, so what depends on such a value is not shared between them, unless
//! `RUNNER_SECRET_SALT` gives both the same. A slow hash with a public salt would be shared everywhere, but a PIN of four
//! digits would still be found in minutes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::object::temporary;
use super::{CacheError, Layout};

/// The variable that stands in for the file: the same text gives the same digests in every store.
pub const VARIABLE: &str = "RUNNER_SECRET_SALT";

/// A shorter text could be found by trying.
const SHORTEST: usize = 16;

/// How often a secret is read that is not whole.
const READS: usize = 20;

/// How digests begin, so that they are told apart from values.
const PREFIX: &str = "secret:";

/// The secret of a store, found or made when it is first needed.
#[derive(Debug, Default)]
pub(super) struct Salt {
    bytes: OnceLock<[u8; 32]>,
    /// It was made by this process, and is in no file yet.
    is_new: AtomicBool,
    /// Whether a file may be written. Until then, a secret of this process alone must do.
    may_write: AtomicBool,
}

impl Salt {
    pub fn allow_writing(&self) {
        self.may_write.store(true, Ordering::Relaxed);
    }

    /// What is written down of a value: `secret:STORE:DIGEST`. `STORE` tells digests apart that cannot be compared.
    pub fn digest(&self, layout: &Layout, name: &str, value: &str) -> String {
        let salt = self.bytes(layout);
        let id = blake3::derive_key("runner: which secret a digest was made with", &salt);
        let mut hasher = blake3::Hasher::new_keyed(&salt);
        hasher
            .update(&(name.len() as u64).to_le_bytes())
            .update(name.as_bytes())
            .update(value.as_bytes());
        let id = u32::from_be_bytes([id[0], id[1], id[2], id[3]]);
        format!("{PREFIX}{id:08x}:{}", hasher.finalize())
    }

    /// The same secret, for a store that stands in for this one.
    pub fn for_another_store(&self, layout: &Layout) -> Self {
        Self {
            bytes: OnceLock::from(self.bytes(layout)),
            ..Self::default()
        }
    }

    fn bytes(&self, layout: &Layout) -> [u8; 32] {
        let salt = *self.bytes.get_or_init(|| {
            let known = given().or_else(|| read(&layout.salt()));
            known.unwrap_or_else(|| self.make(layout))
        });
        // A look at the store comes before anything is written to it.
        if self.may_write.load(Ordering::Relaxed) && self.is_new.swap(false, Ordering::Relaxed) {
            keep_or_warn(layout, &salt);
        }
        salt
    }

    /// A new secret. Where it may be kept, another process may have been first with its own.
    fn make(&self, layout: &Layout) -> [u8; 32] {
        let salt = random();
        if !self.may_write.load(Ordering::Relaxed) {
            self.is_new.store(true, Ordering::Relaxed);
            return salt;
        }
        keep_or_warn(layout, &salt);
        read(&layout.salt()).unwrap_or(salt)
    }
}

/// Keeps the secret; without it, what depends on secret variables is only found again by this process.
fn keep_or_warn(layout: &Layout, salt: &[u8; 32]) {
    let path = layout.salt();
    let wrong = match keep(layout, &path, salt) {
        Ok(()) if read(&path).is_some() => return,
        Ok(()) => format!("{} cannot be read", path.display()),
        Err(error) => error.to_string(),
    };
    tracing::warn!("{wrong}; what depends on a secret variable is computed again every time");
}

/// The secret that the user gives.
fn given() -> Option<[u8; 32]> {
    let text = std::env::var(VARIABLE).unwrap_or_default();
    if text.is_empty() {
        return None;
    }
    if text.len() < SHORTEST {
        tracing::warn!(
            "{VARIABLE} has fewer than {SHORTEST} characters and is not used: it could be guessed"
        );
        return None;
    }
    let context = "runner: the secret of a team";
    Some(blake3::derive_key(context, text.as_bytes()))
}

/// Whether a recorded value is such a digest.
pub fn is_digest_of_secret(recorded: &str) -> bool {
    recorded.trim_matches('"').starts_with(PREFIX)
}

/// Whether two recorded values are digests that were made with different secrets, so that nothing follows from their difference.
pub fn cannot_be_compared(before: &str, after: &str) -> bool {
    match (store_of(before), store_of(after)) {
        (Some(before), Some(after)) => before != after,
        _ => false,
    }
}

/// What tells the secret with which a digest was made.
fn store_of(recorded: &str) -> Option<&str> {
    let digest = recorded.trim_matches('"').strip_prefix(PREFIX)?;
    digest.split(':').next()
}

fn read(path: &Path) -> Option<[u8; 32]> {
    for _ in 0..READS {
        let metadata = fs::symlink_metadata(path).ok()?;
        if !metadata.is_file() {
            return None;
        }
        if let Ok(salt) = fs::read(path).ok()?.try_into() {
            return Some(salt);
        }
        // Somebody may be writing it.
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    // The system has no randomness only before it has started; digests are then of this moment alone.
    if getrandom::fill(&mut bytes).is_err() {
        let now = std::time::SystemTime::now();
        let moment = format!("{now:?} {}", std::process::id());
        bytes = blake3::derive_key("runner: a moment", moment.as_bytes());
    }
    bytes
}

/// Puts the secret where nobody else can read it; one that is there already stays.
fn keep(layout: &Layout, path: &Path, salt: &[u8; 32]) -> Result<(), CacheError> {
    use std::os::unix::fs::PermissionsExt;
    let aside = temporary(layout);
    layout.make(&layout.tmp())?;
    // Those who may write results may also digest what they depend on.
    let shared = fs::metadata(layout.root())
        .is_ok_and(|metadata| metadata.permissions().mode() & 0o020 != 0);
    let mode = if shared { 0o640 } else { 0o600 };
    create(&aside, salt, mode).map_err(CacheError::io("write", &aside))?;
    // A link cannot replace what is there: of several processes that make a secret, the first one's stays, whole.
    let placed = match fs::hard_link(&aside, path) {
        // The file system may know no second names.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => create(path, salt, mode),
        other => other,
    };
    let _ = fs::remove_file(&aside);
    match placed {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(CacheError::io("write", path)(error))
        }
        _ => Ok(()),
    }
}

/// Writes the secret into a new file. A reader that comes meanwhile finds a part of it.
fn create(path: &Path, salt: &[u8; 32], mode: u32) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(salt)
        .and_then(|()| file.sync_all())
        .inspect_err(|_| drop(fs::remove_file(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A salt as a new process finds it.
    fn salt(may_write: bool) -> Salt {
        let salt = Salt::default();
        salt.may_write.store(may_write, Ordering::Relaxed);
        salt
    }

    #[test]
    fn a_store_has_one_secret_and_two_stores_have_two() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [first, second] = [0, 1].map(|index| Layout::new(folders[index].path()));
        let digest = salt(true).digest(&first, "PIN", "4711");
        assert_eq!(salt(true).digest(&first, "PIN", "4711"), digest);
        assert_eq!(salt(false).digest(&first, "PIN", "4711"), digest);
        assert_ne!(salt(true).digest(&first, "PIN", "4712"), digest);
        assert_ne!(salt(true).digest(&first, "NIP", "4711"), digest);
        let other = salt(true).digest(&second, "PIN", "4711");
        assert!(cannot_be_compared(&digest, &format!("\"{other}\"")));
        assert!(!cannot_be_compared(
            &digest,
            &salt(true).digest(&first, "PIN", "1")
        ));
        assert!(!cannot_be_compared("\"a\"", "\"b\""));
    }

    #[test]
    fn the_secret_is_private_and_is_not_made_by_a_look() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        salt(false).digest(&layout, "A", "b");
        assert!(!layout.salt().exists());
        // A secret that was needed before anything might be written is kept as soon as it may.
        let early = salt(false);
        let digest = early.digest(&layout, "A", "b");
        early.allow_writing();
        assert_eq!(early.digest(&layout, "A", "b"), digest);
        assert_eq!(salt(false).digest(&layout, "A", "b"), digest);
        assert_eq!(
            fs::metadata(layout.salt()).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn without_second_names_the_first_secret_stays_too() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        layout.make(layout.root()).unwrap();
        create(&layout.salt(), &[7; 32], 0o600).unwrap();
        assert_eq!(
            create(&layout.salt(), &[8; 32], 0o600).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(read(&layout.salt()), Some([7; 32]));
        fs::write(layout.salt(), [7; 5]).unwrap();
        assert_eq!(read(&layout.salt()), None, "it is not whole");
    }
}
