//! The list of runs.

use maud::{Markup, html};

use super::{Frame, Tiles, page};
use crate::cache::{RunStatus, StageState, utc};
use crate::diagnostic::{counted, duration};
use crate::page::runs::{Listing, Page, Runs, Summary};

/// Records that are named of those that cannot be read.
const UNREADABLE: usize = 5;

/// The page that lists runs. `sweeps` says whether there are any.
pub fn runs_page(
    store: &str,
    runs: &Runs,
    listing: &Listing,
    found: &Page<'_>,
    links: Vec<(String, String)>,
) -> String {
    let frame = Frame {
        title: "Runs",
        tiles: Tiles::Below("tiles/"),
        data: serde_json::json!({}),
        links,
    };
    page(&frame, &body(store, runs, listing, found))
}

/// What of the page changes while runs are under way.
pub fn runs_part(listing: &Listing, found: &Page<'_>) -> String {
    table(listing, found).into_string()
}

fn body(store: &str, runs: &Runs, listing: &Listing, found: &Page<'_>) -> Markup {
    html! {
        h1 { "Runs" }
        p.meta { span { (counted(found.found, "run")) " in " code { bdi { (store) } } } }
        @if let Some(trouble) = &runs.trouble { p.notice role="alert" { "The runs cannot be listed: " bdi { (trouble) } } }
        @if !runs.unreadable.is_empty() {
            p.notice role="alert" {
                (counted(runs.unreadable.len(), "record")) " cannot be read, and " code { "runner cache verify" } " sets aside what is damaged: "
                @for run in runs.unreadable.iter().take(UNREADABLE) { code { bdi { (run) } } " " }
                @if runs.unreadable.len() > UNREADABLE { "…" }
            }
        }
        form.filter method="get" action="/" role="search" {
            label { "Filter " input type="search" name="filter" size="44" value=(listing.filter) placeholder="smd status=done lr<0.01 vus_pr>0.4 date>=2026-01"; }
            label { "Columns " input type="text" name="columns" size="30" value=(listing.columns.join(" ")) placeholder=(found.columns.join(" ")); }
            input type="hidden" name="sort" value=(listing.sort);
            button type="submit" { "Show" }
            @if !listing.filter.is_empty() || !listing.columns.is_empty() { a href="/" { "Everything" } }
        }
        details { summary { "How to filter" }
            p { "Words separated by spaces, which all must hold. A word alone is looked for in the names of the run, the pipeline and its file. `name=value`, `!=`, `<`, `<=`, `>` and `>=` compare a parameter, a metric (`f1`, or `stage.f1` of one stage), or `pipeline`, `status`, `profile`, `date`, `seconds` and `seed`." }
        }
        form method="get" action="/compare" {
            div.scroll tabindex="0" role="region" aria-label="Runs" {
                (table(listing, found))
            }
            p { button type="submit" { "Compare those that are ticked" } }
        }
        (pager(listing, found))
    }
}

fn table(listing: &Listing, found: &Page<'_>) -> Markup {
    let is_live = found
        .runs
        .iter()
        .any(|run| run.status == RunStatus::Running);
    html! {
        table #runs data-live[is_live] {
            thead { tr {
                th scope="col" { "Compare" }
                (head(listing, "run", "Run", false))
                (head(listing, "pipeline", "Pipeline", false))
                (head(listing, "status", "Status", false))
                (head(listing, "date", "Started (UTC)", false))
                (head(listing, "seconds", "Time", true))
                th.number scope="col" { "Ran" }
                th.number scope="col" { "Hits" }
                @for name in &found.columns { (head(listing, name, name, true)) }
            } }
            tbody { @for run in &found.runs { (row(run, &found.columns)) } }
        }
    }
}

/// A head that sorts by its column.
fn head(listing: &Listing, name: &str, title: &str, is_number: bool) -> Markup {
    let falling = format!("-{name}");
    let (next, sorted) = match listing.sort.as_str() {
        sort if sort == falling => (name.to_owned(), Some("descending")),
        sort if sort == name => (falling, Some("ascending")),
        _ if is_number => (falling, None),
        _ => (name.to_owned(), None),
    };
    let next = Listing {
        sort: next,
        page: 0,
        ..listing.clone()
    };
    html! { th scope="col" class=[is_number.then_some("number")] aria-sort=[sorted] { a href=(address(&next)) { bdi { (title) } } } }
}

fn row(run: &Summary, columns: &[String]) -> Markup {
    html! {
        tr {
            td { input type="checkbox" name="run" value=(run.run) aria-label=(format!("Compare {}", run.run)); }
            td { a href=(format!("/run/{}/", run.run)) { code { (run.run) } } }
            td { bdi { (run.pipeline) } @if run.sweep.is_some() { span.quiet { " sweep" } } @if let Some(profile) = &run.profile { span.quiet { " " bdi { (profile) } } } }
            td { span class=(format!("state {}", run.status.name())) { (run.status.name()) } }
            td { (&utc(run.started)[..19].replace('T', " ")) }
            td.number { (duration(run.seconds)) }
            td.number { (run.count(StageState::Ran)) }
            td.number { (run.count(StageState::Hit)) }
            @for name in columns { td.number { @if let Some(cell) = run.cell(name) { bdi { (cell.shown()) } } } }
        }
    }
}

fn pager(listing: &Listing, found: &Page<'_>) -> Markup {
    let to = |page: usize| {
        address(&Listing {
            page,
            ..listing.clone()
        })
    };
    html! {
        @if found.pages > 1 {
            nav aria-label="Pages" {
                @if found.page > 0 { a href=(to(found.page - 1)) rel="prev" { "Newer" } }
                span.quiet { "page " (found.page + 1) " of " (found.pages) }
                @if found.page + 1 < found.pages { a href=(to(found.page + 1)) rel="next" { "Older" } }
            }
        }
    }
}

/// The address of a listing.
fn address(listing: &Listing) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in [
        ("filter", listing.filter.clone()),
        ("columns", listing.columns.join(" ")),
        ("sort", listing.sort.clone()),
        ("page", listing.page.to_string()),
    ] {
        if !value.is_empty() && value != "0" {
            query.append_pair(name, &value);
        }
    }
    format!("/?{}", query.finish())
}
