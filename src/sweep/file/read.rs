//! From the tree of a sweep file to its meaning: axes with their forms, and what holds between the parts of the file.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde_json::Value;

use super::{Rule, Sampler, Stopping, SweepFile, Written, as_text};
use crate::diagnostic::{Diagnostic, Diagnostics, Span, did_you_mean, list};
use crate::pipeline::Node;
use crate::sweep::space::{Dimension, Domain, Space};

/// More trials than this are taken for a mistake.
const MOST_TRIALS: usize = 1_000_000;

/// Reads a file that fits its schema, and reports what a schema cannot say.
pub(super) struct Reader<'a> {
    pub diagnostics: &'a mut Diagnostics,
}

impl Reader<'_> {
    pub fn sweep(&mut self, path: &Path, node: &Node, written: Written) -> SweepFile {
        let folder = path.parent().unwrap_or(Path::new(""));
        let space = self.space(node);
        let place_of = |key: &str| node.entry(key).map_or(node.span(), |(key, _)| key.span);
        let mut fixed = Vec::new();
        for (name, value) in written.set.unwrap_or_default() {
            fixed.push((name, as_text(&value)));
        }
        let sweep = SweepFile {
            name: written.sweep,
            path: path.to_owned(),
            pipeline: folder.join(written.pipeline),
            profile: written.profile,
            fixed,
            space,
            seeds: written.seeds,
            sampler: written.sampler,
            objective: written.objective,
            stopping: written.stopping,
            targets: written.targets,
            slurm: written.slurm,
            axes_at: match node.get("axes") {
                Some(_) => place_of("axes"),
                None => place_of("zip"),
            },
            seeds_at: place_of("seeds"),
            objective_at: node.locate("objective"),
        };
        self.check_names(&sweep, node);
        self.check_size(&sweep, node);
        if let Some(stopping) = &sweep.stopping {
            self.check_stopping(stopping, node);
        }
        sweep
    }

    fn error(
        &mut self,
        code: &'static str,
        message: impl Into<String>,
        at: Span,
        hint: impl Into<String>,
    ) {
        self.diagnostics.push(
            Diagnostic::error(code, message.into())
                .at(at)
                .hint(hint.into()),
        );
    }

    /// No value is set twice, and no seed comes twice.
    fn check_names(&mut self, sweep: &SweepFile, node: &Node) {
        let mut seen: Vec<&str> = sweep.fixed.iter().map(|(name, _)| name.as_str()).collect();
        let over = sweep
            .stopping
            .as_ref()
            .map(|stopping| stopping.over.as_str());
        for name in sweep.space.axes().into_iter().chain(over) {
            if seen.contains(&name) {
                let message = format!(
                    "`{name}` is given twice: among `set`, `axes`, `zip` and `stopping.over`"
                );
                self.error(
                    "duplicate-axis",
                    message,
                    sweep.axes_at,
                    "leave it at one place",
                );
            }
            seen.push(name);
        }
        if seen.contains(&"seed") && !sweep.seeds.is_empty() {
            let message = "`seed` is set, and `seeds` lists several";
            self.error(
                "duplicate-axis",
                message,
                sweep.axes_at,
                "leave one of them",
            );
        }
        let mut seeds = sweep.seeds.clone();
        seeds.sort_unstable();
        if seeds.windows(2).any(|pair| pair[0] == pair[1]) {
            let at = node.get("seeds").map_or(node.span(), Node::span);
            self.error(
                "repeated-point",
                "a seed comes twice",
                at,
                "remove one of them",
            );
        }
    }

    fn space(&mut self, node: &Node) -> Space {
        let mut dimensions: Vec<Dimension> = Vec::new();
        for (key, value) in node.get("axes").and_then(Node::entries).unwrap_or(&[]) {
            let earlier = Space {
                dimensions: dimensions.clone(),
            };
            let names = earlier
                .axes()
                .into_iter()
                .map(str::to_owned)
                .collect::<Vec<_>>();
            if let Some(domain) = self.domain(&key.text, value, &names) {
                dimensions.push(Dimension::Axis {
                    name: key.text.to_string(),
                    domain,
                });
            }
        }
        dimensions.extend(self.zip(node.get("zip")));
        Space { dimensions }
    }

    fn zip(&mut self, node: Option<&Node>) -> Option<Dimension> {
        let entries = node?.entries().filter(|entries| !entries.is_empty())?;
        let mut columns: Vec<(String, Vec<Value>)> = Vec::new();
        for (key, value) in entries {
            let Some(items) = value.items().filter(|items| !items.is_empty()) else {
                let message = format!(
                    "`{}` below `zip` must be a list of values, found {}",
                    key.text,
                    value.describe()
                );
                self.error(
                    "bad-axes",
                    message,
                    value.span(),
                    "write `zip: {a: [1, 2], b: [3, 4]}`",
                );
                return None;
            };
            let values: Vec<Value> = items.iter().map(Node::to_json).collect();
            if let Some((first, others)) = columns
                .first()
                .filter(|(_, others)| others.len() != values.len())
            {
                let message = format!(
                    "`{}` has {} values, `{first}` has {}",
                    key.text,
                    values.len(),
                    others.len()
                );
                self.error(
                    "bad-axes",
                    message,
                    value.span(),
                    "lists below `zip` go together, item by item",
                );
                return None;
            }
            columns.push((key.text.to_string(), values));
        }
        let rows = (0..columns[0].1.len()).map(|row| {
            columns
                .iter()
                .map(|(_, values)| values[row].clone())
                .collect()
        });
        let rows: Vec<Vec<Value>> = rows.collect();
        let mut seen = HashMap::with_capacity(rows.len());
        let repeated = rows.iter().enumerate().find_map(|(again, row)| {
            let first = seen.insert(Value::from(row.clone()).to_string(), again)?;
            Some((first, again))
        });
        if let Some((first, again)) = repeated {
            let message = format!(
                "items {} and {} below `zip` are the same",
                first + 1,
                again + 1
            );
            self.error(
                "repeated-point",
                message,
                node?.span(),
                "remove one of them from each list",
            );
            return None;
        }
        Some(Dimension::Zip {
            rows,
            names: columns.into_iter().map(|(name, _)| name).collect(),
        })
    }

    fn domain(&mut self, axis: &str, node: &Node, earlier: &[String]) -> Option<Domain> {
        if let Some(items) = node.items() {
            return self.values(axis, items, node.span());
        }
        let Some(entries) = node.entries() else {
            return self.values(axis, std::slice::from_ref(node), node.span());
        };
        if node.get("by").is_some() {
            return self.dependent(axis, node, earlier);
        }
        const FORMS: [&str; 5] = ["choice", "uniform", "log_uniform", "int", "log_int"];
        let hint = || "write a list, `{uniform: [low, high]}`, `{log_uniform: [low, high]}`, `{int: [low, high]}` or `{by: …}`";
        let mut form = None;
        for (key, value) in entries {
            match &*key.text {
                "points" => {}
                name if FORMS.contains(&name) && form.is_none() => form = Some((name, value)),
                name => {
                    let hint = did_you_mean(name, FORMS).map_or(hint().to_owned(), |meant| {
                        format!("did you mean `{meant}`?")
                    });
                    self.error(
                        "bad-axes",
                        format!("axis `{axis}` cannot have `{name}`"),
                        key.span,
                        hint,
                    );
                    return None;
                }
            }
        }
        let Some((form, value)) = form else {
            self.error(
                "bad-axes",
                format!("axis `{axis}` has no values"),
                node.span(),
                hint(),
            );
            return None;
        };
        match value.items() {
            Some(items) if form == "choice" => self.values(axis, items, value.span()),
            Some([low, high]) => {
                let domain = Domain::Range {
                    low: low.to_json().as_f64().unwrap_or(f64::NAN),
                    high: high.to_json().as_f64().unwrap_or(f64::NAN),
                    log: form.starts_with("log"),
                    whole: form.ends_with("int"),
                    points: node
                        .get("points")
                        .and_then(integer)
                        .map(|count| count as usize),
                };
                self.check_range(axis, &domain, value, node.get("points"))
            }
            _ => {
                let message = format!(
                    "`{form}` of axis `{axis}` must be [low, high], found {}",
                    value.describe()
                );
                self.error(
                    "bad-axes",
                    message,
                    value.span(),
                    format!("write `{axis}: {{{form}: [low, high]}}`"),
                );
                None
            }
        }
    }

    fn check_range(
        &mut self,
        axis: &str,
        domain: &Domain,
        at: &Node,
        points: Option<&Node>,
    ) -> Option<Domain> {
        let Domain::Range {
            low,
            high,
            log,
            whole,
            points: count,
        } = domain
        else {
            return None;
        };
        let problem = if !(low.is_finite() && high.is_finite()) {
            Some("bounds must be numbers")
        } else if low > high {
            Some("the lower bound is above the upper one")
        } else if *log && *low <= 0.0 {
            Some("a range that is even in the logarithm must lie above 0")
        } else if *whole && (low.fract() != 0.0 || high.fract() != 0.0) {
            Some("bounds of whole numbers must be whole")
        } else {
            None
        };
        if let Some(problem) = problem {
            self.error(
                "bad-axes",
                format!("axis `{axis}`: {problem}"),
                at.span(),
                "for example `[1, 8]`",
            );
            return None;
        }
        if let (Some(node), Some(count)) = (points, count)
            && *count > MOST_TRIALS
        {
            let message = format!(
                "`points` of axis `{axis}` is more than {MOST_TRIALS}, found {}",
                node.describe()
            );
            self.error(
                "too-many",
                message,
                node.span(),
                "a grid takes every one of them",
            );
            return None;
        }
        if let (Some(node), None | Some(0)) = (points, count) {
            let message = format!(
                "`points` of axis `{axis}` must be a number from 1, found {}",
                node.describe()
            );
            self.error(
                "bad-axes",
                message,
                node.span(),
                "it says how many values stand for the range in a grid",
            );
            return None;
        }
        Some(domain.clone())
    }

    fn values(&mut self, axis: &str, items: &[Node], at: Span) -> Option<Domain> {
        if items.is_empty() {
            self.error(
                "bad-axes",
                format!("axis `{axis}` has no values"),
                at,
                "list at least one, or remove the axis",
            );
            return None;
        }
        let values: Vec<Value> = items.iter().map(Node::to_json).collect();
        let mut seen = HashSet::with_capacity(values.len());
        for (index, value) in values.iter().enumerate() {
            if !seen.insert(value.to_string()) {
                let message = format!("axis `{axis}` has the value {value} twice");
                self.error(
                    "repeated-point",
                    message,
                    items[index].span(),
                    "remove one of them",
                );
                return None;
            }
        }
        Some(Domain::Values(values))
    }

    fn dependent(&mut self, axis: &str, node: &Node, earlier: &[String]) -> Option<Domain> {
        let by = node.get("by")?;
        let name = by.as_str().unwrap_or_default();
        if !earlier.iter().any(|other| other == name) {
            let names: Vec<&str> = earlier.iter().map(String::as_str).collect();
            let message = format!(
                "`by` of axis `{axis}` must name an earlier axis, found {}",
                by.describe()
            );
            let hint = match did_you_mean(name, names.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None if names.is_empty() => "no axis stands before it".to_owned(),
                None => format!("before it stand {}", list(&names)),
            };
            self.error("bad-axes", message, by.span(), hint);
            return None;
        }
        let (mut cases, mut default) = (Vec::new(), None);
        for (key, value) in node.entries()?.iter().filter(|(key, _)| &*key.text != "by") {
            let domain = self.domain(axis, value, earlier)?;
            match &*key.text {
                "default" => default = Some(Box::new(domain)),
                text => cases.push((Value::from(text), domain)),
            }
        }
        Some(Domain::By {
            axis: name.to_owned(),
            cases,
            default,
        })
    }

    /// The sampler can choose points in the space, and not too many of them.
    fn check_size(&mut self, sweep: &SweepFile, node: &Node) {
        let (Sampler::Random { trials, .. } | Sampler::Tpe { trials, .. }) = sweep.sampler else {
            return self.check_grid(sweep, node);
        };
        if trials > MOST_TRIALS {
            self.error(
                "too-many",
                format!("`trials` is more than {MOST_TRIALS}"),
                node.locate("sampler.trials"),
                "try fewer points",
            );
        }
        if sweep.space.dimensions.is_empty() {
            self.error(
                "bad-axes",
                "the sampler has no axis to draw from",
                node.locate("sampler"),
                "give `axes` or `zip`",
            );
        }
    }

    fn check_grid(&mut self, sweep: &SweepFile, node: &Node) {
        let space = &sweep.space;
        let points = space.grid_size();
        if points > MOST_TRIALS as f64 {
            self.error(
                "too-many",
                format!("the grid has more than {MOST_TRIALS} trials"),
                node.locate("axes"),
                "list fewer values, or choose `sampler: {kind: random, trials: N}`",
            );
            return;
        }
        for dimension in &space.dimensions {
            if let Dimension::Axis { name, domain } = dimension
                && has_open_range(domain)
            {
                self.error(
                    "bad-axes",
                    format!("axis `{name}` is a range, of which a grid cannot take every value"),
                    place_of_axis(node, name),
                    "say how many with `points: N`, or choose `sampler: {kind: random, trials: N}`",
                );
            }
        }
        if let Some((name, value)) = space.without_case() {
            let value = crate::sweep::leaderboard::shown(&value);
            self.error(
                "bad-axes",
                format!("axis `{name}` has no case for `{value}`, nor a `default`"),
                place_of_axis(node, name),
                "add the case; `default` stands for all others",
            );
        }
        let runs = points * sweep.seeds.len().max(1) as f64;
        if runs > MOST_TRIALS as f64 && !self.diagnostics.has_errors() {
            self.error(
                "too-many",
                format!("with its seeds the grid has more than {MOST_TRIALS} runs"),
                sweep.seeds_at,
                "list fewer seeds or fewer values",
            );
        }
    }

    fn check_stopping(&mut self, stopping: &Stopping, node: &Node) {
        if stopping.levels.windows(2).any(|pair| pair[0] >= pair[1]) {
            self.error(
                "bad-value",
                "`levels` must rise",
                node.locate("stopping.levels"),
                "for example `[1, 3, 9]`",
            );
        }
        if stopping.rule == Rule::Median && stopping.factor.is_some() {
            self.error(
                "bad-value",
                "`factor` is for the rule `halving`",
                node.locate("stopping.factor"),
                "remove it",
            );
        }
    }
}

/// Names of axes have dots, which [`Node::locate`] would take for steps.
fn place_of_axis(node: &Node, name: &str) -> Span {
    let axis = node.get("axes").and_then(|axes| axes.get(name));
    axis.map_or_else(|| node.locate("axes"), Node::span)
}

fn has_open_range(domain: &Domain) -> bool {
    match domain {
        Domain::Values(_) => false,
        Domain::Range { points, .. } => points.is_none(),
        Domain::By { cases, default, .. } => cases
            .iter()
            .map(|(_, domain)| domain)
            .chain(default.as_deref())
            .any(has_open_range),
    }
}

fn integer(node: &Node) -> Option<u64> {
    node.to_json().as_u64()
}
