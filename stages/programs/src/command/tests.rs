//! The stage kind below the engine: what programs see, what is taken of them, and that nothing outlives them.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use contract::artifact::{
    Artifact, Digest, Direction, FileEntry, Files, Forecasts, Metrics, Predictions, RelativePath,
    Scores, Segment, Series, Table, Typed, WindowRun, WindowSpec, Windows,
};
use contract::{Device, Host, Progress, StageKind};

/// A host with a scratch folder that stays, so that a test can look into it.
struct Bench {
    scratch: TempDir,
    /// Where declared files are.
    beside: TempDir,
    files: Vec<(String, PathBuf)>,
    notes: Mutex<Vec<String>>,
    cancelled: AtomicBool,
    deadline: Mutex<Option<Instant>>,
    /// Checkpoints by chain and step, the newest last.
    kept: Mutex<Vec<(Digest, u64, Vec<u8>)>>,
}

impl Host for Bench {
    fn progress(&self, _: Progress) {}

    fn note(&self, text: &str) {
        self.notes.lock().unwrap().push(text.to_owned());
    }

    fn is_cancelled(&self) -> bool {
        let is_late = self
            .deadline
            .lock()
            .unwrap()
            .is_some_and(|deadline| Instant::now() > deadline);
        is_late || self.cancelled.load(Ordering::Relaxed)
    }

    fn file(&self, _: &str) -> Option<PathBuf> {
        panic!("no program gets a file of the user's")
    }

    fn names_below(&self, folder: &str) -> Vec<String> {
        let below = |(name, _): &(String, PathBuf)| {
            Some(name.strip_prefix(folder)?.strip_prefix('/')?.to_owned())
        };
        self.files.iter().filter_map(below).collect()
    }

    fn copy_file(&self, name: &str, target: &Path) -> Result<(), Trouble> {
        let (_, path) = self.files.iter().find(|(known, _)| known == name).unwrap();
        Ok(fs::copy(path, target).map(drop)?)
    }

    fn environment(&self, name: &str) -> Option<String> {
        (name == "PASSED").then(|| "from outside".to_owned())
    }

    fn scratch(&self) -> Result<&Path, Trouble> {
        Ok(self.scratch.path())
    }

    fn load_checkpoint(&self, chain: &Digest, _: u64) -> Option<(u64, Vec<u8>)> {
        let kept = self.kept.lock().unwrap();
        let (_, step, bytes) = kept.iter().rev().find(|(known, ..)| known == chain)?;
        Some((*step, bytes.clone()))
    }

    fn save_checkpoint(
        &self,
        chain: &Digest,
        step: u64,
        bytes: &[u8],
        _: Option<u64>,
    ) -> Result<(), Trouble> {
        let mut kept = self.kept.lock().unwrap();
        kept.push((*chain, step, bytes.to_vec()));
        Ok(())
    }

    fn forget_checkpoints(&self, chain: &Digest) {
        self.kept
            .lock()
            .unwrap()
            .retain(|(known, ..)| known != chain);
    }
}

impl Bench {
    fn new() -> Self {
        let folder = || {
            tempfile::Builder::new()
                .prefix("it's a folder ")
                .tempdir()
                .unwrap()
        };
        let (scratch, beside) = (folder(), folder());
        let (files, notes) = (Vec::new(), Mutex::default());
        Self {
            scratch,
            beside,
            files,
            notes,
            cancelled: AtomicBool::new(false),
            deadline: Mutex::default(),
            kept: Mutex::default(),
        }
    }

    /// Provides a file under a name, as the engine does.
    fn with_file(mut self, name: &str, path: &str, text: &str) -> Self {
        let place = self.beside.path().join(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(&place, text).unwrap();
        self.files.push((name.to_owned(), place));
        self
    }

    fn run_with(&self, inputs: &Inputs, with: Value) -> Result<Outputs, Trouble> {
        let kind = StageKind::of::<Command>();
        let parameters = kind.parse(with).unwrap();
        parameters.check().unwrap();
        let context = StageContext {
            device: Device::Cpu,
            threads: 1,
            memory: None,
            seed: 0,
            lineage: Digest([0; 32]),
            host: self,
        };
        parameters.run(inputs, &context)
    }

    fn run(&self, with: Value) -> Result<Outputs, Trouble> {
        self.run_with(&Inputs::default(), with)
    }

    /// Runs a shell's text with the output `o`.
    fn shell(&self, text: &str) -> Result<Outputs, Trouble> {
        self.run(json!({"run": ["sh", "-c", text], "outputs": {"o": {"path": "o"}}}))
    }

    fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap().clone()
    }
}

/// Paths, and the text of files.
fn listed(outputs: Outputs) -> Vec<(String, Option<String>)> {
    let outputs = outputs.into_map();
    let files = Files::from_artifact(&outputs["o"]).unwrap();
    let text =
        |entry: &FileEntry| String::from_utf8(entry.content.read().unwrap().to_vec()).unwrap();
    let entries = files
        .entries()
        .iter()
        .map(|entry| (entry.path.as_str().to_owned(), Some(text(entry))));
    entries
        .chain(
            files
                .folders()
                .iter()
                .map(|folder| (folder.as_str().to_owned(), None)),
        )
        .collect()
}

/// The text of the only file.
fn only(outputs: Outputs) -> String {
    let mut listed = listed(outputs);
    assert_eq!(listed.len(), 1, "{listed:?}");
    listed.remove(0).1.unwrap()
}

fn folder_of(files: &[(&str, &str)]) -> Artifact {
    let entry = |(path, text): &(&str, &str)| {
        FileEntry::from_bytes(RelativePath::new(*path).unwrap(), text.as_bytes().to_vec())
    };
    Files::new(files.iter().map(entry).collect())
        .unwrap()
        .into()
}

/// Whether a process with this number is alive.
fn lives(process: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/stat", process.trim())).unwrap_or_default();
    status
        .rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

#[test]
fn a_program_sees_short_relative_paths() {
    let bench = Bench::new().with_file("tool", "bin/tool.sh", "echo $0 $*");
    let mut inputs = Inputs::default();
    inputs.add("inputs", "a b/c's", folder_of(&[("x", "1")]));
    inputs.add("inputs", "a b_c's", folder_of(&[("x", "2")]));
    let outputs = bench.run_with(
        &inputs,
        json!({
            "run": ["sh", "-c", "echo $* > {out.o}; cat {in.a b/c's}/x {in.a b_c's}/x >> {out.o}; sh {file.tool} 1 >> {out.o}",
                "sh", "{in.a b/c's}", "{out.o}", "{file.tool}", "{other}"],
            "files": {"tool": "bin/tool.sh"},
            "outputs": {"o": {"path": "deep/er/o"}},
        }),
    );
    let expected = "in/a%20b%2Fc%27s deep/er/o files/bin/tool.sh {other}\n12files/bin/tool.sh 1\n";
    assert_eq!(only(outputs.unwrap()), expected);
}

#[test]
fn an_output_that_looks_like_an_option_is_a_path() {
    let with =
        json!({"run": ["sh", "-c", "echo 1 > {out.o}", "x"], "outputs": {"o": {"path": "-n"}}});
    let listed = listed(Bench::new().run(with).unwrap());
    assert_eq!(listed, [("-n".to_owned(), Some("1\n".to_owned()))]);
    let with = json!({"run": ["touch", "{out.o}"], "outputs": {"o": {"path": "-n"}}});
    assert!(Bench::new().run(with).is_ok());
}

#[test]
fn declared_files_are_copies_beside_each_other() {
    let bench = Bench::new()
        .with_file(
            "main",
            "src/main.sh",
            ". ./files/src/lib/part.sh; echo $part",
        )
        .with_file("lib/part.sh", "src/lib/part.sh", "part=found")
        .with_file("up", "elsewhere/data.txt", "data");
    let text = "sh {file.main} > {out.o}; ls {file.lib} {file.up} >> {out.o}; echo more >> {file.up}; find files -type f | sort >> {out.o}";
    let with = json!({
        "run": ["sh", "-c", text],
        "files": {"main": "src/main.sh", "lib": "src/lib", "up": "../elsewhere/data.txt"},
        "outputs": {"o": {"path": "o"}},
    });
    let expected = "found\nfiles/up/data.txt\n\nfiles/src/lib:\npart.sh\n\
                    files/src/lib/part.sh\nfiles/src/main.sh\nfiles/up/data.txt\n";
    assert_eq!(only(bench.run(with).unwrap()), expected);
    assert_eq!(
        fs::read_to_string(bench.beside.path().join("elsewhere/data.txt")).unwrap(),
        "data"
    );
}

#[test]
fn an_output_may_be_called_files_where_no_files_are_declared() {
    let with = json!({"run": ["sh", "-c", "mkdir files; echo 1 > files/x"], "outputs": {"o": {"path": "files"}}});
    assert_eq!(
        listed(Bench::new().run(with).unwrap()),
        [("x".to_owned(), Some("1\n".to_owned()))]
    );
}

#[test]
fn the_environment_is_the_same_everywhere_but_for_what_is_named() {
    let with = json!({
        "run": ["sh", "-c", "env > {out.o}"], "outputs": {"o": {"path": "o"}},
        "env": {"TZ": "Asia/Tokyo", "OWN": "1"}, "pass_env": ["PASSED", "ABSENT"],
    });
    let bench = Bench::new();
    let seen = only(bench.run(with).unwrap());
    let mut seen: Vec<&str> = seen
        .lines()
        .filter(|line| {
            !["PWD=", "OLDPWD=", "SHLVL=", "_="]
                .iter()
                .any(|own| line.starts_with(own))
        })
        .collect();
    seen.retain(|line| {
        !["PATH=", "HOME=", "TMPDIR="]
            .iter()
            .any(|passed| line.starts_with(passed))
    });
    // What says which hardware it may use is the stage's, and none of the user's.
    seen.retain(|line| !line.contains("_THREADS=1") && !line.ends_with("MAXIMUM_THREADS=1"));
    seen.sort_unstable();
    assert_eq!(
        seen,
        [
            "CUDA_VISIBLE_DEVICES=",
            "LANG=C.UTF-8",
            "OWN=1",
            "PASSED=from outside",
            "PYTHONPATH=.runner",
            "RUNNER_JOB=job.json",
            "TZ=Asia/Tokyo"
        ]
    );
}

#[test]
fn a_folder_comes_back_as_it_was_written() {
    let text = "mkdir -p {out.o}/empty {out.o}/full/inner; printf x > {out.o}/full/größe; printf y > '{out.o}/a b'; \
                mkdir {out.o}/closed; printf z > {out.o}/closed/z; chmod 0 {out.o}/closed";
    let listed = listed(Bench::new().shell(text).unwrap());
    let expected = [
        ("a b", Some("y")),
        ("closed/z", Some("z")),
        ("full/größe", Some("x")),
        ("empty", None),
        ("full/inner", None),
    ];
    let expected: Vec<_> = expected
        .map(|(path, text)| (path.to_owned(), text.map(str::to_owned)))
        .into();
    assert_eq!(listed, expected);
    assert_eq!(
        self::listed(Bench::new().shell("mkdir {out.o}").unwrap()),
        []
    );
}

#[test]
fn what_is_not_a_file_is_refused_by_name() {
    let cases = [
        (
            "mkdir o; ln -s /no/where o/gone",
            "`o/gone` is a link to `/no/where`, where nothing is",
        ),
        ("mkdir o; ln -s . o/self", "`o/self` is a link to `.`"),
        ("ln -s /proc o", "`o` is a link to `/proc`"),
        (
            "mkdir -p o/p; mkfifo o/p/pipe",
            "`o/p/pipe` is a named pipe, not a plain file",
        ),
        ("mkfifo o", "`o` is a named pipe, not a plain file"),
        (
            "mkdir o; : > o/x; : > \"$(printf 'stray\\033[1m')\"",
            "the command wrote `stray\\u{1b}[1m`, which is not declared",
        ),
        (
            "mkdir o; : > o/x; mkfifo other",
            "the command wrote `other`, which is not declared",
        ),
        (
            "mkdir o; : > \"o/$(printf 'b\\377d')\"",
            "the command wrote `o/b\\xffd`, whose name is not UTF-8",
        ),
        (
            "mkdir o files; : > o/x; : > files/y",
            "the command wrote `files/y`, which is not declared",
        ),
        (":", "the command did not write its output `o`"),
    ];
    for (text, expected) in cases {
        let error = Bench::new().shell(text).unwrap_err();
        assert_eq!(error.message(), expected, "{text}");
        assert!(error.hint_text().is_some(), "{text}");
    }
}

#[test]
fn a_socket_is_refused_by_name() {
    let bench = Bench::new();
    let folder = bench.scratch.path().join("o");
    fs::create_dir(&folder).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(folder.join("s")).unwrap();
    assert_eq!(
        bench.shell(":").unwrap_err().message(),
        "`o/s` is a socket, not a plain file"
    );
}

#[test]
fn metrics_are_numbers_each_once() {
    let metrics = |text: &str| {
        let with = json!({"run": ["printf", "%s", "x"], "outputs": {"o": {"path": "m.json", "kind": "metrics"}}});
        let bench = Bench::new();
        fs::write(bench.scratch.path().join("m.json"), text).unwrap();
        bench.run(with)
    };
    assert!(metrics("{\"f1\": 0.5, \"none\": null, \"n\": 3}").is_ok());
    let hint = |text: &str| metrics(text).unwrap_err().hint_text().unwrap().to_owned();
    assert!(hint("{\"f1\": NaN}").contains("null"));
    assert!(hint("[1]").contains("{\"f1\": 0.5}"));
    let twice = metrics("{\"f1\": 1, \"f1\": 2}").unwrap_err();
    assert!(twice.causes()[0].contains("there are two metrics called `f1`"));
    let bench = Bench::new();
    symlink("/proc/version", bench.scratch.path().join("m.json")).unwrap();
    let with = json!({"run": ["true"], "outputs": {"o": {"path": "m.json", "kind": "metrics"}}});
    assert!(
        bench
            .run(with)
            .unwrap_err()
            .message()
            .contains("`m.json` is a link to")
    );
}

#[test]
fn what_is_left_behind_ends_with_the_program() {
    // In the group; deaf to being asked; in its own session with the streams; and in one without them.
    let left = [
        "sleep 300 & echo $! > {out.o}",
        "(trap '' TERM; sleep 300; sleep 300) & echo $! > {out.o}",
        "setsid sleep 300 & echo $! > {out.o}; sleep 0.2",
        "setsid sleep 300 > /dev/null 2>&1 < /dev/null & echo $! > {out.o}; sleep 0.2",
        "cd /; setsid sleep 300 & echo $! > $OLDPWD/{out.o}; sleep 0.2",
    ];
    for text in left {
        let bench = Bench::new();
        let started = Instant::now();
        let process = only(bench.shell(text).unwrap());
        assert!(started.elapsed() < Duration::from_secs(60), "{text}");
        assert!(!lives(&process), "{text}");
        assert!(
            bench
                .notes()
                .iter()
                .any(|note| note.contains("left behind")),
            "{text}"
        );
    }
}

#[test]
fn nothing_is_said_of_a_program_that_leaves_nothing_behind() {
    let bench = Bench::new();
    assert_eq!(
        only(bench.shell("sleep 0.05 & wait; echo 1 > {out.o}").unwrap()),
        "1\n"
    );
    assert!(bench.notes().is_empty());
}

#[test]
fn a_stop_reaches_all_of_it_whatever_holds_the_streams() {
    let texts = [
        "sleep 300 & echo $! > pid; wait",
        "trap '' TERM; sleep 300 & echo $! > pid; while :; do sleep 1; done",
        "sleep 300 & echo $! > pid; exec > /dev/null 2>&1; sleep 300",
        "sleep 300 & echo $! > pid; yes",
        "sleep 300 & echo $! > pid; mkfifo p; cat p",
    ];
    for text in texts {
        let bench = Bench::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let pid = bench.scratch.path().join("pid");
                let start = Instant::now();
                while fs::read(&pid).is_ok_and(|text| text.is_empty()) || !pid.exists() {
                    assert!(start.elapsed() < Duration::from_secs(60));
                    std::thread::sleep(Duration::from_millis(5));
                }
                bench.cancelled.store(true, Ordering::Relaxed);
            });
            assert!(bench.shell(text).unwrap_err().is_cancelled(), "{text}");
        });
        let process = fs::read_to_string(bench.scratch.path().join("pid")).unwrap();
        assert!(!lives(&process), "{text}");
    }
}

#[test]
fn what_is_said_comes_before_the_end() {
    let bench = Bench::new();
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            bench.shell(
                "echo first; while [ ! -e go ]; do sleep 0.02; done; rm go; echo second; : > o",
            )
        });
        let start = Instant::now();
        while bench.notes().is_empty() {
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "nothing was said before the end"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        fs::write(bench.scratch.path().join("go"), "").unwrap();
        run.join().unwrap().unwrap();
    });
    assert_eq!(bench.notes(), ["first", "second"]);
}

#[test]
fn a_failure_repeats_the_last_words() {
    let error = Bench::new()
        .shell("seq 100000; echo 'ValueError: \u{1b}[31mlr\u{1b}[0m' >&2; exit 3")
        .unwrap_err();
    assert!(
        error.message().ends_with("ended with exit status: 3"),
        "{error}"
    );
    assert_eq!(error.causes()[0], "ValueError: lr");
    let error = Bench::new().shell("seq 100000; kill -SEGV $$").unwrap_err();
    assert!(error.message().contains("signal: 11"), "{error}");
    let words = &error.causes()[0];
    assert!(
        words.ends_with("99999\n100000") && words.len() <= 2000,
        "{words}"
    );
    let error = Bench::new().shell("exit 1").unwrap_err();
    assert_eq!(error.causes()[0], "it said nothing about why");
}

#[test]
fn a_program_that_cannot_be_started_says_what_to_do() {
    let hint = |bench: &Bench, run: &[&str], files: Value| {
        let with = json!({"run": run, "outputs": {"o": {"path": "o"}}, "files": files});
        let error = bench.run(with).unwrap_err();
        assert!(error.message().starts_with("cannot start `"), "{error}");
        error.hint_text().unwrap().to_owned()
    };
    let none = json!({});
    let cases = [
        (vec!["no-such-program"], "install it"),
        (vec!["cd", "x"], "`[sh, -c, \"cd …\"]`"),
        (vec!["echo hi"], "`[echo, hi]`"),
        (vec!["/no/such/program"], "no such file on this machine"),
        (
            vec!["./mine.sh"],
            "`{file.NAME}` are paths to what is there",
        ),
        (
            vec!["$HOME/x"],
            "looked for in the folder that the program runs in",
        ),
        (vec!["/"], "it is a folder"),
    ];
    for (run, expected) in cases {
        let hint = hint(&Bench::new(), &run, none.clone());
        assert!(hint.contains(expected), "{run:?}: {hint}");
    }
    let bench = Bench::new().with_file("t", "t.sh", "echo 1");
    let declared = json!({"t": "t.sh"});
    assert!(hint(&bench, &["{file.t}"], declared.clone()).contains("chmod +x"));
    let bench = Bench::new().with_file("t", "t.sh", "#!/no/such/shell\n");
    let script = &bench.files[0].1;
    fs::set_permissions(script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert!(hint(&bench, &["{file.t}"], declared.clone()).contains("#!/no/such/shell"));
    fs::write(script, "echo 1").unwrap();
    let hint = hint(&bench, &["{file.t}"], declared.clone());
    assert!(hint.contains("#!/bin/sh"), "{hint}");
    fs::write(script, "#!/bin/sh\necho $0 > o").unwrap();
    let with = json!({"run": ["{file.t}"], "outputs": {"o": {"path": "o"}}, "files": declared});
    assert_eq!(only(bench.run(with).unwrap()), "files/t.sh\n");
}

#[test]
fn parameters_are_checked_before_anything_runs() {
    let kind = StageKind::of::<Command>();
    let check = |with: Value| kind.parse(with).unwrap().check().unwrap_err();
    let with = |path: &str| json!({"run": ["true"], "outputs": {"o": {"path": path}}});
    for path in ["../x", "/tmp/x", "", "a/../b", ".", "in/x", "in", "a\0b"] {
        assert_eq!(check(with(path)).parameter, "outputs.o.path", "{path:?}");
    }
    let outputs = json!({"o": {"path": "o"}});
    let own = json!({"run": ["x"], "files": {"s": "s.sh"}, "outputs": {"o": {"path": "files/o"}}});
    let reason =
        "`files/o` is not a path for an output: `files` holds the copies of declared files";
    assert_eq!(check(own), Fault::new("outputs.o.path", reason));
    let without = kind
        .parse(json!({"run": ["x"], "outputs": {"o": {"path": "files/o"}}}))
        .unwrap();
    assert_eq!(without.check(), Ok(()), "there are no copies in the way");
    assert_eq!(
        check(json!({"run": [" "], "outputs": outputs})).parameter,
        "run.0"
    );
    assert_eq!(
        check(json!({"run": ["a\0"], "outputs": outputs})).parameter,
        "run.0"
    );
    assert_eq!(
        check(json!({"run": ["a"], "outputs": outputs, "env": {"A=B": "1"}})).parameter,
        "env"
    );
    assert_eq!(
        check(json!({"run": ["a"], "outputs": outputs, "env": {"A": "\0"}})).parameter,
        "env.A"
    );
}

#[test]
fn undeclared_files_are_remarked_with_the_line_to_add() {
    let beside = tempfile::tempdir().unwrap();
    for name in ["train.py", "conf/a.yaml", "all", "declared.py", "o.txt"] {
        let path = beside.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    let look_up = |path: &Path| Some(beside.path().join(path)).filter(|place| place.exists());
    let kind = StageKind::of::<Command>();
    let remarks = |run: Value, rest: Value| {
        let mut with = json!({"run": run, "outputs": {"o": {"path": "o.txt"}}});
        with.as_object_mut()
            .unwrap()
            .extend(rest.as_object().unwrap().clone());
        kind.parse(with).unwrap().remarks(Surroundings {
            connected: None,
            look_up: &look_up,
        })
    };
    let hints = |run: Value, rest: Value| {
        let shown = |remark: Remark| {
            format!(
                "{}{}: {}",
                remark.parameter,
                if remark.fatal { "!" } else { "" },
                remark.hint.unwrap()
            )
        };
        remarks(run, rest)
            .into_iter()
            .map(shown)
            .collect::<Vec<_>>()
    };
    let none = json!({});
    let declared = json!({"files": {"s": "declared.py", "train": "other.py"}});
    assert_eq!(
        hints(json!(["python3", "train.py", "x"]), none.clone()),
        ["run.1: add `files: {train: train.py}` under `with`, and write `\"{file.train}\"`"]
    );
    assert_eq!(
        hints(json!(["python3", "./train.py"]), declared.clone()),
        ["run.1: add `train2: train.py` to `files` under `with`, and write `\"{file.train2}\"`"]
    );
    assert_eq!(
        hints(json!(["python3", "declared.py"]), declared.clone()),
        ["run.1: it is declared as `s`: write `\"{file.s}\"`"]
    );
    assert_eq!(
        hints(json!(["x", "--config=conf/a.yaml"]), none.clone()),
        ["run.1: add `files: {a: conf/a.yaml}` under `with`, and write `\"--config={file.a}\"`"]
    );
    assert_eq!(
        hints(json!(["x", "--all=all"]), none.clone()),
        ["run.1: add `files: {all: all}` under `with`, and write `\"--all={file.all}\"`"]
    );
    assert_eq!(
        hints(
            json!([
                "sh",
                "-c",
                "cat <conf/a.yaml | python3 train.py; cp train.py o.txt"
            ]),
            none.clone()
        ),
        [
            "run.2: add `files: {a: conf/a.yaml}` under `with`, and write `{file.a}` in its place",
            "run.2: add `files: {train: train.py}` under `with`, and write `{file.train}` in its place",
        ]
    );
    assert_eq!(
        hints(json!(["x", "conf/"]), none.clone()),
        ["run.1: add `files: {conf: conf}` under `with`, and write `\"{file.conf}\"`"]
    );
    assert_eq!(
        hints(json!(["x"]), json!({"env": {"CONFIG": "conf/a.yaml"}})),
        [
            "env.CONFIG: add `files: {a: conf/a.yaml}` under `with`, and write `files/conf/a.yaml`, where the program finds \
             its copy"
        ]
    );
    assert_eq!(
        hints(json!(["train.py"]), none.clone()),
        [
            "run.0: add `files: {train: train.py}` under `with`, and write `run: [python3, \"{file.train}\", …]`"
        ]
    );
    assert_eq!(
        hints(json!(["./train.py"]), none.clone()),
        [
            "run.0!: add `files: {train: train.py}` under `with`, and write `run: [python3, \"{file.train}\", …]`"
        ]
    );
    assert_eq!(
        hints(json!(["./nowhere.sh", "train.py"]), none.clone())[0],
        "run.0!: there is no such file beside the pipeline either: check its path"
    );
    assert_eq!(
        hints(json!(["{file.s}"]), declared.clone()),
        ["run.0: write `run: [python3, \"{file.s}\", …]`, or make it executable with `chmod +x`"]
    );
    let first = |program: &str| remarks(json!([program, "x"]), none.clone()).remove(0);
    assert!(first("~/bin/x").fatal && first("~/bin/x").hint.unwrap() == "write the path in full");
    assert!(
        first("$HOME/x y").fatal && first("train it").hint.unwrap().contains("`[train, it, …]`")
    );
    let absolute = beside.path().join("train.py").display().to_string();
    let remark = remarks(json!(["python3", absolute]), none.clone()).remove(0);
    assert!(remark.message.contains("is not in the key"), "{remark:?}");
    for fine in [
        json!(["make", "conf"]),
        json!(["cd", beside.path()]),
        json!([beside.path().join("train.py")]),
        json!([
            "sh",
            "{file.s}",
            "in/x",
            "files/declared.py",
            "o.txt",
            "-o",
            "{out.o}",
            "--x={file.s}/train.py",
            "/dev/null",
            ".",
            "missing.py"
        ]),
        json!(["sh", "-c", "all o.txt; echo 1.5 > {out.o}"]),
    ] {
        assert_eq!(
            hints(fine.clone(), declared.clone()),
            Vec::<String>::new(),
            "{fine}"
        );
    }
    // A name that is not a path of this file system is looked for all the same.
    assert!(look_up(Path::new(std::ffi::OsStr::from_bytes(b"\xff"))).is_none());
}

/// Two machines: three training rows each, two test rows with labels, a channel that needs 64 bits.
fn machines() -> Series {
    Series {
        channels: vec!["cpu".into(), "disk".into()],
        values: (0..20).map(|value| value as f32).collect(),
        wide: BTreeMap::from([(1, (0..10).map(|row| 1e9 + f64::from(row) * 0.5).collect())]),
        labels: vec![0, 1, 0, 0, 0, 0, 0, 1, 1, 0],
        times: (0..10).map(|row| row * 1000).collect(),
        segments: vec![
            Segment::new(Split::Train, "a", 0..3).labelled(true),
            Segment::new(Split::Train, "b", 3..6),
            Segment::new(Split::Test, "a", 6..8).labelled(true),
            Segment::new(Split::Test, "b", 8..10).labelled(true),
        ],
    }
}

fn given(artifact: impl Into<Artifact>) -> Inputs {
    let mut inputs = Inputs::default();
    inputs.add("inputs", "raw", artifact.into());
    inputs
}

/// Runs a shell's text over the machines, with an output of this kind.
fn typed(kind: &str, ending: &str, text: &str, more: Value) -> Result<Artifact, Trouble> {
    let path = format!("o.{ending}");
    let mut with =
        json!({"run": ["sh", "-c", text], "outputs": {"o": {"path": path, "kind": kind}}});
    for (name, value) in more.as_object().unwrap() {
        match name.as_str() {
            "of" | "splits" => with["outputs"]["o"][name] = value.clone(),
            _ => with[name] = value.clone(),
        }
    }
    let outputs = Bench::new().run_with(&given(machines()), with)?;
    Ok(outputs.into_map()["o"].clone())
}

#[test]
fn scores_get_the_labels_of_their_rows() {
    let text =
        "printf 'entity,split,score\\na,test,1\\na,test,2\\nb,test,3\\nb,test,4.5\\n' > {out.o}";
    let found = typed("scores", "csv", text, json!({"splits": ["test"]})).unwrap();
    let found = Scores::from_artifact(&found).unwrap();
    assert_eq!(found.scores, [1.0, 2.0, 3.0, 4.5]);
    assert_eq!(found.labels, [0, 1, 1, 0]);
    assert_eq!(found.times, [6000, 7000, 8000, 9000]);
    assert_eq!(found.segments[1].rows, 2..4);
    assert_eq!(found.segments[1].entity, "b");
}

#[test]
fn what_comes_back_is_held_against_what_went_in() {
    let told = |text: &str, more: Value| typed("scores", "csv", text, more).unwrap_err();
    let four = "printf 'score\\n1\\n2\\n3\\n4\\n' > {out.o}";
    let few = told(four, json!({}));
    assert!(
        few.message().contains("has 4 rows where 10 are expected"),
        "{few}"
    );
    assert!(
        few.hint_text().unwrap().contains("`splits: [test]`"),
        "{few}"
    );
    let bad = told(
        "printf 'score\\n1\\n2\\n3\\ninf\\n' > {out.o}",
        json!({"splits": ["test"]}),
    );
    assert!(
        bad.message().contains("`score` is infinite in row 3")
            && bad.message().contains("row 1 of `b` in test"),
        "{bad}"
    );
    let moved = "printf 'entity,score\\nb,1\\na,2\\na,3\\nb,4\\n' > {out.o}";
    let moved = told(moved, json!({"splits": ["test"]}));
    assert!(
        moved.message().contains("row 0 of `o.csv` is of `b`"),
        "{moved}"
    );
    let labels = "printf 'score,label\\n1,0\\n2,0\\n3,0\\n4,0\\n' > {out.o}";
    let labels = told(labels, json!({"splits": ["test"]}));
    assert!(labels.message().contains("not from a program"), "{labels}");
    let none = told(four, json!({"splits": ["validation"]}));
    assert!(
        none.message().contains("no rows of split `validation`"),
        "{none}"
    );
    let unknown = typed("scores", "txt", "echo 1 > {out.o}", json!({})).unwrap_err();
    assert!(
        unknown.hint_text().unwrap().contains("`.parquet`"),
        "{unknown}"
    );
    let damaged = typed("scores", "parquet", "echo 1 > {out.o}", json!({})).unwrap_err();
    assert!(damaged.message().contains("cannot be read"), "{damaged}");
}

#[test]
fn a_series_keeps_the_rows_of_another_or_has_its_own() {
    let text = "printf 'x,y\\n1,2\\n3,4\\n5,6\\n7,8\\n' > {out.o}";
    let found = typed(
        "series",
        "csv",
        text,
        json!({"of": "raw", "splits": ["test"]}),
    )
    .unwrap();
    let found = Series::from_artifact(&found).unwrap();
    assert_eq!(found.channels, ["x", "y"]);
    assert_eq!(
        (&found.labels[..], found.times[1]),
        (&[0, 1, 1, 0][..], 7000)
    );
    let text = "printf 'split,entity,x\\ntrain,m,1\\ntrain,m,2\\ntest,m,3\\n' > {out.o}";
    let found = typed("series", "csv", text, json!({})).unwrap();
    let found = Series::from_artifact(&found).unwrap();
    assert_eq!(found.segments[1], Segment::new(Split::Test, "m", 2..3));
    assert!(found.labels.is_empty());
    let told = typed("series", "csv", "printf 'x\\n1\\n' > {out.o}", json!({})).unwrap_err();
    assert!(told.hint_text().unwrap().contains("`split`"), "{told}");
}

#[test]
fn a_table_has_numbers_texts_and_gaps() {
    let text = "printf 'n,x,name,yes\\n1,0.5,a,true\\n2,,b,false\\n' > {out.o}";
    let found = typed("table", "csv", text, json!({})).unwrap();
    let found = Table::from_artifact(&found).unwrap();
    assert_eq!(found.integers("n").unwrap(), [Some(1), Some(2)]);
    assert_eq!(found.reals("x").unwrap(), [Some(0.5), None]);
    assert_eq!(found.texts("name").unwrap()[1].as_deref(), Some("b"));
}

#[test]
fn forecasts_stand_beside_what_was_measured() {
    let series = Series {
        wide: BTreeMap::new(),
        ..machines()
    };
    let run = |split, rows: (usize, usize)| WindowRun {
        split,
        first: rows.0,
        stride: 1,
        count: 1,
        rows,
    };
    let windows = Windows {
        series: Arc::new(series),
        spec: WindowSpec {
            length: 1,
            horizon: 1,
        },
        runs: vec![
            run(Split::Train, (0, 3)),
            run(Split::Test, (6, 8)),
            run(Split::Test, (8, 10)),
        ],
    };
    let with = |text: &str| {
        json!({"run": ["sh", "-c", text], "inputs": {"raw": {"as": "npy"}},
               "outputs": {"o": {"path": "o.csv", "kind": "forecasts", "splits": ["test"]}}})
    };
    let text = "test -f in/raw.targets.npy && printf 'cpu,predicted.disk\\n1,2\\n3,4\\n' > {out.o}";
    let outputs = Bench::new()
        .run_with(&given(windows.clone()), with(text))
        .unwrap();
    let outputs = outputs.into_map();
    let found = Forecasts::from_artifact(&outputs["o"]).unwrap();
    assert_eq!(found.predicted, [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(found.actual, [14.0, 15.0, 18.0, 19.0]);
    assert_eq!(
        (found.origins[1].row, found.origins[1].entity.as_str()),
        (9, "b")
    );
    assert_eq!(found.naive_error, [2.0, 2.0]);
    let text = "printf 'cpu,disk\\n1,2\\n' > {out.o}";
    let told = Bench::new()
        .run_with(&given(windows), with(text))
        .unwrap_err();
    assert!(
        told.hint_text()
            .unwrap()
            .contains("step 0 of the window before row 9 of `b`"),
        "{told}"
    );
}

#[test]
fn predictions_are_held_against_the_classes() {
    let of = |entity: &str, rows, class: &str| {
        Segment::new(Split::Test, entity, rows).of_class(Some(class.into()))
    };
    let series = Series {
        channels: vec!["c".into()],
        values: vec![1.0, 2.0],
        segments: vec![of("s1", 0..1, "walk"), of("s2", 1..2, "run")],
        ..Series::default()
    };
    let run = |text: &str| {
        let with = json!({"run": ["sh", "-c", text], "outputs": {"o": {"path": "o.csv", "kind": "predictions"}}});
        let outputs = Bench::new().run_with(&given(series.clone()), with)?;
        Ok::<_, Trouble>(outputs.into_map()["o"].clone())
    };
    let text = "grep -q walk job.json && exit 1; printf 'sample,walk,run\\ns1,0.75,0.25\\ns2,0,1\\n' > {out.o}";
    let found = run(text).unwrap();
    let found = Predictions::from_artifact(&found).unwrap();
    assert_eq!(found.classes, ["run", "walk"]);
    assert_eq!(found.truth, [1, 0]);
    assert_eq!(found.row(0), [0.25, 0.75]);
    let told = run("printf 'walk,run\\n1,1\\n0,1\\n' > {out.o}").unwrap_err();
    assert!(told.message().contains("add up to 2"), "{told}");
    let told = run("printf 'walk\\n1\\n0\\n' > {out.o}").unwrap_err();
    assert!(
        told.message().contains("no column `probability.run`"),
        "{told}"
    );
}

#[test]
fn labels_are_given_only_where_they_are_asked_for() {
    let shown = |inputs: Value| {
        let text = "od -An -v -tx1 in/raw.labels.npy 2> /dev/null | tr -d ' \\n' > {out.o}; cat job.json >> {out.o}";
        let with =
            json!({"run": ["sh", "-c", text], "inputs": inputs, "outputs": {"o": {"path": "o"}}});
        only(Bench::new().run_with(&given(machines()), with).unwrap())
    };
    let none = shown(json!({"raw": {"as": "npy"}}));
    assert!(
        none.starts_with('{') && !none.contains("labelled"),
        "{none}"
    );
    let train = shown(json!({"raw": {"as": "npy", "labels": ["train"]}}));
    // 0 and 1 where they are known and asked for, and -1 elsewhere.
    assert!(
        train.contains(&format!("0a000100{}{{", "ff".repeat(7))),
        "{train}"
    );
    let test = shown(json!({"raw": {"as": "npy", "labels": ["test"], "splits": ["test"]}}));
    assert!(test.contains("0a00010100{"), "{test}");
    let parquet = json!({"run": ["cp", "{in.raw}", "{out.o}"], "outputs": {"o": {"path": "o"}}});
    let bench = Bench::new();
    let outputs = bench.run_with(&given(machines()), parquet);
    let outputs = outputs.unwrap().into_map();
    let files = Files::from_artifact(&outputs["o"]).unwrap();
    let bytes = files.entries()[0].content.read().unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(!text.contains("runner.label") && text.contains("runner.time"));
}

#[test]
fn a_job_file_says_what_is_asked() {
    let with = json!({
        "run": ["sh", "-c", "cat \"$RUNNER_JOB\" > {out.o}; echo $OMP_NUM_THREADS$CUDA_VISIBLE_DEVICES >> {out.o}"],
        "params": {"width": 8}, "inputs": {"raw": {"as": "arrow"}},
        "outputs": {"o": {"path": "o"}},
    });
    let told = only(Bench::new().run_with(&given(machines()), with).unwrap());
    let (job, threads) = told.rsplit_once("}\n").unwrap();
    let job: Value = serde_json::from_str(&format!("{job}}}")).unwrap();
    assert_eq!(threads, "1\n", "one thread, and no GPU");
    assert_eq!(job["protocol"], 1);
    assert_eq!(job["params"]["width"], 8);
    assert_eq!(job["device"], "cpu");
    assert_eq!(job["inputs"]["raw"]["path"], "in/raw.arrow");
    assert_eq!(job["inputs"]["raw"]["segments"][2]["rows"], json!([6, 8]));
    assert_eq!(job["outputs"]["o"]["path"], "o");
}

#[test]
fn metrics_may_say_how_they_are_read() {
    let text = r#"echo '{"mse": {"value": 0.5, "direction": "lower", "caveat": "on test"}, "f1": 1}' > {out.o}"#;
    let with =
        json!({"run": ["sh", "-c", text], "outputs": {"o": {"path": "o", "kind": "metrics"}}});
    let outputs = Bench::new().run(with).unwrap().into_map();
    let found = Metrics::from_artifact(&outputs["o"]).unwrap();
    let mse = found
        .entries
        .iter()
        .find(|metric| metric.name == "mse")
        .unwrap();
    assert_eq!((mse.value, mse.direction), (Some(0.5), Direction::Lower));
    assert_eq!(mse.caveat, "on test");
    assert_eq!(found.get("f1"), Some(1.0));
    let text = r#"echo '{"mse": {"value": 0.5, "direction": "up"}}' > {out.o}"#;
    let with =
        json!({"run": ["sh", "-c", text], "outputs": {"o": {"path": "o", "kind": "metrics"}}});
    assert!(Bench::new().run(with).is_err());
}

/// What a later try makes. The engine gives each a new folder.
fn try_again(before: &Bench, text: &str) -> Option<String> {
    let bench = Bench::new();
    bench
        .kept
        .lock()
        .unwrap()
        .clone_from(&before.kept.lock().unwrap());
    let made = bench.run(with_checkpoints(text)).ok().map(only);
    *before.kept.lock().unwrap() = bench.kept.into_inner().unwrap();
    made
}

fn with_checkpoints(text: &str) -> Value {
    json!({"run": ["sh", "-c", text], "outputs": {"o": {"path": "o"}}, "checkpoints": true})
}

#[test]
fn checkpoints_are_there_again_until_the_stage_succeeds() {
    let text = "cat checkpoints/steps > seen 2> /dev/null; echo step >> checkpoints/steps; \
                [ $(wc -l < checkpoints/steps) -lt 3 ] && exit 1; rm -f seen; cp checkpoints/steps {out.o}";
    let bench = Bench::new();
    assert!(bench.run(with_checkpoints(text)).is_err());
    assert_eq!(try_again(&bench, text), None);
    assert_eq!(bench.kept.lock().unwrap().len(), 2);
    let other = try_again(&bench, "ls checkpoints > {out.o}");
    assert_eq!(other.as_deref(), Some(""), "another stage has its own");
    let steps = try_again(&bench, text);
    assert_eq!(steps.as_deref(), Some("step\nstep\nstep\n"));
    assert!(
        bench.kept.lock().unwrap().is_empty(),
        "nothing of it is needed any more"
    );
}

#[test]
fn a_report_keeps_checkpoints_at_once() {
    let text = "echo 1 > checkpoints/a; echo '@runner {\"checkpoint\": true}'; sleep 0.2; echo '@runner {\"epoch\": 1}'; \
                echo 2 > checkpoints/a; sleep 0.2; exit 1";
    let bench = Bench::new();
    assert!(bench.run(with_checkpoints(text)).is_err());
    let kept = bench.kept.lock().unwrap();
    let steps: Vec<u64> = kept.iter().map(|(_, step, _)| *step).collect();
    assert_eq!(steps, [1, 2]);
    assert_ne!(kept[0].2, kept[1].2);
    assert_eq!(bench.notes(), Vec::<String>::new(), "reports are no text");
}
