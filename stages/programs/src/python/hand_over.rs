//! What a detector is given: first the rows that it is fitted on, and once it has fitted, those that it scores.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::parameters::{Params, Task};
use super::source::copied_detector;
use crate::exchange::{Expected, Format, give, strip_labels, without_labels, write_rows};
use crate::running::{CHECKPOINTS, Job};
use contract::artifact::{Artifact, Segment, Series, Split, WindowRun, Windows};
use contract::{Inputs, StageContext, Trouble};

/// The file with what the detector gives.
pub(super) const RESULT: &str = "result.npy";

/// The input, and what is wanted of it.
pub(super) struct Data {
    pub name: &'static str,
    pub series: Arc<Series>,
    pub windows: Option<Arc<Windows>>,
    /// The segments that are scored, each in rows of the series.
    segments: Vec<Segment>,
    /// For windows: the rows that the windows of each segment were cut from.
    from: Vec<usize>,
}

impl Data {
    pub fn of(params: &Params, inputs: &Inputs) -> Result<Self, Trouble> {
        let windows = inputs.optional::<Windows>("windows")?;
        let (name, series) = match &windows {
            Some(windows) => ("windows", Arc::clone(&windows.series)),
            None => ("series", inputs.get::<Series>("series")?),
        };
        let splits = match params.task {
            Task::Detect => params.splits.clone(),
            _ => Some(params.splits.clone().unwrap_or_else(|| vec![Split::Test])),
        };
        let wanted = Expected::of(name, &series, splits.as_deref())?;
        let (mut segments, mut from) = (Vec::new(), Vec::new());
        for segment in wanted.segments {
            match &windows {
                None => {
                    segments.push(segment.clone());
                    from.push(segment.rows.start);
                }
                Some(windows) => {
                    if let Some(run) = run_over(windows, segment) {
                        segments.push(segment.clone());
                        from.push(run.rows.0);
                    }
                }
            }
        }
        if segments.is_empty() {
            let message = "no row that is to be scored lies in a window";
            return Err(Trouble::new(message).hint("make windows of the splits to score"));
        }
        Ok(Self {
            name,
            series,
            windows,
            segments,
            from,
        })
    }

    /// The rows that the detector is asked about.
    pub fn expected(&self) -> Expected<'_> {
        Expected {
            name: self.name,
            series: &self.series,
            segments: self.segments.iter().collect(),
        }
    }

    /// The splits of what is scored.
    pub fn splits(&self) -> Vec<Split> {
        let mut splits: Vec<Split> = self.segments.iter().map(|segment| segment.split).collect();
        splits.sort();
        splits.dedup();
        splits
    }
}

/// The run whose windows cover all rows of a segment.
fn run_over<'a>(windows: &'a Windows, segment: &Segment) -> Option<&'a WindowRun> {
    windows.runs.iter().find(|run| {
        let (start, end) = run.rows;
        run.split == segment.split
            && start <= segment.rows.start
            && segment.rows.end <= end
            && end - start >= windows.spec.length
    })
}

/// Writes the job file, and the rows to be fitted on.
pub(super) fn write_job(
    params: &Params,
    data: &Data,
    paths: Vec<String>,
    folder: &Path,
    context: &StageContext<'_>,
) -> Result<(), Trouble> {
    let mut job = Job::new(params.params.clone(), context);
    job.outputs
        .insert("result".to_owned(), json!({"path": RESULT}));
    let mut more = Map::new();
    more.insert("detector".to_owned(), copied_detector(params).into());
    more.insert("task".to_owned(), params.task.name().into());
    more.insert("paths".to_owned(), paths.into());
    more.insert("result".to_owned(), RESULT.into());
    more.insert("sign".to_owned(), params.sign.into());
    more.insert("flatten".to_owned(), params.flatten.into());
    more.insert("batch".to_owned(), params.batch.into());
    if let Some(windows) = &data.windows {
        more.insert("length".to_owned(), windows.spec.length.into());
    }
    more.insert("fit".to_owned(), rows_to_fit(params, data, folder)?);
    job.more = more;
    if params.checkpoints {
        job.checkpoints = Some(CHECKPOINTS);
    }
    job.write(folder)
}

/// The rows of the splits to fit on, in a file of their own.
fn rows_to_fit(params: &Params, data: &Data, folder: &Path) -> Result<Value, Trouble> {
    let whole: Artifact = match &data.windows {
        Some(windows) => Artifact::Windows(Arc::clone(windows)),
        None => Artifact::Series(Arc::clone(&data.series)),
    };
    let labels: &[Split] = match params.labels || params.task == Task::Classify {
        true => &params.fit,
        false => &[],
    };
    for split in &params.fit {
        if data.series.of_split(*split).next().is_none() {
            let message = format!(
                "the {} have no rows of split `{split}` to fit on",
                data.name
            );
            return Err(Trouble::new(message).hint("name others in `fit`, or none: `fit: []`"));
        }
    }
    let cut = without_labels(data.name, &whole, Some(&params.fit), labels)?;
    let is_unlabelled = |series: &Series| series.labels.is_empty();
    let lacks_labels = match &cut {
        Artifact::Series(series) => is_unlabelled(series),
        Artifact::Windows(windows) => is_unlabelled(&windows.series),
        _ => false,
    };
    if params.labels && lacks_labels {
        let message = "the rows to fit on have no labels";
        return Err(Trouble::new(message).hint("write `labels: false`"));
    }
    let Artifact::Windows(windows) = &cut else {
        return Ok(give(data.name, &cut, Format::Npy, folder, "in/fit")?.about);
    };
    // Windows are made by the detector's side from the rows, which are a small part of them.
    let series = Artifact::Series(Arc::clone(&windows.series));
    let mut about = give(data.name, &series, Format::Npy, folder, "in/fit")?.about;
    about["runs"] = runs(&windows.runs);
    if params.task == Task::Forecast {
        let targets = windows
            .runs
            .iter()
            .flat_map(|run| (0..run.count).map(|index| windows.target(run.start(index))));
        let count: usize = windows.runs.iter().map(|run| run.count).sum();
        let shape = [count, windows.spec.horizon, windows.series.width()];
        write_rows(&folder.join("in/fit.targets.npy"), &shape, targets)?;
        about["targets"] = "in/fit.targets.npy".into();
    }
    Ok(about)
}

fn runs(runs: &[WindowRun]) -> Value {
    let mut listed = Vec::with_capacity(runs.len());
    for run in runs {
        listed.push(json!({"first": run.first, "stride": run.stride, "count": run.count}));
    }
    listed.into()
}

/// Writes the rows to be scored, without labels, and says where they are.
pub(super) fn rows_to_score(
    params: &Params,
    data: &Data,
    folder: &Path,
) -> Result<String, Trouble> {
    let path = "in/score.npy";
    let series = &data.series;
    let shape = [series.rows(), series.width()];
    crate::exchange::write_series(&folder.join(path), &shape, series)?;
    let mut listed = Vec::with_capacity(data.segments.len());
    for (segment, from) in data.segments.iter().zip(&data.from) {
        let segment = strip_labels(segment, &[]);
        listed.push(json!({
            "split": segment.split.name(),
            "entity": segment.entity,
            "rows": [segment.rows.start, segment.rows.end],
            "from": from,
        }));
    }
    let mut about = json!({"path": path, "segments": listed});
    match params.task {
        Task::Detect => {}
        Task::Classify => about["classes"] = series.classes().into(),
        Task::Forecast => {
            if let Some(windows) = &data.windows {
                let splits = data.splits();
                let mut wanted = windows.runs.clone();
                wanted.retain(|run| splits.contains(&run.split));
                about["runs"] = runs(&wanted);
                about["horizon"] = windows.spec.horizon.into();
            }
        }
    }
    Ok(about.to_string())
}
