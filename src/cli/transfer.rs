//! `runner cache push` and `runner cache pull`: results of a run, of a pipeline or of the whole store, to a remote or from it.

use std::io::IsTerminal;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::arguments::ChoiceArguments;
use super::{Error, Exit, Global, signals};
use crate::cache::Progress;
use crate::diagnostic::counted;
use crate::sweep::{TransferOrder, TransferWhat, Transferred, Way};
use crate::ui::{Paint, bytes, clear_line, duration, errln, outln, print_json, redraw};

/// How often the screen changes.
const TICK: Duration = Duration::from_millis(100);

/// How often a log gets a line.
const LINE: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A run (`latest`, its name, or the start or end of its name), a pipeline file or a sweep file
    #[arg(value_name = "RUN|PIPELINE|SWEEP")]
    what: Option<String>,
    /// Everything that is there
    #[arg(long, conflicts_with = "what")]
    all: bool,
    /// Say what would be copied, and copy nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    choice: ChoiceArguments,
}

#[derive(Debug, Args)]
pub(super) struct PushArguments {
    #[command(flatten)]
    arguments: Arguments,
    /// Read back what is there, and replace what is damaged; without this, only sizes are compared
    #[arg(long)]
    verify: bool,
}

pub(super) fn push(global: &Global, arguments: &PushArguments) -> Result<Exit, Error> {
    run(global, Way::Push, &arguments.arguments, arguments.verify)
}

pub(super) fn pull(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    run(global, Way::Pull, arguments, false)
}

fn run(global: &Global, way: Way, arguments: &Arguments, verify: bool) -> Result<Exit, Error> {
    let what = match &arguments.what {
        Some(name) => TransferWhat::named(name, arguments.choice.choice()),
        None if arguments.all => TransferWhat::All,
        None => TransferWhat::Run("latest".to_owned()),
    };
    let order = TransferOrder {
        way,
        what,
        dry_run: arguments.dry_run,
        verify,
    };
    signals::install(&global.project.cancel);
    let transferred = transfer(global, &order)?;
    let report = &transferred.report;
    Ok(match (report.interrupted, report.failed) {
        (true, _) => Exit::Interrupted,
        (_, 0) => Exit::Done,
        _ => Exit::Failed,
    })
}

/// Copies results, showing how far it is, and says what was copied.
fn transfer(global: &Global, order: &TransferOrder) -> Result<Transferred, Error> {
    let progress = Progress::default();
    let started = Instant::now();
    let transferred = std::thread::scope(|scope| {
        let work = scope.spawn(|| global.project.transfer(order, &progress));
        let mut display = Display::new(global, order.way);
        while !work.is_finished() {
            // Short at first, so that a small copy does not wait for the screen.
            std::thread::park_timeout(TICK.min(Duration::from_millis(20) + started.elapsed()));
            display.show(&progress);
        }
        display.clear();
        work.join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    print(global, order, &transferred, started.elapsed());
    Ok(transferred)
}

fn done(way: Way) -> &'static str {
    match way {
        Way::Push => "sent",
        Way::Pull => "fetched",
    }
}

fn print(global: &Global, order: &TransferOrder, transferred: &Transferred, elapsed: Duration) {
    let Transferred { remote, report } = transferred;
    // Where results come from, and where they go.
    let (from, to) = match order.way {
        Way::Push => ("here", "there"),
        Way::Pull => ("there", "here"),
    };
    if global.json {
        let mut object = json!(report);
        object["remote"] = remote.address().to_string().into();
        object["way"] = format!("{:?}", order.way).to_lowercase().into();
        object["dry_run"] = order.dry_run.into();
        object["seconds"] = elapsed.as_secs_f64().into();
        print_json(&object);
        return;
    }
    let (verb, time) = if order.dry_run {
        (format!("would be {}", done(order.way)), String::new())
    } else {
        let seconds = elapsed.as_secs_f64();
        let rate = bytes((report.bytes as f64 / seconds.max(1e-3)) as u64);
        let time = format!(" in {}, {rate}/s", duration(seconds));
        (done(order.way).to_owned(), time)
    };
    outln!(
        "{} {verb}: {}, {}, {}{time}",
        Paint::Strong.on(remote.address()),
        counted(report.actions, "result"),
        counted(report.objects, "object"),
        bytes(report.bytes)
    );
    if report.actions_present + report.objects_present as usize > 0 {
        outln!(
            "  {to} already: {}, {}, {}",
            counted(report.actions_present, "result"),
            counted(report.objects_present, "object"),
            bytes(report.bytes_present)
        );
    }
    if report.objects_wrong + report.actions_wrong as u64 > 0 {
        let (results, objects) = (
            counted(report.actions_wrong, "result"),
            counted(report.objects_wrong, "object"),
        );
        outln!("  there already, but damaged: {results}, {objects}");
    }
    if report.absent > 0 {
        outln!("  not {from}: {}", counted(report.absent, "result"));
    }
    if report.interrupted {
        outln!(
            "{}: the same command continues where it stopped",
            Paint::Warn.on("interrupted")
        );
    } else if report.failed > 0 {
        errln!(
            "{}: {} could not be copied; the same command continues where it stopped",
            Paint::Bad.on("error"),
            counted(report.failed, "result")
        );
    }
    for reason in &report.reasons {
        errln!("  because: {reason}");
    }
}

/// Shows how far a transfer is, on a terminal or in a log.
struct Display {
    way: Way,
    show: bool,
    terminal: bool,
    started: Instant,
    told: Instant,
    drawn: bool,
}

impl Display {
    fn new(global: &Global, way: Way) -> Self {
        let now = Instant::now();
        let show = !global.quiet && !global.json;
        Self {
            way,
            show,
            terminal: show && std::io::stderr().is_terminal(),
            started: now,
            told: now,
            drawn: false,
        }
    }

    fn show(&mut self, progress: &Progress) {
        let all = progress.all_objects.load(Ordering::Relaxed);
        if !self.show || all == 0 {
            return;
        }
        if self.terminal {
            redraw(&self.text(progress, all));
            self.drawn = true;
        } else if self.told.elapsed() >= LINE {
            self.told = Instant::now();
            errln!("  {}", self.text(progress, all));
        }
    }

    /// `sending 123/10000 objects, 24.1 MiB of 1.9 GiB, 45.0 MiB/s, 41 s left`.
    fn text(&self, progress: &Progress, all: u64) -> String {
        let [objects, done, total] = [&progress.objects, &progress.bytes, &progress.all_bytes]
            .map(|count| count.load(Ordering::Relaxed));
        let rate = done as f64 / self.started.elapsed().as_secs_f64().max(1e-3);
        let doing = match self.way {
            _ if progress.checking.load(Ordering::Relaxed) => "checking",
            Way::Push => "sending",
            Way::Pull => "fetching",
        };
        let mut text = format!(
            "{doing} {objects}/{all} objects, {} of {}",
            bytes(done),
            bytes(total)
        );
        if rate >= 1.0 {
            let left = duration(total.saturating_sub(done) as f64 / rate);
            text.push_str(&format!(", {}/s, {left} left", bytes(rate as u64)));
        }
        text
    }

    fn clear(&self) {
        if self.drawn {
            clear_line();
        }
    }
}
