//! The folder of a program: `in/` with its inputs, `files/` with copies of what was declared, and the places of its
//! outputs. Every path that the program is given is relative to it, so that it is the same in each run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde_json::json;

use super::CommandParams;
use super::template::{Part, parts};
use crate::exchange::{give, without_labels};
use crate::running::{CHECKPOINTS, JOB, Job, PACKAGE, lay_out_package};
use contract::{FileRequest, Inputs, Stage, StageContext, Trouble};

/// The folder of the inputs.
pub(super) const INPUTS: &str = "in";

/// The folder of declared files. Where there are any, no output lies there.
pub(super) const FILES: &str = "files";

/// Names of files are at most this long, in bytes; an ending may follow.
const LONGEST: usize = 200;

/// Where everything is.
#[derive(Debug)]
pub(super) struct Layout {
    folder: PathBuf,
    /// By placeholder, such as `in.raw`.
    paths: BTreeMap<String, String>,
    /// What the program was given: folders of inputs and declared files, if there are any, the job file and our package.
    given: Vec<&'static str>,
}

impl Layout {
    /// The folder that the program runs in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether a path below the folder belongs to what the program was given.
    pub fn is_given(&self, path: &Path) -> bool {
        self.given.iter().any(|folder| path.starts_with(folder))
    }

    /// An argument with paths in the place of placeholders.
    pub fn fill(&self, text: &str) -> Result<String, Trouble> {
        let mut filled = String::with_capacity(text.len());
        for part in parts(text) {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Placeholder(name) => {
                    let Some(path) = self.paths.get(name) else {
                        return Err(self.unknown(name));
                    };
                    filled.push_str(path);
                }
            }
        }
        Ok(filled)
    }

    fn unknown(&self, name: &str) -> Trouble {
        let known = self.paths.keys().map(|name| format!("{{{name}}}"));
        let known: Vec<String> = known.collect();
        Trouble::new(format!("`{{{name}}}` is not an input of this stage"))
            .hint(format!("there are {}", known.join(", ")))
    }
}

/// Writes inputs and files, and makes the folders that outputs go to.
pub(super) fn lay_out(
    params: &CommandParams,
    inputs: &Inputs,
    context: &StageContext<'_>,
) -> Result<Layout, Trouble> {
    let folder = context.host.scratch()?;
    let mut paths = BTreeMap::new();
    let mut job = Job::new(params.params.clone(), context);
    lay_out_inputs(params, inputs, folder, &mut paths, &mut job, context)?;
    lay_out_files(params, &folder.join(FILES), &mut paths, context)?;
    for (name, output) in &params.outputs {
        let path: PathBuf = output.path.components().collect();
        if let Some(parent) = path.parent() {
            let parent = folder.join(parent);
            fs::create_dir_all(&parent).map_err(cannot("make the folder of an output", &parent))?;
        }
        let mut about = json!({"path": path.to_string_lossy(), "kind": output.kind});
        if let Some(of) = &output.of {
            about["of"] = of.as_str().into();
        }
        job.outputs.insert(name.clone(), about);
        paths.insert(format!("out.{name}"), as_argument(&path));
    }
    lay_out_package(folder)?;
    let mut given = vec![JOB, PACKAGE];
    if params.checkpoints {
        job.checkpoints = Some(CHECKPOINTS);
        given.push(CHECKPOINTS);
    }
    job.write(folder)?;
    for (kind, folder) in [("in.", INPUTS), ("file.", FILES)] {
        // Where nothing is given, the program may have an output of this name.
        if paths
            .keys()
            .any(|placeholder| placeholder.starts_with(kind))
        {
            given.push(folder);
        }
    }
    Ok(Layout {
        folder: folder.to_owned(),
        paths,
        given,
    })
}

/// A relative path as it stands in an argument. One that begins with a dash would be taken for an option.
fn as_argument(path: &Path) -> String {
    let text = path.to_string_lossy();
    if text.starts_with('-') {
        format!("./{text}")
    } else {
        text.into_owned()
    }
}

fn lay_out_inputs(
    params: &CommandParams,
    inputs: &Inputs,
    folder: &Path,
    paths: &mut BTreeMap<String, String>,
    job: &mut Job,
    context: &StageContext<'_>,
) -> Result<(), Trouble> {
    let inputs = inputs.all("inputs");
    if !inputs.is_empty() {
        let inside = folder.join(INPUTS);
        fs::create_dir_all(&inside).map_err(cannot("make", &inside))?;
    }
    let mut taken = BTreeSet::new();
    for (name, artifact) in inputs {
        context.check_cancelled()?;
        let spec = params.inputs.get(name).cloned().unwrap_or_default();
        let artifact = without_labels(name, artifact, spec.splits.as_deref(), &spec.labels)?;
        let stem = unused(&file_name(name), &mut taken);
        let stem = format!("{INPUTS}/{stem}");
        let given = give(name, &artifact, spec.form, folder, &stem)?;
        paths.insert(format!("in.{name}"), as_argument(Path::new(&given.path)));
        job.inputs.insert(name.clone(), given.about);
    }
    Ok(())
}

/// A name in letters that no shell reads another way. Names that differ stay different as long as they are not too long.
fn file_name(name: &str) -> String {
    let mut safe = String::with_capacity(name.len());
    for (index, byte) in name.bytes().enumerate() {
        let is_plain = byte.is_ascii_alphanumeric() || b"_-.=,+:@".contains(&byte);
        // A leading dot hides a file, a leading dash makes an option of its name.
        let starts_oddly = index == 0 && (byte == b'.' || byte == b'-');
        if is_plain && !starts_oddly {
            safe.push(char::from(byte));
        } else {
            let _ = write!(safe, "%{byte:02X}");
        }
    }
    safe.truncate(LONGEST);
    safe
}

/// The name, or the first of `name~2`, `name~3`, … that is free.
fn unused(name: &str, taken: &mut BTreeSet<String>) -> String {
    let mut candidate = name.to_owned();
    let mut number = 2;
    while !taken.insert(candidate.clone()) {
        candidate = format!("{name}~{number}");
        number += 1;
    }
    candidate
}

/// Copies the declared files. Below the folder they lie as they do beside the pipeline, so that a declared module is found
/// beside the script that imports it; what is named by an absolute path, or lies above, gets its own folder.
fn lay_out_files(
    params: &CommandParams,
    folder: &Path,
    paths: &mut BTreeMap<String, String>,
    context: &StageContext<'_>,
) -> Result<(), Trouble> {
    let mut done = BTreeSet::new();
    let mut taken = folders_beside(&params.files);
    for request in super::Command::files(params) {
        context.check_cancelled()?;
        let name = &request.name;
        let below = context.host.names_below(name);
        let place = place(&request, below.is_empty(), &mut taken);
        for (name, target) in asked_for(name, below, &folder.join(&place)) {
            // Two patterns may both match a file; it is copied once.
            if done.insert(target.clone()) {
                let parent = target.parent().unwrap_or(folder);
                fs::create_dir_all(parent).map_err(cannot("make", parent))?;
                context.copy_file(&name, &target)?;
            }
        }
        let path = Path::new(FILES).join(place);
        paths.insert(format!("file.{name}"), as_argument(&path));
    }
    Ok(())
}

/// The names under which the engine has the files of a request, each with the place of its copy.
fn asked_for(name: &str, below: Vec<String>, place: &Path) -> Vec<(String, PathBuf)> {
    if below.is_empty() {
        return vec![(name.to_owned(), place.to_owned())];
    }
    let below = below.into_iter();
    below
        .map(|below| (format!("{name}/{below}"), place.join(below)))
        .collect()
}

/// What declared paths begin with, so that no folder of a file that lies elsewhere is called so.
fn folders_beside(files: &BTreeMap<String, PathBuf>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for path in files.values() {
        if let Some(first) = plain(path).components().next() {
            names.insert(first.as_os_str().to_string_lossy().into_owned());
        }
    }
    names
}

/// The path without parts that lead nowhere.
pub(super) fn plain(path: &Path) -> PathBuf {
    let parts = path.components();
    parts.filter(|part| *part != Component::CurDir).collect()
}

/// Whether a path leads to something below a folder, with no way out of it.
pub(super) fn is_inside(path: &Path) -> bool {
    let mut parts = path.components();
    parts.all(|part| matches!(part, Component::Normal(_)))
}

/// Where a declared file or folder goes below the folder of declared files. Two that lie at different places get different
/// ones: `taken` holds the names that are used.
fn place(request: &FileRequest, is_file: bool, taken: &mut BTreeSet<String>) -> PathBuf {
    let path = if is_file {
        plain(&request.path)
    } else {
        plain(&request.folder())
    };
    if is_inside(&path) && !path.as_os_str().is_empty() {
        return path;
    }
    let mut own = file_name(&request.name);
    while !taken.insert(own.clone()) {
        own.push('~');
    }
    match path.file_name() {
        Some(base) => Path::new(&own).join(base),
        None => own.into(),
    }
}

/// Says which file it was.
pub(super) fn cannot(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Trouble {
    let message = format!("cannot {doing} {}", path.display());
    move |error| Trouble::new(message).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_plain_and_distinct() {
        let names = [
            "raw",
            "machine=m-1,lr=1e-4",
            "a/b",
            "a_b",
            "a%2Fb",
            "a b",
            "it's",
            ".hidden",
            "-rf",
            "größe",
            "a\nb",
        ];
        let mut seen = BTreeSet::new();
        for name in names {
            let safe = file_name(name);
            assert!(
                safe.bytes()
                    .all(|byte| byte.is_ascii_graphic() && !b"'\"\\/ $`".contains(&byte)),
                "{safe}"
            );
            assert!(!safe.starts_with(['-', '.']), "{safe}");
            assert!(seen.insert(safe), "{name}");
        }
        assert_eq!(file_name("machine=m-1,lr=1e-4"), "machine=m-1,lr=1e-4");
        let mut taken = BTreeSet::new();
        let long = file_name(&"x".repeat(1000));
        let both = [unused(&long, &mut taken), unused(&long, &mut taken)];
        assert!(both[0] != both[1] && both.iter().all(|name| name.len() < 255));
    }

    fn placed(name: &str, path: &str, is_file: bool) -> PathBuf {
        let all = BTreeMap::from([
            (name.to_owned(), PathBuf::from(path)),
            ("other".to_owned(), "shared/x".into()),
        ]);
        place(
            &FileRequest::new(name, path).or_many(),
            is_file,
            &mut folders_beside(&all),
        )
    }

    #[test]
    fn files_from_elsewhere_never_share_a_place() {
        let all = BTreeMap::from([
            ("lib".to_owned(), "/opt/s.py".into()),
            ("x".to_owned(), "./lib/s.py".into()),
        ]);
        let mut taken = folders_beside(&all);
        let mut placed =
            |name: &str, path: &str| place(&FileRequest::new(name, path), true, &mut taken);
        assert_eq!(placed("lib", "/opt/s.py"), Path::new("lib~/s.py"));
        assert_eq!(placed("x", "./lib/s.py"), Path::new("lib/s.py"));
        let long = |end: char| format!("{}{end}", "n".repeat(400));
        assert_ne!(
            placed(&long('a'), "/a/data.csv"),
            placed(&long('b'), "/b/data.csv")
        );
    }

    #[test]
    fn declared_files_keep_their_places_beside_each_other() {
        assert_eq!(placed("s", "s.py", true), Path::new("s.py"));
        assert_eq!(placed("s", "./src/s.py", true), Path::new("src/s.py"));
        assert_eq!(placed("lib", "src/lib", false), Path::new("src/lib"));
        assert_eq!(placed("lib", "src/**/*.py", false), Path::new("src"));
        assert_eq!(placed("odd", "data[1].csv", true), Path::new("data[1].csv"));
        assert_eq!(placed("all", ".", false), Path::new("all"));
        assert_eq!(placed("all", "*.py", false), Path::new("all"));
        assert_eq!(placed("up", "../x/s.py", true), Path::new("up/s.py"));
        assert_eq!(placed("abs", "/opt/x/s.py", true), Path::new("abs/s.py"));
        assert_eq!(
            placed("shared", "/opt/x/s.py", true),
            Path::new("shared~/s.py")
        );
    }
}
