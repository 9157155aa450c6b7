//! What a running stage sees of the engine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use contract::artifact::Digest;
use contract::{Doubt, Host, Progress, Trouble};

use super::execute::Message;
use super::raw_files::RawFiles;
use super::{CancelToken, Event, FileFinder};
use crate::cache::{Key, Store};
use crate::diagnostic::AsTrouble;

/// Progress is passed on at most this often.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(50);

/// Findings of a stage that are kept; one that says more repeats itself.
const MOST_FINDINGS: usize = 100;

/// The [`Host`] of one execution of one stage.
pub(super) struct StageHost<'a> {
    pub stage: String,
    pub key: Key,
    /// The user forced the stage: it takes nothing from where an earlier execution had come to.
    pub from_the_start: bool,
    pub store: Arc<Store>,
    pub cancel: CancelToken,
    pub deadline: Option<Instant>,
    /// Finds what users name.
    pub finder: &'a dyn FileFinder,
    pub files: RawFiles,
    pub environment: BTreeMap<String, String>,
    pub scratch: Scratch,
    pub messages: Sender<Message>,
    /// What the stage found doubtful.
    pub doubts: Mutex<Vec<Doubt>>,
    /// What the stage found out about its data.
    pub findings: Mutex<Vec<String>>,
    pub last_progress: Mutex<Option<Instant>>,
    /// The step of the checkpoint from which the stage went on.
    pub began_at: AtomicU64,
    /// Whether a checkpoint beyond that was kept.
    pub has_advanced: AtomicBool,
    /// Whether the stage was told to stop since its time was over. One that fails by itself before that, has failed.
    pub was_late: AtomicBool,
}

impl StageHost<'_> {
    fn is_late(&self) -> bool {
        let is_late = matches!(self.deadline, Some(deadline) if Instant::now() > deadline);
        self.was_late.fetch_or(is_late, Ordering::Relaxed);
        is_late
    }

    fn send(&self, event: Event) {
        let _ = self.messages.send(Message::Event(event));
    }
}

impl Host for StageHost<'_> {
    fn progress(&self, progress: Progress) {
        let now = Instant::now();
        let Ok(mut last) = self.last_progress.lock() else {
            return;
        };
        let is_last = progress.done >= progress.total;
        if !is_last && last.is_some_and(|last| now - last < PROGRESS_INTERVAL) {
            return;
        }
        *last = Some(now);
        let Progress {
            unit,
            done,
            total,
            phase,
            figures,
        } = progress;
        self.send(Event::StageProgress {
            stage: self.stage.clone(),
            unit,
            done,
            total,
            phase,
            figures,
        });
    }

    fn note(&self, text: &str) {
        self.send(Event::StageNote {
            stage: self.stage.clone(),
            text: text.to_owned(),
        });
    }

    fn finding(&self, text: &str) {
        self.note(text);
        let mut findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        if findings.len() < MOST_FINDINGS {
            findings.push(text.to_owned());
        }
    }

    fn doubt(&self, doubt: Doubt) {
        let mut doubts = self.doubts.lock().unwrap_or_else(PoisonError::into_inner);
        if !doubts.contains(&doubt) {
            doubts.push(doubt);
        }
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled() || self.is_late()
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        self.files.hand_out(name)
    }

    fn names_below(&self, folder: &str) -> Vec<String> {
        self.files.below(folder)
    }

    fn copy_file(&self, name: &str, target: &Path) -> Result<(), Trouble> {
        self.files.copy(name, target)
    }

    fn environment(&self, name: &str) -> Option<String> {
        self.environment.get(name).cloned()
    }

    fn look_up(&self, path: &Path) -> Option<PathBuf> {
        self.finder.look_up(path)
    }

    fn shared_folder(
        &self,
        name: &Digest,
        make: &mut dyn FnMut(&Path) -> Result<(), Trouble>,
    ) -> Result<PathBuf, Trouble> {
        let is_cancelled = || self.is_cancelled();
        self.store.shared_folder(name, &is_cancelled, make)
    }

    fn scratch(&self) -> Result<&Path, Trouble> {
        self.scratch.path()
    }

    fn load_checkpoint(&self, chain: &Digest, at_most: u64) -> Option<(u64, Vec<u8>)> {
        if self.from_the_start {
            return None;
        }
        let found = self.store.load_checkpoint(chain, at_most);
        let began_at = match &found {
            Some((step, _)) => *step,
            None => 0,
        };
        self.began_at.store(began_at, Ordering::Relaxed);
        found
    }

    fn save_checkpoint(
        &self,
        chain: &Digest,
        step: u64,
        bytes: &[u8],
        best: Option<u64>,
    ) -> Result<(), Trouble> {
        let saved = self
            .store
            .save_checkpoint(&self.key, chain, step, bytes, best);
        if let Err(error) = saved {
            let hint = error.hint();
            return Err(Trouble::new("a checkpoint could not be written")
                .because(error)
                .maybe_hint(hint));
        }
        if step > self.began_at.load(Ordering::Relaxed) {
            self.has_advanced.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn end_checkpoints(&self, chain: &Digest) {
        if let Err(error) = self.store.end_checkpoints(chain) {
            tracing::debug!("{error}");
        }
    }

    fn forget_checkpoints(&self, chain: &Digest) {
        if let Err(error) = self.store.forget_checkpoints(chain) {
            tracing::debug!("{error}");
        }
    }
}

/// A folder below the store's `tmp/` that is made when it is first asked for and removed with the stage.
#[derive(Debug)]
pub(super) struct Scratch {
    store: Arc<Store>,
    path: PathBuf,
    made: std::sync::OnceLock<()>,
}

impl Scratch {
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            store: Arc::clone(store),
            path: store.scratch_folder(),
            made: std::sync::OnceLock::new(),
        }
    }

    fn path(&self) -> Result<&Path, Trouble> {
        if self.made.get().is_none() {
            std::fs::create_dir_all(&self.path).map_err(|error| {
                Trouble::new("the scratch folder could not be made").because(error)
            })?;
            let _ = self.made.set(());
        }
        Ok(&self.path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.made.get().is_some()
            && let Err(error) = self.store.remove_scratch(&self.path)
        {
            let why = match std::error::Error::source(&error) {
                Some(source) => format!(": {source}"),
                None => String::new(),
            };
            tracing::warn!("{error}{why}; `runner cache gc` removes it when it is an hour old");
        }
    }
}
