//! All files below a folder that a user named: listed in a fixed order, each with its sum, so that a file that is added,
//! changed or taken away is seen.

use std::path::{Path, PathBuf};

use stages::contract::FileRequest;

use super::locate::{Located, Options};
use super::{DataError, Memo};

/// Folders in folders beyond this are a circle of links.
const DEEPEST: usize = 32;

/// The files that a request for a folder means, by their paths below it, sorted; hidden ones are left out. Nothing at
/// all for an optional folder that is nowhere.
///
/// # Errors
/// If the folder is nowhere or something in it cannot be read.
pub fn locate_folder(
    request: &FileRequest,
    options: &Options,
    memo: &Memo,
) -> Result<Vec<(String, Located)>, DataError> {
    let tried = options.places_of_user_path(&request.path);
    let Some(folder) = tried.iter().find(|path| path.is_dir()) else {
        if request.optional {
            return Ok(Vec::new());
        }
        let hint =
            "name the folder that holds the files; a relative path starts at the pipeline file's folder, the current \
                    directory, or a data folder"
                .to_owned();
        return Err(DataError::NotFound { path: request.path.clone(), tried, hint });
    };
    let mut names = Vec::new();
    list(folder, "", DEEPEST, &mut names)?;
    let endings = request.below.as_deref().unwrap_or_default();
    names.retain(|name| endings.is_empty() || endings.iter().any(|ending| name.ends_with(ending.as_str())));
    names.sort();
    let located = |name: String| {
        let located = Located::at(folder.join(&name), memo)?;
        Ok((name, located))
    };
    names.into_iter().map(located).collect()
}

/// Adds the files below a folder by their paths from the top.
fn list(folder: &Path, above: &str, depth: usize, into: &mut Vec<String>) -> Result<(), DataError> {
    let failed = |error| DataError::io("cannot list", folder)(error);
    let too_deep = || std::io::Error::other("its folders are nested too deeply; does a link lead back?");
    if depth == 0 {
        return Err(failed(too_deep()));
    }
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path: PathBuf = entry.map_err(failed)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return Err(DataError::io("cannot use", &path)(std::io::Error::other("its name is not UTF-8")));
        };
        if name.starts_with('.') {
            continue;
        }
        let below = format!("{above}{name}");
        // Links are followed.
        if path.is_dir() {
            list(&path, &format!("{below}/"), depth - 1, into)?;
        } else if path.is_file() {
            into.push(below);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(folder: &Path) -> FileRequest {
        FileRequest::new("samples", folder).below(&[".csv", ".csv.gz"])
    }

    fn options() -> Options {
        Options { data_dir: "nowhere".into(), search_path: Vec::new(), base: None, offline: true }
    }

    #[test]
    fn files_come_sorted_and_with_their_sums() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in
            [("b/2.csv", "2"), ("a/1.csv", "1"), ("a/x/3.csv.gz", "3"), ("a/.hidden.csv", ""), ("r.md", "")]
        {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let memo = Memo::in_memory();
        let found = locate_folder(&request(folder.path()), &options(), &memo).unwrap();
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a/1.csv", "a/x/3.csv.gz", "b/2.csv"]);
        assert_eq!(found[2].1.digest, memo.digest(&folder.path().join("b/2.csv")).unwrap());
    }

    #[test]
    fn a_missing_folder_and_a_circle_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        let memo = Memo::in_memory();
        assert_eq!(
            locate_folder(&request(&missing), &options(), &memo).unwrap_err().tried(),
            std::slice::from_ref(&missing)
        );
        assert_eq!(locate_folder(&request(&missing).optional(), &options(), &memo).unwrap(), []);
        std::os::unix::fs::symlink(folder.path(), folder.path().join("circle")).unwrap();
        let error = locate_folder(&request(folder.path()), &options(), &memo).unwrap_err();
        assert!(error.to_string().contains("cannot list"), "{error}");
    }
}
