//! Where an instance stands on the axes, as its name says it.

use super::{Cell, Row};

/// `machine=machine-2-1,seed=1` as axes and values; a name without `=` stands on the axis `instance`.
pub fn axes_of(name: &str) -> Row {
    let mut axes = Row::new();
    for part in parts_of(name) {
        if part.trim().is_empty() {
            continue;
        }
        let (axis, value) = part.split_once('=').unwrap_or(("instance", part));
        axes.insert(axis.trim().to_owned(), cell_of_text(value.trim()));
    }
    axes
}

/// The parts of a name between its commas. A comma inside brackets or quotes belongs to a value that is a list or a map.
fn parts_of(name: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    let (mut quoted, mut escaped) = (false, false);
    for (at, character) in name.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' if depth > 0 => quoted = !quoted,
            _ if quoted => {}
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&name[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&name[start..]);
    // Text with a bracket that nothing closes is not a list.
    if depth == 0 && !quoted {
        parts
    } else {
        name.split(',').collect()
    }
}

fn cell_of_text(text: &str) -> Cell {
    // Text such as 007 stays text.
    if let Ok(integer) = text.parse::<i64>()
        && integer.to_string() == text
    {
        return Cell::Integer(integer);
    }
    let looks_like_number =
        text.contains(['.', 'e']) && !text.starts_with(['+', '.', 'e', 'i', 'n']);
    match text.parse::<f64>() {
        Ok(number) if looks_like_number && number.is_finite() => Cell::Real(number),
        _ => Cell::Text(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Cell {
        Cell::Text(value.into())
    }

    #[test]
    fn values_are_integers_numbers_or_text() {
        let axes = axes_of("machine=machine-2-1,seed=1,lr=1.0e-3");
        assert_eq!(axes["machine"], text("machine-2-1"));
        assert_eq!(
            (&axes["seed"], &axes["lr"]),
            (&Cell::Integer(1), &Cell::Real(1e-3))
        );
        assert_eq!(axes_of("plain")["instance"], text("plain"));
        assert_eq!(
            (cell_of_text("007"), cell_of_text("inf")),
            (text("007"), text("inf"))
        );
    }

    #[test]
    fn lists_and_maps_are_one_value() {
        let axes = axes_of(r#"model={"kind":"naive","season":24},channels=[8, 16],seed=2"#);
        assert_eq!(axes["model"], text(r#"{"kind":"naive","season":24}"#));
        assert_eq!(
            (&axes["channels"], &axes["seed"]),
            (&text("[8, 16]"), &Cell::Integer(2))
        );
        assert_eq!(
            axes_of(r#"note={"text":"a}, \"b"},seed=3"#)["seed"],
            Cell::Integer(3)
        );
        assert_eq!(axes_of("note=[half,seed=4")["seed"], Cell::Integer(4));
    }
}
