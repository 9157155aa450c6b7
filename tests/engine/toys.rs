//! Stage kinds that do next to nothing, to drive the engine without data and without tensors.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use contract::artifact::{Artifact, ArtifactKind, Direction, Metric, Metrics};
use contract::{
    FileRequest, Inputs, Numerics, Outputs, Port, Stage, StageContext, StageKind, Threads, Trouble,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// All toys.
pub fn kinds() -> Vec<StageKind> {
    vec![
        StageKind::of::<Number>(),
        StageKind::of::<Sum>(),
        StageKind::of::<Gather>(),
        StageKind::of::<Fail>(),
        StageKind::of::<Panic>(),
        StageKind::of::<Flaky>(),
        StageKind::of::<Slow>(),
        StageKind::of::<Forgetful>(),
        StageKind::of::<Reader>(),
        StageKind::of::<Curve>(),
        StageKind::of::<Draw>(),
        StageKind::of::<Count>(),
    ]
}

fn value(value: f64) -> Metrics {
    metrics("value", value, Direction::Neither)
}

fn metrics(name: &str, value: f64, direction: Direction) -> Metrics {
    let entry = Metric {
        name: name.into(),
        value: Some(value),
        direction,
        oracle: false,
        inflating: false,
        caveat: String::new(),
    };
    Metrics {
        entries: vec![entry],
    }
}

fn output() -> Vec<Port> {
    vec![Port::new("value", ArtifactKind::Metrics, "a number")]
}

fn anything() -> Vec<Port> {
    vec![Port::any("items", "numbers").many().optional()]
}

/// Declares a toy: its struct, its name in YAML, its parameters and what it does.
macro_rules! toy {
    ($toy:ident, $name:literal, $params:ty, |$with:ident, $inputs:ident, $context:ident| $body:expr) => {
        struct $toy;

        impl Stage for $toy {
            type Params = $params;

            const NAME: &'static str = $name;
            const VERSION: u32 = 1;
            const DOC: &'static str = "A toy.";
            const NUMERICS: Numerics = Numerics::Exact;
            const THREADS: Threads = Threads::One;
            const SEEDED: bool = false;

            fn inputs(_: &$params) -> Vec<Port> {
                anything()
            }

            fn outputs(_: &$params) -> Vec<Port> {
                output()
            }

            fn run(
                $with: &$params,
                $inputs: &Inputs,
                $context: &StageContext<'_>,
            ) -> Result<Outputs, Trouble> {
                $body
            }
        }
    };
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct None {}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NumberParams {
    value: f64,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FlakyParams {
    /// How often it fails before it succeeds.
    failures: usize,
    /// A file with a line per attempt.
    attempts: PathBuf,
    /// How long an attempt takes. It does not look whether it should stop.
    #[serde(default)]
    seconds: f64,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SlowParams {
    seconds: f64,
}

toy!(
    Number,
    "number",
    NumberParams,
    |with, _inputs, _context| Ok(Outputs::one("value", value(with.value)))
);

toy!(Sum, "sum", None, |_with, inputs, _context| {
    let number = |(_, artifact): &(String, Artifact)| match artifact {
        Artifact::Metrics(metrics) => metrics.entries[0].value.unwrap_or(0.0),
        _ => 0.0,
    };
    Ok(Outputs::one(
        "value",
        value(inputs.all("items").iter().map(number).sum()),
    ))
});

toy!(Fail, "fail", None, |_with, _inputs, _context| {
    Err(Trouble::new("row 3 holds no number")
        .at("table.csv", Some(3))
        .because(std::io::Error::other("`x` is no digit"))
        .hint("set `missing`"))
});

toy!(Panic, "panic", None, |_with, _inputs, _context| panic!(
    "index 7 is out of bounds"
));

toy!(Flaky, "flaky", FlakyParams, |with, _inputs, _context| {
    let before = fs::read_to_string(&with.attempts).unwrap_or_default();
    fs::write(&with.attempts, format!("{before}attempt\n"))?;
    std::thread::sleep(Duration::from_secs_f64(with.seconds));
    if before.lines().count() < with.failures {
        return Err(Trouble::new("the weather is bad"));
    }
    Ok(Outputs::one("value", value(1.0)))
});

toy!(Slow, "slow", SlowParams, |with, _inputs, context| {
    let started = Instant::now();
    while started.elapsed().as_secs_f64() < with.seconds {
        context.check_cancelled()?;
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(Outputs::one("value", value(with.seconds)))
});

toy!(Forgetful, "forgetful", None, |_with, _inputs, _context| Ok(
    Outputs::default()
));

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CurveParams {
    x: f64,
    #[serde(default = "one")]
    epochs: u64,
}

fn one() -> u64 {
    1
}

// A training: its loss is the smaller, the longer it takes and the nearer to 3 its parameter is; below 0 it fails.
toy!(Curve, "curve", CurveParams, |with, _inputs, _context| {
    if with.x < 0.0 {
        return Err(Trouble::new("the loss became infinite"));
    }
    let loss = (with.x - 3.0).powi(2) + 1.0 / with.epochs as f64;
    let loss = metrics("loss", loss, Direction::Lower);
    Ok(Outputs::one("value", loss))
});

static COUNTED: AtomicU64 = AtomicU64::new(0);

// Makes something else each time, against all rules.
toy!(Count, "count", None, |_with, _inputs, _context| {
    let count = COUNTED.fetch_add(1, Ordering::Relaxed);
    Ok(Outputs::one("value", value(count as f64)))
});

/// Counts the instances of what it is connected to.
struct Gather;

impl Stage for Gather {
    type Params = None;

    const NAME: &'static str = "gather";
    const VERSION: u32 = 1;
    const DOC: &'static str = "A toy.";
    const NUMERICS: Numerics = Numerics::Exact;
    const THREADS: Threads = Threads::One;
    const SEEDED: bool = false;
    const GATHERS: bool = true;

    fn inputs(_: &None) -> Vec<Port> {
        anything()
    }

    fn outputs(_: &None) -> Vec<Port> {
        output()
    }

    fn run(_: &None, inputs: &Inputs, context: &StageContext<'_>) -> Result<Outputs, Trouble> {
        let count = inputs.all("items").len();
        context.host.finding(&format!("{count} items"));
        Ok(Outputs::one("value", value(count as f64)))
    }
}

/// Draws a number from `x` to `x + 1`.
struct Draw;

impl Stage for Draw {
    type Params = CurveParams;

    const NAME: &'static str = "draw";
    const VERSION: u32 = 1;
    const DOC: &'static str = "A toy.";
    const NUMERICS: Numerics = Numerics::Exact;
    const THREADS: Threads = Threads::One;
    const SEEDED: bool = true;

    fn inputs(_: &CurveParams) -> Vec<Port> {
        anything()
    }

    fn outputs(_: &CurveParams) -> Vec<Port> {
        output()
    }

    fn run(with: &CurveParams, _: &Inputs, context: &StageContext<'_>) -> Result<Outputs, Trouble> {
        let drawn = context.random("draw").next_u64() as f64 / u64::MAX as f64;
        let score = metrics("score", with.x + drawn, Direction::Higher);
        Ok(Outputs::one("value", score))
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReaderParams {
    /// A file with a number in it.
    file: PathBuf,
    /// What the file holds when the number has been read, as if its owner had edited it meanwhile.
    then: Option<String>,
    /// The stage fails after that.
    #[serde(default)]
    fails: bool,
}

/// Reads a file in place.
struct Reader;

impl Stage for Reader {
    type Params = ReaderParams;

    const NAME: &'static str = "reader";
    const VERSION: u32 = 1;
    const DOC: &'static str = "A toy.";
    const NUMERICS: Numerics = Numerics::Exact;
    const THREADS: Threads = Threads::One;
    const SEEDED: bool = false;

    fn inputs(_: &ReaderParams) -> Vec<Port> {
        anything()
    }

    fn outputs(_: &ReaderParams) -> Vec<Port> {
        output()
    }

    fn files(with: &ReaderParams) -> Vec<FileRequest> {
        vec![FileRequest::new("number", &with.file)]
    }

    fn run(
        with: &ReaderParams,
        _: &Inputs,
        context: &StageContext<'_>,
    ) -> Result<Outputs, Trouble> {
        let path = context.file("number")?;
        let text = fs::read_to_string(&path)?;
        if let Some(then) = &with.then {
            // Longer than a tick of the clock by which file systems date changes.
            std::thread::sleep(Duration::from_millis(20));
            fs::write(&path, then)?;
        }
        if with.fails {
            return Err(Trouble::new("the number is no good"));
        }
        Ok(Outputs::one(
            "value",
            value(text.trim().parse().unwrap_or(f64::NAN)),
        ))
    }
}
