//! How far a sweep is while it runs: trials that have ended, the best value so far, the time left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use contract::artifact::Direction;

use super::opened::{Sweep, View};
use crate::cache::{Key, StageState, Store};
use crate::engine::Event;
use crate::project::Count;
use crate::sweep::{MemberState, direction, label, objective};

/// Counts members as their stages end.
pub struct LiveProgress {
    store: Arc<Store>,
    metric: String,
    unit: &'static str,
    /// In which direction the objective improves, once this is known.
    direction: Option<Direction>,
    /// By the member's number: its label, and its stages that have not ended.
    members: Vec<(String, usize)>,
    /// The members that stand on a stage, by its name.
    users: BTreeMap<String, Vec<usize>>,
    /// The stages that make the objective.
    objectives: BTreeMap<String, Vec<usize>>,
    /// Results whose metrics were not read yet: they may not have reached the disk.
    unread: Vec<(Key, usize)>,
    failed: BTreeSet<usize>,
    best: Option<(f64, usize)>,
    done: usize,
    total: usize,
    /// Members that were done before.
    before: usize,
    since: Instant,
}

impl LiveProgress {
    pub fn new(sweep: &Sweep, view: &View) -> Self {
        let graph = &view.session.graph;
        let mut users: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let mut objectives: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let mut members = Vec::with_capacity(view.trials.members.len());
        for (number, member) in view.trials.members.iter().enumerate() {
            let stages = view.trials.stages(number);
            for stage in stages {
                let name = graph.stage(*stage).name.clone();
                users.entry(name).or_default().push(number);
            }
            let objective = graph.stage(view.trials.objective(number)).name.clone();
            objectives.entry(objective).or_default().push(number);
            members.push((label(&sweep.file, member), stages.len()));
        }
        Self {
            store: Arc::clone(&sweep.store),
            metric: sweep.file.objective.metric.clone(),
            unit: sweep.unit(),
            direction: direction(&sweep.file, &view.states),
            total: members.len(),
            members,
            users,
            objectives,
            unread: Vec::new(),
            failed: BTreeSet::new(),
            best: None,
            done: 0,
            before: view.count_ended(),
            since: Instant::now(),
        }
    }

    fn read_objectives(&mut self) {
        let unread = std::mem::take(&mut self.unread);
        for (key, number) in unread {
            let state = match self.store.action(&key) {
                Ok(Some(action)) => objective(&action, &self.metric, &self.store),
                _ => None,
            };
            match state {
                Some(MemberState::Done {
                    value: Some(value),
                    direction,
                }) => {
                    let is_lower = *self.direction.get_or_insert(direction) == Direction::Lower;
                    let is_better = match self.best {
                        Some((best, _)) if is_lower => value < best,
                        Some((best, _)) => value > best,
                        None => true,
                    };
                    if is_better {
                        self.best = Some((value, number));
                    }
                }
                Some(_) => {}
                None => self.unread.push((key, number)),
            }
        }
    }

    fn progress(&self) -> Event {
        let mut parts = Vec::new();
        if !self.failed.is_empty() {
            parts.push(format!("{} failed", self.failed.len()));
        }
        if let Some((value, number)) = self.best {
            let (value, (label, _)) = (crate::diagnostic::number(value), &self.members[number]);
            parts.push(format!("best {} {value} ({label})", self.metric));
        }
        let ended = self.done + self.failed.len();
        let here = ended.saturating_sub(self.before) as f64;
        let pace = self.since.elapsed().as_secs_f64() / here;
        let left = (self.total - ended) as f64 * pace;
        Event::RunProgress {
            unit: self.unit,
            done: ended,
            total: self.total,
            phase: parts.join(", "),
            seconds_left: left.is_finite().then_some(left),
        }
    }
}

impl Count for LiveProgress {
    fn note(&mut self, event: &Event) -> Option<Event> {
        let before = self.done + self.failed.len();
        match event {
            Event::StageFinished {
                stage,
                state: StageState::Ran | StageState::Hit,
                key,
                ..
            } => {
                for number in self.users.get(stage).into_iter().flatten() {
                    let open = &mut self.members[*number].1;
                    if *open > 0 {
                        *open -= 1;
                        self.done += usize::from(*open == 0);
                    }
                }
                if let (Some(key), Some(numbers)) = (key, self.objectives.get(stage)) {
                    self.unread
                        .extend(numbers.iter().map(|number| (*key, *number)));
                }
            }
            Event::StageFailed { stage, .. } => self
                .failed
                .extend(self.users.get(stage).into_iter().flatten()),
            _ => {}
        }
        let best = self.best;
        self.read_objectives();
        let has_changed = self.done + self.failed.len() != before || self.best != best;
        has_changed.then(|| self.progress())
    }
}
