//! What happens in a run, as a stream. The engine emits events and nothing else; screens, logs and records read them.

use std::borrow::Cow;

use contract::Doubt;
use contract::artifact::Digest;
use indexmap::IndexMap;
use serde::Serialize;

use super::Failure;
use crate::cache::{Key, RunId, RunStatus, StageState};

/// One step of a run.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    RunStarted {
        run: RunId,
        stages: usize,
        /// Stages whose outputs are there already.
        hits: usize,
    },
    StageStarted {
        stage: String,
        kind: &'static str,
        /// Why it is not a hit.
        reason: String,
    },
    StageProgress {
        stage: String,
        unit: Cow<'static, str>,
        done: u64,
        total: u64,
        phase: String,
        figures: Vec<(Cow<'static, str>, f64)>,
    },
    StageNote {
        stage: String,
        text: String,
    },
    /// Something doubtful in what a stage read, in this run or when its outputs were made.
    StageDoubt {
        stage: String,
        #[serde(flatten)]
        doubt: Doubt,
    },
    /// Another process works on the same key.
    StageWaiting {
        stage: String,
    },
    StageRetried {
        stage: String,
        attempt: u32,
        failure: Failure,
    },
    StageFinished {
        stage: String,
        kind: &'static str,
        state: StageState,
        key: Option<Key>,
        digests: IndexMap<String, Digest>,
        seconds: f64,
        bytes: u64,
        reason: String,
    },
    StageFailed {
        stage: String,
        kind: &'static str,
        failure: Failure,
    },
    /// How far the run is as a whole, where somebody counts.
    RunProgress {
        unit: &'static str,
        done: usize,
        total: usize,
        phase: String,
        seconds_left: Option<f64>,
    },
    RunFinished {
        run: RunId,
        status: RunStatus,
        seconds: f64,
        ran: usize,
        hits: usize,
        failed: usize,
        skipped: usize,
    },
}

/// Receives the events of a run, in order, on one thread.
pub trait Reporter {
    fn on(&mut self, event: &Event);
}

/// Several reporters in turn.
#[derive(Default)]
pub struct Reporters<'a>(pub Vec<Box<dyn Reporter + 'a>>);

impl Reporter for Reporters<'_> {
    fn on(&mut self, event: &Event) {
        self.0.iter_mut().for_each(|reporter| reporter.on(event));
    }
}
