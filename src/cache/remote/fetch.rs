//! Objects from a remote. Their bytes are hashed on their way into `tmp/` and get their place only under the name that
//! they have: what is wrong there never enters the store.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, PoisonError};

use contract::artifact::{ByteDigest, Digest};

use super::super::{CacheError, Layout, ObjectRecord};
use super::client::{Direction, Sink};
use super::names::Names;
use super::partial::Partial;
use super::{RemoteError, RemoteFault, Shared, lock};

/// Why an object did not come.
#[derive(Debug)]
pub(super) enum FetchError {
    Remote(RemoteError),
    /// The store here cannot take it.
    Local(CacheError),
}

impl From<CacheError> for FetchError {
    fn from(error: CacheError) -> Self {
        Self::Local(error)
    }
}

/// Objects that are being fetched: a second thread that needs one waits for the first.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    objects: Mutex<BTreeSet<Digest>>,
    landed: Condvar,
}

/// The right to fetch one object, among the threads of this process.
struct Turn<'a> {
    flights: &'a InFlight,
    object: Digest,
}

impl InFlight {
    fn take(&self, object: Digest) -> Turn<'_> {
        let objects = lock(&self.objects);
        let taken = |objects: &mut BTreeSet<Digest>| objects.contains(&object);
        let mut objects = self
            .landed
            .wait_while(objects, taken)
            .unwrap_or_else(PoisonError::into_inner);
        objects.insert(object);
        Turn {
            flights: self,
            object,
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        lock(&self.flights.objects).remove(&self.object);
        self.flights.landed.notify_all();
    }
}

impl Shared {
    /// Fetches an object into the store, unless it is there by now. `progress` is told the bytes as they come.
    pub fn fetch(
        &self,
        layout: &Layout,
        record: &ObjectRecord,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(), FetchError> {
        let _turn = self.fetching.take(record.object);
        let place = layout.object(record);
        if layout
            .look_at(&place)
            .is_some_and(|found| found.is_file() && found.len() == record.bytes)
        {
            return Ok(());
        }
        if self.is_distrusted(&record.object) {
            return Err(FetchError::Remote(self.wrong_bytes(record)));
        }
        let mut arriving = Arriving {
            partial: Partial::open(layout, &record.object, record.bytes)?,
            bytes: record.bytes,
            progress,
            failure: None,
        };
        let found = arriving.length();
        // The fault may lie in what an earlier process left here: then once more from the start.
        for _ in 0..2 {
            self.download(&mut arriving, record)?;
            if arriving.partial.digest() == record.object {
                arriving.partial.place(layout, &place)?;
                lock(&self.present).insert(record.object);
                self.count(|traffic| {
                    traffic.objects_fetched += 1;
                    traffic.bytes_fetched += record.bytes.saturating_sub(found);
                });
                return Ok(());
            }
            arriving.partial.restart()?;
        }
        self.distrust(record.object);
        let wrong = self.wrong_bytes(record);
        self.tell_wrong(&wrong);
        Err(FetchError::Remote(wrong))
    }

    /// Brings the file to its length, or finds that the bytes cannot be right.
    fn download(
        &self,
        arriving: &mut Arriving<'_>,
        record: &ObjectRecord,
    ) -> Result<(), FetchError> {
        if arriving.length() == record.bytes {
            return Ok(());
        }
        let streamed = self.client.stream(&Names::object(record), arriving);
        match (streamed, arriving.failure.take()) {
            (_, Some(error)) => Err(FetchError::Local(error)),
            // Too many bytes are wrong bytes; the digest says so, too.
            (Err(error), None) if error.fault == RemoteFault::Damaged => Ok(()),
            (Err(error), None) => Err(FetchError::Remote(error)),
            (Ok(()), None) => Ok(()),
        }
    }

    /// Reads an object there to see whether it has the bytes of its name.
    pub fn is_right(&self, record: &ObjectRecord) -> Result<bool, RemoteError> {
        let mut reading = Reading {
            digest: ByteDigest::default(),
            length: 0,
            bytes: record.bytes,
        };
        match self.client.stream(&Names::object(record), &mut reading) {
            Ok(()) => Ok(reading.digest.finish() == record.object),
            Err(error) => match error.fault {
                RemoteFault::Damaged | RemoteFault::Absent => Ok(false),
                _ => Err(error),
            },
        }
    }

    fn wrong_bytes(&self, record: &ObjectRecord) -> RemoteError {
        let message = format!(
            "{} has wrong bytes for object {}",
            self.client.address(),
            record.object.short()
        );
        RemoteError::new(RemoteFault::Damaged, message)
            .with_hint("`runner cache push --verify` from a store that has it puts it right")
    }

    /// Counts something that was wrong there. The user is told once, and at the end how much it was.
    pub fn tell_wrong(&self, wrong: &RemoteError) {
        let mut is_first = false;
        self.count(|traffic| {
            is_first = traffic.wrong == 0;
            traffic.wrong += 1;
        });
        if is_first && !self.client.options().by_request {
            tracing::warn!("{wrong}; it is not used{}", wrong.hint_line());
        } else {
            tracing::debug!("{wrong}; it is not used");
        }
        self.client.blame(Direction::Reading, wrong);
    }
}

/// An object that is only looked at.
struct Reading {
    digest: ByteDigest,
    length: u64,
    /// As many as the object has.
    bytes: u64,
}

impl Sink for Reading {
    fn length(&self) -> u64 {
        self.length
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), RemoteError> {
        self.digest.update(bytes);
        self.length += bytes.len() as u64;
        if self.length > self.bytes {
            Err(too_many())
        } else {
            Ok(())
        }
    }

    fn restart(&mut self) -> Result<(), RemoteError> {
        (self.digest, self.length) = (ByteDigest::default(), 0);
        Ok(())
    }
}

fn too_many() -> RemoteError {
    RemoteError::new(RemoteFault::Damaged, "more bytes came than the object has")
}

/// An object on its way into a partial file.
struct Arriving<'a> {
    partial: Partial,
    /// As many as the object has.
    bytes: u64,
    progress: &'a (dyn Fn(u64) + Sync),
    /// Why it cannot be written here.
    failure: Option<CacheError>,
}

impl Arriving<'_> {
    fn keep(&mut self, result: Result<(), CacheError>) -> Result<(), RemoteError> {
        result.map_err(|error| {
            self.failure = Some(error);
            RemoteError::new(RemoteFault::Damaged, "the object cannot be written here")
        })
    }
}

impl Sink for Arriving<'_> {
    fn length(&self) -> u64 {
        self.partial.length()
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), RemoteError> {
        if self.length() + bytes.len() as u64 > self.bytes {
            return Err(too_many());
        }
        (self.progress)(bytes.len() as u64);
        let written = self.partial.append(bytes);
        self.keep(written)
    }

    fn restart(&mut self) -> Result<(), RemoteError> {
        let restarted = self.partial.restart();
        self.keep(restarted)
    }
}
