//! Downloads one file: into a temporary name beside its place, checked, then renamed. What is in place is complete.

use std::fs::File;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sha2::Digest as _;

use super::DataError;
use super::memo::hexadecimal;
use super::sources::SourceFile;

/// How far a download is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer<'a> {
    pub url: &'a str,
    pub target: &'a Path,
    pub done: u64,
    /// Bytes in all, where known.
    pub total: Option<u64>,
}

/// Is told of progress and may end a download.
pub type Watch<'a> = &'a dyn Fn(&Transfer<'_>) -> ControlFlow<()>;

/// Watches nothing.
pub fn ignore(_: &Transfer<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// No file that is listed comes near this.
const MOST_BYTES: u64 = 16 << 30;
const ATTEMPTS: u32 = 3;

/// Downloads `url` to `target`.
///
/// # Errors
/// If it cannot be had or is not what the list says.
pub(super) fn download(
    url: &str,
    expected: &SourceFile,
    target: &Path,
    watch: Watch<'_>,
) -> Result<(), DataError> {
    if let Some(folder) = target.parent() {
        std::fs::create_dir_all(folder).map_err(DataError::io("cannot create", folder))?;
    }
    let mut attempt = 1;
    loop {
        let temporary = Temporary::beside(target);
        match transfer(url, expected, target, &temporary.0, watch) {
            Ok(()) => {
                return std::fs::rename(&temporary.0, target)
                    .map_err(DataError::io("cannot write", target));
            }
            Err(Failure::Passing(_)) if attempt < ATTEMPTS => {
                std::thread::sleep(Duration::from_millis(300) * attempt * attempt);
                attempt += 1;
            }
            Err(Failure::Passing(reason) | Failure::Final(reason)) => {
                let hint = "check the network or a proxy (HTTPS_PROXY) and run it again".to_owned();
                return Err(DataError::Download {
                    url: url.to_owned(),
                    reason,
                    hint,
                });
            }
            Err(Failure::Other(error)) => return Err(error),
        }
    }
}

/// A name that no other process uses; the file is removed unless it was renamed.
struct Temporary(PathBuf);

impl Temporary {
    fn beside(target: &Path) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (process, number) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(format!(".part-{process}-{number}"));
        Self(target.with_file_name(name))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

enum Failure {
    /// May go better the next time.
    Passing(String),
    /// Will not.
    Final(String),
    Other(DataError),
}

fn transfer(
    url: &str,
    expected: &SourceFile,
    target: &Path,
    temporary: &Path,
    watch: Watch<'_>,
) -> Result<(), Failure> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(15)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .timeout_per_read(Some(Duration::from_secs(60)))
        .user_agent(concat!("runner/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let mut response = agent.get(url).call().map_err(|error| match error {
        ureq::Error::StatusCode(status) if status < 500 && status != 429 => {
            Failure::Final(format!("the server answered with status {status}"))
        }
        other => Failure::Passing(other.to_string()),
    })?;
    let body = response.body_mut();
    let total = expected.bytes.or(body.content_length());
    let limit = expected.bytes.unwrap_or(MOST_BYTES);
    let io = |error| Failure::Other(DataError::io("cannot write", temporary)(error));
    let mut file = File::create(temporary).map_err(io)?;
    let mut reader = body.with_config().limit(limit.saturating_add(1)).reader();
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut done = 0;
    loop {
        let progress = Transfer {
            url,
            target,
            done,
            total,
        };
        if watch(&progress).is_break() {
            return Err(Failure::Other(DataError::Cancelled));
        }
        let count = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) => return Err(Failure::Passing(error.to_string())),
        };
        hasher.update(&buffer[..count]);
        file.write_all(&buffer[..count]).map_err(io)?;
        done += count as u64;
        if done > limit {
            let reason = format!("it is larger than the {limit} bytes that are listed");
            return Err(Failure::Final(reason));
        }
    }
    let sum: [u8; 32] = hasher.finalize().into();
    let sum = hexadecimal(&sum);
    check(expected, done, &sum).map_err(Failure::Final)?;
    if expected.sha256.is_none() {
        tracing::warn!("{}", without_sum(url, done, &sum));
    }
    // Before it gets its name: what is in place is complete, after a power failure, too.
    file.sync_all().map_err(io)
}

/// Nothing vouches for what came. The next user who downloads it can be spared that.
fn without_sum(url: &str, bytes: u64, sum: &str) -> String {
    format!(
        "{url} was downloaded without a checksum to compare it with; if it is what you expect, write \
         `{{sha256: {sum}, bytes: {bytes}}}` for it into data/sources.yaml"
    )
}

fn check(expected: &SourceFile, bytes: u64, sum: &str) -> Result<(), String> {
    if let Some(listed) = expected.bytes
        && listed != bytes
    {
        return Err(format!("{bytes} bytes came where {listed} are listed"));
    }
    match &expected.sha256 {
        Some(listed) if listed != sum => {
            Err(format!("its sha256 sum is {sum} where {listed} is listed"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Serves these answers, one to each request, and returns the address.
    fn serve(answers: Vec<(u16, &'static [u8])>) -> String {
        let server = tiny_http::Server::http("127.0.0.1:0").unwrap();
        let address = format!("http://{}/a.txt", server.server_addr());
        std::thread::spawn(move || {
            for (status, body) in answers {
                let Ok(request) = server.recv() else { return };
                let _ =
                    request.respond(tiny_http::Response::from_data(body).with_status_code(status));
            }
        });
        address
    }

    fn listed(bytes: u64) -> SourceFile {
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".to_owned();
        SourceFile {
            sha256: Some(sha256),
            bytes: Some(bytes),
            url: None,
        }
    }

    fn get(
        url: &str,
        expected: &SourceFile,
    ) -> (Result<(), DataError>, Vec<String>, Option<Vec<u8>>) {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("deep/er/a.txt");
        let result = download(url, expected, &target, &ignore);
        let names = std::fs::read_dir(target.parent().unwrap()).unwrap();
        let names = names
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        (result, names, std::fs::read(&target).ok())
    }

    #[test]
    fn a_file_arrives_whole_even_after_a_fault_that_passes() {
        let (result, names, content) = get(&serve(vec![(503, b"busy"), (200, b"abc")]), &listed(3));
        result.unwrap();
        assert_eq!(
            (names, content),
            (vec!["a.txt".to_owned()], Some(b"abc".to_vec()))
        );
    }

    #[test]
    fn nothing_wrong_is_ever_put_in_place() {
        for (status, body, reason) in [
            (200, &b"abd"[..], "sha256 sum is"),
            (200, b"ab", "2 bytes came where 3 are listed"),
            (200, b"abcd", "larger than the 3 bytes"),
            (404, b"abc", "status 404"),
        ] {
            let (result, names, _) = get(&serve(vec![(status, body)]), &listed(3));
            let error = result.unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
            assert!(names.is_empty(), "{names:?}");
        }
    }

    #[test]
    fn a_file_without_a_sum_comes_with_what_to_write_down() {
        let sum = hexadecimal(&sha2::Sha256::digest(b"abc"));
        let said = without_sum("http://x/a.txt", 3, &sum);
        assert!(said.contains(
            "sha256: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad, bytes: 3"
        ));
    }

    #[test]
    fn progress_is_told_and_can_end_it() {
        let seen = RefCell::new(Vec::new());
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a.txt");
        let watch = |transfer: &Transfer<'_>| {
            seen.borrow_mut().push((transfer.done, transfer.total));
            ControlFlow::Continue(())
        };
        download(&serve(vec![(200, b"abc")]), &listed(3), &target, &watch).unwrap();
        assert_eq!(*seen.borrow(), [(0, Some(3)), (3, Some(3))]);
        std::fs::remove_file(&target).unwrap();
        let stopped = download(&serve(vec![(200, b"abc")]), &listed(3), &target, &|_| {
            ControlFlow::Break(())
        });
        assert!(matches!(stopped, Err(DataError::Cancelled)) && !target.exists());
    }
}
