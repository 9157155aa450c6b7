//! Single requests to a remote, made synchronous: a private runtime, a limit on silence, an end when the user wants one,
//! retries with growing pauses, and a breaker for each direction. What is asked for is decided elsewhere; how files are
//! written is in `upload.rs`.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::{Either, select};
use object_store::path::Path as ObjectPath;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt};
use tokio::runtime::Runtime;

use super::backoff::Backoff;
use super::breaker::Breaker;
use super::files::Files;
use super::{Address, RemoteError, RemoteFault, RemoteOptions};

/// Bytes a second below which a remote is as good as silent.
pub(super) const SLOWEST: u64 = 64 * 1024;

/// A record is never longer than this.
const LONGEST_RECORD: u64 = 64 * 1024 * 1024;

/// Retries of a remote that has not answered yet.
const UNKNOWN: u32 = 4;

/// How often a wait is broken off to see whether the user wants an end.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How long the last requests may take when the program ends.
pub(super) const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

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

impl Listed {
    pub fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(Duration::from_secs(self.modified.try_into().unwrap_or(0)))
    }
}

/// Where a file from there goes.
pub(super) trait Sink {
    /// Bytes that were taken.
    fn length(&self) -> u64;

    /// Takes the next bytes.
    fn take(&mut self, bytes: &[u8]) -> Result<(), RemoteError>;

    /// Forgets what was taken.
    fn restart(&mut self) -> Result<(), RemoteError>;
}

/// A connection that is made when it is first needed.
#[derive(Debug)]
pub(super) struct Client {
    address: Address,
    options: RemoteOptions,
    /// Large files that are on their way to a server that takes no pieces.
    pub(super) files: Arc<Files>,
    /// Set when everything is to end.
    interrupt: OnceLock<Arc<AtomicBool>>,
    connection: OnceLock<Result<Connection, RemoteError>>,
    /// Whether it ever answered. One that did may be waited for; one that never did is not there.
    answered: AtomicBool,
    reading: Breaker,
    writing: Breaker,
}

#[derive(Debug)]
pub(super) struct Connection {
    runtime: Runtime,
    pub store: Arc<dyn ObjectStore>,
    /// Tries the pieces of large objects again on its own.
    pub patient: Arc<dyn ObjectStore>,
}

/// How often a request may still fail.
pub(super) struct Attempts<'a> {
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
            files: Arc::default(),
            interrupt: OnceLock::new(),
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

    /// Requests end soon after this flag is set. The first flag counts.
    pub fn cancel_on(&self, flag: Arc<AtomicBool>) {
        let _ = self.interrupt.set(flag);
    }

    pub fn is_interrupted(&self) -> bool {
        self.interrupt
            .get()
            .is_some_and(|flag| flag.load(Ordering::SeqCst))
    }

    /// Fails if the user wants an end.
    pub fn check_interrupt(&self) -> Result<(), RemoteError> {
        if self.is_interrupted() {
            Err(RemoteError::interrupted(&self.address))
        } else {
            Ok(())
        }
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
            RemoteFault::Absent
            | RemoteFault::Refused
            | RemoteFault::Damaged
            | RemoteFault::Whole
            | RemoteFault::Interrupted => false,
        };
        let rest = if is_general {
            let other = if is_reading {
                Direction::Writing
            } else {
                Direction::Reading
            };
            self.breaker(other).give_up(error);
            "it is not used from now on"
        } else if is_reading {
            "nothing is looked up there from now on"
        } else {
            "nothing is sent there from now on"
        };
        let mut text = format!("{error}; {rest}");
        for cause in error.causes() {
            text += &format!("\n  because: {cause}");
        }
        // Those who asked for the copying read the hint in the report.
        if self.options.by_request {
            tracing::debug!("{text}");
        } else {
            tracing::warn!("{text}{}", error.hint_line());
        }
    }

    fn connection(&self) -> Result<&Connection, RemoteError> {
        let made = self.connection.get_or_init(|| self.connect());
        made.as_ref().map_err(RemoteError::clone)
    }

    fn connect(&self) -> Result<Connection, RemoteError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("remote")
            .enable_all()
            .build()
            .map_err(|error| {
                RemoteError::new(RemoteFault::Trouble, "no threads for the remote")
                    .because(error.to_string())
            })?;
        let retries = self.options.retries;
        Ok(Connection {
            runtime,
            store: self.address.connect(&self.options, 0, &self.files)?,
            patient: self.address.connect(&self.options, retries, &self.files)?,
        })
    }

    pub(super) fn place(&self, name: &str) -> ObjectPath {
        self.address.place(name)
    }

    /// Fails if a file of the remote is a folder's, and something on the way to it is a link, or the file itself is
    /// neither a regular one nor absent: nothing in a store is followed.
    pub(super) fn check_way(&self, name: &str) -> Result<(), RemoteError> {
        let Some(folder) = self.address.folder() else {
            return Ok(());
        };
        let path = folder.join(name);
        for above in path.ancestors().take_while(|above| *above != folder) {
            let Ok(found) = above.symlink_metadata() else {
                continue;
            };
            let is_right = if above == path {
                found.is_file()
            } else {
                found.is_dir()
            };
            if !is_right {
                let message = format!(
                    "{} is neither a file nor a folder, and nothing in a store is followed",
                    above.display()
                );
                return Err(RemoteError::new(RemoteFault::Damaged, message).with_hint("remove it"));
            }
        }
        Ok(())
    }

    pub(super) fn attempts(
        &self,
        direction: Direction,
        most: u32,
        limit: Duration,
    ) -> Result<Attempts<'_>, RemoteError> {
        self.check_interrupt()?;
        self.breaker(direction).check()?;
        if let Err(error) = self.connection() {
            self.blame(direction, &error);
            return Err(error);
        }
        Ok(Attempts {
            client: self,
            direction,
            backoff: Backoff::new(),
            failures: 0,
            most,
            started: Instant::now(),
            limit,
        })
    }

    /// For requests that carry nothing large and belong to writing.
    fn few_attempts(&self) -> Result<Attempts<'_>, RemoteError> {
        self.attempts(
            Direction::Writing,
            self.options.retries,
            self.patience_for(0),
        )
    }

    /// One request, as often as it takes within limits.
    pub(super) fn request<'c, T, F: Future<Output = Result<T, RemoteError>>>(
        &'c self,
        mut attempts: Attempts<'_>,
        operation: impl Fn(&'c Connection) -> F,
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
        self.check_way(name)?;
        let place = &self.place(name);
        let attempts = self.attempts(
            Direction::Reading,
            self.options.retries.min(3),
            self.options.timeout * 2,
        )?;
        let read = self.request(attempts, |connection| async move {
            let begun = Instant::now();
            let answer = self.in_time(connection.store.get(place)).await?;
            let mut bytes = Vec::new();
            let mut stream = answer.into_stream();
            while let Some(piece) = self.next(&mut stream).await? {
                bytes.extend_from_slice(&piece);
                self.check_pace(begun, bytes.len() as u64)?;
                if bytes.len() as u64 > LONGEST_RECORD {
                    let message = format!("{name} has no end");
                    return Err(RemoteError::new(RemoteFault::Damaged, message));
                }
            }
            Ok(bytes)
        });
        absent_is_none(read)
    }

    /// Streams a file into a sink. What was taken stays taken: a stream that breaks continues where it ended, unless the
    /// server only sends whole files.
    pub fn stream(&self, name: &str, sink: &mut dyn Sink) -> Result<(), RemoteError> {
        self.check_way(name)?;
        let place = self.place(name);
        let most = self.options.retries;
        let mut attempts = self.attempts(Direction::Reading, most, Duration::MAX)?;
        let connection = self.connection()?;
        let mut sends_rests = true;
        loop {
            if !sends_rests && sink.length() > 0 {
                sink.restart()?;
            }
            let before = sink.length();
            let begun = Instant::now();
            let operation = async {
                let range = (before > 0).then_some(GetRange::Offset(before));
                let options = GetOptions {
                    range,
                    ..GetOptions::default()
                };
                let answer = self
                    .in_time(connection.store.get_opts(&place, options))
                    .await?;
                let mut stream = answer.into_stream();
                while let Some(piece) = self.next(&mut stream).await? {
                    sink.take(&piece)?;
                    self.check_pace(begun, sink.length().saturating_sub(before))?;
                }
                Ok::<(), RemoteError>(())
            };
            match connection.runtime.block_on(operation) {
                Ok(()) => {
                    attempts.succeeded();
                    return Ok(());
                }
                Err(error) if error.fault == RemoteFault::Whole && before > 0 => {
                    sends_rests = false
                }
                Err(error) => {
                    // A trickle is not progress: it would never end.
                    let came = sink.length().saturating_sub(before);
                    if sends_rests && came > 0 && self.check_pace(begun, came).is_ok() {
                        attempts.moved();
                    }
                    attempts.failed(error)?;
                }
            }
        }
    }

    /// The size of a file there; `None` if there is none.
    pub fn size(&self, name: &str) -> Result<Option<u64>, RemoteError> {
        Ok(self.head(name)?.map(|found| found.size))
    }

    /// When a file there was last changed, in seconds since 1970; `None` if there is none.
    pub fn modified(&self, name: &str) -> Result<Option<i64>, RemoteError> {
        Ok(self
            .head(name)?
            .map(|found| found.last_modified.timestamp()))
    }

    fn head(&self, name: &str) -> Result<Option<ObjectMeta>, RemoteError> {
        self.check_way(name)?;
        let place = &self.place(name);
        let found = self.request(self.few_attempts()?, |connection| {
            self.in_time(connection.store.head(place))
        });
        absent_is_none(found)
    }

    /// All files whose names begin with a folder, in the order of their names.
    pub fn list(&self, folder: &str) -> Result<Vec<Listed>, RemoteError> {
        let place = &self.place(folder);
        let attempts = self.attempts(Direction::Reading, self.options.retries, Duration::MAX)?;
        let listed = self.request(attempts, |connection| async move {
            let mut stream = connection.store.list(Some(place));
            let mut listed = Vec::new();
            while let Some(entry) = self.next(&mut stream).await? {
                let Some(name) = self.address.name(&entry.location) else {
                    continue;
                };
                // In a folder, links lead to what is not the remote's.
                if self.check_way(name).is_err() {
                    continue;
                }
                listed.push(Listed {
                    name: name.to_owned(),
                    bytes: entry.size,
                    modified: entry.last_modified.timestamp(),
                });
            }
            listed.sort_by(|left, right| left.name.cmp(&right.name));
            Ok(listed)
        });
        Ok(absent_is_none(listed)?.unwrap_or_default())
    }

    /// Removes a file; one that is not there is as good as removed.
    pub fn remove(&self, name: &str) -> Result<(), RemoteError> {
        self.check_way(name)?;
        let place = &self.place(name);
        let removed = self.request(self.few_attempts()?, |connection| {
            self.in_time(connection.store.delete(place))
        });
        absent_is_none(removed).map(drop)
    }

    /// How long a request with so many bytes is tried again and again.
    pub(super) fn patience_for(&self, bytes: u64) -> Duration {
        self.options.timeout * 4 + Duration::from_secs(bytes / SLOWEST)
    }

    pub(super) async fn in_time<T>(
        &self,
        operation: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, RemoteError> {
        self.in_time_for(0, operation).await
    }

    /// An answer to a request that carries so many bytes.
    pub(super) async fn in_time_for<T>(
        &self,
        bytes: u64,
        operation: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, RemoteError> {
        let limit = self.options.timeout + Duration::from_secs(bytes / SLOWEST);
        match self.within(limit, operation).await? {
            Some(Ok(value)) => Ok(value),
            Some(Err(error)) => Err(RemoteError::of(&error, &self.address)),
            None => Err(RemoteError::silent(&self.address, limit.as_secs_f64())),
        }
    }

    /// What comes within this time; an error if the user wants an end meanwhile.
    pub(super) async fn within<T>(
        &self,
        limit: Duration,
        operation: impl Future<Output = T>,
    ) -> Result<Option<T>, RemoteError> {
        let interrupted = pin!(async {
            while !self.is_interrupted() {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        });
        let answered = pin!(tokio::time::timeout(limit, operation));
        match select(answered, interrupted).await {
            Either::Left((ended, _)) => Ok(ended.ok()),
            Either::Right(_) => Err(RemoteError::interrupted(&self.address)),
        }
    }

    /// Waits so long, or until the user wants an end.
    fn pause(&self, pause: Duration) {
        let begun = Instant::now();
        while !self.is_interrupted() && begun.elapsed() < pause {
            std::thread::sleep(POLL_INTERVAL.min(pause.saturating_sub(begun.elapsed())));
        }
    }

    /// Whether so many bytes since then are more than a trickle.
    pub(super) fn check_pace(&self, begun: Instant, bytes: u64) -> Result<(), RemoteError> {
        let taken = begun.elapsed();
        if taken > self.options.timeout + Duration::from_secs(bytes / SLOWEST) {
            return Err(RemoteError::slow(&self.address, bytes, taken.as_secs_f64()));
        }
        Ok(())
    }

    /// The next piece of a stream.
    async fn next<T>(
        &self,
        stream: &mut (impl StreamExt<Item = object_store::Result<T>> + Unpin),
    ) -> Result<Option<T>, RemoteError> {
        let limit = self.options.timeout;
        match self.within(limit, stream.next()).await? {
            Some(Some(Ok(piece))) => Ok(Some(piece)),
            Some(Some(Err(error))) => Err(RemoteError::of(&error, &self.address)),
            Some(None) => Ok(None),
            None => Err(RemoteError::silent(&self.address, limit.as_secs_f64())),
        }
    }
}

impl Drop for Client {
    /// What hangs in the system, such as a share that is gone, does not hold the process up.
    fn drop(&mut self) {
        if let Some(Ok(connection)) = self.connection.take() {
            connection.runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
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
        if self.client.answered.load(Ordering::Relaxed) {
            self.most
        } else {
            self.most.min(UNKNOWN)
        }
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
            RemoteFault::Damaged | RemoteFault::Interrupted => return Err(error),
            RemoteFault::Refused | RemoteFault::Unusable | RemoteFault::Address => {
                self.client.blame(self.direction, &error);
                return Err(error);
            }
            RemoteFault::Trouble | RemoteFault::Whole => {}
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
        tracing::debug!("{error}, {}; again in {pause:?}", error.causes().join(": "));
        self.client.pause(pause);
        self.client.check_interrupt()?;
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
pub(super) fn missing_place(error: RemoteError, address: &Address) -> RemoteError {
    if error.fault != RemoteFault::Absent {
        return error;
    }
    let message = format!("there is no such bucket, container or folder as {address} names");
    error
        .reworded(RemoteFault::Unusable, message)
        .with_hint("make it first, or mend the address")
}
