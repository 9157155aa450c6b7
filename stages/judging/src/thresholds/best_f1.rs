//! The threshold with the best F1 on the judged rows themselves: an oracle, labelled so wherever it shows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Basis, Chosen, Source, Threshold};
use crate::metrics::{best_adjusted_threshold, best_threshold};
use contract::{Named, Trouble};

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BestF1 {
    /// Whether F1 is taken after point adjustment.
    #[serde(default)]
    point_adjusted: bool,
}

impl Named for BestF1 {
    const NAME: &'static str = "best-f1";
    const DOC: &'static str = "The threshold with the highest F1 on the judged rows. An oracle: it knows the labels that it is judged by.";
}

impl Threshold for BestF1 {
    fn basis(&self) -> Basis {
        Basis::JudgedLabels
    }

    fn choose(&self, source: &Source<'_>) -> Result<Chosen, Trouble> {
        let search = if self.point_adjusted {
            best_adjusted_threshold
        } else {
            best_threshold
        };
        let value = search(source.case).ok_or_else(|| {
            Trouble::new("no threshold has a best F1, since none of the judged rows is labelled as an anomaly")
                .hint("choose a threshold that does not look at labels, such as {kind: quantile, anomaly_ratio: 1.0}")
        })?;
        let what = if self.point_adjusted {
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
