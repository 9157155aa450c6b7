//! Where the jobs of a sweep run. A backend submits a job (a script, once or as an array of tasks), says how far its tasks
//! are, and cancels them. It knows nothing of trials: what a task does is in its command.
//!
//! Another backend is one file and one line in [`BACKENDS`]; [`conformance`] says what it must keep.

#[cfg(test)]
pub(crate) mod conformance;

contract::entries! {
    /// All backends.
    const ENTRIES: Entry<dyn Backend>;
    mod slurm: Slurm;
    mod local: Local;
}

use std::path::{Path, PathBuf};
use std::time::Duration;

use contract::{Choice, Table, Trouble};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::cache::Layout;
use crate::diagnostic::{AsTrouble, visible};

/// All backends; the name is that of `--on NAME`.
pub static BACKENDS: Table<dyn Backend> = Table::new("backend", &[ENTRIES]);

contract::tabled!(dyn Backend in BACKENDS);

/// A backend with its name.
pub type ChosenBackend = Choice<dyn Backend>;

/// The text that stands for the number of the task in a command.
pub const TASK: &str = "{task}";

/// What a backend calls a job.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobId(pub String);

/// A job: one command, run once or for each number of an array.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Job {
    /// Shared by all jobs of a sweep.
    pub name: String,
    /// Reported again with every task: it says to which submission and which part of it the job belongs.
    pub comment: String,
    /// Tasks of the array; they are numbered from 0.
    pub tasks: usize,
    /// Tasks that may run at the same time.
    pub cap: Option<usize>,
    /// The job begins after these have ended, however they did.
    pub after: Vec<JobId>,
    /// Program and arguments; [`TASK`] is replaced by the number of the task.
    pub command: Vec<String>,
    /// The script is kept in this file.
    pub script: PathBuf,
    /// Log of each task, with [`TASK`] in it.
    pub log: String,
    /// Where the command runs.
    pub directory: PathBuf,
    pub needs: JobNeeds,
    /// Lines of shell before the command, such as `module load cuda`.
    pub setup: Vec<String>,
    /// Options that only this backend has, such as `partition`.
    pub options: IndexMap<String, String>,
    /// Flags for the backend's command that are passed on as they are.
    pub extra: Vec<String>,
}

/// What each task needs of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobNeeds {
    pub cpus: usize,
    /// Bytes.
    pub memory: Option<u64>,
    pub gpus: usize,
    pub time: Option<Duration>,
}

impl JobNeeds {
    /// What a task that has this lacks for work that asks for `wanted`: the resource, how much is wanted, how much there is.
    pub fn lack(&self, wanted: &Self) -> Option<(&'static str, u64, u64)> {
        // A task that asked for no memory has what the cluster gives by default.
        let amounts = [
            ("gpus", wanted.gpus as u64, self.gpus as u64),
            (
                "memory",
                wanted.memory.unwrap_or(0),
                self.memory.unwrap_or(0),
            ),
            ("cpus", wanted.cpus as u64, self.cpus as u64),
        ];
        amounts.into_iter().find(|(_, wanted, has)| wanted > has)
    }
}

/// How far a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// It has not begun.
    Waiting,
    Running,
    Done,
    /// It ended with an error or was lost.
    Failed,
    Cancelled,
}

/// A task that a backend knows of.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    pub job: JobId,
    pub comment: String,
    pub number: usize,
    pub state: TaskState,
    /// What the backend says of it, in its own words: a node, a reason for waiting.
    pub detail: String,
}

/// A place where jobs run.
pub trait Backend: Send + Sync {
    /// Whether it can be used here, and would take this job.
    ///
    /// # Errors
    /// What is missing, and what to do.
    fn check(&self, job: &Job) -> Result<(), Trouble>;

    /// The script that is submitted.
    fn script(&self, job: &Job) -> String;

    /// Writes the script into the store and submits it.
    ///
    /// # Errors
    /// What the backend answers.
    fn submit(&self, job: &Job, layout: &Layout) -> Result<JobId, Trouble>;

    /// The tasks of all jobs of this name that the backend still knows of. `scripts` are the folders in which scripts of
    /// such jobs were kept.
    ///
    /// # Errors
    /// If the backend cannot be asked.
    fn tasks(&self, name: &str, scripts: &[PathBuf]) -> Result<Vec<Task>, Trouble>;

    /// Ends all jobs of this name. Says how many there were.
    ///
    /// # Errors
    /// If the backend cannot be asked.
    fn cancel(&self, name: &str, scripts: &[PathBuf]) -> Result<usize, Trouble>;

    /// Ends these jobs, which were just submitted.
    ///
    /// # Errors
    /// If the backend cannot be asked.
    fn withdraw(&self, jobs: &[JobId]) -> Result<(), Trouble>;

    /// Whether the task that this process belongs to is still wanted. One that was cancelled is not; one that must make room
    /// for others, or whose node goes down, is.
    fn wants_own_task(&self) -> bool;

    /// Puts the task that this process belongs to back into the queue: its time is up, or it must make room.
    ///
    /// # Errors
    /// If there is no such task.
    fn requeue_own_task(&self) -> Result<(), Trouble>;

    /// The most tasks that one array may have.
    fn largest_array(&self) -> usize;
}

/// A word as the shell takes it.
fn quoted(word: &str) -> String {
    let plain = |one: char| one.is_ascii_alphanumeric() || "=._-+/:,@%".contains(one);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Words as a line that the shell takes apart into them again.
pub fn shell_line(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    quoted.join(" ")
}

/// The command as a line of shell, with a variable for the number of the task.
fn command_line(command: &[String], task: &str) -> String {
    let words: Vec<String> = command.iter().map(|word| task_word(word, task)).collect();
    words.join(" ")
}

/// A word in which the number of the task may stand; `task` is a variable of the shell that has it.
fn task_word(word: &str, task: &str) -> String {
    let Some((before, after)) = word.split_once(TASK) else {
        return quoted(word);
    };
    let [before, after] = [before, after].map(|part| match part {
        "" => String::new(),
        part => quoted(part),
    });
    format!("{before}\"{task}\"{after}")
}

/// Refuses what would become another line of a script, such as the name of a folder with a line break: that line would be
/// obeyed.
fn check_lines(job: &Job) -> Result<(), Trouble> {
    let directory = job.directory.to_string_lossy();
    let mut texts: Vec<(&str, &str)> = vec![
        ("folder", &directory),
        ("log", &job.log),
        ("name", &job.name),
        ("comment", &job.comment),
    ];
    for (name, value) in &job.options {
        texts.push((name, value));
    }
    for flag in &job.extra {
        texts.push(("extra", flag));
    }
    for (what, text) in texts {
        if text.chars().any(char::is_control) {
            let message = format!(
                "the {what} `{}` of the job has a control character",
                visible(text)
            );
            return Err(Trouble::new(message)
                .hint("a script has one line for it: rename the folder, or mend the option"));
        }
    }
    Ok(())
}

/// Writes a script, whole or not at all, and makes the folder of the logs.
fn keep_script(job: &Job, text: &str, layout: &Layout) -> Result<(), Trouble> {
    check_lines(job)?;
    let logs = Path::new(&job.log).parent().unwrap_or(Path::new(""));
    let kept = layout
        .write(&job.script, text.as_bytes())
        .and_then(|()| layout.make(logs));
    kept.map_err(|error| error.to_trouble())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_becomes_a_line_of_the_script() {
        let job = |directory: &str| Job {
            directory: directory.into(),
            ..Job::default()
        };
        assert!(check_lines(&job("/a b/ü")).is_ok());
        let refused = check_lines(&job("/a\n#SBATCH --uid=0")).unwrap_err();
        assert_eq!(
            refused.message(),
            "the folder `/a\\n#SBATCH --uid=0` of the job has a control character"
        );
        let option = |value: &str| Job {
            options: IndexMap::from([("qos".to_owned(), value.to_owned())]),
            ..job("/")
        };
        assert!(check_lines(&option("long\r")).is_err() && check_lines(&option("long")).is_ok());
        assert!(
            check_lines(&Job {
                extra: vec!["--x\ntouch y".into()],
                ..job("/")
            })
            .is_err()
        );
    }

    #[test]
    fn words_reach_the_shell_as_they_are() {
        let words = ["a b", "it's", "--n", "{task}", "x{task}.log", ""].map(str::to_owned);
        assert_eq!(
            command_line(&words, "$T"),
            r#"'a b' 'it'\''s' --n "$T" x"$T".log ''"#
        );
    }
}
