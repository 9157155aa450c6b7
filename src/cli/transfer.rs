//! `runner cache push` and `runner cache pull`: results of a run, of a pipeline or of the whole store, to a remote or from
//! it.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::arguments::ChoiceArguments;
use super::{Error, Exit, Global, signals, sweep};
use crate::cache::{
    CacheError, Key, Progress, PushOptions, Remote, RemoteError, RunRecord, Store, TransferError,
    TransferReport,
};
use crate::diagnostic::counted;
use crate::engine::CancelToken;
use crate::project::{Fetch, Request, Session};
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

/// Which way results go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Push,
    Pull,
}

impl Way {
    fn done(self) -> &'static str {
        match self {
            Self::Push => "sent",
            Self::Pull => "fetched",
        }
    }

    fn doing(self) -> &'static str {
        match self {
            Self::Push => "sending",
            Self::Pull => "fetching",
        }
    }
}

/// What is to be copied.
struct Chosen {
    keys: BTreeSet<Key>,
    /// Its record goes along.
    run: Option<RunRecord>,
    /// The record is here already.
    is_here: bool,
}

impl Chosen {
    fn keys(keys: BTreeSet<Key>) -> Self {
        Self {
            keys,
            run: None,
            is_here: false,
        }
    }
}

pub(super) fn push(global: &Global, arguments: &PushArguments) -> Result<Exit, Error> {
    run(global, Way::Push, &arguments.arguments, arguments.verify)
}

pub(super) fn pull(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    run(global, Way::Pull, arguments, false)
}

fn run(global: &Global, way: Way, arguments: &Arguments, verify: bool) -> Result<Exit, Error> {
    let pipeline = arguments
        .what
        .as_deref()
        .map(Path::new)
        .filter(|path| is_pipeline(path));
    let folder = pipeline.and_then(Path::parent).unwrap_or(Path::new("."));
    let remote = global.project.named_remote(folder)?;
    if way == Way::Push {
        crate::project::Project::refuse_read_only(&remote)?;
    }
    let store = Store::open(&global.store);
    let cancel = CancelToken::default();
    remote.cancel_on(cancel.flag());
    signals::install(&cancel);
    let chosen = match (&arguments.what, pipeline) {
        (_, Some(path)) => Chosen::keys(keys_of_pipeline(global, way, path, arguments, &cancel)?),
        (Some(name), None) => of_run(&store, &remote, way, name)?,
        (None, None) if arguments.all => Chosen::keys(all(&store, &remote, way)?),
        (None, None) => of_run(&store, &remote, way, "latest")?,
    };
    if way == Way::Pull && !arguments.dry_run {
        store.prepare()?;
        // Before anything comes: a collection meanwhile leaves it alone.
        store.note_pull(&chosen.keys)?;
    }
    let options = PushOptions {
        verify,
        dry_run: arguments.dry_run,
    };
    let report = copy(global, &store, &remote, way, &chosen.keys, options)?;
    if let Some(record) = &chosen.run
        && !arguments.dry_run
        && report.is_complete()
    {
        match way {
            Way::Push => remote.push_run(&store, &record.run)?,
            // It takes its place after the runs of this store.
            Way::Pull if !chosen.is_here => store.save_run(record)?,
            Way::Pull => {}
        }
    }
    Ok(match (report.interrupted, report.failed) {
        (true, _) => Exit::Interrupted,
        (_, 0) => Exit::Done,
        _ => Exit::Failed,
    })
}

fn is_pipeline(path: &Path) -> bool {
    let ends = path
        .extension()
        .is_some_and(|ending| ending == "yaml" || ending == "yml");
    ends || path.is_file()
}

fn all(store: &Store, remote: &Remote, way: Way) -> Result<BTreeSet<Key>, Error> {
    match way {
        Way::Push => Ok(store.actions()?.0.iter().map(|action| action.key).collect()),
        Way::Pull => Ok(remote.keys()?),
    }
}

/// What a run stands on. To be fetched, a run need not be known here.
fn of_run(store: &Store, remote: &Remote, way: Way, name: &str) -> Result<Chosen, Error> {
    let there = |name: &str| -> Result<Option<RunRecord>, RemoteError> {
        if way == Way::Pull {
            remote.find_run(name)
        } else {
            Ok(None)
        }
    };
    let (record, is_here) = match store.find_run(name) {
        Ok(record) => (record, true),
        Err(error) => {
            let record = there(name)?.ok_or_else(|| {
                let hint = match way {
                    Way::Push if matches!(error, CacheError::NoRuns(_)) => return Error::from(error),
                    Way::Push => {
                        "`runner runs` lists runs; you can also name a pipeline file, or give --all".to_owned()
                    }
                    Way::Pull => {
                        format!(
                            "it is neither here nor at {}; you can also name a pipeline file, or give --all",
                            remote.address()
                        )
                    }
                };
                Error::from(error).hint(hint)
            })?;
            (record, false)
        }
    };
    let keys = record.stages.iter().filter_map(|stage| stage.key).collect();
    Ok(Chosen {
        keys,
        run: Some(record),
        is_here,
    })
}

/// The keys of a pipeline's stages whose results are here (to send) or there (to fetch).
fn keys_of_pipeline(
    global: &Global,
    way: Way,
    path: &Path,
    arguments: &Arguments,
    cancel: &CancelToken,
) -> Result<BTreeSet<Key>, Error> {
    let pipeline = Request {
        pipeline: Some(PathBuf::from(path)),
        choice: arguments.choice.choice(),
    };
    let store = match way {
        Way::Push => Store::open(&global.store),
        Way::Pull => {
            let remote = global.project.named_remote(&pipeline.folder())?;
            remote.cancel_on(cancel.flag());
            Store::open(&global.store).with_remote(remote)
        }
    };
    if crate::pipeline::is_sweep(path) {
        return sweep::keys_of(store, global, path, &pipeline.choice);
    }
    let session = Session::open_on(store, &global.project, &pipeline, Fetch::Never)?;
    let plan = session.planner().plan();
    let keys = session
        .graph
        .order()
        .iter()
        .filter_map(|id| plan.stage(*id).hit().map(|action| action.key));
    Ok(keys.collect())
}

/// Copies the results of these keys, showing how far it is, and says what came of it.
fn copy(
    global: &Global,
    store: &Store,
    remote: &Remote,
    way: Way,
    keys: &BTreeSet<Key>,
    options: PushOptions,
) -> Result<TransferReport, Error> {
    let progress = Progress::default();
    let started = Instant::now();
    let report = std::thread::scope(|scope| {
        let work = scope.spawn(|| match way {
            Way::Push => remote.push(store, keys, options, &progress),
            Way::Pull => remote.pull(store, keys, options.dry_run, &progress),
        });
        let mut display = Display::new(global, way);
        while !work.is_finished() {
            std::thread::park_timeout(TICK.min(Duration::from_millis(20) + started.elapsed()));
            display.show(&progress);
        }
        display.clear();
        work.join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let report = report.map_err(|error: TransferError| Error::from(error))?;
    tell(
        global,
        remote,
        way,
        &report,
        options.dry_run,
        started.elapsed(),
    );
    Ok(report)
}

fn tell(
    global: &Global,
    remote: &Remote,
    way: Way,
    report: &TransferReport,
    dry_run: bool,
    elapsed: Duration,
) {
    if global.json {
        let mut object = json!(report);
        object["remote"] = remote.address().to_string().into();
        object["way"] = format!("{way:?}").to_lowercase().into();
        object["dry_run"] = dry_run.into();
        object["seconds"] = elapsed.as_secs_f64().into();
        print_json(&object);
        return;
    }
    let (verb, time) = if dry_run {
        (format!("would be {}", way.done()), String::new())
    } else {
        let seconds = elapsed.as_secs_f64();
        let rate = bytes((report.bytes as f64 / seconds.max(1e-3)) as u64);
        (
            way.done().to_owned(),
            format!(" in {}, {rate}/s", duration(seconds)),
        )
    };
    outln!(
        "{} {verb}: {}, {}, {}{time}",
        Paint::Strong.on(remote.address()),
        counted(report.actions, "result"),
        counted(report.objects, "object"),
        bytes(report.bytes)
    );
    if report.actions_present + report.objects_present as usize > 0 {
        let place = if way == Way::Push { "there" } else { "here" };
        outln!(
            "  {place} already: {}, {}, {}",
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
        let place = if way == Way::Push { "here" } else { "there" };
        outln!("  not {place}: {}", counted(report.absent, "result"));
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
    report
        .reasons
        .iter()
        .for_each(|reason| errln!("  because: {reason}"));
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
        let doing = if progress.checking.load(Ordering::Relaxed) {
            "checking"
        } else {
            self.way.doing()
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
