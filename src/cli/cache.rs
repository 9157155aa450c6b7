//! `runner cache`: what the store holds, whether it is intact, and what can go.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::session::shown;
use super::{CliError, Exit, Global};
use crate::cache::{GcOptions, Store};
use crate::spec::units;
use crate::ui::{Align, Paint, Table, bytes};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Count objects, actions, runs and bytes
    Stats,
    /// Read everything; set damaged objects aside, so that they are recomputed; exit code 3 if there were any
    Verify,
    /// Remove what no recorded run needs, and more if a limit asks for it
    Gc(GcArguments),
}

#[derive(Debug, Args)]
pub(super) struct GcArguments {
    /// Keep at most this much, such as `20 GiB`; what is cheapest to recompute per byte goes first
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_size: Option<u64>,
    /// Forget runs older than this, such as `30 d`, and what only they need
    #[arg(long, value_name = "AGE", value_parser = age)]
    max_age: Option<Duration>,
    /// Say what would go, remove nothing
    #[arg(long)]
    dry_run: bool,
}

fn size(text: &str) -> Result<u64, String> {
    units::size(text).ok_or_else(|| format!("`{text}` is no size; write for example `20 GiB`"))
}

fn age(text: &str) -> Result<Duration, String> {
    units::duration(text).ok_or_else(|| format!("`{text}` is no duration; write for example `30 d`"))
}

pub(super) fn run(global: &Global, verb: &Verb) -> Result<Exit, CliError> {
    let store = Store::open(&global.store);
    match verb {
        Verb::Stats => stats(global, &store),
        Verb::Verify => verify(global, &store),
        Verb::Gc(arguments) => gc(global, &store, arguments),
    }
}

fn stats(global: &Global, store: &Store) -> Result<Exit, CliError> {
    let stats = store.stats()?;
    if global.json {
        println!("{}", json!(stats));
        return Ok(Exit::Done);
    }
    println!("{}", shown(store.layout().root()));
    let mut table = Table::new(&[("", Align::Left), ("count", Align::Right), ("size", Align::Right)]);
    for (name, entry) in stats.entries() {
        table.row([name.to_owned(), entry.count.to_string(), bytes(entry.bytes)]);
    }
    anstream::print!("{}", table.render());
    Ok(Exit::Done)
}

fn verify(global: &Global, store: &Store) -> Result<Exit, CliError> {
    let show = std::io::stderr().is_terminal() && !global.quiet && !global.json;
    let progress = |done: usize, total: usize| {
        if show && (done.is_multiple_of(100) || done == total) {
            let _ = write!(std::io::stderr(), "\r{done}/{total} objects");
        }
    };
    let report = store.verify(&progress)?;
    if show {
        eprintln!();
    }
    if global.json {
        println!("{}", json!(report));
    } else {
        let checked = format!("{} objects ({}), {} actions", report.objects, bytes(report.bytes), report.actions);
        if report.damaged.is_empty() {
            anstream::println!("{}: {checked}, all intact", Paint::Good.on("clean"));
        } else {
            anstream::println!("{}: {checked}, {} damaged", Paint::Bad.on("damaged"), report.damaged.len());
            for damage in &report.damaged {
                let needed = if damage.needed_by.is_empty() {
                    String::new()
                } else {
                    format!(" (made by {})", damage.needed_by.join(", "))
                };
                println!("  {}: {}{needed}", shown(&damage.path), damage.reason);
            }
            println!("they are set aside; the next run recomputes their stages");
        }
        if report.orphans > 0 {
            println!("{} files belong to no action; `runner cache gc` removes them", report.orphans);
        }
    }
    Ok(if report.damaged.is_empty() { Exit::Done } else { Exit::Different })
}

fn gc(global: &Global, store: &Store, arguments: &GcArguments) -> Result<Exit, CliError> {
    let options = GcOptions { max_bytes: arguments.max_size, max_age: arguments.max_age, dry_run: arguments.dry_run };
    let report = store.gc(&options)?;
    if global.json {
        println!("{}", json!(report));
        return Ok(Exit::Done);
    }
    if arguments.dry_run || global.verbose {
        for removal in &report.removed {
            println!("  {} ({}): {}", shown(&removal.path), bytes(removal.bytes), removal.reason);
        }
    }
    let verb = if arguments.dry_run { "would remove" } else { "removed" };
    let (removed, freed) = (report.removed.len(), bytes(report.freed));
    println!("{verb} {removed} files, {freed}; {} objects, {} stay", report.kept_objects, bytes(report.kept_bytes));
    Ok(Exit::Done)
}
