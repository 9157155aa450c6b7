//! The threshold with the best F1 on the judged rows themselves: an oracle, labelled so wherever it shows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Basis, Chosen, Source, ThresholdKind};
use crate::metrics::{best_adjusted_threshold, best_threshold};
use contract::StageError;

pub struct BestF1;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Whether F1 is taken after point adjustment.
    #[serde(default)]
    point_adjusted: bool,
}

impl ThresholdKind for BestF1 {
    type Params = Params;

    const NAME: &'static str = "best-f1";
    const DOC: &'static str = "The threshold with the highest F1 on the judged rows. An oracle: it knows the labels that it is judged by.";

    fn check(_: &Params) -> Result<(), String> {
        Ok(())
    }

    fn basis(_: &Params) -> Basis {
        Basis::JudgedLabels
    }

    fn choose(params: &Params, source: &Source<'_>) -> Result<Chosen, StageError> {
        let search = if params.point_adjusted {
            best_adjusted_threshold
        } else {
            best_threshold
        };
        let value = search(source.case).ok_or_else(|| {
            StageError::new("no threshold has a best F1, since none of the judged rows is labelled as an anomaly")
                .hint("choose a threshold that does not look at labels, such as {kind: quantile, anomaly_ratio: 1.0}")
        })?;
        let what = if params.point_adjusted {
            "point-adjusted F1"
        } else {
            "F1"
        };
        Ok(Chosen::constant(
            value,
            format!("an oracle, chosen with the judged labels for the best {what}"),
        ))
    }
}
