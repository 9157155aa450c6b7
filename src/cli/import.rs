//! `runner import`: takes a bundle of `runner export --bundle` into the store.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use stages::artifact::{FileEntry, Folder, RelativePath};

use super::export::Progress;
use super::session::shown;
use super::{CliError, Exit, Global, views};
use crate::audit::signature_path;
use crate::cache::Store;
use crate::report::bundle;
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
    /// Also write the pipeline, what it includes, its lock, and files that it names beside it into this folder
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
            "files": arrival.files,
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
    if arrival.files > 0 {
        let what = if arrival.files == 1 { "a raw file".to_owned() } else { format!("{} raw files", arrival.files) };
        outln!("{}: {what} came along, such as scripts; audits read them", Paint::Quiet.on("note"));
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

/// Writes the pipeline's files, the lock and its signature, and raw files that the pipeline names by a path that stays in the
/// folder. Files that are there already with the same content are no obstacle; links are not followed.
fn extract(folder: &Path, arrival: &bundle::Arrival) -> Result<Vec<PathBuf>, CliError> {
    let mut files: BTreeMap<RelativePath, (&[u8], bool)> = BTreeMap::new();
    let mut put = |path: &str, bytes| match RelativePath::new(path) {
        Ok(path) => {
            files.entry(path).or_insert((bytes, false));
            Ok(())
        }
        Err(fault) => Err(CliError::different(fault.to_string())),
    };
    for (path, bytes) in &arrival.pipeline_files {
        put(path, bytes.as_slice())?;
    }
    put(&arrival.lock_path, arrival.lock.as_slice())?;
    if let Some(signature) = &arrival.lock_signature {
        put(&signature_path(Path::new(&arrival.lock_path)).to_string_lossy(), signature)?;
    }
    for (path, bytes, executable) in &arrival.raw_files {
        files.entry(path.clone()).or_insert((bytes, *executable));
    }
    let failed = |error: std::io::Error| CliError::failed(error.to_string());
    let mut beneath = Folder::open(folder).map_err(failed)?;
    let is_there = |path: &Path| path.symlink_metadata().is_ok();
    for (path, (bytes, _)) in &files {
        let place = beneath.path_of(path);
        if is_there(&place) && !std::fs::read(&place).is_ok_and(|known| known == *bytes) {
            let message = format!("{} is there already, with another content", place.display());
            return Err(
                CliError::wrong(message).hint("name another folder with --extract; the run itself was taken in")
            );
        }
    }
    let mut written = Vec::with_capacity(files.len());
    for (path, (bytes, executable)) in files {
        let place = beneath.path_of(&path);
        if !is_there(&place) {
            let entry = FileEntry { executable, ..FileEntry::from_bytes(path, bytes.to_vec()) };
            beneath.write(&entry).map_err(failed)?;
        }
        written.push(place);
    }
    Ok(written)
}
