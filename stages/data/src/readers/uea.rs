//! The UEA and UCR archives of time series classification (Bagnall et al., 2018): a training and a test part of samples
//! with classes, as ARFF with a file per dimension or a relational attribute, or as `.ts` with all dimensions in one file.

mod arff;
mod ts;

use std::path::Path;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::builder::{Builder, Part};
use super::{Dataset, Missing, Shares, columns, line, number, stratified, text};
use contract::artifact::{Series, Split};
use contract::{Fault, FileRequest, Named, StageContext, Trouble};

/// Which problem is read.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Uea {
    /// The problem, such as `Handwriting`: its files begin with this name.
    #[schemars(length(min = 1))]
    pub problem: String,
    /// Files of a part: `PROBLEMDimension1_TRAIN.arff` and on, or `PROBLEM_TRAIN.arff` if this is 1. `.ts` files and ARFF files
    /// with a relational attribute say themselves how many dimensions they hold. 3 for `Handwriting`, else 1 if left out.
    #[serde(default)]
    #[schemars(range(min = 1, max = 2000))]
    pub dimensions: Option<usize>,
    #[serde(default)]
    pub format: Format,
    /// The folder below a data folder, or a path of your own.
    #[serde(default = "default_folder")]
    pub folder: String,
    /// The share of each class of the training part that chooses among epochs.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 0.9))]
    pub validation: f64,
    /// What to do about missing values.
    #[serde(default)]
    pub missing: Missing,
}

/// How the files are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A file per dimension, or one with a relational attribute; the class last in each line.
    #[default]
    Arff,
    /// One file for all dimensions.
    Ts,
}

fn default_folder() -> String {
    "UEA".to_owned()
}

/// Problems of several dimensions that need not say so.
const DIMENSIONS: [(&str, usize); 1] = [("Handwriting", 3)];

/// A sample as its file has it.
struct Sample {
    class: Option<String>,
    /// A list of values per dimension, NaN where one is missing.
    dimensions: Vec<Vec<f32>>,
    /// The line that it stands in.
    line: usize,
}

impl Sample {
    fn class(&self) -> &str {
        self.class.as_deref().unwrap_or_default()
    }
}

impl Uea {
    fn dimensions(&self) -> usize {
        for (problem, dimensions) in DIMENSIONS {
            if problem == self.problem {
                return self.dimensions.unwrap_or(dimensions);
            }
        }
        self.dimensions.unwrap_or(1)
    }

    /// The files of a part, `TRAIN` or `TEST`.
    fn paths(&self, part: &str) -> Vec<String> {
        let Self {
            folder, problem, ..
        } = self;
        match (self.format, self.dimensions()) {
            (Format::Ts, _) => vec![format!("{folder}/{problem}_{part}.ts")],
            (Format::Arff, 1) => vec![format!("{folder}/{problem}_{part}.arff")],
            (Format::Arff, dimensions) => (1..=dimensions)
                .map(|number| format!("{folder}/{problem}Dimension{number}_{part}.arff"))
                .collect(),
        }
    }

    fn samples(&self, part: &str, context: &StageContext<'_>) -> Result<Vec<Sample>, Trouble> {
        let mut samples: Vec<Sample> = Vec::new();
        for path in self.paths(part) {
            context.check_cancelled()?;
            let file = context.file(&path)?;
            let text = text::whole_lossy(&file)?;
            let found = match self.format {
                Format::Arff => arff::read(&text),
                Format::Ts => ts::read(&text),
            };
            let found = found.map_err(|fault| fault.in_file(&file))?;
            if samples.is_empty() {
                samples = found;
            } else {
                merge(&mut samples, found, &file)?;
            }
        }
        Ok(samples)
    }

    fn append(
        &self,
        samples: &[Sample],
        splits: &[Split],
        part: &str,
        builder: &mut Builder,
        context: &StageContext<'_>,
    ) -> Result<(), Trouble> {
        let file = context.file(&self.paths(part)[0])?;
        for (number, (sample, split)) in samples.iter().zip(splits).enumerate() {
            let rows = sample.dimensions[0].len();
            let width = sample.dimensions.len();
            columns::check_count(width, &file)?;
            let names = (1..=width)
                .map(|dimension| format!("dimension_{dimension}"))
                .collect();
            builder.expect_channels(names, &file)?;
            if sample.dimensions.iter().any(|values| values.len() != rows) {
                let message = "the dimensions of this sample differ in length";
                return Err(Trouble::new(message).at(&file, Some(sample.line)));
            }
            let values = &mut builder.columns.values;
            for row in 0..rows {
                values.extend(sample.dimensions.iter().map(|dimension| dimension[row]));
            }
            let mut all = sample.dimensions.iter().flatten();
            builder.columns.any_missing = all.any(|value| value.is_nan());
            let entity = format!("{}/{number:05}", part.to_lowercase());
            let mut part = Part::new(&entity, &file, vec![(*split, 0..rows)]);
            part.class = sample.class.as_deref();
            part.line = Some(sample.line);
            builder.close(part)?;
        }
        Ok(())
    }
}

/// Adds further dimensions to the samples.
fn merge(samples: &mut [Sample], found: Vec<Sample>, file: &Path) -> Result<(), Trouble> {
    if samples.len() != found.len() {
        let (here, first) = (found.len(), samples.len());
        let message = format!("{here} samples here, {first} in the file of the first dimension");
        return Err(Trouble::new(message).at(file, None));
    }
    for (sample, more) in samples.iter_mut().zip(found) {
        if sample.class != more.class {
            let (here, first) = (more.class(), sample.class());
            let message =
                format!("a sample of class `{here}` here, `{first}` in the first dimension");
            return Err(Trouble::new(message).at(file, Some(more.line)));
        }
        sample.dimensions.extend(more.dimensions);
    }
    Ok(())
}

/// What is wrong with a line.
struct LineFault {
    line: usize,
    message: String,
    hint: Option<&'static str>,
}

impl LineFault {
    fn new(line: usize, message: impl Into<String>) -> Self {
        Self {
            line,
            message: message.into(),
            hint: None,
        }
    }

    /// A class that the head of the file does not name.
    fn undeclared(line: usize, class: &str) -> Self {
        let message = format!("`{class}` is none of the classes that the file declares");
        Self::new(line, message)
    }

    fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }

    fn in_file(self, file: &Path) -> Trouble {
        Trouble::new(self.message)
            .at(file, Some(self.line))
            .maybe_hint(self.hint.map(str::to_owned))
    }
}

/// A value, or NaN for what stands for a missing one.
fn value(field: &str, at: usize) -> Result<f32, LineFault> {
    let field = field.trim();
    if field == "?" || field.eq_ignore_ascii_case("nan") {
        return Ok(f32::NAN);
    }
    match number::parse(field.as_bytes(), 0) {
        Some((value, end)) if end == field.len() && (value as f32).is_finite() => Ok(value as f32),
        _ => {
            let message = format!("`{}` is not a finite number", line::shortened(field));
            Err(LineFault::new(at, message))
        }
    }
}

/// The lines of a text, trimmed, with their numbers.
fn numbered_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate();
    lines.map(|(index, line)| (index + 1, line.trim()))
}

/// Parses the lines of samples on all threads; the fault is the first in the file.
fn parse_samples<'a>(
    mut lines: Vec<(usize, &'a str)>,
    comment: char,
    sample: impl Fn(usize, &'a str) -> Result<Sample, LineFault> + Sync,
) -> Result<Vec<Sample>, LineFault> {
    lines.retain(|(_, line)| !line.is_empty() && !line.starts_with(comment));
    let samples = lines.par_iter().map(|(number, line)| sample(*number, line));
    // Collected first: a parallel search would name whichever fault is found first.
    let samples: Vec<Result<Sample, LineFault>> = samples.collect();
    samples.into_iter().collect()
}

impl Named for Uea {
    const NAME: &'static str = "uea";
    const DOC: &'static str =
        "A problem of the UEA or UCR archive: samples with classes, as ARFF or .ts files.";
    const EXAMPLE: &'static str = r#"{"problem": "Handwriting"}"#;
}

impl Dataset for Uea {
    fn check(&self) -> Result<(), Fault> {
        if self.problem.contains('/') {
            let reason = "the name that the files of the problem begin with, without a folder";
            return Err(Fault::new("problem", reason));
        }
        self.missing.check_for_samples()
    }

    fn files(&self) -> Vec<FileRequest> {
        let mut requests = Vec::new();
        for path in [self.paths("TRAIN"), self.paths("TEST")].concat() {
            let request = FileRequest::new(&path, &path);
            requests.push(if self.folder == default_folder() {
                request.of_dataset("uea")
            } else {
                request
            });
        }
        requests
    }

    fn read(&self, context: &StageContext<'_>) -> Result<Series, Trouble> {
        let mut builder = Builder::new(Vec::new(), self.missing);
        let train = self.samples("TRAIN", context)?;
        let names: Vec<String> = (0..train.len()).map(|number| number.to_string()).collect();
        let mut named = Vec::with_capacity(train.len());
        for (sample, name) in train.iter().zip(&names) {
            named.push((sample.class(), name.as_str()));
        }
        let plan = Shares {
            train: 1.0 - self.validation,
            validation: self.validation,
            ..Shares::default()
        };
        let splits = stratified::split(&named, &plan)?;
        self.append(&train, &splits, "TRAIN", &mut builder, context)?;
        let test = self.samples("TEST", context)?;
        let splits = vec![Split::Test; test.len()];
        self.append(&test, &splits, "TEST", &mut builder, context)?;
        builder.finish()
    }
}

#[cfg(test)]
mod tests;
