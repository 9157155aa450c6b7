//! Objects from a remote. Their bytes are hashed on their way into `tmp/` and get their place only under the name that
//! they have: what is wrong there never enters the store.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, PoisonError};

use stages::artifact::Digest;

use super::super::{CacheError, Layout, ObjectRecord};
use super::client::Direction;
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
        let mut objects = self.landed.wait_while(objects, taken).unwrap_or_else(PoisonError::into_inner);
        objects.insert(object);
        Turn { flights: self, object }
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
        if std::fs::metadata(&place).is_ok_and(|found| found.len() == record.bytes) {
            return Ok(());
        }
        if self.is_distrusted(&record.object) {
            return Err(FetchError::Remote(self.wrong_bytes(record)));
        }
        let partial = RefCell::new(Partial::open(layout, &record.object, record.bytes)?);
        let found = partial.borrow().length();
        for is_last in [false, true] {
            self.download(&partial, record, progress)?;
            if partial.borrow().digest() == record.object {
                partial.into_inner().place(&place)?;
                lock(&self.present).insert(record.object);
                self.count(|traffic| {
                    traffic.objects_fetched += 1;
                    traffic.bytes_fetched += record.bytes.saturating_sub(found);
                });
                return Ok(());
            }
            // The fault may lie in what an earlier process left here: once more from the start.
            partial.borrow_mut().restart()?;
            if is_last {
                break;
            }
        }
        self.distrust(record.object);
        let wrong = self.wrong_bytes(record);
        tracing::warn!("{wrong}; it is not used");
        self.client.blame(Direction::Reading, &wrong);
        Err(FetchError::Remote(wrong))
    }

    /// Brings the file to its length, or finds that the bytes cannot be right.
    fn download(
        &self,
        partial: &RefCell<Partial>,
        record: &ObjectRecord,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(), FetchError> {
        if partial.borrow().length() == record.bytes {
            return Ok(());
        }
        let mut local = None;
        let mut take = |bytes: &[u8]| {
            let mut partial = partial.borrow_mut();
            if partial.length() + bytes.len() as u64 > record.bytes {
                return Err(RemoteError::new(RemoteFault::Damaged, "more bytes came than the object has"));
            }
            progress(bytes.len() as u64);
            partial.append(bytes).map_err(|error| {
                local = Some(error);
                RemoteError::new(RemoteFault::Damaged, "the object cannot be written here")
            })
        };
        let streamed = self.client.stream(&Names::object(record), &|| partial.borrow().length(), &mut take);
        match (streamed, local) {
            (_, Some(error)) => Err(FetchError::Local(error)),
            // Too many bytes are wrong bytes; the digest says so, too.
            (Err(error), None) if error.fault == RemoteFault::Damaged => Ok(()),
            (Err(error), None) => Err(FetchError::Remote(error)),
            (Ok(()), None) => Ok(()),
        }
    }

    fn wrong_bytes(&self, record: &ObjectRecord) -> RemoteError {
        let message = format!("{} has wrong bytes for object {}", self.client.address(), record.object.short());
        RemoteError::new(RemoteFault::Damaged, message)
            .hint("`runner cache push` from a store that has it puts it right")
    }
}
