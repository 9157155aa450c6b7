//! What comes from another store: objects, actions and the record of a run. All of it is written aside and checked first;
//! then objects appear, then the actions that name them, then the record. Until then nothing in the store is different,
//! and what is not taken in leaves nothing behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use contract::artifact::{Artifact, ByteDigest, Digest, Source};
use rayon::prelude::*;

use super::chain::IMPORTED;
use super::hold::{Grip, Hold};
use super::object::{
    check_file, create_aside, kind_of, rename_into, replace, same_content, temporary, write_aside,
};
use super::publish::appear;
use super::seal::unseal;
use super::store::RecordedParts;
use super::{Action, CacheError, Layout, Manifest, ObjectRecord, RunId, Store, failpoint};

/// Bytes that are copied at a time.
const PIECE: usize = 256 * 1024;

/// What arrives, before it may be seen.
pub struct Intake<'a> {
    store: &'a Store,
    /// Objects that the store lacks: their place in it, and where they wait.
    waiting: BTreeMap<PathBuf, PathBuf>,
    /// Raw files, likewise.
    raw: BTreeMap<PathBuf, PathBuf>,
    /// With their bytes; those that the store has already are not among them.
    actions: Vec<(Action, Vec<u8>)>,
    /// Where what arrives waits.
    aside: Layout,
    /// The folder that goes with a rehearsal.
    scratch: Option<PathBuf>,
}

/// What was new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    pub objects: usize,
    pub actions: usize,
    /// Whether the record of the run was new.
    pub run: bool,
}

impl<'a> Intake<'a> {
    pub fn new(store: &'a Store) -> Self {
        Self {
            store,
            waiting: BTreeMap::new(),
            raw: BTreeMap::new(),
            actions: Vec::new(),
            aside: store.layout().clone(),
            scratch: None,
        }
    }

    /// An intake that is never committed. What arrives waits in a separate folder, and the store is only read.
    ///
    /// # Errors
    /// If that folder cannot be made.
    pub fn rehearsal(store: &'a Store) -> Result<Self, CacheError> {
        let name = temporary(store.layout());
        let scratch = std::env::temp_dir().join(name.file_name().unwrap_or_default());
        // A folder that is there already is somebody else's.
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&scratch)
            .map_err(CacheError::io("create", &scratch))?;
        let mut intake = Self::new(store);
        (intake.aside, intake.scratch) = (Layout::new(&scratch), Some(scratch));
        Ok(intake)
    }

    /// Reads an object of so many bytes to its end. One that the store has, intact, is read but not kept. Returns whether
    /// it is new.
    ///
    /// # Errors
    /// If the bytes are not those of its name.
    pub fn object(
        &mut self,
        object: &Digest,
        extension: &str,
        bytes: u64,
        content: &mut dyn Read,
    ) -> Result<bool, CacheError> {
        let place = self.store.layout().object_named(object, extension);
        if self.waiting.contains_key(&place) || self.is_right(&place, object, bytes) {
            copy_checked(content, &mut std::io::sink(), object, &place)?;
            return Ok(false);
        }
        let (aside, mut file) = create_aside(&self.aside, 0o444)?;
        self.waiting.insert(place, aside.clone());
        failpoint::pass();
        copy_checked(content, &mut file, object, &aside)?;
        Ok(true)
    }

    /// Reads a raw file of a run, of so many bytes, to its end. It will lie in `folder` under its digest.
    ///
    /// # Errors
    /// If the bytes are not those of its name.
    pub fn raw(
        &mut self,
        folder: &Path,
        file: &Digest,
        executable: bool,
        bytes: u64,
        content: &mut dyn Read,
    ) -> Result<(), CacheError> {
        let place = folder.join(file.to_string());
        if self.raw.contains_key(&place) || self.is_right(&place, file, bytes) {
            return copy_checked(content, &mut std::io::sink(), file, &place);
        }
        let (aside, mut sink) = create_aside(&self.aside, if executable { 0o555 } else { 0o444 })?;
        self.raw.insert(place, aside.clone());
        copy_checked(content, &mut sink, file, &aside)
    }

    /// Whether an object is in its place with the right bytes. One of another length is not read to find that out.
    fn is_right(&self, place: &Path, object: &Digest, bytes: u64) -> bool {
        let found = self.store.layout().look_at(place);
        found.is_some_and(|found| found.is_file() && found.len() == bytes)
            && check_file(place, object).is_ok()
    }

    /// The action in the bytes of its file; `None` if they are not those that were written, or the key is not that of its
    /// manifest.
    pub fn read_action(bytes: &[u8]) -> Option<Action> {
        let action = unseal::<Action>(bytes)?;
        let manifest = Manifest::parse(&action.manifest)?;
        (manifest.key() == action.key && manifest.kind == action.kind).then_some(action)
    }

    /// Takes an action in if all of its objects are here or have arrived. Returns whether it will be in the store.
    pub fn action(&mut self, action: Action, bytes: Vec<u8>) -> Result<bool, CacheError> {
        let mut objects = action.objects();
        if !objects.all(|record| self.path_of(record).is_some()) {
            return Ok(false);
        }
        drop(objects);
        // What is here already stays: two stores may have different bits, and neither is changed behind its back.
        if self.store.usable_action(&action.key)?.is_none() {
            self.actions.push((action, bytes));
        }
        Ok(true)
    }

    /// Actions that the store lacks.
    pub fn new_actions(&self) -> usize {
        self.actions.len()
    }

    /// Where an object is now.
    fn path_of(&self, record: &ObjectRecord) -> Option<PathBuf> {
        let place = self.store.layout().object(record);
        match self.waiting.get(&place) {
            Some(aside) => Some(aside.clone()),
            None => self.store.is_present(record).then_some(place),
        }
    }

    /// A file among the parts of an artifact that has arrived.
    fn blob(&self, record: &ObjectRecord) -> Result<PathBuf, CacheError> {
        let object = record.object;
        if object != record.digest {
            let reason = "the digest of a file is not that of its bytes".to_owned();
            return Err(CacheError::Damaged { object, reason });
        }
        self.path_of(record).ok_or(CacheError::Missing { object })
    }

    /// Decodes what the new actions name and compares it with the digests that they promise.
    ///
    /// # Errors
    /// The first artifact whose content is not what its action says.
    pub fn check_contents(&self) -> Result<(), CacheError> {
        let (mut outputs, mut seen) = (Vec::new(), BTreeSet::new());
        for output in self.actions.iter().flat_map(|(action, _)| &action.outputs) {
            if seen.insert((output.record.object, output.record.digest)) {
                outputs.push(&output.record);
            }
        }
        outputs
            .par_iter()
            .try_for_each(|record| same_content(record, &self.load(record)?))
    }

    fn load(&self, record: &ObjectRecord) -> Result<Artifact, CacheError> {
        let object = record.object;
        let kind = kind_of(record)?;
        let path = self.path_of(record).ok_or(CacheError::Missing { object })?;
        let source = Source::open(&path).map_err(CacheError::io("read", &path))?;
        let (load, blob) = (
            |part: &ObjectRecord| self.load(part),
            |part: &ObjectRecord| self.blob(part),
        );
        let parts = RecordedParts::new(&record.parts, &load, &blob);
        let artifact = Artifact::decode(kind, source, &parts);
        if let Some(failure) = parts.into_failure() {
            return Err(failure);
        }
        artifact.map_err(|error| CacheError::Damaged {
            object,
            reason: error.to_string(),
        })
    }

    /// Lets everything appear: objects, actions, and last the run with the files of its folder. `record` holds the bytes of
    /// its record. What is there already of the run stays as it is; files that its folder lacks, such as a signature that
    /// was made later, are put into it.
    ///
    /// # Errors
    /// If the store cannot be written. What has appeared by then is whole, and another try continues from there.
    pub fn commit(
        mut self,
        run: &RunId,
        record: &[u8],
        beside: &[(&str, &[u8])],
    ) -> Result<Taken, CacheError> {
        let mut taken = Taken {
            objects: self.waiting.len(),
            actions: self.actions.len(),
            run: false,
        };
        let layout = self.store.layout();
        // Everything reaches the disk before a name of it can be seen: a crash must not leave an action without its objects.
        flush(self.waiting.values().chain(self.raw.values()).next())?;
        // What has arrived stays held until the actions are there, and so does what was here already.
        let mut arrived = Hold::default();
        for (place, aside) in std::mem::take(&mut self.waiting) {
            arrived.place(layout, &aside, &place)?;
            failpoint::pass();
        }
        let mut written = Vec::with_capacity(self.actions.len());
        for (action, bytes) in &self.actions {
            let mut hold = Hold::default();
            for record in action.objects() {
                if hold.grip(layout, &layout.object(record)) == Grip::Absent {
                    return Err(CacheError::Missing {
                        object: record.object,
                    });
                }
            }
            written.push((write_aside(layout, bytes)?.0, action, hold));
        }
        flush(written.first().map(|(aside, ..)| aside))?;
        for (aside, action, hold) in written {
            appear(self.store, &aside, action, hold)?;
        }
        for (place, aside) in std::mem::take(&mut self.raw) {
            rename_into(layout, &aside, &place).inspect_err(|_| drop(fs::remove_file(&aside)))?;
            failpoint::pass();
        }
        drop(arrived);
        let (place, folder) = (self.store.run_path(run), self.store.run_folder(run));
        layout.make(&folder)?;
        for (name, bytes) in beside {
            let path = folder.join(name);
            if layout.look_at(&path).is_none() {
                replace(layout, &path, bytes)?;
            }
        }
        // The record comes last: a run that can be seen is whole. That it was imported must be known before.
        if layout.look_at(&place).is_none() {
            replace(layout, &folder.join(IMPORTED), b"")?;
            replace(layout, &place, record)?;
            taken.run = true;
        }
        Ok(taken)
    }
}

impl Drop for Intake<'_> {
    fn drop(&mut self) {
        for aside in self.waiting.values().chain(self.raw.values()) {
            let _ = fs::remove_file(aside);
        }
        if let Some(scratch) = &self.scratch {
            let _ = fs::remove_dir_all(scratch);
        }
    }
}

/// Everything on the file system of this file reaches the disk.
fn flush(any: Option<&PathBuf>) -> Result<(), CacheError> {
    let Some(path) = any else { return Ok(()) };
    let synchronised = File::open(path).and_then(|file| Ok(rustix::fs::syncfs(&file)?));
    synchronised.map_err(CacheError::io("flush", path))
}

/// Copies to the end, and checks what was copied.
fn copy_checked(
    from: &mut dyn Read,
    to: &mut dyn Write,
    object: &Digest,
    place: &Path,
) -> Result<(), CacheError> {
    let (mut digest, mut piece) = (ByteDigest::default(), vec![0; PIECE]);
    loop {
        let read = from.read(&mut piece);
        let read = read.map_err(CacheError::io("read", place))?;
        if read == 0 {
            break;
        }
        digest.update(&piece[..read]);
        to.write_all(&piece[..read])
            .map_err(CacheError::io("write", place))?;
    }
    let found = digest.finish();
    if found == *object {
        return Ok(());
    }
    Err(CacheError::Damaged {
        object: *object,
        reason: format!("its bytes have the digest {}", found.short()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_taken_in_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path());
        let (good, bad) = (Digest::of_bytes(b"good"), Digest::of_bytes(b"bad"));
        let mut intake = Intake::new(&store);
        assert!(intake.object(&good, "", 4, &mut &b"good"[..]).unwrap());
        assert!(
            !intake.object(&good, "", 4, &mut &b"good"[..]).unwrap(),
            "the second time it has arrived already"
        );
        assert!(matches!(
            intake.object(&bad, "", 4, &mut &b"good"[..]),
            Err(CacheError::Damaged { .. })
        ));
        drop(intake);
        assert_eq!(fs::read_dir(store.layout().tmp()).unwrap().count(), 0);
        assert!(!store.layout().objects().exists());
    }

    /// The long one would take hours to hash; its length alone shows that it is damaged.
    #[test]
    fn what_is_damaged_in_the_store_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path());
        let (object, run) = (Digest::of_bytes(b"good"), RunId("r".into()));
        let (place, raw) = (
            store.layout().object_named(&object, ""),
            store.run_folder(&run).join("raw"),
        );
        for long in [false, true] {
            for place in [&place, &raw.join(object.to_string())] {
                let _ = fs::remove_file(place);
                fs::create_dir_all(place.parent().unwrap()).unwrap();
                fs::write(place, b"evil").unwrap();
                File::options()
                    .write(true)
                    .open(place)
                    .unwrap()
                    .set_len(if long { 1 << 42 } else { 4 })
                    .unwrap();
            }
            let mut intake = Intake::new(&store);
            assert!(intake.object(&object, "", 4, &mut &b"good"[..]).unwrap());
            intake
                .raw(&raw, &object, false, 4, &mut &b"good"[..])
                .unwrap();
            assert_eq!(intake.commit(&run, b"{}", &[]).unwrap().objects, 1);
            assert_eq!(fs::read(&place).unwrap(), b"good");
            assert_eq!(fs::read(raw.join(object.to_string())).unwrap(), b"good");
        }
        let mut intake = Intake::new(&store);
        assert!(
            !intake.object(&object, "", 4, &mut &b"good"[..]).unwrap(),
            "it is intact now"
        );
    }

    #[test]
    fn a_rehearsal_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store"));
        let mut intake = Intake::rehearsal(&store).unwrap();
        let scratch = intake.scratch.clone().unwrap();
        let object = Digest::of_bytes(b"good");
        assert!(intake.object(&object, "", 4, &mut &b"good"[..]).unwrap());
        assert!(scratch.exists());
        drop(intake);
        assert!(!scratch.exists() && !folder.path().join("store").exists());
    }

    #[test]
    fn the_run_comes_last_and_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path());
        let run = RunId("r".into());
        let mut intake = Intake::new(&store);
        let object = Digest::of_bytes(b"blob");
        intake.object(&object, "", 4, &mut &b"blob"[..]).unwrap();
        let taken = intake
            .commit(&run, b"{}", &[("events.jsonl", b"e")])
            .unwrap();
        assert_eq!(
            taken,
            Taken {
                objects: 1,
                actions: 0,
                run: true
            }
        );
        assert_eq!(
            fs::read(store.layout().object_named(&object, "")).unwrap(),
            b"blob"
        );
        assert_eq!(fs::read(store.run_path(&run)).unwrap(), b"{}");
        let again = Intake::new(&store).commit(
            &run,
            b"other",
            &[("events.jsonl", b"x"), ("run.json.sig", b"s")],
        );
        assert_eq!(again.unwrap(), Taken::default());
        assert_eq!(
            fs::read(store.run_folder(&run).join("events.jsonl")).unwrap(),
            b"e"
        );
        assert_eq!(
            fs::read(store.run_folder(&run).join("run.json.sig")).unwrap(),
            b"s",
            "it was not there before"
        );
        assert_eq!(fs::read(store.run_path(&run)).unwrap(), b"{}");
    }
}
