//! `runner doctor`: whether this machine is ready, and if not, why.

use clap::Args;
use contract::{Device, Hardware};
use serde_json::{Value, json};

use super::{Error, Exit, Global, data};
use crate::cache::Store;
use crate::diagnostic::AsTrouble;
use crate::engine::environment;
use crate::ui::{Paint, outln, print_json};

/// One finding.
struct Check {
    name: &'static str,
    /// `None` where it is no fault but worth knowing.
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
        let entry = |check: &Check| -> Value {
            json!({"name": check.name, "good": check.good, "text": check.text, "hint": check.hint})
        };
        print_json(&json!({"checks": checks.iter().map(entry).collect::<Vec<_>>()}));
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
        "runner {}, {}, {threads} threads, numeric class {class}",
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
    match hardware.open(Device::Cuda(0)) {
        Ok(()) => {
            let text = format!(
                "usable, numeric class {}",
                numeric_class(hardware, Device::Cuda(0))
            );
            Check {
                name: "cuda",
                good: Some(true),
                text,
                hint: None,
            }
        }
        Err(error) => {
            let text = format!("not usable, models run on the CPU: {error}");
            Check {
                name: "cuda",
                good: None,
                text,
                hint: error.hint_text().map(str::to_owned),
            }
        }
    }
}

fn store(global: &Global) -> Check {
    let store = Store::open(&global.store);
    let path = store.layout().root().display().to_string();
    match store.prepare() {
        Ok(()) => Check {
            name: "store",
            good: Some(true),
            text: format!("{path} can be written"),
            hint: None,
        },
        Err(error) => Check {
            name: "store",
            good: Some(false),
            text: error.to_string(),
            hint: error.hint(),
        },
    }
}

fn datasets() -> Vec<Check> {
    match data::summary() {
        Err(error) => vec![Check { name: "data", good: Some(false), text: error.to_string(), hint: None }],
        Ok(summary) => summary
            .into_iter()
            .map(|(title, present, total)| {
                let text = format!("{title}: {present} of {total} files here");
                let hint = (present == 0).then(|| "set RUNNER_DATA_PATH=DIR, or download it with `runner data get NAME`; `runner data list` has the names".to_owned());
                Check { name: "data", good: (present == total).then_some(true), text, hint }
            })
            .collect(),
    }
}
