//! An audit for people: a line per stage, and below it how the outputs of those that differ depart from their record.

use crate::audit::{AuditReport, Closeness, LeafComparison, PortAudit, StageAudit, Verdict};
use crate::diagnostic::counted;
use crate::project::Audited;
use crate::ui::{Align, Paint, Table, duration, out, outln};

/// More stages than this are summed up, unless they differ.
const STAGES_LISTED: usize = 40;
/// Arrays of one output that are listed.
const LEAVES_LISTED: usize = 8;

/// Prints what an audit found.
pub(super) fn print(audited: &Audited, seed: Option<u64>, verbose: bool) {
    let report = &audited.report;
    outln!(
        "{} {}",
        Paint::Quiet.on("audit of"),
        Paint::Strong.on(&audited.name)
    );
    if audited.pipeline_is_recorded {
        outln!("with the pipeline that came with the record");
    }
    for difference in &report.header {
        outln!(
            "{}: {difference}",
            Paint::Bad.on("the record's header differs")
        );
    }
    out!("{}", stages(report, verbose));
    for stage in &report.stages {
        if stage.verdict != Verdict::Bitwise {
            out!("{}", details(stage));
        }
    }
    out!("{}", summary(report));
    if let Some(seed) = seed {
        outln!("the choice was made with --seed {seed}");
    }
}

fn stages(report: &AuditReport, verbose: bool) -> String {
    let mut table = Table::new(&[
        ("stage", Align::Left),
        ("kind", Align::Left),
        ("verdict", Align::Left),
        ("time", Align::Right),
        ("why", Align::Left),
    ]);
    let is_long = report.stages.len() > STAGES_LISTED && !verbose;
    let shown = |stage: &&StageAudit| !is_long || stage.verdict != Verdict::Bitwise;
    for stage in report.stages.iter().filter(shown) {
        table.row([
            stage.stage.clone(),
            Paint::Quiet.on(&stage.kind),
            paint(stage.verdict).on(stage.verdict.name()),
            duration(stage.seconds),
            stage.reason.clone(),
        ]);
    }
    if table.is_empty() {
        String::new()
    } else {
        table.render()
    }
}

fn paint(verdict: Verdict) -> Paint {
    match verdict {
        Verdict::Bitwise | Verdict::WithinTolerance => Paint::Good,
        Verdict::Inherited | Verdict::EnvironmentDiffers | Verdict::Skipped | Verdict::Missing => {
            Paint::Warn
        }
        _ => Paint::Bad,
    }
}

/// How the outputs of a stage depart from their record.
fn details(stage: &StageAudit) -> String {
    let mut lines = String::new();
    for difference in &stage.differences {
        lines += &format!("  {difference}\n");
    }
    for port in &stage.ports {
        if port.closeness != Some(Closeness::Bitwise) {
            lines += &port_details(port);
        }
    }
    if lines.is_empty() {
        return lines;
    }
    let name = Paint::Strong.on(&stage.stage);
    format!("\n{name}: {}\n{lines}", stage.verdict.name())
}

fn port_details(port: &PortAudit) -> String {
    let [then, now] = [port.then, port.now].map(|digest| match digest {
        Some(digest) => digest.short(),
        None => "(none)".to_owned(),
    });
    let name = &port.port;
    if port.closeness.is_none() {
        return format!("  output {name}: {then} -> {now}; nothing to compare it with\n");
    }
    if port.leaves.is_empty() {
        return format!("  output {name}: {then} -> {now}\n");
    }
    let (differing, all) = (port.leaves.len(), port.compared);
    let mut text = format!("  output {name}: {differing} of {all} arrays differ\n");
    let mut table = Table::new(&[
        ("array", Align::Left),
        ("differing", Align::Right),
        ("max abs", Align::Right),
        ("max rel", Align::Right),
        ("ULPs", Align::Right),
        ("first at", Align::Left),
        ("then", Align::Right),
        ("now", Align::Right),
        ("", Align::Left),
    ]);
    let mut leaves: Vec<&LeafComparison> = port.leaves.iter().collect();
    // The worst come first; of equals, their order stays.
    leaves.sort_by_key(|leaf| std::cmp::Reverse(leaf.closeness));
    for leaf in leaves.iter().take(LEAVES_LISTED) {
        table.row(row(leaf));
    }
    text += &table.render();
    if leaves.len() > LEAVES_LISTED {
        let more = counted(leaves.len() - LEAVES_LISTED, "more array");
        text += &format!("  … and {more}; --json lists all\n");
    }
    text
}

fn row(leaf: &LeafComparison) -> [String; 9] {
    let mark = match leaf.closeness {
        Closeness::Bitwise => String::new(),
        Closeness::WithinTolerance => Paint::Good.on("tolerated"),
        Closeness::Beyond => Paint::Bad.on("beyond"),
    };
    if let Some(reason) = &leaf.reason {
        let mut cells: [String; 9] = Default::default();
        cells[0].clone_from(&leaf.name);
        cells[8] = format!("{mark} {reason}");
        return cells;
    }
    let elements: usize = leaf.shape.iter().product();
    let (at, then, now) = match &leaf.first {
        Some(first) => {
            let index = format!("{:?}", first.index);
            (index, short(&first.then), short(&first.now))
        }
        None => Default::default(),
    };
    [
        leaf.name.clone(),
        format!("{}/{elements}", leaf.differing),
        size(leaf.max_absolute),
        size(leaf.max_relative),
        leaf.max_ulps
            .map_or_else(String::new, |ulps| ulps.to_string()),
        at,
        then,
        now,
        mark,
    ]
}

fn size(value: f64) -> String {
    if value == 0.0 {
        String::new()
    } else {
        format!("{value:.2e}")
    }
}

/// A value that fits into a cell.
fn short(text: &str) -> String {
    const MOST: usize = 32;
    if text.chars().count() <= MOST {
        text.to_owned()
    } else {
        text.chars().take(MOST - 1).collect::<String>() + "…"
    }
}

fn summary(report: &AuditReport) -> String {
    let all = [
        Verdict::Bitwise,
        Verdict::WithinTolerance,
        Verdict::EnvironmentDiffers,
        Verdict::Nondeterministic,
        Verdict::InputChanged,
        Verdict::StageChanged,
        Verdict::Differs,
        Verdict::Inherited,
        Verdict::Missing,
        Verdict::Failed,
        Verdict::Skipped,
    ];
    let mut counts = Vec::new();
    for verdict in all {
        match report.count(verdict) {
            0 => {}
            count => counts.push(format!("{count} {}", paint(verdict).on(verdict.name()))),
        }
    }
    let mut text = format!("\n{} in {}\n", counts.join(", "), duration(report.seconds));
    if let Some(first) = &report.first_divergence {
        text += &format!("the first to diverge is {}", Paint::Strong.on(first));
        text += &match report.inherited.len() {
            0 => "\n".to_owned(),
            1..=8 => format!("; {} inherit it\n", report.inherited.join(", ")),
            many => format!("; {many} stages inherit it\n"),
        };
    }
    if report.left_out > 0 {
        text += &format!("left out: {}\n", counted(report.left_out, "recorded stage"));
    }
    text
}
