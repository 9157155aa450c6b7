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

use super::runs::{Index, Summary};
use crate::cache::{RunId, Store};
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
    /// How far runs are that are under way, and when it was read: many readers cost no more than one.
    parts: Mutex<HashMap<RunId, (Instant, Arc<str>)>>,
}

/// The list of runs, and when it was read.
#[derive(Default)]
struct Listed {
    index: Index,
    read: Option<(Instant, Vec<Arc<Summary>>)>,
}

impl House {
    /// All runs, the newest first.
    pub fn runs(&self) -> Vec<Arc<Summary>> {
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

impl House {
    /// How far a run is, as it was read a moment ago or as `read` says now; what ended is not kept.
    ///
    /// # Errors
    /// What `read` says.
    pub fn part<E>(
        &self,
        run: &RunId,
        read: impl FnOnce() -> Result<Option<String>, E>,
    ) -> Result<Option<Arc<str>>, E> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.retain(|_, (at, _)| at.elapsed() < FRESH);
        if let Some((_, part)) = parts.get(run) {
            return Ok(Some(Arc::clone(part)));
        }
        let Some(part) = read()? else { return Ok(None) };
        let part: Arc<str> = part.into();
        parts.insert(run.clone(), (Instant::now(), Arc::clone(&part)));
        Ok(Some(part))
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
        parts: Mutex::default(),
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
