//! One store for many: a remote that holds what local stores hold, under the same names. Everything that is copied is
//! named by its content or sealed, so copying is idempotent, order matters in one place only (objects before the action
//! that names them), and no conditional request is relied on. This is the only door to `object_store`; the rest of the
//! program stays synchronous and is never failed by a remote: what does not come from there is computed here.

mod address;
mod backoff;
mod breaker;
mod client;
mod collect;
mod error;
mod fetch;
mod files;
mod lookup;
mod names;
mod partial;
mod pool;
mod send;
mod through;
mod transfer;
mod upload;

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use contract::artifact::Digest;
use serde::Serialize;

pub use address::Address;
pub use collect::{RemoteGcOptions, RemoteGcReport};
pub use error::{RemoteError, RemoteFault};
pub use transfer::{Progress, PushOptions, TransferError, TransferReport};

use client::Client;
use lookup::Lookups;
use send::Uploads;

/// What a remote may be used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RemoteMode {
    /// Results are looked up there and sent there.
    #[default]
    ReadWrite,
    /// Results are looked up there; nothing is sent.
    Read,
}

/// How a remote is to be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteOptions {
    pub mode: RemoteMode,
    /// How often a request that failed is tried again.
    pub retries: u32,
    /// How long a server may be silent.
    pub timeout: Duration,
    /// Requests at the same time.
    pub parallel: usize,
    /// Failures in a row, each after its retries, after which the remote is given up.
    pub patience: u32,
    /// Somebody asked for the copying and is told in a report what failed.
    pub by_request: bool,
}

impl Default for RemoteOptions {
    fn default() -> Self {
        Self {
            mode: RemoteMode::ReadWrite,
            retries: 5,
            timeout: Duration::from_secs(15),
            parallel: 16,
            patience: 3,
            by_request: false,
        }
    }
}

impl RemoteOptions {
    /// For copying because somebody asked for it: rather wait than give up.
    #[must_use]
    pub fn persistent(mut self) -> Self {
        self.retries = self.retries.max(5) * 2;
        self.by_request = true;
        self.patience = 2 * u32::try_from(self.parallel).unwrap_or(u32::MAX).max(4);
        self
    }
}

/// What went to and came from a remote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Actions that were found there.
    pub found: u64,
    pub objects_fetched: u64,
    pub bytes_fetched: u64,
    pub objects_sent: u64,
    pub bytes_sent: u64,
    /// Actions that are there now because of this process.
    pub actions_sent: u64,
    /// Actions that should be there and are not.
    pub unsent: u64,
    /// Objects and actions that are there and are damaged.
    pub wrong: u64,
}

impl Traffic {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A remote that a store reads through and writes through.
#[derive(Debug)]
pub struct Remote {
    shared: Arc<Shared>,
    lookups: Lookups,
    uploads: Uploads,
}

/// What the threads that work for a remote share.
#[derive(Debug)]
struct Shared {
    client: Client,
    /// Names of objects and actions whose copies there are known to be wrong: they are not asked for again, and sent
    /// whether or not something lies there.
    distrusted: Mutex<BTreeSet<Digest>>,
    /// Objects that this process has seen there.
    present: Mutex<BTreeSet<Digest>>,
    traffic: Mutex<Traffic>,
    /// Objects that a thread of this process fetches at the moment.
    fetching: fetch::InFlight,
}

impl Remote {
    /// A remote at this address. Nothing is connected to yet: a run in which everything is here asks nobody.
    pub fn new(address: Address, options: RemoteOptions) -> Self {
        let parallel = options.parallel.max(1);
        let shared = Arc::new(Shared {
            client: Client::new(address, options),
            distrusted: Mutex::default(),
            present: Mutex::default(),
            traffic: Mutex::default(),
            fetching: fetch::InFlight::default(),
        });
        Self {
            lookups: Lookups::new(Arc::clone(&shared), parallel),
            uploads: Uploads::new(Arc::clone(&shared), parallel),
            shared,
        }
    }

    /// Whatever is under way at the remote ends soon after this flag is set, unfinished. The first flag counts.
    pub fn cancel_on(&self, interrupt: Arc<AtomicBool>) {
        self.shared.client.cancel_on(interrupt);
    }

    pub fn address(&self) -> &Address {
        self.shared.client.address()
    }

    /// What may be done there.
    pub fn mode(&self) -> RemoteMode {
        self.options().mode
    }

    fn options(&self) -> &RemoteOptions {
        self.shared.client.options()
    }

    pub fn traffic(&self) -> Traffic {
        *lock(&self.shared.traffic)
    }

    /// Why the remote is no longer asked or sent to, if it is not.
    pub fn trouble(&self) -> Option<RemoteError> {
        self.shared.client.trouble()
    }
}

impl Shared {
    fn count(&self, change: impl FnOnce(&mut Traffic)) {
        change(&mut lock(&self.traffic));
    }

    fn is_distrusted(&self, name: &Digest) -> bool {
        lock(&self.distrusted).contains(name)
    }

    fn distrust(&self, name: Digest) {
        lock(&self.distrusted).insert(name);
        lock(&self.present).remove(&name);
    }
}

/// A lock whose holder panicked guards plain data still.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
