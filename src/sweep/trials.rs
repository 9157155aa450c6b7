//! From members to a graph: the pipeline is read once for each member with the member's values, and the graphs are joined.
//! Then the plan says for each member whether it is done, and its objective.

use std::collections::{BTreeMap, BTreeSet};

use contract::Catalogue;
use contract::artifact::{Artifact, ArtifactKind, Direction, Split};
use indexmap::IndexMap;
use rayon::prelude::*;
use serde_json::Value;

use super::course::{Member, Outcome, Progress};
use super::file::{Objective, SweepFile, as_text};
use super::space::Point;
use crate::cache::{Action, Store};
use crate::diagnostic::{Diagnostic, Diagnostics, SourceMap, did_you_mean, list};
use crate::engine::Plan;
use crate::graph::{Graph, StageId, build, join};
use crate::pipeline::{LoadOptions, Spec, load};

/// The members of a sweep as one graph.
pub struct Assembly {
    pub graph: Graph,
    pub trials: Trials,
    /// The pipeline's parameters and the seed of each member.
    pub values: Vec<(IndexMap<String, Value>, u64)>,
    /// The pipeline as the first member has it, for what all have in common.
    pub spec: Spec,
    pub warnings: Diagnostics,
}

/// The members of a sweep, and where in its graph they are.
#[derive(Clone, Debug, Default)]
pub struct Trials {
    pub members: Vec<Member>,
    /// Where the stages of each member are.
    places: Vec<Vec<StageId>>,
    /// Where the objective of each member is computed.
    objectives: Vec<StageId>,
    /// The split whose rows the objective is judged on, where a stage kind says it.
    judged: Option<Split>,
}

/// What the store says of a member.
#[derive(Clone, Debug, PartialEq)]
pub enum MemberState {
    /// The objective, and the direction in which it improves.
    Done {
        value: Option<f64>,
        direction: Direction,
    },
    /// The stage that should compute the objective ran, and its metrics are others.
    Without { found: Vec<String> },
    /// Stages that must still run, as far as is known.
    Missing { stages: usize },
}

/// Values of a member as for `--set`, those of the sweep first.
pub fn overrides(file: &SweepFile, point: &Point, member: &Member) -> Vec<(String, String)> {
    let mut values = file.fixed.clone();
    for (name, value) in point {
        values.push((name.clone(), as_text(value)));
    }
    if let (Some(stopping), Some(level)) = (&file.stopping, member.level) {
        values.push((stopping.over.clone(), level.to_string()));
    }
    if let Some(seed) = member.seed {
        values.push(("seed".to_owned(), seed.to_string()));
    }
    values
}

/// A member's label in names of stages: `7`, `7,seed=42`, `7,seed=42,epochs=9`. Trials count from 1, as people do.
pub fn label(file: &SweepFile, member: &Member) -> String {
    let mut label = (member.trial + 1).to_string();
    if let Some(seed) = member.seed {
        label.push_str(&format!(",seed={seed}"));
    }
    if let (Some(stopping), Some(level)) = (&file.stopping, member.level) {
        label.push_str(&format!(",{}={level}", stopping.over));
    }
    label
}

/// Reads the pipeline for every member of the progress, and joins their graphs.
///
/// # Errors
/// The problems of the first member that has some, with the values that lead to them.
pub fn assemble(
    file: &SweepFile,
    progress: &Progress,
    catalogue: &Catalogue,
    sources: &mut SourceMap,
) -> Result<Assembly, Diagnostics> {
    let empty = sources.alike();
    let read: Vec<_> = progress
        .members
        .par_iter()
        .map(|member| read(file, progress, member, None, catalogue, &mut empty.alike()))
        .collect();
    // Diagnostics point into the sources of their member; those that are reported are read again, for their text.
    let is_wrong =
        |(built, problems): &(Option<_>, Diagnostics)| built.is_none() || problems.has_errors();
    let reported = read.iter().position(is_wrong).unwrap_or(0);
    let Some(member) = progress.members.get(reported) else {
        return Err(no_trials(file).into());
    };
    let given_by = format!("trial {} of {}", label(file, member), file.path.display());
    let (_, mut warnings) = self::read(file, progress, member, Some(given_by), catalogue, sources);
    let mut labels = Vec::with_capacity(read.len());
    let mut pruned = Vec::with_capacity(read.len());
    let mut values = Vec::with_capacity(read.len());
    let mut first_spec = None;
    for (member, (built, problems)) in progress.members.iter().zip(read) {
        let (Some((spec, graph)), false) = (built, problems.has_errors()) else {
            return Err(warnings);
        };
        pruned.push(prune(file, catalogue, &graph)?);
        labels.push(label(file, member));
        values.push((spec.values(), spec.seed));
        first_spec.get_or_insert(spec);
    }
    let Some(spec) = first_spec else {
        return Err(no_trials(file).into());
    };
    let graphs = pruned.iter().map(|(graph, _)| graph);
    let joined = join(labels.iter().map(String::as_str).zip(graphs));
    let mut objectives = Vec::with_capacity(pruned.len());
    for ((_, objective), places) in pruned.iter().zip(&joined.places) {
        objectives.push(places[objective.index()]);
    }
    warnings.extend(seeds_without_effect(file, &progress.members, &objectives));
    let judged = judged_split(&joined.graph, &objectives);
    if judged == Some(Split::Test) {
        let mut choice = Diagnostics::from(chosen_by_test(file));
        if spec.strict {
            choice.deny_warnings();
        }
        warnings.extend(choice);
        if warnings.has_errors() {
            return Err(warnings);
        }
    }
    let trials = Trials {
        members: progress.members.clone(),
        places: joined.places,
        objectives,
        judged,
    };
    Ok(Assembly {
        graph: joined.graph,
        trials,
        values,
        spec,
        warnings,
    })
}

/// The pipeline with a member's values, as far as it can be understood.
fn read(
    file: &SweepFile,
    progress: &Progress,
    member: &Member,
    given_by: Option<String>,
    catalogue: &Catalogue,
    sources: &mut SourceMap,
) -> (Option<(Spec, Graph)>, Diagnostics) {
    let options = LoadOptions {
        profile: file.profile.clone(),
        overrides: overrides(file, &progress.points[member.trial], member),
        given_by,
    };
    let (spec, mut diagnostics) = load(&file.pipeline, &options, sources);
    let mut built = None;
    if let Some(spec) = spec {
        let (graph, found) = build(&spec, &catalogue.kinds);
        diagnostics.extend(found);
        built = Some((spec, graph));
    }
    (built, diagnostics)
}

/// Seeds are said to make repetitions of a trial. Where nothing draws random numbers, there is one execution of it.
fn seeds_without_effect(
    file: &SweepFile,
    members: &[Member],
    objectives: &[StageId],
) -> Option<Diagnostic> {
    let mut executions: BTreeMap<(usize, Option<u64>), BTreeSet<StageId>> = BTreeMap::new();
    for (member, objective) in members.iter().zip(objectives) {
        let execution = executions.entry((member.trial, member.level)).or_default();
        execution.insert(*objective);
    }
    let differs = executions.values().any(|places| places.len() > 1);
    if file.seeds.len() < 2 || executions.is_empty() || differs {
        return None;
    }
    let stage = &file.objective.stage;
    let message = format!(
        "the seeds have no effect: no stage that `{stage}` stands on draws random numbers from the seed"
    );
    let hint = "a program gets the seed as a parameter: declare `params: {seed: 0}` in the pipeline, and write `${seed}` \
                among the arguments";
    Some(
        Diagnostic::warning("unused-seeds", message)
            .at(file.seeds_at)
            .hint(hint),
    )
}

/// The split that the objective of the trials is judged on: by the stage that computes it, or by one that it gathers.
fn judged_split(graph: &Graph, objectives: &[StageId]) -> Option<Split> {
    let mut next = vec![*objectives.first()?];
    while let Some(id) = next.pop() {
        if let Some(split) = graph.stage(id).configured.judges() {
            return Some(split);
        }
        next.extend(graph.needs(id));
    }
    None
}

/// Trials that are compared by the test rows are chosen by them: the best value flatters.
fn chosen_by_test(file: &SweepFile) -> Diagnostic {
    let Objective { stage, metric, .. } = &file.objective;
    let message = format!(
        "leakage: the trials are chosen by `{metric}` of `{stage}`, which is judged on the test rows"
    );
    let hint = "the best value is an upper bound, and the leaderboard says so; to choose honestly, judge another stage on \
                rows of validation or calibration (`on: validation`) and make it the objective";
    Diagnostic::warning("leakage", message)
        .at(file.objective_at)
        .hint(hint)
}

fn no_trials(file: &SweepFile) -> Diagnostic {
    let hint = "every axis needs a value, and a dependent axis a case (or `default`) for each value that it goes by";
    Diagnostic::error("no-trials", "the sweep has no trial")
        .at(file.axes_at)
        .hint(hint)
}

/// The stages that a name in the sweep file means.
fn find(file: &SweepFile, graph: &Graph, name: &str) -> Result<Vec<StageId>, Diagnostic> {
    let found = graph.find(name);
    if !found.is_empty() {
        return Ok(found);
    }
    let names = graph.names();
    let hint = match did_you_mean(name, names.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("its stages are {}", list(&names)),
    };
    let message = format!("the pipeline has no stage `{name}`");
    Err(Diagnostic::error("unknown-stage", message)
        .at(file.objective_at)
        .hint(hint))
}

/// What a member needs of its graph, and the stage of the objective in it.
fn prune(
    file: &SweepFile,
    catalogue: &Catalogue,
    graph: &Graph,
) -> Result<(Graph, StageId), Diagnostic> {
    let objective = objective_stage(file, graph)?;
    check_metric(file, catalogue, graph, objective)?;
    let mut targets = vec![objective];
    for name in &file.targets {
        targets.extend(find(file, graph, name)?);
    }
    let pruned = graph.prune(&targets);
    let name = &graph.stage(objective).name;
    let mut stages = pruned.order().iter().copied();
    match stages.find(|id| pruned.stage(*id).name == *name) {
        Some(place) => Ok((pruned, place)),
        None => Err(no_trials(file)),
    }
}

/// The one stage that computes the objective.
fn objective_stage(file: &SweepFile, graph: &Graph) -> Result<StageId, Diagnostic> {
    let stage = &file.objective.stage;
    let found = find(file, graph, stage)?;
    if let [only] = found[..] {
        return Ok(only);
    }
    let names: Vec<&str> = found
        .iter()
        .map(|id| graph.stage(*id).name.as_str())
        .collect();
    let some = list(&names[..names.len().min(6)]);
    let message = format!(
        "the objective's stage `{stage}` stands {} times in a trial",
        names.len()
    );
    Err(Diagnostic::error("ambiguous-objective", message)
        .at(file.objective_at)
        .hint(format!("name one of {some}, or gather them with `collect`")))
}

/// Whether a stage has an output of metrics.
fn makes_metrics(graph: &Graph, stage: StageId) -> bool {
    let mut outputs = graph.stage(stage).outputs.iter();
    outputs.any(|port| port.accepts.accepts(ArtifactKind::Metrics))
}

/// Refuses an objective that the stage will not compute, or that has no direction.
fn check_metric(
    file: &SweepFile,
    catalogue: &Catalogue,
    graph: &Graph,
    objective: StageId,
) -> Result<(), Diagnostic> {
    let (node, metric) = (graph.stage(objective), &file.objective.metric);
    let wrong = |message: String, hint: String| {
        let diagnostic = Diagnostic::error("bad-objective", message).at(file.objective_at);
        Err(diagnostic.hint(hint))
    };
    if !makes_metrics(graph, objective) {
        let mut names = Vec::new();
        for id in graph.order() {
            if makes_metrics(graph, *id) {
                names.push(graph.stage(*id).name.as_str());
            }
        }
        let message = format!("the stage `{}` makes no metrics", node.name);
        return wrong(message, format!("stages that do are {}", list(&names)));
    }
    if let Some(names) = announced(node.parameters())
        && !names.contains(&metric.as_str())
    {
        let message = format!("the stage `{}` does not compute `{metric}`", node.name);
        let hint = match did_you_mean(metric, names.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("it computes {}; add to its `metrics`", list(&names)),
        };
        return wrong(message, hint);
    }
    let mut directions = (catalogue.directions)();
    directions.retain(|(name, _)| name == metric);
    let points_nowhere = !directions.is_empty()
        && directions
            .iter()
            .all(|(_, direction)| *direction == Direction::Neither);
    if file.objective.direction.is_none() && (points_nowhere || metric == "threshold") {
        let message = format!("nothing says whether a larger `{metric}` is better");
        return wrong(
            message,
            "add `direction: maximize` or `minimize`".to_owned(),
        );
    }
    Ok(())
}

/// The names of the metrics that a stage's parameters list, where they do.
fn announced(parameters: &Value) -> Option<Vec<&str>> {
    let mut names = vec!["threshold"];
    for choice in parameters.get("metrics")?.as_array()? {
        names.push(match choice {
            Value::String(name) => name,
            // The name of a metric with parameters follows from them: then nothing is sure before it has run.
            Value::Object(map) if map.len() == 1 => map.get("kind")?.as_str()?,
            _ => return None,
        });
    }
    names.rotate_left(1);
    Some(names)
}

impl Trials {
    /// Whether the trials are chosen by the rows that the result is reported on.
    pub fn are_chosen_by_test(&self) -> bool {
        self.judged == Some(Split::Test)
    }

    /// The stages of a member, each after those that it needs.
    pub fn stages(&self, member: usize) -> &[StageId] {
        &self.places[member]
    }

    /// The stage that computes a member's objective.
    pub fn objective(&self, member: usize) -> StageId {
        self.objectives[member]
    }

    /// Stages that more than one member needs.
    pub fn shared(&self, graph: &Graph) -> Vec<StageId> {
        let mut users = vec![0_usize; graph.len()];
        for places in &self.places {
            for place in places {
                users[place.index()] += 1;
            }
        }
        let mut shared = graph.order().to_vec();
        shared.retain(|id| users[id.index()] > 1);
        shared
    }

    /// What the store says of every member.
    pub fn states(&self, file: &SweepFile, plan: &Plan, store: &Store) -> Vec<MemberState> {
        (0..self.members.len())
            .into_par_iter()
            .map(|member| self.state(member, file, plan, store))
            .collect()
    }

    fn state(&self, member: usize, file: &SweepFile, plan: &Plan, store: &Store) -> MemberState {
        let is_open = |id: &&StageId| plan.stage(**id).hit().is_none();
        let stages = self.places[member].iter().filter(is_open).count();
        match plan.stage(self.objectives[member]).hit() {
            Some(action) if stages == 0 => objective(action, &file.objective.metric, store)
                .unwrap_or(MemberState::Missing { stages: 1 }),
            _ => MemberState::Missing { stages },
        }
    }

    /// Seconds that computing a member took, shared stages included.
    pub fn seconds(&self, member: usize, plan: &Plan) -> f64 {
        let mut seconds = 0.0;
        for id in &self.places[member] {
            seconds += plan.stage(*id).hit().map_or(0.0, |action| action.seconds);
        }
        seconds
    }

    /// When the last of a member's stages ended, in milliseconds since 1970.
    pub fn finished(&self, member: usize, plan: &Plan) -> Option<u64> {
        let action = plan.stage(self.objectives[member]).hit();
        action.map(|action| action.finished)
    }
}

/// The objective among what a stage made; `None` if it cannot be read.
pub fn objective(action: &Action, name: &str, store: &Store) -> Option<MemberState> {
    let mut found = Vec::new();
    for output in &action.outputs {
        if output.record.kind != Some(ArtifactKind::Metrics) {
            continue;
        }
        let Ok(Artifact::Metrics(metrics)) = store.load(&output.record) else {
            return None;
        };
        if let Some(metric) = metrics.entries.iter().find(|metric| metric.name == name) {
            let value = metric.value.filter(|value| !value.is_nan());
            return Some(MemberState::Done {
                value,
                direction: metric.direction,
            });
        }
        found.extend(metrics.entries.iter().map(|metric| metric.name.clone()));
    }
    Some(MemberState::Without { found })
}

/// The direction in which the objective improves: the file's, or the metric's own.
pub fn direction(file: &SweepFile, states: &[MemberState]) -> Option<Direction> {
    let own = states.iter().find_map(|state| match state {
        MemberState::Done { direction, .. } if *direction != Direction::Neither => Some(*direction),
        _ => None,
    });
    file.objective.direction.or(own)
}

/// What members resulted in, as the course of a sweep asks for it. `failed` are those that ran and did not finish.
pub fn outcomes(
    file: &SweepFile,
    members: &[Member],
    states: &[MemberState],
    failed: &BTreeSet<Member>,
) -> BTreeMap<Member, Outcome> {
    let sign = if direction(file, states) == Some(Direction::Lower) {
        1.0
    } else {
        -1.0
    };
    let mut outcomes = BTreeMap::new();
    for (member, state) in members.iter().zip(states) {
        let outcome = match state {
            MemberState::Done { value, .. } => Outcome::Loss(value.map(|value| sign * value)),
            MemberState::Without { .. } => Outcome::Failed,
            MemberState::Missing { .. } if failed.contains(member) => Outcome::Failed,
            MemberState::Missing { .. } => Outcome::Unknown,
        };
        outcomes.insert(*member, outcome);
    }
    outcomes
}
