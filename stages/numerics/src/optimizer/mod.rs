//! Optimisers whose whole state can be saved, so that an interrupted training continues to the same bits.
//! Learning rates come from outside.

contract::entries! {
    /// All optimisers.
    const ENTRIES: Entry<dyn Rule>;
    mod adam: Adam, AdamW;
    mod sgd: Sgd;
}

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Device, Tensor};

#[cfg(feature = "cuda")]
use super::cuda::slots::{self, Launched};
use super::host::{with_slice, with_slice_mut};
use super::state::{State, to_data};
use super::{Gradients, Level};
use contract::artifact::TensorData;
use contract::{Choice, Fault, Table, Trouble};

pub use adam::{Adam, AdamW};
pub use sgd::Sgd;

/// The table of optimisers.
static OPTIMIZERS: Table<dyn Rule> = Table::new("optimizer", &[ENTRIES]);

contract::tabled!(dyn Rule in OPTIMIZERS);

/// An optimiser with its parameters, as a pipeline names it.
pub type OptimizerChoice = Choice<dyn Rule>;

/// The rule of an optimiser for one parameter.
pub trait Rule: Send + Sync {
    /// The rate that a schedule starts from.
    fn rate(&self) -> f64;

    /// The names of what the rule remembers of each parameter, each of the parameter's shape.
    fn memory(&self) -> &'static [&'static str];

    /// What the schema of the parameters cannot say.
    ///
    /// # Errors
    /// The parameter at fault.
    fn check(&self) -> Result<(), Fault> {
        Ok(())
    }

    /// Updates values and memory in place. `step` counts from 1.
    fn update(
        &self,
        level: Level,
        step: u64,
        rate: f64,
        values: &mut [f32],
        gradient: &[f32],
        memory: &mut [Vec<f32>],
    );

    /// The kernel that does so on CUDA for 32-bit floats, and its constants in this step. It has a file beside the rule's.
    #[cfg(feature = "cuda")]
    fn on_cuda(&self, _step: u64, _rate: f64) -> Option<Launched> {
        None
    }

    /// The same with tensor operations, for devices without a kernel: the new values, and the memory in place.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn update_tensor(
        &self,
        step: u64,
        rate: f64,
        values: &Tensor,
        gradient: &Tensor,
        memory: &mut [Tensor],
    ) -> candle_core::Result<Tensor>;
}

/// What an optimiser remembers of one parameter.
enum Memory {
    Host(Vec<Vec<f32>>),
    Device(Vec<Tensor>),
}

/// An optimiser at work on one network.
pub struct Optimizer {
    rule: Arc<dyn Rule>,
    level: Level,
    steps: u64,
    memory: Vec<Memory>,
}

impl Optimizer {
    /// A fresh optimiser for the parameters of `state`.
    ///
    /// # Errors
    /// If memory cannot be allocated.
    pub fn new(choice: &OptimizerChoice, state: &State) -> Result<Self, Trouble> {
        let rule = choice.shared();
        let count = rule.memory().len();
        let mut memory = Vec::with_capacity(state.parameters().len());
        for (_, parameter) in state.parameters() {
            memory.push(match parameter.device() {
                Device::Cpu => Memory::Host(vec![vec![0.0; parameter.elem_count()]; count]),
                // Each has memory of its own, which kernels change in place.
                _ => Memory::Device(
                    (0..count)
                        .map(|_| parameter.zeros_like())
                        .collect::<candle_core::Result<_>>()?,
                ),
            });
        }
        Ok(Self {
            rule,
            level: Level::detect(),
            steps: 0,
            memory,
        })
    }

    /// The same with the weight decay multiplied by a factor.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_decay(
        choice: &OptimizerChoice,
        state: &State,
        factor: f64,
    ) -> Result<Self, Trouble> {
        let mut parameters = choice.parameters().clone();
        if let Some(decay) = parameters.get_mut("weight_decay")
            && let Some(value) = decay.as_f64()
        {
            *decay = (value * factor).into();
        }
        let choice = Choice::new(choice.name(), parameters.into())?;
        Self::new(&choice, state)
    }

    /// The rate that a schedule starts from.
    pub fn base_rate(&self) -> f64 {
        self.rule.rate()
    }

    /// Moves all parameters that have a gradient.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn step(
        &mut self,
        state: &State,
        gradients: &Gradients,
        rate: f64,
    ) -> candle_core::Result<()> {
        self.steps += 1;
        #[cfg(feature = "cuda")]
        if state.device().is_cuda()
            && let Some(launched) = self.rule.on_cuda(self.steps, rate)
        {
            return self.step_on_cuda(&launched, state, gradients);
        }
        let (level, step) = (self.level, self.steps);
        for (((_, parameter), gradient), memory) in
            state.parameters().zip(&gradients.0).zip(&mut self.memory)
        {
            let Some(gradient) = gradient else { continue };
            match memory {
                Memory::Host(memory) => {
                    with_slice(&gradient.contiguous()?, |gradient| {
                        with_slice_mut(parameter, |values| {
                            self.rule
                                .update(level, step, rate, values, gradient, memory);
                        })
                    })??;
                }
                Memory::Device(memory) => {
                    let values = parameter.as_detached_tensor();
                    let rule = &self.rule;
                    let values = rule.update_tensor(step, rate, &values, gradient, memory)?;
                    parameter.set(&values)?;
                }
            }
        }
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn step_on_cuda(
        &self,
        launched: &Launched,
        state: &State,
        gradients: &Gradients,
    ) -> candle_core::Result<()> {
        let mut slots = Vec::new();
        for (((_, parameter), gradient), memory) in
            state.parameters().zip(&gradients.0).zip(&self.memory)
        {
            if let (Some(gradient), Memory::Device(memory)) = (gradient, memory) {
                slots.push(slots::Slot {
                    values: parameter.as_detached_tensor(),
                    gradient: gradient.contiguous()?,
                    memory,
                });
            }
        }
        slots::step(launched, &slots)
    }

    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// All that is remembered, as `NAME.PARAMETER`.
    ///
    /// # Errors
    /// If a tensor cannot be read.
    pub fn to_data(&self, state: &State) -> candle_core::Result<BTreeMap<String, TensorData>> {
        let mut data = BTreeMap::new();
        for ((name, parameter), memory) in state.parameters().zip(&self.memory) {
            for (index, kind) in self.rule.memory().iter().enumerate() {
                let tensor = match memory {
                    Memory::Host(memory) => TensorData::from_f32(parameter.dims(), &memory[index]),
                    Memory::Device(memory) => to_data(&memory[index])?,
                };
                data.insert(format!("{kind}.{name}"), tensor);
            }
        }
        Ok(data)
    }

    /// Continues from what [`Self::to_data`] gave after `steps` steps.
    ///
    /// # Errors
    /// If something is missing or does not fit.
    pub fn set_data(
        &mut self,
        state: &State,
        steps: u64,
        data: &BTreeMap<String, TensorData>,
    ) -> Result<(), Trouble> {
        for ((name, parameter), memory) in state.parameters().zip(&mut self.memory) {
            for (index, kind) in self.rule.memory().iter().enumerate() {
                let key = format!("{kind}.{name}");
                let found = data.get(&key);
                let found = found.filter(|tensor| tensor.shape == parameter.dims());
                let Some(values) = found.and_then(TensorData::to_f32) else {
                    let message = format!("the optimizer's `{key}` does not fit");
                    return Err(Trouble::new(message));
                };
                match memory {
                    Memory::Host(memory) => memory[index] = values,
                    Memory::Device(memory) => {
                        memory[index] =
                            Tensor::from_vec(values, parameter.dims(), parameter.device())?;
                    }
                }
            }
        }
        self.steps = steps;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::initialise::Initial;
    use crate::state::StateBuilder;
    use contract::Random;
    use serde_json::json;

    fn state() -> State {
        let mut random = Random::new(1, "init");
        let mut builder = StateBuilder::new(&Device::Cpu, &mut random);
        builder.parameter("w", &[3], Initial::FanIn(1)).unwrap();
        builder.finish()
    }

    fn choices() -> Vec<OptimizerChoice> {
        [
            ("adam", json!({"lr": 0.05, "weight_decay": 0.1})),
            ("adamw", json!({"lr": 0.05, "weight_decay": 0.1})),
            ("sgd", json!({"lr": 0.05})),
            (
                "sgd",
                json!({"lr": 0.05, "momentum": 0.9, "nesterov": true, "weight_decay": 0.01}),
            ),
        ]
        .into_iter()
        .map(|(name, parameters)| Choice::new(name, parameters).unwrap())
        .collect()
    }

    fn values(state: &State) -> Vec<f32> {
        state.parameters().next().unwrap().1.to_vec1().unwrap()
    }

    fn gradient(state: &State) -> Gradients {
        // Of the loss (w - 2)² summed.
        let (_, parameter) = state.parameters().next().unwrap();
        Gradients(vec![Some(
            ((parameter.as_detached_tensor() - 2.0).unwrap() * 2.0).unwrap(),
        )])
    }

    #[test]
    fn all_approach_a_minimum_and_resume_to_the_bit() {
        for choice in choices() {
            let (straight, resumed) = (state(), state());
            let mut optimizer = Optimizer::new(&choice, &straight).unwrap();
            let rate = optimizer.base_rate();
            for _ in 0..7 {
                optimizer
                    .step(&straight, &gradient(&straight), rate)
                    .unwrap();
            }
            resumed.set_data(&straight.to_data().unwrap()).unwrap();
            let mut second = Optimizer::new(&choice, &resumed).unwrap();
            second
                .set_data(
                    &resumed,
                    optimizer.steps(),
                    &optimizer.to_data(&straight).unwrap(),
                )
                .unwrap();
            for _ in 0..200 {
                optimizer
                    .step(&straight, &gradient(&straight), rate)
                    .unwrap();
                second.step(&resumed, &gradient(&resumed), rate).unwrap();
            }
            assert_eq!(values(&straight), values(&resumed), "{choice:?}");
            assert!(
                values(&straight)
                    .iter()
                    .all(|value| (value - 2.0).abs() < 0.25),
                "{choice:?}"
            );
        }
    }

    #[test]
    fn tensor_operations_agree_with_loops() {
        for choice in choices() {
            let (host, device) = (state(), state());
            let mut on_host = Optimizer::new(&choice, &host).unwrap();
            let mut on_device = Optimizer::new(&choice, &device).unwrap();
            let count = on_device.rule.memory().len();
            let (_, parameter) = device.parameters().next().unwrap();
            on_device.memory = vec![Memory::Device(vec![parameter.zeros_like().unwrap(); count])];
            for _ in 0..20 {
                on_host.step(&host, &gradient(&host), 0.05).unwrap();
                on_device.step(&device, &gradient(&device), 0.05).unwrap();
            }
            for (one, other) in values(&host).iter().zip(values(&device)) {
                assert!((one - other).abs() < 1e-5, "{choice:?}: {one} {other}");
            }
        }
    }

    /// More parameters than go into one launch, and values than a block works on.
    #[test]
    fn kernels_agree_with_loops() {
        let Ok(gpu) = crate::device(contract::Device::Cuda(0)) else {
            return;
        };
        let on = |device: &Device| {
            let mut random = Random::new(1, "init");
            let mut builder = StateBuilder::new(device, &mut random);
            for index in 0..70 {
                let size = [1, 2047, 2048, 4100, 3][index % 5];
                let name = index.to_string();
                builder
                    .parameter(&name, &[size], Initial::FanIn(1))
                    .unwrap();
            }
            builder.finish()
        };
        for choice in choices() {
            let (host, device) = (on(&Device::Cpu), on(&gpu));
            for state in [&host, &device] {
                let mut optimizer = Optimizer::new(&choice, state).unwrap();
                for factor in [2.0, -1.0, 0.5] {
                    let mut gradients = Vec::new();
                    for (index, (_, parameter)) in state.parameters().enumerate() {
                        // Some have none.
                        let gradient = (parameter.as_detached_tensor() * factor).unwrap();
                        gradients.push((index != 7).then_some(gradient));
                    }
                    optimizer.step(state, &Gradients(gradients), 0.05).unwrap();
                }
            }
            for ((name, one), (_, other)) in host.parameters().zip(device.parameters()) {
                let [one, other] = [one, other].map(|values| values.to_vec1::<f32>().unwrap());
                for (one, other) in one.iter().zip(&other) {
                    assert!(
                        (one - other).abs() < 1e-5,
                        "{choice:?} {name}: {one} {other}"
                    );
                }
            }
        }
    }

    #[test]
    fn unusable_parameters_are_named() {
        let fault = |name, parameters| OptimizerChoice::new(name, parameters).unwrap_err();
        assert_eq!(fault("adam", json!({"lr": -1.0})).parameter, "lr");
        assert_eq!(fault("adamw", json!({"beta2": 1.0})).parameter, "beta2");
        assert_eq!(fault("sgd", json!({"momentum": 1.0})).parameter, "momentum");
        assert!(fault("adam", json!({"rate": 1.0})).reason.contains("rate"));
        let nesterov = json!({"lr": 0.1, "nesterov": true});
        let nesterov = OptimizerChoice::new("sgd", nesterov).unwrap();
        assert_eq!(nesterov.check().unwrap_err().parameter, "nesterov");
        for choice in choices().into_iter().chain(OPTIMIZERS.examples()) {
            assert_eq!(choice.check(), Ok(()), "{choice:?}");
        }
    }

    #[test]
    fn names_stand_for_their_own_rules() {
        let memory = |name| OptimizerChoice::plain(name).unwrap().memory();
        assert_eq!(memory("sgd"), ["direction"]);
        assert_eq!(memory("adamw"), ["first", "second"]);
    }

    #[test]
    fn every_file_has_its_line_in_the_table() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/optimizer");
        contract::testing::assert_listed(&OPTIMIZERS, folder);
    }
}
