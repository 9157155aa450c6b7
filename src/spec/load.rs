//! From a file, its fragments and `--set` to a [`Spec`]: parameters are resolved, stages take their form.
//! Problems are gathered; reading goes on as far as it makes sense, so that one report holds them all.

use std::path::Path;

use indexmap::IndexMap;

use super::document::{Document, Named, Reader};
use super::node::Node;
use super::scalar::Resolved;
use super::schema::STAGE;
use super::substitute::{Scope, references, substitute, undefined};
use super::{Axes, From, Param, Resources, Spec, StageSpec, overrides, units, validate};
use crate::diagnostic::{Diagnostic, Diagnostics, SourceMap, Span, Spanned};

/// What a run adds to the file.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// `--set NAME=VALUE`, in their order; the value is YAML, and a later one wins. `NAME` is
    /// - a parameter, or a part of one: `machine`, `model.layers.0`; with `params.` before it if need be;
    /// - `seed` or `strict`, unless a parameter is called so;
    /// - a key of a stage: `model.with.optimizer.lr`, `model.retries`; with `stages.` before it if need be.
    ///
    /// Parameters come first, then top-level keys, then stages. New keys can be set below `with`, new parameters not.
    pub overrides: Vec<(String, String)>,
}

/// Reads a pipeline file. The `Spec` holds whatever could be understood even if the diagnostics hold errors, so that
/// later checks can add theirs; nothing may run then. Stages without a usable `uses` are named in [`Spec::broken`].
pub fn load(path: &Path, options: &LoadOptions, sources: &mut SourceMap) -> (Option<Spec>, Diagnostics) {
    let mut diagnostics = Diagnostics::default();
    let document = Reader::new(sources, &mut diagnostics).pipeline(path);
    finish(document, options, sources, diagnostics)
}

/// [`load`] for a text that stands for a file at `path`, such as an embedded pipeline.
pub fn load_text(path: &Path, text: &str, options: &LoadOptions, sources: &mut SourceMap) -> (Option<Spec>, Diagnostics) {
    let mut diagnostics = Diagnostics::default();
    let document = Reader::new(sources, &mut diagnostics).pipeline_text(path, text.to_owned());
    finish(document, options, sources, diagnostics)
}

fn finish(
    document: Option<Document>,
    options: &LoadOptions,
    sources: &mut SourceMap,
    mut diagnostics: Diagnostics,
) -> (Option<Spec>, Diagnostics) {
    let Some(mut document) = document else { return (None, diagnostics) };
    overrides::apply(&mut document, &options.overrides, sources, &mut diagnostics);
    let spec = spec(&document, &mut diagnostics);
    (Some(spec), diagnostics)
}

fn spec(document: &Document, diagnostics: &mut Diagnostics) -> Spec {
    let params = Resolver::new(&document.params, diagnostics).all();
    let scope = Scope::new(&params);
    let root = &document.root;
    let name = root.get("pipeline").and_then(|node| Some(Spanned::new(node.as_str()?.to_owned(), node.span())));
    let seed = top_level(root, "seed", &scope, diagnostics);
    let strict = top_level(root, "strict", &scope, diagnostics);
    let mut stages = Vec::with_capacity(document.stages.len());
    let mut broken = Vec::new();
    for (name, (span, node)) in &document.stages {
        match stage(&Spanned::new(name.to_string(), *span), node, &scope, diagnostics) {
            Some(stage) => stages.push(stage),
            None => broken.push(Spanned::new(name.to_string(), *span)),
        }
    }
    Spec {
        name: name.unwrap_or_else(|| Spanned::new("pipeline".to_owned(), root.span())),
        description: root.get("description").and_then(Node::as_str).map(str::to_owned),
        seed: seed.and_then(|node| integer(&node)).unwrap_or(0),
        strict: matches!(strict.as_ref().and_then(Node::resolve), Some(Resolved::Bool(true))),
        params,
        stages,
        broken,
    }
}

/// A top-level value with `${name}` put in, checked again if that changed it.
fn top_level(root: &Node, key: &str, scope: &Scope<'_>, diagnostics: &mut Diagnostics) -> Option<Node> {
    let node = root.get(key)?;
    match substitute(node, scope) {
        Ok(value) => {
            let problems = validate(&value, &super::schema::PIPELINE["properties"][key], &format!("`{key}`"));
            diagnostics.extend(problems);
            Some(value)
        }
        Err(problems) => {
            diagnostics.extend(problems);
            None
        }
    }
}

fn integer<T: TryFrom<i128>>(node: &Node) -> Option<T> {
    match node.resolve() {
        Some(Resolved::Integer(value)) => T::try_from(value).ok(),
        _ => None,
    }
}

/// Keys of a stage that may refer to parameters and are read at once.
const IMMEDIATE: [&str; 4] = ["resources", "retries", "timeout", "description"];

fn stage(name: &Spanned<String>, node: &Node, scope: &Scope<'_>, diagnostics: &mut Diagnostics) -> Option<StageSpec> {
    let node = immediate(node, scope, diagnostics);
    diagnostics.extend(validate(&node, &STAGE, &format!("stage `{}`", name.value)));
    let uses = node.get("uses")?;
    let axes = Axes::new(node.entry("foreach"), node.entry("matrix"), diagnostics);
    Some(StageSpec {
        name: name.clone(),
        uses: Spanned::new(uses.as_str()?.to_owned(), uses.span()),
        with: node.get("with").filter(|with| with.entries().is_some()).cloned(),
        from: From::new(node.get("from"), diagnostics),
        axes,
        resources: resources(node.get("resources"), diagnostics),
        retries: node.get("retries").and_then(integer).unwrap_or(0),
        timeout: node.get("timeout").and_then(|node| {
            measured(node, units::duration, "`timeout` must be a duration", "write it as `90 s`, `30 min` or `1h 30m`", diagnostics)
        }),
        description: node.get("description").and_then(Node::as_str).map(str::to_owned),
        span: node.span(),
    })
}

/// The stage with parameters put into the keys that do not wait for axis values.
fn immediate(node: &Node, scope: &Scope<'_>, diagnostics: &mut Diagnostics) -> Node {
    let is_immediate = |key: &str, value: &Node| IMMEDIATE.contains(&key) && value.is_templated();
    match node.entries() {
        Some(entries) if entries.iter().any(|(key, value)| is_immediate(&key.text, value)) => {
            let mut changed = Vec::with_capacity(entries.len());
            for (key, value) in entries {
                if !is_immediate(&key.text, value) {
                    changed.push((key.clone(), value.clone()));
                    continue;
                }
                match substitute(value, scope) {
                    Ok(value) => changed.push((key.clone(), value)),
                    Err(problems) => diagnostics.extend(problems),
                }
            }
            Node::mapping(changed, node.span())
        }
        _ => node.clone(),
    }
}

fn resources(node: Option<&Node>, diagnostics: &mut Diagnostics) -> Resources {
    let Some(node) = node else { return Resources::default() };
    Resources {
        cpus: node.get("cpus").and_then(integer),
        memory: node.get("memory").and_then(|node| {
            measured(node, units::size, "`memory` must be a size", "write it as `500 MB` or `4 GiB`", diagnostics)
        }),
        gpus: node.get("gpus").and_then(integer),
    }
}

/// Reads a text with a unit. Other values than texts were reported before.
fn measured<T>(
    node: &Node,
    read: impl Fn(&str) -> Option<T>,
    message: &str,
    hint: &str,
    diagnostics: &mut Diagnostics,
) -> Option<T> {
    let value = read(node.as_str()?);
    if value.is_none() {
        let message = format!("{message}, found {}", node.describe());
        diagnostics.push(Diagnostic::error("bad-unit", message).at(node.span()).hint(hint));
    }
    value
}

/// Puts parameters into parameters, each after those it refers to.
struct Resolver<'a> {
    raw: &'a Named,
    resolved: IndexMap<String, Param>,
    diagnostics: &'a mut Diagnostics,
}

/// A parameter whose references are being followed.
struct Open {
    index: usize,
    references: std::vec::IntoIter<(String, Span)>,
    failed: bool,
}

impl<'a> Resolver<'a> {
    fn new(raw: &'a Named, diagnostics: &'a mut Diagnostics) -> Self {
        Self { raw, resolved: IndexMap::with_capacity(raw.len()), diagnostics }
    }

    /// All parameters in the order of the files.
    fn all(mut self) -> IndexMap<String, Param> {
        for index in 0..self.raw.len() {
            self.resolve(index);
        }
        let mut resolved = self.resolved;
        self.raw.keys().filter_map(|name| resolved.swap_remove_entry(&**name)).collect()
    }

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
        let Some((name, (_, node))) = self.raw.get_index(index) else { return };
        if !self.resolved.contains_key(&**name) {
            open.push(Open { index, references: references(node).into_iter(), failed: false });
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
            let names: Vec<String> =
                circle.filter_map(|open| self.raw.get_index(open.index)).map(|(name, _)| format!("`{name}`")).collect();
            let message = match names.len() {
                2 => format!("the parameter {} refers to itself", names[0]),
                _ => format!("parameters refer to each other in a circle: {}", names.join(" -> ")),
            };
            let diagnostic = Diagnostic::error("parameter-cycle", message).at(span);
            self.diagnostics.push(diagnostic.hint("give one of them a value of its own"));
            return false;
        }
        self.open(index, open);
        true
    }

    /// Computes a parameter whose references are all done; false if it has no value.
    fn close(&mut self, done: &Open) -> bool {
        let Some((name, (span, node))) = self.raw.get_index(done.index) else { return false };
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
        let failed = value.is_none();
        let value = value.unwrap_or_else(|| node.clone());
        self.resolved.insert(name.to_string(), Param { value, span: *span, failed });
        !failed
    }
}
