//! `runner cache gc`: what can go from the store, or from the remote, and why.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::arguments::{duration, size};
use super::{Error, Exit, Global, shown};
use crate::cache::Removal;
use crate::diagnostic::counted;
use crate::project::Collection;
use crate::ui::{bytes, outln, print_json};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Keep at most this much, such as `20 GiB`; results that the remote has are removed first, then those that are cheapest to
    /// recompute per byte
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_size: Option<u64>,
    /// Forget runs older than this, such as `30 d`, and what only they need
    #[arg(long, value_name = "AGE", value_parser = duration)]
    max_age: Option<Duration>,
    /// Also keep what this lock needs, or the locks in this folder; locks beside the pipelines of recorded runs are always kept;
    /// may be repeated
    #[arg(long = "lock", value_name = "FILE|DIR")]
    locks: Vec<PathBuf>,
    /// Collect garbage at the remote, not here; needs --older-than
    #[arg(long, requires = "older_than", conflicts_with_all = ["max_size", "max_age"])]
    on_remote: bool,
    /// At the remote, keep everything that is younger than this, such as `30 d`
    #[arg(long, value_name = "AGE", value_parser = duration, requires = "on_remote")]
    older_than: Option<Duration>,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    match arguments.older_than {
        Some(older_than) => at_remote(global, arguments, older_than),
        None => here(global, arguments),
    }
}

fn collection(arguments: &Arguments) -> Collection {
    Collection {
        max_bytes: arguments.max_size,
        max_age: arguments.max_age,
        locks: arguments.locks.clone(),
        also: Vec::new(),
        dry_run: arguments.dry_run,
    }
}

fn here(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    let report = global.project.collect(collection(arguments))?;
    if global.json {
        print_json(&json!(report));
        return Ok(Exit::Done);
    }
    list(global, arguments, &report.removed, shown);
    let verb = if arguments.dry_run {
        "would remove"
    } else {
        "removed"
    };
    let (removed, freed) = (counted(report.removed.len(), "file"), bytes(report.freed));
    let kept = format!(
        "{} ({})",
        counted(report.kept_objects, "object"),
        bytes(report.kept_bytes)
    );
    let checkpoints = match report.kept_checkpoints {
        0 => String::new(),
        count => format!(
            " and {} ({})",
            counted(count, "checkpoint"),
            bytes(report.kept_checkpoint_bytes)
        ),
    };
    outln!("{verb} {removed} ({freed}); kept {kept}{checkpoints}");
    if arguments.dry_run || global.verbose {
        for (who, count) in &report.kept_for {
            outln!("  {} kept for {who}", counted(*count, "result"));
        }
    }
    Ok(Exit::Done)
}

fn list(
    global: &Global,
    arguments: &Arguments,
    removed: &[Removal],
    name: impl Fn(&Path) -> String,
) {
    if arguments.dry_run || global.verbose {
        for removal in removed {
            outln!(
                "  {} ({}): {}",
                name(&removal.path),
                bytes(removal.bytes),
                removal.reason
            );
        }
    }
}

fn at_remote(global: &Global, arguments: &Arguments, older_than: Duration) -> Result<Exit, Error> {
    let collection = collection(arguments);
    let (remote, report) = global.project.collect_at_remote(collection, older_than)?;
    if global.json {
        print_json(&json!(report));
        return Ok(Exit::Done);
    }
    list(global, arguments, &report.removed, |path| {
        path.display().to_string()
    });
    let verb = if arguments.dry_run {
        "would remove"
    } else {
        "removed"
    };
    outln!(
        "{}: {verb} {} ({}); kept {}, {} ({})",
        remote.address(),
        counted(report.removed.len(), "file"),
        bytes(report.freed),
        counted(report.kept_actions, "result"),
        counted(report.kept_objects, "object"),
        bytes(report.kept_bytes)
    );
    Ok(Exit::Done)
}
