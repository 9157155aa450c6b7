//! The folder of a program whose content survives: a stop, a time limit, a failure that is tried again. It is kept in the
//! store as one archive, under the chain that grows from what determines the stage's outputs.

use std::path::{Path, PathBuf};

use contract::artifact::{Digest, DigestWriter};
use contract::{StageContext, Trouble};

/// The name of the folder.
pub(crate) const CHECKPOINTS: &str = "checkpoints";

/// The folder, and where its content is kept.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    folder: PathBuf,
    chain: Digest,
    step: u64,
}

impl Checkpoints {
    /// Makes the folder, with what an earlier try left in it. `parameters` is what, besides the inputs, says which try.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open(
        folder: &Path,
        parameters: &str,
        context: &StageContext<'_>,
    ) -> Result<Self, Trouble> {
        let folder = folder.join(CHECKPOINTS);
        std::fs::create_dir_all(&folder)?;
        let mut writer = DigestWriter::new("checkpoints of a program");
        writer.digest(&context.lineage);
        writer.text(parameters);
        let chain = writer.finish();
        let mut step = 0;
        if let Some((found, bytes)) = context.host.load_checkpoint(&chain, u64::MAX) {
            step = found;
            let unpacked = tar::Archive::new(bytes.as_slice()).unpack(&folder);
            unpacked.map_err(|error| {
                Trouble::new("the checkpoints of an earlier try cannot be unpacked").because(error)
            })?;
            context
                .host
                .note("continues from the checkpoints of an earlier try");
        }
        Ok(Self {
            folder,
            chain,
            step,
        })
    }

    /// Keeps what lies in the folder now.
    ///
    /// # Errors
    /// If it cannot be kept.
    pub fn keep(&mut self, context: &StageContext<'_>) -> Result<(), Trouble> {
        if std::fs::read_dir(&self.folder)?.next().is_none() {
            return Ok(());
        }
        let mut archive = tar::Builder::new(Vec::new());
        archive.mode(tar::HeaderMode::Deterministic);
        archive.follow_symlinks(false);
        let packed = archive
            .append_dir_all(".", &self.folder)
            .and_then(|()| archive.into_inner());
        let bytes = packed.map_err(|error| {
            Trouble::new("the folder of checkpoints cannot be packed").because(error)
        })?;
        self.step += 1;
        context
            .host
            .save_checkpoint(&self.chain, self.step, &bytes, None)
    }

    /// Nothing of it is needed any more: the stage has its outputs.
    pub fn forget(&self, context: &StageContext<'_>) {
        context.host.forget_checkpoints(&self.chain);
    }
}
