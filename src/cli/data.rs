//! `runner data`: which data sets are here, fetching and checking them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Error, Exit, Global, signals};
use crate::cache::Store;
use crate::data::{self, DataError, FileState, FileStatus, Memo, Options, Sources, Transfer};
use crate::diagnostic::{AsTrouble, visible};
use crate::engine::CancelToken;
use crate::ui::{Align, Paint, Table, bytes, err, out, outln, print_json};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the data sets and how much of each is here
    List,
    /// Download the missing files of a data set
    Get {
        /// The data set
        name: String,
        /// Only files whose path contains this, such as machine-2-1
        filter: Option<String>,
    },
    /// Read every file that is here and compare it with its checksum
    Verify {
        /// The data set; without it, all of them
        name: Option<String>,
    },
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    let options = Options::from_environment();
    let sources = Sources::load(&options.data_dir)?;
    match &arguments.verb {
        Verb::List => list(global, &sources, &options),
        Verb::Get { name, filter } => get(global, &sources, &options, name, filter.as_deref()),
        Verb::Verify { name } => verify(global, &sources, &options, name.as_deref()),
    }
}

fn memo(global: &Global) -> Memo {
    Memo::open(&Store::open(&global.store).layout().file_memo())
}

fn list(global: &Global, sources: &Sources, options: &Options) -> Result<Exit, Error> {
    let sets = data::list(sources, options);
    if global.json {
        let entry = |set: &data::DataSetStatus| {
            json!({
                "name": set.name, "title": set.title, "licence": set.licence, "citation": set.citation,
                "homepage": set.homepage, "files": set.files, "present": set.present, "bytes": set.bytes,
                "downloadable": set.downloadable,
            })
        };
        print_json(&json!({"datasets": sets.iter().map(entry).collect::<Vec<_>>()}));
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&[
        ("data set", Align::Left),
        ("here", Align::Right),
        ("size", Align::Right),
        ("licence", Align::Left),
        ("title", Align::Left),
    ]);
    for set in sets {
        let here = format!("{}/{}", set.present, set.files);
        let paint = if set.present > 0 {
            Paint::Good
        } else {
            Paint::Quiet
        };
        table.row([
            Paint::Strong.on(&set.name),
            paint.on(here),
            bytes(set.bytes),
            set.licence,
            set.title,
        ]);
    }
    out!("{}", table.render());
    let places: Vec<String> = std::iter::once(&options.data_dir)
        .chain(&options.search_path)
        .map(|folder| folder.display().to_string())
        .collect();
    out!(
        "\nlooked in {}; RUNNER_DATA_PATH adds folders, `runner data get NAME` downloads\n",
        places.join(", ")
    );
    Ok(Exit::Done)
}

fn get(
    global: &Global,
    sources: &Sources,
    options: &Options,
    name: &str,
    filter: Option<&str>,
) -> Result<Exit, Error> {
    let cancel = CancelToken::default();
    signals::install(&cancel);
    let shows = !global.quiet && !global.json;
    let watch = |transfer: &Transfer<'_>| {
        if shows {
            global.project.listener.downloads(transfer);
        }
        if cancel.is_cancelled() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let report = match data::get(name, filter, sources, options, &memo(global), &watch) {
        Err(DataError::Cancelled) => return Ok(Exit::Interrupted),
        other => other?,
    };
    if global.json {
        let failed: BTreeMap<&String, String> = report
            .failed
            .iter()
            .map(|(path, error)| (path, error.to_string()))
            .collect();
        print_json(
            &json!({"downloaded": report.downloaded, "present": report.present, "failed": failed}),
        );
    } else {
        outln!(
            "{} downloaded, {} here already",
            report.downloaded.len(),
            report.present.len()
        );
        for (path, error) in &report.failed {
            err!(
                "{}: {}: {}\n",
                Paint::Bad.on("error"),
                visible(path),
                Error::Trouble(error.to_trouble())
            );
        }
    }
    Ok(if report.failed.is_empty() {
        Exit::Done
    } else {
        Exit::Failed
    })
}

fn verify(
    global: &Global,
    sources: &Sources,
    options: &Options,
    name: Option<&str>,
) -> Result<Exit, Error> {
    let show = !global.json && !global.quiet;
    let seen = |status: &FileStatus| {
        if show && !matches!(status.state, FileState::Missing) {
            let (mark, why) = match &status.state {
                FileState::Good => (Paint::Good.on("good"), String::new()),
                FileState::Unchecked => {
                    (Paint::Warn.on("note"), ": no checksum is listed".to_owned())
                }
                FileState::Damaged(error) => (Paint::Bad.on("bad "), format!(": {error}")),
                FileState::Missing => (String::new(), String::new()),
            };
            outln!("{mark} {}{why}", status.path);
        }
    };
    let statuses = data::verify(name, sources, options, &memo(global), &seen)?;
    let count = |wanted: fn(&FileState) -> bool| {
        statuses
            .iter()
            .filter(|status| wanted(&status.state))
            .count()
    };
    let good = count(|state| matches!(state, FileState::Good));
    let damaged = count(|state| matches!(state, FileState::Damaged(_)));
    let missing = count(|state| matches!(state, FileState::Missing));
    if global.json {
        let entry = |status: &FileStatus| {
            let (state, reason) = match &status.state {
                FileState::Good => ("good", None),
                FileState::Unchecked => ("unchecked", None),
                FileState::Missing => ("missing", None),
                FileState::Damaged(error) => ("damaged", Some(error.to_string())),
            };
            json!({"dataset": status.dataset, "path": status.path, "place": status.place, "state": state, "reason": reason})
        };
        print_json(&json!({"files": statuses.iter().map(entry).collect::<Vec<_>>()}));
    } else {
        outln!("{good} good, {damaged} damaged, {missing} not here");
    }
    Ok(if damaged > 0 {
        Exit::Different
    } else {
        Exit::Done
    })
}

/// For `runner doctor`: title, files present, files listed.
pub(super) fn summary() -> Result<Vec<(String, usize, usize)>, DataError> {
    let options = Options::from_environment();
    let sets = data::list(&Sources::load(&options.data_dir)?, &options);
    Ok(sets
        .into_iter()
        .map(|set| (set.title, set.present, set.files))
        .collect())
}
