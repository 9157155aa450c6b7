//! The `.ts` format of sktime and aeon: a head of `@` lines, then a sample per line, its dimensions separated by colons,
//! the values of each by commas, the class last. Time stamps are left out: the values stand in their order. Targets of
//! regression are not understood.

use super::{LineFault, Sample, numbered_lines, parse_samples, value};

/// What the head says that matters here.
#[derive(Default)]
struct Head {
    /// The declared classes; `None` if samples have none.
    classes: Option<Vec<String>>,
    dimensions: Option<usize>,
    /// Each value stands in brackets behind its time stamp: `(0,1.5),(1,2.5)`.
    stamped: bool,
}

/// The samples of a file.
pub(super) fn read(text: &str) -> Result<Vec<Sample>, LineFault> {
    let mut head = Head::default();
    let mut lines = numbered_lines(text);
    let mut last = 1;
    loop {
        let Some((number, line)) = lines.next() else {
            return Err(LineFault::new(last, "the file ends before `@data`"));
        };
        last = number;
        if line.is_empty() || line.starts_with('#') || line.starts_with('%') {
            continue;
        }
        if line.eq_ignore_ascii_case("@data") {
            break;
        }
        head.read(line, number)?;
    }
    let samples = parse_samples(lines.collect(), '#', |number, line| {
        head.sample(line, number)
    })?;
    if samples.is_empty() {
        return Err(LineFault::new(last, "no samples follow `@data`"));
    }
    Ok(samples)
}

impl Head {
    fn read(&mut self, line: &str, number: usize) -> Result<(), LineFault> {
        let mut words = line.split_whitespace();
        let keyword = words.next().unwrap_or_default().to_ascii_lowercase();
        let first = words.next().unwrap_or_default();
        let is_true = first.eq_ignore_ascii_case("true");
        match keyword.as_str() {
            "@timestamps" => {
                self.stamped = is_true;
                Ok(())
            }
            "@targetlabel" if is_true => Err(LineFault::new(
                number,
                "a problem of regression has no classes",
            )),
            "@classlabel" => {
                self.classes = is_true.then(|| words.map(str::to_owned).collect());
                Ok(())
            }
            "@dimension" | "@dimensions" => {
                self.dimensions = first.parse().ok().filter(|count| *count > 0);
                if self.dimensions.is_none() {
                    let message = format!("`{first}` is not a number of dimensions");
                    return Err(LineFault::new(number, message));
                }
                Ok(())
            }
            _ if keyword.starts_with('@') => Ok(()),
            _ => {
                let message = "a line before `@data` that begins with neither `@` nor `#`";
                Err(LineFault::new(number, message))
            }
        }
    }

    fn sample(&self, line: &str, number: usize) -> Result<Sample, LineFault> {
        let (mut data, mut class) = (line, None);
        if let Some(classes) = &self.classes {
            let Some((before, found)) = line.rsplit_once(':') else {
                return Err(LineFault::new(number, "the line has no class at its end"));
            };
            let found = found.trim().to_owned();
            if !classes.is_empty() && !classes.contains(&found) {
                return Err(LineFault::undeclared(number, &found));
            }
            (data, class) = (before, Some(found));
        }
        let dimensions = self.values(data, number)?;
        let found = dimensions.len();
        if let Some(declared) = self.dimensions
            && declared != found
        {
            let message = format!("{found} dimensions where {declared} are declared");
            return Err(LineFault::new(number, message));
        }
        Ok(Sample {
            class,
            dimensions,
            line: number,
        })
    }

    /// The values of each dimension of a sample.
    fn values(&self, data: &str, number: usize) -> Result<Vec<Vec<f32>>, LineFault> {
        let mut dimensions = Vec::new();
        if !self.stamped {
            for dimension in data.split(':') {
                let fields = dimension.split(',').map(|field| value(field, number));
                dimensions.push(fields.collect::<Result<_, _>>()?);
            }
            return Ok(dimensions);
        }
        // Stamps may hold commas and colons, brackets do not.
        let opened = data.trim().strip_prefix('(');
        let Some(inner) = opened.and_then(|data| data.strip_suffix(')')) else {
            let message = "values with time stamps stand in brackets: `(0,1.5),(1,2.5)`";
            return Err(LineFault::new(number, message));
        };
        for dimension in inner.split("):(") {
            let mut values = Vec::new();
            for pair in dimension.split("),(") {
                let last = pair.rsplit_once(',').map_or(pair, |(_, last)| last);
                values.push(value(last, number)?);
            }
            dimensions.push(values);
        }
        Ok(dimensions)
    }
}
