//! Files of data: small ones of every format, with changed bytes. What is read is a series whose parts fit; anything else is
//! an error that names the file.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
use contract::NullHost;
use data::readers::DatasetChoice;
use serde_json::{Value, json};

use crate::frame::fuzz;
use crate::mutate;

/// What texts of data are made of.
const WORDS: &[&str] = &[
    ",",
    ";",
    "\n",
    "\r\n",
    "\n\n",
    "\"",
    "\"\"",
    "\u{feff}",
    "\u{0}",
    "é",
    "NaN",
    "inf",
    "-",
    "1e999",
    "NA",
    "?",
    "2020-01-01",
    "2020-01-01T25:61",
    "+14:00",
    "@data",
    "@attribute",
    "@dimensions",
    "@classLabel true a",
    ":",
    "{a,b}",
    "'shape': (",
    "'descr': '<f8'",
    "18446744073709551615",
    "ARROW1",
    "PAR1",
    "\u{1f}\u{8b}",
];

/// A format with its parameters, the names of the files that it asks for, and an example.
struct Form {
    dataset: &'static str,
    parameters: Value,
    files: Vec<&'static str>,
    example: Vec<u8>,
}

fn columns() -> RecordBatch {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("t", Arc::new(Int64Array::from(vec![5, 6, 7, 8]))),
        (
            "a",
            Arc::new(Float64Array::from(vec![
                Some(1.0),
                None,
                Some(3.0),
                Some(4.0),
            ])),
        ),
        ("y", Arc::new(Int64Array::from(vec![0, 1, 0, 1]))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn arrow(stream: bool) -> Vec<u8> {
    let batch = columns();
    if stream {
        let mut writer =
            arrow::ipc::writer::StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap()
    } else {
        let mut writer =
            arrow::ipc::writer::FileWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap()
    }
}

fn parquet() -> Vec<u8> {
    let batch = columns();
    let mut bytes = Vec::new();
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

fn npy(shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(text).unwrap();
    packed.finish().unwrap()
}

static FORMS: LazyLock<Vec<Form>> = LazyLock::new(|| {
    let table =
        b"t,a,y\n2020-01-01,1.25,0\n2020-01-02,,1\n2020-01-03,3e4,0\n2020-01-04,-4,1\n".to_vec();
    let whole = json!({"train": 0.5, "test": 0.5});
    let form = |dataset, parameters, files: &[&'static str], example| Form {
        dataset,
        parameters,
        files: files.to_vec(),
        example,
    };
    let csv = |missing: &str| json!({"path": "f", "time": "t", "label": "y", "missing": missing, "split": whole});
    let columnar =
        json!({"path": "f", "time": "t", "label": "y", "missing": "ffill", "split": whole});
    let uea = |format: &str| json!({"problem": "P", "format": format});
    let rows = vec![vec!["0.123456"; 38].join(","); 10].join("\n");
    vec![
        form("csv", csv("interpolate"), &["f"], table.clone()),
        form("csv", csv("drop"), &["f"], gzip(&table)),
        form(
            "csv",
            json!({"path": "f", "header": false, "delimiter": ";", "split": whole}),
            &["f"],
            b"1;2\n3;4\n5;6\n".to_vec(),
        ),
        form("npy", json!({"path": "f", "missing": "interpolate", "split": whole}), &["f"], npy("(3, 2)", &[0; 24])),
        form("parquet", columnar.clone(), &["f"], parquet()),
        form("arrow", columnar.clone(), &["f"], arrow(false)),
        form("arrow", columnar, &["f"], arrow(true)),
        form(
            "uea",
            uea("ts"),
            &["UEA/P_TRAIN.ts", "UEA/P_TEST.ts"],
            b"@problemName p\n@dimensions 2\n@classLabel true a b\n@data\n1,2:3,4:a\n5,?:7,8:b\n".to_vec(),
        ),
        form(
            "uea",
            uea("arff"),
            &["UEA/P_TRAIN.arff", "UEA/P_TEST.arff"],
            b"@relation p\n@attribute x numeric\n@attribute y real\n@attribute class {a,'b'}\n@data\n1,2,a\n3,4,b\n"
                .to_vec(),
        ),
        form(
            "smd",
            json!({"entity": "machine-1-1"}),
            &["ServerMachineDataset/train/machine-1-1.txt", "ServerMachineDataset/test/machine-1-1.txt"],
            rows.into_bytes(),
        ),
        form(
            "msl",
            json!({"entity": "C-1"}),
            &["SMAP_MSL/labeled_anomalies.csv"],
            b"chan_id,spacecraft,anomaly_sequences,class,num_values\nC-1,MSL,\"[[1, 2], [3, 3]]\",\"[point]\",4\n"
                .to_vec(),
        ),
        form("csv-classes", json!({"path": "f", "split": {"train": 1.0}}), &["f/a/1.csv"], b"v,w\n1,2\n3,4\n".to_vec()),
    ]
});

#[test]
fn readers() {
    let examples = FORMS
        .iter()
        .enumerate()
        .map(|(number, form)| [&[number as u8][..], &form.example].concat());
    fuzz("readers", mutate::mutated(examples.collect(), WORDS), judge);
}

/// Files that are never changed.
fn beside(form: &Form, folder: &Path) -> Vec<(String, PathBuf)> {
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name.replace('/', "_"));
        std::fs::write(&path, bytes).unwrap();
        (name.to_owned(), path)
    };
    match form.dataset {
        "smd" => vec![write(
            "ServerMachineDataset/test_label/machine-1-1.txt",
            b"0\n1\n0\n1\n0\n1\n0\n1\n0\n1\n",
        )],
        "msl" => ["train", "test"]
            .iter()
            .map(|part| {
                write(
                    &format!("SMAP_MSL/{part}/C-1.npy"),
                    &npy("(4, 55)", &[0; 880]),
                )
            })
            .collect(),
        "csv-classes" => vec![write("f/b/2.csv", b"v,w\n5,6\n")],
        _ => Vec::new(),
    }
}

fn judge(input: &[u8]) -> Result<(), String> {
    let Some((number, bytes)) = input.split_first() else {
        return Ok(());
    };
    let form = &FORMS[usize::from(*number) % FORMS.len()];
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = folder.path().join("changed");
    std::fs::write(&path, bytes).map_err(|error| error.to_string())?;
    let mut files = beside(form, folder.path());
    files.extend(
        form.files
            .iter()
            .map(|name| ((*name).to_owned(), path.clone())),
    );
    let choice = DatasetChoice::new(form.dataset, form.parameters.clone())
        .map_err(|fault| fault.to_string())?;
    let host = NullHost { files };
    match choice.read(&host.context(0)) {
        Ok(series) => series.validate(),
        Err(error) if error.message().len() > 10_000 => {
            Err(format!("a message of {} bytes", error.message().len()))
        }
        Err(_) => Ok(()),
    }
}
