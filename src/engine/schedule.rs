//! Which stage runs next: a state machine without threads or clocks. A stage is *waiting* for the stages that it
//! needs, then *queued*, then *running* while it holds threads, memory and GPUs, then *settled*, *failed* or
//! *skipped*. A settled stage can be *unsettled* when its outputs turn out to be damaged.
//!
//! The critical path goes first as soon as it decides when the run ends. As long as there is more work than that, what is nearest
//! to an end of the graph goes first: so trials of a sweep end one after the other, and hold their outputs in memory for short.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet};

use crate::graph::{Graph, Needs, StageId};

/// Lower-ranked stages that may overtake one that does not fit, before it gets its turn.
const PATIENCE: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Waiting,
    Queued,
    Running,
    Settled,
    Failed,
    Skipped,
}

/// A time that can be compared.
#[derive(Clone, Copy, PartialEq)]
struct Seconds(f64);

impl Eq for Seconds {}

impl Ord for Seconds {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Seconds {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The state of all stages of a run.
pub(super) struct Schedule<'a> {
    graph: &'a Graph,
    status: Vec<Status>,
    /// Threads times seconds that each stage will probably take.
    work: Vec<f64>,
    /// The work of stages that are not over.
    left: f64,
    /// Seconds to the end of the longest chain that starts at a stage.
    urgency: Vec<Seconds>,
    /// What is queued, the longest chain first.
    most_urgent: BTreeSet<(Reverse<Seconds>, StageId)>,
    /// The same, the shortest chain first.
    nearest: BTreeSet<(Seconds, StageId)>,
    free: Needs,
    total: Needs,
    overtaken: usize,
    /// What stages that gather go on without: sources of theirs that failed or were skipped.
    without: BTreeMap<StageId, BTreeSet<StageId>>,
}

/// What follows from a failure.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Consequences {
    /// Stages that cannot run any more, each after its needs.
    pub skipped: Vec<StageId>,
    /// Stages that gather what there is, and wait for nothing else.
    pub unblocked: Vec<StageId>,
}

impl<'a> Schedule<'a> {
    /// All stages waiting; `total` is what the machine has.
    pub fn new(graph: &'a Graph, total: Needs, seconds: impl Fn(StageId) -> f64) -> Self {
        let mut work = vec![0.0; graph.len()];
        for &stage in graph.order() {
            let threads = graph.stage(stage).needs.threads;
            let threads = threads.clamp(1, total.threads.max(1));
            work[stage.index()] = seconds(stage) * threads as f64;
        }
        let urgency = graph.critical_path(seconds).into_iter();
        Self {
            graph,
            status: vec![Status::Waiting; graph.len()],
            left: work.iter().sum(),
            work,
            urgency: urgency.map(Seconds).collect(),
            most_urgent: BTreeSet::new(),
            nearest: BTreeSet::new(),
            free: total,
            total,
            overtaken: 0,
            without: BTreeMap::new(),
        }
    }

    pub fn status(&self, stage: StageId) -> Status {
        self.status[stage.index()]
    }

    /// Whether everything that the stage needs, and does not go on without, is settled.
    pub fn is_unblocked(&self, stage: StageId) -> bool {
        for need in self.graph.needs(stage) {
            let is_there = self.status(need) == Status::Settled;
            if !is_there && !self.goes_without(stage, need) {
                return false;
            }
        }
        true
    }

    /// Whether the stage gathers others and goes on without this one.
    pub fn goes_without(&self, stage: StageId, source: StageId) -> bool {
        let lost = self.without.get(&stage);
        lost.is_some_and(|lost| lost.contains(&source))
    }

    /// The sources that the stage goes on without.
    pub fn without(&self, stage: StageId) -> impl Iterator<Item = StageId> {
        self.without.get(&stage).into_iter().flatten().copied()
    }

    /// The stage's outputs are there. Returns the waiting stages that this unblocks.
    pub fn settle(&mut self, stage: StageId) -> Vec<StageId> {
        self.end(stage, Status::Settled);
        let mut next = self.graph.needed_by(stage);
        next.retain(|next| self.status(*next) == Status::Waiting && self.is_unblocked(*next));
        next
    }

    /// The stage must run and can.
    pub fn queue(&mut self, stage: StageId) {
        self.status[stage.index()] = Status::Queued;
        let urgency = self.urgency[stage.index()];
        self.most_urgent.insert((Reverse(urgency), stage));
        self.nearest.insert((urgency, stage));
    }

    fn unqueue(&mut self, stage: StageId) {
        let urgency = self.urgency[stage.index()];
        self.most_urgent.remove(&(Reverse(urgency), stage));
        self.nearest.remove(&(urgency, stage));
    }

    /// A stage is over.
    fn end(&mut self, stage: StageId, status: Status) {
        self.status[stage.index()] = status;
        self.left -= self.work[stage.index()];
    }

    /// Whether the longest chain that is queued decides when the run ends, rather than all the work that is left.
    fn is_critical(&self) -> bool {
        let longest = match self.most_urgent.first() {
            Some((Reverse(urgency), _)) => urgency.0,
            None => 0.0,
        };
        longest >= self.left / self.total.threads.max(1) as f64
    }

    /// The first stage that fits into what is free, in the order that counts now; it is running from now on.
    pub fn take(&mut self) -> Option<StageId> {
        let (passed_over, stage) = if self.is_critical() {
            self.first_that_fits(self.most_urgent.iter().map(|(_, stage)| *stage))?
        } else {
            self.first_that_fits(self.nearest.iter().map(|(_, stage)| *stage))?
        };
        self.overtaken = if passed_over > 0 {
            self.overtaken + 1
        } else {
            0
        };
        self.unqueue(stage);
        let needs = self.needs(stage);
        self.free.threads -= needs.threads;
        self.free.memory -= needs.memory;
        self.free.gpus -= needs.gpus;
        self.status[stage.index()] = Status::Running;
        Some(stage)
    }

    /// How many are passed over, and the stage. One that was passed over often enough is waited for.
    fn first_that_fits(&self, order: impl Iterator<Item = StageId>) -> Option<(usize, StageId)> {
        let patience = if self.overtaken < PATIENCE {
            usize::MAX
        } else {
            1
        };
        let mut order = order.take(patience).enumerate();
        order.find(|(_, stage)| self.fits(*stage))
    }

    /// What a stage takes, never more than there is: a stage that wants too much runs alone.
    fn needs(&self, stage: StageId) -> Needs {
        let needs = self.graph.stage(stage).needs;
        Needs {
            threads: needs.threads.min(self.total.threads),
            memory: needs.memory.min(self.total.memory),
            gpus: needs.gpus.min(self.total.gpus),
        }
    }

    fn fits(&self, stage: StageId) -> bool {
        let needs = self.needs(stage);
        needs.threads <= self.free.threads
            && needs.memory <= self.free.memory
            && needs.gpus <= self.free.gpus
    }

    /// The stage no longer runs; it waits until it is settled, queued again, or failed.
    pub fn release(&mut self, stage: StageId) {
        let needs = self.needs(stage);
        self.free.threads += needs.threads;
        self.free.memory += needs.memory;
        self.free.gpus += needs.gpus;
        self.status[stage.index()] = Status::Waiting;
    }

    /// The stage will not have its outputs. What needs them is skipped; if the run goes on, a stage that gathers many does
    /// so without it, as long as one of them is left.
    pub fn fail(&mut self, stage: StageId, go_on: bool) -> Consequences {
        self.end(stage, Status::Failed);
        let mut lost: BTreeSet<StageId> = BTreeSet::from([stage]);
        let mut consequences = Consequences::default();
        for &next in self.graph.order() {
            let mut needs = self.graph.needs(next);
            needs.retain(|need| lost.contains(need));
            if needs.is_empty() || !self.is_open(next) {
                continue;
            }
            if go_on && self.graph.stage(next).kind.gathers {
                let without = self.without.entry(next).or_default();
                without.extend(needs);
                if without.len() < self.graph.needs(next).len() {
                    consequences.unblocked.push(next);
                    continue;
                }
            }
            self.unqueue(next);
            self.end(next, Status::Skipped);
            lost.insert(next);
            consequences.skipped.push(next);
        }
        let mut unblocked = std::mem::take(&mut consequences.unblocked);
        unblocked.retain(|next| self.status(*next) == Status::Waiting && self.is_unblocked(*next));
        consequences.unblocked = unblocked;
        consequences
    }

    /// Nothing that is waiting or queued will run. Returns those stages.
    pub fn skip_rest(&mut self) -> Vec<StageId> {
        self.most_urgent.clear();
        self.nearest.clear();
        let mut rest = self.graph.order().to_vec();
        rest.retain(|stage| self.is_open(*stage));
        for stage in &rest {
            self.end(*stage, Status::Skipped);
        }
        rest
    }

    /// Whether it has not begun and is not over.
    fn is_open(&self, stage: StageId) -> bool {
        matches!(self.status(stage), Status::Waiting | Status::Queued)
    }

    /// The outputs of a settled stage are gone: it waits again.
    pub fn unsettle(&mut self, stage: StageId) {
        if self.status(stage) == Status::Settled {
            self.status[stage.index()] = Status::Waiting;
            self.left += self.work[stage.index()];
        }
    }

    pub fn is_finished(&self) -> bool {
        let open =
            |status: &Status| matches!(status, Status::Waiting | Status::Queued | Status::Running);
        !self.status.iter().any(open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::SourceMap;
    use crate::graph::shapers;
    use crate::graph::{Machine, build};
    use crate::pipeline::{LoadOptions, load_text};
    use contract::Device;
    use std::path::Path;

    /// `raw` feeds `a`, `b` and `wide`; `a` feeds `end`.
    fn graph() -> Graph {
        read(
            "pipeline: test
stages:
  raw: {uses: generate}
  a: {uses: normalize, from: raw, resources: {cpus: 1}}
  b: {uses: normalize, from: raw, resources: {cpus: 1}}
  wide: {uses: normalize, from: raw, resources: {cpus: 2}}
  end: {uses: normalize, from: a.series, resources: {cpus: 1}}",
        )
    }

    fn read(text: &str) -> Graph {
        let (spec, _) = load_text(
            Path::new("test"),
            text,
            &LoadOptions::default(),
            &mut SourceMap::default(),
        );
        let (mut graph, diagnostics) = build(&spec.unwrap(), &shapers());
        assert!(diagnostics.is_empty());
        graph.place(&Machine {
            threads: 2,
            device: Device::Cpu,
        });
        graph
    }

    fn id(graph: &Graph, name: &str) -> StageId {
        graph.find(name)[0]
    }

    fn schedule(graph: &Graph) -> Schedule<'_> {
        timed(graph, |_| 1.0)
    }

    fn timed(graph: &Graph, seconds: impl Fn(StageId) -> f64) -> Schedule<'_> {
        let mut schedule = Schedule::new(
            graph,
            Needs {
                threads: 2,
                memory: 0,
                gpus: 0,
            },
            seconds,
        );
        for stage in schedule.settle(id(graph, "raw")) {
            schedule.queue(stage);
        }
        schedule
    }

    #[test]
    fn the_critical_path_goes_first_and_threads_are_respected() {
        let graph = graph();
        let end = id(&graph, "end");
        let mut schedule = timed(&graph, |stage| if stage == end { 5.0 } else { 1.0 });
        assert_eq!(schedule.take(), Some(id(&graph, "a")), "`end` hangs on it");
        assert_eq!(schedule.take(), Some(id(&graph, "b")));
        assert_eq!(schedule.take(), None, "both threads are taken");
        schedule.release(id(&graph, "a"));
        assert_eq!(schedule.settle(id(&graph, "a")), [id(&graph, "end")]);
        assert_eq!(schedule.take(), None, "`wide` wants both threads");
        schedule.release(id(&graph, "b"));
        schedule.settle(id(&graph, "b"));
        assert_eq!(schedule.take(), Some(id(&graph, "wide")));
    }

    /// Chains of the same length end one after the other, as they are written.
    #[test]
    fn what_is_begun_is_brought_to_its_end() {
        let chain = |name: &str| {
            format!(
                "  {name}: {{uses: normalize, from: raw, resources: {{cpus: 2}}}}\n  {name}_end: {{uses: normalize, from: \
                 {name}.series, resources: {{cpus: 2}}}}\n"
            )
        };
        let chains: String = ["a", "b", "c"].map(chain).concat();
        let graph = read(&format!(
            "pipeline: test\nstages:\n  raw: {{uses: generate}}\n{chains}"
        ));
        let mut schedule = schedule(&graph);
        let mut order = Vec::new();
        while let Some(stage) = schedule.take() {
            order.push(graph.stage(stage).name.clone());
            schedule.release(stage);
            schedule
                .settle(stage)
                .into_iter()
                .for_each(|next| schedule.queue(next));
        }
        assert_eq!(order, ["a", "a_end", "b", "b_end", "c", "c_end"]);
    }

    #[test]
    fn a_failure_skips_exactly_what_hangs_on_it() {
        let graph = graph();
        let end = id(&graph, "end");
        let mut schedule = timed(&graph, |stage| if stage == end { 5.0 } else { 1.0 });
        let a = schedule.take().unwrap();
        schedule.release(a);
        assert_eq!(schedule.fail(a, true).skipped, [id(&graph, "end")]);
        assert_eq!(schedule.take(), Some(id(&graph, "b")));
        assert!(!schedule.is_finished());
        assert_eq!(schedule.skip_rest(), [id(&graph, "wide")]);
        schedule.release(id(&graph, "b"));
        schedule.settle(id(&graph, "b"));
        assert!(schedule.is_finished());
    }

    #[test]
    fn a_stage_that_never_fits_is_not_overtaken_for_ever() {
        let graph = graph();
        let mut schedule = Schedule::new(
            &graph,
            Needs {
                threads: 2,
                memory: 0,
                gpus: 0,
            },
            |_| 1.0,
        );
        schedule.queue(id(&graph, "b"));
        assert_eq!(schedule.take(), Some(id(&graph, "b")));
        schedule.queue(id(&graph, "wide"));
        for _ in 0..PATIENCE {
            schedule.queue(id(&graph, "end"));
            assert_eq!(schedule.take(), Some(id(&graph, "end")));
            schedule.release(id(&graph, "end"));
        }
        schedule.queue(id(&graph, "end"));
        assert_eq!(schedule.take(), None, "now `wide` has its turn");
        schedule.release(id(&graph, "b"));
        assert_eq!(schedule.take(), Some(id(&graph, "wide")));
    }
}
