//! Keys that stand a level too high or too low: a parameter beside `with`, or a key of a stage below it. To say so one must
//! know both the stage's keys and its kind's parameters.

use serde_json::Value;

use super::Node;
use super::file::STAGE_KEYS;
use crate::diagnostic::{Diagnostic, Diagnostics};

/// A key that no stage has, with the problem that it is.
#[derive(Clone, Debug)]
pub struct Stray {
    key: String,
    problem: Diagnostic,
}

impl Stray {
    /// The problem, in the light of the schema of the kind's parameters if the kind is known.
    pub fn told(&self, kind: Option<(&str, &Value)>) -> Diagnostic {
        let meant = kind.filter(|(_, schema)| schema["properties"].get(&self.key).is_some());
        let hint = meant.map(|(kind, _)| {
            format!(
                "`{}` is a parameter of `{kind}`: put it under `with`",
                self.key
            )
        });
        self.problem.clone().maybe_hint(hint)
    }
}

/// Takes the problems of unknown keys of a stage out of others, to be told when its kind is known.
pub(super) fn strays(stage: &Node, problems: Diagnostics) -> (Vec<Stray>, Diagnostics) {
    let (mut strays, mut others) = (Vec::new(), Diagnostics::default());
    for problem in problems {
        match unknown_key(stage, &problem) {
            Some(key) => strays.push(Stray {
                key: key.to_owned(),
                problem,
            }),
            None => others.push(problem),
        }
    }
    (strays, others)
}

/// Problems of a stage's parameters; where one is a key of the stage itself, the hint says so.
pub fn beside_with(with: &Node, problems: Diagnostics) -> Diagnostics {
    let mut told = Diagnostics::default();
    for problem in problems {
        let key = unknown_key(with, &problem).filter(|key| STAGE_KEYS.contains(key));
        let hint = key.map(|key| format!("`{key}` is a key of the stage: put it beside `with`"));
        told.push(problem.maybe_hint(hint));
    }
    told
}

/// The key of a map that is unknown, if that is the problem.
fn unknown_key<'a>(node: &'a Node, problem: &Diagnostic) -> Option<&'a str> {
    let place = problem
        .primary
        .as_ref()
        .filter(|_| problem.code == "unknown-key")?
        .span;
    let (key, _) = node.entries()?.iter().find(|(key, _)| key.span == place)?;
    Some(&key.text)
}
