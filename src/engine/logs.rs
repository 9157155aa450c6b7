//! What each stage says and reports, in a file of its own: `logs/STAGE.log` in the folder of the run. A program's figures
//! stand in it as its training log. It is as short as the notes are, which a stage bounds.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{Event, Reporter};
use crate::cache::{append_plain, file_name};

/// Bytes of progress that are written for one stage; after that only notes are.
const MOST_PROGRESS: usize = 1 << 20;

/// Writes the logs.
#[derive(Debug)]
pub struct Logs {
    folder: PathBuf,
    /// By stage. What could not be opened is nothing: a log that cannot be written must not fail the run.
    files: BTreeMap<String, Option<Log>>,
}

#[derive(Debug)]
struct Log {
    file: File,
    /// Bytes of progress so far.
    progress: usize,
}

impl Logs {
    /// The logs of a run, in its folder. A file appears when its stage says something.
    pub fn new(run: &Path) -> Self {
        Self {
            folder: run.join("logs"),
            files: BTreeMap::new(),
        }
    }

    fn log(&mut self, stage: &str) -> Option<&mut Log> {
        if !self.files.contains_key(stage) {
            let opened = self.open(stage);
            if let Err(error) = &opened {
                tracing::debug!("the log of {stage} cannot be written: {error}");
            }
            self.files.insert(stage.to_owned(), opened.ok());
        }
        self.files.get_mut(stage)?.as_mut()
    }

    fn open(&self, stage: &str) -> io::Result<Log> {
        fs::create_dir_all(&self.folder)?;
        let file = append_plain(&path_in(&self.folder, stage))?;
        Ok(Log { file, progress: 0 })
    }

    fn write(&mut self, stage: &str, line: &str, is_progress: bool) {
        let Some(log) = self.log(stage) else { return };
        if is_progress {
            log.progress += line.len();
            if log.progress > MOST_PROGRESS {
                return;
            }
        }
        // Unbuffered: it is read while the stage is at work, and there if this process is killed.
        let _ = log.file.write_all(line.as_bytes());
    }
}

/// Where the log of a stage lies, below the folder of its run.
pub fn log_path(run: &Path, stage: &str) -> PathBuf {
    path_in(&run.join("logs"), stage)
}

fn path_in(folder: &Path, stage: &str) -> PathBuf {
    folder.join(format!("{}.log", file_name(stage)))
}

impl Reporter for Logs {
    fn on(&mut self, event: &Event) {
        match event {
            Event::StageNote { stage, text } => self.write(stage, &format!("{text}\n"), false),
            Event::StageProgress {
                stage,
                unit,
                done,
                total,
                figures,
                ..
            } if !figures.is_empty() => {
                let mut line = format!("{unit} {done}/{total}");
                for (name, value) in figures {
                    let _ = write!(line, " {name}={value}");
                }
                line.push('\n');
                self.write(stage, &line, true);
            }
            Event::StageRetried { stage, attempt, .. } => {
                self.write(stage, &format!("--- try {attempt} failed ---\n"), false);
            }
            _ => {}
        }
    }
}
