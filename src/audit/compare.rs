//! Two artifacts of one kind, number by number: are they equal in their bits, close enough, or neither, and where do they
//! first differ. What the artifacts mean, and why they differ, is decided elsewhere.

use std::collections::BTreeMap;

use contract::artifact::{Artifact, ArtifactError, Leaf, Values};
use serde::Serialize;

use crate::pipeline::{Tolerance, real_in_json};

/// How close two values, arrays or artifacts are. The later, the worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Closeness {
    /// Equal in every bit.
    Bitwise,
    WithinTolerance,
    Beyond,
}

/// The first element in which two arrays differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FirstDifference {
    /// Of the element: one number per dimension.
    pub index: Vec<usize>,
    pub then: String,
    pub now: String,
}

/// The result of comparing one array.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LeafComparison {
    /// The tensor, column, metric or file.
    pub name: String,
    pub closeness: Closeness,
    pub shape: Vec<usize>,
    /// Elements that differ in a bit.
    pub differing: usize,
    /// Elements that differ by more than is tolerated.
    pub beyond: usize,
    /// Over all elements that are numbers; infinite where only one of the two is a number.
    #[serde(serialize_with = "real_in_json")]
    pub max_absolute: f64,
    /// As a share of the larger magnitude.
    #[serde(serialize_with = "real_in_json")]
    pub max_relative: f64,
    /// Representable numbers in between; only floating point has them.
    pub max_ulps: Option<u64>,
    pub first: Option<FirstDifference>,
    /// Why the elements could not be compared: another shape, another type, only on one side.
    pub reason: Option<String>,
}

impl LeafComparison {
    fn of(leaf: &Leaf<'_>) -> Self {
        Self {
            name: leaf.name.clone(),
            closeness: Closeness::Bitwise,
            shape: leaf.shape.clone(),
            differing: 0,
            beyond: 0,
            max_absolute: 0.0,
            max_relative: 0.0,
            max_ulps: None,
            first: None,
            reason: None,
        }
    }

    fn incomparable(leaf: &Leaf<'_>, reason: String) -> Self {
        Self {
            closeness: Closeness::Beyond,
            reason: Some(reason),
            ..Self::of(leaf)
        }
    }
}

/// Compares all arrays of two artifacts, in the order of the earlier one.
///
/// # Errors
/// If a file or an image inside them cannot be read.
pub fn compare(
    then: &Artifact,
    now: &Artifact,
    tolerance: &Tolerance,
) -> Result<Vec<LeafComparison>, ArtifactError> {
    let (then, now) = (then.leaves(), now.leaves());
    let mut rest: BTreeMap<&str, &Leaf<'_>> =
        now.iter().map(|leaf| (leaf.name.as_str(), leaf)).collect();
    let mut compared = Vec::with_capacity(then.len());
    for leaf in &then {
        compared.push(match rest.remove(leaf.name.as_str()) {
            Some(other) => compare_leaves(leaf, other, tolerance)?,
            None => LeafComparison::incomparable(leaf, "it is only in the original".to_owned()),
        });
    }
    for leaf in &now {
        if rest.contains_key(leaf.name.as_str()) {
            let reason = "the original has no such thing".to_owned();
            compared.push(LeafComparison::incomparable(leaf, reason));
        }
    }
    Ok(compared)
}

fn compare_leaves(
    then: &Leaf<'_>,
    now: &Leaf<'_>,
    tolerance: &Tolerance,
) -> Result<LeafComparison, ArtifactError> {
    let (old, new) = (then.values()?, now.values()?);
    if old.type_name() != new.type_name() {
        let reason = format!("{} then, {} now", old.type_name(), new.type_name());
        return Ok(LeafComparison::incomparable(then, reason));
    }
    // Files may grow; what counts is where they first differ.
    if then.shape != now.shape && !matches!(old, Values::Bytes(_) | Values::Texts(_)) {
        let reason = format!("shape {:?} then, {:?} now", then.shape, now.shape);
        return Ok(LeafComparison::incomparable(then, reason));
    }
    let mut result = LeafComparison::of(then);
    match (&old, &new) {
        (Values::Float32(old), Values::Float32(new)) => numbers(&mut result, old, new, tolerance),
        (Values::Float64(old), Values::Float64(new)) => numbers(&mut result, old, new, tolerance),
        (Values::Integers(old), Values::Integers(new)) => numbers(&mut result, old, new, tolerance),
        (Values::Texts(old), Values::Texts(new)) => {
            exact(&mut result, old, new, |text| match text {
                Some(text) => format!("{text:?}"),
                None => "(absent)".to_owned(),
            })
        }
        (Values::Bytes(old), Values::Bytes(new)) => {
            exact(&mut result, old, new, |byte| format!("byte 0x{byte:02x}"))
        }
        _ => {}
    }
    Ok(result)
}

/// A value whose distance from another can be measured.
trait Number: Copy {
    fn same_bits(self, other: Self) -> bool;
    /// The absolute difference, and its share of the larger magnitude. Two values that are not numbers are alike.
    fn distance(self, other: Self) -> (f64, f64);
    fn ulps(self, other: Self) -> Option<u64>;
    fn text(self) -> String;
}

impl Number for f32 {
    fn same_bits(self, other: Self) -> bool {
        self.to_bits() == other.to_bits()
    }

    fn distance(self, other: Self) -> (f64, f64) {
        distance_of_reals(self.into(), other.into())
    }

    fn ulps(self, other: Self) -> Option<u64> {
        if self.is_nan() || other.is_nan() {
            return None;
        }
        let place = |value: Self| place(value.abs().to_bits().into(), value.is_sign_negative());
        u64::try_from(place(self).abs_diff(place(other))).ok()
    }

    fn text(self) -> String {
        format!("{self:?}")
    }
}

impl Number for Option<f64> {
    fn same_bits(self, other: Self) -> bool {
        self.map(f64::to_bits) == other.map(f64::to_bits)
    }

    fn distance(self, other: Self) -> (f64, f64) {
        self.zip(other)
            .map_or(NOWHERE_NEAR, |(one, other)| distance_of_reals(one, other))
    }

    fn ulps(self, other: Self) -> Option<u64> {
        let (one, other) = (self?, other?);
        if one.is_nan() || other.is_nan() {
            return None;
        }
        let place = |value: f64| place(value.abs().to_bits(), value.is_sign_negative());
        u64::try_from(place(one).abs_diff(place(other))).ok()
    }

    fn text(self) -> String {
        self.map_or_else(|| "(undefined)".to_owned(), |value| format!("{value:?}"))
    }
}

/// The place of a floating-point number among all of its type, in which the two zeros are one: neighbours are one apart, since
/// the bits of numbers of one sign count up with their magnitude.
fn place(magnitude: u64, is_negative: bool) -> i128 {
    let magnitude = i128::from(magnitude);
    if is_negative { -magnitude } else { magnitude }
}

impl Number for Option<i64> {
    fn same_bits(self, other: Self) -> bool {
        self == other
    }

    /// Taken before anything is rounded: above 2^53 neighbours are one and the same as floating-point numbers.
    fn distance(self, other: Self) -> (f64, f64) {
        let Some((one, other)) = self.zip(other) else {
            return NOWHERE_NEAR;
        };
        let absolute = one.abs_diff(other) as f64;
        if absolute == 0.0 {
            return (0.0, 0.0);
        }
        let magnitude = one.unsigned_abs().max(other.unsigned_abs()) as f64;
        (absolute, absolute / magnitude)
    }

    fn ulps(self, _: Self) -> Option<u64> {
        None
    }

    fn text(self) -> String {
        self.map_or_else(|| "(absent)".to_owned(), |value| value.to_string())
    }
}

fn numbers<N: Number>(result: &mut LeafComparison, then: &[N], now: &[N], tolerance: &Tolerance) {
    for (position, (old, new)) in then.iter().zip(now).enumerate() {
        if old.same_bits(*new) {
            continue;
        }
        result.differing += 1;
        if result.first.is_none() {
            result.first = Some(FirstDifference {
                index: index_of(position, &result.shape),
                then: old.text(),
                now: new.text(),
            });
        }
        let (absolute, relative) = old.distance(*new);
        let ulps = old.ulps(*new);
        result.max_absolute = result.max_absolute.max(absolute);
        result.max_relative = result.max_relative.max(relative);
        result.max_ulps = result.max_ulps.max(ulps);
        let close = !tolerance.is_none()
            && absolute.is_finite()
            && (absolute <= tolerance.abs
                || relative <= tolerance.rel
                || ulps.is_some_and(|ulps| ulps <= tolerance.ulps));
        result.beyond += usize::from(!close);
    }
    result.closeness = match (result.differing, result.beyond) {
        (0, _) => Closeness::Bitwise,
        (_, 0) => Closeness::WithinTolerance,
        _ => Closeness::Beyond,
    };
}

/// The distance between something and nothing.
const NOWHERE_NEAR: (f64, f64) = (f64::INFINITY, f64::INFINITY);

fn distance_of_reals(one: f64, other: f64) -> (f64, f64) {
    if one == other || (one.is_nan() && other.is_nan()) {
        return (0.0, 0.0);
    }
    let absolute = (one - other).abs();
    if !absolute.is_finite() {
        return NOWHERE_NEAR;
    }
    (absolute, absolute / one.abs().max(other.abs()))
}

/// What can only be equal or not.
fn exact<T: PartialEq>(
    result: &mut LeafComparison,
    then: &[T],
    now: &[T],
    text: impl Fn(&T) -> String,
) {
    let side = |value: Option<&T>| value.map_or_else(|| "(its end)".to_owned(), &text);
    for position in 0..then.len().max(now.len()) {
        let (old, new) = (then.get(position), now.get(position));
        if old == new {
            continue;
        }
        result.differing += 1;
        if result.first.is_none() {
            result.first = Some(FirstDifference {
                index: vec![position],
                then: side(old),
                now: side(new),
            });
        }
    }
    result.beyond = result.differing;
    if result.differing > 0 {
        result.closeness = Closeness::Beyond;
    }
}

/// The place of an element in row-major order as an index per dimension.
fn index_of(mut position: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (place, size) in index.iter_mut().zip(shape).rev() {
        *place = position % size.max(&1);
        position /= size.max(&1);
    }
    index
}

#[cfg(test)]
mod tests {
    use contract::artifact::{FileEntry, Files, Model, RelativePath, TensorData};

    use super::*;

    const NONE: Tolerance = Tolerance {
        abs: 0.0,
        rel: 0.0,
        ulps: 0,
    };

    fn model(values: &[f32], loss: f64) -> Artifact {
        Model {
            config: serde_json::json!({"kind": "x"}),
            training: serde_json::json!({"loss": loss}),
            tensors: BTreeMap::from([(
                "w".to_owned(),
                TensorData::from_f32(&[2, values.len() / 2], values),
            )]),
        }
        .into()
    }

    fn of<'a>(all: &'a [LeafComparison], name: &str) -> &'a LeafComparison {
        all.iter().find(|leaf| leaf.name == name).unwrap()
    }

    #[test]
    fn one_flipped_bit_is_found_and_measured() {
        let then = [1.0_f32, 2.0, 3.0, 4.0];
        let mut now = then;
        now[2] = f32::from_bits(now[2].to_bits() + 1);
        let all = compare(&model(&then, 0.5), &model(&now, 0.5), &NONE).unwrap();
        let weights = of(&all, "w");
        assert_eq!(
            (weights.closeness, weights.differing, weights.beyond),
            (Closeness::Beyond, 1, 1)
        );
        assert_eq!(weights.max_ulps, Some(1));
        assert!((weights.max_absolute - 2.0_f64.powi(-22)).abs() < 1e-12);
        let first = weights.first.as_ref().unwrap();
        assert_eq!(
            (
                first.index.as_slice(),
                first.then.as_str(),
                first.now.as_str()
            ),
            ([1, 0].as_slice(), "3.0", "3.0000002")
        );
        assert_eq!(of(&all, "training.loss").closeness, Closeness::Bitwise);
    }

    #[test]
    fn any_bound_that_holds_makes_it_close() {
        let closeness = |tolerance: Tolerance| {
            let all = compare(
                &model(&[100.0, 1.0], 0.5),
                &model(&[100.001, 1.0], 0.5),
                &tolerance,
            )
            .unwrap();
            of(&all, "w").closeness
        };
        assert_eq!(closeness(NONE), Closeness::Beyond);
        for tolerance in [
            Tolerance { abs: 0.01, ..NONE },
            Tolerance { rel: 1e-4, ..NONE },
            Tolerance { ulps: 200, ..NONE },
        ] {
            assert_eq!(
                closeness(tolerance),
                Closeness::WithinTolerance,
                "{tolerance:?}"
            );
        }
        for tolerance in [
            Tolerance { abs: 1e-4, ..NONE },
            Tolerance { rel: 1e-6, ..NONE },
            Tolerance { ulps: 2, ..NONE },
        ] {
            assert_eq!(closeness(tolerance), Closeness::Beyond, "{tolerance:?}");
        }
    }

    #[test]
    fn what_is_no_number_is_close_to_nothing_else() {
        let wide = Tolerance {
            abs: f64::MAX,
            rel: f64::MAX,
            ulps: u64::MAX,
        };
        for (then, now, expected) in [
            (f32::NAN, 1.0, Closeness::Beyond),
            (1.0, f32::INFINITY, Closeness::Beyond),
            (f32::INFINITY, f32::NEG_INFINITY, Closeness::Beyond),
            (f32::NAN, -f32::NAN, Closeness::WithinTolerance),
            (0.0, -0.0, Closeness::WithinTolerance),
            (f32::NAN, f32::NAN, Closeness::Bitwise),
        ] {
            let all = compare(&model(&[then, 0.0], 0.5), &model(&[now, 0.0], 0.5), &wide).unwrap();
            assert_eq!(of(&all, "w").closeness, expected, "{then} and {now}");
        }
        let all = compare(&model(&[0.0, 0.0], 0.5), &model(&[-0.0, 0.0], 0.5), &NONE).unwrap();
        assert_eq!(
            of(&all, "w").closeness,
            Closeness::Beyond,
            "bits were asked for"
        );
    }

    #[test]
    fn shapes_and_missing_arrays_are_told() {
        let all = compare(
            &model(&[1.0, 2.0], 0.5),
            &model(&[1.0, 2.0, 3.0, 4.0], 0.5),
            &NONE,
        )
        .unwrap();
        assert_eq!(
            of(&all, "w").reason.as_deref(),
            Some("shape [2, 1] then, [2, 2] now")
        );
        let files = |name: &str, bytes: &[u8]| {
            let path = RelativePath::new(name).unwrap();
            Artifact::from(Files::new(vec![FileEntry::from_bytes(path, bytes.to_vec())]).unwrap())
        };
        let all = compare(&files("a", b"one"), &files("b", b"one"), &NONE).unwrap();
        assert!(of(&all, "a").reason.is_some() && of(&all, "b").reason.is_some());
        let all = compare(&files("a", b"12"), &files("a", b"123"), &NONE).unwrap();
        assert_eq!(of(&all, "a").first.as_ref().unwrap().then, "(its end)");
    }

    #[test]
    fn large_integers_are_told_apart() {
        let large = 1_i64 << 53;
        let mut result = LeafComparison::of(&model(&[0.0, 0.0], 0.5).leaves()[0]);
        result.shape = vec![2];
        let tolerance = Tolerance { abs: 0.5, ..NONE };
        numbers(
            &mut result,
            &[Some(large), Some(i64::MIN)],
            &[Some(large + 1), Some(i64::MIN)],
            &tolerance,
        );
        assert_eq!(
            (result.closeness, result.differing, result.max_absolute),
            (Closeness::Beyond, 1, 1.0)
        );
        assert_eq!(
            Some(i64::MIN).distance(Some(i64::MAX)),
            (u64::MAX as f64, u64::MAX as f64 / 2.0_f64.powi(63))
        );
        assert_eq!(Some(0_i64).distance(Some(0)), (0.0, 0.0));
        assert_eq!(None.distance(Some(1_i64)), NOWHERE_NEAR);
    }

    #[test]
    fn what_is_infinite_is_told_in_json() {
        let all = compare(
            &model(&[f32::INFINITY, 0.0], 0.5),
            &model(&[1.0, 0.0], 0.5),
            &NONE,
        )
        .unwrap();
        let json = serde_json::json!(of(&all, "w"));
        assert_eq!(
            (&json["max_absolute"], &json["max_relative"]),
            (&"inf".into(), &"inf".into())
        );
        let json = serde_json::json!(Tolerance {
            abs: f64::INFINITY,
            rel: 0.5,
            ulps: 0
        });
        assert_eq!((&json["abs"], &json["rel"]), (&"inf".into(), &0.5.into()));
    }

    #[test]
    fn numbers_in_between_are_counted_across_zero() {
        let smallest = f32::from_bits(1);
        assert_eq!(smallest.ulps(-smallest), Some(2));
        assert_eq!(Some(1.0_f64).ulps(Some(1.0 + f64::EPSILON)), Some(1));
        assert!(Some(f64::MAX).ulps(Some(f64::MIN)).is_some());
        assert_eq!(index_of(7, &[2, 2, 3]), [1, 0, 1]);
        assert_eq!(index_of(0, &[]), Vec::<usize>::new());
    }
}
