//! The results of a run, in the formats of others: a Workflow Run RO-Crate, PROV-JSON, a run of MLflow, tables of metrics; and
//! as a bundle, which another store takes in. It reads records and the store, and writes where it is told; it runs nothing.

pub mod bundle;
mod error;
mod history;
mod metrics_table;
mod mlflow;
mod names;
mod pipeline_files;
mod prov;
mod raw_files;
mod ro_crate;
mod run_diff;
mod selection;
mod target;

pub use error::ReportError;
pub use history::{History, RawFile, StageHistory};
pub use metrics_table::{MetricsTable, TableFormat};
pub use mlflow::{Sent, Tracking, send_mlflow, write_mlflow};
pub use pipeline_files::pipeline_files;
pub use prov::write_prov;
pub use raw_files::{AbsentFile, Brought, BroughtFiles, FILES_UP_TO, LeftOut, brought};
pub use ro_crate::{CrateOptions, write_ro_crate};
pub use run_diff::{Pair, RunDiff, StageDifference};
pub use selection::{Objects, Selection};
pub use target::Target;
