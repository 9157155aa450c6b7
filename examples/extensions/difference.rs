//! `difference`: each row minus an earlier one of the same segment.

use contract::artifact::{ArtifactKind, Series};
use contract::{Inputs, Numerics, Outputs, Port, Stage, StageContext, Threads, Trouble};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The stage kind.
pub struct Difference;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Rows between the two. The first rows of a segment, which have no earlier one, become 0.
    #[serde(default = "default_lag")]
    #[schemars(range(min = 1))]
    pub lag: usize,
}

fn default_lag() -> usize {
    1
}

impl Stage for Difference {
    type Params = Params;

    const NAME: &'static str = "difference";
    const VERSION: u32 = 1;
    const DOC: &'static str = "Subtracts from each row an earlier one of the same segment.";
    const NUMERICS: Numerics = Numerics::Exact;
    const THREADS: Threads = Threads::One;
    const SEEDED: bool = false;

    fn inputs(_: &Params) -> Vec<Port> {
        vec![Port::new("series", ArtifactKind::Series, "the series")]
    }

    fn outputs(_: &Params) -> Vec<Port> {
        vec![Port::new("series", ArtifactKind::Series, "the differences")]
    }

    fn run(
        params: &Params,
        inputs: &Inputs,
        context: &StageContext<'_>,
    ) -> Result<Outputs, Trouble> {
        let series = inputs.get::<Series>("series")?;
        let mut differences = Series::clone(&series);
        differences.values.fill(0.0);
        for segment in &series.segments {
            context.check_cancelled()?;
            for row in segment.rows.clone().skip(params.lag) {
                let (now, before) = (series.row(row), series.row(row - params.lag));
                for channel in 0..series.width() {
                    let place = row * series.width() + channel;
                    differences.values[place] = now[channel] - before[channel];
                }
            }
        }
        Ok(Outputs::one("series", differences))
    }
}
