//! The raw files of one execution of a stage. A key promises that a stage read the bytes that were hashed into it, so
//! what is handed out is checked: a copy when it is made, a file that is read in place when the stage has ended.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use contract::Trouble;
use contract::artifact::Digest;

use super::FoundFile;
use crate::data::Identity;

/// Files by the name under which the stage asks for them.
#[derive(Debug)]
pub(super) struct RawFiles {
    files: BTreeMap<String, FoundFile>,
    /// What is read in place, as it was when it was handed out; nothing if it could not be looked at.
    in_place: Mutex<BTreeMap<String, Option<Identity>>>,
}

impl RawFiles {
    pub fn new(files: BTreeMap<String, FoundFile>) -> Self {
        Self {
            files,
            in_place: Mutex::default(),
        }
    }

    /// The path of a file that the stage will read in place.
    pub fn hand_out(&self, name: &str) -> Option<PathBuf> {
        let path = self.files.get(name)?.path.clone();
        let mut in_place = self.in_place.lock().unwrap_or_else(PoisonError::into_inner);
        in_place
            .entry(name.to_owned())
            .or_insert_with(|| Identity::at(&path).ok());
        Some(path)
    }

    /// The names of files below a folder, sorted.
    pub fn below(&self, folder: &str) -> Vec<String> {
        let start = format!("{folder}/");
        let from = self.files.range(start.clone()..);
        from.map_while(|(name, _)| Some(name.strip_prefix(&start)?.to_owned()))
            .collect()
    }

    /// Copies a file. The copy is checked, so it does not matter what becomes of the original afterwards.
    pub fn copy(&self, name: &str, target: &Path) -> Result<(), Trouble> {
        let Some(file) = self.files.get(name) else {
            return Err(Trouble::new(format!("no file `{name}` was asked for")));
        };
        let failed = |error: io::Error| {
            Trouble::new("a file could not be copied")
                .at(&file.path, None)
                .because(error)
        };
        std::fs::copy(&file.path, target).map_err(failed)?;
        if digest_of(target).map_err(failed)? == file.digest {
            Ok(())
        } else {
            Err(changed(&file.path))
        }
    }

    /// Whether all files that were read in place are still those that were hashed into the key.
    ///
    /// # Errors
    /// If one of them changed since, or while the stage was reading, or cannot be read any more.
    pub fn check(&self) -> Result<(), Trouble> {
        let in_place = self.in_place.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, identity) in in_place.iter() {
            if let Some(file) = self.files.get(name) {
                check(file, *identity)?;
            }
        }
        Ok(())
    }
}

/// A file that had another identity when it was handed out may have changed and changed back while it was read; one
/// that changed just before it was hashed has no identity that says anything, so its content is compared.
fn check(file: &FoundFile, handed_out: Option<Identity>) -> Result<(), Trouble> {
    let now = Identity::at(&file.path).ok();
    if now.is_none() || now != handed_out {
        return Err(changed(&file.path));
    }
    let failed = |error| changed(&file.path).because(error);
    if file.identity == now || digest_of(&file.path).map_err(failed)? == file.digest {
        return Ok(());
    }
    Err(changed(&file.path))
}

fn digest_of(path: &Path) -> io::Result<Digest> {
    Ok(Digest::of_reader(File::open(path)?)?.0)
}

fn changed(path: &Path) -> Trouble {
    Trouble::new("a file changed after its content was hashed into the key")
        .at(path, None)
        .hint("run again: the new content gets a new key; while a run is under way, do not change its files")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    struct Case {
        _folder: tempfile::TempDir,
        path: PathBuf,
    }

    impl Case {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("data.csv");
            fs::write(&path, "as hashed").unwrap();
            Self {
                _folder: folder,
                path,
            }
        }

        /// As if the file had rested before it was hashed, or not.
        fn files(&self, rested: bool) -> RawFiles {
            let identity = rested.then(|| Identity::at(&self.path).unwrap());
            let found = FoundFile {
                path: self.path.clone(),
                digest: Digest::of_bytes(b"as hashed"),
                identity,
            };
            RawFiles::new([("d".to_owned(), found)].into())
        }

        fn write(&self, text: &str) {
            // Longer than a tick of the clock by which file systems date changes.
            std::thread::sleep(Duration::from_millis(20));
            fs::write(&self.path, text).unwrap();
        }
    }

    fn is_changed(result: &Result<(), Trouble>) -> bool {
        result
            .as_ref()
            .is_err_and(|error| error.message().contains("changed"))
    }

    #[test]
    fn what_stays_as_it_was_is_right() {
        let case = Case::new();
        for rested in [false, true] {
            let files = case.files(rested);
            assert_eq!(files.hand_out("d").unwrap(), case.path);
            assert!(files.check().is_ok());
        }
    }

    #[test]
    fn a_change_before_the_stage_began_is_noticed() {
        for rested in [false, true] {
            let case = Case::new();
            let files = case.files(rested);
            case.write("as edited");
            files.hand_out("d").unwrap();
            assert!(is_changed(&files.check()));
        }
    }

    #[test]
    fn a_change_that_is_taken_back_while_the_stage_reads_is_noticed() {
        let case = Case::new();
        let files = case.files(true);
        files.hand_out("d").unwrap();
        case.write("as edited");
        case.write("as hashed");
        assert!(is_changed(&files.check()));
    }

    #[test]
    fn a_file_that_was_only_touched_before_is_right() {
        let case = Case::new();
        let files = case.files(true);
        case.write("as hashed");
        files.hand_out("d").unwrap();
        assert!(files.check().is_ok());
    }

    #[test]
    fn a_file_that_is_gone_is_noticed() {
        let case = Case::new();
        let files = case.files(true);
        files.hand_out("d").unwrap();
        fs::remove_file(&case.path).unwrap();
        assert!(is_changed(&files.check()));
    }

    #[test]
    fn a_copy_does_not_depend_on_what_becomes_of_the_original() {
        let case = Case::new();
        let files = case.files(true);
        let target = case.path.with_extension("copy");
        files.copy("d", &target).unwrap();
        case.write("as edited");
        assert!(files.check().is_ok(), "nothing was read in place");
        assert_eq!(fs::read_to_string(&target).unwrap(), "as hashed");
        assert!(is_changed(&files.copy("d", &target)));
    }
}
