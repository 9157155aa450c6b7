//! The live pages: a run as it grows, lists, comparisons and sweeps, and who may see them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::access::expect_accessible;
use crate::driver::Browser;
use crate::environment::{Running, TestEnvironment};
use crate::report::DETECTOR;

/// `runner ui`, until it is dropped.
struct Served {
    _running: Running,
    /// With the token.
    address: String,
}

impl Served {
    fn start(environment: &TestEnvironment) -> Self {
        let running = environment.spawn(&["ui", "--json"]);
        let (stdout, start) = (running.stdout(), Instant::now());
        loop {
            if let Ok(line) = serde_json::from_str::<serde_json::Value>(stdout().trim()) {
                let address = line["address"].as_str().unwrap().to_owned();
                return Self {
                    _running: running,
                    address,
                };
            }
            assert!(start.elapsed() < Duration::from_secs(120), "{}", stdout());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Without path and token.
    fn root(&self) -> &str {
        self.address.split("/?").next().unwrap()
    }

    fn token(&self) -> &str {
        self.address.split("token=").nth(1).unwrap()
    }

    /// The head and body of the answer to a request, as they come.
    fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.root().trim_start_matches("http://")).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn get(&self, path: &str, headers: &str) -> String {
        let host = self.root().trim_start_matches("http://");
        self.ask(&format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n\r\n"
        ))
    }

    fn cookie(&self) -> String {
        format!("Cookie: runner-{}={}\r\n", &self.token()[..8], self.token())
    }
}

fn status(answer: &str) -> &str {
    answer.split_whitespace().nth(1).unwrap_or_default()
}

#[test]
fn nobody_else_gets_in_and_nothing_else_gets_out() {
    let environment = TestEnvironment::with_pipeline(DETECTOR);
    environment.succeed(&["run", "pipeline.yaml", "--target", "raw"]);
    environment.write("secret.txt", "what is outside of the store");
    let served = Served::start(&environment);
    let cookie = served.cookie();
    assert_eq!(status(&served.get("/", "")), "403");
    assert_eq!(status(&served.get("/?token=0123", "")), "403");
    assert_eq!(status(&served.get("/", &cookie)), "200");
    let entered = served.get(&format!("/?token={}", served.token()), "");
    assert_eq!(status(&entered), "303");
    assert!(
        entered.contains("HttpOnly") && entered.contains("SameSite=Lax"),
        "{entered}"
    );
    // A name that was made to lead here is not ours, and a page from elsewhere is refused whatever it sends along.
    for host in [
        "evil.example",
        "evil.example:80",
        "localhost.evil.example",
        "10.0.0.1",
    ] {
        let answer = served.ask(&format!(
            "GET / HTTP/1.1\r\nHost: {host}\r\n{cookie}Connection: close\r\n\r\n"
        ));
        assert_eq!(status(&answer), "421", "{host}");
    }
    // A tunnel ends at another port.
    let answer = served.ask(&format!(
        "GET / HTTP/1.1\r\nHost: localhost:9999\r\n{cookie}Connection: close\r\n\r\n"
    ));
    assert_eq!(status(&answer), "200");
    for origin in ["http://evil.example", "null", "https://localhost"] {
        assert_eq!(
            status(&served.get("/", &format!("{cookie}Origin: {origin}\r\n"))),
            "403",
            "{origin}"
        );
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let host = served.root().trim_start_matches("http://");
        let answer = served.ask(&format!("{method} / HTTP/1.1\r\nHost: {host}\r\n{cookie}Content-Length: 0\r\nConnection: close\r\n\r\n"));
        assert_eq!(status(&answer), "405", "{method}");
    }
    let run = environment.latest()["run"].as_str().unwrap().to_owned();
    for path in [
        "/run/..%2f..%2f..%2fsecret.txt/".to_owned(),
        "/run/%2e%2e/".to_owned(),
        format!("/run/{run}/tiles/..%2f..%2f..%2fsecret.txt"),
        format!("/run/{run}/tiles/%2fetc%2fpasswd"),
        format!("/run/{run}/run.json"),
        "/sweep?file=%2Fetc%2Fpasswd".to_owned(),
        "/secret.txt".to_owned(),
        "/compare?run=..%2f..%2fsecret.txt".to_owned(),
    ] {
        let answer = served.get(&path, &cookie);
        assert_eq!(status(&answer), "404", "{path}");
        assert!(!answer.contains("outside of the store"), "{path}");
    }
    let answer = served.get("/", &cookie).to_lowercase();
    for header in [
        "content-security-policy: default-src 'none'",
        "x-content-type-options: nosniff",
        "x-frame-options: deny",
        "cache-control: no-store",
    ] {
        assert!(answer.contains(header), "{header}: {answer}");
    }
}

#[test]
fn a_run_is_seen_as_it_grows_and_when_it_has_ended() {
    let Some(browser) = Browser::start() else {
        return;
    };
    // It waits for the test, so that nothing depends on who is faster.
    let environment = TestEnvironment::with_pipeline(
        r#"pipeline: slow
stages:
  raw: {uses: generate, with: {channels: 2, day: 24, rows: {train: 100, validation: 20, calibration: 20, test: 60}}}
  waiting:
    uses: command
    from: raw
    with:
      run: [sh, -c, "echo '@runner {\"step\": 2, \"steps\": 5, \"loss\": 0.25}'; echo hello; until [ -e \"$GO\" ]; do sleep 0.05; done; echo done > {out.text}"]
      pass_env: [GO]
      outputs: {text: {path: text.txt}}
"#,
    );
    let mut environment = environment;
    let go = environment.path("go");
    environment.set("GO", go.display().to_string());
    let running = environment.spawn(&["run", "pipeline.yaml"]);
    let served = Served::start(&environment);
    browser.open(&served.address);
    browser.wait("if (!document.querySelector('#runs tbody tr')) location.reload(); return document.querySelector('#runs tbody .running') !== null");
    expect_accessible(&browser, "the list of runs");
    browser.click("#runs tbody a");
    browser.wait("return document.getElementById('live')?.textContent.includes('waiting')");
    browser.wait("return document.getElementById('live')?.textContent.includes('hello')");
    browser.wait("return document.getElementById('live')?.textContent.includes('step 2 of 5')");
    expect_accessible(&browser, "the page of a run under way");
    browser.picture("live");
    // How far it is, in the terminal.
    let watched = environment.json(&["watch", "--once"]);
    assert_eq!(watched["status"], "running", "{watched}");
    let stage = &watched["at_work"][0];
    assert_eq!(stage["stage"], "waiting", "{watched}");
    assert_eq!(
        (&stage["done"], &stage["values"]["loss"]),
        (&json!(2), &json!(0.25)),
        "{watched}"
    );
    std::fs::write(&go, "").unwrap();
    running.wait().expect(0);
    // The page turns into that of the whole run without a hand on it.
    browser.wait("return document.getElementById('provenance') !== null");
    browser.wait_until_ready();
    browser.expect_quiet(served.root());
}

#[test]
fn runs_are_filtered_compared_and_told_apart() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let environment = TestEnvironment::with_pipeline(DETECTOR);
    for epochs in ["1", "2"] {
        let set = format!("model.with.epochs={epochs}");
        environment.succeed(&["run", "pipeline.yaml", "--set", &set]);
    }
    environment.write(
        "sweep.yaml",
        "sweep: rates\npipeline: pipeline.yaml\nobjective: {stage: metrics, metric: average_precision}\naxes: {model.with.epochs: [1, 2, 3]}\n",
    );
    environment.succeed(&["sweep", "sweep.yaml"]);
    let served = Served::start(&environment);
    browser.open(&served.address);
    let rows = "return document.querySelectorAll('#runs tbody tr').length";
    assert_eq!(browser.eval(rows), 3);
    browser.picture("runs");
    browser.open(&format!("{}/?filter=rates", served.root()));
    assert_eq!(browser.eval(rows), 1);
    browser.open(&format!(
        "{}/?filter=pipeline%3Dseen&sort=-f1&columns=f1",
        served.root()
    ));
    assert_eq!(browser.eval(rows), 2);
    browser.eval("document.querySelectorAll('#runs input').forEach((box) => box.checked = true)");
    browser.click("form[action='/compare'] button");
    browser.wait("return location.pathname === '/compare'");
    let text = browser.eval("return document.body.innerText");
    assert!(text.as_str().unwrap().contains("metrics.f1"), "{text}");
    expect_accessible(&browser, "a comparison");
    browser.picture("compare");
    browser.click("main p a:nth-of-type(2)");
    browser.wait("return location.pathname === '/diff'");
    let text = browser.eval("return document.body.innerText");
    assert!(text.as_str().unwrap().contains("epochs"), "{text}");
    expect_accessible(&browser, "a difference");
    browser.open(&format!("{}/sweeps", served.root()));
    browser.click("main table a");
    browser.wait("return document.querySelectorAll('#coordinates polyline').length === 3");
    // Those are kept that pass where the axis is brushed.
    browser.eval(
        "const grip = [...document.querySelectorAll('#coordinates rect')].filter((rect) => rect.getAttribute('fill') === 'transparent')[0];
         const box = grip.getBoundingClientRect();
         const at = (type, y) => grip.dispatchEvent(new PointerEvent(type, {clientX: box.left + box.width / 2, clientY: box.top + y * box.height, pointerId: 1, bubbles: true}));
         grip.setPointerCapture = () => {};
         at('pointerdown', 0); at('pointermove', 0.3); at('pointerup', 0.3);",
    );
    assert_eq!(
        browser.eval("return document.getElementById('chosen').textContent"),
        json!("1 of 3 trials")
    );
    // By the keyboard: everything again, then less and less from below.
    let press = |key: &str, shift: bool| {
        browser.eval(&format!(
            "const grip = document.querySelector('#coordinates [role=slider]'); grip.focus();
             grip.dispatchEvent(new KeyboardEvent('keydown', {{key: '{key}', shiftKey: {shift}, bubbles: true}}));
             return grip.getAttribute('aria-valuetext')"
        ))
    };
    assert_eq!(press("Escape", false), json!("3 of 3 trials"));
    for _ in 0..4 {
        press("ArrowUp", true);
    }
    assert_eq!(press("ArrowUp", true), json!("2 of 3 trials"));
    expect_accessible(&browser, "the page of a sweep");
    browser.picture("sweep");
    browser.expect_quiet(served.root());
}
