//! `runner man [FOLDER]`.

use std::path::PathBuf;

use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;
use serde_json::json;

use super::{Error, Exit, Global, write_whole};
use crate::ui::{out, print_json, screen};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner man | man -l -\n  \
    runner man ~/.local/share/man/man1")]
pub(super) struct Arguments {
    /// Write a page for the program and one for each command into this folder, instead of printing the first
    folder: Option<PathBuf>,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    let mut command = super::Arguments::command();
    // Builds the help of the subcommands too, so that their pages show the options of the whole program.
    command.build();
    let Some(folder) = &arguments.folder else {
        let page = page("runner", &command)?;
        if global.json {
            print_json(&json!({"page": String::from_utf8_lossy(&page)}));
        } else {
            screen::raw(&page);
        }
        return Ok(Exit::Done);
    };
    std::fs::create_dir_all(folder)
        .map_err(|error| Error::failed(format!("cannot make {}: {error}", folder.display())))?;
    let mut pages = Vec::new();
    collect_pages("runner", &command, &mut pages)?;
    for (name, page) in &pages {
        write_whole(&folder.join(format!("{name}.1")), page)?;
    }
    if global.json {
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        print_json(&json!({"folder": folder, "pages": names}));
    } else {
        out!("wrote {} pages to {}\n", pages.len(), folder.display());
    }
    Ok(Exit::Done)
}

/// The pages of `command` and of all below it: `runner`, `runner-cache`, `runner-cache-gc`.
fn collect_pages(
    name: &str,
    command: &Command,
    pages: &mut Vec<(String, Vec<u8>)>,
) -> Result<(), Error> {
    pages.push((name.to_owned(), page(name, command)?));
    for below in command.get_subcommands() {
        if below.get_name() != "help" && !below.is_hide_set() {
            collect_pages(&format!("{name}-{}", below.get_name()), below, pages)?;
        }
    }
    Ok(())
}

fn page(name: &str, command: &Command) -> Result<Vec<u8>, Error> {
    let mut page = Vec::new();
    Man::new(command.clone())
        .title(name.to_uppercase())
        .render(&mut page)
        .map_err(|error| Error::failed(format!("cannot make the page of {name}: {error}")))?;
    Ok(page)
}
