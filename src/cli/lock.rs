//! `runner lock`, and what `--locked` asks of the lock it writes.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use contract::artifact::Metric;
use serde_json::json;

use super::arguments::PipelineArguments;
use super::shown;
use super::{Error, Exit, Global};
use crate::audit::{
    Deviation, Lock, PrivateKey, Signed, check_signature, deviations, header_differences,
    output_deviations, signature_path,
};
use crate::cache::{Action, Difference, RunRecord, cannot_be_compared};
use crate::diagnostic::{counted, list};
use crate::engine::{Plan, Reason, Verdict};
use crate::graph::StageId;
use crate::project::{Fetch, Session};
use crate::ui::{Paint, errln, json_line, outln, print_json};

/// Deviating stages that are shown.
const SHOWN: usize = 20;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner lock pipelines/smd_tvnet.yaml                  writes pipelines/smd_tvnet.lock\n  \
    runner run pipelines/smd_tvnet.yaml --locked          runs only if everything still matches\n  \
    runner audit pipelines/smd_tvnet.lock                 computes everything again and compares\n\n\
    The lock is a text file: keep it in version control beside the pipeline.")]
pub(super) struct Arguments {
    #[command(flatten)]
    pipeline: PipelineArguments,
    /// Where to write it; by default beside the pipeline, under its name with the ending .lock
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Sign the lock with this ed25519 key (PEM, as `openssl genpkey -algorithm ed25519` writes it); the signature is written
    /// beside the lock, with the ending .sig
    #[arg(long, value_name = "KEYFILE")]
    sign: Option<PathBuf>,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    let key = arguments.sign.as_deref().map(signing_key).transpose()?;
    let session = Session::open(&global.project, &arguments.pipeline.request(), Fetch::Never)?;
    let plan = session.planner().plan();
    let actions = all_hits(&session, &plan)?;
    let results = crate::project::results_of(&session.graph, &session.store, &actions)?;
    if let Some(lost) = results.lost.first() {
        let name = &session.graph.stage(*lost).name;
        let message = format!("the stored results of {name} are damaged or missing");
        return Err(Error::wrong(message).hint("run the pipeline: what was lost is computed again"));
    }
    let path = arguments
        .output
        .clone()
        .unwrap_or_else(|| beside(arguments.pipeline.pipeline.as_deref()));
    if path.extension().is_none_or(|ending| ending != "lock") {
        let message = format!("{} is not a name for a lock", shown(&path));
        return Err(Error::wrong(message).hint("the name of a lock ends with .lock"));
    }
    let mut lock = header(&session, arguments.pipeline.pipeline.as_deref(), &path);
    let metrics =
        |name: &str| -> Vec<Metric> { results.metrics.get(name).cloned().unwrap_or_default() };
    lock.add_stages(
        &session.graph,
        |id| Some(Action::clone(actions.get(&id)?)),
        metrics,
    );
    let seal = lock.seal();
    let changed = Lock::read(&path).map_or(true, |before| before.seal() != seal);
    lock.write(&path)?;
    let signature = key
        .map(|key| key.sign(Signed::Lock, &seal, &path))
        .transpose()?;
    if global.json {
        print_json(
            &json!({"lock": path, "stages": lock.stages.len(), "seal": seal, "signature": signature}),
        );
        return Ok(Exit::Done);
    }
    outln!(
        "{}: {}, seal {}",
        shown(&path),
        counted(lock.stages.len(), "stage"),
        seal.short()
    );
    match signature {
        Some(signature) => outln!("signed in {}", shown(&signature)),
        None if changed && signature_path(&path).exists() => {
            let name = shown(&signature_path(&path));
            errln!(
                "{}: {name} is of an earlier lock; --sign signs again",
                Paint::Warn.on("warning")
            );
        }
        None => {}
    }
    Ok(Exit::Done)
}

/// A private key from its file; one that others can read is no secret.
pub(super) fn signing_key(path: &Path) -> Result<PrivateKey, Error> {
    let key = PrivateKey::read(path)?;
    if key.is_exposed {
        let name = path.display();
        errln!(
            "{}: others can read {name}; `chmod 600` it",
            Paint::Warn.on("warning")
        );
    }
    Ok(key)
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
    let message = format!(
        "{} of {} stages have no results yet: {some}",
        missing.len(),
        plan.len()
    );
    let failed = session
        .graph
        .order()
        .iter()
        .find_map(|id| match &plan.stage(*id).verdict {
            Verdict::Miss(Reason::Failed(failure)) => {
                Some((&session.graph.stage(*id).name, &failure.run))
            }
            _ => None,
        });
    Err(Error::wrong(message).hint(match failed {
        Some((name, run)) => {
            format!("`{name}` failed in run {run}: mend it, and run the pipeline again")
        }
        None => "a lock says what came out: `runner run` the pipeline first, with the same options"
            .to_owned(),
    }))
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
pub(super) fn beside(pipeline: Option<&Path>) -> PathBuf {
    pipeline
        .unwrap_or(Path::new("quickstart.yaml"))
        .with_extension("lock")
}

/// The path of a file as seen from a folder.
fn relative(folder: &Path, file: &Path) -> String {
    let absolute = |path: &Path| {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        std::fs::canonicalize(path)
            .or_else(|_| std::path::absolute(path))
            .unwrap_or_else(|_| path.to_owned())
    };
    let (folder, file) = (absolute(folder), absolute(file));
    let shared = folder
        .components()
        .zip(file.components())
        .take_while(|(left, right)| left == right)
        .count();
    let up = folder
        .components()
        .skip(shared)
        .map(|_| Component::ParentDir);
    let path: PathBuf = up.chain(file.components().skip(shared)).collect();
    path.display().to_string()
}

/// What `--locked` asks before anything runs.
///
/// `None` if something that determines the results is not what the lock says; it is printed.
///
/// # Errors
/// If the lock cannot be read, or its signature is not by the key.
pub(super) fn require(
    global: &Global,
    session: &Session,
    path: &Path,
    public_key: Option<&Path>,
) -> Result<Option<Lock>, Error> {
    let lock = Lock::read(path)?;
    if let Some(key) = public_key {
        check_signature(Signed::Lock, &lock.seal(), path, key)?;
    }
    let all = session.choice.targets.is_empty();
    let mut found = deviations(&lock, &session.planner(), all)?;
    let differences = header_differences(
        &lock,
        session.spec.seed,
        &session.params().into_iter().collect(),
    );
    if !differences.is_empty() {
        let reason = "its seed or parameters differ".to_owned();
        found.insert(
            0,
            Deviation {
                stage: "the pipeline".to_owned(),
                reason,
                differences,
            },
        );
    }
    if found.is_empty() {
        return Ok(Some(lock));
    }
    report(
        global,
        "nothing ran, because the pipeline differs from its lock",
        path,
        &found,
    );
    if !global.json {
        let mut options: Vec<String> = lock
            .profile
            .iter()
            .map(|profile| format!("--profile {profile}"))
            .collect();
        options.extend(lock.overrides.iter().map(|pair| format!("--set {pair}")));
        options.extend(
            lock.targets
                .iter()
                .map(|target| format!("--target {target}")),
        );
        let told = if options.is_empty() {
            "without --profile and --set".to_owned()
        } else {
            options.join(" ")
        };
        if found
            .iter()
            .flat_map(|deviation| &deviation.differences)
            .any(is_of_another_secret)
        {
            errln!(
                "  hint: values of variables are digested with the secret of a store, and this lock comes from another one; \
                 with the same RUNNER_SECRET_SALT for both, they can be compared"
            );
        }
        errln!(
            "  hint: the lock was made {told}; `runner lock PIPELINE` accepts what is now, after a run"
        );
    }
    Ok(None)
}

fn is_of_another_secret(difference: &Difference) -> bool {
    let values = difference
        .before
        .as_deref()
        .zip(difference.after.as_deref());
    values.is_some_and(|(before, after)| cannot_be_compared(before, after))
}

/// What `--locked` asks after everything ran; says whether the same came out.
pub(super) fn same_came_out(global: &Global, lock: &Lock, path: &Path, record: &RunRecord) -> bool {
    let found = output_deviations(lock, &record.stages, &record.metrics);
    if !found.is_empty() {
        report(
            global,
            "the results of the run differ from its lock",
            path,
            &found,
        );
    }
    found.is_empty()
}

fn report(global: &Global, what: &str, path: &Path, found: &[Deviation]) {
    if global.json {
        json_line(&json!({"event": "locked", "lock": path, "deviations": found}));
        return;
    }
    errln!("{}: {what} {}", Paint::Bad.on("error"), shown(path));
    for deviation in found.iter().take(SHOWN) {
        errln!(
            "  {}: {}",
            Paint::Strong.on(&deviation.stage),
            deviation.reason
        );
        deviation
            .differences
            .iter()
            .for_each(|difference| errln!("    {difference}"));
    }
    if found.len() > SHOWN {
        errln!("  … and {}", counted(found.len() - SHOWN, "more stage"));
    }
}
