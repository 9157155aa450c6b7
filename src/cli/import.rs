//! `runner import`: takes a bundle of `runner export --bundle` into the store.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::export::Progress;
use super::session::shown;
use super::{CliError, Exit, Global, views};
use crate::audit::signature_path;
use crate::cache::Store;
use crate::report::{Target, bundle};
use crate::ui::{Paint, outln, print_json};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner import run.bundle                         then `runner show`, `runner diff`, `runner audit` know the run\n  \
    runner import run.bundle --dry-run               checks the bundle and says what is new in it\n  \
    runner import run.bundle --extract here          the pipeline and its lock too, so that it can run: all hits\n\n\
    Every byte is checked before anything is seen in the store. Exit codes: 2 if the file is no bundle, 3 if it is \
    damaged or was altered; nothing is taken in then.")]
pub(super) struct Arguments {
    /// The bundle
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Check it and say what is new, take nothing in
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Also write the pipeline, what it includes, and its lock into this folder
    #[arg(long, value_name = "DIR")]
    extract: Option<PathBuf>,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, CliError> {
    let store = Store::open(&global.store);
    let arrival = {
        let progress = Progress::new(global, "checked");
        bundle::import(&arguments.file, &store, arguments.dry_run, &|done, total| progress.at(done, total))?
    };
    let mut extracted = Vec::new();
    if !arguments.dry_run {
        views::link_files_of(&store, &arrival.record);
        if let Some(folder) = &arguments.extract {
            extracted = extract(folder, &arrival)?;
        }
    }
    let taken = arrival.taken;
    if global.json {
        let object = json!({
            "run": arrival.record.run,
            "pipeline": arrival.record.pipeline,
            "dry_run": arguments.dry_run,
            "objects": arrival.objects,
            "actions": arrival.actions,
            "new": {"objects": taken.objects, "actions": taken.actions, "run": taken.run},
            "without_objects": arrival.without_objects,
            "signed": arrival.signed,
            "extracted": extracted,
        });
        print_json(&object);
        return Ok(Exit::Done);
    }
    let verb = if arguments.dry_run { "would take in" } else { "took in" };
    let run = Paint::Strong.on(&arrival.record.run);
    if taken == crate::cache::Taken::default() {
        outln!("run {run} of {}: all of it was here already", arrival.record.pipeline);
    } else {
        let record = if taken.run { "its record, " } else { "" };
        outln!(
            "run {run} of {}: {verb} {record}{} of {} objects, {} of {} actions",
            arrival.record.pipeline,
            taken.objects,
            arrival.objects,
            taken.actions,
            arrival.actions
        );
    }
    if !arrival.without_objects.is_empty() {
        let names = arrival.without_objects.join(", ");
        outln!("{}: the objects of {names} did not come along; a run computes them", Paint::Warn.on("note"));
    }
    if !arrival.signed.is_empty() {
        outln!(
            "{}: its {} came with a signature; `runner verify {} --verify PUBKEY` says whether by whom you trust",
            Paint::Quiet.on("note"),
            arrival.signed.join(" and its "),
            arrival.record.run
        );
    }
    extracted.iter().for_each(|path| outln!("{}", shown(path)));
    Ok(Exit::Done)
}

/// Writes the pipeline's files, the lock and its signature. Files that are there already with the same content are no obstacle.
fn extract(folder: &Path, arrival: &bundle::Arrival) -> Result<Vec<PathBuf>, CliError> {
    let mut files: Vec<(PathBuf, &[u8])> =
        arrival.pipeline_files.iter().map(|(path, bytes)| (folder.join(path), bytes.as_slice())).collect();
    let lock = folder.join(&arrival.lock_path);
    files.extend(arrival.lock_signature.as_ref().map(|bytes| (signature_path(&lock), bytes.as_slice())));
    files.push((lock, arrival.lock.as_slice()));
    for (path, bytes) in &files {
        if path.symlink_metadata().is_ok() && !std::fs::read(path).is_ok_and(|known| known == *bytes) {
            let message = format!("{} is there already, with another content", path.display());
            return Err(
                CliError::wrong(message).hint("name another folder with --extract; the run itself was taken in")
            );
        }
    }
    for (path, bytes) in &files {
        Target::new(path, true)?.file(bytes)?;
    }
    Ok(files.into_iter().map(|(path, _)| path).collect())
}
