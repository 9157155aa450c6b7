//! Pass: from stages to instances. A stage has an instance per point of its own axes and of the axes of what it takes:
//! axes flow downstream, two inputs with the same axis are joined on its value, and inputs with different axes are
//! combined. A kind that gathers (`collect`) ends the axes that it does not declare itself.

use std::collections::HashMap;

use indexmap::IndexSet;

use super::build::{Context, references};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::pipeline::limits::{LONGEST_LABEL, MOST_INSTANCES};
use crate::pipeline::{Point, Scope};

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
        let mut shared: Vec<&str> = first.names().collect();
        let all = shared.len();
        shared.retain(|axis| point.get(axis).is_some());
        let wanted = label_of(point, &shared);
        if shared.len() == all {
            return Vec::from_iter(self.positions[stage].get(&wanted).copied());
        }
        let mut found = Vec::new();
        for (index, other) in self.points[stage].iter().enumerate() {
            if label_of(other, &shared) == wanted {
                found.push(index);
            }
        }
        found
    }

    fn put(&mut self, stage: usize, points: Vec<Point>) {
        for (index, point) in points.iter().enumerate() {
            self.positions[stage].insert(point.label(), index);
        }
        self.points[stage] = points;
    }
}

/// The part of a point's label that concerns these axes, in their order.
fn label_of(point: &Point, axes: &[&str]) -> String {
    let mut part = Point::default();
    for axis in axes {
        if let Some(value) = point.get(axis) {
            part = part.and((*axis).into(), value.clone());
        }
    }
    part.label()
}

/// A point without the axes that are not wanted.
pub(super) fn part_of(point: &Point, wanted: impl Fn(&str) -> bool) -> Point {
    let axes = point.iter().filter(|(axis, _)| wanted(axis));
    axes.map(|(axis, value)| (axis.into(), value.clone()))
        .collect()
}

/// Expands the stages in topological order.
pub(super) fn expand(
    context: &Context<'_>,
    order: &[usize],
    diagnostics: &mut Diagnostics,
) -> Expansion {
    let count = context.spec.stages.len();
    let mut expansion = Expansion {
        points: vec![Vec::new(); count],
        positions: vec![HashMap::new(); count],
    };
    for &stage in order {
        match points_of(context, stage, &expansion) {
            Ok(points) => expansion.put(stage, points),
            Err(problems) => diagnostics.extend(problems),
        }
    }
    expansion
}

fn points_of(
    context: &Context<'_>,
    stage: usize,
    expansion: &Expansion,
) -> Result<Vec<Point>, Diagnostics> {
    let (spec, scope) = (&context.spec.stages[stage], &context.scope);
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
    let name = &spec.name.value;
    let others: usize = expansion.points.iter().map(Vec::len).sum();
    if others + points.len() > MOST_INSTANCES {
        let message = format!("with `{name}` the pipeline has more than {MOST_INSTANCES} stages");
        let hint =
            "axes of everything that a stage takes are combined; are all of them meant to be?";
        return Err(Diagnostic::error("too-many", message)
            .at(spec.name.span)
            .hint(hint)
            .into());
    }
    let lengths = points.iter().map(|point| point.label().len());
    if lengths.max() > Some(LONGEST_LABEL) {
        let message = format!(
            "the values of its axes make the names of `{name}` longer than {LONGEST_LABEL} bytes"
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
    let mut found = IndexSet::new();
    for reference in references(&sources) {
        found.extend(context.stage(&reference.stage.value));
    }
    found.into_iter().collect()
}

/// All combinations of instances of the sources that agree on their common axes.
fn join(expansion: &Expansion, sources: &[usize], start: Point) -> Vec<Point> {
    let mut rows = vec![start];
    for &source in sources {
        let points = expansion.points(source);
        if matches!(points, [only] if only.is_empty()) {
            continue;
        }
        let mut longer = Vec::with_capacity(rows.len());
        for row in &rows {
            for index in expansion.matching(source, row) {
                longer.extend(merge(row, &points[index]));
            }
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
    let mut merged = left.clone();
    for (axis, value) in right.iter() {
        match merged.get(axis) {
            None => merged = merged.and(axis.into(), value.clone()),
            Some(present) if present.to_json() == value.to_json() => {}
            Some(_) => return None,
        }
    }
    Some(merged)
}
