//! Taking a bundle in. The whole file is read and checked before anything of it can be seen in the store.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use contract::StageKind;
use contract::artifact::{Content, Digest, FileEntry, RelativePath};

use super::file_name;
use super::format::{self, BLOCK, Entry, Header, Manifest, Place};
use crate::audit::{Lock, Signed, holds_by_itself};
use crate::cache::{
    CacheError, Intake, RecordSeal, RunId, RunRecord, Store, Taken, check_file, seal_of,
};
use crate::pipeline::limits::{MOST_RAW_FILES, open_regular};
use crate::report::raw_files::{AbsentFile, PlacedFile, digests_of, placed_files};
use crate::report::{ReportError, pipeline_files};

/// No manifest is longer.
const LONGEST_MANIFEST: u64 = 1 << 30;

/// Records, actions and pipelines are kept in memory while the file is read; none of them is longer.
const LONGEST_RECORD: u64 = 1 << 28;

/// What a bundle brought.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub manifest: Manifest,
    pub record: RunRecord,
    /// What was new, or would be.
    pub taken: Taken,
    /// Objects and actions in the bundle.
    pub objects: usize,
    pub actions: usize,
    /// Raw files in the bundle.
    pub files: usize,
    /// Where raw files belong below the folder of the pipeline's files. Their content lies in the store.
    pub raw_files: Vec<FileEntry>,
    /// Raw files that stages of the run read, and that the bundle does not have.
    pub absent_files: Vec<AbsentFile>,
    /// Stages whose results are not in the store after it, because their objects did not come along.
    pub without_objects: Vec<String>,
    /// The pipeline's files: relative path and bytes; the first is the pipeline itself.
    pub pipeline_files: Vec<(String, Vec<u8>)>,
    pub lock: Vec<u8>,
    /// The path of the lock, beside or above the pipeline's files.
    pub lock_path: String,
    pub lock_signature: Option<Vec<u8>>,
    /// What is signed: the record, the lock. By whom, the bundle cannot vouch for.
    pub signed: Vec<&'static str>,
}

/// Reads a bundle into the store, or only rehearses that. `progress` is called with the bytes that were read and their total.
///
/// # Errors
/// If it is not a bundle, of another version, damaged or altered, or the store cannot be written. Nothing is different then.
pub fn import(
    path: &Path,
    store: &Store,
    kinds: &[StageKind],
    rehearse: bool,
    progress: &dyn Fn(u64, u64),
) -> Result<Arrival, ReportError> {
    let mut bundle = Bundle::open(path)?;
    let manifest = bundle.manifest()?;
    let places = bundle.places(&manifest)?;
    bundle.expect_length(&manifest)?;
    let mut intake = if rehearse {
        Intake::rehearsal(store)?
    } else {
        store.prepare()?;
        Intake::new(store)
    };
    let raw = raw_folder(store, &manifest.run);
    let (mut small, new_objects) =
        bundle.entries(&manifest, &places, &raw, &mut intake, progress)?;
    let record = bundle.record(&manifest, small.get(format::RECORD))?;
    bundle.check_pipeline(&manifest, &small, &record)?;
    let lock = bundle.lock(&small, &record)?;
    if (manifest.version == format::WITH_COMMON_LOCK) == lock.is_of_first_trial(&record) {
        return Err(bundle.damaged("its version is not that of its lock"));
    }
    let lock_path = bundle.lock_path(&manifest, &lock)?;
    bundle.check_raw(&places, &lock)?;
    let signed = bundle.signed(&small, &lock)?;
    let same = same_run(store, &record, &small[format::RECORD])?;
    let without_objects = bundle.actions(&manifest, &places, &mut small, &mut intake, &record)?;
    intake
        .check_contents()
        .map_err(|error| bundle.blame(error))?;
    let mut pipeline_files = Vec::with_capacity(manifest.pipeline_files.len());
    for (entry, path) in &manifest.pipeline_files {
        if let Some(text) = small.get(entry.as_str()) {
            pipeline_files.push((path.clone(), text.clone()));
        }
    }
    let (mut objects, mut actions, mut files) = (0, 0, 0);
    for place in &places {
        match place {
            Place::Object(..) => objects += 1,
            Place::Action(_) => actions += 1,
            Place::Raw(..) => files += 1,
            _ => {}
        }
    }
    let brought = raw_digests(&manifest, &places);
    let (laid_out, absent_files) = placed_files(&lock, manifest.main(), kinds, &brought);
    let (taken, raw_files) = if rehearse {
        let taken = Taken {
            objects: new_objects,
            actions: intake.new_actions(),
            run: !same,
        };
        (taken, Vec::new())
    } else {
        let taken = intake.commit(&record.run, &small[format::RECORD], &beside(&small))?;
        (taken, raw_files(store, &manifest, &brought, laid_out)?)
    };
    let lock = small[format::LOCK].clone();
    let lock_signature = small.get(format::LOCK_SIGNATURE).cloned();
    Ok(Arrival {
        record,
        taken,
        objects,
        actions,
        files,
        raw_files,
        absent_files,
        without_objects,
        pipeline_files,
        lock,
        lock_path,
        lock_signature,
        signed,
        manifest,
    })
}

/// What stands beside a run's record, by the names of the files.
fn beside<'s>(small: &'s BTreeMap<&str, Vec<u8>>) -> Vec<(&'static str, &'s [u8])> {
    let mut beside = Vec::new();
    for entry in [
        format::EVENTS,
        format::LOCK,
        format::LOCK_SIGNATURE,
        format::RECORD_SIGNATURE,
    ] {
        if let (Some(name), Some(bytes)) = (file_name(entry), small.get(entry)) {
            beside.push((name, bytes.as_slice()));
        }
    }
    beside
}

fn raw_folder(store: &Store, run: &str) -> PathBuf {
    store.run_folder(&RunId(run.to_owned())).join("raw")
}

/// The raw files that came along by their digests: their size, and whether it is a program.
fn raw_digests(manifest: &Manifest, places: &[Place]) -> BTreeMap<Digest, (u64, bool)> {
    let mut raw = BTreeMap::new();
    for (entry, place) in manifest.entries.iter().zip(places) {
        if let Place::Raw(digest, executable) = place {
            raw.insert(*digest, (entry.bytes, *executable));
        }
    }
    raw
}

/// Raw files with their places. However many places one has, its content is there once, in the store.
fn raw_files(
    store: &Store,
    manifest: &Manifest,
    brought: &BTreeMap<Digest, (u64, bool)>,
    laid_out: Vec<PlacedFile>,
) -> Result<Vec<FileEntry>, ReportError> {
    let folder = raw_folder(store, &manifest.run);
    let (mut checked, mut entries) = (BTreeSet::new(), Vec::with_capacity(laid_out.len()));
    for PlacedFile { path, digest } in laid_out {
        let Some(&(size, executable)) = brought.get(&digest) else {
            continue;
        };
        let content = folder.join(digest.to_string());
        if checked.insert(digest) {
            check_file(&content, &digest)?;
        }
        entries.push(FileEntry {
            path,
            executable,
            size,
            digest,
            content: Content::Disk(content),
        });
    }
    Ok(entries)
}

/// Whether a file begins as a bundle does.
pub fn is_bundle(path: &Path) -> bool {
    let mut name = [0; format::MANIFEST.len() + 1];
    let read = open_regular(path).and_then(|mut file| file.read_exact(&mut name));
    read.is_ok() && name.strip_suffix(&[0]) == Some(format::MANIFEST.as_bytes())
}

/// Whether the store has this very record already.
fn same_run(store: &Store, record: &RunRecord, bytes: &[u8]) -> Result<bool, ReportError> {
    let path = store.run_path(&record.run);
    match store.layout().read(&path) {
        Ok(known) if known == bytes => Ok(true),
        Ok(_) => Err(ReportError::OtherRun(record.run.0.clone())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(CacheError::io("read", &path)(error).into()),
    }
}

/// A bundle that is being read.
struct Bundle {
    path: PathBuf,
    file: BufReader<File>,
    length: u64,
    /// Bytes of contents that were read.
    passed: u64,
    /// Bytes of the manifest.
    first: u64,
}

impl Bundle {
    fn open(path: &Path) -> Result<Self, ReportError> {
        let file = open_regular(path).map_err(|error| {
            let reason = match error.kind() {
                ErrorKind::Other => error.to_string(),
                ErrorKind::NotFound => "there is no such file".to_owned(),
                _ => return ReportError::io("read", path)(error),
            };
            let path = path.to_owned();
            ReportError::NoBundle { path, reason }
        })?;
        let metadata = file.metadata().map_err(ReportError::io("read", path))?;
        let file = BufReader::with_capacity(1 << 18, file);
        Ok(Self {
            path: path.to_owned(),
            file,
            length: metadata.len(),
            passed: 0,
            first: 0,
        })
    }

    fn damaged(&self, reason: impl Into<String>) -> ReportError {
        ReportError::Damaged {
            path: self.path.clone(),
            reason: reason.into(),
        }
    }

    fn no_bundle(&self, reason: &str) -> ReportError {
        ReportError::NoBundle {
            path: self.path.clone(),
            reason: reason.to_owned(),
        }
    }

    /// What is wrong with an object is the bundle's fault; what is wrong with the store is not.
    fn blame(&self, error: CacheError) -> ReportError {
        if error.is_loss() {
            let mut reason = error.to_string();
            if let CacheError::Artifact(cause) = &error {
                reason = format!("{reason}: {cause}");
            }
            return self.damaged(reason);
        }
        error.into()
    }

    fn read(&mut self, bytes: u64) -> Result<Vec<u8>, ReportError> {
        let mut content = Vec::new();
        let read = (&mut self.file).take(bytes).read_to_end(&mut content);
        read.map_err(ReportError::io("read", &self.path))?;
        if content.len() as u64 == bytes {
            Ok(content)
        } else {
            Err(self.damaged("it ends too early"))
        }
    }

    /// The header of the next entry is the one that it must be.
    fn header(&mut self, name: &str, bytes: u64) -> Result<(), ReportError> {
        if self.read(BLOCK as u64)? == format::header(name, bytes).as_bytes() {
            return Ok(());
        }
        Err(self.damaged(format!(
            "what stands before {name} is not what a bundle has there"
        )))
    }

    fn zeros(&mut self, bytes: usize) -> Result<(), ReportError> {
        if self.read(bytes as u64)?.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        Err(self.damaged("something stands between its entries"))
    }

    fn small(&mut self, entry: &Entry) -> Result<Vec<u8>, ReportError> {
        let content = self.read(entry.bytes)?;
        if Digest::of_bytes(&content) == entry.blake3 {
            return Ok(content);
        }
        Err(self.damaged(format!(
            "the bytes of {} are not those that were written",
            entry.name
        )))
    }

    /// Reads all entries. Objects and raw files, which may be large, go to the intake at once; returns what the others hold, and
    /// how many objects are new.
    fn entries<'m>(
        &mut self,
        manifest: &'m Manifest,
        places: &[Place],
        raw: &Path,
        intake: &mut Intake<'_>,
        progress: &dyn Fn(u64, u64),
    ) -> Result<(BTreeMap<&'m str, Vec<u8>>, usize), ReportError> {
        let (mut small, mut new_objects) = (BTreeMap::new(), 0);
        let total = manifest.entries.iter().map(|entry| entry.bytes).sum();
        for (entry, place) in manifest.entries.iter().zip(places) {
            self.header(&entry.name, entry.bytes)?;
            if let Place::Raw(digest, executable) = place {
                let mut content = (&mut self.file).take(entry.bytes);
                let taken = intake.raw(raw, digest, *executable, entry.bytes, &mut content);
                taken.map_err(|error| self.blame(error))?;
            } else if let Place::Object(digest, extension) = place {
                let mut content = (&mut self.file).take(entry.bytes);
                let is_new = intake.object(digest, extension, entry.bytes, &mut content);
                new_objects += usize::from(is_new.map_err(|error| self.blame(error))?);
            } else {
                small.insert(entry.name.as_str(), self.small(entry)?);
            }
            self.zeros(format::padding(entry.bytes))?;
            self.passed += entry.bytes;
            progress(self.passed, total);
        }
        self.zeros(2 * BLOCK)?;
        Ok((small, new_objects))
    }

    fn manifest(&mut self) -> Result<Manifest, ReportError> {
        let mut block = [0; BLOCK];
        if self.file.read_exact(&mut block).is_err() {
            return Err(self.no_bundle("it is too short"));
        }
        let header = tar::Header::from_byte_slice(&block);
        let begins = header.path_bytes().as_ref() == format::MANIFEST.as_bytes();
        let Some(size) = header.entry_size().ok().filter(|_| begins) else {
            return Err(self.no_bundle("it does not begin with a manifest"));
        };
        let expected = format::header(format::MANIFEST, size);
        if header.as_bytes() != expected.as_bytes() || size > LONGEST_MANIFEST {
            return Err(self.damaged("the header of its manifest is not what a bundle has"));
        }
        let bytes = self.read(size)?;
        let Some(line) = format::manifest_line(&bytes) else {
            return Err(self.damaged("the bytes of its manifest are not those that were written"));
        };
        let head: Header =
            serde_json::from_slice(line).map_err(|error| self.no_bundle(&error.to_string()))?;
        if head.format != format::NAME {
            return Err(self.no_bundle(&format!("its format is `{}`", head.format)));
        }
        if !(1..=format::VERSION).contains(&head.version) {
            return Err(ReportError::Version {
                path: self.path.clone(),
                found: head.version,
                known: format::VERSION,
            });
        }
        let manifest = serde_json::from_slice(line);
        let manifest = manifest
            .map_err(|error| self.damaged(format!("its manifest cannot be understood: {error}")))?;
        self.zeros(format::padding(size))?;
        self.first = size;
        Ok(manifest)
    }

    /// Raw files are those that stages of the run asked for.
    fn check_raw(&self, places: &[Place], lock: &Lock) -> Result<(), ReportError> {
        let asked = digests_of(lock);
        for place in places {
            if let Place::Raw(digest, _) = place
                && !asked.contains(digest)
            {
                let digest = digest.short();
                return Err(
                    self.damaged(format!("no stage of the run asked for its file {digest}"))
                );
            }
        }
        Ok(())
    }

    /// What each entry is. None may lead elsewhere, come twice, or claim what no record has.
    fn places(&self, manifest: &Manifest) -> Result<Vec<Place>, ReportError> {
        // The names of folders follow from that of the run.
        if !is_run(&manifest.run) {
            return Err(self.damaged(format!("its record is of the run `{}`", manifest.run)));
        }
        let is_sorted = manifest
            .entries
            .windows(2)
            .all(|pair| pair[0].name < pair[1].name);
        if !is_sorted {
            return Err(self.damaged("its entries are not in order"));
        }
        if manifest.version != Manifest::version_of(&manifest.entries)
            && manifest.version != format::WITH_COMMON_LOCK
        {
            return Err(self.damaged("its version is not that of its entries"));
        }
        self.check_amount(manifest)?;
        for (entry, path) in &manifest.pipeline_files {
            let is_there = manifest.entries.iter().any(|other| other.name == *entry);
            if !is_there || Place::of(entry) != Some(Place::Pipeline) || !is_pipeline(path) {
                return Err(self.damaged(format!(
                    "it names a pipeline file `{path}`, which leads elsewhere"
                )));
            }
        }
        let entries = manifest.entries.iter();
        entries.map(|entry| self.place(entry)).collect()
    }

    fn place(&self, entry: &Entry) -> Result<Place, ReportError> {
        let name = &entry.name;
        let wrong = match Place::of(name) {
            None => format!("it has an entry `{name}`, which no bundle has"),
            Some(Place::Object(digest, _) | Place::Raw(digest, _)) if digest != entry.blake3 => {
                format!("{name} has another digest than its name")
            }
            Some(place @ (Place::Object(..) | Place::Raw(..))) => return Ok(place),
            Some(_) if entry.bytes > LONGEST_RECORD => {
                format!("{name} is larger than any such record")
            }
            Some(place) => return Ok(place),
        };
        Err(self.damaged(wrong))
    }

    /// The raw files are no more than a bundle may have.
    fn check_amount(&self, manifest: &Manifest) -> Result<(), ReportError> {
        let mut sum = 0_u64;
        for entry in &manifest.entries {
            if let Some(Place::Raw(..)) = Place::of(&entry.name) {
                sum = sum.saturating_add(entry.bytes);
            }
        }
        if sum <= MOST_RAW_FILES {
            return Ok(());
        }
        Err(self.damaged(format!(
            "its raw files have {sum} bytes, and a bundle has {MOST_RAW_FILES} of them at most"
        )))
    }

    /// The file is as long as its entries say, so that nothing large can hide in it and nothing is missing.
    fn expect_length(&self, manifest: &Manifest) -> Result<(), ReportError> {
        let (length, expected) = (self.length, self.expected_length(manifest));
        match expected {
            Some(expected) if expected == length => Ok(()),
            Some(expected) => {
                Err(self.damaged(format!("it has {length} bytes instead of {expected}")))
            }
            None => Err(self.damaged("its entries are larger than any file")),
        }
    }

    /// A header and whole blocks for each entry, and two blocks behind the last; `None` if that is no number of bytes.
    fn expected_length(&self, manifest: &Manifest) -> Option<u64> {
        const HEADER: u64 = BLOCK as u64;
        let mut sum = HEADER + self.first.checked_next_multiple_of(HEADER)? + 2 * HEADER;
        for entry in &manifest.entries {
            let content = entry.bytes.checked_next_multiple_of(HEADER)?;
            sum = sum.checked_add(HEADER)?.checked_add(content)?;
        }
        Some(sum)
    }

    fn record(
        &self,
        manifest: &Manifest,
        bytes: Option<&Vec<u8>>,
    ) -> Result<RunRecord, ReportError> {
        let bytes = bytes.ok_or_else(|| self.damaged("it has no record of a run"))?;
        if seal_of(bytes) == RecordSeal::Broken {
            return Err(self.damaged("the record of the run was changed after it was sealed"));
        }
        let record: RunRecord = serde_json::from_slice(bytes).map_err(|error| {
            self.damaged(format!("its record of a run cannot be understood: {error}"))
        })?;
        if record.run != RunId(manifest.run.clone()) || !is_run(&manifest.run) {
            return Err(self.damaged(format!("its record is of the run `{}`", record.run)));
        }
        Ok(record)
    }

    /// The pipeline's files are those that the record holds. Early records hold none.
    fn check_pipeline(
        &self,
        manifest: &Manifest,
        small: &BTreeMap<&str, Vec<u8>>,
        record: &RunRecord,
    ) -> Result<(), ReportError> {
        if record.pipeline_files.is_empty() {
            return Ok(());
        }
        let recorded = pipeline_files(record)?;
        let mut is_same = recorded.len() == manifest.pipeline_files.len();
        for ((path, text), (entry, other)) in recorded.iter().zip(&manifest.pipeline_files) {
            let brought = small.get(entry.as_str()).map_or(&[][..], Vec::as_slice);
            is_same &= path == other && text.as_bytes() == brought;
        }
        if is_same {
            return Ok(());
        }
        Err(self.damaged("its pipeline is not that of its record"))
    }

    /// The lock, which says the same as the record.
    fn lock(
        &self,
        small: &BTreeMap<&str, Vec<u8>>,
        record: &RunRecord,
    ) -> Result<Lock, ReportError> {
        let bytes = small
            .get(format::LOCK)
            .ok_or_else(|| self.damaged("it has no lock"))?;
        let text = std::str::from_utf8(bytes).map_err(|_| self.damaged("its lock is not text"))?;
        let lock = Lock::parse(text, Path::new(format::LOCK))
            .map_err(|error| self.damaged(error.to_string()))?;
        match lock.disagreement(record) {
            Some(what) => {
                Err(self.damaged(format!("its lock does not agree with its record: {what}")))
            }
            None => Ok(lock),
        }
    }

    /// Where a lock belongs that names its pipeline in this way: in the folder that all files share, or beside the pipeline.
    fn lock_path(&self, manifest: &Manifest, lock: &Lock) -> Result<String, ReportError> {
        let main = manifest.main();
        let stem = main.rsplit_once('.').map_or(main, |(stem, _)| stem);
        if lock.file == main {
            return Ok(format!("{}.lock", file_name(stem).unwrap_or_default()));
        }
        if Some(lock.file.as_str()) == file_name(main) {
            return Ok(format!("{stem}.lock"));
        }
        Err(self.damaged(format!("its lock is of the pipeline file `{}`", lock.file)))
    }

    /// What is signed. A signature is of what it lies beside, and holds for the key that it names.
    fn signed(
        &self,
        small: &BTreeMap<&str, Vec<u8>>,
        lock: &Lock,
    ) -> Result<Vec<&'static str>, ReportError> {
        let seal_of_record = match seal_of(&small[format::RECORD]) {
            RecordSeal::Intact(seal) => Some(seal),
            _ => None,
        };
        let mut signed = Vec::new();
        let record = (Signed::Run, "record", seal_of_record);
        let lock = (Signed::Lock, "lock", Some(lock.seal()));
        for ((what, name, seal), entry) in [
            (record, format::RECORD_SIGNATURE),
            (lock, format::LOCK_SIGNATURE),
        ] {
            let Some(signature) = small.get(entry) else {
                continue;
            };
            if !seal.is_some_and(|seal| holds_by_itself(what, &seal, signature)) {
                return Err(self.damaged(format!("the signature of its {name} does not hold")));
            }
            signed.push(name);
        }
        Ok(signed)
    }

    /// Hands the actions over. Returns the stages whose objects are missing.
    fn actions(
        &self,
        manifest: &Manifest,
        places: &[Place],
        small: &mut BTreeMap<&str, Vec<u8>>,
        intake: &mut Intake<'_>,
        record: &RunRecord,
    ) -> Result<Vec<String>, ReportError> {
        let mut without = Vec::new();
        for (entry, place) in manifest.entries.iter().zip(places) {
            let Place::Action(key) = place else { continue };
            let bytes = small.remove(entry.name.as_str()).unwrap_or_default();
            let action = match Intake::read_action(&bytes) {
                Some(action) if action.key == *key => action,
                _ => {
                    let reason = format!("{} is not an action of that key", entry.name);
                    return Err(self.damaged(reason));
                }
            };
            if intake.action(action, bytes)? {
                continue;
            }
            for stage in &record.stages {
                if stage.key == Some(*key) {
                    without.push(stage.name.clone());
                }
            }
        }
        Ok(without)
    }
}

/// A relative path of a YAML file that stays where it is, and out of what is hidden.
fn is_pipeline(path: &str) -> bool {
    let is_shown = |part: &str| !part.starts_with('.') && !part.contains('\\');
    let is_plain = RelativePath::new(path).is_ok_and(|path| path.parts().all(is_shown));
    is_plain && (path.ends_with(".yaml") || path.ends_with(".yml"))
}

/// A name such as runs have.
fn is_run(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    name.starts_with(|first: char| first.is_ascii_digit()) && name.bytes().all(is_plain)
}
