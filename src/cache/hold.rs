//! Objects on which somebody is about to build. A publisher of an action keeps a second name of each of its objects in
//! `tmp/` until the action can be seen, and then gives back to its place what has gone from there meanwhile. A
//! collection of garbage does the same the other way round: it takes objects away, looks for actions that have appeared
//! since, and gives back what those need. So one of the two sees the other, without a lock and without a clock.
//!
//! It is the file system that answers whether a name is taken, when it is asked to make a link, and not what a client of a
//! network file system remembers.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use contract::artifact::{Artifact, Digest, Part};

use super::object::{rename_into, temporary};
use super::{Action, CacheError, Layout, ObjectRecord, Store};

/// Objects that cannot be lost until this is let go.
#[derive(Debug, Default)]
pub(super) struct Hold {
    objects: Vec<Held>,
}

#[derive(Debug)]
struct Held {
    place: PathBuf,
    /// A second name of the file; `None` where the file system has no such thing, or the file is somebody else's.
    spare: Option<PathBuf>,
}

/// What became of an attempt to hold an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grip {
    /// It cannot be lost.
    Firm,
    /// It is there, and may go.
    Loose,
    Absent,
}

impl Hold {
    /// Holds what lies in a place.
    pub fn grip(&mut self, layout: &Layout, place: &Path) -> Grip {
        let spare = layout.with_rescue(place, || {
            // What lies here may be a link or a folder: no second name for that.
            if layout.holds(place) {
                link(layout, place)
            } else {
                Err(io::ErrorKind::NotFound.into())
            }
        });
        let (grip, spare) = match spare {
            Ok(spare) => (Grip::Firm, Some(spare)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Grip::Absent,
            Err(error) => {
                tracing::debug!("{} cannot be held: {error}", place.display());
                (Grip::Loose, None)
            }
        };
        self.objects.push(Held {
            place: place.to_owned(),
            spare,
        });
        grip
    }

    /// Lets go what was held last: it turned out to be of no use.
    pub fn let_go_last(&mut self) {
        self.objects.pop();
    }

    /// Holds an object and its parts. Returns whether all of them are there.
    pub fn grip_all(&mut self, layout: &Layout, record: &ObjectRecord, least: Grip) -> bool {
        for part in record.all() {
            match self.grip(layout, &layout.object(part)) {
                Grip::Firm => {}
                Grip::Loose if least == Grip::Loose => {}
                _ => return false,
            }
        }
        true
    }

    /// Holds everything that an action names. Returns whether all of it is there.
    pub fn grip_action(&mut self, layout: &Layout, action: &Action, least: Grip) -> bool {
        let mut outputs = action.outputs.iter();
        outputs.all(|output| self.grip_all(layout, &output.record, least))
    }

    /// Moves a file from `tmp/` to its place and holds it there.
    pub fn place(&mut self, layout: &Layout, aside: &Path, place: &Path) -> Result<(), CacheError> {
        let spare = temporary(layout);
        let spare = fs::hard_link(aside, &spare).is_ok().then_some(spare);
        self.objects.push(Held {
            place: place.to_owned(),
            spare,
        });
        rename_into(layout, aside, place).inspect_err(|_| drop(fs::remove_file(aside)))
    }

    /// Makes sure that everything is in its place, now that an action names it; then lets it go.
    ///
    /// # Errors
    /// If something has gone and cannot be given back.
    pub fn settle(self, layout: &Layout) -> Result<(), CacheError> {
        self.objects.iter().try_for_each(|held| held.settle(layout))
    }
}

impl Held {
    fn settle(&self, layout: &Layout) -> Result<(), CacheError> {
        let Some(spare) = &self.spare else {
            if layout.holds(&self.place) {
                return Ok(());
            }
            let reason = "a collection of garbage removed it meanwhile";
            let gone = io::Error::new(io::ErrorKind::NotFound, reason);
            return Err(CacheError::io("keep", &self.place)(gone));
        };
        // To make the link is the question and the answer: the name is taken, or the object is back. The second time, after its
        // folder is there again.
        for _ in 0..2 {
            match fs::hard_link(spare, &self.place) {
                Ok(()) => {
                    let place = self.place.display();
                    tracing::debug!("{place} was collected meanwhile and is back");
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    layout.make(self.place.parent().unwrap_or(&self.place))?;
                }
                Err(error) => return Err(CacheError::io("write", &self.place)(error)),
            }
        }
        Ok(())
    }
}

/// Files of an artifact that no collection of garbage takes away as long as this lives.
#[derive(Debug, Default)]
pub struct HeldFiles {
    hold: Hold,
}

impl Store {
    /// The same artifact with its files under names that stay until what is returned beside it is dropped.
    ///
    /// # Errors
    /// If a file is not in the store any more.
    pub fn hold_files(&self, artifact: &Artifact) -> Result<(Artifact, HeldFiles), CacheError> {
        let layout = self.layout();
        let mut held = HeldFiles::default();
        let mut places: BTreeMap<Digest, PathBuf> = BTreeMap::new();
        for part in artifact.parts() {
            let Part::Blob(digest, _) = part else {
                continue;
            };
            if places.contains_key(&digest) {
                continue;
            }
            let place = layout.object_named(&digest, "");
            if held.hold.grip(layout, &place) == Grip::Absent {
                return Err(CacheError::Missing { object: digest });
            }
            let spare = held.hold.objects.last().and_then(|held| held.spare.clone());
            places.insert(digest, spare.unwrap_or(place));
        }
        if places.is_empty() {
            return Ok((artifact.clone(), held));
        }
        let held_at = |digest: &Digest| match places.get(digest) {
            Some(place) => place.clone(),
            None => layout.object_named(digest, ""),
        };
        Ok((artifact.with_blobs_at(held_at), held))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(spare) = &self.spare {
            let _ = fs::remove_file(spare);
        }
    }
}

fn link(layout: &Layout, place: &Path) -> io::Result<PathBuf> {
    let spare = temporary(layout);
    match fs::hard_link(place, &spare) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !layout.tmp().exists() => {
            layout.make(&layout.tmp()).map_err(io::Error::other)?;
            fs::hard_link(place, &spare)?;
        }
        other => other?,
    }
    Ok(spare)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_comes_back_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        let place = layout.objects().join("ab/cd");
        layout.make(place.parent().unwrap()).unwrap();
        let mut hold = Hold::default();
        assert_eq!(hold.grip(&layout, &place), Grip::Absent);
        fs::write(&place, "object").unwrap();
        assert_eq!(hold.grip(&layout, &place), Grip::Firm);
        fs::remove_dir_all(layout.objects()).unwrap();
        hold.settle(&layout).unwrap();
        assert_eq!(fs::read(&place).unwrap(), b"object");
        let mut hold = Hold::default();
        hold.grip(&layout, &place);
        fs::remove_file(&place).unwrap();
        fs::write(&place, "another's").unwrap();
        hold.settle(&layout).unwrap();
        assert_eq!(
            fs::read(&place).unwrap(),
            b"another's",
            "a name that is taken stays"
        );
        assert_eq!(fs::read_dir(layout.tmp()).unwrap().count(), 0);
    }

    /// A stage may read its inputs for hours.
    #[test]
    fn files_that_are_held_can_be_read_though_they_are_collected() {
        use contract::artifact::{Content, FileEntry, Files, RelativePath};
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path());
        let entry = |path: &str| FileEntry {
            path: RelativePath::new(path.to_owned()).unwrap(),
            executable: false,
            size: 4,
            digest: Digest::of_bytes(b"text"),
            content: Content::Disk(PathBuf::new()),
        };
        let files: Artifact = Files::new(vec![entry("a"), entry("b/c")]).unwrap().into();
        assert!(matches!(
            store.hold_files(&files),
            Err(CacheError::Missing { .. })
        ));
        let place = store.layout().object_named(&Digest::of_bytes(b"text"), "");
        store.layout().make(place.parent().unwrap()).unwrap();
        fs::write(&place, "text").unwrap();
        let (files, held) = store.hold_files(&files).unwrap();
        fs::remove_file(&place).unwrap();
        let Artifact::Files(inside) = &files else {
            panic!("{files:?}")
        };
        for entry in inside.entries() {
            let mut text = Vec::new();
            entry.content.copy_to(&mut text).unwrap();
            assert_eq!(text, b"text");
        }
        drop(held);
        assert_eq!(fs::read_dir(store.layout().tmp()).unwrap().count(), 0);
    }
}
