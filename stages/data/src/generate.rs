//! `generate`: a simulated server with known faults, for a first run without any data. Daily and weekly rhythm,
//! correlated channels, counters, a constant channel; the test part has labelled anomalies of several kinds.
//! It is not a benchmark: how well a detector does on it says little about real machines.

mod anomaly;
mod numeric;
mod signal;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::signal::{Rhythm, Signal};
use contract::artifact::{ArtifactKind, Segment, Series, Split};
use contract::{
    Fault, Inputs, Numerics, Outputs, Port, Random, Stage, StageContext, Threads, Trouble,
};

pub use anomaly::Kind;

/// The stage kind `generate`.
pub struct Generate;

/// The size of the data and the faults in its test part.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Params {
    /// Channels: processor, network, memory, latency, disk, a counter, temperature, a constant, and again.
    #[schemars(range(min = 1, max = 1000))]
    pub channels: usize,
    /// Rows of each split, in order of time. A split with 0 rows is left out.
    pub rows: Rows,
    /// Rows that make up a day; 288 is one every five minutes.
    #[schemars(range(min = 2, max = 86_400))]
    pub day: usize,
    /// Noise of each channel, relative to its swing.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub noise: f64,
    /// The share of the test rows that are anomalous, about.
    #[schemars(range(min = 0.0, max = 0.3))]
    pub anomaly_ratio: f64,
    /// The kinds of faults that take turns.
    pub kinds: Vec<Kind>,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            channels: 12,
            rows: Rows::default(),
            day: 288,
            noise: 0.05,
            anomaly_ratio: 0.06,
            kinds: Kind::ALL.to_vec(),
        }
    }
}

/// Rows of each split.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rows {
    /// Without anomalies.
    pub train: usize,
    /// Without anomalies.
    pub validation: usize,
    /// Without anomalies.
    pub calibration: usize,
    /// With anomalies and labels.
    pub test: usize,
}

impl Default for Rows {
    fn default() -> Self {
        Self {
            train: 4032,
            validation: 576,
            calibration: 1440,
            test: 4032,
        }
    }
}

impl Rows {
    fn of(&self, split: Split) -> usize {
        match split {
            Split::Train => self.train,
            Split::Validation => self.validation,
            Split::Calibration => self.calibration,
            Split::Test => self.test,
        }
    }

    fn total(&self) -> usize {
        Split::ALL.iter().map(|split| self.of(*split)).sum()
    }
}

/// The most values that are simulated: they take 8 GB while the series is made.
const MOST_VALUES: usize = 500_000_000;

/// Monday, 1 January 2024, 00:00 UTC, in milliseconds.
const START: i64 = 1_704_067_200_000;

impl Stage for Generate {
    type Params = Params;

    const NAME: &'static str = "generate";
    // 2: times are timestamps.
    const VERSION: u32 = 2;
    const DOC: &'static str =
        "Simulates the metrics of a server, with labelled anomalies in the test part.";
    const NUMERICS: Numerics = Numerics::Exact;
    const THREADS: Threads = Threads::One;
    const SEEDED: bool = true;

    fn inputs(_: &Params) -> Vec<Port> {
        Vec::new()
    }

    fn outputs(_: &Params) -> Vec<Port> {
        let doc = "train, validation, calibration and a labelled test part";
        vec![Port::new("series", ArtifactKind::Series, doc)]
    }

    fn check(params: &Params) -> Result<(), Fault> {
        let mut rows = 0_usize;
        for split in Split::ALL {
            rows = rows.saturating_add(params.rows.of(split));
        }
        if rows == 0 {
            return Err(Fault::new("rows", "all splits are empty"));
        }
        if rows.saturating_mul(params.channels) > MOST_VALUES {
            let reason = format!("more than {MOST_VALUES} values in all");
            return Err(Fault::new("rows", reason));
        }
        if params.kinds.is_empty() && params.anomaly_ratio > 0.0 {
            let reason = "an empty list: name a kind, or set `anomaly_ratio: 0`";
            return Err(Fault::new("kinds", reason));
        }
        Ok(())
    }

    fn run(params: &Params, _: &Inputs, context: &StageContext<'_>) -> Result<Outputs, Trouble> {
        Ok(Outputs::one("series", generate(params, context.seed)?))
    }
}

fn generate(params: &Params, seed: u64) -> Result<Series, Trouble> {
    let rows = params.rows.total();
    let rhythm = Rhythm {
        rows,
        day: params.day,
        noise: params.noise,
    };
    let mut signal = Signal::new(rhythm, params.channels, seed);
    let segments = segments(&params.rows);
    let mut labels = Vec::new();
    if let Some(test) = segments.iter().find(|segment| segment.split == Split::Test) {
        labels = vec![0; rows];
        let clean = signal.columns.clone();
        let mut random = Random::new(seed, "anomalies");
        let budget = (params.anomaly_ratio * test.rows.len() as f64).round() as usize;
        let kinds = &params.kinds;
        for fault in anomaly::plan(kinds, &test.rows, budget, &signal.variable, &mut random) {
            anomaly::disturb(&fault, &mut signal, &clean, params.day, &mut random);
            labels[fault.rows].fill(1);
        }
    }
    let step = 86_400_000.0 / params.day as f64;
    let mut values = Vec::with_capacity(rows * params.channels);
    let mut times = Vec::with_capacity(rows);
    for row in 0..rows {
        values.extend(signal.columns.iter().map(|column| column[row] as f32));
        times.push(START + (row as f64 * step).round() as i64);
    }
    let series = Series {
        values,
        channels: signal.names,
        labels,
        times,
        segments,
        ..Series::default()
    };
    series
        .validate()
        .map_err(|reason| Trouble::new(format!("the simulated series is unsound: {reason}")))?;
    Ok(series)
}

fn segments(rows: &Rows) -> Vec<Segment> {
    let mut segments = Vec::new();
    let mut start = 0;
    for split in Split::ALL {
        let end = start + rows.of(split);
        if end > start {
            let segment = Segment::new(split, "server", start..end);
            segments.push(segment.labelled(split == Split::Test));
        }
        start = end;
    }
    segments
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use contract::testing::fault_of;

    #[test]
    fn is_labelled_in_the_test_part_only_and_about_as_asked() {
        let series = generate(&Params::default(), 42).unwrap();
        let test = series.of_split(Split::Test).next().unwrap().rows.clone();
        assert!(series.labels[..test.start].iter().all(|label| *label == 0));
        let share = series.labels[test.clone()]
            .iter()
            .map(|label| f64::from(*label))
            .sum::<f64>()
            / test.len() as f64;
        assert!((share - 0.06).abs() < 0.002, "{share}");
        assert!(series.values.iter().all(|value| value.is_finite()));
        assert_eq!((series.width(), series.segments.len()), (12, 4));
        assert_eq!(series.times[288] - series.times[0], 86_400_000);
    }

    #[test]
    fn the_seed_decides_and_the_bits_stay() {
        let digest = |seed| generate(&Params::default(), seed).unwrap().digest();
        assert_eq!(digest(1), digest(1));
        assert_ne!(digest(1), digest(2));
    }

    /// If this fails, outputs have changed: raise `Generate::VERSION` and put the new digest here.
    #[test]
    fn the_bits_are_those_of_this_version() {
        let found = generate(&Params::default(), 42)
            .unwrap()
            .digest()
            .to_string();
        assert_eq!(
            (Generate::VERSION, found.as_str()),
            (
                2,
                "f8e152e21940452a8c953c7522df10c535d8d81aa0f5f39ba70c2346c0745f48"
            )
        );
    }

    #[test]
    fn faults_show_in_the_values_and_nowhere_else() {
        let params = Params::default();
        let clean = generate(
            &Params {
                anomaly_ratio: 0.0,
                ..params.clone()
            },
            7,
        )
        .unwrap();
        let faulty = generate(&params, 7).unwrap();
        for row in 0..clean.rows() {
            let differs = clean.row(row) != faulty.row(row);
            assert!(
                faulty.labels[row] == 1 || !differs,
                "row {row} differs without a label"
            );
        }
        let shown = (0..clean.rows())
            .filter(|row| clean.row(*row) != faulty.row(*row))
            .count();
        let labelled = faulty.labels.iter().filter(|label| **label == 1).count();
        assert!(
            shown * 100 >= labelled * 99,
            "{shown} of {labelled} labelled rows differ"
        );
    }

    /// The chance that an anomalous row lies further out than a normal one, in its worst channel.
    fn chance_of_standing_out(kinds: Vec<Kind>) -> f64 {
        let series = generate(
            &Params {
                kinds,
                ..Params::default()
            },
            11,
        )
        .unwrap();
        let train = series.of_split(Split::Train).next().unwrap().rows.clone();
        let count = train.len() as f64;
        let channel = |channel: usize| {
            series
                .values
                .iter()
                .skip(channel)
                .step_by(series.width())
                .map(|value| f64::from(*value))
        };
        let moments = |index: usize| {
            let mean = channel(index).take(train.end).sum::<f64>() / count;
            (
                mean,
                (channel(index)
                    .take(train.end)
                    .map(|value| (value - mean).powi(2))
                    .sum::<f64>()
                    / count)
                    .sqrt()
                    .max(1e-9),
            )
        };
        let moments: Vec<(f64, f64)> = (0..series.width()).map(moments).collect();
        let distance = |row: usize| {
            let values = series.row(row).iter().zip(&moments);
            values
                .map(|(value, (mean, deviation))| ((f64::from(*value) - mean) / deviation).abs())
                .fold(0.0, f64::max)
        };
        let test = series.of_split(Split::Test).next().unwrap().rows.clone();
        let (anomalous, normal): (Vec<usize>, Vec<usize>) =
            test.partition(|row| series.labels[*row] == 1);
        let normal: Vec<f64> = normal.into_iter().map(distance).collect();
        let wins = |row: usize| {
            normal
                .iter()
                .filter(|other| distance(row) > **other)
                .count() as f64
        };
        anomalous.iter().map(|row| wins(*row)).sum::<f64>()
            / (anomalous.len() * normal.len()) as f64
    }

    #[test]
    fn some_faults_stand_out_and_some_need_a_model() {
        for (kind, range) in [
            (Kind::Spike, 0.95..=1.0),
            (Kind::LevelShift, 0.95..=1.0),
            (Kind::StuckSensor, 0.4..=0.65),
            (Kind::BrokenCorrelation, 0.4..=0.65),
        ] {
            let chance = chance_of_standing_out(vec![kind]);
            assert!(range.contains(&chance), "{kind:?}: {chance}");
        }
        let all = chance_of_standing_out(Kind::ALL.to_vec());
        assert!((0.6..0.9).contains(&all), "{all}");
    }

    #[test]
    fn checks_its_parameters() {
        for (value, parameter) in [
            (json!({"channels": 0}), "channels"),
            (
                json!({"rows": {"train": 0, "validation": 0, "calibration": 0, "test": 0}}),
                "rows",
            ),
            (json!({"rows": {"train": u64::MAX}}), "rows"),
            (json!({"noise": -1}), "noise"),
            (json!({"anomaly_ratio": 0.5}), "anomaly_ratio"),
            (json!({"kinds": []}), "kinds"),
            (json!({"day": 0}), "day"),
        ] {
            assert_eq!(fault_of::<Generate>(value).unwrap().parameter, parameter);
        }
        assert_eq!(fault_of::<Generate>(json!({})), None);
    }
}
