//! The end of a run that shares its results: what came is kept, what was made here is sent, and the user sees both.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use serde_json::json;

use super::Global;
use crate::cache::{Remote, Store, Traffic};
use crate::diagnostic::counted;
use crate::ui::{Paint, bytes, clear_line, errln, json_line, redraw};

/// How often the screen changes.
const TICK: Duration = Duration::from_millis(100);

/// How often a log gets a line.
const LINE: Duration = Duration::from_secs(10);

/// How long requests may take to notice Ctrl-C.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Waits until results are where they should be, and says what went to the remote and came from it. Nothing here can fail
/// a run; what is given is whether Ctrl-C ended the waiting. Without a remote, nothing happens.
pub(super) fn settle(store: &Store, global: &Global) -> bool {
    let cancel = &global.project.cancel;
    let Some(remote) = store.remote() else {
        return false;
    };
    if let Err(error) = store.keep_fetched() {
        tracing::warn!(
            "{error}; what came from {} comes again when it is needed",
            remote.address()
        );
    }
    wait(remote, global);
    let traffic = remote.traffic();
    let interrupted = cancel.is_cancelled() && (traffic.unsent > 0 || remote.unsent() > 0);
    if global.json {
        let mut line = json!(traffic);
        line["event"] = "remote".into();
        line["url"] = remote.address().to_string().into();
        line["trouble"] = json!(remote.trouble().map(|error| error.to_string()));
        json_line(&line);
        return interrupted;
    }
    if !global.quiet
        && let Some(text) = told(&traffic)
    {
        errln!("{} {}: {text}", Paint::Quiet.on("remote"), remote.address());
    }
    if traffic.unsent > 0 {
        let results = if traffic.unsent == 1 {
            "result was"
        } else {
            "results were"
        };
        tracing::warn!(
            "{} {results} not sent to {}; `runner cache push` sends what is missing there",
            traffic.unsent,
            remote.address()
        );
    }
    interrupted
}

fn wait(remote: &Remote, global: &Global) {
    let show = !global.quiet && !global.json;
    let terminal = show && std::io::stderr().is_terminal();
    let mut told = Instant::now();
    let mut drawn = false;
    while !remote.wait(TICK) {
        if global.project.cancel.is_cancelled() {
            remote.abandon();
            remote.wait(SHUTDOWN_TIMEOUT);
            break;
        }
        let left = remote.unsent();
        if terminal {
            let sent = bytes(remote.traffic().bytes_sent);
            redraw(&format!("sending results: {left} left, {sent} sent"));
            drawn = true;
        } else if show && told.elapsed() >= LINE {
            told = Instant::now();
            errln!("  sending results to {}: {left} left", remote.address());
        }
    }
    if drawn {
        clear_line();
    }
}

/// `3 results found there, 4 objects fetched (1.2 MiB), 5 results sent (3 objects, 7 KiB)`.
fn told(traffic: &Traffic) -> Option<String> {
    let mut parts = Vec::new();
    if traffic.found > 0 {
        parts.push(format!("{} found there", counted(traffic.found, "result")));
    }
    if traffic.objects_fetched > 0 {
        let objects = counted(traffic.objects_fetched, "object");
        parts.push(format!(
            "{objects} fetched ({})",
            bytes(traffic.bytes_fetched)
        ));
    }
    if traffic.actions_sent > 0 {
        let objects = format!(
            "{}, {}",
            counted(traffic.objects_sent, "object"),
            bytes(traffic.bytes_sent)
        );
        parts.push(format!(
            "{} sent ({objects})",
            counted(traffic.actions_sent, "result")
        ));
    }
    if traffic.wrong > 0 {
        parts.push(format!(
            "{} found damaged there",
            counted(traffic.wrong, "file")
        ));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}
