//! Where it all comes from: the machine, the data with licences and sums, and what to cite.

use std::collections::BTreeSet;

use maud::{Markup, html};
use serde_json::Value;

use crate::diagnostic::{bytes, counted};
use crate::page::citation::bibtex;
use crate::page::run::RunView;

/// Raw files that are listed.
const FILES: usize = 300;

/// The machine, the pipeline's files, the data and the citations.
pub fn section(view: &RunView<'_>) -> Markup {
    let history = view.history;
    let record = history.record;
    let sets = history.data_sets();
    let files: Vec<_> = history
        .stages
        .iter()
        .flat_map(|stage| &stage.files)
        .collect();
    let mut seen = BTreeSet::new();
    let mut unique = files;
    unique.retain(|file| seen.insert(file.blake3));
    html! {
        details { summary { "Machine" }
            dl.facts { @for (name, value) in &record.environment { dt { (name) } dd { bdi { (said(name, value)) } } } }
        }
        @for file in &record.pipeline_files { details { summary { "Pipeline " bdi { (file.path) } } pre { (file.text) } } }
        @for (name, set) in &sets {
            h3 { bdi { (set.title) } }
            dl.facts {
                dt { "Name" } dd { code { (name) } }
                dt { "Licence" } dd { bdi { (set.licence) } }
                dt { "Citation" } dd { bdi { (set.citation) } }
                dt { "From" } dd { bdi { (set.homepage) } }
            }
            details { summary { "BibTeX" } pre { (bibtex(name, &set.title, &set.citation, &set.homepage)) } }
        }
        @let models = history.citations();
        @if !models.is_empty() {
            h3 { "Models" }
            dl.facts { @for (name, citation) in &models { dt { code { (name) } } dd { (citation) } } }
            details { summary { "BibTeX" } @for (name, citation) in &models { pre { (bibtex(name, name, citation, "")) } } }
        }
        @if !unique.is_empty() {
            details {
                summary { (counted(unique.len(), "raw file")) @if unique.len() > FILES { ", the first " (FILES) } }
                div.scroll tabindex="0" role="region" aria-label="Raw files" { table.sortable {
                    thead { tr { th scope="col" { "File" } th.number scope="col" { "Size" } th scope="col" { "blake3" } th scope="col" { "SHA-256 as listed" } } }
                    tbody { @for file in unique.iter().take(FILES) { tr {
                        td { bdi { (file.shown_name()) } }
                        td.number data-value=[file.bytes] { @if let Some(count) = file.bytes { (bytes(count)) } }
                        td { code { (file.blake3) } }
                        td { @if let Some(sum) = &file.sha256 { code { (sum) } } }
                    } } }
                } }
            }
        }
    }
}

fn said(name: &str, value: &Value) -> String {
    match (name, value) {
        ("memory" | "memory_limit", Value::Number(number)) => {
            number.as_u64().map_or_else(|| value.to_string(), bytes)
        }
        (_, Value::String(text)) => text.clone(),
        _ => value.to_string(),
    }
}
