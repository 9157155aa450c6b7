//! `normalize`: shifts and scales each channel, `(value - offset) / scale`, by statistics of named splits.
//! Statistics are an output, so that another series can be scaled alike; nothing is learned from labels.
//!
//! All sums are in 64 bits over blocks of fixed size, added in order: the same bits whatever the number of threads.

use std::collections::BTreeMap;
use std::ops::Range;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use contract::artifact::{ArtifactKind, Series, Split, Table, needs_64_bits};
use contract::{
    Fault, Inputs, Learning, Numerics, Outputs, Port, Purpose, Stage, StageContext, Threads,
    Trouble,
};

/// The stage kind `normalize`.
pub struct Normalize;

/// The statistics and the splits they are taken from.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Which statistics shift and scale a channel.
    #[serde(default)]
    pub method: Method,
    /// The split, or the list of splits, whose rows give the statistics; `all` for every row. Not used when statistics
    /// come in on the port of that name.
    #[serde(default)]
    pub fit: Fit,
    /// The least scale of a channel, as a share of the range of its fitted rows: what hardly moves while it is fitted is not
    /// blown up later. A channel that does not move at all is only shifted.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub floor: f64,
    /// Bounds for the scaled values: a number for both sides of zero, or `[low, high]`.
    #[serde(default)]
    pub clip: Option<Clip>,
    /// The splits whose rows are scaled; all if left out. Rows of other splits stay as they are.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub splits: Option<Vec<Split>>,
}

fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

/// Which statistics shift and scale a channel. A channel whose scale would be 0 is only shifted: its scale is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Mean and standard deviation (of the population, divided by n).
    #[default]
    Zscore,
    /// Minimum and range: the fitted rows lie in [0, 1].
    Minmax,
    /// Median and interquartile range (linear interpolation between order statistics).
    Robust,
    /// Values stay as they are.
    None,
}

/// The rows that give the statistics.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Fit {
    One(Split),
    Many(Vec<Split>),
    Every(Every),
}

/// The word `all`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Every {
    All,
}

impl Default for Fit {
    fn default() -> Self {
        Self::One(Split::Train)
    }
}

impl Fit {
    fn splits(&self) -> Vec<Split> {
        match self {
            Self::One(split) => vec![*split],
            Self::Many(splits) => splits.clone(),
            Self::Every(Every::All) => Split::ALL.to_vec(),
        }
    }
}

/// Bounds for the scaled values.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Clip {
    Symmetric(f64),
    Between([f64; 2]),
}

impl Clip {
    fn bounds(self) -> (f64, f64) {
        match self {
            Self::Symmetric(bound) => (-bound, bound),
            Self::Between([low, high]) => (low, high),
        }
    }
}

impl Stage for Normalize {
    type Params = Params;

    const NAME: &'static str = "normalize";
    // 2: times are timestamps.
    const VERSION: u32 = 2;
    const DOC: &'static str = "Shifts and scales each channel by statistics of the training rows.";
    const NUMERICS: Numerics = Numerics::Exact;
    const THREADS: Threads = Threads::All;
    const SEEDED: bool = false;

    fn inputs(_: &Params) -> Vec<Port> {
        let statistics = "statistics to apply instead of fitting";
        vec![
            Port::new("series", ArtifactKind::Series, "the series to scale"),
            Port::new("statistics", ArtifactKind::Table, statistics).optional(),
        ]
    }

    fn outputs(_: &Params) -> Vec<Port> {
        vec![
            Port::new("series", ArtifactKind::Series, "the scaled series"),
            Port::new("statistics", ArtifactKind::Table, "channel, offset, scale"),
        ]
    }

    fn check(params: &Params) -> Result<(), Fault> {
        if params.fit.splits().is_empty() {
            let reason = "an empty list: name the splits that give the statistics";
            return Err(Fault::new("fit", reason));
        }
        match params.clip.map(Clip::bounds) {
            Some((low, high)) if low >= high => Err(Fault::new(
                "clip",
                format!("the lower bound {low} is not below the upper bound {high}"),
            )),
            _ => Ok(()),
        }
    }

    fn learns(params: &Params) -> Vec<Learning> {
        if params.method == Method::None {
            return Vec::new();
        }
        vec![Learning {
            what: "normalisation statistics",
            purpose: Purpose::Fit,
            from: params.fit.splits(),
            labels: false,
            oracle: false,
            parameter: "fit",
        }]
    }

    fn run(
        params: &Params,
        inputs: &Inputs,
        context: &StageContext<'_>,
    ) -> Result<Outputs, Trouble> {
        let series = inputs.get::<Series>("series")?;
        let statistics = match inputs.optional::<Table>("statistics")? {
            Some(table) => Statistics::from_table(&table, &series.channels)?,
            None => Statistics::fit(params, &series)?,
        };
        let splits = params.splits.as_deref().unwrap_or(&Split::ALL);
        let clip = params.clip.map(Clip::bounds);
        let mut values = statistics.apply(&series, clip)?;
        restore(&series, splits, &mut values);
        let wide = statistics.apply_wide(&series, clip, splits, &mut values)?;
        let table = statistics.to_table(&series.channels)?;
        // Without the raw values: a copy of all of them would be thrown away.
        let scaled = Series {
            values,
            wide,
            channels: series.channels.clone(),
            labels: series.labels.clone(),
            times: series.times.clone(),
            segments: series.segments.clone(),
        };
        if let Some(finding) = statistics.unscaled(&scaled, splits) {
            context.host.finding(&finding);
        }
        Ok(Outputs::one("series", scaled).with("statistics", table))
    }
}

/// Channels that a remark lists.
const LISTED: usize = 5;

/// Rows per block of a sum. Fixed: it decides the order of additions.
const BLOCK: usize = 2048;

/// An offset and a scale per channel.
struct Statistics {
    offsets: Vec<f64>,
    scales: Vec<f64>,
    /// Channels without any spread in the rows that were fitted.
    flat: Vec<usize>,
}

impl Statistics {
    fn fit(params: &Params, series: &Series) -> Result<Self, Trouble> {
        let (method, splits) = (params.method, params.fit.splits());
        let width = series.width();
        if method == Method::None {
            return Ok(Self {
                offsets: vec![0.0; width],
                scales: vec![1.0; width],
                flat: Vec::new(),
            });
        }
        let blocks = blocks(series, &splits);
        if blocks.is_empty() {
            let names: Vec<&str> = splits.iter().map(|split| split.name()).collect();
            let message = format!(
                "the series has no rows in {}, so there is nothing to fit",
                names.join(", ")
            );
            return Err(Trouble::new(message)
                .hint("see `fit` here and `split` of the stage that reads the series"));
        }
        let mut statistics = match method {
            Method::Robust => Self::quartiles(series, &blocks),
            Method::Zscore => Self::moments(series, &blocks),
            Method::Minmax | Method::None => Self::range(series, &blocks),
        };
        for (channel, values) in &series.wide {
            let (offset, scale) = wide_statistics(method, values, &blocks);
            (statistics.offsets[*channel], statistics.scales[*channel]) = (offset, scale);
        }
        if params.floor > 0.0 {
            statistics.raise_scales(params.floor, series, &blocks);
        }
        for (channel, scale) in statistics.scales.iter_mut().enumerate() {
            if *scale == 0.0 {
                *scale = 1.0;
                statistics.flat.push(channel);
            }
        }
        Ok(statistics)
    }

    /// Makes no scale smaller than this share of the channel's range.
    fn raise_scales(&mut self, floor: f64, series: &Series, blocks: &[Range<usize>]) {
        let mut ranges = Self::range(series, blocks).scales;
        for (channel, values) in &series.wide {
            (_, ranges[*channel]) = wide_statistics(Method::Minmax, values, blocks);
        }
        for (scale, range) in self.scales.iter_mut().zip(ranges) {
            *scale = scale.max(floor * range);
        }
    }

    /// Minimum and range. The difference of two 32-bit floats is exact enough in 64.
    fn range(series: &Series, blocks: &[Range<usize>]) -> Self {
        let (mut low, mut high) = (
            vec![f32::INFINITY; series.width()],
            vec![f32::NEG_INFINITY; series.width()],
        );
        for row in blocks.iter().cloned().flatten() {
            for (channel, value) in series.row(row).iter().enumerate() {
                low[channel] = low[channel].min(*value);
                high[channel] = high[channel].max(*value);
            }
        }
        let offsets = wide(&low);
        let ranges = wide(&high).into_iter().zip(&offsets);
        Self {
            scales: ranges.map(|(high, low)| high - low).collect(),
            offsets,
            flat: Vec::new(),
        }
    }

    /// Mean and standard deviation, in two passes.
    fn moments(series: &Series, blocks: &[Range<usize>]) -> Self {
        let count = blocks.iter().map(ExactSizeIterator::len).sum::<usize>() as f64;
        // Sums of differences from a first guess stay small, and are exactly 0 for a constant channel.
        let mut offsets = wide(series.row(blocks[0].start));
        let sums = sum(series, blocks, &offsets, |difference| difference);
        for (offset, sum) in offsets.iter_mut().zip(sums) {
            *offset += sum / count;
        }
        let mut scales = sum(series, blocks, &offsets, |difference| {
            difference * difference
        });
        for scale in &mut scales {
            *scale = (*scale / count).sqrt();
        }
        Self {
            offsets,
            scales,
            flat: Vec::new(),
        }
    }

    /// Median and interquartile range.
    fn quartiles(series: &Series, blocks: &[Range<usize>]) -> Self {
        let width = series.width();
        let channels = (0..width).into_par_iter().map(|channel| {
            let mut sorted = Vec::new();
            for row in blocks.iter().cloned().flatten() {
                sorted.push(series.values[row * width + channel]);
            }
            sorted.sort_unstable_by(f32::total_cmp);
            let [low, middle, high] = QUARTERS.map(|fraction| quantile(&sorted, fraction));
            (middle, high - low)
        });
        let (offsets, scales) = channels.unzip();
        Self {
            offsets,
            scales,
            flat: Vec::new(),
        }
    }

    /// The scaled values.
    fn apply(&self, series: &Series, clip: Option<(f64, f64)>) -> Result<Vec<f32>, Trouble> {
        let width = series.width().max(1);
        let (low, high) = clip.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
        let inverses: Vec<f64> = self.scales.iter().map(|scale| 1.0 / scale).collect();
        let mut values = vec![0.0; series.values.len()];
        let blocks = values
            .par_chunks_mut(BLOCK * width)
            .zip(series.values.par_chunks(BLOCK * width));
        let finite = blocks.map(|(scaled, raw)| {
            let mut finite = true;
            for (scaled, raw) in scaled.chunks_exact_mut(width).zip(raw.chunks_exact(width)) {
                let statistics = self.offsets.iter().zip(&inverses);
                for ((scaled, raw), (offset, inverse)) in scaled.iter_mut().zip(raw).zip(statistics)
                {
                    *scaled = ((f64::from(*raw) - offset) * inverse).max(low).min(high) as f32;
                    finite &= scaled.is_finite();
                }
            }
            finite
        });
        if finite.reduce(|| true, |left, right| left && right) {
            return Ok(values);
        }
        let first = values.iter().position(|value| !value.is_finite());
        let channel = first.unwrap_or(0) % width;
        Err(too_large(&series.channels[channel], self.scales[channel]))
    }

    /// The scaled values of channels that are known in 64 bits, from those, into the columns of `scaled`. What 32 bits do not
    /// hold afterwards either comes back.
    fn apply_wide(
        &self,
        series: &Series,
        clip: Option<(f64, f64)>,
        splits: &[Split],
        scaled: &mut [f32],
    ) -> Result<BTreeMap<usize, Vec<f64>>, Trouble> {
        let (low, high) = clip.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
        let mut wide = BTreeMap::new();
        for (&channel, raw) in &series.wide {
            let (offset, scale) = (self.offsets[channel], self.scales[channel]);
            let mut values = raw.clone();
            for segment in &series.segments {
                if splits.contains(&segment.split) {
                    for value in &mut values[segment.rows.clone()] {
                        *value = ((*value - offset) / scale).max(low).min(high);
                    }
                }
            }
            let column = scaled.iter_mut().skip(channel).step_by(series.width());
            for (scaled, value) in column.zip(&values) {
                *scaled = *value as f32;
                if !scaled.is_finite() {
                    return Err(too_large(&series.channels[channel], scale));
                }
            }
            if needs_64_bits(&values, &series.segments) {
                wide.insert(channel, values);
            }
        }
        Ok(wide)
    }

    /// What to say of channels that could only be shifted and are not at rest everywhere: a model learns nothing of how far
    /// they go.
    fn unscaled(&self, scaled: &Series, splits: &[Split]) -> Option<String> {
        let mut far = Vec::new();
        for channel in &self.flat {
            let mut farthest = 0.0_f64;
            for segment in &scaled.segments {
                if splits.contains(&segment.split) {
                    for row in segment.rows.clone() {
                        farthest = farthest.max(scaled.value(row, *channel).abs());
                    }
                }
            }
            if farthest > 0.0 {
                far.push(format!("`{}` by {farthest}", scaled.channels[*channel]));
            }
        }
        let more = far.len().saturating_sub(LISTED);
        far.truncate(LISTED);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        (!far.is_empty()).then(|| {
            format!(
                "channels without spread in the rows that are fitted are shifted and not scaled, and elsewhere they go up to: {}{more}",
                far.join(", ")
            )
        })
    }

    fn to_table(&self, channels: &[String]) -> Result<Table, Trouble> {
        Ok(Table::new(vec![
            ("channel", channels.to_vec().into()),
            ("offset", self.offsets.clone().into()),
            ("scale", self.scales.clone().into()),
        ])?)
    }

    fn from_table(table: &Table, channels: &[String]) -> Result<Self, Trouble> {
        let Some(names) = table.texts("channel") else {
            return Err(bad("the statistics have no column `channel`"));
        };
        let names: Vec<String> = names.into_iter().map(Option::unwrap_or_default).collect();
        if names != channels {
            let (found, expected) = (names.join(", "), channels.join(", "));
            return Err(bad(format!(
                "the statistics are of the channels {found}, but the series has {expected}"
            )));
        }
        let statistics = Self {
            offsets: finite_numbers(table, "offset")?,
            scales: finite_numbers(table, "scale")?,
            flat: Vec::new(),
        };
        for (scale, channel) in statistics.scales.iter().zip(channels) {
            if *scale <= 0.0 {
                return Err(bad(format!(
                    "the scale of `{channel}` is {scale}, but must be above 0"
                )));
            }
        }
        Ok(statistics)
    }
}

/// The shares of rows below the quartiles.
const QUARTERS: [f64; 3] = [0.25, 0.5, 0.75];

/// Offset and scale of a channel that is known in 64 bits, each by the same formula as for all others.
fn wide_statistics(method: Method, values: &[f64], blocks: &[Range<usize>]) -> (f64, f64) {
    let mut fitted = Vec::new();
    for rows in blocks {
        fitted.extend_from_slice(&values[rows.clone()]);
    }
    match method {
        Method::None => (0.0, 1.0),
        Method::Zscore => {
            let (first, count) = (fitted[0], fitted.len() as f64);
            let mean = first + fitted.iter().map(|value| value - first).sum::<f64>() / count;
            let squares: f64 = fitted.iter().map(|value| (value - mean).powi(2)).sum();
            (mean, (squares / count).sqrt())
        }
        Method::Minmax => {
            let low = fitted.iter().copied().fold(f64::INFINITY, f64::min);
            let high = fitted.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            (low, high - low)
        }
        Method::Robust => {
            fitted.sort_unstable_by(f64::total_cmp);
            let [low, middle, high] = QUARTERS.map(|fraction| quantile(&fitted, fraction));
            (middle, high - low)
        }
    }
}

fn too_large(channel: &str, scale: f64) -> Trouble {
    let message =
        format!("channel `{channel}` does not fit into 32 bits after division by {scale:e}");
    Trouble::new(message).hint("set `clip`, or leave the channel out when the data are read")
}

/// What is wrong with statistics that come in.
fn bad(message: impl Into<String>) -> Trouble {
    Trouble::new(message)
        .hint("connect the `statistics` that another normalize stage made for the same channels")
}

fn finite_numbers(table: &Table, name: &str) -> Result<Vec<f64>, Trouble> {
    if let Some(column) = table.reals(name)
        && column.iter().all(|value| value.is_some_and(f64::is_finite))
    {
        return Ok(column.into_iter().flatten().collect());
    }
    let message = format!("the statistics have no column `{name}` of finite numbers");
    Err(bad(message))
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

/// Gives the rows outside these splits their raw values back.
fn restore(series: &Series, splits: &[Split], values: &mut [f32]) {
    let width = series.width();
    for segment in &series.segments {
        if !splits.contains(&segment.split) {
            let range = segment.rows.start * width..segment.rows.end * width;
            values[range.clone()].copy_from_slice(&series.values[range]);
        }
    }
}

/// The rows of these splits in blocks of fixed size.
fn blocks(series: &Series, splits: &[Split]) -> Vec<Range<usize>> {
    let mut blocks = Vec::new();
    for segment in &series.segments {
        if splits.contains(&segment.split) {
            for start in segment.rows.clone().step_by(BLOCK) {
                blocks.push(start..segment.rows.end.min(start + BLOCK));
            }
        }
    }
    blocks
}

/// Sums `term(value - offset)` per channel: within each block row by row, then block by block.
fn sum(
    series: &Series,
    blocks: &[Range<usize>],
    offsets: &[f64],
    term: impl Fn(f64) -> f64 + Sync,
) -> Vec<f64> {
    let width = series.width().max(1);
    let of_blocks = blocks.par_iter().map(|rows| {
        let mut sums = vec![0.0; offsets.len()];
        for row in series.values[rows.start * width..rows.end * width].chunks_exact(width) {
            for ((sum, value), offset) in sums.iter_mut().zip(row).zip(offsets) {
                *sum += term(f64::from(*value) - offset);
            }
        }
        sums
    });
    let partial: Vec<Vec<f64>> = of_blocks.collect();
    let mut total = vec![0.0; offsets.len()];
    for sums in partial {
        for (total, sum) in total.iter_mut().zip(sums) {
            *total += sum;
        }
    }
    total
}

/// The quantile between the two nearest order statistics, weighted by distance.
fn quantile<T: Copy + Into<f64>>(sorted: &[T], fraction: f64) -> f64 {
    let place = fraction * (sorted.len() - 1) as f64;
    let low: f64 = sorted[place as usize].into();
    let high: f64 = sorted[place.ceil() as usize].into();
    low + (high - low) * place.fract()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use contract::NullHost;
    use contract::artifact::Segment;
    use contract::testing::fault_of;

    fn series(width: usize, values: Vec<f32>, train: usize) -> Series {
        let rows = values.len() / width;
        let segment = |split, rows| Segment::new(split, "a", rows);
        Series {
            channels: (0..width).map(|channel| format!("c{channel}")).collect(),
            values,
            labels: vec![],
            times: vec![],
            segments: vec![
                segment(Split::Train, 0..train),
                segment(Split::Test, train..rows),
            ],
            ..Series::default()
        }
    }

    fn run(
        series: &Series,
        parameters: Value,
        statistics: Option<Table>,
    ) -> Result<(Series, Table), Trouble> {
        let mut inputs = Inputs::default();
        inputs.add("series", "", series.clone().into());
        if let Some(statistics) = statistics {
            inputs.add("statistics", "", statistics.into());
        }
        if let Some(fault) = fault_of::<Normalize>(parameters.clone()) {
            return Err(fault.into());
        }
        let params: Params = serde_json::from_value(parameters).unwrap();
        let outputs = Normalize::run(&params, &inputs, &NullHost::default().context(0))?.into_map();
        let mut again = Inputs::default();
        outputs
            .into_iter()
            .for_each(|(name, artifact)| again.add(&name, "", artifact));
        Ok((
            (*again.get::<Series>("series")?).clone(),
            (*again.get::<Table>("statistics")?).clone(),
        ))
    }

    #[test]
    fn fits_on_the_training_rows_only() {
        let raw = series(1, vec![1.0, 2.0, 3.0, 4.0, 100.0], 4);
        let (scaled, statistics) = run(&raw, json!({}), None).unwrap();
        let deviation = 1.25_f64.sqrt();
        assert_eq!(statistics.reals("offset").unwrap(), [Some(2.5)]);
        assert_eq!(statistics.reals("scale").unwrap(), [Some(deviation)]);
        assert!((f64::from(scaled.values[4]) - 97.5 / deviation).abs() < 1e-5);
        let (scaled, _) = run(&raw, json!({"method": "minmax"}), None).unwrap();
        assert_eq!(scaled.values, [0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0, 33.0]);
        // numpy.percentile([1, 2, 3, 4], [25, 50, 75]) is 1.75, 2.5, 3.25.
        let (scaled, _) = run(&raw, json!({"method": "robust"}), None).unwrap();
        assert_eq!(scaled.values, [-1.0, -1.0 / 3.0, 1.0 / 3.0, 1.0, 65.0]);
        assert_eq!(run(&raw, json!({"method": "none"}), None).unwrap().0, raw);
    }

    #[test]
    fn splits_that_are_not_named_stay_as_they_are() {
        let raw = series(1, vec![1.0, 2.0, 3.0, 5.0, 10.0, 20.0], 4);
        let (once, _) = run(&raw, json!({"method": "minmax", "splits": ["train"]}), None).unwrap();
        assert_eq!(once.values, [0.0, 0.25, 0.5, 1.0, 10.0, 20.0]);
        let (twice, _) = run(
            &once,
            json!({"method": "minmax", "fit": "test", "splits": ["test"]}),
            None,
        )
        .unwrap();
        assert_eq!(twice.values, [0.0, 0.25, 0.5, 1.0, 0.0, 1.0]);
        assert!(run(&raw, json!({"splits": []}), None).is_err());
    }

    #[test]
    fn a_channel_that_stands_still_while_it_is_fitted_is_remarked_on() {
        let raw = series(
            2,
            vec![1.0, 5.0, 2.0, 5.0, 3.0, 5.0, 4.0, 12.5, 5.0, 1.0],
            3,
        );
        let finding = |raw: &Series, params: Value| {
            let params: Params = serde_json::from_value(params).unwrap();
            let statistics = Statistics::fit(&params, raw).unwrap();
            let clip = params.clip.map(Clip::bounds);
            let values = statistics.apply(raw, clip).unwrap();
            let scaled = Series {
                values,
                ..raw.clone()
            };
            let splits = params.splits.clone().unwrap_or(Split::ALL.to_vec());
            statistics.unscaled(&scaled, &splits)
        };
        let text = finding(&raw, json!({})).unwrap();
        assert!(text.ends_with("they go up to: `c1` by 7.5"), "{text}");
        let clipped = finding(&raw, json!({"clip": 3.0})).unwrap();
        assert!(clipped.ends_with("`c1` by 3"), "{clipped}");
        assert_eq!(finding(&raw, json!({"splits": ["train"]})), None);
        assert_eq!(finding(&raw, json!({"fit": "all"})), None);
        assert_eq!(finding(&raw, json!({"method": "none"})), None);
    }

    #[test]
    fn a_constant_channel_is_only_shifted() {
        // 0.1 is not exact, so that a naive mean of many would be off by a rounding error.
        let mut values = vec![0.1; 5000];
        values.push(0.6);
        for method in ["zscore", "minmax", "robust"] {
            let (scaled, statistics) = run(
                &series(1, values.clone(), 5000),
                json!({"method": method}),
                None,
            )
            .unwrap();
            assert_eq!(statistics.reals("scale").unwrap(), [Some(1.0)], "{method}");
            assert!(
                scaled.values[..5000].iter().all(|value| *value == 0.0),
                "{method}"
            );
            assert!((scaled.values[5000] - 0.5).abs() < 1e-6, "{method}");
        }
    }

    #[test]
    fn statistics_apply_to_another_series() {
        let (_, statistics) = run(
            &series(2, vec![0.0, 1.0, 2.0, 5.0, 9.0, 9.0], 2),
            json!({}),
            None,
        )
        .unwrap();
        let other = series(2, vec![3.0, 3.0], 0);
        let (scaled, again) = run(&other, json!({}), Some(statistics.clone())).unwrap();
        assert_eq!(scaled.values, [2.0, 0.0]);
        assert_eq!(again, statistics);
        let error = run(&series(1, vec![1.0], 1), json!({}), Some(statistics)).unwrap_err();
        assert!(
            error.message().contains("c0, c1, but the series has c0"),
            "{error}"
        );
        let error = run(&other, json!({}), None).unwrap_err();
        assert!(error.message().contains("no rows in train"), "{error}");
    }

    #[test]
    fn clips_and_refuses_what_does_not_fit() {
        let raw = series(1, vec![0.0, 1e-38, 1e38], 2);
        assert!(
            run(&raw, json!({"method": "minmax"}), None)
                .unwrap_err()
                .message()
                .contains("`c0` does not fit")
        );
        assert_eq!(
            run(&raw, json!({"method": "minmax", "clip": 5}), None)
                .unwrap()
                .0
                .values[2],
            5.0
        );
        let bounded = run(&raw, json!({"method": "minmax", "clip": [0.5, 2]}), None)
            .unwrap()
            .0;
        assert_eq!(bounded.values[0], 0.5);
        assert!(run(&raw, json!({"clip": -1}), None).is_err());
    }

    #[test]
    fn a_channel_that_hardly_moves_is_not_blown_up() {
        // One small step in a thousand rows, and a large one later.
        let mut values = vec![0.0; 1000];
        (values[500], values[999]) = (0.01, 1.0);
        let raw = series(1, values, 999);
        let (scaled, _) = run(&raw, json!({}), None).unwrap();
        assert!(scaled.values[999] > 3000.0);
        let (scaled, statistics) = run(&raw, json!({"floor": 0.5}), None).unwrap();
        let scale = statistics.reals("scale").unwrap()[0].unwrap();
        assert!((scale - 0.005).abs() < 1e-9, "{scale}");
        assert!(scaled.values[999] < 201.0);
        assert!(run(&raw, json!({"floor": 2}), None).is_err());
    }

    #[test]
    fn a_level_is_taken_away_in_64_bits() {
        let counter: Vec<f64> = (0..200).map(|row| 4e9 + f64::from(row % 10)).collect();
        let mut raw = series(2, vec![0.0; 400], 150);
        for (row, value) in counter.iter().enumerate() {
            raw.values[2 * row] = *value as f32;
            raw.values[2 * row + 1] = (row % 7) as f32;
        }
        raw.wide.insert(0, counter.clone());
        // The same steps without the level, which 32 bits hold.
        let mut low = raw.clone();
        low.wide.clear();
        for (row, value) in counter.iter().enumerate() {
            low.values[2 * row] = (value - 4e9) as f32;
        }
        for method in ["zscore", "minmax", "robust"] {
            let (scaled, _) = run(&raw, json!({"method": method, "clip": 5}), None).unwrap();
            let (expected, _) = run(&low, json!({"method": method, "clip": 5}), None).unwrap();
            assert!(scaled.wide.is_empty(), "{method}");
            for (found, expected) in scaled.values.iter().zip(&expected.values) {
                assert!(
                    (found - expected).abs() < 1e-6,
                    "{method}: {found} {expected}"
                );
            }
        }
        // What is not scaled keeps its 64 bits.
        assert_eq!(run(&raw, json!({"method": "none"}), None).unwrap().0, raw);
        let (some, _) = run(&raw, json!({"splits": ["train"]}), None).unwrap();
        assert_eq!(some.channel(0)[199], 4e9 + 9.0);
    }

    #[test]
    fn tells_what_it_learns_from() {
        let learns = |value: Value| Normalize::learns(&serde_json::from_value(value).unwrap());
        assert_eq!(learns(json!({}))[0].from, [Split::Train]);
        assert_eq!(learns(json!({"fit": "all"}))[0].from, Split::ALL);
        assert_eq!(
            learns(json!({"fit": ["train", "test"]}))[0].from,
            [Split::Train, Split::Test]
        );
        assert!(learns(json!({"method": "none"})).is_empty());
    }

    proptest! {
        #[test]
        fn training_rows_get_mean_0_and_deviation_1_on_any_number_of_threads(
            values in prop::collection::vec(-1e6_f32..1e6, 100..9000),
        ) {
            let raw = series(1, values, 100);
            let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let scaled = pool(1).install(|| run(&raw, json!({"fit": "all"}), None).unwrap());
            let parallel = pool(3).install(|| run(&raw, json!({"fit": "all"}), None).unwrap());
            prop_assert_eq!(scaled.0.digest(), parallel.0.digest());
            prop_assert_eq!(scaled.1.digest(), parallel.1.digest());
            let count = scaled.0.values.len() as f64;
            let mean = scaled.0.values.iter().map(|value| f64::from(*value)).sum::<f64>() / count;
            let variance = scaled.0.values.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>() / count;
            prop_assert!(mean.abs() < 1e-5 && (variance - 1.0).abs() < 1e-4);
        }
    }
}
