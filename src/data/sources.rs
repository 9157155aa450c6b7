//! `data/sources.yaml`: which data sets there are, their files with sums, and where these come from.
//! The list in the program is replaced as a whole by a file of that name in the data folder.

use std::path::Path;

use contract::artifact::RelativePath;
use indexmap::IndexMap;
use serde::Deserialize;

use super::DataError;
use crate::pipeline::limits::read_regular;

/// The list that is built into the program.
const BUILT_IN: &str = include_str!("../../data/sources.yaml");

/// All known data sets by name.
#[derive(Debug, Default)]
pub struct Sources {
    sets: IndexMap<String, DataSet>,
}

/// One data set.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSet {
    pub title: String,
    pub licence: String,
    pub citation: String,
    pub homepage: String,
    /// What comes before a file's path in its URL.
    #[serde(default)]
    pub origin: Option<String>,
    /// How to get files that have no URL.
    #[serde(default)]
    pub obtain: Option<String>,
    /// By path, relative to a data folder.
    pub files: IndexMap<String, SourceFile>,
}

/// One file of a data set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceFile {
    /// 64 hexadecimal digits, lower case; absent where the sum is not known.
    #[serde(default)]
    pub sha256: Option<String>,
    #[serde(default)]
    pub bytes: Option<u64>,
    /// Where it is if not at the data set's origin.
    #[serde(default)]
    pub url: Option<String>,
}

impl DataSet {
    /// Where a file can be downloaded.
    pub fn url(&self, path: &str) -> Option<String> {
        match (&self.files.get(path)?.url, &self.origin) {
            (Some(url), _) => Some(url.clone()),
            (None, origin) => Some(format!("{}{path}", origin.as_ref()?)),
        }
    }
}

impl Sources {
    /// The list in `data_dir`, or the one in the program where there is none.
    ///
    /// # Errors
    /// If the file is there but cannot be read or understood.
    pub fn load(data_dir: &Path) -> Result<Self, DataError> {
        let path = data_dir.join("sources.yaml");
        match read_regular(&path) {
            Ok(bytes) if bytes == BUILT_IN.as_bytes() => Self::built_in(),
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                Self::parse(&text, &path.display().to_string())
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::built_in(),
            Err(error) => Err(DataError::io("cannot read", path)(error)),
        }
    }

    /// The list in the program.
    pub fn built_in() -> Result<Self, DataError> {
        Self::parse(BUILT_IN, "in the program")
    }

    /// Reads a list; `origin` names it in messages.
    pub fn parse(text: &str, origin: &str) -> Result<Self, DataError> {
        let bad = |reason: String| DataError::Sources {
            origin: origin.to_owned(),
            reason,
        };
        // A map takes the last of two equal keys in silence; the untyped value refuses them.
        let value: serde_yaml::Value =
            serde_yaml::from_str(text).map_err(|error| bad(error.to_string()))?;
        let sets: IndexMap<String, DataSet> =
            serde_yaml::from_value(value).map_err(|error| bad(error.to_string()))?;
        for (name, set) in &sets {
            for (path, file) in &set.files {
                check(path, file)
                    .map_err(|reason| bad(format!("data set `{name}`, file `{path}`: {reason}")))?;
            }
        }
        Ok(Self { sets })
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &DataSet)> {
        self.sets.iter().map(|(name, set)| (name.as_str(), set))
    }

    /// The data set of this name.
    ///
    /// # Errors
    /// If there is none; the hint names the nearest.
    pub fn set(&self, name: &str) -> Result<&DataSet, DataError> {
        if let Some(set) = self.sets.get(name) {
            return Ok(set);
        }
        let known: Vec<&str> = self.sets.keys().map(String::as_str).collect();
        let hint = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are {}", known.join(", ")),
        };
        Err(DataError::UnknownDataSet {
            name: name.to_owned(),
            hint,
        })
    }
}

fn check(path: &str, file: &SourceFile) -> Result<(), &'static str> {
    if RelativePath::new(path).is_err() || path.contains('\\') {
        return Err("a path is relative to the data folder and stays inside it");
    }
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if let Some(sum) = &file.sha256
        && (sum.len() != 64 || !sum.bytes().all(is_digit))
    {
        return Err("`sha256` has 64 digits, 0-9 and a-f");
    }
    Ok(())
}

/// The name most like `wanted`, if one is like it at all.
pub(super) fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut best = (0.8, None);
    for name in names {
        let score = strsim::jaro_winkler(wanted, name);
        // Of several that are as near, the last.
        if score > 0.8 && score >= best.0 {
            best = (score, Some(name));
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::AsTrouble;

    #[test]
    fn the_built_in_list_is_sound_and_complete() {
        let sources = Sources::built_in().unwrap();
        for (name, set) in sources.iter() {
            for (path, file) in &set.files {
                assert!(file.sha256.is_some(), "{name}: {path} has no sum");
            }
        }
        let smd = sources.set("smd").unwrap();
        assert_eq!(smd.files.len(), 4 * 28);
        let path = "ServerMachineDataset/train/machine-2-1.txt";
        assert!(smd.url(path).unwrap().ends_with(&format!("/{path}")));
        let msl = sources.set("msl").unwrap();
        assert_eq!(msl.files.len(), 1 + 2 * 27);
        assert!(msl.url("SMAP_MSL/train/C-1.npy").is_none() && msl.obtain.is_some());
        assert_eq!(sources.set("smap").unwrap().files.len(), 1 + 2 * 54);
        assert_eq!(sources.set("ett").unwrap().files.len(), 4);
        assert_eq!(sources.set("uea").unwrap().files.len(), 6);
        assert!(
            sources
                .set("exchange_rate")
                .unwrap()
                .url("exchange_rate/exchange_rate.txt.gz")
                .is_some()
        );
    }

    #[test]
    fn every_reader_finds_its_files_in_the_list() {
        let sources = Sources::built_in().unwrap();
        let ingest = contract::StageKind::of::<::data::ingest::Ingest>();
        for (dataset, key, value) in [
            ("smd", "entity", "all"),
            ("msl", "entity", "all"),
            ("smap", "entity", "all"),
            ("ett", "entity", "ETTm2"),
            ("uea", "problem", "Handwriting"),
        ] {
            let parameters = ingest
                .parse(serde_json::json!({"dataset": dataset, key: value}))
                .unwrap();
            for request in parameters.files() {
                let set = sources.set(request.dataset.as_deref().unwrap()).unwrap();
                assert!(
                    set.files.contains_key(request.path.to_str().unwrap()),
                    "{request:?}"
                );
            }
        }
    }

    #[test]
    fn refuses_what_is_wrong_and_suggests() {
        let head = "a:\n  title: t\n  licence: l\n  citation: c\n  homepage: h\n  files:\n";
        for (files, reason) in [
            ("    ../x: {}\n", "stays inside"),
            ("    /x: {}\n", "stays inside"),
            ("    x/: {}\n", "stays inside"),
            ("    x/../../y: {}\n", "stays inside"),
            ("    'x\\..\\y': {}\n", "stays inside"),
            ("    x: {sha256: abc}\n", "64 digits"),
            ("    x: {md5: abc}\n", "md5"),
            ("    x: {}\n    x: {}\n", "duplicate"),
        ] {
            let error = Sources::parse(&format!("{head}{files}"), "test").unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        }
        let error = Sources::built_in().unwrap().set("smdd").unwrap_err();
        assert_eq!(error.hint().unwrap(), "did you mean `smd`?");
    }

    #[test]
    fn a_list_in_the_data_folder_replaces_the_built_in_one() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Sources::load(folder.path()).unwrap().set("smd").is_ok());
        std::fs::write(folder.path().join("sources.yaml"), "{}").unwrap();
        assert!(Sources::load(folder.path()).unwrap().set("smd").is_err());
    }
}
