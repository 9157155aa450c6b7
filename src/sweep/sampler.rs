//! Which points a sweep tries. A point is a function of the sampler's seed, its number, and the results of earlier points; so a
//! sweep that runs again, or with more trials, tries the same points.

use std::convert::Infallible;

use contract::Random;
use rand_core::TryRng;
use serde_json::Value;
use tpe::TpeOptimizer;
use tpe::density_estimation::DefaultEstimatorBuilder;

use super::space::{Dimension, Domain, Point, Space};

/// A point drawn at random: the one with this number.
pub(super) fn draw(space: &Space, seed: u64, number: usize) -> Point {
    space.draw(&mut stream(seed, number))
}

fn stream(seed: u64, number: usize) -> Random {
    Random::new(seed, &format!("sweep point {number}"))
}

/// The point with this number by a tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011), given the
/// results of earlier points: the smaller the loss, the better. Every axis has its own estimator, and so has every case
/// of a dependent axis.
pub(super) fn suggest(space: &Space, seed: u64, number: usize, told: &[(&Point, f64)]) -> Point {
    let mut generator = Generator(stream(seed, number));
    let mut point = Point::new();
    for dimension in &space.dimensions {
        match dimension {
            Dimension::Axis { name, domain } => {
                let Some(domain) = domain.at(&point).cloned() else {
                    continue;
                };
                let mut positions = Vec::new();
                for (other, loss) in told {
                    // Only what was tried in the same case says something about it.
                    if case(dimension, other) == Some(&domain)
                        && let Some(value) = other.get(name)
                        && let Some(position) = position(&domain, value)
                    {
                        positions.push((position, *loss));
                    }
                }
                if let Some(value) = estimate(&domain, &positions, &mut generator) {
                    point.insert(name.clone(), value);
                }
            }
            Dimension::Zip { names, rows } => {
                let choices = Domain::Values((0..rows.len()).map(Value::from).collect());
                let mut positions = Vec::new();
                for (other, loss) in told {
                    let values: Vec<_> = names.iter().filter_map(|name| other.get(name)).collect();
                    if let Some(index) = rows
                        .iter()
                        .position(|row| row.iter().eq(values.iter().copied()))
                    {
                        positions.push((index as f64 + 0.5, *loss));
                    }
                }
                let chosen = estimate(&choices, &positions, &mut generator);
                let index = chosen.and_then(|value| value.as_u64()).unwrap_or(0);
                let row = rows.get(index as usize).unwrap_or(&rows[0]);
                point.extend(names.iter().cloned().zip(row.iter().cloned()));
            }
        }
    }
    point
}

/// The domain that an axis had at a point.
fn case<'a>(dimension: &'a Dimension, point: &Point) -> Option<&'a Domain> {
    match dimension {
        Dimension::Axis { domain, .. } => domain.at(point),
        Dimension::Zip { .. } => None,
    }
}

/// Where a value lies for the estimator: the middle of its place in a list, or its share of a range.
fn position(domain: &Domain, value: &Value) -> Option<f64> {
    match domain {
        Domain::Values(values) => {
            Some(values.iter().position(|other| other == value)? as f64 + 0.5)
        }
        range => range.share(value).map(|share| share.min(LARGEST_SHARE)),
    }
}

/// The estimator's ranges do not contain their ends.
const LARGEST_SHARE: f64 = 1.0 - 1e-9;

/// The next value of one axis.
fn estimate(domain: &Domain, told: &[(f64, f64)], generator: &mut Generator) -> Option<Value> {
    let (range, estimator): (_, DefaultEstimatorBuilder) = match domain {
        Domain::Values(values) => (
            tpe::categorical_range(values.len()),
            tpe::histogram_estimator(),
        ),
        _ => (tpe::range(0.0, 1.0), tpe::parzen_estimator()),
    };
    let mut optimizer = TpeOptimizer::new(estimator, range.ok()?);
    for (position, loss) in told {
        optimizer.tell(*position, *loss).ok()?;
    }
    let position = optimizer.ask(generator).ok()?;
    match domain {
        Domain::Values(values) => values.get(position as usize).cloned(),
        range => Some(range.number(position.clamp(0.0, 1.0))),
    }
}

/// Our generator behind the interface that the estimator asks for.
struct Generator(Random);

impl TryRng for Generator {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.0.next_u64() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.next_u64())
    }

    fn try_fill_bytes(&mut self, target: &mut [u8]) -> Result<(), Infallible> {
        for piece in target.chunks_mut(8) {
            piece.copy_from_slice(&self.0.next_u64().to_le_bytes()[..piece.len()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn space() -> Space {
        let range = Domain::Range {
            low: 1e-5,
            high: 1e-1,
            log: true,
            whole: false,
            points: None,
        };
        let axis = |name: &str, domain| Dimension::Axis {
            name: name.into(),
            domain,
        };
        Space {
            dimensions: vec![
                axis("lr", range),
                axis(
                    "kind",
                    Domain::Values(vec![json!("a"), json!("b"), json!("c")]),
                ),
            ],
        }
    }

    /// Smallest at a rate of 1e-3 and the kind `b`.
    fn loss(point: &Point) -> f64 {
        let distance = point["lr"].as_f64().unwrap().log10() + 3.0;
        distance * distance + if point["kind"] == "b" { 0.0 } else { 1.0 }
    }

    #[test]
    fn numbers_give_points_whatever_came_before() {
        assert_eq!(draw(&space(), 5, 3), draw(&space(), 5, 3));
        assert_ne!(draw(&space(), 5, 3), draw(&space(), 5, 4));
        assert_ne!(draw(&space(), 5, 3), draw(&space(), 6, 3));
    }

    #[test]
    fn the_estimator_learns_where_the_loss_is_small() {
        let space = space();
        let mut points: Vec<Point> = (0..10).map(|number| draw(&space, 1, number)).collect();
        for number in 10..60 {
            let losses: Vec<f64> = points.iter().map(loss).collect();
            let told: Vec<(&Point, f64)> = points.iter().zip(losses).collect();
            let next = suggest(&space, 1, number, &told);
            assert_eq!(next, suggest(&space, 1, number, &told), "the same again");
            points.push(next);
        }
        let mean = |points: &[Point]| points.iter().map(loss).sum::<f64>() / points.len() as f64;
        let (early, late) = (mean(&points[..10]), mean(&points[40..]));
        assert!(late < 0.5 * early, "{early} -> {late}");
        let best = points.iter().map(loss).fold(f64::INFINITY, f64::min);
        assert!(best < 0.05, "{best}");
    }

    #[test]
    fn losses_without_end_and_zips_are_taken() {
        let rows = vec![vec![json!(1), json!(2)], vec![json!(3), json!(4)]];
        let space = Space {
            dimensions: vec![Dimension::Zip {
                names: vec!["a".into(), "b".into()],
                rows,
            }],
        };
        let (bad, good) = (draw(&space, 0, 0), space.grid().remove(1));
        let point = suggest(&space, 0, 9, &[(&bad, f64::INFINITY), (&good, 0.0)]);
        assert_eq!(point.len(), 2);
    }
}
