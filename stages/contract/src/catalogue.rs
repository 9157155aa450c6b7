//! What the crates of stages hand to the engine: the kinds, and what else the engine asks of them.

use std::fmt;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde_json::Value;

use crate::artifact::{Direction, Series};
use crate::{Device, StageKind, Trouble};

/// What a machine computes with, as the kernels see it.
pub trait Hardware: Sync {
    /// Checks that tensors can live on a device.
    ///
    /// # Errors
    /// If it cannot be used; the reason is named.
    fn open(&self, device: Device) -> Result<(), Trouble>;

    /// What bit-equality of floating point depends on there, such as `cpu/x86_64/avx512f`.
    ///
    /// # Errors
    /// If the device cannot be used.
    fn class(&self, device: Device) -> Result<String, Trouble>;
}

/// Everything that the engine knows of the stages. `main.rs` hands it over.
pub struct Catalogue {
    /// All stage kinds, in the order of the documentation.
    pub kinds: Vec<StageKind>,
    /// Which way each metric is better, by its name.
    pub directions: fn() -> Vec<(&'static str, Direction)>,
    pub hardware: &'static dyn Hardware,
    /// Reads files as one segment each of the split `test`, with channels of these names.
    pub read_series: fn(&[PathBuf], &[String]) -> Result<Series, Trouble>,
    /// Looks at a table that nobody has described yet.
    pub look: fn(&Path) -> Result<Look, Trouble>,
}

/// What `ingest` has to be told about a file, as it seems.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// The parameters of `ingest`, in the order in which they are best read.
    pub parameters: IndexMap<String, Value>,
    /// Each guess as a phrase.
    pub guesses: Vec<String>,
}

impl fmt::Debug for Catalogue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.kinds.iter().map(|kind| kind.name);
        formatter.debug_list().entries(names).finish()
    }
}

impl Catalogue {
    /// A catalogue of these kinds alone, for a machine without a GPU: for tests of the engine.
    pub fn of(kinds: Vec<StageKind>) -> Self {
        Self {
            kinds,
            directions: Vec::new,
            hardware: &Portable,
            read_series: |_, _| Err(Trouble::new("this catalogue has no readers")),
            look: |_| Err(Trouble::new("this catalogue has no readers")),
        }
    }
}

/// The processor alone, whatever instructions it has.
struct Portable;

impl Hardware for Portable {
    fn open(&self, device: Device) -> Result<(), Trouble> {
        match device {
            Device::Cpu => Ok(()),
            Device::Cuda(_) => Err(Trouble::new("this catalogue knows no GPU")),
        }
    }

    fn class(&self, device: Device) -> Result<String, Trouble> {
        self.open(device)?;
        Ok(format!("cpu/{}/portable", std::env::consts::ARCH))
    }
}
