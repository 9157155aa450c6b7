//! Runs a program to its end, and no longer: what it says is passed on as it comes, it is stopped when the stage is to stop,
//! and what it leaves behind is ended with it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, waitid};

use super::group::{Group, Traces, pipe_name, send_to_all};
use super::log::{Log, Stream};
use super::program;
use super::report::{Report, progress};
use super::warm::{self, Copied, Imports};
use super::watchdog::Watched;
use contract::{StageContext, Trouble};

/// How often a running program is looked at, for the wish to stop it.
const POLL: Duration = Duration::from_millis(20);

/// How often, where the kernel does not say that a process has ended.
const BLIND_POLL: Duration = Duration::from_millis(1);

/// How long processes have to end when they are asked to.
const GRACE: Duration = Duration::from_millis(1000);

/// How long a program has that keeps checkpoints. Queues give two minutes.
const GRACE_TO_SAVE: Duration = Duration::from_secs(60);

/// How long processes are waited for that were ended. One that waits for a disk or a network may take longer.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// Bytes that are read at a time.
const PIECE: usize = 64 << 10;

/// Pieces that are read before anything else is looked at.
const PIECES: usize = 16;

/// A program that is to run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    /// The program and its arguments.
    pub arguments: &'a [String],
    /// All that it sees of the environment.
    pub variables: &'a BTreeMap<String, OsString>,
    /// Where it runs.
    pub folder: &'a Path,
    /// Whether its reports may be answered, on its standard input.
    pub is_answered: bool,
    /// Whether it may take its time when it is asked to end, for what it wants to save.
    pub saves: bool,
    /// What ends that of it which is out of our reach, such as a container, where the program has to be stopped.
    pub clears: Option<&'a [String]>,
    /// Where the first argument is an interpreter that may be started before it is needed: what it imports then.
    pub imports: Option<&'a Imports>,
}

/// Takes a report that is not about progress, and may answer it with a line.
pub(crate) type Answer<'a> = &'a mut dyn FnMut(&Report) -> Result<Option<String>, Trouble>;

/// Runs a program to its end.
///
/// # Errors
/// If it cannot be started, fails, or was stopped; or what `answer` says.
pub(crate) fn run_to_end(
    call: Call<'_>,
    context: &StageContext<'_>,
    answer: Answer<'_>,
) -> Result<(), Trouble> {
    context.check_cancelled()?;
    let arguments = call.arguments;
    let mut log = Log::new(context.host);
    let mut running = Running::start(call, context)?;
    let status = running.wait_for_end(&mut log, context, answer);
    log.finish();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(arguments, status, &log)),
        Err(stopped) => {
            let words = log.last_words();
            Err(if words.is_empty() {
                stopped
            } else {
                stopped.because(words)
            })
        }
    }
}

fn failed(arguments: &[String], status: ExitStatus, log: &Log<'_>) -> Trouble {
    let line = shortened(&arguments.join(" "));
    let mut error = Trouble::new(format!("`{line}` ended with {status}"));
    if status.signal() == Some(Signal::KILL.as_raw()) {
        error = error.hint(
            "it was killed from outside: most often since the memory of the machine or of the job was used up",
        );
    }
    let words = log.last_words();
    error.because(if words.is_empty() {
        "it said nothing about why".to_owned()
    } else {
        words
    })
}

/// A command line in a sentence: without line breaks, and not too long.
fn shortened(line: &str) -> String {
    const MOST: usize = 300;
    let mut shown = String::new();
    for (index, character) in line.chars().enumerate() {
        if index == MOST {
            shown.push('…');
            break;
        }
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Our ends of a program's streams.
pub(super) struct Streams {
    pub input: Option<ChildStdin>,
    pub output: Option<ChildStdout>,
    pub messages: Option<ChildStderr>,
}

/// The first process of a program.
enum First {
    Started {
        child: Child,
        /// Becomes readable when it ends, where the kernel has such a thing.
        end: Option<OwnedFd>,
    },
    Copied(Copied),
}

impl First {
    fn number(&self) -> Pid {
        match self {
            Self::Started { child, .. } => Pid::from_child(child),
            Self::Copied(copied) => copied.process,
        }
    }

    fn end(&self) -> Option<&OwnedFd> {
        match self {
            Self::Started { end, .. } => end.as_ref(),
            Self::Copied(copied) => Some(&copied.end),
        }
    }

    /// Whether it has ended. It is not reaped.
    fn has_ended(&self) -> bool {
        // Not reaped, its number stays its own, which is that of the group: a signal to the group reaches nobody else.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match self {
            Self::Started { .. } => {
                !matches!(waitid(WaitId::Pid(self.number()), options), Ok(None))
            }
            Self::Copied(copied) => copied.has_ended(),
        }
    }

    /// Reaps it.
    fn status(&mut self) -> std::io::Result<ExitStatus> {
        match self {
            Self::Started { child, .. } => child.wait(),
            Self::Copied(copied) => copied.status(),
        }
    }
}

/// A program at work.
struct Running {
    first: First,
    group: Group,
    streams: Streams,
    traces: Traces,
    buffer: Vec<u8>,
    /// How long it has when it is asked to end.
    grace: Duration,
    /// See [`Call::clears`].
    clears: Option<Command>,
    _watched: Watched,
}

impl Running {
    fn start(call: Call<'_>, context: &StageContext<'_>) -> Result<Self, Trouble> {
        let Call {
            arguments,
            variables,
            folder,
            saves,
            ..
        } = call;
        let Some((name, rest)) = arguments.split_first() else {
            return Err(Trouble::new("there is nothing to run"));
        };
        let program = program::find(name, variables, folder)?;
        // Links in the path are resolved, since `/proc/PID/cwd` has none.
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.into());
        // Before the program starts: were we killed in between, its folder would be all that is known of it.
        let mut watched = Watched::new(&folder);
        let copied = match call.imports {
            Some(imports) => warm::start(&program, imports, variables, &folder, context)?,
            None => None,
        };
        let (first, mut streams) = match copied {
            Some((copied, streams)) => (First::Copied(copied), streams),
            None => start_alone(&program, name, rest, call, &folder)?,
        };
        let number = first.number();
        watched.begin(number);
        let clears = match call.clears {
            Some([name, arguments @ ..]) => {
                let mut command = Command::new(program::find(name, variables, &folder)?);
                command.args(arguments).env_clear().envs(variables);
                command.stdin(Stdio::null());
                Some(command)
            }
            _ => None,
        };
        streams.output = streams.output.and_then(without_waiting);
        streams.messages = streams.messages.and_then(without_waiting);
        let traces = Traces {
            first: number,
            folder,
            pipes: Vec::new(),
        };
        Ok(Self {
            first,
            group: Group(number),
            streams,
            buffer: vec![0; PIECE],
            grace: if saves { GRACE_TO_SAVE } else { GRACE },
            clears,
            _watched: watched,
            traces,
        })
    }

    /// Waits for the end of the program, or for the wish to stop it.
    fn wait_for_end(
        &mut self,
        log: &mut Log<'_>,
        context: &StageContext<'_>,
        answer: Answer<'_>,
    ) -> Result<ExitStatus, Trouble> {
        while !self.first.has_ended() {
            if context.host.is_cancelled() {
                self.stop(log);
                return Err(Trouble::cancelled());
            }
            let is_told = self.first.end().is_some();
            self.wait(if is_told { POLL } else { BLIND_POLL });
            self.read(log);
            if let Err(trouble) = self.take_reports(log, context, answer) {
                self.stop(log);
                return Err(trouble);
            }
        }
        let status = self.first.status()?;
        self.read_rest(log);
        self.take_reports(log, context, answer)?;
        self.end_what_is_left(log);
        Ok(status)
    }

    /// Passes on what was reported.
    fn take_reports(
        &mut self,
        log: &mut Log<'_>,
        context: &StageContext<'_>,
        answer: Answer<'_>,
    ) -> Result<(), Trouble> {
        while let Some(report) = log.next_report() {
            if let Some(progress) = progress(&report) {
                context.host.progress(progress);
            } else if let Some(line) = answer(&report)?
                && let Some(input) = &mut self.streams.input
            {
                // A program that has ended meanwhile hears nothing; how it ended is said elsewhere.
                let _ = writeln!(input, "{line}").and_then(|()| input.flush());
            }
        }
        Ok(())
    }

    /// Waits until there is something to read, the program ends, or the time is over.
    fn wait(&self, most: Duration) {
        let mut sources = Vec::new();
        if let Some(stream) = &self.streams.output {
            sources.push(PollFd::new(stream, PollFlags::IN));
        }
        if let Some(stream) = &self.streams.messages {
            sources.push(PollFd::new(stream, PollFlags::IN));
        }
        if let Some(end) = self.first.end() {
            sources.push(PollFd::new(end, PollFlags::IN));
        }
        if sources.is_empty() {
            return std::thread::sleep(most);
        }
        let most = Timespec {
            tv_sec: 0,
            tv_nsec: most.subsec_nanos().into(),
        };
        let _ = poll(&mut sources, Some(&most));
    }

    /// Reads what is there, but not for ever: a program may say more than can be read.
    fn read(&mut self, log: &mut Log<'_>) {
        let Streams {
            output, messages, ..
        } = &mut self.streams;
        read_some(output, Stream::Output, &mut self.buffer, log);
        read_some(messages, Stream::Messages, &mut self.buffer, log);
    }

    /// Reads what the program left in its streams. A pipe holds little, so there is an end to it.
    fn read_rest(&mut self, log: &mut Log<'_>) {
        // One round reads a MiB, the most that a pipe holds; the second meets its end. Until the end would be too long:
        // a process that the program left behind may hold the stream open for ever.
        self.read(log);
        self.read(log);
    }

    /// Stops the program, which may take its time for what it wants to save.
    fn stop(&mut self, log: &mut Log<'_>) {
        self.group.send(Signal::TERM);
        let asked = Instant::now();
        while !self.first.has_ended() && asked.elapsed() < self.grace {
            self.wait(POLL);
            self.read(log);
        }
        if let Some(command) = &mut self.clears {
            // Whatever it says: it may have nothing to end.
            end_by(command);
        }
        self.group.send(Signal::KILL);
        let ended = Instant::now();
        while !self.first.has_ended() && ended.elapsed() < LAST_WAIT {
            self.wait(POLL);
            self.read(log);
        }
        if self.first.has_ended() {
            let _ = self.first.status();
            self.read_rest(log);
            self.end_what_is_left(log);
        }
    }

    /// Ends what the program left behind, and does not return before it has ended: outputs are read next.
    fn end_what_is_left(&mut self, log: &mut Log<'_>) {
        // As long as the group has a member, nobody else gets its number.
        let is_left = self.group.is_alive();
        if is_left {
            self.group.send(Signal::TERM);
            self.wait_for_group(GRACE, log);
            if self.group.is_alive() {
                self.group.send(Signal::KILL);
                self.wait_for_group(LAST_WAIT, log);
            }
        }
        // A stream at its end is held by nobody. One that is open names a process that left group and folder both.
        let pipes = &mut self.traces.pipes;
        pipes.extend(self.streams.output.as_ref().and_then(pipe_name));
        pipes.extend(self.streams.messages.as_ref().and_then(pipe_name));
        let strays = self.end_strays(log);
        if is_left || strays {
            log.remark("processes that the program left behind were ended");
        }
        (self.streams.output, self.streams.messages) = (None, None);
    }

    fn wait_for_group(&mut self, most: Duration, log: &mut Log<'_>) {
        let start = Instant::now();
        while self.group.is_alive() && start.elapsed() < most {
            // Its streams may be closed, and then there is nothing to wait for.
            std::thread::sleep(BLIND_POLL * 5);
            self.read(log);
        }
    }

    /// Ends processes that have left the program's group. Returns whether there were any.
    fn end_strays(&mut self, log: &mut Log<'_>) -> bool {
        let mut found = self.traces.strays();
        let any = !found.is_empty();
        let start = Instant::now();
        send_to_all(&found, Signal::TERM);
        while !found.is_empty() && start.elapsed() < LAST_WAIT {
            std::thread::sleep(BLIND_POLL * 5);
            self.read(log);
            found = self.traces.strays();
            if start.elapsed() > GRACE {
                send_to_all(&found, Signal::KILL);
            }
        }
        any
    }
}

/// Runs a command that ends something, but not for ever.
fn end_by(command: &mut Command) {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else {
        return;
    };
    let started = Instant::now();
    while started.elapsed() < LAST_WAIT * 2 {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(POLL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// Starts a program as a process of its own.
fn start_alone(
    program: &Path,
    name: &str,
    arguments: &[String],
    call: Call<'_>,
    folder: &Path,
) -> Result<(First, Streams), Trouble> {
    let mut command = Command::new(program);
    // Its own group, so that a stop reaches what the program started, and Ctrl-C at the terminal reaches only us: we
    // give the program time to save what it wants to save.
    command
        .arg0(name)
        .args(arguments)
        .current_dir(call.folder)
        .env_clear()
        .envs(call.variables)
        .process_group(0);
    // Nothing to read: a program that asks gets an end of file at once instead of waiting for an answer.
    command
        .stdin(if call.is_answered {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child =
        spawn(&mut command).map_err(|error| program::cannot_start(name, program, folder, error))?;
    let streams = Streams {
        input: child.stdin.take(),
        output: child.stdout.take(),
        messages: child.stderr.take(),
    };
    let end = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).ok();
    Ok((First::Started { child, end }, streams))
}

/// Starts a program. A copy that was just written counts as busy while another thread is starting a program: until that one is
/// under way, it has the file open, too.
fn spawn(command: &mut Command) -> std::io::Result<Child> {
    const TRIES: u32 = 100;
    for _ in 0..TRIES {
        match command.spawn() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(BLIND_POLL * 10)
            }
            other => return other,
        }
    }
    command.spawn()
}

/// Makes reads return at once where there is nothing.
fn without_waiting<S: AsFd>(stream: S) -> Option<S> {
    rustix::io::ioctl_fionbio(&stream, true).ok()?;
    Some(stream)
}

fn read_some<S: Read>(stream: &mut Option<S>, which: Stream, buffer: &mut [u8], log: &mut Log<'_>) {
    for _ in 0..PIECES {
        let Some(open) = stream else { return };
        match open.read(buffer) {
            Ok(0) => *stream = None,
            Ok(bytes) => log.take(which, &buffer[..bytes]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(_) => *stream = None,
        }
    }
}
