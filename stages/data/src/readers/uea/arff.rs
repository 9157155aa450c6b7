//! ARFF as the archives write it: numeric attributes, the nominal class last, a sample per line. Several dimensions stand in a
//! relational attribute: one field in quotes with a line per dimension, which are separated by a backslash and an `n`.

use super::{LineFault, Sample, numbered_lines, parse_samples, value};

/// What a sample of a file is made of.
struct Layout {
    /// Values of a dimension.
    length: usize,
    is_relational: bool,
    classes: Vec<String>,
}

/// The samples of one file; each has one dimension, or those of a relational attribute.
pub(super) fn read(text: &str) -> Result<Vec<Sample>, LineFault> {
    let mut lines = numbered_lines(text);
    let mut attributes: Vec<Attribute> = Vec::new();
    // What was declared before a relational attribute that is still open.
    let mut outside: Option<Vec<Attribute>> = None;
    let mut last = 0;
    loop {
        let Some((number, line)) = lines.next() else {
            return Err(LineFault::new(last.max(1), "the file ends before `@data`"));
        };
        last = number;
        match declaration(line) {
            None if line.is_empty() || line.starts_with('%') => {}
            Some(("@relation", _)) => {}
            Some(("@attribute", rest)) => match Attribute::read(rest, number)? {
                Attribute::Relational(_) if outside.is_some() => {
                    let message = "a relational attribute within another one";
                    return Err(LineFault::new(number, message));
                }
                Attribute::Relational(_) => outside = Some(std::mem::take(&mut attributes)),
                plain => attributes.push(plain),
            },
            Some(("@end", _)) => {
                let Some(before) = outside.take() else {
                    let message = "`@end` without a relational attribute that it ends";
                    return Err(LineFault::new(number, message));
                };
                let inside = std::mem::replace(&mut attributes, before);
                attributes.push(Attribute::relation(&inside, number)?);
            }
            Some(("@data", _)) if outside.is_some() => {
                let message = "the relational attribute does not end before `@data`";
                return Err(LineFault::new(number, message).hint("`@end NAME` ends it"));
            }
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
    let layout = match &attributes[..] {
        [Attribute::Relational(length)] => Layout {
            length: *length,
            is_relational: true,
            classes,
        },
        plain
            if plain
                .iter()
                .all(|attribute| matches!(attribute, Attribute::Numeric)) =>
        {
            Layout {
                length: plain.len(),
                is_relational: false,
                classes,
            }
        }
        _ => {
            let message = "an attribute before the last one is not numeric";
            return Err(LineFault::new(last, message));
        }
    };
    let samples = parse_samples(lines.collect(), '%', |number, line| {
        layout.sample(line, number)
    })?;
    if samples.is_empty() {
        return Err(LineFault::new(last, "no samples follow `@data`"));
    }
    Ok(samples)
}

enum Attribute {
    Numeric,
    Nominal(Vec<String>),
    /// Dimensions, each of so many values.
    Relational(usize),
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
            "relational" => Ok(Self::Relational(0)),
            _ => Err(LineFault::new(
                line,
                format!("an attribute of type `{kind}` is neither numeric nor a class"),
            )),
        }
    }
}

impl Attribute {
    /// A relational attribute that was declared up to its end.
    fn relation(inside: &[Self], line: usize) -> Result<Self, LineFault> {
        if inside.is_empty() || !inside.iter().all(|part| matches!(part, Self::Numeric)) {
            let message = "the relational attribute that ends here does not hold numbers alone";
            return Err(LineFault::new(line, message));
        }
        Ok(Self::Relational(inside.len()))
    }
}

/// The keyword of a line in lower case, and the rest.
fn declaration(line: &str) -> Option<(&'static str, &str)> {
    for keyword in ["@relation", "@attribute", "@end", "@data"] {
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

impl Layout {
    fn sample(&self, line: &str, number: usize) -> Result<Sample, LineFault> {
        let (dimensions, class) = if self.is_relational {
            self.relation(line, number)?
        } else {
            self.fields(line, number)?
        };
        if !self.classes.iter().any(|known| known == class) {
            return Err(LineFault::undeclared(number, class));
        }
        Ok(Sample {
            class: Some(class.to_owned()),
            dimensions,
            line: number,
        })
    }

    /// The values of a dimension, and the class.
    fn fields<'a>(
        &self,
        line: &'a str,
        number: usize,
    ) -> Result<(Vec<Vec<f32>>, &'a str), LineFault> {
        let mut fields = line.split(',');
        let mut values = Vec::with_capacity(self.length);
        for field in fields.by_ref().take(self.length) {
            values.push(value(field, number)?);
        }
        let class = fields.next().map(unquoted);
        let found = values.len() + usize::from(class.is_some()) + fields.count();
        match class.filter(|_| found == self.length + 1) {
            Some(class) => Ok((vec![values], class)),
            None => {
                let message = format!("{found} fields where {} are declared", self.length + 1);
                Err(LineFault::new(number, message))
            }
        }
    }

    /// The values of all dimensions, which stand in one field in quotes, and the class.
    fn relation<'a>(
        &self,
        line: &'a str,
        number: usize,
    ) -> Result<(Vec<Vec<f32>>, &'a str), LineFault> {
        let inner = |mark: char| {
            let (inner, rest) = line.strip_prefix(mark)?.split_once(mark)?;
            Some((inner, rest.trim_start().strip_prefix(',')?))
        };
        let Some((inner, class)) = inner('\'').or_else(|| inner('"')) else {
            let message =
                "a sample of a relational attribute is one field in quotes, a comma, and the class";
            return Err(LineFault::new(number, message));
        };
        let mut dimensions = Vec::new();
        for dimension in inner.split("\\n") {
            let values = dimension.split(',').map(|field| value(field, number));
            let values: Vec<f32> = values.collect::<Result<_, _>>()?;
            if values.len() != self.length {
                let (found, place) = (values.len(), dimensions.len() + 1);
                let message = format!(
                    "{found} values of dimension {place} where {} are declared",
                    self.length
                );
                return Err(LineFault::new(number, message));
            }
            dimensions.push(values);
        }
        trim(&mut dimensions);
        Ok((dimensions, unquoted(class)))
    }
}

/// Samples of different lengths are filled up with missing values: moments at the end where no dimension has a value are none.
fn trim(dimensions: &mut [Vec<f32>]) {
    let mut rows = 0;
    for values in dimensions.iter() {
        let last = values.iter().rposition(|value| !value.is_nan());
        rows = rows.max(last.map_or(0, |last| last + 1));
    }
    // Of a sample without any value, the missing ones are reported.
    if rows > 0 {
        for values in dimensions {
            values.truncate(rows);
        }
    }
}
