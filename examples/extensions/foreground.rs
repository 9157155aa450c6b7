//! Jobs that run at once, one after another, while the command that submits them waits.

use std::path::PathBuf;
use std::process::Command;

use contract::Named;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Backend, Job, JobId, Task, command_line, keep_script};
use crate::cache::Layout;
use crate::engine::Failure;

/// Jobs run before `submit` returns, so none is ever queued.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Foreground {}

impl Named for Foreground {
    const NAME: &'static str = "foreground";
    const DOC: &'static str = "This terminal, which waits.";
}

impl Backend for Foreground {
    fn check(&self, _: &Job) -> Result<(), Failure> {
        Ok(())
    }

    fn script(&self, job: &Job) -> String {
        let last = job.tasks.max(1) - 1;
        let command = command_line(&job.command, "$task");
        format!("#!/bin/bash\nfor task in $(seq 0 {last}); do\n    {command}\ndone\n")
    }

    fn submit(&self, job: &Job, layout: &Layout) -> Result<JobId, Failure> {
        keep_script(job, &self.script(job), layout)?;
        let ended = Command::new("bash")
            .arg(&job.script)
            .current_dir(&job.directory)
            .status()
            .map_err(|error| Failure::new(format!("bash cannot be started: {error}")))?;
        if !ended.success() {
            return Err(Failure::new(format!("the job ended with {ended}")));
        }
        Ok(JobId(job.comment.clone()))
    }

    fn tasks(&self, _: &str, _: &[PathBuf]) -> Result<Vec<Task>, Failure> {
        Ok(Vec::new())
    }

    fn cancel(&self, _: &str, _: &[PathBuf]) -> Result<usize, Failure> {
        Ok(0)
    }

    fn withdraw(&self, _: &[JobId]) -> Result<(), Failure> {
        Ok(())
    }

    fn wants_own_task(&self) -> bool {
        true
    }

    fn requeue_own_task(&self) -> Result<(), Failure> {
        Err(Failure::new("a task in the foreground cannot be put back"))
    }

    fn largest_array(&self) -> usize {
        usize::MAX
    }
}
