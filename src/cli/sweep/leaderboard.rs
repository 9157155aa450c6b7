//! `runner sweep status`, `table` and `best`: what came of the trials.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use contract::artifact::{Artifact, Direction};
use serde_json::{Value, json};

use super::super::shown as shown_path;
use super::super::{Error, Exit, Global, write_whole};
use super::{About, Format, TableArguments};
use crate::diagnostic::counted;
use crate::sweep::{
    Leaderboard, Queue, Row, Standing, Sweep, Task, TaskState, View, shell_line, shown,
};
use crate::ui::{Align, Paint, Table, duration, number, out, outln, print_json, screen};

/// Tasks that are told one by one; more are counted.
const TASKS_LISTED: usize = 12;

pub(super) fn status(global: &Global, about: &About) -> Result<Exit, Error> {
    let (sweep, board, view, queue) = stand(global, about)?;
    if global.json {
        let mut object = counts(&board, &view);
        object["sweep"] = json!(sweep.file.name);
        object["tasks"] = json!({"waiting": queue.count(TaskState::Waiting), "running": queue.count(TaskState::Running)});
        object["best"] = board
            .best()
            .map_or(Value::Null, |row| row_json(&board, row));
        object["failures"] = board
            .rows
            .iter()
            .filter_map(|row| match &row.standing {
                Standing::Failed(reason) => Some(json!({"trial": row.trial + 1, "reason": reason})),
                _ => None,
            })
            .collect();
        print_json(&object);
        return Ok(Exit::Done);
    }
    outln!("{}", summary(&sweep, &board, &view));
    for row in &board.rows {
        if let Standing::Failed(reason) = &row.standing {
            outln!(
                "  {} trial {}: {reason}",
                Paint::Bad.on("failed"),
                row.trial + 1
            );
        }
    }
    let open = |task: &&Task| matches!(task.state, TaskState::Waiting | TaskState::Running);
    for task in queue.tasks.iter().filter(open).take(TASKS_LISTED) {
        let state = if task.state == TaskState::Running {
            Paint::Good.on("running")
        } else {
            Paint::Warn.on("waiting")
        };
        let part = task.comment.split(':').nth(1).unwrap_or_default();
        outln!(
            "  {state} job {}, task {} ({part}) {}",
            task.job.0,
            task.number,
            task.detail
        );
    }
    let more = queue
        .tasks
        .iter()
        .filter(open)
        .count()
        .saturating_sub(TASKS_LISTED);
    if more > 0 {
        outln!("  … and {}", counted(more, "more task"));
    }
    Ok(Exit::Done)
}

pub(super) fn table(global: &Global, arguments: &TableArguments) -> Result<Exit, Error> {
    let (sweep, mut board, ..) = stand(global, &arguments.about)?;
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
        Format::Csv => csv(&board).into_bytes(),
        Format::Parquet => parquet(&board)?,
    };
    match &arguments.output {
        Some(path) => {
            write_whole(path, &bytes)?;
            outln!("{}", shown_path(path));
        }
        None => match format {
            Format::Parquet => {
                return Err(Error::wrong("Parquet is not for a screen")
                    .hint("name a file with `--output FILE`"));
            }
            Format::Text => out!("{}", text_table(&sweep, &board, None)),
            Format::Json => print_json(&board_json(&sweep, &board)),
            Format::Csv => screen::raw(&bytes),
        },
    }
    Ok(Exit::Done)
}

/// That there is no best trial, and what to do about it: to run a sweep that failed would not help.
pub(super) fn no_figure(board: &Leaderboard, file: &Path) -> Error {
    let file = shell_line(&[file.display().to_string()]);
    let hint = match board.count("failed") {
        0 => format!("run it: `runner sweep {file}`"),
        failed => format!("{failed} of its trials failed: `runner sweep status {file}` says why"),
    };
    Error::failed("no trial of the sweep has a figure yet").hint(hint)
}

pub(super) fn best(global: &Global, about: &About) -> Result<Exit, Error> {
    let (sweep, board, view, _) = stand(global, about)?;
    let Some(row) = board.best() else {
        return Err(no_figure(&board, &about.file));
    };
    let member = view
        .roster
        .members
        .iter()
        .find(|member| member.trial == row.trial && member.level == row.level);
    let values = member.map(|member| {
        crate::sweep::overrides(&sweep.file, &view.progress.points[row.trial], member)
    });
    let command = command_of(&sweep, &values.unwrap_or_default());
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
    table.row([Paint::Strong.on(&board.metric), figure(row)]);
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
    words.extend(
        sweep
            .file
            .profile
            .iter()
            .flat_map(|profile| ["--profile".to_owned(), profile.clone()]),
    );
    for (name, value) in values {
        let pair = format!("{name}={value}");
        words.extend(["--set".to_owned(), pair]);
    }
    words
}

fn stand(global: &Global, about: &About) -> Result<(Sweep, Leaderboard, View, Queue), Error> {
    let mut sweep = Sweep::open(&global.project, &about.file, &about.choice.choice(), true)?;
    let queue = Queue::of(&sweep);
    let view = sweep.stand(&global.project, &queue)?;
    let board = sweep.board(&view, &queue)?;
    Ok((sweep, board, view, queue))
}

fn counts(board: &Leaderboard, view: &View) -> Value {
    json!({
        "trials": view.progress.total,
        "known": board.rows.len(),
        "done": board.count("done"),
        "undecided": board.count("undecided"),
        "stopped": board.count("stopped"),
        "running": board.count("running"),
        "queued": board.count("queued"),
        "failed": board.count("failed"),
        "missing": board.count("missing"),
    })
}

/// `lr_search: 24 trials: 20 done, 3 failed, 1 missing; best f1 0.412 (trial 7)`.
pub(super) fn summary(sweep: &Sweep, board: &Leaderboard, view: &View) -> String {
    let colour = |name: &str| match name {
        "done" => Paint::Good,
        "failed" => Paint::Bad,
        "stopped" => Paint::Quiet,
        _ => Paint::Warn,
    };
    let mut parts: Vec<String> = [
        "done",
        "undecided",
        "stopped",
        "running",
        "queued",
        "failed",
        "missing",
    ]
    .into_iter()
    .filter(|name| board.count(name) > 0)
    .map(|name| format!("{} {}", board.count(name), colour(name).on(name)))
    .collect();
    let later = view.progress.total - view.progress.points.len();
    if later > 0 {
        parts.push(format!("{later} to be chosen"));
    }
    let trials = counted(view.progress.total, "trial");
    let mut text = format!(
        "{}: {trials}: {}",
        Paint::Strong.on(&sweep.file.name),
        parts.join(", ")
    );
    if let Some(best) = board.best() {
        let _ = write!(
            text,
            "; best {} {} (trial {})",
            board.metric,
            figure(best),
            best.trial + 1
        );
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
    let levels = sweep
        .file
        .stopping
        .as_ref()
        .map(|stopping| stopping.over.as_str());
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
        cells.extend(
            board
                .axes
                .iter()
                .map(|axis| row.point.get(axis).map_or_else(String::new, shown)),
        );
        cells.extend(levels.map(|_| {
            row.level
                .map_or_else(String::new, |level| level.to_string())
        }));
        cells.push(figure(row));
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
    table.render() + &tail
}

/// `0.412`, or `0.412 ± 0.021 (3)` over seeds.
fn figure(row: &Row) -> String {
    match (row.mean, row.deviation) {
        (Some(mean), Some(deviation)) => format!(
            "{} ± {} ({})",
            number(mean),
            number(deviation),
            row.values.len()
        ),
        (Some(mean), None) => number(mean),
        (None, _) if !row.values.is_empty() => format!("{} of its seeds", row.values.len()),
        (None, _) => "–".to_owned(),
    }
}

fn row_json(board: &Leaderboard, row: &Row) -> Value {
    let failure = match &row.standing {
        Standing::Failed(reason) => Some(reason),
        _ => None,
    };
    json!({
        "rank": board.rows.iter().position(|other| other.trial == row.trial).map(|index| index + 1),
        "trial": row.trial + 1,
        "values": row.point,
        "metric": board.metric,
        "mean": row.mean,
        "deviation": row.deviation,
        "per_seed": row.values,
        "seeds": row.seeds,
        "level": row.level,
        "state": row.standing.name(),
        "failure": failure,
        "seconds": row.seconds,
        "finished": row.finished,
    })
}

pub(super) fn board_json(sweep: &Sweep, board: &Leaderboard) -> Value {
    json!({
        "sweep": sweep.file.name,
        "metric": board.metric,
        "direction": board.direction.map(Direction::name),
        "axes": board.axes,
        "trials": board.rows.iter().map(|row| row_json(board, row)).collect::<Vec<_>>(),
    })
}

/// Comma-separated values after RFC 4180.
fn csv(board: &Leaderboard) -> String {
    let quoted = |text: String| {
        if text.contains([',', '"', '\n']) {
            format!("\"{}\"", text.replace('"', "\"\""))
        } else {
            text
        }
    };
    let mut header = vec!["rank".to_owned(), "trial".to_owned()];
    header.extend(board.axes.iter().map(|axis| board.column_of(axis)));
    header.extend([board.metric_column()]);
    header
        .extend(["deviation", "seeds", "level", "state", "seconds", "failure"].map(str::to_owned));
    let mut lines = vec![header];
    for (index, row) in board.rows.iter().enumerate() {
        let optional =
            |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
        let mut cells = vec![(index + 1).to_string(), (row.trial + 1).to_string()];
        cells.extend(
            board
                .axes
                .iter()
                .map(|axis| row.point.get(axis).map_or_else(String::new, shown)),
        );
        cells.extend([
            optional(row.mean),
            optional(row.deviation),
            row.values.len().to_string(),
        ]);
        cells.push(
            row.level
                .map_or_else(String::new, |level| level.to_string()),
        );
        cells.extend([row.standing.name().to_owned(), row.seconds.to_string()]);
        cells.push(match &row.standing {
            Standing::Failed(reason) => reason.clone(),
            _ => String::new(),
        });
        lines.push(cells);
    }
    let line =
        |cells: Vec<String>| cells.into_iter().map(quoted).collect::<Vec<_>>().join(",") + "\n";
    lines.into_iter().map(line).collect()
}

fn parquet(board: &Leaderboard) -> Result<Vec<u8>, Error> {
    let failed = |error: contract::artifact::ArtifactError| Error::failed(error.to_string());
    let mut bytes = Vec::new();
    Artifact::Table(std::sync::Arc::new(board.table().map_err(failed)?))
        .encode_to(&mut bytes)
        .map_err(failed)?;
    Ok(bytes)
}

/// Makes the folder of a picture or a table.
pub(super) fn make_folder(folder: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder)
        .map_err(|error| Error::failed(format!("cannot create {}: {error}", folder.display())))
}
