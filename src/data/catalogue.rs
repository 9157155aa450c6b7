//! What `runner data` does: lists data sets, gets their files, verifies those that are there. Returns plain results;
//! the command line prints them.

use std::path::{Path, PathBuf};

use super::DataError;
use super::fetch::{self, Watch};
use super::locate::{self, Options};
use super::memo::Memo;
use super::sources::{DataSet, SourceFile, Sources};

/// One data set and how much of it is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataSetStatus {
    pub name: String,
    pub title: String,
    pub licence: String,
    pub citation: String,
    pub homepage: String,
    /// Files that are listed.
    pub files: usize,
    /// Files that were found, checked or not.
    pub present: usize,
    /// Files that can be downloaded.
    pub downloadable: usize,
    /// Bytes of the files that were found.
    pub bytes: u64,
}

/// Lists all data sets. Looks for files, but does not read them.
pub fn list(sources: &Sources, options: &Options) -> Vec<DataSetStatus> {
    let mut statuses = Vec::new();
    for (name, set) in sources.iter() {
        let mut status = DataSetStatus {
            name: name.to_owned(),
            title: set.title.clone(),
            licence: set.licence.clone(),
            citation: set.citation.clone(),
            homepage: set.homepage.clone(),
            files: set.files.len(),
            present: 0,
            downloadable: 0,
            bytes: 0,
        };
        for path in set.files.keys() {
            status.downloadable += usize::from(set.url(path).is_some());
            if let Some(found) = find(path, options)
                && let Ok(metadata) = found.metadata()
            {
                status.present += 1;
                status.bytes += metadata.len();
            }
        }
        statuses.push(status);
    }
    statuses
}

fn find(path: &str, options: &Options) -> Option<PathBuf> {
    let mut places = options.places(Path::new(path)).into_iter();
    places.find(|place| place.is_file())
}

/// What became of the files that were asked for.
#[derive(Debug, Default)]
pub struct GetReport {
    pub downloaded: Vec<PathBuf>,
    /// Were there already and are right.
    pub present: Vec<PathBuf>,
    /// Could not be had, and why.
    pub failed: Vec<(String, DataError)>,
}

/// Gets the files of a data set that are missing, and replaces damaged ones in the data folder. `filter` is a part of
/// the path that files must have, such as `machine-2-1`.
///
/// # Errors
/// If there is no such data set, or none of its files fits the filter, or the caller asked to stop.
pub fn get(
    name: &str,
    filter: Option<&str>,
    sources: &Sources,
    options: &Options,
    memo: &Memo,
    watch: Watch<'_>,
) -> Result<GetReport, DataError> {
    let set = sources.set(name)?;
    let mut report = GetReport::default();
    for (path, file) in chosen(name, set, filter)? {
        match get_file(name, set, path, file, options, memo, watch) {
            Ok((place, true)) => report.downloaded.push(place),
            Ok((place, false)) => report.present.push(place),
            Err(DataError::Cancelled) => return Err(DataError::Cancelled),
            Err(error) => report.failed.push((path.clone(), error)),
        }
    }
    Ok(report)
}

/// The files whose path has `filter` in it, as a whole word: `machine-3-1` is not part of `machine-3-10`.
fn chosen<'a>(
    name: &str,
    set: &'a DataSet,
    filter: Option<&str>,
) -> Result<Vec<(&'a String, &'a SourceFile)>, DataError> {
    let mut files: Vec<_> = set.files.iter().collect();
    let Some(filter) = filter else {
        return Ok(files);
    };
    files.retain(|(path, _)| has_words(path, filter));
    if !files.is_empty() {
        return Ok(files);
    }
    let example = match set.files.keys().next() {
        Some(path) => format!(", such as {path}"),
        None => String::new(),
    };
    let count = set.files.len();
    Err(DataError::NotFound {
        path: filter.into(),
        tried: Vec::new(),
        hint: format!(
            "data set `{name}` lists {count} files{example}; `runner data get {name}` gets all"
        ),
    })
}

/// Whether a path has these words in it, the last of them whole.
fn has_words(path: &str, words: &str) -> bool {
    for (start, _) in path.match_indices(words) {
        let rest = &path[start + words.len()..];
        if !rest.starts_with(|next: char| next.is_ascii_alphanumeric()) {
            return true;
        }
    }
    false
}

/// The place of the file and whether it was downloaded.
fn get_file(
    name: &str,
    set: &DataSet,
    path: &str,
    file: &SourceFile,
    options: &Options,
    memo: &Memo,
    watch: Watch<'_>,
) -> Result<(PathBuf, bool), DataError> {
    let own = options.data_dir.join(path);
    if let Some(place) = find(path, options) {
        match locate::check(&place, file, &memo.fresh_digest(&place)?, name) {
            Ok(()) => return Ok((place, false)),
            // A damaged file in the data folder can be replaced; the other folders are not ours to write to.
            Err(error) if place != own => return Err(error),
            Err(_) => {}
        }
    }
    let Some(url) = set.url(path) else {
        let hint = match &set.obtain {
            Some(obtain) => obtain.clone(),
            None => format!("see {}", set.homepage),
        };
        return Err(DataError::NotFound {
            path: path.into(),
            tried: options.places(Path::new(path)),
            hint,
        });
    };
    if options.offline {
        return Err(DataError::Download {
            url,
            reason: "this run is offline".to_owned(),
            hint: "leave --offline out".to_owned(),
        });
    }
    fetch::download(&url, file, &own, watch)?;
    Ok((own, true))
}

/// One file of a data set, checked.
#[derive(Debug)]
pub struct FileStatus {
    pub dataset: String,
    pub path: String,
    /// Where it was found.
    pub place: Option<PathBuf>,
    pub state: FileState,
}

/// What a check of a file showed.
#[derive(Debug)]
pub enum FileState {
    /// Size and sum are as listed.
    Good,
    /// It is there, but no sum is listed.
    Unchecked,
    Missing,
    Damaged(DataError),
}

/// Reads every file of one data set, or of all, and compares it with the list. `seen` is called after each file.
///
/// # Errors
/// If there is no such data set.
pub fn verify(
    name: Option<&str>,
    sources: &Sources,
    options: &Options,
    memo: &Memo,
    seen: &dyn Fn(&FileStatus),
) -> Result<Vec<FileStatus>, DataError> {
    let sets: Vec<(&str, &DataSet)> = match name {
        Some(name) => vec![(name, sources.set(name)?)],
        None => sources.iter().collect(),
    };
    let mut statuses = Vec::new();
    for (dataset, set) in sets {
        for (path, file) in &set.files {
            let place = find(path, options);
            let state = match &place {
                None => FileState::Missing,
                Some(place) => {
                    let digest = memo.fresh_digest(place);
                    match digest.and_then(|found| locate::check(place, file, &found, dataset)) {
                        Err(error) => FileState::Damaged(error),
                        Ok(()) if file.sha256.is_none() => FileState::Unchecked,
                        Ok(()) => FileState::Good,
                    }
                }
            };
            let status = FileStatus {
                dataset: dataset.to_owned(),
                path: path.clone(),
                place,
                state,
            };
            seen(&status);
            statuses.push(status);
        }
    }
    Ok(statuses)
}

#[cfg(test)]
mod tests {
    use super::super::fetch::ignore;
    use super::*;

    const SUM_OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn sources(origin: &str) -> Sources {
        let text = format!(
            "toy:\n  title: t\n  licence: l\n  citation: c\n  homepage: h\n  files:\n    \
             t/m-1.txt: {{sha256: {SUM_OF_ABC}, url: \"{origin}\"}}\n    \
             t/m-10.txt: {{sha256: {SUM_OF_ABC}}}\n    t/free.txt: {{}}\n"
        );
        Sources::parse(&text, "test").unwrap()
    }

    fn options(folder: &Path) -> Options {
        Options {
            data_dir: folder.join("data"),
            search_path: vec![folder.join("far")],
            base: None,
            offline: false,
        }
    }

    fn write(path: PathBuf, content: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    #[test]
    fn gets_what_is_missing_or_damaged_and_verifies() {
        let server = tiny_http::Server::http("127.0.0.1:0").unwrap();
        let sources = sources(&format!("http://{}/m-1.txt", server.server_addr()));
        std::thread::spawn(move || {
            for request in server.incoming_requests() {
                let _ = request.respond(tiny_http::Response::from_string("abc"));
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path());
        let memo = Memo::in_memory();
        let get = |filter| get("toy", filter, &sources, &options, &memo, &ignore);
        let report = get(Some("m-1")).unwrap();
        assert_eq!(
            (
                report.downloaded.len(),
                report.present.len(),
                report.failed.len()
            ),
            (1, 0, 0)
        );
        write(folder.path().join("data/t/m-1.txt"), "abd");
        assert_eq!(
            get(Some("m-1")).unwrap().downloaded.len(),
            1,
            "a damaged file is replaced"
        );
        write(folder.path().join("far/t/m-10.txt"), "abd");
        let report = get(None).unwrap();
        assert_eq!((report.present.len(), report.failed.len()), (1, 2));
        assert!(get(Some("nothing")).is_err());

        write(folder.path().join("far/t/free.txt"), "?");
        let found = verify(None, &sources, &options, &memo, &|_| {}).unwrap();
        assert!(matches!(found[0].state, FileState::Good));
        assert!(matches!(found[1].state, FileState::Damaged(_)));
        assert!(matches!(found[2].state, FileState::Unchecked));
        let status = &list(&sources, &options)[0];
        assert_eq!(
            (
                status.files,
                status.present,
                status.downloadable,
                status.bytes
            ),
            (3, 3, 1, 7)
        );
    }

    #[test]
    fn offline_downloads_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            offline: true,
            ..options(folder.path())
        };
        let report = get(
            "toy",
            Some("m-1"),
            &sources("http://127.0.0.1:9/"),
            &options,
            &Memo::in_memory(),
            &ignore,
        )
        .unwrap();
        assert!(report.failed[0].1.to_string().contains("offline"));
    }

    #[test]
    fn real_files_match_their_sums() {
        let Some(_) = contract::testing::real_data("ServerMachineDataset/train/machine-2-1.txt")
        else {
            return;
        };
        let options = Options {
            data_dir: PathBuf::from("nowhere"),
            ..Options::from_environment()
        };
        let sources = Sources::built_in().unwrap();
        let found = verify(None, &sources, &options, &Memo::in_memory(), &|_| {}).unwrap();
        assert!(
            !found
                .iter()
                .any(|file| matches!(file.state, FileState::Damaged(_))),
            "{found:?}"
        );
        assert!(
            found
                .iter()
                .filter(|file| matches!(file.state, FileState::Good))
                .count()
                >= 20
        );
    }
}
