//! `runner audit`: do it all again beside the original, and say whether the same came out.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::audit_report::print;
use super::audit_target::{Places, Target, sample, with_everything_after};
use super::shown;
use super::{Error, Exit, Global, signals};
use crate::audit::{
    Audit, Obstacle, Reexecution, Scope, Tolerances, common_differences, header_differences,
};
use crate::cache::{Layout, Store};
use crate::diagnostic::suggestion;
use crate::project::DeviceChoice;
use crate::project::{BroughtWhen, Choice, Files, Request};
use crate::project::{Fetch, Session, find};
use crate::sweep::session_of;
use crate::ui::{self, Mode, outln, print_json};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner audit latest                             do the latest run again, and compare\n  \
    runner audit run.bundle                         the run in a bundle, with the pipeline in it\n  \
    runner audit pipelines/smd_tvnet.lock           the same from a lock, on a machine that never saw the original\n  \
    runner audit pipelines/smd_tvnet.yaml --twice   tells what is not deterministic from what differs here\n  \
    runner audit latest --tolerance scores.scores=1e-6 --ulps model.model=4\n  \
    runner audit latest --sample 5                  five stages, each on the inputs that it had\n\n\
    Exit codes: 0 everything as good as asked for, 1 a stage failed, 3 something differs.")]
pub(super) struct Arguments {
    /// A run (`latest`, its name, or the start or end of it), a lock, a bundle, or a pipeline, which stands for the lock beside
    /// it, or else for its latest run; a sweep file stands for its latest run
    #[arg(value_name = "RUN|LOCK|BUNDLE|PIPELINE", default_value = "latest")]
    target: String,
    /// Where the pipeline's file is now, if it is not where the record says; instead of the one that a bundle brings
    #[arg(long, value_name = "FILE")]
    pipeline: Option<PathBuf>,
    /// Tolerate an absolute difference, everywhere or in one output; may be repeated
    #[arg(long, value_name = "[STAGE.PORT=]DIFFERENCE")]
    tolerance: Vec<String>,
    /// Tolerate a difference up to a share of the larger magnitude, everywhere or in one output; may be repeated
    #[arg(long, value_name = "[STAGE.PORT=]SHARE")]
    rtol: Vec<String>,
    /// Tolerate up to N representable numbers between two values, everywhere or in one output; may be repeated
    #[arg(long, value_name = "[STAGE.PORT=]N")]
    ulps: Vec<String>,
    /// Execute everything twice: a stage whose two executions disagree is not deterministic
    #[arg(long)]
    twice: bool,
    /// Execute what seems to inherit a difference again on the original inputs, so that it is known and not presumed
    #[arg(long)]
    confirm: bool,
    /// Audit K stages, chosen at random, each on the inputs that it had
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "from")]
    sample: Option<u32>,
    /// Repeats the choice of --sample; printed with the result
    #[arg(long, value_name = "N", requires = "sample")]
    seed: Option<u64>,
    /// Audit this stage and everything after it, on the inputs that they had
    #[arg(long, value_name = "STAGE")]
    from: Option<String>,
    /// Keep what was computed in this folder, which must be new or empty; by default it is temporary
    #[arg(long, value_name = "DIR")]
    shadow: Option<PathBuf>,
    /// Where model stages run: auto (CUDA if it is usable), cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,
    /// Threads to use in all, by default one per processor; never changes a result
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Stages that may run at the same time; by default as many as there are threads
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Never download data
    #[arg(long)]
    offline: bool,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    let store = Store::open(&global.store);
    let scratch = Folder::temporary("runner-audit")?;
    let places = Places {
        store: &store,
        kinds: &global.project.catalogue.kinds,
        scratch: &scratch.path,
    };
    let target = Target::resolve(&places, &arguments.target, arguments.pipeline.as_deref())?;
    let shadow = match &arguments.shadow {
        Some(path) => Folder::named(path)?,
        None => Folder {
            path: scratch.path.join("shadow"),
            is_temporary: false,
        },
    };
    let session = open(global, arguments, &target, &shadow.path)?;
    session.store.leave_untouched();
    let tolerances = tolerances(arguments, &session)?;
    let (scope, seed) = scope(arguments, &session, &target)?;
    signals::install(&session.cancel);
    let options = session.run_options(arguments.jobs, None, true);
    let audit = Audit {
        reexecution: Reexecution {
            graph: &session.graph,
            lock: &target.lock,
            original: &session.store,
            files: &session.files,
            numeric_class: &session.numeric_class,
            environment: |name| std::env::var(name).ok(),
            options: &options,
            cancel: &session.cancel,
        },
        scope,
        tolerances: &tolerances,
        twice: arguments.twice,
        confirm: arguments.confirm,
    };
    // The result is one document; a stream of events would not be.
    let mode = if global.json || global.quiet {
        Mode::Quiet
    } else {
        Mode::Auto
    };
    let mut reporter = ui::reporter(mode, global.verbose);
    let mut report = match audit.run(&shadow.path, reporter.as_mut()) {
        Ok(report) => report,
        Err(Obstacle::Interrupted) => return Ok(Exit::Interrupted),
        Err(Obstacle::Failure(failure)) => return Err(failure.into()),
        Err(Obstacle::NoOriginal(stage)) => {
            let message =
                format!("the output of {stage} is needed as an input, and is not in the store");
            return Err(Error::wrong(message)
                .hint("audit everything, without --sample and --from: that needs no original"));
        }
    };
    drop(reporter);
    let differences = if target.sweep.is_some() {
        common_differences
    } else {
        header_differences
    };
    report.header = differences(
        &target.lock,
        session.spec.seed,
        &session.params().into_iter().collect(),
    );
    if global.json {
        let mut object = json!(report);
        object["target"] = json!(target.name);
        object["pipeline"] = json!(target.lock.pipeline);
        object["pipeline_is_recorded"] = json!(target.pipeline_is_recorded);
        object["runner"] = json!({"then": target.lock.runner, "now": env!("CARGO_PKG_VERSION")});
        object["numeric_class"] = json!(session.numeric_class);
        object["sample_seed"] = json!(seed);
        object["good"] = json!(report.is_good());
        print_json(&object);
    } else {
        print(&report, &target, seed, global.verbose);
        if arguments.shadow.is_some() {
            outln!("what was computed is in {}", shown(&shadow.path));
        }
    }
    Ok(match () {
        () if report.has_failures() => Exit::Failed,
        () if report.is_good() => Exit::Done,
        () => Exit::Different,
    })
}

/// The pipeline as it is now, with what the record says was made of it. Raw files are hashed anew: what the original store
/// remembers of them is not relied on.
fn open(
    global: &Global,
    arguments: &Arguments,
    target: &Target,
    shadow: &Path,
) -> Result<Session, Error> {
    let choice = Choice {
        profile: target.lock.profile.clone(),
        overrides: target.lock.overrides.clone(),
        targets: target.lock.targets.clone(),
        force: Vec::new(),
        device: arguments.device,
        threads: arguments.threads,
        offline: arguments.offline,
    };
    if let Some(path) = target.pipeline.as_deref().filter(|path| !path.is_file()) {
        let message = format!(
            "the pipeline {} of {} is not there",
            path.display(),
            target.name
        );
        return Err(Error::wrong(message).hint("say where it is now with --pipeline FILE"));
    }
    let offline = arguments.offline;
    let request = Request {
        pipeline: target.pipeline.clone(),
        choice,
    };
    let folder = request.folder();
    let store = match &target.store {
        Some(path) => Store::open(path),
        None => global.project.open_store(&folder)?,
    };
    let mut session = match (&target.sweep, &target.pipeline) {
        (Some(part), Some(pipeline)) => {
            session_of(store, &global.project, part, pipeline, &request.choice)?
        }
        _ => Session::open_on(store, &global.project, &request, Fetch::Allowed)?,
    };
    session.files = Files::new(
        &global.project,
        &folder,
        offline,
        &Layout::new(shadow),
        &session.cancel,
    );
    if let Some(brought) = target.brought.clone() {
        session.files = session.files.with_brought(BroughtWhen::First(brought));
    }
    Ok(session)
}

fn scope(
    arguments: &Arguments,
    session: &Session,
    target: &Target,
) -> Result<(Scope, Option<u64>), Error> {
    if let Some(name) = &arguments.from {
        return Ok((
            Scope::Part(with_everything_after(
                &session.graph,
                &find(&session.graph, name)?,
            )),
            None,
        ));
    }
    let Some(count) = arguments.sample else {
        return Ok((Scope::Everything, None));
    };
    let seed = arguments.seed.unwrap_or_else(|| {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        u64::from(since.subsec_nanos())
    });
    Ok((
        Scope::Single(sample(&target.lock, count as usize, seed)),
        Some(seed),
    ))
}

fn tolerances(arguments: &Arguments, session: &Session) -> Result<Tolerances, Error> {
    let mut tolerances = Tolerances::default();
    for text in &arguments.tolerance {
        bound(&mut tolerances, "--tolerance", text, |tolerance, value| {
            tolerance.abs = value
        })?;
    }
    for text in &arguments.rtol {
        bound(&mut tolerances, "--rtol", text, |tolerance, value| {
            tolerance.rel = value
        })?;
    }
    for text in &arguments.ulps {
        bound(&mut tolerances, "--ulps", text, |tolerance, value| {
            tolerance.ulps = value
        })?;
    }
    if let Some((stage, port)) = tolerances.unknown(&session.graph) {
        find(&session.graph, stage)?;
        let outputs: Vec<String> = session
            .graph
            .find(stage)
            .iter()
            .flat_map(|id| {
                session
                    .graph
                    .stage(*id)
                    .outputs
                    .iter()
                    .map(|port| port.name.clone())
            })
            .collect();
        let names: Vec<&str> = outputs.iter().map(String::as_str).collect();
        let message = format!("the stage `{stage}` has no output `{port}`");
        return Err(Error::wrong(message).maybe_hint(suggestion(port, &names)));
    }
    Ok(tolerances)
}

/// Takes in `VALUE` or `STAGE.PORT=VALUE`.
fn bound<T: std::str::FromStr + PartialOrd + Default>(
    tolerances: &mut Tolerances,
    option: &str,
    text: &str,
    set: impl Fn(&mut crate::spec::Tolerance, T),
) -> Result<(), Error> {
    let wrong = || {
        let message = format!("`{option} {text}` is neither a number nor STAGE.PORT=NUMBER");
        Error::wrong(message).hint(format!(
            "for example `{option} 1` or `{option} scores.scores=1`"
        ))
    };
    // Names of instances have dots and equals signs of their own; those of ports do not.
    let (name, value) = text
        .rsplit_once('=')
        .map_or((None, text), |(name, value)| (Some(name), value));
    let value: T = value.trim().parse().map_err(|_| wrong())?;
    // What is no number compares with nothing.
    if value
        .partial_cmp(&T::default())
        .is_none_or(std::cmp::Ordering::is_lt)
    {
        return Err(wrong());
    }
    let tolerance = match name {
        None => &mut tolerances.default,
        Some(name) => {
            let (stage, port) = name.rsplit_once('.').ok_or_else(wrong)?;
            tolerances
                .ports
                .entry((stage.trim().to_owned(), port.trim().to_owned()))
                .or_default()
        }
    };
    set(tolerance, value);
    Ok(())
}

/// A folder of an audit; a temporary one goes with this value.
struct Folder {
    path: PathBuf,
    is_temporary: bool,
}

impl Folder {
    fn temporary(what: &str) -> Result<Self, Error> {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        let name = format!("{what}-{}-{:x}", std::process::id(), since.as_nanos());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).map_err(|error| {
            Error::failed(format!("cannot create {}: {error}", path.display()))
                .hint("choose another folder for temporary files with TMPDIR")
        })?;
        Ok(Self {
            path,
            is_temporary: true,
        })
    }

    /// The folder that the user names, which must be new or empty.
    fn named(folder: &Path) -> Result<Self, Error> {
        let is_empty = match std::fs::read_dir(folder) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        };
        if !is_empty {
            let message = format!("{} is not an empty folder", folder.display());
            return Err(
                Error::wrong(message).hint("an audit uses nothing again: give it a new folder")
            );
        }
        Ok(Self {
            path: folder.to_owned(),
            is_temporary: false,
        })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_temporary {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
