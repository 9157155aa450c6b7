//! A graph as a plot: its nodes on a circle, its edges as arrows whose width tells their weight.

use super::canvas::{Canvas, Rect, Stroke, palette};
use super::font;
use super::layout::{HALF_DIGIT, LABEL, MARGIN, SMALL, draw_head, span};

/// Size of a node.
const NODE: f32 = 7.0;
/// Widths of the lightest and the heaviest edge.
const WIDTHS: (f64, f64) = (0.4, 2.4);

/// Nodes and directed edges between them.
#[derive(Clone, Debug)]
pub struct Network {
    pub title: String,
    pub nodes: Vec<String>,
    /// From, to, weight; the two are indices of nodes.
    pub edges: Vec<(usize, usize, f64)>,
}

impl Network {
    /// Draws the graph over a whole canvas.
    pub fn draw(&self, canvas: &mut dyn Canvas) {
        let (width, height) = canvas.size();
        draw_head(canvas, &self.title, "");
        let top = MARGIN + 23.0;
        let widest = font::widest(self.nodes.iter().map(String::as_str), SMALL);
        let room = widest.min(0.25 * width) + NODE;
        let radius =
            ((width / 2.0 - MARGIN - room).min((height - top) / 2.0 - MARGIN - SMALL)).max(1.0);
        let center = (width / 2.0, (height + top) / 2.0);
        let places: Vec<(f32, f32)> = (0..self.nodes.len())
            .map(|node| self.place(node, center, radius))
            .collect();
        self.draw_edges(canvas, &places);
        for (name, place) in self.nodes.iter().zip(&places) {
            draw_node(canvas, name, *place, center, room);
        }
    }

    /// Nodes go round clockwise from the top.
    fn place(&self, node: usize, center: (f32, f32), radius: f32) -> (f32, f32) {
        let angle = std::f64::consts::TAU * node as f64 / self.nodes.len() as f64;
        (
            center.0 + radius * libm::sin(angle) as f32,
            center.1 - radius * libm::cos(angle) as f32,
        )
    }

    fn draw_edges(&self, canvas: &mut dyn Canvas, places: &[(f32, f32)]) {
        let weights = self.edges.iter().map(|(_, _, weight)| *weight);
        let (low, high) = span(weights.filter(|weight| weight.is_finite()));
        let mut rising: Vec<&(usize, usize, f64)> = self.edges.iter().collect();
        // The heaviest on top.
        rising.sort_by(|one, other| one.2.total_cmp(&other.2));
        for (from, to, weight) in rising {
            let (Some(start), Some(end)) = (places.get(*from), places.get(*to)) else {
                continue;
            };
            let share = if high > low {
                ((weight - low) / (high - low)).clamp(0.0, 1.0)
            } else {
                1.0
            };
            let width = (WIDTHS.0 + share * (WIDTHS.1 - WIDTHS.0)) as f32;
            let color = if share > 0.5 {
                palette::BLUE
            } else {
                palette::FRAME
            };
            draw_arrow(canvas, *start, *end, Stroke::solid(color, width));
        }
    }
}

/// A line with a head at its end, short of the node.
fn draw_arrow(canvas: &mut dyn Canvas, start: (f32, f32), end: (f32, f32), stroke: Stroke) {
    let (across, down) = (end.0 - start.0, end.1 - start.1);
    let length = (across * across + down * down).sqrt();
    if length <= 2.0 * NODE {
        return;
    }
    let (x, y) = (across / length, down / length);
    let tip = (end.0 - x * NODE, end.1 - y * NODE);
    canvas.polyline(&[start, tip], stroke);
    // The head reaches 6 pixels back and 3 to either side.
    let (back_x, back_y) = (tip.0 - 6.0 * x, tip.1 - 6.0 * y);
    let one_wing = (back_x + 3.0 * y, back_y - 3.0 * x);
    let other_wing = (back_x - 3.0 * y, back_y + 3.0 * x);
    canvas.polyline(&[one_wing, tip, other_wing], stroke);
}

fn draw_node(
    canvas: &mut dyn Canvas,
    name: &str,
    (x, y): (f32, f32),
    center: (f32, f32),
    room: f32,
) {
    let node = Rect {
        left: x - NODE / 2.0,
        top: y - NODE / 2.0,
        width: NODE,
        height: NODE,
    };
    canvas.fill_rect(node, palette::VERMILION, 1.0);
    let name = font::fit(name, SMALL, room);
    let side = x - center.0;
    let baseline = y + SMALL * HALF_DIGIT;
    if side > 1.0 {
        canvas.text(x + NODE, baseline, &name, LABEL);
    } else if side < -1.0 {
        canvas.text(x - NODE, baseline, &name, LABEL.ending());
    } else {
        // Names above and below the circle stand clear of their node.
        let drop = if y < center.1 { -NODE } else { NODE + SMALL };
        canvas.text(x, y + drop, &name, LABEL.centered());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Raster, Svg};

    #[test]
    fn nodes_are_named_and_degenerate_graphs_drawn() {
        let names = |count: usize| {
            (0..count)
                .map(|node| format!("sensor {node}"))
                .collect::<Vec<_>>()
        };
        for (count, edges) in [
            (0, vec![]),
            (1, vec![(0, 0, 1.0)]),
            (
                5,
                vec![(0, 1, 0.2), (1, 4, 0.9), (4, 0, f64::NAN), (7, 1, 0.1)],
            ),
        ] {
            let network = Network {
                title: "graph".into(),
                nodes: names(count),
                edges,
            };
            let mut svg = Box::new(Svg::new(400, 400));
            network.draw(svg.as_mut());
            let text = String::from_utf8(svg.finish().unwrap()).unwrap();
            assert!(names(count).iter().all(|name| text.contains(name)));
            network.draw(&mut Raster::new(200, 150).unwrap());
        }
    }
}
