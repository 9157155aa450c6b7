//! The sweep file: which pipeline, along which axes, for which figure. Every problem is told at its place; what a
//! pipeline makes of the values is judged when the trials are assembled.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use contract::artifact::Direction;
use indexmap::IndexMap;
use serde_json::{Value, json};

use super::options::{self, JobOptions};
use super::space::{Dimension, Domain, Space};
use crate::diagnostic::{Diagnostic, Diagnostics, SourceMap, Span, did_you_mean, list};
use crate::pipeline::limits::read_text;
use crate::pipeline::{Node, validate, yaml};

/// A sweep as its file describes it.
#[derive(Clone, Debug)]
pub struct SweepFile {
    pub name: String,
    /// The file that it was read from.
    pub path: PathBuf,
    /// The pipeline's file.
    pub pipeline: PathBuf,
    pub profile: Option<String>,
    /// `NAME=VALUE` for every trial, as for `--set`.
    pub fixed: Vec<(String, String)>,
    pub space: Space,
    /// Each trial runs once with each of these; empty for the pipeline's own seed.
    pub seeds: Vec<u64>,
    pub sampler: Sampler,
    pub objective: Objective,
    pub stopping: Option<Stopping>,
    /// The stages that each trial is run for; that of the objective is always among them. Empty for it alone.
    pub targets: Vec<String>,
    pub slurm: IndexMap<String, Value>,
    /// Places for messages about values of axes.
    pub axes_at: Span,
    pub seeds_at: Span,
    pub objective_at: Span,
}

/// How the points are chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sampler {
    /// All combinations.
    Grid,
    /// Independent draws. More trials continue the same sequence.
    Random { trials: usize, seed: u64 },
    /// Tree-structured Parzen estimator: the first `startup` points are drawn at random, then `batch` at a time by what
    /// all earlier batches came to.
    Tpe {
        trials: usize,
        seed: u64,
        startup: usize,
        batch: usize,
    },
}

/// The figure that is sought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objective {
    pub stage: String,
    pub metric: String,
    /// `None` to take the metric's own.
    pub direction: Option<Direction>,
}

/// When trials end early. Each trial runs with `over` (a parameter such as `epochs`) at the first level, those that are
/// kept at the next, and so on; training goes on from the checkpoint of the level before.
#[derive(Clone, Debug, PartialEq)]
pub struct Stopping {
    /// The parameter that is raised from level to level.
    pub over: String,
    pub levels: Vec<u64>,
    pub rule: Rule,
}

/// Which trials go on to the next level.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// Those that are not worse than the median of all at the level.
    Median,
    /// The best `1/factor` of all at the level (successive halving: Jamieson and Talwalkar, AISTATS 2016).
    Halving { factor: f64 },
}

/// What a sweep file may hold, as JSON Schema.
static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let text = |doc: &str| json!({"type": "string", "minLength": 1, "description": doc});
    let count = |doc: &str| json!({"type": "integer", "minimum": 1, "description": doc});
    let seed = json!({"type": "integer", "minimum": 0, "description": "Of the sampler; the seeds of trials are `seeds`."});
    let object = |properties: Value, required: &[&str], doc: &str| {
        json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false,
               "description": doc})
    };
    object(
        json!({
            "sweep": text("The name of the sweep."),
            "description": text("What the sweep is for."),
            "pipeline": text("The pipeline's file, relative to this one."),
            "profile": text("A profile of the pipeline."),
            "set": {"type": ["object", "null"], "description": "Values for every trial, named as for `--set`."},
            "axes": {"type": ["object", "null"], "description":
                "What varies, named as for `--set`: a list of values, `{choice: [...]}`, `{uniform: [low, high]}`, \
                 `{log_uniform: [low, high]}`, `{int: [low, high]}`, `{log_int: [low, high]}` (with `points: N` for a \
                 grid), or `{by: EARLIER_AXIS, VALUE: ..., default: ...}`."},
            "zip": {"type": ["object", "null"], "description": "Axes that go together: lists of one length."},
            "seeds": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1,
                "description": "Every trial runs with each of these seeds; tables show mean and deviation."},
            "sampler": object(json!({
                "kind": {"enum": ["grid", "random", "tpe"], "description": "How points are chosen."},
                "trials": count("How many points; for `random` and `tpe`."),
                "seed": seed,
                "startup": count("Points of `tpe` that are drawn at random before it learns; 10 by default."),
                "batch": count("Points that `tpe` asks for at a time; 4 by default."),
            }), &["kind"], "How points are chosen; by default all combinations."),
            "objective": object(json!({
                "stage": text("The stage that makes the figure."),
                "metric": text("The figure's name."),
                "direction": {"enum": ["maximize", "minimize"], "description": "By default the metric's own."},
            }), &["stage", "metric"], "The figure that is sought."),
            "stopping": object(json!({
                "rule": {"enum": ["median", "halving"], "description": "Which trials continue."},
                "over": text("The parameter that is raised, such as `epochs`."),
                "levels": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 2,
                    "description": "Its values, rising."},
                "factor": {"type": "number", "exclusiveMinimum": 1, "description":
                    "With `halving`, one in this many continues; 3 by default."},
            }), &["rule", "over", "levels"], "When trials end early."),
            "targets": {"type": "array", "items": {"type": "string"}, "description":
                "The stages to run in every trial besides the objective's and what it needs."},
            "slurm": options::schema(),
        }),
        &["sweep", "pipeline", "objective"],
        "A sweep of runner.",
    )
});

/// The JSON Schema of sweep files, for editors.
pub fn sweep_schema() -> Value {
    let mut schema = SCHEMA.clone();
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("Sweep of runner");
    schema
}

impl SweepFile {
    /// Reads a sweep file. `None` if there are errors among the diagnostics.
    pub fn load(path: &Path, sources: &mut SourceMap) -> (Option<Self>, Diagnostics) {
        let mut diagnostics = Diagnostics::default();
        let kept = sources.kept(path).cloned();
        let text = match kept.map_or_else(|| read_text(path).map(Arc::from), Ok) {
            Ok(text) => text,
            Err(reason) => {
                let message = format!("cannot read `{}`: {reason}", path.display());
                let hint = "a sweep file names a `pipeline`, its `axes` and an `objective`; see docs/sweeps.md";
                diagnostics.push(Diagnostic::error("unreadable-file", message).hint(hint));
                return (None, diagnostics);
            }
        };
        let file = sources.add(path.display().to_string(), Arc::clone(&text));
        let (node, problems) = yaml::parse(&text, file, 0);
        diagnostics.extend(problems);
        let Some(node) = node else {
            if !diagnostics.has_errors() {
                let message = format!("`{}` is empty", path.display());
                diagnostics
                    .push(Diagnostic::error("missing-key", message).at(Span::new(file, 0, 0)));
            }
            return (None, diagnostics);
        };
        if let Some(diagnostic) = not_a_sweep(&node) {
            diagnostics.push(diagnostic);
            return (None, diagnostics);
        }
        diagnostics.extend(validate(&node, &SCHEMA, "the sweep"));
        if diagnostics.has_errors() {
            return (None, diagnostics);
        }
        let sweep = Reader {
            diagnostics: &mut diagnostics,
        }
        .sweep(path, &node);
        if diagnostics.has_errors() {
            (None, diagnostics)
        } else {
            (Some(sweep), diagnostics)
        }
    }
}

impl SweepFile {
    /// The stages that each trial is run for.
    pub fn all_targets(&self) -> Vec<String> {
        let mut targets = vec![self.objective.stage.clone()];
        targets.extend(self.targets.iter().cloned());
        targets
    }
}

/// Who gives a pipeline to `sweep` is told so, instead of ten unknown keys.
fn not_a_sweep(node: &Node) -> Option<Diagnostic> {
    let (key, _) = node
        .entry("stages")
        .filter(|_| node.get("sweep").is_none())?;
    let diagnostic =
        Diagnostic::error("not-a-sweep", "this is a pipeline, not a sweep").at(key.span);
    Some(
        diagnostic
            .hint("write a file with `sweep: NAME`, `pipeline: THIS FILE`, `axes` and `objective`"),
    )
}

/// More trials than this are taken for a mistake.
const MOST_TRIALS: usize = 1_000_000;

struct Reader<'a> {
    diagnostics: &'a mut Diagnostics,
}

impl Reader<'_> {
    fn sweep(&mut self, path: &Path, node: &Node) -> SweepFile {
        let text = |key: &str| node.get(key).and_then(Node::as_str).map(str::to_owned);
        let folder = path.parent().unwrap_or(Path::new(""));
        let space = self.space(node);
        let sampler = self.sampler(node.get("sampler"), &space, node);
        let seeds: Vec<u64> = node
            .get("seeds")
            .and_then(Node::items)
            .unwrap_or(&[])
            .iter()
            .filter_map(integer)
            .collect();
        let fixed = node.get("set").and_then(Node::entries).unwrap_or(&[]);
        let sweep = SweepFile {
            name: text("sweep").unwrap_or_default(),
            path: path.to_owned(),
            pipeline: folder.join(text("pipeline").unwrap_or_default()),
            profile: text("profile"),
            fixed: fixed
                .iter()
                .map(|(key, value)| (key.text.to_string(), written(&value.to_json())))
                .collect(),
            seeds,
            sampler,
            objective: objective(node.get("objective")),
            stopping: node.get("stopping").map(|node| self.stopping(node)),
            targets: texts(node.get("targets")),
            slurm: match node.get("slurm").map(Node::to_json) {
                Some(Value::Object(map)) => map.into_iter().collect(),
                _ => IndexMap::new(),
            },
            axes_at: node
                .entry("axes")
                .or(node.entry("zip"))
                .map_or(node.span(), |(key, _)| key.span),
            seeds_at: node.entry("seeds").map_or(node.span(), |(key, _)| key.span),
            objective_at: node.get("objective").map_or(node.span(), Node::span),
            space,
        };
        self.check_names(&sweep, node);
        let members = sweep.space.grid_size() * sweep.seeds.len().max(1) as f64;
        if sweep.sampler == Sampler::Grid
            && members > MOST_TRIALS as f64
            && !self.diagnostics.has_errors()
        {
            let message = format!("with its seeds the grid has more than {MOST_TRIALS} runs");
            self.error(
                "too-many",
                message,
                sweep.seeds_at,
                "list fewer seeds or fewer values",
            );
        }
        if let Err((name, hint)) = JobOptions::of(&sweep) {
            let at = node
                .get("slurm")
                .map_or(node.span(), |slurm| slurm.locate(&name));
            self.error(
                "bad-unit",
                format!("`{name}` of `slurm` cannot be read"),
                at,
                hint,
            );
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

    fn sampler(&mut self, node: Option<&Node>, space: &Space, root: &Node) -> Sampler {
        let kind = node
            .and_then(|node| node.get("kind"))
            .and_then(Node::as_str)
            .unwrap_or("grid");
        let number = |key: &str| node.and_then(|node| node.get(key)).and_then(integer);
        let at = node.map_or(root.span(), Node::span);
        if kind == "grid" && space.grid_size() > MOST_TRIALS as f64 {
            let message = format!("the grid has more than {MOST_TRIALS} trials");
            let hint = "list fewer values, or choose `sampler: {kind: random, trials: N}`";
            self.error(
                "too-many",
                message,
                root.entry("axes").map_or(at, |(_, axes)| axes.span()),
                hint,
            );
            return Sampler::Grid;
        }
        if kind == "grid" {
            for dimension in &space.dimensions {
                if let Dimension::Axis { name, domain } = dimension
                    && has_open_range(domain)
                {
                    let message = format!(
                        "axis `{name}` is a range, of which a grid cannot take every value"
                    );
                    let hint = "say how many with `points: N`, or choose `sampler: {kind: random, trials: N}`";
                    self.error(
                        "bad-axes",
                        message,
                        root.entry("axes").map_or(at, |(_, axes)| axes.locate(name)),
                        hint,
                    );
                }
            }
            if let Some((name, value)) = space.without_case() {
                let message = format!(
                    "axis `{name}` has no case for `{}`, nor a `default`",
                    super::leaderboard::shown(&value)
                );
                let hint = "add the case; `default` stands for all others";
                self.error(
                    "bad-axes",
                    message,
                    root.entry("axes").map_or(at, |(_, axes)| axes.locate(name)),
                    hint,
                );
            }
            if let Some((key, _)) = node.and_then(|node| node.entry("trials")) {
                self.error(
                    "bad-value",
                    "a grid has as many trials as combinations",
                    key.span,
                    "remove `trials`",
                );
            }
            return Sampler::Grid;
        }
        let Some(trials) = number("trials") else {
            self.error(
                "missing-key",
                format!("the sampler `{kind}` needs `trials`"),
                at,
                "say how many points to try",
            );
            return Sampler::Grid;
        };
        if trials > MOST_TRIALS as u64 {
            let at = node.map_or(at, |node| node.locate("trials"));
            self.error(
                "too-many",
                format!("`trials` is more than {MOST_TRIALS}"),
                at,
                "try fewer points",
            );
            return Sampler::Grid;
        }
        let (trials, seed) = (trials as usize, number("seed").unwrap_or(0));
        if space.dimensions.is_empty() {
            self.error(
                "bad-axes",
                format!("the sampler `{kind}` has no axis to draw from"),
                at,
                "give `axes` or `zip`",
            );
        }
        match kind {
            "random" => Sampler::Random { trials, seed },
            _ => {
                let count = |key, default| number(key).map_or(default, |count| count as usize);
                Sampler::Tpe {
                    trials,
                    seed,
                    startup: count("startup", 10),
                    batch: count("batch", 4),
                }
            }
        }
    }

    fn stopping(&mut self, node: &Node) -> Stopping {
        let levels: Vec<u64> = node
            .get("levels")
            .and_then(Node::items)
            .unwrap_or(&[])
            .iter()
            .filter_map(integer)
            .collect();
        if levels.windows(2).any(|pair| pair[0] >= pair[1]) {
            let at = node.get("levels").map_or(node.span(), Node::span);
            self.error(
                "bad-value",
                "`levels` must rise",
                at,
                "for example `[1, 3, 9]`",
            );
        }
        let factor = node.get("factor").and_then(|node| node.to_json().as_f64());
        let rule = match node.get("rule").and_then(Node::as_str) {
            Some("median") => {
                if let Some((key, _)) = node.entry("factor") {
                    self.error(
                        "bad-value",
                        "`factor` is for the rule `halving`",
                        key.span,
                        "remove it",
                    );
                }
                Rule::Median
            }
            _ => Rule::Halving {
                factor: factor.unwrap_or(3.0),
            },
        };
        let over = node
            .get("over")
            .and_then(Node::as_str)
            .unwrap_or_default()
            .to_owned();
        Stopping { over, levels, rule }
    }
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

fn objective(node: Option<&Node>) -> Objective {
    let text = |key: &str| {
        node.and_then(|node| node.get(key))
            .and_then(Node::as_str)
            .unwrap_or_default()
    };
    let direction = match text("direction") {
        "maximize" => Some(Direction::Higher),
        "minimize" => Some(Direction::Lower),
        _ => None,
    };
    Objective {
        stage: text("stage").to_owned(),
        metric: text("metric").to_owned(),
        direction,
    }
}

fn texts(node: Option<&Node>) -> Vec<String> {
    let items = node.and_then(Node::items).unwrap_or(&[]);
    items
        .iter()
        .filter_map(Node::as_str)
        .map(str::to_owned)
        .collect()
}

fn integer(node: &Node) -> Option<u64> {
    node.to_json().as_u64()
}

/// A value as the command line would have it: JSON, which is YAML.
pub(super) fn written(value: &Value) -> String {
    value.to_string()
}
