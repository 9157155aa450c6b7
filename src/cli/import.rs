//! `runner import`: takes a bundle of `runner export --bundle` into the store.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::progress::ByteProgress;
use super::{Error, Exit, Global, shown};
use crate::diagnostic::{counted, visible};
use crate::project::{ImportOrder, Imported};
use crate::report::AbsentFile;
use crate::report::bundle::Arrival;
use crate::ui::{Paint, outln, print_json};

/// Raw files that are named one by one.
const MOST_NAMED: usize = 20;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner import run.bundle                         then `runner show`, `runner diff`, `runner audit` know the run\n  \
    runner import run.bundle --dry-run               checks the bundle and says what is new in it\n  \
    runner import run.bundle --extract here          also the pipeline and its lock, so that it can run at once\n\n\
    Every byte is checked before anything is seen in the store. Exit codes: 2 if the file is not a bundle, 3 if it is \
    damaged or was altered; then nothing is imported.")]
pub(super) struct Arguments {
    /// The bundle
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Check it and say what is new, and import nothing
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Also write the pipeline, what it includes, its lock, and files that it names beside it into this folder
    #[arg(long, value_name = "DIR")]
    extract: Option<PathBuf>,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    let order = ImportOrder {
        file: arguments.file.clone(),
        dry_run: arguments.dry_run,
        extract: arguments.extract.clone(),
    };
    let progress = ByteProgress::new(global, "checked");
    let imported = global
        .project
        .import(&order, &|done, total| progress.at(done, total))?;
    drop(progress);
    if global.json {
        print_json(&as_json(arguments, &imported));
        return Ok(Exit::Done);
    }
    print(arguments, &imported.arrival);
    for path in &imported.extracted {
        outln!("{}", shown(path));
    }
    // Without a folder for the pipeline, nothing will run that could need them.
    if arguments.extract.is_some() {
        print_lacking(&imported.lacking);
    }
    Ok(Exit::Done)
}

fn as_json(arguments: &Arguments, imported: &Imported) -> Value {
    let Imported { arrival, .. } = imported;
    let mut lacking = Vec::new();
    for file in &imported.lacking {
        lacking.push(json!({"path": file.path, "data_set": file.data_set}));
    }
    let taken = arrival.taken;
    json!({
        "run": arrival.record.run,
        "pipeline": arrival.record.pipeline,
        "dry_run": arguments.dry_run,
        "objects": arrival.objects,
        "actions": arrival.actions,
        "files": arrival.files,
        "missing_files": lacking,
        "new": {"objects": taken.objects, "actions": taken.actions, "run": taken.run},
        "without_objects": arrival.without_objects,
        "signed": arrival.signed,
        "extracted": imported.extracted,
    })
}

fn print(arguments: &Arguments, arrival: &Arrival) {
    let taken = arrival.taken;
    let verb = if arguments.dry_run {
        "would import"
    } else {
        "imported"
    };
    let run = Paint::Strong.on(&arrival.record.run);
    if taken == crate::cache::Taken::default() {
        outln!(
            "run {run} of {}: all of it was here already",
            arrival.record.pipeline
        );
    } else {
        let record = if taken.run { "the record, " } else { "" };
        outln!(
            "run {run} of {}: {verb} {record}{} of {}, {} of {}",
            arrival.record.pipeline,
            taken.objects,
            counted(arrival.objects, "object"),
            taken.actions,
            counted(arrival.actions, "action")
        );
    }
    if !arrival.without_objects.is_empty() {
        let names = arrival.without_objects.join(", ");
        outln!(
            "{}: the objects of {names} are not in the bundle; a run computes them",
            Paint::Warn.on("note")
        );
    }
    if arrival.files > 0 {
        let files = counted(arrival.files, "raw file");
        outln!(
            "{}: the bundle brought {files}, such as scripts; audits read them",
            Paint::Quiet.on("note")
        );
    }
    if !arrival.signed.is_empty() {
        outln!(
            "{}: its {} came with a signature; `runner verify {} --verify PUBKEY` checks it",
            Paint::Quiet.on("note"),
            arrival.signed.join(" and its "),
            arrival.record.run
        );
    }
}

/// Names raw files that a run of the extracted pipeline may need; those of listed data sets by the data set.
fn print_lacking(lacking: &[AbsentFile]) {
    let note = Paint::Warn.on("note");
    let mut sets: BTreeMap<&str, usize> = BTreeMap::new();
    let mut own = 0;
    for file in lacking {
        if let Some(set) = &file.data_set {
            *sets.entry(set).or_default() += 1;
            continue;
        }
        own += 1;
        if own <= MOST_NAMED {
            outln!(
                "{note}: the bundle lacks the raw file {}",
                visible(&file.path)
            );
        }
    }
    if own > MOST_NAMED {
        outln!("{note}: it lacks {} more", own - MOST_NAMED);
    }
    if own > 0 {
        let hint = Paint::Quiet.on("hint");
        outln!("{hint}: `runner export` with a larger `--files-up-to SIZE` includes them");
    }
    for (set, count) in sets {
        let files = if count == 1 {
            "a raw file".to_owned()
        } else {
            format!("{count} raw files")
        };
        let set = visible(set);
        outln!(
            "{note}: the bundle lacks {files} of the data set {set}; `runner data get {set}` downloads them"
        );
    }
}
