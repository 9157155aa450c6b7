//! From members to a graph: the pipeline is read once for each member with the member's values, and the graphs are
//! joined. Then the plan tells for each member whether it is done, and what it came to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use contract::Catalogue;
use contract::artifact::{Artifact, ArtifactKind, Direction};
use indexmap::IndexMap;
use rayon::prelude::*;
use serde_json::Value;

use super::course::{Member, Outcome, Progress};
use super::file::{SweepFile, as_text};
use super::space::Point;
use crate::cache::{Action, Store};
use crate::diagnostic::{Diagnostic, Diagnostics, SourceMap, did_you_mean, list};
use crate::engine::Plan;
use crate::graph::{Graph, StageId, build, join};
use crate::pipeline::{LoadOptions, Spec, load};

/// What comes of the members of a sweep.
pub struct Assembly {
    pub graph: Graph,
    pub roster: Trials,
    /// What each member has the pipeline's parameters at, and its seed.
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
    /// Where the objective of each member is made.
    objectives: Vec<StageId>,
}

/// What the store says of a member.
#[derive(Clone, Debug, PartialEq)]
pub enum MemberState {
    /// The figure and the way it points.
    Done {
        value: Option<f64>,
        direction: Direction,
    },
    /// The stage that makes the figure ran, and the figure is not among what it made.
    Without { found: Vec<String> },
    /// Stages that must still run, as far as is known.
    Missing { stages: usize },
}

/// Values of a member as for `--set`, those of the sweep first.
pub fn overrides(file: &SweepFile, point: &Point, member: &Member) -> Vec<(String, String)> {
    let mut values = file.fixed.clone();
    values.extend(
        point
            .iter()
            .map(|(name, value)| (name.clone(), as_text(value))),
    );
    if let (Some(stopping), Some(level)) = (&file.stopping, member.level) {
        values.push((stopping.over.clone(), level.to_string()));
    }
    values.extend(
        member
            .seed
            .map(|seed| ("seed".to_owned(), seed.to_string())),
    );
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

/// Reads the pipeline for every member of the progress and joins what comes of it.
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
    let read = |member: &Member| {
        let point = &progress.points[member.trial];
        let overrides = overrides(file, point, member);
        let mut sources = empty.alike();
        let options = LoadOptions {
            profile: file.profile.clone(),
            overrides,
            given_by: None,
        };
        let (spec, mut diagnostics) = load(&file.pipeline, &options, &mut sources);
        let Some(spec) = spec else {
            return Err(diagnostics);
        };
        let (graph, found) = build(&spec, &catalogue.kinds);
        diagnostics.extend(found);
        if diagnostics.has_errors() {
            Err(diagnostics)
        } else {
            Ok((spec, graph, diagnostics))
        }
    };
    let graphs: Vec<Result<(Spec, Graph, Diagnostics), Diagnostics>> =
        progress.members.par_iter().map(read).collect();
    // Diagnostics point into the sources of their member; those of the one that is told are read again for their text.
    let told = graphs.iter().position(Result::is_err).unwrap_or(0);
    let mut labelled = Vec::with_capacity(graphs.len());
    let mut values = Vec::with_capacity(graphs.len());
    let mut first_spec = None;
    for (member, result) in progress.members.iter().zip(graphs) {
        match result {
            Ok((spec, graph, _)) => {
                let (pruned, objective) =
                    prune(file, catalogue, &graph).map_err(Diagnostics::from)?;
                values.push((spec.values(), spec.seed));
                first_spec.get_or_insert(spec);
                labelled.push((label(file, member), pruned, objective));
            }
            Err(_) => return Err(retold(file, progress, told, catalogue, sources)),
        }
    }
    let Some(spec) = first_spec else {
        return Err(no_trials(file).into());
    };
    let mut warnings = retold(file, progress, told, catalogue, sources);
    let joined = join(
        labelled
            .iter()
            .map(|(label, graph, _)| (label.as_str(), graph)),
    );
    let objectives: Vec<StageId> = labelled
        .iter()
        .zip(&joined.places)
        .map(|((_, _, objective), places)| places[objective.index()])
        .collect();
    warnings.extend(seeds_without_effect(file, &progress.members, &objectives));
    let roster = Trials {
        members: progress.members.clone(),
        places: joined.places,
        objectives,
    };
    Ok(Assembly {
        graph: joined.graph,
        roster,
        values,
        spec,
        warnings,
    })
}

/// Seeds are said to make repetitions of a trial. Where nothing draws random numbers, there is one execution of it.
fn seeds_without_effect(
    file: &SweepFile,
    members: &[Member],
    objectives: &[StageId],
) -> Option<Diagnostic> {
    let mut executions: BTreeMap<(usize, Option<u64>), BTreeSet<StageId>> = BTreeMap::new();
    for (member, objective) in members.iter().zip(objectives) {
        executions
            .entry((member.trial, member.level))
            .or_default()
            .insert(*objective);
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

fn no_trials(file: &SweepFile) -> Diagnostic {
    let hint = "every axis needs a value, and a dependent axis a case (or `default`) for each value that it goes by";
    Diagnostic::error("no-trials", "the sweep has no trial")
        .at(file.axes_at)
        .hint(hint)
}

/// The diagnostics of one member, with their places in `sources`.
fn retold(
    file: &SweepFile,
    progress: &Progress,
    index: usize,
    catalogue: &Catalogue,
    sources: &mut SourceMap,
) -> Diagnostics {
    let Some(member) = progress.members.get(index) else {
        return Diagnostics::default();
    };
    let overrides = overrides(file, &progress.points[member.trial], member);
    let given_by = Some(format!(
        "trial {} of {}",
        label(file, member),
        file.path.display()
    ));
    let options = LoadOptions {
        profile: file.profile.clone(),
        overrides,
        given_by,
    };
    let (spec, mut diagnostics) = load(&file.pipeline, &options, sources);
    if let Some(spec) = spec {
        diagnostics.extend(build(&spec, &catalogue.kinds).1);
    }
    diagnostics
}

/// What a member needs of its graph, and the stage of the objective in it.
fn prune(
    file: &SweepFile,
    catalogue: &Catalogue,
    graph: &Graph,
) -> Result<(Graph, StageId), Diagnostic> {
    let find = |name: &str| {
        let found = graph.find(name);
        if found.is_empty() {
            let names = graph.names();
            let message = format!("the pipeline has no stage `{name}`");
            let hint = match did_you_mean(name, names.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("its stages are {}", list(&names)),
            };
            return Err(Diagnostic::error("unknown-stage", message)
                .at(file.objective_at)
                .hint(hint));
        }
        Ok(found)
    };
    let objective = find(&file.objective.stage)?;
    let [objective] = objective[..] else {
        let names: Vec<&str> = objective
            .iter()
            .map(|id| graph.stage(*id).name.as_str())
            .collect();
        let message = format!(
            "the objective's stage `{}` stands {} times in a trial",
            file.objective.stage,
            names.len()
        );
        let hint = format!(
            "name one of {}, or gather them with `collect`",
            list(&names[..names.len().min(6)])
        );
        return Err(Diagnostic::error("ambiguous-objective", message)
            .at(file.objective_at)
            .hint(hint));
    };
    let node = graph.stage(objective);
    if !node
        .outputs
        .iter()
        .any(|port| port.accepts.accepts(ArtifactKind::Metrics))
    {
        let judges = |id: &&StageId| {
            graph
                .stage(**id)
                .outputs
                .iter()
                .any(|port| port.accepts.accepts(ArtifactKind::Metrics))
        };
        let names: Vec<&str> = graph
            .order()
            .iter()
            .filter(judges)
            .map(|id| graph.stage(*id).name.as_str())
            .collect();
        let message = format!("the stage `{}` makes no metrics", node.name);
        let diagnostic = Diagnostic::error("bad-objective", message).at(file.objective_at);
        return Err(diagnostic.hint(format!("stages that do are {}", list(&names))));
    }
    if let Some(names) = announced(node.parameters())
        && !names.iter().any(|name| name == &file.objective.metric)
    {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let message = format!(
            "the stage `{}` does not compute `{}`",
            node.name, file.objective.metric
        );
        let hint = match did_you_mean(&file.objective.metric, names.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("it computes {}; add to its `metrics`", list(&names)),
        };
        return Err(Diagnostic::error("bad-objective", message)
            .at(file.objective_at)
            .hint(hint));
    }
    let mut directions = (catalogue.directions)()
        .into_iter()
        .filter(|(name, _)| *name == file.objective.metric)
        .map(|(_, direction)| direction)
        .peekable();
    let points_nowhere =
        directions.peek().is_some() && directions.all(|direction| direction == Direction::Neither);
    if file.objective.direction.is_none()
        && (points_nowhere || file.objective.metric == "threshold")
    {
        let message = format!(
            "nothing says whether a larger `{}` is better",
            file.objective.metric
        );
        let diagnostic = Diagnostic::error("bad-objective", message).at(file.objective_at);
        return Err(diagnostic.hint("add `direction: maximize` or `minimize`"));
    }
    let mut targets = vec![objective];
    for name in &file.targets {
        targets.extend(find(name)?);
    }
    let pruned = graph.prune(&targets);
    let place = pruned
        .order()
        .iter()
        .copied()
        .find(|id| pruned.stage(*id).name == node.name);
    place
        .map(|place| (pruned, place))
        .ok_or_else(|| no_trials(file))
}

/// The names of figures that a stage's parameters list, where they do.
fn announced(parameters: &Value) -> Option<Vec<String>> {
    let listed = parameters.get("metrics")?.as_array()?;
    let name = |choice: &Value| {
        let plain = choice.as_str().or_else(|| {
            choice
                .as_object()?
                .get("kind")?
                .as_str()
                .filter(|_| choice.as_object().is_some_and(|map| map.len() == 1))
        });
        plain.map(str::to_owned)
    };
    // A choice with parameters of its own has a name that follows from them; then nothing is sure before it ran.
    let names: Option<Vec<String>> = listed.iter().map(name).collect();
    names.map(|names| names.into_iter().chain(["threshold".to_owned()]).collect())
}

impl Trials {
    /// The stages of a member, each after those that it needs.
    pub fn stages(&self, member: usize) -> &[StageId] {
        &self.places[member]
    }

    /// The stage that makes a member's figure.
    pub fn objective(&self, member: usize) -> StageId {
        self.objectives[member]
    }

    /// Stages that more than one member stands on.
    pub fn shared(&self, graph: &Graph) -> Vec<StageId> {
        let mut users = vec![0_usize; graph.len()];
        for places in &self.places {
            for place in places {
                users[place.index()] += 1;
            }
        }
        graph
            .order()
            .iter()
            .copied()
            .filter(|id| users[id.index()] > 1)
            .collect()
    }

    /// What the store says of every member.
    pub fn states(&self, file: &SweepFile, plan: &Plan, store: &Store) -> Vec<MemberState> {
        (0..self.members.len())
            .into_par_iter()
            .map(|member| self.state(member, file, plan, store))
            .collect()
    }

    fn state(&self, member: usize, file: &SweepFile, plan: &Plan, store: &Store) -> MemberState {
        let stages = self.places[member]
            .iter()
            .filter(|id| plan.stage(**id).hit().is_none())
            .count();
        let action = plan.stage(self.objectives[member]).hit();
        let Some(action) = action.filter(|_| stages == 0) else {
            return MemberState::Missing { stages };
        };
        figure(action, &file.objective.metric, store).unwrap_or(MemberState::Missing { stages: 1 })
    }

    /// Seconds of computing that a member stands on, shared stages included.
    pub fn seconds(&self, member: usize, plan: &Plan) -> f64 {
        let known = self.places[member]
            .iter()
            .filter_map(|id| plan.stage(*id).hit());
        // The sum of nothing would be -0.
        known
            .map(|action| action.seconds)
            .fold(0.0, |sum, seconds| sum + seconds)
    }

    /// When the last of a member's stages ended, in milliseconds since 1970.
    pub fn finished(&self, member: usize, plan: &Plan) -> Option<u64> {
        plan.stage(self.objectives[member])
            .hit()
            .map(|action| action.finished)
    }
}

/// The objective among what a stage made; `None` if it cannot be read.
pub fn figure(action: &Arc<Action>, name: &str, store: &Store) -> Option<MemberState> {
    let mut found = Vec::new();
    for output in action
        .outputs
        .iter()
        .filter(|output| output.record.kind == Some(ArtifactKind::Metrics))
    {
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

/// What members came to, as the course of a sweep asks for it. `failed` are those that ran and did not come to an end.
pub fn outcomes(
    file: &SweepFile,
    members: &[Member],
    states: &[MemberState],
    failed: &dyn Fn(&Member) -> bool,
) -> BTreeMap<Member, Outcome> {
    let sign = if direction(file, states) == Some(Direction::Lower) {
        1.0
    } else {
        -1.0
    };
    let outcome = |(member, state): (&Member, &MemberState)| {
        let outcome = match state {
            MemberState::Done { value, .. } => Outcome::Loss(value.map(|value| sign * value)),
            MemberState::Without { .. } => Outcome::Failed,
            MemberState::Missing { .. } if failed(member) => Outcome::Failed,
            MemberState::Missing { .. } => Outcome::Unknown,
        };
        (*member, outcome)
    };
    members.iter().zip(states).map(outcome).collect()
}
