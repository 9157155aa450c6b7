//! Bundles: one of a small run, with changed bytes, or with changed entries and all sums made right again. It is taken in
//! or refused, and nothing is written beside the store.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use contract::artifact::Digest;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use runner::cache::Store;
use runner::report::bundle;
use serde_json::{Value, json};

use crate::frame::fuzz;
use crate::mutate;

const WORDS: &[&str] = &[
    "../",
    "/",
    "..",
    "objects/",
    "actions/",
    "run/run.json",
    "pipeline/0.yaml",
    "\\u0000",
    "null",
    "[]",
    "{}",
    "[[[[[[[[",
    "18446744073709551615",
    "-1",
    "\"kind\":\"Files\"",
    "\"kind\":\"Series\"",
    "\"kind\":null",
    "\"parts\":[",
    "ustar",
];

const PIPELINE: &str = "pipeline: fuzzed
stages:
  raw: {uses: generate, with: {channels: 1, day: 12, rows: {train: 20, validation: 10, calibration: 10, test: 10}}}
  windows: {uses: window, from: raw.series, with: {length: 4}}
  files: {uses: command, with: {run: [sh, -c, 'mkdir {out.o}; echo x > {out.o}/xx_x'], outputs: {o: {path: o}}}}
";

type Entries = Vec<(String, Vec<u8>)>;

/// The bundle of a small run.
static EXAMPLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pipeline.yaml"), PIPELINE).unwrap();
    for arguments in [
        &["run", "--quiet", "pipeline.yaml"][..],
        &["export", "latest", "--bundle", "run.bundle"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_runner"));
        let output = command
            .args(arguments)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    std::fs::read(folder.path().join("run.bundle")).unwrap()
});

/// Its manifest and entries.
static PARTS: LazyLock<(Value, Entries)> = LazyLock::new(|| {
    let mut archive = tar::Archive::new(EXAMPLE.as_slice());
    let mut entries: Entries = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
        entries.push((name, content));
    }
    let (_, manifest) = entries.remove(0);
    let line = manifest.split(|byte| *byte == b'\n').next().unwrap();
    (serde_json::from_slice(line).unwrap(), entries)
});

/// The bytes of an entry of the example.
pub fn entry(name: &str) -> Vec<u8> {
    PARTS
        .1
        .iter()
        .find(|(other, _)| other == name)
        .unwrap()
        .1
        .clone()
}

/// A bundle of these entries, with the sums of what they hold.
fn packed(manifest: &Value, entries: &Entries) -> Vec<u8> {
    let mut manifest = manifest.clone();
    let list = entries
        .iter()
        .map(|(name, content)| json!({"name": name, "bytes": content.len(), "blake3": Digest::of_bytes(content)}));
    manifest["entries"] = list.collect();
    let line = manifest.to_string();
    let first = (
        "MANIFEST.json".to_owned(),
        format!("{line}\n{}\n", Digest::of_bytes(line.as_bytes())).into_bytes(),
    );
    let mut bytes = Vec::new();
    for (name, content) in [&first].into_iter().chain(entries) {
        let mut header = tar::Header::new_ustar();
        let length = name.len().min(100);
        header.as_mut_bytes()[..length].copy_from_slice(&name.as_bytes()[..length]);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.extend_from_slice(&[0; 1024]);
    bytes
}

/// A record's own sum, made right.
fn sealed(name: &str, content: Vec<u8>) -> Vec<u8> {
    if name.starts_with("actions/") {
        let line = content
            .split(|byte| *byte == b'\n')
            .next()
            .unwrap_or_default();
        return [line, format!("\n{}\n", Digest::of_bytes(line)).as_bytes()].concat();
    }
    let seal = b",\"seal\":\"";
    let place = (name == "run/run.json")
        .then(|| content.windows(seal.len()).rposition(|part| part == seal))
        .flatten();
    let Some(place) = place else { return content };
    let body = &content[..place];
    [
        body,
        seal,
        Digest::of_bytes(body).to_string().as_bytes(),
        b"\"}",
    ]
    .concat()
}

/// One entry with changed bytes, and everything that names it made right: an object, an action, a record.
fn one_changed() -> impl Strategy<Value = Vec<u8>> {
    let (manifest, entries) = PARTS.clone();
    let contents: Vec<Vec<u8>> = entries.iter().map(|(_, content)| content.clone()).collect();
    let numbers: Vec<usize> = (0..contents.len()).collect();
    select(numbers).prop_flat_map(move |number| {
        let (manifest, entries) = (manifest.clone(), entries.clone());
        mutate::mutated(vec![contents[number].clone()], WORDS).prop_map(move |changed| {
            let mut entries = entries.clone();
            let (name, content) = &mut entries[number];
            let old = Digest::of_bytes(content).to_string();
            *content = sealed(name, changed);
            if name.starts_with("objects/") {
                let new = Digest::of_bytes(content).to_string();
                let ending = name
                    .split_once('.')
                    .map_or(String::new(), |(_, ending)| format!(".{ending}"));
                let length = content.len();
                *name = format!("objects/{}/{}{ending}", &new[..2], &new[2..]);
                rename(&mut entries, &old, &new, length);
                entries.sort();
            }
            packed(&manifest, &entries)
        })
    })
}

/// Actions that name the object by its old digest name it by the new one, and its new size.
fn rename(entries: &mut Entries, old: &str, new: &str, bytes: usize) {
    for (name, content) in entries
        .iter_mut()
        .filter(|(name, _)| name.starts_with("actions/"))
    {
        let line = content
            .split(|byte| *byte == b'\n')
            .next()
            .unwrap_or_default();
        let Ok(mut action) = serde_json::from_slice::<Value>(line) else {
            continue;
        };
        replace(&mut action, old, new, bytes);
        *content = sealed(name, action.to_string().into_bytes());
    }
}

fn replace(value: &mut Value, old: &str, new: &str, bytes: usize) {
    match value {
        Value::Object(map) => {
            if map.get("object").is_some_and(|object| object == old) {
                map.insert("object".to_owned(), new.into());
                map.insert("bytes".to_owned(), bytes.into());
            }
            map.values_mut()
                .for_each(|value| replace(value, old, new, bytes));
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|value| replace(value, old, new, bytes)),
        _ => {}
    }
}

/// Entries in another order, twice, under other names, or left out.
fn rearranged() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        Just("../outside".to_owned()),
        Just("/outside".to_owned()),
        Just("run/../../outside".to_owned()),
        Just("pipeline/1.yaml".to_owned()),
        ".{0,20}",
    ];
    let change = (any::<Index>(), any::<Index>(), 0..4_u8, name);
    vec(change, 1..4).prop_map(|changes| {
        let (manifest, mut entries) = PARTS.clone();
        for (from, to, how, name) in changes {
            if entries.is_empty() {
                break;
            }
            let (from, to) = (from.index(entries.len()), to.index(entries.len()));
            match how {
                0 => entries.swap(from, to),
                1 => entries.insert(to, entries[from].clone()),
                2 => drop(entries.remove(from)),
                _ => {
                    entries[from].0 = name;
                    entries.sort();
                }
            }
        }
        packed(&manifest, &entries)
    })
}

#[test]
fn bundles() {
    let strategy = prop_oneof![
        1 => mutate::mutated(vec![EXAMPLE.clone()], WORDS),
        3 => one_changed(),
        1 => rearranged(),
    ];
    fuzz("bundles", strategy, judge);
}

fn judge(input: &[u8]) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (file, store) = (folder.path().join("in.bundle"), folder.path().join("store"));
    std::fs::write(&file, input).map_err(|error| error.to_string())?;
    let rehearsed = bundle::import(&file, &Store::open(&store), &[], true, &|_, _| {});
    if store.exists() {
        return Err("a rehearsal wrote into the store".to_owned());
    }
    let taken = bundle::import(&file, &Store::open(&store), &[], false, &|_, _| {});
    if rehearsed.is_ok() != taken.is_ok() {
        return Err(format!(
            "rehearsed: {:?}, taken in: {:?}",
            rehearsed.err(),
            taken.err()
        ));
    }
    let names = |folder: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect()
    };
    if names(folder.path())
        .iter()
        .any(|name| name != "in.bundle" && name != "store")
    {
        return Err(format!("beside the store: {:?}", names(folder.path())));
    }
    if taken.is_err()
        && !runner::cache::files_below(&store)
            .map_err(|error| error.to_string())?
            .is_empty()
    {
        return Err("what was refused left something".to_owned());
    }
    Ok(())
}
