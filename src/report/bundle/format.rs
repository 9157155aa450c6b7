//! The format of a bundle, versions 1 to 4: a tar archive (ustar) whose entries have fixed times, owners and modes.
//!
//! ```text
//! MANIFEST.json                  a line of JSON with all other entries, and a line with its blake3
//! actions/ab/cdef….json          what a key produced, as the store keeps it
//! files/ab/cdef…                 raw files such as scripts, named by the blake3 of their bytes; `.x` behind it if it is a program
//! objects/ab/cdef….parquet       artifacts and blobs, named by the blake3 of their bytes
//! pipeline/0.yaml 1.yaml …       the pipeline and what it includes; the manifest has their paths
//! run/events.jsonl               events of the run, if there were any
//! run/pipeline.lock              what determined each stage, and its outputs
//! run/pipeline.lock.sig          who vouches for the lock, if somebody does
//! run/run.json                   the record, with its seal
//! run/run.json.sig               who vouches for the record, if somebody does
//! ```
//!
//! A bundle of a run of a sweep whose lock leaves out what differs between trials is of version 4; of others, one with raw files
//! is of version 3; one without, but with a signature, of version 2; one without either of version 1. Earlier programs read what
//! they know.

use contract::artifact::Digest;
use serde::{Deserialize, Serialize};

use crate::cache::Key;

/// What the manifest calls the format.
pub const NAME: &str = "runner-bundle";

/// The newest version that is read. Raised when older programs could not read what is written.
pub const VERSION: u64 = 4;

/// The version that first had signatures.
const SIGNED: u64 = 2;

/// The version that first had raw files.
const WITH_FILES: u64 = 3;

/// The version that first had locks which say of a sweep what its trials have in common.
pub(super) const WITH_COMMON_LOCK: u64 = 4;

pub(super) const MANIFEST: &str = "MANIFEST.json";
pub(super) const RECORD: &str = "run/run.json";
pub(super) const EVENTS: &str = "run/events.jsonl";
pub(super) const LOCK: &str = "run/pipeline.lock";
pub(super) const RECORD_SIGNATURE: &str = "run/run.json.sig";
pub(super) const LOCK_SIGNATURE: &str = "run/pipeline.lock.sig";

/// Everything in a tar archive comes in blocks of this size.
pub(super) const BLOCK: usize = 512;

/// A line break, a blake3 in hexadecimal digits, a line break.
const TAIL: usize = 66;

/// One entry of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub name: String,
    pub bytes: u64,
    pub blake3: Digest,
}

/// The first entry: what the bundle is, and what else is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: String,
    pub version: u64,
    /// The version of runner that wrote it.
    pub runner: String,
    pub run: String,
    pub pipeline: String,
    /// Which objects go along, in the words of `--objects`.
    pub objects: String,
    /// Stages all of whose objects go along.
    pub stages: Vec<String>,
    /// Entries of the pipeline's files and their paths; the first is the pipeline itself.
    pub pipeline_files: Vec<(String, String)>,
    /// In their order.
    pub entries: Vec<Entry>,
}

/// What is read of any version.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Header {
    pub format: String,
    pub version: u64,
}

impl Manifest {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).expect("a manifest is plain data");
        let sum = Digest::of_bytes(&bytes);
        bytes.extend_from_slice(format!("\n{sum}\n").as_bytes());
        bytes
    }

    /// The version that a bundle with these entries has, unless its lock asks for a later one.
    pub(super) fn version_of(entries: &[Entry]) -> u64 {
        let version = |entry: &Entry| match Place::of(&entry.name) {
            Some(Place::Raw(..)) => WITH_FILES,
            Some(Place::Signature) => SIGNED,
            _ => 1,
        };
        entries.iter().map(version).max().unwrap_or(1)
    }

    /// The path of the pipeline's own file.
    pub(super) fn main(&self) -> &str {
        self.pipeline_files.first().map_or("", |(_, path)| path)
    }

    /// Bytes of all objects.
    pub(super) fn object_bytes(&self) -> u64 {
        let mut sum = 0;
        for entry in &self.entries {
            if entry.name.starts_with("objects/") {
                sum += entry.bytes;
            }
        }
        sum
    }
}

/// The line of JSON in a manifest's bytes; `None` if its sum does not fit.
pub(super) fn manifest_line(bytes: &[u8]) -> Option<&[u8]> {
    let (line, sum) = bytes.split_at(bytes.len().checked_sub(TAIL)?);
    let sum = std::str::from_utf8(sum)
        .ok()?
        .strip_prefix('\n')?
        .strip_suffix('\n')?;
    (Digest::of_bytes(line).to_string() == sum).then_some(line)
}

/// What an entry is, by its name. There are no others: no name that leads out of a folder, no link, no device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Record,
    Events,
    Lock,
    /// Of the record or the lock.
    Signature,
    Pipeline,
    Action(Key),
    Object(Digest, &'static str),
    /// And whether it is a program.
    Raw(Digest, bool),
}

impl Place {
    pub fn of(name: &str) -> Option<Self> {
        match name {
            RECORD => return Some(Self::Record),
            EVENTS => return Some(Self::Events),
            LOCK => return Some(Self::Lock),
            RECORD_SIGNATURE | LOCK_SIGNATURE => return Some(Self::Signature),
            _ => {}
        }
        if let Some(rest) = name.strip_prefix("pipeline/") {
            let index = rest.strip_suffix(".yaml")?.parse().ok()?;
            return (pipeline_entry(index) == name).then_some(Self::Pipeline);
        }
        if let Some(rest) = name.strip_prefix("actions/") {
            let key = Key(digest(rest.strip_suffix(".json")?)?);
            return (action_entry(&key) == name).then_some(Self::Action(key));
        }
        if let Some(rest) = name.strip_prefix("files/") {
            let plain = rest.strip_suffix(PROGRAM);
            let (digest, is_program) = (digest(plain.unwrap_or(rest))?, plain.is_some());
            let is_right = raw_entry(&digest, is_program) == name;
            return is_right.then_some(Self::Raw(digest, is_program));
        }
        let rest = name.strip_prefix("objects/")?;
        let (stem, extension) = rest.split_once('.').unwrap_or((rest, ""));
        let mut known = ["", "parquet", "safetensors"].into_iter();
        let extension = known.find(|known| *known == extension)?;
        let digest = digest(stem)?;
        (object_entry(&digest, extension) == name).then_some(Self::Object(digest, extension))
    }
}

/// The digest in `ab/cdef…`.
fn digest(path: &str) -> Option<Digest> {
    path.replacen('/', "", 1).parse().ok()
}

pub(super) fn pipeline_entry(index: usize) -> String {
    format!("pipeline/{index}.yaml")
}

pub(super) fn action_entry(key: &Key) -> String {
    let name = key.to_string();
    format!("actions/{}/{}.json", &name[..2], &name[2..])
}

pub(super) fn object_entry(object: &Digest, extension: &str) -> String {
    let name = object.to_string();
    let dot = if extension.is_empty() { "" } else { "." };
    format!("objects/{}/{}{dot}{extension}", &name[..2], &name[2..])
}

/// Behind the name of a raw file that is a program.
const PROGRAM: &str = ".x";

pub(super) fn raw_entry(file: &Digest, executable: bool) -> String {
    let name = file.to_string();
    let ending = if executable { PROGRAM } else { "" };
    format!("files/{}/{}{ending}", &name[..2], &name[2..])
}

/// The one header that an entry of this name and size can have.
pub(super) fn header(name: &str, bytes: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    // All names are short and plain; one that is not stays empty here, and no entry has it.
    let _ = header.set_path(name);
    header.set_size(bytes);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    header
}

/// Zeros behind a content of this size, up to a whole block.
pub(super) fn padding(bytes: u64) -> usize {
    (bytes.next_multiple_of(BLOCK as u64) - bytes) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_format_are_understood() {
        let (digest, key) = (Digest([171; 32]), Key(Digest([205; 32])));
        let action = action_entry(&key);
        for (name, place) in [
            (RECORD, Place::Record),
            (EVENTS, Place::Events),
            (LOCK, Place::Lock),
            (RECORD_SIGNATURE, Place::Signature),
            (LOCK_SIGNATURE, Place::Signature),
            ("pipeline/12.yaml", Place::Pipeline),
            (action.as_str(), Place::Action(key)),
        ] {
            assert_eq!(Place::of(name), Some(place), "{name}");
        }
        for extension in ["", "parquet", "safetensors"] {
            let name = object_entry(&digest, extension);
            assert_eq!(Place::of(&name), Some(Place::Object(digest, extension)));
            assert_eq!(Place::of(&name.to_uppercase()), None);
            assert_eq!(
                header(&name, 7).path().unwrap().to_str(),
                Some(name.as_str())
            );
        }
        let hex = digest.to_string();
        for executable in [false, true] {
            let name = raw_entry(&digest, executable);
            assert_eq!(Place::of(&name), Some(Place::Raw(digest, executable)));
            assert_eq!(Place::of(&format!("{name}.x.x")), None);
        }
        for name in [
            "../run/run.json",
            "files/../../x",
            "/etc/passwd",
            "run/../../x",
            "run/",
            "pipeline/../0.yaml",
            "pipeline/00.yaml",
            "pipeline/x.yaml",
            "objects/ab/../../x",
            "MANIFEST.json",
            "",
            &format!("objects/{hex}"),
            &format!("objects/{}/{}.exe", &hex[..2], &hex[2..]),
        ] {
            assert_eq!(Place::of(name), None, "{name}");
        }
    }

    #[test]
    fn contents_fill_whole_blocks() {
        assert_eq!([0, 1, 511, 512, 513].map(padding), [0, 511, 1, 0, 511]);
    }
}
