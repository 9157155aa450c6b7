//! A folder of files as the input of a stage: each file enters the key by itself.

use crate::environment::TestEnvironment;
use crate::store::ran;

const PIPELINE: &str = "pipeline: folders
stages:
  samples: {uses: ingest, with: {dataset: csv-classes, path: samples, split: {train: 0.5, test: 0.5}}}
  images: {uses: render-images, from: samples, with: {width: 64, height: 64}}
";

fn environment() -> TestEnvironment {
    let environment = TestEnvironment::with_pipeline(PIPELINE);
    for (name, text) in [
        ("up/1", "1\n2\n3\n"),
        ("up/2", "2\n3\n5\n"),
        ("down/1", "9\n5\n1\n"),
        ("down/2", "3\n2\n1\n"),
    ] {
        environment.write(&format!("samples/{name}.csv"), format!("value\n{text}"));
    }
    environment.write("samples/README.md", "no sample");
    environment
}

#[test]
fn a_file_that_is_added_changed_or_removed_is_seen_and_named() {
    let environment = environment();
    let run = || {
        environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
        ran(&environment.latest())
    };
    assert_eq!(run(), ["samples", "images"]);
    assert_eq!(run(), [] as [&str; 0]);
    environment.write("samples/README.md", "still no sample");
    assert_eq!(run(), [] as [&str; 0]);
    environment.write("samples/up/3.csv", "value\n4\n5\n6\n");
    environment
        .succeed(&["why", "samples", "pipeline.yaml"])
        .prints("files.\"samples/up/3.csv\": (absent) -> blake3:");
    assert_eq!(run(), ["samples", "images"]);
    std::fs::remove_file(environment.path("samples/up/3.csv")).unwrap();
    assert_eq!(run(), [] as [&str; 0], "what was there before is known");
    environment.write("samples/down/1.csv", "value\n9\n5\n2\n");
    environment
        .succeed(&["plan", "pipeline.yaml"])
        .prints("file \"samples/down/1.csv\" has new content");
}

#[test]
fn a_folder_that_is_missing_or_empty_is_an_error() {
    let environment = TestEnvironment::with_pipeline(PIPELINE);
    environment
        .run(&["run", "--quiet", "pipeline.yaml"])
        .expect(1)
        .says("samples was not found");
    std::fs::create_dir(environment.path("samples")).unwrap();
    environment
        .run(&["run", "--quiet", "pipeline.yaml"])
        .expect(1)
        .says("the folder has no samples");
}
