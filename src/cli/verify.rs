//! `runner verify`: are a record and what stands behind it still what was written? Nothing is done again; that is what an
//! audit is for.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::Args;
use contract::TroubleKind;
use contract::artifact::Digest;
use serde_json::json;

use super::lock::signing_key;
use super::shown;
use super::{Error, Exit, Global};
use crate::audit::{
    Lock, Pipeline, Signed, Verification, check_signature, verify_header, verify_lock, verify_run,
};
use crate::cache::{CacheError, RecordSeal, RunId, Store};
use crate::diagnostic::{AsTrouble, counted};
use crate::project::{Choice, Reading, Request, select};
use crate::ui::{Paint, bytes, err, outln, print_json, redraw};

/// Problems that are listed; --json lists all.
const LISTED: usize = 50;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner verify latest                                        record, chain of records, actions, objects\n  \
    runner verify pipelines/smd_tvnet.lock --verify key.pub     a lock and who signed it\n  \
    runner verify latest --sign key.pem                         sign a run's record, once it was found right\n\n\
    A key: openssl genpkey -algorithm ed25519 -out key.pem; openssl pkey -in key.pem -pubout -out key.pub")]
pub(super) struct Arguments {
    /// A run (`latest`, its name, or the start or end of it), or a lock
    #[arg(value_name = "RUN|LOCK", default_value = "latest")]
    target: String,
    /// Also check that it is signed with this ed25519 key (PEM)
    #[arg(long, value_name = "PUBKEY")]
    verify: Option<PathBuf>,
    /// Sign it with this ed25519 key (PEM) if nothing is wrong
    #[arg(long, value_name = "KEYFILE")]
    sign: Option<PathBuf>,
}

/// What is verified, as far as signatures are concerned.
struct Sealed {
    what: Signed,
    name: String,
    path: PathBuf,
    /// `None` for a record without a seal that holds.
    seal: Option<Digest>,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    let key = arguments.sign.as_deref().map(signing_key).transpose()?;
    let store = Store::open(&global.store);
    store.leave_untouched();
    let show = std::io::stderr().is_terminal() && !global.quiet && !global.json;
    let progress = |done: usize, total: usize| {
        if show && (done.is_multiple_of(100) || done == total) {
            redraw(&format!("{done}/{total} objects"));
        }
    };
    let path = Path::new(&arguments.target);
    let (sealed, mut found) = if path
        .extension()
        .is_some_and(|extension| extension == "lock")
    {
        let lock = Lock::read(path)?;
        let seal = Some(lock.seal());
        let sealed = Sealed {
            what: Signed::Lock,
            name: format!("the lock {}", shown(path)),
            path: path.to_owned(),
            seal,
        };
        let mut found = verify_lock(&lock, &store, &progress)?;
        verify_header(&lock, &pipeline_of(global, &lock, path)?, &mut found);
        (sealed, found)
    } else {
        let run = find(&store, &arguments.target)?;
        let seal = match store.record_seal(&run) {
            Ok(RecordSeal::Intact(seal)) => Some(seal),
            _ => None,
        };
        let sealed = Sealed {
            what: Signed::Run,
            name: format!("run {run}"),
            path: store.run_path(&run),
            seal,
        };
        (sealed, verify_run(&store, &run, &progress)?)
    };
    if show && found.objects > 0 {
        err!("\n");
    }
    if let Some(public) = &arguments.verify {
        check_signed(&sealed, public, &mut found)?;
    }
    if key.is_some() && sealed.seal.is_none() {
        found.problem(&sealed.name, "it has no seal that could be signed");
    }
    let good = found.problems.is_empty();
    let mut signature = None;
    if let (Some(key), Some(seal), true) = (key, sealed.seal, good) {
        signature = Some(key.sign(sealed.what, &seal, &sealed.path)?);
    }
    if global.json {
        let mut object = json!(found);
        object["target"] = json!(sealed.name);
        object["seal"] = json!(sealed.seal);
        object["signature"] = json!(signature);
        object["good"] = json!(good);
        print_json(&object);
    } else {
        print(&found, &sealed, arguments);
        if let Some(signature) = &signature {
            outln!("signed in {}", shown(signature));
        }
    }
    Ok(if good { Exit::Done } else { Exit::Different })
}

/// The pipeline that a lock is about, with what the lock says was made of it.
fn pipeline_of(global: &Global, lock: &Lock, path: &Path) -> Result<Pipeline, Error> {
    let file =
        (!lock.file.is_empty()).then(|| path.parent().unwrap_or(Path::new("")).join(&lock.file));
    if let Some(file) = file.as_deref().filter(|file| !file.is_file()) {
        let reason = format!(
            "the pipeline {} is not there, so the lock was not compared with it",
            shown(file)
        );
        return Ok(Pipeline::Absent(reason));
    }
    let name = file
        .as_deref()
        .map_or_else(|| "that is built in".to_owned(), shown);
    let choice = Choice {
        profile: lock.profile.clone(),
        overrides: lock.overrides.clone(),
        targets: lock.targets.clone(),
        ..Choice::default()
    };
    let reading = Reading::of(
        &global.project,
        &Request {
            pipeline: file,
            choice,
        },
    )?;
    let built = reading.built.filter(|_| !reading.diagnostics.has_errors());
    let selected = built.and_then(|(spec, graph)| Some((spec, select(graph, &lock.targets).ok()?)));
    Ok(match selected {
        Some((spec, graph)) => Pipeline::Read(Box::new(spec), graph),
        None => Pipeline::Wrong(format!(
            "the pipeline {name} cannot be read with the profile, the overrides and the targets of the lock; \
             `runner plan` with the same says why"
        )),
    })
}

/// The run that the user means, whatever state its record is in.
fn find(store: &Store, name: &str) -> Result<RunId, Error> {
    match store.find_run(name) {
        Ok(record) if store.layout().holds(&store.run_path(&record.run)) => Ok(record.run),
        Err(error @ CacheError::ManyRuns { .. }) => Err(error.into()),
        // What cannot be read, or lies under another name, is found by that name.
        found => {
            let matches = |run: &&RunId| !name.is_empty() && run.is_called(name);
            let runs = store.runs()?;
            let named = runs
                .iter()
                .rev()
                .filter(|run| store.layout().holds(&store.run_path(run)))
                .find(matches)
                .cloned();
            let read = found.map(|record| record.run);
            named.map_or_else(
                || {
                    Err(read
                        .err()
                        .unwrap_or_else(|| CacheError::NoSuchRun(name.to_owned()))
                        .into())
                },
                Ok,
            )
        }
    }
}

/// A signature that does not hold is a problem like others.
fn check_signed(sealed: &Sealed, public: &Path, found: &mut Verification) -> Result<(), Error> {
    let Some(seal) = &sealed.seal else {
        found.problem(&sealed.name, "it has no seal that could be signed");
        return Ok(());
    };
    match check_signature(sealed.what, seal, &sealed.path, public) {
        Err(error) if error.kind() == TroubleKind::Different => {
            found.problem("signature", error.to_string())
        }
        other => other?,
    }
    Ok(())
}

fn print(found: &Verification, sealed: &Sealed, arguments: &Arguments) {
    let size = bytes(found.bytes);
    let (records, actions) = (
        counted(found.records, "record"),
        counted(found.actions, "action"),
    );
    let checked = format!(
        "{records}, {actions}, {} ({size})",
        counted(found.objects, "object")
    );
    if found.problems.is_empty() {
        let signed = if arguments.verify.is_some() {
            ", and it is signed"
        } else {
            ""
        };
        outln!(
            "{}: {}{signed}; {checked}",
            Paint::Good.on("as written"),
            sealed.name
        );
    } else {
        let problems = counted(found.problems.len(), "problem");
        outln!(
            "{}: {}, {problems}; {checked}",
            Paint::Bad.on("not as written"),
            sealed.name
        );
    }
    for problem in found.problems.iter().take(LISTED) {
        outln!("  {}: {}", Paint::Strong.on(&problem.what), problem.problem);
    }
    if found.problems.len() > LISTED {
        outln!(
            "  … and {} more; --json lists all",
            found.problems.len() - LISTED
        );
    }
    found
        .notes
        .iter()
        .for_each(|note| outln!("{}: {note}", Paint::Quiet.on("note")));
}
