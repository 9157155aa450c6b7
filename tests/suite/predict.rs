//! `runner predict`: a model of a finished run says about new data what the run's own stages would have said.

use contract::artifact::Artifact;
use runner::cache::Store;

use crate::environment::TestEnvironment;
use crate::pipelines::SMALL;

/// The stored artifact of a stage of the latest run, and where its file is.
fn stored(
    environment: &TestEnvironment,
    stage: &str,
    port: &str,
) -> (Artifact, std::path::PathBuf) {
    let store = Store::open(&environment.path("cache"));
    let record = store.find_run("latest").unwrap();
    let key = record
        .stages
        .iter()
        .find(|other| other.name == stage)
        .unwrap()
        .key
        .unwrap();
    let action = store.action(&key).unwrap().unwrap();
    let output = action.output(port).unwrap();
    (store.load(output).unwrap(), store.layout().object(output))
}

fn after_a_run() -> TestEnvironment {
    let environment = TestEnvironment::with_pipeline(SMALL);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    environment
}

#[test]
fn data_of_the_run_get_the_scores_of_the_run() {
    let environment = after_a_run();
    let (_, file) = stored(&environment, "raw", "series");
    std::fs::copy(file, environment.path("new.parquet")).unwrap();
    let before = environment.files("cache");
    let said = environment.json(&["predict", "latest:model", "new.parquet"]);
    assert_eq!(environment.files("cache"), before, "nothing is stored");
    assert_eq!(
        (&said["stage"], &said["answers"][0]["input"]),
        (&"scores".into(), &"new.parquet".into())
    );
    let found: Vec<f64> = said["answers"][0]["scores"]
        .as_array()
        .unwrap()
        .iter()
        .map(|score| score.as_f64().unwrap())
        .collect();
    let (Artifact::Scores(scores), _) = stored(&environment, "scores", "scores") else {
        panic!("not scores")
    };
    // The run has windows that end with its splits; here all is one stretch. The last rows see the same rows before them.
    assert!(found.len() >= 100);
    for (found, expected) in found.iter().rev().zip(scores.scores.iter().rev()).take(100) {
        assert!(
            (found - f64::from(*expected)).abs() <= 1e-5 * f64::from(expected.abs()).max(1e-3),
            "{found} {expected}"
        );
    }
    environment
        .succeed(&["predict", "latest", "new.parquet"])
        .prints("rows scored");
}

/// Pictures of two kinds of series, and a model that tells them apart after a fashion.
const PICTURES: &str = r"pipeline: pictures
seed: 2
stages:
  shapes: {uses: generate-shapes, with: {kinds: [mean_shift, stochastic_trend], samples: 10, length: 60}}
  images: {uses: render-images, from: shapes, with: {width: 24, height: 20, dpi: 20, axes: false}}
  model:
    uses: train
    from: images
    with:
      model: {kind: resnet50-plot, width: 4, depth: [1, 1, 1, 1], planes: [4, 4, 4, 4], head: [8, 8]}
      epochs: 1
      batch: 7
  predictions: {uses: classify, from: {model: model, images: images}, with: {of: images}}
";

#[test]
fn pictures_and_series_get_a_class() {
    let environment = TestEnvironment::with_pipeline(PICTURES);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    let (Artifact::Images(images), _) = stored(&environment, "images", "images") else {
        panic!("no images")
    };
    let (Artifact::Series(series), _) = stored(&environment, "shapes", "series") else {
        panic!("no series")
    };
    let (Artifact::Predictions(predictions), _) =
        stored(&environment, "predictions", "predictions")
    else {
        panic!("no predictions")
    };
    let tested = &predictions.samples[0];
    let image = images
        .images
        .iter()
        .find(|image| image.name == *tested)
        .unwrap();
    let segment = series
        .segments
        .iter()
        .find(|segment| segment.entity == *tested)
        .unwrap();
    environment.write("new.PNG", image.file());
    let lines: Vec<String> = segment
        .rows
        .clone()
        .map(|row| series.values[row].to_string())
        .collect();
    environment.write("new.csv", format!("value\n{}\n", lines.join("\n")));
    for input in ["new.PNG", "new.csv"] {
        let said = environment.json(&["predict", "latest:model", input]);
        let answer = &said["answers"][0];
        let found: Vec<f64> = answer["probabilities"]
            .as_object()
            .unwrap()
            .values()
            .map(|value| value.as_f64().unwrap())
            .collect();
        for (found, expected) in found.iter().zip(predictions.row(0)) {
            assert!(
                (found - f64::from(*expected)).abs() < 1e-5,
                "{input}: {answer}"
            );
        }
        assert_eq!(
            answer["class"],
            predictions.classes[predictions.predicted(0)].as_str()
        );
    }
    let says = |name: &str, content: &[u8], code: i32, words: &str| {
        environment.write(name, content);
        environment
            .run(&["predict", "latest", name])
            .expect(code)
            .says(words);
    };
    let file = image.file();
    says(
        "cut.png",
        &file[..file.len() / 2],
        1,
        "the image cut.png cannot be used",
    );
    says(
        "text.png",
        b"no picture",
        1,
        "the image text.png cannot be used",
    );
    says("photo.jpg", b"", 2, "photo.jpg is not one");
    says("bad.csv", b"value\n1\nx\n", 1, "bad.csv:3");
}

#[test]
fn what_cannot_be_answered_says_why() {
    let environment = after_a_run();
    environment.write("new.csv", "a,b\n1,2\n");
    environment.write("picture.png", "no picture");
    let says = |arguments: &[&str], code: i32, words: &str| {
        environment
            .run(&[&["predict"], arguments].concat())
            .expect(code)
            .says(words);
    };
    says(
        &["latest", "new.csv"],
        1,
        "the columns of the file are a, b",
    );
    says(
        &["latest", "missing.csv"],
        2,
        "there is no file missing.csv",
    );
    says(&["latest:modle", "new.csv"], 2, "no model or stage `modle`");
    says(
        &["latest", "picture.png"],
        2,
        "nothing that leads to scores takes images",
    );
    says(
        &["latest", "picture.png", "new.csv"],
        2,
        "do not go together",
    );
    says(&["nothing", "new.csv"], 2, "no run matches `nothing`");
    environment.succeed(&["run", "--quiet", "pipeline.yaml", "--target", "model"]);
    says(
        &["latest", "new.csv"],
        2,
        "no stage of this run applies a model",
    );
}

/// The latest run may be that of a sweep: each of its trials has a model.
#[test]
fn a_model_of_a_sweep_is_named_with_its_trial() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    let sweep = "sweep: s\npipeline: pipeline.yaml\naxes: {epochs: [1, 2]}\nobjective: {stage: metrics, metric: f1}\n";
    environment.write("sweep.yaml", sweep);
    environment.succeed(&["sweep", "sweep.yaml", "--quiet"]);
    environment.write("new.csv", "a,b\n1,2\n");
    let refused = environment.run(&["predict", "latest", "new.csv"]).expect(2);
    refused
        .says("`scores#1`, `scores#2`")
        .says("`latest:scores#1`")
        .says("`runner sweep best sweep.yaml` says which trial is best");
    environment
        .run(&["predict", "latest:scores#2", "new.csv"])
        .expect(1)
        .says("the columns of the file are a, b");
}
