//! A threshold that the pipeline gives.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Basis, Chosen, Source, ThresholdKind};
use contract::StageError;

pub struct Fixed;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The threshold; scores above it are alarms.
    value: f64,
}

impl ThresholdKind for Fixed {
    type Params = Params;

    const NAME: &'static str = "fixed";
    const DOC: &'static str = "The given value.";

    fn check(params: &Params) -> Result<(), String> {
        if params.value.is_finite() {
            Ok(())
        } else {
            Err(format!("value {} is not a finite number", params.value))
        }
    }

    fn basis(_: &Params) -> Basis {
        Basis::Nothing
    }

    fn choose(params: &Params, _: &Source<'_>) -> Result<Chosen, StageError> {
        Ok(Chosen::constant(params.value, "given".to_owned()))
    }
}
