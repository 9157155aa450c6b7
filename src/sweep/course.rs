//! The course of a sweep: which members run next, given the results of those before. It is a function of the file and of
//! results, without any state: it is gone through from the start whenever somebody asks.
//!
//! Points come in batches (all at once unless the sampler learns); a batch runs level by level if there is a rule for
//! stopping, and with every seed at each level.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::file::{Rule, Sampler, Stopping, SweepFile};
use super::sampler;
use super::space::Point;

/// One run of the pipeline: a trial with a seed, at a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Member {
    /// The number of the trial, from 0.
    pub trial: usize,
    /// `None` for the pipeline's own.
    pub seed: Option<u64>,
    /// The value of the parameter that is raised; `None` without stopping.
    pub level: Option<u64>,
}

/// What a member resulted in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// Not yet.
    Unknown,
    Failed,
    /// The smaller, the better; `None` where the metric is undefined.
    Loss(Option<f64>),
}

/// How far a sweep is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// The trials that are known by now.
    pub points: Vec<Point>,
    /// The members of these trials, those to be run among them, in their order.
    pub members: Vec<Member>,
    /// Members whose outcome must be known before the sweep can continue. None if it is complete.
    pub open: Vec<Member>,
    /// Trials that ended early, with the level at which they did.
    pub stopped: BTreeMap<usize, u64>,
    /// All trials that there will be.
    pub total: usize,
}

/// The course of a sweep.
#[derive(Clone, Copy, Debug)]
pub struct Course<'a> {
    file: &'a SweepFile,
}

impl<'a> Course<'a> {
    pub fn new(file: &'a SweepFile) -> Self {
        Self { file }
    }

    /// Goes through the course as far as outcomes are known.
    pub fn progress(&self, outcome: &dyn Fn(&Member) -> Outcome) -> Progress {
        let mut walk = Walk {
            file: self.file,
            outcome,
            progress: Progress::default(),
            losses: Vec::new(),
            levels: Vec::new(),
        };
        let grid = match &self.file.sampler {
            Sampler::Grid => self.file.space.grid(),
            _ => Vec::new(),
        };
        let total = match &self.file.sampler {
            Sampler::Grid => grid.len(),
            Sampler::Random { trials, .. } | Sampler::Tpe { trials, .. } => *trials,
        };
        walk.progress.total = total;
        while walk.progress.points.len() < total {
            let start = walk.progress.points.len();
            let batch = walk.batch(&grid, start, total);
            walk.progress.points.extend(batch);
            let trials: Vec<usize> = (start..walk.progress.points.len()).collect();
            if !walk.run(trials) {
                break;
            }
        }
        walk.progress
    }
}

struct Walk<'a> {
    file: &'a SweepFile,
    outcome: &'a dyn Fn(&Member) -> Outcome,
    progress: Progress,
    /// The loss of each trial at its last level: infinite if it failed or is undefined.
    losses: Vec<f64>,
    /// Levels that each trial has reached.
    levels: Vec<usize>,
}

impl Walk<'_> {
    /// The points from `start` on that can be chosen now.
    fn batch(&self, grid: &[Point], start: usize, total: usize) -> Vec<Point> {
        let space = &self.file.space;
        match self.file.sampler {
            Sampler::Grid => grid.to_vec(),
            Sampler::Random { seed, .. } => {
                let numbers = start..total;
                numbers
                    .map(|number| sampler::draw(space, seed, number))
                    .collect()
            }
            Sampler::Tpe { seed, startup, .. } if start == 0 => {
                let numbers = 0..startup.min(total);
                numbers
                    .map(|number| sampler::draw(space, seed, number))
                    .collect()
            }
            Sampler::Tpe { seed, batch, .. } => {
                let points = self.progress.points.iter();
                let told: Vec<(&Point, f64)> = points.zip(self.comparable_losses()).collect();
                let numbers = start..total.min(start + batch.max(1));
                numbers
                    .map(|number| sampler::suggest(space, seed, number, &told))
                    .collect()
            }
        }
    }

    /// Losses on one scale. Those of different levels are not: there, the place in the ranking stands for the loss.
    fn comparable_losses(&self) -> Vec<f64> {
        if self.file.stopping.is_none() {
            return self.losses.clone();
        }
        let mut order: Vec<usize> = (0..self.losses.len()).collect();
        order.sort_by(|left, right| {
            let levels = self.levels[*right].cmp(&self.levels[*left]);
            levels
                .then(self.losses[*left].total_cmp(&self.losses[*right]))
                .then(left.cmp(right))
        });
        let mut places = vec![f64::INFINITY; self.losses.len()];
        order.retain(|trial| self.losses[*trial].is_finite());
        for (place, trial) in order.into_iter().enumerate() {
            places[trial] = place as f64;
        }
        places
    }

    /// Takes trials through all levels. Says whether all outcomes are known.
    fn run(&mut self, mut trials: Vec<usize>) -> bool {
        self.losses
            .resize(self.progress.points.len(), f64::INFINITY);
        self.levels.resize(self.progress.points.len(), 0);
        let Some(stopping) = &self.file.stopping else {
            return self.level(&trials, None);
        };
        for (index, level) in stopping.levels.iter().enumerate() {
            if !self.level(&trials, Some(*level)) {
                return false;
            }
            if index + 1 < stopping.levels.len() {
                let kept = survivors(stopping, &trials, &self.losses);
                for trial in trials {
                    if !kept.contains(&trial) {
                        self.progress.stopped.insert(trial, *level);
                    }
                }
                trials = kept;
            }
        }
        true
    }

    /// Runs trials at one level with every seed.
    fn level(&mut self, trials: &[usize], level: Option<u64>) -> bool {
        let seeds: Vec<Option<u64>> = match &self.file.seeds[..] {
            [] => vec![None],
            seeds => seeds.iter().copied().map(Some).collect(),
        };
        for &trial in trials {
            let mut sum = 0.0;
            for &seed in &seeds {
                let member = Member { trial, seed, level };
                self.progress.members.push(member);
                match (self.outcome)(&member) {
                    Outcome::Unknown => self.progress.open.push(member),
                    Outcome::Failed | Outcome::Loss(None) => sum = f64::INFINITY,
                    Outcome::Loss(Some(loss)) => sum += loss,
                }
            }
            let mean = sum / seeds.len() as f64;
            self.levels[trial] += 1;
            self.losses[trial] = if mean.is_nan() { f64::INFINITY } else { mean };
        }
        self.progress.open.is_empty()
    }
}

/// The trials that continue, in their order. Ties go to the earlier trial.
fn survivors(stopping: &Stopping, trials: &[usize], losses: &[f64]) -> Vec<usize> {
    let mut ranked = trials.to_vec();
    ranked.sort_by(|left, right| {
        losses[*left]
            .total_cmp(&losses[*right])
            .then(left.cmp(right))
    });
    let kept = match stopping.rule {
        Rule::Halving => ((trials.len() as f64 / stopping.factor()).floor() as usize).max(1),
        Rule::Median => {
            let median = losses[ranked[(ranked.len() - 1) / 2]];
            ranked.partition_point(|trial| losses[*trial] <= median)
        }
    };
    ranked.truncate(kept);
    // A trial that failed, or whose metric is undefined, is of no use at a higher level.
    ranked.retain(|trial| losses[*trial].is_finite());
    ranked.sort_unstable();
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::SourceMap;
    use std::cell::RefCell;

    fn file(text: &str) -> SweepFile {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sweep.yaml");
        std::fs::write(
            &path,
            format!("sweep: s\npipeline: p.yaml\nobjective: {{stage: m, metric: f}}\n{text}"),
        )
        .unwrap();
        let mut sources = SourceMap::default();
        let (file, diagnostics) = SweepFile::load(&path, &mut sources);
        file.unwrap_or_else(|| panic!("{}", diagnostics.render(&sources, false)))
    }

    /// Runs a sweep to its end; the loss of a member is told by `loss`. Gives the members of each round.
    fn play(
        file: &SweepFile,
        loss: impl Fn(&Point, &Member) -> Outcome,
    ) -> (Vec<Vec<Member>>, Progress) {
        let known: RefCell<BTreeMap<Member, Outcome>> = RefCell::default();
        let mut rounds = Vec::new();
        loop {
            let look = |member: &Member| {
                known
                    .borrow()
                    .get(member)
                    .copied()
                    .unwrap_or(Outcome::Unknown)
            };
            let progress = Course::new(file).progress(&look);
            if progress.open.is_empty() {
                return (rounds, progress);
            }
            for member in &progress.open {
                let outcome = loss(&progress.points[member.trial], member);
                known.borrow_mut().insert(*member, outcome);
            }
            rounds.push(progress.open);
        }
    }

    #[test]
    fn a_grid_runs_at_once_with_every_seed() {
        let file = file("axes: {a: [1, 2], b: [x, y, z]}\nseeds: [4, 5]");
        let (rounds, progress) = play(&file, |_, _| Outcome::Loss(Some(1.0)));
        assert_eq!((rounds.len(), rounds[0].len()), (1, 12));
        assert_eq!(progress.members.len(), 12);
        assert_eq!(
            rounds[0][1],
            Member {
                trial: 0,
                seed: Some(5),
                level: None
            }
        );
    }

    #[test]
    fn halving_keeps_the_best_of_each_level() {
        let file = file(
            "axes: {a: [1, 2, 3, 4, 5, 6, 7, 8, 9]}\nstopping: {rule: halving, over: epochs, levels: [1, 3, 9]}",
        );
        let (rounds, progress) = play(&file, |point, member| match point["a"].as_f64().unwrap() {
            // One fails, one is undefined; neither may go on.
            9.0 => Outcome::Failed,
            8.0 => Outcome::Loss(None),
            value => Outcome::Loss(Some(-value - member.level.unwrap() as f64)),
        });
        let trials = |round: &[Member]| round.iter().map(|member| member.trial).collect::<Vec<_>>();
        assert_eq!(
            rounds.iter().map(|round| trials(round)).collect::<Vec<_>>()[1..],
            [vec![4, 5, 6], vec![6]]
        );
        assert_eq!(rounds[2][0].level, Some(9));
        assert_eq!(progress.stopped.len(), 8);
        assert_eq!(progress.stopped[&5], 3);
    }

    #[test]
    fn the_median_rule_keeps_the_better_half() {
        let file =
            file("axes: {a: [1, 2, 3, 4]}\nstopping: {rule: median, over: epochs, levels: [1, 2]}");
        let (rounds, _) = play(&file, |point, _| Outcome::Loss(point["a"].as_f64()));
        assert_eq!(
            rounds[1]
                .iter()
                .map(|member| member.trial)
                .collect::<Vec<_>>(),
            [0, 1]
        );
    }

    #[test]
    fn an_estimator_waits_for_its_batches_and_comes_by_the_same_points() {
        let text =
            "axes: {a: {uniform: [0, 1]}}\nsampler: {kind: tpe, trials: 20, startup: 6, batch: 5}";
        let file = file(text);
        let loss = |point: &Point, _: &Member| Outcome::Loss(point["a"].as_f64());
        let (rounds, progress) = play(&file, loss);
        assert_eq!(
            rounds.iter().map(Vec::len).collect::<Vec<_>>(),
            [6, 5, 5, 4]
        );
        assert_eq!(play(&file, loss).1, progress);
        assert_eq!(progress.total, 20);
    }

    #[test]
    fn more_trials_go_on_from_those_that_are_there() {
        let few = play(
            &file("axes: {a: {uniform: [0, 1]}}\nsampler: {kind: random, trials: 3}"),
            |_, _| Outcome::Failed,
        )
        .1;
        let many = play(
            &file("axes: {a: {uniform: [0, 1]}}\nsampler: {kind: random, trials: 5}"),
            |_, _| Outcome::Failed,
        )
        .1;
        assert_eq!(few.points[..], many.points[..3]);
    }
}
