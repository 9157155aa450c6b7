//! An audit for people: a line per stage, and below it where the outputs of those that differ part from their record.

use crate::audit::{AuditReport, Closeness, LeafComparison, PortAudit, StageAudit, Verdict};
use crate::diagnostic::counted;
use crate::project::Target;
use crate::ui::{Align, Paint, Table, duration, out, outln};

/// More stages than this are summed up, unless they differ.
const STAGES_LISTED: usize = 40;
/// Arrays of one output that are listed.
const LEAVES_LISTED: usize = 8;

/// Prints what an audit found.
pub(super) fn print(report: &AuditReport, target: &Target, seed: Option<u64>, verbose: bool) {
    outln!(
        "{} {}",
        Paint::Quiet.on("audit of"),
        Paint::Strong.on(&target.name)
    );
    if target.pipeline_is_recorded {
        outln!("with the pipeline that came with the record");
    }
    for difference in &report.header {
        outln!(
            "{}: {difference}",
            Paint::Bad.on("the record's header differs")
        );
    }
    out!("{}", stages(report, verbose));
    for stage in report
        .stages
        .iter()
        .filter(|stage| stage.verdict != Verdict::Bitwise)
    {
        out!("{}", details(stage));
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

/// Where the outputs of a stage part from their record.
fn details(stage: &StageAudit) -> String {
    let ports: Vec<&PortAudit> = stage
        .ports
        .iter()
        .filter(|port| port.closeness != Some(Closeness::Bitwise))
        .collect();
    let mut text = String::new();
    if ports.is_empty() && stage.differences.is_empty() {
        return text;
    }
    text += &format!(
        "\n{}: {}\n",
        Paint::Strong.on(&stage.stage),
        stage.verdict.name()
    );
    for difference in &stage.differences {
        text += &format!("  {difference}\n");
    }
    ports
        .into_iter()
        .for_each(|port| text += &port_details(port));
    text
}

fn port_details(port: &PortAudit) -> String {
    let digest = |digest: Option<contract::artifact::Digest>| {
        digest.map_or("(none)".to_owned(), |digest| digest.short())
    };
    let heads = format!("{} -> {}", digest(port.then), digest(port.now));
    if port.closeness.is_none() {
        return format!(
            "  output {}: {heads}; nothing to compare it with\n",
            port.port
        );
    }
    if port.leaves.is_empty() {
        return format!("  output {}: {heads}\n", port.port);
    }
    let mut text = format!(
        "  output {}: {} of {} arrays differ\n",
        port.port,
        port.leaves.len(),
        port.compared
    );
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
    leaves
        .iter()
        .take(LEAVES_LISTED)
        .for_each(|leaf| table.row(row(leaf)));
    text += &table.render();
    if leaves.len() > LEAVES_LISTED {
        text += &format!(
            "  … and {}; --json lists all\n",
            counted(leaves.len() - LEAVES_LISTED, "more array")
        );
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
        let empty = String::new;
        let mark = format!("{mark} {reason}");
        return [
            leaf.name.clone(),
            empty(),
            empty(),
            empty(),
            empty(),
            empty(),
            empty(),
            empty(),
            mark,
        ];
    }
    let elements: usize = leaf.shape.iter().product();
    let size = |value: f64| {
        if value == 0.0 {
            String::new()
        } else {
            format!("{value:.2e}")
        }
    };
    let (at, then, now) = match &leaf.first {
        Some(first) => (
            format!("{:?}", first.index),
            short(&first.then),
            short(&first.now),
        ),
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
    let counts: Vec<String> = all
        .into_iter()
        .map(|verdict| (verdict, report.count(verdict)))
        .filter(|(_, count)| *count > 0)
        .map(|(verdict, count)| format!("{count} {}", paint(verdict).on(verdict.name())))
        .collect();
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
