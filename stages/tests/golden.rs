//! Parity with published reference programs, tensor by tensor: every case folder below `RUNNER_GOLDEN`
//! (default: `tests/golden` of the repository). Sizes come from the cases; what is tested here is never trained.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde_json::{Value, json};
use stages::artifact::TensorData;
use stages::contract::{Choice, Random};
use stages::models::{self, Batch, DataShape, Models, Network};
use stages::nn::optimizer::{Optimizer, Optimizers};
use stages::nn::{Gradients, Mode, to_data};

/// How a reference's case is understood by one of our models.
struct Adapter {
    /// `model` in case.json.
    case: &'static str,
    choice: fn(&Value) -> (&'static str, Value),
    shape: fn(&Value) -> Option<DataShape>,
    /// The reference's layout of a tensor of ours, by its name.
    layout: fn(&str, Tensor) -> candle_core::Result<Tensor>,
    tolerances: Tolerances,
}

/// Differences relative to a tensor's largest value.
struct Tolerances {
    out: f64,
    out_train: f64,
    loss: f64,
    gradient: f64,
}

const ADAPTERS: &[Adapter] = &[Adapter {
    case: "tvnet_recon",
    choice: |case| {
        let sizes = &case["hyperparameters"];
        ("tvnet-recon", json!({"patch": sizes["patch_p"], "blocks": sizes["num_blocks"], "cm": sizes["cm"]}))
    },
    shape: |case| {
        let size = |name: &str| Some(case["hyperparameters"][name].as_u64()? as usize);
        Some(DataShape { length: size("window_len")?, channels: size("in_channels")?, horizon: 0 })
    },
    layout: |name, tensor| match name {
        "recon" | "y" => tensor.transpose(1, 2)?.contiguous(),
        "embed" | "last_block" => {
            // [batch, patches, patch, channels] to [batch, channels, patches, 2, half a patch].
            let (batch, patches, patch, channels) = tensor.dims4()?;
            tensor.permute((0, 3, 1, 2))?.contiguous()?.reshape((batch, channels, patches, 2, patch / 2))
        }
        name if name.starts_with("alpha") => tensor.transpose(1, 2)?.contiguous(),
        _ => Ok(tensor),
    },
    tolerances: Tolerances { out: 1e-5, out_train: 3e-5, loss: 1e-5, gradient: 1e-4 },
}];

/// A case folder in memory.
struct Case {
    name: String,
    description: Value,
    tensors: BTreeMap<String, TensorData>,
}

impl Case {
    fn read(folder: &Path) -> Result<Self, String> {
        let read = |file: &str| std::fs::read(folder.join(file)).map_err(|error| format!("{file}: {error}"));
        let description = serde_json::from_slice(&read("case.json")?).map_err(|error| format!("case.json: {error}"))?;
        let bytes = read("case.safetensors")?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| format!("case.safetensors: {error}"))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.tensors() {
            let element = match view.dtype() {
                Dtype::I64 => stages::artifact::ElementType::I64,
                Dtype::F64 => stages::artifact::ElementType::F64,
                _ => stages::artifact::ElementType::F32,
            };
            tensors.insert(name, TensorData { element, shape: view.shape().to_vec(), bytes: view.data().to_vec() });
        }
        let name = folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Ok(Self { name, description, tensors })
    }

    /// All tensors below a prefix, without it.
    fn below(&self, prefix: &str) -> BTreeMap<String, TensorData> {
        let stripped =
            |(name, tensor): (&String, &TensorData)| Some((name.strip_prefix(prefix)?.to_owned(), tensor.clone()));
        self.tensors.iter().filter_map(stripped).collect()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let tensor = self.tensors.get(name).unwrap_or_else(|| panic!("{}: no tensor {name}", self.name));
        tensor.to_f32().unwrap_or_else(|| panic!("{}: {name} does not hold 32-bit floats", self.name))
    }

    fn number(&self, path: &[&str]) -> Option<f64> {
        path.iter().try_fold(&self.description, |value, key| value.get(key))?.as_f64()
    }
}

/// Collects what differs, so that one run shows everything.
struct Report {
    case: String,
    text: String,
    compared: usize,
    failed: usize,
}

impl Report {
    fn compare(&mut self, name: &str, found: &[f32], expected: &[f32], tolerance: f64) {
        assert_eq!(found.len(), expected.len(), "{}: {name} has another size", self.case);
        let largest = expected.iter().fold(0.0_f64, |largest, value| largest.max(f64::from(value.abs())));
        let apart = distance(found, expected, |_| true);
        self.judge(name, apart / largest.max(f64::MIN_POSITIVE), tolerance);
    }

    fn judge(&mut self, name: &str, difference: f64, tolerance: f64) {
        self.compared += 1;
        if difference.is_nan() || difference > tolerance {
            self.failed += 1;
            let _ = writeln!(self.text, "  {name}: {difference:.3e} where {tolerance:.1e} is allowed");
        }
    }
}

/// The largest distance of two slices over the indices that are asked for; NaN wins.
fn distance(found: &[f32], expected: &[f32], wanted: impl Fn(usize) -> bool) -> f64 {
    let pairs = found.iter().zip(expected).enumerate().filter(|(index, _)| wanted(*index));
    pairs.fold(0.0, |largest: f64, (_, (found, expected))| {
        let apart = (f64::from(*found) - f64::from(*expected)).abs();
        if apart.is_nan() || largest.is_nan() { f64::NAN } else { largest.max(apart) }
    })
}

fn golden_folder() -> PathBuf {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    std::env::var_os("RUNNER_GOLDEN").map_or(default, PathBuf::from)
}

#[test]
fn every_case_agrees_with_its_reference() {
    let folder = golden_folder();
    let listing = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut cases: Vec<PathBuf> = listing.filter_map(|entry| Some(entry.ok()?.path())).collect();
    cases.retain(|path| path.join("case.json").is_file());
    cases.sort();
    let (mut checked, mut failures) = (0, String::new());
    for path in &cases {
        let case = Case::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let model = case.description["model"].as_str().unwrap_or_default().to_owned();
        let Some(adapter) = ADAPTERS.iter().find(|adapter| adapter.case == model) else {
            eprintln!("SKIPPED {}: there is no model `{model}` here", case.name);
            continue;
        };
        checked += 1;
        for (place, device) in devices() {
            let report = check(adapter, &case, &device, place);
            eprintln!("{} on {place}: {} comparisons, {} failed", case.name, report.compared, report.failed);
            if report.failed > 0 {
                let _ = write!(failures, "{} on {place}:\n{}", case.name, report.text);
            }
        }
    }
    assert!(checked > 0, "no case in {} is of a model that is here", folder.display());
    assert!(failures.is_empty(), "\n{failures}");
}

/// The CPU, and a GPU where one can be used.
fn devices() -> Vec<(&'static str, Device)> {
    let mut devices = vec![("cpu", Device::Cpu)];
    match stages::nn::device(stages::contract::Device::Cuda(0)) {
        Ok(device) => devices.push(("cuda", device)),
        Err(error) => eprintln!("SKIPPED cuda: {error}"),
    }
    devices
}

fn check(adapter: &Adapter, case: &Case, device: &Device, place: &str) -> Report {
    let mut report = Report { case: case.name.clone(), text: String::new(), compared: 0, failed: 0 };
    let (name, parameters) = (adapter.choice)(&case.description);
    let choice: Choice<Models> = Choice::new(name, parameters).unwrap_or_else(|error| panic!("{}: {error}", case.name));
    let shape = (adapter.shape)(&case.description).unwrap_or_else(|| panic!("{}: a size is missing", case.name));
    let network = models::build(&choice, shape, device, &mut Random::new(0, "init")).unwrap();
    let weights = case.below("param.");
    let x = &case.tensors["in.x"];
    let x = Tensor::from_vec(case.floats("in.x"), x.shape.as_slice(), device).unwrap();
    let batch = Batch { inputs: x.transpose(1, 2).unwrap().contiguous().unwrap(), targets: None };
    let mut random = Random::new(0, "train");

    network.state().set_data(&weights).unwrap();
    check_outputs(adapter, case, network.as_ref(), &batch, &mut report);
    // The gradients as the trainer takes them, and as automatic differentiation finds them.
    for way in ["trainer", "autodiff"] {
        network.state().set_data(&weights).unwrap();
        let (loss, gradients) = match way {
            "trainer" => network.gradients(&batch, &mut random).unwrap(),
            _ => {
                let loss = network.loss(&batch, Mode::Train, &mut random).unwrap();
                let gradients = Gradients::of(network.state(), &loss.backward().unwrap());
                (f64::from(loss.to_scalar::<f32>().unwrap()), gradients)
            }
        };
        report.compare(&format!("loss ({way})"), &[loss as f32], &case.floats("loss"), adapter.tolerances.loss);
        check_gradients(adapter, case, network.as_ref(), &gradients, way, &mut report);
        check_step(case, network.as_ref(), &gradients, way, &mut report);
    }
    assert!(report.compared > 10, "{} on {place}: hardly anything was compared", case.name);
    report
}

fn check_outputs(adapter: &Adapter, case: &Case, network: &dyn Network, batch: &Batch, report: &mut Report) {
    let traced = |mode| -> BTreeMap<String, Tensor> { network.trace(batch, mode).unwrap().into_iter().collect() };
    let evaluated = traced(Mode::Evaluate);
    let flat = |name: &str, tensor: Tensor| -> Vec<f32> {
        let tensor = (adapter.layout)(name, tensor).unwrap();
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    };
    for name in case.below("out.").keys() {
        let tensor = evaluated.get(name).unwrap_or_else(|| panic!("{}: no output {name}", case.name));
        let (full, tolerance) = (format!("out.{name}"), adapter.tolerances.out);
        report.compare(&full, &flat(name, tensor.clone()), &case.floats(&full), tolerance);
    }
    let scores = network.errors(batch).unwrap().mean((1, 2)).unwrap().to_vec1::<f32>().unwrap();
    report.compare("errors", &scores, &case.floats("out.window_score"), adapter.tolerances.out);
    let trained = traced(Mode::Train);
    let y = flat("y", trained["recon"].clone());
    report.compare("out_train.y", &y, &case.floats("out_train.y"), adapter.tolerances.out_train);
}

/// Gradients that are mathematically zero hold rounding noise in the reference.
fn is_zero_gradient(case: &Case, name: &str) -> bool {
    let listed = case.description["rounding"]["mathematically_zero_gradients"].as_array();
    listed.is_some_and(|names| names.iter().any(|listed| listed == &format!("grad.{name}")))
}

fn check_gradients(
    adapter: &Adapter,
    case: &Case,
    network: &dyn Network,
    gradients: &Gradients,
    way: &str,
    report: &mut Report,
) {
    let expected = case.below("grad.");
    let magnitude = |values: &[f32]| values.iter().fold(0.0_f64, |most, value| most.max(f64::from(value.abs())));
    let largest = expected.values().filter_map(TensorData::to_f32).fold(0.0_f64, |most, g| most.max(magnitude(&g)));
    for ((name, _), gradient) in network.state().parameters().zip(&gradients.0) {
        let Some(expected) = expected.get(name).and_then(TensorData::to_f32) else {
            assert!(gradient.is_none(), "{}: the reference's loss does not reach {name}", case.name);
            continue;
        };
        let gradient = gradient.as_ref().unwrap_or_else(|| panic!("{}: no gradient of {name}", case.name));
        let found: Vec<f32> = gradient.flatten_all().unwrap().to_vec1().unwrap();
        let title = format!("grad.{name} ({way})");
        if is_zero_gradient(case, name) {
            report.judge(&title, magnitude(&found) / largest, 1e-5);
        } else {
            report.compare(&title, &found, &expected, adapter.tolerances.gradient);
        }
    }
}

/// One step of the case's optimiser, and the running statistics that the training pass left.
fn check_step(case: &Case, network: &dyn Network, gradients: &Gradients, way: &str, report: &mut Report) {
    let number = |key: &str| case.number(&["optimizer", key]);
    let rate = number("lr").unwrap();
    let betas = &case.description["optimizer"]["betas"];
    let parameters = json!({
        "lr": rate, "beta1": betas[0], "beta2": betas[1], "epsilon": number("eps"), "weight_decay": number("weight_decay"),
    });
    let choice: Choice<Optimizers> = Choice::new("adam", parameters).unwrap();
    let mut optimizer = Optimizer::new(&choice, network.state()).unwrap();
    optimizer.step(network.state(), gradients, rate).unwrap();

    let ignored = case.number(&["after_decided_by_rounding", "ignore_after_where_abs_grad_below"]).unwrap_or(0.0);
    let after = case.below("after.");
    let floats = |name: &str| after[name].to_f32().unwrap();
    for (name, parameter) in network.state().parameters() {
        let found: Vec<f32> = parameter.flatten_all().unwrap().to_vec1().unwrap();
        let (expected, before) = (floats(name), case.floats(&format!("param.{name}")));
        let gradient = case.tensors.get(&format!("grad.{name}")).and_then(TensorData::to_f32);
        let Some(gradient) = gradient else {
            report.judge(&format!("after.{name} ({way}), untouched"), distance(&found, &before, |_| true), 0.0);
            continue;
        };
        let zero = is_zero_gradient(case, name);
        let decided = |index: usize| !zero && f64::from(gradient[index].abs()) >= ignored;
        let title = format!("after.{name} ({way}), in rates");
        report.judge(&title, distance(&found, &expected, decided) / rate, 0.02);
        let free = |index: usize| !decided(index);
        report.judge(&format!("{title}, undecided"), distance(&found, &before, free) / rate, 2.0);
    }
    for (name, buffer) in network.state().buffers() {
        let found = to_data(buffer).unwrap();
        if name.ends_with("num_batches_tracked") {
            assert_eq!(found, after[name], "{}: {name}", case.name);
        } else {
            report.compare(&format!("after.{name} ({way})"), &found.to_f32().unwrap(), &floats(name), 1e-5);
        }
    }
}

#[test]
fn a_changed_number_is_found() {
    let Ok(mut case) = Case::read(&golden_folder().join("tvnet_recon")) else {
        eprintln!("SKIPPED: {} has no folder tvnet_recon", golden_folder().display());
        return;
    };
    for name in ["out.recon", "grad.reconstruct_conv.weight", "after.embed.channel_embed.weight"] {
        let original = case.tensors[name].clone();
        let mut values = original.to_f32().unwrap();
        values[0] += 0.01;
        case.tensors.insert(name.to_owned(), TensorData::from_f32(&original.shape, &values));
        assert!(check(&ADAPTERS[0], &case, &Device::Cpu, "cpu").failed > 0, "{name}");
        case.tensors.insert(name.to_owned(), original);
    }
}
