//! Locks of pipelines: what there is to lock, and whether a pipeline still is what its lock says.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::{Error, Session, headline, results_of};
use crate::audit::{Deviation, Lock, Signed, check_signature, deviations, header_differences};
use crate::cache::Action;
use crate::diagnostic::list;
use crate::engine::{Plan, Reason, Verdict};
use crate::graph::StageId;

impl Session {
    /// The lock of this pipeline, to be written to `path`. `pipeline` is the pipeline's file.
    ///
    /// # Errors
    /// If a stage has no results yet, cannot have any (a raw file is missing), or they are damaged.
    pub fn lock(&self, pipeline: Option<&Path>, path: &Path) -> Result<Lock, Error> {
        let plan = self.planner().plan();
        let actions = all_hits(self, &plan)?;
        let results = results_of(&self.graph, &self.store, &actions)?;
        if let Some(lost) = results.lost.first() {
            let name = &self.graph.stage(*lost).name;
            let message = format!("the stored results of {name} are damaged or missing");
            let hint = "run the pipeline: what was lost is computed again";
            return Err(Error::wrong(message).hint(hint));
        }
        let mut lock = header(self, pipeline, path);
        lock.add_stages(
            &self.graph,
            |id| Some(Action::clone(actions.get(&id)?)),
            |name| results.metrics.get(name).cloned().unwrap_or_default(),
        );
        Ok(lock)
    }

    /// Reads a lock, and says where this pipeline differs from it. It must be signed with the key, if one is given.
    ///
    /// # Errors
    /// If the lock cannot be read, or its signature is not by the key.
    pub fn compare_with_lock(
        &self,
        path: &Path,
        public_key: Option<&Path>,
    ) -> Result<(Lock, Vec<Deviation>), Error> {
        let lock = Lock::read(path)?;
        if let Some(key) = public_key {
            check_signature(Signed::Lock, &lock.seal(), path, key)?;
        }
        let all = self.choice.targets.is_empty();
        let mut found = deviations(&lock, &self.planner(), all)?;
        let params = self.params().into_iter().collect();
        let differences = header_differences(&lock, self.spec.seed, &params);
        if !differences.is_empty() {
            let header = Deviation {
                stage: "the pipeline".to_owned(),
                reason: "its seed or parameters differ".to_owned(),
                differences,
            };
            found.insert(0, header);
        }
        Ok((lock, found))
    }
}

/// The action of every stage with its manifest; there is nothing to lock unless all are there.
fn all_hits(session: &Session, plan: &Plan) -> Result<BTreeMap<StageId, Arc<Action>>, Error> {
    let (mut actions, mut missing) = (BTreeMap::new(), Vec::new());
    for &id in session.graph.order() {
        let stage = plan.stage(id);
        match (stage.hit(), &stage.manifest) {
            (Some(action), Some(manifest)) => {
                let action = Action {
                    manifest: manifest.to_text(),
                    ..Action::clone(action)
                };
                actions.insert(id, Arc::new(action));
            }
            _ => missing.push(session.graph.stage(id).name.as_str()),
        }
    }
    if missing.is_empty() {
        return Ok(actions);
    }
    let some = list(&missing[..missing.len().min(5)]);
    let count = (missing.len(), plan.len());
    let message = format!(
        "{} of {} stages have no results yet: {some}",
        count.0, count.1
    );
    for id in session.graph.order() {
        let name = &session.graph.stage(*id).name;
        match &plan.stage(*id).verdict {
            // To run the pipeline would not help: the stage cannot even be looked up.
            Verdict::Broken(trouble) => {
                let reason = headline(trouble);
                return Err(Error::wrong(format!("`{name}` cannot be locked: {reason}"))
                    .because(trouble.causes().to_vec())
                    .maybe_hint(trouble.hint_text().map(str::to_owned)));
            }
            Verdict::Miss(Reason::Failed(failure)) => {
                let run = &failure.run;
                let hint =
                    format!("`{name}` failed in run {run}: mend it, and run the pipeline again");
                return Err(Error::wrong(message).hint(hint));
            }
            _ => {}
        }
    }
    let hint = "a lock says what came out: `runner run` the pipeline first, with the same options";
    Err(Error::wrong(message).hint(hint))
}

fn header(session: &Session, pipeline: Option<&Path>, lock: &Path) -> Lock {
    Lock {
        runner: env!("CARGO_PKG_VERSION").to_owned(),
        pipeline: session.spec.name.value.clone(),
        file: pipeline
            .map(|pipeline| relative(lock.parent().unwrap_or(Path::new("")), pipeline))
            .unwrap_or_default(),
        profile: session.spec.profile.clone(),
        overrides: session.choice.overrides.clone(),
        targets: session.choice.targets.clone(),
        seed: Some(session.spec.seed),
        params: session.params().into_iter().collect(),
        stages: BTreeMap::new(),
    }
}

/// The lock of a pipeline lies beside it; that of the built-in one in the current folder.
pub fn lock_beside(pipeline: Option<&Path>) -> PathBuf {
    pipeline
        .unwrap_or(Path::new("quickstart.yaml"))
        .with_extension("lock")
}

/// The path of a file as seen from a folder.
fn relative(folder: &Path, file: &Path) -> String {
    let (folder, file) = (absolute(folder), absolute(file));
    let (mut from, mut to) = (folder.components().peekable(), file.components().peekable());
    while from.peek().is_some() && from.peek() == to.peek() {
        from.next();
        to.next();
    }
    let mut path = PathBuf::new();
    for _ in from {
        path.push(Component::ParentDir);
    }
    path.extend(to);
    path.display().to_string()
}

/// The path from the root, of a file that need not exist yet.
fn absolute(path: &Path) -> PathBuf {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    std::fs::canonicalize(path)
        .or_else(|_| std::path::absolute(path))
        .unwrap_or_else(|_| path.to_owned())
}
