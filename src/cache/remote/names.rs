//! The names that things of a store have at a remote: their paths in the store's own layout. So the folder of a store can
//! be a remote, and what is copied from a bucket by hand is a store.

use contract::artifact::Digest;

use super::super::{Key, Layout, ObjectRecord, RunId};

/// Names below the remote's address.
#[derive(Debug)]
pub(super) struct Names;

impl Names {
    pub const OBJECTS: &str = "v1/objects";
    pub const ACTIONS: &str = "v1/actions";
    pub const RUNS: &str = "v1/runs";
    /// Where a file lies for a moment that is made to see what time it gets.
    pub const CLOCKS: &str = "v1/clocks";

    pub fn object(record: &ObjectRecord) -> String {
        below(&Layout::new(std::path::Path::new("/")).object(record))
    }

    pub fn action(key: &Key) -> String {
        below(&Layout::new(std::path::Path::new("/")).action(key))
    }

    pub fn run(run: &RunId) -> String {
        format!("{}/{run}/run.json", Self::RUNS)
    }

    /// The digest in the name of an object or an action.
    pub fn digest(name: &str) -> Option<Digest> {
        let mut parts = name.rsplit('/');
        let (rest, first) = (parts.next()?, parts.next()?);
        format!("{first}{}", rest.split('.').next()?).parse().ok()
    }

    /// The run that a record belongs to.
    pub fn run_of(name: &str) -> Option<RunId> {
        let (run, file) = name
            .strip_prefix(Self::RUNS)?
            .strip_prefix('/')?
            .split_once('/')?;
        (file == "run.json" && RunId::is_name(run)).then(|| RunId(run.to_owned()))
    }
}

fn below(path: &std::path::Path) -> String {
    path.strip_prefix("/").unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use contract::artifact::ArtifactKind;

    use super::*;

    #[test]
    fn names_are_those_of_the_layout() {
        let object = Digest([0xab; 32]);
        let mut record = ObjectRecord {
            digest: object,
            object,
            kind: None,
            bytes: 0,
            parts: Vec::new(),
        };
        let rest = "ab".repeat(31);
        assert_eq!(
            Names::object(&record),
            format!("{}/ab/{rest}", Names::OBJECTS)
        );
        record.kind = Some(ArtifactKind::Series);
        assert_eq!(
            Names::object(&record),
            format!("{}/ab/{rest}.parquet", Names::OBJECTS)
        );
        assert_eq!(Names::digest(&Names::object(&record)), Some(object));
        assert_eq!(
            Names::action(&Key(object)),
            format!("{}/ab/{rest}.json", Names::ACTIONS)
        );
        assert_eq!(Names::digest("v1/objects/ab/x"), None);
        let run = RunId("20260101-120000-250c1f".into());
        assert_eq!(Names::run_of(&Names::run(&run)), Some(run));
        for name in [
            "v1/runs/../run.json",
            "v1/runs//run.json",
            "v1/runs/a/../run.json",
            "v1/runs/.x/run.json",
        ] {
            assert_eq!(Names::run_of(name), None, "{name}");
        }
    }
}
