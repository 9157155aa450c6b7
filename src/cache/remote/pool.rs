//! Threads that exist only while there is work: a queue, and up to so many workers that empty it and go.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::lock;

type Work<T> = dyn Fn(T) + Send + Sync;

/// A pool that does one kind of work.
pub(super) struct Pool<T> {
    inner: Arc<Inner<T>>,
}

struct Inner<T> {
    name: &'static str,
    most: usize,
    state: Mutex<State<T>>,
    idle: Condvar,
    work: Box<Work<T>>,
}

struct State<T> {
    queue: VecDeque<T>,
    workers: usize,
}

impl<T> fmt::Debug for Pool<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Pool")
            .field("name", &self.inner.name)
            .finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Pool<T> {
    pub fn new(name: &'static str, most: usize, work: impl Fn(T) + Send + Sync + 'static) -> Self {
        let state = Mutex::new(State {
            queue: VecDeque::new(),
            workers: 0,
        });
        Self {
            inner: Arc::new(Inner {
                name,
                most: most.max(1),
                state,
                idle: Condvar::new(),
                work: Box::new(work),
            }),
        }
    }

    /// Hands in work; it is done in the order of its coming, by several at a time.
    pub fn push(&self, item: T) {
        let mut state = lock(&self.inner.state);
        state.queue.push_back(item);
        if state.workers < self.inner.most {
            state.workers += 1;
            let inner = Arc::clone(&self.inner);
            let spawned = std::thread::Builder::new()
                .name(self.inner.name.into())
                .spawn(move || inner.work());
            if spawned.is_err() {
                state.workers -= 1;
                if state.workers == 0 {
                    // Not one thread is to be had: then the work is done here.
                    state.workers = 1;
                    drop(state);
                    self.inner.work();
                }
            }
        }
    }

    /// What is queued and not begun.
    pub fn waiting(&self) -> usize {
        lock(&self.inner.state).queue.len()
    }

    /// What is queued or being worked on.
    pub fn unfinished(&self) -> usize {
        let state = lock(&self.inner.state);
        state.queue.len() + state.workers
    }

    /// Forgets what is not begun; says how much that was.
    pub fn abandon(&self) -> usize {
        std::mem::take(&mut lock(&self.inner.state).queue).len()
    }

    /// Waits until nothing is left to do, for so long at most. Says whether that came.
    pub fn wait(&self, limit: Duration) -> bool {
        let state = lock(&self.inner.state);
        let busy = |state: &mut State<T>| state.workers > 0;
        let (state, _) = self
            .inner
            .idle
            .wait_timeout_while(state, limit, busy)
            .unwrap_or_else(PoisonError::into_inner);
        state.workers == 0
    }
}

impl<T> Inner<T> {
    fn work(&self) {
        loop {
            let mut state = lock(&self.state);
            let Some(item) = state.queue.pop_front() else {
                state.workers -= 1;
                drop(state);
                self.idle.notify_all();
                return;
            };
            drop(state);
            (self.work)(item);
        }
    }
}

/// Does the work on all items, by up to `most` threads at a time. The results stand in the order of the items.
pub(super) fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    most: usize,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let threads = most.clamp(1, items.len().max(1));
    if threads == 1 {
        return items.iter().map(work).collect();
    }
    let next = std::sync::atomic::AtomicUsize::new(0);
    let results: Vec<Mutex<Option<R>>> = items.iter().map(|_| Mutex::new(None)).collect();
    let work = || {
        loop {
            let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let Some(item) = items.get(index) else { return };
            *lock(&results[index]) = Some(work(item));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // Fewer threads than asked for do it too.
            let _ = std::thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    results
        .into_iter()
        .filter_map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn all_work_is_done_by_no_more_than_so_many() {
        let counts = Arc::new((
            AtomicUsize::new(0),
            AtomicUsize::new(0),
            AtomicUsize::new(0),
        ));
        let pool = Pool::new("test", 3, {
            let counts = Arc::clone(&counts);
            move |item: usize| {
                let at_once = counts.0.fetch_add(1, Ordering::SeqCst) + 1;
                counts.1.fetch_max(at_once, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(1));
                counts.2.fetch_add(item, Ordering::SeqCst);
                counts.0.fetch_sub(1, Ordering::SeqCst);
            }
        });
        for round in 1..=2 {
            (1..=50).for_each(|item| pool.push(item));
            assert!(pool.wait(Duration::from_secs(20)));
            assert_eq!(counts.2.load(Ordering::SeqCst), round * 50 * 51 / 2);
        }
        assert!(counts.1.load(Ordering::SeqCst) <= 3);
        assert_eq!((pool.waiting(), pool.unfinished()), (0, 0));
    }

    #[test]
    fn results_stand_in_order() {
        let items: Vec<usize> = (0..100).collect();
        assert_eq!(
            in_parallel(&items, 7, |item| item * 2),
            items.iter().map(|item| item * 2).collect::<Vec<_>>()
        );
        assert_eq!(
            in_parallel(&[] as &[usize], 7, |item| *item),
            Vec::<usize>::new()
        );
    }
}
