//! Asking another program something, briefly: what it prints, unless it is not there, fails, or takes too long.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// More than this of an answer is not read.
const MOST: u64 = 1 << 20;

/// How often a program that has not ended is looked at.
const POLL: Duration = Duration::from_micros(500);

/// What a program prints on standard output; `None` if it cannot say within the limit. It is ended then.
pub(super) fn ask(command: &mut Command, limit: Duration) -> Option<String> {
    let command = command.stdin(Stdio::null()).stderr(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).spawn().ok()?;
    let output = child.stdout.take()?;
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        output.take(MOST).read_to_end(&mut text).map(|_| text)
    });
    let started = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if started.elapsed() < limit => std::thread::sleep(POLL),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
        }
    };
    // A program that was ended may have left one of its own behind, which keeps the pipe open: no waiting for that.
    let status = status?;
    let text = reader.join().ok()?.ok()?;
    let said = || String::from_utf8_lossy(&text).into_owned();
    status.success().then(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Option<String> {
        ask(Command::new("sh").args(["-c", script]), limit)
    }

    #[test]
    fn an_answer_comes_whole_or_not_at_all() {
        let limit = Duration::from_secs(30);
        assert_eq!(shell("echo yes", limit).as_deref(), Some("yes\n"));
        assert_eq!(shell("echo no; exit 1", limit), None);
        assert_eq!(
            ask(&mut Command::new("no-such-program-anywhere"), limit),
            None
        );
        let started = Instant::now();
        assert_eq!(shell("exec sleep 30", Duration::from_millis(20)), None);
        assert!(started.elapsed() < Duration::from_secs(10), "it was ended");
    }
}
