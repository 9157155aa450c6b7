//! Pictures of tables: a ranking with a bar for each row, and a graph with an arrow for each.

use super::Params;
use super::pictures::{Drawing, Picture};
use contract::Trouble;
use contract::artifact::Table;
use plot::{Bar, Marks, Network, Ranking, palette};

/// Colours of the figures beside the first.
const COLORS: [plot::Color; 4] = [
    palette::ORANGE,
    palette::VERMILION,
    palette::GREEN,
    palette::PURPLE,
];
/// Rows that one picture holds.
const MOST_ROWS: usize = 150;

/// A bar per row of a table, in its order.
///
/// # Errors
/// If the table has no rows or a column that was asked for is not there.
pub fn ranking(params: &Params, table: &Table) -> Result<Picture, Trouble> {
    if table.rows() == 0 || table.rows() > MOST_ROWS {
        let message = format!(
            "a table of {} rows cannot be drawn; 1 to {MOST_ROWS} can",
            table.rows()
        );
        return Err(
            Trouble::new(message).hint("`collect` with `by` has a row for each of an axis' values")
        );
    }
    let figures = if params.figures.is_empty() {
        default_figures(table)
    } else {
        params.figures.clone()
    };
    let Some((first, others)) = figures.split_first() else {
        return Err(Trouble::new("the table has no column of numbers to draw"));
    };
    if others.len() > COLORS.len() {
        return Err(Trouble::new(format!(
            "{} figures are more than the {} that one picture holds",
            figures.len(),
            COLORS.len() + 1
        ))
        .hint("name fewer in `figures`"));
    }
    let axes = axes(table, &figures);
    let (values, names) = (numbers(table, first)?, names(table, &axes));
    let deviations = table
        .reals(&format!("{first}_std"))
        .unwrap_or_else(|| vec![None; table.rows()]);
    let bars = names.into_iter().zip(values.into_iter().zip(deviations));
    let bars = bars
        .map(|(name, (value, deviation))| Bar {
            name,
            value,
            deviation,
        })
        .collect();
    let mark = |(name, color): (&String, &plot::Color)| {
        Ok(Marks {
            name: name.clone(),
            color: *color,
            values: numbers(table, name)?,
        })
    };
    let marks = others
        .iter()
        .zip(&COLORS)
        .map(mark)
        .collect::<Result<Vec<_>, Trouble>>()?;
    let subtitle = if table.reals(&format!("{first}_std")).is_some() {
        "means; whiskers are one standard deviation to either side".to_owned()
    } else {
        String::new()
    };
    let ranking = Ranking {
        title: title(table, first, &axes),
        subtitle,
        figure: first.clone(),
        bars,
        marks,
        range: None,
    };
    Ok(Picture {
        name: "ranking".to_owned(),
        drawing: Drawing::Ranking(ranking),
        channels: 0,
    })
}

/// The first three columns of numbers that are no counts and no deviations.
fn default_figures(table: &Table) -> Vec<String> {
    let all = table.column_names().into_iter();
    all.filter(|name| table.reals(name).is_some() && !name.ends_with("_std"))
        .take(3)
        .collect()
}

fn numbers(table: &Table, name: &str) -> Result<Vec<Option<f64>>, Trouble> {
    if let Some(reals) = table.reals(name) {
        return Ok(reals);
    }
    if let Some(integers) = table.integers(name) {
        return Ok(integers
            .into_iter()
            .map(|value| value.map(|value| value as f64))
            .collect());
    }
    let known = table
        .column_names()
        .into_iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ");
    Err(
        Trouble::new(format!("the table has no column of numbers `{name}`"))
            .hint(format!("there are {known}")),
    )
}

/// The columns that say what a row is: those of text, or else the ones in front of all figures that are drawn.
fn axes(table: &Table, figures: &[String]) -> Vec<String> {
    let names = table.column_names();
    let texts: Vec<String> = names
        .iter()
        .filter(|name| table.texts(name).is_some())
        .cloned()
        .collect();
    if !texts.is_empty() {
        return texts;
    }
    let counted = |name: &String| ["rank", "instances"].contains(&name.as_str());
    names
        .into_iter()
        .take_while(|name| !figures.contains(name))
        .filter(|name| !counted(name))
        .collect()
}

/// What the axes say, numbers with the axis' name, or the row's number.
fn names(table: &Table, axes: &[String]) -> Vec<String> {
    let columns: Vec<Vec<Option<String>>> = axes.iter().map(|axis| labels(table, axis)).collect();
    let name = |row: usize| {
        let parts: Vec<&str> = columns
            .iter()
            .filter_map(|column| column[row].as_deref())
            .collect();
        if parts.is_empty() {
            (row + 1).to_string()
        } else {
            parts.join(" · ")
        }
    };
    (0..table.rows()).map(name).collect()
}

fn labels(table: &Table, axis: &str) -> Vec<Option<String>> {
    let numbered = |value: Option<String>| value.map(|value| format!("{axis} {value}"));
    if let Some(texts) = table.texts(axis) {
        texts
    } else if let Some(integers) = table.integers(axis) {
        integers
            .into_iter()
            .map(|value| numbered(value.map(|value| value.to_string())))
            .collect()
    } else {
        let reals = table
            .reals(axis)
            .unwrap_or_else(|| vec![None; table.rows()]);
        reals
            .into_iter()
            .map(|value| numbered(value.map(|value| value.to_string())))
            .collect()
    }
}

/// Only a table that has ranks is in the order of the figure.
fn title(table: &Table, first: &str, axes: &[String]) -> String {
    if table.integers("rank").is_some() {
        format!("ranked by {first}")
    } else if axes.is_empty() {
        first.to_owned()
    } else {
        format!("{first} by {}", axes.join(" and "))
    }
}

/// An arrow per row of a table with the columns `from`, `to` and `weight`.
///
/// # Errors
/// If one of them is missing.
pub fn graph(table: &Table) -> Result<Picture, Trouble> {
    let ends = |name: &str| {
        table.texts(name).ok_or_else(|| {
            Trouble::new(format!("the graph has no column of text `{name}`"))
                .hint("connect the output of `sensor-graph`, or a table with the columns from, to and weight")
        })
    };
    let (from, to, weights) = (ends("from")?, ends("to")?, numbers(table, "weight")?);
    let mut nodes: Vec<String> = Vec::new();
    // Channels in the order in which they are told something, which is that of the series.
    for name in to.iter().chain(&from).flatten() {
        if !nodes.contains(name) {
            nodes.push(name.clone());
        }
    }
    let place = |name: &Option<String>| {
        name.as_ref()
            .and_then(|name| nodes.iter().position(|node| node == name))
    };
    let edges = from.iter().zip(&to).zip(weights);
    let edges = edges
        .filter_map(|((from, to), weight)| Some((place(from)?, place(to)?, weight?)))
        .collect();
    let network = Network {
        title: "learned graph: who informs whom".to_owned(),
        nodes: nodes.clone(),
        edges,
    };
    Ok(Picture {
        name: "graph".to_owned(),
        drawing: Drawing::Network(network),
        channels: 0,
    })
}
