//! The objective of each trial in the order in which trials ended, and the best value so far as a stair.

use contract::artifact::Direction;
use plot::{Anchor, Canvas, Color, Rect, font, linear, palette};

use super::ruler::{Ruler, number_ruler, span};
use super::{MARGIN, TEXT, comparable, draw_head, highest_level, sense, solid, write, write_mark};
use crate::sweep::leaderboard::{Leaderboard, Row};

/// Draws the objective of each trial in the order in which they ended, and the best so far as a stair.
pub(super) fn objective_in_order(board: &Leaderboard, canvas: &mut dyn Canvas) {
    let (width, height) = canvas.size();
    let mut rows: Vec<&Row> = board.rows.iter().filter(|row| row.mean.is_some()).collect();
    rows.sort_by_key(|row| (row.finished, row.trial));
    let comparable = comparable(board, &rows);
    let title = format!("{} of each trial", board.metric);
    let (count, sense) = (rows.len(), sense(board));
    let subtitle = format!("{count} trials in the order in which they ended; {sense}");
    draw_head(canvas, &title, &subtitle);
    let means: Vec<Option<f64>> = rows.iter().map(|row| row.mean).collect();
    // No dot lies on the frame.
    let bounds =
        span(&means).map(|(low, high)| (low - 0.04 * (high - low), high + 0.04 * (high - low)));
    let frame = Frame {
        area: Rect {
            left: 76.0,
            top: 86.0,
            width: width - 76.0 - MARGIN,
            height: height - 86.0 - 56.0,
        },
        trials: count,
        ruler: number_ruler(&board.metric, &means, bounds, false),
    };
    frame.draw_grid(canvas);
    frame.draw_trials(
        canvas,
        &comparable,
        board.direction == Some(Direction::Lower),
    );
    frame.draw_border(canvas);
    let level = highest_level(board).filter(|_| comparable.contains(&None));
    draw_legend(canvas, level);
}

/// The area of the plot, and where trials lie in it.
struct Frame {
    area: Rect,
    trials: usize,
    ruler: Ruler,
}

impl Frame {
    fn x(&self, index: usize) -> f32 {
        self.area.left + (index as f32 + 0.5) / self.trials.max(1) as f32 * self.area.width
    }

    fn y(&self, share: f32) -> f32 {
        self.area.bottom() - share * self.area.height
    }

    /// Lines and numbers of the vertical axis, and the numbers of the trials.
    fn draw_grid(&self, canvas: &mut dyn Canvas) {
        let Rect { left, .. } = self.area;
        for (share, text) in &self.ruler.marks {
            let y = self.y(*share);
            canvas.polyline(
                &[(left, y), (self.area.right(), y)],
                solid(palette::GRID, 1.0),
            );
            write_mark(canvas, (left - 8.0, y + 4.0), text, Anchor::End);
        }
        for tick in linear(1.0, self.trials as f64, 8) {
            // Trials have whole numbers, from 1.
            if tick.at.fract() == 0.0 && tick.at >= 1.0 {
                let trial = tick.at as usize;
                let at = (self.x(trial - 1), self.area.bottom() + 18.0);
                write_mark(canvas, at, &trial.to_string(), Anchor::Middle);
            }
        }
    }

    /// A dot for each trial; the stair steps at each that is better than all before it, among those that can be compared.
    fn draw_trials(&self, canvas: &mut dyn Canvas, comparable: &[Option<f64>], is_lower: bool) {
        let (mut stair, mut best): (Vec<(f32, f32)>, Option<f32>) = (Vec::new(), None);
        for (index, share) in self.ruler.heights.iter().enumerate() {
            let Some(share) = *share else { continue };
            let (x, y) = (self.x(index), self.y(share));
            if comparable[index].is_none() {
                draw_dot(canvas, (x, y), palette::FRAME, false);
                continue;
            }
            draw_dot(canvas, (x, y), palette::BLUE, true);
            let is_better = match best {
                Some(best) if is_lower => share < best,
                Some(best) => share > best,
                None => true,
            };
            if is_better {
                stair.extend(best.map(|best| (x, self.y(best))));
                stair.push((x, y));
                best = Some(share);
            }
        }
        stair.extend(best.map(|best| (self.area.right(), self.y(best))));
        canvas.polyline(&stair, solid(palette::VERMILION, 1.8));
    }

    fn draw_border(&self, canvas: &mut dyn Canvas) {
        let Rect {
            left, top, width, ..
        } = self.area;
        let (right, bottom) = (self.area.right(), self.area.bottom());
        let border = [(left, top), (left, bottom), (right, bottom)];
        canvas.polyline(&border, solid(palette::FRAME, 1.0));
        let middle = (left + width / 2.0, canvas.size().1 - 14.0);
        let text = "trials, in the order in which they ended";
        write(
            canvas,
            middle,
            text,
            TEXT,
            palette::FAINT_TEXT,
            Anchor::Middle,
        );
    }
}

/// What dots and line mean. `level` is the highest one, where there are others.
fn draw_legend(canvas: &mut dyn Canvas, level: Option<u64>) {
    let entries = match level {
        Some(level) => vec![
            (
                palette::BLUE,
                format!("a trial at the highest level, {level}"),
            ),
            (
                palette::FRAME,
                "at a lower level: not to be compared".to_owned(),
            ),
            (
                palette::VERMILION,
                "the best so far at the highest level".to_owned(),
            ),
        ],
        None => vec![
            (palette::BLUE, "a trial".to_owned()),
            (palette::VERMILION, "the best so far".to_owned()),
        ],
    };
    let (mut x, baseline) = (MARGIN, 70.0);
    for (color, text) in entries {
        let y = baseline - 4.0;
        if color == palette::VERMILION {
            canvas.polyline(&[(x - 3.0, y), (x + 11.0, y)], solid(color, 1.8));
        } else {
            draw_dot(canvas, (x + 4.0, y), color, true);
        }
        let at = (x + 16.0, baseline);
        write(canvas, at, &text, TEXT, palette::TEXT, Anchor::Start);
        x += 40.0 + font::width(&text, TEXT);
    }
}

fn draw_dot(canvas: &mut dyn Canvas, (x, y): (f32, f32), color: Color, is_strong: bool) {
    let half = if is_strong { 3.0 } else { 2.0 };
    let square = Rect {
        left: x - half,
        top: y - half,
        width: 2.0 * half,
        height: 2.0 * half,
    };
    canvas.fill_rect(square, color, if is_strong { 0.85 } else { 0.6 });
}
