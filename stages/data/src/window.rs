//! `window`: an index of sliding windows over a series. Nothing is copied, and no window crosses the end of a segment
//! unless that is asked for; then it only reaches back in time.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use contract::artifact::{ArtifactKind, Segment, Series, Split, WindowRun, WindowSpec, Windows};
use contract::{
    Fault, Inputs, Learning, Numerics, Outputs, Port, Purpose, Stage, StageContext, Threads,
    Trouble,
};

/// The stage kind `window`.
pub struct Window;

/// The shape of the windows and where they lie.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Rows that the model sees.
    #[schemars(range(min = 1))]
    pub length: usize,
    /// Rows after them that are to be forecast; 0 to detect anomalies.
    #[serde(default)]
    pub horizon: usize,
    /// Rows from one window to the next: a number, or a map from split to number, 1 for splits not named.
    #[serde(default)]
    pub stride: Stride,
    /// The splits to cut windows from; all that the series has if left out.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub splits: Option<Vec<Split>>,
    /// Lets the first windows of a segment reach back into the segment of the same entity before it: with a horizon as
    /// far as the forecast stays inside, without one as far as the last row does.
    #[serde(default)]
    pub cross_boundaries: bool,
}

/// Rows from one window to the next.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Stride {
    All(#[schemars(range(min = 1))] usize),
    PerSplit(BTreeMap<Split, NonZeroUsize>),
}

impl Default for Stride {
    fn default() -> Self {
        Self::All(1)
    }
}

impl Stride {
    fn of(&self, split: Split) -> usize {
        match self {
            Self::All(stride) => *stride,
            Self::PerSplit(strides) => strides.get(&split).map_or(1, |stride| stride.get()),
        }
    }
}

impl Stage for Window {
    type Params = Params;

    const NAME: &'static str = "window";
    // 2: an entity whose test rows give no window is an error.
    const VERSION: u32 = 2;
    const DOC: &'static str =
        "Cuts sliding windows from a series, as an index that copies nothing.";
    const NUMERICS: Numerics = Numerics::Exact;
    const THREADS: Threads = Threads::One;
    const SEEDED: bool = false;
    const EXAMPLE: &'static str = r#"{"length": 100}"#;

    fn inputs(_: &Params) -> Vec<Port> {
        let doc = "the series to cut windows from";
        vec![Port::new("series", ArtifactKind::Series, doc)]
    }

    fn outputs(_: &Params) -> Vec<Port> {
        let doc = "the index of the windows, over the series";
        vec![Port::new("windows", ArtifactKind::Windows, doc)]
    }

    fn check(params: &Params) -> Result<(), Fault> {
        if params.length.checked_add(params.horizon).is_none() {
            let reason = "a window and its horizon have more rows than can be counted";
            return Err(Fault::new("horizon", reason));
        }
        Ok(())
    }

    fn learns(params: &Params) -> Vec<Learning> {
        // What is forecast stays inside its split; the rows before it are known when the forecast is made.
        if !params.cross_boundaries || params.horizon > 0 {
            return Vec::new();
        }
        vec![Learning {
            what: "windows that cross a split boundary",
            purpose: Purpose::Mix,
            from: params.splits.clone().unwrap_or_else(|| Split::ALL.to_vec()),
            labels: false,
            oracle: false,
            parameter: "cross_boundaries",
        }]
    }

    fn run(
        params: &Params,
        inputs: &Inputs,
        context: &StageContext<'_>,
    ) -> Result<Outputs, Trouble> {
        let series = inputs.get::<Series>("series")?;
        let runs = index(params, &series, &|text| context.host.finding(text))?;
        let spec = WindowSpec {
            length: params.length,
            horizon: params.horizon,
        };
        Ok(Outputs::one("windows", Windows { series, spec, runs }))
    }
}

/// The windows of all segments, in the order of the rows.
fn index<'a>(
    params: &Params,
    series: &'a Series,
    note: &dyn Fn(&str),
) -> Result<Vec<WindowRun>, Trouble> {
    let mut present = Split::ALL.to_vec();
    present.retain(|split| series.of_split(*split).next().is_some());
    let wanted = params.splits.as_ref().unwrap_or(&present);
    if let Some(absent) = wanted.iter().find(|split| !present.contains(split)) {
        let names: Vec<&str> = present.iter().map(|split| split.name()).collect();
        let hint = format!(
            "the series has {}; see `splits` here and `split` of the stage that reads it",
            names.join(", ")
        );
        return Err(Trouble::new(format!("the series has no split `{absent}`")).hint(hint));
    }
    let mut runs = Vec::new();
    let (mut long, mut short) = (Vec::new(), Vec::new());
    for (position, segment) in series.segments.iter().enumerate() {
        if !wanted.contains(&segment.split) {
            continue;
        }
        match run_of(params, &series.segments, position) {
            Some(run) => {
                runs.push(run);
                long.push(segment);
            }
            None => short.push(segment),
        }
    }
    for split in wanted {
        let of_split = |segments: &[&'a Segment]| {
            let mut segments = segments.to_vec();
            segments.retain(|segment| segment.split == *split);
            segments
        };
        let shortest = of_split(&short);
        check_entities(params, *split, &of_split(&long), &shortest)?;
        if let Some(example) = shortest.first() {
            let (count, rows) = (shortest.len(), example.rows.len());
            let extent = params.length + params.horizon;
            let name = &example.entity;
            let are = if count == 1 {
                "segment is"
            } else {
                "segments are"
            };
            note(&format!(
                "{count} {are} shorter than {extent} rows and give no window of {split}, such as {name} with {rows}"
            ));
        }
    }
    Ok(runs)
}

/// Checks that a split has windows, and of the test rows every entity: what lies in no window cannot be scored at all, and
/// that is said before anything is trained. A sample with a class may be too short as long as others are not.
fn check_entities(
    params: &Params,
    split: Split,
    long: &[&Segment],
    short: &[&Segment],
) -> Result<(), Trouble> {
    // Entities without a window, and their longest segments.
    let mut without: IndexMap<&str, usize> = IndexMap::new();
    for segment in short {
        let longest = without.entry(&segment.entity).or_default();
        *longest = segment.rows.len().max(*longest);
    }
    for segment in long {
        without.swap_remove(segment.entity.as_str());
    }
    let is_sampled = long.iter().any(|segment| segment.class.is_some());
    let is_judged = split == Split::Test && !is_sampled;
    if without.is_empty() || !long.is_empty() && !is_judged {
        return Ok(());
    }
    Err(no_window(params, split, &without))
}

/// The windows of one segment, or `None` if it is too short for one.
fn run_of(params: &Params, segments: &[Segment], position: usize) -> Option<WindowRun> {
    let segment = &segments[position];
    let stride = params.stride.of(segment.split);
    let extent = params.length + params.horizon;
    let mut first = segment.rows.start;
    if params.cross_boundaries {
        // The rows that must lie in the segment itself: what is forecast, or the last row of what is seen.
        let own = params.horizon.max(1);
        let earliest = (segment.rows.start + own).saturating_sub(extent);
        first = earliest.max(reachable(segments, position));
    }
    let rows = (first, segment.rows.end);
    let room = (segment.rows.end - first).checked_sub(extent)?;
    Some(WindowRun {
        split: segment.split,
        first,
        stride,
        count: room / stride + 1,
        rows,
    })
}

/// The first row of the unbroken history of a segment: the same entity, earlier splits, directly before it.
fn reachable(segments: &[Segment], position: usize) -> usize {
    let mut first = position;
    while first > 0
        && segments[first - 1].entity == segments[first].entity
        && segments[first - 1].split < segments[first].split
    {
        first -= 1;
    }
    segments[first].rows.start
}

/// Names the entity among those without a window that comes closest to one.
fn no_window(params: &Params, split: Split, without: &IndexMap<&str, usize>) -> Trouble {
    let extent = params.length + params.horizon;
    let (mut entity, mut rows) = ("", 0);
    for (name, longest) in without {
        if entity.is_empty() || *longest > rows {
            (entity, rows) = (name, *longest);
        }
    }
    let mut message = format!(
        "`{entity}` gives no window of `{split}`: its longest segment there has {rows} rows, and a window needs {extent}"
    );
    match without.len().saturating_sub(1) {
        0 => {}
        1 => message += "; another entity has none either",
        others => message += &format!("; {others} other entities have none either"),
    }
    Trouble::new(message).hint(
        "use a smaller `length`, give the split more rows, leave the entity out, or list the other splits in `splits`",
    )
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use contract::testing::fault_of;

    fn series(segments: &[(Split, &str, usize)]) -> Series {
        let mut next = 0;
        let mut segment = |(split, entity, rows): &(Split, &str, usize)| {
            let start = next;
            next += rows;
            Segment::new(*split, *entity, start..next)
        };
        let segments: Vec<Segment> = segments.iter().map(&mut segment).collect();
        Series {
            channels: vec!["a".into()],
            values: vec![0.0; next],
            labels: vec![],
            times: vec![],
            segments,
            ..Series::default()
        }
    }

    fn params(value: serde_json::Value) -> Params {
        serde_json::from_value(value).unwrap()
    }

    fn starts(params: &Params, series: &Series) -> Result<Vec<usize>, Trouble> {
        let runs = index(params, series, &|_| {})?;
        Ok(runs
            .iter()
            .flat_map(|run| (0..run.count).map(|window| run.start(window)))
            .collect())
    }

    #[test]
    fn stays_within_segments() {
        let series = series(&[
            (Split::Train, "a", 5),
            (Split::Test, "a", 4),
            (Split::Train, "b", 3),
        ]);
        assert_eq!(
            starts(&params(json!({"length": 3})), &series).unwrap(),
            [0, 1, 2, 5, 6, 9]
        );
        assert_eq!(
            starts(
                &params(json!({"length": 2, "horizon": 1, "stride": 2})),
                &series
            )
            .unwrap(),
            [0, 2, 5, 9]
        );
        let strides = params(json!({"length": 3, "stride": {"train": 10}}));
        assert_eq!(starts(&strides, &series).unwrap(), [0, 5, 6, 9]);
        assert_eq!(
            starts(&params(json!({"length": 3, "splits": ["test"]})), &series).unwrap(),
            [5, 6]
        );
    }

    #[test]
    fn crossing_only_reaches_back_within_the_entity() {
        let parts = [
            (Split::Train, "a", 5),
            (Split::Test, "a", 4),
            (Split::Train, "b", 3),
            (Split::Test, "b", 1),
        ];
        let both = series(&parts);
        let detection = params(json!({"length": 3, "splits": ["test"], "cross_boundaries": true}));
        // Every row of the test part is the last of one window.
        assert_eq!(starts(&detection, &both).unwrap(), [3, 4, 5, 6, 10]);
        let forecast = params(
            json!({"length": 2, "horizon": 2, "splits": ["test"], "cross_boundaries": true}),
        );
        assert_eq!(starts(&forecast, &series(&parts[..2])).unwrap(), [3, 4, 5]);
        // What is forecast does not reach back: one row cannot hold two.
        assert!(refused(&forecast, &both).starts_with("`b` gives no window of `test`"));
        assert_eq!(Window::learns(&detection)[0].parameter, "cross_boundaries");
        assert!(Window::learns(&params(json!({"length": 3}))).is_empty());
    }

    fn refused(params: &Params, series: &Series) -> String {
        let error = index(params, series, &|_| {}).unwrap_err();
        error.message().to_owned()
    }

    #[test]
    fn an_entity_whose_test_rows_give_no_window_is_an_error() {
        let parts = [
            (Split::Train, "a", 5),
            (Split::Test, "a", 2),
            (Split::Train, "b", 2),
            (Split::Test, "b", 6),
            (Split::Test, "a", 1),
            (Split::Test, "c", 1),
        ];
        let three = params(json!({"length": 3}));
        let message = refused(&three, &series(&parts));
        assert_eq!(
            message,
            "`a` gives no window of `test`: its longest segment there has 2 rows, and a window needs 3; another entity has none either"
        );
        // What is only learned from is not missed as long as there is more of it.
        let learned = params(json!({"length": 3, "splits": ["train"]}));
        assert_eq!(starts(&learned, &series(&parts)).unwrap(), [0, 1, 2]);
        let message = refused(
            &params(json!({"length": 6, "splits": ["train"]})),
            &series(&parts),
        );
        assert!(
            message.starts_with("`a` gives no window of `train`: its longest segment there has 5"),
            "{message}"
        );
        // Rows before a segment of the same entity complete its windows.
        let crossing = params(json!({"length": 3, "splits": ["test"], "cross_boundaries": true}));
        let windows = index(&crossing, &series(&parts[..2]), &|_| {}).unwrap();
        assert_eq!((windows[0].first, windows[0].count), (3, 2));
    }

    #[test]
    fn a_short_segment_beside_a_longer_one_is_a_note() {
        let parts = series(&[
            (Split::Train, "a", 2),
            (Split::Train, "a", 5),
            (Split::Test, "a", 2),
        ]);
        let notes = RefCell::new(Vec::new());
        let only_train = params(json!({"length": 3, "splits": ["train"]}));
        index(&only_train, &parts, &|text| {
            notes.borrow_mut().push(text.to_owned());
        })
        .unwrap();
        assert!(notes.borrow()[0].contains("such as a with 2"), "{notes:?}");
        let absent = params(json!({"length": 1, "splits": ["validation"]}));
        let error = index(&absent, &parts, &|_| {}).unwrap_err();
        assert!(
            error.hint_text().unwrap().contains("train, test"),
            "{error}"
        );
    }

    #[test]
    fn a_short_sample_beside_longer_ones_is_a_note() {
        let mut samples = series(&[
            (Split::Train, "a", 5),
            (Split::Train, "b", 2),
            (Split::Test, "c", 3),
        ]);
        for segment in &mut samples.segments {
            segment.class = Some("calm".to_owned());
        }
        samples.segments[1].split = Split::Test;
        let three = params(json!({"length": 3}));
        assert_eq!(index(&three, &samples, &|_| {}).unwrap().len(), 2);
        let four = params(json!({"length": 4}));
        assert!(refused(&four, &samples).starts_with("`c` gives no window of `test`"));
    }

    #[test]
    fn refuses_zero() {
        for (value, parameter) in [
            (json!({"length": 0}), "length"),
            (json!({"length": 1, "stride": 0}), "stride"),
            (json!({"length": 1, "stride": {"test": 0}}), ""),
            (json!({"length": 1, "splits": []}), "splits"),
        ] {
            assert_eq!(fault_of::<Window>(value).unwrap().parameter, parameter);
        }
    }

    proptest! {
        #[test]
        fn every_window_lies_in_one_segment_and_none_is_left_out(
            sizes in prop::collection::vec(1_usize..40, 1..5), length in 1_usize..10, horizon in 0_usize..5, stride in 1_usize..7,
        ) {
            let segments: Vec<_> = sizes.iter().map(|size| (Split::Train, "a", *size)).collect();
            let series = series(&segments);
            let params = params(json!({"length": length, "horizon": horizon, "stride": stride}));
            let Ok(found) = starts(&params, &series) else {
                prop_assert!(sizes.iter().all(|size| *size < length + horizon));
                return Ok(());
            };
            let expected: Vec<usize> = series.segments.iter()
                .flat_map(|segment| segment.rows.clone().step_by(stride).filter(|start| start + length + horizon <= segment.rows.end))
                .collect();
            prop_assert_eq!(found, expected);
        }
    }
}
