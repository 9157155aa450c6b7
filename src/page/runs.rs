//! The runs of a store as a list: what is known of each at a glance, which of them are meant, and in which order.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use indexmap::IndexMap;
use rayon::prelude::*;
use serde::Deserialize;
use serde_json::Value;

use crate::cache::{RunId, RunStatus, StageState, Store, utc};
use crate::diagnostic::number;

/// Metrics that are shown until others are asked for, as many as [`SHOWN`] of those that the runs have.
const USUAL: [&str; 8] = [
    "vus_pr",
    "f1",
    "average_precision",
    "mse",
    "mae",
    "accuracy",
    "roc_auc",
    "log_loss",
];

const SHOWN: usize = 3;

/// A run at a glance: the parts of its record that a list shows. Reading the others would take most of the time.
#[derive(Clone, Debug, Deserialize)]
pub struct Summary {
    pub run: RunId,
    pub pipeline: String,
    pub file: String,
    pub status: RunStatus,
    pub started: u64,
    pub seconds: f64,
    #[serde(default)]
    pub profile: Option<String>,
    #[serde(default)]
    pub params: IndexMap<String, Value>,
    #[serde(default)]
    pub seed: u64,
    pub stages: Vec<StageGlance>,
    #[serde(default)]
    pub metrics: IndexMap<String, Vec<MetricGlance>>,
    #[serde(default)]
    pub sweep: Option<SweepGlance>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct StageGlance {
    pub state: StageState,
}

#[derive(Clone, Debug, Deserialize)]
pub struct MetricGlance {
    pub name: String,
    pub value: Option<f64>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct SweepGlance {}

/// What a run has under a name.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Text(String),
    /// One value, or those of several stages.
    Numbers(Vec<f64>),
}

impl Cell {
    /// As a list shows it.
    pub fn shown(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Numbers(values) => match values[..] {
                [] => String::new(),
                [value] => whole_or(value),
                [..] => {
                    let low = values.iter().copied().fold(f64::NAN, f64::min);
                    let high = values.iter().copied().fold(f64::NAN, f64::max);
                    format!("{} … {} ({})", whole_or(low), whole_or(high), values.len())
                }
            },
        }
    }

    fn order(&self, other: &Self) -> Ordering {
        let greatest = |values: &[f64]| values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        match (self, other) {
            (Self::Numbers(left), Self::Numbers(right)) => {
                greatest(left).total_cmp(&greatest(right))
            }
            // One order for all: numbers come before texts.
            (Self::Numbers(_), _) => Ordering::Less,
            (_, Self::Numbers(_)) => Ordering::Greater,
            (left, right) => left.shown().cmp(&right.shown()),
        }
    }
}

/// A whole number as it is, such as a seed; any other as the terminal shows it.
fn whole_or(value: f64) -> String {
    const EXACT: f64 = 9.0e15;
    match value.fract() == 0.0 && value.abs() < EXACT {
        true => value.to_string(),
        false => number(value),
    }
}

impl Summary {
    pub fn count(&self, state: StageState) -> usize {
        self.stages
            .iter()
            .filter(|stage| stage.state == state)
            .count()
    }

    /// What the run has under a name: a field of the list, a parameter, or a metric of one stage or of all.
    pub fn cell(&self, name: &str) -> Option<Cell> {
        let text = |text: &str| Some(Cell::Text(text.to_owned()));
        match name {
            "run" => return text(&self.run.0),
            "pipeline" => return text(&self.pipeline),
            "status" => return text(self.status.name()),
            "date" => return text(&utc(self.started)),
            "profile" => return text(self.profile.as_deref().unwrap_or_default()),
            "seconds" => return Some(Cell::Numbers(vec![self.seconds])),
            "seed" => return Some(Cell::Numbers(vec![self.seed as f64])),
            _ => {}
        }
        if let Some(value) = self.params.get(name) {
            return Some(match value {
                Value::String(text) => Cell::Text(text.clone()),
                Value::Number(number) => Cell::Numbers(number.as_f64().into_iter().collect()),
                other => Cell::Text(other.to_string()),
            });
        }
        let (stage, metric) = match name.rsplit_once('.') {
            Some((stage, metric)) if self.metrics.contains_key(stage) => (Some(stage), metric),
            _ => (None, name),
        };
        let mut values = Vec::new();
        for (owner, metrics) in &self.metrics {
            if stage.is_none_or(|stage| stage == owner) {
                let named = metrics.iter().filter(|own| own.name == metric);
                values.extend(named.filter_map(|own| own.value));
            }
        }
        (!values.is_empty()).then_some(Cell::Numbers(values))
    }
}

/// Which runs are listed, and how.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// Conditions, and words that the name of the run, the pipeline or its file contains.
    pub filter: String,
    /// Columns besides those that are always there.
    pub columns: Vec<String>,
    /// A column; with `-` before it, the largest first. The newest run first if it is empty.
    pub sort: String,
    /// From 0.
    pub page: usize,
}

/// Runs of a page.
const PAGE: usize = 100;

/// A page of the list.
pub struct Page<'a> {
    pub runs: Vec<&'a Summary>,
    /// Runs that the filter lets through.
    pub found: usize,
    /// This one, from 0, and how many there are.
    pub page: usize,
    pub pages: usize,
    pub columns: Vec<String>,
}

impl Listing {
    /// The page that is meant.
    pub fn apply<'a>(&self, all: &'a [Arc<Summary>]) -> Page<'a> {
        let conditions: Vec<Condition> =
            self.filter.split_whitespace().map(Condition::of).collect();
        let mut runs: Vec<&Summary> = all
            .iter()
            .map(Arc::as_ref)
            .filter(|run| conditions.iter().all(|condition| condition.holds(run)))
            .collect();
        if !self.sort.is_empty() {
            let (name, is_falling) = match self.sort.strip_prefix('-') {
                Some(name) => (name, true),
                None => (self.sort.as_str(), false),
            };
            let keyed: HashMap<&RunId, Option<Cell>> =
                runs.iter().map(|run| (&run.run, run.cell(name))).collect();
            // Runs without a value come last, whichever way.
            runs.sort_by(
                |left, right| match (&keyed[&left.run], &keyed[&right.run]) {
                    (Some(left), Some(right)) if is_falling => right.order(left),
                    (Some(left), Some(right)) => left.order(right),
                    (left, right) => left.is_none().cmp(&right.is_none()),
                },
            );
        }
        let columns = match self.columns.is_empty() {
            true => usual_columns(&runs),
            false => self.columns.clone(),
        };
        let found = runs.len();
        let pages = found.div_ceil(PAGE).max(1);
        let page = self.page.min(pages - 1);
        let runs = runs.into_iter().skip(page * PAGE).take(PAGE).collect();
        Page {
            runs,
            found,
            page,
            pages,
            columns,
        }
    }
}

fn usual_columns(runs: &[&Summary]) -> Vec<String> {
    let has = |name: &&str| runs.iter().take(PAGE).any(|run| run.cell(name).is_some());
    let names = USUAL.into_iter().filter(has).take(SHOWN);
    names.map(str::to_owned).collect()
}

/// One condition of a filter.
enum Condition {
    Contains(String),
    Compares(String, Comparison, String),
}

#[derive(Clone, Copy)]
enum Comparison {
    Equal,
    Different,
    AtLeast,
    AtMost,
    Above,
    Below,
}

impl Condition {
    fn of(word: &str) -> Self {
        // The longer signs first: `>=` is not `>`.
        const SIGNS: [(&str, Comparison); 6] = [
            (">=", Comparison::AtLeast),
            ("<=", Comparison::AtMost),
            ("!=", Comparison::Different),
            ("=", Comparison::Equal),
            (">", Comparison::Above),
            ("<", Comparison::Below),
        ];
        for (sign, comparison) in SIGNS {
            if let Some((name, value)) = word.split_once(sign)
                && !name.is_empty()
            {
                return Self::Compares(name.to_owned(), comparison, value.to_owned());
            }
        }
        Self::Contains(word.to_lowercase())
    }

    fn holds(&self, run: &Summary) -> bool {
        match self {
            Self::Contains(word) => {
                let texts = [&run.run.0, &run.pipeline, &run.file];
                texts.iter().any(|text| text.to_lowercase().contains(word))
            }
            Self::Compares(name, comparison, value) => match run.cell(name) {
                None => matches!(comparison, Comparison::Different),
                Some(Cell::Text(text)) => {
                    compares(text.as_str().cmp(value), *comparison, text == *value)
                }
                Some(Cell::Numbers(values)) => match value.parse::<f64>() {
                    Ok(wanted) => values.iter().any(|value| {
                        compares(value.total_cmp(&wanted), *comparison, *value == wanted)
                    }),
                    Err(_) => false,
                },
            },
        }
    }
}

fn compares(order: Ordering, comparison: Comparison, is_equal: bool) -> bool {
    match comparison {
        Comparison::Equal => is_equal,
        Comparison::Different => !is_equal,
        Comparison::AtLeast => order != Ordering::Less,
        Comparison::AtMost => order != Ordering::Greater,
        Comparison::Above => order == Ordering::Greater,
        Comparison::Below => order == Ordering::Less,
    }
}

/// A summary, and when and how long its record was when it was read.
type Known = (SystemTime, u64, Arc<Summary>);

/// The runs of a store, read once and again only where a record has changed.
#[derive(Default)]
pub struct Index {
    known: HashMap<RunId, Known>,
}

impl Index {
    /// All runs that there are now.
    pub fn refresh(&mut self, store: &Store) -> Runs {
        let runs = match store.runs() {
            Ok(runs) => runs,
            Err(error) => {
                return Runs {
                    trouble: Some(error.to_string()),
                    ..Runs::default()
                };
            }
        };
        let known = &self.known;
        let read: Vec<(RunId, Glance)> = runs
            .into_par_iter()
            .with_min_len(64)
            .map(|run| {
                let fresh = glance(store, &run, known.get(&run));
                (run, fresh)
            })
            .collect();
        let mut found = Runs {
            all: Vec::with_capacity(read.len()),
            ..Runs::default()
        };
        let mut known = HashMap::with_capacity(read.len());
        for (run, glance) in read {
            match glance {
                Glance::Read(entry) => {
                    found.all.push(Arc::clone(&entry.2));
                    known.insert(run, entry);
                }
                Glance::Absent => {}
                Glance::Unreadable => found.unreadable.push(run),
            }
        }
        self.known = known;
        let newest = |run: &Arc<Summary>| std::cmp::Reverse((run.started, run.run.clone()));
        found.all.sort_by_cached_key(newest);
        found.unreadable.sort();
        found
    }
}

/// The runs of a store.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    /// The newest first.
    pub all: Vec<Arc<Summary>>,
    /// Those whose records cannot be read.
    pub unreadable: Vec<RunId>,
    /// Why nothing can be listed.
    pub trouble: Option<String>,
}

/// A look at the record of a run.
enum Glance {
    Read(Known),
    /// A run that is about to begin, or was taken away just now.
    Absent,
    Unreadable,
}

fn glance(store: &Store, run: &RunId, known: Option<&Known>) -> Glance {
    let path = store.run_path(run);
    let Some(found) = store.layout().look_at(&path) else {
        return Glance::Absent;
    };
    let (Ok(written), bytes) = (found.modified(), found.len()) else {
        return Glance::Unreadable;
    };
    if let Some(entry) = known
        && (entry.0, entry.1) == (written, bytes)
        && entry.2.status != RunStatus::Running
    {
        return Glance::Read(entry.clone());
    }
    let text = store.layout().read(&path).ok();
    let Some(mut summary) = text.and_then(|text| serde_json::from_slice::<Summary>(&text).ok())
    else {
        return match store.layout().look_at(&path) {
            Some(_) => Glance::Unreadable,
            None => Glance::Absent,
        };
    };
    if summary.status == RunStatus::Running {
        // Its process may be gone.
        match store.load_run(run) {
            Ok(record) => summary.status = record.status,
            Err(_) => return Glance::Unreadable,
        }
    }
    Glance::Read((written, bytes, Arc::new(summary)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(name: &str, lr: f64, f1: Option<f64>) -> Arc<Summary> {
        let record = json!({
            "run": name, "pipeline": "smd", "file": "smd.yaml", "status": "done", "started": 1000, "seconds": 2.0,
            "params": {"lr": lr, "machine": "machine-1-1"}, "seed": 7, "stages": [{"state": "ran"}],
            "metrics": {"judged": [{"name": "f1", "value": f1}]},
        });
        Arc::new(serde_json::from_value(record).unwrap())
    }

    fn names(listing: &Listing, all: &[Arc<Summary>]) -> Vec<String> {
        listing
            .apply(all)
            .runs
            .iter()
            .map(|run| run.run.0.clone())
            .collect()
    }

    #[test]
    fn filters_by_parameters_metrics_and_words() {
        let all = [
            run("a", 0.1, Some(0.5)),
            run("b", 0.01, None),
            run("c", 0.001, Some(0.9)),
        ];
        for (filter, expected) in [
            ("", "a b c"),
            ("lr>=0.01", "a b"),
            ("f1>0.6", "c"),
            ("judged.f1<0.6", "a"),
            ("lr=0.01 machine=machine-1-1", "b"),
            ("machine!=machine-1-1", ""),
            ("unknown!=x", "a b c"),
            ("SMD", "a b c"),
            ("date<1971", "a b c"),
            ("lr=word", ""),
        ] {
            let listing = Listing {
                filter: filter.to_owned(),
                ..Listing::default()
            };
            assert_eq!(names(&listing, &all).join(" "), expected, "{filter}");
        }
    }

    #[test]
    fn runs_without_a_value_come_last_whichever_way() {
        let all = [
            run("a", 0.1, Some(0.5)),
            run("b", 0.01, None),
            run("c", 0.001, Some(0.9)),
        ];
        for (sort, expected) in [("f1", "a c b"), ("-f1", "c a b"), ("-lr", "a b c")] {
            let listing = Listing {
                sort: sort.to_owned(),
                ..Listing::default()
            };
            assert_eq!(names(&listing, &all).join(" "), expected, "{sort}");
        }
        assert_eq!(Listing::default().apply(&all).columns, ["f1"]);
    }
}
