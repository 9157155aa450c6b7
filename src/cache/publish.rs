//! Publication: outputs become objects, then the action that names them appears. Objects and actions are synchronised
//! to disk in batches: an action is renamed into place only after everything it names is safe, and the batch is
//! what many stages that end together share. A crash at any instant leaves nothing or a complete action.

use std::fs::{self, File};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use contract::artifact::{Artifact, ArtifactError, Content, Digest, Part};

use super::hold::{Grip, Hold};
use super::object::{Draft, check, rename_into, write_aside};
use super::seal::seal;
use super::{Action, CacheError, Lease, ObjectRecord, Store, failpoint};

/// Above this many files, one flush of the whole file system is cheaper than a flush per file.
const FLUSH_ALL_ABOVE: usize = 8;

/// Actions that may wait for the disk.
const QUEUE: usize = 4096;

/// What happens after an action is on disk.
type Done = Box<dyn FnOnce(Result<(), CacheError>) + Send>;

struct Pending {
    action: Action,
    staged: Staged,
    /// Released once the action is visible, so that those who wait for it find it.
    lease: Option<Lease>,
    done: Done,
}

/// Publishes actions in the order in which they are handed in, in batches, on a separate thread.
pub struct Publisher {
    store: Arc<Store>,
    sender: Option<SyncSender<Pending>>,
    thread: Option<JoinHandle<()>>,
}

/// Files on their way to the disk, which must be there before an action may appear.
#[derive(Debug, Default)]
pub struct Staged {
    /// The files to flush, as long as they are few.
    files: Vec<File>,
    /// They are not: the whole file system is flushed.
    many: bool,
    /// All objects of the action, so that none is lost before the action is there.
    hold: Hold,
}

impl Staged {
    fn add(&mut self, file: File) {
        if self.files.len() < FLUSH_ALL_ABOVE {
            self.files.push(file);
        } else {
            self.many = true;
        }
    }

    /// Takes the files of an action over; what is held for it stays with it.
    fn absorb(&mut self, other: &mut Self) {
        self.many |= other.many;
        for file in other.files.drain(..) {
            self.add(file);
        }
    }

    fn flush(&self) -> std::io::Result<()> {
        match self.files.first() {
            Some(any) if self.many => Ok(rustix::fs::syncfs(any)?),
            _ => self.files.iter().try_for_each(File::sync_data),
        }
    }
}

impl Publisher {
    pub fn new(store: Arc<Store>) -> Self {
        let (sender, receiver) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new().name("publisher".into()).spawn({
            let store = Arc::clone(&store);
            move || flush_loop(&store, &receiver)
        });
        Self {
            store,
            sender: Some(sender),
            thread: thread.ok(),
        }
    }

    /// Writes an artifact and its parts as objects. `known` are records of artifacts that the store has already.
    pub fn stage(
        &self,
        artifact: &Artifact,
        known: &[ObjectRecord],
        staged: &mut Staged,
    ) -> Result<ObjectRecord, CacheError> {
        let digest = artifact.digest();
        if let Some(record) = known.iter().find(|record| record.digest == digest)
            && staged
                .hold
                .grip_all(self.store.layout(), record, Grip::Firm)
        {
            return Ok(record.clone());
        }
        let mut parts = Vec::new();
        for part in artifact.parts() {
            parts.push(match part {
                Part::Artifact(inner) => self.stage(&inner, known, staged)?,
                Part::Blob(digest, content) => self.stage_blob(digest, &content, staged)?,
            });
        }
        let draft = Draft::new(self.store.layout(), |sink| artifact.encode_to(sink))?;
        let (object, bytes) = draft.name();
        let record = ObjectRecord {
            digest,
            object,
            kind: Some(artifact.kind()),
            bytes,
            parts,
        };
        if !self.is_held(&record, staged) {
            self.place(draft, &record, staged)?;
        }
        Ok(record)
    }

    /// Whether an object is there with the right bytes and cannot be lost any more; a damaged one is set aside.
    fn is_held(&self, record: &ObjectRecord, staged: &mut Staged) -> bool {
        let place = self.store.layout().object(record);
        // What could be lost, since it is another user's, is written once more.
        match staged.hold.grip(self.store.layout(), &place) {
            Grip::Firm if check(self.store.layout(), record).is_ok() => return true,
            Grip::Firm => {
                staged.hold.let_go_last();
                let _ = self.store.quarantine(record);
            }
            Grip::Loose => staged.hold.let_go_last(),
            Grip::Absent => {}
        }
        false
    }

    fn stage_blob(
        &self,
        digest: Digest,
        content: &Content,
        staged: &mut Staged,
    ) -> Result<ObjectRecord, CacheError> {
        // What is there with another length is not it, however long it would take to read.
        let length = match content {
            Content::Memory(bytes) => Some(bytes.len() as u64),
            Content::Disk(path) => fs::metadata(path).ok().map(|metadata| metadata.len()),
        };
        let bytes = length.unwrap_or_default();
        let mut record = ObjectRecord {
            digest,
            object: digest,
            kind: None,
            bytes,
            parts: Vec::new(),
        };
        if length.is_some() && self.is_held(&record, staged) {
            return Ok(record);
        }
        let name = match content {
            Content::Disk(path) => path.as_path(),
            Content::Memory(_) => Path::new("a file in memory"),
        };
        let draft = Draft::new(self.store.layout(), |sink| Ok(content.copy_to(sink)?));
        let draft = draft.map_err(|error| match error {
            CacheError::Artifact(ArtifactError::Io(source)) => CacheError::io("read", name)(source),
            other => other,
        })?;
        let (found, bytes) = draft.name();
        if found != digest {
            return Err(CacheError::Damaged {
                object: digest,
                reason: format!("{} changed while it was stored", name.display()),
            });
        }
        record.bytes = bytes;
        self.place(draft, &record, staged)?;
        Ok(record)
    }

    fn place(
        &self,
        draft: Draft<'_>,
        record: &ObjectRecord,
        staged: &mut Staged,
    ) -> Result<(), CacheError> {
        let file = draft.place(&self.store.layout().object(record), &mut staged.hold)?;
        staged.add(file);
        failpoint::pass();
        Ok(())
    }

    /// Hands in an action whose objects are staged. `done` is called on the publisher's thread.
    pub fn publish(
        &self,
        action: Action,
        staged: Staged,
        lease: Option<Lease>,
        done: impl FnOnce(Result<(), CacheError>) + Send + 'static,
    ) {
        let pending = Pending {
            action,
            staged,
            lease,
            done: Box::new(done),
        };
        let unsent = match &self.sender {
            Some(sender) if self.thread.is_some() => {
                sender.send(pending).err().map(|error| error.0)
            }
            _ => Some(pending),
        };
        // Without the publisher's thread, publication happens here, one action at a time.
        if let Some(pending) = unsent {
            flush(&self.store, vec![pending]);
        }
    }

    /// Waits until everything handed in is on disk.
    pub fn finish(mut self) {
        self.close();
    }

    fn close(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.close();
    }
}

fn flush_loop(store: &Store, receiver: &Receiver<Pending>) {
    while let Ok(first) = receiver.recv() {
        let mut batch = vec![first];
        batch.extend(receiver.try_iter());
        flush(store, batch);
    }
}

/// One batch: flush the objects, write and flush the actions aside, rename them, see that their objects are still there,
/// release the leases.
fn flush(store: &Store, batch: Vec<Pending>) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    let mut written = Vec::with_capacity(batch.len());
    let mut staged = Staged::default();
    for mut pending in batch {
        match write_aside(store.layout(), &seal(&pending.action)) {
            Ok((path, file)) => {
                staged.absorb(&mut pending.staged);
                staged.add(file);
                written.push((path, pending));
            }
            Err(error) => (pending.done)(Err(error)),
        }
    }
    // One flush for all objects and all actions of the batch. No action gets its name before: a crash between the two would
    // leave an action that names what is not on the disk.
    let flushed = staged.flush();
    failpoint::pass();
    for (path, pending) in written {
        let result = match &flushed {
            Ok(()) => appear(store, &path, &pending.action, pending.staged.hold),
            Err(error) => {
                let error = std::io::Error::new(error.kind(), error.to_string());
                Err(CacheError::io("flush", &path)(error))
            }
        };
        if result.is_err() {
            let _ = fs::remove_file(&path);
        }
        failpoint::pass();
        drop(pending.lease);
        let is_visible = result.is_ok();
        (pending.done)(result);
        if is_visible {
            store.offer(pending.action);
        }
    }
}

/// Renames an action into place, and makes sure that no collection of garbage has taken its objects before it was there.
pub(super) fn appear(
    store: &Store,
    aside: &Path,
    action: &Action,
    hold: Hold,
) -> Result<(), CacheError> {
    let (layout, place) = (store.layout(), store.layout().action(&action.key));
    // First visible, then looked at: a collection that does not see the action yet has not looked for new ones yet, or it took
    // the objects before, and then `settle` finds them gone and gives them back.
    rename_into(layout, aside, &place)?;
    failpoint::pass();
    hold.settle(layout)
        .inspect_err(|_| drop(layout.remove(&place)))
}
