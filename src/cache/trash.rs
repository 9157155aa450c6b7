//! What a collection of garbage is about to remove: first it only moves there, under the path that it had. Then the
//! collection looks again at what has appeared meanwhile, gives back what that needs, and only then empties the trash.
//! The trash of a collection that was killed goes back as a whole, before anything else is collected or verified.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::object::{rename_into, temporary};
use super::tree::Kind;
use super::{CacheError, Layout, Store, failpoint};

/// How often an object that is needed is taken out of the trash: as many collections may follow each other.
const RESCUES: usize = 3;

/// The trash of one collection.
#[derive(Debug)]
pub(super) struct Trash<'a> {
    layout: &'a Layout,
    folder: PathBuf,
    /// Where a file was, and where it is.
    moved: BTreeMap<PathBuf, PathBuf>,
}

impl<'a> Trash<'a> {
    pub fn new(layout: &'a Layout) -> Self {
        let name = temporary(layout).file_name().unwrap_or_default().to_owned();
        Self {
            layout,
            folder: layout.trash().join(name),
            moved: BTreeMap::new(),
        }
    }

    /// Takes a file away from its place.
    pub fn take(&mut self, place: &Path) -> Result<(), CacheError> {
        let below = place.strip_prefix(self.layout.root()).unwrap_or(place);
        let here = self.folder.join(below);
        match rename_into(self.layout, place, &here) {
            Err(CacheError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(());
            }
            other => other?,
        }
        failpoint::pass();
        self.moved.insert(place.to_owned(), here);
        Ok(())
    }

    pub fn holds(&self, place: &Path) -> bool {
        self.moved.contains_key(place)
    }

    /// Gives a file back, unless another has taken its place meanwhile.
    pub fn give_back(&mut self, place: &Path) -> Result<(), CacheError> {
        match self.moved.remove(place) {
            Some(here) => give_back(self.layout, &here, place),
            None => Ok(()),
        }
    }

    pub fn give_all_back(&mut self) -> Result<(), CacheError> {
        for (place, here) in std::mem::take(&mut self.moved) {
            give_back(self.layout, &here, &place)?;
        }
        self.layout.remove(&self.folder)
    }

    /// Removes what is still there.
    pub fn empty(&self) -> Result<(), CacheError> {
        self.layout.remove(&self.folder)
    }
}

fn give_back(layout: &Layout, here: &Path, place: &Path) -> Result<(), CacheError> {
    layout.make(place.parent().unwrap_or(place))?;
    // A link instead of a rename: what has taken the place meanwhile is never replaced.
    match fs::hard_link(here, place) {
        Ok(()) => layout.remove(here),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => layout.remove(here),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Without a second name, what is in the place now would be replaced by the same content.
        Err(_) => rename_into(layout, here, place),
    }
}

impl Layout {
    /// Gives an object back that a collection of garbage has taken away and not removed yet: somebody needs it now. Returns
    /// whether it did.
    pub(super) fn rescue(&self, place: &Path) -> bool {
        let Ok(below) = place.strip_prefix(self.root()) else {
            return false;
        };
        for trash in self.entries(&self.trash()).unwrap_or_default() {
            let here = trash.path.join(below);
            if !self.holds(&here) {
                continue;
            }
            match fs::hard_link(&here, place) {
                Ok(()) => return true,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return true,
                Err(_) => {}
            }
        }
        false
    }

    /// Does something with an object in its place. One that is not there may be in the trash, or on its way back from it,
    /// so it is looked for again.
    ///
    /// # Errors
    /// Those of `act`.
    pub fn with_rescue<T>(
        &self,
        place: &Path,
        mut act: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        for _ in 0..RESCUES {
            match act() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => return other,
            }
            if !self.rescue(place) {
                break;
            }
        }
        // It may have been given back between the two looks.
        act()
    }
}

impl Store {
    /// Gives back what collections that were killed had taken away. The caller holds the lease of collections.
    pub(super) fn take_back(&self) -> Result<(), CacheError> {
        let layout = self.layout();
        for left in layout.entries(&layout.trash())? {
            for found in layout.walk(&left.path)? {
                let below = found.path.strip_prefix(&left.path).unwrap_or(&found.path);
                let place = layout.root().join(below);
                let is_ours =
                    place.starts_with(layout.objects()) || place.starts_with(layout.actions());
                // Nothing else is ever moved here.
                if found.seen.kind == Kind::File && is_ours {
                    give_back(layout, &found.path, &place)?;
                }
            }
            layout.remove(&left.path)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use contract::artifact::Digest;

    use super::*;
    use crate::cache::ObjectRecord;
    use crate::cache::object::check;

    /// A store with one blob.
    fn store() -> (tempfile::TempDir, Store, ObjectRecord) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path());
        let (bytes, object) = (b"some bytes".as_slice(), Digest::of_bytes(b"some bytes"));
        let record = ObjectRecord {
            digest: object,
            object,
            kind: None,
            bytes: bytes.len() as u64,
            parts: Vec::new(),
        };
        let place = store.layout().object(&record);
        store.layout().make(place.parent().unwrap()).unwrap();
        fs::write(&place, bytes).unwrap();
        (folder, store, record)
    }

    /// Between a collection's two looks, an object is in the trash that a new action names.
    #[test]
    fn who_reads_an_object_gets_it_back_out_of_the_trash() {
        let (_folder, store, record) = store();
        let (layout, place) = (store.layout(), store.layout().object(&record));
        let mut trash = Trash::new(layout);
        trash.take(&place).unwrap();
        assert!(!layout.holds(&place));
        check(layout, &record).unwrap();
        trash.empty().unwrap();
        check(layout, &record).unwrap();
        let mut trash = Trash::new(layout);
        trash.take(&place).unwrap();
        check(layout, &record).unwrap();
        trash.give_back(&place).unwrap();
        check(layout, &record).unwrap();
    }

    /// It may be given back after the first look and before the look into the trash.
    #[test]
    fn what_is_on_its_way_back_is_found() {
        let (_folder, store, record) = store();
        let (layout, place) = (store.layout(), store.layout().object(&record));
        let mut trash = Trash::new(layout);
        trash.take(&place).unwrap();
        let mut looks = 0;
        let found = layout.with_rescue(&place, || {
            let found = fs::read(&place);
            looks += 1;
            if looks == 1 {
                trash.give_back(&place).unwrap();
            }
            found
        });
        assert_eq!(found.unwrap(), b"some bytes");
        fs::remove_file(&place).unwrap();
        assert!(
            layout.with_rescue(&place, || fs::read(&place)).is_err(),
            "what is nowhere stays lost"
        );
    }
}
