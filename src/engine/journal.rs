//! The journal of a run: every event but progress, a JSON line each, with the seconds since the start.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use super::{Event, Reporter};
use crate::cache::{CacheError, StageState, append_plain};

/// Writes `events.jsonl`.
#[derive(Debug)]
pub struct Journal {
    file: BufWriter<File>,
    started: Instant,
}

#[derive(Serialize)]
struct Line<'a> {
    at: f64,
    #[serde(flatten)]
    event: &'a Event,
}

impl Journal {
    /// Starts the journal in a run's folder.
    pub fn create(folder: &Path) -> Result<Self, CacheError> {
        fs::create_dir_all(folder).map_err(CacheError::io("create", folder))?;
        let path = folder.join("events.jsonl");
        // A run that repairs lost results goes through its stages twice and keeps one journal.
        let file = append_plain(&path).map_err(CacheError::io("create", &path))?;
        Ok(Self {
            file: BufWriter::with_capacity(1 << 16, file),
            started: Instant::now(),
        })
    }
}

impl Reporter for Journal {
    fn on(&mut self, event: &Event) {
        if matches!(
            event,
            Event::StageProgress { .. } | Event::RunProgress { .. }
        ) {
            return;
        }
        let line = Line {
            at: self.started.elapsed().as_secs_f64(),
            event,
        };
        // A journal that cannot be written must not fail the run.
        let written = serde_json::to_writer(&mut self.file, &line).map_err(std::io::Error::from);
        let written = written.and_then(|()| self.file.write_all(b"\n"));
        // What a program says is there at once, for those who watch it, and if this process is killed. Hits are many, and nobody
        // waits for them.
        let has_run =
            matches!(event, Event::StageFinished { state, .. } if *state != StageState::Hit);
        let is_awaited = has_run
            || matches!(
                event,
                Event::StageStarted { .. }
                    | Event::StageNote { .. }
                    | Event::StageFailed { .. }
                    | Event::RunFinished { .. }
            );
        if written.is_err() || is_awaited {
            let _ = self.file.flush();
        }
    }
}
