//! `runner predict`: what a trained model of a finished run says about new data, as a table or as JSON.

use std::path::PathBuf;

use clap::Args;
use contract::artifact::{Forecasts, Predictions, Scores};
use serde_json::{Map, Value, json};

use super::{Error, Exit, Global};
use crate::project::{Answer, DeviceChoice, PredictOrder};
use crate::ui::{Align, Paint, Table, errln, number, out, print_json};

/// Classes that are shown beside the most probable one.
const ALSO: usize = 2;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner predict latest new.csv                 the class of a series, by the latest run's model\n  \
    runner predict latest:model a.png b.png       of images, by the model of the stage `model`\n  \
    runner predict latest new.csv --json          the probabilities of all classes")]
pub(super) struct Arguments {
    /// A run: `latest`, its name, or the start or end of its name; followed by `:STAGE` if it has several models
    #[arg(value_name = "RUN[:STAGE]")]
    model: String,
    /// Files: tables (CSV, Parquet, Arrow) with the channels that the model knows, or images (PNG)
    #[arg(value_name = "INPUT", required = true)]
    inputs: Vec<PathBuf>,
    /// Where the model runs: auto (CUDA if it is usable), cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    let predicted = global.project.predict(&PredictOrder {
        model: arguments.model.clone(),
        inputs: arguments.inputs.clone(),
        device: arguments.device,
    })?;
    let (run, stage) = (&predicted.run, &predicted.stage);
    if global.json {
        let answers = to_json(&predicted.answer);
        print_json(&json!({"run": run, "stage": stage, "answers": answers}));
    } else {
        let name = Paint::Strong.on(stage);
        errln!("{} {name} of run {run}", Paint::Quiet.on("by"));
        out!("{}", describe(&predicted.answer));
    }
    Ok(Exit::Done)
}

fn to_json(answer: &Answer) -> Vec<Value> {
    let mut answers = Vec::new();
    match answer {
        Answer::Classes(predictions) => {
            for (sample, input) in predictions.samples.iter().enumerate() {
                let mut probabilities = Map::new();
                for (class, probability) in predictions.classes.iter().zip(predictions.row(sample))
                {
                    probabilities.insert(class.clone(), json!(probability));
                }
                let class = &predictions.classes[predictions.predicted(sample)];
                answers
                    .push(json!({"input": input, "class": class, "probabilities": probabilities}));
            }
        }
        Answer::Scores(scores) => {
            for segment in &scores.segments {
                let (first, own) = (segment.rows.start, &scores.scores[segment.rows.clone()]);
                answers.push(json!({"input": segment.entity, "first": first, "scores": own}));
            }
        }
        Answer::Forecasts(forecasts) => {
            for (window, origin) in forecasts.origins.iter().enumerate() {
                let steps: Vec<&[f32]> = steps(forecasts, window).collect();
                answers.push(json!({
                    "input": origin.entity,
                    "row": origin.row,
                    "channels": forecasts.channels,
                    "forecast": steps,
                }));
            }
        }
    }
    answers
}

/// The rows of a window's forecast.
fn steps(forecasts: &Forecasts, window: usize) -> impl Iterator<Item = &[f32]> {
    let size = forecasts.horizon * forecasts.width();
    let values = &forecasts.predicted[window * size..(window + 1) * size];
    values.chunks_exact(forecasts.width().max(1))
}

fn describe(answer: &Answer) -> String {
    match answer {
        Answer::Classes(predictions) => classes_table(predictions),
        Answer::Scores(scores) => scores_table(scores),
        Answer::Forecasts(forecasts) => forecasts_table(forecasts),
    }
}

fn percent(probability: f32) -> String {
    format!("{:.1} %", probability * 100.0)
}

fn classes_table(predictions: &Predictions) -> String {
    let mut table = Table::new(&[
        ("input", Align::Left),
        ("class", Align::Left),
        ("probability", Align::Right),
        ("less probable", Align::Left),
    ]);
    for (sample, name) in predictions.samples.iter().enumerate() {
        let row = predictions.row(sample);
        let mut order: Vec<usize> = (0..row.len()).collect();
        order.sort_by(|left, right| row[*right].total_cmp(&row[*left]));
        let best = order.first().copied().unwrap_or(0);
        let mut also = Vec::new();
        for &class in order.iter().skip(1).take(ALSO) {
            also.push(format!(
                "{} {}",
                predictions.classes[class],
                percent(row[class])
            ));
        }
        table.row([
            name.clone(),
            Paint::Strong.on(&predictions.classes[best]),
            percent(row[best]),
            Paint::Quiet.on(also.join(", ")),
        ]);
    }
    table.render()
}

fn scores_table(scores: &Scores) -> String {
    let mut table = Table::new(&[
        ("input", Align::Left),
        ("rows scored", Align::Right),
        ("mean score", Align::Right),
        ("highest", Align::Right),
        ("in row", Align::Right),
    ]);
    for segment in &scores.segments {
        let own = &scores.scores[segment.rows.clone()];
        let mean = own.iter().map(|score| f64::from(*score)).sum::<f64>() / own.len().max(1) as f64;
        let order = own.iter().enumerate();
        let Some((row, highest)) = order.max_by(|left, right| left.1.total_cmp(right.1)) else {
            continue;
        };
        table.row([
            segment.entity.clone(),
            own.len().to_string(),
            number(mean),
            number(f64::from(*highest)),
            (row + 1).to_string(),
        ]);
    }
    table.render()
}

/// The last window of the data, a line per step; all windows are printed as JSON.
fn forecasts_table(forecasts: &Forecasts) -> String {
    let Some((last, origin)) = forecasts.origins.iter().enumerate().next_back() else {
        return String::new();
    };
    let mut columns = vec![("row", Align::Right)];
    for channel in &forecasts.channels {
        columns.push((channel.as_str(), Align::Right));
    }
    let mut table = Table::new(&columns);
    for (step, row) in steps(forecasts, last).enumerate() {
        let mut cells = vec![(origin.row + step + 1).to_string()];
        cells.extend(row.iter().map(|value| number(f64::from(*value))));
        table.row(cells);
    }
    table.render()
}
