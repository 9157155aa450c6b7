//! NumPy's `.npz` archives: zip files whose members are `.npy` files, stored (`numpy.savez`) or deflated
//! (`numpy.savez_compressed`). What is in a member is `npy`'s business.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use super::columns;
use super::text::most_unpacked;
use contract::Trouble;

/// How the names of members end.
const ENDING: &str = ".npy";

/// An array in an archive.
pub(super) struct Member {
    archive: ZipArchive<BufReader<File>>,
    index: usize,
    /// What the archive says that it has, unpacked.
    pub bytes: u64,
}

/// Whether a file starts as zip archives do.
pub(super) fn is_archive(path: &Path) -> bool {
    let mut magic = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    // An archive without members starts with its end.
    read.is_ok() && (&magic == b"PK\x03\x04" || &magic == b"PK\x05\x06")
}

/// The names of all arrays in an archive.
///
/// # Errors
/// If it cannot be read, or holds none.
pub(super) fn names(path: &Path) -> Result<Vec<String>, Trouble> {
    let archive = open(path)?;
    let names: Vec<String> = members(&archive)
        .into_iter()
        .map(|(_, name)| name)
        .collect();
    if names.is_empty() {
        return Err(Trouble::new("the archive holds no arrays")
            .at(path, None)
            .hint("write it with `numpy.savez(file, name=array)`"));
    }
    Ok(names)
}

impl Member {
    /// Finds an array by its name, or the only one of an archive.
    ///
    /// # Errors
    /// If there is no such array, if there are several and none is named, or if it would become far larger than it is.
    pub fn open(path: &Path, array: Option<&str>) -> Result<Self, Trouble> {
        let names = names(path)?;
        let mut archive = open(path)?;
        let wanted = match (array, &names[..]) {
            (Some(array), _) => array.strip_suffix(ENDING).unwrap_or(array),
            (None, [only]) => only,
            (None, _) => {
                let message = format!(
                    "the archive holds {} arrays: {}",
                    names.len(),
                    listed(&names)
                );
                let hint = "name the one to read with `array`";
                return Err(Trouble::new(message).at(path, None).hint(hint));
            }
        };
        let mut members = members(&archive).into_iter();
        let Some((index, _)) = members.find(|(_, name)| name == wanted) else {
            let message = format!("the archive holds no array `{wanted}`");
            let hint = format!("it holds {}", listed(&names));
            return Err(Trouble::new(message).at(path, None).hint(hint));
        };
        let member = archive
            .by_index(index)
            .map_err(|error| damaged(path, error))?;
        let (bytes, packed) = (member.size(), member.compressed_size());
        drop(member);
        if bytes > most_unpacked(packed) {
            let message = format!("{packed} compressed bytes of `{wanted}` become {bytes}");
            let hint = "the file is damaged, or was made to fill the memory; if not, save it with `numpy.savez`";
            return Err(Trouble::new(message).at(path, None).hint(hint));
        }
        Ok(Self {
            archive,
            index,
            bytes,
        })
    }

    /// The array's own file from its start. At its end, its sum is checked.
    pub fn reader(&mut self) -> Result<impl Read, ZipError> {
        self.archive.by_index(self.index)
    }
}

fn open(path: &Path) -> Result<ZipArchive<BufReader<File>>, Trouble> {
    let file = File::open(path).map_err(columns::unreadable(path))?;
    ZipArchive::new(BufReader::new(file)).map_err(|error| damaged(path, error))
}

/// The places and names of members that are arrays.
fn members(archive: &ZipArchive<BufReader<File>>) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (index, name) in archive.file_names().enumerate() {
        if let Ok(name) = name
            && let Some(name) = name.strip_suffix(ENDING)
        {
            found.push((index, name.to_owned()));
        }
    }
    found
}

fn listed(names: &[String]) -> String {
    columns::listed(names)
}

/// An archive that cannot be read.
pub(super) fn damaged(path: &Path, error: ZipError) -> Trouble {
    Trouble::new("the archive is damaged, or packed in a way that NumPy does not")
        .at(path, None)
        .because(error)
        .hint("write it with `numpy.savez` or `numpy.savez_compressed`")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use serde_json::{Value, json};
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;
    use crate::readers::{DatasetChoice, columns::Columns, npy::NpyFile};
    use contract::NullHost;
    use contract::artifact::{Series, Split};

    /// An array of 32-bit floats, `[rows, width]`.
    fn npy(values: &[f32], width: usize) -> Vec<u8> {
        let header = format!(
            "{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {width}), }}\n",
            values.len() / width
        );
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        bytes
    }

    fn archive(members: &[(&str, Vec<u8>)], method: zip::CompressionMethod) -> Vec<u8> {
        let mut writer = ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(method);
        for (name, bytes) in members {
            writer.start_file(*name, options).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn read(bytes: &[u8], mut parameters: Value) -> Result<Series, Trouble> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("all.npz");
        std::fs::write(&file, bytes).unwrap();
        parameters["path"] = json!("all.npz");
        let choice = DatasetChoice::new("npy", parameters)?;
        choice.check()?;
        let files = vec![("all.npz".to_owned(), file)];
        choice.read(&NullHost { files }.context(0))
    }

    fn whole() -> Value {
        json!({"split": {"train": 1.0}})
    }

    const METHODS: [zip::CompressionMethod; 2] = [
        zip::CompressionMethod::Stored,
        zip::CompressionMethod::Deflated,
    ];

    #[test]
    fn the_only_array_is_read_and_one_of_several_by_its_name() {
        let values = [1.0, 2.5, -3.0, 4.0, 0.25, 9.0];
        for method in METHODS {
            let one = archive(
                &[("arr_0.npy", npy(&values, 2)), ("note.txt", vec![1])],
                method,
            );
            let series = read(&one, whole()).unwrap();
            assert_eq!((series.values, series.channels.len()), (values.to_vec(), 2));
            let several = archive(
                &[("x.npy", npy(&values, 2)), ("z.npy", npy(&values[..2], 1))],
                method,
            );
            let error = read(&several, whole()).unwrap_err();
            assert!(error.message().ends_with("holds 2 arrays: x, z"), "{error}");
            let named = json!({"array": "z", "split": {"train": 1.0}});
            assert_eq!(read(&several, named).unwrap().values, values[..2]);
            let unknown = json!({"array": "y", "split": {"train": 1.0}});
            let error = read(&several, unknown).unwrap_err();
            assert_eq!(error.hint_text(), Some("it holds x, z"));
        }
    }

    #[test]
    fn all_parts_may_lie_in_one_archive() {
        let train: Vec<f32> = (0..20).map(|row| row as f32).collect();
        let test = [5.0, 6.0, 7.0];
        let members = [
            ("train.npy", npy(&train, 1)),
            ("test.npy", npy(&test, 1)),
            ("labels.npy", npy(&[0.0, 1.0, 0.0], 1)),
        ];
        let bytes = archive(&members, METHODS[1]);
        let array = json!({"path": "train", "test": "test", "test_labels": "labels"});
        let parameters = json!({"test": "all.npz", "test_labels": "all.npz", "array": array});
        let series = read(&bytes, parameters).unwrap();
        assert_eq!(series.rows(), 23);
        let part = series.of_split(Split::Test).next().unwrap();
        assert_eq!(&series.values[part.rows.clone()], test);
        assert_eq!(series.labels[part.rows.clone()], [0, 1, 0]);
    }

    #[test]
    fn what_is_damaged_or_swells_is_refused() {
        let values: Vec<f32> = (0..4000).map(|row| (row as f32).sin()).collect();
        for method in METHODS {
            let whole_file = archive(&[("a.npy", npy(&values, 4))], method);
            let mut harmed = whole_file.clone();
            harmed[500] ^= 0x40;
            let error = read(&harmed, whole()).unwrap_err();
            assert!(error.location().is_some(), "{error}");
            let error = read(&whole_file[..whole_file.len() / 2], whole()).unwrap_err();
            assert!(error.message().contains("damaged"), "{error}");
        }
        let empty = archive(&[], METHODS[0]);
        assert!(
            read(&empty, whole())
                .unwrap_err()
                .message()
                .contains("no arrays")
        );
        // A GiB of zeros in a MiB, which the header announces rightly.
        let rows = 1 << 28;
        let mut writer = ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(METHODS[1]);
        writer.start_file("a.npy", options).unwrap();
        let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows},), }}\n");
        writer.write_all(b"\x93NUMPY\x01\x00").unwrap();
        writer
            .write_all(&(header.len() as u16).to_le_bytes())
            .unwrap();
        writer.write_all(header.as_bytes()).unwrap();
        let zeros = vec![0; 1 << 20];
        for _ in 0..rows >> 18 {
            writer.write_all(&zeros).unwrap();
        }
        let bomb = writer.finish().unwrap().into_inner();
        let error = read(&bomb, whole()).unwrap_err();
        assert!(
            error.hint_text().unwrap().contains("fill the memory"),
            "{error}"
        );
        // Data beyond what the array takes.
        let mut long = npy(&values, 4);
        long.extend([0; 4]);
        let error = read(&archive(&[("a.npy", long)], METHODS[1]), whole()).unwrap_err();
        assert!(error.message().contains("announces"), "{error}");
    }

    #[test]
    fn an_archive_is_known_by_its_first_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("labels");
        std::fs::write(&file, archive(&[("y.npy", npy(&[1.0], 1))], METHODS[0])).unwrap();
        assert!(is_archive(&file));
        let mut columns = Columns::default();
        NpyFile::open(&file).unwrap().read(&mut columns).unwrap();
        assert_eq!(columns.values, [1.0]);
        std::fs::write(&file, npy(&[1.0], 1)).unwrap();
        assert!(!is_archive(&file));
    }
}
