//! `foreach` and `matrix`: the axes over which a stage is repeated, and the points they span.
//! What runs at a point, and how points of neighbouring stages meet, is decided by the graph.

use std::collections::HashMap;
use std::sync::Arc;

use super::limits::{LONGEST_LABEL, MOST_INSTANCES};
use super::node::{Key, Node};
use super::scalar::Resolved;
use super::substitute::{Scope, references, substitute};
use super::{is_name, name_hint};
use crate::diagnostic::{Diagnostic, Diagnostics, Span, did_you_mean, list};

/// One choice of a value for every axis, in the order of the file. Two are equal if their axes and values are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Point {
    values: Vec<(Arc<str>, Node)>,
}

impl Point {
    pub fn get(&self, axis: &str) -> Option<&Node> {
        self.values
            .iter()
            .find(|(name, _)| &**name == axis)
            .map(|(_, value)| value)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(|(name, _)| &**name)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.values.iter().map(|(name, value)| (&**name, value))
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// `lr=1e-4,model=tvnet`: scalars as they were written, the rest as JSON.
    pub fn label(&self) -> String {
        let part = |(name, value): (&str, &Node)| match value.kind() {
            super::Kind::Scalar(scalar) => format!("{name}={}", scalar.text),
            _ => format!("{name}={}", value.to_json()),
        };
        self.iter().map(part).collect::<Vec<_>>().join(",")
    }

    /// This point with one more value.
    #[must_use]
    pub fn and(&self, axis: Arc<str>, value: Node) -> Self {
        let mut values = Vec::with_capacity(self.values.len() + 1);
        values.extend_from_slice(&self.values);
        values.push((axis, value));
        Self { values }
    }
}

impl FromIterator<(Arc<str>, Node)> for Point {
    fn from_iter<T: IntoIterator<Item = (Arc<str>, Node)>>(values: T) -> Self {
        Self {
            values: values.into_iter().collect(),
        }
    }
}

/// The axes of a stage.
#[derive(Clone, Debug, Default)]
pub enum Axes {
    /// The stage stands once.
    #[default]
    None,
    /// `foreach: [{a: 1, b: 2}, …]`: the points as they are listed.
    Points(Node),
    /// `matrix: {a: […], b: […]}`, `foreach: {a: […]}`: every combination, the first axis slowest.
    Product { axes: Vec<Axis>, span: Span },
}

/// A named list of values.
#[derive(Clone, Debug)]
pub struct Axis {
    pub name: Key,
    values: Values,
}

#[derive(Clone, Debug)]
enum Values {
    /// A list, or a `${name}` that stands for one, for a single value, or for a map that goes by an earlier axis.
    List(Node),
    /// What such a `${name}` stands for: values, or one that is the same everywhere.
    Known(Vec<Node>),
    One(Node),
    /// `{by: earlier_axis, value: [...], default: [...]}`.
    By {
        axis: Node,
        cases: Vec<(Key, Node)>,
        default: Option<Node>,
    },
    /// What is written was reported; the axis is there all the same, so that its name is not called undefined.
    Unknown,
}

impl Axes {
    /// Reads `foreach` and `matrix`; problems that no substitution could mend go to the diagnostics.
    pub(super) fn new(
        foreach: Option<&(Key, Node)>,
        matrix: Option<&(Key, Node)>,
        diagnostics: &mut Diagnostics,
    ) -> Self {
        match (foreach, matrix) {
            (None, None) => Self::None,
            (Some((first, _)), Some((second, _))) => {
                let diagnostic =
                    Diagnostic::error("bad-axes", "a stage has `foreach` or `matrix`, not both");
                let diagnostic = diagnostic.at(second.span).also(first.span, "the other one");
                diagnostics.push(
                    diagnostic.hint(
                        "`matrix` makes every combination, `foreach` takes points one by one",
                    ),
                );
                Self::None
            }
            (Some((_, node)), None) if node.items().is_some() || node.entries().is_none() => {
                check_points(node, diagnostics);
                Self::Points(node.clone())
            }
            (Some((_, node)), None) => {
                let axes = read_axes(node, diagnostics);
                if let [_, second, ..] = &axes[..] {
                    let diagnostic =
                        Diagnostic::error("bad-axes", "a map below `foreach` has one axis");
                    let hint = "use `matrix` for every combination, or list points: `foreach: [{a: 1, b: 2}, …]`";
                    diagnostics.push(diagnostic.at(second.name.span).hint(hint));
                }
                Self::Product {
                    axes,
                    span: node.span(),
                }
            }
            (None, Some((_, node))) => {
                if node.entries().is_none() {
                    let message =
                        format!("`matrix` must be a map of axes, found {}", node.describe());
                    let diagnostic = Diagnostic::error("bad-axes", message).at(node.span());
                    diagnostics.push(diagnostic.hint("write `matrix: {axis: [value, value]}`"));
                }
                Self::Product {
                    axes: read_axes(node, diagnostics),
                    span: node.span(),
                }
            }
        }
    }

    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// The names of the axes, each with whether its value is the only one that the earlier axes leave.
    pub fn implied(&self, scope: &Scope<'_>) -> Vec<(String, bool)> {
        match self {
            Self::None => Vec::new(),
            Self::Points(node) => {
                let points = substitute(node, scope)
                    .and_then(|node| listed(&node))
                    .unwrap_or_default();
                points
                    .first()
                    .into_iter()
                    .flat_map(Point::names)
                    .map(|name| (name.to_owned(), false))
                    .collect()
            }
            Self::Product { axes, .. } => {
                let implied = |(index, axis): (usize, &Axis)| {
                    let resolved = axis.resolved(&axes[..index], scope);
                    (
                        axis.name.text.to_string(),
                        resolved.is_ok_and(|axis| axis.is_implied()),
                    )
                };
                axes.iter().enumerate().map(implied).collect()
            }
        }
    }

    /// The points in their order; a stage without axes has one, which is empty.
    ///
    /// # Errors
    /// Axes without values, points that come twice, undefined names. The diagnostics are empty if the only cause was
    /// reported when the axes were read.
    pub fn points(&self, scope: &Scope<'_>) -> Result<Vec<Point>, Diagnostics> {
        let points = match self {
            Self::None => return Ok(vec![Point::default()]),
            Self::Points(node) => listed(&substitute(node, scope)?)?,
            Self::Product { axes, .. } => product(axes, scope)?,
        };
        let mut diagnostics = Diagnostics::default();
        let mut seen = HashMap::with_capacity(points.len());
        for point in &points {
            let label = point.label();
            if let Err(problem) = check_label(point, &label) {
                diagnostics.push(problem);
                break;
            }
            if let Some(first) = seen.insert(label, point) {
                diagnostics.push(repeated(point, first));
            }
        }
        diagnostics.unless_any(points)
    }
}

fn repeated(point: &Point, first: &Point) -> Diagnostic {
    let place = |point: &Point| {
        point
            .values
            .last()
            .map(|(_, value)| value.origin().unwrap_or(value.span()))
    };
    let mut diagnostic = Diagnostic::error(
        "repeated-point",
        format!("the point {} comes twice", point.label()),
    );
    if let (Some(again), Some(before)) = (place(point), place(first)) {
        diagnostic = diagnostic.at(again).hint("remove one of them");
        if again != before {
            diagnostic = diagnostic.also(before, "first here");
        }
    }
    diagnostic
}

/// The problems of `foreach` as a list that can be seen before substitution.
fn check_points(node: &Node, diagnostics: &mut Diagnostics) {
    if node.items().is_none() && node.is_templated() {
        return;
    }
    if let Err(problems) = listed(node) {
        diagnostics.extend(problems);
    }
}

/// The points of a list of maps with the same keys.
fn listed(node: &Node) -> Result<Vec<Point>, Diagnostics> {
    let bad = |node: &Node, message: String| {
        let hint =
            "write `foreach: {axis: [value, value]}` or `foreach: [{a: 1, b: 2}, {a: 3, b: 4}]`";
        Diagnostic::error("bad-axes", message)
            .at(node.span())
            .hint(hint)
    };
    let items = match node.items() {
        Some([]) => return Err(bad(node, "`foreach` has no points".to_owned()).into()),
        Some(items) => items,
        None => {
            return Err(bad(
                node,
                format!(
                    "`foreach` must be a list of points, found {}",
                    node.describe()
                ),
            )
            .into());
        }
    };
    let mut diagnostics = Diagnostics::default();
    let mut points: Vec<Point> = Vec::with_capacity(items.len());
    for item in items {
        if item.is_templated() && item.entries().is_none() {
            continue;
        }
        let Some(entries) = item.entries().filter(|entries| !entries.is_empty()) else {
            diagnostics.push(bad(
                item,
                format!("a point must be a map of axes, found {}", item.describe()),
            ));
            continue;
        };
        for (key, _) in entries {
            check_axis_name(key, &mut diagnostics);
        }
        let point = Point {
            values: entries
                .iter()
                .map(|(key, value)| (Arc::clone(&key.text), value.clone()))
                .collect(),
        };
        if let Some(first) = points
            .first()
            .filter(|first| !first.names().eq(point.names()))
        {
            let names: Vec<&str> = first.names().collect();
            let message = format!(
                "every point must have the axes of the first one, in its order: {}",
                list(&names)
            );
            diagnostics.push(bad(item, message));
        }
        points.push(point);
    }
    diagnostics.unless_any(points)
}

fn check_axis_name(key: &Key, diagnostics: &mut Diagnostics) {
    if !is_name(&key.text) {
        let diagnostic = Diagnostic::error(
            "bad-name",
            format!("`{}` cannot be the name of an axis", key.text),
        );
        diagnostics.push(diagnostic.at(key.span).hint(name_hint()));
    }
}

fn read_axes(node: &Node, diagnostics: &mut Diagnostics) -> Vec<Axis> {
    let entries = node.entries().unwrap_or(&[]);
    if node.entries().is_some_and(<[_]>::is_empty) {
        diagnostics.push(
            Diagnostic::error("bad-axes", "there is no axis")
                .at(node.span())
                .hint("write `axis: [value]`"),
        );
    }
    let mut axes: Vec<Axis> = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        check_axis_name(key, diagnostics);
        let values = read_values(key, value, &axes).unwrap_or_else(|problems| {
            diagnostics.extend(problems);
            Values::Unknown
        });
        axes.push(Axis {
            name: key.clone(),
            values,
        });
    }
    axes
}

fn read_values(key: &Key, node: &Node, earlier: &[Axis]) -> Result<Values, Diagnostics> {
    let Some(entries) = node.entries() else {
        if !(node.is_templated() && node.items().is_none()) {
            items(&key.text, node)?;
        }
        return Ok(Values::List(node.clone()));
    };
    let Some(axis) = node.get("by") else {
        let message = format!(
            "the map of axis `{}` does not say by which earlier axis it goes",
            key.text
        );
        let hint =
            "write `{by: earlier_axis, its_value: [...], default: [...]}`, or a list of values";
        return Err(Diagnostic::error("bad-axes", message)
            .at(node.span())
            .hint(hint)
            .into());
    };
    let mut diagnostics = Diagnostics::default();
    diagnostics.extend(check_by(key, axis, earlier));
    let mut cases = Vec::new();
    let mut default = None;
    for (case, values) in entries.iter().filter(|(case, _)| &*case.text != "by") {
        if !(values.is_templated() && values.items().is_none()) {
            diagnostics.extend(items(&key.text, values).err().into_iter().flatten());
        }
        match &*case.text {
            "default" => default = Some(values.clone()),
            _ => cases.push((case.clone(), values.clone())),
        }
    }
    diagnostics.extend(unused_cases(&key.text, axis, &cases, earlier));
    diagnostics.unless_any(Values::By {
        axis: axis.clone(),
        cases,
        default,
    })
}

/// `by` must name an axis that stands before this one.
fn check_by(key: &Key, axis: &Node, earlier: &[Axis]) -> Option<Diagnostic> {
    let name = axis
        .as_str()
        .unwrap_or_default()
        .split('.')
        .next()
        .unwrap_or_default();
    if earlier.iter().any(|other| &*other.name.text == name) {
        return None;
    }
    let names: Vec<&str> = earlier.iter().map(|other| &*other.name.text).collect();
    let message = format!(
        "`by` of axis `{}` must name an earlier axis, found {}",
        key.text,
        axis.describe()
    );
    let hint = match did_you_mean(name, names.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if names.is_empty() => {
            "no axis stands before it; axes are read from top to bottom".to_owned()
        }
        None => format!("before it stand {}", list(&names)),
    };
    Some(
        Diagnostic::error("bad-axes", message)
            .at(axis.span())
            .hint(hint),
    )
}

/// A case for a value that the earlier axis never has is a slip. Values that were set from elsewhere do not make it one.
fn unused_cases(
    name: &str,
    axis: &Node,
    cases: &[(Key, Node)],
    earlier: &[Axis],
) -> Vec<Diagnostic> {
    let by = axis.as_str().unwrap_or_default();
    let values = match earlier
        .iter()
        .find(|other| &*other.name.text == by)
        .map(|other| &other.values)
    {
        Some(Values::List(node)) if !node.is_templated() => node.items().unwrap_or(&[]),
        _ => return Vec::new(),
    };
    let texts: Vec<&str> = values.iter().filter_map(scalar_text).collect();
    let near = |case: &Key| {
        values
            .first()
            .is_some_and(|value| value.span().file == case.span.file)
    };
    let unused = cases
        .iter()
        .filter(|(case, _)| near(case) && !values.iter().any(|value| is_case(case, value)));
    unused
        .map(|(case, _)| {
            let message = format!(
                "axis `{name}` has a case `{}`, but `{by}` never has this value",
                case.text
            );
            let hint = match did_you_mean(&case.text, texts.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("the values of `{by}` are {}", list(&texts)),
            };
            Diagnostic::error("bad-axes", message)
                .at(case.span)
                .hint(hint)
        })
        .collect()
}

fn scalar_text(node: &Node) -> Option<&str> {
    match node.kind() {
        super::Kind::Scalar(scalar) => Some(&scalar.text),
        _ => None,
    }
}

/// Whether a value of the earlier axis is the one that a case names: by its text, or as a number of the same value.
fn is_case(case: &Key, value: &Node) -> bool {
    let same_text = scalar_text(value).is_some_and(|text| *text == *case.text);
    let number = |resolved: Resolved<'_>| match resolved {
        Resolved::Integer(value) => Some(value as f64),
        Resolved::Float(value) => Some(value),
        _ => None,
    };
    let written = number(super::scalar::resolve(&case.text));
    same_text || (written.is_some() && written == value.resolve().and_then(number))
}

/// The values of a list that has some.
fn items<'a>(axis: &str, node: &'a Node) -> Result<&'a [Node], Diagnostics> {
    let bad = |message: String| {
        Diagnostic::error("bad-axes", message)
            .at(node.span())
            .hint(format!("write `{axis}: [value, value]`"))
    };
    match node.items() {
        Some([]) => Err(bad(format!("axis `{axis}` has no values")).into()),
        Some(items) => Ok(items),
        None => Err(bad(format!(
            "axis `{axis}` must be a list of values, found {}",
            node.describe()
        ))
        .into()),
    }
}

/// Every combination, in the order of the file, the last axis fastest.
fn product(axes: &[Axis], scope: &Scope<'_>) -> Result<Vec<Point>, Diagnostics> {
    let mut points = vec![Point::default()];
    for (index, axis) in axes.iter().enumerate() {
        let axis = axis.resolved(&axes[..index], scope)?;
        let mut extended = Vec::with_capacity(points.len());
        for point in &points {
            let values = axis.values_at(point, scope)?;
            if extended.len() + values.len() > MOST_INSTANCES {
                return Err(too_many(&axis.name).into());
            }
            extended.extend(
                values
                    .into_iter()
                    .map(|value| point.and(Arc::clone(&axis.name.text), value)),
            );
        }
        points = extended;
    }
    Ok(points)
}

fn too_many(axis: &Key) -> Diagnostic {
    let message = format!(
        "with the axis `{}` the stage has more than {MOST_INSTANCES} combinations",
        axis.text
    );
    let diagnostic = Diagnostic::error("too-many", message).at(axis.span);
    diagnostic.hint("are all axes meant to be combined? `foreach` takes points one by one")
}

/// A label names an instance, in tables and in folders.
fn check_label(point: &Point, label: &str) -> Result<(), Diagnostic> {
    if label.len() <= LONGEST_LABEL {
        return Ok(());
    }
    let longest = point.iter().max_by_key(|(_, value)| value.weight());
    let (axis, value) = longest.map_or(("", None), |(axis, value)| (axis, Some(value)));
    let message = format!(
        "the value of axis `{axis}` is too long to name a stage: {LONGEST_LABEL} bytes are the limit"
    );
    let mut diagnostic = Diagnostic::error("too-large", message);
    if let Some(value) = value {
        diagnostic = diagnostic.at(value.origin().unwrap_or(value.span()));
    }
    Err(diagnostic.hint("give the axis short names, and look the values up with `by`"))
}

/// Whether a list refers to one of these axes, so that it differs from point to point.
fn names_axis(node: &Node, axes: &[Axis]) -> bool {
    references(node)
        .iter()
        .any(|(name, _)| axes.iter().any(|axis| *axis.name.text == **name))
}

impl Axis {
    /// The axis with what its `${name}` stands for, unless that differs from point to point.
    fn resolved(&self, earlier: &[Self], scope: &Scope<'_>) -> Result<Self, Diagnostics> {
        let values = match &self.values {
            Values::List(node) if !names_axis(node, earlier) => {
                let values = substitute(node, scope)?;
                if values.entries().is_some() {
                    read_values(&self.name, &values, earlier)?
                } else if node.items().is_none() && values.items().is_none() {
                    Values::One(values)
                } else {
                    Values::Known(items(&self.name.text, &values)?.to_vec())
                }
            }
            other => other.clone(),
        };
        Ok(Self {
            name: self.name.clone(),
            values,
        })
    }

    /// The values at a point of the earlier axes.
    fn values_at(&self, point: &Point, scope: &Scope<'_>) -> Result<Vec<Node>, Diagnostics> {
        let list = match &self.values {
            Values::Known(values) => return Ok(values.clone()),
            Values::One(value) => return Ok(vec![value.clone()]),
            Values::List(node) => node,
            Values::By {
                axis,
                cases,
                default,
            } => self.case(point, axis, cases, default.as_ref())?,
            Values::Unknown => return Err(Diagnostics::default()),
        };
        Ok(items(&self.name.text, &substitute(list, &scope.with(point))?)?.to_vec())
    }

    /// Whether an earlier axis decides the value, or nothing does.
    fn is_implied(&self) -> bool {
        let single = |node: &Node| node.items().is_some_and(|items| items.len() == 1);
        match &self.values {
            Values::By { cases, default, .. } => cases
                .iter()
                .map(|(_, node)| node)
                .chain(default)
                .all(single),
            Values::One(_) => true,
            Values::List(_) | Values::Known(_) | Values::Unknown => false,
        }
    }

    fn case<'a>(
        &self,
        point: &Point,
        axis: &Node,
        cases: &'a [(Key, Node)],
        default: Option<&'a Node>,
    ) -> Result<&'a Node, Diagnostic> {
        let path: Vec<&str> = axis.as_str().unwrap_or_default().split('.').collect();
        let value = path
            .split_first()
            .and_then(|(name, rest)| point.get(name)?.at(rest));
        let value = value.ok_or_else(|| {
            Diagnostic::error(
                "bad-axes",
                format!("{} is not a value of every point", axis.describe()),
            )
            .at(axis.span())
        })?;
        let found = cases
            .iter()
            .find(|(case, _)| is_case(case, value))
            .map(|(_, values)| values);
        found.or(default).ok_or_else(|| {
            let names: Vec<&str> = cases.iter().map(|(case, _)| &*case.text).collect();
            let (name, by) = (&self.name.text, path.join("."));
            let message = format!(
                "axis `{name}` says nothing about {} of `{by}`",
                value.describe()
            );
            let diagnostic = Diagnostic::error("bad-axes", message)
                .at(self.name.span)
                .also(value.span(), "this value");
            diagnostic.hint(format!("add it or `default` to the cases {}", list(&names)))
        })
    }
}

#[cfg(test)]
mod tests;
