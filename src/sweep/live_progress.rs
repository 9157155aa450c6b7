//! How far a sweep is while it runs: trials that came to their end, the best figure so far, the time left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use contract::artifact::Direction;

use super::opened::{Sweep, View};
use crate::cache::{Key, StageState, Store};
use crate::engine::Event;
use crate::project::Count;
use crate::sweep::{Member, MemberState, direction, figure, label};

/// Counts members as their stages end.
pub struct LiveProgress {
    store: Arc<Store>,
    metric: String,
    unit: &'static str,
    /// Which way the figure points, once this is known.
    direction: Option<Direction>,
    /// By the member's number: its label, and its stages that have not ended.
    members: Vec<(String, usize)>,
    /// The members that stand on a stage, by its name.
    users: BTreeMap<String, Vec<usize>>,
    /// The stages that make the objective.
    objectives: BTreeMap<String, Vec<usize>>,
    /// Results whose figures were not read yet: they may not have reached the disk.
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
        let (mut users, mut objectives) = (
            BTreeMap::<String, Vec<usize>>::new(),
            BTreeMap::<String, Vec<usize>>::new(),
        );
        let mut members = Vec::with_capacity(view.roster.members.len());
        for (number, member) in view.roster.members.iter().enumerate() {
            let stages = view.roster.stages(number);
            for stage in stages {
                users
                    .entry(graph.stage(*stage).name.clone())
                    .or_default()
                    .push(number);
            }
            let objective = graph.stage(view.roster.objective(number)).name.clone();
            objectives.entry(objective).or_default().push(number);
            members.push((label(&sweep.file, member), stages.len()));
        }
        let is_plain = |member: &Member| member.seed.is_none() && member.level.is_none();
        let before = view
            .states
            .iter()
            .filter(|state| !matches!(state, MemberState::Missing { .. }))
            .count();
        Self {
            store: Arc::clone(&sweep.store),
            metric: sweep.file.objective.metric.clone(),
            unit: if view.roster.members.iter().all(is_plain) {
                "trial"
            } else {
                "member"
            },
            direction: direction(&sweep.file, &view.states),
            total: members.len(),
            members,
            users,
            objectives,
            unread: Vec::new(),
            failed: BTreeSet::new(),
            best: None,
            done: 0,
            before,
            since: Instant::now(),
        }
    }

    fn read_figures(&mut self) {
        let unread = std::mem::take(&mut self.unread);
        for (key, number) in unread {
            let action = self.store.action(&key).ok().flatten();
            let Some(state) =
                action.and_then(|action| figure(&Arc::new(action), &self.metric, &self.store))
            else {
                self.unread.push((key, number));
                continue;
            };
            let MemberState::Done {
                value: Some(value),
                direction,
            } = state
            else {
                continue;
            };
            let direction = *self.direction.get_or_insert(direction);
            let is_better = |best: f64| {
                if direction == Direction::Lower {
                    value < best
                } else {
                    value > best
                }
            };
            if self.best.is_none_or(|(best, _)| is_better(best)) {
                self.best = Some((value, number));
            }
        }
    }

    fn progress(&self) -> Event {
        let mut parts = Vec::new();
        parts.extend((!self.failed.is_empty()).then(|| format!("{} failed", self.failed.len())));
        parts.extend(self.best.map(|(value, number)| {
            format!(
                "best {} {} ({})",
                self.metric,
                crate::diagnostic::number(value),
                self.members[number].0
            )
        }));
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
        self.read_figures();
        let has_changed = self.done + self.failed.len() != before || self.best != best;
        has_changed.then(|| self.progress())
    }
}
