//! Audits through the library: a record is done again, each kind of difference is planted, and its verdict checked.

use std::path::Path;

use contract::TroubleKind;
use runner::audit::{Lock, StageAudit, Tolerances, Verdict};
use runner::engine::{CancelToken, Event, Reporter};
use runner::project::{AuditOrder, AuditPart, Audited, DeviceChoice, Error, Project};

use crate::locks::{PIPELINE, locked};
use crate::project::{Bench, told};

/// Reports to nobody.
struct Silent;

impl Reporter for Silent {
    fn on(&mut self, _: &Event) {}
}

fn order(target: &str) -> AuditOrder {
    AuditOrder {
        target: target.to_owned(),
        pipeline: None,
        tolerances: Tolerances::default(),
        twice: false,
        confirm: false,
        part: AuditPart::Everything,
        shadow: None,
        device: DeviceChoice::Auto,
        threads: Some(2),
        jobs: None,
        offline: true,
    }
}

fn audit(project: &Project, order: &AuditOrder) -> Result<Audited, Error> {
    project.audit(order, &mut Silent)
}

fn of_lock(bench: &Bench, path: &Path) -> Audited {
    audit(&bench.project, &order(path.to_str().unwrap())).unwrap()
}

fn verdicts(audited: &Audited) -> Vec<(&str, Verdict)> {
    let stages = audited.report.stages.iter();
    stages
        .map(|stage| (stage.stage.as_str(), stage.verdict))
        .collect()
}

fn stage<'a>(audited: &'a Audited, name: &str) -> &'a StageAudit {
    let mut stages = audited.report.stages.iter();
    stages.find(|stage| stage.stage == name).unwrap()
}

#[test]
fn equal_results_are_bitwise_with_and_without_the_original() {
    let (bench, path) = locked();
    let audited = of_lock(&bench, &path);
    assert!(audited.report.is_good());
    assert!(audited.name.starts_with("the lock ") && !audited.pipeline_is_recorded);
    assert!(
        verdicts(&audited)
            .iter()
            .all(|(_, verdict)| *verdict == Verdict::Bitwise)
    );
    assert_eq!(verdicts(&audited).len(), 3);

    let latest = audit(&bench.project, &order("latest")).unwrap();
    assert!(latest.report.is_good() && latest.name.starts_with("run "));
    let mut elsewhere = bench.project.clone();
    elsewhere.store = bench.path("never-seen");
    let audited = audit(&elsewhere, &order(path.to_str().unwrap())).unwrap();
    assert!(audited.report.is_good());
    assert!(!bench.path("never-seen").exists());
}

#[test]
fn a_changed_metric_is_found_whatever_its_seal() {
    let (bench, path) = locked();
    let mut lock = Lock::read(&path).unwrap();
    let middle = lock.stages.get_mut("middle").unwrap();
    middle.metrics.insert("loss".to_owned(), Some(0.996));
    lock.write(&path).unwrap();
    let audited = of_lock(&bench, &path);
    assert!(!audited.report.is_good());
    let middle = stage(&audited, "middle");
    assert_eq!(middle.verdict, Verdict::Differs);
    assert!(middle.reason.contains("not 0.996"), "{}", middle.reason);
}

#[test]
fn a_changed_seed_of_a_lock_is_found() {
    let (bench, path) = locked();
    let mut lock = Lock::read(&path).unwrap();
    lock.seed = lock.seed.map(|seed| seed + 1);
    lock.write(&path).unwrap();
    assert_eq!(of_lock(&bench, &path).report.header[0].path, "seed");
}

#[test]
fn a_changed_file_is_named_and_what_follows_inherits() {
    let (bench, _) = locked();
    bench.write("number.txt", "8");
    let mut order = order("latest");
    for confirm in [false, true] {
        order.confirm = confirm;
        let audited = audit(&bench.project, &order).unwrap();
        assert_eq!(
            verdicts(&audited),
            [
                ("raw", Verdict::InputChanged),
                ("middle", Verdict::Bitwise),
                ("end", Verdict::Inherited)
            ]
        );
        assert_eq!(audited.report.first_divergence.as_deref(), Some("raw"));
        let path = &stage(&audited, "raw").differences[0].path;
        assert!(path.starts_with("files."), "{path}");
        assert_eq!(stage(&audited, "end").established, confirm);
    }
}

#[test]
fn a_changed_parameter_and_a_changed_list_of_stages_are_input() {
    let (bench, path) = locked();
    let fewer = PIPELINE.split("  end:").next().unwrap();
    bench.pipeline(&fewer.replace("{x: 2}", "{x: 4}"));
    let audited = of_lock(&bench, &path);
    let middle = stage(&audited, "middle");
    // Both are as far from 3, so that the loss is the same.
    assert_eq!(middle.verdict, Verdict::InputChanged);
    assert_eq!(middle.differences[0].path, "with.x");
    assert!(
        middle.reason.contains("the outputs are the same"),
        "{}",
        middle.reason
    );
    let end = stage(&audited, "end");
    assert_eq!(end.verdict, Verdict::InputChanged);
    assert_eq!(stage(&audited, "raw").verdict, Verdict::Bitwise);
}

#[test]
fn a_changed_version_of_a_stage_is_reported() {
    let (bench, path) = locked();
    let mut lock = Lock::read(&path).unwrap();
    let middle = lock.stages.get_mut("middle").unwrap();
    middle.manifest = middle.manifest.replace("version = 1", "version = 1000");
    lock.write(&path).unwrap();
    let audited = of_lock(&bench, &path);
    let middle = stage(&audited, "middle");
    assert_eq!(middle.verdict, Verdict::StageChanged);
    assert!(
        middle.reason.starts_with("version: 1000 -> "),
        "{}",
        middle.reason
    );
    assert_eq!(audited.report.first_divergence.as_deref(), Some("middle"));
}

#[test]
fn a_second_execution_shows_what_is_not_deterministic() {
    let bench = Bench::new("stages:\n  it: {uses: count}\n");
    bench.run(&[]);
    let mut order = order("latest");
    let once = audit(&bench.project, &order).unwrap();
    assert_eq!(verdicts(&once), [("it", Verdict::Differs)]);
    order.twice = true;
    let twice = audit(&bench.project, &order).unwrap();
    assert_eq!(verdicts(&twice), [("it", Verdict::Nondeterministic)]);
    assert_eq!(
        stage(&twice, "it").reason,
        "two executions here disagree about value"
    );
}

#[test]
fn a_stage_that_fails_here_fails_the_audit() {
    let bench = Bench::new("");
    let attempts = bench.write("attempts", "attempt\n");
    let flaky = format!(
        "{{uses: flaky, with: {{failures: 1, attempts: {}}}}}",
        attempts.display()
    );
    bench.pipeline(&format!(
        "stages:\n  a: {flaky}\n  b: {{uses: number, with: {{value: 2}}}}\n"
    ));
    bench.run(&[]);
    std::fs::remove_file(attempts).unwrap();
    let audited = audit(&bench.project, &order("latest")).unwrap();
    assert_eq!(
        verdicts(&audited),
        [("a", Verdict::Failed), ("b", Verdict::Bitwise)]
    );
    assert!(audited.report.has_failures());
}

#[test]
fn a_part_is_done_on_the_inputs_that_it_had() {
    let (bench, path) = locked();
    let mut order = order("latest");
    order.part = AuditPart::From("middle".to_owned());
    let audited = audit(&bench.project, &order).unwrap();
    assert_eq!(
        verdicts(&audited),
        [("middle", Verdict::Bitwise), ("end", Verdict::Bitwise)]
    );
    assert_eq!(audited.report.left_out, 1);

    let mut drawn = Vec::new();
    for seed in 0..20 {
        order.part = AuditPart::Sample { count: 1, seed };
        let audited = audit(&bench.project, &order).unwrap();
        assert!(audited.report.is_good());
        drawn.push(audited.report.stages[0].stage.clone());
    }
    drawn.sort();
    drawn.dedup();
    assert_eq!(
        drawn,
        ["end", "middle", "raw"],
        "another seed draws other stages"
    );

    order.target = path.display().to_string();
    order.part = AuditPart::From("end".to_owned());
    let mut elsewhere = bench.project.clone();
    elsewhere.store = bench.path("never-seen");
    let error = told(&audit(&elsewhere, &order).err().unwrap());
    assert!(
        error.contains("is needed as an input, and is not in the store"),
        "{error}"
    );
}

#[test]
fn a_sample_of_stages_that_no_longer_exist_is_not_good() {
    let (bench, path) = locked();
    let mut order = order(path.to_str().unwrap());
    order.pipeline = Some(bench.write(
        "other.yaml",
        "pipeline: other\nstages:\n  it: {uses: count}\n",
    ));
    order.part = AuditPart::Sample { count: 2, seed: 1 };
    let audited = audit(&bench.project, &order).unwrap();
    assert_eq!(audited.report.stages.len(), 2);
    assert!(
        verdicts(&audited)
            .iter()
            .all(|(_, verdict)| *verdict == Verdict::InputChanged)
    );
}

/// The caller's own token stops an audit.
#[test]
fn a_cancelled_audit_is_interrupted() {
    let (bench, _) = locked();
    let mut project = bench.project.clone();
    project.cancel = CancelToken::default();
    project.cancel.cancel();
    let error = audit(&project, &order("latest")).err().unwrap();
    assert_eq!(error.kind(), TroubleKind::Interrupted);
    assert!(
        audit(&bench.project, &order("latest"))
            .unwrap()
            .report
            .is_good()
    );
}
