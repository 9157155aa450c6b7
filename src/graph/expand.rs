//! Pass: from stages to instances. A stage has an instance per point of its own axes and of the axes of what it takes:
//! axes flow downstream, two inputs with the same axis are joined on its value, and inputs with different axes are
//! combined. A kind that gathers (`collect`) ends the axes that it does not declare itself.

use std::collections::{BTreeSet, HashMap};

use super::build::Context;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::pipeline::limits::{LONGEST_LABEL, MOST_INSTANCES};
use crate::pipeline::{Point, Scope, Sources};

/// The instances of all stages.
pub(super) struct Expansion {
    /// By stage: the points, in order.
    points: Vec<Vec<Point>>,
    /// By stage: the label of a point to its position.
    positions: Vec<HashMap<String, usize>>,
}

impl Expansion {
    pub fn points(&self, stage: usize) -> &[Point] {
        &self.points[stage]
    }

    /// The instances of `stage` that agree with a point on every axis that both have.
    pub fn matching(&self, stage: usize, point: &Point) -> Vec<usize> {
        let Some(first) = self.points[stage].first() else {
            return Vec::new();
        };
        let covered = first.names().all(|axis| point.get(axis).is_some());
        if covered {
            let wanted = label_of(point, first.names());
            return self.positions[stage]
                .get(&wanted)
                .copied()
                .into_iter()
                .collect();
        }
        let shared: Vec<&str> = first
            .names()
            .filter(|axis| point.get(axis).is_some())
            .collect();
        let wanted = label_of(point, shared.iter().copied());
        let agrees = |other: &Point| label_of(other, shared.iter().copied()) == wanted;
        (0..self.points[stage].len())
            .filter(|index| agrees(&self.points[stage][*index]))
            .collect()
    }

    fn put(&mut self, stage: usize, points: Vec<Point>) {
        self.positions[stage] = points
            .iter()
            .enumerate()
            .map(|(index, point)| (point.label(), index))
            .collect();
        self.points[stage] = points;
    }
}

/// The part of a point's label that concerns these axes.
fn label_of<'a>(point: &Point, axes: impl Iterator<Item = &'a str>) -> String {
    let part = axes.fold(Point::default(), |part, axis| match point.get(axis) {
        Some(value) => part.and(axis.into(), value.clone()),
        None => part,
    });
    part.label()
}

/// Expands the stages in topological order.
pub(super) fn expand(
    context: &Context<'_>,
    scope: &Scope<'_>,
    order: &[usize],
    diagnostics: &mut Diagnostics,
) -> Expansion {
    let count = context.spec.stages.len();
    let mut expansion = Expansion {
        points: vec![Vec::new(); count],
        positions: vec![HashMap::new(); count],
    };
    for &stage in order {
        match points_of(context, scope, stage, &expansion) {
            Ok(points) => expansion.put(stage, points),
            Err(problems) => diagnostics.extend(problems),
        }
    }
    expansion
}

fn points_of(
    context: &Context<'_>,
    scope: &Scope<'_>,
    stage: usize,
    expansion: &Expansion,
) -> Result<Vec<Point>, Diagnostics> {
    let spec = &context.spec.stages[stage];
    let gathers = context.kinds[stage].is_some_and(|kind| kind.gathers);
    let mut points = Vec::new();
    if gathers {
        points = spec.axes.points(scope)?;
    } else if spec.from.is_templated() {
        for own in spec.axes.points(scope)? {
            let sources = sources_of(context, stage, &scope.with(&own));
            points.extend(join(expansion, &sources, own));
            if points.len() > MOST_INSTANCES {
                break;
            }
        }
    } else {
        let sources = sources_of(context, stage, scope);
        for inherited in join(expansion, &sources, Point::default()) {
            for own in spec.axes.points(&scope.with(&inherited))? {
                points.extend(merge(&inherited, &own));
            }
            if points.len() > MOST_INSTANCES {
                break;
            }
        }
    }
    let others: usize = expansion.points.iter().map(Vec::len).sum();
    if others + points.len() > MOST_INSTANCES {
        let message = format!(
            "with `{}` the pipeline has more than {MOST_INSTANCES} stages",
            spec.name.value
        );
        let hint =
            "axes of everything that a stage takes are combined; are all of them meant to be?";
        return Err(Diagnostic::error("too-many", message)
            .at(spec.name.span)
            .hint(hint)
            .into());
    }
    if points
        .iter()
        .any(|point| point.label().len() > LONGEST_LABEL)
    {
        let message = format!(
            "the values of its axes make the names of `{}` longer than {LONGEST_LABEL} bytes",
            spec.name.value
        );
        return Err(Diagnostic::error("too-large", message)
            .at(spec.name.span)
            .into());
    }
    Ok(points)
}

/// The stages that this one takes from, each once, in the order of the file. Bad references were reported before.
fn sources_of(context: &Context<'_>, stage: usize, scope: &Scope<'_>) -> Vec<usize> {
    let Ok(sources) = context.spec.stages[stage].from.sources(scope) else {
        return Vec::new();
    };
    let references: Vec<_> = match &*sources {
        Sources::None => return Vec::new(),
        Sources::One(reference) => vec![&reference.stage.value],
        Sources::Many(references, _) => references
            .iter()
            .map(|reference| &reference.stage.value)
            .collect(),
        Sources::Ports(ports, _) => ports
            .iter()
            .flat_map(|port| &port.references)
            .map(|reference| &reference.stage.value)
            .collect(),
    };
    let mut seen = BTreeSet::new();
    references
        .into_iter()
        .filter_map(|name| context.stage(name))
        .filter(|source| seen.insert(*source))
        .collect()
}

/// All combinations of instances of the sources that agree on their common axes.
fn join(expansion: &Expansion, sources: &[usize], start: Point) -> Vec<Point> {
    let mut rows = vec![start];
    for &source in sources {
        let points = expansion.points(source);
        if let [only] = points
            && only.is_empty()
        {
            continue;
        }
        let mut longer = Vec::with_capacity(rows.len());
        for row in &rows {
            let matching = expansion.matching(source, row);
            longer.extend(
                matching
                    .into_iter()
                    .filter_map(|index| merge(row, &points[index])),
            );
            if longer.len() > MOST_INSTANCES {
                return longer;
            }
        }
        rows = longer;
    }
    rows
}

/// Both points in one; `None` if they disagree on an axis.
fn merge(left: &Point, right: &Point) -> Option<Point> {
    right
        .iter()
        .try_fold(left.clone(), |merged, (axis, value)| {
            match merged.get(axis) {
                None => Some(merged.and(axis.into(), value.clone())),
                Some(present) => (present.to_json() == value.to_json()).then_some(merged),
            }
        })
}
