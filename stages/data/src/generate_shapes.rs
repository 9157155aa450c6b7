//! `generate-shapes`: short series of nine kinds, each with its class, for classifiers of series or of their plots.
//! What a kind looks like stands in its file; here they are balanced, scaled and split.

mod breaks;
mod collective_anomaly;
mod contextual_anomaly;
mod deterministic_trend;
mod mean_shift;
mod noise;
mod point_anomaly;
mod stochastic_trend;
mod trend_shift;
mod variance_shift;
mod volatility;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::readers::Shares;
use contract::artifact::{ArtifactKind, Segment, Series};
use contract::{
    Fault, Inputs, Numerics, Outputs, Port, Random, Stage, StageContext, Threads, Trouble,
};

/// The stage kind `generate-shapes`.
pub struct GenerateShapes;

/// A kind of series: the class of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A stretch of values that are unusual together; the level comes back.
    CollectiveAnomaly,
    /// Usual values at the wrong place of a rhythm.
    ContextualAnomaly,
    /// Single values far away from all others.
    PointAnomaly,
    /// A straight, curved, exponential or damped trend.
    DeterministicTrend,
    /// A random walk, with or without drift.
    StochasticTrend,
    /// The level jumps and stays.
    MeanShift,
    /// A trend that turns round.
    TrendShift,
    /// The noise becomes stronger or weaker.
    VarianceShift,
    /// Calm and turbulent times in clusters.
    Volatility,
}

/// How a kind is drawn: so many rows, in deviations of its noise.
type Draw = fn(usize, &mut Random) -> Vec<f64>;

/// All kinds with their names and how they are drawn: a line each.
const KINDS: [(Kind, &str, Draw); 9] = [
    (
        Kind::CollectiveAnomaly,
        "collective_anomaly",
        collective_anomaly::draw,
    ),
    (
        Kind::ContextualAnomaly,
        "contextual_anomaly",
        contextual_anomaly::draw,
    ),
    (Kind::PointAnomaly, "point_anomaly", point_anomaly::draw),
    (
        Kind::DeterministicTrend,
        "deterministic_trend",
        deterministic_trend::draw,
    ),
    (
        Kind::StochasticTrend,
        "stochastic_trend",
        stochastic_trend::draw,
    ),
    (Kind::MeanShift, "mean_shift", mean_shift::draw),
    (Kind::TrendShift, "trend_shift", trend_shift::draw),
    (Kind::VarianceShift, "variance_shift", variance_shift::draw),
    (Kind::Volatility, "volatility", volatility::draw),
];

/// How many series of which kinds.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Params {
    /// The kinds; each becomes a class.
    #[schemars(length(min = 1))]
    pub kinds: Vec<Kind>,
    /// Series of each kind.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub samples: usize,
    /// Rows of a series: a number, or a range from which each series draws its own.
    pub length: Length,
    /// How the series of each kind are split.
    pub split: Shares,
}

/// Rows of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Length {
    /// All have so many.
    Fixed(#[schemars(range(min = LEAST_ROWS))] usize),
    /// Each draws its own.
    Drawn(Bounds),
}

/// The least and the most rows of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    #[schemars(range(min = LEAST_ROWS))]
    pub from: usize,
    pub to: usize,
}

impl Length {
    fn bounds(self) -> Bounds {
        match self {
            Self::Fixed(rows) => Bounds {
                from: rows,
                to: rows,
            },
            Self::Drawn(bounds) => bounds,
        }
    }
}

impl Default for Params {
    fn default() -> Self {
        Self {
            kinds: KINDS.map(|(kind, ..)| kind).to_vec(),
            samples: 100,
            length: Length::Fixed(256),
            split: Shares {
                train: 0.7,
                validation: 0.15,
                calibration: 0.0,
                test: 0.15,
            },
        }
    }
}

/// Fewer rows have no room for shape.
const LEAST_ROWS: usize = 40;
/// The most values that are drawn: they take 8 GB while the series is made.
const MOST_VALUES: usize = 1_000_000_000;

impl Stage for GenerateShapes {
    type Params = Params;

    const NAME: &'static str = "generate-shapes";
    // 2: the layout of series.
    const VERSION: u32 = 2;
    const DOC: &'static str = "Draws short series of nine kinds, such as shifts, trends and anomalies, each with its class.";
    const NUMERICS: Numerics = Numerics::Exact;
    const THREADS: Threads = Threads::All;
    const SEEDED: bool = true;

    fn inputs(_: &Params) -> Vec<Port> {
        Vec::new()
    }

    fn outputs(_: &Params) -> Vec<Port> {
        let doc = "one segment per sample, with its class; splits are balanced";
        vec![Port::new("series", ArtifactKind::Series, doc)]
    }

    fn check(params: &Params) -> Result<(), Fault> {
        for (index, kind) in params.kinds.iter().enumerate() {
            if params.kinds[..index].contains(kind) {
                let reason = format!("`{}` is listed twice", entry(*kind).1);
                return Err(Fault::new("kinds", reason));
            }
        }
        let Bounds { from, to } = params.length.bounds();
        if to < from {
            let reason = format!("from {from} to {to} rows is not a range that rises");
            return Err(Fault::new("length", reason));
        }
        let series = params.kinds.len().saturating_mul(params.samples);
        if series.saturating_mul(to) > MOST_VALUES {
            let samples = params.samples;
            let reason = format!("{samples} series of each kind: more than memory holds");
            return Err(Fault::new("samples", reason));
        }
        params.split.check(false)?;
        match params.split.cut(params.samples) {
            Ok(_) => Ok(()),
            Err(error) => Err(Fault::new("split", error.message())),
        }
    }

    fn run(params: &Params, _: &Inputs, context: &StageContext<'_>) -> Result<Outputs, Trouble> {
        Ok(Outputs::one("series", generate(params, context.seed)?))
    }
}

fn entry(kind: Kind) -> &'static (Kind, &'static str, Draw) {
    let found = KINDS.iter().find(|(known, ..)| *known == kind);
    // The table holds every kind; a test counts them.
    found.unwrap_or(&KINDS[0])
}

/// Splits one after the other, in each the kinds in turn: every part of the series is balanced.
fn generate(params: &Params, seed: u64) -> Result<Series, Trouble> {
    let mut samples = Vec::with_capacity(params.kinds.len() * params.samples);
    for (split, numbers) in params.split.cut(params.samples)? {
        for number in numbers {
            samples.extend(params.kinds.iter().map(|kind| (split, *kind, number)));
        }
    }
    let drawn: Vec<Vec<f32>> = samples
        .par_iter()
        .map(|(_, kind, number)| sample(*kind, *number, params.length, seed))
        .collect();
    let mut start = 0;
    let mut segments = Vec::with_capacity(samples.len());
    for ((split, kind, number), values) in samples.into_iter().zip(&drawn) {
        let end = start + values.len();
        let class = entry(kind).1;
        let segment = Segment::new(split, format!("{class}/{number:05}"), start..end);
        segments.push(segment.of_class(Some(class.to_owned())));
        start = end;
    }
    let series = Series {
        channels: vec!["value".to_owned()],
        values: drawn.concat(),
        labels: Vec::new(),
        times: Vec::new(),
        segments,
        ..Series::default()
    };
    series
        .validate()
        .map_err(|reason| Trouble::new(format!("the drawn series are unsound: {reason}")))?;
    Ok(series)
}

/// One series: its kind's shape at a random level and scale. It depends on nothing but kind, number, length and seed.
fn sample(kind: Kind, number: usize, length: Length, seed: u64) -> Vec<f32> {
    let (_, name, draw) = entry(kind);
    let mut random = Random::new(seed, &format!("{name} {number}"));
    let Bounds { from, to } = length.bounds();
    let rows = from + random.below((to - from) as u64 + 1) as usize;
    let scale = libm::exp10(random.range(-0.5, 1.5));
    let level = scale * random.range(-20.0, 20.0);
    let values = draw(rows, &mut random).into_iter();
    values.map(|value| (level + scale * value) as f32).collect()
}

#[cfg(test)]
mod tests;
