//! `ensemble`: one set of scores, forecasts or predictions from those of all instances of a stage.
//! Which instances there are is the engine's business; metrics of each alone are gathered by `collect`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use contract::artifact::{ArtifactKind, Forecasts, Predictions, Scores, Split, Typed};
use contract::{Fault, Inputs, Numerics, Outputs, Port, Stage, StageContext, Threads, Trouble};

/// The stage kind.
pub struct Ensemble;

/// What the members give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Of {
    #[default]
    Scores,
    Forecasts,
    Predictions,
}

impl Of {
    fn kind(self) -> ArtifactKind {
        match self {
            Self::Scores => ArtifactKind::Scores,
            Self::Forecasts => ArtifactKind::Forecasts,
            Self::Predictions => ArtifactKind::Predictions,
        }
    }

    fn port(self) -> &'static str {
        match self {
            Self::Scores => "scores",
            Self::Forecasts => "forecasts",
            Self::Predictions => "predictions",
        }
    }
}

/// How the members' values become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Combine {
    #[default]
    Mean,
    Median,
    Max,
}

impl Combine {
    /// The common value; `values` may be reordered and is not empty.
    fn of(self, values: &mut [f64]) -> f64 {
        match self {
            Self::Mean => values.iter().sum::<f64>() / values.len() as f64,
            Self::Max => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            Self::Median => {
                values.sort_by(f64::total_cmp);
                let half = values.len() / 2;
                if values.len().is_multiple_of(2) {
                    (values[half - 1] + values[half]) / 2.0
                } else {
                    values[half]
                }
            }
        }
    }
}

/// How members are combined.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// What the members give.
    pub of: Of,
    /// How their values become one.
    pub combine: Combine,
    /// For scores: the split whose scores bring each member to mean 0 and deviation 1 first, for members that score on
    /// different scales.
    pub standardize_by: Option<Split>,
}

impl Stage for Ensemble {
    type Params = Params;

    const NAME: &'static str = "ensemble";
    // 2: the times of the members.
    const VERSION: u32 = 2;
    const DOC: &'static str =
        "Combines the scores, forecasts or predictions of all instances into those of an ensemble.";
    const NUMERICS: Numerics = Numerics::Exact;
    const THREADS: Threads = Threads::One;
    const SEEDED: bool = false;
    const GATHERS: bool = true;

    fn inputs(params: &Params) -> Vec<Port> {
        let doc = "what the members give, one per instance";
        vec![Port::new("members", params.of.kind(), doc).many()]
    }

    fn outputs(params: &Params) -> Vec<Port> {
        let doc = "the same of the ensemble";
        vec![Port::new(params.of.port(), params.of.kind(), doc)]
    }

    fn check(params: &Params) -> Result<(), Fault> {
        if params.standardize_by.is_some() && params.of != Of::Scores {
            return Err(Fault::new("standardize_by", "is for scores alone"));
        }
        if params.of == Of::Predictions && params.combine != Combine::Mean {
            let reason = "must be `mean` for predictions, which are probabilities";
            return Err(Fault::new("combine", reason));
        }
        Ok(())
    }

    fn run(params: &Params, inputs: &Inputs, _: &StageContext<'_>) -> Result<Outputs, Trouble> {
        let port = params.of.port();
        Ok(match params.of {
            Of::Scores => Outputs::one(port, scores(params, &members(inputs)?)?),
            Of::Forecasts => Outputs::one(port, forecasts(params, &members(inputs)?)?),
            Of::Predictions => Outputs::one(port, predictions(params, &members(inputs)?)?),
        })
    }
}

/// The members with their names; at least one.
fn members<T: Typed>(inputs: &Inputs) -> Result<Vec<(&str, &T)>, Trouble> {
    let mut members = Vec::new();
    for (name, artifact) in inputs.all("members") {
        let Some(content) = T::from_artifact(artifact) else {
            let message = format!("`{name}` is {}, not {}", artifact.kind(), T::KIND);
            return Err(Trouble::new(message));
        };
        members.push((name.as_str(), &**content));
    }
    if members.is_empty() {
        return Err(Trouble::new(
            "an ensemble needs at least one member: nothing is connected to `members`",
        ));
    }
    Ok(members)
}

/// Refuses members that are not about the same things as the first.
fn check_alike<T>(
    members: &[(&str, &T)],
    what: &str,
    alike: impl Fn(&T, &T) -> bool,
) -> Result<(), Trouble> {
    let (first_name, first) = members[0];
    for (name, other) in members {
        if !alike(first, other) {
            let message = format!("`{first_name}` and `{name}` do not have the same {what}");
            return Err(Trouble::new(message)
                .hint("the members of an ensemble judge the same rows of the same data"));
        }
    }
    Ok(())
}

/// Value by value over the members.
fn combined(combine: Combine, members: &[Vec<f64>]) -> Vec<f32> {
    let mut values = vec![0.0; members.len()];
    let mut common = Vec::with_capacity(members[0].len());
    for index in 0..members[0].len() {
        for (value, member) in values.iter_mut().zip(members) {
            *value = member[index];
        }
        common.push(combine.of(&mut values) as f32);
    }
    common
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

fn scores(params: &Params, members: &[(&str, &Scores)]) -> Result<Scores, Trouble> {
    check_alike(members, "rows", |one, other| {
        (&one.segments, &one.labels, &one.times) == (&other.segments, &other.labels, &other.times)
    })?;
    let mut values = Vec::with_capacity(members.len());
    for (name, member) in members {
        values.push(match params.standardize_by {
            None => wide(&member.scores),
            Some(split) => standardized(name, member, split)?,
        });
    }
    let first = members[0].1;
    Ok(Scores {
        scores: combined(params.combine, &values),
        labels: first.labels.clone(),
        times: first.times.clone(),
        segments: first.segments.clone(),
        channels: Vec::new(),
        contributions: Vec::new(),
    })
}

/// A member's scores, brought to mean 0 and deviation 1 over those of one split.
fn standardized(name: &str, member: &Scores, split: Split) -> Result<Vec<f64>, Trouble> {
    let basis = wide(&member.values(split));
    if basis.is_empty() {
        return Err(Trouble::new(format!(
            "`{name}` has no scores of the split `{split}` to standardize by"
        ))
        .hint("score that split too, or choose another for `standardize_by`"));
    }
    let mean = basis.iter().sum::<f64>() / basis.len() as f64;
    let squares = basis.iter().map(|value| (value - mean).powi(2));
    let variance = squares.sum::<f64>() / basis.len() as f64;
    let deviation = if variance > 0.0 { variance.sqrt() } else { 1.0 };
    let mut scores = wide(&member.scores);
    for score in &mut scores {
        *score = (*score - mean) / deviation;
    }
    Ok(scores)
}

fn forecasts(params: &Params, members: &[(&str, &Forecasts)]) -> Result<Forecasts, Trouble> {
    check_alike(members, "windows", |one, other| {
        (&one.channels, one.horizon, &one.origins)
            == (&other.channels, other.horizon, &other.origins)
            && one.judged == other.judged
    })?;
    check_alike(members, "measured values", |one, other| {
        one.actual == other.actual
    })?;
    let values = members.iter().map(|(_, member)| wide(&member.predicted));
    let values: Vec<Vec<f64>> = values.collect();
    Ok(Forecasts {
        predicted: combined(params.combine, &values),
        ..members[0].1.clone()
    })
}

fn predictions(params: &Params, members: &[(&str, &Predictions)]) -> Result<Predictions, Trouble> {
    check_alike(members, "samples and classes", |one, other| {
        (&one.classes, &one.samples, &one.truth) == (&other.classes, &other.samples, &other.truth)
    })?;
    let values = members
        .iter()
        .map(|(_, member)| wide(&member.probabilities));
    let values: Vec<Vec<f64>> = values.collect();
    Ok(Predictions {
        probabilities: combined(params.combine, &values),
        ..members[0].1.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::NullHost;
    use contract::artifact::{Artifact, Origin, Segment};

    fn of(params: &Params, members: Vec<Artifact>) -> Result<Artifact, Trouble> {
        let mut inputs = Inputs::default();
        for (number, member) in members.into_iter().enumerate() {
            inputs.add("members", &format!("seed={number}"), member);
        }
        let outputs = Ensemble::run(params, &inputs, &NullHost::default().context(1))?.into_map();
        Ok(outputs[params.of.port()].clone())
    }

    fn scored(scores: [f32; 4]) -> Artifact {
        let segments = vec![
            Segment::new(Split::Train, "m", 0..2),
            Segment::new(Split::Test, "m", 2..4),
        ];
        let (channels, contributions) = (Vec::new(), Vec::new());
        Scores {
            scores: scores.to_vec(),
            labels: vec![0, 0, 0, 1],
            times: vec![10, 20, 30, 40],
            segments,
            channels,
            contributions,
        }
        .into()
    }

    fn values(artifact: &Artifact) -> Vec<f32> {
        match artifact {
            Artifact::Scores(scores) => scores.scores.clone(),
            Artifact::Forecasts(forecasts) => forecasts.predicted.clone(),
            Artifact::Predictions(predictions) => predictions.probabilities.clone(),
            other => panic!("{} was not asked for", other.kind()),
        }
    }

    #[test]
    fn scores_are_combined_row_by_row() {
        let members = || {
            vec![
                scored([0.0, 2.0, 4.0, 8.0]),
                scored([2.0, 2.0, 0.0, 2.0]),
                scored([1.0, 5.0, 2.0, 2.0]),
            ]
        };
        let with = |combine| {
            values(
                &of(
                    &Params {
                        combine,
                        ..Params::default()
                    },
                    members(),
                )
                .unwrap(),
            )
        };
        assert_eq!(with(Combine::Mean), [1.0, 3.0, 2.0, 4.0]);
        assert_eq!(with(Combine::Median), [1.0, 2.0, 2.0, 2.0]);
        assert_eq!(with(Combine::Max), [2.0, 5.0, 4.0, 8.0]);
        let params = Params {
            standardize_by: Some(Split::Train),
            ..Params::default()
        };
        // Mean and deviation over the training rows: 1 and 1 in the first, 2 and 0 in the second.
        let found = values(
            &of(
                &params,
                vec![scored([0.0, 2.0, 4.0, 8.0]), scored([2.0, 2.0, 0.0, 2.0])],
            )
            .unwrap(),
        );
        assert_eq!(found, [-0.5, 0.5, 0.5, 3.5]);
    }

    #[test]
    fn forecasts_and_predictions_are_averaged() {
        let forecast = |value: f32| -> Artifact {
            let origins = vec![Origin {
                split: Split::Test,
                entity: "m".into(),
                row: 3,
            }];
            let (channels, predicted, actual) =
                (vec!["a".into()], vec![value, 1.0], vec![0.0, 1.0]);
            Forecasts {
                channels,
                horizon: 2,
                origins,
                predicted,
                actual,
                ..Forecasts::default()
            }
            .into()
        };
        let params = Params {
            of: Of::Forecasts,
            ..Params::default()
        };
        assert_eq!(
            values(&of(&params, vec![forecast(1.0), forecast(4.0)]).unwrap()),
            [2.5, 1.0]
        );
        let prediction = |probability: f32| -> Artifact {
            let (classes, samples) = (vec!["a".into(), "b".into()], vec!["s".into()]);
            let probabilities = vec![probability, 1.0 - probability];
            Predictions {
                classes,
                samples,
                splits: vec![Split::Test],
                truth: vec![1],
                probabilities,
                ..Predictions::default()
            }
            .into()
        };
        let params = Params {
            of: Of::Predictions,
            ..Params::default()
        };
        assert_eq!(
            values(&of(&params, vec![prediction(0.25), prediction(0.75)]).unwrap()),
            [0.5, 0.5]
        );
    }

    #[test]
    fn members_must_be_about_the_same() {
        let mut other = scored([0.0; 4]);
        if let Artifact::Scores(scores) = &mut other {
            std::sync::Arc::make_mut(scores).labels[0] = 1;
        }
        let error = of(&Params::default(), vec![scored([0.0; 4]), other]).unwrap_err();
        assert!(
            error.message().contains("seed=1") && error.hint_text().is_some(),
            "{error}"
        );
        assert!(
            of(&Params::default(), Vec::new())
                .unwrap_err()
                .message()
                .contains("at least one")
        );
        let params = Params {
            standardize_by: Some(Split::Calibration),
            ..Params::default()
        };
        assert!(
            of(&params, vec![scored([0.0; 4])])
                .unwrap_err()
                .message()
                .contains("calibration")
        );
        assert_eq!(
            Ensemble::check(&Params {
                of: Of::Forecasts,
                ..params
            })
            .unwrap_err()
            .parameter,
            "standardize_by"
        );
    }
}
