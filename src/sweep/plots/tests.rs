//! What is drawn: nothing overlaps, scales are those of the sweep file, and levels are kept apart.

use plot::Rect;
use serde_json::{Value, json};

use super::ruler::axis_ruler;
use super::*;
use crate::sweep::leaderboard::Standing;
use crate::sweep::space::Domain;

/// Keeps what is drawn.
#[derive(Default)]
struct Recording {
    texts: Vec<(Rect, String)>,
    lines: Vec<(Vec<(f32, f32)>, Stroke)>,
    width: f32,
}

impl Canvas for Recording {
    fn size(&self) -> (f32, f32) {
        (self.width, 480.0)
    }

    fn fill_rect(&mut self, _: Rect, _: Color, _: f32) {}

    fn polyline(&mut self, points: &[(f32, f32)], stroke: Stroke) {
        self.lines.push((points.to_vec(), stroke));
    }

    fn text(&mut self, x: f32, y: f32, text: &str, style: TextStyle) {
        let width = font::width(text, style.size);
        let left = match style.anchor {
            Anchor::Start => x,
            Anchor::Middle => x - width / 2.0,
            Anchor::End => x - width,
        };
        let place = Rect {
            left,
            top: y - 0.75 * style.size,
            width,
            height: 0.8 * style.size,
        };
        self.texts.push((place, text.to_owned()));
    }

    fn finish(self: Box<Self>) -> Result<Vec<u8>, String> {
        Ok(Vec::new())
    }
}

fn recording(width: u32) -> Recording {
    Recording {
        width: width as f32,
        ..Recording::default()
    }
}

fn assert_nothing_overlaps(drawn: &Recording) {
    for (index, (one, text)) in drawn.texts.iter().enumerate() {
        assert!(
            one.left >= 0.0 && one.right() <= drawn.width,
            "`{text}` is cut off"
        );
        for (other, beside) in &drawn.texts[index + 1..] {
            let apart = one.right() <= other.left
                || other.right() <= one.left
                || one.bottom() <= other.top
                || other.bottom() <= one.top;
            assert!(apart, "`{text}` and `{beside}` overlap");
        }
    }
}

/// A board whose rows are in order; a row is a point, a level and a figure.
fn board(axes: &[(&str, Domain)], rows: Vec<(Vec<Value>, Option<u64>, f64)>) -> Leaderboard {
    let row = |(trial, (values, level, mean)): (usize, (Vec<Value>, Option<u64>, f64))| Row {
        trial,
        point: axes
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .zip(values)
            .collect(),
        standing: Standing::Done,
        level,
        values: vec![mean],
        seeds: vec![None],
        mean: Some(mean),
        deviation: None,
        seconds: 1.0,
        finished: Some(trial as u64),
    };
    Leaderboard {
        oracle: false,
        axes: axes.iter().map(|(name, _)| (*name).to_owned()).collect(),
        domains: axes
            .iter()
            .map(|(_, domain)| Some(domain.clone()))
            .collect(),
        metric: "validation.average_precision_over_events".to_owned(),
        direction: Some(Direction::Higher),
        rows: rows.into_iter().enumerate().map(row).collect(),
    }
}

#[test]
fn long_names_and_many_categories_can_be_read() {
    let names: Vec<String> = (0..10)
        .map(|index| format!("model_{index}.encoder.feed_forward_multiplier"))
        .collect();
    let categories: Vec<Value> = (0..50)
        .map(|index| json!(format!("machine-{index}-of-the-server-room")))
        .collect();
    let axes: Vec<(&str, Domain)> = names
        .iter()
        .map(|name| (name.as_str(), Domain::Values(categories.clone())))
        .collect();
    let rows = (0..40)
        .map(|trial| {
            (
                vec![categories[(trial * 7) % 50].clone(); 10],
                None,
                trial as f64 / 40.0,
            )
        })
        .collect();
    let board = board(&axes, rows);
    let mut drawn = recording(parallel_width(&board, 960));
    parallel_coordinates(&board, &mut drawn);
    assert_nothing_overlaps(&drawn);
    let mut drawn = recording(960);
    objective_in_order(&board, &mut drawn);
    assert_nothing_overlaps(&drawn);
}

#[test]
fn the_declared_range_is_the_scale() {
    let range = Domain::Range {
        low: 1e-5,
        high: 1e-1,
        log: true,
        whole: false,
        points: None,
    };
    let board = board(
        &[("lr", range)],
        vec![
            (vec![json!(1e-3)], None, 0.9),
            (vec![json!(1e-5)], None, 0.1),
        ],
    );
    let rows: Vec<&Row> = board.rows.iter().collect();
    let ruler = axis_ruler("lr", board.domains[0].as_ref(), &rows);
    assert!(
        (ruler.heights[0].unwrap() - 0.5).abs() < 1e-6 && ruler.heights[1] == Some(0.0),
        "{:?}",
        ruler.heights
    );
    let marks: Vec<&str> = ruler.marks.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(marks, ["10⁻⁵", "10⁻⁴", "0.001", "0.01", "0.1"]);
}

#[test]
fn whole_numbers_have_whole_marks() {
    let range = Domain::Range {
        low: 1.0,
        high: 4.0,
        log: false,
        whole: true,
        points: None,
    };
    let board = board(
        &[("epochs", range.clone())],
        vec![(vec![json!(2)], None, 0.5)],
    );
    let rows: Vec<&Row> = board.rows.iter().collect();
    let marks = axis_ruler("epochs", Some(&range), &rows).marks;
    let texts: Vec<&str> = marks.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts, ["1", "2", "3", "4"]);
}

#[test]
fn declared_values_keep_their_order() {
    let values = Domain::Values(vec![json!("small"), json!("base"), json!("large")]);
    let board = board(
        &[("size", values)],
        vec![
            (vec![json!("base")], None, 0.9),
            (vec![json!("small")], None, 0.1),
        ],
    );
    let rows: Vec<&Row> = board.rows.iter().collect();
    assert_eq!(
        axis_ruler("size", board.domains[0].as_ref(), &rows).heights,
        [Some(0.5), Some(0.0)]
    );
}

/// A trial that was stopped at a low level may have a better figure there; it is not the best.
#[test]
fn only_the_highest_level_is_compared() {
    let values = Domain::Values(vec![json!(1), json!(2), json!(3)]);
    let rows = vec![
        (vec![json!(1)], Some(9), 0.6),
        (vec![json!(2)], Some(9), 0.7),
        (vec![json!(3)], Some(1), 0.95),
    ];
    let board = board(&[("a", values)], rows);
    let mut drawn = recording(960);
    objective_in_order(&board, &mut drawn);
    let (stair, _) = drawn
        .lines
        .iter()
        .find(|(_, stroke)| stroke.color == palette::VERMILION)
        .unwrap();
    let highest = stair.iter().map(|(_, y)| *y).fold(f32::INFINITY, f32::min);
    let rows: Vec<&Row> = board.rows.iter().collect();
    assert_eq!(comparable(&board, &rows), [Some(0.6), Some(0.7), None]);
    let area = (86.0, 480.0 - 56.0);
    let share = (area.1 - highest) / (area.1 - area.0);
    assert!(
        (share - (0.7 - 0.586) / (0.964 - 0.586)).abs() < 1e-3,
        "{share}"
    );
    assert_nothing_overlaps(&drawn);
}
