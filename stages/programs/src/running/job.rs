//! The job file, from which a program learns what it is asked: inputs, outputs, parameters, seed, device, threads, memory.
//! `docs/programs.md` describes it. Nothing of it but what is in the key may change an output.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use contract::{Device, StageContext, Trouble};

/// The name of the file, in the folder of the program.
pub(crate) const JOB: &str = "job.json";

/// Raised when the meaning of the file changes.
const PROTOCOL: u32 = 1;

/// What numeric libraries ask for how many threads they may use.
const THREADS: [&str; 6] = [
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "RAYON_NUM_THREADS",
];

/// The content of the file.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Job {
    protocol: u32,
    pub inputs: Map<String, Value>,
    pub outputs: Map<String, Value>,
    pub params: Map<String, Value>,
    seed: u64,
    device: String,
    threads: usize,
    /// Bytes; absent if nothing is declared.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<u64>,
    /// The folder whose content survives interruptions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoints: Option<&'static str>,
    /// What else a kind of stage says.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl Job {
    pub fn new(params: Map<String, Value>, context: &StageContext<'_>) -> Self {
        let device = match context.device {
            Device::Cpu => "cpu",
            // The only one that the program sees.
            Device::Cuda(_) => "cuda:0",
        };
        Self {
            protocol: PROTOCOL,
            inputs: Map::new(),
            outputs: Map::new(),
            params,
            seed: context.seed,
            device: device.to_owned(),
            threads: context.threads,
            memory: context.memory,
            checkpoints: None,
            more: Map::new(),
        }
    }

    /// Writes the file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), Trouble> {
        let failed =
            |error: std::io::Error| Trouble::new("cannot write the job file").because(error);
        let mut text = serde_json::to_vec_pretty(self).map_err(|error| failed(error.into()))?;
        text.push(b'\n');
        std::fs::write(folder.join(JOB), text).map_err(failed)
    }
}

/// Variables that say which hardware a program may use. They are in no key: thread counts and the number of a GPU must
/// change no result.
pub(crate) fn hardware_variables(context: &StageContext<'_>) -> BTreeMap<String, OsString> {
    let mut variables = BTreeMap::new();
    for name in THREADS {
        variables.insert(name.to_owned(), context.threads.to_string().into());
    }
    let visible = match context.device {
        Device::Cpu => String::new(),
        Device::Cuda(ordinal) => visible_device(
            &std::env::var("CUDA_VISIBLE_DEVICES").unwrap_or_default(),
            ordinal,
        ),
    };
    variables.insert("CUDA_VISIBLE_DEVICES".to_owned(), visible.into());
    variables.insert("RUNNER_JOB".to_owned(), JOB.into());
    variables
}

/// How a device is called from outside, which to this process is the one with this number.
fn visible_device(visible: &str, ordinal: usize) -> String {
    let mut listed = visible
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty());
    listed
        .nth(ordinal)
        .map_or_else(|| ordinal.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_keeps_its_name() {
        assert_eq!(visible_device("", 1), "1");
        assert_eq!(visible_device("4, 7", 1), "7");
        assert_eq!(visible_device("GPU-abc", 0), "GPU-abc");
    }
}
