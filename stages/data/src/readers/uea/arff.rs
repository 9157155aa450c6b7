//! ARFF as the archives write it: numeric attributes, the nominal class last, a sample per line.

use super::{LineFault, Sample, numbered_lines, parse_samples, value};

/// The samples of one file; each has one dimension.
pub(super) fn read(text: &str) -> Result<Vec<Sample>, LineFault> {
    let mut lines = numbered_lines(text);
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
                let message = format!("`{}` in the head of an ARFF file", start(line));
                return Err(LineFault::new(number, message));
            }
        }
    }
    let classes = match attributes.pop() {
        Some(Attribute::Nominal(classes)) if !attributes.is_empty() => classes,
        _ => {
            let message = "the last attribute is not a class of named values";
            return Err(LineFault::new(last, message));
        }
    };
    for attribute in &attributes {
        if matches!(attribute, Attribute::Nominal(_)) {
            let message = "an attribute before the last one is not numeric";
            return Err(LineFault::new(last, message));
        }
    }
    let samples = parse_samples(lines.collect(), '%', |number, line| {
        sample(line, number, attributes.len(), &classes)
    })?;
    if samples.is_empty() {
        return Err(LineFault::new(last, "no samples follow `@data`"));
    }
    Ok(samples)
}

enum Attribute {
    Numeric,
    Nominal(Vec<String>),
}

impl Attribute {
    /// What follows `@attribute`: a name and a type.
    fn read(rest: &str, line: usize) -> Result<Self, LineFault> {
        if let Some((_, values)) = rest.split_once('{') {
            let values = values.trim_end().trim_end_matches('}').split(',');
            let classes = values.map(|class| unquoted(class).to_owned());
            return Ok(Self::Nominal(classes.collect()));
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
    for keyword in ["@relation", "@attribute", "@data"] {
        let head = line.get(..keyword.len()).unwrap_or_default();
        if head.eq_ignore_ascii_case(keyword) {
            return Some((keyword, line[keyword.len()..].trim()));
        }
    }
    None
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
    let Some(class) = class.filter(|_| found == length + 1) else {
        let message = format!("{found} fields where {} are declared", length + 1);
        return Err(LineFault::new(number, message));
    };
    if !classes.iter().any(|known| known == class) {
        return Err(LineFault::undeclared(number, class));
    }
    Ok(Sample {
        class: Some(class.to_owned()),
        dimensions: vec![values],
        line: number,
    })
}
