//! The files of a pipeline as the record of a run holds them, with paths that make sense elsewhere: relative to the folder
//! that all of them share.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::ReportError;
use crate::cache::RunRecord;

/// The name of a pipeline that has no file.
const BUILT_IN: &str = "quickstart.yaml";

/// The pipeline's file first, then what it includes: relative path with `/`, and text.
///
/// # Errors
/// If the record is of a time when records held no pipeline, and the file is gone.
pub fn pipeline_files(record: &RunRecord) -> Result<Vec<(String, Arc<str>)>, ReportError> {
    let Some(main) = record.pipeline_files.first() else {
        let path = Path::new(&record.file);
        let Ok(text) = std::fs::read_to_string(path) else {
            return Err(ReportError::NoPipeline(path.to_owned()));
        };
        let name = path.file_name().unwrap_or(OsStr::new(BUILT_IN));
        return Ok(vec![(name.to_string_lossy().into_owned(), text.into())]);
    };
    if main.path.ends_with("(built in)") {
        return Ok(vec![(BUILT_IN.to_owned(), Arc::clone(&main.text))]);
    }
    // The record's own name of the file is absolute; the others are told from the folder of the file as it was opened.
    let (opened, home) = (folder_of(&main.path), folder_of(record.pipeline_path()));
    let mut places = Vec::with_capacity(record.pipeline_files.len());
    for file in &record.pipeline_files {
        let path = Path::new(&file.path);
        places.push(match path.strip_prefix(opened) {
            Ok(rest) => normal(&home.join(rest)),
            Err(_) => normal(path),
        });
    }
    let shared = shared_folder(&places);
    let mut files = Vec::with_capacity(places.len());
    for (place, file) in places.iter().zip(&record.pipeline_files) {
        let below = place.strip_prefix(&shared).unwrap_or(place);
        files.push((with_slashes(below), Arc::clone(&file.text)));
    }
    Ok(files)
}

fn folder_of(path: &str) -> &Path {
    Path::new(path).parent().unwrap_or(Path::new(""))
}

/// The names in a path with `/` between them.
fn with_slashes(path: &Path) -> String {
    let mut names = Vec::new();
    for part in path.components() {
        if let Component::Normal(name) = part {
            names.push(name.to_string_lossy());
        }
    }
    names.join("/")
}

/// The path without `.` and `..`, as far as its text says.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(normal.pop()),
            other => normal.push(other),
        }
    }
    normal
}

fn shared_folder(places: &[PathBuf]) -> PathBuf {
    let first = places.first().and_then(|place| place.parent());
    let mut shared = first.unwrap_or(Path::new("")).to_owned();
    while !places.iter().all(|place| place.starts_with(&shared)) && shared.pop() {}
    shared
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{PipelineFile, RunId, RunStatus};
    use indexmap::IndexMap;

    fn paths(file: &str, opened: &[&str]) -> Vec<String> {
        let file_of = |path: &&str| PipelineFile {
            path: (*path).to_owned(),
            text: "t".into(),
        };
        let record = RunRecord {
            run: RunId("r".into()),
            pipeline: "p".into(),
            file: file.into(),
            status: RunStatus::Done,
            started: 0,
            seconds: 0.0,
            command: Vec::new(),
            profile: None,
            overrides: Vec::new(),
            targets: Vec::new(),
            sweep: None,
            params: IndexMap::new(),
            seed: 0,
            environment: IndexMap::new(),
            pipeline_files: opened.iter().map(file_of).collect(),
            instances: IndexMap::new(),
            stages: Vec::new(),
            metrics: IndexMap::new(),
            previous: None,
            seal: None,
        };
        pipeline_files(&record)
            .unwrap()
            .into_iter()
            .map(|(path, _)| path)
            .collect()
    }

    #[test]
    fn paths_start_at_the_folder_that_all_share() {
        assert_eq!(paths("/x/p.yaml", &["p.yaml"]), ["p.yaml"]);
        assert_eq!(
            paths("/x/a/p.yaml", &["a/p.yaml", "a/parts/q.yaml"]),
            ["p.yaml", "parts/q.yaml"]
        );
        assert_eq!(
            paths("/x/a/p.yaml", &["./p.yaml", "./../b/q.yaml"]),
            ["a/p.yaml", "b/q.yaml"]
        );
        assert_eq!(
            paths("/x/a/p.yaml", &["/x/a/p.yaml", "/x/b/q.yaml"]),
            ["a/p.yaml", "b/q.yaml"]
        );
        assert_eq!(
            paths(
                "pipelines/q.yaml (built in)",
                &["pipelines/q.yaml (built in)"]
            ),
            ["quickstart.yaml"]
        );
    }
}
