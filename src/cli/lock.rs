//! `runner lock`, and what `--locked` checks against the lock that it writes.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::arguments::PipelineArguments;
use super::{Error, Exit, Global, shown};
use crate::audit::{Deviation, Lock, PrivateKey, Signed, output_deviations, signature_path};
use crate::cache::{Difference, RunRecord, cannot_be_compared};
use crate::diagnostic::counted;
use crate::project::{Fetch, Session, lock_beside};
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
    let pipeline = arguments.pipeline.pipeline.as_deref();
    let path = match &arguments.output {
        Some(path) => path.clone(),
        None => lock_beside(pipeline),
    };
    if path.extension().is_none_or(|ending| ending != "lock") {
        let message = format!("{} is not a name for a lock", shown(&path));
        return Err(Error::wrong(message).hint("the name of a lock ends with .lock"));
    }
    let lock = session.lock(pipeline, &path)?;
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

/// What `--locked` checks before anything runs. `None` if something that determines the results differs from the lock; the
/// differences are printed.
///
/// # Errors
/// If the lock cannot be read, or its signature is not by the key.
pub(super) fn require(
    global: &Global,
    session: &Session,
    path: &Path,
    public_key: Option<&Path>,
) -> Result<Option<Lock>, Error> {
    let (lock, found) = session.compare_with_lock(path, public_key)?;
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
        let mut differences = found.iter().flat_map(|deviation| &deviation.differences);
        if differences.any(is_of_another_secret) {
            errln!(
                "  hint: values of variables are digested with the secret of a store, and this lock comes from another one; \
                 with the same RUNNER_SECRET_SALT for both, they can be compared"
            );
        }
        let made = made_with(&lock);
        errln!(
            "  hint: the lock was made {made}; after a run, `runner lock PIPELINE` accepts the pipeline as it is now"
        );
    }
    Ok(None)
}

/// The options with which a lock was made.
fn made_with(lock: &Lock) -> String {
    let mut options = Vec::new();
    for (option, values) in [
        ("--profile", lock.profile.as_slice()),
        ("--set", lock.overrides.as_slice()),
        ("--target", lock.targets.as_slice()),
    ] {
        options.extend(values.iter().map(|value| format!("{option} {value}")));
    }
    if options.is_empty() {
        "without --profile and --set".to_owned()
    } else {
        options.join(" ")
    }
}

fn is_of_another_secret(difference: &Difference) -> bool {
    match (&difference.before, &difference.after) {
        (Some(before), Some(after)) => cannot_be_compared(before, after),
        _ => false,
    }
}

/// What `--locked` checks after everything ran: whether the results are those of the lock.
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
        for difference in &deviation.differences {
            errln!("    {difference}");
        }
    }
    if found.len() > SHOWN {
        errln!("  … and {}", counted(found.len() - SHOWN, "more stage"));
    }
}
