//! The raw files of a run, such as scripts: which ones go along in a bundle, and where one that came along is looked for. A file
//! is known by the digest that is part of a stage's key, wherever it lies.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use contract::StageKind;
use contract::artifact::{Digest, RelativePath};

use super::History;
use crate::audit::Lock;
use crate::cache::{Manifest, RunRecord, Store};
use crate::data::{Options, places_of};

/// So many bytes of raw files go along unless something else is said.
pub const FILES_UP_TO: u64 = 16 << 20;

/// A raw file that goes along.
#[derive(Clone, Debug)]
pub struct Carried {
    pub path: PathBuf,
    pub digest: Digest,
    pub bytes: u64,
    pub executable: bool,
}

/// A raw file that does not, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// As the pipeline names it.
    pub path: String,
    /// If it is known.
    pub bytes: Option<u64>,
    pub reason: &'static str,
}

/// The raw files of a run as far as they are still what they were, the user's own before those of listed data sets, small ones
/// before large ones, as long as all of them together have no more than so many bytes.
pub(super) fn carried(history: &History<'_>, up_to: u64) -> (Vec<Carried>, Vec<LeftOut>) {
    let options = options_of(history.record);
    let (mut seen, mut found, mut left_out) = (BTreeSet::new(), Vec::new(), Vec::new());
    for file in history.stages.iter().flat_map(|stage| &stage.files) {
        if !seen.insert(file.blake3) {
            continue;
        }
        let (name, is_listed) = (file.shown_name(), file.data_set.is_some());
        let places = places_of(Path::new(&file.path), is_listed, &options);
        let mut all = Vec::new();
        all.extend(came_along(history.store, history.record, &file.blake3));
        all.extend_from_slice(&places);
        if let Some(carried) = all.iter().find_map(|path| is_it(path, &file.blake3, up_to)) {
            found.push((is_listed, carried, name));
            continue;
        }
        let mut there = places.iter().filter_map(|path| fs::metadata(path).ok());
        let bytes = there
            .find(fs::Metadata::is_file)
            .map(|metadata| metadata.len());
        let reason = match bytes {
            Some(bytes) if bytes > up_to => "too large",
            Some(_) => "no longer what it was",
            None => "not found",
        };
        left_out.push(LeftOut {
            path: name.to_owned(),
            bytes,
            reason,
        });
    }
    found.sort_by_key(|(is_listed, carried, _)| (*is_listed, carried.bytes, carried.digest));
    let (mut chosen, mut sum) = (Vec::new(), 0_u64);
    for (_, carried, name) in found {
        match sum.checked_add(carried.bytes).filter(|sum| *sum <= up_to) {
            Some(more) => {
                sum = more;
                chosen.push(carried);
            }
            None => left_out.push(LeftOut {
                path: name.to_owned(),
                bytes: Some(carried.bytes),
                reason: "too large",
            }),
        }
    }
    left_out.sort_by(|left, right| left.path.cmp(&right.path));
    (chosen, left_out)
}

/// Where a run looked for files.
fn options_of(record: &RunRecord) -> Options {
    let base = Path::new(record.pipeline_path()).parent();
    Options {
        base: base.map(Path::to_owned),
        ..Options::from_environment()
    }
}

/// The file at a path, if it has these bytes and is no larger than what may go along.
fn is_it(path: &Path, digest: &Digest, up_to: u64) -> Option<Carried> {
    let metadata = fs::metadata(path)
        .ok()
        .filter(|metadata| metadata.is_file() && metadata.len() <= up_to)?;
    let (found, bytes) = Digest::of_reader(fs::File::open(path).ok()?).ok()?;
    let executable = metadata.permissions().mode() & 0o111 != 0;
    (found == *digest).then(|| Carried {
        path: path.to_owned(),
        digest: found,
        bytes,
        executable,
    })
}

/// The folder of a run in which raw files lie that came in a bundle, by their digests.
pub(super) fn folder_of(store: &Store, record: &RunRecord) -> PathBuf {
    store.run_folder(&record.run).join("raw")
}

fn came_along(store: &Store, record: &RunRecord, digest: &Digest) -> Option<PathBuf> {
    let path = folder_of(store, record).join(digest.to_string());
    store.layout().holds(&path).then_some(path)
}

/// A request of a stage for a file or for many, and the files that came along for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Brought {
    /// The file that the request names.
    pub file: Option<PathBuf>,
    /// Those that it means as one of many, by their paths from its folder.
    pub many: Vec<(String, PathBuf)>,
}

/// What came along with a run from elsewhere, by data set and path of the requests.
pub type BroughtFiles = BTreeMap<(Option<String>, PathBuf), Brought>;

/// The raw files that came along with a run.
pub fn brought(store: &Store, record: &RunRecord, kinds: &[StageKind]) -> BroughtFiles {
    let mut brought = BroughtFiles::new();
    if store.layout().look_at(&folder_of(store, record)).is_none() {
        return brought;
    }
    let Some(lock) = Lock::beside(store, record) else {
        return brought;
    };
    for asked in asked_for(&lock, kinds) {
        let Some(path) = came_along(store, record, &asked.digest) else {
            continue;
        };
        let entry = brought.entry((asked.dataset, asked.path)).or_default();
        match asked.below {
            None => entry.file = Some(path),
            Some(below) if entry.many.iter().any(|(known, _)| *known == below) => {}
            Some(below) => entry.many.push((below, path)),
        }
    }
    brought
}

/// A file that a stage asked for.
struct Asked {
    dataset: Option<String>,
    /// Of the request.
    path: PathBuf,
    /// The folder of the request, where it means many files.
    folder: PathBuf,
    /// Its path from there.
    below: Option<String>,
    digest: Digest,
}

/// What the stages of a lock asked for, in the order of their names.
fn asked_for(lock: &Lock, kinds: &[StageKind]) -> Vec<Asked> {
    let mut all = Vec::new();
    for recorded in manifests(lock) {
        let kind = kinds
            .iter()
            .find(|kind| kind.name == recorded.kind && kind.version == recorded.version);
        let complete = kind.and_then(|kind| kind.parse(recorded.parameters.clone()).ok());
        let Some(configured) = complete else {
            continue;
        };
        for request in configured.files() {
            let start = format!("{}/", request.name);
            for (name, digest) in &recorded.files {
                let below = match name.strip_prefix(&start) {
                    Some(below) => Some(below.to_owned()),
                    None if *name == request.name => None,
                    None => continue,
                };
                let Some(digest) = *digest else { continue };
                all.push(Asked {
                    dataset: request.dataset.clone(),
                    path: request.path.clone(),
                    folder: request.folder(),
                    below,
                    digest,
                });
            }
        }
    }
    all
}

/// Digests of all raw files of the stages of a lock.
pub(super) fn digests_of(lock: &Lock) -> BTreeSet<Digest> {
    let mut digests = BTreeSet::new();
    for manifest in manifests(lock) {
        digests.extend(manifest.files.into_values().flatten());
    }
    digests
}

fn manifests(lock: &Lock) -> impl Iterator<Item = Manifest> {
    let stages = lock.stages.values();
    stages.filter_map(|stage| Manifest::parse(&stage.manifest))
}

/// A raw file that came along, and where it belongs below a folder into which the pipeline of its lock is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PlacedFile {
    pub path: RelativePath,
    pub digest: Digest,
}

/// A raw file that stages of a run read, and that did not come along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbsentFile {
    /// As the pipeline names it.
    pub path: String,
    /// The listed data set that it is of.
    pub data_set: Option<String>,
    /// Where it belongs below a folder into which the pipeline is written, if it belongs there.
    pub place: Option<RelativePath>,
    pub digest: Digest,
}

/// The files of a lock: those that came along and belong below a folder into which its pipeline is written, and those that did not
/// come along. The pipeline names the former by a relative path that stays in the folder. Hidden ones are not laid out, since a
/// folder may hold a repository of its own.
pub(super) fn placed_files<T>(
    lock: &Lock,
    main: &str,
    kinds: &[StageKind],
    brought: &BTreeMap<Digest, T>,
) -> (Vec<PlacedFile>, Vec<AbsentFile>) {
    let home = Path::new(main).parent().unwrap_or(Path::new(""));
    let (mut placed, mut absent) = (BTreeMap::new(), BTreeMap::new());
    for asked in asked_for(lock, kinds) {
        let path = match &asked.below {
            Some(below) => asked.folder.join(below),
            None => asked.path,
        };
        let place = match asked.dataset {
            None => staying(home, &path),
            Some(_) => None,
        };
        let digest = asked.digest;
        if brought.contains_key(&digest) {
            if let Some(path) = place {
                let file = PlacedFile {
                    path: path.clone(),
                    digest,
                };
                placed.entry(path).or_insert(file);
            }
            continue;
        }
        let (path, data_set) = (path.to_string_lossy().into_owned(), asked.dataset);
        // One place may have several names, such as `x` and `./x`.
        let one = match &place {
            Some(place) => place.as_str().to_owned(),
            None => path.clone(),
        };
        absent.entry((data_set.clone(), one)).or_insert(AbsentFile {
            path,
            data_set,
            place,
            digest,
        });
    }
    (
        placed.into_values().collect(),
        absent.into_values().collect(),
    )
}

/// A path from `home`, both from the root of a folder, if it stays in that folder and out of what is hidden.
fn staying(home: &Path, path: &Path) -> Option<RelativePath> {
    let mut parts: Vec<&str> = Vec::new();
    for part in home.components().chain(path.components()) {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(parts.pop()?),
            Component::Normal(name) => {
                parts.push(name.to_str().filter(|name| !name.starts_with('.'))?)
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    RelativePath::new(parts.join("/")).ok()
}

impl From<&LeftOut> for serde_json::Value {
    fn from(left: &LeftOut) -> Self {
        serde_json::json!({"path": left.path, "bytes": left.bytes, "reason": left.reason})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_laid_out_only_beneath_the_folder() {
        let place = |home: &str, path: &str| {
            staying(Path::new(home), Path::new(path)).map(|place| place.as_str().to_owned())
        };
        assert_eq!(place("", "s.sh").as_deref(), Some("s.sh"));
        assert_eq!(
            place("own", "../shared/./s.sh").as_deref(),
            Some("shared/s.sh")
        );
        for path in [
            "../s.sh",
            "../../etc/passwd",
            "/etc/passwd",
            ".git/hooks/pre-commit",
            "a/.env",
            "..",
            "",
        ] {
            assert_eq!(place("", path), None, "{path}");
        }
        assert_eq!(place("own", "../../own/s.sh"), None);
    }
}
