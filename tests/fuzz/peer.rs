//! A process of Python that reads files as NumPy, pyarrow and pandas do, and answers what is in them. It is started
//! once and asked again and again; if a damaged file ends it, or keeps it busy, another one is started.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

/// A file keeps a library busy for no longer than this.
const LONGEST: Duration = Duration::from_secs(30);

/// What a library says of a file.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Answer {
    Read(Table),
    Refused {
        refused: String,
    },
    /// It ran out of memory, took too long or crashed: nothing follows from that.
    GaveUp {
        #[expect(dead_code, reason = "for whoever looks at the answer")]
        gave_up: String,
    },
}

#[derive(Debug, Deserialize)]
pub struct Table {
    pub columns: Vec<String>,
    /// A column's values, each as the bits of a 64-bit float.
    pub values: Vec<Vec<u64>>,
    pub times: Option<Vec<i64>>,
}

/// The interpreter that `scripts/install-python-readers.sh` installs with its libraries.
///
/// # Panics
/// Where there is none, and `RUNNER_REQUIRE_SERVERS` is set.
fn interpreter() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = std::fs::read_to_string(root.join("scripts/install-python-readers.sh")).unwrap();
    let version = script
        .lines()
        .find_map(|line| line.strip_prefix("version="))
        .unwrap();
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let usual = cache.map(|cache| cache.join(format!("runner-tests/python-readers-{version}")));
    let named = std::env::var_os("RUNNER_PYTHON_READERS").map(PathBuf::from);
    let found = named
        .into_iter()
        .chain(usual)
        .map(|place| place.join("bin/python"))
        .find(|program| program.is_file());
    if found.is_none() {
        let message =
            "there are no Python libraries: scripts/install-python-readers.sh installs them";
        let is_required = std::env::var_os("RUNNER_REQUIRE_SERVERS").is_some();
        assert!(!is_required, "{message}");
        eprintln!("SKIPPED: {message}");
    }
    found
}

/// The worker, and how to start another.
pub struct Peer {
    program: PathBuf,
    worker: Option<Worker>,
}

struct Worker {
    child: Child,
    questions: ChildStdin,
    answers: Receiver<String>,
}

impl Worker {
    fn start(program: &Path) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/peer.py");
        let mut child = Command::new(program)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Python starts");
        let questions = child.stdin.take().expect("the standard input is a pipe");
        let output = child.stdout.take().expect("the standard output is a pipe");
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            questions,
            answers,
        }
    }

    /// The answer to a question; `None` if the process has ended or takes too long.
    fn ask(&mut self, question: &str) -> Option<String> {
        writeln!(self.questions, "{question}").ok()?;
        self.answers.recv_timeout(LONGEST).ok()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peer {
    /// `None` where Python or its libraries are not installed.
    pub fn new() -> Option<Self> {
        Some(Self {
            program: interpreter()?,
            worker: None,
        })
    }

    pub fn read(&mut self, question: &Value) -> Answer {
        let mut worker = self
            .worker
            .take()
            .unwrap_or_else(|| Worker::start(&self.program));
        let Some(line) = worker.ask(&question.to_string()) else {
            return Answer::GaveUp {
                gave_up: "the process ended, or took too long".to_owned(),
            };
        };
        self.worker = Some(worker);
        let answer = serde_json::from_str(&line);
        answer.unwrap_or_else(|error| panic!("{error}: {question} is answered by {line:.2000}"))
    }
}
