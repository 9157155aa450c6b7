//! `runner sweep plot`: pictures of a sweep.

use std::path::Path;

use plot::{Bar, Canvas, Ranking, Raster, Svg};

use super::super::shown;
use super::super::{Error, Exit, Global, write_whole};
use super::PlotArguments;
use super::leaderboard::make_folder;
use crate::cache::file_name;
use crate::sweep::{
    Influence, Leaderboard, Queue, Sweep, influence, objective_in_order, parallel_coordinates,
    parallel_width,
};
use crate::ui::{outln, print_json};

/// Forms of pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Form {
    Svg,
    Png,
}

const WIDTH: u32 = 960;
const HEIGHT: u32 = 480;

pub(super) fn plot(global: &Global, arguments: &PlotArguments) -> Result<Exit, Error> {
    let about = &arguments.about;
    let mut sweep = Sweep::open(&global.project, &about.file, &about.choice.choice(), true)?;
    let queue = Queue::of(&sweep);
    let view = sweep.stand(&global.project, &queue)?;
    let board = sweep.board(&view, &queue)?;
    if board.best().is_none() {
        return Err(super::leaderboard::no_figure(&board, &about.file));
    }
    let name = format!("{}-plots", file_name(&sweep.file.name));
    let beside = about.file.parent().unwrap_or(Path::new("")).join(name);
    let folder = arguments.output.clone().unwrap_or(beside);
    make_folder(&folder)?;
    let influences = influence(&board.axes, &board.rows);
    let ranking = influence_ranking(&board, &influences);
    let form = arguments.format;
    let mut written = vec![
        save(
            &folder,
            "parallel",
            form,
            (parallel_width(&board, WIDTH), HEIGHT),
            |canvas| parallel_coordinates(&board, canvas),
        )?,
        save(&folder, "objective", form, (WIDTH, HEIGHT), |canvas| {
            objective_in_order(&board, canvas)
        })?,
    ];
    if !influences.is_empty() {
        written.push(save(
            &folder,
            "influence",
            form,
            (WIDTH, ranking.height()),
            |canvas| ranking.draw(canvas),
        )?);
    }
    if global.json {
        let shares = influences.iter().map(
            |one| serde_json::json!({"axis": one.axis, "share": one.share, "trials": one.trials, "groups": one.groups}),
        );
        print_json(&serde_json::json!({"files": written, "influence": shares.collect::<Vec<_>>()}));
    } else {
        written.iter().for_each(|path| outln!("{path}"));
    }
    Ok(Exit::Done)
}

fn influence_ranking(board: &Leaderboard, influences: &[Influence]) -> Ranking {
    let trials = influences.first().map_or(0, |one| one.trials);
    Ranking {
        title: format!("What decides {}", board.metric),
        subtitle: format!(
            "Share of the variance that one axis explains alone, over {trials} trials. Interplay of axes does not \
             show, and few trials flatter axes of many values."
        ),
        metric: "share of variance".to_owned(),
        bars: influences
            .iter()
            .map(|one| Bar {
                name: one.axis.clone(),
                value: Some(one.share),
                deviation: None,
            })
            .collect(),
        marks: Vec::new(),
        range: Some((0.0, 1.0)),
    }
}

fn save(
    folder: &Path,
    name: &str,
    form: Form,
    (width, height): (u32, u32),
    draw: impl FnOnce(&mut dyn Canvas),
) -> Result<String, Error> {
    let mut canvas: Box<dyn Canvas> = match form {
        Form::Svg => Box::new(Svg::new(width, height)),
        Form::Png => Box::new(Raster::new(width, height).map_err(Error::failed)?),
    };
    draw(canvas.as_mut());
    let extension = match form {
        Form::Svg => "svg",
        Form::Png => "png",
    };
    let path = folder.join(format!("{name}.{extension}"));
    write_whole(&path, &canvas.finish().map_err(Error::failed)?)?;
    Ok(shown(&path))
}
