//! What a browser shows: the page of a run, as one file, as a folder, or served live. Everything stands on the store and the
//! record of the run; nothing is fetched from elsewhere.

mod citation;
mod confusion;
mod drawing;
mod forecast;
mod gathering;
mod html;
mod ranking;
mod run;
mod runs;
mod scene;
mod server;
mod sweep;
mod tiles;
mod written;

pub use server::serve;
pub use written::{PageOrder, Written, write_audit, write_page};
