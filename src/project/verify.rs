//! Are a record and what stands behind it still what was written? Nothing is executed; that is what an audit is for.

use std::path::{Path, PathBuf};

use contract::TroubleKind;
use contract::artifact::Digest;

use super::{Choice, Error, Project, Reading, Request, select};
use crate::audit::{
    Lock, Pipeline, PrivateKey, Signed, Verification, check_signature, verify_header, verify_lock,
    verify_run,
};
use crate::cache::{CacheError, RecordSeal, RunId, Store};
use crate::diagnostic::{AsTrouble, shown_path as shown};

/// What is to be verified.
pub struct VerifyOrder {
    /// A run, or the path of a lock.
    pub target: String,
    /// It must be signed with this key.
    pub public_key: Option<PathBuf>,
    /// Signs it if nothing is wrong.
    pub sign: Option<PrivateKey>,
}

/// What a verification found, and about what.
pub struct Verified {
    /// For people: `run 2026…`, or the path of a lock.
    pub name: String,
    /// `None` for a record without a seal that holds.
    pub seal: Option<Digest>,
    pub found: Verification,
    /// Where the new signature is.
    pub signature: Option<PathBuf>,
}

impl Verified {
    pub fn is_good(&self) -> bool {
        self.found.problems.is_empty()
    }
}

/// Said of a record without a seal, to whoever wants to sign it or to check its signature.
const NO_SEAL: &str = "it has no seal that could be signed";

impl Project {
    /// Checks a run's record or a lock, and its results in the store. `progress` gets the number of objects that were read, and
    /// of all.
    ///
    /// # Errors
    /// If there is no such record, or the store cannot be read. What is not as it was written is not an error: it is found.
    pub fn verify(
        &self,
        order: &VerifyOrder,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Verified, Error> {
        let store = self.local_store();
        store.leave_untouched();
        let path = Path::new(&order.target);
        let (name, what, path, seal, mut found) = if path.extension().is_some_and(|it| it == "lock")
        {
            let lock = Lock::read(path)?;
            let mut found = verify_lock(&lock, &store, progress)?;
            verify_header(&lock, &self.pipeline_of(&lock, path)?, &mut found);
            let name = format!("the lock {}", shown(path));
            (
                name,
                Signed::Lock,
                path.to_owned(),
                Some(lock.seal()),
                found,
            )
        } else {
            let run = find(&store, &order.target)?;
            let seal = match store.record_seal(&run) {
                Ok(RecordSeal::Intact(seal)) => Some(seal),
                _ => None,
            };
            let found = verify_run(&store, &run, progress)?;
            (
                format!("run {run}"),
                Signed::Run,
                store.run_path(&run),
                seal,
                found,
            )
        };
        if let Some(public_key) = &order.public_key {
            match &seal {
                None => found.problem(&name, NO_SEAL),
                // A signature that does not hold is a problem like others.
                Some(seal) => match check_signature(what, seal, &path, public_key) {
                    Err(error) if error.kind() == TroubleKind::Different => {
                        found.problem("signature", error.to_string());
                    }
                    other => other?,
                },
            }
        }
        if order.sign.is_some() && seal.is_none() {
            found.problem(&name, NO_SEAL);
        }
        let signature = match (&order.sign, &seal) {
            (Some(key), Some(seal)) if found.problems.is_empty() => {
                Some(key.sign(what, seal, &path)?)
            }
            _ => None,
        };
        Ok(Verified {
            name,
            seal,
            found,
            signature,
        })
    }

    /// The pipeline that a lock is about, with the profile, the overrides and the targets of the lock.
    fn pipeline_of(&self, lock: &Lock, path: &Path) -> Result<Pipeline, Error> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let file = (!lock.file.is_empty()).then(|| folder.join(&lock.file));
        let name = match &file {
            None => "that is built in".to_owned(),
            Some(file) if file.is_file() => shown(file),
            Some(file) => {
                return Ok(Pipeline::Absent(format!(
                    "the pipeline {} is not there, so the lock was not compared with it",
                    shown(file)
                )));
            }
        };
        let request = Request {
            pipeline: file,
            choice: Choice {
                profile: lock.profile.clone(),
                overrides: lock.overrides.clone(),
                targets: lock.targets.clone(),
                ..Choice::default()
            },
        };
        let reading = Reading::of(self, &request)?;
        if let Some((spec, graph)) = reading.built
            && !reading.diagnostics.has_errors()
            && let Ok(graph) = select(graph, &lock.targets)
        {
            return Ok(Pipeline::Read(Box::new(spec), graph));
        }
        Ok(Pipeline::Wrong(format!(
            "the pipeline {name} cannot be read with the profile, the overrides and the targets of the lock; `runner plan` \
             with the same says why"
        )))
    }
}

/// The run that the user means, whatever state its record is in.
fn find(store: &Store, name: &str) -> Result<RunId, Error> {
    let error = match store.find_run(name) {
        Ok(record) if store.layout().holds(&store.run_path(&record.run)) => return Ok(record.run),
        Err(error @ CacheError::ManyRuns { .. }) => return Err(error.into()),
        Err(error) => error,
        Ok(_) => CacheError::NoSuchRun(name.to_owned()),
    };
    // What cannot be read, or lies under another name, is found by that name.
    for run in store.runs()?.into_iter().rev() {
        if !name.is_empty() && run.is_called(name) && store.layout().holds(&store.run_path(&run)) {
            return Ok(run);
        }
    }
    Err(error.into())
}
