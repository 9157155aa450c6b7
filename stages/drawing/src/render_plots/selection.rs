//! Which rows and channels are worth a picture.

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
    pub fn gather<T: Copy>(&self, column: impl Fn(usize) -> T) -> Vec<T> {
        self.segments
            .iter()
            .flat_map(|segment| segment.rows.clone())
            .map(column)
            .collect()
    }

    /// Rows of this scene before which a new segment begins, or a new folder of samples.
    pub fn breaks(&self) -> Vec<usize> {
        if self.samples {
            let folder = |row: usize| {
                self.segments[row]
                    .entity
                    .rsplit_once('/')
                    .map(|(folder, _)| folder)
            };
            return (1..self.segments.len())
                .filter(|row| folder(*row) != folder(*row - 1))
                .collect();
        }
        let ends = self.segments.iter().scan(0, |end, segment| {
            *end += segment.rows.len();
            Some(*end)
        });
        ends.take(self.segments.len().saturating_sub(1)).collect()
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
        let of_segment = |segment: &Segment| {
            let labelled = segment.labelled && !labels.is_empty();
            segment
                .rows
                .clone()
                .map(move |row| labelled && labels[row] != 0)
                .collect::<Vec<_>>()
        };
        self.segments.iter().flat_map(of_segment).collect()
    }
}

/// The drawn split, entity by entity, in the order of first appearance; all together if each is a single row.
pub fn scenes(segments: &[Segment], split: Split) -> Result<Vec<Scene>, Trouble> {
    let drawn = || {
        segments
            .iter()
            .filter(|segment| segment.split == split && !segment.rows.is_empty())
    };
    if drawn().count() > 1 && drawn().all(|segment| segment.rows.len() == 1) {
        let mut segments: Vec<Segment> = drawn().cloned().collect();
        segments.sort_by(|left, right| left.entity.cmp(&right.entity));
        return Ok(vec![Scene {
            entity: "samples".to_owned(),
            segments,
            samples: true,
        }]);
    }
    let mut scenes: Vec<Scene> = Vec::new();
    for segment in drawn() {
        match scenes
            .iter_mut()
            .find(|scene| scene.entity == segment.entity)
        {
            Some(scene) => scene.segments.push(segment.clone()),
            None => scenes.push(Scene {
                entity: segment.entity.clone(),
                segments: vec![segment.clone()],
                samples: false,
            }),
        }
    }
    if !scenes.is_empty() {
        return Ok(scenes);
    }
    let present: Vec<String> = Split::ALL
        .into_iter()
        .filter(|split| {
            segments
                .iter()
                .any(|segment| segment.split == *split && !segment.rows.is_empty())
        })
        .map(|split| format!("`{split}`"))
        .collect();
    Err(
        Trouble::new(format!("there are no rows of split `{split}` to draw")).hint(format!(
            "set `split` to one that is available: {}",
            present.join(", ")
        )),
    )
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
        Channels::Names(names) => names.iter().map(|name| column(series, name)).collect(),
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

fn column(series: &Series, name: &str) -> Result<usize, Trouble> {
    series
        .channels
        .iter()
        .position(|channel| channel == name)
        .ok_or_else(|| {
            let known = series
                .channels
                .iter()
                .take(40)
                .cloned()
                .collect::<Vec<_>>()
                .join(", ");
            Trouble::new(format!("the series has no channel `{name}`"))
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
    let rows: Vec<usize> = scene.gather(|row| row);
    let focused: Vec<usize> = if focus.is_empty() {
        rows.clone()
    } else {
        focus
            .iter()
            .flat_map(|range| rows[range.clone()].iter().copied())
            .collect()
    };
    if let Some(scores) = scores
        .filter(|scores| !scores.contributions.is_empty() && scores.channels == series.channels)
    {
        return column_sums(
            focused
                .iter()
                .map(|row| &scores.contributions[row * series.width()..]),
            series.width(),
            |_, value| value,
        );
    }
    let row_values = |row: &usize| &series.values[row * series.width()..];
    let count = rows.len().max(1) as f64;
    let means: Vec<f64> = column_sums(rows.iter().map(row_values), series.width(), |_, value| {
        value
    })
    .iter()
    .map(|sum| sum / count)
    .collect();
    let squares = column_sums(
        rows.iter().map(row_values),
        series.width(),
        |column, value| (value - means[column]).powi(2),
    );
    let away = column_sums(
        focused.iter().map(row_values),
        series.width(),
        |column, value| (value - means[column]).abs(),
    );
    away.iter()
        .zip(&squares)
        .map(|(away, squares)| {
            if *squares > 0.0 {
                away / (squares / count).sqrt()
            } else {
                0.0
            }
        })
        .collect()
}

fn column_sums<'a>(
    rows: impl Iterator<Item = &'a [f32]>,
    width: usize,
    term: impl Fn(usize, f64) -> f64,
) -> Vec<f64> {
    let mut sums = vec![0.0; width];
    for row in rows {
        for (column, (sum, value)) in sums.iter_mut().zip(row).enumerate() {
            *sum += term(column, f64::from(*value));
        }
    }
    sums
}
