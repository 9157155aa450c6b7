//! Against a real S3 server on the loopback, killed and started again under load. The server is installed by
//! `scripts/install-s3-server.sh`; where it is not, these tests say that they are skipped, and with
//! `RUNNER_REQUIRE_SERVERS` set they fail.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::environment::{Running, TestEnvironment};
use crate::pipelines::{SMALL, SMALL_STAGES};
use crate::remote::{assert_clean, latest_in};
use crate::store::{digests, in_state};

/// So many files of so many bytes, as the output of one stage.
const MANY: usize = 600;
const MANY_FILES: &str = r#"pipeline: many
stages:
  files:
    uses: command
    with:
      run: [sh, -c, "mkdir -p {out.files} && for i in $(seq 600); do head -c 30000 /dev/urandom > {out.files}/$i; done"]
      outputs: {files: {path: files}}
"#;

fn program() -> Option<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target"),
        PathBuf::from,
    );
    let named = std::env::var_os("RUNNER_S3_SERVER").map(PathBuf::from);
    let found = named
        .into_iter()
        .chain([target.join("tools/bin/s3s-fs")])
        .find(|path| path.is_file());
    if found.is_none() {
        assert!(
            std::env::var_os("RUNNER_REQUIRE_SERVERS").is_none(),
            "there is no S3 server: scripts/install-s3-server.sh installs it"
        );
        eprintln!("SKIPPED: there is no S3 server; scripts/install-s3-server.sh installs it");
    }
    found
}

/// A server with a bucket, `bucket`. It is ended by its id.
struct Server {
    program: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Server {
    /// A server for this environment, whose commands know it from now on; `None` where there is none.
    fn start(environment: &mut TestEnvironment) -> Option<Self> {
        let program = program()?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        fs::create_dir_all(environment.path("server/bucket")).unwrap();
        let mut server = Self {
            program,
            port,
            child: None,
        };
        server.up(environment);
        environment.set("AWS_ENDPOINT", format!("http://127.0.0.1:{port}"));
        environment.set("AWS_ALLOW_HTTP", "true");
        environment.set("AWS_ACCESS_KEY_ID", "key");
        environment.set("AWS_SECRET_ACCESS_KEY", "secret");
        environment.set("RUNNER_REMOTE", "s3://bucket/prefix");
        Some(server)
    }

    fn up(&mut self, environment: &TestEnvironment) {
        let mut command = Command::new(&self.program);
        command.args(["--host", "127.0.0.1", "--port", &self.port.to_string()]);
        command
            .args(["--access-key", "key", "--secret-key", "secret"])
            .arg(environment.path("server"));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.child = Some(command.spawn().unwrap());
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(
                started.elapsed() < Duration::from_secs(30),
                "the server does not come up"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGKILL, as a crash.
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Kills it and starts it again while `process` works, `rounds` times or until it ends: each time once more files
    /// lie in `arriving` than when it came up.
    fn harass(
        &mut self,
        environment: &TestEnvironment,
        process: &mut Running,
        arriving: &str,
        rounds: usize,
    ) -> usize {
        let arriving = environment.path(arriving);
        for kills in 0..rounds {
            let before = count_files(&arriving);
            if !process.wait_until(|| count_files(&arriving) > before) {
                return kills;
            }
            self.kill();
            // So long are its requests refused.
            std::thread::sleep(Duration::from_millis(300));
            self.up(environment);
        }
        rounds
    }
}

/// How many files lie below a folder that is being written to.
fn count_files(folder: &Path) -> usize {
    let mut count = 0;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => count += count_files(&entry.path()),
            _ => count += 1,
        }
    }
    count
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

#[test]
fn results_are_shared_through_a_bucket() {
    let mut environment = TestEnvironment::with_pipeline(SMALL);
    let Some(_server) = Server::start(&mut environment) else {
        return;
    };
    environment
        .succeed(&["run", "pipeline.yaml", "--store", "a"])
        .says("8 results sent");
    environment
        .succeed(&["run", "pipeline.yaml", "--store", "b"])
        .says("8 results found there");
    assert_eq!(in_state(&latest_in(&environment, "b"), "hit"), SMALL_STAGES);
    assert_eq!(
        digests(&latest_in(&environment, "a")),
        digests(&latest_in(&environment, "b"))
    );
    environment
        .succeed(&["cache", "pull", "--all", "--store", "c"])
        .prints("8 results");
    for store in ["a", "b", "c"] {
        assert_clean(&environment, store);
    }
    let listed = environment.json(&[
        "cache",
        "gc",
        "--store",
        "a",
        "--on-remote",
        "--older-than",
        "1 h",
        "--dry-run",
    ]);
    assert_eq!(
        (
            listed["kept_actions"].as_u64(),
            listed["removed"].as_array().unwrap().len()
        ),
        (Some(8), 0)
    );
}

#[test]
fn wrong_credentials_are_named() {
    let mut environment = TestEnvironment::with_pipeline(SMALL);
    let Some(_server) = Server::start(&mut environment) else {
        return;
    };
    environment.succeed(&["run", "pipeline.yaml", "--remote", "off"]);
    environment.set("AWS_SECRET_ACCESS_KEY", "wrong");
    let finished = environment.run(&["cache", "push"]).expect(1);
    finished
        .says("refuses these credentials")
        .says("AWS_SECRET_ACCESS_KEY");
    environment
        .succeed(&["run", "pipeline.yaml", "--store", "b"])
        .says("refuses these credentials");
}

/// Large objects go in pieces, and come in one stream.
#[test]
fn an_object_larger_than_a_piece_comes_back() {
    let pipeline = MANY_FILES.replace("600", "1").replace("30000", "40000000");
    let mut environment = TestEnvironment::with_pipeline(&pipeline);
    let Some(_server) = Server::start(&mut environment) else {
        return;
    };
    environment
        .succeed(&["run", "pipeline.yaml", "--store", "a"])
        .says("1 result sent");
    environment.succeed(&["cache", "pull", "pipeline.yaml", "--store", "b"]);
    assert_clean(&environment, "b");
    let sizes = |store: &str| {
        let objects = environment.files(&format!("{store}/v1/objects"));
        objects
            .iter()
            .map(|path| fs::metadata(path).unwrap().len())
            .max()
    };
    assert_eq!(
        (sizes("b"), sizes("a")),
        (Some(40_000_000), Some(40_000_000))
    );
}

#[test]
fn a_server_that_is_killed_again_and_again_loses_nothing() {
    let mut environment = TestEnvironment::with_pipeline(MANY_FILES);
    let Some(mut server) = Server::start(&mut environment) else {
        return;
    };
    environment.write("runner.toml", "[remote]\nparallel = 4\nretries = 20\n");
    environment.succeed(&["run", "pipeline.yaml", "--store", "a", "--remote", "off"]);
    let mut pushing = environment.spawn(&["cache", "push", "--store", "a", "--json"]);
    let kills = server.harass(&environment, &mut pushing, "server/bucket", 3);
    let report = pushing.wait().expect(0).json();
    assert!(kills > 0, "it was done before the server was killed");
    assert_eq!(
        (report["failed"].as_u64(), report["actions"].as_u64()),
        (Some(0), Some(1)),
        "{report}"
    );

    let mut pulling =
        environment.spawn(&["cache", "pull", "pipeline.yaml", "--store", "b", "--json"]);
    let kills = server.harass(&environment, &mut pulling, "b/v1/objects", 3);
    let report = pulling.wait().expect(0).json();
    assert!(kills > 0, "it was done before the server was killed");
    // The table of the files is an object of its own.
    assert_eq!(
        report["objects"].as_u64(),
        Some(MANY as u64 + 1),
        "{report}"
    );
    assert_clean(&environment, "b");
    let run = |store: &str| {
        environment.succeed(&["run", "pipeline.yaml", "--store", store, "--remote", "off"]);
        digests(&latest_in(&environment, store))
    };
    assert_eq!(run("a"), run("b"));
}

/// The server is gone in the middle of a run, and stays away.
#[test]
fn a_server_that_dies_during_a_run_fails_no_run() {
    let mut environment = TestEnvironment::with_pipeline(SMALL);
    let Some(mut server) = Server::start(&mut environment) else {
        return;
    };
    environment.write("runner.toml", "[remote]\nretries = 1\n");
    let mut running = environment.spawn(&["run", "pipeline.yaml", "--store", "a"]);
    assert!(
        running.wait_until(|| !environment.files("server/bucket").is_empty()),
        "it ended too soon"
    );
    server.kill();
    let finished = running.wait().expect(0);
    finished.says("not sent to s3://bucket/prefix");
    assert_clean(&environment, "a");
    server.up(&environment);
    environment.succeed(&["cache", "push", "--store", "a"]);
    environment
        .succeed(&["run", "pipeline.yaml", "--store", "b"])
        .says("8 results found there");
    assert_eq!(
        digests(&latest_in(&environment, "a")),
        digests(&latest_in(&environment, "b"))
    );
    assert_clean(&environment, "b");
}
