//! The loop over epochs: shuffle, step, validate, take note, keep a checkpoint.
//! Its outcome is a function of recipe, windows and seed, whether or not it was interrupted on the way.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use serde_json::json;

use super::augment::augment;
use super::checkpoint::{Checkpoint, Course, Inside, LogRow};
use super::monitor::{Mean, measure};
use super::progress::Counter;
use super::recipe::ClassWeights;
use super::stopping::Stopping;
use super::{Keep, Metric, Recipe, Samples, class_numbers};
use crate::models::{self, Batch, Network, Source, Task};
use crate::schedules::Schedule;
use contract::artifact::{Column, Digest, DigestWriter, Model, Split, Table, TensorData};
use contract::{Random, StageContext, Trouble};
use numerics::optimizer::Optimizer;
use numerics::{self, Constants, Gradients, Mode, Precision};

/// What a training gives.
#[derive(Clone, Debug)]
pub struct Trained {
    pub model: Model,
    /// A row per epoch: `epoch`, `train_loss`, `validation_loss`, the monitored metric, `learning_rate`.
    pub log: Table,
}

/// Trains a model on the samples of the split `train`.
///
/// The training loss of an epoch is the mean over its samples of the loss at the time of their step; the validation
/// loss is computed in evaluation mode after the epoch. A model that is fitted in closed form has no epochs.
///
/// # Errors
/// If samples are missing, the model cannot take them, the loss is no longer finite, or the run was asked to stop.
pub fn train(
    recipe: &Recipe,
    samples: &dyn Samples,
    context: &StageContext<'_>,
) -> Result<Trained, Trouble> {
    let mut trainer = Trainer::new(recipe, samples, context)?;
    if recipe.closed_form() {
        return trainer.fit();
    }
    trainer.resume();
    while trainer.course.epochs < recipe.epochs && !trainer.course.stopping.stopped {
        if let Err(error) = trainer.epoch() {
            if error.is_cancelled() {
                trainer.keep_inside();
            }
            return Err(error);
        }
        trainer.keep_checkpoint()?;
        trainer.leave_epoch();
    }
    context.host.end_checkpoints(&trainer.chain);
    trainer.finish()
}

struct Trainer<'a> {
    recipe: &'a Recipe,
    samples: &'a dyn Samples,
    task: Task,
    context: &'a StageContext<'a>,
    chain: Digest,
    device: Device,
    train_samples: Vec<usize>,
    validation_samples: Vec<usize>,
    class_weights: Option<Tensor>,
    network: Box<dyn Network>,
    /// One for each phase of a step.
    optimizers: Vec<Optimizer>,
    schedule: Schedule,
    course: Course,
    best: BTreeMap<String, TensorData>,
    /// Whether it continued inside an epoch, from a state that is of use until that epoch has ended.
    resumed_inside: bool,
    counter: Counter<'a>,
}

impl<'a> Trainer<'a> {
    fn new(
        recipe: &'a Recipe,
        samples: &'a dyn Samples,
        context: &'a StageContext<'a>,
    ) -> Result<Self, Trouble> {
        let task = recipe.task();
        let train_samples = chosen(recipe, samples, Split::Train)?;
        let validation_samples = chosen(recipe, samples, recipe.monitor.on)?;
        if train_samples.is_empty() {
            let error = Trouble::new("there are no samples in the split `train`");
            let hint =
                "does the series have training rows, and at least as many as a window is long?";
            return Err(error.hint(hint));
        }
        if let Some(parameter) = recipe.needs_validation()
            && validation_samples.is_empty()
        {
            let split = recipe.monitor.on;
            let message =
                format!("`{parameter}` needs samples in the split `{split}`, and there are none");
            let hint = "split off validation rows, or set `keep: last`";
            return Err(Trouble::new(message).hint(hint));
        }
        let device = numerics::device(context.device)?;
        if recipe.precision == Precision::Bf16 && device.is_cpu() {
            let message =
                "`precision: bf16` needs a CUDA device, and this training runs on the CPU";
            let hint = "run with `--device cuda`, or leave `precision` out";
            return Err(Trouble::new(message).hint(hint));
        }
        let (shape, mut init) = (samples.shape(task), context.random("init"));
        let network = models::build(&recipe.model, shape, &device, &mut init)?;
        network.start(context)?;
        check_phases(recipe, network.as_ref(), &validation_samples)?;
        let class_weights = class_weights(recipe, samples, &train_samples, &device)?;
        let optimizers = optimizers(recipe, network.as_ref())?;
        let rate = optimizers.first().map_or(0.0, Optimizer::base_rate);
        let schedule = Schedule::new(&recipe.schedule, rate, recipe.epochs);
        let course = Course {
            epochs: 0,
            steps: 0,
            // A generator for each purpose: a model that draws more does not change the order of the samples.
            shuffle: context.random("shuffle").state(),
            noise: context.random("noise").state(),
            validation_batches: 0,
            schedule: schedule.state.clone(),
            stopping: Stopping::default(),
            log: Vec::new(),
            inside: None,
        };
        let counter = Counter::new(context.host, recipe.epochs, train_samples.len() as u64);
        Ok(Self {
            recipe,
            samples,
            task,
            context,
            chain: recipe.chain(&context.lineage),
            device,
            train_samples,
            validation_samples,
            class_weights,
            network,
            optimizers,
            schedule,
            course,
            best: BTreeMap::new(),
            resumed_inside: false,
            counter,
        })
    }

    /// Continues from the newest usable checkpoint, if there is one: that inside an epoch, unless the epoch has ended
    /// since.
    fn resume(&mut self) {
        let host = self.context.host;
        let last_step = self.recipe.epochs * self.steps_per_epoch();
        let inside = host.load_checkpoint(&self.inside_chain(), last_step);
        let after = host.load_checkpoint(&self.chain, self.recipe.epochs);
        let last_epoch = after.as_ref().map_or(0, |(epoch, _)| *epoch);
        if let Some((_, bytes)) = inside
            && let Ok(checkpoint) = Checkpoint::decode(&bytes)
            && checkpoint.course.inside.is_some()
            && checkpoint.course.epochs >= last_epoch
        {
            let epoch = checkpoint.course.epochs;
            if self.restore(epoch, checkpoint).is_ok() {
                self.resumed_inside = true;
                return host.note(&format!("training continues inside epoch {}", epoch + 1));
            }
        }
        let Some((step, bytes)) = after else { return };
        match Checkpoint::decode(&bytes).and_then(|checkpoint| self.restore(step, checkpoint)) {
            Ok(()) => host.note(&format!("training continues after epoch {step}")),
            Err(error) => {
                let mut note = format!("the checkpoint of epoch {step} is not used: {error}");
                if let Some(cause) = error.causes().first() {
                    note += &format!(": {cause}");
                }
                host.note(&note);
            }
        }
    }

    fn steps_per_epoch(&self) -> u64 {
        self.train_samples.len().div_ceil(self.samples_per_step()) as u64
    }

    fn samples_per_step(&self) -> usize {
        self.recipe.batch * self.recipe.accumulate
    }

    /// The chain of states inside epochs, numbered by step.
    fn inside_chain(&self) -> Digest {
        let mut writer = DigestWriter::new("training, inside an epoch");
        writer.digest(&self.chain);
        writer.finish()
    }

    /// Takes a checkpoint over, or leaves everything as it is.
    fn restore(&mut self, step: u64, checkpoint: Checkpoint) -> Result<(), Trouble> {
        let epoch = checkpoint.course.epochs;
        if epoch != step {
            return Err(Trouble::new(format!("it holds epoch {epoch}")));
        }
        // Fresh optimisers take the state first: if it does not fit, nothing has been touched.
        let mut optimizers = optimizers(self.recipe, self.network.as_ref())?;
        for (phase, optimizer) in optimizers.iter_mut().enumerate() {
            let own = of_phase(phase, &checkpoint.optimizer);
            optimizer.set_data(self.network.state(), checkpoint.course.steps, &own)?;
        }
        self.network.state().set_data(&checkpoint.weights)?;
        self.optimizers = optimizers;
        self.schedule.state = checkpoint.course.schedule.clone();
        self.course = checkpoint.course;
        self.best = checkpoint.best;
        let last = self.course.log.last();
        self.counter
            .set_validation(last.and_then(|row| row.validation_loss));
        Ok(())
    }

    fn epoch(&mut self) -> Result<(), Trouble> {
        let epoch = self.course.epochs + 1;
        // The log has the rate of the epoch's first step.
        let learning_rate = self.schedule.rate(self.course.epochs, 0.0);
        let train_loss = self.pass(epoch)?;
        let (validation_loss, measured) = self.validate(epoch)?;
        let monitored = match self.recipe.monitor.metric {
            Metric::TrainLoss => Some(train_loss),
            Metric::Loss => validation_loss,
            _ => measured,
        };
        if let Some(value) = monitored {
            let value = self.recipe.monitor.lower_is_better(value);
            self.schedule.observe(value);
            let rule = self.recipe.early_stopping.as_ref();
            let better = self.course.stopping.observe(epoch, value, rule);
            if better && self.recipe.keep == Keep::Best {
                self.best = self.network.state().to_data()?;
            }
        }
        self.counter.set_validation(validation_loss);
        let seen = self.train_samples.len() as u64;
        self.counter.report(epoch, seen, train_loss);
        // Only now: a checkpoint inside the epoch needs the state from which its order was drawn.
        self.course.shuffle = self.order().1.state();
        if let Some(inside) = self.course.inside.take() {
            self.course.noise = inside.noise;
        }
        self.course.epochs = epoch;
        self.course.steps = self.optimizers.first().map_or(0, Optimizer::steps);
        self.course.schedule = self.schedule.state.clone();
        self.course.log.push(LogRow {
            epoch,
            train_loss,
            validation_loss,
            monitored,
            learning_rate,
        });
        Ok(())
    }

    /// One pass over the training samples, or what is left of it; the mean loss.
    fn pass(&mut self, epoch: u64) -> Result<f64, Trouble> {
        let order = self.order().0;
        let fresh = Inside {
            done: 0,
            loss: 0.0,
            noise: self.course.noise,
        };
        let mut inside = self.course.inside.get_or_insert(fresh).clone();
        let mut noise = Random::from_state(inside.noise);
        for group in order[inside.done as usize..].chunks(self.samples_per_step()) {
            self.context.check_cancelled()?;
            let within = inside.done as f64 / order.len() as f64;
            let learning_rate = self.schedule.rate(self.course.epochs, within);
            let loss = self.step(group, learning_rate, &mut noise)?;
            if !loss.is_finite() {
                return Err(diverged("training", epoch, loss));
            }
            // In proportion to its samples: the last step of an epoch may have fewer.
            inside.loss += loss * group.len() as f64;
            inside.done += group.len() as u64;
            inside.noise = noise.state();
            self.course.inside = Some(inside.clone());
            let mean = inside.loss / inside.done as f64;
            self.counter.report(epoch, inside.done, mean);
        }
        Ok(inside.loss / inside.done as f64)
    }

    /// The order of the samples in this epoch, and the generator for that of the next.
    fn order(&self) -> (Vec<usize>, Random) {
        let mut order = self.train_samples.clone();
        let mut shuffle = Random::from_state(self.course.shuffle);
        if self.recipe.shuffle {
            shuffle.shuffle(&mut order);
        }
        (order, shuffle)
    }

    /// All phases of one step; the mean loss of the first.
    fn step(
        &mut self,
        samples: &[usize],
        learning_rate: f64,
        noise: &mut Random,
    ) -> Result<f64, Trouble> {
        let mut first = None;
        for (index, phase) in self.network.phases().to_vec().into_iter().enumerate() {
            let (loss, mut gradients) = match phase.source {
                Source::Train => self.accumulated(index, samples, noise)?,
                Source::Validation => {
                    let batch = self.next_validation_batch(noise)?;
                    self.gradients(index, &batch, noise)?
                }
            };
            let loss = *first.get_or_insert(loss);
            if !loss.is_finite() {
                return Ok(loss);
            }
            if let Some(limit) = self.recipe.clip_per_tensor {
                gradients.clip_each(limit)?;
            }
            if let Some(limit) = self.recipe.clip {
                gradients.clip(limit)?;
            }
            let rate = learning_rate * phase.rate;
            self.optimizers[index].step(self.network.state(), &gradients, rate)?;
        }
        Ok(first.unwrap_or_default())
    }

    /// Loss and gradients of a phase over these samples, batch by batch, each in proportion to its samples.
    fn accumulated(
        &self,
        phase: usize,
        samples: &[usize],
        noise: &mut Random,
    ) -> Result<(f64, Gradients), Trouble> {
        let mut total: Option<(f64, Gradients)> = None;
        for part in samples.chunks(self.recipe.batch) {
            let mut batch = self.gather(part, noise)?;
            // Validation samples stay as they are.
            batch.inputs = augment(&self.recipe.augment, &batch.inputs, noise)?;
            let (loss, mut gradients) = self.gradients(phase, &batch, noise)?;
            if part.len() == samples.len() {
                return Ok((loss, gradients));
            }
            let share = part.len() as f64 / samples.len() as f64;
            gradients.scale(share)?;
            total = Some(match total {
                None => (loss * share, gradients),
                Some((sum, mut added)) => {
                    added.add(&gradients)?;
                    (sum + loss * share, added)
                }
            });
        }
        total.ok_or_else(|| Trouble::new("a step without samples"))
    }

    /// Loss and gradients of a phase over a batch.
    fn gradients(
        &self,
        phase: usize,
        batch: &Batch,
        noise: &mut Random,
    ) -> Result<(f64, Gradients), Trouble> {
        let precision = self.recipe.precision;
        let _constants = Constants::keep(&self.device);
        Ok(precision.during(|| self.network.gradients(phase, batch, noise))?)
    }

    /// A batch with what the recipe says about its loss, and with values hidden where the task is to find them.
    fn gather(&self, samples: &[usize], noise: &mut Random) -> Result<Batch, Trouble> {
        let mut batch = self.samples.gather(samples, self.task, &self.device)?;
        batch.class_weights.clone_from(&self.class_weights);
        batch.label_smoothing = self.recipe.label_smoothing;
        match self.task {
            Task::Impute => self.recipe.mask.unwrap_or_default().hide(batch, noise),
            _ => Ok(batch),
        }
    }

    /// The validation samples in order, batch after batch and round again.
    fn next_validation_batch(&mut self, noise: &mut Random) -> Result<Batch, Trouble> {
        let mut batches = self.validation_samples.chunks(self.recipe.batch);
        let index = self.course.validation_batches % batches.len() as u64;
        self.course.validation_batches += 1;
        let samples = batches.nth(index as usize).unwrap_or_default();
        self.gather(samples, noise)
    }

    /// Mean loss and monitored metric over the validation samples, where there are any.
    fn validate(&mut self, epoch: u64) -> Result<(Option<f64>, Option<f64>), Trouble> {
        // The same draws for every epoch, and none that training would miss.
        let mut noise = self.context.random("validation");
        let (mut losses, mut measured) = (Mean::default(), Mean::default());
        let metric = self.recipe.monitor.metric;
        for samples in self.validation_samples.chunks(self.recipe.batch) {
            self.context.check_cancelled()?;
            let batch = self.gather(samples, &mut noise)?;
            let _constants = Constants::keep(&self.device);
            let loss = self.network.loss(&batch, Mode::Evaluate, &mut noise)?;
            losses.add(f64::from(loss.to_scalar::<f32>()?), samples.len());
            if !metric.is_loss()
                && let Some(value) = measure(metric, self.task, self.network.as_ref(), &batch)?
            {
                measured.add(value, samples.len());
            }
        }
        match losses.value() {
            Some(loss) if !loss.is_finite() => Err(diverged("validation", epoch, loss)),
            loss => Ok((loss, measured.value())),
        }
    }

    fn keep_checkpoint(&self) -> Result<(), Trouble> {
        self.save(&self.chain, self.course.epochs)
    }

    /// The epoch has ended in which the training continued.
    fn leave_epoch(&mut self) {
        if std::mem::take(&mut self.resumed_inside) {
            self.context.host.forget_checkpoints(&self.inside_chain());
        }
    }

    /// Keeps the state inside an epoch, for a training that was asked to stop. What goes wrong here costs an epoch.
    fn keep_inside(&mut self) {
        let Some(inside) = &self.course.inside else {
            return;
        };
        let (epochs, group) = (self.course.epochs, self.samples_per_step() as u64);
        let step = epochs * self.steps_per_epoch() + inside.done.div_ceil(group);
        self.course.steps = self.optimizers.first().map_or(0, Optimizer::steps);
        let note = match self.save(&self.inside_chain(), step) {
            Ok(()) => format!("training stopped inside epoch {}", epochs + 1),
            Err(error) => format!("training stopped, and its epoch is lost: {error}"),
        };
        self.context.host.note(&note);
    }

    fn save(&self, chain: &Digest, step: u64) -> Result<(), Trouble> {
        let mut optimizer = BTreeMap::new();
        for (phase, own) in self.optimizers.iter().enumerate() {
            for (name, tensor) in own.to_data(self.network.state())? {
                optimizer.insert(format!("{phase}.{name}"), tensor);
            }
        }
        let checkpoint = Checkpoint {
            course: self.course.clone(),
            weights: self.network.state().to_data()?,
            optimizer,
            best: self.best.clone(),
        };
        // Inside an epoch, steps are not epochs.
        let best = match self.course.stopping.best {
            Some((epoch, _)) if *chain == self.chain => Some(epoch),
            _ => None,
        };
        let bytes = checkpoint.encode()?;
        self.context.host.save_checkpoint(chain, step, &bytes, best)
    }

    /// Fits a model in closed form.
    fn fit(self) -> Result<Trained, Trouble> {
        let Some(windows) = self.samples.windows() else {
            let name = self.recipe.model.name();
            return Err(Trouble::new(format!(
                "{name} is fitted to windows and to nothing else"
            )));
        };
        self.network.fit(windows, self.context)?;
        self.finish()
    }

    fn finish(self) -> Result<Trained, Trouble> {
        let log = self.log()?;
        let last = self.course.epochs;
        let (chosen, tensors) = match (self.recipe.keep, self.course.stopping.best) {
            (Keep::Best, Some((epoch, _))) => (epoch, self.best),
            _ => (last, self.network.state().to_data()?),
        };
        let row = self.course.log.iter().find(|row| row.epoch == chosen);
        let mut classes = Vec::new();
        if self.task == Task::Classify {
            classes = self.samples.classes();
        }
        // A model's digest covers this, in this order.
        let mut training = models::describe(self.samples.shape(self.task), &classes);
        training["parameters"] = json!(self.network.state().size());
        training["epochs"] = json!(last);
        training["stopped_early"] = json!(self.course.stopping.stopped);
        training["chosen_epoch"] = json!(chosen);
        training["train_loss"] = json!(row.map(|row| row.train_loss));
        training["validation_loss"] = json!(row.and_then(|row| row.validation_loss));
        training["monitored"] = json!(row.and_then(|row| row.monitored));
        let model = Model {
            config: self.recipe.model.to_value(),
            training,
            tensors,
        };
        Ok(Trained { model, log })
    }

    /// The training log, a row per epoch.
    fn log(&self) -> Result<Table, Trouble> {
        let log = &self.course.log;
        let epochs: Vec<i64> = log.iter().map(|row| row.epoch as i64).collect();
        let losses: Vec<f64> = log.iter().map(|row| row.train_loss).collect();
        let rates: Vec<f64> = log.iter().map(|row| row.learning_rate).collect();
        let validation = log.iter().map(|row| row.validation_loss).collect();
        let mut columns = vec![
            ("epoch", epochs.into()),
            ("train_loss", losses.into()),
            ("validation_loss", Column::Reals(validation)),
            ("learning_rate", rates.into()),
        ];
        if !self.recipe.monitor.metric.is_loss() {
            let monitored = log.iter().map(|row| row.monitored).collect();
            columns.push(("monitored", Column::Reals(monitored)));
        }
        Ok(Table::new(columns)?)
    }
}

/// The samples of a split that the recipe wants: for a detector, those of the classes that count as normal.
fn chosen(recipe: &Recipe, samples: &dyn Samples, split: Split) -> Result<Vec<usize>, Trouble> {
    let mut chosen = samples.of_split(split, recipe.task());
    if let Some(names) = &recipe.normal {
        let normal = class_numbers("normal", names, &samples.classes())?;
        chosen.retain(|sample| {
            samples
                .class_of(*sample)
                .is_some_and(|class| normal.contains(&class))
        });
    }
    Ok(chosen)
}

/// Whether the recipe fits the steps of a network.
fn check_phases(
    recipe: &Recipe,
    network: &dyn Network,
    validation: &[usize],
) -> Result<(), Trouble> {
    let (model, split, phases) = (recipe.model.name(), recipe.monitor.on, network.phases());
    let upper = phases
        .iter()
        .any(|phase| phase.source == Source::Validation);
    if upper && validation.is_empty() {
        let message = format!("{model} learns from the split `{split}` too, and it has no samples");
        return Err(Trouble::new(message).hint("split off validation rows"));
    }
    if recipe.accumulate > 1 && phases.len() > 1 {
        let message =
            format!("a step of {model} has several parts, so gradients cannot be added up");
        return Err(Trouble::new(message).hint("leave `accumulate` out"));
    }
    Ok(())
}

/// What the recipe says that each class counts, as a tensor.
fn class_weights(
    recipe: &Recipe,
    samples: &dyn Samples,
    train: &[usize],
    device: &Device,
) -> Result<Option<Tensor>, Trouble> {
    let Some(chosen) = &recipe.class_weights else {
        return Ok(None);
    };
    let names = samples.classes();
    let weights = match chosen {
        ClassWeights::Given(weights) if weights.len() == names.len() => weights.clone(),
        ClassWeights::Given(weights) => {
            let (given, known) = (weights.len(), names.len());
            let message = format!("{given} class weights for {known} classes");
            return Err(Trouble::new(message).hint(format!("in this order: {}", names.join(", "))));
        }
        ClassWeights::Balanced(_) => {
            let mut counts = vec![0_usize; names.len()];
            for class in train.iter().filter_map(|sample| samples.class_of(*sample)) {
                counts[class as usize] += 1;
            }
            let total = train.len() as f64;
            let mut weights = Vec::with_capacity(names.len());
            for (name, count) in names.iter().zip(counts) {
                if count == 0 {
                    let message = format!("class `{name}` has no training samples to balance");
                    return Err(Trouble::new(message));
                }
                weights.push((total / (names.len() * count) as f64) as f32);
            }
            weights
        }
    };
    Ok(Some(Tensor::new(weights, device)?))
}

fn optimizers(recipe: &Recipe, network: &dyn Network) -> Result<Vec<Optimizer>, Trouble> {
    let mut optimizers = Vec::new();
    for phase in network.phases() {
        let own = Optimizer::with_decay(&recipe.optimizer, network.state(), phase.decay)?;
        optimizers.push(own);
    }
    Ok(optimizers)
}

/// What the checkpoint holds of the optimiser of one phase.
fn of_phase(phase: usize, data: &BTreeMap<String, TensorData>) -> BTreeMap<String, TensorData> {
    let prefix = format!("{phase}.");
    let mut own = BTreeMap::new();
    for (name, tensor) in data {
        if let Some(name) = name.strip_prefix(&prefix) {
            own.insert(name.to_owned(), tensor.clone());
        }
    }
    own
}

fn diverged(what: &str, epoch: u64, loss: f64) -> Trouble {
    Trouble::new(format!("the {what} loss became {loss} in epoch {epoch}"))
        .hint("lower the optimizer's `lr`, set `clip`, or normalise the series first")
}
