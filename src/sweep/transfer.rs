//! Copies results to a remote or from it: those of a run, of a pipeline, of a sweep, or all.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{Queue, Sweep};
use crate::cache::{
    CacheError, Key, Progress, PushOptions, Remote, RunRecord, Store, TransferReport,
};
use crate::pipeline::is_sweep;
use crate::project::{Choice, Error, Fetch, Project, Request, Session};

/// Which way results go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Push,
    Pull,
}

/// Which results are copied.
#[derive(Clone, Debug)]
pub enum TransferWhat {
    /// Those of a run, named as on the command line, with its record.
    Run(String),
    /// Those of a pipeline or a sweep, with what is made of it.
    File(PathBuf, Choice),
    All,
}

impl TransferWhat {
    /// What a word on the command line means: a file if it looks like one, or else a run.
    pub fn named(name: &str, choice: Choice) -> Self {
        let path = Path::new(name);
        let is_yaml = path
            .extension()
            .is_some_and(|ending| ending == "yaml" || ending == "yml");
        if is_yaml || path.is_file() {
            Self::File(path.to_owned(), choice)
        } else {
            Self::Run(name.to_owned())
        }
    }
}

/// What is to be copied, and how.
#[derive(Clone, Debug)]
pub struct TransferOrder {
    pub way: Way,
    pub what: TransferWhat,
    /// Whether nothing is copied, and the report says what would be.
    pub dry_run: bool,
    /// Whether what is at the remote is read back, and replaced where it is damaged. Otherwise only sizes are compared.
    pub verify: bool,
}

/// What was copied.
pub struct Transferred {
    pub remote: Remote,
    pub report: TransferReport,
}

/// The results that were chosen.
#[derive(Default)]
struct Chosen {
    keys: BTreeSet<Key>,
    /// The record that is copied with them, if it is not where they go.
    record: Option<RunRecord>,
}

impl Project {
    /// Copies results. `progress` says meanwhile how far it is. A copy that fails for some results is not an error: the report
    /// says how many, and the same call continues where it stopped.
    ///
    /// # Errors
    /// If there is no remote, or it is only to be read; no such run; or the pipeline cannot be read.
    pub fn transfer(
        &self,
        order: &TransferOrder,
        progress: &Progress,
    ) -> Result<Transferred, Error> {
        let folder = match &order.what {
            TransferWhat::File(path, _) => path.parent().unwrap_or(Path::new(".")),
            _ => Path::new("."),
        };
        let remote = self.named_remote(folder)?;
        if order.way == Way::Push {
            Self::refuse_read_only(&remote)?;
        }
        remote.cancel_on(self.cancel.flag());
        let store = self.local_store();
        let Chosen { keys, record } = self.choose(order, &store, &remote)?;
        if order.way == Way::Pull && !order.dry_run {
            store.prepare()?;
            // Before anything comes: a collection meanwhile leaves it alone.
            store.note_pull(&keys)?;
        }
        let report = match order.way {
            Way::Push => {
                let options = PushOptions {
                    verify: order.verify,
                    dry_run: order.dry_run,
                };
                remote.push(&store, &keys, options, progress)?
            }
            Way::Pull => remote.pull(&store, &keys, order.dry_run, progress)?,
        };
        if let Some(record) = record
            && !order.dry_run
            && report.is_complete()
        {
            match order.way {
                Way::Push => remote.push_run(&store, &record.run)?,
                // It takes its place after the runs of this store.
                Way::Pull => store.save_run(&record)?,
            }
        }
        Ok(Transferred { remote, report })
    }

    fn choose(
        &self,
        order: &TransferOrder,
        store: &Store,
        remote: &Remote,
    ) -> Result<Chosen, Error> {
        let keys = match (&order.what, order.way) {
            (TransferWhat::Run(name), way) => return run_called(name, way, store, remote),
            (TransferWhat::File(path, choice), way) => self.keys_of_file(path, choice, way)?,
            (TransferWhat::All, Way::Push) => {
                let (actions, _) = store.actions()?;
                actions.iter().map(|action| action.key).collect()
            }
            (TransferWhat::All, Way::Pull) => remote.keys()?,
        };
        Ok(Chosen { keys, record: None })
    }

    /// The keys of the stages whose results are here (to push), or there (to pull).
    fn keys_of_file(&self, path: &Path, choice: &Choice, way: Way) -> Result<BTreeSet<Key>, Error> {
        let request = Request {
            pipeline: Some(path.to_owned()),
            choice: choice.clone(),
        };
        let store = match way {
            Way::Push => self.local_store(),
            // What the remote has counts as there.
            Way::Pull => self
                .local_store()
                .with_remote(self.named_remote(&request.folder())?),
        };
        if is_sweep(path) {
            let mut sweep = Sweep::open_on(store, self, path, choice, true)?;
            let queue = Queue::of(&sweep);
            return Ok(sweep.state(&queue)?.plan.keys_of_hits());
        }
        let session = Session::open_on(store, self, &request, Fetch::Never)?;
        Ok(session.planner().plan().keys_of_hits())
    }
}

/// What a run was built on. A run to be pulled need not be known here.
fn run_called(name: &str, way: Way, store: &Store, remote: &Remote) -> Result<Chosen, Error> {
    let error = match store.find_run(name) {
        Ok(record) => {
            let keys = record.keys().collect();
            // What is here need not be written again.
            let record = (way == Way::Push).then_some(record);
            return Ok(Chosen { keys, record });
        }
        Err(error) => error,
    };
    let hint = match way {
        Way::Push if matches!(error, CacheError::NoRuns(_)) => return Err(error.into()),
        Way::Push => {
            "`runner runs` lists runs; you can also name a pipeline file, or give --all".to_owned()
        }
        Way::Pull => match remote.find_run(name)? {
            Some(record) => {
                return Ok(Chosen {
                    keys: record.keys().collect(),
                    record: Some(record),
                });
            }
            None => format!(
                "it is neither here nor at {}; you can also name a pipeline file, or give --all",
                remote.address()
            ),
        },
    };
    Err(Error::from(error).hint(hint))
}
