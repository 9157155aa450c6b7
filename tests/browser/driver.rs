//! A browser without a window, and what a test asks of it: the part of WebDriver (W3C) that the tests need.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A page may take so long to be ready, on the slowest machine.
const LIMIT: Duration = Duration::from_secs(300);

/// Chromium, until it is dropped.
pub struct Browser {
    driver: Child,
    session: String,
    agent: ureq::Agent,
    profile: tempfile::TempDir,
}

impl Browser {
    /// Starts a browser; `None` where there is none to start.
    pub fn start() -> Option<Self> {
        let found = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut driver) = found else {
            let message = "there is no chromedriver: scripts/install-browser.sh installs it";
            assert!(
                std::env::var_os("RUNNER_REQUIRE_SERVERS").is_none(),
                "{message}"
            );
            eprintln!("SKIPPED: {message}");
            return None;
        };
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines
            .find_map(|line| {
                let line = line.unwrap();
                let port = line.split("started successfully on port ").nth(1)?;
                Some(port.trim_end_matches('.').to_owned())
            })
            .expect("the driver says its port");
        // What it says later is nobody's concern, but must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(LIMIT))
            .http_status_as_error(false)
            .build();
        let mut browser = Self {
            driver,
            session: format!("http://127.0.0.1:{port}/session"),
            agent: config.into(),
            profile: tempfile::tempdir().unwrap(),
        };
        let folder = browser.profile.path().display().to_string();
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--window-size=1280,1000",
            &format!("--user-data-dir={folder}"),
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }}});
        let session = browser.post("", &wanted);
        let id = session["sessionId"].as_str().expect("a session has a name");
        browser.session = format!("{}/{id}", browser.session);
        browser.post("/timeouts", &json!({"script": LIMIT.as_millis()}));
        Some(browser)
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.ask(path, body)
            .unwrap_or_else(|complaint| panic!("{path} {body}: {complaint}"))
    }

    /// The driver's answer, or what it complains of.
    fn ask(&self, path: &str, body: &Value) -> Result<Value, String> {
        let address = format!("{}{path}", self.session);
        let mut answer = self
            .agent
            .post(&address)
            .header("content-type", "application/json")
            .send(body.to_string())
            .unwrap_or_else(|error| panic!("{address}: {error}"));
        let text = answer.body_mut().read_to_string().unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap();
        if answer["value"]["error"].is_null() {
            return Ok(answer["value"].clone());
        }
        Err(answer["value"]["message"].to_string())
    }

    /// Opens an address.
    pub fn open(&self, address: &str) {
        self.post("/url", &json!({"url": address}));
    }

    /// Opens a page on disk and waits until its charts are drawn.
    pub fn open_file(&self, path: &Path) {
        self.open(&format!("file://{}", path.display()));
        self.wait_until_ready();
    }

    /// Waits until the charts of the page are drawn.
    pub fn wait_until_ready(&self) {
        self.wait(
            "if (!window.runnerPage) return false; await window.runnerPage.ready; return true",
        );
    }

    /// The value of a script: the body of an asynchronous function.
    pub fn eval(&self, script: &str) -> Value {
        self.try_eval(script)
            .unwrap_or_else(|complaint| panic!("{script}: {complaint}"))
    }

    /// As [`eval`](Self::eval); an error where the driver has no answer.
    fn try_eval(&self, script: &str) -> Result<Value, String> {
        let body = format!(
            "const done = arguments[arguments.length - 1];
             (async () => {{ {script} }})().then((value) => done({{value: value ?? null}}), (error) => done({{error: String(error && error.stack || error)}}));"
        );
        let answer = self.ask("/execute/async", &json!({"script": body, "args": []}))?;
        assert!(answer["error"].is_null(), "{script}: {}", answer["error"]);
        Ok(answer["value"].clone())
    }

    /// Looks again until a script says something other than `false` and `null`. A page may give way to the next one
    /// meanwhile; the driver then has no answer.
    pub fn wait(&self, script: &str) -> Value {
        let start = Instant::now();
        loop {
            let seen = self.try_eval(script);
            match &seen {
                Ok(Value::Null | Value::Bool(false)) | Err(_) => {}
                Ok(value) => return value.clone(),
            }
            assert!(start.elapsed() < LIMIT, "never: {script}: {seen:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Clicks the first element of a selector, as a mouse does.
    pub fn click(&self, selector: &str) {
        let found = self.post(
            "/element",
            &json!({"using": "css selector", "value": selector}),
        );
        let element = found.as_object().unwrap().values().next().unwrap();
        let element = element.as_str().unwrap();
        self.post(&format!("/element/{element}/click"), &json!({}));
    }

    fn log(&self, kind: &str) -> Vec<Value> {
        let entries = self.post("/se/log", &json!({"type": kind}));
        entries.as_array().unwrap().clone()
    }

    /// Fails if the console has an error or a warning, or anything was asked of another place than `own`. Forgets what it
    /// has seen.
    pub fn expect_quiet(&self, own: &str) {
        for entry in self.log("browser") {
            let is_loud = ["SEVERE", "WARNING"].contains(&entry["level"].as_str().unwrap());
            assert!(!is_loud, "the console says: {entry}");
        }
        for entry in self.log("performance") {
            let message: Value = serde_json::from_str(entry["message"].as_str().unwrap()).unwrap();
            let event = &message["message"];
            if event["method"] != "Network.requestWillBeSent" {
                continue;
            }
            let address = event["params"]["request"]["url"].as_str().unwrap();
            let is_own = address.starts_with(own)
                || address.starts_with("data:")
                || address.starts_with("blob:")
                || address.starts_with("about:")
                // The empty page that the browser itself begins with.
                || address.starts_with("chrome:");
            assert!(is_own, "the page asks for {address}");
        }
    }

    /// Writes a picture of the page where `RUNNER_SCREENSHOTS` names a folder.
    pub fn picture(&self, name: &str) {
        use std::io::Write;
        let Some(folder) = std::env::var_os("RUNNER_SCREENSHOTS") else {
            return;
        };
        let size =
            self.eval("return [innerWidth, Math.min(4000, document.documentElement.scrollHeight)]");
        let shot = json!({"cmd": "Page.captureScreenshot", "params": {
            "captureBeyondViewport": true,
            "clip": {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1},
        }});
        let answer = self.post("/goog/cdp/execute", &shot);
        let bytes = unpacked(answer["data"].as_str().unwrap());
        let path = Path::new(&folder).join(format!("{name}.png"));
        File::create(path).unwrap().write_all(&bytes).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.agent.delete(&self.session).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// The bytes of a text in base 64.
fn unpacked(text: &str) -> Vec<u8> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for letter in text.bytes().take_while(|letter| *letter != b'=') {
        let place = LETTERS.iter().position(|known| *known == letter);
        bits = bits << 6 | place.expect("a letter of base 64") as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}
