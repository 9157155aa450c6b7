//! Both formats, their faults, and the real problem where it is available.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;
use contract::NullHost;

fn read(files: &[(&str, &str)], parameters: Value) -> Result<Series, Trouble> {
    let folder = tempfile::tempdir().unwrap();
    let place = |(name, text): &(&str, &str)| {
        let path: PathBuf = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        (format!("UEA/{name}"), path)
    };
    let host = NullHost {
        files: files.iter().map(place).collect(),
    };
    let dataset: Uea = serde_json::from_value(parameters).unwrap();
    dataset.check().unwrap();
    dataset.read(&host.context(0))
}

fn arff(rows: &str) -> String {
    format!(
        "% a comment\n@RELATION toy\n\n@attribute a numeric\n@attribute b REAL\n@attribute target {{up, 'down'}}\n@data\n{rows}"
    )
}

fn two_dimensions(second: &str) -> Result<Series, Trouble> {
    let first = arff("1,2,up\n3,4,down\n");
    let second = arff(second);
    let files = [
        ("ToyDimension1_TRAIN.arff", first.as_str()),
        ("ToyDimension2_TRAIN.arff", second.as_str()),
        ("ToyDimension1_TEST.arff", first.as_str()),
        ("ToyDimension2_TEST.arff", second.as_str()),
    ];
    read(&files, json!({"problem": "Toy", "dimensions": 2}))
}

#[test]
fn dimensions_become_channels_and_samples_segments() {
    let series = two_dimensions("5,6,up\n7,8,down\n").unwrap();
    assert_eq!(series.channels, ["dimension_1", "dimension_2"]);
    assert_eq!(series.values[..8], [1.0, 5.0, 2.0, 6.0, 3.0, 7.0, 4.0, 8.0]);
    let found: Vec<_> = series
        .segments
        .iter()
        .map(|segment| {
            (
                segment.split,
                segment.entity.as_str(),
                segment.rows.clone(),
                segment.class.as_deref(),
            )
        })
        .collect();
    let expected = [
        (Split::Train, "train/00000", 0..2, Some("up")),
        (Split::Train, "train/00001", 2..4, Some("down")),
        (Split::Test, "test/00000", 4..6, Some("up")),
        (Split::Test, "test/00001", 6..8, Some("down")),
    ];
    assert_eq!(found, expected);
}

#[test]
fn what_does_not_fit_is_named_with_its_line() {
    for (second, message, line) in [
        ("5,6,down\n7,8,down\n", "class `down` here, `up`", Some(8)),
        ("5,6,up\n", "1 samples here, 2", None),
        ("5,6,up\n7,x,down\n", "`x` is not a finite number", Some(9)),
        ("5,6,up\n7,8\n", "2 fields where 3", Some(9)),
        ("5,6,up\n7,8,9,down\n", "4 fields where 3", Some(9)),
        (
            "5,6,up\n7,8,left\n",
            "`left` is none of the classes",
            Some(9),
        ),
        ("5,6,up\n7,?,down\n", "is missing", Some(9)),
        ("", "no samples", Some(7)),
    ] {
        let error = two_dimensions(second).unwrap_err();
        assert!(error.message().contains(message), "{error}");
        assert_eq!(error.location().unwrap().line, line, "{error}");
    }
}

/// Three dimensions of two values, in one field.
fn relational(rows: &str) -> String {
    format!(
        "% 5 \u{b5}V\n@relation 'toy'\n@attribute relationalAtt relational\n @attribute att0 numeric\n @ATTRIBUTE att1 real\n\
         @end relationalAtt\n@attribute activity {{Standing,'Running'}}\n@data\n{rows}"
    )
}

fn relation(rows: &str) -> Result<Series, Trouble> {
    let text = relational(rows);
    let files = [
        ("Toy_TRAIN.arff", text.as_str()),
        ("Toy_TEST.arff", text.as_str()),
    ];
    read(&files, json!({"problem": "Toy", "missing": "interpolate"}))
}

#[test]
fn a_relational_attribute_holds_all_dimensions() {
    let series =
        relation("'1,2\\n3,4\\n5,6','Standing'\n\"7,?\\n8,9\\n0.5,-1\",Running\n").unwrap();
    assert_eq!(
        series.channels,
        ["dimension_1", "dimension_2", "dimension_3"]
    );
    assert_eq!(series.values[..6], [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
    assert_eq!(series.values[6..12], [7.0, 8.0, 0.5, 7.0, 9.0, -1.0]);
    assert_eq!(series.classes(), ["Running", "Standing"]);
    // What no dimension has at its end is filling.
    let series = relation("'1,?\\n3,?',Standing\n'5,6\\n7,8',Running\n").unwrap();
    assert_eq!(series.segments[0].rows, 0..1);
    assert_eq!(series.segments[1].rows, 1..3);
}

#[test]
fn comments_may_be_in_another_encoding() {
    let folder = tempfile::tempdir().unwrap();
    let text = relational("'1,2\\n3,4',Standing\n").replace('\u{b5}', "?");
    let mut bytes = text.into_bytes();
    let place = bytes.iter().position(|byte| *byte == b'?').unwrap();
    bytes[place] = 0xb5;
    let mut host = NullHost::default();
    for part in ["TRAIN", "TEST"] {
        let path = folder.path().join(part);
        std::fs::write(&path, &bytes).unwrap();
        host.files.push((format!("UEA/Toy_{part}.arff"), path));
    }
    let dataset: Uea = serde_json::from_value(json!({"problem": "Toy"})).unwrap();
    assert_eq!(dataset.read(&host.context(0)).unwrap().rows(), 4);
}

#[test]
fn what_is_wrong_with_a_relation_is_named_with_its_line() {
    for (rows, message) in [
        ("'1,2\\n3',Standing\n", "1 values of dimension 2 where 2"),
        ("1,2,Standing\n", "one field in quotes"),
        ("'1,2\\n3,4' Standing\n", "one field in quotes"),
        ("'1,2\\n3,4',Sitting\n", "`Sitting` is none"),
        ("'1,x\\n3,4',Standing\n", "`x` is not a finite number"),
        ("'?,?\\n3,4',Standing\n", "has no value at all"),
    ] {
        let error = relation(rows).unwrap_err();
        assert!(error.message().contains(message), "{error}");
        assert_eq!(error.location().unwrap().line, Some(9), "{error}");
    }
    for (from, to, message, line) in [
        ("@end relationalAtt\n", "", "does not end before `@data`", 7),
        (
            "@attribute relationalAtt relational\n",
            "",
            "`@end` without",
            5,
        ),
        (
            " @attribute att0 numeric",
            "@attribute a {b}",
            "not hold numbers alone",
            6,
        ),
        (
            " @attribute att0 numeric",
            "@attribute a relational",
            "within another",
            4,
        ),
        (
            "@end relationalAtt\n",
            "@end x\n@attribute b numeric\n",
            "is not numeric",
            9,
        ),
    ] {
        let text = relational("'1,2\\n3,4',Standing\n").replace(from, to);
        let files = [
            ("Toy_TRAIN.arff", text.as_str()),
            ("Toy_TEST.arff", text.as_str()),
        ];
        let error = read(&files, json!({"problem": "Toy"})).unwrap_err();
        assert!(error.message().contains(message), "{error}");
        assert_eq!(error.location().unwrap().line, Some(line), "{error}");
    }
}

const TS: &str = "# a comment\n@problemName Toy\n@timeStamps false\n@univariate false\n@dimensions 2\n@equalLength false\n\
                  @classLabel true a b\n@data\n1,2,3:4,5,6:a\n7,8:9,?:b\n";

fn ts(text: &str) -> Result<Series, Trouble> {
    let parameters = json!({"problem": "Toy", "format": "ts", "missing": "ffill"});
    read(&[("Toy_TRAIN.ts", text), ("Toy_TEST.ts", text)], parameters)
}

#[test]
fn ts_files_hold_all_dimensions_and_lengths_may_differ() {
    let series = ts(TS).unwrap();
    assert_eq!(
        series.values[..10],
        [1.0, 4.0, 2.0, 5.0, 3.0, 6.0, 7.0, 9.0, 8.0, 9.0]
    );
    assert_eq!(series.segments[1].rows, 3..5);
    assert_eq!(series.classes(), ["a", "b"]);
    for (from, to, message, line) in [
        (
            "@timeStamps false",
            "@timeStamps true",
            "values with time stamps stand in brackets",
            9,
        ),
        ("@dimensions 2", "@dimensions 3", "2 dimensions where 3", 9),
        ("7,8:9,?:b", "7,8:9,?:c", "`c` is none of the classes", 10),
        ("7,8:9,?:b", "7,8:9:b", "differ in length", 10),
        ("1,2,3:", "1,2,three:", "`three` is not a finite number", 9),
        ("@data", "data", "neither `@` nor `#`", 8),
    ] {
        let error = ts(&TS.replace(from, to)).unwrap_err();
        assert!(error.message().contains(message), "{error}");
        assert_eq!(error.location().unwrap().line, Some(line), "{error}");
    }
}

#[test]
fn values_with_time_stamps_stand_in_their_order() {
    let stamped = TS
        .replace("@timeStamps false", "@timeStamps true")
        .replace("1,2,3:4,5,6:a", "(0,1),(1,2),(2.5,3):(0,4),(1,5),(2,6):a")
        .replace(
            "7,8:9,?:b",
            "(2020-01-01 10:00:00,7),(2020-01-01 10:05:00,8):(a,9),(b,?):b",
        );
    assert_eq!(ts(&stamped).unwrap(), ts(TS).unwrap());
}

#[test]
fn a_share_of_each_class_is_for_validation() {
    let rows: String = (0..20)
        .map(|row| format!("{row},{row},{}\n", if row % 4 == 0 { "up" } else { "down" }))
        .collect();
    let file = arff(&rows);
    let files = [
        ("Toy_TRAIN.arff", file.as_str()),
        ("Toy_TEST.arff", file.as_str()),
    ];
    let series = read(&files, json!({"problem": "Toy", "validation": 0.2})).unwrap();
    let count = |class: &str| {
        series
            .of_split(Split::Validation)
            .filter(|segment| segment.class.as_deref() == Some(class))
            .count()
    };
    assert_eq!((count("up"), count("down")), (1, 3));
    assert_eq!(series.of_split(Split::Test).count(), 20);
}

#[test]
fn reads_the_real_files() {
    let Some(first) = contract::testing::real_data("UEA/HandwritingDimension1_TRAIN.arff") else {
        return;
    };
    let root = first.ancestors().nth(2).unwrap();
    let dataset: Uea = serde_json::from_value(json!({"problem": "Handwriting"})).unwrap();
    let files = dataset.files();
    assert_eq!((files.len(), files[0].dataset.as_deref()), (6, Some("uea")));
    let host = NullHost {
        files: files
            .into_iter()
            .map(|file| (file.name, root.join(file.path)))
            .collect(),
    };
    let series = dataset.read(&host.context(0)).unwrap();
    assert_eq!(
        (series.rows(), series.width(), series.classes().len()),
        (1000 * 152, 3, 26)
    );
    assert_eq!(series.of_split(Split::Train).count(), 150);
}

#[test]
fn checks_parameters() {
    for (parameters, parameter) in [
        (json!({"problem": ""}), "problem"),
        (json!({"problem": "a/b"}), "problem"),
        (json!({"problem": "A", "dimensions": 0}), "dimensions"),
        (json!({"problem": "A", "validation": 1.0}), "validation"),
        (json!({"problem": "A", "missing": "drop"}), "missing"),
    ] {
        let fault = crate::readers::fault("uea", parameters).unwrap();
        assert_eq!(fault.parameter, parameter);
    }
}
