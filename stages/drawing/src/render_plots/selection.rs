//! Which rows and channels are worth a plot.

use std::ops::Range;

use super::Channels;
use contract::Trouble;
use contract::artifact::{Scores, Segment, Series, Split};

/// The rows of one entity in the drawn split, or samples of a single row, such as images, side by side.
pub struct Scene {
    pub entity: String,
    /// In the order of the artifact; samples by name, so that those of a folder are neighbours.
    pub segments: Vec<Segment>,
    pub samples: bool,
}

impl Scene {
    pub fn rows(&self) -> usize {
        self.segments.iter().map(|segment| segment.rows.len()).sum()
    }

    /// Some rows of an artifact's column, segment after segment.
    pub fn gather<T>(&self, column: impl Fn(usize) -> T) -> Vec<T> {
        let rows = self
            .segments
            .iter()
            .flat_map(|segment| segment.rows.clone());
        rows.map(column).collect()
    }

    /// Rows of this scene before which a new segment begins, or a new folder of samples.
    pub fn breaks(&self) -> Vec<usize> {
        let mut breaks = Vec::new();
        let mut end = 0;
        for pair in self.segments.windows(2) {
            end += pair[0].rows.len();
            if !self.samples || folder(&pair[0]) != folder(&pair[1]) {
                breaks.push(end);
            }
        }
        breaks
    }

    /// The segments in rows of this scene.
    pub fn stretches(&self) -> Vec<Range<usize>> {
        let mut bounds = vec![0];
        bounds.extend(self.breaks());
        bounds.push(self.rows());
        bounds.windows(2).map(|pair| pair[0]..pair[1]).collect()
    }

    /// Labels of the rows, 0 where there are none.
    pub fn labels(&self, labels: &[u8]) -> Vec<bool> {
        let mut known = Vec::with_capacity(self.rows());
        for segment in &self.segments {
            let labelled = segment.labelled && !labels.is_empty();
            known.extend(segment.rows.clone().map(|row| labelled && labels[row] != 0));
        }
        known
    }
}

/// The folder in the name of a sample.
fn folder(sample: &Segment) -> Option<&str> {
    Some(sample.entity.rsplit_once('/')?.0)
}

/// The drawn split, entity by entity, in the order of first appearance; all together if each is a single row.
pub fn scenes(segments: &[Segment], split: Split) -> Result<Vec<Scene>, Trouble> {
    let mut drawn = segments_of(segments, split);
    if drawn.is_empty() {
        let mut present = Split::ALL.to_vec();
        present.retain(|split| !segments_of(segments, *split).is_empty());
        let present: Vec<String> = present.iter().map(|split| format!("`{split}`")).collect();
        let message = format!("there are no rows of split `{split}` to draw");
        return Err(Trouble::new(message).hint(format!(
            "set `split` to one that is available: {}",
            present.join(", ")
        )));
    }
    if drawn.len() > 1 && drawn.iter().all(|segment| segment.rows.len() == 1) {
        drawn.sort_by(|left, right| left.entity.cmp(&right.entity));
        return Ok(vec![Scene {
            entity: "samples".to_owned(),
            segments: drawn,
            samples: true,
        }]);
    }
    let mut scenes: Vec<Scene> = Vec::new();
    for segment in drawn {
        let entity = &segment.entity;
        match scenes.iter_mut().find(|scene| scene.entity == *entity) {
            Some(scene) => scene.segments.push(segment),
            None => scenes.push(Scene {
                entity: entity.clone(),
                segments: vec![segment],
                samples: false,
            }),
        }
    }
    Ok(scenes)
}

/// The segments of a split that have rows.
fn segments_of(segments: &[Segment], split: Split) -> Vec<Segment> {
    let mut segments = segments.to_vec();
    segments.retain(|segment| segment.split == split && !segment.rows.is_empty());
    segments
}

/// The channels to draw, as columns of the series.
pub fn channels(
    wanted: &Channels,
    series: &Series,
    scores: Option<&Scores>,
    scene: &Scene,
    focus: &[Range<usize>],
) -> Result<Vec<usize>, Trouble> {
    match wanted {
        Channels::Names(names) => {
            let find = |name: &String| column(&series.channels, name, "series");
            names.iter().map(find).collect()
        }
        Channels::Count(count) => {
            let weights = weights(series, scores, scene, focus);
            let mut order: Vec<usize> = (0..series.width()).collect();
            // Stable: equal weights keep the order of the columns.
            order.sort_by(|left, right| weights[*right].total_cmp(&weights[*left]));
            order.truncate(*count);
            Ok(order)
        }
    }
}

/// The number of a channel of the input `port`.
pub fn column(channels: &[String], name: &str, port: &str) -> Result<usize, Trouble> {
    let found = channels.iter().position(|channel| channel == name);
    found.ok_or_else(|| {
        let known = channels[..channels.len().min(40)].join(", ");
        Trouble::new(format!("`{port}` has no channel `{name}`"))
            .hint(format!("its channels are {known}"))
    })
}

/// How much each channel has to do with the rows in focus: its contributions to their scores, or else how far it lies
/// there from its mean, in standard deviations. Without focus, all rows count.
fn weights(
    series: &Series,
    scores: Option<&Scores>,
    scene: &Scene,
    focus: &[Range<usize>],
) -> Vec<f64> {
    let width = series.width();
    let rows = scene.gather(|row| row);
    let mut focused = Vec::new();
    for range in focus {
        focused.extend(&rows[range.clone()]);
    }
    if focus.is_empty() {
        focused.clone_from(&rows);
    }
    if let Some(scores) = scores
        && !scores.contributions.is_empty()
        && scores.channels == series.channels
    {
        return column_sums(&scores.contributions, width, &focused, |_, value| value);
    }
    let count = rows.len().max(1) as f64;
    let mut means = column_sums(&series.values, width, &rows, |_, value| value);
    for mean in &mut means {
        *mean /= count;
    }
    let squares = column_sums(&series.values, width, &rows, |column, value| {
        (value - means[column]).powi(2)
    });
    let mut away = column_sums(&series.values, width, &focused, |column, value| {
        (value - means[column]).abs()
    });
    for (away, squares) in away.iter_mut().zip(squares) {
        // A channel that never moves has nothing to say.
        *away = if squares > 0.0 {
            *away / (squares / count).sqrt()
        } else {
            0.0
        };
    }
    away
}

/// Sums over some rows of `values`, `[rows, width]`.
fn column_sums(
    values: &[f32],
    width: usize,
    rows: &[usize],
    term: impl Fn(usize, f64) -> f64,
) -> Vec<f64> {
    let mut sums = vec![0.0; width];
    for row in rows {
        let row = &values[row * width..(row + 1) * width];
        for (column, value) in row.iter().enumerate() {
            sums[column] += term(column, f64::from(*value));
        }
    }
    sums
}
