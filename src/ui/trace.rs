//! A trace of a run in Chrome's trace-event format, which about:tracing and Perfetto show: a bar per stage.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use crate::engine::{Event, Reporter};

/// Collects bars and writes them when the run ends.
#[derive(Debug)]
pub struct Trace {
    file: File,
    origin: Instant,
    /// Running stages: lane and start in microseconds.
    running: BTreeMap<String, (usize, f64, String)>,
    events: Vec<Value>,
}

impl Trace {
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = File::create(path)?;
        Ok(Self {
            file,
            origin: Instant::now(),
            running: BTreeMap::new(),
            events: Vec::new(),
        })
    }

    fn now(&self) -> f64 {
        self.origin.elapsed().as_secs_f64() * 1e6
    }

    fn start(&mut self, stage: &str, reason: &str) {
        let taken: Vec<usize> = self.running.values().map(|(lane, ..)| *lane).collect();
        let lane = (0..).find(|lane| !taken.contains(lane)).unwrap_or(0);
        self.running
            .insert(stage.to_owned(), (lane, self.now(), reason.to_owned()));
    }

    fn end(&mut self, stage: &str, kind: &str, state: &str) {
        let Some((lane, start, reason)) = self.running.remove(stage) else {
            return;
        };
        let length = self.now() - start;
        self.events.push(json!({
            "name": stage, "cat": kind, "ph": "X", "ts": start, "dur": length, "pid": 1, "tid": lane + 1,
            "args": {"reason": reason, "state": state},
        }));
    }

    fn write(&mut self) -> io::Result<()> {
        let trace = json!({"displayTimeUnit": "ms", "traceEvents": self.events});
        let mut writer = BufWriter::new(&self.file);
        serde_json::to_writer(&mut writer, &trace)?;
        writer.flush()
    }
}

impl Reporter for Trace {
    fn on(&mut self, event: &Event) {
        match event {
            Event::StageStarted { stage, reason, .. } => self.start(stage, reason),
            Event::StageFinished {
                stage, kind, state, ..
            } => self.end(stage, kind, state.name()),
            Event::StageFailed { stage, kind, .. } => self.end(stage, kind, "failed"),
            Event::StageProgress { stage, figures, .. } if !figures.is_empty() => {
                let mut values = serde_json::Map::new();
                for (name, value) in figures {
                    values.insert(name.to_string(), json!(value));
                }
                let now = self.now();
                self.events
                    .push(json!({"name": stage, "ph": "C", "ts": now, "pid": 1, "args": values}));
            }
            Event::RunFinished { .. } => {
                if let Err(error) = self.write() {
                    tracing::warn!("the trace could not be written: {error}");
                }
            }
            _ => {}
        }
    }
}
