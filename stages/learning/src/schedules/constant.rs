//! The optimiser's rate throughout.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Point, Rule, ScheduleState};
use contract::Named;

/// The optimiser's rate throughout.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Constant {}

impl Named for Constant {
    const NAME: &'static str = "constant";
    const DOC: &'static str = "The optimizer's rate throughout";
}

impl Rule for Constant {
    fn rate(&self, base: f64, _: Point, _: &ScheduleState) -> f64 {
        base
    }
}
