//! `runner report`: a page for the browser, as a file.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::arguments;
use super::{Error, Exit, Global, shown};
use crate::page::{PageOrder, write_page};
use crate::ui::{Paint, bytes, outln, print_json};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner report                               the latest run, as `report-RUN.html`\n  \
    runner report latest -o smd.html --force    under another name, over what is there\n  \
    runner report 250c1f --dir smd              a folder for a web server, with every row of every channel\n  \
    runner report sweeps/lr.yaml                a sweep: leaderboard, parallel coordinates, influence of each axis\n  \
    runner report 250c1f 9ad02e                 two runs side by side\n  \
    runner report smd.lock                      a lock, and whether the store still has what it says\n\n\
    The file is self-contained and needs no network: it opens from a mail or the supplement of a paper.")]
pub(super) struct Arguments {
    /// A run (`latest`, its name, or the start or end of it), a sweep file, a lock, or a pipeline, which stands for its latest
    /// run; several runs are compared
    #[arg(value_name = "RUN|SWEEP|LOCK|PIPELINE", default_value = "latest")]
    targets: Vec<String>,
    /// Where to write the file; by default a name that follows from what it shows
    #[arg(long, short, value_name = "FILE", conflicts_with = "dir")]
    output: Option<PathBuf>,
    /// Write a folder instead, with the rows in files of their own
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Limit the compressed rows in the file; channels that do not fit keep the smallest and the largest of every 64 rows
    #[arg(long, value_name = "SIZE", value_parser = arguments::size, default_value = "3MiB", conflicts_with = "dir")]
    rows_up_to: u64,
    /// Replace what is there
    #[arg(long)]
    force: bool,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    let order = PageOrder {
        targets: arguments.targets.clone(),
        output: arguments.dir.clone().or(arguments.output.clone()),
        is_folder: arguments.dir.is_some(),
        room: usize::try_from(arguments.rows_up_to).unwrap_or(usize::MAX),
        replace: arguments.force,
    };
    let written = write_page(&global.project, &order)?;
    if global.json {
        print_json(&json!({
            "subject": written.subject,
            "path": written.path,
            "bytes": written.bytes,
            "without_rows": written.cut,
        }));
        return Ok(Exit::Done);
    }
    let path = shown(&written.path);
    let (strong, size) = (Paint::Strong.on(&path), bytes(written.bytes));
    outln!("{strong} ({size}) shows {}", written.subject);
    if written.cut > 0 {
        let cut = written.cut;
        outln!(
            "  {cut} scores and channels do not fit row by row; `--dir` or `--rows-up-to` keep every row"
        );
    }
    if arguments.dir.is_some() {
        outln!("  serve it with `python3 -m http.server -d {path}`");
    }
    Ok(Exit::Done)
}
