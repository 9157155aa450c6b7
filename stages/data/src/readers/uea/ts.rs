//! The `.ts` format of sktime and aeon: a head of `@` lines, then a sample per line, its dimensions separated by colons,
//! the values of each by commas, the class last. Time stamps are left out: the order of the values is theirs. Targets of regression
//! are not understood.

use rayon::prelude::*;

use super::{LineFault, Sample, value};

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
    let mut lines = text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim()));
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
    let rows: Vec<(usize, &str)> = lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .collect();
    if rows.is_empty() {
        return Err(LineFault::new(last, "no samples follow `@data`"));
    }
    let samples: Vec<Result<Sample, LineFault>> = rows
        .par_iter()
        .map(|(number, line)| head.sample(line, *number))
        .collect();
    samples.into_iter().collect()
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
                let count = first.parse().ok().filter(|count| *count > 0);
                self.dimensions = Some(count.ok_or_else(|| {
                    LineFault::new(number, format!("`{first}` is not a number of dimensions"))
                })?);
                Ok(())
            }
            _ if keyword.starts_with('@') => Ok(()),
            _ => Err(LineFault::new(
                number,
                "a line before `@data` that begins with neither `@` nor `#`",
            )),
        }
    }

    fn sample(&self, line: &str, number: usize) -> Result<Sample, LineFault> {
        let (data, class) = match &self.classes {
            None => (line, None),
            Some(classes) => {
                let split = line
                    .rsplit_once(':')
                    .map(|(data, class)| (data, class.trim()));
                let (data, class) = split
                    .ok_or_else(|| LineFault::new(number, "the line has no class at its end"))?;
                if !classes.is_empty() && !classes.iter().any(|known| known == class) {
                    return Err(LineFault::new(
                        number,
                        format!("`{class}` is none of the classes that the file declares"),
                    ));
                }
                (data, Some(class.to_owned()))
            }
        };
        let dimensions = self.values(data, number)?;
        match self.dimensions {
            Some(declared) if declared != dimensions.len() => {
                let message = format!(
                    "{} dimensions where {declared} are declared",
                    dimensions.len()
                );
                Err(LineFault::new(number, message))
            }
            _ => Ok(Sample {
                class,
                dimensions,
                line: number,
            }),
        }
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
        let data = data.trim();
        let inner = data
            .strip_prefix('(')
            .and_then(|data| data.strip_suffix(')'))
            .ok_or_else(|| {
                LineFault::new(
                    number,
                    "values with time stamps stand in brackets: `(0,1.5),(1,2.5)`",
                )
            })?;
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
