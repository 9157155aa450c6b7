//! Every kind of artifact through its file and back: equal values, equal digests, equal bytes, whatever its names hold and
//! however little is in it. And files that were made to harm, which are refused before they cost anything.

mod forged;
mod layouts;
mod made;
mod parts;

use contract::artifact::{Artifact, ArtifactKind, Source};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use parts::Here;

fn encoded(artifact: &Artifact) -> Vec<u8> {
    let mut bytes = Vec::new();
    artifact.encode_to(&mut bytes).unwrap();
    bytes
}

/// Encodes, decodes from memory and from disk, and encodes again.
fn comes_back(artifact: &Artifact) -> Result<(), TestCaseError> {
    let (kind, bytes) = (artifact.kind(), encoded(artifact));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, &bytes).unwrap();
    for source in [Source::from(bytes.clone()), Source::open(&path).unwrap()] {
        let again = Artifact::decode(kind, source, &Here::of(artifact));
        let again =
            again.map_err(|error| TestCaseError::fail(format!("{kind}: {error}\n{artifact:?}")))?;
        prop_assert_eq!(
            again.digest(),
            artifact.digest(),
            "{:?}\n{:?}",
            artifact,
            again
        );
        prop_assert_eq!(
            encoded(&again) == bytes,
            true,
            "{:?}\n{:?}",
            artifact,
            again
        );
        if kind != ArtifactKind::Files && kind != ArtifactKind::Images {
            prop_assert_eq!(format!("{again:?}"), format!("{artifact:?}"));
        }
    }
    Ok(())
}

fn check(strategy: impl Strategy<Value = Artifact>) {
    TestRunner::new(ProptestConfig {
        failure_persistence: None,
        cases: 300,
        ..ProptestConfig::default()
    })
    .run(&strategy, |artifact| comes_back(&artifact))
    .unwrap();
}

#[test]
fn series() {
    check(made::series().prop_map(Artifact::from));
}

#[test]
fn windows() {
    check(made::windows().prop_map(Artifact::from));
}

#[test]
fn model() {
    check(made::model().prop_map(Artifact::from));
}

#[test]
fn scores() {
    check(made::scores().prop_map(Artifact::from));
}

#[test]
fn forecasts() {
    check(made::forecasts().prop_map(Artifact::from));
}

#[test]
fn predictions() {
    check(made::predictions().prop_map(Artifact::from));
}

#[test]
fn metrics() {
    check(made::metrics().prop_map(Artifact::from));
}

#[test]
fn images() {
    check(made::images().prop_map(Artifact::from));
}

#[test]
fn table() {
    check(made::table().prop_map(Artifact::from));
}

#[test]
fn files() {
    check(made::files().prop_map(Artifact::from));
}
