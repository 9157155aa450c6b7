//! Processes that a program leaves behind: those of its group, and those that left the group for a session of their own but
//! are still seen in its folder or hold its streams.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group};

/// Up to so many process numbers are looked at one by one; listing all processes costs more.
const FEW: i32 = 4096;

/// The process group of one program, by the number of its first process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group(pub Pid);

impl Group {
    /// Asks every process of the group to end, or ends it.
    pub fn send(self, signal: Signal) {
        // A stopped process hears nothing but SIGKILL until it goes on.
        let _ = kill_process_group(self.0, signal);
        let _ = kill_process_group(self.0, Signal::CONT);
    }

    /// Whether a process of the group is alive. Only right once the first one is reaped.
    pub fn is_alive(self) -> bool {
        // What has ended and is not reaped by its parent, such as a container's first process, still counts for the kernel.
        test_kill_process_group(self.0).is_ok() && self.has_living_member()
    }

    fn has_living_member(self) -> bool {
        let Ok(listed) = fs::read_dir("/proc") else {
            return true;
        };
        let numbers = listed.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        numbers
            .filter_map(Status::of)
            .any(|status| status.group == self.0.as_raw_nonzero().get() && status.is_alive)
    }
}

/// What tells that a process descends from a program.
#[derive(Debug)]
pub(super) struct Traces {
    /// The program's first process. What was there before it is none of its own.
    pub first: Pid,
    /// The folder that the program runs in, without links.
    pub folder: PathBuf,
    /// Its streams as they stand in `/proc/PID/fd`, if somebody still holds them.
    pub pipes: Vec<String>,
}

impl Traces {
    /// Processes that the program started and that are in no group of its own any more.
    pub fn strays(&self) -> Vec<Pid> {
        self.candidates()
            .into_iter()
            .filter_map(Pid::from_raw)
            .filter(|process| self.is_stray(*process))
            .collect()
    }

    /// Numbers that were given to processes after the first one.
    fn candidates(&self) -> Vec<i32> {
        let first = self.first.as_raw_nonzero().get();
        match newest_number() {
            Some(newest) if newest >= first && newest - first <= FEW => {
                (first + 1..=newest).collect()
            }
            _ => {
                let listed = fs::read_dir("/proc").into_iter().flatten();
                let numbers =
                    listed.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
                let started = Status::of(first).map(|status| status.started);
                let is_later = |number: &i32| {
                    Status::of(*number).is_some_and(|status| Some(status.started) >= started)
                };
                numbers.filter(is_later).collect()
            }
        }
    }

    fn is_stray(&self, process: Pid) -> bool {
        let place = PathBuf::from(format!("/proc/{}", process.as_raw_nonzero()));
        let is_here =
            fs::read_link(place.join("cwd")).is_ok_and(|folder| folder.starts_with(&self.folder));
        if !is_here && !self.holds_pipe(&place) {
            return false;
        }
        let Some(status) = Status::of(process.as_raw_nonzero().get()) else {
            return false;
        };
        // Threads, among them our own, have numbers, too. And a child of ours in our session may be a program that another
        // stage is starting now: until it is under way it holds copies of all our files. Such a one still runs our own program
        // or is in the folder of its stage, beside this one. Others have come to us from a program that ended, where
        // we are the first process of a container.
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let own_session = rustix::process::getsid(None)
            .is_ok_and(|own| own.as_raw_nonzero().get() == status.session);
        let is_ours = status.parent == own && own_session;
        let may_be_starting =
            !is_here && is_ours && (self.is_in_a_folder_beside(&place) || runs_our_program(&place));
        if !is_process(&place) || may_be_starting {
            return false;
        }
        // Somebody who looks around in the folder from another terminal is not a stray.
        status.is_alive && (own_session || !status.has_terminal)
    }

    fn is_in_a_folder_beside(&self, place: &Path) -> bool {
        let beside = self.folder.parent().unwrap_or(&self.folder);
        fs::read_link(place.join("cwd")).is_ok_and(|folder| folder.starts_with(beside))
    }

    fn holds_pipe(&self, place: &Path) -> bool {
        if self.pipes.is_empty() {
            return false;
        }
        let open = fs::read_dir(place.join("fd")).into_iter().flatten();
        let mut targets = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        targets.any(|target| {
            self.pipes
                .iter()
                .any(|pipe| target.as_os_str() == pipe.as_str())
        })
    }
}

/// Whether a process runs the program that this one runs.
fn runs_our_program(place: &Path) -> bool {
    let [theirs, ours] =
        [place.join("exe"), PathBuf::from("/proc/self/exe")].map(|link| fs::read_link(link).ok());
    theirs == ours
}

/// Whether the number is that of a process, not of a thread.
fn is_process(place: &Path) -> bool {
    let text = fs::read_to_string(place.join("status")).unwrap_or_default();
    let group = text
        .lines()
        .find_map(|line| line.strip_prefix("Tgid:"))
        .map(str::trim);
    group.is_some() && group == place.file_name().and_then(|name| name.to_str())
}

/// Sends a signal to each process.
pub(super) fn send_to_all(processes: &[Pid], signal: Signal) {
    let own = rustix::process::getpid();
    let unique: BTreeSet<i32> = processes
        .iter()
        .map(|process| process.as_raw_nonzero().get())
        .collect();
    for process in unique
        .into_iter()
        .filter_map(Pid::from_raw)
        .filter(|process| *process != own)
    {
        let _ = kill_process(process, signal);
    }
}

/// The name of a pipe in `/proc/PID/fd`.
pub(super) fn pipe_name(stream: impl std::os::fd::AsFd) -> Option<String> {
    let number = rustix::fs::fstat(stream).ok()?.st_ino;
    Some(format!("pipe:[{number}]"))
}

/// The number that was given last to a process or thread of this namespace.
fn newest_number() -> Option<i32> {
    fs::read_to_string("/proc/loadavg")
        .ok()?
        .split_whitespace()
        .last()?
        .parse()
        .ok()
}

/// What `/proc/PID/stat` says.
struct Status {
    parent: i32,
    group: i32,
    session: i32,
    is_alive: bool,
    has_terminal: bool,
    /// In ticks since the machine was started.
    started: u64,
}

impl Status {
    fn of(process: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The name stands in parentheses and may hold anything.
        let (_, rest) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        Some(Self {
            is_alive: !matches!(*fields.first()?, "Z" | "X"),
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            has_terminal: *fields.get(4)? != "0",
            started: fields.get(19)?.parse().ok()?,
        })
    }
}
