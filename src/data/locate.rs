//! Finds the file that a stage asks for: in the data folder, on the search path, or at its origin.

use std::path::{Path, PathBuf};

use contract::FileRequest;

use super::fetch::{self, Watch};
use super::memo::{FileDigest, Memo};
use super::sources::{DataSet, SourceFile, Sources, nearest};
use super::{DataError, Identity};

/// The variable that names further data folders, separated by colons.
pub const SEARCH_PATH: &str = "RUNNER_DATA_PATH";

/// Where to look.
#[derive(Clone, Debug)]
pub struct Options {
    /// The data folder; downloads go there.
    pub data_dir: PathBuf,
    /// Further data folders, in order. Nothing is written to them.
    pub search_path: Vec<PathBuf>,
    /// The folder of the pipeline file: paths that a user wrote are tried there first.
    pub base: Option<PathBuf>,
    /// Nothing is downloaded.
    pub offline: bool,
}

impl Options {
    /// The data folder `data` below the current directory and the folders of `RUNNER_DATA_PATH`.
    pub fn from_environment() -> Self {
        let folders = std::env::var_os(SEARCH_PATH).unwrap_or_default();
        let mut search_path: Vec<PathBuf> = std::env::split_paths(&folders).collect();
        search_path.retain(|folder| !folder.as_os_str().is_empty());
        Self {
            data_dir: PathBuf::from("data"),
            search_path,
            base: None,
            offline: false,
        }
    }

    /// All places where a file of a data set may lie.
    pub(super) fn places(&self, path: &Path) -> Vec<PathBuf> {
        let mut places = vec![self.data_dir.join(path)];
        places.extend(self.search_path.iter().map(|folder| folder.join(path)));
        places
    }

    /// All places where a path that a user wrote may lead.
    pub(super) fn places_of_user_path(&self, path: &Path) -> Vec<PathBuf> {
        if path.is_absolute() {
            return vec![path.to_owned()];
        }
        let mut all: Vec<PathBuf> = self.base.iter().map(|base| base.join(path)).collect();
        all.push(path.to_owned());
        all.extend(self.places(path));
        let mut places = Vec::new();
        for place in all {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }
}

/// All places where a file that a stage asks for may lie, in the order in which they are tried. `is_listed` says whether it is
/// one of a data set's, or one that a user named.
pub fn places_of(path: &Path, is_listed: bool, options: &Options) -> Vec<PathBuf> {
    if is_listed {
        options.places(path)
    } else {
        options.places_of_user_path(path)
    }
}

/// A file that was found, with its sums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    pub path: PathBuf,
    pub digest: FileDigest,
    /// As long as the file has this identity, it has these sums. None for a file that changed just now.
    pub identity: Option<Identity>,
}

impl Located {
    /// The file at this path, with its sums.
    ///
    /// # Errors
    /// If it cannot be read, or changes while it is read.
    pub fn at(path: PathBuf, memo: &Memo) -> Result<Self, DataError> {
        let (digest, identity) = memo.look(&path)?;
        Ok(Self {
            path,
            digest,
            identity,
        })
    }
}

/// Finds a file, downloads it if it must, and checks it against the list of data sets. `None` if an optional file is
/// nowhere.
///
/// # Errors
/// If the file is nowhere, or is not what the list says it should be.
pub fn locate(
    request: &FileRequest,
    sources: &Sources,
    options: &Options,
    memo: &Memo,
    watch: Watch<'_>,
) -> Result<Option<Located>, DataError> {
    let Some(name) = &request.dataset else {
        return locate_user_path(request, options, memo);
    };
    let set = sources.set(name)?;
    let text = request.path.to_string_lossy();
    let listed = set.files.get(text.as_ref());
    let tried = options.places(&request.path);
    if let Some(path) = tried.iter().find(|path| path.is_file()) {
        let located = Located::at(path.clone(), memo)?;
        if let Some(file) = listed {
            check(path, file, &located.digest, name)?;
        }
        return Ok(Some(located));
    }
    match (listed, set.url(&text)) {
        _ if request.optional => Ok(None),
        (Some(file), Some(url)) if !options.offline => {
            let target = options.data_dir.join(&request.path);
            fetch::download(&url, file, &target, watch)
                .map_err(|error| with_data_hint(error, &request.path))?;
            Located::at(target, memo).map(Some)
        }
        (listed, url) => Err(DataError::NotFound {
            path: request.path.clone(),
            tried,
            hint: missing_hint(name, set, &text, listed.is_some(), url.is_some(), options),
        }),
    }
}

fn locate_user_path(
    request: &FileRequest,
    options: &Options,
    memo: &Memo,
) -> Result<Option<Located>, DataError> {
    let tried = options.places_of_user_path(&request.path);
    if let Some(path) = tried.iter().find(|path| path.is_file()) {
        return Located::at(path.clone(), memo).map(Some);
    }
    if request.optional {
        return Ok(None);
    }
    let folder = tried.iter().find(|path| path.is_dir());
    let hint = match folder {
        Some(folder) => format!("{} is a folder; name a file in it", folder.display()),
        None if request.many => {
            "a relative path starts at the pipeline file's folder, the current directory, or a data folder".to_owned()
        }
        None => format!(
            "a relative path starts at the pipeline file's folder, the current directory, the data folder, \
            or a folder of {SEARCH_PATH}; pipelines/quickstart.yaml needs no data at all"
        ),
    };
    Err(DataError::NotFound {
        path: request.path.clone(),
        tried,
        hint,
    })
}

/// Compares a file with what the list says of it.
pub(super) fn check(
    path: &Path,
    file: &SourceFile,
    digest: &FileDigest,
    set: &str,
) -> Result<(), DataError> {
    let (size, sum) = (digest.bytes, digest.sha256_text());
    let (what, found, expected) = match (file.bytes, &file.sha256) {
        (Some(listed), _) if listed != size => {
            ("size in bytes", size.to_string(), listed.to_string())
        }
        (_, Some(listed)) if *listed != sum => ("sha256 sum", sum, listed.clone()),
        _ => return Ok(()),
    };
    Err(DataError::Damaged {
        path: path.to_owned(),
        what,
        found,
        expected,
        hint: format!(
            "remove it and run `runner data get {set}`, or put the right file there; `runner data verify {set}` checks all \
             files of the set"
        ),
    })
}

fn missing_hint(
    name: &str,
    set: &DataSet,
    path: &str,
    listed: bool,
    has_url: bool,
    options: &Options,
) -> String {
    let place = format!(
        "put it into {} or name a folder that has it in {SEARCH_PATH}",
        options.data_dir.display()
    );
    let rest = "pipelines/quickstart.yaml needs no data at all";
    if !listed {
        return match nearest(path, set.files.keys().map(String::as_str)) {
            Some(near) => format!("data set `{name}` does not list it; did you mean `{near}`?"),
            None => format!("data set `{name}` does not list it; {place}"),
        };
    }
    match (&set.obtain, has_url) {
        (_, true) => {
            format!("{place}; without --offline `runner data get {name}` downloads it; {rest}")
        }
        (Some(obtain), false) => format!("{obtain} Or {place}; {rest}"),
        (None, false) => format!("see {}; {place}; {rest}", set.homepage),
    }
}

/// A failed download has other ways out as well.
fn with_data_hint(error: DataError, path: &Path) -> DataError {
    let DataError::Download { url, reason, hint } = error else {
        return error;
    };
    let place = format!(
        "put {} into a folder named in {SEARCH_PATH}",
        path.display()
    );
    let hint = format!("{hint}; or {place}; pipelines/quickstart.yaml needs no data at all");
    DataError::Download { url, reason, hint }
}

#[cfg(test)]
mod tests {
    use super::super::fetch::ignore;
    use super::*;
    use crate::diagnostic::AsTrouble;

    const SUM_OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    struct Place {
        folder: tempfile::TempDir,
        options: Options,
    }

    fn place() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let options = Options {
            data_dir: at("data"),
            search_path: vec![at("first"), at("second")],
            base: Some(at("pipelines")),
            offline: true,
        };
        Place { options, folder }
    }

    impl Place {
        fn write(&self, path: &str, content: &str) -> PathBuf {
            let path = self.folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, content).unwrap();
            path
        }

        fn locate(&self, request: &FileRequest) -> Result<Option<Located>, DataError> {
            let text = format!(
                "toy:\n  title: t\n  licence: l\n  citation: c\n  homepage: h\n  origin: http://127.0.0.1:9/\n  \
                 files:\n    toy/a.txt: {{sha256: {SUM_OF_ABC}, bytes: 3}}\n"
            );
            let sources = Sources::parse(&text, "test").unwrap();
            locate(
                request,
                &sources,
                &self.options,
                &Memo::in_memory(),
                &ignore,
            )
        }
    }

    fn request() -> FileRequest {
        FileRequest::new("a", "toy/a.txt").of_dataset("toy")
    }

    #[test]
    fn looks_in_the_data_folder_first_and_then_along_the_path() {
        let place = place();
        let second = place.write("second/toy/a.txt", "abc");
        assert_eq!(place.locate(&request()).unwrap().unwrap().path, second);
        let first = place.write("first/toy/a.txt", "abc");
        assert_eq!(place.locate(&request()).unwrap().unwrap().path, first);
        let own = place.write("data/toy/a.txt", "abc");
        assert_eq!(place.locate(&request()).unwrap().unwrap().path, own);
    }

    #[test]
    fn a_missing_file_tells_where_it_was_looked_for_and_what_to_do() {
        let place = place();
        let error = place.locate(&request()).unwrap_err();
        assert_eq!(error.tried().len(), 3);
        let hint = error.hint().unwrap();
        assert!(
            [
                "RUNNER_DATA_PATH",
                "runner data get toy",
                "pipelines/quickstart.yaml"
            ]
            .iter()
            .all(|way| hint.contains(way))
        );
        let near = FileRequest::new("b", "toy/b.txt").of_dataset("toy");
        assert!(
            place
                .locate(&near)
                .unwrap_err()
                .hint()
                .unwrap()
                .contains("did you mean `toy/a.txt`?")
        );
        assert_eq!(place.locate(&request().optional()).unwrap(), None);
    }

    #[test]
    fn a_damaged_file_is_named_with_both_sums() {
        let place = place();
        place.write("data/toy/a.txt", "abd");
        let error = place.locate(&request()).unwrap_err();
        assert!(
            error.to_string().contains(SUM_OF_ABC) && error.to_string().contains("toy/a.txt"),
            "{error}"
        );
        place.write("data/toy/a.txt", "ab");
        assert!(
            place
                .locate(&request())
                .unwrap_err()
                .to_string()
                .contains("size in bytes is 2")
        );
    }

    #[test]
    fn a_path_of_the_user_starts_at_the_pipeline() {
        let place = place();
        let own = FileRequest::new("x", "x.csv");
        let error = place.locate(&own).unwrap_err();
        assert_eq!(error.tried().len(), 5);
        let far = place.write("second/x.csv", "1");
        assert_eq!(place.locate(&own).unwrap().unwrap().path, far);
        let near = place.write("pipelines/x.csv", "1");
        assert_eq!(place.locate(&own).unwrap().unwrap().path, near);
        let absolute = FileRequest::new("x", &far);
        assert_eq!(place.locate(&absolute).unwrap().unwrap().path, far);
        let folder = FileRequest::new("x", place.folder.path());
        assert!(
            place
                .locate(&folder)
                .unwrap_err()
                .hint()
                .unwrap()
                .contains("is a folder")
        );
    }
}
