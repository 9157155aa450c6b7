//! Leases: of several processes that need one key, one works and the others wait for its result.
//! A lease is a file that is created exclusively; its holder touches it every few seconds; one that was not touched for
//! long, or whose process is gone, may be taken over. Ages are read off the file system's own clock. Two holders at once
//! are possible in theory and harmless: actions are content-addressed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::object::{temporary, write_aside};
use super::tree::{open_to_touch, read_plain};
use super::{CacheError, Layout, failpoint};

/// How often holders touch their leases.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// A lease that was not touched for this long has lost its holder.
const EXPIRY: Duration = Duration::from_secs(30);

/// Who holds a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Holder {
    host: String,
    process: u32,
    /// When that process started, in clock ticks since boot: process ids are used again.
    started: u64,
    /// Unique to this acquisition.
    nonce: String,
}

impl Holder {
    pub(super) fn myself(nonce: &Path) -> Self {
        static STARTED: OnceLock<u64> = OnceLock::new();
        let process = std::process::id();
        let started = *STARTED.get_or_init(|| process_start(process).unwrap_or(0));
        let nonce = nonce.file_name().unwrap_or_default();
        Self {
            host: host().to_owned(),
            process,
            started,
            nonce: nonce.to_string_lossy().into_owned(),
        }
    }

    /// Whether its process is known to be gone; `false` where that cannot be seen from here.
    fn is_dead(&self) -> bool {
        self.host == host() && is_gone(self.process, self.started)
    }
}

/// Whether a process of this machine has ended that started at this time, as [`process_start`] says it; `false` where that
/// cannot be seen.
pub fn is_gone(process: u32, started: u64) -> bool {
    is_gone_as_seen(process, started, process_start(process))
}

fn is_gone_as_seen(process: u32, started: u64, seen: Option<u64>) -> bool {
    match seen {
        Some(seen) => seen != started,
        // Either the process is gone, or it belongs to another user and `/proc` hides it.
        None => !is_there(process),
    }
}

/// Whether there is a process of this number that has not ended, of any user.
fn is_there(process: u32) -> bool {
    let number = i32::try_from(process).unwrap_or_default();
    let Some(number) = rustix::process::Pid::from_raw(number) else {
        return false;
    };
    // The signal that does nothing: the answer is whether there is anybody to get it.
    let answer = rustix::process::test_kill_process(number);
    answer != Err(rustix::io::Errno::SRCH) && !has_ended(process)
}

/// Whether a process has ended and only waits for its parent to ask.
fn has_ended(process: u32) -> bool {
    stat_of(process).is_some_and(|fields| is_ended(&fields))
}

/// The fields of `/proc/PID/stat` from the third one on, the state: what comes before may hold blanks.
fn stat_of(process: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    Some(after_name.split_whitespace().map(str::to_owned).collect())
}

fn is_ended(fields: &[String]) -> bool {
    fields
        .first()
        .is_some_and(|state| state == "Z" || state == "X")
}

fn host() -> &'static str {
    static HOST: OnceLock<String> = OnceLock::new();
    HOST.get_or_init(find_host)
}

fn find_host() -> String {
    let machine = rustix::system::uname();
    let name = machine.nodename().to_string_lossy();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    // Containers may share a host name, and process ids mean something only within one process-id namespace.
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    format!("{name} {} {}", boot.trim(), namespace.display())
}

/// When a process started, in clock ticks since boot, which tells it from a later one of its id. Field 22 of
/// `/proc/PID/stat`; `None` if there is no such process, or it is a zombie.
pub fn process_start(process: u32) -> Option<u64> {
    let fields = stat_of(process).filter(|fields| !is_ended(fields))?;
    fields.get(22 - 3)?.parse().ok()
}

/// The outcome of an attempt to take a lease.
#[derive(Debug)]
pub enum LeaseAttempt {
    Taken(Lease),
    /// Somebody else works on the key.
    Held,
}

/// The right to work on a key, or to do something else that only one may do; given back when dropped.
#[derive(Debug)]
pub struct Lease {
    path: PathBuf,
    nonce: String,
    taken: Instant,
    /// Keeps the lease among those that the heartbeat touches.
    _beating: Option<Arc<PathBuf>>,
}

impl Lease {
    /// Tries once, without waiting, to have what is leased under this name. Without a heart it is a lease for an instant,
    /// which nobody touches.
    pub(super) fn acquire(
        layout: &Layout,
        name: &str,
        heart: Option<&Heart>,
    ) -> Result<LeaseAttempt, CacheError> {
        let path = layout.leases().join(name);
        layout.make(&layout.leases())?;
        let holder = Holder::myself(&temporary(layout));
        let mut created = create(&path, &holder);
        if matches!(&created, Err(error) if error.kind() == io::ErrorKind::AlreadyExists)
            && remove_if_stale(layout, &path)?
        {
            created = create(&path, &holder);
        }
        failpoint::pass();
        match created {
            Ok(()) => Ok(LeaseAttempt::Taken(Self {
                _beating: heart.map(|heart| heart.beat(&path)),
                path,
                nonce: holder.nonce,
                taken: Instant::now(),
            })),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(LeaseAttempt::Held),
            Err(error) => Err(CacheError::io("create", &path)(error)),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A lease that could have expired may be somebody else's by now.
        let certain = self.taken.elapsed() < EXPIRY / 2;
        if certain || read(&self.path).is_some_and(|holder| holder.nonce == self.nonce) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes the file and writes the holder into it. Exclusive creation is atomic on network file systems too; a reader
/// that comes between creation and writing sees a lease without a holder, which is a fresh one.
pub(super) fn create(path: &Path, holder: &Holder) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).open(path)?;
    file.write_all(&serde_json::to_vec(holder)?)
}

fn read(path: &Path) -> Option<Holder> {
    serde_json::from_slice(&read_plain(path).ok()?).ok()
}

/// Whether somebody holds the lease in this file: its process is not known to be gone, and it was touched not long ago.
/// `now` is read off the file system's clock, as the time of the touch is.
pub(super) fn is_held(path: &Path, now: SystemTime) -> bool {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return false;
    };
    let touched = metadata.modified().unwrap_or(now);
    let expired = now.duration_since(touched).is_ok_and(|age| age > EXPIRY);
    metadata.is_file() && !expired && !read(path).is_some_and(|holder| holder.is_dead())
}

/// How names in `tmp/` begin that belong to the process which holds this lease.
pub(super) fn holder_of(path: &Path) -> Option<String> {
    Some(read(path)?.nonce.rsplit_once('-')?.0.to_owned())
}

/// Takes a stale lease away.
pub(super) fn remove_if_stale(layout: &Layout, path: &Path) -> Result<bool, CacheError> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(true);
    };
    if !metadata.is_file() {
        // A link or a folder is nobody's lease.
        layout.set_aside(path)?;
        return Ok(true);
    }
    let Ok(touched) = metadata.modified() else {
        return Ok(true);
    };
    let holder = read(path);
    let now = clock_of(layout)?;
    let expired = now.duration_since(touched).is_ok_and(|age| age > EXPIRY);
    if !expired && !holder.as_ref().is_some_and(Holder::is_dead) {
        return Ok(false);
    }
    // Moved before it is removed, since of several that find it stale only one can move it.
    let grave = temporary(layout);
    if fs::rename(path, &grave).is_err() {
        return Ok(true);
    }
    // Another process may have taken it over between the look and the rename: then it gets its lease back.
    if read(&grave) != holder {
        let _ = fs::hard_link(&grave, path);
    }
    fs::remove_file(&grave).map_err(CacheError::io("remove", &grave))?;
    Ok(true)
}

/// The file system's own clock, read off a file made just now: hosts may disagree on the time.
pub(super) fn clock_of(layout: &Layout) -> Result<SystemTime, CacheError> {
    let (probe, file) = write_aside(layout, b"")?;
    let now = file.metadata().and_then(|metadata| metadata.modified());
    let _ = fs::remove_file(&probe);
    now.map_err(CacheError::io("read", &probe))
}

/// Gives a file the time of its file system's clock: that of this host may be slow.
pub(super) fn touch(file: &File) {
    let time = |nanoseconds| rustix::fs::Timespec {
        tv_sec: 0,
        tv_nsec: nanoseconds,
    };
    let times = rustix::fs::Timestamps {
        last_access: time(rustix::fs::UTIME_OMIT),
        last_modification: time(rustix::fs::UTIME_NOW),
    };
    let _ = rustix::fs::futimens(file, &times);
}

/// Touches the leases of this process as long as they are held.
#[derive(Debug)]
pub(super) struct Heart {
    leases: Arc<Mutex<Vec<Weak<PathBuf>>>>,
    started: Mutex<Option<Sender<()>>>,
}

impl Heart {
    pub fn new() -> Self {
        Self {
            leases: Arc::default(),
            started: Mutex::new(None),
        }
    }

    pub(super) fn beat(&self, path: &Path) -> Arc<PathBuf> {
        let path = Arc::new(path.to_owned());
        let mut leases = lock(&self.leases);
        leases.retain(|lease| lease.strong_count() > 0);
        leases.push(Arc::downgrade(&path));
        drop(leases);
        self.start();
        path
    }

    fn start(&self) {
        let mut started = lock(&self.started);
        if started.is_some() {
            return;
        }
        let (sender, receiver) = channel();
        let leases = Arc::clone(&self.leases);
        let thread = std::thread::Builder::new().name("heartbeat".into());
        if thread.spawn(move || beat(&leases, &receiver)).is_ok() {
            *started = Some(sender);
        }
    }
}

/// Touches the leases until the other end of the channel, which nothing is ever sent through, is dropped.
fn beat(leases: &Mutex<Vec<Weak<PathBuf>>>, end: &Receiver<()>) {
    while end.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
        for path in lock(leases).iter().filter_map(Weak::upgrade) {
            let _ = open_to_touch(&path).map(|file| touch(&file));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(layout: &Layout) -> LeaseAttempt {
        Lease::acquire(layout, "key", Some(&Heart::new())).unwrap()
    }

    #[test]
    fn one_holder_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        let LeaseAttempt::Taken(lease) = take(&layout) else {
            panic!("nobody holds it")
        };
        assert!(matches!(take(&layout), LeaseAttempt::Held));
        drop(lease);
        assert!(matches!(take(&layout), LeaseAttempt::Taken(_)));
    }

    #[test]
    fn a_lease_of_a_dead_process_or_an_old_one_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        let LeaseAttempt::Taken(lease) = take(&layout) else {
            panic!("nobody holds it")
        };
        let path = lease.path.clone();
        let mut holder = read(&path).unwrap();
        std::mem::forget(lease);

        holder.started += 1;
        fs::write(&path, serde_json::to_vec(&holder).unwrap()).unwrap();
        let LeaseAttempt::Taken(lease) = take(&layout) else {
            panic!("its process is gone")
        };
        std::mem::forget(lease);

        holder.host = "elsewhere".into();
        fs::write(&path, serde_json::to_vec(&holder).unwrap()).unwrap();
        assert!(
            matches!(take(&layout), LeaseAttempt::Held),
            "a process elsewhere may be alive"
        );
        let old = SystemTime::now() - EXPIRY - Duration::from_secs(1);
        File::options()
            .append(true)
            .open(&path)
            .unwrap()
            .set_modified(old)
            .unwrap();
        assert!(matches!(take(&layout), LeaseAttempt::Taken(_)));
    }

    /// With `hidepid`, or where there is no `/proc`, nothing is seen of other users' processes.
    #[test]
    fn a_process_that_cannot_be_seen_is_not_dead() {
        let (process, started) = (
            std::process::id(),
            process_start(std::process::id()).unwrap_or(0),
        );
        assert!(
            !is_gone_as_seen(process, started, None),
            "it is there, and hidden"
        );
        assert!(!is_gone(process, started));
        assert!(
            is_gone(process, started + 1),
            "its number is another's by now"
        );
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let ended = child.id();
        child.wait().unwrap();
        assert!(is_gone_as_seen(ended, started, None) && is_gone(ended, started));
    }
}
