//! Progress bars on a terminal: one per running stage, with rate and time left; finished stages scroll up as lines.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use super::lines::{
    doubt_text, failure_text, finished_text, note_text, progress_tail, retry_text, summary_text,
    whole_text,
};
use super::screen::err;
use super::style::styled;
use super::{Colours, Paint};
use crate::diagnostic::visible;
use crate::engine::{Event, Reporter};

/// Draws bars.
pub(super) struct Bars {
    verbose: bool,
    colours: Colours,
    screen: MultiProgress,
    running: BTreeMap<String, ProgressBar>,
    /// Below all others: how far the run is as a whole.
    whole: Option<ProgressBar>,
}

impl Bars {
    pub fn new(verbose: bool) -> Self {
        Self {
            verbose,
            colours: Colours::of_stderr(),
            screen: MultiProgress::new(),
            running: BTreeMap::new(),
            whole: None,
        }
    }

    fn line(&self, text: &str) {
        if self.screen.println(styled(text, self.colours)).is_err() {
            err!("{text}\n");
        }
    }

    fn start(&mut self, stage: &str, kind: &str, reason: &str) {
        let bar = ProgressBar::new_spinner();
        let bar = match &self.whole {
            Some(whole) => self.screen.insert_before(whole, bar),
            None => self.screen.add(bar),
        };
        let style = ProgressStyle::with_template("{spinner} {prefix}  {wide_msg} {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_prefix(visible(&format!("{stage} ({kind})")).into_owned());
        bar.set_message(visible(reason).into_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        self.running.insert(stage.to_owned(), bar);
    }

    fn progress(&mut self, stage: &str, unit: &str, done: u64, total: u64, tail: String) {
        let Some(bar) = self.running.get(stage) else {
            return;
        };
        if bar.length() != Some(total) {
            let template = format!(
                "{{spinner}} {{prefix}}  {{bar:24}} {{percent:>3}} %  {{msg}}  {{per_sec}} {unit}s/s  {{eta}} left"
            );
            let style = ProgressStyle::with_template(&template);
            let style = style
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("━╸─")
                .with_key("per_sec", write_pace);
            bar.set_style(style);
            bar.set_length(total);
            // What a resumed stage finds done says nothing about its pace.
            bar.set_position(done);
            bar.reset_eta();
        }
        bar.set_message(visible(&tail).into_owned());
        bar.set_position(done);
    }

    fn whole(&mut self, done: usize, total: usize, text: String) {
        let bar = self.whole.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("  {bar:24} {msg}");
            let style = style
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("━╸─");
            self.screen
                .add(ProgressBar::new(total as u64).with_style(style))
        });
        bar.set_position(done as u64);
        bar.set_message(visible(&text).into_owned());
    }

    fn end(&mut self, stage: &str) {
        if let Some(bar) = self.running.remove(stage) {
            bar.finish_and_clear();
            self.screen.remove(&bar);
        }
    }
}

fn write_pace(state: &ProgressState, writer: &mut dyn std::fmt::Write) {
    let _ = writer.write_str(&super::number(state.per_sec()));
}

impl Reporter for Bars {
    fn on(&mut self, event: &Event) {
        match event {
            Event::RunStarted { run, .. } => {
                self.line(&format!("{} {run}", Paint::Quiet.on("run")))
            }
            Event::StageStarted {
                stage,
                kind,
                reason,
            } => self.start(stage, kind, reason),
            Event::StageProgress {
                stage,
                unit,
                done,
                total,
                phase,
                figures,
            } => {
                self.progress(stage, unit, *done, *total, progress_tail(phase, figures));
            }
            Event::StageNote { stage, text } => {
                let (note, text) = (Paint::Quiet.on("note"), note_text(stage, text));
                self.line(&format!("{note} {text}"));
            }
            Event::StageDoubt { stage, doubt } => self.line(&doubt_text(stage, doubt)),
            Event::StageWaiting { stage } => {
                let (wait, stage) = (Paint::Warn.on("wait"), visible(stage));
                self.line(&format!("{wait} {stage}: another process is working on it"));
            }
            Event::StageRetried {
                stage,
                attempt,
                failure,
            } => {
                self.line(&retry_text(stage, *attempt, failure));
            }
            Event::StageFinished { stage, .. } => {
                self.end(stage);
                if let Some(line) = finished_text(event, self.verbose) {
                    self.line(&line);
                }
            }
            Event::StageFailed { stage, failure, .. } => {
                self.end(stage);
                self.line(&failure_text(stage, failure));
            }
            Event::RunProgress { done, total, .. } => self.whole(*done, *total, whole_text(event)),
            Event::RunFinished { .. } => {
                if let Some(whole) = self.whole.take() {
                    whole.finish_and_clear();
                }
                self.line(&summary_text(event));
            }
        }
    }
}
