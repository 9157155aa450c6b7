//! `runner ui`: the runs of the store in a browser.

use clap::Args;
use serde_json::json;

use super::signals;
use super::{Error, Exit, Global, shown};
use crate::page::serve;
use crate::ui::{Paint, json_line, outln};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner ui                  prints an address; open it in a browser on this machine\n  \
    runner ui --port 8080      the same port each time, such as for a tunnel: ssh -L 8080:127.0.0.1:8080 HOST\n\n\
    The pages are read-only, and for those alone who have the token in the address. Runs continue when you close the browser or \
    stop this program.")]
pub(super) struct Arguments {
    /// The port on 127.0.0.1; 0 for any that is free
    #[arg(long, value_name = "N", default_value_t = 0)]
    port: u16,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    signals::install(&global.project.cancel);
    serve(&global.project, arguments.port, &|address| {
        if global.json {
            json_line(&json!({"address": address, "store": global.project.store}));
            return;
        }
        outln!("the runs of {} are at", shown(&global.project.store));
        outln!("  {}", Paint::Strong.on(address));
        outln!("Press Ctrl-C to stop the server; runs continue");
    })?;
    Ok(Exit::Done)
}
