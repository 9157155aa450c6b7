//! Interpreters that wait with their packages imported. A stage gets a copy of one that has run nothing yet (`fork`), so it
//! starts at once and sees nothing of the stages before it. There is one for each environment, hardware and detector; the
//! side in Python is `python/runner/_warm.py`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, ErrorKind, IoSlice, PipeReader, PipeWriter, pipe};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown,
    SocketFlags, SocketType, recv, send, sendmsg, shutdown, socketpair,
};
use rustix::process::{Pid, PidfdFlags, Signal, getpid, kill_process_group, pidfd_open};
use serde::Deserialize;
use serde_json::{Value, json};

use super::package::PACKAGE;
use super::process::Streams;
use contract::{StageContext, Trouble};

/// How often the wish to stop is looked at.
const POLL: Duration = Duration::from_millis(20);

/// How long one has to end.
const GRACE: Duration = Duration::from_secs(1);

/// So many wait at once. The one that was used longest ago gives way.
const MOST: usize = 4;

/// The longest answer.
const ANSWER: usize = 256;

/// What an interpreter imports before it is asked for anything.
#[derive(Clone, Debug)]
pub(crate) struct Imports {
    /// Modules of the environment.
    pub modules: Vec<String>,
    /// Files of the user's, of which the modules count that they import.
    pub files: Vec<String>,
    /// Names of modules of the user's own.
    pub own: Vec<String>,
}

/// What makes two stages start from the same copy.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    interpreter: PathBuf,
    variables: BTreeMap<String, OsString>,
    modules: Vec<String>,
    own: Vec<String>,
    /// The text of each file.
    texts: Vec<Vec<u8>>,
}

/// An interpreter that waits.
struct Waiting {
    process: Child,
    socket: OwnedFd,
}

/// One that was started for a key, or the knowledge that it cannot be copied.
type Place = Arc<Mutex<Option<Waiting>>>;

struct Entry {
    key: Key,
    place: Place,
}

/// All of this process, the last used one last.
static ALL: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

/// A program that is a copy of an interpreter that waits.
pub(super) struct Copied {
    pub process: Pid,
    /// Becomes readable when the program ends.
    pub end: OwnedFd,
    from: Place,
}

#[derive(Deserialize)]
struct Ready {
    /// Threads of libraries that a copy would lack.
    threads: usize,
}

#[derive(Deserialize)]
struct Begun {
    process: i32,
}

#[derive(Deserialize)]
struct Reaped {
    status: i32,
}

/// Starts a stage in its folder, where that can be done with a copy; the first time the interpreter itself is started.
///
/// # Errors
/// If the stage is to stop.
pub(super) fn start(
    interpreter: &Path,
    imports: &Imports,
    variables: &BTreeMap<String, OsString>,
    folder: &Path,
    context: &StageContext<'_>,
) -> Result<Option<(Copied, Streams)>, Trouble> {
    // Some systems and sandboxes do not say when a process ends that is not a child of ours.
    if !cfg!(target_os = "linux") || pidfd_open(getpid(), PidfdFlags::empty()).is_err() {
        return Ok(None);
    }
    let Some(key) = Key::of(interpreter, imports, variables, folder) else {
        return Ok(None);
    };
    let (place, is_new) = place_of(&key);
    let mut waiting = locked(&place, context)?;
    if is_new {
        *waiting = begin(&key, imports, folder, context)?;
    }
    let Some(parent) = waiting.as_mut() else {
        return Ok(None);
    };
    match parent.copy(folder) {
        Ok((process, end, streams)) => {
            drop(waiting);
            let copied = Copied {
                process,
                end,
                from: place,
            };
            Ok(Some((copied, streams)))
        }
        Err(_) => {
            // The next stage starts another. Stages that are copies of this one keep it until they have ended.
            drop(waiting);
            forget(&place);
            Ok(None)
        }
    }
}

impl Copied {
    /// How it ended, once it has.
    ///
    /// # Errors
    /// If the interpreter that it was copied from is gone.
    pub fn status(&self) -> io::Result<ExitStatus> {
        let mut waiting = self.from.lock().unwrap_or_else(PoisonError::into_inner);
        let parent = waiting.as_mut().ok_or(ErrorKind::BrokenPipe)?;
        let number = self.process.as_raw_nonzero().get();
        let told: Reaped = parent.ask(&json!({"reap": number}), &[])?;
        Ok(ExitStatus::from_raw(told.status))
    }

    pub fn has_ended(&self) -> bool {
        is_readable(self.end.as_fd(), Duration::ZERO)
    }
}

impl Key {
    fn of(
        interpreter: &Path,
        imports: &Imports,
        variables: &BTreeMap<String, OsString>,
        folder: &Path,
    ) -> Option<Self> {
        let mut texts = Vec::new();
        for file in &imports.files {
            texts.push(std::fs::read(folder.join(file)).ok()?);
        }
        Some(Self {
            interpreter: interpreter.into(),
            variables: variables.clone(),
            modules: imports.modules.clone(),
            own: imports.own.clone(),
            texts,
        })
    }
}

/// The place of a key, and whether nobody has started anything there yet.
fn place_of(key: &Key) -> (Place, bool) {
    let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(index) = all.iter().position(|entry| entry.key == *key) {
        let entry = all.remove(index);
        let place = Arc::clone(&entry.place);
        all.push(entry);
        return (place, false);
    }
    // Whoever uses one keeps it until the stage has ended.
    while all.len() >= MOST {
        all.remove(0);
    }
    let place = Place::default();
    all.push(Entry {
        key: key.clone(),
        place: Arc::clone(&place),
    });
    (place, true)
}

fn forget(place: &Place) {
    let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|entry| !Arc::ptr_eq(&entry.place, place));
}

/// Waits for a place, or for the wish to stop.
fn locked<'a>(
    place: &'a Place,
    context: &StageContext<'_>,
) -> Result<MutexGuard<'a, Option<Waiting>>, Trouble> {
    loop {
        match place.try_lock() {
            Ok(waiting) => return Ok(waiting),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => {
                context.check_cancelled()?;
                std::thread::sleep(POLL / 10);
            }
        }
    }
}

/// Starts an interpreter and waits until it has imported what it is to. `None` where it cannot, or cannot be copied since a
/// library has started threads.
fn begin(
    key: &Key,
    imports: &Imports,
    folder: &Path,
    context: &StageContext<'_>,
) -> Result<Option<Waiting>, Trouble> {
    let files: Vec<_> = imports.files.iter().map(|file| folder.join(file)).collect();
    let about = json!({"modules": imports.modules, "files": files, "own": imports.own});
    let Ok((mine, its)) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    ) else {
        return Ok(None);
    };
    // In the root, so that it is in no stage's folder; in a group of its own, since Ctrl-C is not meant for it.
    let started = Command::new(&key.interpreter)
        .args(["-u", "-B", "-m", "runner._warm", &about.to_string()])
        .current_dir("/")
        .env_clear()
        .envs(&key.variables)
        .env("PYTHONPATH", folder.join(PACKAGE))
        .process_group(0)
        .stdin(its)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(process) = started else {
        return Ok(None);
    };
    let waiting = Waiting {
        process,
        socket: mine,
    };
    while !is_readable(waiting.socket.as_fd(), POLL) {
        context.check_cancelled()?;
    }
    let ready: io::Result<Ready> = waiting.answer();
    Ok(ready
        .is_ok_and(|ready| ready.threads == 0)
        .then_some(waiting))
}

impl Waiting {
    /// A copy that does the work of a stage: its number, what tells its end, and our ends of its streams.
    fn copy(&mut self, folder: &Path) -> io::Result<(Pid, OwnedFd, Streams)> {
        let (input, to): (PipeReader, PipeWriter) = pipe()?;
        let (output, from_output) = pipe()?;
        let (messages, from_messages) = pipe()?;
        let theirs = [input.as_fd(), from_output.as_fd(), from_messages.as_fd()];
        let begun: Begun = self.ask(&json!({"folder": folder}), &theirs)?;
        let process = Pid::from_raw(begun.process).ok_or(ErrorKind::InvalidData)?;
        let end = match pidfd_open(process, PidfdFlags::empty()) {
            Ok(end) => end,
            Err(error) => {
                // It must not work beside the one that is started in its place.
                let _ = kill_process_group(process, Signal::KILL);
                let _: io::Result<Reaped> = self.ask(&json!({"reap": begun.process}), &[]);
                return Err(error.into());
            }
        };
        let streams = Streams {
            input: Some(ChildStdin::from(OwnedFd::from(to))),
            output: Some(ChildStdout::from(OwnedFd::from(output))),
            messages: Some(ChildStderr::from(OwnedFd::from(messages))),
        };
        Ok((process, end, streams))
    }

    fn ask<T: for<'a> Deserialize<'a>>(
        &mut self,
        wish: &Value,
        files: &[BorrowedFd<'_>],
    ) -> io::Result<T> {
        let text = wish.to_string();
        if files.is_empty() {
            send(&self.socket, text.as_bytes(), SendFlags::NOSIGNAL)?;
        } else {
            let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
            let mut control = SendAncillaryBuffer::new(&mut room);
            control.push(SendAncillaryMessage::ScmRights(files));
            let parts = [IoSlice::new(text.as_bytes())];
            sendmsg(&self.socket, &parts, &mut control, SendFlags::NOSIGNAL)?;
        }
        self.answer()
    }

    fn answer<T: for<'a> Deserialize<'a>>(&self) -> io::Result<T> {
        let mut buffer = [0; ANSWER];
        let (_, length) = recv(&self.socket, &mut buffer[..], RecvFlags::empty())?;
        Ok(serde_json::from_slice(&buffer[..length])?)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // It tidies up what its packages left when nobody speaks to it any more; its copies are processes of their own.
        let _ = shutdown(&self.socket, Shutdown::Both);
        let asked = Instant::now();
        while asked.elapsed() < GRACE {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(POLL / 10);
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn is_readable(file: BorrowedFd<'_>, most: Duration) -> bool {
    let mut sources = [PollFd::new(&file, PollFlags::IN)];
    let most = Timespec {
        tv_sec: 0,
        tv_nsec: most.subsec_nanos().into(),
    };
    poll(&mut sources, Some(&most)).is_ok_and(|ready| ready > 0)
}
