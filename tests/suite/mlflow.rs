//! Runs that are sent to a real tracking server of MLflow on the loopback: it has what the run came to, once, however often
//! it was sent. The server is installed by `scripts/install-mlflow.sh`; where it is not, this says that it is skipped, and
//! with `RUNNER_REQUIRE_SERVERS` set it fails. What a server may answer besides is played by one of our own.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::environment::TestEnvironment;
use crate::pipelines::SMALL;

/// The version that `scripts/install-mlflow.sh` installs.
fn folder() -> Option<PathBuf> {
    let script = fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/scripts/install-mlflow.sh"
    ))
    .unwrap();
    let version = script
        .lines()
        .find_map(|line| line.strip_prefix("version="))
        .unwrap();
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let usual = cache.map(|cache| cache.join(format!("runner-tests/mlflow-{version}")));
    let named = std::env::var_os("RUNNER_MLFLOW").map(PathBuf::from);
    let found = named
        .into_iter()
        .chain(usual)
        .find(|place| place.join("bin/mlflow").is_file());
    if found.is_none() {
        let message = "there is no MLflow: scripts/install-mlflow.sh installs it";
        assert!(
            std::env::var_os("RUNNER_REQUIRE_SERVERS").is_none(),
            "{message}"
        );
        eprintln!("SKIPPED: {message}");
    }
    found
}

/// A tracking server with a group of processes of its own, which is ended by its id.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(environment: &TestEnvironment) -> Option<Self> {
        let place = folder()?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let at = |name: &str| environment.path(name).display().to_string();
        fs::create_dir_all(environment.path("server")).unwrap();
        let log = fs::File::create(environment.path("server/log")).unwrap();
        let child = Command::new(place.join("bin/mlflow"))
            .args([
                "server",
                "--host",
                "127.0.0.1",
                "--port",
                &port.to_string(),
                "--workers",
                "1",
            ])
            .args(["--gunicorn-opts", "--timeout 300 --no-control-socket"])
            .args([
                "--backend-store-uri",
                &format!("sqlite:///{}", at("server/runs.db")),
            ])
            .args(["--artifacts-destination", &at("server/artifacts")])
            .env("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
            .env(
                "PATH",
                format!("{}:/usr/bin:/bin", place.join("bin").display()),
            )
            .env("HOME", environment.path("server"))
            .current_dir(environment.path("server"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap();
        let mut server = Self {
            child,
            address: format!("http://127.0.0.1:{port}"),
        };
        let started = Instant::now();
        while ureq::get(format!("{}/health", server.address))
            .call()
            .is_err()
        {
            let said = || fs::read_to_string(environment.path("server/log")).unwrap_or_default();
            assert!(
                server.child.try_wait().unwrap().is_none(),
                "the server ended: {}",
                said()
            );
            assert!(
                started.elapsed() < Duration::from_secs(300),
                "the server does not come up: {}",
                said()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        Some(server)
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let address = format!("{}/api/2.0/mlflow/{path}", self.address);
        let text = ureq::post(address)
            .content_type("application/json")
            .send(body.to_string())
            .unwrap();
        serde_json::from_str(&text.into_body().read_to_string().unwrap()).unwrap()
    }

    fn get(&self, path: &str) -> Value {
        let text = ureq::get(format!("{}/api/2.0/{path}", self.address))
            .call()
            .unwrap();
        serde_json::from_str(&text.into_body().read_to_string().unwrap()).unwrap()
    }

    /// All runs of an experiment.
    fn runs(&self, experiment: &Value) -> Vec<Value> {
        let found = self.post(
            "runs/search",
            &json!({"experiment_ids": [experiment], "max_results": 1000}),
        );
        found["runs"].as_array().cloned().unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.child.wait();
    }
}

/// Keys and values of a list such as `data.params`.
fn pairs(run: &Value, what: &str) -> BTreeMap<String, Value> {
    let items = run["data"][what].as_array().cloned().unwrap_or_default();
    items
        .iter()
        .map(|item| {
            (
                item["key"].as_str().unwrap().to_owned(),
                item["value"].clone(),
            )
        })
        .collect()
}

#[test]
fn a_server_has_what_the_run_came_to_and_has_it_once() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    let Some(server) = Server::start(&environment) else {
        return;
    };
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    let latest = environment.latest();
    let export = [
        "export",
        "--format",
        "mlflow",
        "--to",
        &server.address,
        "--objects",
        "outputs",
    ];
    let sent = environment.json(&export);
    assert_eq!(
        (&sent["was_there"], &sent["runs"]),
        (&json!(false), &json!(1)),
        "{sent}"
    );
    let again = environment.json(&export);
    assert_eq!(
        (&again["was_there"], &again["run_id"]),
        (&json!(true), &sent["run_id"])
    );
    environment
        .succeed(&export)
        .prints(sent["address"].as_str().unwrap())
        .says("all of it was there already");
    let runs = server.runs(&sent["experiment_id"]);
    assert_eq!(runs.len(), 1);
    let run = &runs[0];
    assert_eq!(
        (&run["info"]["status"], &run["info"]["run_name"]),
        (&json!("FINISHED"), &latest["run"])
    );
    let (params, tags, metrics) = (
        pairs(run, "params"),
        pairs(run, "tags"),
        pairs(run, "metrics"),
    );
    assert_eq!(
        (&params["epochs"], &params["seed"]),
        (&json!("2"), &json!("7"))
    );
    assert_eq!(tags["runner.key.model"], latest["stages"][3]["key"]);
    for (stage, values) in latest["metrics"].as_object().unwrap() {
        for (name, value) in values.as_object().unwrap() {
            assert_eq!(
                metrics[&format!("{stage}.{name}")],
                *value,
                "{stage}.{name}"
            );
        }
    }
    let history = server.get(&format!(
        "mlflow/metrics/get-history?run_id={}&metric_key=model.train_loss",
        sent["run_id"].as_str().unwrap()
    ));
    let steps: Vec<i64> = history["metrics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|point| point["step"].as_i64().unwrap())
        .collect();
    assert_eq!(steps, [1, 2]);
    let files: Vec<PathBuf> = environment.files("server/artifacts");
    assert!(
        files
            .iter()
            .any(|path| path.ends_with("artifacts/objects/size/size/size.txt")),
        "{files:?}"
    );
    assert!(
        files
            .iter()
            .any(|path| path.ends_with("artifacts/pipeline/pipeline.yaml")),
        "{files:?}"
    );
    assert_eq!(sent["artifacts"].as_u64(), Some(files.len() as u64));
    // Anew, what was there is deleted, and is there once.
    let anew = environment.json(&[&export[..], &["--force"]].concat());
    assert_ne!(anew["run_id"], sent["run_id"]);
    assert_eq!(server.runs(&sent["experiment_id"]).len(), 1);
    // Points of a matrix, with names that MLflow refuses, as runs below that of the whole.
    environment.write(
        "matrix.yaml",
        "pipeline: matrix\nstages:\n  it:\n    uses: command\n    matrix: {v: [\"a/b\", \"a_b\", \"#?%2F\"]}\n    with:\n      \
         run: [sh, -c, \"echo $0 > {out.o}; echo '{\\\"f/1\\\": 0.5, \\\"f.1\\\": 0.25}' > {out.m}\", \"${v}\"]\n      \
         outputs: {o: {path: o.txt}, m: {path: m.json, kind: metrics}}\n",
    );
    environment.succeed(&["run", "--quiet", "matrix.yaml"]);
    let sent = environment.json(&[
        "export",
        "--format",
        "mlflow",
        "--to",
        &server.address,
        "--objects",
        "all",
    ]);
    let runs = server.runs(&sent["experiment_id"]);
    assert_eq!((runs.len(), &sent["runs"]), (4, &json!(4)));
    let children = runs
        .iter()
        .filter(|run| pairs(run, "tags").get("mlflow.parentRunId") == Some(&sent["run_id"]));
    let points: Vec<Value> = children
        .map(|run| {
            let metrics = pairs(run, "metrics");
            assert_eq!(
                (&metrics["it.f:2F1"], &metrics["it.f.1"]),
                (&json!(0.5), &json!(0.25))
            );
            assert_eq!(run["info"]["status"], "FINISHED");
            pairs(run, "params")["v"].clone()
        })
        .collect();
    assert_eq!(points.len(), 3);
    let texts: std::collections::BTreeSet<String> = environment
        .files("server/artifacts")
        .into_iter()
        .filter(|path| path.ends_with("o.txt"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    assert_eq!(texts.len(), 3, "{texts:?}");
}

/// A request as it came in: method, address, authorization, body.
type Asked = (String, String, Option<String>, String);

/// Answers requests with what `answer` says, and keeps them.
fn play(
    answer: impl Fn(&str) -> (u16, Value) + Send + 'static,
) -> (String, Arc<Mutex<Vec<Asked>>>) {
    let server = tiny_http::Server::http("127.0.0.1:0").unwrap();
    let address = format!("127.0.0.1:{}", server.server_addr().to_ip().unwrap().port());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&asked);
    std::thread::spawn(move || {
        while let Ok(mut request) = server.recv() {
            let mut body = String::new();
            let _ = request.as_reader().read_to_string(&mut body);
            let header = request
                .headers()
                .iter()
                .find(|header| header.field.equiv("Authorization"));
            let authorization = header.map(|header| header.value.to_string());
            let (method, url) = (request.method().to_string(), request.url().to_owned());
            let (status, value) = answer(&url);
            kept.lock()
                .unwrap()
                .push((method, url, authorization, body));
            let response =
                tiny_http::Response::from_string(value.to_string()).with_status_code(status);
            let _ = request.respond(response);
        }
    });
    (address, asked)
}

fn mlflow(url: &str) -> (u16, Value) {
    let path = url
        .split('?')
        .next()
        .unwrap()
        .trim_start_matches("/api/2.0/mlflow/");
    match path {
        "experiments/get-by-name" => (
            404,
            json!({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"}),
        ),
        "experiments/create" => (200, json!({"experiment_id": "5"})),
        "runs/search" => (200, json!({})),
        "runs/create" => (
            200,
            json!({"run": {"info": {"run_id": "r1", "artifact_uri": "s3://bucket/5/r1/artifacts"}}}),
        ),
        _ => (200, json!({})),
    }
}

const TINY: &str = "pipeline: tiny\nstages:\n  it:\n    uses: command\n    with: {run: [sh, -c, \"echo '{\\\"v\\\": 1}' > {out.m}\"], outputs: {m: {path: m.json, kind: metrics}}}\n";

#[test]
fn credentials_are_sent_and_never_told() {
    let mut environment = TestEnvironment::with_pipeline(TINY);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    let (address, asked) = play(mlflow);
    environment.set("MLFLOW_TRACKING_TOKEN", "geheim-token");
    let to = format!("http://{address}");
    let told = environment.succeed(&["export", "--format", "mlflow", "--to", &to]);
    told.says("the server keeps artifacts at s3://bucket/5/r1/artifacts and takes none itself");
    assert!(!told.stdout.contains("geheim") && !told.stderr.contains("geheim"));
    assert!(
        asked
            .lock()
            .unwrap()
            .drain(..)
            .all(|asked| asked.2.as_deref() == Some("Bearer geheim-token"))
    );
    let with_user = format!("http://ann:geheim-wort@{address}");
    let told = environment.succeed(&["export", "--format", "mlflow", "--to", &with_user]);
    assert!(
        !told.stdout.contains("geheim") && !told.stderr.contains("geheim"),
        "{}",
        told.stdout
    );
    assert!(
        asked
            .lock()
            .unwrap()
            .iter()
            .all(|asked| asked.2.as_deref().unwrap().starts_with("Basic "))
    );
}

/// A trial takes three requests: it is made, filled and closed; which of them are there is asked once.
#[test]
fn a_part_of_a_run_takes_three_requests() {
    let environment = TestEnvironment::with_pipeline(
        &TINY.replace("    uses:", "    matrix: {v: [1, 2, 3, 4, 5]}\n    uses:"),
    );
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    let (address, asked) = play(mlflow);
    environment.succeed(&[
        "export",
        "--format",
        "mlflow",
        "--to",
        &format!("http://{address}"),
    ]);
    let asked: Vec<String> = asked
        .lock()
        .unwrap()
        .iter()
        .map(|asked| asked.1.clone())
        .collect();
    let count = |path: &str| asked.iter().filter(|url| url.contains(path)).count();
    assert_eq!(
        (
            count("runs/search"),
            count("runs/create"),
            count("runs/log-batch")
        ),
        (1, 6, 6),
        "{asked:?}"
    );
    assert_eq!((count("runs/update"), asked.len()), (6, 22), "{asked:?}");
}

#[test]
fn what_a_server_refuses_is_told_in_its_words() {
    let environment = TestEnvironment::with_pipeline(TINY);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    let refuse = |status: u16, body: Value| {
        let (address, _) = play(move |url| match url.contains("runs/log-batch") {
            true => (status, body.clone()),
            false => mlflow(url),
        });
        environment
            .run(&[
                "export",
                "--format",
                "mlflow",
                "--to",
                &format!("http://{address}"),
            ])
            .expect(1)
    };
    let body =
        json!({"error_code": "INVALID_PARAMETER_VALUE", "message": "the disk has had enough"});
    refuse(400, body)
        .says("refuses runs/log-batch: the disk has had enough (INVALID_PARAMETER_VALUE)");
    refuse(401, json!("who are you")).says("MLFLOW_TRACKING_TOKEN");
    refuse(500, json!({})).says("refuses runs/log-batch");
    let nobody = ["export", "--format", "mlflow", "--to", "http://127.0.0.1:9"];
    environment
        .run(&nobody)
        .expect(1)
        .says("cannot be used")
        .says("mlflow server");
    environment
        .run(&["export", "--format", "mlflow", "--to", "mlruns"])
        .expect(2)
        .says("is not the address");
    environment
        .run(&["export", "--format", "csv", "--to", "http://h"])
        .expect(2)
        .says("--format mlflow");
}

#[test]
fn a_folder_says_what_mlflow_needs() {
    let environment = TestEnvironment::with_pipeline(TINY);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    let told = environment.succeed(&["export", "--format", "mlflow"]);
    told.says("MLFLOW_ALLOW_FILE_STORE=true")
        .says("--to http://");
}
