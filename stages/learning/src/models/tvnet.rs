//! TVNet (Li, Li and Diao, "TVNet: A Novel Time Series Analysis Method Based on Dynamic Convolution and 3D-Variation", ICLR
//! 2025, arXiv 2503.07674): forecasting, imputation, classification, and detection by reconstruction.
//! The network as published is in `paper`, the authors' program in `official`, the variants of a re-implementation in `seed`.

pub(crate) mod dynamic;
mod embedding;
mod official;
mod paper;
mod seed;
pub(crate) mod tied;

use candle_core::{Tensor, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Architecture, Batch, Built, DataShape, Form, Network, Result, Task, checks, named};
use contract::{Fault, Named, Random, Trouble};
use embedding::Patches;
use numerics::dropout::Dropout;
use numerics::{Mode, State, StateBuilder};
use official::Official;
use paper::Paper;
use seed::{Imputer, Seed};

/// Whose network it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// The paper's, or its authors' program.
    #[default]
    Official,
    /// That of bishesh-droid/TVNet-Anomaly-Detection for the task.
    Seed,
}

contract::parameters! {
    /// TVNet.
    pub struct Tvnet {
        /// `paper`: the published method; `reference`: the program of the variant, with its defects.
        pub form: Form = Form::Paper,
        /// Whose network it is.
        pub variant: Variant = Variant::Official,
        /// Rows of a patch; even, except for the seed's.
        #[schemars(range(min = 1, max = 4096))]
        pub patch: usize = 8,
        /// Rows from one patch to the next; half a patch if left out. The seed's patches do not overlap.
        #[schemars(range(min = 1, max = 4096))]
        pub stride: Option<usize> = None,
        /// Dynamic blocks, one after another.
        #[schemars(range(min = 1, max = 1024))]
        pub blocks: usize = 3,
        /// Inner channels.
        #[schemars(range(min = 1, max = 4096))]
        pub cm: usize = 64,
        /// Share of embedded values that training drops; the seed's have none.
        #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
        pub dropout: f64 = 0.1,
        /// Whether each window is normalised on its own and forecasts and reconstructions scaled back; `form: paper` of the
        /// official variant only.
        pub instance_norm: bool = true,
        /// Rows that the seed's convolutions cover, an odd number.
        #[schemars(range(min = 1, max = 1023))]
        pub kernel: usize = 3,
    }
}

impl Tvnet {
    fn patches(&self) -> Patches {
        Patches {
            length: self.patch,
            stride: self.stride.unwrap_or((self.patch / 2).max(1)),
        }
    }

    fn check_official(&self) -> Result<(), Fault> {
        let Patches { length, stride } = self.patches();
        if length % 2 != 0 {
            let reason = format!("must be even, as a patch has two rows, not {length}");
            return Err(Fault::new("patch", reason));
        }
        if stride > length {
            let reason = format!("must be at most the patch of {length} rows, not {stride}");
            return Err(Fault::new("stride", reason));
        }
        if self.form == Form::Reference && length != 2 * stride {
            let reason = format!("must be half of the patch of {length} rows, not {stride}");
            return Err(Fault::new("stride", reason));
        }
        if self.form == Form::Reference && length < 4 {
            let reason =
                format!("must be at least 4, as its kernel covers three columns, not {length}");
            return Err(Fault::new("patch", reason));
        }
        Ok(())
    }

    /// What `form: reference` of the official variant cannot take.
    fn check_reference(&self, shape: DataShape) -> Result<(), Trouble> {
        let Patches { length, stride } = self.patches();
        let (task, rows) = (shape.task, shape.length);
        if task != Task::Forecast {
            let message = format!("tvnet's authors published a program to forecast, not to {task}");
            return Err(Trouble::new(message).hint("use `form: paper`, or `variant: seed`"));
        }
        if !rows.is_multiple_of(stride) || rows / stride < 3 || rows < length {
            let message = format!(
                "tvnet with `form: reference` takes windows of three or more steps of {stride} rows, not of {rows} rows"
            );
            let hint = "change the windows' `length`, or the model's `patch`";
            return Err(Trouble::new(message).hint(hint));
        }
        Ok(())
    }

    /// What `variant: seed` cannot take.
    fn check_seed(&self, shape: DataShape) -> Result<(), Trouble> {
        let cut = matches!(shape.task, Task::Forecast | Task::Classify);
        if !cut || shape.length >= self.patch {
            return Ok(());
        }
        let (patch, length) = (self.patch, shape.length);
        let message =
            format!("a patch of {patch} rows does not fit into a window of {length} rows");
        Err(Trouble::new(message).hint("use longer windows, or a smaller `patch`"))
    }

    fn body(&self, shape: DataShape, builder: &mut StateBuilder<'_>) -> Result<Box<dyn Body>> {
        Ok(match (self.variant, self.form, shape.task) {
            (Variant::Official, Form::Reference, _) => {
                Box::new(Official::new(builder, shape, self)?)
            }
            (Variant::Official, Form::Paper, _) => Box::new(Paper::new(builder, shape, self)?),
            (Variant::Seed, _, Task::Forecast | Task::Classify) => {
                Box::new(Seed::new(builder, shape, self)?)
            }
            (Variant::Seed, ..) => Box::new(Imputer::new(builder, shape, self)?),
        })
    }
}

impl Named for Tvnet {
    const NAME: &'static str = "tvnet";
    const DOC: &'static str =
        "TVNet: dynamic convolutions over patches, whose kernels depend on what the patches hold";
    const EXAMPLE: &'static str = r#"{"patch": 4, "blocks": 2, "cm": 8, "dropout": 0.0}"#;
}

impl Architecture for Tvnet {
    fn tasks(&self) -> &'static [Task] {
        &[Task::Forecast, Task::Impute, Task::Classify, Task::Detect]
    }

    fn check(&self) -> Result<(), Fault> {
        match self.variant {
            Variant::Official => self.check_official(),
            Variant::Seed => checks::odd("kernel", self.kernel),
        }
    }

    fn citation(&self) -> &'static str {
        "Li, Li, Diao: TVNet: A Novel Time Series Analysis Method Based on Dynamic Convolution and 3D-Variation. ICLR 2025. arXiv:2503.07674"
    }

    fn build(&self, shape: DataShape, builder: &mut StateBuilder<'_>) -> Built {
        match (self.variant, self.form) {
            (Variant::Official, Form::Reference) => self.check_reference(shape)?,
            (Variant::Official, Form::Paper) => {}
            (Variant::Seed, _) => self.check_seed(shape)?,
        }
        let body = self.body(shape, builder)?;
        Ok(Box::new(TvnetNetwork {
            state: builder.finish(),
            shape,
            form: self.form,
            body,
        }))
    }
}

/// How a forward pass is meant.
struct Pass<'a> {
    mode: Mode,
    /// Where a training draws from; nothing is dropped without it.
    random: Option<&'a mut Random>,
}

impl Pass<'_> {
    /// In training, sets a share of the values to 0 and scales the others up.
    fn dropout(&mut self, x: &Tensor, share: f64) -> Result<Tensor> {
        match self.random.as_deref_mut() {
            Some(random) => Dropout::draw(share, self.mode, random).forward(x),
            None => Ok(x.clone()),
        }
    }
}

/// What a forward pass gives: the task's output, and named inner values.
struct Forward {
    output: Tensor,
    named: Vec<(String, Tensor)>,
}

/// One of the networks below this module.
trait Body: Send + Sync {
    fn forward(&self, batch: &Batch, pass: &mut Pass<'_>) -> Result<Forward>;
}

struct TvnetNetwork {
    state: State,
    shape: DataShape,
    form: Form,
    body: Box<dyn Body>,
}

impl TvnetNetwork {
    /// Where nothing is drawn, nothing is dropped.
    fn forward(&self, batch: &Batch, mode: Mode, random: Option<&mut Random>) -> Result<Forward> {
        self.shape.check_windows(&batch.inputs)?;
        self.body.forward(batch, &mut Pass { mode, random })
    }

    fn compare(&self, output: &Tensor, batch: &Batch) -> Result<Tensor> {
        match self.shape.task {
            Task::Detect => (output - &batch.inputs)?.sqr()?.mean_all(),
            Task::Forecast => batch.squared_error(output),
            Task::Impute => {
                let Some(mask) = &batch.mask else {
                    bail!("the batch does not say which of its values are hidden")
                };
                let hidden = (1.0 - mask)?;
                let errors = ((output - batch.targets()?)?.sqr()? * &hidden)?.sum_all()?;
                match self.form {
                    // The seed's script divides by all points, hidden or not.
                    Form::Reference => errors / output.elem_count() as f64,
                    Form::Paper => errors / hidden.sum_all()?.maximum(1.0)?,
                }
            }
            Task::Classify => batch.cross_entropy(output),
        }
    }
}

impl Network for TvnetNetwork {
    fn state(&self) -> &State {
        &self.state
    }

    fn loss(&self, batch: &Batch, mode: Mode, random: &mut Random) -> Result<Tensor> {
        let forward = self.forward(batch, mode, Some(random))?;
        self.compare(&forward.output, batch)
    }

    fn predict(&self, batch: &Batch) -> Result<Tensor> {
        let output = self.forward(batch, Mode::Evaluate, None)?.output;
        match (&batch.mask, self.form) {
            // What can be seen needs no filling in.
            (Some(mask), Form::Paper) if self.shape.task == Task::Impute => {
                (&batch.inputs * mask)? + (output * (1.0 - mask)?)?
            }
            _ => Ok(output),
        }
    }

    fn trace(&self, batch: &Batch, mode: Mode) -> Result<Vec<(String, Tensor)>> {
        let mut forward = self.forward(batch, mode, None)?;
        forward.named.extend(named([("output", forward.output)]));
        Ok(forward.named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{fault_of, on_cpu};
    use candle_core::Device;
    use serde_json::{Value, json};

    fn config(parameters: Value) -> Tvnet {
        serde_json::from_value(parameters).unwrap()
    }

    fn build(parameters: Value, shape: DataShape) -> Built {
        on_cpu(3, |builder| config(parameters).build(shape, builder))
    }

    fn draws(shape: (usize, usize, usize)) -> Tensor {
        let mut random = Random::new(4, "data");
        let values = (0..shape.0 * shape.1 * shape.2)
            .map(|_| random.normal() as f32)
            .collect::<Vec<_>>();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn flat(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn faults_of_the_configuration_are_named() {
        assert!(Tvnet::default().check().is_ok());
        for (parameters, name) in [
            (json!({"patch": 5}), "patch"),
            (json!({"patch": 0}), "patch"),
            (json!({"patch": 4, "stride": 5}), "stride"),
            (
                json!({"patch": 8, "stride": 8, "form": "reference"}),
                "stride",
            ),
            (json!({"patch": 2, "form": "reference"}), "patch"),
            (json!({"variant": "seed", "kernel": 4}), "kernel"),
            (json!({"dropout": 1.0}), "dropout"),
            (json!({"blocks": 0}), "blocks"),
        ] {
            assert_eq!(fault_of(&config(parameters)).parameter, name);
        }
        assert!(
            config(json!({"variant": "seed", "patch": 5}))
                .check()
                .is_ok()
        );
    }

    #[test]
    fn what_a_form_cannot_do_is_said() {
        let message =
            |parameters, shape| build(parameters, shape).err().unwrap().message().to_owned();
        let forecast = |length| DataShape::forecast(length, 2, 3);
        assert!(
            message(json!({"form": "reference"}), DataShape::detect(32, 2))
                .contains("not to detect")
        );
        assert!(
            message(json!({"form": "reference"}), forecast(30))
                .contains("steps of 4 rows, not of 30 rows")
        );
        assert!(message(json!({"form": "reference"}), forecast(8)).contains("three or more"));
        assert!(message(json!({"variant": "seed"}), forecast(7)).contains("patch of 8 rows"));
    }

    #[test]
    fn only_the_reference_mixes_the_samples_of_a_batch() {
        let inputs = draws((3, 32, 2));
        for (form, mixes) in [("reference", true), ("paper", false)] {
            let network = build(
                json!({"form": form, "cm": 4, "blocks": 2}),
                DataShape::forecast(32, 2, 5),
            )
            .unwrap();
            let together = network.predict(&Batch::of(inputs.clone())).unwrap();
            let alone = network
                .predict(&Batch::of(
                    inputs.narrow(0, 1, 1).unwrap().contiguous().unwrap(),
                ))
                .unwrap();
            let together = flat(&together.narrow(0, 1, 1).unwrap());
            let apart = together
                .iter()
                .zip(flat(&alone))
                .fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
            assert_eq!(apart > 1e-4, mixes, "{form}: {apart}");
        }
    }

    #[test]
    fn only_the_seed_s_reference_never_forecasts_below_zero() {
        let inputs = draws((4, 32, 2));
        let lowest = |form: &str| {
            let network = build(
                json!({"variant": "seed", "form": form, "cm": 4}),
                DataShape::forecast(32, 2, 9),
            )
            .unwrap();
            flat(&network.predict(&Batch::of(inputs.clone())).unwrap())
                .into_iter()
                .fold(f32::INFINITY, f32::min)
        };
        assert!(lowest("reference") >= 0.0);
        assert!(lowest("paper") < 0.0);
    }

    #[test]
    fn imputation_counts_hidden_values_and_keeps_the_others() {
        let targets = draws((2, 32, 2));
        let seen: Vec<f32> = (0..128)
            .map(|index| if index % 4 == 0 { 0.0 } else { 1.0 })
            .collect();
        let mask = Tensor::from_vec(seen, (2, 32, 2), &Device::Cpu).unwrap();
        let inputs = (&targets * &mask).unwrap();
        let batch = Batch {
            targets: Some(targets.clone()),
            mask: Some(mask),
            ..Batch::of(inputs)
        };
        let losses: Vec<f32> = [json!({"cm": 4}), json!({"variant": "seed", "cm": 4})]
            .into_iter()
            .map(|parameters| {
                let network = build(parameters, DataShape::impute(32, 2)).unwrap();
                let filled = network.predict(&batch).unwrap();
                let apart: Vec<f32> = flat(&(filled - &targets).unwrap().sqr().unwrap());
                assert!(
                    apart
                        .iter()
                        .enumerate()
                        .all(|(index, apart)| index % 4 == 0 || *apart == 0.0)
                );
                let loss = network
                    .loss(&batch, Mode::Evaluate, &mut Random::new(1, "noise"))
                    .unwrap();
                let loss = loss.to_scalar::<f32>().unwrap();
                assert!((loss / (apart.iter().sum::<f32>() / 32.0) - 1.0).abs() < 1e-4);
                loss
            })
            .collect();
        let reference = build(
            json!({"variant": "seed", "form": "reference", "cm": 4}),
            DataShape::impute(32, 2),
        )
        .unwrap();
        let loss = reference
            .loss(&batch, Mode::Evaluate, &mut Random::new(1, "noise"))
            .unwrap();
        assert!((loss.to_scalar::<f32>().unwrap() * 4.0 / losses[1] - 1.0).abs() < 1e-4);
    }
}
