//! The leaderboard: a row for each trial, the best first. Figures of several seeds come as mean and deviation.

use std::collections::BTreeSet;

use contract::artifact::{ArtifactError, Column, Direction, Table};

use super::course::{Member, Progress};
use super::file::SweepFile;
use super::space::{Domain, Point};
use super::trials::{MemberState, direction};
use crate::graph::StageId;

/// How far a trial is.
#[derive(Clone, Debug, PartialEq)]
pub enum Standing {
    Done,
    /// Done at its level; whether it goes on depends on trials that are not.
    Undecided,
    /// It ended early, at this level.
    Stopped(u64),
    Failed(String),
    /// Somebody works on it.
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
}

/// A trial.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// From 0.
    pub trial: usize,
    pub point: Point,
    pub standing: Standing,
    /// The level of the figures.
    pub level: Option<u64>,
    /// The figure of each seed that has one.
    pub values: Vec<f64>,
    /// The seeds of `values`.
    pub seeds: Vec<Option<u64>>,
    /// Mean over the seeds; `None` unless every seed has a figure.
    pub mean: Option<f64>,
    /// Sample deviation over the seeds; `None` for fewer than two.
    pub deviation: Option<f64>,
    /// Seconds of computing that the trial stands on, shared stages included.
    pub seconds: f64,
    /// When its last stage ended, in milliseconds since 1970.
    pub finished: Option<u64>,
}

/// Columns of the leaderboard besides axes and objective.
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

/// All trials, the best first; those without a figure come last.
#[derive(Clone, Debug, PartialEq)]
pub struct Leaderboard {
    pub axes: Vec<String>,
    /// What each axis may be, where that can be told beforehand.
    pub domains: Vec<Option<Domain>>,
    pub metric: String,
    /// `None` as long as no figure tells it and the file does not.
    pub direction: Option<Direction>,
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
    /// The stage of the sweep's graph that makes its figure: members that share it are one execution.
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
        let mut rows: Vec<Row> = progress
            .points
            .iter()
            .enumerate()
            .map(|(trial, point)| row(file, trial, point, progress, states, notes))
            .collect();
        let worse = |row: &Row| match (row.mean, direction) {
            (Some(mean), Some(Direction::Lower)) => mean,
            (Some(mean), _) => -mean,
            (None, _) => f64::INFINITY,
        };
        // Figures of a lower level say less: those of trials that went further stand above them.
        let last = |row: &Row| {
            (
                row.mean.is_none(),
                std::cmp::Reverse(row.level.unwrap_or(0)),
            )
        };
        rows.sort_by(|left, right| {
            last(left)
                .cmp(&last(right))
                .then(worse(left).total_cmp(&worse(right)))
                .then(left.trial.cmp(&right.trial))
        });
        Self {
            axes: file.space.axes().into_iter().map(str::to_owned).collect(),
            domains: file
                .space
                .axes()
                .into_iter()
                .map(|axis| file.space.domain_of(axis))
                .collect(),
            metric: file.objective.metric.clone(),
            direction,
            rows,
        }
    }

    /// The best trial, if any has a figure.
    pub fn best(&self) -> Option<&Row> {
        self.rows.first().filter(|row| row.mean.is_some())
    }

    /// The number of trials of a standing.
    pub fn count(&self, name: &str) -> usize {
        self.rows
            .iter()
            .filter(|row| row.standing.name() == name)
            .count()
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
        let mut columns: Vec<(String, Column)> = vec![
            (
                "rank".to_owned(),
                (1..=rows.len() as i64).collect::<Vec<_>>().into(),
            ),
            (
                "trial".to_owned(),
                rows.iter()
                    .map(|row| row.trial as i64 + 1)
                    .collect::<Vec<_>>()
                    .into(),
            ),
        ];
        for axis in &self.axes {
            columns.push((self.column_of(axis), axis_column(rows, axis)));
        }
        let level = |row: &Row| row.level.map(|level| level as i64);
        let failure = |row: &Row| match &row.standing {
            Standing::Failed(reason) => Some(reason.clone()),
            _ => None,
        };
        columns.extend([
            (
                self.metric_column(),
                Column::Reals(rows.iter().map(|row| row.mean).collect()),
            ),
            (
                "deviation".to_owned(),
                Column::Reals(rows.iter().map(|row| row.deviation).collect()),
            ),
            (
                "seeds".to_owned(),
                rows.iter()
                    .map(|row| row.values.len() as i64)
                    .collect::<Vec<_>>()
                    .into(),
            ),
            (
                "level".to_owned(),
                Column::Integers(rows.iter().map(level).collect()),
            ),
            (
                "state".to_owned(),
                rows.iter()
                    .map(|row| row.standing.name().to_owned())
                    .collect::<Vec<_>>()
                    .into(),
            ),
            (
                "seconds".to_owned(),
                rows.iter()
                    .map(|row| row.seconds)
                    .collect::<Vec<_>>()
                    .into(),
            ),
            (
                "failure".to_owned(),
                Column::Texts(rows.iter().map(failure).collect()),
            ),
        ]);
        Table::new(
            columns
                .iter()
                .map(|(name, column)| (name.as_str(), column.clone()))
                .collect::<Vec<_>>(),
        )
    }
}

fn row(
    file: &SweepFile,
    trial: usize,
    point: &Point,
    progress: &Progress,
    states: &[MemberState],
    notes: &[Note],
) -> Row {
    let members = || {
        progress
            .members
            .iter()
            .enumerate()
            .filter(move |(_, member)| member.trial == trial)
    };
    let is_known = |index: usize| matches!(states[index], MemberState::Done { .. });
    // The highest level at which every seed has come to an end, or else the lowest.
    let mut levels: Vec<Option<u64>> = members().map(|(_, member)| member.level).collect();
    levels.sort_unstable();
    levels.dedup();
    let complete = |level: &&Option<u64>| {
        members()
            .filter(|(_, member)| member.level == **level)
            .all(|(index, _)| is_known(index))
    };
    let level = levels
        .iter()
        .rev()
        .find(complete)
        .or(levels.first())
        .copied()
        .flatten();
    let at_level: Vec<(usize, &Member)> = members()
        .filter(|(_, member)| member.level == level)
        .collect();
    let is_whole = !at_level.is_empty()
        && at_level
            .iter()
            .all(|(index, _)| has_figure(&states[*index]));
    let at_level = one_per_execution(at_level, notes);
    let figures: Vec<(Option<u64>, f64)> = at_level
        .iter()
        .filter_map(|(index, member)| match states[*index] {
            MemberState::Done {
                value: Some(value), ..
            } => Some((member.seed, value)),
            _ => None,
        })
        .collect();
    let values: Vec<f64> = figures.iter().map(|(_, value)| *value).collect();
    let standing = standing(file, trial, progress, states, notes);
    Row {
        trial,
        point: point.clone(),
        standing,
        level,
        mean: is_whole.then(|| values.iter().sum::<f64>() / values.len() as f64),
        deviation: is_whole.then(|| deviation(&values)).flatten(),
        seeds: figures.into_iter().map(|(seed, _)| seed).collect(),
        values,
        seconds: at_level
            .iter()
            .map(|(index, _)| notes[*index].seconds)
            .sum(),
        finished: at_level
            .iter()
            .filter_map(|(index, _)| notes[*index].finished)
            .max(),
    }
}

fn has_figure(state: &MemberState) -> bool {
    matches!(state, MemberState::Done { value: Some(_), .. })
}

/// Seeds on which nothing depends come to one execution, which is no sample of several.
fn one_per_execution<'a>(
    members: Vec<(usize, &'a Member)>,
    notes: &[Note],
) -> Vec<(usize, &'a Member)> {
    let mut seen = BTreeSet::new();
    let is_new = |(index, _): &(usize, &Member)| {
        notes[*index]
            .execution
            .is_none_or(|stage| seen.insert(stage))
    };
    members.into_iter().filter(is_new).collect()
}

fn standing(
    file: &SweepFile,
    trial: usize,
    progress: &Progress,
    states: &[MemberState],
    notes: &[Note],
) -> Standing {
    let (mut open, mut running, mut queued) = (false, false, false);
    for (index, _) in progress
        .members
        .iter()
        .enumerate()
        .filter(|(_, member)| member.trial == trial)
    {
        let note = &notes[index];
        match &states[index] {
            MemberState::Done { .. } => {}
            MemberState::Without { found } => {
                let (stage, metric) = (&file.objective.stage, &file.objective.metric);
                return Standing::Failed(format!(
                    "{stage} made no `{metric}`, but {}",
                    found.join(", ")
                ));
            }
            MemberState::Missing { .. } => {
                (open, running, queued) = (true, running || note.running, queued || note.queued);
                if let Some(reason) = note
                    .failure
                    .as_ref()
                    .filter(|_| !note.running && !note.queued)
                {
                    return Standing::Failed(reason.clone());
                }
            }
        }
    }
    let reached = progress
        .members
        .iter()
        .filter(|member| member.trial == trial)
        .filter_map(|member| member.level)
        .max();
    let last = file
        .stopping
        .as_ref()
        .and_then(|stopping| stopping.levels.last().copied());
    match progress.stopped.get(&trial) {
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

fn axis_column(rows: &[Row], axis: &str) -> Column {
    let values: Vec<Option<&serde_json::Value>> =
        rows.iter().map(|row| row.point.get(axis)).collect();
    if values.iter().flatten().all(|value| value.is_i64()) {
        return Column::Integers(
            values
                .iter()
                .map(|value| value.and_then(serde_json::Value::as_i64))
                .collect(),
        );
    }
    if values.iter().flatten().all(|value| value.is_number()) {
        return Column::Reals(
            values
                .iter()
                .map(|value| value.and_then(serde_json::Value::as_f64))
                .collect(),
        );
    }
    Column::Texts(values.iter().map(|value| value.map(shown)).collect())
}

/// A value as people write it: text without quotes, the rest as JSON.
pub fn shown(value: &serde_json::Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
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
