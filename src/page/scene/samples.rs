//! Scores of samples, such as images, each of which is a row of its own.

use contract::artifact::{Artifact, ArtifactKind, Scores, Split};

use super::{ALARMS_LISTED, judge_of, last_split, threshold_of};
use crate::page::gathering::{Gathering, name_of};

/// Whether the rows of a split are samples of a single row each, such as images: they make no course.
pub(super) fn are_samples(scores: &Scores, split: Split) -> bool {
    let rows: Vec<usize> = scores
        .of_split(split)
        .map(|segment| segment.rows.len())
        .collect();
    rows.len() > 1 && rows.iter().all(|rows| *rows <= 1)
}

/// Scores of samples, such as images: the highest, and how many there are.
pub struct SampleScores {
    pub stage: String,
    pub split: &'static str,
    pub count: usize,
    pub threshold: Option<f64>,
    /// The sample, its score, and whether it is labelled as anomalous; the highest first.
    pub highest: Vec<(String, f32, Option<bool>)>,
}

/// The scores of samples that a run has.
pub fn sample_scores(gathering: &Gathering<'_>) -> Vec<SampleScores> {
    let mut found = Vec::new();
    for (index, stage, output) in gathering.outputs(ArtifactKind::Scores) {
        let Some(Artifact::Scores(scores)) = gathering.load(stage, output) else {
            continue;
        };
        let judge = judge_of(gathering.history, index, &output.port);
        let Some(split) = last_split(&scores).filter(|split| are_samples(&scores, *split)) else {
            continue;
        };
        let mut highest = Vec::new();
        for segment in scores.of_split(split) {
            for row in segment.rows.clone() {
                let label = scores.labels.get(row).filter(|_| segment.labelled);
                let is_anomalous = label.map(|label| *label != 0);
                highest.push((segment.entity.clone(), scores.scores[row], is_anomalous));
            }
        }
        let count = highest.len();
        highest.sort_by(|left, right| right.1.total_cmp(&left.1).then(left.0.cmp(&right.0)));
        highest.truncate(ALARMS_LISTED);
        let threshold = judge.and_then(|judge| threshold_of(gathering.history, judge));
        found.push(SampleScores {
            stage: name_of(stage, output),
            split: split.name(),
            count,
            threshold: threshold.and_then(|(metric, _)| metric.value),
            highest,
        });
    }
    found
}
