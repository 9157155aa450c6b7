//! Judging anomaly scores: the rows that have labels, the threshold, and the figures.

use std::ops::Range;

use rayon::prelude::*;

use crate::metrics::{self, Case, Subject};
use crate::thresholds::{Basis, Source, ThresholdChoice};
use contract::artifact::{Direction, Metric, Metrics, Scores, Segment, Split};
use contract::{StageContext, Trouble};

use super::Params;

/// The threshold and the figures of one split.
pub fn judge(
    params: &Params,
    scores: &Scores,
    context: &StageContext<'_>,
) -> Result<Metrics, Trouble> {
    let threshold = params.threshold.as_ref().ok_or_else(|| {
        Trouble::new("scores are judged at a threshold, and none is given")
            .hint("say how it is chosen: `threshold: {kind: quantile, anomaly_ratio: 1.0}`")
    })?;
    let case = judged_case(scores, params.on, context)?;
    if case.events.is_empty() {
        context.host.note(&format!(
            "no row of split `{}` is labelled as an anomaly: most figures are undefined",
            params.on
        ));
    }
    let (threshold, case) = apply_threshold(threshold, scores, case)?;
    context.check_cancelled()?;
    let choices = params.choices(Subject::Detection);
    let figures = choices
        .par_iter()
        .map(|choice| metrics::evaluate(choice, &case, threshold.oracle));
    let figures = figures
        .collect::<Result<Vec<_>, _>>()
        .map_err(Trouble::new)?;
    Ok(Metrics {
        entries: std::iter::once(threshold).chain(figures).collect(),
    })
}

/// The labelled rows of a split, segment after segment.
fn judged_case(scores: &Scores, split: Split, context: &StageContext<'_>) -> Result<Case, Trouble> {
    let segments: Vec<&Segment> = scores
        .of_split(split)
        .filter(|segment| !segment.rows.is_empty())
        .collect();
    if segments.is_empty() {
        return Err(no_rows(scores, &[split], "judged"));
    }
    let labelled: Vec<&Segment> = segments
        .iter()
        .copied()
        .filter(|segment| segment.labelled && !scores.labels.is_empty())
        .collect();
    if labelled.is_empty() {
        return Err(Trouble::new(format!("the rows of split `{split}` have no labels to judge by"))
            .hint("judge a split with labels (`on: …`), or ingest a data set that has some; scores alone can be drawn by `render-plots`"));
    }
    if labelled.len() < segments.len() {
        let left_out = segments.len() - labelled.len();
        context.host.note(&format!(
            "{left_out} segments of split `{split}` have no labels and are not judged"
        ));
    }
    let (mut values, mut labels, mut stretches) = (Vec::new(), Vec::new(), Vec::new());
    for segment in labelled {
        let start = values.len();
        extend_finite(&mut values, scores, segment)?;
        labels.extend(
            scores.labels[segment.rows.clone()]
                .iter()
                .map(|label| *label != 0),
        );
        stretches.push(start..values.len());
    }
    Case::new(values, labels, stretches).map_err(Trouble::new)
}

fn extend_finite(values: &mut Vec<f64>, scores: &Scores, segment: &Segment) -> Result<(), Trouble> {
    for (row, score) in segment
        .rows
        .clone()
        .zip(&scores.scores[segment.rows.clone()])
    {
        if !score.is_finite() {
            let message = format!(
                "the score of row {row} (split `{}`, {}, row {} of its segment) is {score}, not a finite number",
                segment.split,
                segment.entity,
                row - segment.rows.start
            );
            return Err(Trouble::new(message)
                .hint("the model has probably diverged: look at its training log, or lower its learning rate"));
        }
        values.push(f64::from(*score));
    }
    Ok(())
}

fn no_rows(scores: &Scores, wanted: &[Split], purpose: &str) -> Trouble {
    let list = |splits: &[Split]| {
        splits
            .iter()
            .map(|split| format!("`{split}`"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let present: Vec<Split> = Split::ALL
        .into_iter()
        .filter(|split| {
            scores
                .of_split(*split)
                .any(|segment| !segment.rows.is_empty())
        })
        .collect();
    let hint = if present.is_empty() {
        "the scores have no rows at all".to_owned()
    } else {
        format!("there are scores of {}", list(&present))
    };
    Trouble::new(format!(
        "no scores of split {} to be {purpose}",
        list(wanted)
    ))
    .hint(hint)
}

/// Chooses the threshold; gives it as a figure, and the case with its alarms.
fn apply_threshold(
    choice: &ThresholdChoice,
    scores: &Scores,
    case: Case,
) -> Result<(Metric, Case), Trouble> {
    let basis = choice.basis();
    let learned = match &basis {
        Basis::Scores(splits) => threshold_scores(scores, splits)?,
        Basis::Nothing | Basis::JudgedLabels => LearnedFrom::default(),
    };
    let source = Source {
        scores: &learned.scores,
        stretches: &learned.stretches,
        case: &case,
    };
    let chosen = choice.choose(&source)?;
    let names = learned
        .splits
        .iter()
        .map(Split::to_string)
        .collect::<Vec<_>>()
        .join(" and ");
    let metric = Metric {
        // A threshold that adapts must not be taken for one that all rows are held against.
        name: if chosen.by_row.is_some() {
            "threshold_at_start"
        } else {
            "threshold"
        }
        .to_owned(),
        value: Some(chosen.value),
        direction: Direction::Neither,
        oracle: basis == Basis::JudgedLabels,
        inflating: false,
        caveat: if names.is_empty() {
            chosen.how
        } else {
            format!("from the scores of {names}: {}", chosen.how)
        },
    };
    let case = match chosen.by_row {
        None => case.at(chosen.value),
        Some(thresholds) => case.at_each(chosen.value, &thresholds),
    };
    Ok((metric, case))
}

/// What a threshold is learned from.
#[derive(Default)]
struct LearnedFrom {
    splits: Vec<Split>,
    scores: Vec<f64>,
    /// The segments, as ranges of `scores`.
    stretches: Vec<Range<usize>>,
}

/// The scores of these splits; if none is named, of calibration, or else of train.
fn threshold_scores(scores: &Scores, splits: &[Split]) -> Result<LearnedFrom, Trouble> {
    let has_rows = |split: &Split| {
        scores
            .of_split(*split)
            .any(|segment| !segment.rows.is_empty())
    };
    let over = if splits.is_empty() {
        let fallback = [Split::Calibration, Split::Train];
        let first = fallback
            .into_iter()
            .find(has_rows)
            .ok_or_else(|| no_rows(scores, &fallback, "learned from"))?;
        vec![first]
    } else if let Some(missing) = splits.iter().find(|split| !has_rows(split)) {
        return Err(no_rows(scores, &[*missing], "learned from"));
    } else {
        splits.to_vec()
    };
    let mut learned = LearnedFrom {
        splits: over,
        ..LearnedFrom::default()
    };
    for segment in learned
        .splits
        .iter()
        .flat_map(|split| scores.of_split(*split))
    {
        let start = learned.scores.len();
        extend_finite(&mut learned.scores, scores, segment)?;
        learned.stretches.push(start..learned.scores.len());
    }
    Ok(learned)
}
