//! Plain lines on standard error, for logs: a line when a stage starts, ends or fails, and progress now and then.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use contract::Doubt;

use super::screen::{err, errln};
use super::{Paint, duration, number};
use crate::cache::{RunStatus, StageState};
use crate::diagnostic::{counted, indented, visible};
use crate::engine::{Event, Failure, Reporter};

/// Before further lines of one text: they never pass for lines of ours.
const DEEPER: &str = "    ";

/// Progress lines of one stage come at most this often.
const INTERVAL: Duration = Duration::from_secs(10);

/// Writes lines.
#[derive(Debug, Default)]
pub struct Lines {
    verbose: bool,
    quiet: bool,
    started: BTreeMap<String, Instant>,
    /// When a stage first said how far it is, and how far that was: what a resumed stage finds done is not its pace.
    first: BTreeMap<String, (Instant, u64)>,
    told: BTreeMap<String, Instant>,
}

impl Lines {
    pub fn new(verbose: bool) -> Self {
        Self {
            verbose,
            ..Self::default()
        }
    }

    /// Only failures and warnings.
    pub fn quiet() -> Self {
        Self {
            quiet: true,
            ..Self::default()
        }
    }

    fn progress(&mut self, stage: &str, done: u64, total: u64, unit: &str, tail: &str) {
        let now = Instant::now();
        let (since, found) = *self.first.entry(stage.to_owned()).or_insert((now, done));
        let started = self.started.get(stage).copied().unwrap_or(now);
        let last = self.told.entry(stage.to_owned()).or_insert(started);
        if now - *last < INTERVAL {
            return;
        }
        *last = now;
        let pace = done.saturating_sub(found) as f64 / (now - since).as_secs_f64();
        errln!(
            "  {}: {}",
            visible(stage),
            progress_text(done, total, unit, pace, tail)
        );
    }
}

impl Reporter for Lines {
    fn on(&mut self, event: &Event) {
        match event {
            Event::StageFailed { stage, failure, .. } => err!("{}\n", failure_text(stage, failure)),
            Event::StageRetried {
                stage,
                attempt,
                failure,
            } => {
                err!("{}\n", retry_text(stage, *attempt, failure));
            }
            _ if self.quiet => {}
            Event::RunStarted { run, stages, hits } => {
                errln!(
                    "run {run}: {}, {hits} up to date",
                    counted(*stages, "stage")
                );
            }
            Event::StageStarted {
                stage,
                kind,
                reason,
            } => {
                self.started.insert(stage.clone(), Instant::now());
                self.first.remove(stage);
                errln!(
                    "{} {}",
                    Paint::Busy.on("start"),
                    visible(&format!("{stage} ({kind}): {reason}"))
                );
            }
            Event::StageProgress {
                stage,
                unit,
                done,
                total,
                phase,
                figures,
            } => {
                let tail = progress_tail(phase, figures);
                self.progress(stage, *done, *total, unit, &tail);
            }
            Event::StageNote { stage, text } => err!("  {}\n", note_text(stage, text)),
            Event::StageDoubt { stage, doubt } => err!("{}\n", doubt_text(stage, doubt)),
            Event::StageWaiting { stage } => {
                errln!(
                    "  {}: another process is working on it; waiting for its result",
                    visible(stage)
                );
            }
            Event::StageFinished { .. } => {
                if let Some(line) = finished_text(event, self.verbose) {
                    errln!("{line}");
                }
            }
            Event::RunProgress { done, total, .. } => {
                let now = Instant::now();
                let last = self.told.entry(String::new()).or_insert(now);
                if now - *last >= INTERVAL && done < total {
                    *last = now;
                    errln!("{} {}", Paint::Busy.on("progress:"), whole_text(event));
                }
            }
            Event::RunFinished { .. } => errln!("{}", summary_text(event)),
        }
    }
}

/// `epoch 3/10, loss 0.0123`.
pub(super) fn progress_tail(phase: &str, figures: &[(Cow<'static, str>, f64)]) -> String {
    let mut parts = Vec::new();
    if !phase.is_empty() {
        parts.push(phase.to_owned());
    }
    for (name, value) in figures {
        parts.push(format!("{name} {}", number(*value)));
    }
    parts.join(", ")
}

/// `45 %, epoch 3/10, loss 0.0123, 5120 samples/s, 12 s left`.
fn progress_text(done: u64, total: u64, unit: &str, pace: f64, tail: &str) -> String {
    let share = match total {
        0 => 0.0,
        _ => done as f64 / total as f64,
    };
    let mut parts = vec![format!("{:.0} %", share * 100.0)];
    if !tail.is_empty() {
        parts.push(tail.to_owned());
    }
    if pace.is_finite() && pace > 0.0 {
        let left = total.saturating_sub(done) as f64 / pace;
        parts.push(format!("{} {unit}s/s", number(pace)));
        parts.push(format!("{} left", duration(left)));
    }
    parts.join(", ")
}

/// `12 of 24 trials, best f1 0.412 (7), 3 min 05 s left`.
pub(super) fn whole_text(event: &Event) -> String {
    let Event::RunProgress {
        unit,
        done,
        total,
        phase,
        seconds_left,
    } = event
    else {
        return String::new();
    };
    let mut parts = vec![format!("{done} of {total} {unit}s")];
    if !phase.is_empty() {
        parts.push(phase.clone());
    }
    if let Some(left) = seconds_left
        && done < total
    {
        parts.push(format!("{} left", duration(*left)));
    }
    parts.join(", ")
}

/// A warning about what a stage read.
pub fn doubt_text(stage: &str, doubt: &Doubt) -> String {
    let text = format!("{stage}: {}", doubt.message);
    let text = visible(&text);
    let mut shown = format!("{} {text}", Paint::Warn.on("warning"));
    if let Some(hint) = &doubt.hint {
        shown += &format!("\n  {} {}", Paint::Quiet.on("hint:"), visible(hint));
    }
    shown
}

/// What a stage says: a line, or several that belong together.
pub(super) fn note_text(stage: &str, text: &str) -> String {
    format!("{}: {}", visible(stage), indented(text, DEEPER))
}

/// That a stage is tried again, and why.
pub(super) fn retry_text(stage: &str, attempt: u32, failure: &Failure) -> String {
    let why = indented(&failure.message, DEEPER);
    format!(
        "{} {}: attempt {attempt} failed: {why}",
        Paint::Warn.on("retry"),
        visible(stage)
    )
}

/// A failure in full: stage, sentence, place, causes, inputs, hint.
pub(super) fn failure_text(stage: &str, failure: &Failure) -> String {
    let message = indented(&failure.message, DEEPER);
    let mut text = format!(
        "{} in stage {}: {message}",
        Paint::Bad.on("error"),
        Paint::Strong.on(stage)
    );
    let mut line = |label: &str, value: &str| {
        text.push_str(&format!(
            "\n  {}: {}",
            Paint::Quiet.on(label),
            indented(value, DEEPER)
        ));
    };
    if let Some(location) = &failure.location {
        line("at", location);
    }
    for cause in &failure.causes {
        line("because", cause);
    }
    if !failure.inputs.is_empty() {
        line("inputs", &failure.inputs.join(", "));
    }
    if let Some(hint) = &failure.hint {
        line("hint", hint);
    }
    text
}

/// The line for a finished stage; hits only when `verbose`.
pub(super) fn finished_text(event: &Event, verbose: bool) -> Option<String> {
    let Event::StageFinished {
        stage,
        kind,
        state,
        seconds,
        bytes,
        reason,
        ..
    } = event
    else {
        return None;
    };
    let name = format!("{stage} ({kind})");
    let name = visible(&name);
    match state {
        StageState::Ran => {
            let cost = format!("{}, {}", duration(*seconds), super::bytes(*bytes));
            Some(format!("{}  {name}: {cost}", Paint::Good.on("done")))
        }
        StageState::Skipped => {
            let (skip, why) = (Paint::Warn.on("skip"), visible(reason));
            Some(format!("{skip}  {name}: {why}"))
        }
        StageState::Hit if verbose => Some(format!("{}   {name}", Paint::Quiet.on("hit"))),
        StageState::Hit | StageState::Failed => None,
    }
}

/// The last line of a run.
pub(super) fn summary_text(event: &Event) -> String {
    let Event::RunFinished {
        run,
        status,
        seconds,
        ran,
        hits,
        failed,
        skipped,
    } = event
    else {
        return String::new();
    };
    let colour = match status {
        RunStatus::Done => Paint::Good,
        RunStatus::Failed => Paint::Bad,
        RunStatus::Interrupted | RunStatus::Running => Paint::Warn,
    };
    let mut parts = vec![format!("{ran} ran"), format!("{hits} up to date")];
    if *failed > 0 {
        parts.push(format!("{failed} failed"));
    }
    if *skipped > 0 {
        parts.push(format!("{skipped} skipped"));
    }
    let status = colour.on(status.name());
    format!(
        "{status}: {} in {} (run {run})",
        parts.join(", "),
        duration(*seconds)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_follows_from_the_pace() {
        let text = progress_text(75, 100, "sample", 5.0, "epoch 3/4");
        assert_eq!(text, "75 %, epoch 3/4, 5.000 samples/s, 5.0 s left");
        // Nothing is said where nothing is known yet.
        assert_eq!(progress_text(75, 100, "sample", 0.0, ""), "75 %");
        assert_eq!(progress_text(0, 0, "sample", f64::NAN, ""), "0 %");
    }
}
