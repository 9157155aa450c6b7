//! `runner cache`: what the store holds, and whether it is intact.

use clap::{Args, Subcommand};
use serde_json::json;

use super::progress::ObjectProgress;
use super::{Error, Exit, Global, gc, shown, transfer};
use crate::cache::Store;
use crate::diagnostic::counted;
use crate::ui::{Align, Paint, Table, bytes, out, outln, print_json};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Count objects, actions, runs and bytes
    Stats,
    /// Read everything and set damaged objects aside, so that they are recomputed; exit code 3 if there were any
    Verify,
    /// Remove what no recorded run, lock or sweep needs, and more if you set a limit
    Gc(gc::Arguments),
    /// Send results to the remote: those of a run (by default the latest), of a pipeline, or all
    #[command(after_help = "Examples:\n  \
        runner cache push --remote s3://bucket/prefix              the latest run\n  \
        runner cache push pipelines/quickstart.yaml --dry-run      what a pipeline's results would take\n  \
        runner cache push --all --remote file:///mnt/share/cache   everything\n  \
        runner cache push --all --verify                           replaces what is damaged there, too")]
    Push(transfer::PushArguments),
    /// Fetch results from the remote: those of a run, of a pipeline, or all
    #[command(after_help = "Examples:\n  \
        runner cache pull 250c1f --remote s3://bucket/prefix       a run that was pushed\n  \
        runner cache pull pipelines/quickstart.yaml                what the remote has of a pipeline")]
    Pull(transfer::Arguments),
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    let store = Store::open(&global.store);
    match &arguments.verb {
        Verb::Stats => stats(global, &store),
        Verb::Verify => verify(global, &store),
        Verb::Gc(arguments) => gc::run(global, arguments),
        Verb::Push(arguments) => transfer::push(global, arguments),
        Verb::Pull(arguments) => transfer::pull(global, arguments),
    }
}

fn stats(global: &Global, store: &Store) -> Result<Exit, Error> {
    let stats = store.stats()?;
    if global.json {
        print_json(&json!(stats));
        return Ok(Exit::Done);
    }
    outln!("{}", shown(store.layout().root()));
    let mut table = Table::new(&[
        ("", Align::Left),
        ("count", Align::Right),
        ("size", Align::Right),
    ]);
    for (name, entry) in stats.entries() {
        table.row([name.to_owned(), entry.count.to_string(), bytes(entry.bytes)]);
    }
    out!("{}", table.render());
    Ok(Exit::Done)
}

fn verify(global: &Global, store: &Store) -> Result<Exit, Error> {
    let progress = ObjectProgress::new(global);
    let report = store.verify(&|done, total| progress.at(done, total))?;
    drop(progress);
    if global.json {
        print_json(&json!(report));
    } else {
        let (objects, actions) = (
            counted(report.objects, "object"),
            counted(report.actions, "action"),
        );
        let checked = format!("{objects} ({}), {actions}", bytes(report.bytes));
        if report.damaged.is_empty() {
            outln!("{}: {checked}, all intact", Paint::Good.on("clean"));
        } else {
            outln!(
                "{}: {checked}, {} damaged",
                Paint::Bad.on("damaged"),
                report.damaged.len()
            );
            for damage in &report.damaged {
                let needed = if damage.needed_by.is_empty() {
                    String::new()
                } else {
                    format!(" (made by {})", damage.needed_by.join(", "))
                };
                outln!("  {}: {}{needed}", shown(&damage.path), damage.reason);
            }
            outln!("they are set aside; the next run recomputes their stages");
        }
        if report.orphans > 0 {
            let orphans = counted(report.orphans, "file");
            outln!(
                "{orphans} without an action that needs them; `runner cache gc` removes what no run needs"
            );
        }
    }
    Ok(if report.damaged.is_empty() {
        Exit::Done
    } else {
        Exit::Different
    })
}
