//! The stage kind `score`: how unlike anything learned every row of a series, or every image, is, by a trained model.
//! What counts as an anomaly is decided later, by a threshold.

mod images;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::models::{Of, Task};
use crate::training::{Inference, Samples};
use contract::artifact::{
    ArtifactKind, Images, Model, Scores, Segment, Series, Split, WindowRun, Windows,
};
use contract::{Fault, Inputs, Numerics, Outputs, Port, Stage, StageContext, Threads, Trouble};

/// See the module.
#[derive(Debug)]
pub struct Score;

/// How a row that several windows cover gets its score.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Overlap {
    /// By the window that ends at the row, which is all that is known at that time. Rows before the end of a run's
    /// first window get theirs from that window.
    #[default]
    Last,
    /// The mean error over all rows of the window that ends at the row: a smoother score, and what programs that score
    /// whole windows call the score of a window's last row. Rows before the end of a run's first window share its score.
    Window,
    /// The mean over all windows that cover the row, later ones included.
    Mean,
    /// The window in which the row's score is highest.
    Max,
    /// Windows side by side, each row by the one that covers it, for models whose scores compare the rows of a window.
    /// A tail shorter than a window is covered by a last window that ends with the run.
    Tile,
}

contract::parameters! {
    /// Parameters of `score`.
    pub struct Params {
        /// What is scored: the rows of a series or images.
        pub of: Of = Of::Windows,
        /// How a row that several windows cover gets its score.
        pub overlap: Overlap = Overlap::Last,
        /// Windows that are worked on together.
        #[schemars(range(min = 1))]
        pub batch: usize = 128,
        /// Whether each channel's part of the score is kept.
        pub contributions: bool = true,
        /// The splits to score; all if left out. Rows of other splits are left out of the scores.
        #[schemars(length(min = 1))]
        pub splits: Option<Vec<Split>> = None,
        /// Of images: the classes that count as anomalies; without this the scores have no labels.
        #[schemars(length(min = 1))]
        pub anomalous: Option<Vec<String>> = None,
        /// Of images: the classes that count as normal; without this, all that are not anomalous. Images of classes that are
        /// neither are left out, and so are anomalous ones of other splits than `test`, so that thresholds are learned from
        /// normal images.
        #[schemars(length(min = 1))]
        pub normal: Option<Vec<String>> = None,
    }
}

impl Stage for Score {
    type Params = Params;

    const NAME: &'static str = "score";
    // 4: the times of the rows.
    const VERSION: u32 = 4;
    const DOC: &'static str = "Gives every row, or every image, an anomaly score: the mean over channels of the model's error there";
    const NUMERICS: Numerics = Numerics::Device;
    const THREADS: Threads = Threads::All;
    const SEEDED: bool = false;

    fn inputs(params: &Params) -> Vec<Port> {
        let (name, kind, doc) = match params.of {
            Of::Windows => (
                "windows",
                ArtifactKind::Windows,
                "windows of the length that the model was trained on",
            ),
            Of::Images => (
                "images",
                ArtifactKind::Images,
                "images of the size that the model was trained on",
            ),
        };
        vec![
            Port::new("model", ArtifactKind::Model, "a trained model"),
            Port::new(name, kind, doc),
        ]
    }

    fn outputs(_: &Params) -> Vec<Port> {
        let scores = "a score per row, and each channel's part of it";
        vec![Port::new("scores", ArtifactKind::Scores, scores)]
    }

    fn check(params: &Params) -> Result<(), Fault> {
        if params.anomalous.is_some() && params.of != Of::Images {
            let reason = "is for images, not for the rows of a series";
            return Err(Fault::new("anomalous", reason));
        }
        images::check_normal(params)
    }

    fn run(
        params: &Params,
        inputs: &Inputs,
        context: &StageContext<'_>,
    ) -> Result<Outputs, Trouble> {
        let model = inputs.get::<Model>("model")?;
        if params.of == Of::Images {
            let images = inputs.get::<Images>("images")?;
            let scores = images::score(params, &images, &model, context)?;
            return Ok(Outputs::one("scores", scores));
        }
        let windows = inputs.get::<Windows>("windows")?;
        let inference = Inference::new(&model, Task::Detect, &*windows, context)?;
        let segments = wanted_segments(params, &windows.series)?;
        let mut scorer = Scorer {
            params,
            windows: &windows,
            inference,
            rows: Rows::new(&windows.series),
        };
        scorer.run(&segments)?;
        Ok(Outputs::one("scores", scorer.finish(&segments, context)?))
    }
}

fn wanted_segments<'a>(params: &Params, series: &'a Series) -> Result<Vec<&'a Segment>, Trouble> {
    let (mut segments, mut rows) = (Vec::new(), 0);
    for segment in &series.segments {
        if params
            .splits
            .as_ref()
            .is_none_or(|splits| splits.contains(&segment.split))
        {
            segments.push(segment);
            rows += segment.rows.len();
        }
    }
    if rows == 0 {
        let error = Trouble::new("the splits to score have no rows");
        return Err(error.hint("name others in `splits`"));
    }
    Ok(segments)
}

/// The error of every row and channel so far, and by how many windows; the series' rows, row-major.
struct Rows {
    channels: usize,
    errors: Vec<f32>,
    windows: Vec<u32>,
}

impl Rows {
    fn new(series: &Series) -> Self {
        let (rows, channels) = (series.rows(), series.width());
        Self {
            channels,
            errors: vec![0.0; rows * channels],
            windows: vec![0; rows],
        }
    }

    /// Takes the errors of a row in one more window into account.
    fn add(&mut self, row: usize, errors: &[f32], overlap: Overlap) {
        let own = &mut self.errors[row * self.channels..(row + 1) * self.channels];
        let seen = &mut self.windows[row];
        *seen += 1;
        match overlap {
            _ if *seen == 1 => own.copy_from_slice(errors),
            Overlap::Mean => {
                // The running mean, so that no sum grows with the number of windows.
                let share = 1.0 / *seen as f32;
                for (own, error) in own.iter_mut().zip(errors) {
                    *own += (error - *own) * share;
                }
            }
            // The sums rank the windows as their means do, which are the scores.
            Overlap::Max if errors.iter().sum::<f32>() <= own.iter().sum::<f32>() => {}
            Overlap::Max | Overlap::Last | Overlap::Window => own.copy_from_slice(errors),
            // The last window of a run may reach into the one before it, which keeps its rows.
            Overlap::Tile => {}
        }
    }
}

struct Scorer<'a> {
    params: &'a Params,
    windows: &'a Windows,
    inference: Inference<'a>,
    rows: Rows,
}

impl Scorer<'_> {
    /// Slides windows over every run, row by row or side by side, whatever the stride that training used.
    fn run(&mut self, segments: &[&Segment]) -> Result<(), Trouble> {
        let length = self.windows.spec.length;
        let (mut runs, mut total) = (Vec::new(), 0);
        for run in &self.windows.runs {
            if segments.iter().any(|segment| segment.split == run.split) {
                let starts = window_starts(run, length, self.params.overlap);
                total += starts.len();
                runs.push((run, starts));
            }
        }
        let mut done = 0;
        for (run, starts) in runs {
            let own = rows_of_split(segments, run);
            for starts in starts.chunks(self.params.batch) {
                self.inference.context.check_cancelled()?;
                self.batch(starts, run, &own)?;
                done += starts.len();
                let phase = format!("split {}", run.split);
                self.inference.progress("window", done, total, phase);
            }
        }
        Ok(())
    }

    /// One batch of windows of a run. A run may borrow rows of other splits for context; only its `own` get scores.
    fn batch(&mut self, starts: &[usize], run: &WindowRun, own: &[bool]) -> Result<(), Trouble> {
        let batch = self
            .windows
            .gather(starts, Task::Detect, &self.inference.device)?;
        let errors = self.inference.errors(&batch)?;
        let mut errors: Vec<f32> = errors.flatten_all()?.to_vec1()?;
        let (length, channels) = (self.windows.spec.length, self.rows.channels);
        let overlap = self.params.overlap;
        for (start, errors) in starts
            .iter()
            .zip(errors.chunks_exact_mut(length * channels))
        {
            // Later windows know their last row best; the first of a run is all there is for its other rows.
            let ends_only = matches!(overlap, Overlap::Last | Overlap::Window);
            let skipped = if ends_only && *start != run.rows.0 {
                length - 1
            } else {
                0
            };
            if overlap == Overlap::Window {
                let mean = mean_row(errors, channels);
                for row in errors.chunks_exact_mut(channels) {
                    row.copy_from_slice(&mean);
                }
            }
            for (offset, errors) in errors.chunks_exact(channels).enumerate().skip(skipped) {
                let row = start + offset;
                if own[row - run.rows.0] {
                    self.rows.add(row, errors, overlap);
                }
            }
        }
        Ok(())
    }

    /// The scores of the segments that windows cover. What `window` left out is left out here.
    fn finish(self, segments: &[&Segment], context: &StageContext<'_>) -> Result<Scores, Trouble> {
        let series = &self.windows.series;
        let channels = self.rows.channels;
        let mut scores = empty(self.params, series.channels.clone());
        let mut parts = vec![0.0; channels];
        let (mut left_out, mut overflowed) = (Vec::new(), Vec::new());
        for segment in segments {
            let first = scores.scores.len();
            if segment.rows.clone().any(|row| self.rows.windows[row] == 0) {
                left_out.push(*segment);
                continue;
            }
            for row in segment.rows.clone() {
                let errors = &self.rows.errors[row * channels..(row + 1) * channels];
                for (part, error) in parts.iter_mut().zip(errors) {
                    *part = error / channels as f32;
                }
                let mut score: f32 = parts.iter().sum();
                // Where 32 bits overflow on the way, the error is infinite or not a number.
                if !score.is_finite() {
                    overflowed.push(row);
                    score = f32::MAX;
                    limit(&mut parts);
                }
                scores.scores.push(score);
                if self.params.contributions {
                    scores.contributions.extend_from_slice(&parts);
                }
            }
            if !series.labels.is_empty() {
                let labels = &series.labels[segment.rows.clone()];
                scores.labels.extend_from_slice(labels);
            }
            if !series.times.is_empty() {
                let times = &series.times[segment.rows.clone()];
                scores.times.extend_from_slice(times);
            }
            let mut own = Segment::clone(segment);
            own.rows = first..scores.scores.len();
            scores.segments.push(own);
        }
        let length = self.windows.spec.length;
        if scores.segments.is_empty() {
            let message = "no row that is to be scored lies in a window";
            let hint =
                format!("windows are {length} rows long: make windows of the splits to score");
            return Err(Trouble::new(message).hint(hint));
        }
        if let Some(example) = left_out.first() {
            let rows: usize = left_out.iter().map(|segment| segment.rows.len()).sum();
            context.host.finding(&format!(
                "{rows} rows have no score, since no window of {length} rows covers them, such as {} of {} in {}",
                example.rows.len(),
                example.entity,
                example.split
            ));
        }
        if overflowed.len() == scores.rows() {
            let message = "no score is a finite number";
            return Err(Trouble::new(message)
                .hint("the model has probably diverged: look at its training log, or lower its learning rate"));
        }
        if let Some(row) = overflowed.first() {
            context.host.finding(&format!(
                "in {} rows the model's error is too large for 32 bits, and counts as the largest number that is not, such as in row {row}",
                overflowed.len()
            ));
        }
        Ok(scores)
    }
}

/// Parts of a score that is too large, so that none of them is infinite.
fn limit(parts: &mut [f32]) {
    let share = f32::MAX / parts.len() as f32;
    for part in parts {
        // What is not a number is none of the two, and becomes the share.
        *part = share.min(*part);
    }
}

/// Scores to be filled in, with these channels if the parts of a score are kept.
fn empty(params: &Params, channels: Vec<String>) -> Scores {
    Scores {
        scores: Vec::new(),
        labels: Vec::new(),
        times: Vec::new(),
        segments: Vec::new(),
        channels: if params.contributions {
            channels
        } else {
            Vec::new()
        },
        contributions: Vec::new(),
    }
}

/// The first rows of the windows of a run that are scored.
fn window_starts(run: &WindowRun, length: usize, overlap: Overlap) -> Vec<usize> {
    let (first, end) = run.rows;
    let count = (end - first + 1).saturating_sub(length);
    match overlap {
        Overlap::Tile if count > 0 => {
            let last = first + count - 1;
            (first..last).step_by(length).chain([last]).collect()
        }
        _ => (first..first + count).collect(),
    }
}

/// The mean over the rows of `[rows, channels]`.
fn mean_row(rows: &[f32], channels: usize) -> Vec<f32> {
    let count = (rows.len() / channels) as f64;
    let mut sums = vec![0.0_f64; channels];
    for row in rows.chunks_exact(channels) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += f64::from(*value);
        }
    }
    sums.into_iter().map(|sum| (sum / count) as f32).collect()
}

/// For every row of a run, whether it belongs to the run's split and is to be scored.
fn rows_of_split(segments: &[&Segment], run: &WindowRun) -> Vec<bool> {
    let mut own = vec![false; run.rows.1 - run.rows.0];
    for segment in segments.iter().filter(|segment| segment.split == run.split) {
        let first = segment.rows.start.max(run.rows.0);
        let end = segment.rows.end.min(run.rows.1);
        if first < end {
            own[first - run.rows.0..end - run.rows.0].fill(true);
        }
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models;
    use crate::training::tests::{recipe, waves};
    use crate::training::train;
    use candle_core::Device;
    use contract::NullHost;
    use serde_json::json;
    use std::sync::Arc;

    const LENGTH: usize = 10;

    fn scores(params: &Params, model: &Model, windows: &Windows) -> Result<Arc<Scores>, Trouble> {
        let mut inputs = Inputs::default();
        inputs.add("model", "model", model.clone().into());
        inputs.add("windows", "windows", windows.clone().into());
        let outputs = Score::run(params, &inputs, &NullHost::default().context(1))?.into_map();
        let contract::artifact::Artifact::Scores(scores) = &outputs["scores"] else {
            panic!("not scores")
        };
        Ok(Arc::clone(scores))
    }

    fn model(windows: &Windows) -> Model {
        train(
            &recipe(json!({"epochs": 2})),
            windows,
            &NullHost::default().context(3),
        )
        .unwrap()
        .model
    }

    /// Every window's errors when scored alone, `[length][channel]`, by first row.
    fn errors(
        model: &Model,
        windows: &Windows,
        rows: std::ops::Range<usize>,
    ) -> Vec<(usize, Vec<f32>)> {
        let network = models::load(model, &Device::Cpu, |_| Ok(()))
            .unwrap()
            .network;
        let window = |start: usize| {
            let batch = windows
                .gather(&[start], Task::Detect, &Device::Cpu)
                .unwrap();
            (
                start,
                network
                    .errors(&batch)
                    .unwrap()
                    .flatten_all()
                    .unwrap()
                    .to_vec1()
                    .unwrap(),
            )
        };
        (rows.start..=rows.end - LENGTH).map(window).collect()
    }

    #[test]
    fn every_overlap_follows_its_definition() {
        let windows = waves(LENGTH, 3, [50, 25, 21]);
        let model = model(&windows);
        for overlap in [
            Overlap::Last,
            Overlap::Window,
            Overlap::Mean,
            Overlap::Max,
            Overlap::Tile,
        ] {
            let found = scores(
                &Params {
                    overlap,
                    batch: 4,
                    ..Params::default()
                },
                &model,
                &windows,
            )
            .unwrap();
            assert_eq!(found.segments, windows.series.segments);
            assert_eq!(found.labels, windows.series.labels);
            assert_eq!(found.contributions.len(), 96 * 3);
            for segment in &windows.series.segments {
                let errors = errors(&model, &windows, segment.rows.clone());
                for row in segment.rows.clone() {
                    let covering = errors
                        .iter()
                        .filter(|(start, _)| (*start..start + LENGTH).contains(&row));
                    let at = |(start, errors): &(usize, Vec<f32>)| {
                        let first = (row - start) * 3;
                        errors[first..first + 3]
                            .iter()
                            .map(|error| f64::from(*error))
                            .sum::<f64>()
                            / 3.0
                    };
                    let values: Vec<f64> = covering.map(at).collect();
                    let tile = (row - segment.rows.start) / LENGTH * LENGTH;
                    let tile = tile.min(segment.rows.len() - LENGTH);
                    let expected = match overlap {
                        // The window that ends here is the first of those that cover the row.
                        Overlap::Last => values[0],
                        Overlap::Window => {
                            let ends = row.max(segment.rows.start + LENGTH - 1);
                            let (_, errors) = &errors[ends + 1 - LENGTH - segment.rows.start];
                            errors.iter().map(|error| f64::from(*error)).sum::<f64>()
                                / errors.len() as f64
                        }
                        Overlap::Mean => values.iter().sum::<f64>() / values.len() as f64,
                        Overlap::Max => values.iter().copied().fold(0.0, f64::max),
                        Overlap::Tile => at(&errors[tile]),
                    };
                    let score = f64::from(found.scores[row]);
                    assert!(
                        (score - expected).abs() < 1e-5 * expected.max(1e-3),
                        "{overlap:?} {row}: {score} {expected}"
                    );
                    let parts: f32 = found.contributions[row * 3..row * 3 + 3].iter().sum();
                    assert_eq!(parts, found.scores[row]);
                }
            }
        }
    }

    #[test]
    fn batches_and_threads_do_not_matter() {
        let windows = waves(LENGTH, 1, [50, 25, 40]);
        let model = model(&windows);
        let digest = |batch, threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| {
                scores(
                    &Params {
                        batch,
                        ..Params::default()
                    },
                    &model,
                    &windows,
                )
                .unwrap()
                .digest()
            })
        };
        let expected = digest(128, 1);
        assert!(
            [(128, 2), (128, 5), (1, 2), (7, 3)]
                .into_iter()
                .all(|(batch, threads)| digest(batch, threads) == expected)
        );
    }

    #[test]
    fn tiles_cover_a_run_once_but_for_its_tail() {
        let starts = |rows| {
            let run = WindowRun {
                split: Split::Test,
                first: rows,
                stride: 1,
                count: 0,
                rows: (rows, rows + 31),
            };
            [LENGTH, 31, 32].map(|length| window_starts(&run, length, Overlap::Tile))
        };
        assert_eq!(starts(0), [vec![0, 10, 20, 21], vec![0], vec![]]);
        assert_eq!(starts(7), [vec![7, 17, 27, 28], vec![7], vec![]]);
        let even = WindowRun {
            split: Split::Test,
            first: 0,
            stride: 1,
            count: 0,
            rows: (0, 30),
        };
        assert_eq!(window_starts(&even, LENGTH, Overlap::Tile), [0, 10, 20]);
    }

    #[test]
    fn segments_without_a_window_have_no_scores() {
        let windows = waves(LENGTH, 1, [50, 25, 40]);
        let model = model(&windows);
        let all = scores(&Params::default(), &model, &windows).unwrap();
        let short = waves(LENGTH, 1, [50, 4, 40]);
        let found = scores(&Params::default(), &model, &short).unwrap();
        let splits: Vec<Split> = found.segments.iter().map(|segment| segment.split).collect();
        assert_eq!(splits, [Split::Train, Split::Test]);
        assert_eq!(found.rows(), 90);
        assert_eq!(found.segments[1].rows, 50..90);
        assert_eq!(
            found.labels,
            [&all.labels[..50], &short.series.labels[54..]].concat()
        );
        assert_eq!(found.scores[..50], all.scores[..50]);
    }

    #[test]
    fn a_score_that_overflows_is_the_largest_number() {
        let mut parts = [f32::INFINITY, 3.0, f32::NAN];
        limit(&mut parts);
        assert_eq!(parts, [f32::MAX / 3.0, 3.0, f32::MAX / 3.0]);
        let mut windows = waves(LENGTH, 1, [50, 25, 40]);
        let model = model(&windows);
        let mut series = Series::clone(&windows.series);
        series.values[3 * 80] = 3e38;
        windows.series = Arc::new(series);
        let found = scores(&Params::default(), &model, &windows).unwrap();
        assert_eq!(found.scores[80], f32::MAX);
        assert!(found.scores[..75].iter().all(|score| *score < 1e6));
        assert!(found.contributions.iter().all(|part| part.is_finite()));
    }

    #[test]
    fn only_wanted_splits_are_scored() {
        let windows = waves(LENGTH, 1, [50, 25, 40]);
        let model = model(&windows);
        let all = scores(&Params::default(), &model, &windows).unwrap();
        let params = Params {
            splits: Some(vec![Split::Test]),
            contributions: false,
            ..Params::default()
        };
        let test = scores(&params, &model, &windows).unwrap();
        assert_eq!(test.scores, all.scores[75..]);
        assert_eq!(test.labels, all.labels[75..]);
        assert_eq!(test.segments.len(), 1);
        assert_eq!(test.segments[0].rows, 0..40);
        assert!(test.times.is_empty());
        let mut timed = windows.clone();
        let mut series = Series::clone(&windows.series);
        series.times = (0..115).map(|row| row * 500).collect();
        timed.series = Arc::new(series);
        let timed = scores(&params, &model, &timed).unwrap();
        assert_eq!(timed.times[..2], [37_500, 38_000]);
        assert_eq!(timed.times.len(), 40);
        assert_ne!(timed.digest(), test.digest());
        assert!(test.channels.is_empty() && test.contributions.is_empty());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let windows = waves(LENGTH, 1, [50, 25, 40]);
        let model = model(&windows);
        let other = scores(
            &Params::default(),
            &model,
            &waves(LENGTH + 2, 1, [50, 25, 40]),
        )
        .unwrap_err();
        assert!(
            other.message().contains("windows of 10 rows") && other.message().contains("12 rows"),
            "{other}"
        );
        let short = waves(LENGTH, 1, [4, 4, 4]);
        let short = scores(&Params::default(), &model, &short).unwrap_err();
        assert!(
            short.message().contains("lies in a window") && short.hint_text().is_some(),
            "{short}"
        );
        let none = Params {
            splits: Some(vec![Split::Calibration]),
            ..Params::default()
        };
        assert!(
            scores(&none, &model, &windows)
                .unwrap_err()
                .message()
                .contains("no rows")
        );
    }
}
