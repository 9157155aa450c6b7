//! What a stage sees of the world besides its inputs and parameters.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::{Doubt, Random, Trouble};
use crate::artifact::Digest;

/// Where tensors live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    Cpu,
    /// The CUDA device with this ordinal.
    Cuda(usize),
}

/// How far a long stage is. The engine turns it into a bar, a line or a JSON event.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// What is counted: `step`, `row`, `image`, `byte`.
    pub unit: Cow<'static, str>,
    pub done: u64,
    pub total: u64,
    /// A short phrase on the phase at hand, such as `epoch 3/10`; may be empty.
    pub phase: String,
    /// Figures worth watching, such as the loss.
    pub figures: Vec<(Cow<'static, str>, f64)>,
}

/// What the engine does for a running stage.
pub trait Host: Sync {
    fn progress(&self, progress: Progress);
    /// A remark for the log of the run.
    fn note(&self, text: &str);
    /// A remark about the data, which is kept with the result: the record of every run that uses it shows it.
    fn finding(&self, text: &str) {
        self.note(text);
    }
    /// Something doubtful, which the run reports as a warning and a strict pipeline refuses.
    fn doubt(&self, _doubt: Doubt) {}
    /// Whether the stage should stop as soon as it can, with [`Trouble::cancelled`].
    fn is_cancelled(&self) -> bool;
    /// The local path of a file that the stage asked for with [`super::FileRequest`], to be read in place. When the
    /// stage has ended, the engine makes sure that the file did not change meanwhile.
    fn file(&self, name: &str) -> Option<PathBuf>;
    /// The files of a requested folder by their paths below it, sorted.
    fn names_below(&self, _folder: &str) -> Vec<String> {
        Vec::new()
    }
    /// Copies a requested file. The copy is what was hashed into the key, whatever becomes of the original.
    fn copy_file(&self, name: &str, target: &Path) -> Result<(), Trouble>;
    /// The value of an environment variable that the stage kind asked for.
    fn environment(&self, name: &str) -> Option<String>;
    /// Where a path leads that a user wrote, such as that of an interpreter. What it holds is in no key.
    fn look_up(&self, _path: &Path) -> Option<PathBuf> {
        None
    }
    /// A folder that all stages of this name share, now and later, such as an environment of packages. Where it is not there,
    /// `make` makes it; it appears only when that is done, and others wait.
    fn shared_folder(
        &self,
        _name: &Digest,
        _make: &mut dyn FnMut(&Path) -> Result<(), Trouble>,
    ) -> Result<PathBuf, Trouble> {
        Err(Trouble::new("this host keeps no folders"))
    }
    /// An empty directory that is removed when the stage ends.
    fn scratch(&self) -> Result<&Path, Trouble>;
    /// The newest checkpoint of a chain whose step is at most `at_most`, with its step.
    fn load_checkpoint(&self, chain: &Digest, at_most: u64) -> Option<(u64, Vec<u8>)>;
    /// Keeps a checkpoint. Same chain, same step, same bytes. The newest one stays, and the one at the step that was the best so
    /// far; of the others some may go.
    fn save_checkpoint(
        &self,
        chain: &Digest,
        step: u64,
        bytes: &[u8],
        best: Option<u64>,
    ) -> Result<(), Trouble>;
    /// Says that the stage has come to the end of a chain: the last checkpoint and the best one stay.
    fn end_checkpoints(&self, _chain: &Digest) {}
    /// Forgets a chain of which nothing is needed any more.
    fn forget_checkpoints(&self, _chain: &Digest) {}
}

/// Everything a stage may use.
pub struct StageContext<'a> {
    pub device: Device,
    /// Rayon threads at hand. Must never change the outputs.
    pub threads: usize,
    /// Bytes of memory that the stage may use, if the pipeline says so.
    pub memory: Option<u64>,
    /// The pipeline's seed; constant for kinds that are not `seeded`.
    pub seed: u64,
    /// The digest of kind, version, numeric class, seed and inputs, without the parameters: with those parameters
    /// that matter to it, a stage derives the chain of its checkpoints from this.
    pub lineage: Digest,
    pub host: &'a dyn Host,
}

impl StageContext<'_> {
    /// A generator for one purpose. Streams of different purposes are independent of each other.
    pub fn random(&self, purpose: &str) -> Random {
        Random::new(self.seed, purpose)
    }

    /// Fails with [`Trouble::cancelled`] when the run was asked to stop. Call it once per batch or so.
    pub fn check_cancelled(&self) -> Result<(), Trouble> {
        if self.host.is_cancelled() {
            Err(Trouble::cancelled())
        } else {
            Ok(())
        }
    }

    /// The path of a requested file, to be read in place.
    ///
    /// # Errors
    /// If the stage did not ask for it.
    pub fn file(&self, name: &str) -> Result<PathBuf, Trouble> {
        self.host
            .file(name)
            .ok_or_else(|| Trouble::not_provided(name))
    }

    /// The files of a requested folder: their paths below it, sorted, and where they are.
    ///
    /// # Errors
    /// None for a folder that the stage asked for.
    pub fn files_below(&self, folder: &str) -> Result<Vec<(String, PathBuf)>, Trouble> {
        let names = self.host.names_below(folder).into_iter();
        names
            .map(|name| {
                self.file(&format!("{folder}/{name}"))
                    .map(|path| (name, path))
            })
            .collect()
    }

    /// Copies a requested file to `target`, which must not exist. The copy holds the bytes that were hashed into the
    /// key.
    ///
    /// # Errors
    /// If the stage did not ask for it, if its content is no longer what was hashed, or if it cannot be copied.
    pub fn copy_file(&self, name: &str, target: &Path) -> Result<(), Trouble> {
        self.host.copy_file(name, target)
    }
}

/// A host that keeps nothing and shows nothing, for tests and benchmarks of single stages.
#[derive(Debug, Default)]
pub struct NullHost {
    /// Files by the name under which a stage asks for them.
    pub files: Vec<(String, PathBuf)>,
}

impl NullHost {
    /// A context on the CPU with this seed.
    pub fn context(&self, seed: u64) -> StageContext<'_> {
        let threads = rayon::current_num_threads();
        StageContext {
            device: Device::Cpu,
            threads,
            memory: None,
            seed,
            lineage: Digest([0; 32]),
            host: self,
        }
    }
}

impl Host for NullHost {
    fn progress(&self, _: Progress) {}

    fn note(&self, _: &str) {}

    fn is_cancelled(&self) -> bool {
        false
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        self.files
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, path)| path.clone())
    }

    fn names_below(&self, folder: &str) -> Vec<String> {
        let below = |(name, _): &(String, PathBuf)| {
            Some(name.strip_prefix(folder)?.strip_prefix('/')?.to_owned())
        };
        let mut names: Vec<String> = self.files.iter().filter_map(below).collect();
        names.sort();
        names
    }

    fn copy_file(&self, name: &str, target: &Path) -> Result<(), Trouble> {
        let path = self.file(name).ok_or_else(|| Trouble::not_provided(name))?;
        Ok(std::fs::copy(path, target).map(drop)?)
    }

    fn environment(&self, _: &str) -> Option<String> {
        None
    }

    fn scratch(&self) -> Result<&Path, Trouble> {
        Err(Trouble::new("this host has no scratch folder"))
    }

    fn load_checkpoint(&self, _: &Digest, _: u64) -> Option<(u64, Vec<u8>)> {
        None
    }

    fn save_checkpoint(&self, _: &Digest, _: u64, _: &[u8], _: Option<u64>) -> Result<(), Trouble> {
        Ok(())
    }
}
