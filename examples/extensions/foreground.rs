//! Jobs that run at once, one after another, while the command that submits them waits.

use std::path::PathBuf;
use std::process::Command;

use contract::{Named, Trouble};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Backend, Job, JobId, Task, command_line, keep_script};
use crate::cache::Layout;

/// Jobs run before `submit` returns, so none is ever queued.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Foreground {}

impl Named for Foreground {
    const NAME: &'static str = "foreground";
    const DOC: &'static str = "This terminal, which waits.";
}

impl Backend for Foreground {
    fn check(&self, _: &Job) -> Result<(), Trouble> {
        Ok(())
    }

    fn script(&self, job: &Job) -> String {
        let last = job.tasks.max(1) - 1;
        let command = command_line(&job.command, "$task");
        format!("#!/bin/bash\nfor task in $(seq 0 {last}); do\n    {command}\ndone\n")
    }

    fn submit(&self, job: &Job, layout: &Layout) -> Result<JobId, Trouble> {
        keep_script(job, &self.script(job), layout)?;
        let ended = Command::new("bash")
            .arg(&job.script)
            .current_dir(&job.directory)
            .status()
            .map_err(|error| Trouble::new(format!("bash cannot be started: {error}")))?;
        if !ended.success() {
            return Err(Trouble::new(format!("the job ended with {ended}")));
        }
        Ok(JobId(job.comment.clone()))
    }

    fn tasks(&self, _: &str, _: &[PathBuf]) -> Result<Vec<Task>, Trouble> {
        Ok(Vec::new())
    }

    fn cancel(&self, _: &str, _: &[PathBuf]) -> Result<usize, Trouble> {
        Ok(0)
    }

    fn withdraw(&self, _: &[JobId]) -> Result<(), Trouble> {
        Ok(())
    }

    fn wants_own_task(&self) -> bool {
        true
    }

    fn requeue_own_task(&self) -> Result<(), Trouble> {
        Err(Trouble::new("a task in the foreground cannot be put back"))
    }

    fn largest_array(&self) -> usize {
        usize::MAX
    }
}
