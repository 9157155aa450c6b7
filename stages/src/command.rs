//! The stage kind `command`: any program as a stage. It runs in an empty folder that holds its inputs as files;
//! it sees only the environment that was declared, and it may write only the outputs that were declared.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::artifact::{Artifact, Content, Digest, Direction, FileEntry, Files, Metric, Metrics, RelativePath};
use crate::contract::{FileRequest, Inputs, Numerics, Outputs, Port, Stage, StageContext, StageError, Threads};

/// How often a running program is looked at, for its end and for the wish to stop it.
const POLL: Duration = Duration::from_millis(10);

/// How soon a program is looked at again that has closed its output: most are about to end then.
const FIRST_LOOK: Duration = Duration::from_micros(100);

/// Characters of the program's messages that an error repeats.
const TAIL: usize = 2000;

/// Parameters of `command`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandParams {
    /// The program and its arguments; no shell is involved. `{in.NAME}`, `{file.NAME}` and `{out.NAME}` become paths.
    #[schemars(length(min = 1))]
    pub run: Vec<String>,
    /// Files that the program reads, such as a script, by name. Their content enters the key.
    #[serde(default)]
    pub files: BTreeMap<String, PathBuf>,
    /// What the program writes, by output name.
    #[schemars(length(min = 1))]
    pub outputs: BTreeMap<String, OutputSpec>,
    /// Environment variables with their values.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Names of variables that are passed on from outside; their values enter the key.
    #[serde(default)]
    pub pass_env: BTreeSet<String>,
}

/// One declared output.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputSpec {
    /// Where the program writes it: a file or a folder, relative to the folder it runs in.
    pub path: PathBuf,
    /// What it becomes.
    #[serde(default)]
    pub kind: OutputKind,
}

/// What a written file becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OutputKind {
    /// A file or a folder, as it is.
    #[default]
    Files,
    /// A JSON object of numbers: `{"f1": 0.5}`.
    Metrics,
}

/// Any program as a stage.
pub struct Command;

impl Stage for Command {
    type Params = CommandParams;

    const NAME: &'static str = "command";
    const VERSION: u32 = 1;
    const DOC: &'static str = "Runs any program with declared inputs, outputs and environment.";
    const NUMERICS: Numerics = Numerics::Exact;
    const THREADS: Threads = Threads::One;
    const SEEDED: bool = false;
    const PORTS_VARY: bool = true;
    const EXAMPLE: &'static str =
        r#"{"run": ["cp", "{in.scores}", "{out.copy}"], "outputs": {"copy": {"path": "copy"}}}"#;

    fn inputs(_: &CommandParams) -> Vec<Port> {
        vec![Port::any("inputs", "Each becomes a file, or a folder for Files, under its name.").many().optional()]
    }

    fn outputs(params: &CommandParams) -> Vec<Port> {
        let port = |(name, output): (&String, &OutputSpec)| {
            let kind = match output.kind {
                OutputKind::Files => crate::artifact::ArtifactKind::Files,
                OutputKind::Metrics => crate::artifact::ArtifactKind::Metrics,
            };
            Port::new(name.clone(), kind, "What the program wrote.")
        };
        params.outputs.iter().map(port).collect()
    }

    fn check(params: &CommandParams) -> Result<(), (String, String)> {
        for (name, output) in &params.outputs {
            let inside = output.path.components().all(|part| matches!(part, Component::Normal(_)));
            if !inside || output.path.as_os_str().is_empty() || output.path.starts_with("in") {
                let reason = format!("`{}` is no path below the folder of the command", output.path.display());
                return Err((format!("outputs.{name}.path"), reason));
            }
        }
        for argument in &params.run {
            for name in placeholders(argument) {
                let known = match name.split_once('.') {
                    Some(("out", output)) => params.outputs.contains_key(output),
                    Some(("file", file)) => params.files.contains_key(file),
                    Some(("in", _)) => true,
                    _ => false,
                };
                if !known {
                    return Err(("run".to_owned(), format!("`{{{name}}}` names no input, file or output")));
                }
            }
        }
        Ok(())
    }

    fn files(params: &CommandParams) -> Vec<FileRequest> {
        params.files.iter().map(|(name, path)| FileRequest::new(name, path)).collect()
    }

    fn environment(params: &CommandParams) -> Vec<String> {
        params.pass_env.iter().cloned().collect()
    }

    fn run(params: &CommandParams, inputs: &Inputs, context: &StageContext<'_>) -> Result<Outputs, StageError> {
        let folder = context.host.scratch()?;
        let paths = lay_out(params, inputs, context, folder)?;
        let mut process = Process::new(fill(&params.run[0], &paths)?);
        for argument in &params.run[1..] {
            process.arg(fill(argument, &paths)?);
        }
        process.current_dir(folder).env_clear().stdin(Stdio::null());
        // Without these most programs do not start; they are the machine's, like the program itself.
        for name in ["PATH", "HOME", "LANG", "TMPDIR"] {
            process.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        for name in &params.pass_env {
            process.envs(context.host.environment(name).map(|value| (name, value)));
        }
        process.envs(&params.env);
        run_to_end(process, params, context)?;
        collect(params, folder, &paths)
    }
}

/// Names in braces that begin with `in.`, `out.` or `file.`.
fn placeholders(text: &str) -> Vec<&str> {
    let ends = text.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0));
    ends.filter(|name| ["in.", "out.", "file."].iter().any(|prefix| name.starts_with(prefix))).collect()
}

fn fill(text: &str, paths: &BTreeMap<String, PathBuf>) -> Result<String, StageError> {
    let mut filled = text.to_owned();
    for name in placeholders(text) {
        let path = paths.get(name).ok_or_else(|| {
            let known: Vec<&str> = paths.keys().map(String::as_str).collect();
            StageError::new(format!("`{{{name}}}` names no input of this stage"))
                .hint(format!("there are {}", known.join(", ")))
        })?;
        filled = filled.replace(&format!("{{{name}}}"), &path.display().to_string());
    }
    Ok(filled)
}

/// Writes the inputs below `in/` and says where everything is.
fn lay_out(
    params: &CommandParams,
    inputs: &Inputs,
    context: &StageContext<'_>,
    folder: &Path,
) -> Result<BTreeMap<String, PathBuf>, StageError> {
    let mut paths = BTreeMap::new();
    let inside = folder.join("in");
    for (name, artifact) in inputs.all("inputs") {
        let file = name.replace(['/', '\\'], "_");
        let path = match artifact {
            Artifact::Files(files) => {
                let path = inside.join(&file);
                fs::create_dir_all(&inside)?;
                files.lay_out(&path)?;
                path
            }
            other => {
                fs::create_dir_all(&inside)?;
                let path = inside.join(format!("{file}.{}", other.kind().extension()));
                let mut sink = BufWriter::new(File::create(&path)?);
                other.encode_to(&mut sink)?;
                sink.flush()?;
                path
            }
        };
        paths.insert(format!("in.{name}"), path);
    }
    for name in params.files.keys() {
        paths.insert(format!("file.{name}"), fs::canonicalize(context.file(name)?)?);
    }
    for (name, output) in &params.outputs {
        let path = folder.join(&output.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        paths.insert(format!("out.{name}"), path);
    }
    Ok(paths)
}

#[cfg(unix)]
fn is_executable(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o111 != 0
}

/// Waits for the program; stops it when the run is stopped.
fn run_to_end(mut process: Process, params: &CommandParams, context: &StageContext<'_>) -> Result<(), StageError> {
    use std::os::unix::process::CommandExt;
    // A group of its own, so that a stop reaches what the program started.
    process.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = process.spawn().map_err(|error| {
        StageError::new(format!("cannot start `{}`", params.run[0]))
            .because(error)
            .hint("the first item of `run` is a program on PATH, or a path; no shell is involved")
    })?;
    let (closing, closed) = channel();
    let output = drain(child.stdout.take(), closing.clone());
    let messages = drain(child.stderr.take(), closing);
    let mut pause = FIRST_LOOK;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if context.host.is_cancelled() {
            stop(&mut child);
            return Err(StageError::cancelled());
        }
        // Its streams close when it ends, which is noticed at once; a program may also close them and go on.
        if closed.recv_timeout(POLL) == Err(RecvTimeoutError::Disconnected) {
            std::thread::sleep(pause);
            pause = (pause * 2).min(POLL);
        }
    };
    let (output, messages) = (output.join().unwrap_or_default(), messages.join().unwrap_or_default());
    for line in output.lines().chain(messages.lines()) {
        context.host.note(line);
    }
    if status.success() {
        return Ok(());
    }
    let text = if messages.trim().is_empty() { output } else { messages };
    let start = text.len().saturating_sub(TAIL);
    let start = (start..text.len()).find(|index| text.is_char_boundary(*index)).unwrap_or(0);
    Err(StageError::new(format!("`{}` ended with {status}", params.run.join(" ")))
        .because(text[start..].trim().to_owned()))
}

/// Reads a stream to its end on a thread of its own, and lets go of `closing` then.
fn drain(stream: Option<impl Read + Send + 'static>, closing: Sender<()>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let _closing = closing;
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            let _ = stream.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Asks the whole group to end, and ends it if it does not.
fn stop(child: &mut Child) {
    let group = rustix::process::Pid::from_child(child);
    let _ = rustix::process::kill_process_group(group, rustix::process::Signal::TERM);
    for _ in 0..100 {
        if matches!(child.try_wait(), Ok(Some(_))) {
            return;
        }
        std::thread::sleep(POLL);
    }
    let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    let _ = child.wait();
}

/// Reads the declared outputs; anything else that was written is an error.
fn collect(params: &CommandParams, folder: &Path, paths: &BTreeMap<String, PathBuf>) -> Result<Outputs, StageError> {
    let declared: Vec<PathBuf> = params.outputs.values().map(|output| folder.join(&output.path)).collect();
    for path in files_below(folder)? {
        let expected = path.starts_with(folder.join("in")) || declared.iter().any(|output| path.starts_with(output));
        if !expected {
            let path = path.strip_prefix(folder).unwrap_or(&path).display().to_string();
            return Err(StageError::new(format!("the command wrote `{path}`, which is not declared"))
                .hint("declare it below `outputs`, or write temporary files to TMPDIR"));
        }
    }
    let mut outputs = Outputs::default();
    for (name, output) in &params.outputs {
        let path = &paths[&format!("out.{name}")];
        if !path.exists() {
            return Err(StageError::new(format!("the command did not write its output `{name}`"))
                .at(&output.path, None)
                .hint(format!("`{{out.{name}}}` in `run` is its path")));
        }
        outputs = match output.kind {
            OutputKind::Files => outputs.with(name, read_files(path)?),
            OutputKind::Metrics => outputs.with(name, read_metrics(path)?),
        };
    }
    Ok(outputs)
}

fn files_below(folder: &Path) -> Result<Vec<PathBuf>, StageError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if fs::symlink_metadata(&path)?.is_dir() { files.extend(files_below(&path)?) } else { files.push(path) }
    }
    files.sort();
    Ok(files)
}

fn read_files(path: &Path) -> Result<Files, StageError> {
    let (root, files) =
        if path.is_dir() { (path, files_below(path)?) } else { (path.parent().unwrap_or(path), vec![path.to_owned()]) };
    let entry = |file: &PathBuf| {
        let (digest, size) = Digest::of_reader(File::open(file)?)?;
        Ok(FileEntry {
            path: RelativePath::from_path(file.strip_prefix(root).unwrap_or(file))?,
            executable: is_executable(&fs::metadata(file)?),
            size,
            digest,
            // The scratch folder stays until the outputs are stored.
            content: Content::Disk(file.clone()),
        })
    };
    Ok(Files::new(files.iter().map(entry).collect::<Result<_, StageError>>()?)?)
}

fn read_metrics(path: &Path) -> Result<Metrics, StageError> {
    let text = fs::read_to_string(path)?;
    let name = path.file_name().unwrap_or_default();
    let values: BTreeMap<String, Option<f64>> = serde_json::from_str(&text).map_err(|error| {
        StageError::new("metrics must be a JSON object of numbers").at(name, Some(error.line())).because(error)
    })?;
    let entry = |(name, value)| Metric {
        name,
        value,
        direction: Direction::Neither,
        oracle: false,
        inflating: false,
        caveat: String::new(),
    };
    Ok(Metrics { entries: values.into_iter().map(entry).collect() })
}
