//! The UEA and UCR archives of time series classification (Bagnall et al., 2018): a training and a test part of samples
//! with classes, as ARFF with a file per dimension, or as `.ts` with all dimensions in one file.

mod arff;
mod ts;

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::builder::{Builder, Part};
use super::{Dataset, Missing, SplitPlan, columns, line, number, stratified, text};
use contract::artifact::{Series, Split};
use contract::{Fault, FileRequest, Named, StageContext, Trouble};

/// Which problem is read.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Uea {
    /// The problem, such as `Handwriting`: its files begin with this name.
    #[schemars(length(min = 1))]
    pub problem: String,
    /// Files of a part: `PROBLEMDimension1_TRAIN.arff` and on, or `PROBLEM_TRAIN.arff` if there is only one dimension.
    /// `.ts` files say how many dimensions they hold. 3 for `Handwriting`, else 1 if left out.
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
    /// A file per dimension, the class last in each line.
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

impl Uea {
    fn dimensions(&self) -> usize {
        let known = DIMENSIONS
            .iter()
            .find(|(problem, _)| *problem == self.problem);
        self.dimensions
            .unwrap_or_else(|| known.map_or(1, |(_, dimensions)| *dimensions))
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
            let text = text::whole(&file)?;
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
            let fault = |message: String| Trouble::new(message).at(&file, Some(sample.line));
            if sample.dimensions.iter().any(|values| values.len() != rows) {
                return Err(fault(
                    "the dimensions of this sample differ in length".to_owned(),
                ));
            }
            let values = &mut builder.columns.values;
            for row in 0..rows {
                values.extend(sample.dimensions.iter().map(|dimension| dimension[row]));
            }
            let missing = sample
                .dimensions
                .iter()
                .flatten()
                .any(|value| value.is_nan());
            builder.columns.any_missing = missing;
            let entity = format!("{}/{number:05}", part.to_lowercase());
            let (splits, class) = (vec![(*split, 0..rows)], sample.class.as_deref());
            builder.close(Part {
                entity: &entity,
                file: &file,
                splits,
                labelled: false,
                class,
                line: Some(sample.line),
            })?;
        }
        Ok(())
    }
}

/// Adds further dimensions to the samples.
fn merge(samples: &mut [Sample], found: Vec<Sample>, file: &Path) -> Result<(), Trouble> {
    if samples.len() != found.len() {
        let message = format!(
            "{} samples here, {} in the file of the first dimension",
            found.len(),
            samples.len()
        );
        return Err(Trouble::new(message).at(file, None));
    }
    for (sample, more) in samples.iter_mut().zip(found) {
        if sample.class != more.class {
            let name = |class: &Option<String>| class.clone().unwrap_or_default();
            let message = format!(
                "a sample of class `{}` here, `{}` in the first dimension",
                name(&more.class),
                name(&sample.class)
            );
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

    fn hint(self, hint: &'static str) -> Self {
        Self {
            hint: Some(hint),
            ..self
        }
    }

    fn in_file(self, file: &Path) -> Trouble {
        let error = Trouble::new(self.message).at(file, Some(self.line));
        match self.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

/// A value, or NaN for what stands for a missing one.
fn value(field: &str, at: usize) -> Result<f32, LineFault> {
    let field = field.trim();
    if field == "?" || field.eq_ignore_ascii_case("nan") {
        return Ok(f32::NAN);
    }
    let parsed = number::parse(field.as_bytes(), 0)
        .filter(|(value, end)| *end == field.len() && value.is_finite());
    parsed.map(|(value, _)| value).ok_or_else(|| {
        LineFault::new(
            at,
            format!("`{}` is not a finite number", line::shortened(field)),
        )
    })
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
        if self.missing == Missing::Drop {
            let reason =
                "`drop` would tear samples apart; `ffill` and `interpolate` keep them whole";
            return Err(Fault::new("missing", reason));
        }
        Ok(())
    }

    fn files(&self) -> Vec<FileRequest> {
        let paths = ["TRAIN", "TEST"]
            .into_iter()
            .flat_map(|part| self.paths(part));
        let listed = self.folder == default_folder();
        let request = |path: String| {
            let request = FileRequest::new(&path, &path);
            if listed {
                request.of_dataset("uea")
            } else {
                request
            }
        };
        paths.map(request).collect()
    }

    fn read(&self, context: &StageContext<'_>) -> Result<Series, Trouble> {
        let mut builder = Builder::new(Vec::new(), self.missing);
        let train = self.samples("TRAIN", context)?;
        let names: Vec<String> = (0..train.len()).map(|number| number.to_string()).collect();
        let class = |sample: &Sample| sample.class.clone().unwrap_or_default();
        let classes: Vec<String> = train.iter().map(class).collect();
        let named: Vec<(&str, &str)> = classes
            .iter()
            .zip(&names)
            .map(|(class, name)| (class.as_str(), name.as_str()))
            .collect();
        let plan = SplitPlan {
            train: 1.0 - self.validation,
            validation: self.validation,
            ..SplitPlan::default()
        };
        let splits = stratified::split(&named, &plan)?;
        self.append(&train, &splits, "TRAIN", &mut builder, context)?;
        let test = self.samples("TEST", context)?;
        self.append(
            &test,
            &vec![Split::Test; test.len()],
            "TEST",
            &mut builder,
            context,
        )?;
        builder.finish()
    }
}

#[cfg(test)]
mod tests;
