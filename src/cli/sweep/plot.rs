//! `runner sweep plot`: plots of a sweep as files.

use std::path::Path;

use serde_json::json;

use super::super::{Error, Exit, Global, shown, write_whole};
use super::PlotArguments;
use super::leaderboard::{make_folder, no_value, open};
use crate::cache::file_name;
use crate::sweep::{PlotFormat, influence, plots};
use crate::ui::{outln, print_json};

/// Formats of plots, as the user names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum FormatName {
    Svg,
    Png,
}

impl From<FormatName> for PlotFormat {
    fn from(name: FormatName) -> Self {
        match name {
            FormatName::Svg => Self::Svg,
            FormatName::Png => Self::Png,
        }
    }
}

pub(super) fn plot(global: &Global, arguments: &PlotArguments) -> Result<Exit, Error> {
    let file = &arguments.about.file;
    let (sweep, board, ..) = open(global, &arguments.about)?;
    if board.best().is_none() {
        return Err(no_value(&board, file));
    }
    let name = format!("{}-plots", file_name(&sweep.file.name));
    let beside = file.parent().unwrap_or(Path::new("")).join(name);
    let folder = arguments.output.clone().unwrap_or(beside);
    make_folder(&folder)?;
    let influences = influence(&board.axes, &board.rows);
    let mut written = Vec::new();
    for (name, bytes) in
        plots(&board, &influences, arguments.format.into()).map_err(Error::failed)?
    {
        let path = folder.join(name);
        write_whole(&path, &bytes)?;
        written.push(shown(&path));
    }
    if !global.json {
        for path in &written {
            outln!("{path}");
        }
        return Ok(Exit::Done);
    }
    let mut shares = Vec::new();
    for one in &influences {
        shares.push(json!({
            "axis": one.axis,
            "share": one.share,
            "trials": one.trials,
            "groups": one.groups,
        }));
    }
    print_json(&json!({"files": written, "influence": shares}));
    Ok(Exit::Done)
}
