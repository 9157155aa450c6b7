//! A folder of its own for each test, and the program started in it with an environment that holds nothing but what
//! the test asks for. Every process ends within a time limit; one that does not is killed by its id.

use std::cell::Cell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// No command of the tests takes longer than this, on the slowest machine.
const LIMIT: Duration = Duration::from_secs(1_200);

/// How often a running process is looked at.
const POLL: Duration = Duration::from_millis(2);

/// A working folder with a store in it. Everything goes when the test ends.
pub struct TestEnvironment {
    /// The current folder of all commands.
    work: TempDir,
    /// What the commands print lies apart, so that a test sees every file that they make.
    printed: TempDir,
    count: Cell<usize>,
    variables: Vec<(String, String)>,
}

impl TestEnvironment {
    pub fn new() -> Self {
        let folder = || tempfile::tempdir().expect("the system has a folder for temporary files");
        Self {
            work: folder(),
            printed: folder(),
            count: Cell::new(0),
            variables: Vec::new(),
        }
    }

    /// An environment with one file in it, `pipeline.yaml`.
    pub fn with_pipeline(text: &str) -> Self {
        let environment = Self::new();
        environment.write("pipeline.yaml", text);
        environment
    }

    /// Sets an environment variable for all commands.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.variables.push((name.to_owned(), value.into()));
    }

    pub fn unset(&mut self, name: &str) {
        self.variables.retain(|(other, _)| other != name);
    }

    pub fn folder(&self) -> &Path {
        self.work.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// Writes a file below the working folder.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> String {
        let path = self.path(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The program, ready to be started in the working folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .args(arguments)
            .current_dir(self.folder())
            .env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
            .env("HOME", self.folder())
            .env("TMPDIR", self.printed.path());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts the program.
    pub fn spawn(&self, arguments: &[&str]) -> Running {
        self.start(self.command(arguments))
    }

    /// Starts a command of [`Self::command`], with what the test has changed about it.
    pub fn start(&self, mut command: Command) -> Running {
        let number = self.count.replace(self.count.get() + 1);
        let [out, err] =
            ["out", "err"].map(|name| self.printed.path().join(format!("{number}.{name}")));
        command.stdin(std::process::Stdio::null());
        command
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap());
        let line = format!("{command:?}");
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{line}: {error}"));
        Running {
            child,
            line,
            out,
            err,
            started: Instant::now(),
            ended: false,
        }
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Finished {
        self.spawn(arguments).wait()
    }

    /// Runs the program, which must succeed.
    pub fn succeed(&self, arguments: &[&str]) -> Finished {
        self.run(arguments).expect(0)
    }

    /// Runs the program with `--json`; its one line of output, parsed.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let finished = self.succeed(&[arguments, &["--json"]].concat());
        finished.json()
    }

    /// The latest run, as `runner show --json` tells it.
    pub fn latest(&self) -> Value {
        self.json(&["show"])
    }

    /// All files below a folder of the working folder, sorted.
    pub fn files(&self, folder: &str) -> Vec<PathBuf> {
        runner::cache::files_below(&self.path(folder)).unwrap()
    }

    /// Replaces what differs from run to run: the working folder.
    pub fn neutral(&self, text: &str) -> String {
        text.replace(&self.folder().display().to_string(), "[FOLDER]")
    }
}

/// The program under test: `RUNNER_UNDER_TEST` if it is set, as for a released binary, or the one just built.
pub fn program() -> PathBuf {
    std::env::var_os("RUNNER_UNDER_TEST")
        .map_or_else(|| env!("CARGO_BIN_EXE_runner").into(), PathBuf::from)
}

/// A started process. It is killed if the test ends before it does.
pub struct Running {
    child: Child,
    line: String,
    out: PathBuf,
    err: PathBuf,
    started: Instant,
    ended: bool,
}

impl Running {
    /// Waits for the end.
    pub fn wait(mut self) -> Finished {
        loop {
            if let Some(status) = self.poll() {
                return Finished {
                    status,
                    line: self.line.clone(),
                    stdout: text_of(&self.out),
                    stderr: text_of(&self.err),
                };
            }
            assert!(
                self.started.elapsed() < LIMIT,
                "{} ran longer than {LIMIT:?}",
                self.line
            );
            std::thread::sleep(POLL);
        }
    }

    fn poll(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().unwrap();
        self.ended |= status.is_some();
        status
    }

    /// What it has printed so far, whenever it is asked.
    pub fn stdout(&self) -> impl Fn() -> String + use<> {
        let out = self.out.clone();
        move || text_of(&out)
    }

    pub fn has_ended(&mut self) -> bool {
        self.poll().is_some()
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        self.signal(rustix::process::Signal::KILL);
    }

    /// What Ctrl-C sends.
    pub fn interrupt(&self) {
        self.signal(rustix::process::Signal::INT);
    }

    /// What a queue sends before a task's time ends.
    pub fn warn(&self) {
        self.signal(rustix::process::Signal::USR1);
    }

    /// The most memory that it has had in it at once, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        kibibytes.map_or(0, |number: u64| number * 1024)
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        // The child was not waited for yet, so its id is still its own.
        let _ =
            rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal);
    }

    /// Waits until a condition holds while the process is running. `false` if the process ended first.
    pub fn wait_until(&mut self, mut condition: impl FnMut() -> bool) -> bool {
        loop {
            if condition() {
                return true;
            }
            if self.has_ended() {
                return false;
            }
            assert!(
                self.started.elapsed() < LIMIT,
                "{}: waited longer than {LIMIT:?}",
                self.line
            );
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn text_of(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// A process that has ended, with what it printed.
pub struct Finished {
    status: ExitStatus,
    line: String,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// The exit code; `None` if a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Fails the test unless the exit code is this one.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code(), Some(code), "{}", self.describe());
        self
    }

    /// Fails the test unless SIGKILL ended the process.
    #[track_caller]
    pub fn expect_killed(self) -> Self {
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(self.status.signal(), Some(9), "{}", self.describe());
        self
    }

    /// What it printed as one JSON document.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}\n{}", self.describe()))
    }

    /// What it printed as JSON lines.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<Value> {
        let parse = |line: &str| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
        };
        self.stdout.lines().map(parse).collect()
    }

    pub fn describe(&self) -> String {
        format!(
            "{} ended with {}\n{}\n{}",
            self.line, self.status, self.stdout, self.stderr
        )
    }

    /// Fails the test unless standard error holds this text.
    #[track_caller]
    pub fn says(&self, text: &str) -> &Self {
        assert!(
            self.stderr.contains(text),
            "`{text}` is not in:\n{}",
            self.describe()
        );
        self
    }

    /// Fails the test unless standard output holds this text.
    #[track_caller]
    pub fn prints(&self, text: &str) -> &Self {
        assert!(
            self.stdout.contains(text),
            "`{text}` is not in:\n{}",
            self.describe()
        );
        self
    }
}
