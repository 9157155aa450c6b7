//! ARFF as the archives write it: numeric attributes, the nominal class last, a sample per line.

use rayon::prelude::*;

use super::{LineFault, Sample, value};

/// The samples of one file; each has one dimension.
pub(super) fn read(text: &str) -> Result<Vec<Sample>, LineFault> {
    let mut lines = text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim()));
    let mut attributes: Vec<Attribute> = Vec::new();
    let mut last = 0;
    loop {
        let Some((number, line)) = lines.next() else {
            return Err(LineFault::new(last.max(1), "the file ends before `@data`"));
        };
        last = number;
        match declaration(line) {
            None if line.is_empty() || line.starts_with('%') => {}
            Some(("@relation", _)) => {}
            Some(("@attribute", rest)) => attributes.push(Attribute::read(rest, number)?),
            Some(("@data", _)) => break,
            _ => {
                return Err(LineFault::new(
                    number,
                    format!("`{}` in the head of an ARFF file", start(line)),
                ));
            }
        }
    }
    let classes = match attributes.pop() {
        Some(Attribute::Nominal(classes)) if !attributes.is_empty() => classes,
        _ => {
            return Err(LineFault::new(
                last,
                "the last attribute is not a class of named values",
            ));
        }
    };
    if attributes
        .iter()
        .any(|attribute| matches!(attribute, Attribute::Nominal(_)))
    {
        return Err(LineFault::new(
            last,
            "an attribute before the last one is not numeric",
        ));
    }
    let rows: Vec<(usize, &str)> = lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('%'))
        .collect();
    if rows.is_empty() {
        return Err(LineFault::new(last, "no samples follow `@data`"));
    }
    let sample = |(number, line): &(usize, &str)| sample(line, *number, attributes.len(), &classes);
    let samples: Vec<Result<Sample, LineFault>> = rows.par_iter().map(sample).collect();
    samples.into_iter().collect()
}

enum Attribute {
    Numeric,
    Nominal(Vec<String>),
}

impl Attribute {
    /// What follows `@attribute`: a name and a type.
    fn read(rest: &str, line: usize) -> Result<Self, LineFault> {
        if let Some((_, values)) = rest.split_once('{') {
            let values = values.trim_end().trim_end_matches('}');
            return Ok(Self::Nominal(
                values
                    .split(',')
                    .map(|class| unquoted(class).to_owned())
                    .collect(),
            ));
        }
        let kind = rest.split_whitespace().next_back().unwrap_or_default();
        match kind.to_ascii_lowercase().as_str() {
            "numeric" | "real" | "integer" => Ok(Self::Numeric),
            "relational" => Err(LineFault::new(line, "a relational attribute: several dimensions in one ARFF file")
                .hint("take the archive's files of one dimension each, or its `.ts` files with `format: ts`")),
            _ => Err(LineFault::new(line, format!("an attribute of type `{kind}` is neither numeric nor a class"))),
        }
    }
}

/// The keyword of a line in lower case, and the rest.
fn declaration(line: &str) -> Option<(&'static str, &str)> {
    ["@relation", "@attribute", "@data"]
        .into_iter()
        .find_map(|keyword| {
            let head = line.get(..keyword.len())?;
            head.eq_ignore_ascii_case(keyword)
                .then(|| (keyword, line[keyword.len()..].trim()))
        })
}

fn unquoted(text: &str) -> &str {
    let text = text.trim();
    let inner = |mark: char| text.strip_prefix(mark)?.strip_suffix(mark);
    inner('\'').or_else(|| inner('"')).unwrap_or(text)
}

fn start(line: &str) -> String {
    line.chars().take(40).collect()
}

fn sample(
    line: &str,
    number: usize,
    length: usize,
    classes: &[String],
) -> Result<Sample, LineFault> {
    let mut fields = line.split(',');
    let mut values = Vec::with_capacity(length);
    for field in fields.by_ref().take(length) {
        values.push(value(field, number)?);
    }
    let class = fields.next().map(unquoted);
    let found = values.len() + usize::from(class.is_some()) + fields.count();
    let class = class.filter(|_| found == length + 1).ok_or_else(|| {
        LineFault::new(
            number,
            format!("{found} fields where {} are declared", length + 1),
        )
    })?;
    if !classes.iter().any(|known| known == class) {
        return Err(LineFault::new(
            number,
            format!("`{class}` is none of the classes that the file declares"),
        ));
    }
    Ok(Sample {
        class: Some(class.to_owned()),
        dimensions: vec![values],
        line: number,
    })
}
