//! A folder of delimited text files by class, as people keep samples: `folder/CLASS/name.csv`. Each file is a sample.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::builder::{Builder, Part};
use super::columns::Selection;
use super::csv::{ENDINGS, comma, unnamed, yes};
use super::text::{Dialect, TextFile};
use super::{Dataset, Missing, Shares, stratified};
use contract::artifact::{Series, Split};
use contract::{Fault, FileRequest, Named, StageContext, Trouble};

/// Where the samples are and how they are written.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CsvClasses {
    /// The folder with a folder of files for each class; the files end with .csv, .tsv or .txt, or one of these and .gz.
    pub path: String,
    /// Such a folder with the test part. Without it, samples of `path` are the test part.
    #[serde(default)]
    pub test: Option<String>,
    /// The character between fields; "\t" for TSV.
    #[serde(default = "comma")]
    pub delimiter: char,
    /// Whether the first line names the columns. Without a header they are c0, c1, ….
    #[serde(default = "yes")]
    pub header: bool,
    /// The columns to keep as channels; all of them if left out.
    #[serde(default)]
    pub columns: Option<Vec<String>>,
    /// What to do about empty fields, NaN, NA and null.
    #[serde(default)]
    pub missing: Missing,
    /// How the samples of each class are split, by chance that depends on their names: 0.7/0.15/0.15 for train, validation
    /// and test, or 0.85/0.15 for train and validation if there is a `test` part.
    #[serde(default)]
    pub split: Option<Shares>,
}

/// A file that is a sample.
struct Sample {
    /// Path below the folder.
    name: String,
    class: String,
    path: PathBuf,
}

impl CsvClasses {
    fn plan(&self) -> Shares {
        let (train, test) = match self.test {
            None => (0.7, 0.15),
            Some(_) => (0.85, 0.0),
        };
        self.split.unwrap_or(Shares {
            train,
            validation: 0.15,
            calibration: 0.0,
            test,
        })
    }

    fn samples(folder: &str, context: &StageContext<'_>) -> Result<Vec<Sample>, Trouble> {
        let files = context.files_below(folder)?;
        if files.is_empty() {
            let endings = ENDINGS.join(", ");
            let hint = format!("it holds a folder per class with files that end with {endings}");
            return Err(Trouble::new("the folder has no samples")
                .at(folder, None)
                .hint(hint));
        }
        let mut samples = Vec::with_capacity(files.len());
        for (name, path) in files {
            let Some((class, _)) = name.split_once('/') else {
                return Err(Trouble::new("a file beside the folders of the classes")
                    .at(&path, None)
                    .hint("the folder above a sample is its class: folder/CLASS/sample.csv"));
            };
            samples.push(Sample {
                class: class.to_owned(),
                name,
                path,
            });
        }
        Ok(samples)
    }

    fn read_samples(
        &self,
        samples: &[Sample],
        splits: &[Split],
        builder: &mut Builder,
        context: &StageContext<'_>,
    ) -> Result<(), Trouble> {
        let dialect = Dialect {
            delimiter: self.delimiter as u8,
            header: self.header,
            decimal: None,
            allow_missing: self.missing != Missing::Error,
            ..Dialect::plain(unnamed)
        };
        let selection = Selection {
            columns: self.columns.as_deref(),
            ..Selection::default()
        };
        for (sample, split) in samples.iter().zip(splits) {
            let text = TextFile::open(&sample.path, dialect.clone())?;
            let rows = super::read_table(&text, &selection, builder, &sample.path, context)?;
            let splits = vec![(*split, 0..rows)];
            let mut part = Part::new(entity(&sample.name), &sample.path, splits);
            part.class = Some(&sample.class);
            builder.close(part)?;
        }
        Ok(())
    }
}

/// The path of a sample without its ending.
fn entity(name: &str) -> &str {
    let unpacked = name.strip_suffix(".gz").unwrap_or(name);
    for ending in [".csv", ".tsv", ".txt"] {
        if let Some(stem) = unpacked.strip_suffix(ending) {
            return stem;
        }
    }
    name
}

impl Named for CsvClasses {
    const NAME: &'static str = "csv-classes";
    const DOC: &'static str = "A folder of delimited text files by class, folder/CLASS/sample.csv; each file is a sample.";
    const EXAMPLE: &'static str = r#"{"path": "data"}"#;
}

impl Dataset for CsvClasses {
    fn check(&self) -> Result<(), Fault> {
        super::csv::check_delimiter(self.delimiter)?;
        self.missing.check_for_samples()?;
        if self.test.as_ref() == Some(&self.path) {
            let reason = "the test part is the folder that the model is trained on";
            return Err(Fault::new("test", reason));
        }
        self.plan().check(self.test.is_some())
    }

    fn files(&self) -> Vec<FileRequest> {
        let mut requests = vec![FileRequest::new(&self.path, &self.path).below(&ENDINGS)];
        if let Some(test) = &self.test {
            requests.push(FileRequest::new(test, test).below(&ENDINGS));
        }
        requests
    }

    fn read(&self, context: &StageContext<'_>) -> Result<Series, Trouble> {
        let mut builder = Builder::new(Vec::new(), self.missing);
        let samples = Self::samples(&self.path, context)?;
        let mut named = Vec::with_capacity(samples.len());
        for sample in &samples {
            named.push((sample.class.as_str(), sample.name.as_str()));
        }
        let splits =
            stratified::split(&named, &self.plan()).map_err(|error| error.at(&self.path, None))?;
        self.read_samples(&samples, &splits, &mut builder, context)?;
        if let Some(test) = &self.test {
            let samples = Self::samples(test, context)?;
            let splits = vec![Split::Test; samples.len()];
            self.read_samples(&samples, &splits, &mut builder, context)?;
        }
        builder.finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use contract::NullHost;

    /// Reads files by their paths below the folder.
    fn read(files: &[(&str, &str)], mut parameters: Value) -> Result<Series, Trouble> {
        let folder = tempfile::tempdir().unwrap();
        let mut host = NullHost::default();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            host.files.push((format!("samples/{name}"), path));
        }
        parameters["path"] = json!("samples");
        let dataset: CsvClasses = serde_json::from_value(parameters).unwrap();
        dataset.check().unwrap();
        assert_eq!(
            dataset.files()[0].below.as_ref().unwrap().len(),
            ENDINGS.len()
        );
        dataset.read(&host.context(0))
    }

    #[test]
    fn the_folder_is_the_class_and_each_file_a_sample() {
        let files = [
            ("up/1.csv", "v\n1\n2\n"),
            ("up/2.csv", "v\n2\n3\n4\n"),
            ("down/1.csv", "v\n9\n8\n"),
            ("down/more/2.csv", "v\n5\n1\n"),
        ];
        let series = read(&files, json!({"split": {"train": 0.5, "test": 0.5}})).unwrap();
        assert_eq!(series.classes(), ["down", "up"]);
        assert_eq!(series.rows(), 9);
        let found: Vec<(&str, &str)> = series
            .segments
            .iter()
            .map(|segment| (segment.entity.as_str(), segment.class.as_deref().unwrap()))
            .collect();
        assert_eq!(
            found,
            [
                ("down/1", "down"),
                ("down/more/2", "down"),
                ("up/1", "up"),
                ("up/2", "up")
            ]
        );
        for class in ["up", "down"] {
            let of_class = series
                .segments
                .iter()
                .filter(|segment| segment.class.as_deref() == Some(class));
            assert_eq!(
                of_class
                    .filter(|segment| segment.split == Split::Test)
                    .count(),
                1
            );
        }
    }

    #[test]
    fn faults_name_the_file() {
        let all = json!({"split": {"train": 1.0}});
        let error = read(&[], all.clone()).unwrap_err();
        assert!(error.message().contains("no samples"), "{error}");
        let error = read(&[("stray.csv", "v\n1\n")], all.clone()).unwrap_err();
        assert!(error.message().contains("beside the folders"), "{error}");
        let error = read(&[("a/1.csv", "v\n1\n"), ("a/2.csv", "w\n1\n")], all).unwrap_err();
        assert!(
            error.message().contains("`w` here and `v`") && error.location().is_some(),
            "{error}"
        );
        let error = read(&[("a/1.csv", "v\n1\n")], json!({})).unwrap_err();
        assert!(error.message().contains("in the class `a`"), "{error}");
    }

    #[test]
    fn checks_parameters() {
        for (parameters, parameter) in [
            (json!({"path": "a", "delimiter": "e"}), "delimiter"),
            (json!({"path": "a", "missing": "drop"}), "missing"),
            (json!({"path": "a", "test": "a"}), "test"),
            (
                json!({"path": "a", "test": "b", "split": {"train": 0.5, "test": 0.5}}),
                "split.test",
            ),
        ] {
            let fault = crate::readers::fault("csv-classes", parameters).unwrap();
            assert_eq!(fault.parameter, parameter);
        }
    }
}
