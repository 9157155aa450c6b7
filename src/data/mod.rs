//! Raw files from outside: where they are, whether they are what they should be, and how to get them.
//! It knows paths and bytes; what is in the files is the business of the readers in the crate `stages`.

mod catalogue;
mod error;
mod fetch;
mod folder;
mod identity;
mod locate;
mod memo;
mod sources;

pub use catalogue::{DataSetStatus, FileState, FileStatus, GetReport, get, list, verify};
pub use error::DataError;
pub use fetch::{Transfer, Watch, ignore};
pub use folder::{locate_folder, means_many};
pub use identity::Identity;
pub use locate::{Located, Options, locate, places_of};
pub use memo::{FileDigest, Memo};
pub use sources::{DataSet, SourceFile, Sources};
