//! What every model of the table must do, whatever it computes, for every task that it declares.
//! What one model alone promises is tested in its own file.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use contract::NullHost;
use contract::artifact::{Segment, Series, Split, WindowRun, WindowSpec};
use numerics::host::with_slice_mut;
use numerics::optimizer::{Optimizer, OptimizerChoice};

/// Window lengths, channels and batches, odd on purpose. A model may refuse a shape, but only by an error that says why.
const ODD: [(usize, usize, usize); 4] = [(1, 1, 2), (7, 1, 1), (13, 5, 3), (33, 2, 17)];
/// A length and a number of channels that every model takes.
const PLAIN: (usize, usize) = (32, 4);
/// Height and width of images that every model takes.
const IMAGE: (usize, usize) = (32, 40);
const CLASSES: usize = 3;

/// A small model and one of its tasks.
#[derive(Clone)]
struct Case {
    choice: ModelChoice,
    task: Task,
}

impl Case {
    fn every() -> Vec<Self> {
        let mut cases = Vec::new();
        for choice in MODELS.examples() {
            for task in choice.tasks() {
                let (choice, task) = (choice.clone(), *task);
                cases.push(Self { choice, task });
            }
        }
        cases
    }

    /// Those that are trained step by step.
    fn trained() -> Vec<Self> {
        Self::every()
            .into_iter()
            .filter(|case| !case.closed_form())
            .collect()
    }

    fn name(&self) -> String {
        format!("{} to {}", self.choice.name(), self.task)
    }

    fn closed_form(&self) -> bool {
        self.choice.closed_form()
    }

    fn shape(&self, length: usize, channels: usize) -> DataShape {
        if self.choice.reads_images() {
            let classes = if self.task == Task::Classify {
                CLASSES
            } else {
                0
            };
            return DataShape {
                task: self.task,
                ..DataShape::images(IMAGE.0, IMAGE.1, 3, classes)
            };
        }
        match self.task {
            Task::Detect => DataShape::detect(length, channels),
            Task::Forecast => DataShape::forecast(length, channels, length.div_ceil(3)),
            Task::Impute => DataShape::impute(length, channels),
            Task::Classify => DataShape::classify(length, channels, CLASSES),
        }
    }

    fn plain(&self) -> DataShape {
        self.shape(PLAIN.0, PLAIN.1)
    }

    fn try_build(&self, shape: DataShape, seed: u64) -> Result<Box<dyn Network>, Trouble> {
        build(
            &self.choice,
            shape,
            &Device::Cpu,
            &mut Random::new(seed, "init"),
        )
    }

    /// A network for this shape, fitted if that is how the model learns.
    fn network(&self, shape: DataShape, seed: u64) -> Box<dyn Network> {
        let network = self.try_build(shape, seed).unwrap();
        if self.closed_form() {
            network
                .fit(&windows(shape), &NullHost::default().context(seed))
                .unwrap();
        }
        network
    }

    fn batch(&self, shape: DataShape, count: usize) -> Batch {
        let mut random = Random::new(11, "data");
        let mut tensor = |dims: &[usize]| {
            let values: Vec<f32> = (0..dims.iter().product())
                .map(|_| random.normal() as f32)
                .collect();
            Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
        };
        let DataShape {
            length,
            channels,
            horizon,
            width,
            ..
        } = shape;
        let whole = if width == 0 {
            tensor(&[count, length, channels])
        } else {
            let pixels = tensor(&[count, channels, length, width]);
            ((pixels.clamp(-2.0, 2.0).unwrap() + 2.0).unwrap() / 4.0).unwrap()
        };
        let mut batch = Batch::of(whole.clone());
        match self.task {
            Task::Detect => {}
            Task::Forecast => batch.targets = Some(tensor(&[count, horizon, channels])),
            Task::Impute => {
                let mask = tensor(&[count, length, channels])
                    .gt(-0.5)
                    .unwrap()
                    .to_dtype(candle_core::DType::F32)
                    .unwrap();
                batch = Batch {
                    inputs: (&whole * &mask).unwrap(),
                    targets: Some(whole),
                    mask: Some(mask),
                    ..batch
                };
            }
            Task::Classify => {
                let classes: Vec<u32> = (0..count)
                    .map(|sample| (sample % shape.classes) as u32)
                    .collect();
                batch.classes = Some(Tensor::from_vec(classes, count, &Device::Cpu).unwrap());
            }
        }
        batch
    }

    /// The same, but windows to be reconstructed are waves: noise cannot be described in fewer numbers than it has, and a
    /// model that weighs what its code costs is right to give up on it.
    fn learnable(&self, shape: DataShape, count: usize) -> Batch {
        if self.task != Task::Detect || shape.width > 0 {
            return self.batch(shape, count);
        }
        let mut random = Random::new(11, "waves");
        let DataShape {
            length, channels, ..
        } = shape;
        let waves: Vec<[f64; 2]> = (0..count * channels)
            .map(|_| {
                [
                    random.range(0.1, 0.4),
                    random.range(0.0, std::f64::consts::TAU),
                ]
            })
            .collect();
        let values = (0..count * length * channels).map(|index| {
            let (sample, row, channel) = (
                index / channels / length,
                index / channels % length,
                index % channels,
            );
            let [pace, phase] = waves[sample * channels + channel];
            (1.4 * (pace * row as f64 + phase).sin()) as f32
        });
        Batch::of(
            Tensor::from_vec(
                values.collect::<Vec<_>>(),
                (count, length, channels),
                &Device::Cpu,
            )
            .unwrap(),
        )
    }

    /// How far the prediction is from what was asked for: a mean square, or a cross entropy.
    fn distance(&self, network: &dyn Network, batch: &Batch) -> f64 {
        let predicted = network.predict(batch).unwrap();
        let target = match self.task {
            Task::Classify => {
                let logits = candle_nn::ops::log_softmax(&predicted, 1)
                    .unwrap()
                    .to_vec2::<f32>()
                    .unwrap();
                let classes: Vec<u32> = batch.classes.as_ref().unwrap().to_vec1().unwrap();
                let sum: f64 = logits
                    .iter()
                    .zip(&classes)
                    .map(|(row, class)| -f64::from(row[*class as usize]))
                    .sum();
                return sum / classes.len() as f64;
            }
            Task::Detect => &batch.inputs,
            Task::Forecast | Task::Impute => batch.targets.as_ref().unwrap(),
        };
        let squares = flat(&(predicted - target).unwrap().sqr().unwrap());
        squares.iter().map(|square| f64::from(*square)).sum::<f64>() / squares.len() as f64
    }

    /// What the task is for: errors to detect, the prediction otherwise.
    fn output(&self, network: &dyn Network, batch: &Batch) -> candle_core::Result<Tensor> {
        if self.task == Task::Detect {
            network.errors(batch)
        } else {
            network.predict(batch)
        }
    }

    fn output_shape(&self, shape: DataShape, count: usize) -> Vec<usize> {
        match self.task {
            Task::Detect | Task::Impute if shape.width > 0 => {
                vec![count, shape.channels, shape.length, shape.width]
            }
            Task::Detect | Task::Impute => vec![count, shape.length, shape.channels],
            Task::Forecast => vec![count, shape.horizon, shape.channels],
            Task::Classify => vec![count, shape.classes],
        }
    }
}

/// Windows of this shape over waves with some noise, all of the split `train`.
fn windows(shape: DataShape) -> Windows {
    let rows = 10 * (shape.length + shape.horizon) + 50;
    let mut random = Random::new(5, "series");
    let channels = shape.channels;
    let values = (0..rows * channels).map(|index| {
        let (row, channel) = (index / channels, index % channels);
        ((row as f64 * 0.3 * (channel + 1) as f64).sin() + 0.3 * random.normal()) as f32
    });
    let series = Series {
        values: values.collect(),
        channels: (0..channels).map(|channel| format!("c{channel}")).collect(),
        labels: Vec::new(),
        times: Vec::new(),
        segments: vec![Segment::new(Split::Train, "waves", 0..rows)],
        ..Series::default()
    };
    let spec = WindowSpec {
        length: shape.length,
        horizon: shape.horizon,
    };
    let run = WindowRun {
        split: Split::Train,
        first: 0,
        stride: 1,
        count: rows + 1 - spec.extent(),
        rows: (0, rows),
    };
    Windows {
        series: Arc::new(series),
        spec,
        runs: vec![run],
    }
}

fn noise() -> Random {
    Random::new(2, "noise")
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn odd_sizes_give_finite_outputs_of_the_right_shape_or_a_reason() {
    for case in Case::every() {
        for (length, channels, count) in [(PLAIN.0, PLAIN.1, 2)].into_iter().chain(ODD) {
            let shape = case.shape(length, channels);
            if let Err(error) = case.try_build(shape, 1) {
                assert!((length, channels) != PLAIN, "{}: {error}", case.name());
                assert!(error.message().len() > 20, "{}: {error}", case.name());
                continue;
            }
            let (network, batch) = (case.network(shape, 1), case.batch(shape, count));
            let output = case.output(network.as_ref(), &batch).unwrap();
            assert_eq!(
                output.dims(),
                case.output_shape(shape, count),
                "{}",
                case.name()
            );
            assert!(
                flat(&output).iter().all(|value| value.is_finite()),
                "{}",
                case.name()
            );
            if case.closed_form() {
                continue;
            }
            // A single value per channel cannot be normalised by its batch: an error is right there, a NaN is not.
            if let Ok((loss, gradients)) = network.gradients(0, &batch, &mut noise()) {
                assert!(
                    loss.is_finite() && gradients.norm().unwrap().is_finite(),
                    "{}",
                    case.name()
                );
            }
        }
    }
}

#[test]
fn samples_of_another_shape_are_refused() {
    for case in Case::every() {
        let shape = case.plain();
        let network = case.network(shape, 1);
        let wrong = [
            (
                DataShape {
                    length: shape.length - 1,
                    ..shape
                },
                2,
            ),
            (
                DataShape {
                    channels: shape.channels - 1,
                    ..shape
                },
                2,
            ),
            (shape, 0),
        ];
        for (wrong, count) in wrong {
            // Networks of convolutions alone may take images of other sizes.
            if wrong.width > 0 && wrong.channels == shape.channels && count > 0 {
                continue;
            }
            let batch = case.batch(wrong, count);
            assert!(
                case.output(network.as_ref(), &batch).is_err(),
                "{}: {wrong:?} x {count}",
                case.name()
            );
        }
        let empty = DataShape { length: 0, ..shape };
        assert!(case.try_build(empty, 1).is_err());
    }
}

/// A page makes an entry of BibTeX of it.
#[test]
fn a_citation_has_authors_a_title_and_a_year() {
    for choice in MODELS.examples() {
        let citation = choice.citation();
        if citation.is_empty() {
            continue;
        }
        let (authors, rest) = citation.split_once(": ").unwrap();
        assert!(!authors.contains('.') && rest.contains(". "), "{citation}");
        let is_year = |word: &str| word.len() == 4 && word.parse::<u32>().is_ok();
        let mut words = rest.split(|sign: char| !sign.is_ascii_alphanumeric());
        assert!(words.any(is_year), "{citation}");
    }
}

#[test]
fn tasks_that_a_model_is_not_for_are_refused() {
    for choice in MODELS.examples() {
        assert!(!choice.tasks().is_empty());
        assert_eq!(choice.check(), Ok(()));
        for task in Task::ALL
            .into_iter()
            .filter(|task| !choice.tasks().contains(task))
        {
            let shape = Case {
                choice: choice.clone(),
                task,
            }
            .plain();
            let named = build(&choice, shape, &Device::Cpu, &mut noise())
                .err()
                .unwrap();
            assert!(named.message().contains(task.name()), "{named}");
        }
    }
}

#[test]
fn eight_samples_are_learned_by_heart() {
    let mut failed = Vec::new();
    for case in Case::trained() {
        let shape = case.plain();
        let (network, batch) = (case.network(shape, 1), case.learnable(shape, 8));
        let adam = OptimizerChoice::new("adam", json!({"lr": 0.01})).unwrap();
        let mut optimizer = Optimizer::new(&adam, network.state()).unwrap();
        let before = case.distance(network.as_ref(), &batch);
        let (mut random, mut after) = (noise(), f64::NAN);
        // A model whose code is drawn at random learns at its noise's pace; others are done after the first rounds.
        for _ in 0..20 {
            for _ in 0..75 {
                let (_, gradients) = network.gradients(0, &batch, &mut random).unwrap();
                optimizer.step(network.state(), &gradients, 0.01).unwrap();
            }
            after = case.distance(network.as_ref(), &batch);
            if after < 0.1 * before {
                break;
            }
        }
        if after >= 0.1 * before || after.is_nan() {
            failed.push(format!("{}: {before} then {after}", case.name()));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn files_carry_everything_that_outputs_depend_on() {
    for case in Case::every() {
        let shape = case.plain();
        let (first, batch) = (case.network(shape, 1), case.batch(shape, 4));
        // Running statistics must travel too, so they are moved away from where they start.
        if !case.closed_form() {
            first.gradients(0, &batch, &mut noise()).unwrap();
        }
        let names: Vec<String> = (0..shape.classes)
            .map(|class| format!("class {class}"))
            .collect();
        let model = Model {
            config: case.choice.to_value(),
            training: describe(shape, &names),
            tensors: first.state().to_data().unwrap(),
        };
        let model = Model::decode(&model.encode().unwrap()).unwrap();
        let Loaded {
            network: second,
            shape: found,
            classes,
        } = load(&model, &Device::Cpu, |_| Ok(())).unwrap();
        assert_eq!((found, classes), (shape, names));
        let output = |network: &dyn Network| flat(&case.output(network, &batch).unwrap());
        assert_eq!(
            output(first.as_ref()),
            output(second.as_ref()),
            "{}",
            case.name()
        );
        if !case.closed_form() {
            let loss =
                |network: &dyn Network| network.gradients(0, &batch, &mut noise()).unwrap().0;
            assert_eq!(
                loss(first.as_ref()),
                loss(second.as_ref()),
                "{}",
                case.name()
            );
        }
    }
}

/// The leakage check knows a model by its declaration alone.
#[test]
fn models_that_learn_from_validation_samples_say_so() {
    for case in Case::every() {
        let network = case.try_build(case.plain(), 1).unwrap();
        let upper = network
            .phases()
            .iter()
            .any(|phase| phase.source == Source::Validation);
        assert_eq!(upper, case.choice.bi_level(), "{}", case.name());
    }
}

#[test]
fn seeds_decide_the_weights() {
    for case in Case::trained() {
        let weights = |seed| -> BTreeMap<_, _> {
            case.try_build(case.plain(), seed)
                .unwrap()
                .state()
                .to_data()
                .unwrap()
        };
        assert_eq!(weights(1), weights(1));
        assert_ne!(weights(1), weights(2), "{}", case.name());
    }
}

#[test]
fn thread_counts_do_not_change_a_bit() {
    for case in Case::every() {
        let shape = case.plain();
        let batch = case.batch(shape, 17);
        let bits = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| {
                let network = case.network(shape, 1);
                let mut values = Vec::new();
                if !case.closed_form() {
                    let (loss, gradients) = network.gradients(0, &batch, &mut noise()).unwrap();
                    values.push(vec![loss as f32]);
                    values.extend(gradients.0.iter().flatten().map(flat));
                }
                values.push(flat(&case.output(network.as_ref(), &batch).unwrap()));
                values
            })
        };
        let one = bits(1);
        assert!(
            [2, 3].into_iter().all(|threads| bits(threads) == one),
            "{}",
            case.name()
        );
    }
}

#[test]
fn samples_of_a_batch_do_not_see_each_other() {
    for case in Case::every() {
        let shape = case.plain();
        let (network, batch) = (case.network(shape, 1), case.batch(shape, 5));
        let together = case.output(network.as_ref(), &batch).unwrap();
        for sample in 0..5 {
            let narrow =
                |tensor: &Tensor| tensor.narrow(0, sample, 1).unwrap().contiguous().unwrap();
            let alone = Batch {
                inputs: narrow(&batch.inputs),
                targets: batch.targets.as_ref().map(narrow),
                mask: batch.mask.as_ref().map(narrow),
                classes: batch.classes.as_ref().map(narrow),
                ..batch.clone()
            };
            let (alone, expected) = (
                flat(&case.output(network.as_ref(), &alone).unwrap()),
                flat(&narrow(&together)),
            );
            let largest = expected
                .iter()
                .fold(1e-6_f32, |largest, value| largest.max(value.abs()));
            let apart = alone
                .iter()
                .zip(&expected)
                .fold(0.0_f32, |most, (one, other)| most.max((one - other).abs()));
            assert!(
                apart < 1e-4 * largest,
                "{}: {apart} of {largest}",
                case.name()
            );
        }
    }
}

#[test]
fn gradients_are_the_slope_of_the_loss() {
    for case in Case::trained() {
        let shape = case.plain();
        let (network, batch) = (case.network(shape, 1), case.batch(shape, 6));
        let (_, gradients) = network.gradients(0, &batch, &mut noise()).unwrap();
        let largest = gradients.norm().unwrap();
        for ((name, parameter), gradient) in network.state().parameters().zip(&gradients.0) {
            let Some(gradient) = gradient.as_ref().map(flat) else {
                continue;
            };
            let length = gradient
                .iter()
                .map(|g| f64::from(*g).powi(2))
                .sum::<f64>()
                .sqrt();
            // Below this the slope is lost in the rounding of a 32-bit loss.
            if length < 1e-2 * largest {
                continue;
            }
            let shifted = |by: f64| {
                let original = parameter.copy().unwrap();
                with_slice_mut(parameter, |values| {
                    values
                        .iter_mut()
                        .zip(&gradient)
                        .for_each(|(value, g)| *value += (by * f64::from(*g) / length) as f32);
                })
                .unwrap();
                let (loss, _) = network.gradients(0, &batch, &mut noise()).unwrap();
                parameter.set(&original).unwrap();
                loss
            };
            // Steep losses bend soon.
            let step = 4e-3 / (4.0 * length).max(1.0);
            // A kink between the two points is not the gradient's fault: closer to the middle it is left out.
            let slope = |step: f64| (shifted(step) - shifted(-step)) / (2.0 * step);
            let slopes = [step, step / 4.0, step / 16.0].map(slope);
            let fits = slopes
                .iter()
                .any(|slope| (slope / length - 1.0).abs() < 0.05);
            assert!(fits, "{} {name}: {slopes:?} {length}", case.name());
        }
    }
}

#[test]
fn every_file_has_its_line_in_the_table() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/models");
    contract::testing::assert_listed(&MODELS, folder);
}
