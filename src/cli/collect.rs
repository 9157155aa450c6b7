//! `runner cache gc`: what can go from the store, or from the remote, and why.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::arguments::{duration, size};
use super::shown;
use super::transfer::{named_remote, refuse_read_only};
use super::{Error, Exit, Global, lock};
use crate::audit::Lock;
use crate::cache::{
    GcOptions, Key, RemoteGcOptions, Removal, Root, Store, files_below, read_plain,
};
use crate::diagnostic::counted;
use crate::sweep::submissions;
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
    let store = Store::open(&global.store);
    match arguments.older_than {
        Some(older_than) => at_remote(global, &store, arguments, older_than),
        None => here(global, &store, arguments),
    }
}

fn here(global: &Global, store: &Store, arguments: &Arguments) -> Result<Exit, Error> {
    let options = GcOptions {
        max_bytes: arguments.max_size,
        max_age: arguments.max_age,
        dry_run: arguments.dry_run,
        roots: roots(store, &arguments.locks)?,
        held: held(global, arguments)?,
    };
    let report = store.gc(&options)?;
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

/// Who needs results besides the recorded runs.
fn roots(store: &Store, locks: &[PathBuf]) -> Result<Vec<Root>, Error> {
    let mut keys = BTreeSet::new();
    for path in lock_files(store, locks)? {
        // A lock that cannot be read may need anything: then nothing goes.
        keys.extend(Lock::read(&path)?.keys());
    }
    Ok(vec![
        Root {
            name: "locks".into(),
            keys,
        },
        Root {
            name: "sweeps".into(),
            keys: keys_of_sweeps(store)?,
        },
    ])
}

/// What sweeps on a cluster were built upon, and what their tasks came to.
fn keys_of_sweeps(store: &Store) -> Result<BTreeSet<Key>, Error> {
    let submissions = submissions(store.layout());
    let sweeps: BTreeSet<&str> = submissions
        .iter()
        .map(|submission| submission.record.as_str())
        .collect();
    let mut keys: BTreeSet<Key> = submissions
        .iter()
        .flat_map(|submission| &submission.keys)
        .copied()
        .collect();
    for run in if sweeps.is_empty() {
        Vec::new()
    } else {
        store.runs()?
    } {
        if let Ok(record) = store.load_run(&run)
            && sweeps.contains(record.file.as_str())
        {
            keys.extend(record.stages.iter().filter_map(|stage| stage.key));
        }
    }
    Ok(keys)
}

/// The locks that were named, those in folders that were named, and those beside the pipelines of recorded runs.
fn lock_files(store: &Store, named: &[PathBuf]) -> Result<BTreeSet<PathBuf>, Error> {
    let mut files = BTreeSet::new();
    for path in named {
        if path.is_dir() {
            // The user's own folder may be a link.
            let folder = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
            files.extend(
                files_below(&folder)?
                    .into_iter()
                    .filter(|path| is_lock(path)),
            );
        } else {
            files.insert(path.clone());
        }
    }
    for run in store.runs()? {
        let beside = store
            .load_run(&run)
            .map(|record| lock::beside(Some(Path::new(&record.file))));
        files.extend(
            beside
                .ok()
                .filter(|path| path.is_absolute() && path.is_file()),
        );
    }
    Ok(files)
}

/// Other programs write files with this ending, too; ours begin with a line that says so, whatever a merge did below it.
fn is_lock(path: &Path) -> bool {
    const BEGINS: &str = "# The lock of a pipeline.";
    let named_so = path.extension().is_some_and(|ending| ending == "lock");
    named_so && read_plain(path).is_ok_and(|bytes| bytes.starts_with(BEGINS.as_bytes()))
}

/// The keys that the remote holds, where a limit on size makes that matter. A remote that cannot be asked holds nothing.
fn held(global: &Global, arguments: &Arguments) -> Result<BTreeSet<Key>, Error> {
    let configured = global.project.find_remote(Path::new("."))?.is_some();
    if arguments.max_size.is_none() || !configured {
        return Ok(BTreeSet::new());
    }
    let remote = named_remote(global, Path::new("."))?;
    Ok(remote.keys().unwrap_or_else(|error| {
        tracing::warn!("{error}; what it holds is not known, and counts as nothing");
        BTreeSet::new()
    }))
}

fn at_remote(
    global: &Global,
    store: &Store,
    arguments: &Arguments,
    older_than: Duration,
) -> Result<Exit, Error> {
    let remote = named_remote(global, Path::new("."))?;
    refuse_read_only(&remote)?;
    let mut keys: BTreeSet<Key> = roots(store, &arguments.locks)?
        .into_iter()
        .flat_map(|root| root.keys)
        .collect();
    for run in store.runs()? {
        let stages = store
            .load_run(&run)
            .map(|record| record.stages)
            .unwrap_or_default();
        keys.extend(stages.iter().filter_map(|stage| stage.key));
    }
    let report = remote.gc(&RemoteGcOptions {
        older_than,
        roots: keys,
        dry_run: arguments.dry_run,
    })?;
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
