//! Checkpoints: states of a long stage on its way, in chains. A chain is named by what determines its course, a
//! checkpoint by its step; so an interrupted run continues, and a longer one starts from a shorter one's end.
//!
//! Of a chain there stay the newest two, the best one, and a series that gets thinner the further it lies back: at most
//! three for each factor of four. A note beside them, a file for each stage that works on the chain, says who needs it,
//! which state is the stage's last one, and which its best.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use contract::artifact::Digest;
use serde::{Deserialize, Serialize};

use super::object::{rename_into, replace, write_aside};
use super::seal::{seal, unseal};
use super::tree::{Found, Kind};
use super::{CacheError, Key, Layout, Store};

/// No state of anything that fits a machine is longer than this.
const LONGEST_STATE: u64 = 64 << 30;

/// What a stage says of its states in a chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    pub last: u64,
    pub best: Option<u64>,
}

/// What lies in the folder of a chain.
#[derive(Debug, Default)]
pub(super) struct Chain {
    pub states: Vec<State>,
    /// By the key of the stage.
    pub notes: BTreeMap<Key, Note>,
    /// Files of the notes.
    pub note_files: Vec<Found>,
}

#[derive(Debug)]
pub(super) struct State {
    pub step: u64,
    digest: Digest,
    pub file: Found,
}

impl Chain {
    pub fn open(layout: &Layout, folder: &Path) -> Result<Self, CacheError> {
        let mut chain = Self::default();
        for file in layout.entries(folder)? {
            let Some(stem) = file.path.file_stem().and_then(|stem| stem.to_str()) else {
                continue;
            };
            if file.seen.kind != Kind::File {
                continue;
            }
            if let Ok(key) = stem.parse::<Digest>() {
                let note = layout.read(&file.path).ok().and_then(|text| unseal(&text));
                chain.notes.extend(note.map(|note| (Key(key), note)));
                chain.note_files.push(file);
            } else if let Some((step, digest)) = parse(stem) {
                chain.states.push(State { step, digest, file });
            }
        }
        chain.states.sort_by_key(|state| (state.step, state.digest));
        Ok(chain)
    }

    /// The states that stay while a stage is at this step.
    fn kept_at(&self, step: u64) -> BTreeSet<u64> {
        let mut kept = self.kept_after();
        let newest = self.states.last().map_or(step, |state| state.step);
        for end in [step, newest] {
            let mut before = None;
            for State { step, .. } in &self.states {
                if *step < end {
                    before = Some(*step);
                }
                if *step <= end && is_in_series(end, *step) {
                    kept.insert(*step);
                }
            }
            kept.extend(before);
        }
        kept
    }

    /// The states that stay when the stages have ended: their last and their best ones.
    pub fn kept_after(&self) -> BTreeSet<u64> {
        let mut kept = BTreeSet::new();
        for note in self.notes.values() {
            kept.insert(note.last);
            kept.extend(note.best);
        }
        kept.extend(self.states.last().map(|state| state.step));
        kept
    }
}

fn parse(stem: &str) -> Option<(u64, Digest)> {
    let (step, digest) = stem.split_once('-')?;
    Some((step.parse().ok()?, digest.parse().ok()?))
}

/// Whether a state stays in the series of a chain that has come to `end`: one at a multiple of a power of four stays until
/// the chain is that far beyond it. Whatever is left out once is never asked for again.
fn is_in_series(end: u64, step: u64) -> bool {
    let power = step.trailing_zeros().min(60) / 2;
    step == end || (step > 0 && end - step < 4_u64.pow(power))
}

impl Store {
    /// The newest intact checkpoint of a chain at or before a step, with its step.
    pub fn load_checkpoint(&self, chain: &Digest, at_most: u64) -> Option<(u64, Vec<u8>)> {
        let chain = Chain::open(self.layout(), &self.layout().chain(chain)).ok()?;
        for state in chain.states.iter().rev() {
            if state.step > at_most {
                continue;
            }
            match self.read_state(state) {
                Ok(bytes) => return Some((state.step, bytes)),
                // It was thinned out meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => {
                    let path = &state.file.path;
                    tracing::warn!("checkpoint {} is damaged and was removed", path.display());
                    let _ = self.layout().remove(path);
                }
            }
        }
        None
    }

    /// The bytes of a state, which are checked before they are all in memory.
    fn read_state(&self, state: &State) -> io::Result<Vec<u8>> {
        let open = || self.layout().open(&state.file.path);
        if state.file.seen.bytes > LONGEST_STATE {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let (found, length) = Digest::of_reader(open()?)?;
        if found != state.digest {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        open()?.take(length).read_to_end(&mut bytes)?;
        if Digest::of_bytes(&bytes) == state.digest {
            Ok(bytes)
        } else {
            Err(io::ErrorKind::InvalidData.into())
        }
    }

    /// Keeps a checkpoint for the stage of this key, and says which step was its best so far; older ones are thinned out. It is not
    /// flushed: one that a power failure tears is recognised by its digest.
    pub fn save_checkpoint(
        &self,
        key: &Key,
        chain: &Digest,
        step: u64,
        bytes: &[u8],
        best: Option<u64>,
    ) -> Result<(), CacheError> {
        let (layout, folder) = (self.layout(), self.layout().chain(chain));
        let digest = Digest::of_bytes(bytes);
        let path = folder.join(format!("{step:08}-{digest}.safetensors"));
        if !layout.holds(&path) {
            let (aside, _) = write_aside(layout, bytes)?;
            rename_into(layout, &aside, &path)?;
        }
        let note = Note { last: step, best };
        replace(layout, &folder.join(format!("{key}.json")), &seal(&note))?;
        // Older states go only now, when the new one and its note are there.
        let chain = Chain::open(layout, &folder)?;
        let kept = chain.kept_at(step);
        for state in &chain.states {
            let is_superseded = state.step == step && state.digest != digest;
            if is_superseded || !kept.contains(&state.step) {
                layout.remove(&state.file.path)?;
            }
        }
        Ok(())
    }

    /// A stage has come to the end of a chain: of the states in it there stay the last and the best of every stage.
    pub fn end_checkpoints(&self, chain: &Digest) -> Result<(), CacheError> {
        let chain = Chain::open(self.layout(), &self.layout().chain(chain))?;
        let kept = chain.kept_after();
        for state in &chain.states {
            if !kept.contains(&state.step) {
                self.layout().remove(&state.file.path)?;
            }
        }
        Ok(())
    }

    /// Forgets a chain of checkpoints.
    pub fn forget_checkpoints(&self, chain: &Digest) -> Result<(), CacheError> {
        self.layout().remove(&self.layout().chain(chain))
    }

    /// The folders of all chains.
    pub(super) fn chains(&self) -> Result<Vec<PathBuf>, CacheError> {
        let mut chains = Vec::new();
        for shard in self.layout().entries(&self.layout().checkpoints())? {
            if shard.seen.kind == Kind::Folder {
                let mut found = self.layout().entries(&shard.path)?;
                found.retain(|found| found.seen.kind == Kind::Folder);
                chains.extend(found.into_iter().map(|found| found.path));
            }
        }
        Ok(chains)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const KEY: Key = Key(Digest([7; 32]));

    fn steps(store: &Store, chain: &Digest) -> Vec<u64> {
        let chain = Chain::open(store.layout(), &store.layout().chain(chain)).unwrap();
        chain.states.iter().map(|state| state.step).collect()
    }

    fn save(store: &Store, key: &Key, chain: &Digest, step: u64, best: Option<u64>) {
        store
            .save_checkpoint(key, chain, step, format!("state {step}").as_bytes(), best)
            .unwrap();
    }

    #[test]
    fn the_newest_intact_one_within_reach_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path());
        let chain = Digest([9; 32]);
        assert_eq!(store.load_checkpoint(&chain, 9), None);
        for step in 4..=6 {
            save(&store, &KEY, &chain, step, Some(4));
        }
        assert_eq!(steps(&store, &chain), [4, 5, 6]);
        assert_eq!(
            store.load_checkpoint(&chain, 5).unwrap(),
            (5, b"state 5".to_vec())
        );
        let chained = Chain::open(store.layout(), &store.layout().chain(&chain)).unwrap();
        fs::write(&chained.states[2].file.path, "torn").unwrap();
        assert_eq!(store.load_checkpoint(&chain, 9).unwrap().0, 5);
        store.forget_checkpoints(&chain).unwrap();
        assert_eq!(store.load_checkpoint(&chain, 9), None);
    }

    #[test]
    fn a_chain_gets_thinner_the_further_it_lies_back() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path());
        let chain = Digest([9; 32]);
        for step in 1..=1000 {
            save(&store, &KEY, &chain, step, Some(step.min(77)));
            let kept = steps(&store, &chain);
            assert!(
                kept.contains(&step) && kept.contains(&step.min(77)) && kept.len() <= 9,
                "{step}: {kept:?}"
            );
            assert!(
                step == 1 || kept.contains(&(step - 1)),
                "a torn state costs a step: {kept:?}"
            );
            let recent = kept
                .iter()
                .filter(|kept| **kept < step && step - **kept <= step.div_ceil(2) + 4)
                .count();
            assert!(step < 4 || recent > 0, "{step}: {kept:?}");
        }
        assert_eq!(steps(&store, &chain), [77, 768, 960, 992, 999, 1000]);
        store.end_checkpoints(&chain).unwrap();
        assert_eq!(steps(&store, &chain), [77, 1000]);
    }

    /// Two trainings of different length go the same way: the end of each stays, and neither takes away what the other is at.
    #[test]
    fn stages_that_share_a_chain_keep_their_ends() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path());
        let chain = Digest([9; 32]);
        let other = Key(Digest([8; 32]));
        (1..=30).for_each(|step| save(&store, &KEY, &chain, step, None));
        for step in 1..=7 {
            save(&store, &other, &chain, step, None);
            assert_eq!(store.load_checkpoint(&chain, step).unwrap().0, step);
        }
        let kept = steps(&store, &chain);
        assert!(kept.contains(&7) && kept.contains(&30), "{kept:?}");
        let chained = Chain::open(store.layout(), &store.layout().chain(&chain)).unwrap();
        assert_eq!(chained.kept_after(), BTreeSet::from([7, 30]));
        store
            .save_checkpoint(&KEY, &chain, 30, b"other bits", None)
            .unwrap();
        assert_eq!(
            store.load_checkpoint(&chain, 99).unwrap(),
            (30, b"other bits".to_vec()),
            "the later one counts"
        );
    }
}
