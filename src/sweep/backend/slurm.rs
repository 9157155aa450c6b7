//! Slurm, by its commands alone: sbatch, squeue, scancel, scontrol. No accounting database is asked.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Output};

use contract::{Named, Trouble};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Backend, Job, JobId, Task, TaskState, command_line, keep_script};
use crate::cache::Layout;

/// Jobs go to a Slurm cluster.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Slurm {
    /// The cluster's configuration file; `None` for the one that Slurm finds on its own.
    pub config: Option<PathBuf>,
}

impl Slurm {
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.envs(self.config.iter().map(|path| ("SLURM_CONF", path)));
        command
    }
}

/// Between the fields of squeue's lines: no name and no reason has it.
const SEPARATOR: &str = "\u{1f}";

/// Seconds before the end of its time at which a task is told.
const WARNING: u64 = 120;

impl Named for Slurm {
    const NAME: &'static str = "slurm";
    const DOC: &'static str = "Jobs of a Slurm cluster; run it on a login node.";
}

impl Backend for Slurm {
    fn check(&self, job: &Job) -> Result<(), Trouble> {
        for program in ["sbatch", "squeue", "scancel", "scontrol"] {
            if !is_on_path(program) {
                let hint = "run this on a login node of the cluster, or without `--on slurm` to use this machine";
                return Err(Trouble::new(format!(
                    "there is no Slurm here: `{program}` is not on the path"
                ))
                .hint(hint));
            }
        }
        let known = answer(self.command("sinfo").args(["--noheader", "--format", "%R"]))?;
        let names: Vec<&str> = known.lines().map(str::trim).collect();
        let partitions = job.options.get("partition").map_or("", String::as_str);
        for partition in partitions.split(',') {
            if !partition.is_empty() && !names.contains(&partition) {
                let message = format!("Slurm has no partition `{partition}`");
                return Err(Trouble::new(message).hint(format!("there are {}", names.join(", "))));
            }
        }
        Ok(())
    }

    fn script(&self, job: &Job) -> String {
        let mut lines = vec!["#!/bin/bash".to_owned()];
        let mut option = |name: &str, value: String| {
            lines.push(format!("#SBATCH --{name}={}", directive(&value)))
        };
        option("job-name", job.name.clone());
        option("comment", job.comment.clone());
        let cap = job.cap.map_or_else(String::new, |cap| format!("%{cap}"));
        option("array", format!("0-{}{cap}", job.tasks.max(1) - 1));
        option("cpus-per-task", job.needs.cpus.max(1).to_string());
        if let Some(memory) = job.needs.memory {
            option("mem", format!("{}M", memory.div_ceil(1 << 20)));
        }
        if job.needs.gpus > 0 {
            option("gres", format!("gpu:{}", job.needs.gpus));
        }
        if let Some(time) = job.needs.time {
            option("time", time.as_secs().div_ceil(60).max(1).to_string());
            // It is told in time to keep its state; the signal goes to the script's process, which is the program.
            option(
                "signal",
                format!("B:USR1@{}", WARNING.min(time.as_secs() / 4).max(1)),
            );
        }
        if !job.after.is_empty() {
            let jobs: Vec<&str> = job.after.iter().map(|JobId(job)| job.as_str()).collect();
            option("dependency", format!("afterany:{}", jobs.join(":")));
            option("kill-on-invalid-dep", "yes".to_owned());
        }
        // A percent sign in the name of a folder means nothing to Slurm if it is doubled.
        option(
            "output",
            job.log.replace('%', "%%").replace(super::TASK, "%a"),
        );
        option("open-mode", "append".to_owned());
        option("chdir", job.directory.display().to_string());
        for (name, value) in &job.options {
            option(name, value.clone());
        }
        lines.push("#SBATCH --requeue".to_owned());
        lines.extend(job.extra.iter().map(|flag| format!("#SBATCH {flag}")));
        lines.push(String::new());
        lines.extend(job.setup.iter().cloned());
        lines.push(format!(
            "exec {}",
            command_line(&job.command, "$SLURM_ARRAY_TASK_ID")
        ));
        lines.join("\n") + "\n"
    }

    fn submit(&self, job: &Job, layout: &Layout) -> Result<JobId, Trouble> {
        keep_script(job, &self.script(job), layout)?;
        let told = answer(self.command("sbatch").arg("--parsable").arg(&job.script))?;
        let id = told.trim().split(';').next().unwrap_or_default().to_owned();
        if id.parse::<u64>().is_err() {
            return Err(Trouble::new(format!(
                "sbatch answered `{}`, which is not a job",
                told.trim()
            )));
        }
        Ok(JobId(id))
    }

    fn tasks(&self, name: &str, _: &[PathBuf]) -> Result<Vec<Task>, Trouble> {
        let format = ["%F", "%K", "%T", "%k", "%R"].join(SEPARATOR);
        let states = "PENDING,RUNNING,SUSPENDED,COMPLETING,COMPLETED,CONFIGURING,FAILED,TIMEOUT,CANCELLED,NODE_FAIL,\
                      PREEMPTED,OUT_OF_MEMORY,BOOT_FAIL,DEADLINE,REQUEUED,SPECIAL_EXIT";
        let mut command = self.command("squeue");
        command.args([
            "--noheader",
            "--array",
            "--states",
            states,
            "--name",
            name,
            "--format",
            &format,
        ]);
        Ok(answer(&mut command)?.lines().filter_map(task).collect())
    }

    fn cancel(&self, name: &str, scripts: &[PathBuf]) -> Result<usize, Trouble> {
        let tasks = self.tasks(name, scripts)?;
        let mut jobs = BTreeSet::new();
        for task in tasks {
            if let TaskState::Waiting | TaskState::Running = task.state {
                jobs.insert(task.job);
            }
        }
        let jobs: Vec<JobId> = jobs.into_iter().collect();
        self.withdraw(&jobs)?;
        Ok(jobs.len())
    }

    fn withdraw(&self, jobs: &[JobId]) -> Result<(), Trouble> {
        if jobs.is_empty() {
            return Ok(());
        }
        let ids = jobs.iter().map(|JobId(job)| job);
        answer(self.command("scancel").args(ids)).map(drop)
    }

    fn wants_own_task(&self) -> bool {
        // A job that was cancelled is told to end only after its state says so.
        let Ok(job) = std::env::var("SLURM_JOB_ID") else {
            return false;
        };
        let words = ["--noheader", "--jobs", &job, "--format", "%T"];
        let state = answer(self.command("squeue").args(words));
        state.is_ok_and(|state| state.trim() == "RUNNING")
    }

    fn requeue_own_task(&self) -> Result<(), Trouble> {
        let job = std::env::var("SLURM_JOB_ID")
            .map_err(|_| Trouble::new("this process is not a Slurm task"))?;
        answer(self.command("scontrol").args(["requeue", &job])).map(drop)
    }

    fn largest_array(&self) -> usize {
        const USUAL: usize = 1001;
        let config = answer(self.command("scontrol").args(["show", "config"])).unwrap_or_default();
        let mut size = USUAL;
        for line in config.lines() {
            if let Some((name, value)) = line.split_once('=')
                && name.trim() == "MaxArraySize"
            {
                size = value.trim().parse().unwrap_or(USUAL);
            }
        }
        // Numbers go up to one less than the size.
        size.max(2) - 1
    }
}

/// A value as sbatch reads it in a script: quoted where it would be taken apart.
fn directive(value: &str) -> String {
    let plain = |one: char| one.is_alphanumeric() || "=._-+/:,@%".contains(one);
    if value.chars().all(plain) {
        return value.to_owned();
    }
    format!("\"{}\"", value.replace('\\', r"\\").replace('"', r#"\""#))
}

/// One line of squeue.
fn task(line: &str) -> Option<Task> {
    let mut fields = line.split(SEPARATOR).map(str::trim);
    let (job, number, ending, comment, detail) = (
        fields.next()?,
        fields.next()?,
        fields.next()?,
        fields.next()?,
        fields.next().unwrap_or_default(),
    );
    let state = match ending {
        "PENDING" | "CONFIGURING" | "REQUEUED" | "REQUEUE_HOLD" | "REQUEUE_FED"
        | "SPECIAL_EXIT" => TaskState::Waiting,
        "RUNNING" | "SUSPENDED" | "STAGE_OUT" | "SIGNALING" | "STOPPED" => TaskState::Running,
        // The process has ended, only the node is not tidy yet.
        "COMPLETED" | "COMPLETING" => TaskState::Done,
        "CANCELLED" => TaskState::Cancelled,
        _ => TaskState::Failed,
    };
    // Of a task that is over, the reason alone does not tell how it ended.
    let detail = match (state, detail) {
        (TaskState::Failed, "" | "None" | "(None)") => ending.to_lowercase(),
        (TaskState::Failed, reason) => {
            let reason = reason.trim_start_matches('(').trim_end_matches(')');
            format!("{} ({reason})", ending.to_lowercase())
        }
        _ => detail.to_owned(),
    };
    Some(Task {
        job: JobId(job.to_owned()),
        comment: comment.to_owned(),
        number: number.parse().unwrap_or(0),
        state,
        detail,
    })
}

/// Whether a program of this name can be run.
fn is_on_path(program: &str) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| {
        let file = folder.join(program);
        std::fs::metadata(file)
            .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    })
}

/// What a command prints.
fn answer(command: &mut Command) -> Result<String, Trouble> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output();
    let Output {
        status,
        stdout,
        stderr,
    } = output.map_err(|error| Trouble::new(format!("`{name}` could not be run: {error}")))?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&stderr);
    Err(Trouble::new(format!("`{name}` refused"))
        .with_causes(said.lines().map(str::to_owned).collect())
        .hint("is the cluster up, and may you use it? `sinfo` and `squeue` say so"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::backend::{JobNeeds, TASK};
    use std::time::Duration;

    #[test]
    fn the_script_says_everything_that_was_asked() {
        let job = Job {
            name: "runner-lr".into(),
            comment: "a:trials".into(),
            tasks: 12,
            cap: Some(4),
            after: vec![JobId("7".into()), JobId("8".into())],
            command: vec![
                "/usr/bin/runner".into(),
                "sweep".into(),
                "work".into(),
                TASK.into(),
            ],
            script: "/s/trials.sh".into(),
            log: format!("/s/logs/trials-{TASK}.out"),
            directory: "/project".into(),
            needs: JobNeeds {
                cpus: 2,
                memory: Some(3 << 30),
                gpus: 1,
                time: Some(Duration::from_secs(5400)),
            },
            setup: vec!["module load cuda".into()],
            options: [("partition".to_owned(), "gpu".to_owned())]
                .into_iter()
                .collect(),
            extra: vec!["--exclusive".into()],
        };
        insta::assert_snapshot!(Slurm::default().script(&job), @r#"
        #!/bin/bash
        #SBATCH --job-name=runner-lr
        #SBATCH --comment=a:trials
        #SBATCH --array=0-11%4
        #SBATCH --cpus-per-task=2
        #SBATCH --mem=3072M
        #SBATCH --gres=gpu:1
        #SBATCH --time=90
        #SBATCH --signal=B:USR1@120
        #SBATCH --dependency=afterany:7:8
        #SBATCH --kill-on-invalid-dep=yes
        #SBATCH --output=/s/logs/trials-%a.out
        #SBATCH --open-mode=append
        #SBATCH --chdir=/project
        #SBATCH --partition=gpu
        #SBATCH --requeue
        #SBATCH --exclusive

        module load cuda
        exec /usr/bin/runner sweep work "$SLURM_ARRAY_TASK_ID"
        "#);
    }

    /// A cluster of two nodes for one test.
    struct Cluster(tempfile::TempDir);

    impl Cluster {
        const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/slurm-cluster.sh");

        fn start(port: u16) -> Option<Self> {
            if !["slurmctld", "slurmd", "munged"].into_iter().all(is_there) {
                assert!(
                    std::env::var_os("RUNNER_REQUIRE_SERVERS").is_none(),
                    "Slurm is not installed"
                );
                eprintln!("skipped: Slurm is not installed");
                return None;
            }
            // The path of a socket must be short.
            let cluster = Self(
                tempfile::Builder::new()
                    .prefix("sl")
                    .tempdir_in("/tmp")
                    .unwrap(),
            );
            let mut command = Command::new(Self::SCRIPT);
            command
                .arg("up")
                .arg(cluster.0.path())
                .args(["2", &port.to_string()]);
            answer(&mut command).unwrap();
            Some(cluster)
        }
    }

    impl Drop for Cluster {
        fn drop(&mut self) {
            let _ = Command::new(Self::SCRIPT)
                .arg("down")
                .arg(self.0.path())
                .status();
        }
    }

    /// Daemons lie where only root has them on the path.
    fn is_there(program: &str) -> bool {
        is_on_path(program) || std::path::Path::new("/usr/sbin").join(program).exists()
    }

    #[test]
    fn keeps_what_a_backend_promises() {
        let Some(cluster) = Cluster::start(18_200) else {
            return;
        };
        let slurm = Slurm {
            config: Some(cluster.0.path().join("slurm.conf")),
        };
        crate::sweep::backend::conformance::conforms(&slurm);
        let job = Job {
            options: [("partition".to_owned(), "gpu".to_owned())]
                .into_iter()
                .collect(),
            ..Job::default()
        };
        let failure = slurm.check(&job).unwrap_err();
        assert_eq!(failure.message(), "Slurm has no partition `gpu`");
        assert_eq!(failure.hint_text().unwrap(), "there are main");
        assert_eq!(slurm.largest_array(), 1000);
    }

    #[test]
    fn lines_of_squeue_are_understood() {
        let line = ["41", "3", "RUNNING", "a:trials", "n2"].join(SEPARATOR);
        let found = task(&line).unwrap();
        assert_eq!(
            (found.job.0.as_str(), found.number, found.state),
            ("41", 3, TaskState::Running)
        );
        assert_eq!(found.comment, "a:trials");
        let line = ["41", "N/A", "NODE_FAIL", "a:next", ""].join(SEPARATOR);
        let found = task(&line).unwrap();
        assert_eq!(
            (found.state, found.detail.as_str()),
            (TaskState::Failed, "node_fail")
        );
        assert_eq!(task("error"), None);
    }
}
