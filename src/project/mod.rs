//! The application as a library: open a project, open a pipeline or a sweep, and plan, run, lock, audit and collect. Calls
//! return values and typed errors, tell of warnings and downloads through a [`Listener`], and print nothing. The command
//! line stands on it.

mod audit;
mod audit_target;
mod carry_out;
mod choice;
mod error;
mod files;
mod garbage;
mod lock;
mod record;
mod recorded;
mod results;
mod session;
mod settings;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use contract::Catalogue;

use crate::cache::Store;
use crate::data::Transfer;
use crate::diagnostic::{Diagnostics, SourceMap};

pub use audit::{AuditOrder, AuditPart, Audited};
pub use audit_target::Target;
pub use carry_out::{Carried, Count, Limits, Reporting, carry_out, carry_out_counting};
pub use choice::{Choice, DeviceChoice, RemoteUse, Request};
pub use error::{Error, Faulty, headline};
pub use files::{BroughtWhen, Files};
pub use garbage::Collection;
pub use lock::lock_beside;
pub use recorded::{Read, joined, read_member, session_of};
pub use results::{Results, link_files, link_files_of, results_of};
pub use session::{
    Fetch, Parts, QUICKSTART, QUICKSTART_PATH, Reading, Session, find, pick_device, read, select,
    size_pool,
};
pub use settings::check as check_settings;

/// Is told of what a call goes on from.
pub trait Listener: Send + Sync {
    /// Warnings about a pipeline or a sweep, with the texts that they point into.
    fn warned(&self, diagnostics: &Diagnostics, sources: &SourceMap);

    /// How far a download is.
    fn downloads(&self, transfer: &Transfer<'_>);

    /// Anything else that is worth a line.
    fn notes(&self, text: &str);
}

/// Listens to nothing.
pub struct Silent;

impl Listener for Silent {
    fn warned(&self, _: &Diagnostics, _: &SourceMap) {}

    fn downloads(&self, _: &Transfer<'_>) {}

    fn notes(&self, _: &str) {}
}

/// Where results are kept, what stages there are, and who is told of warnings.
#[derive(Clone)]
pub struct Project {
    pub catalogue: Arc<Catalogue>,
    /// The folder of the store.
    pub store: PathBuf,
    /// The command that records of runs name.
    pub command: Vec<String>,
    /// What the caller says of the remote; settings say the rest.
    pub remote: RemoteChoice,
    pub listener: Arc<dyn Listener>,
}

/// Through which remote results are shared, as far as the caller says.
#[derive(Clone, Debug, Default)]
pub struct RemoteChoice {
    /// An address, or `off`.
    pub url: Option<String>,
    pub mode: Option<RemoteUse>,
}

impl Project {
    /// A project whose store is this folder, without a remote of its own and with nobody who listens.
    pub fn new(catalogue: Arc<Catalogue>, store: impl Into<PathBuf>) -> Self {
        Self {
            catalogue,
            store: store.into(),
            command: Vec::new(),
            remote: RemoteChoice::default(),
            listener: Arc::new(Silent),
        }
    }

    /// The store alone, without a remote.
    pub fn local_store(&self) -> Store {
        Store::open(&self.store)
    }

    /// Tells of warnings, if there are any.
    pub(crate) fn warn(&self, diagnostics: &Diagnostics, sources: &SourceMap) {
        if !diagnostics.is_empty() {
            self.listener.warned(diagnostics, sources);
        }
    }
}

impl fmt::Debug for Project {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Project")
            .field("store", &self.store)
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}
