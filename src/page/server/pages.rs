//! What each address answers. Pages are made on threads that may wait for the disk.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::{Path as Segments, RawQuery, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Response};

use super::House;
use super::views::Made;
use crate::cache::{RunId, RunRecord, RunStatus};
use crate::data::{Options, Sources};
use crate::page::html::{self, Tiles, run_page};
use crate::page::run::RunView;
use crate::page::runs::Listing;
use crate::page::tiles::InFolder;
use crate::project::{Error, Followed};
use crate::report::{History, ReportError, RunDiff};
use crate::sweep::submissions;

/// Runs that are compared at most.
const COMPARED: usize = 24;

/// Why an address has no answer.
enum Failure {
    /// There is no such thing.
    Absent(String),
    Failed(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<ReportError> for Failure {
    fn from(error: ReportError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Pages that every page leads to.
fn links(house: &House) -> Vec<(String, String)> {
    let mut links = vec![("/".to_owned(), "Runs".to_owned())];
    // Asked again within a second, the list of runs costs nothing.
    let layout = house.store.layout();
    if house.runs().all.iter().any(|run| run.sweep.is_some())
        || !layout.folders_in(&layout.sweeps()).is_empty()
    {
        links.push(("/sweeps".to_owned(), "Sweeps".to_owned()));
    }
    links
}

/// Makes an answer where waiting is allowed.
async fn answer<T>(make: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Response
where
    T: IntoResponse + Send + 'static,
{
    match answer_or(make).await {
        Ok(answer) => answer.into_response(),
        Err(failure) => failure.into_response(),
    }
}

async fn answer_or<T: Send + 'static>(
    make: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let made = tokio::task::spawn_blocking(make).await;
    made.unwrap_or_else(|error| Err(Failure::Failed(error.to_string())))
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::Absent(text) => message(StatusCode::NOT_FOUND, &text),
            Self::Failed(text) => message(StatusCode::INTERNAL_SERVER_ERROR, &text),
        }
    }
}

fn message(status: StatusCode, text: &str) -> Response {
    (status, Html(html::message_page(text))).into_response()
}

/// An address that leads nowhere.
pub async fn nothing() -> Response {
    message(StatusCode::NOT_FOUND, "There is no such page.")
}

/// Says that a script asks for what changes alone, and not for the whole page.
const PART: &str = "runner-part";

/// The list of runs.
pub async fn runs(
    State(house): State<Arc<House>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    answer(move || {
        let listing = listing(query.as_deref().unwrap_or_default());
        let runs = house.runs();
        let found = listing.apply(&runs.all);
        if headers.contains_key(PART) {
            return Ok(Html(html::runs_part(&listing, &found)));
        }
        let store = house.project.store.display().to_string();
        Ok(Html(html::runs_page(
            &store,
            &runs,
            &listing,
            &found,
            links(&house),
        )))
    })
    .await
}

fn listing(query: &str) -> Listing {
    let mut listing = Listing::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "filter" => listing.filter = value.trim().to_owned(),
            "columns" => listing.columns = value.split_whitespace().map(str::to_owned).collect(),
            "sort" => listing.sort = value.into_owned(),
            "page" => listing.page = value.parse().unwrap_or_default(),
            _ => {}
        }
    }
    listing
}

/// The values of a name in a query.
fn values(query: Option<&str>, wanted: &str) -> Vec<String> {
    let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let own = pairs.filter(|(name, _)| name == wanted);
    own.map(|(_, value)| value.into_owned()).collect()
}

/// The record of a run whose whole name this is.
fn record(house: &House, name: &str) -> Result<RunRecord, Failure> {
    let absent = || Failure::Absent(format!("The store has no run `{name}`."));
    if !RunId::is_name(name) {
        return Err(absent());
    }
    let record = house.store.load_run(&RunId(name.to_owned()));
    record.map_err(|error| match error.is_absence() {
        true => absent(),
        false => Failure::Failed(error.to_string()),
    })
}

/// A run: as it grows, or all that there is of it.
pub async fn run(
    State(house): State<Arc<House>>,
    Segments(name): Segments<String>,
    headers: HeaderMap,
) -> Response {
    if headers.contains_key(PART) {
        return answer(move || part(&house, &name)).await;
    }
    let quick = {
        let (house, name) = (Arc::clone(&house), name.clone());
        answer_or(move || {
            let record = record(&house, &name)?;
            if record.status == RunStatus::Running {
                let followed = Followed::read(&house.store, &record.run);
                return Ok(Some(html::live_page(&record, &followed, links(&house))));
            }
            let known = house.views.known(&record.run, written(&house, &record.run));
            Ok(known.map(|made| made.page.clone()))
        })
        .await
    };
    match quick {
        Ok(Some(page)) => Html(page).into_response(),
        Err(failure) => failure.into_response(),
        // To make a page takes time: so many at once, and the others wait without holding a thread.
        Ok(None) => {
            let _maker = house.makers.acquire().await;
            let house = Arc::clone(&house);
            answer(move || Ok(Html(view(&house, &record(&house, &name)?)?.page.clone()))).await
        }
    }
}

/// How far a run is; nothing if it has ended, and the whole page tells.
fn part(house: &House, name: &str) -> Result<Html<String>, Failure> {
    let part = house.parts.get(name, || {
        let record = record(house, name)?;
        let is_running = record.status == RunStatus::Running;
        Ok::<_, Failure>(is_running.then(|| {
            let followed = Followed::read(&house.store, &record.run);
            html::live_part(&record, &followed)
        }))
    })?;
    Ok(Html(part.as_deref().unwrap_or_default().to_owned()))
}

fn written(house: &House, run: &RunId) -> Option<SystemTime> {
    let found = house.store.layout().look_at(&house.store.run_path(run))?;
    found.modified().ok()
}

fn view(house: &House, record: &RunRecord) -> Result<Arc<Made>, Failure> {
    let written = written(house, &record.run);
    house.views.get(&record.run, written, |tiles: &Path| {
        let sources = Sources::load(&Options::from_environment().data_dir).map_err(Error::from)?;
        let kinds = &house.project.catalogue.kinds;
        let history = History::of(&house.store, record, kinds, &sources);
        let view = RunView::gather(&history, &InFolder::new(tiles))?;
        let mut links = links(house);
        links.extend(since_before(house, record));
        Ok(run_page(&view, Tiles::Below("tiles/"), links))
    })
}

/// Leads to what differs from the run of the same pipeline before this one.
fn since_before(house: &House, record: &RunRecord) -> Option<(String, String)> {
    let runs = house.runs().all;
    let mut older = runs.iter().skip_while(|run| run.run != record.run).skip(1);
    let before = older.find(|run| run.file == record.file)?;
    let address = format!("/diff?a={}&b={}", before.run, record.run);
    Some((address, "What changed since the run before".to_owned()))
}

/// A tile of the arrays of a run.
pub async fn tile(
    State(house): State<Arc<House>>,
    Segments((run, name)): Segments<(String, String)>,
) -> Response {
    answer(move || {
        // Its page was made before: its record need not be read again for each tile.
        let made = match house.views.latest(&RunId(run.clone())) {
            Some(made) => made,
            None => view(&house, &record(&house, &run)?)?,
        };
        let absent = || Failure::Absent(format!("The run has no array `{name}`."));
        let path = made.tile(&name).ok_or_else(absent)?;
        let bytes = std::fs::read(path).map_err(|_| absent())?;
        let headers = [
            (CONTENT_TYPE, "application/octet-stream"),
            (CACHE_CONTROL, "private, max-age=600"),
        ];
        Ok((headers, bytes))
    })
    .await
}

/// Runs side by side.
pub async fn compare(State(house): State<Arc<House>>, RawQuery(query): RawQuery) -> Response {
    answer(move || {
        let mut records = Vec::new();
        let names = values(query.as_deref(), "run");
        if names.len() > COMPARED {
            let text = format!("Tick at most {COMPARED} runs; {} are ticked.", names.len());
            return Err(Failure::Absent(text));
        }
        for name in &names {
            records.push(record(&house, name)?);
        }
        if records.is_empty() {
            return Err(Failure::Absent(
                "Tick the runs to compare in the list.".to_owned(),
            ));
        }
        let all = !values(query.as_deref(), "all").is_empty();
        Ok(Html(html::compare_page(&records, all, links(&house), true)))
    })
    .await
}

/// Two runs line by line.
pub async fn diff(State(house): State<Arc<House>>, RawQuery(query): RawQuery) -> Response {
    answer(move || {
        let one = |name: &str| values(query.as_deref(), name).pop().unwrap_or_default();
        let (a, b) = (record(&house, &one("a"))?, record(&house, &one("b"))?);
        let diff = RunDiff::between(&house.store, &a, &b);
        Ok(Html(html::diff_page(&a, &b, &diff, links(&house))))
    })
    .await
}

/// The files of sweeps of which the store has a run, or a submission to a cluster that has not begun, and their runs.
fn sweep_files(house: &House) -> Vec<(String, Vec<String>)> {
    let mut files: Vec<(String, Vec<String>)> = Vec::new();
    for run in house.runs().all.iter().filter(|run| run.sweep.is_some()) {
        match files.iter_mut().find(|(file, _)| *file == run.file) {
            Some((_, runs)) => runs.push(run.run.0.clone()),
            None => files.push((run.file.clone(), vec![run.run.0.clone()])),
        }
    }
    for submission in submissions(house.store.layout()) {
        // Runs name the file without links on the way.
        let file = submission.file.canonicalize().unwrap_or(submission.file);
        let file = file.display().to_string();
        if files.iter().all(|(known, _)| *known != file) {
            files.push((file, Vec::new()));
        }
    }
    files
}

/// The list of sweeps.
pub async fn sweeps(State(house): State<Arc<House>>) -> Response {
    answer(move || {
        let files = sweep_files(&house);
        let counted: Vec<(String, usize)> = files
            .into_iter()
            .map(|(file, runs)| (file, runs.len()))
            .collect();
        Ok(Html(html::sweeps_page(&counted, links(&house))))
    })
    .await
}

/// A sweep, by its file: none is opened that is not in the list.
pub async fn sweep(State(house): State<Arc<House>>, RawQuery(query): RawQuery) -> Response {
    answer(move || {
        let file = values(query.as_deref(), "file").pop().unwrap_or_default();
        let mut files = sweep_files(&house).into_iter();
        let Some((_, runs)) = files.find(|(known, _)| *known == file) else {
            return Err(Failure::Absent("The store has no such sweep.".to_owned()));
        };
        let page = house.sweeps.get(&file, || {
            let view = crate::page::sweep::view(&house.project, Path::new(&file), runs)?;
            Ok::<_, Failure>(Some(html::sweep_page(&view, links(&house), true)))
        })?;
        Ok(Html(page.as_deref().unwrap_or_default().to_owned()))
    })
    .await
}
