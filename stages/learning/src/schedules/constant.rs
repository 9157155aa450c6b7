//! The optimiser's rate throughout.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Point, Rule, ScheduleState};

/// The optimiser's rate throughout.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Constant {}

impl Rule for Constant {
    const NAME: &'static str = "constant";
    const DOC: &'static str = "The optimizer's rate throughout";

    fn check(&self) -> Result<(), (&'static str, &'static str)> {
        Ok(())
    }

    fn rate(&self, base: f64, _: Point, _: &ScheduleState) -> f64 {
        base
    }
}
