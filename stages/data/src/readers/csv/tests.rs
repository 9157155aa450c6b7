//! Tests of the format `csv`: what people write, and what is wrong with it.

use super::*;
use contract::NullHost;
use serde_json::{Value, json};

fn read(text: &str, parameters: Value) -> Result<Series, Trouble> {
    read_bytes(text.as_bytes(), parameters)
}

fn read_bytes(text: &[u8], mut parameters: Value) -> Result<Series, Trouble> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data.csv");
    std::fs::write(&file, text).unwrap();
    parameters["path"] = json!("data.csv");
    let csv: Csv = serde_json::from_value(parameters).unwrap();
    csv.check().unwrap();
    csv.read(
        &NullHost {
            files: vec![("data.csv".to_owned(), file)],
        }
        .context(0),
    )
}

const WHOLE: &str = r#"{"train": 1.0}"#;

fn whole() -> Value {
    serde_json::from_str(WHOLE).unwrap()
}

#[test]
fn picks_time_label_and_columns() {
    let text = "when;a;b;skip me;bad\n2020-01-01;1;2;\"x;y\";0\n2020-01-02;3;4.5;z;1\n";
    let parameters = json!({"delimiter": ";", "time": "when", "label": "bad", "columns": ["b", "a"], "split": whole()});
    let series = read(text, parameters).unwrap();
    assert_eq!(series.channels, ["a", "b"]);
    assert_eq!(series.values, [1.0, 2.0, 3.0, 4.5]);
    assert_eq!(series.times, [1_577_836_800_000, 1_577_923_200_000]);
    assert_eq!(series.labels, [0, 1]);
    assert_eq!(series.segments[0].entity, "data");
}

#[test]
fn missing_values_follow_the_rule() {
    let text = "a,b\n1,10\n,NA\n3,30\n";
    let with = |rule: &str| read(text, json!({"missing": rule, "split": whole()}));
    assert_eq!(
        with("ffill").unwrap().values,
        [1.0, 10.0, 1.0, 10.0, 3.0, 30.0]
    );
    assert_eq!(
        with("interpolate").unwrap().values,
        [1.0, 10.0, 2.0, 20.0, 3.0, 30.0]
    );
    let dropped = with("drop").unwrap();
    assert_eq!(dropped.values, [1.0, 10.0, 3.0, 30.0]);
    assert_eq!(dropped.segments.len(), 2);
    let error = with("error").unwrap_err();
    assert_eq!(error.location().unwrap().line, Some(3));
    assert!(error.message().contains("column `a`"), "{error}");
}

#[test]
fn complains_precisely() {
    let cases = [
        ("a,b\n1,2\n", json!({"label": "c"}), "no column `c`", None),
        ("a,a\n1,2\n", json!({}), "two columns are named `a`", None),
        ("a,b\n1,2\n1\n", json!({}), "1 fields where 2", Some(3)),
        (
            "a;b\n1;2\n",
            json!({"time": {"column": "a;b", "format": "seconds"}}),
            "no column is left",
            None,
        ),
        (
            "t,b\n5,2\n4,2\n",
            json!({"time": {"column": "t", "format": "seconds"}}),
            "goes back",
            Some(3),
        ),
        (
            "t,b\nx,2\n",
            json!({"time": "t"}),
            "`x` in column `t` is not a time",
            Some(2),
        ),
        (
            "a,b\n1,1e39\n",
            json!({}),
            "does not fit into 32 bits",
            Some(2),
        ),
        ("a,b\n1,0x1f\n", json!({}), "not a finite number", Some(2)),
        ("a,b\n", json!({}), "no rows", None),
        ("", json!({}), "no rows", None),
    ];
    for (text, mut parameters, message, line) in cases {
        parameters["split"] = whole();
        let error = read(text, parameters).unwrap_err();
        assert!(error.message().contains(message), "{error}");
        assert_eq!(error.location().unwrap().line, line, "{error}");
    }
}

#[test]
fn blocks_do_not_show() {
    // Rows of very different length, so that block ends fall everywhere, and one longer than a block's overhang.
    let field = |row: usize| format!("{}.{}", row % 977, "5".repeat(1 + row % 23));
    let mut text: String = (0..30_000)
        .map(|row| format!("{},{}\n", field(row), field(row + 1)))
        .collect();
    text += &format!("{},{}\n", "1".repeat(20) + "." + &"2".repeat(9_000), 7);
    let series = read(&text, json!({"header": false, "split": whole()})).unwrap();
    let expected: Vec<f32> = text
        .split([',', '\n'])
        .filter(|field| !field.is_empty())
        .map(|field| field.parse::<f64>().unwrap() as f32)
        .collect();
    assert_eq!(series.values, expected);
    assert_eq!(series.channels, ["c0", "c1"]);
    // A fault far down has the right line.
    let error = read(
        &(text + "1,x\n"),
        json!({"header": false, "split": whole()}),
    )
    .unwrap_err();
    assert_eq!(error.location().unwrap().line, Some(30_002));
}

#[test]
fn checks_parameters() {
    for (parameters, parameter) in [
        (json!({"path": []}), "path"),
        (json!({"path": "a", "delimiter": "e"}), "delimiter"),
        (json!({"path": ["a.csv", "b.csv"], "test": "c.csv"}), "test"),
        (json!({"path": "a", "test_labels": "b"}), "test_labels"),
        (json!({"path": "a", "split": {"train": 0.5}}), "split"),
        (
            json!({"path": "a", "time": {"column": "t", "format": {"pattern": "%q"}}}),
            "time.format",
        ),
    ] {
        let fault = crate::readers::fault("csv", parameters).unwrap();
        assert_eq!(fault.parameter, parameter);
    }
}

#[test]
fn fields_in_quotes_hold_delimiters_quotes_and_line_breaks() {
    let text = "a,why,b\n1,\"x, \"\"y\"\"\n\nz\",2\n3,\"\",4\n";
    let series = read(text, json!({"columns": ["a", "b"], "split": whole()})).unwrap();
    assert_eq!(series.values, [1.0, 2.0, 3.0, 4.0]);
    // A line break in the names, and one block after the other.
    let mut text = "a,\"w\nhy\",b\n".to_owned();
    for row in 0..20_000 {
        text += &format!("{row},\"{}\n\",{}\n", "-".repeat(row % 9), row % 7);
    }
    let series = read(&text, json!({"columns": ["a", "b"], "split": whole()})).unwrap();
    assert_eq!(series.rows(), 20_000);
    assert_eq!(series.row(19_999), [19_999.0, (19_999 % 7) as f32]);
    // A quote within a field that has no quotes around it means nothing.
    let series = read(
        "a,b\n1,5\" pipe\n2,x\n",
        json!({"columns": ["a"], "split": whole()}),
    );
    assert_eq!(series.unwrap().values, [1.0, 2.0]);
    // A carriage return that ends no line, in the names and in a column that is left out.
    for (text, line) in [
        ("a,b\rc,d\n1,2,3\n", 1),
        ("a,\rb\n1,2\n", 1),
        ("a,b\n1,x\ry\n", 2),
    ] {
        let parameters = json!({"columns": ["a"], "split": whole()});
        let error = read(text, parameters).unwrap_err();
        assert!(error.message().contains("carriage return"), "{error}");
        assert_eq!(error.location().unwrap().line, Some(line), "{error}");
    }
    let text = "a,\"b\rc\"\r\n1,\"x\ry\"\r\n";
    let series = read(text, json!({"columns": ["a"], "split": whole()})).unwrap();
    assert_eq!(series.values, [1.0]);
    // Text after a closing quote belongs to its field, and opens nothing.
    let text = "\"a\"\"x\"b,\"c\"d\"\n1,2\n\"3\",4\n";
    let series = read(text, json!({"split": whole()})).unwrap();
    assert_eq!(series.channels, ["a\"xb", "cd\""]);
    assert_eq!(series.values, [1.0, 2.0, 3.0, 4.0]);
    let error = read(
        "a,b\n1,\"x\n2,y\n",
        json!({"columns": ["a"], "split": whole()}),
    );
    let error = error.unwrap_err();
    assert_eq!(error.location().unwrap().line, Some(2), "{error}");
    assert!(error.message().contains("never closed"), "{error}");
}

#[test]
fn numbers_are_read_as_they_are_written() {
    for (text, parameters) in [
        ("a;b\n1,25;2\n3,5;4\n", json!({"delimiter": ";"})),
        (
            "a;b\n1.234,5;2\n3;4\n",
            json!({"delimiter": ";", "decimal": ",", "thousands": "."}),
        ),
        ("a,b\n\"1,234.5\",2\n3,4\n", json!({"thousands": ","})),
        (
            "a\tb\n1 234,5\t2\n3\t4\n",
            json!({"delimiter": "\t", "decimal": ",", "thousands": " "}),
        ),
    ] {
        let mut parameters = parameters;
        parameters["split"] = whole();
        let series = read(text, parameters).unwrap();
        let first = if text.contains("25") { 1.25 } else { 1234.5 };
        assert_eq!(series.values[..2], [first, 2.0], "{text}");
    }
    // Three digits after a comma may be thousands: nothing is guessed.
    let error = read(
        "a;b\n1,250;2\n",
        json!({"delimiter": ";", "split": whole()}),
    )
    .unwrap_err();
    assert!(error.hint_text().unwrap().contains("thousands"), "{error}");
}

#[test]
fn what_stands_before_the_table_is_told_apart() {
    let expected = [1.0, 2.0, 3.0, 4.0];
    for (text, parameters) in [
        ("# made by a logger\n# 2024\na,b\n1,2\n3,4\n", json!({})),
        ("# a,b\n1,2\n3,4\n", json!({})),
        ("sep=;\na;b\n1;2\n3;4\n", json!({})),
        ("a,b\nm/s,degC\n1,2\n3,4\n", json!({})),
        ("Station 5\nLisbon\na,b\n1,2\n3,4\n", json!({"skip": 2})),
        ("a,b,\n1,2,\n3,4,\n", json!({})),
        ("\u{feff}a,b\r\n1,2\r\n3,4\r\n", json!({})),
    ] {
        let mut parameters = parameters;
        parameters["split"] = whole();
        let series = read(text, parameters).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(series.values, expected, "{text}");
        assert_eq!(series.channels, ["a", "b"], "{text}");
    }
    let error = read("\n\na,b\n1,2\n", json!({"split": whole()})).unwrap_err();
    assert_eq!(error.message(), "line 1 is blank");
    assert_eq!(error.location().unwrap().line, Some(1));
}

#[test]
fn a_file_that_is_not_text_is_named() {
    for (bytes, what) in [
        (&b"PK\x03\x04\x14\0"[..], "a zip archive"),
        (b"\xfd7zXZ\0\0", "compressed by xz"),
        (b"BZh91AY", "compressed by bzip2"),
        (b"\x28\xb5\x2f\xfd\x04", "compressed by Zstandard"),
        (b"\xff\xfea\0,\0b\0", "UTF-16"),
        (b"\xfe\xff\0a\0,", "UTF-16"),
        (b"a,b\r1,2\r3,4\r", "carriage return alone"),
        (b"PAR1\x15\x04", "a Parquet file"),
    ] {
        let error = read_bytes(bytes, json!({"split": whole()})).unwrap_err();
        assert!(error.message().contains(what), "{error}");
        assert!(error.hint_text().is_some(), "{error}");
    }
}

#[test]
fn labels_may_be_words() {
    let text = "v,y\n1,False\n2,TRUE\n3,normal\n4,Anomaly\n5,0.0\n6,1\n";
    let series = read(text, json!({"label": "y", "split": whole()})).unwrap();
    assert_eq!(series.labels, [0, 1, 0, 1, 0, 1]);
    let error = read("v,y\n1,maybe\n", json!({"label": "y", "split": whole()})).unwrap_err();
    assert!(error.hint_text().unwrap().contains("anomaly"), "{error}");
}

#[test]
fn the_usual_spellings_of_missing_are_read() {
    let spellings = [
        "", "NaN", "-nan", "#N/A", "<NA>", "NULL", "None", "n/a", "NaT",
    ];
    for spelling in spellings {
        let text = format!("a,b\n1,0\n{spelling},0\n3,0\n");
        let series = read(&text, json!({"missing": "interpolate", "split": whole()})).unwrap();
        assert_eq!(series.values[2], 2.0, "{spelling}");
    }
}

#[test]
fn times_are_read_in_the_formats_that_people_write() {
    let with = |format: Value, stamp: &str| {
        let text = format!("t,a\n{stamp},1\n");
        let time = json!({"column": "t", "format": format});
        read(&text, json!({"time": time, "split": whole()}))
            .unwrap()
            .times[0]
    };
    let expected = 1_709_472_600_000; // 2024-03-03 13:30 UTC
    let pattern = |text: &str| json!({"pattern": text});
    assert_eq!(
        with(pattern("%m/%d/%Y %I:%M %p"), "03/03/2024 01:30 PM"),
        expected
    );
    assert_eq!(with(pattern("%d-%b-%y %H:%M"), "03-Mar-24 13:30"), expected);
    assert_eq!(
        with(pattern("%Y-%m-%dT%H:%M:%S%z"), "2024-03-03T15:30:00+0200"),
        expected
    );
    assert_eq!(with(json!("seconds"), "1709472600"), expected);
    assert_eq!(with(json!("microseconds"), "1709472600000000"), expected);
    assert_eq!(with(json!("nanoseconds"), "1709472600000000000"), expected);
    // The clock of a zone, which is set back in autumn: two hours with one name.
    let text = "t,a\n2023-10-29 02:00,1\n2023-10-29 02:30,2\n2023-10-29 02:00,3\n2023-10-29 02:30,4\n2023-10-29 03:00,5\n";
    let time = json!({"column": "t", "zone": "Europe/Berlin"});
    let series = read(text, json!({"time": time, "split": whole()})).unwrap();
    for pair in series.times.windows(2) {
        assert_eq!(pair[1] - pair[0], 1_800_000);
    }
    let error = read(text, json!({"time": "t", "split": whole()})).unwrap_err();
    assert_eq!(error.location().unwrap().line, Some(4), "{error}");
    assert!(error.hint_text().unwrap().contains("zone"), "{error}");
    let text = "t,a\n2024-07-01 12:00:00,1\n";
    let time = json!({"column": "t", "zone": "Europe/Berlin"});
    let series = read(text, json!({"time": time, "split": whole()})).unwrap();
    assert_eq!(series.times, [1_719_828_000_000]);
}

#[test]
fn a_counter_keeps_its_64_bits() {
    let mut text = "a,b,c\n".to_owned();
    for row in 0..500 {
        text += &format!(
            "{},{}.{:06},{}\n",
            4_000_000_000_u64 + row,
            row % 10,
            row,
            row
        );
    }
    let series = read(&text, json!({"split": whole()})).unwrap();
    assert_eq!(series.wide.keys().copied().collect::<Vec<_>>(), [0]);
    assert_eq!(series.channel(0)[499], 4_000_000_499.0);
    // Also where the rows of a split are fewer than those of the file, where rows are dropped, and where they are filled.
    let parts = json!({"train": 0.5, "test": 0.5});
    let gap = text.replace("4000000100,", ",");
    for rule in ["drop", "ffill", "interpolate"] {
        let series = read(&gap, json!({"missing": rule, "split": parts})).unwrap();
        let counter = series.channel(0);
        assert_eq!(counter[99], 4_000_000_099.0);
        let next = if rule == "drop" {
            4_000_000_101.0
        } else if rule == "ffill" {
            4_000_000_099.0
        } else {
            4_000_000_100.0
        };
        assert_eq!(counter[100], next, "{rule}");
        assert_eq!(*counter.last().unwrap(), 4_000_000_499.0);
    }
}

#[test]
fn columns_that_are_not_used_may_have_one_name() {
    let series = read(
        "a,a,b\n1,2,3\n",
        json!({"columns": ["b"], "split": whole()}),
    )
    .unwrap();
    assert_eq!(series.values, [3.0]);
}

/// A sign that makes another number at its place is no sign between thousands and none before decimals.
#[test]
fn signs_within_numbers_stand_where_they_belong() {
    let german = json!({"delimiter": ";", "decimal": ",", "thousands": ".", "split": whole()});
    for (field, value) in [
        ("1.234.567,5", 1_234_567.5),
        ("-12.345", -12_345.0),
        ("1.00.000,25", 100_000.25),
        ("0,125", 0.125),
    ] {
        let series = read(&format!("a;b\n{field};2\n"), german.clone()).unwrap();
        assert_eq!(series.values[0], value, "{field}");
    }
    for field in [
        "0.123456", ".1", "1.5", "1234.567", "1,5.000", "1,5,0", "1..000",
    ] {
        let error = read(&format!("a;b\n{field};2\n"), german.clone()).unwrap_err();
        assert!(
            error.message().contains("not a finite number"),
            "{field}: {error}"
        );
    }
    let comma = json!({"delimiter": ";", "decimal": ",", "split": whole()});
    let error = read("a;b\n2,5;2\n1.5;2\n", comma).unwrap_err();
    assert!(error.message().contains("`1.5`"), "{error}");
}
