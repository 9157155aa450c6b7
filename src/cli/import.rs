//! `runner import`: takes a bundle of `runner export --bundle` into the store.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Args;
use contract::artifact::{Digest, FileEntry, Folder, RelativePath};
use serde_json::{Value, json};

use super::export::Progress;
use super::shown;
use super::{Error, Exit, Global};
use crate::audit::signature_path;
use crate::cache::Store;
use crate::diagnostic::{counted, visible};
use crate::pipeline::limits::{MOST_RAW_FILES, open_regular};
use crate::report::{AbsentFile, bundle};
use crate::ui::{Paint, outln, print_json};

/// Raw files that are named one by one.
const MOST_NAMED: usize = 20;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner import run.bundle                         then `runner show`, `runner diff`, `runner audit` know the run\n  \
    runner import run.bundle --dry-run               checks the bundle and says what is new in it\n  \
    runner import run.bundle --extract here          the pipeline and its lock too, so that it can run: all hits\n\n\
    Every byte is checked before anything is seen in the store. Exit codes: 2 if the file is not a bundle, 3 if it is \
    damaged or was altered; then nothing is imported.")]
pub(super) struct Arguments {
    /// The bundle
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Check it and say what is new, and import nothing
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Also write the pipeline, what it includes, its lock, and files that it names beside it into this folder
    #[arg(long, value_name = "DIR")]
    extract: Option<PathBuf>,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    let store = Store::open(&global.store);
    let arrival = {
        let progress = Progress::new(global, "checked");
        bundle::import(
            &arguments.file,
            &store,
            &global.project.catalogue.kinds,
            arguments.dry_run,
            &|done, total| progress.at(done, total),
        )?
    };
    let mut extracted = Vec::new();
    if !arguments.dry_run {
        crate::project::link_files_of(&store, &arrival.record);
        if let Some(folder) = &arguments.extract {
            extracted = extract(folder, &arrival)?;
        }
    }
    let lacking = arguments
        .extract
        .as_deref()
        .map(|folder| lacking(&arrival, folder));
    if global.json {
        print_json(&as_json(arguments, &arrival, &extracted, lacking));
        return Ok(Exit::Done);
    }
    tell(arguments, &arrival);
    extracted.iter().for_each(|path| outln!("{}", shown(path)));
    tell_lacking(&lacking.unwrap_or_default());
    Ok(Exit::Done)
}

/// `lacking` are the raw files that are not where the pipeline was written to.
fn as_json(
    arguments: &Arguments,
    arrival: &bundle::Arrival,
    extracted: &[PathBuf],
    lacking: Option<Vec<&AbsentFile>>,
) -> Value {
    let lacking = lacking.unwrap_or_else(|| arrival.absent_files.iter().collect());
    let lacking: Vec<Value> = lacking
        .into_iter()
        .map(|file| json!({"path": file.path, "data_set": file.data_set}))
        .collect();
    let taken = arrival.taken;
    json!({
        "run": arrival.record.run,
        "pipeline": arrival.record.pipeline,
        "dry_run": arguments.dry_run,
        "objects": arrival.objects,
        "actions": arrival.actions,
        "files": arrival.files,
        "missing_files": lacking,
        "new": {"objects": taken.objects, "actions": taken.actions, "run": taken.run},
        "without_objects": arrival.without_objects,
        "signed": arrival.signed,
        "extracted": extracted,
    })
}

fn tell(arguments: &Arguments, arrival: &bundle::Arrival) {
    let taken = arrival.taken;
    let verb = if arguments.dry_run {
        "would import"
    } else {
        "imported"
    };
    let run = Paint::Strong.on(&arrival.record.run);
    if taken == crate::cache::Taken::default() {
        outln!(
            "run {run} of {}: all of it was here already",
            arrival.record.pipeline
        );
    } else {
        let record = if taken.run { "the record, " } else { "" };
        outln!(
            "run {run} of {}: {verb} {record}{} of {}, {} of {}",
            arrival.record.pipeline,
            taken.objects,
            counted(arrival.objects, "object"),
            taken.actions,
            counted(arrival.actions, "action")
        );
    }
    if !arrival.without_objects.is_empty() {
        let names = arrival.without_objects.join(", ");
        outln!(
            "{}: the objects of {names} are not in the bundle; a run computes them",
            Paint::Warn.on("note")
        );
    }
    if arrival.files > 0 {
        let files = counted(arrival.files, "raw file");
        outln!(
            "{}: the bundle brought {files}, such as scripts; audits read them",
            Paint::Quiet.on("note")
        );
    }
    if !arrival.signed.is_empty() {
        outln!(
            "{}: its {} came with a signature; `runner verify {} --verify PUBKEY` checks it",
            Paint::Quiet.on("note"),
            arrival.signed.join(" and its "),
            arrival.record.run
        );
    }
}

/// The pipeline's files, the lock and its signature, and raw files that the pipeline names by a path that stays in the folder.
fn files_of(arrival: &bundle::Arrival) -> Result<BTreeMap<RelativePath, FileEntry>, Error> {
    let mut files = BTreeMap::new();
    let mut put = |path: &str, bytes: &[u8]| match RelativePath::new(path) {
        Ok(path) => {
            files
                .entry(path.clone())
                .or_insert_with(|| FileEntry::from_bytes(path, bytes.to_vec()));
            Ok(())
        }
        Err(fault) => Err(Error::different(fault.to_string())),
    };
    for (path, bytes) in &arrival.pipeline_files {
        put(path, bytes.as_slice())?;
    }
    put(&arrival.lock_path, arrival.lock.as_slice())?;
    if let Some(signature) = &arrival.lock_signature {
        put(
            &signature_path(Path::new(&arrival.lock_path)).to_string_lossy(),
            signature,
        )?;
    }
    for entry in &arrival.raw_files {
        files
            .entry(entry.path.clone())
            .or_insert_with(|| entry.clone());
    }
    Ok(files)
}

/// Writes what a bundle has for a folder. Files that are there already with the same content are no obstacle; links are not
/// followed.
fn extract(folder: &Path, arrival: &bundle::Arrival) -> Result<Vec<PathBuf>, Error> {
    let files = files_of(arrival)?;
    check_amount(files.values().map(|entry| entry.size), MOST_RAW_FILES)?;
    let failed = |error: std::io::Error| Error::failed(error.to_string());
    let mut beneath = Folder::open(folder).map_err(failed)?;
    // Looked at before anything is written: on some file systems a file has the names of others, too.
    let there: BTreeSet<&RelativePath> = files
        .keys()
        .filter(|path| beneath.path_of(path).symlink_metadata().is_ok())
        .collect();
    for entry in files.values() {
        let place = beneath.path_of(&entry.path);
        if there.contains(&entry.path) && !is_file(&place, entry.size, &entry.digest) {
            let message = format!("{} is there already, with another content", place.display());
            return Err(Error::wrong(message)
                .hint("name another folder with --extract; the run itself was imported"));
        }
    }
    let mut written = Vec::with_capacity(files.len());
    for entry in files.values() {
        let place = beneath.path_of(&entry.path);
        if !there.contains(&entry.path) {
            beneath.write(entry).map_err(failed)?;
        }
        written.push(place);
    }
    Ok(written)
}

/// One raw file may belong in many places: a small bundle could fill a disk.
fn check_amount(sizes: impl Iterator<Item = u64>, most: u64) -> Result<(), Error> {
    let sum = sizes.fold(0_u64, u64::saturating_add);
    if sum <= most {
        return Ok(());
    }
    let message =
        format!("the files to extract have {sum} bytes, and no more than {most} are laid out");
    Err(Error::wrong(message)
        .hint("the run itself was imported; without --extract nothing is written beside the store"))
}

/// Whether there is a file with this content.
fn is_file(path: &Path, size: u64, digest: &Digest) -> bool {
    let file = open_regular(path)
        .ok()
        .filter(|file| file.metadata().is_ok_and(|found| found.len() == size));
    file.and_then(|file| Digest::of_reader(file).ok())
        .is_some_and(|(found, _)| found == *digest)
}

/// Raw files that the bundle lacks and that do not lie where the pipeline was written to.
fn lacking<'a>(arrival: &'a bundle::Arrival, folder: &Path) -> Vec<&'a AbsentFile> {
    let is_there = |file: &&AbsentFile| {
        let place = file.place.as_ref().map(|place| folder.join(place.as_str()));
        let content = place.and_then(|place| open_regular(&place).ok());
        content
            .and_then(|content| Digest::of_reader(content).ok())
            .is_some_and(|(found, _)| found == file.digest)
    };
    arrival
        .absent_files
        .iter()
        .filter(|file| !is_there(file))
        .collect()
}

/// Names raw files that a run of the extracted pipeline may need; those of listed data sets by the data set.
fn tell_lacking(lacking: &[&AbsentFile]) {
    let note = Paint::Warn.on("note");
    let own: Vec<&str> = lacking
        .iter()
        .filter(|file| file.data_set.is_none())
        .map(|file| file.path.as_str())
        .collect();
    own.iter()
        .take(MOST_NAMED)
        .for_each(|path| outln!("{note}: the bundle lacks the raw file {}", visible(path)));
    if own.len() > MOST_NAMED {
        outln!("{note}: it lacks {} more", own.len() - MOST_NAMED);
    }
    if !own.is_empty() {
        outln!(
            "{}: `runner export` with a larger `--files-up-to SIZE` brings them along",
            Paint::Quiet.on("hint")
        );
    }
    let mut sets: BTreeMap<&str, usize> = BTreeMap::new();
    lacking
        .iter()
        .filter_map(|file| file.data_set.as_deref())
        .for_each(|set| *sets.entry(set).or_default() += 1);
    for (set, count) in sets {
        let files = if count == 1 {
            "a raw file".to_owned()
        } else {
            format!("{count} raw files")
        };
        let set = visible(set);
        outln!(
            "{note}: the bundle lacks {files} of the data set {set}; `runner data get {set}` downloads them"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_laid_out_has_a_limit() {
        assert!(check_amount([1, 2].into_iter(), 3).is_ok());
        assert!(
            check_amount([1, 3].into_iter(), 3).is_err()
                && check_amount([1, u64::MAX].into_iter(), 3).is_err()
        );
    }
}
