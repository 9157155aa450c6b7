//! Actions at a remote. A lookup is a round trip, so it is begun as soon as a key is known, many at a time, and its answer
//! is there or on its way when it is needed.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::super::seal::unseal;
use super::super::{Action, Key};
use super::names::Names;
use super::pool::Pool;
use super::{RemoteError, RemoteFault, Shared, lock};

/// Another machine may have come to a result after this long.
const ABSENT_FOR: Duration = Duration::from_secs(10);

/// What is known about a key.
#[derive(Clone, Debug)]
enum Lookup {
    /// Somebody is asking.
    Asked,
    Found(Arc<Action>),
    Absent(Instant),
    /// It was found, and what it names turned out to be lost.
    Forgotten,
}

/// Answers to lookups.
#[derive(Debug, Default)]
struct Answers {
    known: Mutex<BTreeMap<Key, Lookup>>,
    changed: Condvar,
}

/// Looks actions up.
#[derive(Debug)]
pub(super) struct Lookups {
    shared: Arc<Shared>,
    answers: Arc<Answers>,
    pool: Pool<Key>,
}

impl Lookups {
    pub fn new(shared: Arc<Shared>, parallel: usize) -> Self {
        let answers = Arc::new(Answers::default());
        let pool = Pool::new("remote-lookup", parallel, {
            let (shared, answers) = (Arc::clone(&shared), Arc::clone(&answers));
            move |key| answers.ask(&shared, key)
        });
        Self {
            shared,
            answers,
            pool,
        }
    }

    /// Begins to look a key up, if nothing is known about it.
    pub fn prefetch(&self, key: &Key) {
        if self.answers.claim(key) {
            self.pool.push(*key);
        }
    }

    /// The action of a key at the remote. Waits for a lookup that is under way.
    pub fn find(&self, key: &Key) -> Option<Arc<Action>> {
        if self.answers.claim(key) {
            self.answers.ask(&self.shared, *key);
        }
        self.answers.wait(key)
    }

    /// What an action names is lost: the remote is not asked for it again.
    pub fn forget(&self, key: &Key) {
        let mut known = lock(&self.answers.known);
        if matches!(known.get(key), Some(Lookup::Found(_))) {
            known.insert(*key, Lookup::Forgotten);
        }
    }

    /// All actions that were found.
    pub fn found(&self) -> Vec<Arc<Action>> {
        let known = lock(&self.answers.known);
        let found = |lookup: &Lookup| match lookup {
            Lookup::Found(action) => Some(Arc::clone(action)),
            _ => None,
        };
        known.values().filter_map(found).collect()
    }
}

impl Answers {
    /// Whether the caller is the one to ask.
    fn claim(&self, key: &Key) -> bool {
        let mut known = lock(&self.known);
        let unknown = match known.get(key) {
            None => true,
            Some(Lookup::Absent(since)) => since.elapsed() > ABSENT_FOR,
            Some(_) => false,
        };
        if unknown {
            known.insert(*key, Lookup::Asked);
        }
        unknown
    }

    fn ask(&self, shared: &Shared, key: Key) {
        let answer = match shared.look_up(&key) {
            Ok(Some(action)) => {
                shared.count(|traffic| traffic.found += 1);
                Lookup::Found(Arc::new(action))
            }
            Ok(None) => Lookup::Absent(Instant::now()),
            Err(error) => {
                tracing::debug!("{error}");
                Lookup::Absent(Instant::now())
            }
        };
        lock(&self.known).insert(key, answer);
        self.changed.notify_all();
    }

    fn wait(&self, key: &Key) -> Option<Arc<Action>> {
        let asked =
            |known: &mut BTreeMap<Key, Lookup>| matches!(known.get(key), Some(Lookup::Asked));
        let known = self
            .changed
            .wait_while(lock(&self.known), asked)
            .unwrap_or_else(PoisonError::into_inner);
        match known.get(key) {
            Some(Lookup::Found(action)) => Some(Arc::clone(action)),
            _ => None,
        }
    }
}

impl Shared {
    /// One look at the remote. A record that is damaged or of another key is none.
    pub fn look_up(&self, key: &Key) -> Result<Option<Action>, RemoteError> {
        if self.is_distrusted(&key.0) {
            return Ok(None);
        }
        let Some(text) = self.client.record(&Names::action(key))? else {
            return Ok(None);
        };
        if let Some(action) = unseal::<Action>(&text).filter(|action| action.key == *key) {
            return Ok(Some(action));
        }
        self.distrust(key.0);
        let message = format!(
            "{} has a damaged action for key {}",
            self.client.address(),
            key.short()
        );
        let wrong = RemoteError::new(RemoteFault::Damaged, message).with_hint(
            "`runner cache push --verify` from a store that has its results puts it right",
        );
        self.tell_wrong(&wrong);
        Ok(None)
    }
}
