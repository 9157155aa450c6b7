//! The loop over epochs: shuffle, step, validate, take note, keep a checkpoint.
//! Its outcome is a function of recipe, windows and seed, whether or not it was interrupted on the way.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use serde_json::{Value, json};

use super::augment::augment;
use super::checkpoint::{Checkpoint, Course, Inside, LogRow};
use super::monitor::{Mean, measure};
use super::progress::Counter;
use super::recipe::ClassWeights;
use super::stopping::Stopping;
use super::{Figure, Keep, Recipe, Samples};
use crate::models::{self, Batch, Network, Phase, Source, Task};
use crate::schedules::Schedule;
use contract::artifact::{Column, Digest, DigestWriter, Model, Split, Table, TensorData};
use contract::{Random, StageContext, Trouble};
use numerics::optimizer::Optimizer;
use numerics::{self, Gradients, Mode, Precision};

/// What a training gives.
#[derive(Clone, Debug)]
pub struct Trained {
    pub model: Model,
    /// A row per epoch: `epoch`, `train_loss`, `validation_loss`, the monitored figure, `learning_rate`.
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
    /// It went on inside an epoch, from a state that is of use until that epoch has ended.
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
        let normal = normal_classes(recipe, samples)?;
        let wanted = |sample: &usize| match &normal {
            Some(normal) => samples
                .class_of(*sample)
                .is_some_and(|class| normal.contains(&class)),
            None => true,
        };
        let [train_samples, validation_samples] = [Split::Train, recipe.monitor.on].map(|split| {
            samples
                .of_split(split, task)
                .into_iter()
                .filter(wanted)
                .collect::<Vec<_>>()
        });
        if train_samples.is_empty() {
            return Err(
                Trouble::new("there are no samples in the split `train`").hint(
                    "does the series have training rows, and at least as many as a window is long?",
                ),
            );
        }
        if let Some(parameter) = recipe
            .needs_validation()
            .filter(|_| validation_samples.is_empty())
        {
            let message = format!(
                "`{parameter}` needs samples in the split `{}`, and there are none",
                recipe.monitor.on
            );
            return Err(
                Trouble::new(message).hint("split off validation rows, or set `keep: last`")
            );
        }
        let device = numerics::device(context.device)?;
        if recipe.precision == Precision::Bf16 && device.is_cpu() {
            return Err(Trouble::new(
                "`precision: bf16` needs a CUDA device, and this training runs on the CPU",
            )
            .hint("run with `--device cuda`, or leave `precision` out"));
        }
        let network = models::build(
            &recipe.model,
            samples.shape(task),
            &device,
            &mut context.random("init"),
        )?;
        network.start(context)?;
        if network
            .phases()
            .iter()
            .any(|phase| phase.source == Source::Validation)
            && validation_samples.is_empty()
        {
            let (model, split) = (recipe.model.name(), recipe.monitor.on);
            let message =
                format!("{model} learns from the split `{split}` too, and it has no samples");
            return Err(Trouble::new(message).hint("split off validation rows"));
        }
        if recipe.accumulate > 1 && network.phases().len() > 1 {
            let message = format!(
                "a step of {} has several parts, so gradients cannot be added up",
                recipe.model.name()
            );
            return Err(Trouble::new(message).hint("leave `accumulate` out"));
        }
        let class_weights = class_weights(recipe, samples, &train_samples, &device)?;
        let optimizers = optimizers(recipe, network.as_ref())?;
        let rate = optimizers.first().map_or(0.0, Optimizer::base_rate);
        let schedule = Schedule::new(&recipe.schedule, rate, recipe.epochs);
        let course = Course {
            epochs: 0,
            steps: 0,
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

    /// Goes on from the newest usable checkpoint, if there is one: that inside an epoch, unless the epoch came to its end
    /// since.
    fn resume(&mut self) {
        let last_step = self.recipe.epochs * self.steps_per_epoch();
        let inside = self
            .context
            .host
            .load_checkpoint(&self.inside_chain(), last_step);
        let inside = inside.and_then(|(_, bytes)| Checkpoint::decode(&bytes).ok());
        let after = self
            .context
            .host
            .load_checkpoint(&self.chain, self.recipe.epochs);
        if let Some(checkpoint) = inside
            && checkpoint.course.inside.is_some()
            && after
                .as_ref()
                .is_none_or(|(epoch, _)| checkpoint.course.epochs >= *epoch)
        {
            let epoch = checkpoint.course.epochs;
            if self.restore(epoch, checkpoint).is_ok() {
                self.resumed_inside = true;
                return self
                    .context
                    .host
                    .note(&format!("training continues inside epoch {}", epoch + 1));
            }
        }
        let Some((step, bytes)) = after else { return };
        match Checkpoint::decode(&bytes).and_then(|checkpoint| self.restore(step, checkpoint)) {
            Ok(()) => self
                .context
                .host
                .note(&format!("training continues after epoch {step}")),
            Err(error) => {
                let cause = error
                    .causes()
                    .first()
                    .map(|cause| format!(": {cause}"))
                    .unwrap_or_default();
                self.context.host.note(&format!(
                    "the checkpoint of epoch {step} is not used: {error}{cause}"
                ));
            }
        }
    }

    fn steps_per_epoch(&self) -> u64 {
        self.train_samples
            .len()
            .div_ceil(self.recipe.batch * self.recipe.accumulate) as u64
    }

    /// The chain of states inside epochs, numbered by step.
    fn inside_chain(&self) -> Digest {
        let mut writer = DigestWriter::new("training, inside an epoch");
        writer.digest(&self.chain);
        writer.finish()
    }

    /// Takes a checkpoint over, or leaves everything as it is.
    fn restore(&mut self, step: u64, checkpoint: Checkpoint) -> Result<(), Trouble> {
        if checkpoint.course.epochs != step {
            return Err(Trouble::new(format!(
                "it holds epoch {}",
                checkpoint.course.epochs
            )));
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
        self.counter
            .set_validation(self.course.log.last().and_then(|row| row.validation_loss));
        Ok(())
    }

    fn epoch(&mut self) -> Result<(), Trouble> {
        let epoch = self.course.epochs + 1;
        let learning_rate = self.schedule.rate(self.course.epochs, 0.0);
        let train_loss = self.pass(epoch)?;
        let (validation_loss, measured) = self.validate(epoch)?;
        let monitored = match self.recipe.monitor.metric {
            Figure::TrainLoss => Some(train_loss),
            Figure::Loss => validation_loss,
            _ => measured,
        };
        let figure = monitored.map(|figure| self.recipe.monitor.lower_is_better(figure));
        self.schedule.observe(figure);
        if let Some(figure) = figure {
            let better =
                self.course
                    .stopping
                    .observe(epoch, figure, self.recipe.early_stopping.as_ref());
            if better && self.recipe.keep == Keep::Best {
                self.best = self.network.state().to_data()?;
            }
        }
        self.counter.set_validation(validation_loss);
        self.counter
            .report(epoch, self.train_samples.len() as u64, train_loss);
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
        for group in
            order[inside.done as usize..].chunks(self.recipe.batch * self.recipe.accumulate)
        {
            self.context.check_cancelled()?;
            let learning_rate = self
                .schedule
                .rate(self.course.epochs, inside.done as f64 / order.len() as f64);
            let loss = self.step(group, learning_rate, &mut noise)?;
            if !loss.is_finite() {
                return Err(diverged("training", epoch, loss));
            }
            inside.loss += loss * group.len() as f64;
            inside.done += group.len() as u64;
            inside.noise = noise.state();
            self.course.inside = Some(inside.clone());
            self.counter
                .report(epoch, inside.done, inside.loss / inside.done as f64);
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
            self.optimizers[index].step(
                self.network.state(),
                &gradients,
                learning_rate * phase.rate,
            )?;
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
        Ok(self
            .recipe
            .precision
            .during(|| self.network.gradients(phase, batch, noise))?)
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
        let batches = self.validation_samples.chunks(self.recipe.batch);
        let index = self.course.validation_batches % batches.len() as u64;
        self.course.validation_batches += 1;
        let samples = batches.clone().nth(index as usize).unwrap_or_default();
        self.gather(samples, noise)
    }

    /// Mean loss and monitored figure over the validation samples, where there are any.
    fn validate(&mut self, epoch: u64) -> Result<(Option<f64>, Option<f64>), Trouble> {
        // The same draws for every epoch, and none that training would miss.
        let mut noise = self.context.random("validation");
        let (mut losses, mut figures) = (Mean::default(), Mean::default());
        let metric = self.recipe.monitor.metric;
        for samples in self.validation_samples.chunks(self.recipe.batch) {
            self.context.check_cancelled()?;
            let batch = self.gather(samples, &mut noise)?;
            let loss = self
                .network
                .loss(&batch, Mode::Evaluate, &mut noise)?
                .to_scalar::<f32>()?;
            losses.add(f64::from(loss), samples.len());
            if !matches!(metric, Figure::Loss | Figure::TrainLoss) {
                let figure = measure(metric, self.task, self.network.as_ref(), &batch)?;
                figure
                    .into_iter()
                    .for_each(|figure| figures.add(figure, samples.len()));
            }
        }
        match losses.value() {
            Some(loss) if !loss.is_finite() => Err(diverged("validation", epoch, loss)),
            loss => Ok((loss, figures.value())),
        }
    }

    fn keep_checkpoint(&self) -> Result<(), Trouble> {
        self.save(&self.chain, self.course.epochs)
    }

    /// The epoch has ended in which the training went on.
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
        let group = (self.recipe.batch * self.recipe.accumulate) as u64;
        let step = self.course.epochs * self.steps_per_epoch() + inside.done.div_ceil(group);
        self.course.steps = self.optimizers.first().map_or(0, Optimizer::steps);
        match self.save(&self.inside_chain(), step) {
            Ok(()) => self.context.host.note(&format!(
                "training stopped inside epoch {}",
                self.course.epochs + 1
            )),
            Err(error) => self
                .context
                .host
                .note(&format!("training stopped, and its epoch is lost: {error}")),
        }
    }

    fn save(&self, chain: &Digest, step: u64) -> Result<(), Trouble> {
        let mut optimizer = BTreeMap::new();
        for (phase, own) in self.optimizers.iter().enumerate() {
            let own = own.to_data(self.network.state())?;
            optimizer.extend(
                own.into_iter()
                    .map(|(name, tensor)| (format!("{phase}.{name}"), tensor)),
            );
        }
        let checkpoint = Checkpoint {
            course: self.course.clone(),
            weights: self.network.state().to_data()?,
            optimizer,
            best: self.best.clone(),
        };
        // Inside an epoch, steps are not epochs.
        let best = self
            .course
            .stopping
            .best
            .map(|(epoch, _)| epoch)
            .filter(|_| *chain == self.chain);
        self.context
            .host
            .save_checkpoint(chain, step, &checkpoint.encode()?, best)
    }

    /// Fits a model in closed form.
    fn fit(self) -> Result<Trained, Trouble> {
        let windows = self.samples.windows();
        let name = self.recipe.model.name();
        let windows = windows.ok_or_else(|| {
            Trouble::new(format!("{name} is fitted to windows and to nothing else"))
        })?;
        self.network.fit(windows, self.context)?;
        self.finish()
    }

    fn finish(self) -> Result<Trained, Trouble> {
        let log = &self.course.log;
        let last = self.course.epochs;
        let (chosen, tensors) = match (self.recipe.keep, self.course.stopping.best) {
            (Keep::Best, Some((epoch, _))) => (epoch, self.best),
            _ => (last, self.network.state().to_data()?),
        };
        let row = log.iter().find(|row| row.epoch == chosen);
        let classes = if self.task == Task::Classify {
            self.samples.classes()
        } else {
            Vec::new()
        };
        let mut training = models::describe(self.samples.shape(self.task), &classes);
        training.extend([
            ("parameters".to_owned(), json!(self.network.state().size())),
            ("epochs".to_owned(), json!(last)),
            (
                "stopped_early".to_owned(),
                json!(self.course.stopping.stopped),
            ),
            ("chosen_epoch".to_owned(), json!(chosen)),
            (
                "train_loss".to_owned(),
                json!(row.map(|row| row.train_loss)),
            ),
            (
                "validation_loss".to_owned(),
                json!(row.and_then(|row| row.validation_loss)),
            ),
            (
                "monitored".to_owned(),
                json!(row.and_then(|row| row.monitored)),
            ),
        ]);
        let model = Model {
            config: self.recipe.model.to_value(),
            training: Value::Object(training),
            tensors,
        };
        let mut columns = vec![
            (
                "epoch",
                Column::Integers(log.iter().map(|row| Some(row.epoch as i64)).collect()),
            ),
            (
                "train_loss",
                Column::Reals(log.iter().map(|row| Some(row.train_loss)).collect()),
            ),
            (
                "validation_loss",
                Column::Reals(log.iter().map(|row| row.validation_loss).collect()),
            ),
            (
                "learning_rate",
                Column::Reals(log.iter().map(|row| Some(row.learning_rate)).collect()),
            ),
        ];
        if !matches!(self.recipe.monitor.metric, Figure::Loss | Figure::TrainLoss) {
            columns.push((
                "monitored",
                Column::Reals(log.iter().map(|row| row.monitored).collect()),
            ));
        }
        Ok(Trained {
            model,
            log: Table::new(columns)?,
        })
    }
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
            let message = format!(
                "{} class weights for {} classes",
                weights.len(),
                names.len()
            );
            return Err(Trouble::new(message).hint(format!("in this order: {}", names.join(", "))));
        }
        ClassWeights::Balanced(_) => {
            let mut counts = vec![0_usize; names.len()];
            for class in train.iter().filter_map(|sample| samples.class_of(*sample)) {
                counts[class as usize] += 1;
            }
            if let Some(absent) = counts.iter().position(|count| *count == 0) {
                let message = format!(
                    "class `{}` has no training samples to balance",
                    names[absent]
                );
                return Err(Trouble::new(message));
            }
            let total = train.len() as f64;
            counts
                .iter()
                .map(|count| (total / (names.len() * count) as f64) as f32)
                .collect()
        }
    };
    Ok(Some(Tensor::new(weights, device)?))
}

fn optimizers(recipe: &Recipe, network: &dyn Network) -> Result<Vec<Optimizer>, Trouble> {
    let of = |phase: &Phase| Optimizer::with_decay(&recipe.optimizer, network.state(), phase.decay);
    network.phases().iter().map(of).collect()
}

/// What the checkpoint holds of the optimiser of one phase.
fn of_phase(phase: usize, data: &BTreeMap<String, TensorData>) -> BTreeMap<String, TensorData> {
    let prefix = format!("{phase}.");
    let own = |(name, tensor): (&String, &TensorData)| {
        Some((name.strip_prefix(&prefix)?.to_owned(), tensor.clone()))
    };
    data.iter().filter_map(own).collect()
}

/// The numbers of the classes that a detector learns, if the recipe names any.
fn normal_classes(recipe: &Recipe, samples: &dyn Samples) -> Result<Option<Vec<u32>>, Trouble> {
    let Some(names) = &recipe.normal else {
        return Ok(None);
    };
    let known = samples.classes();
    let number = |name: &String| {
        let number = known
            .iter()
            .position(|class| class == name)
            .and_then(|number| u32::try_from(number).ok());
        number.ok_or_else(|| {
            let hint = if known.is_empty() {
                "they have none".to_owned()
            } else {
                format!("they have {}", known.join(", "))
            };
            Trouble::new(format!(
                "`normal` names the class `{name}`, which the samples do not have"
            ))
            .hint(hint)
        })
    };
    names.iter().map(number).collect::<Result<_, _>>().map(Some)
}

fn diverged(what: &str, epoch: u64, loss: f64) -> Trouble {
    Trouble::new(format!("the {what} loss became {loss} in epoch {epoch}"))
        .hint("lower the optimizer's `lr`, set `clip`, or normalise the series first")
}
