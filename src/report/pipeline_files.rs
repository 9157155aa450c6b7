//! The files of a pipeline as the record of a run holds them, with paths that make sense elsewhere: relative to the folder
//! that all of them share.

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
        let text =
            std::fs::read_to_string(path).map_err(|_| ReportError::NoPipeline(path.to_owned()))?;
        return Ok(vec![(last_part(path), text.into())]);
    };
    if main.path.ends_with("(built in)") {
        return Ok(vec![(BUILT_IN.to_owned(), Arc::clone(&main.text))]);
    }
    // The record's own name of the file is absolute; the others are told from the folder of the file as it was opened.
    let file = record
        .sweep
        .as_ref()
        .map_or(&record.file, |sweep| &sweep.pipeline);
    let (opened, home) = (folder_of(&main.path), folder_of(file));
    let place = |path: &str| match Path::new(path).strip_prefix(&opened) {
        Ok(rest) => normal(&home.join(rest)),
        Err(_) => normal(Path::new(path)),
    };
    let places: Vec<PathBuf> = record
        .pipeline_files
        .iter()
        .map(|file| place(&file.path))
        .collect();
    let shared = shared_folder(&places);
    let relative = |place: &PathBuf| {
        let parts = place.strip_prefix(&shared).unwrap_or(place).components();
        let parts = parts.filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
            _ => None,
        });
        parts.collect::<Vec<_>>().join("/")
    };
    Ok(places
        .iter()
        .map(relative)
        .zip(
            record
                .pipeline_files
                .iter()
                .map(|file| Arc::clone(&file.text)),
        )
        .collect())
}

fn folder_of(path: &str) -> PathBuf {
    Path::new(path)
        .parent()
        .map(Path::to_owned)
        .unwrap_or_default()
}

fn last_part(path: &Path) -> String {
    path.file_name().map_or_else(
        || BUILT_IN.to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
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
    let mut shared = places
        .first()
        .and_then(|place| place.parent())
        .map(Path::to_owned)
        .unwrap_or_default();
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
