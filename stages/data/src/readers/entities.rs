//! Which files a reader reads: those that a path, a pattern or a folder means, with the name of the entity that each is and the
//! files that go with it.

use std::path::{Component, Path, PathBuf};

use super::OneOrMany;
use super::tabular::{Sources, may_be_pattern};
use contract::{FileRequest, StageContext, Trouble};

/// A file, what its entity is called, and what belongs to it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Recording {
    pub entity: String,
    pub file: PathBuf,
    pub test: Option<PathBuf>,
    pub labels: Option<PathBuf>,
}

/// A file that a parameter means.
#[derive(Clone, Debug)]
struct Found {
    /// Its path as the parameter has it, which does not depend on the machine.
    name: String,
    /// Its path below the folder or the fixed part of a pattern, for one of several.
    below: Option<String>,
    path: PathBuf,
}

impl Found {
    /// What tells it from the other files, without the ending.
    fn key(&self) -> String {
        let name = self.below.as_deref().unwrap_or(&self.name);
        let folder = match self.below {
            Some(_) => Path::new(name).parent(),
            None => None,
        };
        let stem = stem(name);
        match folder {
            Some(folder) => folder.join(stem).to_string_lossy().into_owned(),
            None => stem,
        }
    }
}

/// The files that the parameters mean, in order.
///
/// # Errors
/// If a file is meant twice, or if test parts or labels do not go with the files.
pub(super) fn recordings(
    sources: &Sources<'_>,
    context: &StageContext<'_>,
) -> Result<Vec<Recording>, Trouble> {
    let files = found(sources.path, sources.endings, context)?;
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let mut recordings = Vec::with_capacity(files.len());
    for (entity, file) in entities(&names).into_iter().zip(&files) {
        recordings.push(Recording {
            entity,
            file: file.path.clone(),
            test: None,
            labels: None,
        });
    }
    if let Some(test) = sources.test {
        let tests = partners("test", &files, found(test, sources.endings, context)?)?;
        for (recording, test) in recordings.iter_mut().zip(tests) {
            recording.test = Some(test);
        }
    }
    if let Some(labels) = sources.test_labels {
        let labels = partners("test_labels", &files, found(labels, &[], context)?)?;
        for (recording, labels) in recordings.iter_mut().zip(labels) {
            recording.labels = Some(labels);
        }
    }
    Ok(recordings)
}

/// The files that a list of paths means. Those of a pattern or a folder come sorted.
fn found(
    list: &OneOrMany,
    endings: &[&str],
    context: &StageContext<'_>,
) -> Result<Vec<Found>, Trouble> {
    let mut all: Vec<Found> = Vec::new();
    for path in list.iter() {
        let mut below = context.files_below(path)?;
        // A file of another parameter may lie in the folder.
        if !may_be_pattern(path) && !endings.is_empty() {
            let has_ending = |name: &str| {
                let name = name.to_ascii_lowercase();
                endings.iter().any(|ending| name.ends_with(ending))
            };
            below.retain(|(name, _)| has_ending(name));
        }
        if below.is_empty() {
            all.push(Found {
                name: path.clone(),
                below: None,
                path: context.file(path)?,
            });
            continue;
        }
        let request = FileRequest::new(path, path).or_many();
        for (below, path) in below {
            let name = request.folder().join(&below);
            all.push(Found {
                name: name.to_string_lossy().into_owned(),
                below: Some(below),
                path,
            });
        }
    }
    for (index, file) in all.iter().enumerate() {
        if all[..index].iter().any(|other| other.path == file.path) {
            return Err(Trouble::new("the file is read twice")
                .at(&file.path, None)
                .hint("two of the paths and patterns mean it; leave one out"));
        }
    }
    Ok(all)
}

/// Whichever of `others` goes with each file: that of the same name where a pattern or a folder stands for several and all have
/// partners, or else that in the same place.
fn partners(parameter: &str, files: &[Found], others: Vec<Found>) -> Result<Vec<PathBuf>, Trouble> {
    let (count, needed) = (others.len(), files.len());
    if count != needed {
        let message = format!("`{parameter}` means {count} files, and `path` {needed}");
        return Err(Trouble::new(message).hint("there is one for each"));
    }
    let is_listed = files.iter().chain(&others).all(|file| file.below.is_none());
    let keys: Vec<String> = files.iter().map(Found::key).collect();
    let mut placed: Vec<Option<PathBuf>> = vec![None; needed];
    let mut stray = None;
    for other in &others {
        let key = other.key();
        match keys.iter().position(|known| *known == key) {
            Some(place) => placed[place] = Some(other.path.clone()),
            None => stray = Some(other),
        }
    }
    let by_name: Vec<PathBuf> = placed.into_iter().flatten().collect();
    if is_listed || by_name.is_empty() {
        return Ok(others.into_iter().map(|other| other.path).collect());
    }
    if by_name.len() == needed {
        return Ok(by_name);
    }
    let message = format!("not every file of `{parameter}` has the name of one of `path`");
    let error = Trouble::new(message).hint(
        "files go together by their names below the folder, or in order where all names differ",
    );
    Err(match stray {
        Some(file) => error.at(&file.path, None),
        None => error,
    })
}

/// A file's name without folder and ending.
fn stem(path: &str) -> String {
    let unpacked = path.strip_suffix(".gz").unwrap_or(path);
    let stem = Path::new(unpacked).file_stem();
    stem.unwrap_or(path.as_ref()).to_string_lossy().into_owned()
}

/// A name for each file: its stem, and where several have it, so much of the path before it as tells them apart.
fn entities(names: &[&str]) -> Vec<String> {
    let stems: Vec<String> = names.iter().map(|name| stem(name)).collect();
    let mut entities = stems.clone();
    for (index, stem) in stems.iter().enumerate() {
        let mut alike = Vec::new();
        for (other, its_stem) in stems.iter().enumerate() {
            if its_stem == stem {
                alike.push(other);
            }
        }
        if alike.len() > 1 {
            let others: Vec<&str> = alike.iter().map(|other| names[*other]).collect();
            entities[index] = apart(names[index], stem, &others);
        }
    }
    entities
}

/// The name with as few folders as tell all of these paths apart; with its ending, if folders do not.
fn apart(path: &str, stem: &str, all: &[&str]) -> String {
    let folders = |path: &str| -> Vec<String> {
        let parts = Path::new(path)
            .parent()
            .unwrap_or(Path::new(""))
            .components();
        let mut folders = Vec::new();
        for part in parts {
            if let Component::Normal(folder) = part {
                folders.push(folder.to_string_lossy().into_owned());
            }
        }
        folders
    };
    let tail = |path: &str, count: usize| {
        let folders = folders(path);
        folders[folders.len().saturating_sub(count)..].join("/")
    };
    let deepest = all
        .iter()
        .map(|path| folders(path).len())
        .max()
        .unwrap_or(0);
    for count in 1..=deepest {
        let mut tails: Vec<String> = all.iter().map(|path| tail(path, count)).collect();
        tails.sort();
        tails.dedup();
        if tails.len() == all.len() {
            let folders = tail(path, count);
            let slash = if folders.is_empty() { "" } else { "/" };
            return format!("{folders}{slash}{stem}");
        }
    }
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::NullHost;

    #[test]
    fn stems_name_entities_and_folders_tell_them_apart() {
        for (names, expected) in [
            (vec!["a/x.csv", "b/y.csv.gz"], vec!["x", "y"]),
            (
                vec!["north/pump.csv", "south/pump.csv", "fan.csv"],
                vec!["north/pump", "south/pump", "fan"],
            ),
            (
                vec!["/d/1/a/x.csv", "/d/2/a/x.csv", "x.csv"],
                vec!["1/a/x", "2/a/x", "x"],
            ),
            (vec!["a/x.csv", "a/x.txt"], vec!["a/x.csv", "a/x.txt"]),
            (vec!["./x.csv", "a/x.csv"], vec!["x", "a/x"]),
        ] {
            assert_eq!(entities(&names), expected);
        }
    }

    fn host(names: &[&str]) -> NullHost {
        let file = |name: &&str| {
            let path = name.replace("*.csv/", "").replace("*/", "");
            ((*name).to_owned(), PathBuf::from(path))
        };
        NullHost {
            files: names.iter().map(file).collect(),
        }
    }

    fn of(names: &[&str], path: &str, test: &str) -> Result<Vec<Recording>, Trouble> {
        let (path, test) = (
            OneOrMany::One(path.to_owned()),
            OneOrMany::One(test.to_owned()),
        );
        let sources = Sources {
            test: Some(&test),
            ..Sources::new(&path, None)
        };
        recordings(&sources, &host(names).context(0))
    }

    #[test]
    fn test_parts_are_found_by_name_or_in_order() {
        let names = ["in/*.csv/a.csv", "in/*.csv/b.csv", "out/b.txt", "out/a.txt"];
        let pairs = of(&names, "in/*.csv", "out").unwrap();
        assert_eq!(pairs[0].test, Some(PathBuf::from("out/a.txt")));
        assert_eq!(
            (pairs[1].entity.as_str(), &pairs[1].file),
            ("b", &PathBuf::from("in/b.csv"))
        );
        let names = ["in/*.csv/a.csv", "in/*.csv/b.csv", "out/y.csv", "out/x.csv"];
        let pairs = of(&names, "in/*.csv", "out").unwrap();
        assert_eq!(pairs[0].test, Some(PathBuf::from("out/x.csv")));
        let names = ["in/*.csv/a.csv", "in/*.csv/b.csv", "out/a.csv", "out/c.csv"];
        let error = of(&names, "in/*.csv", "out").unwrap_err();
        assert!(error.location().unwrap().file.ends_with("c.csv"), "{error}");
        let error = of(&names[..3], "in/*.csv", "out").unwrap_err();
        assert!(
            error.message().contains("means 1 files, and `path` 2"),
            "{error}"
        );
    }

    #[test]
    fn a_file_is_read_once() {
        let paths = OneOrMany::Many(vec!["d/*.csv".to_owned(), "d/a.csv".to_owned()]);
        let host = host(&["d/*.csv/a.csv", "d/a.csv"]);
        let error = recordings(&Sources::new(&paths, None), &host.context(0)).unwrap_err();
        assert_eq!(error.message(), "the file is read twice");
    }
}
