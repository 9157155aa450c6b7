//! What the parts of a page are gathered with: the run, where tiles go, and what could not be shown.

use std::cell::RefCell;

use contract::artifact::{Artifact, ArtifactKind};

use super::tiles::TileSink;
use crate::cache::Output;
use crate::report::{History, StageHistory};

/// A run that is being gathered for a page.
pub struct Gathering<'a> {
    pub history: &'a History<'a>,
    pub sink: &'a dyn TileSink,
    gaps: RefCell<Vec<String>>,
}

impl<'a> Gathering<'a> {
    pub fn new(history: &'a History<'a>, sink: &'a dyn TileSink) -> Self {
        Self {
            history,
            sink,
            gaps: RefCell::default(),
        }
    }

    /// Loads an output. One that is gone or damaged is noted as a gap.
    pub fn load(&self, stage: &StageHistory, output: &Output) -> Option<Artifact> {
        match self.history.store.load(&output.record) {
            Ok(artifact) => Some(artifact),
            Err(error) => {
                let gap = format!("{}: {error}", name_of(stage, output));
                let mut gaps = self.gaps.borrow_mut();
                if !gaps.contains(&gap) {
                    gaps.push(gap);
                }
                None
            }
        }
    }

    /// What the store no longer has, as sentences.
    pub fn gaps(&self) -> Vec<String> {
        let mut gaps = self.gaps.borrow().clone();
        for stage in &self.history.stages {
            if stage.action.is_none() && !stage.record.digests.is_empty() {
                gaps.push(format!("{}: its results are gone", stage.record.name));
            }
        }
        gaps
    }

    /// Every output of a kind, in the order of the stages.
    pub fn outputs(&self, kind: ArtifactKind) -> Vec<(usize, &'a StageHistory, &'a Output)> {
        let mut found = Vec::new();
        for (index, stage) in self.history.stages.iter().enumerate() {
            for output in stage.outputs() {
                if output.record.kind == Some(kind) {
                    found.push((index, stage, output));
                }
            }
        }
        found
    }

    /// Outputs of a kind that a stage stands on, those nearest to the data first.
    pub fn above(&self, stage: usize, kind: ArtifactKind) -> Vec<(&'a StageHistory, &'a Output)> {
        let mut stages = vec![stage];
        let mut next = 0;
        while let Some(stage) = stages.get(next).copied() {
            for input in &self.history.stages[stage].inputs {
                if let Some((maker, _)) = &input.maker
                    && !stages.contains(maker)
                {
                    stages.push(*maker);
                }
            }
            next += 1;
        }
        let mut found = self.outputs(kind);
        found.retain(|(index, ..)| stages.contains(index));
        found
            .into_iter()
            .map(|(_, stage, output)| (stage, output))
            .collect()
    }
}

/// The stage, and its port where it has several.
pub fn name_of(stage: &StageHistory, output: &Output) -> String {
    let name = &stage.record.name;
    match stage.outputs().len() {
        1 => name.clone(),
        _ => format!("{name}.{}", output.port),
    }
}
