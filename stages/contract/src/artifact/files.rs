//! A folder of files as an artifact: a Parquet list of names, each file a blob of its own in the store.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{BooleanArray, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};

use super::columns::{self, Metadata};
use super::path::{Stands, check_together};
use super::series::optional;
use super::{ArtifactError, Digest, DigestWriter, Parts, PathFault, RelativePath};

/// Where the bytes of a file are at the moment.
#[derive(Clone, Debug)]
pub enum Content {
    Memory(Arc<[u8]>),
    /// A file that stays as it is until the artifact is published.
    Disk(PathBuf),
}

impl Content {
    pub fn read(&self) -> io::Result<Arc<[u8]>> {
        match self {
            Self::Memory(bytes) => Ok(Arc::clone(bytes)),
            Self::Disk(_) => {
                let mut bytes = Vec::new();
                self.open()?.read_to_end(&mut bytes)?;
                Ok(bytes.into())
            }
        }
    }

    /// Writes the bytes to a sink; a file on disk is not read into memory as a whole.
    pub fn copy_to(&self, sink: &mut (dyn Write + Send)) -> io::Result<()> {
        match self {
            Self::Memory(bytes) => sink.write_all(bytes),
            Self::Disk(_) => io::copy(&mut self.open()?, sink).map(drop),
        }
    }

    /// Opens a file on disk, which must be a plain one: a link leads elsewhere, and a pipe would be waited for.
    pub(super) fn open(&self) -> io::Result<File> {
        use rustix::fs::{Mode, OFlags};
        let Self::Disk(path) = self else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        if file.metadata()?.is_file() {
            return Ok(file);
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} is not a plain file", path.display()),
        ))
    }
}

/// One file of a folder.
#[derive(Clone, Debug)]
pub struct FileEntry {
    pub path: RelativePath,
    pub executable: bool,
    pub size: u64,
    /// blake3 of the bytes.
    pub digest: Digest,
    pub content: Content,
}

impl FileEntry {
    pub fn from_bytes(path: RelativePath, bytes: Vec<u8>) -> Self {
        Self {
            path,
            executable: false,
            size: bytes.len() as u64,
            digest: Digest::of_bytes(&bytes),
            content: Content::Memory(bytes.into()),
        }
    }
}

/// A folder of files, sorted by path, and of the folders in it that are empty. No path comes twice, and none is a file and
/// a folder at once.
#[derive(Clone, Debug)]
pub struct Files {
    entries: Vec<FileEntry>,
    folders: Vec<RelativePath>,
}

impl Files {
    /// # Errors
    /// If the paths cannot exist together.
    pub fn new(entries: Vec<FileEntry>) -> Result<Self, PathFault> {
        Self::with_folders(entries, Vec::new())
    }

    /// Files and folders. A folder that holds something else of them need not be named, and is not kept.
    ///
    /// # Errors
    /// If the paths cannot exist together.
    pub fn with_folders(
        mut entries: Vec<FileEntry>,
        mut folders: Vec<RelativePath>,
    ) -> Result<Self, PathFault> {
        let filled: BTreeSet<RelativePath> =
            together(&entries, &folders)?.into_iter().cloned().collect();
        folders.retain(|folder| !filled.contains(folder));
        entries.sort_by(|left, right| left.path.cmp(&right.path));
        folders.sort();
        Ok(Self { entries, folders })
    }

    /// The files, sorted by path.
    pub fn entries(&self) -> &[FileEntry] {
        &self.entries
    }

    /// The folders that are empty, sorted.
    pub fn folders(&self) -> &[RelativePath] {
        &self.folders
    }

    /// The same folder with the contents of its files elsewhere.
    #[must_use]
    pub(super) fn with_contents(&self, content: impl Fn(&FileEntry) -> Content) -> Self {
        let moved = |entry: &FileEntry| FileEntry {
            content: content(entry),
            ..entry.clone()
        };
        Self {
            entries: self.entries.iter().map(moved).collect(),
            folders: self.folders.clone(),
        }
    }

    pub fn digest(&self) -> Digest {
        // Folders without empty ones keep the digest that they had before empty ones were kept.
        let mut writer = DigestWriter::new(if self.folders.is_empty() {
            "files"
        } else {
            "files and folders"
        });
        writer.number(self.entries.len() as u64);
        for entry in &self.entries {
            writer.text(entry.path.as_str());
            writer.flag(entry.executable);
            writer.digest(&entry.digest);
        }
        if !self.folders.is_empty() {
            writer.number(self.folders.len() as u64);
            self.folders
                .iter()
                .for_each(|folder| writer.text(folder.as_str()));
        }
        writer.finish()
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, ArtifactError> {
        let fields = vec![
            Field::new("path", DataType::Utf8, false),
            Field::new("executable", DataType::Boolean, false),
            Field::new("size", DataType::UInt64, false),
            Field::new("digest", DataType::Utf8, false),
        ];
        let files = self.entries.iter().map(|entry| Row {
            path: entry.path.as_str().to_owned(),
            executable: entry.executable,
            size: entry.size,
            digest: entry.digest,
        });
        let nothing = Digest::of_bytes(&[]);
        let folder = |path: &RelativePath| Row {
            path: format!("{}/", path.as_str()),
            executable: false,
            size: 0,
            digest: nothing,
        };
        let rows: Vec<Row> = files.chain(self.folders.iter().map(folder)).collect();
        columns::write(
            Schema::new(fields),
            vec![
                Arc::new(
                    rows.iter()
                        .map(|row| Some(row.path.as_str()))
                        .collect::<StringArray>(),
                ),
                Arc::new(
                    rows.iter()
                        .map(|row| Some(row.executable))
                        .collect::<BooleanArray>(),
                ),
                Arc::new(rows.iter().map(|row| row.size).collect::<UInt64Array>()),
                Arc::new(
                    rows.iter()
                        .map(|row| Some(row.digest.to_string()))
                        .collect::<StringArray>(),
                ),
            ],
            rows.len(),
            Metadata::new("files"),
        )
    }

    pub(super) fn decode(bytes: Vec<u8>, parts: &dyn Parts) -> Result<Self, ArtifactError> {
        let (mut entries, mut folders) = (Vec::new(), Vec::new());
        for row in Row::read_all(bytes)? {
            let Row {
                path,
                executable,
                size,
                digest,
            } = row;
            if let Some(path) = path.strip_suffix('/') {
                folders.push(RelativePath::new(path).map_err(refused)?);
                continue;
            }
            let path = RelativePath::new(path).map_err(refused)?;
            // Its content is looked for once all paths are known to be good.
            entries.push(FileEntry {
                path,
                executable,
                size,
                digest,
                content: Content::Disk(PathBuf::new()),
            });
        }
        let filled = together(&entries, &folders).map_err(refused)?;
        let is_sorted =
            entries.is_sorted_by(|left, right| left.path < right.path) && folders.is_sorted();
        if !is_sorted || !filled.is_empty() {
            return Err(ArtifactError::corrupt(
                "files",
                "its paths are not in order",
            ));
        }
        for entry in &mut entries {
            entry.content = Content::Disk(parts.blob(&entry.digest)?);
        }
        Ok(Self { entries, folders })
    }
}

fn refused(fault: PathFault) -> ArtifactError {
    ArtifactError::corrupt("files", fault.to_string())
}

/// Checks that files and folders can exist together, and names the folders that are not empty.
fn together<'a>(
    entries: &'a [FileEntry],
    folders: &'a [RelativePath],
) -> Result<Vec<&'a RelativePath>, PathFault> {
    let files = entries.iter().map(|entry| (&entry.path, Stands::File));
    let mut all: Vec<_> = files
        .chain(folders.iter().map(|folder| (folder, Stands::Folder)))
        .collect();
    check_together(&mut all)
}

/// A row of the list: a file, or an empty folder, whose path ends in `/`.
struct Row {
    path: String,
    executable: bool,
    size: u64,
    digest: Digest,
}

impl Row {
    fn read_all(bytes: Vec<u8>) -> Result<Vec<Self>, ArtifactError> {
        let (batch, _) = columns::read(bytes, "files")?;
        let corrupt = |reason: &str| ArtifactError::corrupt("files", reason);
        let missing = || corrupt("a column is missing");
        let paths = optional::<StringArray>(&batch, "path").ok_or_else(missing)?;
        let executable = optional::<BooleanArray>(&batch, "executable").ok_or_else(missing)?;
        let sizes = optional::<UInt64Array>(&batch, "size").ok_or_else(missing)?;
        let digests = optional::<StringArray>(&batch, "digest").ok_or_else(missing)?;
        let row = |row: usize| {
            Ok(Self {
                path: paths.value(row).to_owned(),
                executable: executable.value(row),
                size: sizes.value(row),
                digest: digests
                    .value(row)
                    .parse()
                    .map_err(|reason: String| corrupt(&reason))?,
            })
        };
        (0..batch.num_rows()).map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Blobs;

    impl Parts for Blobs {
        fn artifact(&self, digest: &Digest) -> Result<super::super::Artifact, ArtifactError> {
            Err(ArtifactError::MissingPart(digest.to_string()))
        }

        fn blob(&self, digest: &Digest) -> Result<PathBuf, ArtifactError> {
            Ok(PathBuf::from(digest.to_string()))
        }
    }

    fn path(text: &str) -> RelativePath {
        RelativePath::new(text).unwrap()
    }

    fn entry(name: &str) -> FileEntry {
        FileEntry::from_bytes(path(name), name.as_bytes().to_vec())
    }

    /// Rows as an attacker writes them.
    fn forged(paths: &[&str]) -> Vec<u8> {
        let fields = vec![
            Field::new("path", DataType::Utf8, false),
            Field::new("executable", DataType::Boolean, false),
            Field::new("size", DataType::UInt64, false),
            Field::new("digest", DataType::Utf8, false),
        ];
        let digest = Digest::of_bytes(b"evil").to_string();
        let arrays: Vec<arrow::array::ArrayRef> = vec![
            Arc::new(StringArray::from(paths.to_vec())),
            Arc::new(BooleanArray::from(vec![false; paths.len()])),
            Arc::new(UInt64Array::from(vec![4; paths.len()])),
            Arc::new(StringArray::from(vec![digest; paths.len()])),
        ];
        columns::write(
            Schema::new(fields),
            arrays,
            paths.len(),
            Metadata::new("files"),
        )
        .unwrap()
    }

    #[test]
    fn a_forged_list_names_the_path_that_leads_elsewhere() {
        for (paths, expected) in [
            (
                &["fine", "../../x\x1b[2J"][..],
                r"`../../x\u{1b}[2J` has a part `..`",
            ),
            (&["/tmp/x"], "`/tmp/x` is absolute"),
            (&["a", "a/b"], "`a` is a file and a folder at once"),
            (&["a", "a"], "`a` comes twice"),
            (&[""], "`` is empty"),
            (&["/"], "`` is empty"),
            (&["a//"], "`a/` ends in `/`"),
            (&["../"], "`..` has a part `..`"),
            (&["b", "a"], "not in order"),
            (&["a/", "a/b"], "not in order"),
        ] {
            let error = Files::decode(forged(paths), &Blobs).unwrap_err();
            assert!(
                matches!(error, ArtifactError::Corrupt { .. })
                    && error.to_string().contains(expected),
                "{error}"
            );
        }
        assert_eq!(
            Files::decode(forged(&["a", "b/c"]), &Blobs)
                .unwrap()
                .entries()
                .len(),
            2
        );
    }

    /// The digest as it was before empty folders were kept, since keys are made of it.
    #[test]
    fn what_was_stored_stays_as_it_was() {
        let files = Files::new(vec![entry("b/c"), entry("a")]).unwrap();
        assert_eq!(
            files.digest().to_string(),
            "532a03ed7bf1662dc38147bf4eb7516a6ecb8e2d3d8559c65661490ca648fbfa"
        );
    }

    #[test]
    fn empty_folders_come_back() {
        let files = Files::new(vec![entry("b/c")]).unwrap();
        let folders = ["d", "b", "e/f", "e", "b/x"]
            .into_iter()
            .map(path)
            .collect();
        let with = Files::with_folders(vec![entry("b/c")], folders).unwrap();
        let names: Vec<&str> = with.folders().iter().map(RelativePath::as_str).collect();
        assert_eq!(names, ["b/x", "d", "e/f"]);
        let again = Files::decode(with.encode().unwrap(), &Blobs).unwrap();
        assert_eq!(
            (again.digest(), again.folders()),
            (with.digest(), with.folders())
        );
        assert_ne!(with.digest(), files.digest());
        let only = Files::with_folders(vec![], vec![path("a")]).unwrap();
        assert_eq!(
            Files::decode(only.encode().unwrap(), &Blobs)
                .unwrap()
                .folders(),
            only.folders()
        );
    }
}
