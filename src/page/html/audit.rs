//! An audit, down to the first number that differs; and a lock as it stands beside the store.

use maud::{Markup, html};
use serde_json::json;

use super::{Frame, Tiles, page};
use crate::audit::{AuditReport, Closeness, LeafComparison, Lock, PortAudit, StageAudit, Verdict};
use crate::diagnostic::{bytes, counted, duration, number};
use crate::project::{Audited, Verified};

/// Arrays of one output that are listed.
const LEAVES: usize = 40;

/// Problems that are listed.
const PROBLEMS: usize = 200;

fn frame(title: &str) -> Frame<'_> {
    Frame {
        title,
        tiles: Tiles::Below("tiles/"),
        data: json!({}),
        links: Vec::new(),
    }
}

/// The page of an audit.
pub fn audit_page(audited: &Audited) -> String {
    let report = &audited.report;
    let title = format!("Audit of {}", audited.name);
    let body = html! {
        header.top {
            h1 { "Audit of " bdi { (audited.name) } }
            p.meta {
                span class=(if report.is_good() { "state done" } else { "state failed" }) { (verdict_of(report)) }
                span { (counted(report.stages.len(), "stage")) " in " (duration(report.seconds)) }
                span { "recorded by runner " (audited.lock.runner) ", repeated by " (env!("CARGO_PKG_VERSION")) " on " code { (audited.numeric_class) } }
            }
        }
        @for difference in &report.header { p.notice.bad { "The record's header differs: " (difference) } }
        @if let Some(first) = &report.first_divergence { p.notice { "The first stage that differs: " strong { bdi { (first) } } } }
        @if !report.inherited.is_empty() { p { "Differ because of what they took: " bdi { (report.inherited.join(", ")) } } }
        @if report.left_out > 0 { p { (counted(report.left_out, "stage")) " not audited" } }
        section aria-labelledby="verdicts" { h2 #verdicts { "Verdict of each stage" }
            div.scroll tabindex="0" role="region" aria-label="Verdicts" { table.sortable {
                thead { tr { th scope="col" { "Stage" } th scope="col" { "Kind" } th scope="col" { "Verdict" } th.number scope="col" { "Seconds" } th scope="col" { "Why" } } }
                tbody { @for (index, stage) in report.stages.iter().enumerate() {
                    tr {
                        th scope="row" { @if has_details(stage) { a href=(format!("#stage-{index}")) { bdi { (stage.stage) } } } @else { bdi { (stage.stage) } } }
                        td { (stage.kind) }
                        td class=(class_of(stage.verdict)) { (stage.verdict.name()) }
                        td.number { (number(stage.seconds)) }
                        td { bdi { (stage.reason) } }
                    }
                } }
            } }
        }
        @if report.stages.iter().any(has_details) {
            section aria-labelledby="differences" { h2 #differences { "What differs" }
                @for (index, stage) in report.stages.iter().enumerate() { @if has_details(stage) { (details(index, stage)) } }
            }
        }
    };
    page(&frame(&title), &body)
}

fn verdict_of(report: &AuditReport) -> &'static str {
    match (report.is_good(), report.has_failures()) {
        (true, _) => "reproduced",
        (false, true) => "a stage failed",
        (false, false) => "differs",
    }
}

fn class_of(verdict: Verdict) -> &'static str {
    match verdict.is_good() {
        true => "good",
        false => "bad",
    }
}

fn has_details(stage: &StageAudit) -> bool {
    let differs = |port: &PortAudit| port.closeness != Some(Closeness::Bitwise);
    stage.verdict != Verdict::Bitwise
        && (!stage.differences.is_empty() || stage.ports.iter().any(differs))
}

fn details(index: usize, stage: &StageAudit) -> Markup {
    html! {
        details open id=(format!("stage-{index}")) {
            summary { strong { bdi { (stage.stage) } } ": " span class=(class_of(stage.verdict)) { (stage.verdict.name()) } }
            @if !stage.differences.is_empty() { ul { @for difference in &stage.differences { li { code { (difference) } } } } }
            @for port in stage.ports.iter().filter(|port| port.closeness != Some(Closeness::Bitwise)) { (port_block(port)) }
        }
    }
}

fn port_block(port: &PortAudit) -> Markup {
    let digest = |digest: Option<contract::artifact::Digest>| {
        digest.map_or_else(|| "none".to_owned(), |digest| digest.short())
    };
    let mut leaves: Vec<&LeafComparison> = port.leaves.iter().collect();
    leaves.sort_by_key(|leaf| std::cmp::Reverse(leaf.closeness));
    html! {
        p { "Output " strong { (port.port) } ": " code { (digest(port.then)) } " → " code { (digest(port.now)) }
            @if port.closeness.is_none() { "; nothing to compare it with" }
            @else if !leaves.is_empty() { ", " (leaves.len()) " of " (port.compared) " arrays differ" @if leaves.len() > LEAVES { ", the worst " (LEAVES) " are listed" } } }
        @if !leaves.is_empty() {
            div.scroll tabindex="0" role="region" aria-label=(format!("Arrays of {}", port.port)) { table.sortable {
                thead { tr {
                    th scope="col" { "Array" } th.number scope="col" { "Differing" } th.number scope="col" { "Largest difference" } th.number scope="col" { "Relative" }
                    th.number scope="col" { "ULPs" } th scope="col" { "First at" } th.number scope="col" { "Then" } th.number scope="col" { "Now" } th scope="col" { "" }
                } }
                tbody { @for leaf in leaves.iter().take(LEAVES) { (leaf_row(leaf)) } }
            } }
        }
    }
}

fn leaf_row(leaf: &LeafComparison) -> Markup {
    let elements: usize = leaf.shape.iter().product();
    let mark = match leaf.closeness {
        Closeness::Bitwise => "",
        Closeness::WithinTolerance => "tolerated",
        Closeness::Beyond => "beyond",
    };
    html! {
        tr {
            th scope="row" { bdi { (leaf.name) } }
            @if let Some(reason) = &leaf.reason { td colspan="7" { bdi { (reason) } } }
            @else {
                td.number data-value=(leaf.differing) { (leaf.differing) " of " (elements) }
                td.number { (number(leaf.max_absolute)) }
                td.number { (number(leaf.max_relative)) }
                td.number { @if let Some(ulps) = leaf.max_ulps { (ulps) } }
                @match &leaf.first {
                    Some(first) => { td { code { (format!("{:?}", first.index)) } } td.number { bdi { (first.then) } } td.number { bdi { (first.now) } } }
                    None => { td {} td {} td {} }
                }
            }
            td class=[(leaf.closeness == Closeness::Beyond).then_some("bad")] { (mark) }
        }
    }
}

/// The page of a lock: what it says, and whether the store still has it.
pub fn lock_page(lock: &Lock, verified: &Verified) -> String {
    let title = format!("{} · lock", lock.pipeline);
    let found = &verified.found;
    let body = html! {
        header.top {
            h1 { bdi { (lock.pipeline) } }
            p.meta {
                @if verified.is_good() { span.state.done { "as written" } } @else { span.state.failed { "not as written" } }
                span { "lock " bdi { (verified.name) } }
                span { (counted(found.objects, "object")) ", " (bytes(found.bytes)) }
            }
        }
        @for problem in found.problems.iter().take(PROBLEMS) { p.notice.bad { strong { bdi { (problem.what) } } ": " bdi { (problem.problem) } } }
        @if found.problems.len() > PROBLEMS { p { "and " (found.problems.len() - PROBLEMS) " more" } }
        @for note in &found.notes { p.notice { bdi { (note) } } }
        dl.facts {
            @if let Some(seal) = &verified.seal { dt { "Seal" } dd { code { (seal) } } }
            dt { "Pipeline" } dd { code { bdi { (lock.file) } } }
            @if let Some(profile) = &lock.profile { dt { "Profile" } dd { bdi { (profile) } } }
            @if let Some(seed) = lock.seed { dt { "Seed" } dd { (seed) } }
            @if !lock.params.is_empty() { dt { "Parameters" } dd { @for (name, value) in &lock.params { code { bdi { (name) "=" (value) } } " " } } }
            dt { "Written by" } dd { "runner " (lock.runner) }
            dt { "Check it" } dd { code { "runner audit LOCK --report audit.html" } " computes it again and compares every number." }
        }
        section aria-labelledby="stages" { h2 #stages { "Stages" }
            @for (name, stage) in &lock.stages {
                details {
                    summary { strong { bdi { (name) } } " " code { (stage.key.short()) } }
                    dl.facts {
                        @if !stage.needs.is_empty() { dt { "Takes from" } dd { @for (place, need) in stage.needs.iter().enumerate() { @if place > 0 { ", " } bdi { (need) } } } }
                        @for (port, digest) in &stage.outputs { dt { (port) } dd { code { (digest) } } }
                    }
                    @if !stage.manifest.is_empty() { pre { (stage.manifest) } }
                }
            }
        }
    };
    page(&frame(&title), &body)
}
