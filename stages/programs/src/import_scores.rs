//! The stage kind `import-scores`: anomaly scores, forecasts or class probabilities that somebody else computed, with the rows
//! that they belong to. So they are judged as those of our own models are. What they were learned from is not known here.

use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::exchange::{self, Expected, Frame};
use contract::artifact::{ArtifactKind, Scores, Segment, Series, Shown, Split, Windows};
use contract::{
    Fault, FileRequest, Inputs, Numerics, Outputs, Port, Stage, StageContext, Threads, Trouble,
};

/// The stage kind.
pub struct ImportScores;

/// Parameters of `import-scores`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The file: Parquet, Arrow, CSV or `.npy`. With `{entity}` or `{split}` in it there is one for each of them:
    /// `scores/{entity}.npy`.
    #[schemars(length(min = 1))]
    pub path: String,
    /// What the files hold.
    #[serde(default)]
    pub kind: Kind,
    /// The column with the scores; the only one that can be, if left out.
    #[serde(default)]
    pub column: Option<String>,
    /// The splits whose rows the files have, in the order of the series.
    #[serde(default = "test")]
    #[schemars(length(min = 1))]
    pub splits: Vec<Split>,
    /// 1 if a higher score is more anomalous, -1 if a lower one is.
    #[serde(default = "one")]
    #[schemars(schema_with = "sign")]
    pub sign: i8,
}

/// What was computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A score for each row of `series`.
    #[default]
    Scores,
    /// For each window of `windows`, what follows it: a row per step, a column per channel.
    Forecasts,
    /// For each sample of `series`, a probability per class.
    Predictions,
}

fn test() -> Vec<Split> {
    vec![Split::Test]
}

fn one() -> i8 {
    1
}

fn sign(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "minimum": -1, "maximum": 1})
}

const ENTITY: &str = "{entity}";
const SPLIT: &str = "{split}";

/// The name under which the files are asked for.
const FILES: &str = "scores";

impl Params {
    /// Whether there is more than one file.
    fn has_many(&self) -> bool {
        self.path.contains(ENTITY) || self.path.contains(SPLIT)
    }

    fn request(&self) -> FileRequest {
        let pattern = self.path.replace(ENTITY, "*").replace(SPLIT, "*");
        let request = FileRequest::new(FILES, pattern);
        match self.has_many() {
            true => request.or_many(),
            false => request,
        }
    }

    /// The file of a segment, as it was named by the user.
    fn path_of(&self, segment: &Segment) -> String {
        let path = self.path.replace(ENTITY, &segment.entity);
        path.replace(SPLIT, segment.split.name())
    }
}

impl Stage for ImportScores {
    type Params = Params;

    const NAME: &'static str = "import-scores";
    const VERSION: u32 = 1;
    const DOC: &'static str =
        "Reads scores, forecasts or class probabilities that were computed elsewhere.";
    const NUMERICS: Numerics = Numerics::Exact;
    const THREADS: Threads = Threads::One;
    const SEEDED: bool = false;
    const PORTS_VARY: bool = true;
    const EXAMPLE: &'static str = r#"{"path": "scores/{entity}.npy"}"#;

    fn inputs(params: &Params) -> Vec<Port> {
        vec![match params.kind {
            Kind::Forecasts => Port::new(
                "windows",
                ArtifactKind::Windows,
                "the windows that were continued",
            ),
            _ => Port::new("series", ArtifactKind::Series, "the rows that were scored"),
        }]
    }

    fn outputs(params: &Params) -> Vec<Port> {
        vec![match params.kind {
            Kind::Scores => Port::new("scores", ArtifactKind::Scores, "a score per row"),
            Kind::Forecasts => Port::new(
                "forecasts",
                ArtifactKind::Forecasts,
                "what follows each window",
            ),
            Kind::Predictions => Port::new(
                "predictions",
                ArtifactKind::Predictions,
                "a probability per sample and class",
            ),
        }]
    }

    fn check(params: &Params) -> Result<(), Fault> {
        if params.sign.abs() != 1 {
            return Err(Fault::new("sign", "is 1 or -1"));
        }
        if params.kind != Kind::Scores && params.has_many() {
            let reason = "names a file for each entity or split, which only scores have";
            return Err(Fault::new("path", reason));
        }
        if params.kind != Kind::Scores && (params.column.is_some() || params.sign != 1) {
            let parameter = if params.sign == 1 { "column" } else { "sign" };
            return Err(Fault::new(parameter, "is for scores"));
        }
        Ok(())
    }

    fn files(params: &Params) -> Vec<FileRequest> {
        vec![params.request()]
    }

    fn run(
        params: &Params,
        inputs: &Inputs,
        context: &StageContext<'_>,
    ) -> Result<Outputs, Trouble> {
        match params.kind {
            Kind::Forecasts => {
                let windows = inputs.get::<Windows>("windows")?;
                let frame = only_file(params, context)?;
                let found = exchange::forecasts(&frame, "windows", &windows, &params.splits)?;
                Ok(Outputs::one("forecasts", found))
            }
            Kind::Predictions => {
                let series = inputs.get::<Series>("series")?;
                let expected = Expected::of("series", &series, Some(&params.splits))?;
                let found = exchange::predictions(&only_file(params, context)?, &expected)?;
                Ok(Outputs::one("predictions", found))
            }
            Kind::Scores => {
                let series = inputs.get::<Series>("series")?;
                Ok(Outputs::one("scores", scores(params, &series, context)?))
            }
        }
    }
}

fn only_file(params: &Params, context: &StageContext<'_>) -> Result<Frame, Trouble> {
    Frame::read(&context.file(FILES)?, Path::new(&params.path))
}

/// Segments that lie in one file.
struct Part<'a> {
    path: String,
    segments: Vec<&'a Segment>,
}

fn scores(params: &Params, series: &Series, context: &StageContext<'_>) -> Result<Scores, Trouble> {
    let expected = Expected::of("series", series, Some(&params.splits))?;
    let mut files: Vec<Part<'_>> = Vec::new();
    for segment in &expected.segments {
        let path = params.path_of(segment);
        match files.iter_mut().find(|part| part.path == path) {
            Some(part) => part.segments.push(segment),
            None => files.push(Part {
                path,
                segments: vec![segment],
            }),
        }
    }
    let mut parts = Vec::with_capacity(files.len());
    for part in &files {
        context.check_cancelled()?;
        let place = place(params, part, context)?;
        let own = Expected {
            segments: part.segments.clone(),
            ..expected.clone()
        };
        parts.push((Frame::read(&place, Path::new(&part.path))?, own));
    }
    let sign = f32::from(params.sign);
    let found = exchange::scores_of_parts(&parts, params.column.as_deref(), sign)?;
    let read: Vec<&Segment> = files
        .iter()
        .flat_map(|part| part.segments.clone())
        .collect();
    Ok(in_order(found, &read, &expected.segments))
}

/// Where the file of some segments is.
fn place(params: &Params, part: &Part<'_>, context: &StageContext<'_>) -> Result<PathBuf, Trouble> {
    if !params.has_many() {
        return context.file(FILES);
    }
    let below = Path::new(&part.path).strip_prefix(params.request().folder());
    let below = below.unwrap_or(Path::new(&part.path));
    let found = context.host.file(&format!("{FILES}/{}", below.display()));
    found.ok_or_else(|| {
        let mut there = context.host.names_below(FILES);
        there.truncate(5);
        let entity = part.segments.first().map_or("", |segment| &segment.entity);
        let message = format!(
            "there is no file `{}` for the entity `{}`",
            part.path,
            Shown(entity)
        );
        Trouble::new(message).hint(format!("there are {}", there.join(", ")))
    })
}

/// The scores with their segments in the order of the series, whatever the order of the files.
fn in_order(found: Scores, read: &[&Segment], wanted: &[&Segment]) -> Scores {
    let mut ordered = Scores {
        scores: Vec::with_capacity(found.scores.len()),
        labels: Vec::new(),
        times: Vec::new(),
        segments: Vec::new(),
        contributions: Vec::new(),
        ..found.clone()
    };
    let width = found.channels.len();
    for segment in wanted {
        let number = read.iter().position(|other| other.rows == segment.rows);
        let Some(own) = number.and_then(|number| found.segments.get(number)) else {
            continue;
        };
        let rows = own.rows.clone();
        let first = ordered.scores.len();
        ordered
            .scores
            .extend_from_slice(&found.scores[rows.clone()]);
        let times = found.times.get(rows.clone());
        ordered.times.extend_from_slice(times.unwrap_or_default());
        let labels = found.labels.get(rows.clone());
        ordered.labels.extend_from_slice(labels.unwrap_or_default());
        let parts = &found.contributions[rows.start * width..rows.end * width];
        ordered.contributions.extend_from_slice(parts);
        let mut moved = own.clone();
        moved.rows = first..ordered.scores.len();
        ordered.segments.push(moved);
    }
    ordered
}

#[cfg(test)]
mod tests {
    use std::fs;

    use contract::NullHost;
    use contract::artifact::Typed;
    use serde_json::{Value, json};

    use super::*;

    /// Two machines with three training and two test rows each.
    fn series() -> Series {
        Series {
            channels: vec!["c".into()],
            values: (0..10).map(|value| value as f32).collect(),
            labels: vec![0, 0, 0, 0, 0, 0, 0, 1, 1, 0],
            segments: vec![
                Segment::new(Split::Train, "a", 0..3),
                Segment::new(Split::Train, "b", 3..6),
                Segment::new(Split::Test, "a", 6..8).labelled(true),
                Segment::new(Split::Test, "b", 8..10).labelled(true),
            ],
            ..Series::default()
        }
    }

    fn imported(with: Value, files: &[(&str, &str)]) -> Result<Scores, Trouble> {
        let folder = tempfile::tempdir().unwrap();
        let mut host = NullHost::default();
        for (name, text) in files {
            let ending = Path::new(name).extension().unwrap_or("csv".as_ref());
            let path = folder
                .path()
                .join(host.files.len().to_string())
                .with_extension(ending);
            fs::write(&path, text).unwrap();
            host.files.push(((*name).to_owned(), path));
        }
        let params: Params = serde_json::from_value(with).unwrap();
        let mut inputs = Inputs::default();
        inputs.add("series", "", series().into());
        let outputs = ImportScores::run(&params, &inputs, &host.context(0))?.into_map();
        Ok(Scores::clone(
            Scores::from_artifact(&outputs["scores"]).unwrap(),
        ))
    }

    #[test]
    fn a_file_for_each_entity_gets_the_rows_of_its_segments() {
        let with = json!({"path": "theirs/{entity}.csv", "splits": ["train", "test"]});
        let files = [
            ("scores/a.csv", "s\n1\n2\n3\n4\n5\n"),
            ("scores/b.csv", "s\n6\n7\n8\n9\n10\n"),
        ];
        let found = imported(with, &files).unwrap();
        assert_eq!(
            found.scores,
            [1.0, 2.0, 3.0, 6.0, 7.0, 8.0, 4.0, 5.0, 9.0, 10.0]
        );
        assert_eq!(found.labels, series().labels);
        assert_eq!(found.segments, series().segments);
    }

    #[test]
    fn one_file_has_all_rows_and_lower_may_be_worse() {
        let with = json!({"path": "all.csv", "column": "b", "sign": -1});
        let found = imported(with, &[("scores", "a,b\n0,1\n0,2\n0,3\n0,4\n")]);
        let found = found.unwrap();
        assert_eq!(found.scores, [-1.0, -2.0, -3.0, -4.0]);
        assert_eq!(found.labels, [0, 1, 1, 0]);
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_place() {
        let told = |text: &str| {
            let with = json!({"path": "all.csv"});
            imported(with, &[("scores", text)]).unwrap_err()
        };
        let few = told("score\n1\n2\n3\n");
        assert!(
            few.message().contains("has 3 rows where 4 are expected"),
            "{few}"
        );
        assert!(
            few.hint_text().unwrap().contains("row 1 of `b` in test"),
            "{few}"
        );
        let gap = told("score\n1\n\n3\nnan\n");
        assert!(gap.message().contains("has 3 rows"), "{gap}");
        let nan = told("score\n1\n2\n3\nnan\n");
        assert!(
            nan.message().contains("is NaN or missing in row 3"),
            "{nan}"
        );
        assert!(nan.message().contains("row 1 of `b` in test"), "{nan}");
        let text = told("score\n1\n2\nhigh\n4\n");
        assert!(text.message().contains("row 2 is `high`"), "{text}");
        let other = told("entity,score\na,1\na,2\na,3\nb,4\n");
        assert!(
            other.message().contains("row 2 of `all.csv` is of `a`"),
            "{other}"
        );
        let labels = told("score,label\n1,0\n2,0\n3,0\n4,0\n");
        assert!(labels.message().contains("not from a program"), "{labels}");
        let with = json!({"path": "theirs/{entity}.csv"});
        let absent = imported(with, &[("scores/a.csv", "s\n1\n2\n")]).unwrap_err();
        assert!(absent.message().contains("for the entity `b`"), "{absent}");
    }
}
