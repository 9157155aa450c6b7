//! `runner audit`: do it all again beside the original, and say whether the results are the same.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use serde_json::json;

use super::arguments::size_pool;
use super::audit_report::print;
use super::{Error, Exit, Global, shown, signals};
use crate::audit::Tolerances;
use crate::page::write_audit;
use crate::pipeline::Tolerance;
use crate::project::{AuditOrder, AuditPart, DeviceChoice};
use crate::ui::{self, Mode, outln, print_json};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner audit latest                             do the latest run again, and compare\n  \
    runner audit run.bundle                         the run in a bundle, with the pipeline in it\n  \
    runner audit pipelines/smd_tvnet.lock           the same from a lock, on a machine that never saw the original\n  \
    runner audit pipelines/smd_tvnet.yaml --twice   also finds stages that are not deterministic\n  \
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
    /// Execute stages that seem to inherit a difference again on the original inputs, so that it is certain
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
    /// Write the verdict as a page for the browser
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
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
    let (part, seed) = part(arguments);
    let order = AuditOrder {
        target: arguments.target.clone(),
        pipeline: arguments.pipeline.clone(),
        tolerances: tolerances(arguments)?,
        twice: arguments.twice,
        confirm: arguments.confirm,
        part,
        shadow: arguments.shadow.clone(),
        device: arguments.device,
        threads: arguments.threads,
        jobs: arguments.jobs,
        offline: arguments.offline,
    };
    // The result is one document; a stream of events would not be.
    let mode = if global.json || global.quiet {
        Mode::Quiet
    } else {
        Mode::Auto
    };
    if let Some(threads) = arguments.threads {
        size_pool(usize::from(threads));
    }
    signals::install(&global.project.cancel);
    let mut reporter = ui::reporter(mode, global.verbose);
    let audited = global.project.audit(&order, reporter.as_mut());
    drop(reporter);
    let audited = match audited {
        Err(error) if error.kind() == contract::TroubleKind::Interrupted => {
            return Ok(Exit::Interrupted);
        }
        audited => audited?,
    };
    let report = &audited.report;
    if global.json {
        let mut object = json!(report);
        object["target"] = json!(audited.name);
        object["pipeline"] = json!(audited.lock.pipeline);
        object["pipeline_is_recorded"] = json!(audited.pipeline_is_recorded);
        object["runner"] = json!({"then": audited.lock.runner, "now": env!("CARGO_PKG_VERSION")});
        object["numeric_class"] = json!(audited.numeric_class);
        object["sample_seed"] = json!(seed);
        object["good"] = json!(report.is_good());
        print_json(&object);
    } else {
        print(&audited, seed, global.verbose);
        if let Some(shadow) = &arguments.shadow {
            outln!("what was computed is in {}", shown(shadow));
        }
    }
    // What was found is said before anything can go wrong with the page.
    if let Some(path) = &arguments.report {
        // Repeating an audit replaces its page.
        write_audit(&audited, path, true)?;
        if !global.json {
            outln!("the verdict is in {}", shown(path));
        }
    }
    Ok(match () {
        () if report.has_failures() => Exit::Failed,
        () if report.is_good() => Exit::Done,
        () => Exit::Different,
    })
}

/// Which stages are audited, and the seed of a sample.
fn part(arguments: &Arguments) -> (AuditPart, Option<u64>) {
    if let Some(name) = &arguments.from {
        return (AuditPart::From(name.clone()), None);
    }
    let Some(count) = arguments.sample else {
        return (AuditPart::Everything, None);
    };
    let seed = arguments.seed.unwrap_or_else(|| {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        u64::from(since.subsec_nanos())
    });
    let count = count as usize;
    (AuditPart::Sample { count, seed }, Some(seed))
}

fn tolerances(arguments: &Arguments) -> Result<Tolerances, Error> {
    let mut tolerances = Tolerances::default();
    for text in &arguments.tolerance {
        let (tolerance, value) = bound(&mut tolerances, "--tolerance", text)?;
        tolerance.abs = value;
    }
    for text in &arguments.rtol {
        let (tolerance, value) = bound(&mut tolerances, "--rtol", text)?;
        tolerance.rel = value;
    }
    for text in &arguments.ulps {
        let (tolerance, value) = bound(&mut tolerances, "--ulps", text)?;
        tolerance.ulps = value;
    }
    Ok(tolerances)
}

/// The tolerance that `VALUE` or `STAGE.PORT=VALUE` is about, and the value.
fn bound<'a, T: FromStr + PartialOrd + Default>(
    tolerances: &'a mut Tolerances,
    option: &str,
    text: &str,
) -> Result<(&'a mut Tolerance, T), Error> {
    // Names of instances may have dots and equals signs in them; those of ports do not.
    let (name, value) = match text.rsplit_once('=') {
        Some((name, value)) => (name.rsplit_once('.'), value),
        None => (None, text),
    };
    let is_sound = name.is_some() || value == text;
    match value.trim().parse() {
        // What is not a number compares with nothing.
        Ok(value) if is_sound && value >= T::default() => {
            let tolerance = match name {
                None => &mut tolerances.default,
                Some((stage, port)) => {
                    let output = (stage.trim().to_owned(), port.trim().to_owned());
                    tolerances.ports.entry(output).or_default()
                }
            };
            Ok((tolerance, value))
        }
        _ => {
            let message = format!("`{option} {text}` is neither a number nor STAGE.PORT=NUMBER");
            let hint = format!("for example `{option} 1` or `{option} scores.scores=1`");
            Err(Error::wrong(message).hint(hint))
        }
    }
}
