//! From a file, its fragments, a profile and `--set` to a [`Spec`]: parameters are resolved, stages take their form.
//! Problems are gathered; reading goes on as far as it makes sense, so that one report holds them all.

use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;
use rayon::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::document::{Document, Reader};
use super::file::{HEADER_KEYS, Header, OPEN_KEYS, PIPELINE, RUN_KEYS, RunSettings, STAGE};
use super::misplaced::strays;
use super::node::{Key, Node};
use super::substitute::{Scope, substitute};
use super::{
    Axes, From, Spec, StageSpec, Tolerance, overrides, params, profiles, unused, validate,
};
use crate::diagnostic::{Diagnostic, Diagnostics, SourceMap, Spanned};

/// Stages that a thread reads at a time; fewer are not worth another thread.
const SPAN_OF_WORK: usize = 64;

/// What a run adds to the file.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// `--profile NAME`: a set of parameter values among the file's `profiles`; overrides come after it.
    pub profile: Option<String>,
    /// `--set NAME=VALUE`, in their order; the value is YAML, and a later one wins. `NAME` is
    /// - a parameter, or a part of one: `machine`, `model.layers.0`; with `params.` before it if need be;
    /// - `seed` or `strict`, unless a parameter is called so;
    /// - a key of a stage: `model.with.optimizer.lr`, `model.retries`; with `stages.` before it if need be.
    ///
    /// Parameters come first, then top-level keys, then stages. New keys can be set below `with`, new parameters not.
    pub overrides: Vec<(String, String)>,
    /// Who gives the overrides, for messages; by default the command line does.
    pub given_by: Option<String>,
}

/// Reads a pipeline file. The `Spec` holds whatever could be understood even if the diagnostics hold errors, so that
/// later checks can add theirs; nothing may run then. Stages without a usable `uses` are named in [`Spec::broken`].
pub fn load(
    path: &Path,
    options: &LoadOptions,
    sources: &mut SourceMap,
) -> (Option<Spec>, Diagnostics) {
    let mut diagnostics = Diagnostics::default();
    let earlier = sources.iter().count();
    let document = Reader::new(sources, &mut diagnostics).pipeline(path);
    finish(document, options, sources, earlier, diagnostics)
}

/// [`load`] for a text that stands for a file at `path`, such as an embedded pipeline.
pub fn load_text(
    path: &Path,
    text: &str,
    options: &LoadOptions,
    sources: &mut SourceMap,
) -> (Option<Spec>, Diagnostics) {
    let mut diagnostics = Diagnostics::default();
    let earlier = sources.iter().count();
    let document = Reader::new(sources, &mut diagnostics).pipeline_text(path, text.to_owned());
    finish(document, options, sources, earlier, diagnostics)
}

/// `earlier` texts of the map belong to something else.
fn finish(
    document: Option<Document>,
    options: &LoadOptions,
    sources: &mut SourceMap,
    earlier: usize,
    mut diagnostics: Diagnostics,
) -> (Option<Spec>, Diagnostics) {
    let Some(mut document) = document else {
        return (None, diagnostics);
    };
    let files = sources
        .iter()
        .skip(earlier)
        .map(|(path, text)| (path.to_owned(), Arc::clone(text)))
        .collect();
    profiles::apply(
        &mut document,
        options.profile.as_deref(),
        sources,
        &mut diagnostics,
    );
    overrides::apply(&mut document, options, sources, &mut diagnostics);
    let spec = Spec {
        profile: options.profile.clone(),
        files,
        ..spec(&document, &mut diagnostics)
    };
    if !diagnostics.has_errors() {
        unused::warn(&document, options.profile.as_deref(), &mut diagnostics);
    }
    (Some(spec), diagnostics)
}

fn spec(document: &Document, diagnostics: &mut Diagnostics) -> Spec {
    let params = params::resolve(&document.params, diagnostics);
    let scope = Scope::new(&params);
    let root = &document.root;
    let header = header(root, &scope, diagnostics);
    let mut stages = Vec::with_capacity(document.stages.len());
    let mut broken = Vec::new();
    let written: Vec<_> = document.stages.iter().collect();
    let read = written
        .par_iter()
        .with_min_len(SPAN_OF_WORK)
        .map(|(name, (span, node))| {
            let mut found = Diagnostics::default();
            let name = Spanned::new(name.to_string(), *span);
            let stage = stage(&name, node, &scope, &mut found);
            (stage.ok_or(name), found)
        });
    for (stage, found) in read.collect::<Vec<_>>() {
        diagnostics.extend(found);
        match stage {
            Ok(stage) => stages.push(stage),
            Err(name) => broken.push(name),
        }
    }
    Spec {
        name: match root.get("pipeline") {
            Some(node) => Spanned::new(header.pipeline, node.span()),
            None => Spanned::new("pipeline".to_owned(), root.span()),
        },
        description: header.description,
        seed: header.seed,
        profile: None,
        strict: header.strict,
        params,
        stages,
        files: Vec::new(),
        broken,
    }
}

/// What the file says about the pipeline itself, with `${name}` put in and checked again where that changed a value.
fn header(root: &Node, scope: &Scope<'_>, diagnostics: &mut Diagnostics) -> Header {
    let mut written = Map::new();
    for (key, node) in root.entries().unwrap_or_default() {
        if !HEADER_KEYS.contains(&&*key.text) {
            continue;
        }
        match substitute(node, scope) {
            Ok(value) => {
                let schema = &PIPELINE["properties"][&*key.text];
                // The file's first check left these two open.
                if OPEN_KEYS.contains(&&*key.text) {
                    diagnostics.extend(validate(&value, schema, &format!("`{}`", key.text)));
                }
                written.insert(key.text.to_string(), value.to_json());
            }
            Err(problems) => diagnostics.extend(problems),
        }
    }
    read(Value::Object(written), root, diagnostics)
}

/// A value that was checked against the schema of its type. One in which errors were found is replaced by the type's
/// default, which serves for further checks.
fn read<T: DeserializeOwned + Default>(
    value: Value,
    node: &Node,
    diagnostics: &mut Diagnostics,
) -> T {
    match serde_json::from_value(value) {
        Ok(read) => read,
        Err(error) => {
            if !diagnostics.has_errors() {
                let problem = Diagnostic::error("bad-value", error.to_string());
                diagnostics.push(problem.at(node.span()));
            }
            T::default()
        }
    }
}

fn stage(
    name: &Spanned<String>,
    node: &Node,
    scope: &Scope<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<StageSpec> {
    let node = immediate(node, scope, diagnostics);
    let (strays, problems) = strays(
        &node,
        validate(&node, &STAGE, &format!("stage `{}`", name.value)),
    );
    diagnostics.extend(problems);
    let Some(uses) = node
        .get("uses")
        .and_then(|uses| Some(Spanned::new(uses.as_str()?.to_owned(), uses.span())))
    else {
        diagnostics.extend(strays.iter().map(|stray| stray.told(None)));
        return None;
    };
    let run = run_settings(&node, diagnostics);
    let axes = Axes::new(node.entry("foreach"), node.entry("matrix"), diagnostics);
    Some(StageSpec {
        name: name.clone(),
        uses,
        with: node
            .get("with")
            .filter(|with| with.entries().is_some())
            .cloned(),
        from: From::new(node.get("from"), diagnostics),
        axes,
        resources: run.resources,
        retries: run.retries,
        timeout: run.timeout,
        tolerance: with_places(run.tolerance, node.get("tolerance")),
        description: run.description,
        strays,
        span: node.span(),
    })
}

/// The stage with parameters put into the keys that do not wait for axis values.
fn immediate(node: &Node, scope: &Scope<'_>, diagnostics: &mut Diagnostics) -> Node {
    let entries = node.entries().unwrap_or_default();
    if !entries.iter().any(is_immediate) {
        return node.clone();
    }
    let mut changed = Vec::with_capacity(entries.len());
    for entry in entries {
        let (key, value) = entry;
        if !is_immediate(entry) {
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

fn is_immediate((key, value): &(Key, Node)) -> bool {
    value.is_templated() && RUN_KEYS.contains(&&*key.text)
}

/// How the stage is run. Most stages say nothing about it.
fn run_settings(node: &Node, diagnostics: &mut Diagnostics) -> RunSettings {
    let mut written = Map::new();
    for (key, value) in node.entries().unwrap_or_default() {
        if RUN_KEYS.contains(&&*key.text) {
            written.insert(key.text.to_string(), value.to_json());
        }
    }
    if written.is_empty() {
        return RunSettings::default();
    }
    read(Value::Object(written), node, diagnostics)
}

/// Tolerances by port, with the places of the ports.
fn with_places(
    tolerance: IndexMap<String, Tolerance>,
    node: Option<&Node>,
) -> Vec<(Spanned<String>, Tolerance)> {
    let mut placed = Vec::with_capacity(tolerance.len());
    for (port, tolerance) in tolerance {
        let key = node.and_then(|node| node.entry(&port));
        if let Some((key, _)) = key {
            placed.push((Spanned::new(port, key.span), tolerance));
        }
    }
    placed
}

#[cfg(test)]
mod tests;
