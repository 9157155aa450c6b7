//! The space of a sweep's trials: axes with their values or ranges, in the order of the file. A point is a value for every
//! axis. `sampler` chooses points.

use contract::Random;
use indexmap::IndexMap;
use serde_json::{Number, Value};

use super::leaderboard::shown;

/// A value for every axis, in the order of the file.
pub type Point = IndexMap<String, Value>;

/// The values that an axis may take.
#[derive(Clone, Debug, PartialEq)]
pub enum Domain {
    /// These values, all alike.
    Values(Vec<Value>),
    /// Numbers between two bounds.
    Range {
        low: f64,
        high: f64,
        /// Even in the logarithm.
        log: bool,
        /// Whole numbers, both bounds included.
        whole: bool,
        /// How many of them stand for the range in a grid.
        points: Option<usize>,
    },
    /// What the axis may be where an earlier one has a value.
    By {
        axis: String,
        cases: Vec<(Value, Self)>,
        default: Option<Box<Self>>,
    },
}

/// A direction of the space.
#[derive(Clone, Debug, PartialEq)]
pub enum Dimension {
    Axis {
        name: String,
        domain: Domain,
    },
    /// Axes whose values go together: the first with the first, the second with the second.
    Zip {
        names: Vec<String>,
        rows: Vec<Vec<Value>>,
    },
}

/// All directions, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Space {
    pub dimensions: Vec<Dimension>,
}

impl Dimension {
    /// The axes that it sets.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let names: Vec<&str> = match self {
            Self::Axis { name, .. } => vec![name],
            Self::Zip { names, .. } => names.iter().map(String::as_str).collect(),
        };
        names.into_iter()
    }
}

impl Domain {
    /// The domain at a point: that of the case which applies. `None` if none does.
    pub fn at(&self, point: &Point) -> Option<&Self> {
        match self {
            Self::By {
                axis,
                cases,
                default,
            } => {
                let value = point.get(axis)?;
                match cases.iter().find(|(case, _)| same(case, value)) {
                    Some((_, domain)) => domain.at(point),
                    None => default.as_deref()?.at(point),
                }
            }
            other => Some(other),
        }
    }

    /// All that the axis may be at any point; `None` where its cases are too unlike.
    fn hull(&self) -> Option<Self> {
        let Self::By { cases, default, .. } = self else {
            return Some(self.clone());
        };
        let mut all: Option<Self> = None;
        for domain in domains(cases, default.as_deref()) {
            let hull = domain.hull()?;
            all = Some(match all {
                Some(all) => all.joined(hull)?,
                None => hull,
            });
        }
        all
    }

    /// Both of two domains, if they are of one kind.
    fn joined(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Values(mut all), Self::Values(more)) => {
                all.extend(more);
                Some(Self::Values(all))
            }
            (
                Self::Range {
                    low,
                    high,
                    log,
                    whole,
                    ..
                },
                Self::Range {
                    low: lower,
                    high: higher,
                    log: other,
                    whole: other_whole,
                    ..
                },
            ) if log == other => Some(Self::Range {
                low: low.min(lower),
                high: high.max(higher),
                log,
                whole: whole && other_whole,
                points: None,
            }),
            _ => None,
        }
    }

    /// The values that stand for the domain in a grid; `None` for a range without `points`.
    pub fn grid(&self) -> Option<Vec<Value>> {
        match self {
            Self::Values(values) => Some(values.clone()),
            Self::Range { points, .. } => {
                let count = (*points)?;
                let mut values = Vec::with_capacity(count);
                for index in 0..count {
                    values.push(self.number(if count == 1 {
                        0.5
                    } else {
                        index as f64 / (count - 1) as f64
                    }));
                }
                // A short range of whole numbers has fewer values than points.
                values.dedup();
                Some(values)
            }
            Self::By { .. } => None,
        }
    }

    /// The number at a share of the range between 0 and 1.
    pub fn number(&self, share: f64) -> Value {
        let Self::Range {
            low,
            high,
            log,
            whole,
            ..
        } = self
        else {
            return Value::Null;
        };
        if *whole {
            // Every whole number owns an equal stretch (of the logarithm, if that is even).
            let (low, high) = (low - 0.5, high + 0.5);
            let least = if *log { low.max(0.5) } else { low };
            let value = interpolate(least, high, *log, share);
            return Value::from(value.round().clamp(low + 0.5, high - 0.5) as i64);
        }
        let spread = if *log {
            0.0
        } else {
            (high - low) / low.abs().max(high.abs())
        };
        let value = shortened(interpolate(*low, *high, *log, share), spread);
        Number::from_f64(value.clamp(*low, *high)).map_or(Value::Null, Value::Number)
    }

    /// Where a number lies in the range, between 0 and 1: the inverse of [`Self::number`].
    pub fn share(&self, value: &Value) -> Option<f64> {
        let Self::Range { low, high, log, .. } = self else {
            return None;
        };
        let value = value.as_f64()?;
        let position = |value: f64| if *log { value.ln() } else { value };
        let width = position(*high) - position(*low);
        Some(if width > 0.0 {
            ((position(value) - position(*low)) / width).clamp(0.0, 1.0)
        } else {
            0.5
        })
    }

    fn draw(&self, random: &mut Random) -> Value {
        match self {
            Self::Values(values) => values[random.below(values.len() as u64) as usize].clone(),
            range => range.number(random.uniform()),
        }
    }
}

fn interpolate(low: f64, high: f64, log: bool, share: f64) -> f64 {
    if log {
        (low.ln() + (high.ln() - low.ln()) * share).exp()
    } else {
        low + (high - low) * share
    }
}

/// Six significant digits: what people read, type and compare. More in a range that is narrow beside its values:
/// `spread` is its width relative to them, or 0 where that does not matter.
fn shortened(value: f64, spread: f64) -> f64 {
    let more = if spread > 0.0 && spread < 1.0 {
        (-spread.log10()).ceil() as usize
    } else {
        0
    };
    format!("{value:.*e}", (5 + more).min(16))
        .parse()
        .unwrap_or(value)
}

/// Equal, or numbers of one value: `1` and `1.0`.
fn same(left: &Value, right: &Value) -> bool {
    left == right
        || matches!((number_of(left), number_of(right)), (Some(left), Some(right)) if left == right)
        || shown(left) == shown(right)
}

/// A number, or a text that is one: the name of a case is text.
fn number_of(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => text.parse().ok(),
        other => other.as_f64(),
    }
}

/// The domains of all cases of an axis that depends on another.
fn domains<'a>(
    cases: &'a [(Value, Domain)],
    default: Option<&'a Domain>,
) -> impl Iterator<Item = &'a Domain> {
    cases.iter().map(|(_, domain)| domain).chain(default)
}

/// The most values that an axis has at any point.
fn most_values(domain: &Domain) -> usize {
    match domain {
        Domain::Values(values) => values.len(),
        Domain::Range { points, .. } => points.unwrap_or(1),
        Domain::By { cases, default, .. } => {
            let counts = domains(cases, default.as_deref()).map(most_values);
            counts.max().unwrap_or(0)
        }
    }
}

impl Space {
    /// The names of all axes.
    pub fn axes(&self) -> Vec<&str> {
        self.dimensions.iter().flat_map(Dimension::names).collect()
    }

    /// All that an axis can be: its range or its values. `None` where it depends on others in kind.
    pub fn domain_of(&self, wanted: &str) -> Option<Domain> {
        for dimension in &self.dimensions {
            match dimension {
                Dimension::Axis { name, domain } if name == wanted => return domain.hull(),
                Dimension::Axis { .. } => {}
                Dimension::Zip { names, rows } => {
                    if let Some(values) = column(names, rows, wanted) {
                        return Some(Domain::Values(values));
                    }
                }
            }
        }
        None
    }

    /// The values that an axis can take in a grid, where they are known beforehand.
    pub fn values_of(&self, wanted: &str) -> Option<Vec<Value>> {
        self.dimensions
            .iter()
            .find_map(|dimension| match dimension {
                Dimension::Axis { name, domain } if name == wanted => domain.grid(),
                Dimension::Axis { .. } => None,
                Dimension::Zip { names, rows } => column(names, rows, wanted),
            })
    }

    /// A dependent axis and a value by which it has neither a case nor a default, if there is such.
    pub fn without_case(&self) -> Option<(&str, Value)> {
        for dimension in &self.dimensions {
            if let Dimension::Axis { name, domain } = dimension
                && let Domain::By {
                    axis,
                    cases,
                    default: None,
                } = domain
            {
                for value in self.values_of(axis).unwrap_or_default() {
                    if !cases.iter().any(|(case, _)| same(case, &value)) {
                        return Some((name, value));
                    }
                }
            }
        }
        None
    }

    /// How many points the grid has, without making them. Dependent axes are counted at their most.
    pub fn grid_size(&self) -> f64 {
        let sizes = self.dimensions.iter().map(|dimension| match dimension {
            Dimension::Axis { domain, .. } => most_values(domain) as f64,
            Dimension::Zip { rows, .. } => rows.len() as f64,
        });
        sizes.product()
    }

    /// Every combination, the first axis slowest.
    pub fn grid(&self) -> Vec<Point> {
        let mut points = vec![Point::new()];
        for dimension in &self.dimensions {
            let mut longer = Vec::new();
            for point in &points {
                match dimension {
                    Dimension::Axis { name, domain } => {
                        let values = domain.at(point).and_then(Domain::grid).unwrap_or_default();
                        for value in values {
                            let mut point = point.clone();
                            point.insert(name.clone(), value);
                            longer.push(point);
                        }
                    }
                    Dimension::Zip { names, rows } => {
                        for row in rows {
                            let mut point = point.clone();
                            point.extend(names.iter().cloned().zip(row.iter().cloned()));
                            longer.push(point);
                        }
                    }
                }
            }
            points = longer;
        }
        points
    }

    /// A point drawn at random. Axes whose case no value of the earlier axis meets are left out.
    pub fn draw(&self, random: &mut Random) -> Point {
        let mut point = Point::new();
        for dimension in &self.dimensions {
            match dimension {
                Dimension::Axis { name, domain } => {
                    if let Some(value) = domain.at(&point).map(|domain| domain.draw(random)) {
                        point.insert(name.clone(), value);
                    }
                }
                Dimension::Zip { names, rows } => {
                    let row = &rows[random.below(rows.len() as u64) as usize];
                    point.extend(names.iter().cloned().zip(row.iter().cloned()));
                }
            }
        }
        point
    }
}

/// The values of one of the axes that go together.
fn column(names: &[String], rows: &[Vec<Value>], wanted: &str) -> Option<Vec<Value>> {
    let column = names.iter().position(|name| name == wanted)?;
    Some(rows.iter().map(|row| row[column].clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn axis(name: &str, domain: Domain) -> Dimension {
        Dimension::Axis {
            name: name.into(),
            domain,
        }
    }

    fn range(low: f64, high: f64, log: bool, whole: bool, points: Option<usize>) -> Domain {
        Domain::Range {
            low,
            high,
            log,
            whole,
            points,
        }
    }

    #[test]
    fn grids_combine_depend_and_zip() {
        let by = Domain::By {
            axis: "window".into(),
            cases: vec![(json!(50), Domain::Values(vec![json!(5)]))],
            default: Some(Box::new(Domain::Values(vec![json!(10), json!(20)]))),
        };
        let space = Space {
            dimensions: vec![
                axis("window", Domain::Values(vec![json!(50), json!(100)])),
                axis("patch", by),
                Dimension::Zip {
                    names: vec!["d".into(), "h".into()],
                    rows: vec![vec![json!(64), json!(4)], vec![json!(128), json!(8)]],
                },
            ],
        };
        let points = space.grid();
        let shown: Vec<String> = points
            .iter()
            .map(|point| json!(point).to_string())
            .collect();
        assert_eq!(points.len(), 6);
        assert_eq!(shown[0], r#"{"window":50,"patch":5,"d":64,"h":4}"#);
        assert_eq!(shown[5], r#"{"window":100,"patch":20,"d":128,"h":8}"#);
        assert_eq!(space.grid_size(), 8.0, "an upper bound");
        assert_eq!(space.axes(), ["window", "patch", "d", "h"]);
    }

    #[test]
    fn ranges_keep_their_bounds_and_their_evenness() {
        let log = range(1e-5, 1e-1, true, false, Some(5));
        assert_eq!(
            log.grid().unwrap(),
            [
                json!(1e-5),
                json!(1e-4),
                json!(1e-3),
                json!(1e-2),
                json!(1e-1)
            ]
        );
        let mut random = Random::new(7, "test");
        let whole = range(2.0, 4.0, false, true, None);
        let mut counts = [0; 5];
        for _ in 0..3000 {
            counts[whole.draw(&mut random).as_i64().unwrap() as usize] += 1;
            let drawn = log.draw(&mut random).as_f64().unwrap();
            assert!((1e-5..=1e-1).contains(&drawn));
            let share = log.share(&json!(drawn)).unwrap();
            assert!((log.number(share).as_f64().unwrap() / drawn - 1.0).abs() < 1e-4);
        }
        assert!(
            counts[2..].iter().all(|count| (900..1100).contains(count)),
            "{counts:?}"
        );
        assert_eq!(range(3.0, 3.0, false, true, None).number(0.7), json!(3));
        assert_eq!(
            range(1.0, 64.0, true, true, Some(2)).grid().unwrap(),
            [json!(1), json!(64)]
        );
    }

    #[test]
    fn an_axis_without_a_case_is_left_out() {
        let by = Domain::By {
            axis: "kind".into(),
            cases: vec![(json!("pot"), Domain::Values(vec![json!(1)]))],
            default: None,
        };
        let space = Space {
            dimensions: vec![
                axis("kind", Domain::Values(vec![json!("sigma")])),
                axis("risk", by),
            ],
        };
        assert_eq!(space.draw(&mut Random::new(0, "test")).len(), 1);
        assert!(
            space.grid().is_empty(),
            "a grid needs every case; the file is refused before"
        );
        assert_eq!(space.without_case(), Some(("risk", json!("sigma"))));
    }

    #[test]
    fn cases_go_by_numbers_however_they_are_written() {
        let cases = vec![(json!("1.0e-3"), Domain::Values(vec![json!(5)]))];
        let by = Domain::By {
            axis: "a".into(),
            cases,
            default: Some(Box::new(Domain::Values(vec![json!(7)]))),
        };
        let space = Space {
            dimensions: vec![
                axis("a", Domain::Values(vec![json!(0.001), json!(0.01)])),
                axis("b", by),
            ],
        };
        let found: Vec<Value> = space
            .grid()
            .iter()
            .map(|point| point["b"].clone())
            .collect();
        assert_eq!(
            (found, space.without_case()),
            (vec![json!(5), json!(7)], None)
        );
    }

    #[test]
    fn numbers_stay_in_their_range() {
        for (low, high) in [
            (1_234_567.0, 1_234_569.0),
            (0.123_456_78, 0.123_456_79),
            (-1.0, 1.0),
        ] {
            let range = Domain::Range {
                low,
                high,
                log: false,
                whole: false,
                points: None,
            };
            for share in [0.0, 0.25, 0.5, 1.0] {
                let number = range.number(share).as_f64().unwrap();
                assert!((low..=high).contains(&number), "{number}");
                assert!(
                    (number - (low + share * (high - low))).abs() < 1e-4 * (high - low),
                    "{number}"
                );
            }
        }
    }
}
