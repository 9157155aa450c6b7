//! `ingest`: raw files become a series. What a format looks like stands in `readers`; this stage asks and passes on.

mod inspect;

use crate::readers::DatasetChoice;
use contract::artifact::ArtifactKind;
use contract::{
    Fault, FileRequest, Inputs, Numerics, Outputs, Port, Stage, StageContext, Threads, Trouble,
};

/// The stage kind `ingest`.
pub struct Ingest;

impl Stage for Ingest {
    type Params = DatasetChoice;

    const NAME: &'static str = "ingest";
    // 3: times are timestamps.
    const VERSION: u32 = 3;
    const DOC: &'static str =
        "Reads raw files of a data set or format and splits them in order of time.";
    const NUMERICS: Numerics = Numerics::Exact;
    const THREADS: Threads = Threads::All;
    const SEEDED: bool = false;
    const EXAMPLE: &'static str = r#"{"dataset": "smd", "entity": "machine-1-1"}"#;

    fn inputs(_: &Self::Params) -> Vec<Port> {
        Vec::new()
    }

    fn outputs(_: &Self::Params) -> Vec<Port> {
        let doc = "the rows of all files, in segments by entity and split";
        vec![Port::new("series", ArtifactKind::Series, doc)]
    }

    fn check(params: &Self::Params) -> Result<(), Fault> {
        params.check()
    }

    fn files(params: &Self::Params) -> Vec<FileRequest> {
        params.files()
    }

    fn run(
        params: &Self::Params,
        _: &Inputs,
        context: &StageContext<'_>,
    ) -> Result<Outputs, Trouble> {
        let series = params.read(context)?;
        inspect::report(&series, context);
        Ok(Outputs::one("series", series))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use contract::{NullHost, StageKind};

    #[test]
    fn takes_the_parameters_of_the_data_set_flat() {
        let kind = StageKind::of::<Ingest>();
        let complete = kind
            .parse(json!({"dataset": "smd", "entity": "machine-2-1"}))
            .unwrap();
        assert_eq!(complete.parameters()["split"]["calibration"], json!(0.2));
        let files: Vec<String> = complete.files().into_iter().map(|file| file.name).collect();
        let expected = ["train", "test", "test_label"]
            .map(|part| format!("ServerMachineDataset/{part}/machine-2-1.txt"));
        assert_eq!(files, expected);
        assert!(
            kind.parse(json!({"dataset": "smd", "entity": "a", "colour": 1}))
                .unwrap_err()
                .contains("colour")
        );
        assert!(
            kind.parse(json!({"dataset": "smdd"}))
                .unwrap_err()
                .contains("unknown data set `smdd`")
        );
        assert!(
            kind.parse(json!({"dataset": "ett", "entity": "x"}))
                .unwrap()
                .check()
                .is_err()
        );
    }

    #[test]
    fn reads_through_the_erased_kind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(&path, "a;b\n1;2\n3;4\n").unwrap();
        let kind = StageKind::of::<Ingest>();
        let parameters = json!({"dataset": "csv", "path": "a.csv", "delimiter": ";", "split": {"train": 0.5, "test": 0.5}});
        let parameters = kind.parse(parameters).unwrap();
        parameters.check().unwrap();
        let host = NullHost {
            files: vec![("a.csv".to_owned(), path)],
        };
        let outputs = parameters
            .run(&Inputs::default(), &host.context(0))
            .unwrap()
            .into_map();
        assert_eq!(outputs["series"].kind(), ArtifactKind::Series);
    }

    #[test]
    fn every_data_set_has_a_schema_with_documented_parameters() {
        let schema = serde_json::to_value(StageKind::of::<Ingest>().schema()).unwrap();
        let options = schema["oneOf"].as_array().unwrap();
        for option in options {
            for (name, property) in option["properties"]
                .as_object()
                .unwrap()
                .iter()
                .filter(|(name, _)| *name != "dataset")
            {
                assert!(
                    property.get("description").is_some(),
                    "{name} of {} has no doc",
                    option["properties"]["dataset"]
                );
            }
        }
    }
}
