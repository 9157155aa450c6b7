//! Which stage runs next: a state machine without threads or clocks. A stage is *waiting* for the stages that it
//! needs, then *queued*, then *running* while it holds threads, memory and GPUs, then *settled*, *failed* or
//! *skipped*. A settled stage can be *unsettled* when its outputs turn out to be damaged.

use std::cmp::Ordering;
use std::collections::{BTreeSet, BinaryHeap};

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

#[derive(PartialEq)]
struct Queued {
    /// Seconds to the end of the longest chain that starts here: the critical path goes first.
    urgency: f64,
    stage: StageId,
}

impl Eq for Queued {}

impl Ord for Queued {
    fn cmp(&self, other: &Self) -> Ordering {
        self.urgency.total_cmp(&other.urgency).then(other.stage.cmp(&self.stage))
    }
}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The state of all stages of a run.
pub(super) struct Schedule<'a> {
    graph: &'a Graph,
    status: Vec<Status>,
    urgency: Vec<f64>,
    queue: BinaryHeap<Queued>,
    free: Needs,
    total: Needs,
    overtaken: usize,
}

impl<'a> Schedule<'a> {
    /// All stages waiting; `total` is what the machine has.
    pub fn new(graph: &'a Graph, total: Needs, seconds: impl Fn(StageId) -> f64) -> Self {
        Self {
            graph,
            status: vec![Status::Waiting; graph.len()],
            urgency: graph.critical_path(seconds),
            queue: BinaryHeap::new(),
            free: total,
            total,
            overtaken: 0,
        }
    }

    pub fn status(&self, stage: StageId) -> Status {
        self.status[stage.index()]
    }

    /// Whether everything that the stage needs is settled.
    pub fn is_unblocked(&self, stage: StageId) -> bool {
        self.graph.needs(stage).iter().all(|need| self.status(*need) == Status::Settled)
    }

    /// The stage's outputs are there. Returns the waiting stages that this unblocks.
    pub fn settle(&mut self, stage: StageId) -> Vec<StageId> {
        self.status[stage.index()] = Status::Settled;
        let next = self.graph.needed_by(stage);
        next.into_iter().filter(|next| self.status(*next) == Status::Waiting && self.is_unblocked(*next)).collect()
    }

    /// The stage must run and can.
    pub fn queue(&mut self, stage: StageId) {
        self.status[stage.index()] = Status::Queued;
        self.queue.push(Queued { urgency: self.urgency[stage.index()], stage });
    }

    /// The most urgent stage that fits into what is free; it is running from now on.
    pub fn take(&mut self) -> Option<StageId> {
        let mut passed_over = Vec::new();
        let mut taken = None;
        while let Some(queued) = self.queue.pop() {
            if self.fits(queued.stage) {
                taken = Some(queued.stage);
                break;
            }
            passed_over.push(queued);
            if self.overtaken >= PATIENCE {
                break;
            }
        }
        match (&taken, passed_over.is_empty()) {
            (Some(_), false) => self.overtaken += 1,
            (Some(_), true) => self.overtaken = 0,
            (None, _) => {}
        }
        self.queue.extend(passed_over);
        if let Some(stage) = taken {
            let needs = self.needs(stage);
            self.free.threads -= needs.threads;
            self.free.memory -= needs.memory;
            self.free.gpus -= needs.gpus;
            self.status[stage.index()] = Status::Running;
        }
        taken
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
        needs.threads <= self.free.threads && needs.memory <= self.free.memory && needs.gpus <= self.free.gpus
    }

    /// The stage no longer runs; it waits until it is settled, queued again, or failed.
    pub fn release(&mut self, stage: StageId) {
        let needs = self.needs(stage);
        self.free.threads += needs.threads;
        self.free.memory += needs.memory;
        self.free.gpus += needs.gpus;
        self.status[stage.index()] = Status::Waiting;
    }

    /// The stage cannot come to its outputs. Returns those that are skipped because of it, each after its needs.
    pub fn fail(&mut self, stage: StageId) -> Vec<StageId> {
        self.status[stage.index()] = Status::Failed;
        let mut lost: BTreeSet<StageId> = BTreeSet::from([stage]);
        let mut skipped = Vec::new();
        for &next in self.graph.order() {
            let hopeless = self.graph.needs(next).iter().any(|need| lost.contains(need));
            if hopeless && matches!(self.status(next), Status::Waiting | Status::Queued) {
                self.status[next.index()] = Status::Skipped;
                lost.insert(next);
                skipped.push(next);
            }
        }
        self.queue.retain(|queued| !lost.contains(&queued.stage));
        skipped
    }

    /// Nothing that is waiting or queued will run. Returns those stages.
    pub fn skip_rest(&mut self) -> Vec<StageId> {
        self.queue.clear();
        let open = |stage: &StageId| matches!(self.status(*stage), Status::Waiting | Status::Queued);
        let rest: Vec<StageId> = self.graph.order().iter().copied().filter(open).collect();
        rest.iter().for_each(|stage| self.status[stage.index()] = Status::Skipped);
        rest
    }

    /// The outputs of a settled stage are gone: it waits again.
    pub fn unsettle(&mut self, stage: StageId) {
        if self.status(stage) == Status::Settled {
            self.status[stage.index()] = Status::Waiting;
        }
    }

    pub fn is_finished(&self) -> bool {
        let open = |status: &Status| matches!(status, Status::Waiting | Status::Queued | Status::Running);
        !self.status.iter().any(open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::SourceMap;
    use crate::graph::{Machine, build};
    use crate::spec::{LoadOptions, load_text};
    use stages::contract::Device;
    use std::path::Path;

    /// `raw` feeds `a`, `b` and `wide`; `a` feeds `end`.
    fn graph() -> Graph {
        let text = "pipeline: test
stages:
  raw: {uses: generate}
  a: {uses: normalize, from: raw, resources: {cpus: 1}}
  b: {uses: normalize, from: raw, resources: {cpus: 1}}
  wide: {uses: normalize, from: raw, resources: {cpus: 2}}
  end: {uses: normalize, from: a.series, resources: {cpus: 1}}";
        let (spec, _) = load_text(Path::new("test"), text, &LoadOptions::default(), &mut SourceMap::default());
        let (mut graph, diagnostics) = build(&spec.unwrap(), &stages::kinds());
        assert!(diagnostics.is_empty());
        graph.place(&Machine { threads: 2, device: Device::Cpu });
        graph
    }

    fn id(graph: &Graph, name: &str) -> StageId {
        graph.find(name)[0]
    }

    fn schedule(graph: &Graph) -> Schedule<'_> {
        let mut schedule = Schedule::new(graph, Needs { threads: 2, memory: 0, gpus: 0 }, |_| 1.0);
        for stage in schedule.settle(id(graph, "raw")) {
            schedule.queue(stage);
        }
        schedule
    }

    #[test]
    fn the_critical_path_goes_first_and_threads_are_respected() {
        let graph = graph();
        let mut schedule = schedule(&graph);
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

    #[test]
    fn a_failure_skips_exactly_what_hangs_on_it() {
        let graph = graph();
        let mut schedule = schedule(&graph);
        let a = schedule.take().unwrap();
        schedule.release(a);
        assert_eq!(schedule.fail(a), [id(&graph, "end")]);
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
        let mut schedule = Schedule::new(&graph, Needs { threads: 2, memory: 0, gpus: 0 }, |_| 1.0);
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
