//! Processes of this machine that outlive the command which started them: a job is a shell that waits for the jobs before
//! it and runs its tasks, a limited number at a time. Its state lies beside its script: the number of its process group, and the
//! exit code of each task that ended.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use contract::{Named, Trouble};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Backend, Job, JobId, Task, TaskState, command_line, keep_script, quoted, task_word};
use crate::cache::{Layout, append_plain, is_gone, process_start, read_plain};
use crate::diagnostic::AsTrouble;

/// Jobs are processes of this machine.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Local {}

/// What lies beside a script.
struct Traces {
    base: PathBuf,
}

impl Traces {
    fn of(script: &Path) -> Self {
        Self {
            base: script.with_extension(""),
        }
    }

    fn file(&self, ending: &str) -> PathBuf {
        let mut name = self.base.clone().into_os_string();
        name.push(ending);
        name.into()
    }

    /// Process id and start time of the shell, the comment, the number of tasks.
    fn job(&self) -> PathBuf {
        self.file(".job")
    }

    fn exit_code(&self, task: usize) -> PathBuf {
        self.file(&format!(".{task}.rc"))
    }

    /// Its job was cancelled.
    fn cancelled(&self) -> PathBuf {
        self.file(".cancelled")
    }

    fn started(&self, task: usize) -> PathBuf {
        self.file(&format!(".{task}.started"))
    }
}

impl Named for Local {
    const NAME: &'static str = "local";
    const DOC: &'static str = "Processes of this machine that outlive the command.";
}

impl Backend for Local {
    fn check(&self, _: &Job) -> Result<(), Trouble> {
        Ok(())
    }

    fn script(&self, job: &Job) -> String {
        let traces = Traces::of(&job.script);
        let quote = |path: &Path| quoted(&path.display().to_string());
        let base = quote(&traces.base);
        let mut lines = vec![
            "#!/bin/bash".to_owned(),
            format!("# {} {}", job.name, job.comment),
        ];
        lines.push(format!("cd {}", quote(&job.directory)));
        for JobId(before) in &job.after {
            // Until the process is gone, or nobody but its parent knows that it is.
            let stat = format!("{{ read -r stat < /proc/{before}/stat; }} 2>/dev/null");
            lines.push(format!(
                "while {stat} && [[ ${{stat##*) }} != [ZX]* ]]; do sleep 0.1; done"
            ));
        }
        lines.extend(job.setup.iter().cloned());
        let log = task_word(&job.log, "$1");
        let tasks = job.tasks.max(1);
        lines.extend([
            "task() {".to_owned(),
            format!("    : > {base}.\"$1\".started"),
            format!("    {} >> {log} 2>&1", command_line(&job.command, "$1")),
            format!("    echo $? > {base}.\"$1\".rc"),
            "}".to_owned(),
            format!("for ((number = 0; number < {tasks}; number++)); do"),
            format!(
                "    while (($(jobs -rp | wc -l) >= {})); do wait -n; done",
                job.cap.unwrap_or(tasks)
            ),
            "    task \"$number\" &".to_owned(),
            "done".to_owned(),
            "wait".to_owned(),
        ]);
        lines.join("\n") + "\n"
    }

    fn submit(&self, job: &Job, layout: &Layout) -> Result<JobId, Trouble> {
        keep_script(job, &self.script(job), layout)?;
        let traces = Traces::of(&job.script);
        let mut shell = Command::new("bash");
        shell
            .arg(&job.script)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        let child = shell
            .spawn()
            .map_err(|error| Trouble::new(format!("bash could not be started: {error}")))?;
        let note = format!(
            "{} {} {} {} {}\n",
            child.id(),
            process_start(child.id()).unwrap_or(0),
            job.tasks.max(1),
            job.name,
            job.comment
        );
        layout
            .write(&traces.job(), note.as_bytes())
            .map_err(|error| error.to_trouble())?;
        // Nobody waits for it until this process is gone; then the system does.
        Ok(JobId(child.id().to_string()))
    }

    fn tasks(&self, name: &str, scripts: &[PathBuf]) -> Result<Vec<Task>, Trouble> {
        let mut tasks = Vec::new();
        for (traces, noted) in noted(scripts) {
            if noted.name != name {
                continue;
            }
            let (alive, cancelled) = (noted.is_alive(), traces.cancelled().exists());
            for number in 0..noted.tasks {
                let code = read(&traces.exit_code(number));
                let state = match code.as_deref().map(str::trim) {
                    Some("0") => TaskState::Done,
                    Some(_) if cancelled => TaskState::Cancelled,
                    None if cancelled && !alive => TaskState::Cancelled,
                    Some(_) => TaskState::Failed,
                    None if !alive => TaskState::Failed,
                    None if traces.started(number).exists() => TaskState::Running,
                    None => TaskState::Waiting,
                };
                let detail = match code {
                    Some(code) => format!("exit code {}", code.trim()),
                    None if state == TaskState::Failed => "its process is gone".to_owned(),
                    None => String::new(),
                };
                let job = JobId(noted.process.to_string());
                tasks.push(Task {
                    job,
                    comment: noted.comment.clone(),
                    number,
                    state,
                    detail,
                });
            }
        }
        Ok(tasks)
    }

    fn cancel(&self, name: &str, scripts: &[PathBuf]) -> Result<usize, Trouble> {
        let mut ended = 0;
        for (traces, noted) in noted(scripts) {
            if noted.name == name && noted.is_alive() {
                let _ = append_plain(&traces.cancelled());
                ended += usize::from(terminate(noted.process));
            }
        }
        Ok(ended)
    }

    fn withdraw(&self, jobs: &[JobId]) -> Result<(), Trouble> {
        for JobId(job) in jobs {
            if let Ok(process) = job.parse() {
                terminate(process);
            }
        }
        Ok(())
    }

    fn wants_own_task(&self) -> bool {
        false
    }

    fn requeue_own_task(&self) -> Result<(), Trouble> {
        Err(Trouble::new(
            "processes of this machine have no queue to go back to",
        ))
    }

    fn largest_array(&self) -> usize {
        usize::MAX
    }
}

/// Asks a process and all that it started to end. Says whether there can be such a process.
fn terminate(process: u32) -> bool {
    let Some(group) = rustix::process::Pid::from_raw(process as i32) else {
        return false;
    };
    let _ = rustix::process::kill_process_group(group, rustix::process::Signal::TERM);
    true
}

/// What was noted of a job when it was started.
struct Noted {
    process: u32,
    started: u64,
    tasks: usize,
    name: String,
    comment: String,
}

impl Noted {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.trim_end().splitn(5, ' ');
        Some(Self {
            process: words.next()?.parse().ok()?,
            started: words.next()?.parse().ok()?,
            tasks: words.next()?.parse().ok()?,
            name: words.next()?.to_owned(),
            comment: words.next()?.to_owned(),
        })
    }

    fn is_alive(&self) -> bool {
        !is_gone(self.process, self.started)
    }
}

fn noted(scripts: &[PathBuf]) -> Vec<(Traces, Noted)> {
    let mut files = Vec::new();
    for entries in scripts.iter().flat_map(fs::read_dir) {
        for entry in entries.flatten() {
            if entry
                .path()
                .extension()
                .is_some_and(|ending| ending == "job")
            {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    let mut all = Vec::new();
    for path in files {
        if let Some(noted) = read(&path).and_then(|text| Noted::parse(&text)) {
            all.push((Traces::of(&path), noted));
        }
    }
    all
}

/// The text of a trace.
fn read(path: &Path) -> Option<String> {
    String::from_utf8(read_plain(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::backend::conformance::conforms;

    #[test]
    fn keeps_what_a_backend_promises() {
        conforms(&Local {});
    }
}
