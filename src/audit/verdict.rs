//! What an audit says of each stage, and of all of them. It judges facts that others gathered, and runs nothing.

use contract::artifact::Digest;
use serde::Serialize;

use super::compare::{Closeness, LeafComparison};
use crate::cache::Difference;
use crate::pipeline::Tolerance;

/// What became of a stage's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every output is equal in every bit.
    Bitwise,
    /// Every output is as close as was asked for.
    WithinTolerance,
    /// It differs, and so does the machine, in what floating-point bits depend on.
    EnvironmentDiffers,
    /// Two executions here differ from each other.
    Nondeterministic,
    /// A parameter, a raw file, the seed or the list of stages is not what it was.
    InputChanged,
    /// The stage kind is of another version.
    StageChanged,
    /// It differs because what it takes from an earlier stage does.
    Inherited,
    /// Nothing that determines it differs, and yet its outputs do.
    Differs,
    /// It differs, or might; by how much is unknown, because the original is not available.
    Missing,
    Failed,
    /// It was not executed, because something that it needs failed.
    Skipped,
}

impl Verdict {
    pub fn name(self) -> &'static str {
        match self {
            Self::Bitwise => "bitwise",
            Self::WithinTolerance => "within tolerance",
            Self::EnvironmentDiffers => "environment differs",
            Self::Nondeterministic => "nondeterministic",
            Self::InputChanged => "input changed",
            Self::StageChanged => "stage changed",
            Self::Inherited => "inherited",
            Self::Differs => "differs",
            Self::Missing => "missing",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }

    /// Whether it is no worse than what was asked for.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Bitwise | Self::WithinTolerance)
    }
}

/// What became of one output.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PortAudit {
    pub port: String,
    pub then: Option<Digest>,
    pub now: Option<Digest>,
    /// `None` if the digests differ and the original is not available.
    pub closeness: Option<Closeness>,
    pub tolerance: Tolerance,
    /// The arrays that are not equal in every bit.
    pub leaves: Vec<LeafComparison>,
    /// Arrays that were compared.
    pub compared: usize,
}

/// What is known about a stage after it was executed again.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The record knows the stage.
    pub recorded: bool,
    /// It was executed here and has outputs.
    pub executed: bool,
    /// Why it was not, if it failed.
    pub failure: Option<String>,
    /// Lines of the manifest that differ.
    pub differences: Vec<Difference>,
    /// The key differs, though the record does not know the manifest.
    pub unknown_change: bool,
    /// Outputs that two executions here do not agree about.
    pub unstable: Vec<String>,
    /// It was executed again on the original inputs, and gave the original outputs, or not.
    pub on_original_inputs: Option<bool>,
    /// Metrics that the record quotes otherwise than the outputs that it names.
    pub misquoted: Vec<String>,
    pub ports: Vec<PortAudit>,
}

/// What an audit says of a stage.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageAudit {
    pub stage: String,
    pub kind: String,
    pub verdict: Verdict,
    /// One sentence.
    pub reason: String,
    /// Lines of the manifest that differ, then and now.
    pub differences: Vec<Difference>,
    /// For a verdict `inherited`: whether it was established by executing the stage again on the original inputs.
    pub established: bool,
    pub ports: Vec<PortAudit>,
    pub seconds: f64,
}

/// How the differing lines of a manifest divide.
struct Causes<'a> {
    stage: Vec<&'a Difference>,
    own: Vec<&'a Difference>,
    class: Option<&'a Difference>,
    inputs: Vec<&'a Difference>,
}

impl<'a> Causes<'a> {
    fn of(differences: &'a [Difference]) -> Self {
        let mut causes = Self {
            stage: Vec::new(),
            own: Vec::new(),
            class: None,
            inputs: Vec::new(),
        };
        for difference in differences {
            match difference.path.as_str() {
                "kind" | "version" => causes.stage.push(difference),
                "numeric_class" => causes.class = Some(difference),
                path if path.starts_with("inputs.") => causes.inputs.push(difference),
                _ => causes.own.push(difference),
            }
        }
        causes
    }
}

/// The verdict on a stage, and the sentence that goes with it.
pub fn judge(facts: &Facts) -> (Verdict, String) {
    let causes = Causes::of(&facts.differences);
    // `None` if it is unknown of one output how close it is.
    let mut worst = Some(Closeness::Bitwise);
    for port in &facts.ports {
        worst = worst
            .zip(port.closeness)
            .map(|(worst, this)| worst.max(this));
    }
    let same = if worst == Some(Closeness::Bitwise) {
        "; the outputs are the same"
    } else {
        ""
    };
    // The first that applies: what was not executed cannot differ, and a change needs no further explanation.
    if let Some(failure) = &facts.failure {
        return (Verdict::Failed, failure.clone());
    }
    match () {
        () if !facts.executed => (
            Verdict::Skipped,
            "something that it needs did not finish".into(),
        ),
        () if !facts.recorded => (Verdict::InputChanged, "the record has no such stage".into()),
        () if !causes.stage.is_empty() => (Verdict::StageChanged, listed(&causes.stage) + same),
        () if !causes.own.is_empty() => (Verdict::InputChanged, listed(&causes.own) + same),
        () if !facts.unstable.is_empty() => {
            let ports = facts.unstable.join(", ");
            let reason = format!("two executions here disagree about {ports}");
            (Verdict::Nondeterministic, reason)
        }
        () if !facts.misquoted.is_empty() => {
            let misquoted = facts.misquoted.join("; ");
            let reason = format!("the record misquotes its outputs: {misquoted}");
            (Verdict::Differs, reason)
        }
        () => match worst {
            Some(Closeness::Bitwise) => (Verdict::Bitwise, unlike(&causes)),
            Some(Closeness::WithinTolerance) => (Verdict::WithinTolerance, unlike(&causes)),
            worst => differing(facts, &causes, worst.is_none()),
        },
    }
}

/// The first few of these lines.
fn listed(differences: &[&Difference]) -> String {
    let shown: Vec<String> = differences
        .iter()
        .take(3)
        .map(ToString::to_string)
        .collect();
    let more = if differences.len() > shown.len() {
        "; …"
    } else {
        ""
    };
    shown.join("; ") + more
}

/// In what the stage was unlike its record, though it came out the same.
fn unlike(causes: &Causes<'_>) -> String {
    match causes.class {
        Some(class) => format!("although {class}"),
        None if !causes.inputs.is_empty() => "although its inputs differ".to_owned(),
        None => String::new(),
    }
}

fn differing(facts: &Facts, causes: &Causes<'_>, original_is_missing: bool) -> (Verdict, String) {
    let aside = if original_is_missing {
        "; the original is not available, so only digests were compared"
    } else {
        ""
    };
    let inputs_differ = !causes.inputs.is_empty();
    if let Some(class) = causes.class {
        let also = if inputs_differ {
            ", and its inputs differ"
        } else {
            ""
        };
        return (Verdict::EnvironmentDiffers, format!("{class}{also}{aside}"));
    }
    match facts.on_original_inputs {
        Some(true) if inputs_differ => {
            let reason = "on the original inputs it gives the original outputs";
            (Verdict::Inherited, reason.to_owned())
        }
        Some(false) if inputs_differ => {
            let reason = "its inputs differ, but it differs on the original ones, too";
            (Verdict::Differs, reason.to_owned())
        }
        None if inputs_differ => (Verdict::Inherited, format!("its inputs differ{aside}")),
        _ if facts.unknown_change => {
            let reason = "its key differs; the record does not know what determined it then";
            (Verdict::InputChanged, reason.to_owned())
        }
        _ if original_is_missing => (Verdict::Missing, format!("it differs{aside}")),
        _ => (
            Verdict::Differs,
            "nothing that determines it differs".to_owned(),
        ),
    }
}

/// What an audit found.
#[derive(Clone, Debug, Serialize)]
pub struct AuditReport {
    /// In the order of the graph.
    pub stages: Vec<StageAudit>,
    /// The first stage that differs on its own account.
    pub first_divergence: Option<String>,
    /// Stages that differ only because of their inputs.
    pub inherited: Vec<String>,
    /// Stages of the record that were not done again because only a part was asked for.
    pub left_out: usize,
    /// Where the record's seed and parameters are not those that were audited.
    pub header: Vec<Difference>,
    pub seconds: f64,
}

impl AuditReport {
    pub fn new(stages: Vec<StageAudit>, left_out: usize, seconds: f64) -> Self {
        let (mut own, mut tolerated, mut inherited) = (None, None, Vec::new());
        for stage in &stages {
            match stage.verdict {
                Verdict::Bitwise => {}
                Verdict::WithinTolerance => tolerated = tolerated.or(Some(&stage.stage)),
                Verdict::Inherited => inherited.push(stage.stage.clone()),
                _ => own = own.or(Some(&stage.stage)),
            }
        }
        // What is inherited may come from a stage whose difference was small enough to be tolerated.
        let tolerated = tolerated.filter(|_| !inherited.is_empty());
        Self {
            first_divergence: own.or(tolerated).cloned(),
            inherited,
            stages,
            left_out,
            header: Vec::new(),
            seconds,
        }
    }

    /// Whether everything is as good as was asked for. An audit of nothing vouches for nothing.
    pub fn is_good(&self) -> bool {
        !self.stages.is_empty()
            && self.header.is_empty()
            && self.stages.iter().all(|stage| stage.verdict.is_good())
    }

    pub fn has_failures(&self) -> bool {
        self.count(Verdict::Failed) > 0
    }

    pub fn count(&self, verdict: Verdict) -> usize {
        self.stages
            .iter()
            .filter(|stage| stage.verdict == verdict)
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(path: &str) -> Difference {
        Difference {
            path: path.to_owned(),
            before: Some("1".to_owned()),
            after: Some("2".to_owned()),
        }
    }

    fn facts(paths: &[&str], closeness: Option<Closeness>) -> Facts {
        let port = PortAudit {
            port: "out".to_owned(),
            then: None,
            now: None,
            closeness,
            tolerance: Tolerance::default(),
            leaves: Vec::new(),
            compared: 0,
        };
        let differences = paths.iter().map(|path| line(path)).collect();
        Facts {
            recorded: true,
            executed: true,
            differences,
            ports: vec![port],
            ..Facts::default()
        }
    }

    #[test]
    fn each_cause_has_its_verdict() {
        use Closeness::{Beyond, WithinTolerance};
        let same = Some(Closeness::Bitwise);
        for (paths, closeness, expected) in [
            (&[][..], same, Verdict::Bitwise),
            (&[], Some(WithinTolerance), Verdict::WithinTolerance),
            (&[], Some(Beyond), Verdict::Differs),
            (&[], None, Verdict::Missing),
            (
                &["numeric_class"],
                Some(Beyond),
                Verdict::EnvironmentDiffers,
            ),
            (
                &["numeric_class"],
                Some(WithinTolerance),
                Verdict::WithinTolerance,
            ),
            (&["numeric_class"], same, Verdict::Bitwise),
            (
                &["numeric_class", "inputs.x"],
                None,
                Verdict::EnvironmentDiffers,
            ),
            (&["inputs.x"], Some(Beyond), Verdict::Inherited),
            (&["inputs.x"], same, Verdict::Bitwise),
            (&["version"], same, Verdict::StageChanged),
            (
                &["with.epochs", "inputs.x"],
                Some(Beyond),
                Verdict::InputChanged,
            ),
            (&["files.a"], same, Verdict::InputChanged),
        ] {
            let (verdict, reason) = judge(&facts(paths, closeness));
            assert_eq!(verdict, expected, "{paths:?} {closeness:?}: {reason}");
        }
    }

    #[test]
    fn what_was_tried_outweighs_what_is_presumed() {
        let inherited = facts(&["inputs.x"], Some(Closeness::Beyond));
        let tried = |found| {
            judge(&Facts {
                on_original_inputs: Some(found),
                ..inherited.clone()
            })
            .0
        };
        assert_eq!(
            (tried(true), tried(false)),
            (Verdict::Inherited, Verdict::Differs)
        );
        let unstable = Facts {
            unstable: vec!["out".to_owned()],
            ..facts(&[], Some(Closeness::Bitwise))
        };
        assert_eq!(judge(&unstable).0, Verdict::Nondeterministic);
        let failed = Facts {
            failure: Some("no".to_owned()),
            executed: false,
            ..Facts::default()
        };
        assert_eq!(judge(&failed).0, Verdict::Failed);
        assert_eq!(
            judge(&Facts {
                recorded: true,
                ..Facts::default()
            })
            .0,
            Verdict::Skipped
        );
    }

    #[test]
    fn the_first_that_differs_by_itself_is_named() {
        let stage = |name: &str, verdict| StageAudit {
            stage: name.to_owned(),
            kind: String::new(),
            verdict,
            reason: String::new(),
            differences: Vec::new(),
            established: false,
            ports: Vec::new(),
            seconds: 0.0,
        };
        let report = AuditReport::new(
            vec![
                stage("a", Verdict::Bitwise),
                stage("b", Verdict::Differs),
                stage("c", Verdict::Inherited),
            ],
            0,
            0.0,
        );
        assert_eq!(report.first_divergence.as_deref(), Some("b"));
        assert_eq!(report.inherited, ["c"]);
        assert!(!report.is_good() && !report.has_failures());
        let tolerated = AuditReport::new(
            vec![
                stage("a", Verdict::WithinTolerance),
                stage("b", Verdict::Inherited),
            ],
            0,
            0.0,
        );
        assert_eq!(tolerated.first_divergence.as_deref(), Some("a"));
        assert!(
            AuditReport::new(vec![stage("a", Verdict::WithinTolerance)], 0, 0.0)
                .first_divergence
                .is_none()
        );
    }
}
