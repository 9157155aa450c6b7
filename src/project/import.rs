//! Imports: takes the bundle of an export into the store, and lays out its pipeline in a folder if that is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use contract::artifact::{Digest, FileEntry, Folder, RelativePath};

use super::{Error, Project, link_files_of};
use crate::audit::signature_path;
use crate::pipeline::limits::{MOST_RAW_FILES, open_regular};
use crate::report::AbsentFile;
use crate::report::bundle::{self, Arrival};

/// What is to be imported, and how.
#[derive(Clone, Debug)]
pub struct ImportOrder {
    /// The bundle.
    pub file: PathBuf,
    /// Whether it is only checked.
    pub dry_run: bool,
    /// Where to write the pipeline, what it includes, its lock, and raw files that it names beside it.
    pub extract: Option<PathBuf>,
}

/// What was in a bundle.
pub struct Imported {
    pub arrival: Arrival,
    /// Files that were written, or were there already.
    pub extracted: Vec<PathBuf>,
    /// Raw files that a run of the pipeline may need, and that are neither in the bundle nor where the pipeline was written.
    pub lacking: Vec<AbsentFile>,
}

impl Project {
    /// Imports a bundle: every byte is checked before anything is seen in the store. `progress` gets the bytes that were
    /// checked, and all.
    ///
    /// # Errors
    /// If the file is not a bundle, is damaged or was altered, and then nothing is imported; or the folder cannot be written.
    pub fn import(
        &self,
        order: &ImportOrder,
        progress: &dyn Fn(u64, u64),
    ) -> Result<Imported, Error> {
        let (store, kinds) = (self.local_store(), &self.catalogue.kinds);
        let arrival = bundle::import(&order.file, &store, kinds, order.dry_run, progress)?;
        let mut extracted = Vec::new();
        if !order.dry_run {
            link_files_of(&store, &arrival.record, self.listener.as_ref());
            if let Some(folder) = &order.extract {
                extracted = extract(folder, &arrival)?;
            }
        }
        let mut lacking = arrival.absent_files.clone();
        if let Some(folder) = &order.extract {
            lacking.retain(|file| !is_in(folder, file));
        }
        Ok(Imported {
            arrival,
            extracted,
            lacking,
        })
    }
}

/// The pipeline's files, the lock and its signature, and raw files that the pipeline names by a path that stays in the folder.
/// Of several for one place, the first is meant.
fn files_of(arrival: &Arrival) -> Result<BTreeMap<RelativePath, FileEntry>, Error> {
    let mut named: Vec<(&str, &[u8])> = Vec::new();
    for (path, bytes) in &arrival.pipeline_files {
        named.push((path, bytes.as_slice()));
    }
    named.push((&arrival.lock_path, arrival.lock.as_slice()));
    let signature = signature_path(Path::new(&arrival.lock_path));
    let signature = signature.to_string_lossy();
    if let Some(bytes) = &arrival.lock_signature {
        named.push((&signature, bytes));
    }
    let mut files = BTreeMap::new();
    for (path, bytes) in named {
        let path = RelativePath::new(path).map_err(|fault| Error::different(fault.to_string()))?;
        let entry = files.entry(path.clone());
        entry.or_insert_with(|| FileEntry::from_bytes(path, bytes.to_vec()));
    }
    for entry in &arrival.raw_files {
        let place = files.entry(entry.path.clone());
        place.or_insert_with(|| entry.clone());
    }
    Ok(files)
}

/// Writes what a bundle has for a folder. Files that are there already with the same content are no obstacle; links are not
/// followed.
fn extract(folder: &Path, arrival: &Arrival) -> Result<Vec<PathBuf>, Error> {
    let files = files_of(arrival)?;
    check_amount(files.values().map(|entry| entry.size), MOST_RAW_FILES)?;
    let failed = |error: std::io::Error| Error::failed(error.to_string());
    let mut beneath = Folder::open(folder).map_err(failed)?;
    // Looked at before anything is written: on some file systems a file has the names of others, too.
    let mut there = BTreeSet::new();
    for (path, entry) in &files {
        let place = beneath.path_of(path);
        if place.symlink_metadata().is_err() {
            continue;
        }
        if !is_file(&place, entry.size, &entry.digest) {
            let message = format!("{} is there already, with another content", place.display());
            return Err(Error::wrong(message)
                .hint("name another folder with --extract; the run itself was imported"));
        }
        there.insert(path);
    }
    let mut written = Vec::with_capacity(files.len());
    for (path, entry) in &files {
        if !there.contains(path) {
            beneath.write(entry).map_err(failed)?;
        }
        written.push(beneath.path_of(path));
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
    match open_regular(path) {
        Ok(file) if file.metadata().is_ok_and(|found| found.len() == size) => {
            Digest::of_reader(file).is_ok_and(|(found, _)| found == *digest)
        }
        _ => false,
    }
}

/// Whether a raw file lies where the pipeline was written.
fn is_in(folder: &Path, file: &AbsentFile) -> bool {
    let Some(place) = &file.place else {
        return false;
    };
    match open_regular(&folder.join(place.as_str())) {
        Ok(content) => Digest::of_reader(content).is_ok_and(|(found, _)| found == file.digest),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_laid_out_has_a_limit() {
        assert!(check_amount([1, 2].into_iter(), 3).is_ok());
        assert!(check_amount([1, 3].into_iter(), 3).is_err());
        assert!(check_amount([1, u64::MAX].into_iter(), 3).is_err());
    }
}
