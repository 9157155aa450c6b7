//! A run as one file: a plain tar archive with the pipeline, the lock, the record, the actions and the objects that are asked
//! for. Its first entry, the manifest, names all others with their sizes and blake3. The same run gives the same bytes, so
//! a reader accepts exactly what a writer writes, and every bit that turned over shows.

mod format;
mod read;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use contract::artifact::{ArtifactKind, Digest};

pub use format::{Entry, Header, Manifest, NAME, VERSION};
pub use read::{Arrival, import, is_bundle};

use super::pipeline_files::pipeline_files;
use super::raw_files::{Carried, LeftOut, carried};
use super::selection::{all_objects, copy_checked, copy_object, of_stage};
use super::{History, ReportError, Selection, StageHistory, Target};
use crate::audit::{Lock, Signed, signature_beside};
use crate::cache::{CacheError, ObjectRecord, RecordSeal, Store, seal_of};
use crate::pipeline::limits::open_regular;

/// What an entry is made of.
enum Content {
    Bytes(Arc<[u8]>),
    /// An object of the store.
    Object(ObjectRecord, usize),
    /// A raw file.
    Raw(Carried),
}

/// What was written.
#[derive(Clone, Debug)]
pub struct Written {
    pub path: PathBuf,
    pub bytes: u64,
    pub entries: usize,
    pub objects: usize,
    /// Raw files that came along.
    pub files: usize,
    pub left_out: Vec<LeftOut>,
    /// What is signed in it: the record, the lock.
    pub signed: Vec<&'static str>,
}

/// The lock of a run, for a pipeline file that lies at `file` as seen from the lock.
pub fn lock_of(history: &History<'_>, file: &str) -> Lock {
    let mut lock = Lock {
        file: file.to_owned(),
        ..Lock::of_run(history.record, history.store)
    };
    for stage in &history.stages {
        let Some(locked) = lock.stages.get_mut(&stage.record.name) else {
            continue;
        };
        locked.needs.clear();
        for input in &stage.inputs {
            if let Some((maker, _)) = &input.maker {
                locked
                    .needs
                    .insert(history.stages[*maker].record.name.clone());
            }
        }
    }
    lock
}

/// Writes the bundle. `progress` is called with the bytes of objects that are done and their total.
///
/// # Errors
/// If something is gone from the store or damaged, or the file cannot be written; then there is no file.
pub fn write(
    history: &History<'_>,
    selection: &Selection,
    files_up_to: u64,
    target: Target,
    progress: &dyn Fn(u64, u64),
) -> Result<Written, ReportError> {
    let Gathered {
        mut contents,
        pipeline,
        has_common_lock,
    } = gather(history, selection)?;
    let (carried, left_out) = carried(history, files_up_to);
    let files = carried.len();
    for file in carried {
        let name = format::raw_entry(&file.digest, file.executable);
        contents.insert(name, Content::Raw(file));
    }
    let entries = entries_of(&contents);
    let manifest = Manifest {
        format: NAME.to_owned(),
        version: if has_common_lock {
            format::WITH_COMMON_LOCK
        } else {
            Manifest::version_of(&entries)
        },
        runner: env!("CARGO_PKG_VERSION").to_owned(),
        run: history.record.run.0.clone(),
        pipeline: history.record.pipeline.clone(),
        objects: selection.objects.name().to_owned(),
        stages: selection.stages.clone(),
        pipeline_files: pipeline,
        entries,
    };
    let file = File::create(target.aside()).map_err(ReportError::io("write", target.aside()))?;
    let mut sink = Sink {
        file: BufWriter::with_capacity(1 << 18, file),
        bytes: 0,
        path: target.aside().to_owned(),
    };
    let first = manifest.to_bytes();
    sink.entry(format::MANIFEST, first.len() as u64, |sink| {
        sink.put(&first)
    })?;
    let total = manifest.object_bytes();
    let (mut done, mut objects) = (0, 0);
    for (name, content) in &contents {
        match content {
            Content::Bytes(bytes) => {
                sink.entry(name, bytes.len() as u64, |sink| sink.put(bytes))?
            }
            Content::Object(record, stage) => {
                let extension = record.kind.map_or("", |kind| kind.extension());
                let copied = sink.entry(name, record.bytes, |sink| {
                    let path = sink.path.clone();
                    copy_object(history.store, &record.object, extension, sink, &path)
                });
                copied.map_err(|error| of_stage(&history.stages[*stage], error))?;
                done += record.bytes;
                objects += 1;
                progress(done, total);
            }
            Content::Raw(file) => sink.entry(name, file.bytes, |sink| {
                let path = sink.path.clone();
                let opened =
                    open_regular(&file.path).map_err(ReportError::io("read", &file.path))?;
                copy_checked(opened, &file.path, &file.digest, sink, &path)
            })?,
        }
    }
    sink.put(&[0; 2 * format::BLOCK])?;
    let (bytes, entries) = (sink.bytes, contents.len() + 1);
    let file = sink.file.into_inner().map_err(|error| error.into_error());
    file.and_then(|file| file.sync_all())
        .map_err(ReportError::io("write", target.aside()))?;
    let mut signed = Vec::new();
    for (what, name) in [
        ("record", format::RECORD_SIGNATURE),
        ("lock", format::LOCK_SIGNATURE),
    ] {
        if contents.contains_key(name) {
            signed.push(what);
        }
    }
    Ok(Written {
        path: target.finish()?,
        bytes,
        entries,
        objects,
        files,
        left_out,
        signed,
    })
}

fn entries_of(contents: &BTreeMap<String, Content>) -> Vec<Entry> {
    let mut entries = Vec::with_capacity(contents.len());
    for (name, content) in contents {
        let (bytes, blake3) = match content {
            Content::Bytes(bytes) => (bytes.len() as u64, Digest::of_bytes(bytes)),
            Content::Object(record, _) => (record.bytes, record.object),
            Content::Raw(file) => (file.bytes, file.digest),
        };
        let name = name.clone();
        entries.push(Entry {
            name,
            bytes,
            blake3,
        });
    }
    entries
}

/// What goes into a bundle besides raw files.
struct Gathered {
    /// By name of entry.
    contents: BTreeMap<String, Content>,
    /// The paths of the pipeline's files by entry.
    pipeline: Vec<(String, String)>,
    /// The lock leaves out what differs between trials of a sweep.
    has_common_lock: bool,
}

fn gather(history: &History<'_>, selection: &Selection) -> Result<Gathered, ReportError> {
    selection.check(history)?;
    let (store, record) = (history.store, history.record);
    let mut contents = BTreeMap::new();
    let mut put =
        |name: String, bytes: Vec<u8>| drop(contents.insert(name, Content::Bytes(bytes.into())));
    let bytes = read(store, &store.run_path(&record.run))?;
    if let RecordSeal::Intact(seal) = seal_of(&bytes)
        && let Some(signature) = signature_beside(Signed::Run, &seal, &store.run_path(&record.run))
    {
        put(format::RECORD_SIGNATURE.to_owned(), signature);
    }
    put(format::RECORD.to_owned(), bytes);
    let events = store.run_folder(&record.run).join("events.jsonl");
    if store.layout().holds(&events) {
        put(format::EVENTS.to_owned(), read(store, &events)?);
    }
    let files = pipeline_files(record)?;
    let main = files.first().map_or("", |(path, _)| path).to_owned();
    let mut pipeline = Vec::with_capacity(files.len());
    for (index, (path, text)) in files.into_iter().enumerate() {
        let name = format::pipeline_entry(index);
        put(name.clone(), text.as_bytes().to_vec());
        pipeline.push((name, path));
    }
    let lock = lock_of(history, &main);
    let lock = match signed_lock(history, &lock) {
        Some((signed, signature)) => {
            put(format::LOCK_SIGNATURE.to_owned(), signature);
            signed
        }
        None => lock,
    };
    put(format::LOCK.to_owned(), lock.to_text().into_bytes());
    for action in history
        .stages
        .iter()
        .filter_map(|stage| stage.action.as_ref())
    {
        let bytes = read(store, &store.layout().action(&action.key))?;
        put(format::action_entry(&action.key), bytes);
    }
    for (index, stage) in history.stages.iter().enumerate() {
        for object in chosen_objects(history, stage, selection)
            .map_err(|error| of_stage(stage, error.into()))?
        {
            let extension = object.kind.map_or("", |kind| kind.extension());
            let name = format::object_entry(&object.object, extension);
            contents
                .entry(name)
                .or_insert_with(|| Content::Object(object.clone(), index));
        }
    }
    Ok(Gathered {
        contents,
        pipeline,
        has_common_lock: !lock.is_of_first_trial(record),
    })
}

fn read(store: &Store, path: &Path) -> Result<Vec<u8>, ReportError> {
    let bytes = store.layout().read(path);
    bytes.map_err(ReportError::io("read", path))
}

/// The objects of a stage's outputs that go along, parts included, each once.
fn chosen_objects<'s>(
    history: &History<'_>,
    stage: &'s StageHistory,
    selection: &Selection,
) -> Result<Vec<&'s ObjectRecord>, CacheError> {
    let mut chosen: Vec<&ObjectRecord> = Vec::new();
    for output in stage.outputs() {
        if !selection.has(history, stage, output) {
            continue;
        }
        // What no import takes in is not handed on: a list of files that leads elsewhere.
        if output.record.kind == Some(ArtifactKind::Files) {
            history.store.load(&output.record)?;
        }
        chosen.push(&output.record);
    }
    let objects = all_objects(chosen.into_iter());
    for object in &objects {
        if !history.store.is_present(object) {
            let object = object.object;
            return Err(CacheError::Missing { object });
        }
    }
    Ok(objects)
}

/// The lock of the run as somebody signed it, with the signature: the one that came along with the run, or that which lies
/// beside the pipeline. It may name the pipeline's file as seen from the pipeline's own folder; all else is as in `lock`.
fn signed_lock(history: &History<'_>, lock: &Lock) -> Option<(Lock, Vec<u8>)> {
    let (store, record) = (history.store, history.record);
    let imported = store.run_folder(&record.run).join("pipeline.lock");
    let beside = Path::new(&record.file).with_extension("lock");
    for (found, path) in [
        (Lock::beside(store, record), &imported),
        (Lock::read(&beside).ok(), &beside),
    ] {
        let Some(found) = found else { continue };
        let lock_here = Lock {
            file: found.file.clone(),
            ..lock.clone()
        };
        let is_same = lock_here == found || lock_here.with_first_trial(record) == found;
        let is_placed =
            found.file == lock.file || Some(found.file.as_str()) == file_name(&lock.file);
        if is_same
            && is_placed
            && let Some(signature) = signature_beside(Signed::Lock, &found.seal(), path)
        {
            return Some((found, signature));
        }
    }
    None
}

/// The last part of a relative path with `/`.
fn file_name(path: &str) -> Option<&str> {
    path.rsplit('/').next()
}

/// A tar file that is being written.
struct Sink {
    file: BufWriter<File>,
    bytes: u64,
    path: PathBuf,
}

impl Sink {
    fn put(&mut self, bytes: &[u8]) -> Result<(), ReportError> {
        self.write_all(bytes)
            .map_err(ReportError::io("write", &self.path))
    }

    fn entry(
        &mut self,
        name: &str,
        bytes: u64,
        content: impl FnOnce(&mut Self) -> Result<(), ReportError>,
    ) -> Result<(), ReportError> {
        let header = format::header(name, bytes);
        self.put(header.as_bytes())?;
        let start = self.bytes;
        content(self)?;
        if self.bytes - start != bytes {
            let source =
                std::io::Error::other(format!("{name} has another size than its record says"));
            return Err(ReportError::io("write", &self.path)(source));
        }
        let padding = format::padding(bytes);
        self.put(&vec![0; padding])
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}
