//! The store: what determines a stage's outputs (manifest, key), and where the outputs lie (objects, actions, runs).
//! It executes nothing and knows no pipeline: it answers «is this key known?» and keeps what it is given.

mod action;
mod chain;
mod checkpoint;
mod error;
mod failpoint;
mod file_name;
mod gc;
mod hold;
mod intake;
mod key;
mod layout;
mod lease;
mod ledger;
mod manifest;
mod manifest_text;
mod object;
mod publish;
mod pulls;
mod remote;
mod run;
mod salt;
mod seal;
mod shared;
mod stats;
mod store;
mod trash;
mod tree;
mod trials;
mod under_way;
mod verify;

pub use action::{Action, ObjectRecord, Output};
pub use chain::{ChainHead, Link, RecordSeal, seal_of};
pub use error::CacheError;
pub use file_name::{FileNames, FilePaths, OutputPaths, file_name};
pub use gc::{GcOptions, GcReport, Removal, Root};
pub use hold::HeldFiles;
pub use intake::{Intake, Taken};
pub use key::Key;
pub use layout::Layout;
pub use lease::{Lease, LeaseAttempt, is_gone, process_start};
pub use ledger::{FileState, LastFailure, Ledger};
pub use manifest::{Difference, Manifest, quoted};
pub use object::check_file;
pub use publish::{Publisher, Staged};
pub use remote::{
    Address, Progress, PushOptions, Remote, RemoteError, RemoteFault, RemoteGcOptions,
    RemoteGcReport, RemoteMode, RemoteOptions, Traffic, TransferError, TransferReport,
};
pub use run::{
    Instance, NewestFirst, PipelineFile, RunId, RunRecord, RunStatus, StageRecord, StageState,
    SweepMember, SweepPart, utc,
};
pub use salt::{cannot_be_compared, is_digest_of_secret};
pub use stats::{Amount, Stats};
pub use store::Store;
pub use tree::{append_plain, files_below, read_plain};
pub use under_way::RunLease;
pub use verify::{Damage, VerifyReport};
