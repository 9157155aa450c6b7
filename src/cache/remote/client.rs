//! Single requests to a remote, made synchronous: a private runtime, a limit on silence, retries with growing pauses,
//! and a breaker for each direction. What is asked for is decided elsewhere.

use std::fs::File;
use std::future::Future;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use object_store::path::Path as ObjectPath;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutPayload};
use stages::artifact::{ByteDigest, Digest};
use tokio::runtime::Runtime;

use super::backoff::Backoff;
use super::breaker::Breaker;
use super::{Address, RemoteError, RemoteFault, RemoteOptions};

/// Bytes a second below which a remote is as good as silent.
const SLOWEST: u64 = 64 * 1024;

/// Larger objects are sent in pieces.
const WHOLE: u64 = 16 * 1024 * 1024;

/// The least size of a piece; providers take at most 10,000.
const PIECE: u64 = 8 * 1024 * 1024;

/// A record that is longer than this is none.
const LONGEST_RECORD: u64 = 64 * 1024 * 1024;

/// Retries of a remote that has not answered yet.
const UNKNOWN: u32 = 4;

/// Which way a request goes: reading and writing are given up apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Reading,
    Writing,
}

/// A file at the remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// Relative to the remote's address.
    pub name: String,
    pub bytes: u64,
    /// Seconds since 1970.
    pub modified: i64,
}

/// A connection that is made when it is first needed.
#[derive(Debug)]
pub(super) struct Client {
    address: Address,
    options: RemoteOptions,
    connection: OnceLock<Result<Connection, RemoteError>>,
    /// Whether it ever answered. One that did may be waited for; one that never did is not there.
    answered: AtomicBool,
    reading: Breaker,
    writing: Breaker,
}

#[derive(Debug)]
struct Connection {
    runtime: Runtime,
    store: Arc<dyn ObjectStore>,
    /// Tries the pieces of large objects again by itself.
    patient: Arc<dyn ObjectStore>,
}

/// How far a request may go on failing.
struct Attempts<'a> {
    client: &'a Client,
    direction: Direction,
    backoff: Backoff,
    failures: u32,
    most: u32,
    started: Instant,
    /// After so long nothing is tried again.
    limit: Duration,
}

impl Client {
    pub fn new(address: Address, options: RemoteOptions) -> Self {
        Self {
            reading: Breaker::new(options.patience),
            writing: Breaker::new(options.patience),
            address,
            options,
            connection: OnceLock::new(),
            answered: AtomicBool::new(false),
        }
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    pub fn options(&self) -> &RemoteOptions {
        &self.options
    }

    pub fn trouble(&self) -> Option<RemoteError> {
        self.reading.trouble().or_else(|| self.writing.trouble())
    }

    pub fn is_given_up(&self, direction: Direction) -> bool {
        self.breaker(direction).trouble().is_some()
    }

    fn breaker(&self, direction: Direction) -> &Breaker {
        match direction {
            Direction::Reading => &self.reading,
            Direction::Writing => &self.writing,
        }
    }

    /// Counts what a caller found wrong with an answer.
    pub fn blame(&self, direction: Direction, error: &RemoteError) {
        let given_up = self.breaker(direction).failed(error);
        self.conclude(direction, error, given_up);
    }

    /// When one direction is given up, the other may be pointless, too. The user is told once.
    fn conclude(&self, direction: Direction, error: &RemoteError, given_up: bool) {
        if !given_up {
            return;
        }
        let is_reading = direction == Direction::Reading;
        let is_general = match error.fault {
            RemoteFault::Unusable | RemoteFault::Address => true,
            RemoteFault::Trouble => is_reading,
            RemoteFault::Absent | RemoteFault::Refused | RemoteFault::Damaged => false,
        };
        let rest = if is_general {
            let other = if is_reading { Direction::Writing } else { Direction::Reading };
            self.breaker(other).give_up(error);
            "it is not used from now on"
        } else if is_reading {
            "nothing is looked up there from now on"
        } else {
            "nothing is sent there from now on"
        };
        let causes: String = error.causes.iter().map(|cause| format!("\n  because: {cause}")).collect();
        let hint = error.hint.as_ref().map_or_else(String::new, |hint| format!("\n  hint: {hint}"));
        if self.options.by_request {
            // Who copies by request is told in the report.
            tracing::debug!("{error}; {rest}{causes}");
        } else {
            tracing::warn!("{error}; {rest}{causes}{hint}");
        }
    }

    fn connection(&self) -> Result<&Connection, RemoteError> {
        let made = self.connection.get_or_init(|| {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            let runtime = runtime.worker_threads(2).thread_name("remote").enable_all().build();
            let runtime = runtime.map_err(|error| {
                RemoteError::new(RemoteFault::Trouble, "no threads for the remote").because(error.to_string())
            })?;
            let store = self.address.connect(&self.options, 0)?;
            let patient = self.address.connect(&self.options, self.options.retries)?;
            Ok(Connection { runtime, store, patient })
        });
        made.as_ref().map_err(RemoteError::clone)
    }

    fn place(&self, name: &str) -> ObjectPath {
        self.address.place(name)
    }

    fn attempts(&self, direction: Direction, most: u32, limit: Duration) -> Result<Attempts<'_>, RemoteError> {
        self.breaker(direction).check()?;
        if let Err(error) = self.connection() {
            self.blame(direction, &error);
            return Err(error);
        }
        let started = Instant::now();
        Ok(Attempts { client: self, direction, backoff: Backoff::new(), failures: 0, most, started, limit })
    }

    /// One request, as often as it takes within limits.
    fn request<T, F: Future<Output = Result<T, RemoteError>>>(
        &self,
        mut attempts: Attempts<'_>,
        operation: impl Fn(&Connection) -> F,
    ) -> Result<T, RemoteError> {
        let connection = self.connection()?;
        loop {
            match connection.runtime.block_on(operation(connection)) {
                Ok(value) => {
                    attempts.succeeded();
                    return Ok(value);
                }
                Err(error) => attempts.failed(error)?,
            }
        }
    }

    /// A small record; `None` if there is none. A lookup is not worth a long wait: what it would save may be short.
    pub fn record(&self, name: &str) -> Result<Option<Vec<u8>>, RemoteError> {
        let place = self.place(name);
        let attempts = self.attempts(Direction::Reading, self.options.retries.min(3), self.options.timeout * 2)?;
        let operation = |connection: &Connection| {
            let (store, place) = (Arc::clone(&connection.store), place.clone());
            async move {
                let begun = Instant::now();
                let answer = self.in_time(store.get(&place)).await?;
                let mut bytes = Vec::new();
                let mut stream = answer.into_stream();
                while let Some(piece) = self.next(&mut stream).await? {
                    bytes.extend_from_slice(&piece);
                    self.check_pace(begun, bytes.len() as u64)?;
                    if bytes.len() as u64 > LONGEST_RECORD {
                        return Err(RemoteError::new(RemoteFault::Damaged, format!("{name} has no end")));
                    }
                }
                Ok(bytes)
            }
        };
        absent_is_none(self.request(attempts, operation))
    }

    /// Streams a file from a place in it on; `sink` takes its pieces. What was taken stays taken: after a failure, the
    /// stream goes on from `at()`.
    pub fn stream(
        &self,
        name: &str,
        at: &dyn Fn() -> u64,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), RemoteError>,
    ) -> Result<(), RemoteError> {
        let place = self.place(name);
        let most = self.options.retries;
        let mut attempts = self.attempts(Direction::Reading, most, Duration::MAX)?;
        let connection = self.connection()?;
        loop {
            let before = at();
            let begun = Instant::now();
            let operation = async {
                let range = (before > 0).then_some(GetRange::Offset(before));
                let options = GetOptions { range, ..GetOptions::default() };
                let answer = self.in_time(connection.store.get_opts(&place, options)).await?;
                let mut stream = answer.into_stream();
                while let Some(piece) = self.next(&mut stream).await? {
                    sink(&piece)?;
                    self.check_pace(begun, at().saturating_sub(before))?;
                }
                Ok(())
            };
            match connection.runtime.block_on(operation) {
                Ok(()) => {
                    attempts.succeeded();
                    return Ok(());
                }
                Err(error) => {
                    // A trickle is no progress: going on like this would never end.
                    if at() > before && self.check_pace(begun, at() - before).is_ok() {
                        attempts.moved();
                    }
                    attempts.failed(error)?;
                }
            }
        }
    }

    /// The size of a file there; `None` if there is none.
    pub fn size(&self, name: &str) -> Result<Option<u64>, RemoteError> {
        let place = self.place(name);
        let attempts = self.attempts(Direction::Writing, self.options.retries, self.patience_for(0))?;
        let operation = |connection: &Connection| {
            let (store, place) = (Arc::clone(&connection.store), place.clone());
            async move { Ok(self.in_time(store.head(&place)).await?.size) }
        };
        absent_is_none(self.request(attempts, operation))
    }

    /// Writes a file from memory.
    pub fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), RemoteError> {
        let place = self.place(name);
        let length = bytes.len() as u64;
        let payload = PutPayload::from(bytes);
        let attempts = self.attempts(Direction::Writing, self.options.retries, self.patience_for(length))?;
        let operation = |connection: &Connection| {
            let (store, place, payload) = (Arc::clone(&connection.store), place.clone(), payload.clone());
            async move { self.in_time_for(length, store.put(&place, payload)).await.map(drop) }
        };
        self.request(attempts, operation).map_err(|error| missing_place(error, &self.address))
    }

    /// Whether a file of this length is better sent by [`Self::put_pieces`].
    pub fn is_large(&self, bytes: u64) -> bool {
        bytes > WHOLE && self.address.takes_pieces()
    }

    /// Writes a large file in pieces. Nothing is seen there unless its bytes have this digest.
    pub fn put_pieces(&self, name: &str, length: u64, digest: &Digest, file: &Path) -> Result<(), RemoteError> {
        let place = self.place(name);
        let attempts = self.attempts(Direction::Writing, 2, self.patience_for(length))?;
        let operation = |connection: &Connection| {
            let (store, place) = (Arc::clone(&connection.patient), place.clone());
            async move {
                let unreadable = |error: std::io::Error| {
                    RemoteError::new(RemoteFault::Damaged, "the local object cannot be read").because(error.to_string())
                };
                let mut file = File::open(file).map_err(unreadable)?;
                let mut read = ByteDigest::default();
                let mut upload = self.in_time(store.put_multipart(&place)).await?;
                let piece = usize::try_from(PIECE.max(length / 9_000 + 1)).unwrap_or(usize::MAX);
                loop {
                    let mut bytes = Vec::with_capacity(piece);
                    file.by_ref().take(piece as u64).read_to_end(&mut bytes).map_err(unreadable)?;
                    if bytes.is_empty() {
                        break;
                    }
                    read.update(&bytes);
                    let sent = self.in_time_for(bytes.len() as u64 * 2, upload.put_part(bytes.into())).await;
                    if let Err(error) = sent {
                        let _ = self.in_time(upload.abort()).await;
                        return Err(error);
                    }
                }
                if read.finish() != *digest {
                    let _ = self.in_time(upload.abort()).await;
                    return Err(RemoteError::new(RemoteFault::Damaged, "the local object is damaged"));
                }
                self.in_time_for(length, upload.complete()).await.map(drop)
            }
        };
        self.request(attempts, operation).map_err(|error| missing_place(error, &self.address))
    }

    /// All files whose names begin with a folder, in the order of their names.
    pub fn list(&self, folder: &str) -> Result<Vec<Listed>, RemoteError> {
        let place = self.place(folder);
        let attempts = self.attempts(Direction::Reading, self.options.retries, Duration::MAX)?;
        let operation = |connection: &Connection| {
            let (store, place) = (Arc::clone(&connection.store), place.clone());
            async move {
                let mut stream = store.list(Some(&place));
                let mut listed = Vec::new();
                while let Some(entry) = self.next(&mut stream).await? {
                    let Some(name) = self.address.name(&entry.location) else { continue };
                    let modified = entry.last_modified.timestamp();
                    listed.push(Listed { name: name.to_owned(), bytes: entry.size, modified });
                }
                listed.sort_by(|left, right| left.name.cmp(&right.name));
                Ok(listed)
            }
        };
        absent_is_none(self.request(attempts, operation)).map(Option::unwrap_or_default)
    }

    /// Removes a file; one that is not there is as good as removed.
    pub fn remove(&self, name: &str) -> Result<(), RemoteError> {
        let place = self.place(name);
        let attempts = self.attempts(Direction::Writing, self.options.retries, self.patience_for(0))?;
        let operation = |connection: &Connection| {
            let (store, place) = (Arc::clone(&connection.store), place.clone());
            async move { self.in_time(store.delete(&place)).await }
        };
        absent_is_none(self.request(attempts, operation)).map(drop)
    }

    /// How long a request with so many bytes is tried again and again.
    fn patience_for(&self, bytes: u64) -> Duration {
        self.options.timeout * 4 + Duration::from_secs(bytes / SLOWEST)
    }

    async fn in_time<T>(&self, operation: impl Future<Output = object_store::Result<T>>) -> Result<T, RemoteError> {
        self.in_time_for(0, operation).await
    }

    /// An answer to a request that carries so many bytes.
    async fn in_time_for<T>(
        &self,
        bytes: u64,
        operation: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, RemoteError> {
        let limit = self.options.timeout + Duration::from_secs(bytes / SLOWEST);
        match tokio::time::timeout(limit, operation).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(RemoteError::of(&error, &self.address)),
            Err(_) => Err(RemoteError::silent(&self.address, limit.as_secs_f64())),
        }
    }

    /// Whether so many bytes since then are more than a trickle.
    fn check_pace(&self, begun: Instant, bytes: u64) -> Result<(), RemoteError> {
        let (taken, limit) = (begun.elapsed(), self.options.timeout + Duration::from_secs(bytes / SLOWEST));
        if taken > limit {
            return Err(RemoteError::slow(&self.address, bytes, taken.as_secs_f64()));
        }
        Ok(())
    }

    /// The next piece of a stream.
    async fn next<T>(
        &self,
        stream: &mut (impl StreamExt<Item = object_store::Result<T>> + Unpin),
    ) -> Result<Option<T>, RemoteError> {
        match tokio::time::timeout(self.options.timeout, stream.next()).await {
            Ok(Some(Ok(piece))) => Ok(Some(piece)),
            Ok(Some(Err(error))) => Err(RemoteError::of(&error, &self.address)),
            Ok(None) => Ok(None),
            Err(_) => Err(RemoteError::silent(&self.address, self.options.timeout.as_secs_f64())),
        }
    }
}

impl Attempts<'_> {
    fn succeeded(&self) {
        self.client.answered.store(true, Ordering::Relaxed);
        self.client.breaker(self.direction).succeeded();
    }

    /// Retries that are due to a remote that was there, or may never have been.
    fn most(&self) -> u32 {
        let known = self.client.answered.load(Ordering::Relaxed);
        if known { self.most } else { self.most.min(UNKNOWN) }
    }

    /// Something came before it failed: what counts are failures without progress.
    fn moved(&mut self) {
        self.failures = 0;
    }

    /// Waits if it may be tried again; the error otherwise.
    fn failed(&mut self, error: RemoteError) -> Result<(), RemoteError> {
        let breaker = self.client.breaker(self.direction);
        match error.fault {
            RemoteFault::Absent => {
                self.succeeded();
                return Err(error);
            }
            // The caller knows whether it is the remote's fault.
            RemoteFault::Damaged => return Err(error),
            RemoteFault::Refused | RemoteFault::Unusable | RemoteFault::Address => {
                self.client.blame(self.direction, &error);
                return Err(error);
            }
            RemoteFault::Trouble => {}
        }
        self.failures += 1;
        let pause = self.backoff.pause(self.failures);
        if self.started.elapsed().saturating_add(pause) > self.limit {
            let given_up = breaker.give_up(&error);
            self.client.conclude(self.direction, &error, given_up);
            return Err(error);
        }
        if self.failures > self.most() {
            self.client.blame(self.direction, &error);
            return Err(error);
        }
        tracing::debug!("{error}, {}; again in {pause:?}", error.causes.join(": "));
        std::thread::sleep(pause);
        // Others may have given it up meanwhile.
        breaker.check()
    }
}

fn absent_is_none<T>(result: Result<T, RemoteError>) -> Result<Option<T>, RemoteError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.fault == RemoteFault::Absent => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where nothing can be written, the place itself is missing.
fn missing_place(error: RemoteError, address: &Address) -> RemoteError {
    if error.fault != RemoteFault::Absent {
        return error;
    }
    let message = format!("there is no such bucket, container or folder as {address} names");
    RemoteError { fault: RemoteFault::Unusable, message, ..error }.hint("make it first, or mend the address")
}
