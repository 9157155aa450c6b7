//! Results to a remote: the objects of an action, then the action. Sending is idempotent, so an interrupted transfer is
//! simply repeated; the order is what lets others trust an action that they see.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use contract::artifact::Digest;

use super::super::seal::seal;
use super::super::{Action, Layout, ObjectRecord};
use super::client::{Client, Direction};
use super::names::Names;
use super::pool::{Pool, in_parallel};
use super::{RemoteError, RemoteFault, Shared, lock};

/// Objects up to this size are sent without asking first whether they are there.
const NOT_WORTH_ASKING: u64 = 64 * 1024;

/// Actions that may wait to be sent. More are left to `runner cache push`.
const QUEUE: usize = 65_536;

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    New,
    Present,
}

/// Sends actions in the background.
#[derive(Debug)]
pub(super) struct Uploads {
    shared: Arc<Shared>,
    pool: Pool<(Layout, Arc<Action>)>,
}

impl Uploads {
    pub fn new(shared: Arc<Shared>, parallel: usize) -> Self {
        // Some actions at a time, and some objects of each.
        let crews = parallel.div_ceil(4);
        let pool = Pool::new("remote-upload", crews, {
            let shared = Arc::clone(&shared);
            move |(layout, action): (Layout, Arc<Action>)| {
                shared.send(&layout, &action, parallel / crews)
            }
        });
        Self { shared, pool }
    }

    /// Hands an action in whose objects are in the store. Never waits.
    pub fn offer(&self, layout: &Layout, action: Action) {
        if self.pool.waiting() >= QUEUE || self.shared.client.is_given_up(Direction::Writing) {
            self.shared.count(|traffic| traffic.unsent += 1);
            return;
        }
        self.pool.push((layout.clone(), Arc::new(action)));
    }

    /// Actions that are not sent yet.
    pub fn unsent(&self) -> usize {
        self.pool.unfinished()
    }

    /// Waits until everything is sent, for so long at most. Says whether it is.
    pub fn wait(&self, limit: Duration) -> bool {
        self.pool.wait(limit)
    }

    /// Gives up what is not begun.
    pub fn abandon(&self) {
        let left = self.pool.abandon() as u64;
        self.shared.count(|traffic| traffic.unsent += left);
    }
}

impl Shared {
    /// Sends an action and what it names; a failure is counted and told, and nothing else.
    fn send(&self, layout: &Layout, action: &Action, parallel: usize) {
        let objects: Vec<&ObjectRecord> = action.objects().collect();
        let sent = in_parallel(&objects, parallel, |record| {
            self.send_object(layout, record)
        });
        // The action goes last: others trust an action that they see.
        let all: Result<Vec<Sent>, RemoteError> = sent.into_iter().collect();
        if let Err(error) = all.and_then(|_| self.send_action(action)) {
            tracing::debug!("the results of {} were not sent: {error}", action.kind);
            self.count(|traffic| traffic.unsent += 1);
        }
    }

    /// Sends an object unless it is there.
    pub fn send_object(&self, layout: &Layout, record: &ObjectRecord) -> Result<Sent, RemoteError> {
        // Of many objects, not one more is read.
        self.client.check_interrupt()?;
        if lock(&self.present).contains(&record.object) {
            return Ok(Sent::Present);
        }
        let name = Names::object(record);
        let ask = record.bytes > NOT_WORTH_ASKING && !self.is_distrusted(&record.object);
        if ask && self.client.size(&name)? == Some(record.bytes) {
            lock(&self.present).insert(record.object);
            return Ok(Sent::Present);
        }
        self.put_object(layout, record, &name)?;
        lock(&self.present).insert(record.object);
        lock(&self.distrusted).remove(&record.object);
        self.count(|traffic| {
            traffic.objects_sent += 1;
            traffic.bytes_sent += record.bytes;
        });
        Ok(Sent::New)
    }

    /// What is damaged here is not sent: it would be damaged everywhere.
    fn put_object(
        &self,
        layout: &Layout,
        record: &ObjectRecord,
        name: &str,
    ) -> Result<(), RemoteError> {
        let path = layout.object(record);
        if Client::is_large(record.bytes) {
            return self
                .client
                .put_large(name, record.bytes, &record.object, &path);
        }
        let reason = match read_whole(layout, &path, record.bytes) {
            Ok(bytes) if Digest::of_bytes(&bytes) == record.object => {
                return self.client.put(name, bytes);
            }
            Ok(_) => "its bytes are not those of its name".to_owned(),
            Err(error) => error.to_string(),
        };
        let message = format!("object {} here is damaged or gone", record.object.short());
        Err(RemoteError::new(RemoteFault::Damaged, message)
            .because(reason)
            .with_hint("`runner cache verify` looks at all of them"))
    }

    /// Sends an action all of whose objects are there.
    pub fn send_action(&self, action: &Action) -> Result<(), RemoteError> {
        self.client.put(&Names::action(&action.key), seal(action))?;
        lock(&self.distrusted).remove(&action.key.0);
        self.count(|traffic| traffic.actions_sent += 1);
        Ok(())
    }
}

/// Reads an object of this length; what is longer is not it.
fn read_whole(layout: &Layout, path: &Path, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    layout
        .open(path)?
        .take(length + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}
