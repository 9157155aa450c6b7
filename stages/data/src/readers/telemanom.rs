//! MSL and SMAP, telemetry of NASA spacecraft (Hundman et al., KDD 2018): an `.npy` file per channel in `train/` and
//! `test/`, anomalies as intervals in `labeled_anomalies.csv`, both ends inclusive. Column 0 is the telemetry, the
//! others are one-hot commands. A channel that is listed twice (P-2) has the intervals of both lines.

use std::ops::Range;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::builder::{Builder, Part};
use super::missing::Missing;
use super::npy::NpyFile;
use super::times::ISO;
use super::{Dataset, OneOrMany, SplitPlan, columns, line};
use contract::artifact::{Series, Split};
use contract::{Fault, FileRequest, Named, StageContext, Trouble};

const FOLDER: &str = "SMAP_MSL";
const INTERVALS: &str = "SMAP_MSL/labeled_anomalies.csv";

/// What distinguishes one spacecraft from the other.
struct Craft {
    name: &'static str,
    dataset: &'static str,
    /// Columns of a channel's file.
    width: usize,
    channels: &'static [&'static str],
}

const MSL: Craft = Craft {
    name: "MSL",
    dataset: "msl",
    width: 55,
    channels: &[
        "C-1", "C-2", "D-14", "D-15", "D-16", "F-4", "F-5", "F-7", "F-8", "M-1", "M-2", "M-3",
        "M-4", "M-5", "M-6", "M-7", "P-10", "P-11", "P-14", "P-15", "S-2", "T-4", "T-5", "T-8",
        "T-9", "T-12", "T-13",
    ],
};

const SMAP: Craft = Craft {
    name: "SMAP",
    dataset: "smap",
    width: 25,
    channels: &[
        "A-1", "A-2", "A-3", "A-4", "A-5", "A-6", "A-7", "A-8", "A-9", "B-1", "D-1", "D-2", "D-3",
        "D-4", "D-5", "D-6", "D-7", "D-8", "D-9", "D-11", "D-12", "D-13", "E-1", "E-2", "E-3",
        "E-4", "E-5", "E-6", "E-7", "E-8", "E-9", "E-10", "E-11", "E-12", "E-13", "F-1", "F-2",
        "F-3", "G-1", "G-2", "G-3", "G-4", "G-6", "G-7", "P-1", "P-2", "P-3", "P-4", "P-7", "R-1",
        "S-1", "T-1", "T-2", "T-3",
    ],
};

/// Which channels are read and how their training parts are split.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Channels {
    /// The telemetry channel, such as `C-1`, a list of channels, or `all`.
    pub entity: OneOrMany,
    /// How each training part is split in order of time. The test part is the data set's own.
    #[serde(default = "SplitPlan::of_training_part")]
    pub split: SplitPlan,
}

impl Channels {
    fn names(&self, craft: &Craft) -> Vec<String> {
        match &self.entity {
            OneOrMany::One(all) if all == "all" => {
                craft.channels.iter().map(|&name| name.to_owned()).collect()
            }
            some => some.iter().cloned().collect(),
        }
    }

    fn check(&self, craft: &Craft) -> Result<(), Fault> {
        self.entity.check("entity")?;
        for name in self.names(craft) {
            if !craft.channels.contains(&name.as_str()) {
                let known = craft.channels.join(", ");
                let reason = format!("{} has no channel `{name}`, but {known}", craft.name);
                return Err(Fault::new("entity", reason));
            }
        }
        self.split.check(true, None)
    }

    fn files(&self, craft: &Craft) -> Vec<FileRequest> {
        let mut paths = vec![INTERVALS.to_owned()];
        for name in self.names(craft) {
            paths.extend([path("train", &name), path("test", &name)]);
        }
        let paths = paths.iter();
        paths
            .map(|path| FileRequest::new(path, path).of_dataset(craft.dataset))
            .collect()
    }

    fn read(&self, craft: &Craft, context: &StageContext<'_>) -> Result<Series, Trouble> {
        let intervals_file = context.file(INTERVALS)?;
        let table = read_intervals(&intervals_file, craft)?;
        let mut names = vec!["telemetry".to_owned()];
        names.extend((1..craft.width).map(|index| format!("command_{index}")));
        let mut builder = Builder::new(names, Missing::Error);
        for channel in self.names(craft) {
            context.check_cancelled()?;
            let file = context.file(&path("train", &channel))?;
            let rows = read_array(&file, craft, &mut builder)?;
            let splits = self.split.cut(rows, &[], &ISO);
            let splits = splits.map_err(|error| error.at(&file, None))?;
            builder.close(Part::new(&channel, &file, splits))?;

            let file = context.file(&path("test", &channel))?;
            let rows = read_array(&file, craft, &mut builder)?;
            builder.pad_labels();
            let labels = labels(&table, &channel, rows, &intervals_file)?;
            builder.columns.labels.extend(labels);
            let mut part = Part::new(&channel, &file, vec![(Split::Test, 0..rows)]);
            part.labelled = true;
            builder.close(part)?;
        }
        builder.finish()
    }
}

/// Telemetry of the rover Curiosity.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Msl(Channels);

/// Telemetry of the soil moisture satellite SMAP.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Smap(Channels);

macro_rules! spacecraft {
    ($type:ident, $craft:ident, $name:literal, $doc:literal) => {
        impl Named for $type {
            const NAME: &'static str = $name;
            const DOC: &'static str = $doc;
            const EXAMPLE: &'static str = r#"{"entity": "all"}"#;
        }

        impl Dataset for $type {
            fn check(&self) -> Result<(), Fault> {
                self.0.check(&$craft)
            }

            fn files(&self) -> Vec<FileRequest> {
                self.0.files(&$craft)
            }

            fn read(&self, context: &StageContext<'_>) -> Result<Series, Trouble> {
                self.0.read(&$craft, context)
            }
        }
    };
}
spacecraft!(
    Msl,
    MSL,
    "msl",
    "Mars Science Laboratory: 27 channels, 55 columns each, labelled test part."
);
spacecraft!(
    Smap,
    SMAP,
    "smap",
    "Soil Moisture Active Passive satellite: 54 channels, 25 columns each, labelled test part."
);

fn path(part: &str, channel: &str) -> String {
    format!("{FOLDER}/{part}/{channel}.npy")
}

fn read_array(file: &Path, craft: &Craft, builder: &mut Builder) -> Result<usize, Trouble> {
    let array = NpyFile::open(file)?;
    if array.width != craft.width {
        let message = format!(
            "{} columns where a channel of {} has {}",
            array.width, craft.name, craft.width
        );
        return Err(Trouble::new(message)
            .at(file, None)
            .hint("is this a file of the other spacecraft?"));
    }
    array.read(&mut builder.columns)
}

/// One line of the table of anomalies.
struct Intervals {
    line: usize,
    channel: String,
    /// Half-open rows of the test part.
    rows: Vec<Range<usize>>,
    /// Rows of the test part.
    length: usize,
}

/// Reads the lines of one spacecraft.
fn read_intervals(file: &Path, craft: &Craft) -> Result<Vec<Intervals>, Trouble> {
    let text = std::fs::read_to_string(file).map_err(columns::unreadable(file))?;
    let mut found = Vec::new();
    // The first line names the columns.
    for (index, text) in text.lines().enumerate().skip(1) {
        if text.trim().is_empty() {
            continue;
        }
        let bad = |what: &str| {
            let hint = "a line reads: channel, spacecraft, \"[[first, last], …]\", \"[kind, …]\", number of rows";
            Trouble::new(what).at(file, Some(index + 1)).hint(hint)
        };
        let fields = line::fields(text.as_bytes(), b',');
        let [channel, spacecraft, sequences, _, length] = fields.as_slice() else {
            let found = fields.len();
            return Err(bad(&format!("{found} fields where 5 are expected")));
        };
        if spacecraft != craft.name {
            continue;
        }
        let pairs: Vec<[usize; 2]> = serde_json::from_str(sequences)
            .map_err(|_| bad(&format!("`{sequences}` is not a list of intervals")))?;
        if let Some([first, last]) = pairs.iter().find(|[first, last]| first > last) {
            return Err(bad(&format!(
                "the interval from {first} to {last} ends before it starts"
            )));
        }
        if pairs.iter().any(|[_, last]| *last == usize::MAX) {
            return Err(bad(&format!("no file has a row {}", usize::MAX)));
        }
        let length = length
            .parse()
            .map_err(|_| bad(&format!("`{length}` is not a number of rows")))?;
        let rows = pairs.iter().map(|[first, last]| *first..last + 1).collect();
        found.push(Intervals {
            line: index + 1,
            channel: channel.to_string(),
            rows,
            length,
        });
    }
    Ok(found)
}

/// A label per row of one channel's test part.
fn labels(
    table: &[Intervals],
    channel: &str,
    rows: usize,
    file: &Path,
) -> Result<Vec<u8>, Trouble> {
    let mut labels = vec![0; rows];
    let lines: Vec<&Intervals> = table
        .iter()
        .filter(|line| line.channel == channel)
        .collect();
    if lines.is_empty() {
        let message = format!("channel `{channel}` is not listed");
        let hint = "without its line nothing is known about its anomalies; get the file again";
        return Err(Trouble::new(message).at(file, None).hint(hint));
    }
    for line in lines {
        let bad = |message: String| {
            let hint = "the list and the arrays belong to different versions of the data";
            Trouble::new(message).at(file, Some(line.line)).hint(hint)
        };
        if line.length != rows {
            return Err(bad(format!(
                "{} rows are listed for `{channel}`, but its test file has {rows}",
                line.length
            )));
        }
        for interval in &line.rows {
            let Some(part) = labels.get_mut(interval.clone()) else {
                let last = interval.end - 1;
                return Err(bad(format!("row {last} of {rows} does not exist")));
            };
            part.fill(1);
        }
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::NullHost;

    fn intervals(text: &str) -> Result<Vec<Intervals>, Trouble> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("labels.csv");
        std::fs::write(
            &file,
            format!("chan_id,spacecraft,anomaly_sequences,class,num_values\n{text}"),
        )
        .unwrap();
        read_intervals(&file, &SMAP)
    }

    #[test]
    fn ends_are_inclusive_and_lines_add_up() {
        let table = intervals(
            "P-2,SMAP,\"[[1, 2]]\",[point],6\nC-1,MSL,\"[[0, 0]]\",[point],6\nP-2,SMAP,\"[[2, 3], [5, 5]]\",\"[a, b]\",6\n",
        );
        let labels = labels(&table.unwrap(), "P-2", 6, Path::new("labels.csv")).unwrap();
        assert_eq!(labels, [0, 1, 1, 1, 0, 1]);
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, rows, message) in [
            ("P-2,SMAP,\"[[1, 6]]\",[point],6", 6, "row 6 of 6"),
            ("P-2,SMAP,\"[[1, 2]]\",[point],7", 6, "7 rows are listed"),
            ("P-3,SMAP,\"[[1, 2]]\",[point],6", 6, "not listed"),
            (
                "P-2,SMAP,\"[[2, 1]]\",[point],6",
                6,
                "ends before it starts",
            ),
            ("P-2,SMAP,\"1, 2\",[point],6", 6, "not a list of intervals"),
            ("P-2,SMAP,[point],6", 6, "4 fields"),
        ] {
            let labels =
                |table: Vec<Intervals>| labels(&table, "P-2", rows, Path::new("labels.csv"));
            let error = intervals(text).and_then(labels).unwrap_err();
            assert!(error.message().contains(message), "{error}");
        }
    }

    #[test]
    fn reads_the_real_files() {
        let Some(list) = contract::testing::real_data(INTERVALS) else {
            return;
        };
        let root = list.ancestors().nth(2).unwrap();
        let msl: Msl = serde_json::from_value(serde_json::json!({"entity": "all"})).unwrap();
        msl.check().unwrap();
        let files = msl
            .files()
            .into_iter()
            .map(|file| (file.name, root.join(file.path)))
            .collect();
        let series = msl.read(&NullHost { files }.context(0)).unwrap();
        // 58,317 training and 73,729 test rows are the sums that the literature gives for MSL.
        assert_eq!(
            series
                .of_split(Split::Test)
                .map(|part| part.rows.len())
                .sum::<usize>(),
            73_729
        );
        assert_eq!(series.rows(), 58_317 + 73_729);
        let anomalous = series
            .labels
            .iter()
            .map(|label| usize::from(*label))
            .sum::<usize>();
        assert_eq!(anomalous, 7_766);
        assert!(series.channels.len() == 55 && series.channels[0] == "telemetry");
    }
}
