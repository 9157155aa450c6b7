//! Executes the stages of a finished run again, from their records alone, on other data than the run's: what was learned
//! then (models, statistics) is taken from the store, everything else is computed again. Nothing is stored.

use std::collections::BTreeMap;

use contract::artifact::{Artifact, ArtifactKind, Digest};
use contract::{Configured, Device, Inputs, NullHost, StageContext, StageKind, Trouble};
use indexmap::IndexMap;
use serde_json::{Value, json};

use crate::cache::{Action, Manifest, ObjectRecord, Output, RunRecord, Store};
use crate::diagnostic::AsTrouble;

/// A stage of the run.
struct Past {
    name: String,
    kind: StageKind,
    recorded: Manifest,
    action: Action,
}

impl Past {
    fn makes(&self, kind: ArtifactKind) -> bool {
        let mut outputs = self.action.outputs.iter();
        outputs.any(|output| output.record.kind == Some(kind))
    }

    fn output(&self, digest: &Digest) -> Option<&Output> {
        let mut outputs = self.action.outputs.iter();
        outputs.find(|output| output.record.digest == *digest)
    }
}

/// The stages of a finished run, ready to be executed again.
pub struct Replay<'a> {
    store: &'a Store,
    stages: Vec<Past>,
}

/// A stage of the run, by its place among those that can be executed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PastStage(usize);

impl<'a> Replay<'a> {
    /// Reads what the store knows about the stages of a run; those that it has no action of are left out.
    ///
    /// # Errors
    /// If the store cannot be read or a stage kind is not the one that ran then.
    pub fn open(store: &'a Store, run: &RunRecord, kinds: &[StageKind]) -> Result<Self, Trouble> {
        let mut stages = Vec::with_capacity(run.stages.len());
        store.anticipate_all(run.stages.iter().filter_map(|stage| stage.key));
        for stage in &run.stages {
            let (name, Some(key)) = (&stage.name, stage.key) else {
                continue;
            };
            let known = store.known_action(&key);
            let Some(action) = known.map_err(|error| error.to_trouble())? else {
                continue;
            };
            let Some(recorded) = Manifest::parse(&action.manifest) else {
                let message = format!("the record of the stage {name} is damaged");
                return Err(Trouble::new(message));
            };
            let Some(kind) = kinds.iter().find(|kind| kind.name == recorded.kind) else {
                let kind = &recorded.kind;
                let message =
                    format!("the stage {name} is of the kind `{kind}`, which no longer exists");
                return Err(Trouble::new(message));
            };
            stages.push(Past {
                name: name.clone(),
                kind: *kind,
                recorded,
                action,
            });
        }
        Ok(Self { store, stages })
    }

    pub fn name(&self, stage: PastStage) -> &str {
        &self.stages[stage.0].name
    }

    /// Stages that apply a trained model to data, in the order of the run.
    pub fn appliers(&self) -> Vec<PastStage> {
        let says = [
            ArtifactKind::Predictions,
            ArtifactKind::Forecasts,
            ArtifactKind::Scores,
        ];
        let mut appliers = Vec::new();
        for (stage, past) in self.stages.iter().enumerate() {
            let mut makers = self.makers(stage);
            let has_model = makers.any(|(_, kind)| kind == ArtifactKind::Model);
            if has_model && says.iter().any(|kind| past.makes(*kind)) {
                appliers.push(PastStage(stage));
            }
        }
        appliers
    }

    /// Whether a name means this stage: its own, or that of the stage that made its model.
    pub fn is_meant(&self, stage: PastStage, name: &str) -> bool {
        let is_called = |stage: usize| {
            let own = &self.stages[stage].name;
            own == name || own.split('[').next() == Some(name)
        };
        let mut makers = self.makers(stage.0);
        is_called(stage.0)
            || makers.any(|(maker, kind)| kind == ArtifactKind::Model && is_called(maker))
    }

    /// The stage at which data of this kind come into what leads to `stage`: for series the one that read them, for images
    /// the one that drew or read them.
    pub fn entrance(&self, stage: PastStage, kind: ArtifactKind) -> Option<PastStage> {
        let mut open = vec![stage.0];
        let mut seen = Vec::new();
        while let Some(index) = open.pop() {
            let past = &self.stages[index];
            let is_source = past.recorded.inputs.is_empty() || kind != ArtifactKind::Series;
            if is_source && past.makes(kind) {
                return Some(PastStage(index));
            }
            for (maker, made) in self.makers(index) {
                if made != ArtifactKind::Model && !seen.contains(&maker) {
                    seen.push(maker);
                    open.push(maker);
                }
            }
        }
        None
    }

    /// What the run's stage made of this kind.
    ///
    /// # Errors
    /// If it is gone from the store.
    pub fn stored(&self, stage: PastStage, kind: ArtifactKind) -> Result<Artifact, Trouble> {
        let past = &self.stages[stage.0];
        let mut outputs = past.action.outputs.iter();
        match outputs.find(|output| output.record.kind == Some(kind)) {
            Some(output) => self.load(past, &output.record),
            None => Err(Trouble::new(format!(
                "the stage {} made no {kind}",
                past.name
            ))),
        }
    }

    fn load(&self, past: &Past, record: &ObjectRecord) -> Result<Artifact, Trouble> {
        let loaded = self.store.load(record);
        loaded.map_err(|error| gone(&past.name, &error))
    }

    /// Does `stage` and what it needs again with `fresh` in the place of what `entrance` made.
    ///
    /// # Errors
    /// Whatever keeps a stage from its outputs.
    pub fn run(
        &self,
        stage: PastStage,
        entrance: PastStage,
        fresh: &Artifact,
        device: Device,
    ) -> Result<IndexMap<String, Artifact>, Trouble> {
        let mut pass = Pass {
            replay: self,
            entrance: entrance.0,
            fresh,
            device,
            done: BTreeMap::new(),
        };
        pass.outputs(stage.0).cloned()
    }

    /// What each input of a stage was: the stage that made it and its kind. A run lists its stages in the order of their
    /// dependence; of several with the same content, the one nearest above is meant.
    fn makers(&self, stage: usize) -> impl Iterator<Item = (usize, ArtifactKind)> {
        let inputs = self.stages[stage].recorded.inputs.iter();
        inputs.filter_map(move |(_, _, digest)| self.maker(digest, stage))
    }

    fn maker(&self, digest: &Digest, before: usize) -> Option<(usize, ArtifactKind)> {
        for index in (0..before).rev() {
            if let Some(made) = self.stages[index].output(digest)
                && let Some(kind) = made.record.kind
            {
                return Some((index, kind));
            }
        }
        None
    }

    /// Whether what a stage makes follows from what the entrance makes.
    fn depends(&self, stage: usize, entrance: usize) -> bool {
        let mut makers = self.makers(stage);
        stage == entrance || makers.any(|(maker, _)| self.depends(maker, entrance))
    }
}

const RUN_AGAIN: &str = "run the pipeline again: what was lost is computed again";

fn gone(stage: &str, error: &crate::cache::CacheError) -> Trouble {
    let message = format!("what the stage {stage} made is gone from the store");
    Trouble::new(message)
        .with_causes(vec![error.to_string()])
        .hint(RUN_AGAIN)
}

/// One time of doing stages again.
struct Pass<'a> {
    replay: &'a Replay<'a>,
    entrance: usize,
    fresh: &'a Artifact,
    device: Device,
    done: BTreeMap<usize, IndexMap<String, Artifact>>,
}

impl Pass<'_> {
    fn outputs(&mut self, stage: usize) -> Result<&IndexMap<String, Artifact>, Trouble> {
        if !self.done.contains_key(&stage) {
            let made = self.perform(stage)?;
            self.done.insert(stage, made);
        }
        Ok(&self.done[&stage])
    }

    fn perform(&mut self, stage: usize) -> Result<IndexMap<String, Artifact>, Trouble> {
        let past = &self.replay.stages[stage];
        if past.recorded.version != past.kind.version {
            let message = format!(
                "the stage kind `{}` has changed since the run, from version {} to {}",
                past.kind.name, past.recorded.version, past.kind.version
            );
            return Err(Trouble::new(message)
                .hint("run the pipeline again with this version of the program"));
        }
        let mut parameters = past.recorded.parameters.clone();
        // New data are neither for training nor held out: they are what is judged.
        if let Some(splits @ Value::Array(_)) = parameters.get_mut("splits") {
            *splits = json!(["test"]);
        }
        let configured = past.kind.parse(parameters).map_err(Trouble::new)?;
        let mut inputs = Inputs::default();
        for (port, item, digest) in &past.recorded.inputs {
            let artifact = self.input(digest, stage)?;
            inputs.add(port, item.as_deref().unwrap_or(""), artifact);
        }
        self.add_what_was_learned(past, &configured, &mut inputs)?;
        let host = NullHost::default();
        let context = StageContext {
            device: self.device,
            lineage: Digest([0; 32]),
            ..host.context(past.recorded.seed.unwrap_or_default())
        };
        Ok(configured.run(&inputs, &context)?.into_map())
    }

    /// An input: the fresh data, what follows from them, or what the run made.
    fn input(&mut self, digest: &Digest, stage: usize) -> Result<Artifact, Trouble> {
        let Some((maker, kind)) = self.replay.maker(digest, stage) else {
            let name = &self.replay.stages[stage].name;
            let message = format!("what made an input of the stage {name} is gone from the store");
            return Err(Trouble::new(message).hint(RUN_AGAIN));
        };
        if maker == self.entrance && kind == self.fresh.kind() {
            return Ok(self.fresh.clone());
        }
        let past = &self.replay.stages[maker];
        let Some(output) = past.output(digest) else {
            let message = format!("the stage {} made no such thing", past.name);
            return Err(Trouble::new(message));
        };
        let follows = kind != ArtifactKind::Model && self.replay.depends(maker, self.entrance);
        if !follows {
            return self.replay.load(past, &output.record);
        }
        match self.outputs(maker)?.get(&output.port) {
            Some(made) => Ok(made.clone()),
            None => {
                let message = format!("the stage {} made no `{}`", past.name, output.port);
                Err(Trouble::new(message))
            }
        }
    }

    /// A stage that learned something in the run, such as statistics, and can be told it, is told it: nothing is learned
    /// from the new data.
    fn add_what_was_learned(
        &self,
        past: &Past,
        configured: &Configured,
        inputs: &mut Inputs,
    ) -> Result<(), Trouble> {
        if configured.learns().is_empty() {
            return Ok(());
        }
        for port in configured.inputs() {
            let mut recorded = past.recorded.inputs.iter();
            let is_connected = recorded.any(|(name, ..)| *name == port.name);
            if port.optional
                && !is_connected
                && let Some(learned) = past.action.output(&port.name)
            {
                inputs.add(&port.name, "", self.replay.load(past, learned)?);
            }
        }
        Ok(())
    }
}
