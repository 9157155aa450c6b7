//! `runner doctor`: whether this machine is ready, and if not, why.

use clap::Args;
use contract::{Device, Hardware};
use serde::Serialize;
use serde_json::json;

use super::{Error, Exit, Global, data};
use crate::cache::Store;
use crate::diagnostic::AsTrouble;
use crate::engine::environment;
use crate::ui::{Paint, outln, print_json};

/// One finding.
#[derive(Serialize)]
struct Check {
    name: &'static str,
    /// `None` where it is not a fault but worth knowing.
    good: Option<bool>,
    text: String,
    hint: Option<String>,
}

/// It has none.
#[derive(Debug, Args)]
pub(super) struct Arguments {}

pub(super) fn run(global: &Global, _: &Arguments) -> Result<Exit, Error> {
    let hardware = global.project.catalogue.hardware;
    let mut checks = vec![machine(hardware), cuda(hardware), store(global)];
    checks.extend(datasets());
    let bad = checks.iter().any(|check| check.good == Some(false));
    if global.json {
        print_json(&json!({"checks": checks}));
    } else {
        for check in &checks {
            let mark = match check.good {
                Some(true) => Paint::Good.on("good"),
                Some(false) => Paint::Bad.on("bad "),
                None => Paint::Warn.on("note"),
            };
            outln!("{mark} {}: {}", Paint::Strong.on(check.name), check.text);
            if let Some(hint) = &check.hint {
                outln!("     {}: {hint}", Paint::Quiet.on("hint"));
            }
        }
    }
    Ok(if bad { Exit::Failed } else { Exit::Done })
}

fn machine(hardware: &dyn Hardware) -> Check {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let class = numeric_class(hardware, Device::Cpu);
    let text = format!(
        "runner {}, {}, {threads} threads, hardware class {class}",
        env!("CARGO_PKG_VERSION"),
        environment::processor()
    );
    Check {
        name: "machine",
        good: Some(true),
        text,
        hint: None,
    }
}

fn numeric_class(hardware: &dyn Hardware, device: Device) -> String {
    hardware
        .class(device)
        .unwrap_or_else(|error| format!("unknown: {error}"))
}

fn cuda(hardware: &dyn Hardware) -> Check {
    let (good, text, hint) = match hardware.open(Device::Cuda(0)) {
        Ok(()) => {
            let class = numeric_class(hardware, Device::Cuda(0));
            (Some(true), format!("usable, hardware class {class}"), None)
        }
        Err(error) => {
            let text = format!("not usable, models run on the CPU: {error}");
            (None, text, error.hint_text().map(str::to_owned))
        }
    };
    Check {
        name: "cuda",
        good,
        text,
        hint,
    }
}

fn store(global: &Global) -> Check {
    let store = Store::open(&global.store);
    let path = store.layout().root().display().to_string();
    let (good, text, hint) = match store.prepare() {
        Ok(()) => (true, format!("{path} can be written"), None),
        Err(error) => (false, error.to_string(), error.hint()),
    };
    Check {
        name: "store",
        good: Some(good),
        text,
        hint,
    }
}

fn datasets() -> Vec<Check> {
    const HINT: &str = "set RUNNER_DATA_PATH=DIR, or download it with `runner data get NAME`; `runner data list` has the names";
    let summary = match data::summary() {
        Ok(summary) => summary,
        Err(error) => {
            return vec![Check {
                name: "data",
                good: Some(false),
                text: error.to_string(),
                hint: None,
            }];
        }
    };
    let mut checks = Vec::with_capacity(summary.len());
    for (title, present, total) in summary {
        checks.push(Check {
            name: "data",
            good: (present == total).then_some(true),
            text: format!("{title}: {present} of {total} files here"),
            hint: (present == 0).then(|| HINT.to_owned()),
        });
    }
    checks
}
