//! The application as a library: open a project, open a pipeline or a sweep, and plan, run, lock, audit and collect. Calls
//! return values and typed errors, report warnings and downloads to a [`Listener`], and print nothing. The command line
//! stands on it.

mod audit;
mod audit_target;
mod carry_out;
mod choice;
mod error;
mod export;
mod files;
mod following;
mod garbage;
mod import;
mod lock;
mod predict;
mod record;
mod recorded;
mod results;
mod session;
mod settings;
mod verify;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use contract::Catalogue;

use crate::cache::Store;
use crate::data::Transfer;
use crate::diagnostic::{Diagnostics, SourceMap};
use crate::engine::CancelToken;

pub use audit::{AuditOrder, AuditPart, Audited};
pub use carry_out::{Carried, Limits, Reporting};
pub(crate) use carry_out::{Count, carry_out};
pub use choice::{Choice, DeviceChoice, RemoteUse, Request};
pub(crate) use error::headline;
pub use error::{Error, Faulty};
pub use export::{ExportForm, ExportOrder, Exported, ExportedTable, Made, Runs};
pub use files::{BroughtWhen, Files};
pub use following::{Followed, FollowedStage, Report};
pub use garbage::Collection;
pub use import::{ImportOrder, Imported};
pub use lock::lock_beside;
pub use predict::{Answer, PredictOrder, Predicted};
use recorded::session_of;
pub(crate) use recorded::{Read, joined, read_member};
pub use results::Results;
use results::{link_files, link_files_of, results_of};
pub(crate) use session::find;
pub use session::{Fetch, Parts, QUICKSTART, QUICKSTART_PATH, Reading, Session};
use session::{pick_device, select};
pub use settings::check as check_settings;
pub use verify::{Verified, VerifyOrder};

/// Receives what a call reports besides its result. Every method does nothing unless it is overridden.
pub trait Listener: Send + Sync {
    /// Warnings about a pipeline or a sweep, with the texts that they point into.
    fn diagnostics(&self, _: &Diagnostics, _: &SourceMap) {}

    /// How far a download is.
    fn download(&self, _: &Transfer<'_>) {}

    /// Something went wrong, and the call continues without it.
    fn warning(&self, _: &str) {}

    /// Anything else that is worth a line.
    fn note(&self, _: &str) {}
}

/// Listens to nothing.
struct Silent;

impl Listener for Silent {}

/// Where results are kept, which stage kinds there are, and who hears of warnings.
#[derive(Clone)]
pub struct Project {
    pub catalogue: Arc<Catalogue>,
    /// The folder of the store.
    pub store: PathBuf,
    /// The command that records of runs name.
    pub command: Vec<String>,
    /// What the caller says about the remote; settings say the rest.
    pub remote: RemoteChoice,
    pub listener: Arc<dyn Listener>,
    /// Stops every call on this project and its clones that takes long. A clone with another token is stopped separately.
    pub cancel: CancelToken,
}

/// Through which remote results are shared, as far as the caller says.
#[derive(Clone, Debug, Default)]
pub struct RemoteChoice {
    /// An address, or `off`.
    pub url: Option<String>,
    pub mode: Option<RemoteUse>,
}

impl Project {
    /// A project whose store is this folder, without a remote beyond the settings', and without a listener.
    pub fn new(catalogue: Arc<Catalogue>, store: impl Into<PathBuf>) -> Self {
        Self {
            catalogue,
            store: store.into(),
            command: Vec::new(),
            remote: RemoteChoice::default(),
            listener: Arc::new(Silent),
            cancel: CancelToken::default(),
        }
    }

    /// The store alone, without a remote.
    pub fn local_store(&self) -> Store {
        Store::open(&self.store)
    }

    /// Reports warnings, if there are any.
    pub(crate) fn warn(&self, diagnostics: &Diagnostics, sources: &SourceMap) {
        if !diagnostics.is_empty() {
            self.listener.diagnostics(diagnostics, sources);
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
