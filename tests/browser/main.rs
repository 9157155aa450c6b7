//! The pages in a real browser: Chromium, driven over WebDriver. `scripts/install-browser.sh` installs it; where it is
//! missing, each test says that it is skipped, and with `RUNNER_REQUIRE_SERVERS` set it fails.

mod access;
mod driver;
#[path = "../suite/environment.rs"]
#[expect(dead_code, reason = "the suite uses all of it")]
mod environment;
mod report;
mod served;
