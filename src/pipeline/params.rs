//! Parameters that refer to parameters: each gets its value after those it refers to, whatever their order.
//! Circles are named in full.

use indexmap::IndexMap;

use super::Param;
use super::document::Named;
use super::limits::LARGEST_VALUE;
use super::node::Node;
use super::substitute::{Scope, references, substitute, undefined};
use crate::diagnostic::{Diagnostic, Diagnostics, Span};

/// Puts parameters into parameters; all of them in the order of the files, those without a value marked as failed.
pub(super) fn resolve(raw: &Named, diagnostics: &mut Diagnostics) -> IndexMap<String, Param> {
    let mut resolver = Resolver {
        raw,
        resolved: IndexMap::with_capacity(raw.len()),
        diagnostics,
        weight: 0,
        told: false,
    };
    for index in 0..raw.len() {
        resolver.resolve(index);
    }
    let mut resolved = resolver.resolved;
    raw.keys()
        .filter_map(|name| resolved.swap_remove_entry(&**name))
        .collect()
}

struct Resolver<'a> {
    raw: &'a Named,
    resolved: IndexMap<String, Param>,
    diagnostics: &'a mut Diagnostics,
    /// Bytes of the values that were put together.
    weight: u64,
    /// That they are too many was reported.
    told: bool,
}

/// A parameter whose references are being followed.
struct Open {
    index: usize,
    references: std::vec::IntoIter<(String, Span)>,
    failed: bool,
}

impl<'a> Resolver<'a> {
    fn resolve(&mut self, index: usize) {
        let mut open = Vec::new();
        self.open(index, &mut open);
        while let Some(top) = open.last_mut() {
            match top.references.next() {
                Some((name, span)) => {
                    let failed = !self.follow(&name, span, &mut open);
                    if let (true, Some(top)) = (failed, open.last_mut()) {
                        top.failed = true;
                    }
                }
                None => {
                    let done = open.pop();
                    let failed = done.is_some_and(|done| !self.close(&done));
                    if let (true, Some(top)) = (failed, open.last_mut()) {
                        top.failed = true;
                    }
                }
            }
        }
    }

    fn open(&self, index: usize, open: &mut Vec<Open>) {
        let Some((name, (_, node))) = self.raw.get_index(index) else {
            return;
        };
        if !self.resolved.contains_key(&**name) {
            open.push(Open {
                index,
                references: references(node).into_iter(),
                failed: false,
            });
        }
    }

    /// Goes on to a parameter that is referred to; false if that cannot lead to a value.
    fn follow(&mut self, name: &str, span: Span, open: &mut Vec<Open>) -> bool {
        if let Some(param) = self.resolved.get(name) {
            return !param.failed;
        }
        let Some(index) = self.raw.get_index_of(name) else {
            let names: Vec<&str> = self.raw.keys().map(|name| &**name).collect();
            self.diagnostics.push(undefined(name, &names, span));
            return false;
        };
        if let Some(start) = open.iter().position(|open| open.index == index) {
            let circle = open[start..].iter().chain([&open[start]]);
            let names: Vec<String> = circle
                .filter_map(|open| self.raw.get_index(open.index))
                .map(|(name, _)| format!("`{name}`"))
                .collect();
            let message = match names.len() {
                2 => format!("the parameter {} refers to itself", names[0]),
                _ => format!(
                    "parameters refer to each other in a circle: {}",
                    names.join(" -> ")
                ),
            };
            let diagnostic = Diagnostic::error("parameter-cycle", message).at(span);
            self.diagnostics.push(
                diagnostic.hint("give one of them a value that does not refer to the others"),
            );
            return false;
        }
        self.open(index, open);
        true
    }

    /// Whether all values that were put together so far are still of a sensible size.
    fn is_within_limits(&mut self, node: &Node, value: &Node) -> bool {
        if !node.is_templated() {
            return true;
        }
        self.weight = self.weight.saturating_add(value.weight());
        if self.weight <= LARGEST_VALUE {
            return true;
        }
        if !self.told {
            self.told = true;
            let most = LARGEST_VALUE >> 20;
            let message = format!(
                "with their references followed, the parameters have more than {most} MiB together"
            );
            self.diagnostics
                .push(Diagnostic::error("too-large", message).at(node.span()));
        }
        false
    }

    /// Computes a parameter whose references are all done; false if it has no value.
    fn close(&mut self, done: &Open) -> bool {
        let Some((name, (span, node))) = self.raw.get_index(done.index) else {
            return false;
        };
        let value = match done.failed {
            true => None,
            false => match substitute(node, &Scope::new(&self.resolved)) {
                Ok(value) => Some(value),
                Err(problems) => {
                    self.diagnostics.extend(problems);
                    None
                }
            },
        };
        let value = value.filter(|value| self.is_within_limits(node, value));
        let failed = value.is_none();
        let value = value.unwrap_or_else(|| node.clone());
        self.resolved.insert(
            name.to_string(),
            Param {
                value,
                span: *span,
                failed,
            },
        );
        !failed
    }
}
