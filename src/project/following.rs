//! A run under way, as anyone who sees its folder can follow it: from its journal and from the logs of its stages.

use indexmap::IndexMap;
use serde::Deserialize;

use crate::cache::{RunId, StageState, Store};
use crate::engine::log_path;

/// Lines of a log that are kept, the last.
const LINES: usize = 40;

/// How far a run is.
#[derive(Clone, Debug, Default)]
pub struct Followed {
    /// Stages of the run.
    pub stages: usize,
    /// Stages whose results were there already.
    pub hits: usize,
    /// Stages that have ended, hits included.
    pub done: usize,
    /// Those that have begun, in that order.
    pub begun: IndexMap<String, FollowedStage>,
    /// Seconds of the last line of the journal.
    pub seconds: f64,
    pub has_ended: bool,
}

/// A stage that has begun.
#[derive(Clone, Debug, Default)]
pub struct FollowedStage {
    pub kind: String,
    /// `None` while it is at work.
    pub ended: Option<StageState>,
    /// Seconds since the start of the run.
    pub started: f64,
    pub seconds: f64,
    /// What it reported on the way.
    pub reports: Vec<Report>,
    /// The last lines of its log that are not progress.
    pub lines: Vec<String>,
}

/// What a stage reported on the way.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// What it counts, such as `epoch`.
    pub unit: String,
    pub done: u64,
    pub total: u64,
    /// By name, such as `loss`.
    pub values: Vec<(String, f64)>,
}

/// A line of the journal, as far as it is followed. Others are passed over.
#[derive(Deserialize)]
struct Line {
    at: f64,
    event: String,
    #[serde(default)]
    stage: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    state: Option<StageState>,
    #[serde(default)]
    seconds: f64,
}

/// The first line says how many stages there are.
#[derive(Deserialize)]
struct Start {
    stages: usize,
    hits: usize,
}

impl Followed {
    /// Reads what is there. A run without a journal has not begun.
    pub fn read(store: &Store, run: &RunId) -> Self {
        let folder = store.run_folder(run);
        let journal = store.layout().read(&folder.join("events.jsonl"));
        let journal = journal.unwrap_or_default();
        let mut followed = Self::default();
        for line in String::from_utf8_lossy(&journal).lines() {
            // The last line may be half written.
            let Ok(event) = serde_json::from_str::<Line>(line) else {
                continue;
            };
            followed.note(&event, line);
        }
        // A log may be long: those of stages that are at work suffice.
        let at_work = followed.begun.iter_mut();
        for (name, stage) in at_work.filter(|(_, stage)| stage.ended.is_none()) {
            let log = store.layout().read(&log_path(&folder, name));
            stage.read_log(&String::from_utf8_lossy(&log.unwrap_or_default()));
        }
        followed
    }

    fn note(&mut self, event: &Line, line: &str) {
        self.seconds = event.at;
        match event.event.as_str() {
            "run-started" => {
                if let Ok(start) = serde_json::from_str::<Start>(line) {
                    (self.stages, self.hits) = (start.stages, start.hits);
                }
            }
            "stage-started" => {
                let stage = self.begun.entry(event.stage.clone()).or_default();
                stage.kind.clone_from(&event.kind);
                stage.started = event.at;
                stage.ended = None;
            }
            "stage-finished" => {
                self.done += 1;
                if let Some(stage) = self.begun.get_mut(&event.stage) {
                    stage.ended = event.state;
                    stage.seconds = event.seconds;
                }
            }
            "stage-failed" => {
                self.done += 1;
                let stage = self.begun.entry(event.stage.clone()).or_default();
                stage.ended = Some(StageState::Failed);
                stage.seconds = event.at - stage.started;
            }
            "run-finished" => self.has_ended = true,
            _ => {}
        }
    }
}

impl FollowedStage {
    fn read_log(&mut self, text: &str) {
        for line in text.lines() {
            match progress(line) {
                Some(report) => self.reports.push(report),
                None => self.lines.push(line.to_owned()),
            }
        }
        let surplus = self.lines.len().saturating_sub(LINES);
        self.lines.drain(..surplus);
    }
}

/// A line such as `epoch 3/10 loss=0.5`, as [`crate::engine::Logs`] writes it.
fn progress(line: &str) -> Option<Report> {
    let mut words = line.split(' ');
    let unit = words.next()?;
    let (done, total) = words.next()?.split_once('/')?;
    let mut values = Vec::new();
    for word in words {
        let (name, value) = word.split_once('=')?;
        values.push((name.to_owned(), value.parse().ok()?));
    }
    let report = Report {
        unit: unit.to_owned(),
        done: done.parse().ok()?,
        total: total.parse().ok()?,
        values,
    };
    (!report.values.is_empty()).then_some(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_progress_is_told_from_what_a_program_says() {
        let report = progress("epoch 3/10 loss=0.5 val_loss=1e-3").unwrap();
        let counts = (report.unit.as_str(), report.done, report.total);
        assert_eq!(counts, ("epoch", 3, 10));
        assert_eq!(
            report.values,
            [("loss".to_owned(), 0.5), ("val_loss".to_owned(), 1e-3)]
        );
        for line in [
            "epoch 3/10",
            "loading 1/2 files",
            "a=b",
            "",
            "epoch x/10 loss=1",
        ] {
            assert!(progress(line).is_none(), "{line}");
        }
    }

    #[test]
    fn a_journal_says_what_is_at_work() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path());
        store.prepare().unwrap();
        let run = RunId("r".to_owned());
        let home = store.run_folder(&run);
        std::fs::create_dir_all(home.join("logs")).unwrap();
        let journal = [
            r#"{"at":0.1,"event":"run-started","run":"r","stages":3,"hits":1}"#,
            r#"{"at":0.2,"event":"stage-started","stage":"a","kind":"train","reason":"never ran"}"#,
            r#"{"at":0.5,"event":"stage-finished","stage":"a","kind":"train","state":"ran","seconds":0.25}"#,
            r#"{"at":0.6,"event":"stage-started","stage":"b","kind":"train","reason":"never ran"}"#,
            r#"{"at":0.7,"event":"stage-no"#,
        ];
        std::fs::write(home.join("events.jsonl"), journal.join("\n")).unwrap();
        std::fs::write(
            log_path(&home, "b"),
            "hello\nepoch 1/4 loss=2\nepoch 2/4 loss=1\n",
        )
        .unwrap();
        let followed = Followed::read(&store, &run);
        assert_eq!((followed.stages, followed.hits, followed.done), (3, 1, 1));
        assert!(!followed.has_ended);
        let stage = &followed.begun["b"];
        assert_eq!(stage.reports.len(), 2);
        assert_eq!((stage.reports[1].done, stage.reports[1].total), (2, 4));
        assert_eq!(stage.lines, ["hello"]);
        assert_eq!(followed.begun["a"].ended, Some(StageState::Ran));
    }
}
