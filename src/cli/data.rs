//! `runner data`: lists, fetches and checks data sets.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Error, Exit, Global, signals};
use crate::cache::Store;
use crate::data::{self, DataError, FileState, FileStatus, Memo, Options, Sources, Transfer};
use crate::diagnostic::{AsTrouble, visible};
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
        let mut entries = Vec::with_capacity(sets.len());
        for set in sets {
            entries.push(json!({
                "name": set.name, "title": set.title, "licence": set.licence, "citation": set.citation,
                "homepage": set.homepage, "files": set.files, "present": set.present, "bytes": set.bytes,
                "downloadable": set.downloadable,
            }));
        }
        print_json(&json!({"datasets": entries}));
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
    let mut places = vec![options.data_dir.display().to_string()];
    places.extend(
        options
            .search_path
            .iter()
            .map(|folder| folder.display().to_string()),
    );
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
    let cancel = &global.project.cancel;
    signals::install(cancel);
    let shows = !global.quiet && !global.json;
    let watch = |transfer: &Transfer<'_>| {
        if shows {
            global.project.listener.download(transfer);
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
        let mut failed = BTreeMap::new();
        for (path, error) in &report.failed {
            failed.insert(path, error.to_string());
        }
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
    let (mut good, mut damaged, mut missing) = (0, 0, 0);
    let mut files = Vec::with_capacity(statuses.len());
    for status in &statuses {
        let mut reason = None;
        let state = match &status.state {
            FileState::Good => {
                good += 1;
                "good"
            }
            FileState::Unchecked => "unchecked",
            FileState::Missing => {
                missing += 1;
                "missing"
            }
            FileState::Damaged(error) => {
                damaged += 1;
                reason = Some(error.to_string());
                "damaged"
            }
        };
        files.push(json!({
            "dataset": status.dataset,
            "path": status.path,
            "place": status.place,
            "state": state,
            "reason": reason,
        }));
    }
    if global.json {
        print_json(&json!({"files": files}));
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
    let sets = data::list(&Sources::load(&options.data_dir)?, &options).into_iter();
    Ok(sets
        .map(|set| (set.title, set.present, set.files))
        .collect())
}
