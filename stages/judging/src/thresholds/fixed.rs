//! A threshold that the pipeline gives.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Basis, Chosen, Source, Threshold};
use contract::{Named, Trouble};

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fixed {
    /// The threshold; scores above it are alarms.
    value: f64,
}

impl Named for Fixed {
    const NAME: &'static str = "fixed";
    const DOC: &'static str = "The given value.";
    const EXAMPLE: &'static str = r#"{"value": 1.0}"#;
}

impl Threshold for Fixed {
    fn basis(&self) -> Basis {
        Basis::Nothing
    }

    fn choose(&self, _: &Source<'_>) -> Result<Chosen, Trouble> {
        Ok(Chosen::constant(self.value, "given".to_owned()))
    }
}
