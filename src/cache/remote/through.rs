//! Where a store meets its remote. Reading through: an action that is not here is looked up there, and its objects come
//! when somebody loads them. Writing through: what is published here is sent there in the background. Without a remote,
//! each of these is a look at one `None`.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use super::super::hold::{Grip, Hold};
use super::super::object::write_aside;
use super::super::publish::appear;
use super::super::seal::seal;
use super::super::{Action, CacheError, Key, ObjectRecord, Store};
use super::client::Direction;
use super::fetch::FetchError;
use super::pool::in_parallel;
use super::{Remote, RemoteMode};

impl Store {
    /// This store, reading and writing through to a remote.
    #[must_use]
    pub fn with_remote(mut self, remote: Remote) -> Self {
        self.remote = Some(remote);
        self
    }

    pub fn remote(&self) -> Option<&Remote> {
        self.remote.as_ref()
    }

    /// The action of a key, if all that it names is here or the remote says to have it.
    pub fn find_action(&self, key: &Key) -> Result<Option<Action>, CacheError> {
        match self.usable_action(key)? {
            Some(action) => Ok(Some(action)),
            None => Ok(self.remote_action(key).map(Arc::unwrap_or_clone)),
        }
    }

    /// The action of a key here or at the remote, whether or not its objects can be had.
    pub fn known_action(&self, key: &Key) -> Result<Option<Action>, CacheError> {
        match self.action(key)? {
            Some(action) => Ok(Some(action)),
            None => Ok(self.remote_action(key).map(Arc::unwrap_or_clone)),
        }
    }

    /// The action of a key at the remote; a round trip unless it was anticipated.
    pub fn remote_action(&self, key: &Key) -> Option<Arc<Action>> {
        self.remote.as_ref()?.lookups.find(key)
    }

    /// Says that this key is not here and will be asked for: the remote is asked meanwhile.
    pub fn prefetch(&self, key: &Key) {
        if let Some(remote) = &self.remote {
            remote.lookups.prefetch(key);
        }
    }

    /// Says that these keys will be asked for.
    pub fn anticipate_all(&self, keys: impl Iterator<Item = Key>) {
        if self.remote.is_some() {
            for key in keys {
                if !self.layout().holds(&self.layout().action(&key)) {
                    self.prefetch(&key);
                }
            }
        }
    }

    /// Fetches what is not here of these objects and their parts, many at a time. What the remote does not have stays
    /// missing, and loading it fails.
    ///
    /// # Errors
    /// If the store here cannot take it.
    pub fn fetch(&self, records: &[&ObjectRecord]) -> Result<(), CacheError> {
        let Some(remote) = &self.remote else {
            return Ok(());
        };
        let all = records.iter().flat_map(|record| record.all());
        let missing: Vec<&ObjectRecord> = all.filter(|record| !self.is_present(record)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let fetched = in_parallel(&missing, remote.options().parallel, |record| {
            remote.shared.fetch(self.layout(), record, &|_| {})
        });
        for result in fetched {
            match result {
                Err(FetchError::Local(error)) => return Err(error),
                Err(FetchError::Remote(error)) => tracing::debug!("{error}"),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Hands in an action that is published here.
    pub(in super::super) fn offer(&self, action: Action) {
        if let Some(remote) = &self.remote
            && remote.mode() == RemoteMode::ReadWrite
        {
            remote.uploads.offer(self.layout(), action);
        }
    }

    /// Keeps the actions of which everything has come meanwhile, so that the next run asks nobody for them. As with
    /// results of this machine, an action appears when its objects are on disk.
    pub fn keep_fetched(&self) -> Result<usize, CacheError> {
        let Some(remote) = &self.remote else {
            return Ok(0);
        };
        let found = remote.lookups.found();
        self.keep(found.iter().map(AsRef::as_ref))
    }

    /// Writes those of these actions that are whole and not here yet.
    pub(super) fn keep<'a>(
        &self,
        actions: impl Iterator<Item = &'a Action>,
    ) -> Result<usize, CacheError> {
        let mut news = Vec::new();
        for action in actions.filter(|action| self.has_outputs(action)) {
            match self.usable_action(&action.key) {
                Ok(Some(known)) if known.outputs == action.outputs => {}
                _ => news.push(action),
            }
        }
        if news.is_empty() {
            return Ok(0);
        }
        // Their objects have just come, and an action must not outlive a crash that its objects did not.
        let root = self.layout().root();
        let flushed = File::open(root).and_then(|folder| Ok(rustix::fs::syncfs(&folder)?));
        flushed.map_err(CacheError::io("flush", root))?;
        self.write_actions(&news)
    }

    /// Writes actions whose objects are all here and on disk. Returns how many of them there are now: what a collection of
    /// garbage took away in the meantime is left out.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn write_actions(&self, actions: &[&Action]) -> Result<usize, CacheError> {
        let layout = self.layout();
        // A second name for every object first: what a collection takes away from now on is given back when the action appears.
        let mut held = Vec::with_capacity(actions.len());
        for action in actions {
            let mut hold = Hold::default();
            if hold.grip_action(layout, action, Grip::Loose) {
                held.push((action, hold));
            }
        }
        let mut written = 0;
        for (action, hold) in held {
            let (aside, file) = write_aside(layout, &seal(action))?;
            file.sync_data().map_err(CacheError::io("flush", &aside))?;
            match appear(self, &aside, action, hold) {
                Err(CacheError::Io { source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound => {}
                other => {
                    other?;
                    written += 1;
                }
            }
        }
        Ok(written)
    }
}

impl Remote {
    /// What an action names is lost here and there: it is not found any more.
    pub(in super::super) fn forget(&self, key: &Key) {
        self.lookups.forget(key);
    }

    /// Actions that are not sent yet.
    pub fn unsent(&self) -> usize {
        self.uploads.unsent()
    }

    /// Waits until all results are sent or cannot be, for so long at most. Says whether it is so.
    pub fn wait(&self, limit: Duration) -> bool {
        if self.shared.client.is_given_up(Direction::Writing) {
            self.uploads.abandon();
        }
        self.uploads.wait(limit)
    }

    /// Gives up what is not sent yet.
    pub fn abandon(&self) {
        self.uploads.abandon();
    }
}
