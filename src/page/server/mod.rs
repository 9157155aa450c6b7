//! The pages of a store, live: read only, on this machine alone, for those who know the token.

mod guard;
mod pages;
mod views;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::runs::{Index, Runs};
use crate::cache::Store;
use crate::project::{Error, Project};
use views::Views;

/// Threads that answer; pages are made on threads of their own.
const WORKERS: usize = 2;

/// Answers that may wait for the disk at a time.
const BLOCKING: usize = 16;

/// Pages of runs that are made at a time; others wait without a thread.
const MAKERS: usize = 2;

/// For so long a list of runs is not read again.
const FRESH: Duration = Duration::from_secs(1);

/// How long a page of a sweep counts.
const QUEUED: Duration = Duration::from_secs(5);

/// How often a wish to stop is looked for.
const PATIENCE: Duration = Duration::from_millis(100);

/// What the handlers share.
pub(super) struct House {
    pub project: Project,
    pub store: Store,
    pub token: String,
    index: Mutex<Listed>,
    pub views: Views,
    pub makers: Semaphore,
    /// How far runs are that are under way.
    pub parts: Recent,
    /// Pages of sweeps, for which a cluster's queue is asked.
    pub sweeps: Recent,
}

/// The list of runs, and when it was read.
#[derive(Default)]
struct Listed {
    index: Index,
    read: Option<(Instant, Runs)>,
}

impl House {
    /// All runs.
    pub fn runs(&self) -> Runs {
        let mut listed = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, runs)) = &listed.read
            && at.elapsed() < FRESH
        {
            return runs.clone();
        }
        let runs = listed.index.refresh(&self.store);
        listed.read = Some((Instant::now(), runs.clone()));
        runs
    }
}

/// What was made a moment ago: many readers cost no more than one.
pub struct Recent {
    made: Mutex<HashMap<String, (Instant, Arc<str>)>>,
    /// How long it counts.
    age: Duration,
}

impl Recent {
    fn of(age: Duration) -> Self {
        Self {
            made: Mutex::default(),
            age,
        }
    }

    /// What was made under this name, or what `make` makes now. Nothing is kept of what is nothing.
    ///
    /// # Errors
    /// What `make` says.
    pub fn get<E>(
        &self,
        name: &str,
        make: impl FnOnce() -> Result<Option<String>, E>,
    ) -> Result<Option<Arc<str>>, E> {
        let made = || self.made.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut made = made();
            made.retain(|_, (at, _)| at.elapsed() < self.age);
            if let Some((_, text)) = made.get(name) {
                return Ok(Some(Arc::clone(text)));
            }
        }
        // The lock is not held meanwhile: asking a cluster may take long, and other pages must not wait for it.
        let Some(text) = make()? else { return Ok(None) };
        let text: Arc<str> = text.into();
        made().insert(name.to_owned(), (Instant::now(), Arc::clone(&text)));
        Ok(Some(text))
    }
}

/// Serves the store until the project is cancelled. `ready` gets the address, with the token in it.
///
/// # Errors
/// If the port is taken, or there is no folder for temporary files.
pub fn serve(project: &Project, port: u16, ready: &dyn Fn(&str)) -> Result<(), Error> {
    let failed =
        |what: &str, error: &dyn std::fmt::Display| Error::failed(format!("{what}: {error}"));
    let house = Arc::new(House {
        store: project.local_store(),
        token: token()?,
        index: Mutex::default(),
        views: Views::new().map_err(|error| failed("there is no folder for pages", &error))?,
        project: project.clone(),
        makers: Semaphore::new(MAKERS),
        parts: Recent::of(FRESH),
        sweeps: Recent::of(QUEUED),
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING)
        .enable_all()
        .build()
        .map_err(|error| failed("the server cannot be started", &error))?;
    let served = runtime.block_on(async {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = TcpListener::bind(address).await.map_err(|error| {
            failed(&format!("cannot listen on {address}"), &error)
                .hint("another port: `--port N`, or `--port 0` for any that is free")
        })?;
        let address = listener
            .local_addr()
            .map_err(|error| failed("the server cannot be started", &error))?;
        ready(&format!("http://{address}/?token={}", house.token));
        let cancel = project.cancel.clone();
        let stopped = async move {
            while !cancel.is_cancelled() {
                tokio::time::sleep(PATIENCE).await;
            }
        };
        let served = axum::serve(listener, routes(Arc::clone(&house)));
        tokio::select! {
            ended = served => ended.map_err(|error| failed("the server failed", &error)),
            // A page that is still open in a browser must not keep the program.
            () = stopped => Ok(()),
        }
    });
    // A page that is being made must not keep the program either.
    runtime.shutdown_background();
    house.views.remove();
    served
}

fn routes(house: Arc<House>) -> Router {
    Router::new()
        .route("/", get(pages::runs))
        .route("/run/{run}/", get(pages::run))
        .route("/run/{run}/tiles/{name}", get(pages::tile))
        .route("/compare", get(pages::compare))
        .route("/diff", get(pages::diff))
        .route("/sweeps", get(pages::sweeps))
        .route("/sweep", get(pages::sweep))
        .fallback(pages::nothing)
        .layer(axum::middleware::from_fn_with_state(
            Arc::clone(&house),
            guard::check,
        ))
        .with_state(house)
}

/// A word that nobody guesses.
fn token() -> Result<String, Error> {
    let mut bytes = [0; 16];
    let filled = getrandom::fill(&mut bytes);
    filled.map_err(|error| Error::failed(format!("the system gives no random bytes: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
