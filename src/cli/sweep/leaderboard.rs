//! `runner sweep status`, `table` and `best`: what the trials resulted in.

use std::fs;
use std::path::Path;

use contract::artifact::{Artifact, Direction};
use serde_json::{Value, json};

use super::super::shown as shown_path;
use super::super::{Error, Exit, Global, write_whole};
use super::{About, Format, TableArguments};
use crate::diagnostic::counted;
use crate::project::Choice;
use crate::sweep::{Leaderboard, Queue, Row, Standing, Sweep, TaskState, View, shell_line, shown};
use crate::ui::{Align, Paint, Table, duration, json_line, number, out, outln, print_json, screen};

/// Tasks that are listed one by one; more are counted.
const TASKS_LISTED: usize = 12;

/// What trials can be, in the order in which they are counted.
const STATES: [&str; 7] = [
    "done",
    "undecided",
    "stopped",
    "running",
    "queued",
    "failed",
    "missing",
];

pub(super) fn status(global: &Global, about: &About) -> Result<Exit, Error> {
    let (sweep, board, view, queue) = open(global, about)?;
    if global.json {
        let mut object = counts(&board, &view);
        object["sweep"] = json!(sweep.file.name);
        object["tasks"] = json!({"waiting": queue.count(TaskState::Waiting), "running": queue.count(TaskState::Running)});
        object["best"] = board
            .best()
            .map_or(Value::Null, |row| row_json(&board, row));
        let mut failures = Vec::new();
        for row in &board.rows {
            if let Some(reason) = row.standing.failure() {
                failures.push(json!({"trial": row.trial + 1, "reason": reason}));
            }
        }
        object["failures"] = failures.into();
        print_json(&object);
        return Ok(Exit::Done);
    }
    outln!("{}", summary(&sweep, &board, &view));
    for row in &board.rows {
        if let Some(reason) = row.standing.failure() {
            let failed = Paint::Bad.on("failed");
            outln!("  {failed} trial {}: {reason}", row.trial + 1);
        }
    }
    let mut open = 0;
    for task in &queue.tasks {
        let state = match task.state {
            TaskState::Running => Paint::Good.on("running"),
            TaskState::Waiting => Paint::Warn.on("waiting"),
            _ => continue,
        };
        open += 1;
        if open <= TASKS_LISTED {
            let part = task.comment.split(':').nth(1).unwrap_or_default();
            let (job, number, detail) = (&task.job.0, task.number, &task.detail);
            outln!("  {state} job {job}, task {number} ({part}) {detail}");
        }
    }
    if open > TASKS_LISTED {
        outln!("  … and {}", counted(open - TASKS_LISTED, "more task"));
    }
    Ok(Exit::Done)
}

pub(super) fn table(global: &Global, arguments: &TableArguments) -> Result<Exit, Error> {
    let (sweep, mut board, ..) = open(global, &arguments.about)?;
    if let Some(limit) = arguments.limit {
        board.rows.truncate(limit);
    }
    let format = if global.json {
        Format::Json
    } else {
        arguments.format
    };
    let bytes = match format {
        Format::Text => screen::plain(&text_table(&sweep, &board, None)).into_bytes(),
        Format::Json => format!("{}\n", board_json(&sweep, &board)).into_bytes(),
        Format::Csv => board.csv().into_bytes(),
        Format::Parquet => parquet(&board)?,
    };
    match (&arguments.output, format) {
        (Some(path), _) => {
            write_whole(path, &bytes)?;
            outln!("{}", shown_path(path));
        }
        (None, Format::Text) => out!("{}", text_table(&sweep, &board, None)),
        (None, Format::Json) => print_json(&board_json(&sweep, &board)),
        (None, Format::Csv) => screen::raw(&bytes),
        (None, Format::Parquet) => {
            return Err(Error::wrong("Parquet is not for a screen")
                .hint("name a file with `--output FILE`"));
        }
    }
    Ok(Exit::Done)
}

/// That there is no best trial, and what to do about it: to run a sweep that failed would not help.
pub(super) fn no_value(board: &Leaderboard, file: &Path) -> Error {
    let file = shell_line(&[file.display().to_string()]);
    let hint = match board.count("failed") {
        0 => format!("run it: `runner sweep {file}`"),
        failed => format!("{failed} of its trials failed: `runner sweep status {file}` says why"),
    };
    Error::failed("no trial of the sweep has a value of the objective yet").hint(hint)
}

pub(super) fn best(global: &Global, about: &About) -> Result<Exit, Error> {
    let (sweep, board, view, _) = open(global, about)?;
    let Some(row) = board.best() else {
        return Err(no_value(&board, &about.file));
    };
    let command = command_of(&sweep, &sweep.values_of_row(&view, row));
    if global.json {
        let mut object = row_json(&board, row);
        object["command"] = json!(command);
        print_json(&object);
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&[("value", Align::Left), ("", Align::Left)]);
    for (name, value) in &row.point {
        table.row([name.clone(), shown(value)]);
    }
    table.row([Paint::Strong.on(&board.metric), objective(row)]);
    outln!("{}", Paint::Strong.on(format!("trial {}", row.trial + 1)));
    out!("{}", table.render());
    outln!("run it on its own:");
    outln!("  {}", shell_line(&command));
    Ok(Exit::Done)
}

/// The command line that runs one member.
fn command_of(sweep: &Sweep, values: &[(String, String)]) -> Vec<String> {
    let mut words = vec![
        "runner".to_owned(),
        "run".to_owned(),
        shown_path(&sweep.file.pipeline),
    ];
    if let Some(profile) = &sweep.file.profile {
        words.extend(["--profile".to_owned(), profile.clone()]);
    }
    for (name, value) in values {
        words.extend(["--set".to_owned(), format!("{name}={value}")]);
    }
    words
}

/// Opens a sweep, to say how far it is.
pub(super) fn open(
    global: &Global,
    about: &About,
) -> Result<(Sweep, Leaderboard, View, Queue), Error> {
    let mut sweep = Sweep::open(&global.project, &about.file, &about.choice.choice(), true)?;
    let queue = Queue::of(&sweep);
    let view = sweep.state(&queue)?;
    let board = sweep.board(&view, &queue)?;
    Ok((sweep, board, view, queue))
}

/// How far a sweep is, in lines, and whether nothing of it is under way or waits; as a line of JSON where that is asked for.
pub(crate) fn summary_of(global: &Global, file: &Path) -> Result<(Vec<String>, bool), Error> {
    let mut sweep = Sweep::open(&global.project, file, &Choice::default(), true)?;
    let queue = Queue::of(&sweep);
    let view = sweep.state(&queue)?;
    let board = sweep.board(&view, &queue)?;
    let has_ended = board.count("running") + board.count("queued") == 0;
    if global.json {
        let mut object = counts(&board, &view);
        object["sweep"] = json!(sweep.file.name);
        json_line(&object);
        return Ok((Vec::new(), has_ended));
    }
    let mut lines = vec![summary(&sweep, &board, &view)];
    for task in &queue.tasks {
        if task.state == TaskState::Running && lines.len() <= TASKS_LISTED {
            let (job, number, detail) = (&task.job.0, task.number, &task.detail);
            lines.push(format!("  job {job}, task {number} {detail}"));
        }
    }
    Ok((lines, has_ended))
}

fn counts(board: &Leaderboard, view: &View) -> Value {
    let mut counts = json!({"trials": view.progress.total, "known": board.rows.len()});
    for name in STATES {
        counts[name] = json!(board.count(name));
    }
    counts
}

/// `lr_search: 24 trials: 20 done, 3 failed, 1 missing; best f1 0.412 (trial 7)`.
pub(super) fn summary(sweep: &Sweep, board: &Leaderboard, view: &View) -> String {
    let colour = |name: &str| match name {
        "done" => Paint::Good,
        "failed" => Paint::Bad,
        "stopped" => Paint::Quiet,
        _ => Paint::Warn,
    };
    let mut parts = Vec::new();
    for name in STATES {
        match board.count(name) {
            0 => {}
            count => parts.push(format!("{count} {}", colour(name).on(name))),
        }
    }
    match view.count_later() {
        0 => {}
        later => parts.push(format!("{later} to be chosen")),
    }
    let (name, trials) = (Paint::Strong.on(&sweep.file.name), view.progress.total);
    let mut text = format!("{name}: {}: {}", counted(trials, "trial"), parts.join(", "));
    if let Some(best) = board.best() {
        let (metric, value, trial) = (&board.metric, objective(best), best.trial + 1);
        text.push_str(&format!("; best {metric} {value} (trial {trial})"));
    }
    text
}

/// Prints the leaderboard in the form that was asked for.
pub(super) fn print_board(
    global: &Global,
    sweep: &Sweep,
    board: &Leaderboard,
    limit: Option<usize>,
) -> Result<(), Error> {
    if global.json {
        print_json(&board_json(sweep, board));
    } else {
        out!("{}", text_table(sweep, board, limit));
    }
    Ok(())
}

fn text_table(sweep: &Sweep, board: &Leaderboard, limit: Option<usize>) -> String {
    let sense = match board.direction {
        Some(Direction::Lower) => " ↓",
        Some(Direction::Higher) => " ↑",
        _ => "",
    };
    let title = format!("{}{sense}", board.metric);
    let stopping = sweep.file.stopping.as_ref();
    let levels = stopping.map(|stopping| stopping.over.as_str());
    let mut header = vec![("rank", Align::Right), ("trial", Align::Right)];
    header.extend(board.axes.iter().map(|axis| (axis.as_str(), Align::Right)));
    header.extend(levels.map(|over| (over, Align::Right)));
    header.extend([
        (title.as_str(), Align::Right),
        ("state", Align::Left),
        ("time", Align::Right),
    ]);
    let mut table = Table::new(&header);
    let rows = limit.unwrap_or(board.rows.len());
    for (index, row) in board.rows.iter().enumerate().take(rows) {
        let mut cells = vec![(index + 1).to_string(), (row.trial + 1).to_string()];
        for axis in &board.axes {
            cells.push(row.point.get(axis).map_or_else(String::new, shown));
        }
        if levels.is_some() {
            cells.push(
                row.level
                    .map_or_else(String::new, |level| level.to_string()),
            );
        }
        cells.push(objective(row));
        let paint = match row.standing {
            Standing::Done => Paint::Good,
            Standing::Stopped(_) | Standing::Undecided => Paint::Quiet,
            Standing::Failed(_) => Paint::Bad,
            Standing::Running | Standing::Queued | Standing::Missing => Paint::Warn,
        };
        cells.extend([paint.on(row.standing.name()), duration(row.seconds)]);
        table.row(cells);
    }
    let more = board.rows.len().saturating_sub(rows);
    let file = shell_line(&[sweep.file.path.display().to_string()]);
    let tail = if more > 0 {
        format!("  … and {more} more: `runner sweep table {file}`\n")
    } else {
        String::new()
    };
    let caveat = match board.oracle {
        true => {
            "  oracle: the trials are chosen by the test rows, so the best value is an upper bound\n"
        }
        false => "",
    };
    table.render() + &tail + caveat
}

/// `0.412`, or `0.412 ± 0.021 (3)` over seeds.
fn objective(row: &Row) -> String {
    match (row.mean, row.deviation) {
        (Some(mean), Some(deviation)) => {
            let (mean, deviation) = (number(mean), number(deviation));
            format!("{mean} ± {deviation} ({})", row.values.len())
        }
        (Some(mean), None) => number(mean),
        (None, _) if !row.values.is_empty() => format!("{} of its seeds", row.values.len()),
        (None, _) => "–".to_owned(),
    }
}

fn row_json(board: &Leaderboard, row: &Row) -> Value {
    let rank = board.rows.iter().position(|other| other.trial == row.trial);
    json!({
        "rank": rank.map(|index| index + 1),
        "trial": row.trial + 1,
        "values": row.point,
        "metric": board.metric,
        "mean": row.mean,
        "deviation": row.deviation,
        "per_seed": row.values,
        "seeds": row.seeds,
        "level": row.level,
        "state": row.standing.name(),
        "failure": row.standing.failure(),
        "seconds": row.seconds,
        "finished": row.finished,
    })
}

fn board_json(sweep: &Sweep, board: &Leaderboard) -> Value {
    let trials: Vec<Value> = board.rows.iter().map(|row| row_json(board, row)).collect();
    json!({
        "sweep": sweep.file.name,
        "metric": board.metric,
        "direction": board.direction.map(Direction::name),
        "oracle": board.oracle,
        "axes": board.axes,
        "trials": trials,
    })
}

fn parquet(board: &Leaderboard) -> Result<Vec<u8>, Error> {
    let failed = |error: contract::artifact::ArtifactError| Error::failed(error.to_string());
    let mut bytes = Vec::new();
    Artifact::Table(std::sync::Arc::new(board.table().map_err(failed)?))
        .encode_to(&mut bytes)
        .map_err(failed)?;
    Ok(bytes)
}

/// Makes a folder for plots.
pub(super) fn make_folder(folder: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder)
        .map_err(|error| Error::failed(format!("cannot create {}: {error}", folder.display())))
}
