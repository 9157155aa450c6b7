//! How the rows of one file are cut, in order of time, into training, validation, calibration and test parts: by shares, by
//! numbers of rows, or at rows and moments. Never at random: neighbouring rows of a time series are near copies of each other.

use std::ops::Range;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shares::OWN_TEST;
use super::times::Clock;
use contract::artifact::Split;
use contract::{Fault, Trouble};

/// The parts, in order of time. A number is a share of the rows that no other part takes by `rows`, `from` or `before`; shares
/// stand beside each other and add up to 1. Rows of no part are left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SplitPlan {
    /// Fits weights and statistics.
    pub train: Part,
    /// Chooses among epochs and hyperparameters.
    pub validation: Part,
    /// Held out of training and selection; sets thresholds.
    pub calibration: Part,
    /// Judges the result. Stays 0 where the source has its own test part.
    pub test: Part,
}

/// What one part takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Part {
    /// A share of the rows that the others leave.
    Share(#[schemars(range(min = 0.0, max = 1.0))] f64),
    /// All that the others leave.
    Rest(Rest),
    Placed(Placed),
}

/// A part that takes what no other does. Its only form has no words of its own, so that its schema is a plain word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Rest {
    Rest,
}

/// A part of so many rows, or between rows or moments. It begins where the part before it ends, unless it says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Placed {
    /// How many rows.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<usize>,
    /// The first row, counted from 0, or a time from which on its rows are: `2016-07-01` or `2016-07-01T12:00+02:00`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Place>,
    /// The row or the time before which it ends. A time without an offset is one of the zone of the column of times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Place>,
}

/// A place among the rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Place {
    Row(usize),
    Time(String),
}

/// A map in YAML says each part that it wants.
impl Default for Part {
    fn default() -> Self {
        Self::Share(0.0)
    }
}

/// A part whose ends are looked for. Positions are signed, since a part may ask for more rows than there are.
struct Bounds<'a> {
    split: Split,
    part: &'a Part,
    start: Option<i64>,
    end: Option<i64>,
}

impl SplitPlan {
    /// Shares alone.
    pub fn of_shares([train, validation, calibration, test]: [f64; 4]) -> Self {
        Self {
            train: Part::Share(train),
            validation: Part::Share(validation),
            calibration: Part::Share(calibration),
            test: Part::Share(test),
        }
    }

    /// For the training part of a source with its own test part.
    pub fn of_training_part() -> Self {
        Self::of_shares([0.7, 0.1, 0.2, 0.0])
    }

    /// For a source that is one stretch of rows.
    pub fn of_whole() -> Self {
        Self::of_shares([0.6, 0.1, 0.1, 0.2])
    }

    /// The parts that take something.
    fn parts(&self) -> Vec<(Split, &Part)> {
        let all = [
            (Split::Train, &self.train),
            (Split::Validation, &self.validation),
            (Split::Calibration, &self.calibration),
            (Split::Test, &self.test),
        ];
        let takes =
            |(_, part): &(Split, &Part)| !matches!(part, Part::Share(share) if *share <= 0.0);
        all.into_iter().filter(takes).collect()
    }

    /// What the schema cannot say. `own_test` says that the source has its own test part; `clock` reads the moments, and is
    /// nothing where the rows have no times.
    ///
    /// # Errors
    /// The parameter at fault.
    pub(super) fn check(&self, own_test: bool, clock: Option<&Clock>) -> Result<(), Fault> {
        if own_test && self.parts().iter().any(|(split, _)| *split == Split::Test) {
            return Err(Fault::new("split.test", OWN_TEST));
        }
        if self.parts().is_empty() {
            return Err(Fault::new("split", "no part takes any rows"));
        }
        for (split, part) in self.parts() {
            if let Part::Placed(placed) = part {
                placed.check(&format!("split.{split}"), clock)?;
            }
        }
        self.check_shares()?;
        // Whether the ends of all parts can be found does not depend on where they are.
        for bounds in self.bounds(1 << 40, |_| 1 << 20) {
            if let (Part::Placed(_), None, _) | (Part::Placed(_), _, None) =
                (bounds.part, bounds.start, bounds.end)
            {
                let side = if bounds.start.is_none() {
                    "starts"
                } else {
                    "ends"
                };
                let reason = format!(
                    "nothing says where this part {side}, since its neighbour takes a share or does not say it either: add `rows`, `from` or `before`"
                );
                return Err(Fault::new(format!("split.{}", bounds.split), reason));
            }
        }
        Ok(())
    }

    /// Shares add up to 1 and stand beside each other, so that they divide one stretch of rows.
    fn check_shares(&self) -> Result<(), Fault> {
        let (mut sum, mut rests, mut runs, mut in_run) = (0.0, 0, 0, false);
        for (_, part) in self.parts() {
            let is_share = !matches!(part, Part::Placed(_));
            runs += usize::from(is_share && !in_run);
            in_run = is_share;
            match part {
                Part::Share(share) => sum += share,
                Part::Rest(_) => rests += 1,
                Part::Placed(_) => {}
            }
        }
        let reason = match (runs, rests) {
            (0, _) => return Ok(()),
            (1, 0) if (sum - 1.0_f64).abs() > 1e-9 => {
                format!("the fractions add up to {sum}, not to 1")
            }
            (1, 1) if sum > 1.0 - 1e-9 => "the fractions leave nothing for `rest`".to_owned(),
            (1, 2..) => "only one part can be the `rest`".to_owned(),
            (1, _) => return Ok(()),
            _ => "parts with fractions stand beside each other, without one of `rows`, `from` or `before` between them"
                .to_owned(),
        };
        Err(Fault::new("split", reason))
    }

    /// The ends of parts that are placed, as far as they and their neighbours say; shares stay open.
    fn bounds(&self, rows: i64, at: impl Fn(&Place) -> i64) -> Vec<Bounds<'_>> {
        let mut all = Vec::new();
        for (split, part) in self.parts() {
            let (mut start, mut end) = (None, None);
            if let Part::Placed(placed) = part {
                (start, end) = (
                    placed.from.as_ref().map(&at),
                    placed.before.as_ref().map(&at),
                );
            }
            all.push(Bounds {
                split,
                part,
                start,
                end,
            });
        }
        let mut before = Some(0);
        for bounds in &mut all {
            if let Part::Placed(placed) = bounds.part {
                let count = placed.rows.map(as_place);
                if let (Some(end), Some(count), None) = (bounds.end, count, bounds.start) {
                    bounds.start = Some(end - count);
                }
                bounds.start = bounds.start.or(before);
                if let (Some(start), Some(count), None) = (bounds.start, count, bounds.end) {
                    bounds.end = Some(start + count);
                }
            }
            before = bounds.end;
        }
        // What stands behind shares is placed from the end.
        let mut after = Some(rows);
        for bounds in all.iter_mut().rev() {
            if let Part::Placed(placed) = bounds.part {
                bounds.end = bounds.end.or(after);
                if let (Some(end), Some(count), None) = (bounds.end, placed.rows, bounds.start) {
                    bounds.start = Some(end - as_place(count));
                }
            }
            after = bounds.start;
        }
        all
    }

    /// Cuts `rows` rows with these times, if there are any. Every boundary of shares is rounded down; the last of them takes what
    /// remains.
    ///
    /// # Errors
    /// If a part would be empty, reaches beyond the rows or into another one, or if a moment lies outside of the times.
    pub(super) fn cut(
        &self,
        rows: usize,
        times: &[i64],
        clock: &Clock,
    ) -> Result<Vec<(Split, Range<usize>)>, Trouble> {
        for (split, part) in self.parts() {
            if let Part::Placed(placed) = part {
                placed.check_within(split, rows, times, clock)?;
            }
        }
        let at = |place: &Place| match place {
            Place::Row(row) => as_place(*row),
            Place::Time(text) => {
                let moment = clock.moment(text).unwrap_or(i64::MAX);
                as_place(times.partition_point(|time| *time < moment))
            }
        };
        let mut bounds = self.bounds(as_place(rows), at);
        self.divide(&mut bounds, as_place(rows));
        for Bounds {
            split, start, end, ..
        } in &bounds
        {
            if start.is_some_and(|start| start < 0) || end.is_some_and(|end| end > as_place(rows)) {
                let message = format!("the split `{split}` asks for more rows than there are");
                let hint = format!("there are {rows} rows; see `split`");
                return Err(Trouble::new(message).hint(hint));
            }
        }
        let mut parts: Vec<(Split, Range<usize>)> = Vec::with_capacity(bounds.len());
        for Bounds {
            split,
            part,
            start,
            end,
        } in bounds
        {
            let (start, end) = (start.unwrap_or(0), end.unwrap_or(0));
            if start >= end {
                let message = format!("the split `{split}` would have no rows");
                return Err(Trouble::new(message).hint(part.hint(split, rows)));
            }
            if let Some((before, taken)) = parts.last()
                && as_place(taken.end) > start
            {
                let message = format!(
                    "the split `{split}` starts at row {start}, within `{before}`, which ends before row {}",
                    taken.end
                );
                return Err(Trouble::new(message).hint("rows are counted from 0; see `split`"));
            }
            parts.push((split, start as usize..end as usize));
        }
        Ok(parts)
    }

    /// Divides what is left among the shares, which stand beside each other.
    fn divide(&self, bounds: &mut [Bounds<'_>], rows: i64) {
        let is_share = |bounds: &Bounds<'_>| !matches!(bounds.part, Part::Placed(_));
        let Some(first) = bounds.iter().position(is_share) else {
            return;
        };
        let count = bounds[first..]
            .iter()
            .take_while(|part| is_share(part))
            .count();
        let left = match first {
            0 => 0,
            _ => bounds[first - 1].end.unwrap_or(0),
        };
        let right = match bounds.get(first + count) {
            Some(next) => next.start.unwrap_or(rows),
            None => rows,
        };
        let mut said = 0.0;
        for (_, part) in self.parts() {
            if let Part::Share(share) = part {
                said += share;
            }
        }
        let (mut sum, mut start) = (0.0, left);
        for bounds in &mut bounds[first..first + count] {
            sum += match bounds.part {
                Part::Share(share) => *share,
                Part::Rest(_) | Part::Placed(_) => 1.0 - said,
            };
            // A hair above the sum, so that 0.7 + 0.1 of 10 rows is 8 whatever the rounding of the sum.
            let end = if sum > 1.0 - 1e-9 {
                right
            } else {
                left + (sum * (right - left).max(0) as f64 + 1e-6) as i64
            };
            (bounds.start, bounds.end) = (Some(start), Some(end));
            start = end;
        }
    }
}

/// A number of rows as a position.
fn as_place(rows: usize) -> i64 {
    i64::try_from(rows)
        .unwrap_or(i64::MAX / 4)
        .min(i64::MAX / 4)
}

impl Part {
    /// What to do where it is empty.
    fn hint(&self, split: Split, rows: usize) -> String {
        match self {
            Self::Share(share) => format!(
                "{rows} rows are too few for `{split}: {share}`: leave it out or give it more"
            ),
            Self::Rest(_) => "the other parts take all rows".to_owned(),
            Self::Placed(_) => format!("there are {rows} rows; `from` comes before `before`"),
        }
    }
}

impl Placed {
    fn places(&self) -> impl Iterator<Item = (&'static str, &Place)> {
        let places = [
            ("from", self.from.as_ref()),
            ("before", self.before.as_ref()),
        ];
        places
            .into_iter()
            .filter_map(|(name, place)| Some((name, place?)))
    }

    fn check(&self, parameter: &str, clock: Option<&Clock>) -> Result<(), Fault> {
        match (self.rows, &self.from, &self.before) {
            (None, None, None) => {
                let reason = "says neither `rows` nor `from` nor `before`";
                return Err(Fault::new(parameter, reason));
            }
            (Some(_), Some(_), Some(_)) => {
                let reason = "two of `rows`, `from` and `before` say all; leave one out";
                return Err(Fault::new(parameter, reason));
            }
            (_, Some(Place::Row(from)), Some(Place::Row(before))) if from >= before => {
                let reason =
                    format!("holds no rows: it starts at row {from} and ends before row {before}");
                return Err(Fault::new(parameter, reason));
            }
            _ => {}
        }
        let mut moments = Vec::new();
        for (name, place) in self.places() {
            let Place::Time(text) = place else { continue };
            let parameter = format!("{parameter}.{name}");
            let Some(clock) = clock else {
                let reason = "the rows have no times to cut at: name their column with `time`, or give the number of a row";
                return Err(Fault::new(parameter, reason));
            };
            let Some(moment) = clock.moment(text) else {
                let zone = clock.zone.as_ref().and_then(|zone| zone.iana_name());
                let reason = format!(
                    "`{text}` is not a time of {}, such as 2016-07-01 or 2016-07-01T13:45:00",
                    zone.unwrap_or("UTC")
                );
                return Err(Fault::new(parameter, reason));
            };
            moments.push(moment);
        }
        if let [from, before] = moments[..]
            && from >= before
        {
            return Err(Fault::new(
                parameter,
                "holds no rows: it ends before it starts",
            ));
        }
        Ok(())
    }

    /// Whether moments lie within the times, or a step beside them, and rows within the rows.
    fn check_within(
        &self,
        split: Split,
        rows: usize,
        times: &[i64],
        clock: &Clock,
    ) -> Result<(), Trouble> {
        for (name, place) in self.places() {
            let text = match place {
                Place::Row(row) if *row > rows || (*row == rows && name == "from") => {
                    let message =
                        format!("`split.{split}.{name}` is row {row}, and there are {rows} rows");
                    return Err(Trouble::new(message).hint("rows are counted from 0"));
                }
                Place::Row(_) => continue,
                Place::Time(text) => text,
            };
            let (Some(moment), Some(first), Some(last)) =
                (clock.moment(text), times.first(), times.last())
            else {
                let message = format!("`split.{split}.{name}` is a time, and the rows have none");
                return Err(Trouble::new(message));
            };
            // The next day names the end of one whose last row is at 23:00.
            let steps = times.len() as i64 - 1;
            let step = last.saturating_sub(*first) / steps.max(1);
            let (low, high) = (first.saturating_sub(step), last.saturating_add(step));
            if !(low..=high).contains(&moment) {
                let message = format!(
                    "`split.{split}.{name}` ({text}) lies outside of the times of the rows"
                );
                let hint = format!("they are from {} to {}", written(*first), written(*last));
                return Err(Trouble::new(message).hint(hint));
            }
        }
        Ok(())
    }
}

/// A time for messages, in UTC.
pub(super) fn written(milliseconds: i64) -> String {
    match Timestamp::from_millisecond(milliseconds) {
        Ok(moment) => moment.to_string(),
        Err(_) => format!("{milliseconds} ms since 1970"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::readers::times::ISO;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn plan(value: Value) -> SplitPlan {
        serde_json::from_value(value).unwrap()
    }

    /// A row a day from the first of July 2016 on.
    fn days(rows: usize) -> Vec<i64> {
        (0..rows as i64)
            .map(|day| 1_467_331_200_000 + day * 86_400_000)
            .collect()
    }

    fn cut(value: Value, rows: usize) -> Result<Vec<(&'static str, Range<usize>)>, String> {
        let plan = plan(value);
        plan.check(false, Some(&ISO))
            .map_err(|fault| fault.to_string())?;
        let parts = plan
            .cut(rows, &days(rows), &ISO)
            .map_err(|error| format!("{error:?}"))?;
        Ok(parts
            .into_iter()
            .map(|(split, rows)| (split.name(), rows))
            .collect())
    }

    #[test]
    fn shares_are_cut_as_written() {
        let parts = SplitPlan::of_training_part()
            .cut(23_693, &[], &ISO)
            .unwrap();
        let expected = [
            (Split::Train, 0..16_585),
            (Split::Validation, 16_585..18_954),
            (Split::Calibration, 18_954..23_693),
        ];
        assert_eq!(parts, expected);
        let parts = SplitPlan::of_training_part().cut(10, &[], &ISO).unwrap();
        assert_eq!(parts[1], (Split::Validation, 7..8));
        assert!(SplitPlan::of_training_part().cut(3, &[], &ISO).is_err());
    }

    #[test]
    fn shares_are_kept_as_they_were_written_down_before() {
        let kept = serde_json::to_value(plan(json!({"train": 1}))).unwrap();
        let expected = json!({"train": 1.0, "validation": 0.0, "calibration": 0.0, "test": 0.0});
        assert_eq!(kept, expected);
        let dated = json!({"train": {"before": "2016-07-03"}, "validation": 0.0, "calibration": 0.0, "test": "rest"});
        assert_eq!(serde_json::to_value(plan(dated.clone())).unwrap(), dated);
    }

    #[test]
    fn rows_and_moments_and_shares_go_together() {
        for (split, expected) in [
            (json!({"train": {"rows": 4}}), vec![("train", 0..4)]),
            (
                json!({"train": {"rows": 4}, "validation": {"rows": 1}, "test": "rest"}),
                vec![("train", 0..4), ("validation", 4..5), ("test", 5..20)],
            ),
            (
                json!({"train": {"before": 6}, "test": {"from": 9}}),
                vec![("train", 0..6), ("test", 9..20)],
            ),
            (
                json!({"train": {"before": "2016-07-06"}, "test": {"from": "2016-07-06T00:00:01"}}),
                vec![("train", 0..5), ("test", 6..20)],
            ),
            (
                json!({"train": 0.75, "validation": 0.25, "test": {"rows": 8}}),
                vec![("train", 0..9), ("validation", 9..12), ("test", 12..20)],
            ),
            (
                json!({"train": {"from": "2016-07-03", "rows": 2}, "calibration": 0.5, "test": 0.5}),
                vec![("train", 2..4), ("calibration", 4..12), ("test", 12..20)],
            ),
            (
                json!({"train": "rest", "validation": 0.25, "test": {"from": "2016-07-17T02:00+02:00"}}),
                vec![("train", 0..12), ("validation", 12..16), ("test", 16..20)],
            ),
            (
                json!({"train": {"rows": 3, "before": 10}, "test": {"before": "2016-07-21"}}),
                vec![("train", 7..10), ("test", 10..20)],
            ),
        ] {
            assert_eq!(cut(split.clone(), 20), Ok(expected), "{split}");
        }
    }

    #[test]
    fn what_cannot_be_cut_is_said() {
        for (split, message) in [
            (json!({"train": 0.7, "validation": 0.2}), "add up to 0.8999"),
            (
                json!({"train": 0.7, "validation": 0.3, "test": "rest"}),
                "nothing for `rest`",
            ),
            (json!({"train": "rest", "test": "rest"}), "only one part"),
            (json!({}), "no part takes any rows"),
            (json!({"train": {}}), "neither `rows`"),
            (
                json!({"train": {"rows": 1, "from": 0, "before": 1}}),
                "leave one out",
            ),
            (json!({"train": {"from": 5, "before": 5}}), "holds no rows"),
            (
                json!({"train": {"from": "2016-07-05", "before": "2016-07-04"}}),
                "ends before it starts",
            ),
            (
                json!({"train": {"before": "01.07.2016"}}),
                "`01.07.2016` is not a time of UTC",
            ),
            (json!({"train": {"before": "2016-06-31"}}), "is not a time"),
            (
                json!({"train": 0.5, "validation": {"rows": 2}, "test": 0.5}),
                "beside each other",
            ),
            (
                json!({"train": 1.0, "test": {"before": 9}}),
                "where this part starts",
            ),
            (
                json!({"train": {"from": 2}, "test": 1.0}),
                "where this part ends",
            ),
            (json!({"train": {"rows": 30}}), "more rows than there are"),
            (
                json!({"train": 1.0, "test": {"rows": 21}}),
                "more rows than there are",
            ),
            (
                json!({"train": 1.0, "test": {"rows": 20}}),
                "`train` would have no rows",
            ),
            (json!({"train": {"before": 21}}), "there are 20 rows"),
            (json!({"train": {"from": 20}}), "there are 20 rows"),
            (
                json!({"train": {"rows": 9}, "test": {"from": 8}}),
                "within `train`",
            ),
            (
                json!({"train": {"before": "2017-07-01"}}),
                "outside of the times",
            ),
            (
                json!({"train": {"before": "2015-07-01"}, "test": "rest"}),
                "from 2016-07-01T00:00:00Z to 2016-07-20",
            ),
        ] {
            let found = cut(split.clone(), 20).unwrap_err();
            assert!(found.contains(message), "{split}: {found}");
        }
        assert_eq!(
            SplitPlan::of_whole()
                .check(true, None)
                .unwrap_err()
                .parameter,
            "split.test"
        );
        let dated = plan(json!({"train": {"before": "2016-07-04"}, "test": "rest"}));
        let fault = dated.check(false, None).unwrap_err();
        assert_eq!(fault.parameter, "split.train.before");
        let negative = json!({"path": "a", "split": {"train": 1.5, "test": -0.5}});
        let fault = crate::readers::fault("csv", negative).unwrap();
        assert_eq!(fault.parameter, "split.train");
        let none = json!({"path": "a", "split": {"train": {"rows": 0}, "test": "rest"}});
        assert_eq!(
            crate::readers::fault("csv", none).unwrap().parameter,
            "split.train.rows"
        );
    }

    #[test]
    fn moments_are_those_of_the_zone() {
        let zone = Some(jiff::tz::TimeZone::get("Europe/Berlin").unwrap());
        let clock = Clock {
            zone,
            ..Clock::iso()
        };
        let plan = plan(json!({"train": {"before": "2016-07-03T02:00"}, "test": "rest"}));
        plan.check(false, Some(&clock)).unwrap();
        // The rows stand at midnight in Greenwich, which is two o'clock there.
        assert_eq!(plan.cut(5, &days(5), &clock).unwrap()[0].1, 0..2);
        let skipped = plan_before("2016-03-27T02:30");
        assert!(
            skipped
                .check(false, Some(&clock))
                .unwrap_err()
                .reason
                .contains("Europe/Berlin")
        );
        assert!(skipped.check(false, Some(&ISO)).is_ok());
    }

    fn plan_before(time: &str) -> SplitPlan {
        plan(json!({"train": {"before": time}, "test": "rest"}))
    }

    proptest! {
        #[test]
        fn parts_cover_all_rows_in_order(rows in 10_usize..100_000, a in 1_u32..20, b in 0_u32..20, c in 0_u32..20) {
            let total = f64::from(a + b + c);
            let shares = [a, b, 0, c].map(|part| f64::from(part) / total);
            let plan = SplitPlan::of_shares(shares);
            prop_assume!(plan.check(false, None).is_ok());
            let Ok(parts) = plan.cut(rows, &[], &ISO) else { return Ok(()) };
            prop_assert_eq!(parts.first().unwrap().1.start, 0);
            prop_assert_eq!(parts.last().unwrap().1.end, rows);
            prop_assert!(parts.windows(2).all(|pair| pair[0].1.end == pair[1].1.start && pair[0].0 < pair[1].0));
        }

        #[test]
        fn any_plan_is_cut_or_refused(rows in 1_usize..60, shapes in prop::collection::vec((0_u8..7, 0_usize..70), 4)) {
            let mut parts = serde_json::Map::new();
            for (name, (shape, number)) in ["train", "validation", "calibration", "test"].iter().zip(shapes) {
                let part = match shape {
                    0 => continue,
                    1 => json!(0.5),
                    2 => json!("rest"),
                    3 => json!({"rows": number.max(1)}),
                    4 => json!({"from": number}),
                    5 => json!({"before": number}),
                    _ => json!({"rows": number.max(1), "before": 30}),
                };
                parts.insert((*name).to_owned(), part);
            }
            if let Ok(parts) = cut(Value::Object(parts), rows) {
                prop_assert!(parts.iter().all(|(_, part)| part.start < part.end && part.end <= rows));
                prop_assert!(parts.windows(2).all(|pair| pair[0].1.end <= pair[1].1.start));
            }
        }
    }
}
