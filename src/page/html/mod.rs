//! Pages as HTML. All text is in the markup, so that a page can be read, searched and printed without its script; the script
//! adds the charts. What comes from a pipeline or from data is escaped by `maud` and stands in `bdi` elements.

mod audit;
mod compare;
mod graph;
mod live;
mod provenance;
mod ranking;
mod results;
mod runs;
mod series;
mod stages;
mod sweep;
mod tables;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub use audit::{audit_page, lock_page};
pub use compare::{compare_page, diff_page};
pub use live::{live_page, live_part};
pub use runs::{runs_page, runs_part};
pub use sweep::{SweepView, sweep_page, sweeps_page};

use super::run::RunView;
use super::tiles::{OVERVIEW, TILE};
use crate::diagnostic::{counted, duration};

/// The page's own script, and the library that draws its charts.
const SCRIPTS: [&str; 2] = [
    include_str!("../assets/uplot.js"),
    include_str!("../assets/page.js"),
];

const STYLES: [&str; 2] = [
    include_str!("../assets/uplot.css"),
    include_str!("../assets/page.css"),
];

/// Gaps that are listed.
const GAPS: usize = 10;

/// Bytes as text, for addresses of the scheme `data:` and for tiles.
fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Where the script finds the tiles of arrays.
pub enum Tiles<'a> {
    /// In the page itself.
    Carried(&'a BTreeMap<String, Vec<u8>>),
    /// Below this address, relative to the page.
    Below(&'a str),
}

/// What a page knows besides its own text.
pub struct Frame<'a> {
    pub title: &'a str,
    pub tiles: Tiles<'a>,
    /// What the script draws.
    pub data: Value,
    /// The way back, and other pages: address and name.
    pub links: Vec<(String, String)>,
}

/// The page of a run.
pub fn run_page(view: &RunView<'_>, tiles: Tiles<'_>, links: Vec<(String, String)>) -> String {
    let record = view.history.record;
    let data = json!({
        "scenes": view.scenes,
        "forecasts": view.forecasts,
        "curves": view.curves,
    });
    let frame = Frame {
        title: &format!("{} · {}", record.pipeline, record.run),
        tiles,
        data,
        links,
    };
    page(&frame, &run_body(view))
}

/// A page that says one thing.
pub fn message_page(text: &str) -> String {
    let frame = Frame {
        title: "runner",
        tiles: Tiles::Below("tiles/"),
        data: json!({}),
        links: vec![("/".to_owned(), "Runs".to_owned())],
    };
    page(&frame, &html! { h1 { "runner" } p.notice { (text) } })
}

fn run_body(view: &RunView<'_>) -> Markup {
    let record = view.history.record;
    let sections: Vec<(&str, &str, Markup)> = [
        ("results", "Results", results::section(view)),
        ("series", "Scores over the series", series::section(view)),
        ("ranking", "Ranking", ranking::section(view)),
        ("forecasts", "Forecasts", series::forecasts(view)),
        ("classes", "Classes", tables::confusions(view)),
        ("training", "Training", series::training(view)),
        ("tables", "Tables", tables::section(view)),
        ("plots", "Plots", tables::plots(view)),
        ("stages", "Stages", stages::section(view)),
        ("provenance", "Provenance", provenance::section(view)),
    ]
    .into_iter()
    .filter(|(.., markup)| !markup.0.is_empty())
    .collect();
    html! {
        header.top {
            h1 { bdi { (record.pipeline) } }
            p.meta {
                span class=(format!("state {}", record.status.name())) { (record.status.name()) }
                span { "run " code { (record.run) } }
                span { (crate::cache::utc(record.started)) }
                span { (duration(record.seconds)) }
                @if let Some(profile) = &record.profile { span { "profile " bdi { (profile) } } }
            }
            nav aria-label="Sections" {
                @for (id, title, _) in &sections { a href=(format!("#{id}")) { (title) } }
            }
        }
        @if !view.gaps.is_empty() {
            div.notice {
                p { (counted(view.gaps.len(), "result")) " no longer in the store, and so not shown:" }
                ul { @for gap in view.gaps.iter().take(GAPS) { li { bdi { (gap) } } } @if view.gaps.len() > GAPS { li { "and " (view.gaps.len() - GAPS) " more" } } }
            }
        }
        @for (id, title, markup) in &sections {
            section id=(id) aria-labelledby=(format!("{id}-title")) {
                h2 id=(format!("{id}-title")) { (title) }
                (markup)
            }
        }
    }
}

/// A whole document. Scripts and styles are named by their digests in its policy, so that nothing else can run or be fetched.
pub fn page(frame: &Frame<'_>, body: &Markup) -> String {
    let mut data = frame.data.clone();
    data["tile"] = json!(TILE);
    data["overview"] = json!(OVERVIEW);
    if let Tiles::Below(base) = frame.tiles {
        data["base"] = json!(base);
    }
    // In a script element, `<` could end it.
    let data = data.to_string().replace('<', "\\u003c");
    let carried = match frame.tiles {
        Tiles::Carried(tiles) => Some(tiles),
        Tiles::Below(_) => None,
    };
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy());
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                meta name="generator" content=(concat!("runner ", env!("CARGO_PKG_VERSION")));
                title { (frame.title) }
                link rel="icon" href="data:,";
                @for style in STYLES { style { (PreEscaped(style)) } }
            }
            body {
                div.bar {
                    span.brand { "runner" }
                    @for (address, name) in &frame.links { a href=(address) { (name) } }
                    button #theme type="button" { "Light or dark" }
                }
                main { (body) }
                footer { "Made by runner " (env!("CARGO_PKG_VERSION")) " from the store alone. Charts by uPlot (MIT)." }
                script type="application/json" #data { (PreEscaped(data)) }
                @for (name, bytes) in carried.into_iter().flatten() {
                    script type="application/octet-stream" data-tile=(name) { (PreEscaped(base64(bytes))) }
                }
                @for script in SCRIPTS { script { (PreEscaped(script)) } }
            }
        }
    };
    document.into_string()
}

/// What a page may do: run our scripts, apply our styles, show pictures that it carries, and ask its own server for tiles.
pub fn policy() -> String {
    let sources = |texts: &[&str]| {
        let digests = texts.iter().map(|text| {
            let digest = Sha256::digest(text.as_bytes());
            format!("'sha256-{}'", base64(&digest))
        });
        digests.collect::<Vec<_>>().join(" ")
    };
    format!(
        "default-src 'none'; script-src {}; style-src {}; img-src data: 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'",
        sources(&SCRIPTS),
        sources(&STYLES)
    )
}
