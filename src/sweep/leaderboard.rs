//! The leaderboard: a row for each trial, the best first. Values over several seeds come as mean and deviation.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeSet;

use contract::artifact::{ArtifactError, Column, Direction, Table};
use serde_json::Value;

use super::course::{Member, Progress};
use super::file::SweepFile;
use super::space::{Domain, Point};
use super::trials::{MemberState, direction};
use crate::graph::StageId;

/// How far a trial is.
#[derive(Clone, Debug, PartialEq)]
pub enum Standing {
    Done,
    /// Done at its level; whether it continues depends on trials that are not done.
    Undecided,
    /// It ended early, at this level.
    Stopped(u64),
    Failed(String),
    /// A process works on it.
    Running,
    /// It waits in the queue of a cluster.
    Queued,
    Missing,
}

impl Standing {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Undecided => "undecided",
            Self::Stopped(_) => "stopped",
            Self::Failed(_) => "failed",
            Self::Running => "running",
            Self::Queued => "queued",
            Self::Missing => "missing",
        }
    }

    /// Why the trial failed, if it did.
    pub fn failure(&self) -> Option<&str> {
        match self {
            Self::Failed(reason) => Some(reason),
            _ => None,
        }
    }
}

/// A trial.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// From 0.
    pub trial: usize,
    pub point: Point,
    pub standing: Standing,
    /// The level of the values.
    pub level: Option<u64>,
    /// The objective for each seed that has a value.
    pub values: Vec<f64>,
    /// The seeds of `values`.
    pub seeds: Vec<Option<u64>>,
    /// Mean over the seeds; `None` unless every seed has a value.
    pub mean: Option<f64>,
    /// Sample deviation over the seeds; `None` for fewer than two.
    pub deviation: Option<f64>,
    /// Seconds of computing that the trial stands on, shared stages included.
    pub seconds: f64,
    /// When its last stage ended, in milliseconds since 1970.
    pub finished: Option<u64>,
}

/// Columns of the leaderboard; axes and objective stand behind the first two.
const COLUMNS: [&str; 8] = [
    "rank",
    "trial",
    "deviation",
    "seeds",
    "level",
    "state",
    "seconds",
    "failure",
];

/// All trials, the best first; those without a value come last.
#[derive(Clone, Debug, PartialEq)]
pub struct Leaderboard {
    pub axes: Vec<String>,
    /// What each axis may be, where the file says it.
    pub domains: Vec<Option<Domain>>,
    pub metric: String,
    /// `None` as long as neither the file nor a metric says it.
    pub direction: Option<Direction>,
    /// Whether the metric is judged on the test rows, so that the best value is an upper bound.
    pub oracle: bool,
    pub rows: Vec<Row>,
}

/// What is known of a member besides its state.
#[derive(Clone, Debug, Default)]
pub struct Note {
    /// Why it failed.
    pub failure: Option<String>,
    pub running: bool,
    pub queued: bool,
    pub seconds: f64,
    pub finished: Option<u64>,
    /// The stage of the sweep's graph that computes its objective: members that share it are one execution.
    pub execution: Option<StageId>,
}

impl Leaderboard {
    /// Gathers members into rows. `states` and `notes` go by the members of the progress.
    pub fn new(
        file: &SweepFile,
        progress: &Progress,
        states: &[MemberState],
        notes: &[Note],
    ) -> Self {
        let direction = direction(file, states);
        let mut rows = Vec::with_capacity(progress.points.len());
        for trial in 0..progress.points.len() {
            rows.push(row(file, trial, progress, states, notes));
        }
        rows.sort_by(|left, right| order(left, right, direction));
        let axes = file.space.axes();
        Self {
            domains: axes.iter().map(|axis| file.space.domain_of(axis)).collect(),
            axes: axes.into_iter().map(str::to_owned).collect(),
            metric: file.objective.metric.clone(),
            direction,
            oracle: false,
            rows,
        }
    }

    /// The best trial, if any has a value.
    pub fn best(&self) -> Option<&Row> {
        self.rows.first().filter(|row| row.mean.is_some())
    }

    /// The number of trials of a standing.
    pub fn count(&self, name: &str) -> usize {
        let is_meant = |row: &&Row| row.standing.name() == name;
        self.rows.iter().filter(is_meant).count()
    }

    /// The name of an axis among the columns: its own, unless another column is or could be called so.
    pub fn column_of(&self, axis: &str) -> String {
        let is_taken =
            COLUMNS.contains(&axis) || axis == self.metric_column() || axis.starts_with("params.");
        if is_taken {
            format!("params.{axis}")
        } else {
            axis.to_owned()
        }
    }

    /// The name of the objective among the columns.
    pub fn metric_column(&self) -> String {
        let is_taken = COLUMNS.contains(&self.metric.as_str());
        if is_taken {
            format!("metric.{}", self.metric)
        } else {
            self.metric.clone()
        }
    }

    /// The leaderboard as a table: a column for each axis. Axes with numbers alone are numbers.
    ///
    /// # Errors
    /// If the table cannot be made.
    pub fn table(&self) -> Result<Table, ArtifactError> {
        let rows = &self.rows;
        let mut columns: Vec<Column> = vec![
            Column::Integers((1..=rows.len() as i64).map(Some).collect()),
            Column::Integers(column(rows, |row| Some(row.trial as i64 + 1))),
        ];
        for (axis, domain) in self.axes.iter().zip(&self.domains) {
            columns.push(axis_column(rows, axis, domain.as_ref()));
        }
        columns.extend([
            Column::Reals(column(rows, |row| row.mean)),
            Column::Reals(column(rows, |row| row.deviation)),
            Column::Integers(column(rows, |row| Some(row.values.len() as i64))),
            Column::Integers(column(rows, |row| Some(row.level? as i64))),
            Column::Texts(column(rows, |row| Some(row.standing.name().to_owned()))),
            Column::Reals(column(rows, |row| Some(row.seconds))),
            Column::Texts(column(rows, |row| {
                row.standing.failure().map(str::to_owned)
            })),
        ]);
        let names = self.column_names();
        Table::new(names.iter().map(String::as_str).zip(columns).collect())
    }

    fn column_names(&self) -> Vec<String> {
        let (first, last) = COLUMNS.split_at(2);
        let mut names: Vec<String> = first.iter().map(ToString::to_string).collect();
        names.extend(self.axes.iter().map(|axis| self.column_of(axis)));
        names.push(self.metric_column());
        names.extend(last.iter().map(ToString::to_string));
        names
    }

    /// The leaderboard as comma-separated values after RFC 4180, with the columns of [`Self::table`].
    pub fn csv(&self) -> String {
        let mut text = csv_line(&self.column_names());
        for (index, row) in self.rows.iter().enumerate() {
            let mut cells = vec![(index + 1).to_string(), (row.trial + 1).to_string()];
            for axis in &self.axes {
                cells.push(row.point.get(axis).map_or_else(String::new, shown));
            }
            cells.extend([
                or_empty(row.mean),
                or_empty(row.deviation),
                row.values.len().to_string(),
                or_empty(row.level),
                row.standing.name().to_owned(),
                row.seconds.to_string(),
                or_empty(row.standing.failure()),
            ]);
            text += &csv_line(&cells);
        }
        text
    }
}

fn column<T>(rows: &[Row], of: fn(&Row) -> Option<T>) -> Vec<Option<T>> {
    rows.iter().map(of).collect()
}

fn or_empty(value: Option<impl ToString>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

fn csv_line(cells: &[String]) -> String {
    let mut line = String::new();
    for cell in cells {
        if !line.is_empty() {
            line.push(',');
        }
        if cell.contains([',', '"', '\n']) {
            line.push_str(&format!("\"{}\"", cell.replace('"', "\"\"")));
        } else {
            line.push_str(cell);
        }
    }
    line + "\n"
}

/// The better row first. Values of a lower level say less: those of trials that went further stand above them.
fn order(left: &Row, right: &Row, direction: Option<Direction>) -> Ordering {
    let last = |row: &Row| (row.mean.is_none(), Reverse(row.level.unwrap_or(0)));
    let worse = |row: &Row| match (row.mean, direction) {
        (Some(mean), Some(Direction::Lower)) => mean,
        (Some(mean), _) => -mean,
        (None, _) => f64::INFINITY,
    };
    last(left)
        .cmp(&last(right))
        .then(worse(left).total_cmp(&worse(right)))
        .then(left.trial.cmp(&right.trial))
}

fn row(
    file: &SweepFile,
    trial: usize,
    progress: &Progress,
    states: &[MemberState],
    notes: &[Note],
) -> Row {
    let mut members = Vec::new();
    for (index, member) in progress.members.iter().enumerate() {
        if member.trial == trial {
            members.push((index, member));
        }
    }
    let level = level_shown(&members, states);
    let mut row = Row {
        trial,
        point: progress.points[trial].clone(),
        standing: standing(file, &members, progress.stopped.get(&trial), states, notes),
        level,
        values: Vec::new(),
        seeds: Vec::new(),
        mean: None,
        deviation: None,
        seconds: 0.0,
        finished: None,
    };
    members.retain(|(_, member)| member.level == level);
    let (mut is_whole, mut executions) = (!members.is_empty(), BTreeSet::new());
    for (index, member) in &members {
        let value = match states[*index] {
            MemberState::Done { value, .. } => value,
            _ => None,
        };
        is_whole &= value.is_some();
        let note = &notes[*index];
        // Seeds on which nothing depends share one execution, which is not a sample of several.
        if note
            .execution
            .is_some_and(|stage| !executions.insert(stage))
        {
            continue;
        }
        row.seconds += note.seconds;
        row.finished = row.finished.max(note.finished);
        if let Some(value) = value {
            row.seeds.push(member.seed);
            row.values.push(value);
        }
    }
    if is_whole {
        row.mean = Some(row.values.iter().sum::<f64>() / row.values.len() as f64);
        row.deviation = deviation(&row.values);
    }
    row
}

/// The highest level at which every seed has ended, or else the lowest.
fn level_shown(members: &[(usize, &Member)], states: &[MemberState]) -> Option<u64> {
    let mut levels: Vec<Option<u64>> = members.iter().map(|(_, member)| member.level).collect();
    levels.sort_unstable();
    for &level in levels.iter().rev() {
        let mut at_level = members.iter().filter(|(_, member)| member.level == level);
        if at_level.all(|(index, _)| matches!(states[*index], MemberState::Done { .. })) {
            return level;
        }
    }
    levels.first().copied().flatten()
}

/// `stopped` is the level at which the trial ended early, if it did.
fn standing(
    file: &SweepFile,
    members: &[(usize, &Member)],
    stopped: Option<&u64>,
    states: &[MemberState],
    notes: &[Note],
) -> Standing {
    let (mut open, mut running, mut queued, mut reached) = (false, false, false, None);
    for (index, member) in members {
        let note = &notes[*index];
        reached = reached.max(member.level);
        match &states[*index] {
            MemberState::Done { .. } => {}
            MemberState::Without { found } => {
                let (stage, metric) = (&file.objective.stage, &file.objective.metric);
                let found = found.join(", ");
                return Standing::Failed(format!("{stage} made no `{metric}`, but {found}"));
            }
            MemberState::Missing { .. } => {
                (open, running, queued) = (true, running || note.running, queued || note.queued);
                if let (Some(reason), false, false) = (&note.failure, note.running, note.queued) {
                    return Standing::Failed(reason.clone());
                }
            }
        }
    }
    let levels = file.stopping.as_ref().map(|stopping| &stopping.levels);
    let last = levels.and_then(|levels| levels.last().copied());
    match stopped {
        _ if running => Standing::Running,
        _ if queued => Standing::Queued,
        _ if open => Standing::Missing,
        Some(level) => Standing::Stopped(*level),
        None if reached < last => Standing::Undecided,
        None => Standing::Done,
    }
}

/// The sample deviation (divided by one less than the number).
fn deviation(values: &[f64]) -> Option<f64> {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt())
}

/// Also of `3.0`.
fn whole_number(value: &Value) -> Option<i64> {
    let real = || value.as_f64().map(|number| number as i64);
    value.as_i64().or_else(real)
}

/// The values of an axis. Its type is that of all that the axis may be, whichever values the trials have so far.
fn axis_column(rows: &[Row], axis: &str, domain: Option<&Domain>) -> Column {
    let values: Vec<Option<&Value>> = rows.iter().map(|row| row.point.get(axis)).collect();
    let tried: Vec<&Value> = values.iter().copied().flatten().collect();
    let all_are = |is: fn(&Value) -> bool| match domain {
        Some(Domain::Values(values)) => values.iter().all(is),
        _ => tried.iter().all(|value| is(value)),
    };
    let (whole, number) = match domain {
        Some(Domain::Range { whole, .. }) => (*whole, true),
        _ => (all_are(Value::is_i64), all_are(Value::is_number)),
    };
    let values = values.iter().copied();
    if whole {
        Column::Integers(values.map(|value| whole_number(value?)).collect())
    } else if number {
        Column::Reals(values.map(|value| value?.as_f64()).collect())
    } else {
        Column::Texts(values.map(|value| value.map(shown)).collect())
    }
}

/// A value as people write it: text without quotes, the rest as JSON.
pub fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::SourceMap;
    use crate::sweep::course::{Course, Outcome};

    fn file(text: &str) -> SweepFile {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.yaml");
        let head = "sweep: s\npipeline: p.yaml\nobjective: {stage: m, metric: f1}\n";
        std::fs::write(&path, format!("{head}{text}")).unwrap();
        SweepFile::load(&path, &mut SourceMap::default()).0.unwrap()
    }

    /// Who is done first at the first level is not done with the sweep.
    #[test]
    fn a_trial_waits_for_the_others_of_its_level() {
        let file = file(
            "axes: {a: [1, 2]}\nstopping: {rule: halving, over: epochs, levels: [1, 2], factor: 2}",
        );
        let done = |value| MemberState::Done {
            value: Some(value),
            direction: Direction::Higher,
        };
        let states = [done(0.2), MemberState::Missing { stages: 1 }];
        let progress = Course::new(&file).progress(&|member| match member.trial {
            0 => Outcome::Loss(Some(-0.2)),
            _ => Outcome::Unknown,
        });
        let board = Leaderboard::new(
            &file,
            &progress,
            &states,
            &[Note::default(), Note::default()],
        );
        let standings: Vec<&str> = board.rows.iter().map(|row| row.standing.name()).collect();
        assert_eq!(standings, ["undecided", "missing"]);
    }

    /// What a trial may be decides, and not what the trials so far happen to be.
    #[test]
    fn types_of_columns_do_not_depend_on_their_values() {
        let row = |value: Value| {
            let mut board = Leaderboard::new(
                &file("axes: {a: [1, 2]}"),
                &Course::new(&file("axes: {a: [1, 2]}")).progress(&|_| Outcome::Unknown),
                &[
                    MemberState::Missing { stages: 1 },
                    MemberState::Missing { stages: 1 },
                ],
                &[Note::default(), Note::default()],
            );
            board.rows.truncate(1);
            board.rows[0].point.insert("a".to_owned(), value);
            board
        };
        let type_of = |domain: Option<Domain>, value: Value| {
            let mut board = row(value);
            board.domains = vec![domain];
            let table = board.table().unwrap();
            table.batch().schema().field(2).data_type().to_string()
        };
        let values = |values: &[Value]| Some(Domain::Values(values.to_vec()));
        let range = |whole| {
            Some(Domain::Range {
                low: 1.0,
                high: 9.0,
                log: false,
                whole,
                points: None,
            })
        };
        let one = || Value::from(1);
        assert_eq!(type_of(values(&[one(), Value::from(2)]), one()), "Int64");
        assert_eq!(
            type_of(values(&[one(), Value::from(0.5)]), one()),
            "Float64"
        );
        assert_eq!(
            type_of(values(&[one(), Value::from("auto")]), one()),
            "Utf8"
        );
        assert_eq!(type_of(range(false), one()), "Float64");
        assert_eq!(type_of(range(true), Value::from(3.0)), "Int64");
        assert_eq!(type_of(None, Value::from(0.5)), "Float64");
    }

    #[test]
    fn seeds_are_averaged_and_the_best_stands_first() {
        let file = file("axes: {a: [1, 2, 3]}\nseeds: [1, 2]");
        let progress = Course::new(&file).progress(&|_| Outcome::Unknown);
        let done = |value| MemberState::Done {
            value: Some(value),
            direction: Direction::Higher,
        };
        let states = [
            done(0.2),
            done(0.4),
            done(0.9),
            MemberState::Missing { stages: 2 },
            done(0.5),
            done(0.7),
        ]
        .to_vec();
        let mut notes = vec![Note::default(); 6];
        notes[3].failure = Some("it ran out of luck".into());
        let board = Leaderboard::new(&file, &progress, &states, &notes);
        let trials: Vec<usize> = board.rows.iter().map(|row| row.trial).collect();
        assert_eq!(trials, [2, 0, 1]);
        let best = board.best().unwrap();
        assert!((best.mean.unwrap() - 0.6).abs() < 1e-12);
        assert!((best.deviation.unwrap() - 0.141_421_356).abs() < 1e-6);
        assert_eq!(
            board.rows[2].standing,
            Standing::Failed("it ran out of luck".into())
        );
        assert_eq!(board.rows[2].mean, None, "one of two seeds is no mean");
        let table = board.table().unwrap();
        assert_eq!(table.integers("a").unwrap(), [Some(3), Some(1), Some(2)]);
        assert_eq!(table.reals("f1").unwrap()[2], None);
    }
}
