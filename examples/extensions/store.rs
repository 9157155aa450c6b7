//! `runner store`: where the store is.

use clap::Args;
use serde_json::json;

use super::{Error, Exit, Global};
use crate::ui::{outln, print_json};

#[derive(Debug, Args)]
pub(super) struct Arguments {}

pub(super) fn run(global: &Global, _: &Arguments) -> Result<Exit, Error> {
    let folder = global.store.display().to_string();
    if global.json {
        print_json(&json!({"store": folder}));
    } else {
        outln!("{folder}");
    }
    Ok(Exit::Done)
}
