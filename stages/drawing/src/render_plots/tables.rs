//! Plots of tables: a ranking with a bar for each row, and a graph with an arrow for each.

use super::{Drawing, Params, Plot};
use contract::Trouble;
use contract::artifact::Table;
use plot::{Bar, Marks, Network, Ranking, palette};

/// Colours of the metrics beside the first.
const COLORS: [plot::Color; 4] = [
    palette::ORANGE,
    palette::VERMILION,
    palette::GREEN,
    palette::PURPLE,
];
/// Rows that one plot holds.
const MOST_ROWS: usize = 150;

/// A bar per row of a table, in its order.
///
/// # Errors
/// If the table has no rows or a column that was asked for is not there.
pub fn ranking(params: &Params, table: &Table) -> Result<Plot, Trouble> {
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
            "{} columns are more than the {} that one plot holds",
            figures.len(),
            COLORS.len() + 1
        ))
        .hint("name fewer in `figures`"));
    }
    let axes = axes(table, &figures);
    let values = numbers(table, first)?;
    let deviations = table.reals(&format!("{first}_std"));
    let mut bars = Vec::with_capacity(table.rows());
    for (row, name) in names(table, &axes).into_iter().enumerate() {
        let deviation = deviations.as_ref().and_then(|deviations| deviations[row]);
        bars.push(Bar {
            name,
            value: values[row],
            deviation,
        });
    }
    let mut marks = Vec::new();
    for (name, color) in others.iter().zip(COLORS) {
        marks.push(Marks {
            name: name.clone(),
            color,
            values: numbers(table, name)?,
        });
    }
    let subtitle = if deviations.is_some() {
        "means; whiskers are one standard deviation to either side".to_owned()
    } else {
        String::new()
    };
    let ranking = Ranking {
        title: title(table, first, &axes),
        subtitle,
        metric: first.clone(),
        bars,
        marks,
        range: None,
    };
    Ok(Plot {
        name: "ranking".to_owned(),
        size: (params.width, ranking.height()),
        drawing: Drawing::Ranking(ranking),
    })
}

/// The first three columns of numbers that are neither counts nor deviations.
fn default_figures(table: &Table) -> Vec<String> {
    let mut names = table.column_names();
    names.retain(|name| table.reals(name).is_some() && !name.ends_with("_std"));
    names.truncate(3);
    names
}

fn numbers(table: &Table, name: &str) -> Result<Vec<Option<f64>>, Trouble> {
    if let Some(reals) = table.reals(name) {
        return Ok(reals);
    }
    if let Some(integers) = table.integers(name) {
        let integers = integers.into_iter();
        return Ok(integers.map(|value| Some(value? as f64)).collect());
    }
    let known = table.column_names().join("`, `");
    let message = format!("the table has no column of numbers `{name}`");
    Err(Trouble::new(message).hint(format!("there are `{known}`")))
}

/// The columns that say what a row is: those of text, or else the ones in front of all columns that are drawn.
fn axes(table: &Table, drawn: &[String]) -> Vec<String> {
    let names = table.column_names();
    let mut axes = names.clone();
    axes.retain(|name| table.texts(name).is_some());
    if axes.is_empty() {
        axes.extend(names.into_iter().take_while(|name| !drawn.contains(name)));
        axes.retain(|name| !["rank", "instances"].contains(&name.as_str()));
    }
    axes
}

/// What the axes say, numbers with the axis' name, or the row's number.
fn names(table: &Table, axes: &[String]) -> Vec<String> {
    let columns: Vec<Vec<Option<String>>> = axes.iter().map(|axis| labels(table, axis)).collect();
    let mut names = Vec::with_capacity(table.rows());
    for row in 0..table.rows() {
        let parts: Vec<&str> = columns
            .iter()
            .filter_map(|column| column[row].as_deref())
            .collect();
        names.push(if parts.is_empty() {
            (row + 1).to_string()
        } else {
            parts.join(" · ")
        });
    }
    names
}

fn labels(table: &Table, axis: &str) -> Vec<Option<String>> {
    if let Some(texts) = table.texts(axis) {
        texts
    } else if let Some(integers) = table.integers(axis) {
        numbered(axis, integers)
    } else if let Some(reals) = table.reals(axis) {
        numbered(axis, reals)
    } else {
        vec![None; table.rows()]
    }
}

fn numbered<T: std::fmt::Display>(axis: &str, values: Vec<Option<T>>) -> Vec<Option<String>> {
    let values = values.into_iter();
    values
        .map(|value| Some(format!("{axis} {}", value?)))
        .collect()
}

/// Only a table that has ranks is in the order of the metric.
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
pub fn graph(params: &Params, table: &Table) -> Result<Plot, Trouble> {
    let (from, to) = (ends(table, "from")?, ends(table, "to")?);
    let weights = numbers(table, "weight")?;
    let mut nodes: Vec<String> = Vec::new();
    // The receiving channels first: they are in the order of the series.
    for name in to.iter().chain(&from).flatten() {
        if !nodes.contains(name) {
            nodes.push(name.clone());
        }
    }
    let mut edges = Vec::new();
    for (row, weight) in weights.into_iter().enumerate() {
        if let (Some(from), Some(to), Some(weight)) = (&from[row], &to[row], weight) {
            edges.push((place(&nodes, from), place(&nodes, to), weight));
        }
    }
    let network = Network {
        title: "learned graph: who informs whom".to_owned(),
        nodes,
        edges,
    };
    Ok(Plot {
        name: "graph".to_owned(),
        size: (params.width, params.width),
        drawing: Drawing::Network(network),
    })
}

/// The names at one end of all edges.
fn ends(table: &Table, name: &str) -> Result<Vec<Option<String>>, Trouble> {
    table.texts(name).ok_or_else(|| {
        Trouble::new(format!("the graph has no column of text `{name}`")).hint(
            "connect the output of `sensor-graph`, or a table with the columns from, to and weight",
        )
    })
}

/// The number of a node; nodes beyond the last are not drawn.
fn place(nodes: &[String], name: &str) -> usize {
    let found = nodes.iter().position(|node| node == name);
    found.unwrap_or(nodes.len())
}
