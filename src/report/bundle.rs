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
use super::{History, ReportError, Selection, Target};
use crate::audit::{Lock, Signed, signature_beside};
use crate::cache::{CacheError, ObjectRecord, RecordSeal, seal_of};
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
        let makers = stage.inputs.iter().filter_map(|input| input.maker.as_ref());
        let needs = makers
            .map(|(maker, _)| history.stages[*maker].record.name.clone())
            .collect();
        if let Some(locked) = lock.stages.get_mut(&stage.record.name) {
            locked.needs = needs;
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
    contents.extend(carried.into_iter().map(|file| {
        (
            format::raw_entry(&file.digest, file.executable),
            Content::Raw(file),
        )
    }));
    let entries: Vec<Entry> = contents
        .iter()
        .map(|(name, content)| match content {
            Content::Bytes(bytes) => Entry {
                name: name.clone(),
                bytes: bytes.len() as u64,
                blake3: Digest::of_bytes(bytes),
            },
            Content::Object(record, _) => Entry {
                name: name.clone(),
                bytes: record.bytes,
                blake3: record.object,
            },
            Content::Raw(file) => Entry {
                name: name.clone(),
                bytes: file.bytes,
                blake3: file.digest,
            },
        })
        .collect();
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
    let signatures = [
        ("record", format::RECORD_SIGNATURE),
        ("lock", format::LOCK_SIGNATURE),
    ];
    let is_there = |(what, name): (&'static str, &str)| contents.contains_key(name).then_some(what);
    let signed = signatures.into_iter().filter_map(is_there).collect();
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
    let read = |path: PathBuf| {
        store
            .layout()
            .read(&path)
            .map_err(ReportError::io("read", &path))
    };
    let bytes = read(store.run_path(&record.run))?;
    if let RecordSeal::Intact(seal) = seal_of(&bytes)
        && let Some(signature) = signature_beside(Signed::Run, &seal, &store.run_path(&record.run))
    {
        put(format::RECORD_SIGNATURE.to_owned(), signature);
    }
    put(format::RECORD.to_owned(), bytes);
    let events = store.run_folder(&record.run).join("events.jsonl");
    if store.layout().holds(&events) {
        put(format::EVENTS.to_owned(), read(events)?);
    }
    let files = pipeline_files(record)?;
    let main = files
        .first()
        .map(|(path, _)| path.clone())
        .unwrap_or_default();
    let mut pipeline = Vec::with_capacity(files.len());
    for (index, (path, text)) in files.into_iter().enumerate() {
        let name = format::pipeline_entry(index);
        put(name.clone(), text.as_bytes().to_vec());
        pipeline.push((name, path));
    }
    let lock = lock_of(history, &main);
    let (lock, signature) = signed_lock(history, &lock)
        .map_or((lock, None), |(lock, signature)| (lock, Some(signature)));
    put(format::LOCK.to_owned(), lock.to_text().into_bytes());
    let has_common_lock = !lock.is_of_first_trial(record);
    if let Some(signature) = signature {
        put(format::LOCK_SIGNATURE.to_owned(), signature);
    }
    for stage in &history.stages {
        let Some(action) = &stage.action else {
            continue;
        };
        put(
            format::action_entry(&action.key),
            read(store.layout().action(&action.key))?,
        );
    }
    for (index, stage) in history.stages.iter().enumerate() {
        let chosen = stage
            .outputs()
            .iter()
            .filter(|output| selection.has(history, stage, output));
        // What no import takes in is not handed on: a list of files that leads elsewhere.
        let lists = chosen
            .clone()
            .filter(|output| output.record.kind == Some(ArtifactKind::Files));
        for list in lists {
            store
                .load(&list.record)
                .map_err(|error| of_stage(stage, error.into()))?;
        }
        for object in all_objects(chosen.map(|output| &output.record)) {
            if !store.is_present(object) {
                return Err(of_stage(
                    stage,
                    CacheError::Missing {
                        object: object.object,
                    }
                    .into(),
                ));
            }
            let name = format::object_entry(
                &object.object,
                object.kind.map_or("", |kind| kind.extension()),
            );
            contents
                .entry(name)
                .or_insert_with(|| Content::Object(object.clone(), index));
        }
    }
    Ok(Gathered {
        contents,
        pipeline,
        has_common_lock,
    })
}

/// The lock of the run as somebody signed it, with the signature: the one that came along with the run, or that which lies
/// beside the pipeline. It may name the pipeline's file as seen from the pipeline's own folder; all else is as in `lock`.
fn signed_lock(history: &History<'_>, lock: &Lock) -> Option<(Lock, Vec<u8>)> {
    let imported = history
        .store
        .run_folder(&history.record.run)
        .join("pipeline.lock");
    let beside = Path::new(&history.record.file).with_extension("lock");
    let found = [
        (imported, Lock::beside(history.store, history.record)),
        (beside.clone(), Lock::read(&beside).ok()),
    ];
    found.into_iter().find_map(|(path, found)| {
        let found = found?;
        let lock_here = Lock {
            file: found.file.clone(),
            ..lock.clone()
        };
        let is_same = lock_here == found || lock_here.with_first_trial(history.record) == found;
        let is_placed =
            found.file == lock.file || Some(found.file.as_str()) == file_name(&lock.file);
        let signature = signature_beside(Signed::Lock, &found.seal(), &path)
            .filter(|_| is_same && is_placed)?;
        Some((found, signature))
    })
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
