//! What a program reports of itself: a line that begins with `@runner`, and a JSON object behind it. Most reports are about
//! progress: `@runner {"epoch": 3, "epochs": 10, "loss": 0.25}`.

use std::borrow::Cow;

use serde_json::{Map, Value};

use contract::Progress;

/// The object of a report.
pub(crate) type Report = Map<String, Value>;

/// Words for what is counted, each with the word for how many there are.
const COUNTED: [(&str, &str); 4] = [
    ("done", "total"),
    ("epoch", "epochs"),
    ("step", "steps"),
    ("batch", "batches"),
];

/// Figures that are shown, at most.
const MOST_FIGURES: usize = 16;

/// What a report says about progress; nothing if it is about something else.
pub(super) fn progress(report: &Report) -> Option<Progress> {
    let is_counted = |(one, _): &&(&str, &str)| report.get(*one).is_some_and(Value::is_number);
    let (one, all) = COUNTED.iter().find(is_counted)?;
    let number = |name: &str| report.get(name).and_then(Value::as_u64);
    let done = number(one)?;
    let text = |name: &str| report.get(name).and_then(Value::as_str);
    let unit = match text("unit") {
        Some(unit) => unit.to_owned(),
        None if *one == "done" => "step".to_owned(),
        None => (*one).to_owned(),
    };
    let mut figures = Vec::new();
    for (name, value) in report {
        let is_count = COUNTED.iter().any(|(one, all)| name == one || name == all);
        if let (false, Some(value)) = (is_count, value.as_f64())
            && figures.len() < MOST_FIGURES
        {
            figures.push((Cow::Owned(name.clone()), value));
        }
    }
    Some(Progress {
        unit: unit.into(),
        done,
        total: number(all).unwrap_or(0).max(done),
        phase: text("phase").unwrap_or_default().to_owned(),
        figures,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Progress> {
        progress(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn counts_and_figures_are_told_apart() {
        let found = read(r#"{"epoch": 3, "epochs": 10, "loss": 0.25, "note": "x"}"#).unwrap();
        assert_eq!((found.done, found.total, &*found.unit), (3, 10, "epoch"));
        assert_eq!(found.figures, [("loss".into(), 0.25)]);
        let found = read(r#"{"done": 5, "total": 4, "unit": "file", "phase": "copy"}"#).unwrap();
        assert_eq!((found.done, found.total, &*found.unit), (5, 5, "file"));
        assert_eq!(found.phase, "copy");
        assert_eq!(read(r#"{"fitted": true}"#), None);
        assert_eq!(read(r#"{"epoch": "three"}"#), None);
    }
}
