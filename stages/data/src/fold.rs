//! `fold`: divides the rows of training and validation again for cross-validation, one fold at a time.
//! A pipeline repeats what follows with an axis over `index` and gathers the folds with `collect`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use contract::artifact::{ArtifactKind, Segment, Series, Split};
use contract::{Fault, Inputs, Numerics, Outputs, Port, Stage, StageContext, Threads, Trouble};

/// The stage kind.
pub struct Fold;

/// Which part of the rows validates.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Parts of about equal size.
    #[schemars(range(min = 2))]
    pub folds: usize,
    /// The part that validates, from 0; the others train.
    pub index: usize,
}

impl Stage for Fold {
    type Params = Params;

    const NAME: &'static str = "fold";
    // 2: the layout of series.
    const VERSION: u32 = 2;
    const DOC: &'static str = "Divides training and validation rows again for k-fold cross-validation: samples with \
         classes one by one and class by class, other series into consecutive blocks. The other splits stay.";
    const NUMERICS: Numerics = Numerics::Exact;
    const THREADS: Threads = Threads::One;
    const SEEDED: bool = false;
    const EXAMPLE: &'static str = r#"{"folds": 5, "index": 0}"#;

    fn inputs(_: &Params) -> Vec<Port> {
        let doc = "the series to divide";
        vec![Port::new("series", ArtifactKind::Series, doc)]
    }

    fn outputs(_: &Params) -> Vec<Port> {
        let doc = "the same rows, divided for one fold";
        vec![Port::new("series", ArtifactKind::Series, doc)]
    }

    fn check(params: &Params) -> Result<(), Fault> {
        let Params { folds, index } = params;
        if index >= folds {
            let reason = format!("must be below the number of folds, {folds}, not {index}");
            return Err(Fault::new("index", reason));
        }
        Ok(())
    }

    fn run(params: &Params, inputs: &Inputs, _: &StageContext<'_>) -> Result<Outputs, Trouble> {
        let series = inputs.get::<Series>("series")?;
        let divided = Series {
            segments: divide(params, &series)?,
            ..Series::clone(&series)
        };
        Ok(Outputs::one("series", divided))
    }
}

/// Whether the rows of a split are divided again.
fn takes_part(segment: &Segment) -> bool {
    matches!(segment.split, Split::Train | Split::Validation)
}

fn divide(params: &Params, series: &Series) -> Result<Vec<Segment>, Trouble> {
    let (mut samples, mut rows) = (0, 0);
    for segment in &series.segments {
        if takes_part(segment) {
            samples += usize::from(segment.class.is_some());
            rows += segment.rows.len();
        }
    }
    let (count, what) = match samples {
        0 => (rows, "rows"),
        _ => (samples, "samples"),
    };
    if count < params.folds {
        let message = format!(
            "{count} {what} to train and validate cannot be divided into {} folds",
            params.folds
        );
        return Err(Trouble::new(message).hint("ask for fewer folds"));
    }
    Ok(if samples > 0 {
        by_sample(params, series)
    } else {
        by_block(params, series)
    })
}

/// The samples of each class in turn to the folds, so that every fold has its share of every class.
fn by_sample(params: &Params, series: &Series) -> Vec<Segment> {
    let mut seen: BTreeMap<Option<String>, usize> = BTreeMap::new();
    let mut divided = series.segments.clone();
    for segment in &mut divided {
        if !takes_part(segment) {
            continue;
        }
        let number = seen.entry(segment.class.clone()).or_default();
        segment.split = if *number % params.folds == params.index {
            Split::Validation
        } else {
            Split::Train
        };
        *number += 1;
    }
    divided
}

/// The rows of each entity cut into consecutive blocks, of which one validates.
fn by_block(params: &Params, series: &Series) -> Vec<Segment> {
    let mut totals: BTreeMap<&str, usize> = BTreeMap::new();
    for segment in &series.segments {
        if takes_part(segment) {
            *totals.entry(&segment.entity).or_default() += segment.rows.len();
        }
    }
    let mut passed: BTreeMap<&str, usize> = BTreeMap::new();
    let mut divided: Vec<Segment> = Vec::new();
    for segment in &series.segments {
        if !takes_part(segment) {
            divided.push(segment.clone());
            continue;
        }
        let total = totals[segment.entity.as_str()];
        let before = passed.entry(&segment.entity).or_default();
        let length = segment.rows.len();
        // The blocks are cut from all rows of the entity; here is what of them lies in this segment.
        let cut =
            |fold: usize| (fold * total / params.folds).clamp(*before, *before + length) - *before;
        let (first, last) = (cut(params.index), cut(params.index + 1));
        let parts = [
            (0, first, Split::Train),
            (first, last, Split::Validation),
            (last, length, Split::Train),
        ];
        for (start, end, split) in parts {
            if start < end {
                let mut part = segment.clone();
                part.split = split;
                part.rows = segment.rows.start + start..segment.rows.start + end;
                push_or_extend(&mut divided, part);
            }
        }
        *before += length;
    }
    divided
}

/// Joins a segment to the one before it where only the old division parted them.
fn push_or_extend(segments: &mut Vec<Segment>, next: Segment) {
    if let Some(last) = segments.last_mut()
        && last.rows.end == next.rows.start
        && takes_part(last)
    {
        let mut joined = next.clone();
        joined.rows.start = last.rows.start;
        let mut longer = last.clone();
        longer.rows.end = next.rows.end;
        if joined == longer {
            *last = longer;
            return;
        }
    }
    segments.push(next);
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::testing::fault_of;
    use proptest::prelude::*;
    use serde_json::json;

    fn series(segments: Vec<Segment>) -> Series {
        let rows = segments.last().map_or(0, |segment| segment.rows.end);
        Series {
            channels: vec!["a".into()],
            values: vec![0.0; rows],
            labels: vec![],
            times: vec![],
            segments,
            ..Series::default()
        }
    }

    fn rows_of(segments: &[Segment], split: Split) -> Vec<usize> {
        segments
            .iter()
            .filter(|segment| segment.split == split)
            .flat_map(|segment| segment.rows.clone())
            .collect()
    }

    #[test]
    fn blocks_cross_the_old_division() {
        let series = series(vec![
            Segment::new(Split::Train, "a", 0..6),
            Segment::new(Split::Validation, "a", 6..10),
            Segment::new(Split::Test, "a", 10..12),
        ]);
        let fold = |index| divide(&Params { folds: 2, index }, &series).unwrap();
        let found: Vec<_> = fold(0)
            .into_iter()
            .map(|segment| (segment.split, segment.rows))
            .collect();
        assert_eq!(
            found,
            [
                (Split::Validation, 0..5),
                (Split::Train, 5..10),
                (Split::Test, 10..12)
            ]
        );
        assert_eq!(rows_of(&fold(1), Split::Validation), [5, 6, 7, 8, 9]);
        assert!(
            divide(
                &Params {
                    folds: 11,
                    index: 0
                },
                &series
            )
            .unwrap_err()
            .message()
            .contains("10 rows")
        );
    }

    #[test]
    fn every_fold_has_its_share_of_every_class() {
        let sample = |number: usize| {
            let class = if number.is_multiple_of(3) {
                "rare"
            } else {
                "common"
            };
            Segment::new(Split::Train, number.to_string(), number..number + 1)
                .of_class(Some(class.to_owned()))
        };
        let series = series((0..12).map(sample).collect());
        for index in 0..4 {
            let segments = divide(&Params { folds: 4, index }, &series).unwrap();
            let chosen = segments
                .iter()
                .filter(|segment| segment.split == Split::Validation);
            let classes: Vec<&str> = chosen
                .filter_map(|segment| segment.class.as_deref())
                .collect();
            assert_eq!(classes.iter().filter(|class| **class == "rare").count(), 1);
            assert_eq!(classes.len(), 3);
        }
    }

    #[test]
    fn unusable_folds_are_named() {
        let fault = |parameters| fault_of::<Fold>(parameters).unwrap().parameter;
        assert_eq!(fault(json!({"folds": 1, "index": 0})), "folds");
        assert_eq!(fault(json!({"folds": 3, "index": 3})), "index");
    }

    proptest! {
        #[test]
        fn every_row_validates_once(lengths in proptest::collection::vec((1_usize..9, 0_usize..2), 1..6), folds in 2_usize..6) {
            let mut next = 0;
            let segment = |(length, split): &(usize, usize)| {
                let rows = next..next + length;
                next = rows.end;
                Segment::new([Split::Train, Split::Validation][*split], "a", rows)
            };
            let series = series(lengths.iter().map(segment).collect());
            prop_assume!(series.rows() >= folds);
            let mut validated = Vec::new();
            for index in 0..folds {
                let segments = divide(&Params { folds, index }, &series).unwrap();
                let divided = Series { segments: segments.clone(), ..series.clone() };
                prop_assert!(divided.validate().is_ok());
                validated.extend(rows_of(&segments, Split::Validation));
            }
            validated.sort_unstable();
            prop_assert_eq!(validated, (0..series.rows()).collect::<Vec<_>>());
        }
    }
}
