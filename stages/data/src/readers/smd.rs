//! The Server Machine Dataset (Su et al., KDD 2019): comma-separated text without a header, a file per machine in
//! `train/` and `test/`, a label per line in `test_label/`. Which channels took part in an anomaly
//! (`interpretation_label/`) is not read.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::builder::{Builder, Part};
use super::columns::{Columns, Role};
use super::missing::Missing;
use super::text::{Dialect, TextFile};
use super::times::ISO;
use super::{Dataset, OneOrMany, SplitPlan};
use contract::artifact::{Series, Split};
use contract::{Fault, FileRequest, Named, StageContext, Trouble};

/// Which machines are read and how their training part is split.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Smd {
    /// The machine, such as `machine-2-1`, a list of machines, or `all` 28.
    pub entity: OneOrMany,
    /// How the training part is split in order of time. The test part is the data set's own.
    #[serde(default = "SplitPlan::of_training_part")]
    pub split: SplitPlan,
}

const CHANNELS: usize = 38;

/// Machines of the three groups.
const GROUPS: [usize; 3] = [8, 9, 11];

impl Smd {
    fn machines(&self) -> Vec<String> {
        match &self.entity {
            OneOrMany::One(word) if word == "all" => {
                let mut all = Vec::new();
                for (group, machines) in (1..).zip(GROUPS) {
                    all.extend((1..=machines).map(|number| format!("machine-{group}-{number}")));
                }
                all
            }
            some => some.iter().cloned().collect(),
        }
    }
}

impl Named for Smd {
    const NAME: &'static str = "smd";
    const DOC: &'static str =
        "Server Machine Dataset: 28 machines, 38 metrics a minute, labelled test part.";
    const EXAMPLE: &'static str = r#"{"entity": "machine-1-1"}"#;
}

impl Dataset for Smd {
    fn check(&self) -> Result<(), Fault> {
        self.entity.check("entity")?;
        self.split.check(true, None)
    }

    fn files(&self) -> Vec<FileRequest> {
        let mut requests = Vec::new();
        for machine in self.machines() {
            for folder in ["train", "test", "test_label"] {
                let path = path(folder, &machine);
                requests.push(FileRequest::new(&path, &path).of_dataset("smd"));
            }
        }
        requests
    }

    fn read(&self, context: &StageContext<'_>) -> Result<Series, Trouble> {
        let names: Vec<String> = (0..CHANNELS).map(metric).collect();
        let mut builder = Builder::new(names, Missing::Error);
        let machines = self.machines();
        let mut texts = Vec::new();
        for machine in &machines {
            texts.extend([path("train", machine), path("test", machine)]);
        }
        builder.columns.text_ahead = super::bytes_of(texts.iter(), context);
        for machine in &machines {
            let file = context.file(&path("train", machine))?;
            let rows = read_metrics(&file, &mut builder.columns, context)?;
            let splits = self.split.cut(rows, &[], &ISO);
            let splits = splits.map_err(|error| error.at(&file, None))?;
            builder.close(Part::new(machine, &file, splits))?;

            let file = context.file(&path("test", machine))?;
            let rows = read_metrics(&file, &mut builder.columns, context)?;
            builder.pad_labels();
            let labels = context.file(&path("test_label", machine))?;
            super::read_labels(&labels, None, &file, rows, &mut builder.columns, context)?;
            let mut part = Part::new(machine, &file, vec![(Split::Test, 0..rows)]);
            part.labelled = true;
            builder.close(part)?;
        }
        builder.finish()
    }
}

fn path(folder: &str, machine: &str) -> String {
    format!("ServerMachineDataset/{folder}/{machine}.txt")
}

/// Channels are counted from 1, as the data set's own files count them.
fn metric(index: usize) -> String {
    format!("metric_{}", index + 1)
}

fn read_metrics(
    file: &Path,
    into: &mut Columns,
    context: &StageContext<'_>,
) -> Result<usize, Trouble> {
    let text = TextFile::open(file, Dialect::plain(metric))?;
    let found = text.names.len();
    if found != CHANNELS {
        let message = format!("{found} columns where a machine of this data set has {CHANNELS}");
        let hint = "other comma-separated files are read with `dataset: csv`";
        return Err(Trouble::new(message).at(file, Some(1)).hint(hint));
    }
    text.read_roles(&[Role::Value; CHANNELS], into, context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::NullHost;

    fn host(folder: &Path) -> NullHost {
        let plan: Smd = serde_json::from_value(serde_json::json!({"entity": "m"})).unwrap();
        NullHost {
            files: plan
                .files()
                .into_iter()
                .map(|file| (file.name, folder.join(file.path)))
                .collect(),
        }
    }

    fn read(train: &str, test: &str, labels: &str) -> Result<Series, Trouble> {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in [("train", train), ("test", test), ("test_label", labels)] {
            std::fs::create_dir_all(folder.path().join("ServerMachineDataset").join(name)).unwrap();
            std::fs::write(folder.path().join(path(name, "m")), content).unwrap();
        }
        let plan: Smd = serde_json::from_value(serde_json::json!({"entity": "m"})).unwrap();
        plan.read(&host(folder.path()).context(0))
    }

    fn rows(count: usize) -> String {
        (0..count)
            .map(|row| vec![format!("0.{row:06}"); CHANNELS].join(",") + "\n")
            .collect()
    }

    #[test]
    fn splits_the_training_part_and_labels_the_test_part() {
        let series = read(&rows(10), &rows(3), "0\n1\n0\n").unwrap();
        let found: Vec<_> = series
            .segments
            .iter()
            .map(|part| (part.split.name(), part.rows.clone(), part.labelled))
            .collect();
        let expected = [
            ("train", 0..7, false),
            ("validation", 7..8, false),
            ("calibration", 8..10, false),
            ("test", 10..13, true),
        ];
        assert_eq!(found, expected);
        assert_eq!(series.labels, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(series.row(3)[37], 0.000_003);
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        let cases: [(String, String, &str, &str, &str, usize); 8] = [
            (
                rows(9) + "1,2\n",
                rows(3),
                "0\n0\n0\n",
                "train",
                "2 fields where 38",
                10,
            ),
            (
                rows(9) + &rows(1).replacen("0.000000", "x", 1),
                rows(3),
                "0\n0\n0\n",
                "train",
                "`x` in column `metric_1`",
                10,
            ),
            (
                rows(9) + &rows(1).replacen("0.000000", "NaN", 1),
                rows(3),
                "0\n0\n0\n",
                "train",
                "is missing: there is `NaN`",
                10,
            ),
            (
                rows(9) + &rows(1).replacen("0.000000", "-inf", 1),
                rows(3),
                "0\n0\n0\n",
                "train",
                "not a finite",
                10,
            ),
            (
                rows(4) + "\n" + &rows(4),
                rows(3),
                "0\n0\n0\n",
                "train",
                "blank line",
                5,
            ),
            (
                rows(10),
                rows(3),
                "0\n2\n0\n",
                "test_label",
                "`2`, neither 0 nor 1",
                2,
            ),
            (
                rows(10),
                rows(3),
                "0\n0\n",
                "test_label",
                "2 labels for 3 rows",
                0,
            ),
            (String::new(), rows(3), "0\n0\n0\n", "train", "no rows", 0),
        ];
        for (train, test, labels, file, message, line) in cases {
            let error = read(&train, &test, labels).unwrap_err();
            assert!(error.message().contains(message), "{error}");
            let location = error.location().unwrap();
            assert!(
                location
                    .file
                    .to_string_lossy()
                    .contains(&format!("/{file}/")),
                "{error}"
            );
            assert_eq!(location.line.unwrap_or(0), line, "{error}");
            assert!(error.hint_text().is_some(), "{error}");
        }
    }

    #[test]
    fn line_ends_and_marks_make_no_difference() {
        let plain = read(&rows(10), &rows(3), "0\n1\n0\n").unwrap();
        let windows = rows(10).replace('\n', "\r\n");
        let marked = format!("\u{feff}{}", rows(3).trim_end());
        assert_eq!(
            read(&windows, &marked, "0\r\n1\r\n0\r\n\r\n").unwrap(),
            plain
        );
    }

    #[test]
    fn reads_the_real_files() {
        let machine = "machine-2-1";
        let Some(train) = contract::testing::real_data(&path("train", machine)) else {
            return;
        };
        let root = train.ancestors().nth(3).unwrap();
        let plan: Smd = serde_json::from_value(serde_json::json!({"entity": machine})).unwrap();
        let host = NullHost {
            files: plan
                .files()
                .into_iter()
                .map(|file| (file.name, root.join(file.path)))
                .collect(),
        };
        let series = plan.read(&host.context(0)).unwrap();
        assert_eq!((series.rows(), series.width()), (23_693 + 23_694, 38));
        // Every value against the standard library's parser.
        let text = std::fs::read_to_string(&train).unwrap();
        let expected = text
            .split([',', '\n'])
            .filter(|field| !field.is_empty())
            .map(|field| field.parse::<f64>().unwrap() as f32);
        assert!(
            expected
                .zip(&series.values)
                .all(|(expected, found)| expected.to_bits() == found.to_bits())
        );
        let labels = root.join(path("test_label", machine));
        let anomalous = std::fs::read_to_string(labels)
            .unwrap()
            .lines()
            .filter(|line| *line == "1")
            .count();
        assert_eq!(
            series.labels.iter().filter(|label| **label == 1).count(),
            anomalous
        );
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .build()
            .unwrap();
        assert_eq!(
            pool.install(|| plan.read(&host.context(0)).unwrap())
                .digest(),
            series.digest()
        );
    }
}
