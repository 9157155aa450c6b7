//! Share of the samples whose true class is among the most probable ones.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ClassificationCase, MetricKind};

pub struct TopKAccuracy;

/// Parameters of the top-k accuracy.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// How many of the most probable classes count. With as many as there are, the value is 1.
    #[serde(default = "default_k")]
    #[schemars(range(min = 1))]
    pub k: usize,
}

fn default_k() -> usize {
    5
}

impl Default for Params {
    fn default() -> Self {
        Self { k: default_k() }
    }
}

impl MetricKind for TopKAccuracy {
    type Judged = ClassificationCase;
    type Params = Params;

    const NAME: &'static str = "top_k_accuracy";
    const DOC: &'static str = "Share of the samples whose true class is among the `k` most probable; of equally probable classes, the first.";

    fn value(params: &Params, case: &ClassificationCase) -> Option<f64> {
        case.mean(|truth, row| {
            let mut rank = 0;
            for (class, value) in row.iter().enumerate() {
                if *value > row[truth] || (*value == row[truth] && class < truth) {
                    rank += 1;
                }
            }
            f64::from(u8::from(rank < params.k))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::case::tests::case;
    use super::*;

    #[test]
    fn counts_ranks() {
        let case = case(&[
            (0, &[0.5, 0.3, 0.2]),
            (1, &[0.5, 0.3, 0.2]),
            (2, &[0.5, 0.3, 0.2]),
            (1, &[0.4, 0.4, 0.2]),
        ]);
        let value = |k| TopKAccuracy::value(&Params { k }, &case);
        assert_eq!(
            (value(1), value(2), value(3), value(9)),
            (Some(0.25), Some(0.75), Some(1.0), Some(1.0))
        );
        assert_eq!(value(1), Some(case.hits() as f64 / 4.0));
    }
}
