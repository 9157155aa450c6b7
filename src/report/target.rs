//! A file or folder that is written aside and appears as a whole under its name, or not at all.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use contract::artifact::RelativePath;

use super::ReportError;

/// Where a report goes.
#[derive(Debug)]
pub struct Target {
    path: PathBuf,
    aside: PathBuf,
    force: bool,
    done: bool,
}

impl Target {
    /// Makes sure that the place is free, and that something can be written beside it.
    ///
    /// # Errors
    /// If something is there and is not to be replaced.
    pub fn new(path: &Path, force: bool) -> Result<Self, ReportError> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        if let Ok(there) = path.symlink_metadata()
            && (!force || there.is_dir() && !is_replaceable(&path))
        {
            return Err(if force {
                ReportError::Foreign(path)
            } else {
                ReportError::Exists(path)
            });
        }
        let folder = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder).map_err(ReportError::io("create", folder))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let aside = folder.join(format!(".{name}.{}.part", std::process::id()));
        Ok(Self {
            path,
            aside,
            force,
            done: false,
        })
    }

    /// Where it will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it is written.
    pub fn aside(&self) -> &Path {
        &self.aside
    }

    /// Writes a file below the folder that the target is, with the folders above it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, below: &str, bytes: &[u8]) -> Result<(), ReportError> {
        let path = self.below(below)?;
        fs::write(&path, bytes).map_err(ReportError::io("write", &path))
    }

    /// The path of a file below the folder that the target is, after making the folders above it.
    ///
    /// # Errors
    /// If it leads elsewhere, or a folder cannot be made.
    pub fn below(&self, below: &str) -> Result<PathBuf, ReportError> {
        let path = self.aside.join(RelativePath::new(below)?.as_str());
        let folder = path.parent().unwrap_or(&self.aside);
        fs::create_dir_all(folder).map_err(ReportError::io("create", folder))?;
        Ok(path)
    }

    /// Makes a folder below the one that the target is.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn folder(&self, below: &str) -> Result<(), ReportError> {
        let path = self.aside.join(below);
        fs::create_dir_all(&path).map_err(ReportError::io("create", &path))
    }

    /// Writes the target as one file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn file(self, bytes: &[u8]) -> Result<PathBuf, ReportError> {
        let written = fs::File::create(&self.aside).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        written.map_err(ReportError::io("write", &self.aside))?;
        self.finish()
    }

    /// Lets what was written appear.
    ///
    /// # Errors
    /// If it cannot be renamed.
    pub fn finish(mut self) -> Result<PathBuf, ReportError> {
        // A folder cannot be renamed over a full one: the old one steps aside first, and goes when the new one is there.
        let old = self.aside.with_extension("old");
        let stood = self.force && is_folder(&self.path);
        if stood {
            fs::rename(&self.path, &old).map_err(ReportError::io("move aside", &self.path))?;
        }
        if let Err(error) = fs::rename(&self.aside, &self.path) {
            if stood {
                let _ = fs::rename(&old, &self.path);
            }
            return Err(ReportError::io("write", &self.path)(error));
        }
        self.done = true;
        if stood {
            remove(&old);
        }
        Ok(self.path.clone())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.done {
            remove(&self.aside);
        }
    }
}

/// Files by which folders of ours are known.
const OURS: [&str; 3] = ["ro-crate-metadata.json", "meta.yaml", "runner-report.json"];

/// Whether a folder is empty or a report; anything else could be somebody's work.
fn is_replaceable(folder: &Path) -> bool {
    let is_empty = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    is_empty || OURS.iter().any(|name| folder.join(name).is_file())
}

/// A link to a folder is not one.
fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_dir())
}

fn remove(path: &Path) {
    let _ = if is_folder(path) {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn nothing_is_replaced_unasked_and_nothing_stays_of_what_failed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report");
        drop(Target::new(&path, false).unwrap().write("a/b", b"half"));
        assert!(names(folder.path()).is_empty());
        let target = Target::new(&path, false).unwrap();
        for outside in ["../x", "/tmp/x", "a/../../x", "", "a//b"] {
            assert!(
                matches!(target.write(outside, b"x"), Err(ReportError::Path(_))),
                "{outside}"
            );
        }
        target.write("a/b", b"whole").unwrap();
        target.finish().unwrap();
        assert!(matches!(
            Target::new(&path, false),
            Err(ReportError::Exists(_))
        ));
        assert!(
            matches!(Target::new(&path, true), Err(ReportError::Foreign(_))),
            "whose folder is it?"
        );
        assert_eq!(fs::read(path.join("a/b")).unwrap(), b"whole");
        fs::write(path.join(OURS[0]), b"{}").unwrap();
        Target::new(&path, true)
            .unwrap()
            .file(b"now a file")
            .unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"now a file");
        Target::new(&path, true)
            .unwrap()
            .file(b"and another")
            .unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"and another");
        assert_eq!(names(folder.path()), ["report"]);
    }
}
