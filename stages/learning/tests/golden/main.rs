//! Parity with published reference programs, tensor by tensor: every case folder below `RUNNER_GOLDEN`
//! (default: `tests/golden` of the repository). Sizes come from the cases; what is tested here is never trained.
//! A case is understood by an adapter: one file, and one line in the table below.

mod anomaly_transformer;
mod case;
mod check;
mod dynonet;
mod kalman;
mod omni_anomaly;
mod omni_vae;
mod resnet50_plot;
mod transformer_recon;
mod tvnet_official;
mod tvnet_recon;
mod tvnet_seed;
mod var;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use contract::artifact::TensorData;
use learning::models::{Batch, DataShape};
use serde_json::Value;

use case::{Case, Report};

/// The table of adapters.
const ADAPTERS: &[Adapter] = &[
    anomaly_transformer::ADAPTER,
    dynonet::ADAPTER,
    kalman::ADAPTER,
    omni_anomaly::ADAPTER,
    omni_vae::ADAPTER,
    resnet50_plot::ADAPTER,
    transformer_recon::ADAPTER,
    tvnet_official::FORECAST,
    tvnet_recon::ADAPTER,
    tvnet_seed::CLASSIFICATION,
    tvnet_seed::FORECAST,
    tvnet_seed::IMPUTATION,
    var::ADAPTER,
];

/// How a reference's case is understood by one of our models.
pub struct Adapter {
    /// `model` in case.json, or the words that it begins with.
    pub case: &'static str,
    /// Our model and its parameters.
    pub choice: fn(&Case) -> (&'static str, Value),
    pub shape: fn(&Case) -> DataShape,
    pub batch: fn(&Case, &Device) -> Batch,
    /// The case's weights under our names; by default the very same.
    pub weights: fn(&Case) -> BTreeMap<String, TensorData>,
    /// The name in our trace of an output of the case; by default the same.
    pub name: fn(&str) -> &str,
    /// The reference's layout of an output, by its name in the case; by default ours.
    pub layout: fn(&str, Tensor) -> candle_core::Result<Tensor>,
    /// Outputs of the case that are not compared as traces.
    pub ignored: &'static [&'static str],
    pub tolerances: Tolerances,
    /// The whole comparison; by default [`check::check`].
    pub check: fn(&Adapter, &Case, &Device, &str) -> Report,
    /// What else is compared after that.
    pub more: fn(&Adapter, &Case, &Device, &mut Report),
}

/// Differences relative to a tensor's largest value.
pub struct Tolerances {
    pub out: f64,
    pub out_train: f64,
    pub loss: f64,
    pub gradient: f64,
}

impl Adapter {
    /// What most adapters have in common; `case`, `choice`, `shape` and `batch` must be given.
    const BASE: Self = Self {
        case: "",
        choice: |case| panic!("{}: the adapter does not say its model", case.name),
        shape: |case| panic!("{}: the adapter does not say its shape", case.name),
        batch: |case, device| Batch::of(case.tensor("in.x", device)),
        weights: |case| case.below("param."),
        name: |name| name,
        layout: |_, tensor| Ok(tensor),
        ignored: &[],
        tolerances: Tolerances {
            out: 1e-5,
            out_train: 3e-5,
            loss: 1e-5,
            gradient: 1e-4,
        },
        check: check::check,
        more: |_, _, _, _| {},
    };
}

impl Adapter {
    fn is_for(&self, model: &str) -> bool {
        model
            .strip_prefix(self.case)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    }
}

fn golden_folder() -> PathBuf {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    std::env::var_os("RUNNER_GOLDEN").map_or(default, PathBuf::from)
}

#[test]
fn every_case_agrees_with_its_reference() {
    let folder = golden_folder();
    let listing =
        std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut cases: Vec<PathBuf> = listing
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    cases.retain(|path| path.join("case.json").is_file());
    cases.sort();
    let (mut checked, mut failures) = (0, String::new());
    for path in &cases {
        let case = Case::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let model = case.description["model"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let Some(adapter) = ADAPTERS.iter().find(|adapter| adapter.is_for(&model)) else {
            eprintln!("SKIPPED {}: there is no model `{model}` here", case.name);
            continue;
        };
        checked += 1;
        for (place, device) in devices() {
            let report = (adapter.check)(adapter, &case, &device, place);
            eprintln!(
                "{} on {place}: {} comparisons, {} failed",
                case.name, report.compared, report.failed
            );
            if report.failed > 0 {
                let _ = write!(failures, "{} on {place}:\n{}", case.name, report.text);
            }
        }
    }
    assert!(
        checked > 0,
        "no case in {} is of a model that is here",
        folder.display()
    );
    assert!(failures.is_empty(), "\n{failures}");
}

/// The CPU, and a GPU where one can be used.
fn devices() -> Vec<(&'static str, Device)> {
    let mut devices = vec![("cpu", Device::Cpu)];
    match numerics::device(contract::Device::Cuda(0)) {
        Ok(device) => devices.push(("cuda", device)),
        Err(error) => eprintln!("SKIPPED cuda: {error}"),
    }
    devices
}

#[test]
fn a_changed_number_is_found() {
    let Ok(mut case) = Case::read(&golden_folder().join("tvnet_recon")) else {
        eprintln!(
            "SKIPPED: {} has no folder tvnet_recon",
            golden_folder().display()
        );
        return;
    };
    for name in [
        "out.recon",
        "grad.reconstruct_conv.weight",
        "after.embed.channel_embed.weight",
    ] {
        let original = case.tensors[name].clone();
        let mut values = original.to_f32().unwrap();
        values[0] += 0.01;
        case.tensors.insert(
            name.to_owned(),
            TensorData::from_f32(&original.shape, &values),
        );
        assert!(
            check::check(&tvnet_recon::ADAPTER, &case, &Device::Cpu, "cpu").failed > 0,
            "{name}"
        );
        case.tensors.insert(name.to_owned(), original);
    }
}
