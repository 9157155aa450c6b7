//! Judging anomaly scores: the rows that have labels, the threshold, and the metrics.

use std::ops::Range;

use crate::metrics::{self, Case, Subject};
use crate::thresholds::{Basis, Chosen, Source, ThresholdChoice};
use contract::artifact::{Direction, Metric, Metrics, Scores, Segment, Split};
use contract::{StageContext, Trouble};

use super::{Params, none_of_split};

/// The threshold and the metrics of one split.
pub fn judge(
    params: &Params,
    scores: &Scores,
    context: &StageContext<'_>,
) -> Result<Metrics, Trouble> {
    let threshold = params.threshold.as_ref().ok_or_else(|| {
        Trouble::new("scores are judged at a threshold, and none is given")
            .hint("say how it is chosen: `threshold: {kind: quantile, anomaly_ratio: 1.0}`")
    })?;
    let (case, left_out) = judged_case(scores, params.on)?;
    if left_out > 0 {
        context.host.note(&format!(
            "{left_out} segments of split `{}` have no labels and are not judged",
            params.on
        ));
    }
    if case.events.is_empty() {
        context.host.note(&format!(
            "no row of split `{}` is labelled as an anomaly: most metrics are undefined",
            params.on
        ));
    }
    let (threshold, case) = apply_threshold(threshold, scores, case)?;
    context.check_cancelled()?;
    let choices = params.choices(Subject::Detection);
    let mut entries = metrics::evaluate_all(&choices, &case, threshold.oracle)?;
    entries.insert(0, threshold);
    Ok(Metrics { entries })
}

/// The segments of a split that have rows and labels.
fn labelled_segments(scores: &Scores, split: Split) -> Vec<&Segment> {
    let mut segments: Vec<&Segment> = scores.of_split(split).collect();
    segments.retain(|segment| {
        !segment.rows.is_empty() && segment.labelled && !scores.labels.is_empty()
    });
    segments
}

/// The threshold of each judged row, if it moves.
pub(super) fn moving(
    choice: &ThresholdChoice,
    scores: &Scores,
    split: Split,
) -> Option<Vec<(usize, f64)>> {
    let (case, _) = judged_case(scores, split).ok()?;
    let (chosen, _) = chosen(choice, scores, &case).ok()?;
    let rows = labelled_segments(scores, split)
        .into_iter()
        .flat_map(|segment| segment.rows.clone());
    Some(rows.zip(chosen.by_row?).collect())
}

/// The labelled rows of a split, segment after segment, and how many segments have no labels.
fn judged_case(scores: &Scores, split: Split) -> Result<(Case, usize), Trouble> {
    let mut segments: Vec<&Segment> = scores.of_split(split).collect();
    segments.retain(|segment| !segment.rows.is_empty());
    if segments.is_empty() {
        return Err(no_rows(scores, &[split], "judged"));
    }
    let labelled = labelled_segments(scores, split);
    if labelled.is_empty() {
        return Err(Trouble::new(format!("the rows of split `{split}` have no labels to judge by"))
            .hint("judge a split with labels (`on: …`), or ingest a data set that has some; scores alone can be drawn by `render-plots`"));
    }
    let left_out = segments.len() - labelled.len();
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    let mut stretches: Vec<Range<usize>> = Vec::new();
    let mut last: Option<&Segment> = None;
    for segment in labelled {
        let start = values.len();
        extend_finite(&mut values, scores, segment)?;
        let of_segment = &scores.labels[segment.rows.clone()];
        labels.extend(of_segment.iter().map(|label| *label != 0));
        // Rows that were left out within an entity do not make two events of one.
        match stretches.last_mut() {
            Some(stretch) if last.is_some_and(|last| last.entity == segment.entity) => {
                stretch.end = values.len();
            }
            _ => stretches.push(start..values.len()),
        }
        last = Some(segment);
    }
    let case = Case::new(values, labels, stretches).map_err(Trouble::new)?;
    Ok((case, left_out))
}

fn extend_finite(values: &mut Vec<f64>, scores: &Scores, segment: &Segment) -> Result<(), Trouble> {
    for row in segment.rows.clone() {
        let score = scores.scores[row];
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
        values.push(f64::from(score));
    }
    Ok(())
}

fn has_rows(scores: &Scores, split: Split) -> bool {
    let mut segments = scores.of_split(split);
    segments.any(|segment| !segment.rows.is_empty())
}

fn no_rows(scores: &Scores, wanted: &[Split], purpose: &str) -> Trouble {
    none_of_split("scores", wanted, purpose, |split| has_rows(scores, split))
}

/// Chooses the threshold, and says from which splits.
fn chosen(
    choice: &ThresholdChoice,
    scores: &Scores,
    case: &Case,
) -> Result<(Chosen, Vec<Split>), Trouble> {
    let learned = match &choice.basis() {
        Basis::Scores(splits) => threshold_scores(scores, splits)?,
        Basis::Nothing | Basis::JudgedLabels => LearnedFrom::default(),
    };
    let source = Source {
        scores: &learned.scores,
        stretches: &learned.stretches,
        case,
    };
    Ok((choice.choose(&source)?, learned.splits))
}

/// Chooses the threshold; gives it as a metric, and the case with its alarms.
fn apply_threshold(
    choice: &ThresholdChoice,
    scores: &Scores,
    case: Case,
) -> Result<(Metric, Case), Trouble> {
    let (chosen, splits) = chosen(choice, scores, &case)?;
    let mut caveat = chosen.how;
    if !splits.is_empty() {
        let names: Vec<String> = splits.iter().map(Split::to_string).collect();
        caveat = format!("from the scores of {}: {caveat}", names.join(" and "));
    }
    // A threshold that adapts must not be taken for one that all rows are held against.
    let (name, case) = match chosen.by_row {
        None => ("threshold", case.at(chosen.value)),
        Some(thresholds) => {
            let case = case.at_each(chosen.value, &thresholds);
            ("threshold_at_start", case)
        }
    };
    let metric = Metric {
        name: name.to_owned(),
        value: Some(chosen.value),
        direction: Direction::Neither,
        oracle: choice.basis() == Basis::JudgedLabels,
        inflating: false,
        caveat,
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
    let mut over = splits.to_vec();
    if splits.is_empty() {
        let fallback = [Split::Calibration, Split::Train];
        over.extend(fallback.into_iter().find(|split| has_rows(scores, *split)));
        if over.is_empty() {
            return Err(no_rows(scores, &fallback, "learned from"));
        }
    }
    let mut learned = LearnedFrom::default();
    for split in over {
        if !has_rows(scores, split) {
            return Err(no_rows(scores, &[split], "learned from"));
        }
        for segment in scores.of_split(split) {
            let start = learned.scores.len();
            extend_finite(&mut learned.scores, scores, segment)?;
            learned.stretches.push(start..learned.scores.len());
        }
        learned.splits.push(split);
    }
    Ok(learned)
}
