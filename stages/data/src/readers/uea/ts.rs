//! The `.ts` format of sktime and aeon: a head of `@` lines, then a sample per line, its dimensions separated by colons,
//! the values of each by commas, the class last. Time stamps and targets of regression are not understood.

use super::{LineFault, Sample, numbered_lines, parse_samples, value};

/// What the head says that matters here.
#[derive(Default)]
struct Head {
    /// The declared classes; `None` if samples have none.
    classes: Option<Vec<String>>,
    dimensions: Option<usize>,
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
            "@timestamps" if is_true => {
                let message = "time stamps within samples are not understood";
                let hint = "take a version of the problem without them";
                Err(LineFault::new(number, message).hint(hint))
            }
            "@targetlabel" if is_true => {
                let message = "a problem of regression has no classes";
                Err(LineFault::new(number, message))
            }
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
        let mut dimensions = Vec::new();
        for dimension in data.split(':') {
            let fields = dimension.split(',');
            let values: Result<Vec<f32>, LineFault> =
                fields.map(|field| value(field, number)).collect();
            dimensions.push(values?);
        }
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
}
