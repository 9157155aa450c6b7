//! What trials share, divided into tasks: stages with the same users that depend on each other are a group, which one task
//! runs; groups that do not need each other are a wave. So the trainings that trials of a later axis share run side by side,
//! after what all trials begin with.

use std::collections::BTreeMap;

use super::file::SweepFile;
use super::opened::View;
use super::submission::{Unit, UnitMember, unit_member};
use crate::graph::{Graph, StageId};

/// Groups of shared stages that can run side by side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wave(Vec<Vec<StageId>>);

impl Wave {
    /// All its stages.
    pub fn stages(&self) -> impl Iterator<Item = StageId> {
        self.0.iter().flatten().copied()
    }

    /// A unit for each group, or for several groups if there are more of them than tasks.
    pub fn units(&self, file: &SweepFile, view: &View, open: &[usize], tasks: usize) -> Vec<Unit> {
        let per_unit = self.0.len().div_ceil(tasks.max(1)).max(1);
        let units = self.0.chunks(per_unit);
        units.map(|groups| unit(groups, file, view, open)).collect()
    }
}

/// A task for the stages of these groups: each is a target of the first open member that needs it.
fn unit(groups: &[Vec<StageId>], file: &SweepFile, view: &View, open: &[usize]) -> Unit {
    let graph = &view.session.graph;
    let stages = groups.concat();
    let mut targets: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for &stage in &stages {
        // What another stage of the unit needs runs with that one.
        if graph
            .needed_by(stage)
            .iter()
            .any(|next| stages.contains(next))
        {
            continue;
        }
        let mut users = open.iter();
        if let Some(user) = users.find(|place| view.trials.stages(**place).contains(&stage)) {
            let name = plain_name(graph, stage).to_owned();
            targets.entry(*user).or_default().push(name);
        }
    }
    let mut members = Vec::with_capacity(targets.len());
    for (place, targets) in targets {
        members.push(UnitMember {
            targets,
            ..unit_member(file, view, place)
        });
    }
    Unit { members }
}

/// A stage's name in the pipeline, without the member's label.
pub(super) fn plain_name(graph: &Graph, stage: StageId) -> &str {
    let name = &graph.stage(stage).name;
    name.split('#').next().unwrap_or(name)
}

/// The waves of stages that are still to run and that more than one open member needs, each after those that it needs.
pub(super) fn shared_waves(view: &View, open: &[usize]) -> Vec<Wave> {
    let graph = &view.session.graph;
    let mut users: BTreeMap<StageId, Vec<usize>> = BTreeMap::new();
    for &place in open {
        for stage in view.trials.stages(place) {
            if view.is_open(stage) {
                users.entry(*stage).or_default().push(place);
            }
        }
    }
    users.retain(|_, users| users.len() > 1);
    let mut ordered = graph.order().to_vec();
    ordered.retain(|stage| users.contains_key(stage));
    let mut shared_needs: BTreeMap<StageId, Vec<StageId>> = BTreeMap::new();
    for &stage in &ordered {
        let mut needs = graph.needs(stage);
        needs.retain(|need| users.contains_key(need));
        shared_needs.insert(stage, needs);
    }

    // At first each stage is a group; then those that depend on each other and have the same users become one.
    let mut group: BTreeMap<StageId, usize> = BTreeMap::new();
    for (number, stage) in ordered.iter().enumerate() {
        group.insert(*stage, number);
    }
    for stage in &ordered {
        for need in &shared_needs[stage] {
            if users[need] == users[stage] {
                let (from, to) = (group[stage], group[need]);
                for number in group.values_mut() {
                    if *number == from {
                        *number = to;
                    }
                }
            }
        }
    }

    // A stage never has more users than what it needs, so that groups cannot wait for each other in a circle and this ends.
    let mut wave_of: BTreeMap<usize, usize> = group.values().map(|number| (*number, 0)).collect();
    loop {
        let before = wave_of.clone();
        for stage in &ordered {
            for need in &shared_needs[stage] {
                if group[need] != group[stage] {
                    let wave = wave_of[&group[stage]].max(wave_of[&group[need]] + 1);
                    wave_of.insert(group[stage], wave);
                }
            }
        }
        if wave_of == before {
            break;
        }
    }

    let mut waves: BTreeMap<usize, BTreeMap<usize, Vec<StageId>>> = BTreeMap::new();
    for stage in ordered {
        let number = group[&stage];
        let groups = waves.entry(wave_of[&number]).or_default();
        groups.entry(number).or_default().push(stage);
    }
    let waves = waves.into_values();
    waves
        .map(|groups| Wave(groups.into_values().collect()))
        .collect()
}
