//! The folder of a program whose content survives: a stop, a time limit, a failure that is tried again. It is kept in the
//! store as one archive, under the chain that grows from what determines the stage's outputs.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::report::Report;
use contract::artifact::{Digest, DigestWriter};
use contract::{StageContext, Trouble};

/// The name of the folder.
pub(crate) const CHECKPOINTS: &str = "checkpoints";

/// The folder, and where its content is kept. A stage may have none.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints(Option<Kept>);

#[derive(Debug)]
struct Kept {
    folder: PathBuf,
    chain: Digest,
    step: u64,
}

impl Checkpoints {
    /// Does some work with the folder beside it, if it is wanted. Where the work fails, what lies in the folder is kept;
    /// where it succeeds, nothing of it is needed any more. `parameters` are those of the stage.
    ///
    /// # Errors
    /// If the work fails, or the folder cannot be made or kept.
    pub fn around<T>(
        wanted: bool,
        folder: &Path,
        parameters: &impl Serialize,
        context: &StageContext<'_>,
        work: impl FnOnce(&mut Self) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        if !wanted {
            return work(&mut Self::default());
        }
        let mut kept = Self(Some(Kept::open(folder, parameters, context)?));
        let result = work(&mut kept);
        if let Some(kept) = &mut kept.0 {
            match &result {
                Ok(_) => context.host.forget_checkpoints(&kept.chain),
                Err(_) => kept.keep(context)?,
            }
        }
        result
    }

    /// Keeps what lies in the folder, if a report asks for that.
    ///
    /// # Errors
    /// If it cannot be kept.
    pub fn on_report(
        &mut self,
        report: &Report,
        context: &StageContext<'_>,
    ) -> Result<(), Trouble> {
        match &mut self.0 {
            Some(kept) if report.contains_key("checkpoint") => kept.keep(context),
            _ => Ok(()),
        }
    }
}

impl Kept {
    /// Makes the folder, with what an earlier try left in it.
    fn open(
        folder: &Path,
        parameters: &impl Serialize,
        context: &StageContext<'_>,
    ) -> Result<Self, Trouble> {
        let folder = folder.join(CHECKPOINTS);
        std::fs::create_dir_all(&folder)?;
        let mut writer = DigestWriter::new("checkpoints of a program");
        writer.digest(&context.lineage);
        writer.text(&serde_json::to_string(parameters).unwrap_or_default());
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
    fn keep(&mut self, context: &StageContext<'_>) -> Result<(), Trouble> {
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
}
