//! Processes that a program leaves behind: those of its group, and those that left the group for another session but are
//! still seen in its folder or hold its streams.

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
        // A stopped process hears nothing but SIGKILL until it continues.
        let _ = kill_process_group(self.0, signal);
        let _ = kill_process_group(self.0, Signal::CONT);
    }

    /// Whether a process of the group is alive. Only right once the first one is reaped.
    pub fn is_alive(self) -> bool {
        // What has ended and is not reaped by its parent, such as a container's first process, still counts for the kernel.
        test_kill_process_group(self.0).is_ok() && self.has_living_member()
    }

    fn has_living_member(self) -> bool {
        // Without `/proc`, as on macOS, the kernel's word has to do.
        let Some(processes) = listed() else {
            return true;
        };
        let own = self.0.as_raw_nonzero().get();
        let mut known = processes.into_iter().filter_map(Status::of);
        known.any(|status| status.group == own && status.is_alive)
    }
}

/// The numbers of all processes, where the system lists them.
fn listed() -> Option<Vec<i32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let name = entry.file_name();
        numbers.extend(name.to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    Some(numbers)
}

/// What tells that a process descends from a program.
#[derive(Debug)]
pub(super) struct Traces {
    /// The program's first process. What was there before it is not the program's.
    pub first: Pid,
    /// The folder that the program runs in, without links.
    pub folder: PathBuf,
    /// Its streams as they stand in `/proc/PID/fd`, if somebody still holds them.
    pub pipes: Vec<String>,
}

impl Traces {
    /// Processes that the program started and that have left its group.
    pub fn strays(&self) -> Vec<Pid> {
        let candidates = self.candidates().into_iter().filter_map(Pid::from_raw);
        candidates
            .filter(|process| self.is_stray(*process))
            .collect()
    }

    /// Numbers that were given to processes after the first one.
    fn candidates(&self) -> Vec<i32> {
        let first = self.first.as_raw_nonzero().get();
        if let Some(newest) = newest_number()
            && newest >= first
            && newest - first <= FEW
        {
            return (first + 1..=newest).collect();
        }
        // Numbers start again at the beginning when the last one is given, so the time decides.
        let started = Status::of(first).map(|status| status.started);
        let mut later = listed().unwrap_or_default();
        later.retain(|number| {
            Status::of(*number).is_some_and(|status| Some(status.started) >= started)
        });
        later
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
        // Those of other users cannot be listed, and are none of the program's.
        let Ok(open) = fs::read_dir(place.join("fd")) else {
            return false;
        };
        let mut targets = open.flatten().map(|entry| fs::read_link(entry.path()));
        targets.any(|target| {
            let target = target.unwrap_or_default();
            let mut pipes = self.pipes.iter();
            pipes.any(|pipe| target.as_os_str() == pipe.as_str())
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
    let Some(group) = text.lines().find_map(|line| line.strip_prefix("Tgid:")) else {
        return false;
    };
    place.file_name().is_some_and(|name| name == group.trim())
}

/// Sends a signal to each process.
pub(super) fn send_to_all(processes: &[Pid], signal: Signal) {
    for process in processes {
        if *process != rustix::process::getpid() {
            let _ = kill_process(*process, signal);
        }
    }
}

/// The name of a pipe in `/proc/PID/fd`.
pub(super) fn pipe_name(stream: impl std::os::fd::AsFd) -> Option<String> {
    let number = rustix::fs::fstat(stream).ok()?.st_ino;
    Some(format!("pipe:[{number}]"))
}

/// The number that was given last to a process or thread of this namespace.
fn newest_number() -> Option<i32> {
    let load = fs::read_to_string("/proc/loadavg").ok()?;
    load.split_whitespace().last()?.parse().ok()
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
