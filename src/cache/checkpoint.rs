//! Checkpoints: states of a long stage on its way, in chains. A chain is named by what determines its course, a
//! checkpoint by its step; so an interrupted run goes on, and a longer one starts from a shorter one's end.

use std::fs;
use std::path::PathBuf;

use stages::artifact::Digest;

use super::object::{rename_into, write_aside};
use super::{CacheError, Store};

impl Store {
    /// The newest intact checkpoint of a chain at or before a step, with its step.
    pub fn load_checkpoint(&self, chain: &Digest, at_most: u64) -> Option<(u64, Vec<u8>)> {
        let mut steps: Vec<(u64, Digest, PathBuf)> = fs::read_dir(self.layout().chain(chain))
            .ok()?
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                let (step, digest) = path.file_stem()?.to_str()?.split_once('-')?;
                Some((step.parse().ok()?, digest.parse().ok()?, path))
            })
            .filter(|(step, ..)| *step <= at_most)
            .collect();
        steps.sort();
        steps.into_iter().rev().find_map(|(step, digest, path)| {
            let bytes = fs::read(&path).ok()?;
            if Digest::of_bytes(&bytes) == digest {
                return Some((step, bytes));
            }
            tracing::warn!("checkpoint {} is damaged and was removed", path.display());
            let _ = fs::remove_file(&path);
            None
        })
    }

    /// Keeps a checkpoint. It is not flushed: one that a power failure tears is recognised by its digest.
    pub fn save_checkpoint(&self, chain: &Digest, step: u64, bytes: &[u8]) -> Result<(), CacheError> {
        let name = format!("{step:08}-{}.safetensors", Digest::of_bytes(bytes));
        let path = self.layout().chain(chain).join(name);
        if path.exists() {
            return Ok(());
        }
        let (aside, _) = write_aside(self.layout(), bytes)?;
        rename_into(&aside, &path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_intact_one_within_reach_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path());
        let chain = Digest([9; 32]);
        assert_eq!(store.load_checkpoint(&chain, 9), None);
        for step in 1..=3 {
            store.save_checkpoint(&chain, step, format!("state {step}").as_bytes()).unwrap();
        }
        assert_eq!(store.load_checkpoint(&chain, 2).unwrap(), (2, b"state 2".to_vec()));
        let newest = fs::read_dir(store.layout().chain(&chain)).unwrap().map(|entry| entry.unwrap().path()).max();
        fs::write(newest.unwrap(), "torn").unwrap();
        assert_eq!(store.load_checkpoint(&chain, 9).unwrap().0, 2);
    }
}
