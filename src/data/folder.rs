//! All files below a folder that a user named, or that a pattern means: listed in a fixed order, each with its sum, so that a
//! file that is added, changed or taken away is seen.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use contract::FileRequest;

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
    if request.many {
        return locate_many(request, options, memo);
    }
    let tried = options.places_of_user_path(&request.path);
    let Some(folder) = tried.iter().find(|path| path.is_dir()) else {
        if request.optional {
            return Ok(Vec::new());
        }
        let hint = "name the folder that holds the files; a relative path starts at the pipeline file's folder, the \
                    current directory, or a data folder";
        return Err(DataError::NotFound {
            path: request.path.clone(),
            tried,
            hint: hint.to_owned(),
        });
    };
    let mut names = Vec::new();
    list(folder, "", DEEPEST, &mut names)?;
    names.retain(|name| has_ending(name, endings_of(request)));
    names.sort();
    located_below(folder, names, memo)
}

/// The endings that a request names.
fn endings_of(request: &FileRequest) -> &[String] {
    request.below.as_deref().unwrap_or_default()
}

/// Whether a name has one of these endings, if there are any. An ending in capitals means the same; without this a whole class
/// of samples could be left out.
fn has_ending(name: &str, endings: &[String]) -> bool {
    let name = name.to_ascii_lowercase();
    endings.is_empty() || endings.iter().any(|ending| name.ends_with(ending.as_str()))
}

/// Files by their paths below a folder, with their sums.
fn located_below(
    folder: &Path,
    names: impl IntoIterator<Item = String>,
    memo: &Memo,
) -> Result<Vec<(String, Located)>, DataError> {
    let mut all = Vec::new();
    for name in names {
        let located = Located::at(folder.join(&name), memo)?;
        all.push((name, located));
    }
    Ok(all)
}

/// Whether a request that may mean one file or many means many: there is no such file, and the path is a folder or a pattern.
pub fn means_many(request: &FileRequest, options: &Options) -> bool {
    let places = options.places_of_user_path(&request.path);
    let is_pattern = || !request.pattern().as_os_str().is_empty();
    !places.iter().any(|place| place.is_file())
        && (places.iter().any(|place| place.is_dir()) || is_pattern())
}

/// The files of a folder or a pattern, of which there must be one.
fn locate_many(
    request: &FileRequest,
    options: &Options,
    memo: &Memo,
) -> Result<Vec<(String, Located)>, DataError> {
    // A name with a bracket in it may be that of a folder.
    let places = options.places_of_user_path(&request.path);
    let is_folder = places.iter().any(|place| place.is_dir());
    let (folder, pattern) = if is_folder {
        (request.path.clone(), EVERYTHING.to_owned())
    } else {
        let pattern = request.pattern().to_string_lossy().into_owned();
        (request.folder(), pattern)
    };
    // A pattern may begin with the first name.
    let folder = if folder.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        folder
    };
    let tried = options.places_of_user_path(&folder);
    let parts: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty()).collect();
    let endings = endings_of(request);
    for place in tried.iter().filter(|place| place.is_dir()) {
        let mut names = BTreeSet::new();
        matching(place, "", &parts, endings, DEEPEST, &mut names)?;
        if is_folder {
            names.retain(|name| has_ending(name, endings));
        }
        if !names.is_empty() {
            return located_below(place, names, memo);
        }
    }
    let hint = if is_folder && !endings.is_empty() {
        &format!(
            "the folder has no files that end with {}",
            endings.join(", ")
        )
    } else if is_folder {
        "the folder has no files; hidden ones and `__pycache__` do not count"
    } else {
        "no file matches the pattern: `*` and `?` stand for letters within a name, `**` for any folders; hidden files \
         and `__pycache__` are left out"
    };
    Err(DataError::NotFound {
        path: request.path.clone(),
        tried,
        hint: hint.to_owned(),
    })
}

/// The pattern of all files below a folder.
const EVERYTHING: &str = "**/*";

/// What Python compiles lies there. It follows from the sources, and is not the same in each run.
const COMPILED: &str = "__pycache__";

/// Adds the files that match a pattern by their paths from the top. The endings are compared without case.
fn matching(
    folder: &Path,
    above: &str,
    pattern: &[&str],
    endings: &[String],
    depth: usize,
    into: &mut BTreeSet<String>,
) -> Result<(), DataError> {
    let [first, rest @ ..] = pattern else {
        return Ok(());
    };
    if *first == "**" {
        matching(folder, above, rest, endings, depth, into)?;
    }
    for (name, path) in entries(folder, depth)? {
        let below = format!("{above}{name}");
        let is_folder = path.is_dir();
        let is_left_out = name == COMPILED || (name.starts_with('.') && !first.starts_with('.'));
        if is_left_out || (!is_folder && !path.is_file()) {
            continue;
        }
        let inside = format!("{below}/");
        match (*first, is_folder, rest.is_empty()) {
            ("**", true, _) => matching(&path, &inside, pattern, endings, depth - 1, into)?,
            ("**", false, true) => drop(into.insert(below)),
            (part, true, false) if is_like(part, &name) => {
                matching(&path, &inside, rest, endings, depth - 1, into)?
            }
            (part, false, true) if is_file_like(part, &name, endings) => drop(into.insert(below)),
            _ => {}
        }
    }
    Ok(())
}

/// Whether the name of a file is what a pattern says, with one of these endings in small letters or capitals.
fn is_file_like(pattern: &str, name: &str, endings: &[String]) -> bool {
    for ending in endings {
        let without = |text: &str| {
            let start = text.len().checked_sub(ending.len())?;
            let is_it = text.get(start..)?.eq_ignore_ascii_case(ending);
            is_it.then(|| text[..start].to_owned())
        };
        if let (Some(pattern), Some(name)) = (without(pattern), without(name))
            && is_like(&pattern, &name)
        {
            return true;
        }
    }
    is_like(pattern, name)
}

/// Whether a name is what a part of a pattern says: `*` stands for anything, `?` for one letter, `[ab]` and `[a-z]` for one
/// of these, `[!ab]` for none of them.
fn is_like(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut read) = (0, 0);
    // Where the last `*` stands, and what it has taken so far.
    let mut star: Option<(usize, usize)> = None;
    while read < name.len() {
        if pattern.get(at) == Some(&'*') {
            star = Some((at, read));
            at += 1;
            continue;
        }
        match one(&pattern[at..], name[read]) {
            Some(length) => (at, read) = (at + length, read + 1),
            None => {
                let Some((place, taken)) = star else {
                    return false;
                };
                star = Some((place, taken + 1));
                (at, read) = (place + 1, taken + 1);
            }
        }
    }
    pattern[at..].iter().all(|rest| *rest == '*')
}

/// How much of the pattern a letter takes, if it fits.
fn one(pattern: &[char], letter: char) -> Option<usize> {
    match pattern.first()? {
        '?' => Some(1),
        '[' => {
            // A bracket right after the opening one is a letter of the set.
            let is_negated = matches!(pattern.get(1), Some('!' | '^'));
            let start = 1 + usize::from(is_negated);
            let end = (start + 1..pattern.len()).find(|index| pattern[*index] == ']');
            let Some(end) = end else {
                return (letter == '[').then_some(1);
            };
            let set = &pattern[start..end];
            let mut is_in = false;
            let mut index = 0;
            while index < set.len() {
                if index + 2 < set.len() && set[index + 1] == '-' {
                    is_in |= (set[index]..=set[index + 2]).contains(&letter);
                    index += 3;
                } else {
                    is_in |= set[index] == letter;
                    index += 1;
                }
            }
            (is_in != is_negated).then_some(end + 1)
        }
        plain => (*plain == letter).then_some(1),
    }
}

/// What is in a folder, by name.
fn entries(folder: &Path, depth: usize) -> Result<Vec<(String, PathBuf)>, DataError> {
    let failed = |error| DataError::io("cannot list", folder)(error);
    if depth == 0 {
        let reason = "its folders are nested too deeply; does a link lead back?";
        return Err(failed(std::io::Error::other(reason)));
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path: PathBuf = entry.map_err(failed)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            let reason = std::io::Error::other("its name is not UTF-8");
            return Err(DataError::io("cannot use", &path)(reason));
        };
        found.push((name.to_owned(), path));
    }
    Ok(found)
}

/// Adds the files below a folder by their paths from the top.
fn list(folder: &Path, above: &str, depth: usize, into: &mut Vec<String>) -> Result<(), DataError> {
    for (name, path) in entries(folder, depth)? {
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
    use crate::diagnostic::AsTrouble;

    fn request(folder: &Path) -> FileRequest {
        FileRequest::new("samples", folder).below(&[".csv", ".csv.gz"])
    }

    #[test]
    fn patterns_mean_names() {
        let fits = [
            ("*", "a.py"),
            ("*.py", "a.py"),
            ("a?.py", "ab.py"),
            ("[ab]*", "b"),
            ("[a-c]x", "bx"),
            ("[!a]x", "bx"),
            ("*a*b*", "xaxbx"),
            ("[]]x", "]x"),
            ("a[1", "a[1"),
            ("gr*e", "größe"),
        ];
        let others = [
            ("*.py", "a.pyc"),
            ("a?", "a"),
            ("[ab]", "c"),
            ("[!a]x", "ax"),
            ("*a*b", "ab."),
            ("", "a"),
            ("A", "a"),
        ];
        for (pattern, name) in fits {
            assert!(is_like(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in others {
            assert!(!is_like(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_path_may_mean_a_file_a_folder_or_a_pattern() {
        let folder = tempfile::tempdir().unwrap();
        let names = [
            "src/a.py",
            "src/b.txt",
            "src/sub/c.py",
            "src/sub/d[1].py",
            "src/.hidden/e.py",
            "src/.f.py",
            "src/__pycache__/a.pyc",
            "src/sub/__pycache__/c.py",
        ];
        for name in names {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
        std::fs::create_dir_all(folder.path().join("empty/.git")).unwrap();
        let options = Options {
            base: Some(folder.path().to_owned()),
            ..options()
        };
        let memo = Memo::in_memory();
        let found = |path: &str| {
            let request = FileRequest::new("x", path).or_many();
            assert!(means_many(&request, &options), "{path}");
            let found = locate_folder(&request, &options, &memo);
            found.map(|found| found.into_iter().map(|(name, _)| name).collect::<Vec<_>>())
        };
        assert_eq!(
            found("src").unwrap(),
            ["a.py", "b.txt", "sub/c.py", "sub/d[1].py"]
        );
        assert_eq!(found("./src/").unwrap(), found("src").unwrap());
        assert_eq!(found("src/*.py").unwrap(), ["a.py"]);
        assert_eq!(
            found("src/**/*.py").unwrap(),
            ["a.py", "sub/c.py", "sub/d[1].py"]
        );
        assert_eq!(
            found("s*/s?b/*").unwrap(),
            ["src/sub/c.py", "src/sub/d[1].py"]
        );
        assert_eq!(found("src/.*").unwrap(), [".f.py"]);
        assert_eq!(found("src/.hidden/*.py").unwrap(), ["e.py"]);
        assert!(
            found("src/*.csv")
                .unwrap_err()
                .hint()
                .unwrap()
                .contains("no file matches")
        );
        assert!(
            found("empty")
                .unwrap_err()
                .hint()
                .unwrap()
                .contains("has no files")
        );
        for file in ["src/a.py", "src/sub/d[1].py", "src/none.py"] {
            assert!(
                !means_many(&FileRequest::new("x", file).or_many(), &options),
                "{file}"
            );
        }
    }

    #[test]
    fn endings_choose_in_folders_and_are_compared_without_case() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "b.CSV",
            "a.csv",
            "c.Csv.GZ",
            "notes.md",
            "sub/D.csv",
            ".e.csv",
        ] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
        let found = |path: &str, endings: &[&str]| {
            let path = folder.path().join(path);
            let request = FileRequest::new("x", path).or_many().below(endings);
            let found = locate_folder(&request, &options(), &Memo::in_memory());
            found.map(|found| found.into_iter().map(|(name, _)| name).collect::<Vec<_>>())
        };
        let endings = [".csv", ".csv.gz"];
        let all = ["a.csv", "b.CSV", "c.Csv.GZ", "sub/D.csv"];
        assert_eq!(found("", &endings).unwrap(), all);
        assert_eq!(found("*.csv", &endings).unwrap(), ["a.csv", "b.CSV"]);
        assert_eq!(
            found("**/*.CSV", &endings).unwrap(),
            ["a.csv", "b.CSV", "sub/D.csv"]
        );
        assert_eq!(found("?.csv.gz", &endings).unwrap(), ["c.Csv.GZ"]);
        // Names before the ending, and endings that nobody named, are compared as they are.
        assert!(found("A.csv", &endings).is_err() && found("*.MD", &endings).is_err());
        assert_eq!(found("*.csv", &[]).unwrap(), ["a.csv"]);
        let error = found("", &[".npy"]).unwrap_err();
        assert!(error.hint().unwrap().contains("end with .npy"), "{error}");
    }

    fn options() -> Options {
        Options {
            data_dir: "nowhere".into(),
            search_path: Vec::new(),
            base: None,
            offline: true,
        }
    }

    #[test]
    fn files_come_sorted_and_with_their_sums() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("b/2.csv", "2"),
            ("a/1.csv", "1"),
            ("a/x/3.csv.gz", "3"),
            ("a/.hidden.csv", ""),
            ("r.md", ""),
        ] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let memo = Memo::in_memory();
        let found = locate_folder(&request(folder.path()), &options(), &memo).unwrap();
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a/1.csv", "a/x/3.csv.gz", "b/2.csv"]);
        assert_eq!(
            found[2].1.digest,
            memo.digest(&folder.path().join("b/2.csv")).unwrap()
        );
    }

    #[test]
    fn a_missing_folder_and_a_circle_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        let memo = Memo::in_memory();
        assert_eq!(
            locate_folder(&request(&missing), &options(), &memo)
                .unwrap_err()
                .tried(),
            std::slice::from_ref(&missing)
        );
        assert_eq!(
            locate_folder(&request(&missing).optional(), &options(), &memo).unwrap(),
            []
        );
        std::os::unix::fs::symlink(folder.path(), folder.path().join("circle")).unwrap();
        let error = locate_folder(&request(folder.path()), &options(), &memo).unwrap_err();
        assert!(error.to_string().contains("cannot list"), "{error}");
    }
}
