//! `runner verify`: are a record and what stands behind it still what was written?

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::lock::signing_key;
use super::progress::ObjectProgress;
use super::{Error, Exit, Global, shown};
use crate::diagnostic::counted;
use crate::project::{Verified, VerifyOrder};
use crate::ui::{Paint, bytes, outln, print_json};

/// Problems that are listed; --json lists all.
const LISTED: usize = 50;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner verify latest                                        record, chain of records, actions, objects\n  \
    runner verify pipelines/smd_tvnet.lock --verify key.pub     a lock and who signed it\n  \
    runner verify latest --sign key.pem                         sign a run's record if it is found intact\n\n\
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

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    let order = VerifyOrder {
        target: arguments.target.clone(),
        public_key: arguments.verify.clone(),
        sign: arguments.sign.as_deref().map(signing_key).transpose()?,
    };
    let progress = ObjectProgress::new(global);
    let verified = global
        .project
        .verify(&order, &|done, total| progress.at(done, total))?;
    drop(progress);
    let good = verified.is_good();
    if global.json {
        let mut object = json!(verified.found);
        object["target"] = json!(verified.name);
        object["seal"] = json!(verified.seal);
        object["signature"] = json!(verified.signature);
        object["good"] = json!(good);
        print_json(&object);
    } else {
        print(&verified, arguments);
    }
    Ok(if good { Exit::Done } else { Exit::Different })
}

fn print(verified: &Verified, arguments: &Arguments) {
    let Verified { found, name, .. } = verified;
    let checked = format!(
        "{}, {}, {} ({})",
        counted(found.records, "record"),
        counted(found.actions, "action"),
        counted(found.objects, "object"),
        bytes(found.bytes)
    );
    if verified.is_good() {
        let signed = if arguments.verify.is_some() {
            ", and it is signed"
        } else {
            ""
        };
        outln!(
            "{}: {name}{signed}; {checked}",
            Paint::Good.on("as written")
        );
    } else {
        let problems = counted(found.problems.len(), "problem");
        outln!(
            "{}: {name}, {problems}; {checked}",
            Paint::Bad.on("not as written")
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
    for note in &found.notes {
        outln!("{}: {note}", Paint::Quiet.on("note"));
    }
    if let Some(signature) = &verified.signature {
        outln!("signed in {}", shown(signature));
    }
}
