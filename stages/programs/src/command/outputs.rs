//! Collects what a program wrote. Only plain files and folders are taken, under their exact names; nothing is followed, and
//! nothing is opened that a read might wait for.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::error::Category;

use super::layout::{Layout, cannot};
use super::typed;
use super::{CommandParams, OutputKind};
use crate::exchange::{self, Frame};
use contract::artifact::{
    Artifact, Content, Digest, Direction, FileEntry, Files, Images, Metric, Metrics, RelativePath,
};
use contract::{Inputs, Outputs, Trouble};

/// A file of metrics is not longer.
const LONGEST_METRICS: u64 = 16 << 20;

/// The declared outputs; anything else that was written is an error.
pub(super) fn collect(
    params: &CommandParams,
    inputs: &Inputs,
    layout: &Layout,
) -> Result<Outputs, Trouble> {
    let folder = layout.folder();
    let written = Written::below(folder, &|path| layout.is_given(path))?;
    for (path, sort) in &written.found {
        let mut declared = params.outputs.values();
        // An empty folder beside the outputs does no harm; a file that nobody keeps would be missed.
        if *sort != Sort::Folder && !declared.any(|output| path.starts_with(&output.path)) {
            let message = format!("the command wrote `{}`, which is not declared", shown(path));
            let hint = "declare it below `outputs`, or write temporary files to TMPDIR";
            return Err(Trouble::new(message).hint(hint));
        }
    }
    let mut outputs = Outputs::default();
    for (name, output) in &params.outputs {
        let path: PathBuf = output.path.components().collect();
        let Some(sort) = written.found.get(&path) else {
            let message = format!("the command did not write its output `{name}`");
            let hint = format!("`{{out.{name}}}` in `run` is its path");
            return Err(Trouble::new(message).at(&output.path, None).hint(hint));
        };
        let artifact: Artifact = match output.kind {
            OutputKind::Files => files(folder, &path, *sort, &written)?.into(),
            OutputKind::Metrics => metrics(folder, &path, *sort)?.into(),
            OutputKind::Images => images(folder, &path, &written)?.into(),
            _ => {
                let Sort::File { .. } = sort else {
                    return Err(not_kept(&folder.join(&path), &path, *sort));
                };
                let frame = Frame::read(&folder.join(&path), &output.path)?;
                typed::artifact(params, name, output, &frame, inputs)?
            }
        };
        outputs = outputs.with(name, artifact);
    }
    Ok(outputs)
}

/// The pictures below an output.
fn images(folder: &Path, path: &Path, written: &Written) -> Result<Images, Trouble> {
    let mut paths = Vec::new();
    for (below, sort) in written.found.range(path.to_owned()..) {
        let Ok(inside) = below.strip_prefix(path) else {
            break;
        };
        match sort {
            Sort::Folder => {}
            Sort::File { .. } => paths.push(inside.to_owned()),
            other => return Err(not_kept(&folder.join(below), below, *other)),
        }
    }
    exchange::images(&folder.join(path), &paths)
}

/// What something in a folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    File { executable: bool },
    Folder,
    Other(&'static str),
    Link,
}

impl Sort {
    fn of(metadata: &Metadata) -> Self {
        let sort = metadata.file_type();
        match () {
            () if sort.is_file() => Self::File {
                executable: metadata.permissions().mode() & 0o111 != 0,
            },
            () if sort.is_dir() => Self::Folder,
            () if sort.is_symlink() => Self::Link,
            () if sort.is_fifo() => Self::Other("a named pipe"),
            () if sort.is_socket() => Self::Other("a socket"),
            () => Self::Other("a device"),
        }
    }
}

/// Everything below a folder, by its path from there.
struct Written {
    found: BTreeMap<PathBuf, Sort>,
}

impl Written {
    fn below(folder: &Path, is_given: &dyn Fn(&Path) -> bool) -> Result<Self, Trouble> {
        let (mut found, mut open) = (BTreeMap::new(), vec![PathBuf::new()]);
        while let Some(below) = open.pop() {
            let place = folder.join(&below);
            for entry in fs::read_dir(&place).map_err(cannot("list", &place))? {
                let path = below.join(entry.map_err(cannot("list", &place))?.file_name());
                if is_given(&path) {
                    continue;
                }
                let place = folder.join(&path);
                let metadata = fs::symlink_metadata(&place).map_err(cannot("look at", &place))?;
                let sort = Sort::of(&metadata);
                if sort == Sort::Folder {
                    make_readable(&place, &metadata)?;
                    open.push(path.clone());
                }
                found.insert(path, sort);
            }
        }
        Ok(Self { found })
    }
}

/// Permissions of folders are not kept, so one that was closed is opened: to be read, and to be removed in the end.
fn make_readable(folder: &Path, metadata: &Metadata) -> Result<(), Trouble> {
    const ALL: u32 = 0o700;
    let mode = metadata.permissions().mode();
    if mode & ALL == ALL {
        return Ok(());
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(mode | ALL))
        .map_err(cannot("open", folder))
}

/// A path in a message, whatever its bytes are.
fn shown(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let mut text = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

fn files(folder: &Path, path: &Path, sort: Sort, written: &Written) -> Result<Files, Trouble> {
    if sort != Sort::Folder {
        let root = path.parent().unwrap_or(path);
        return Ok(Files::new(vec![entry(folder, root, path, sort)?])?);
    }
    let (mut entries, mut folders) = (Vec::new(), Vec::new());
    // The folder itself comes first, and behind it everything below.
    for (below, sort) in written.found.range(path.to_owned()..).skip(1) {
        if !below.starts_with(path) {
            break;
        }
        match sort {
            Sort::Folder => folders.push(relative(path, below)?),
            other => entries.push(entry(folder, path, below, *other)?),
        }
    }
    Ok(Files::with_folders(entries, folders)?)
}

/// The exact name of something below an output.
fn relative(root: &Path, path: &Path) -> Result<RelativePath, Trouble> {
    if path.to_str().is_none() {
        let path = shown(path);
        let message = format!("the command wrote `{path}`, whose name is not UTF-8");
        let hint = "let the program give it another name, or remove it";
        return Err(Trouble::new(message).hint(hint));
    }
    let below = path.strip_prefix(root).unwrap_or(path);
    Ok(RelativePath::from_path(below)?)
}

fn entry(folder: &Path, root: &Path, path: &Path, sort: Sort) -> Result<FileEntry, Trouble> {
    let place = folder.join(path);
    let Sort::File { executable } = sort else {
        return Err(not_kept(&place, path, sort));
    };
    let name = relative(root, path)?;
    let (digest, size) = Digest::of_reader(open(&place, path)?).map_err(unreadable(path))?;
    // The scratch folder stays until the outputs are stored.
    Ok(FileEntry {
        path: name,
        executable,
        size,
        digest,
        content: Content::Disk(place),
    })
}

/// Opens a plain file; nothing else, should it have become something else.
fn open(place: &Path, path: &Path) -> Result<File, Trouble> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(place, flags, Mode::empty())
        .map_err(|error| unreadable(path)(error.into()))?;
    Ok(File::from(file))
}

fn unreadable(path: &Path) -> impl FnOnce(std::io::Error) -> Trouble {
    let message = format!("cannot read `{}`, which the command wrote", shown(path));
    move |error| Trouble::new(message).because(error)
}

/// Why something is not a part of an output.
fn not_kept(place: &Path, path: &Path, sort: Sort) -> Trouble {
    let path = shown(path);
    let hint =
        "an output holds plain files and folders; let the program remove the others before it ends";
    match sort {
        Sort::Link => {
            let target = fs::read_link(place).unwrap_or_else(|_| "something".into());
            let target = shown(&target);
            let nothing = if place.exists() {
                ""
            } else {
                ", where nothing is"
            };
            let hint = "links are not kept, as they may lead elsewhere or nowhere on another machine; let the program copy \
                        what is meant, or remove the link before it ends";
            Trouble::new(format!("`{path}` is a link to `{target}`{nothing}")).hint(hint)
        }
        Sort::Other(what) => {
            Trouble::new(format!("`{path}` is {what}, not a plain file")).hint(hint)
        }
        Sort::Folder => Trouble::new(format!("`{path}` is a folder, not a plain file")),
        Sort::File { .. } => Trouble::new(format!("`{path}` cannot be kept")),
    }
}

fn metrics(folder: &Path, path: &Path, sort: Sort) -> Result<Metrics, Trouble> {
    let place = folder.join(path);
    let name = PathBuf::from(path.file_name().unwrap_or_default());
    let Sort::File { .. } = sort else {
        return Err(not_kept(&place, path, sort));
    };
    let mut file = open(&place, path)?;
    let bytes = file.metadata().map_err(unreadable(path))?.len();
    if bytes > LONGEST_METRICS {
        let message = format!("a file of metrics with {bytes} bytes is too long");
        return Err(Trouble::new(message)
            .at(name, None)
            .hint("metrics are a JSON object of numbers: `{\"f1\": 0.5}`"));
    }
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut file, &mut text).map_err(unreadable(path))?;
    let values: Values = serde_json::from_slice(&text)
        .map_err(|error| not_metrics(&text, &error).at(name, Some(error.line())))?;
    let mut entries = Vec::with_capacity(values.0.len());
    for (name, figure) in values.0 {
        entries.push(figure.into_metric(name));
    }
    Ok(Metrics { entries })
}

/// Why a text is not metrics, in words for people who do not know the parser.
fn not_metrics(text: &[u8], error: &serde_json::Error) -> Trouble {
    const FORM: &str = "write `{\"f1\": 0.5}`; null stands for a metric that is undefined";
    let shown = String::from_utf8_lossy(text);
    let failed = Trouble::new("metrics must be a JSON object of numbers");
    if text.iter().all(u8::is_ascii_whitespace) {
        return failed.because("the file is empty").hint(FORM);
    }
    if shown.contains("NaN") || shown.contains("Infinity") {
        let hint = "JSON has no NaN and no Infinity: write null for a metric that is undefined";
        return failed.because("it contains NaN or Infinity").hint(hint);
    }
    let reason = match error.classify() {
        Category::Eof => "the file ends too early".to_owned(),
        Category::Syntax => format!("it is not valid JSON at column {}", error.column()),
        Category::Data | Category::Io => {
            // The parser adds the place, which the message has already.
            let told = error.to_string();
            let told = told.split(" at line ").next().unwrap_or_default();
            told.replace("invalid type: ", "found ")
                .replace("f64", "a number")
        }
    };
    failed.because(reason).hint(FORM)
}

/// A number, or one with what must be known to read it.
enum Figure {
    Plain(Option<f64>),
    Described(Described),
}

impl<'de> Deserialize<'de> for Figure {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl<'de> Visitor<'de> for Number {
            type Value = Figure;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("a number")
            }

            fn visit_f64<E>(self, value: f64) -> Result<Figure, E> {
                Ok(Figure::Plain(Some(value)))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Figure, E> {
                Ok(Figure::Plain(Some(value as f64)))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Figure, E> {
                Ok(Figure::Plain(Some(value as f64)))
            }

            fn visit_unit<E>(self) -> Result<Figure, E> {
                Ok(Figure::Plain(None))
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Figure, M::Error> {
                let described = MapAccessDeserializer::new(map);
                Described::deserialize(described).map(Figure::Described)
            }
        }
        deserializer.deserialize_any(Number)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    value: Option<f64>,
    #[serde(default = "unknown_direction")]
    direction: Direction,
    #[serde(default)]
    oracle: bool,
    #[serde(default)]
    inflating: bool,
    #[serde(default)]
    caveat: String,
}

/// Where the file does not say which way is better.
fn unknown_direction() -> Direction {
    Direction::Neither
}

impl Figure {
    fn into_metric(self, name: String) -> Metric {
        let described = match self {
            Self::Described(described) => described,
            Self::Plain(value) => Described {
                value,
                direction: unknown_direction(),
                oracle: false,
                inflating: false,
                caveat: String::new(),
            },
        };
        Metric {
            name,
            value: described.value,
            direction: described.direction,
            oracle: described.oracle,
            inflating: described.inflating,
            caveat: described.caveat,
        }
    }
}

/// Figures by name, each name once.
struct Values(BTreeMap<String, Figure>);

impl<'de> serde::Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Values;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object of numbers")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Values, M::Error> {
                let mut values = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, Figure>()? {
                    if values.insert(name.clone(), value).is_some() {
                        let message = format!("there are two metrics called `{name}`");
                        return Err(M::Error::custom(message));
                    }
                }
                Ok(Values(values))
            }
        }
        deserializer.deserialize_map(Object)
    }
}
